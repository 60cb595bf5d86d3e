import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from afmid_graphgen.graph import ELEMENTS, ORDERS
from afmid_graphgen.model import REACH, Config, GraphNet, pairs_of

laws = settings(max_examples=8, deadline=None)
SMALL = Config(stem=8, widths=(8, 16), atom=12, pair=10, rounds=2)


def stacks(count=2, size=32, seed=0):
    return torch.randn(count, size, size, 10, generator=torch.Generator().manual_seed(seed))


def spots(count=6, size=32, seed=0):
    return size * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))


def said(model, df, places, batch):
    with torch.no_grad():
        return model.answer(model.features(df), places, batch, pairs_of(places, batch))


@pytest.fixture(scope="module")
def small(awake):
    return awake(GraphNet(SMALL))


def close(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_it_answers_for_each_atom_and_each_pair(small):
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    places = spots()
    answers, pairs = said(small, stacks(), places, batch), pairs_of(places, batch)
    assert answers.elements.shape == (6, len(ELEMENTS))
    assert answers.shift.shape == answers.log_variance.shape == (6, 3)
    assert answers.bonds.shape == (len(pairs.first), len(ORDERS))
    assert all(part.isfinite().all() for part in answers)


def test_pairs_are_of_one_stack_and_within_reach_each_once():
    places = torch.tensor([[0.0, 0], [8, 0], [0, 40], [0, 0], [8, 0]])  # pixels of 0.125 Å
    pairs = pairs_of(places, torch.tensor([0, 0, 0, 1, 1]))
    assert [*zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)] == [(0, 1), (3, 4)]
    torch.testing.assert_close(pairs.distance, torch.ones(2))
    apart = torch.tensor([[0.0, 0], [REACH / 0.125, 0]])
    assert not len(pairs_of(apart, torch.zeros(2, dtype=torch.long)).first)


def test_a_batch_equals_its_members(small):
    df, places = stacks(), spots()
    both = said(small, df, places, torch.tensor([0, 0, 0, 0, 1, 1]))
    first = said(small, df[:1], places[:4], torch.zeros(4, dtype=torch.long))
    second = said(small, df[1:], places[4:], torch.zeros(2, dtype=torch.long))
    close(both, [torch.cat(parts) for parts in zip(first, second, strict=True)])


@laws
@given(st.permutations(range(6)))
def test_the_order_of_the_atoms_does_not_matter(small, order):
    df, places, batch = stacks(1), spots(), torch.zeros(6, dtype=torch.long)
    one, other = said(small, df, places, batch), said(small, df, places[order], batch)
    close([part[order] for part in one[:5]], other[:5])
    pairs, again = pairs_of(places, batch), pairs_of(places[order], batch)
    named = {frozenset(p): b for *p, b in zip(pairs.first.tolist(), pairs.second.tolist(), one.bonds, strict=True)}
    for i, j, bond in zip(again.first.tolist(), again.second.tolist(), other.bonds, strict=True):
        torch.testing.assert_close(named[frozenset((order[i], order[j]))], bond, rtol=1e-4, atol=1e-5)


def test_moving_the_image_moves_the_atoms_and_changes_nothing_they_are(awake):
    model = awake(GraphNet(Config(stem=4, widths=(4, 6), atom=8, pair=6, rounds=1)))
    model.everywhere.weight.data.zero_()
    inner, places = stacks(1, 64) * _dome(64), 24 + spots(5, 16)
    wide, moved = (pad(inner.permute(0, 3, 1, 2), (a, 32 - a, 32, 0)).permute(0, 2, 3, 1) for a in (0, 16))
    batch = torch.zeros(5, dtype=torch.long)
    one, other = (
        said(model, df, places + torch.tensor(by), batch) for df, by in ((wide, [32.0, 0.0]), (moved, [32.0, 16.0]))
    )
    close(one, other)


def _dome(size):
    along = torch.hann_window(size, periodic=False)
    return (along[:, None] * along)[None, :, :, None]


def test_an_atom_far_away_makes_no_difference(small):
    df, places, batch = stacks(1, 96), torch.tensor([[10.0, 10], [18, 12], [80, 80]]), torch.zeros(3, dtype=torch.long)
    all_three, two = said(small, df, places, batch), said(small, df, places[:2], batch[:2])
    close([part[:2] for part in all_three[:5]] + [all_three.bonds], two)


def test_no_atoms_give_no_answers(small):
    answers = said(small, stacks(), torch.empty(0, 2), torch.empty(0, dtype=torch.long))
    assert all(len(part) == 0 for part in answers)


def test_every_parameter_learns(awake):
    model = awake(GraphNet(SMALL)).train()
    places, batch = spots(), torch.tensor([0, 0, 0, 1, 1, 1])
    df = stacks()
    features = model.features(df, df)
    answers = model.answer(features, places, batch, pairs_of(places, batch))
    (sum(part.square().sum() for part in answers) + model.image(features).square().sum()).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_a_fresh_network_sees_no_peaks():
    model = GraphNet(SMALL)
    with torch.no_grad():
        assert not model.image(model.features(stacks())).any()


@pytest.mark.parametrize("config", [Config(), SMALL])
def test_a_configuration_survives_json(config):
    assert Config.from_json(json.dumps(asdict(config))) == config


@pytest.mark.parametrize("text", ["nonsense", '{"depth": 3}'])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises((ValueError, TypeError)):
        Config.from_json(text)


@pytest.mark.parametrize(
    "sizes", [{"rounds": 10**8}, {"widths": [60_000, 60_000]}, {"widths": [8]}, {"stem": 0}, {"atom": 1.5}]
)
def test_sizes_that_no_network_has_are_refused(sizes):
    with pytest.raises(ValueError, match=r"stem, blocks, atom, pair|widths|a network has"):
        Config.from_json(json.dumps(sizes))


def test_mixed_precision_learns_too(awake):
    model = awake(GraphNet(SMALL)).train()
    places, batch = spots(), torch.tensor([0, 0, 0, 1, 1, 1])
    with torch.autocast("cpu", torch.bfloat16):
        answers = model.answer(model.features(stacks()), places, batch, pairs_of(places, batch))
    sum(part.square().sum() for part in answers).backward()
    assert all(part.isfinite().all() for part in answers)
