"""Molecules taken apart, and the forerunner trained in the small to put them together."""

import math
from dataclasses import replace

import pytest
import torch

from afmid.data.examples import Examples
from afmid.data.feed import open_feed
from afmid.data.pack import concatenate
from afmid.molecule import Molecule
from afmid.plugins import installed
from afmid_graphgen.graph import NUMBERS
from afmid_graphgen.options import GraphgenRecipe
from afmid_graphgen.resimulate import Z_MIN, Config, Prediction, Resimulate, nominal_height, pixel_places
from afmid_graphgen.resimulate_task import (
    CLASS,
    LEAST,
    MISNAMED,
    MISPLACED,
    POINTING,
    ResimulateTask,
    _pointed,
    astray,
    mistaken,
    published,
    taken_apart,
)

RECIPE = GraphgenRecipe(
    architecture="resimulate", ordering="random", simulation={"pixels": 32, "size": 4.0}, batch=6, validation_scans=12,
    augment=("flip", "normalise"), scenes={"amplitude": (0.5, 0.5)},
)  # fmt: skip
SMALL = Config(encoder=(2, 3, 4, 5), pixels=(4, 5, 6, 7))
ORDERINGS = ("random", "y", "z")


@pytest.fixture(scope="module")
def feed():
    """Scans of water, formaldehyde and chloromethane, roughly."""
    bent = [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]
    water = Molecule([8, 1, 1], bent, [-0.8, 0.4, 0.4], [[0, 1], [0, 2]])
    planar = [[0, 0, 0], [1.2, 0, 0], [-0.6, 0.9, 0], [-0.6, -0.9, 0]]
    formaldehyde = Molecule([6, 8, 1, 1], planar, [0.4, -0.4, 0, 0], [[0, 1], [0, 2], [0, 3]])
    chloride = Molecule([6, 17], [[0, 0, 0], [1.78, 0, 0]], [0.2, -0.2], [[0, 1]])
    pack = concatenate([[water], [formaldehyde], [chloride], [water]], [""] * 4, ["train", "train", "val", "val"], {})
    return open_feed(pack, RECIPE, ResimulateTask(RECIPE, "cpu").maps, "cpu", installed(()))


@pytest.fixture(scope="module")
def task():
    return ResimulateTask(RECIPE, "cpu")


def examples(count=40, depths=(0.0, 0.1, 0.2, 0.3)):
    """Return a chain of C, N, O and H along y many times, in a window whose centre is (10, −5) Å."""
    positions = torch.tensor([[10.2, -6.5 + k, -depth] for k, depth in enumerate(depths)])
    axis = (torch.arange(32) - 15.5) * 0.125
    return Examples(
        df=torch.zeros(count, 32, 32, 10),
        maps=torch.zeros(count, 0, 32, 32),
        numbers=torch.tensor([6, 7, 8, 1]).expand(count, -1),
        positions=positions.expand(count, -1, -1),
        charges=torch.zeros(count, 4),
        bonds=torch.tensor([[0, 1], [1, 2], [2, 3], [0, 0]]).expand(count, -1, -1),
        orders=torch.tensor([1.0, 2.0, 1.0, 0.0]).expand(count, -1),
        x=(axis + 10.0).expand(count, -1),
        y=(axis - 5.0).expand(count, -1),
        z=(3.0 + 0.1 * torch.arange(10).flip(0)).expand(count, -1),
        tilt=torch.zeros(count, 2),
    )


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def apart_and_next(given, ordering, said=(0.0, 0.0, 0.0)):
    """Return what is left of molecules, and what comes next where the next is said to be at `said`."""
    return taken_apart(given, ordering, seeded()).next(torch.tensor(said).expand(len(given), 3))


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_where_everything_is_there_the_target_is_stop(ordering):
    true = apart_and_next(examples(), ordering)
    sizes = (true.part.numbers > 0).sum(1)
    assert set(sizes.tolist()) == {0, 1, 2, 3, 4}
    assert torch.equal(true.classes == 0, sizes == 4)


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_the_part_and_the_next_atom_are_of_the_molecule_with_its_bonds(ordering):
    chain, centre = [6, 7, 8, 1], torch.tensor([10.0, -5.0, 0.0])
    given = examples()
    true = apart_and_next(given, ordering)
    for b, row in enumerate(true.part.numbers.tolist()):
        there = [chain.index(number) for number in row if number]
        torch.testing.assert_close(true.part.positions[b, : len(there)], given.positions[b, there] - centre)
        expected = torch.tensor([[abs(i - j) == 1 for j in there] for i in there]).view(len(there), len(there))
        assert torch.equal(true.part.bonds[b, : len(there), : len(there)], expected)
        if true.classes[b]:
            following = chain.index(NUMBERS[int(true.classes[b]) - 1])
            assert following not in there
            torch.testing.assert_close(true.position[b], given.positions[b, following] - centre)
            assert true.bonds[b, : len(there)].tolist() == [abs(following - j) == 1 for j in there]
        filled = slice(len(there), None)
        assert not true.part.positions[b, filled].any()
        assert not true.part.bonds[b, filled].any()
        assert not true.bonds[b, filled].any()


