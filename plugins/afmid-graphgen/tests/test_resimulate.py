"""The forerunner's network, what it sees of a molecule so far, and how it builds one."""

import json
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid.data.augment import normalised
from afmid.molecule import Molecule
from afmid.simulate import SimulationOptions, load_engine
from afmid.simulate import simulate as scans_of
from afmid_graphgen.graph import ELEMENTS, MOST_MISSING, ORDERS
from afmid_graphgen.paper import QUERY
from afmid_graphgen.resimulate import (
    Z_MIN,
    Config,
    Encoder,
    Part,
    Resimulate,
    focused,
    generate,
    near,
    nominal_height,
    pixel_places,
    simulate,
)

SMALL = Config(encoder=(2, 3, 4, 5), pixels=(4, 5, 6, 7))
GRID = SimulationOptions(size=4.0, pixels=32)
AXIS = (np.arange(32) - 15.5) * 0.125
ENGINE = load_engine("auto", "cpu")[1]
MOLECULE = Molecule([8, 6, 1], [[0, 0.5, -0.3], [0.2, -0.7, -0.6], [-0.9, 0.6, 0.0]], bonds=[[0, 1], [0, 2]])


def inputs(sizes, pixels=32, width=0):
    """Return random arguments of a network for molecules of given sizes, filled up to a width; y has 3 pixels more."""
    generator = torch.Generator().manual_seed(0)
    count, atoms = len(sizes), max([width, *sizes])
    there = torch.arange(atoms) < torch.tensor(sizes)[:, None]
    df, simulated = normalised(torch.randn(2 * count, pixels, pixels + 3, 10, generator=generator)).chunk(2)
    numbers = torch.tensor([1, 6, 7, 8, 9])[torch.randint(5, (count, atoms), generator=generator)] * there
    positions = 2 * torch.randn(count, atoms, 3, generator=generator) * there[..., None]
    bonds = torch.rand(count, atoms, atoms, generator=generator) < 0.3
    bonds = (bonds | bonds.mT) & there[:, None] & there[:, :, None]
    x, y = (torch.linspace(-2, 2, number).expand(count, -1) for number in (pixels, pixels + 3))
    return df, simulated, Part(numbers, positions, bonds), x, 1.1 * y


def part_of(arguments, which, order=slice(None)):
    """Return the arguments of some examples, with the atoms in some order."""
    df, simulated, molecule, x, y = arguments
    part = Part(
        molecule.numbers[which][:, order],
        molecule.positions[which][:, order],
        molecule.bonds[which][:, order][:, :, order],
    )
    return df[which], simulated[which], part, x[which], y[which]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Resimulate(SMALL).eval()


def part_from(molecule, which=slice(None)):
    """Return some atoms of a molecule as a batch of one, without bonds."""
    numbers = torch.tensor(molecule.numbers[which])[None]
    positions = torch.tensor(molecule.positions[which], dtype=torch.float32)[None]
    return Part(numbers, positions, torch.zeros(1, len(numbers[0]), len(numbers[0]), dtype=torch.bool))


def stack_of(part, lowest=3.0, options=GRID):
    axis = torch.tensor(AXIS, dtype=torch.float32).expand(len(part.numbers), -1)
    return simulate(part, axis, axis, torch.full((len(axis),), lowest), options, ENGINE)


def close(one, other, **tolerance):
    for first, second in zip(one, other, strict=True):
        torch.testing.assert_close(first, second, **({"rtol": 1e-4, "atol": 1e-5} | tolerance))


def test_it_has_as_many_parameters_as_the_docs_state():
    assert sum(weight.numel() for weight in Resimulate().parameters()) == 765_596  # the thesis: 750,335


def test_a_configuration_survives_json():
    assert Config.from_json(json.dumps(asdict(SMALL))) == SMALL


@pytest.mark.parametrize("name", ["encoder", "pixels"])
def test_other_sizes_than_four_are_refused_in_words(name):
    with pytest.raises(ValueError, match=f"{name}: 4 whole numbers from 1 to"):
        Config.from_json(json.dumps({name: [2, 3, 4]}))


