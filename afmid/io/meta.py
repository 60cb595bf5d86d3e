"""The JSON string `meta` that stands beside the arrays in afmid's npz files, checked against a pydantic model."""

import json
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from afmid.errors import DataError

MAX_CHARACTERS = 2**24

Model = TypeVar("Model", bound=BaseModel)


def parse_meta(model: type[Model], array: NDArray[Any], schema: str) -> Model:
    """Return the `meta` of a file as `model`; `array` is a 0-d array of text.

    Raises:
        DataError: no text, no JSON, another schema, or a key or value that does not belong.
    """
    if array.ndim != 0 or array.dtype.kind != "U":
        raise DataError(f"meta must be one JSON text, is an array of {array.dtype} with shape {array.shape}")
    return parse_json(model, str(array[()]), schema)


def parse_json(model: type[Model], text: str, schema: str) -> Model:
    """Return a JSON text as `model`. Raises DataError as `parse_meta` does."""
    if len(text) > MAX_CHARACTERS:
        raise DataError(f"meta has {len(text)} characters; afmid reads up to {MAX_CHARACTERS}")
    try:
        content = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"meta is not JSON: {error}") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found != schema:
        raise DataError(f"schema is {found!r}, but this version of afmid reads {schema!r}")
    try:
        return model.model_validate(content, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise DataError(f"meta: {key!r}: {problem['msg'].lower()}") from error


def write_json(model: BaseModel) -> str:
    """Return `model` as one line of JSON.

    Raises:
        DataError: it holds what JSON cannot, such as an array or NaN.
    """
    try:
        return json.dumps(model.model_dump(by_alias=True), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"meta cannot be written as JSON: {error}; use plain numbers, text, lists and dicts") from error


def write_meta(model: BaseModel) -> NDArray[np.str_]:
    """Return `model` as a 0-d array of JSON text. Raises DataError as `write_json` does."""
    return np.array(write_json(model))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