@pytest.mark.parametrize(("ordering", "axis"), [("y", 1), ("z", 2)])
def test_an_ordering_adds_the_highest_first(ordering, axis):
    true = apart_and_next(examples(), ordering)
    for b in (true.classes > 0).nonzero()[:, 0].tolist():
        there = true.part.numbers[b] > 0
        assert (true.part.positions[b, there, axis] >= true.position[b, axis]).all()


def test_at_random_whichever_missing_atom_is_nearest_to_what_is_said_comes_next():
    given, centre = examples(), torch.tensor([10.0, -5.0, 0.0])
    for atom in range(4):
        said = given.positions[0, atom] - centre + 0.1
        true = apart_and_next(given, "random", said.tolist())
        more = true.classes > 0
        wanted = (true.part.numbers != given.numbers[0, atom]).all(1)  # it is not there already
        torch.testing.assert_close(true.position[wanted], given.positions[wanted, atom] - centre)
        away = (given.positions - centre - said).norm(dim=2)
        taken = (given.numbers[:, :, None] == true.part.numbers[:, None]).any(2)
        nearest = away.where(~taken, torch.inf).min(1).values
        torch.testing.assert_close((true.position - said).norm(dim=1)[more], nearest[more])
        assert 0 < int(wanted.sum()) < int(more.sum())


def test_other_atoms_are_taken_away_each_time():
    sizes = [(taken_apart(examples(), "random", seeded(seed)).part.numbers > 0).sum(1) for seed in (0, 0, 1)]
    assert torch.equal(sizes[0], sizes[1])
    assert not torch.equal(sizes[0], sizes[2])


@pytest.mark.parametrize("ordering", ["y", "z"])
def test_in_an_order_what_is_said_does_not_choose_the_next(ordering):
    here, there = (apart_and_next(examples(), ordering, (0.0, y, 0.0)) for y in (-2.0, 2.0))
    assert torch.equal(here.position, there.position)
    assert torch.equal(here.classes, there.classes)


def test_the_network_is_pointed_near_atoms_that_are_missing_and_that_the_scan_shows():
    given = examples(depths=(0.0, 0.1, -Z_MIN + 0.1, 0.2))
    apart = taken_apart(given, "random", seeded())
    places = apart.some()
    away = (apart.positions - places[:, None]).norm(dim=2)
    may = apart.missing.where(apart.missing.any(1, keepdim=True), apart.visible)
    assert not may[:, 2].any()
    assert away.where(may, torch.inf).min(1).values.max() < 6 * POINTING
    axis = ((torch.arange(32) - 15.5) * 0.125).expand(len(given), -1)
    attention, pixels = _pointed(places, axis, axis), pixel_places(axis)
    torch.testing.assert_close(attention.sum((1, 2)), torch.ones(len(given)))
    mean = torch.stack([(attention.sum(2) * pixels).sum(1), (attention.sum(1) * pixels).sum(1)], 1)
    inside = (places[:, :2].abs() < 1.0).all(1)
    assert inside.any()
    torch.testing.assert_close(mean[inside], places[inside, :2], atol=0.02, rtol=0)


def test_in_training_atoms_that_are_there_lie_a_little_off_and_some_have_anothers_element():
    true = taken_apart(examples(4000, depths=(0.35,) * 4), "random", seeded()).part
    torch.manual_seed(0)
    wrong = mistaken(true)
    there = true.numbers > 0
    assert ((wrong.numbers > 0) == there).all()
    assert not wrong.positions[~there].any()
    off = (wrong.positions - true.positions)[there]
    torch.testing.assert_close(off[:, :2].square().mean(0), torch.full((2,), MISPLACED**2 / 3), rtol=0.1, atol=0)
    assert off[:, 2].abs().max() > 0.3
    assert ((wrong.positions[..., 2] <= 0) & (wrong.positions[..., 2] >= Z_MIN)).all()
    other = wrong.numbers[there] != true.numbers[there]
    assert other.float().mean() == pytest.approx(0.75 * MISNAMED, rel=0.1)  # one in four takes its own element
    assert (wrong.bonds == true.bonds).all()


def test_what_is_hidden_or_out_of_the_window_is_never_asked_for():
    given = examples(depths=(0.0, 0.1, -Z_MIN + 0.1, 0.2))
    positions = given.positions.clone()
    positions[:, 0, 0] += 3.0
    apart = taken_apart(replace(given, positions=positions), "random", seeded())
    assert set(apart.part.numbers.unique().tolist()) == {0, 7, 1}
    assert set(given.numbers[apart.missing].unique().tolist()) == {7, 1}


def perfect(true):
    """Return a prediction that is right and sure."""
    classes = 100.0 * torch.nn.functional.one_hot(true.classes, 1 + len(NUMBERS))
    return Prediction(classes, true.position, 200.0 * true.bonds - 100.0)