def test_both_encoders_begin_alike():
    torch.manual_seed(0)
    model = Resimulate(SMALL)
    for one, other in zip(model.reference.parameters(), model.simulated.parameters(), strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_a_batch_equals_its_members(model):
    arguments = inputs([4, 0, 2])
    together = model(*arguments)
    for i in range(3):
        close(model(*part_of(arguments, [i])), [output[[i]] for output in together])


@torch.no_grad()
def test_atoms_that_fill_up_make_no_difference(model):
    narrow, wide = inputs([3, 3]), inputs([3, 3], width=5)
    wide = (*narrow[:2], wide[2], *narrow[3:])
    narrow = part_of(wide, slice(None), slice(3))
    wide[2].positions[:, 3:] = 7.0
    few, many = model(*narrow), model(*wide)
    close(few, many._replace(bonds=many.bonds[:, :3]))


@torch.no_grad()
def test_permuting_the_atoms_permutes_the_bonds_and_changes_nothing_else(model):
    arguments, order = inputs([5, 5]), [3, 0, 4, 1, 2]
    said, permuted = model(*arguments), model(*part_of(arguments, slice(None), order))
    close(permuted, said._replace(bonds=said.bonds[:, order]))


def test_the_gradient_reaches_every_parameter():
    torch.manual_seed(1)
    model = Resimulate()
    said = model(*inputs([6, 4, 0]))
    (said.classes.square().sum() + said.position.square().sum() + said.bonds.square().sum()).backward()
    assert all(weight.grad.abs().max() > 0 for weight in model.parameters())


def test_kernels_over_all_heights_learn_in_bfloat16_what_they_learn_in_single(model):
    df, gradients = inputs([0, 0, 0, 0])[0], []
    for mixed in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = sum(h.square().mean() for h in model.reference.features(df))
        loss.backward()
        gradients.append([conv.weight.grad.clone() for conv in model.reference.convs])
    model.zero_grad()
    for single, half in zip(*gradients, strict=True):
        assert (half - single).norm() < 0.05 * single.norm()


def test_the_bonds_do_not_move_the_position(model):
    model.zero_grad()
    model(*inputs([4])).bonds.sum().backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in model.position.parameters())
    model.zero_grad()


@torch.no_grad()
def test_both_stacks_and_the_molecule_matter(model):
    df, simulated, molecule, x, y = inputs([4, 4])
    said = model(df, simulated, molecule, x, y)
    swapped = Part(*(getattr(molecule, field.name).flip(0) for field in fields(molecule)))
    for others in ((df.flip(0), simulated, molecule), (df, simulated.flip(0), molecule), (df, simulated, swapped)):
        assert (model(*others, x, y).classes - said.classes).abs().max() > 1e-6


@settings(max_examples=5, deadline=None)
@given(pixels=st.integers(5, 40))
@torch.no_grad()
def test_a_window_of_any_size_will_do(model, pixels):
    said = model(*inputs([2], pixels))
    assert [tuple(output.shape) for output in said] == [(1, 1 + len(ELEMENTS)), (1, 3), (1, 2)]
    assert all(output.isfinite().all() for output in said)


@torch.no_grad()
def test_the_network_looks_away_from_atoms_that_are_there(model):
    df, simulated, molecule, x, y = inputs([4])
    molecule.positions[..., :2] = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    known = model.encode(model.reference.features(df), simulated, molecule)
    attention = model.look(known, x, y)
    assert float(attention.sum()) == pytest.approx(1, rel=1e-5)
    nobody = Part(molecule.numbers * 0, molecule.positions, molecule.bonds)
    known = known._replace(molecule=nobody)  # but what follows from the atoms stays
    there = near(molecule.positions, molecule.numbers > 0, x, y) > 0.9
    assert 0 < there.sum() < there.numel()
    assert attention[there].sum() < 0.01 * model.look(known, x, y)[there].sum()


