import copy

import pytest
import torch
from torch import nn

from afmid.optimizers import Muon, Optimizers, orthogonal
from afmid.recipe import Recipe

RECIPE = Recipe(optimizer="muon", learning_rate=0.01, matrix_rate=0.05, weight_decay=0.1)
SCHEDULE = [0.2, 1.0, 0.7, 0.1]


def network():
    torch.manual_seed(0)
    deeper = nn.Conv2d(3, 5, 3), nn.LeakyReLU(), nn.ConvTranspose2d(5, 4, 2, stride=2), nn.Conv3d(1, 2, 3, padding=1)
    return nn.ModuleList([*deeper, nn.Linear(6, 3), nn.LayerNorm(3)])


def pulled(model, step):
    """Give every weight a gradient, another one at each step."""
    generator = torch.Generator().manual_seed(step)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


def trained(model, optimizer, steps):
    for step in steps:
        pulled(model, step)
        optimizer.step(SCHEDULE[step])
    return model


def same(a, b):
    return all(torch.equal(one, other) for one, other in zip(a.parameters(), b.parameters(), strict=True))


LAYERS = [nn.Conv2d(3, 5, 3), nn.ConvTranspose2d(5, 4, 2), nn.Conv3d(2, 3, 2), nn.Linear(6, 3)]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_step_on_a_weight_is_that_of_torchs_muon_on_its_matrix(layer):
    weight = layer.weight
    matrix = nn.Parameter(weight.detach().clone().reshape(len(weight), -1))
    settings = {"lr": 0.1, "weight_decay": 0.2}
    ours, theirs = Muon([weight], **settings), torch.optim.Muon([matrix], **settings)
    for _ in range(3):  # theirs is computed in bfloat16
        weight.grad = torch.randn_like(weight)
        matrix.grad = weight.grad.reshape(matrix.shape).clone()
        ours.step()
        theirs.step()
        torch.testing.assert_close(weight.detach().view(matrix.shape), matrix.detach(), atol=5e-3, rtol=0)


@pytest.mark.parametrize("shape", [(3, 5, 3), (3, 5, 1), (1, 5, 3)])
def test_weights_whose_channels_lie_last_in_memory_move_like_others(shape):
    torch.manual_seed(0)
    plain = nn.Conv2d(*shape)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    pair = [Muon([layer.weight], lr=0.1) for layer in (plain, last)]
    gradient = torch.randn_like(plain.weight)
    before = plain.weight.detach().clone()
    for layer, optimizer in zip((plain, last), pair, strict=True):
        layer.weight.grad = gradient.to(memory_format=torch.channels_last)  # whatever the weight's own order
        optimizer.step()
    torch.testing.assert_close(last.weight, plain.weight)
    assert (last.weight - before).abs().mean() > 0.01


def test_a_weight_without_a_gradient_stays():
    model = network()
    before = copy.deepcopy(model)
    Optimizers(model.parameters(), RECIPE).step(1.0)
    assert same(model, before)


def test_all_directions_of_a_matrix_are_learnt_at_one_pace():
    layer = nn.Conv2d(2, 4, 3, bias=False)
    before = layer.weight.detach().clone()
    strengths = torch.tensor([100.0, 1.0, 0.1, 0.01]).view(4, 1, 1, 1)
    layer.weight.grad = strengths * torch.randn_like(layer.weight)
    Muon([layer.weight], lr=1.0, weight_decay=0.0).step()
    paces = torch.linalg.svdvals((layer.weight.detach() - before).view(4, -1))
    assert paces.max() < 1.5
    assert paces[:3].min() > 0.3  # Newton and Schulz's iteration is broken off early


@pytest.mark.parametrize("shape", [(20, 90), (90, 20), (20, 20)])
def test_the_steps_on_the_small_square_are_newton_and_schulzs(shape):
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = left * torch.logspace(0, -5, 20) @ right
    values = torch.logspace(0, -5, 20, dtype=torch.float64)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    torch.testing.assert_close(orthogonal(matrix), left * values.float() @ right, atol=1e-3, rtol=0)


def test_muon_moves_what_has_two_axes_or_more_and_adamw_the_rest():
    model = network()
    optimizer = Optimizers(model.parameters(), RECIPE)
    adamw, muon = optimizer.parts
    assert all(weight.ndim > 1 for weight in muon.param_groups[0]["params"])
    assert all(weight.ndim == 1 for group in adamw.param_groups for weight in group["params"])
    moved = [weight for part in optimizer.parts for group in part.param_groups for weight in group["params"]]
    assert sorted(map(id, moved)) == sorted(map(id, model.parameters()))
    alone = [nn.Parameter(w.detach().clone()) for w in model.parameters() if w.ndim == 1]
    reference = torch.optim.AdamW(alone, lr=RECIPE.learning_rate, weight_decay=RECIPE.weight_decay)
    pulled(model, 0)
    ones = [weight for weight in model.parameters() if weight.ndim == 1]
    for weight, other in zip(ones, alone, strict=True):
        other.grad = weight.grad.clone()
    optimizer.step(1.0)
    reference.step()
    assert all(torch.equal(weight, other) for weight, other in zip(ones, alone, strict=True))


def test_adamw_moves_everything_where_the_recipe_says_so():
    model, twin = network(), network()
    recipe = RECIPE.model_copy(update={"optimizer": "adamw", "beta1": 0.5})
    optimizer = Optimizers(model.parameters(), recipe)
    reference = torch.optim.AdamW(twin.parameters(), lr=0.01, betas=(0.5, 0.999), weight_decay=0.1)
    for step in range(2):
        pulled(model, step)
        pulled(twin, step)
        optimizer.step(1.0)
        reference.step()
    assert same(model, twin)


@pytest.mark.parametrize("shape", [(4, 6), (6,)])  # a matrix, which is Muon's, and a vector, which is AdamW's
def test_the_schedule_scales_both_rates(shape):
    moves = []
    for share in (1.0, 0.25):
        weight = nn.Parameter(torch.zeros(shape))
        optimizer = Optimizers([weight], RECIPE)
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        optimizer.step(share)
        moves.append(weight.detach().clone())
    torch.testing.assert_close(moves[1], 0.25 * moves[0])
    assert moves[0].abs().min() > 0


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(kind):
    recipe = RECIPE.model_copy(update={"optimizer": kind})
    whole = network()
    trained(whole, Optimizers(whole.parameters(), recipe), range(4))
    broken = network()
    optimizer = Optimizers(broken.parameters(), recipe)
    trained(broken, optimizer, range(2))
    states, weights = copy.deepcopy((optimizer.state_dict(), broken.state_dict()))
    resumed = network()
    again = Optimizers(resumed.parameters(), recipe)
    resumed.load_state_dict(weights)
    again.load_state_dict(states)
    assert same(trained(resumed, again, range(2, 4)), whole)
    forgetful = network()
    forgetful.load_state_dict(weights)
    assert not same(trained(forgetful, Optimizers(forgetful.parameters(), recipe), range(2, 4)), whole)


def test_the_state_of_other_optimizers_is_refused():
    model = network()
    adamw = Optimizers(model.parameters(), RECIPE.model_copy(update={"optimizer": "adamw"}))
    with pytest.raises(ValueError, match="doesn't match"):
        Optimizers(model.parameters(), RECIPE).load_state_dict(adamw.state_dict())
