"""Configurations from weights files that anyone may have written."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from afmid.networks.config import LARGEST, check_sizes, config_from_json
from afmid_graphgen import paper, resimulate

NAMES = ("channels", "ordering", "sigma", "encoder", "pixels", "colour")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True)
class Sizes:
    widths: tuple[int, ...] = (1, 2)
    depth: int = 3


def test_fields_that_are_not_named_keep_their_defaults_and_lists_become_tuples():
    assert config_from_json(Sizes, "{}") == Sizes()
    assert config_from_json(Sizes, '{"widths": [4, 5, 6]}') == Sizes((4, 5, 6))


@pytest.mark.parametrize("kind", [paper.Config, resimulate.Config])
@settings(deadline=None, max_examples=40)
@given(text=st.text() | VALUES.map(json.dumps) | st.dictionaries(st.sampled_from(NAMES), VALUES).map(json.dumps))
@example(text="[" * 100_000)
@example(text='{"pixels": [' + "[" * 900 + "]" * 901 + "}")
@example(text='{"sigma": ' + "1" * 5000 + "}")
def test_whatever_the_json_only_a_value_error_or_a_type_error_is_raised(kind, text):
    try:
        config = config_from_json(kind, text)
    except (ValueError, TypeError):
        return
    assert isinstance(config, kind)


@pytest.mark.parametrize("sizes", [(1, LARGEST, 3), (5,) * 3])
def test_sizes_that_a_network_may_have_pass(sizes):
    check_sizes("widths", sizes, 3)


@pytest.mark.parametrize("sizes", [(1, 2), (1, 2, 0), (1, 2, LARGEST + 1), (1, 2, 3.0), (1, 2, True), "123", None])
def test_other_sizes_are_refused_in_words(sizes):
    with pytest.raises(ValueError, match="widths: 3 whole numbers from 1 to 2048, not"):
        check_sizes("widths", sizes, 3)