def test_of_attention_to_two_places_only_the_stronger_counts():
    x, y = (torch.linspace(-4, 4, number)[None] for number in (64, 40))
    attention = torch.zeros(1, 32, 20)
    attention[0, 24, 6], attention[0, 10, 15], attention[0, 11, 15] = 0.4, 0.35, 0.25
    one = focused(attention, x, y)
    assert float(one.sum()) == pytest.approx(1)
    assert float(one[0, 24, 6]) == pytest.approx(1, abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("pixels", [128, 100, 90])
def test_all_scales_look_at_the_same_place(pixels):
    torch.manual_seed(0)
    encoder = Encoder(SMALL)
    axis = torch.arange(pixels)[None].float()
    maps = [h * 0 for h in encoder.features(torch.randn(1, pixels, pixels, 10))]
    for scale in range(4):
        size, seen = maps[scale].shape[2], [h.clone() for h in maps]
        pixel = size // 2
        seen[scale][..., pixel, pixel] = 1
        encoder.gates[scale].weight.data.fill_(1.0)
        drawn = encoder.attraction(seen, maps, torch.ones(1, QUERY)) - encoder.attraction(
            maps, maps, torch.ones(1, QUERY)
        )
        along, places = drawn[0].clamp_min(0).sum(1), pixel_places(axis)[0]
        middle = 2 ** (scale + 1) * (pixel + 0.5) - 0.5  # of that pixel, in those of the stack
        if scale < 3:  # the deepest is convolved besides
            assert float((along * places).sum() / along.sum()) == pytest.approx(middle, abs=0.01)


@torch.no_grad()
def test_the_nearest_image_is_seen(model):
    df, *others = inputs([2])
    changed = df.clone()
    changed[..., 9] = changed[..., 9].flip(1)
    assert (model(changed, *others).position - model(df, *others).position).abs().max() > 1e-6


def test_the_whole_molecule_simulated_again_gives_the_scan():
    scan = next(scans_of([MOLECULE], GRID, ENGINE))
    x, y = (torch.tensor(axis, dtype=torch.float32)[None] for axis in (scan.x, scan.y))
    lowest = torch.tensor(scan.z[-1:], dtype=torch.float32)
    again = simulate(part_from(scan.truth), x, y, lowest, GRID, ENGINE)
    torch.testing.assert_close(again, normalised(torch.tensor(scan.df)[None]), rtol=1e-3, atol=2e-3)


def test_a_part_stays_at_the_height_that_it_has_in_the_whole():
    top, rest = 2, [0, 1]
    helper = MOLECULE.positions.copy()
    helper[top, :2] = 500.0  # the topmost atom goes away, and is felt no more
    moved = Molecule(MOLECULE.numbers, helper)
    torch.testing.assert_close(stack_of(part_from(MOLECULE, rest)), stack_of(part_from(moved)), rtol=1e-3, atol=1e-3)


def test_where_there_is_no_atom_yet_the_stack_is_zero():
    whole = part_from(MOLECULE)
    nothing = Part(whole.numbers * 0, whole.positions * 0, whole.bonds)
    both = Part(*(torch.cat([getattr(m, f.name) for m in (nothing, whole)]) for f in fields(Part)))
    stacks = stack_of(both)
    assert not stack_of(nothing).any()
    assert not stacks[0].any()
    torch.testing.assert_close(stacks[1:], stack_of(whole))


def test_the_nominal_height_is_that_over_a_flat_molecule_of_carbon():
    assert nominal_height(SimulationOptions()) == pytest.approx(3.02, abs=0.01)  # PTCDA under CO


def forced(bias):
    """Return an untrained network that says stop more or less readily."""
    torch.manual_seed(2)
    model = Resimulate(SMALL).eval()
    with torch.no_grad():
        model.classes[-1].bias[0] = bias
        model.position[-1].weight.mul_(20.0)
    return model


SCAN = torch.tensor(next(scans_of([MOLECULE], GRID, ENGINE)).df)[None]


def test_generation_ends_at_the_most_atoms_with_a_valid_graph():
    graph, steps = generate(forced(-20.0), SCAN, AXIS, AXIS, ENGINE, most=4)
    assert (len(graph), steps) == (4, 4)
    assert np.isfinite(graph.positions).all()
    assert (np.abs(graph.positions[:, :2]) <= AXIS[-1] + 1e-6).all()
    assert ((graph.positions[:, 2] <= 0) & (graph.positions[:, 2] >= Z_MIN - 1e-6)).all()
    assert graph.elements.shape == (4, len(ELEMENTS))
    assert graph.bonds.shape == (4, 4, len(ORDERS))
    assert graph.missing.shape == (4, MOST_MISSING + 1)
    for shares in (graph.elements, graph.bonds, graph.missing):
        np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-6)
        assert shares.min() >= 0
    assert ((graph.exists > 0.99) & (graph.exists <= 1)).all()
    np.testing.assert_array_equal(graph.bonds, graph.bonds.swapaxes(0, 1))
    assert (graph.bonds[range(4), range(4), 0] == 1).all()
    assert graph.bonds[0, 1, 0] < 1


def test_generation_ends_when_the_network_says_stop():
    graph, steps = generate(forced(20.0), SCAN, AXIS, AXIS, ENGINE)
    assert (len(graph), steps) == (0, 1)
    assert graph.bonds.shape == (0, 0, len(ORDERS))


def test_atoms_come_in_the_frame_of_the_scan():
    model = forced(-20.0)
    here, _ = generate(model, SCAN, AXIS, AXIS, ENGINE, most=2)
    there, _ = generate(model, SCAN, AXIS + 8.0, AXIS - 4.0, ENGINE, most=2)
    np.testing.assert_allclose(there.positions - here.positions, [[8.0, -4.0, 0.0]] * 2, atol=1e-4)
