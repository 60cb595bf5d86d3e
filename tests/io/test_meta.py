import json
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from afmid.errors import DataError
from afmid.io.meta import parse_json, parse_meta, write_json, write_meta

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class Meta(BaseModel, extra="forbid"):
    schema_: Literal["test/1"] = Field("test/1", alias="schema")
    size: float = 1.0
    content: Any = None


@given(content=JSON)
def test_write_then_read_changes_nothing(content):
    assert parse_meta(Meta, write_meta(Meta(content=content)), "test/1").content == content


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "schema is None"),
        ('{"schema": "test/2"}', "schema is 'test/2', but this version of afmid reads 'test/1'"),
        ('{"schema": "test/1", "size": "big"}', "'size'"),
        ('{"schema": "test/1", "size": NaN}', "NaN is no JSON number"),
        ('{"schema": "test/1", "colour": 1}', "'colour'"),
    ],
)
def test_what_does_not_follow_the_schema_is_said(text, says):
    with pytest.raises(DataError, match=says):
        parse_json(Meta, text, "test/1")


@pytest.mark.parametrize("array", [np.zeros(3), np.array(["{}"]), np.array(b"{}")])
def test_meta_must_be_one_text(array):
    with pytest.raises(DataError, match="must be one JSON text"):
        parse_meta(Meta, array, "test/1")


@pytest.mark.parametrize("content", [float("nan"), np.zeros(3), {1, 2}])
def test_what_json_cannot_hold_is_refused_in_words(content):
    with pytest.raises(DataError, match="cannot be written as JSON"):
        write_json(Meta(content=content))


def test_json_is_one_line():
    assert json.loads(write_json(Meta(content="a\nb")))["content"] == "a\nb"
    assert "\n" not in write_json(Meta(content="a\nb"))