def test_a_perfect_prediction_costs_nothing_and_an_error_of_the_position_half_as_much_at_the_lowest_atom():
    true = apart_and_next(examples(depths=(0.0, -Z_MIN, -Z_MIN, -Z_MIN)), "z")
    said, more = perfect(true), true.classes > 0
    assert published(said, true) == pytest.approx(0, abs=1e-6)
    wrong = said._replace(position=said.position + torch.tensor([0.0, 2.0, 0.0]))
    weights = torch.where(true.position[more, 2] == 0, 1.0, 0.5)
    assert published(wrong, true) == pytest.approx(4 * float(weights.mean()), rel=1e-5)


def test_a_look_is_astray_unless_it_goes_to_an_atom_that_may_come_next():
    given, axis = examples(), (torch.arange(32) - 15.5)[None] * 0.125
    x = y = axis.expand(len(given), -1)
    apart = taken_apart(given, "y", seeded())
    places = (axis[0, ::2] + axis[0, 1::2]) / 2
    following = apart.next(torch.zeros(len(given), 3)).position
    along_x, along_y = ((places - following[:, k, None]).abs() for k in (0, 1))
    distance = torch.hypot(along_x[:, :, None], along_y[:, None])
    nearest = (distance == distance.amin((1, 2), keepdim=True)).float()
    there = nearest / nearest.sum((1, 2), keepdim=True)
    assert astray(there, apart, x, y) < 0.3  # a pixel's centre is up to 0.18 Å away
    assert astray(there.flip(1), apart, x, y) > astray(there, apart, x, y)
    corner = torch.zeros(len(given), 16, 16)
    corner[:, 0, 0] = 1
    assert astray(corner, apart, x, y) == pytest.approx(-math.log(LEAST), rel=1e-3)
    assert astray(corner, replace(apart, missing=apart.missing & False), x, y) == 0


def test_where_everything_is_there_only_the_class_is_learnt():
    true = apart_and_next(examples(1), "random")
    done = true._replace(classes=torch.zeros(1, dtype=torch.int64))
    said = Prediction(torch.zeros(1, 1 + len(NUMBERS)), true.position + 1, torch.ones(true.bonds.shape))
    loss = published(said, done)
    assert loss == pytest.approx(CLASS * math.log(1 + len(NUMBERS)), rel=1e-5)


def test_thirty_steps_lower_the_loss(task, feed):
    torch.manual_seed(0)
    model, batch = Resimulate(SMALL), feed.batch(0)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    before = task.validate(model, [batch])["loss"]
    for _ in range(30):
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    assert task.validate(model, [batch])["loss"] < 0.8 * before


def test_it_learns_in_bfloat16(task, feed):
    model = Resimulate(SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(model, feed.batch(0))
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_validation_draws_the_same_parts_each_time_and_its_figures_are_those_of_one_step(task, feed):
    batches = feed.validation()
    figures = task.validate(task.model, batches)
    assert task.validate(task.model, batches) == pytest.approx(figures, rel=0, abs=0, nan_ok=True)
    depends = ("bond_precision", "no_bond_rate")  # on which atoms are said to come next: there may be none to count
    assert all(math.isfinite(value) for name, value in figures.items() if name not in depends)
    errors = [figures[f"error_{share}_percent_angstrom"] for share in (50, 90, 95)]
    assert errors == sorted(errors)
    assert max(figures[f"error_{axis}_angstrom"] for axis in "xyz") <= figures["error_mean_angstrom"]
    assert all(0 <= figures[name] <= 1 for name in ("class_accuracy", "bond_recall"))


def test_validation_says_so_where_nothing_is_missing(task):
    nothing = examples(3, depths=(2.0,) * 4)
    figures = task.validate(task.model, [nothing])
    assert math.isfinite(figures["loss"])
    assert math.isnan(figures["error_50_percent_angstrom"])


def test_the_height_is_the_scans_own_where_it_is_known(task):
    given = replace(examples(8), df=torch.randn(8, 32, 32, 10, generator=seeded()))
    known, unknown = given.z, torch.full_like(given.z, torch.nan)
    nominal = known - known[:, -1:] + nominal_height(RECIPE.simulation)
    losses = [task.validate(task.model, [replace(given, z=z)])["loss"] for z in (known + 0.5, nominal, unknown)]
    assert losses[1] == pytest.approx(losses[2], rel=1e-6)
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_it_predicts_no_maps(task):
    assert task.maps(examples(2)).shape == (2, 0, 32, 32)


def test_the_picture_is_drawn(task, feed, tmp_path):
    task.picture(task.model, feed.validation()[0], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_metadata_make_the_network_again(task):
    told = task.metadata(task.model, [])
    assert (told["method"], told["architecture"]) == ("graphgen", "resimulate")
    Resimulate(Config.from_json(told["config"])).load_state_dict(task.model.state_dict())


def test_the_seed_of_the_recipe_makes_the_weights():
    first, again, other = (
        ResimulateTask(RECIPE.model_copy(update={"seed": seed}), "cpu").model.node.weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
