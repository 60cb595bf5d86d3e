"""The predictor: what it must leave alone, and that it learns."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from afmid.data.examples import Examples
from afmid_soap.options import SoapRecipe
from afmid_soap.predictor import Config, Predictor
from afmid_soap.predictor_task import ATOMS, PredictorTask, drawn, grown, one_step_error, predicted

TINY = Config(classes=3, n_max=2, l_max=3, width=16, layers=1, channels=3)


@pytest.fixture(scope="module")
def network(awake):
    torch.manual_seed(0)
    return awake(Predictor(TINY)).double()


def group(count=6, seed=0):
    """Return places and one-hot classes of a few atoms, and the spectra before the last one came."""
    rng = np.random.default_rng(seed)
    positions = torch.tensor(rng.uniform(-1, 1, (2, count, 3)))
    classes = torch.tensor(np.eye(3)[rng.integers(3, size=(2, count))])
    classes[1, -2:] = 0  # the second is smaller
    before = classes.clone()
    before[0, -1] = before[1, -3] = 0
    known = TINY.soap(positions, before, positions)
    return positions, classes, known, torch.tensor([count - 1, count - 3])


def examples(count=20, atoms=12, seed=0):
    rng = np.random.default_rng(seed)
    numbers = torch.tensor(rng.choice([1, 6, 7], (count, atoms)))
    numbers[0, 5:] = 0
    return Examples(
        df=torch.zeros(count, 1, 1, 10), maps=torch.zeros(count, 0, 1, 1), numbers=numbers,
        positions=torch.tensor(rng.uniform(-1, 1, (count, atoms, 3)), dtype=torch.float32),
        charges=torch.zeros(count, atoms), bonds=torch.zeros(count, 0, 2, dtype=torch.int64),
        orders=torch.zeros(count, 0), x=torch.zeros(count, 1), y=torch.zeros(count, 1), z=torch.zeros(count, 10),
        tilt=torch.zeros(count, 2),
    )  # fmt: skip


@torch.no_grad()
def test_turning_mirroring_and_shifting_changes_nothing(network):
    positions, *rest = group()
    matrix = -Rotation.from_euler("xyz", [0.3, 1.1, -2.0]).as_matrix()
    moved = positions @ torch.tensor(matrix).T + 3.0
    torch.testing.assert_close(network(moved, *rest), network(positions, *rest), rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_the_order_of_the_atoms_makes_no_difference(network):
    positions, classes, known, new = group()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = network(positions[:, order], classes[:, order], known[:, order], order.argsort()[new])
    torch.testing.assert_close(mixed, network(positions, classes, known, new)[:, order])


@torch.no_grad()
def test_what_fills_a_group_up_and_classes_that_are_not_there_have_no_spectra(network):
    positions, classes, known, new = group()
    said = network(positions, classes, known, new)
    assert not said[1, -2:].any()
    alone = network(positions[1:, :4], classes[1:, :4], known[1:, :4], new[1:])
    torch.testing.assert_close(said[1:, :4], alone)
    one_class = torch.zeros_like(classes)
    one_class[..., 0] = 1
    assert not network(positions, one_class, known, torch.tensor([5, 5]))[:, :, 1:].any()


@torch.no_grad()
def test_the_spectrum_of_the_new_atom_is_not_looked_at(network):
    positions, classes, known, new = group()
    other = known.clone()
    other[torch.arange(2), new] = 99.0
    torch.testing.assert_close(network(positions, classes, other, new), network(positions, classes, known, new))


@torch.no_grad()
def test_an_atom_that_is_alone_has_its_spectrum(network):
    positions, classes, known, _ = (part[:, :1] if part.ndim > 1 else part for part in group())
    said = network(positions, classes, known, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(said, TINY.soap(positions, classes, positions))


@torch.no_grad()
def test_one_step_starts_from_what_is_computed(network):
    positions, classes, known, new = group()
    torch.testing.assert_close(network.one_step(positions, classes), network(positions, classes, known, new))
    assert network.one_step(positions[:, :0], classes[:, :0]).shape == (2, 0, 6, 16)


def test_gradients_reach_every_weight(network):
    positions, classes, known, new = group()
    classes[0, -1] = torch.tensor([0.0, 0, 1])
    classes[0, :-1, 2] = 0  # so that some pairs are new
    network(positions, classes, known, new).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())
    network.zero_grad()


def test_ten_atoms_are_drawn_near_each_other_and_fewer_are_filled_up():
    one = examples()
    positions, classes = drawn(one, 3, torch.Generator().manual_seed(0))
    assert positions.shape == (20, ATOMS, 3)
    assert classes.sum(2)[1:].all()
    assert classes.sum(2)[0].tolist() == [1.0] * 5 + [0.0] * 5
    apart = torch.cdist(positions[3], one.positions[3])
    assert (apart.min(1).values == 0).all()
    assert len(set(apart.argmin(1).tolist())) == ATOMS
    again = drawn(one, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again[0], positions)
    assert drawn(one[:2], 2)[1].shape == (2, ATOMS, 2)  # nitrogen is none of the first two classes


def test_a_predictor_that_knows_has_no_error():
    class Knows(Predictor):
        def forward(self, positions, classes, known, new):
            return self.soap(positions, classes, positions)

    knowing = Knows(TINY)
    figures = predicted(knowing, [examples()])
    assert figures["mse"] == figures["mse_one_step"] == 0
    assert figures["mean_square"] > 100
    assert float(one_step_error(knowing, *drawn(examples(), 3))) == 0


def test_the_error_counts_only_what_is_there():
    class Nothing(Predictor):
        def forward(self, positions, classes, known, new):
            return torch.zeros_like(known)

    positions, classes = drawn(examples(1), 3)  # five atoms
    told = grown(Nothing(TINY), positions, classes)
    kinds = int(classes[0].amax(0).sum())
    counts = [int(part.sum()) for part in told.counts]
    assert counts[4:] == [0] * 5
    assert counts[3] == 5 * kinds * (kinds + 1) // 2
    true = told.true[3][told.counts[3]]
    total, entries = told.errors()[3]
    assert entries == true.numel()
    assert float(total) == pytest.approx(float(true.square().sum()))


def test_molecules_of_one_atom_leave_nothing_to_predict():
    lone = examples(3, atoms=1)
    lone.numbers[:] = 6
    network = Predictor(TINY)
    error = grown(network, *drawn(lone, 3)).error()
    error.backward()
    assert float(error) == 0


def test_a_run_lowers_the_error(tmp_path):
    recipe = SoapRecipe(architecture="predictor", classes=3, n_max=2, l_max=1, steps=40)
    task = PredictorTask(recipe, "cpu")
    before = task.validate(task.model, [examples(seed=1)])
    optimizer = torch.optim.Adam(task.model.parameters(), 3e-3)
    for step in range(recipe.steps):
        optimizer.zero_grad()
        task.loss(task.model, examples(seed=2 + step)).backward()
        optimizer.step()
    after = task.validate(task.model, [examples(seed=1)])
    assert after["loss"] < 0.3 * before["loss"]
    assert after["mse_with_first"] == pytest.approx(0.9 * after["mse"])
    assert int(task.model.batches) == recipe.steps
    task.picture(task.model, examples(), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_configuration_survives_json():
    assert Config.from_json(json.dumps(asdict(TINY))) == TINY


@pytest.mark.parametrize(
    "text",
    ['{"width": 30}', '{"layers": 17}', '{"channels": 99}', '{"width": 0}', '{"l_max": 9}', '{"channels": 1.5}', "[]",
     '{"split": 300}', '{"classes": true}'],
)
def test_a_configuration_that_cannot_be_is_refused(text):
    with pytest.raises((ValueError, TypeError)):
        Config.from_json(text)
