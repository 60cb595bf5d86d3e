"""The published pipeline's training task."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers, sampled_from

from afmid.data.examples import Examples
from afmid_graphgen.graph import CLASS_BY_NUMBER
from afmid_graphgen.options import GraphgenRecipe
from afmid_graphgen.paper import Config, Paper
from afmid_graphgen.paper_task import LARGEST, PARTS, PaperTask, cut

PIXELS = 32


def recipe(ordering="random"):
    return GraphgenRecipe(architecture="paper", ordering=ordering)


def examples(filled=0):
    """Return formaldehyde and chloromethane's heavy atoms under images that show where they are, roughly."""
    numbers = torch.tensor([[6, 8, 1, 1], [6, 17, 0, 0]])
    formaldehyde = [[2.0, 2.0, 0.0], [3.2, 2.0, -0.1], [1.4, 2.9, -0.2], [1.4, 1.1, -0.9]]
    positions = torch.tensor([formaldehyde, [[1.0, 2.0, -0.2], [2.8, 2.0, 0.0], [0.0] * 3, [0.0] * 3]])
    bonds = torch.tensor([[[0, 1], [2, 0], [0, 3]], [[0, 1], [0, 0], [0, 0]]])
    orders = torch.tensor([[2.0, 1, 1], [1, 0, 0]])
    axis = (0.125 * torch.arange(PIXELS)).expand(2, -1)
    gap = (axis[:, None] - positions[..., 0, None]) ** 2, (axis[:, None] - positions[..., 1, None]) ** 2
    image = torch.einsum("bnx,bny,bn->bxy", *(torch.exp(-2 * g) for g in gap), numbers.sqrt())
    more = torch.zeros(2, filled, dtype=torch.int64)
    return Examples(
        df=image[..., None] * torch.linspace(0.5, 1.5, 10) + 0.01 * torch.linspace(0, 1, PIXELS)[:, None, None],
        maps=torch.empty(2, 0, PIXELS, PIXELS),
        numbers=torch.cat([numbers, more], 1),
        positions=torch.cat([positions, torch.zeros(2, filled, 3)], 1),
        charges=torch.zeros(2, 4 + filled),
        bonds=torch.cat([bonds, torch.zeros(2, filled, 2, dtype=torch.int64)], 1),
        orders=torch.cat([orders, torch.zeros(2, filled)], 1),
        x=axis,
        y=axis,
        z=torch.linspace(4, 3.1, 10).expand(2, -1),
        tilt=torch.zeros(2, 2),
    )


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=30)
@given(seed=integers(0, 10_000), ordering=sampled_from(["random", "y", "z"]))
def test_a_cut_leaves_true_parts_of_what_the_grid_shows(seed, ordering):
    scans = examples()
    question = cut(scans, ordering, seeded(seed))
    part = question.partial
    assert len(question.query) == 2 * PARTS
    assert question.asked.all()
    size = part.there.shape[1]
    for q in range(2 * PARTS):
        molecule = scans[q // PARTS : q // PARTS + 1]
        places = molecule.positions[0, molecule.atoms[0]]
        same = (part.positions[q, part.there[q], None] - places).norm(dim=2)
        assert (same.min(1).values < 1e-6).all()
        atoms = same.argmin(1)  # of the molecule
        assert part.classes[q, : len(atoms)].tolist() == [CLASS_BY_NUMBER[n] for n in molecule.numbers[0, atoms]]
        asked = int((question.query[q] - places).norm(dim=1).argmin())
        assert asked not in atoms
        assert places[[*atoms, asked], 2].min() >= -0.8
        pairs = {frozenset(pair) for pair in molecule.bonds[0, molecule.orders[0] > 0].tolist()}
        inside = part.bonds[part.bonds[:, 0] // size == q] - q * size if size else part.bonds
        kept = set(atoms.tolist())
        assert {frozenset(atoms[pair].tolist()) for pair in inside} == {pair for pair in pairs if pair <= kept}
        assert question.bonds[q, : len(atoms)].tolist() == [frozenset((int(n), asked)) in pairs for n in atoms]
        if ordering != "random" and len(atoms):
            column = {"y": 1, "z": 2}[ordering]
            assert places[atoms, column].min() >= places[asked, column]


def test_the_next_place_is_wrong_by_at_most_half_an_angstrom():
    scans = examples()
    errors = []
    for seed in range(50):
        query = cut(scans, "z", seeded(seed)).query
        places = scans.positions.repeat_interleave(PARTS, 0)
        errors.append((query[:, None] - places).norm(dim=2).min(1).values)
    errors = torch.cat(errors)
    assert errors.max() <= LARGEST + 1e-5
    assert 0.15 < errors.mean() < 0.35


def test_atoms_and_bonds_that_fill_up_a_batch_do_not_change_the_loss():
    task = PaperTask(recipe("z"), "cpu")
    few, many = (task.validate(task.model.eval(), [examples(filled)]) for filled in (0, 3))
    assert many == pytest.approx(few, rel=1e-4, nan_ok=True)


def test_a_scan_without_atoms_in_sight_has_a_loss_all_the_same():
    task, scans = PaperTask(recipe(), "cpu"), examples()[1:]
    away = Examples.joined([scans, scans])
    away.positions[0] += 50.0
    assert math.isfinite(float(task.loss(task.model, away).detach()))
    away.positions[1] += 50.0
    assert math.isfinite(float(task.loss(task.model, away).detach()))


def test_thirty_steps_lower_the_loss_and_figures_are_the_same_each_time(tmp_path):
    task, scans = PaperTask(recipe(), "cpu"), examples()
    torch.manual_seed(0)
    network = Paper(Config(channels=(2, 2, 4, 4)))
    before = task.validate(network.eval(), [scans])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        task.loss(network, scans).backward()
        optimizer.step()
    after = task.validate(network, [scans])
    assert task.validate(network, [scans]) == pytest.approx(after, rel=1e-6, nan_ok=True)
    task.picture(network, scans, tmp_path / "grid.png")
    assert after["loss"] < 0.8 * before["loss"]
    assert after["grid_mse"] < before["grid_mse"]
    shares = ("class_accuracy", "np_precision", "bond_recall", "bond_precision", "no_bond_rate")
    assert {*after} == {"loss", "grid_mse", *shares}
    assert all(math.isnan(after[name]) or 0 <= after[name] <= 1 for name in shares)
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_it_learns_in_bfloat16():
    task, network = PaperTask(recipe(), "cpu"), Paper(Config(channels=(2, 2, 4, 4)))
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(network, examples())
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert all(weight.grad.isfinite().all() for weight in network.parameters())


def test_the_weights_say_what_they_are_and_the_maps_are_none():
    task = PaperTask(recipe("y"), "cpu")
    told = task.metadata(task.model, [])
    assert told["architecture"] == "paper"
    assert Config.from_json(told["config"]) == Config(ordering="y")
    assert task.maps(examples()).shape == (2, 0, PIXELS, PIXELS)
