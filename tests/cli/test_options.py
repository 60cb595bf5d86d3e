"""Options of the command line are made from models, and read back."""

from typing import Annotated, Literal

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from afmid.cli.options import check_inputs, describe, duration, settings_of, with_options
from afmid.errors import DataError, UsageError


class Inner(BaseModel, extra="forbid"):
    depth: float = Field(1.0, gt=0, description="depth, Å")


class Model(BaseModel, extra="forbid"):
    pixel_count: int = Field(128, ge=2, le=512, description="pixels along a side")
    width: float | None = Field(None, gt=0, description="width, Å")
    kind: Literal["fast", "good"] = Field("fast", description="how to compute")
    span: tuple[float, float] = Field((0.5, 2.0), description="range, eV")
    compile: bool = Field(False, description="whether to compile")
    inner: Inner = Field(Inner(depth=3), description="inside")


def test_every_field_is_described_in_words() -> None:
    words = [(one.name, one.type, one.range, one.default) for one in describe(Model)]
    assert words == [
        ("pixel_count", "integer", "2 to 512", "128"),
        ("width", "number", "above 0", ""),
        ("kind", "fast|good", "", "fast"),
        ("span", "number,number", "", "0.5,2"),
        ("compile", "true|false", "", "false"),
        ("inner.depth", "number", "above 0", "3"),
    ]


class Flat(BaseModel, extra="forbid"):
    pixel_count: int = Field(128, ge=2, le=512, description="pixels along a side")
    width: float | None = Field(None, gt=0, description="width, Å")


def _run(*arguments: str) -> Flat:
    """Return the options that a command made from the model receives."""
    received = []
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @with_options(Flat, "options")
    def command(name: Annotated[str, typer.Argument()], *, options: Flat) -> None:
        assert name == "benzene"
        received.append(options)

    done = CliRunner().invoke(app, ["benzene", *arguments])
    if isinstance(done.exception, UsageError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return received[0]


@given(st.integers(2, 512), st.one_of(st.none(), st.floats(0, 1e6, exclude_min=True)))
def test_a_command_receives_what_was_typed(count: int, width: float | None) -> None:
    typed = ["--pixel-count", str(count), *([] if width is None else ["--width", repr(width)])]
    assert _run(*typed) == Flat(pixel_count=count, width=width)


def test_without_options_a_command_receives_the_defaults() -> None:
    assert _run() == Flat()


@pytest.mark.parametrize("value", ["1", "513", "2.5", "many"])
def test_a_value_out_of_range_is_refused_by_the_options_name(value: str) -> None:
    with pytest.raises(UsageError, match=f"--pixel-count is '{value}'; it should be"):
        _run("--pixel-count", value)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_a_time_is_read_as_it_is_written(hours: int, minutes: int, seconds: int) -> None:
    assert duration(f"{hours}h{minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds
    assert duration(f"{minutes}m") == 60 * minutes
    assert duration(str(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "1m2h", "9 m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        duration(text)


def test_each_of_several_offers_gets_its_own_settings() -> None:
    pairs = ["noise.level=0.2", "cutout.tries=3", "noise.spread=fixed"]
    assert settings_of("noise", pairs, ["noise", "cutout"]) == ["level=0.2", "spread=fixed"]
    assert settings_of("cutout", pairs, ["noise", "cutout"]) == ["tries=3"]


def test_a_single_offer_needs_no_prefix() -> None:
    assert settings_of("noise", ["level=0.2", "noise.spread=fixed", "inner.depth=1"], ["noise"]) == [
        "level=0.2", "spread=fixed", "inner.depth=1",
    ]  # fmt: skip


@pytest.mark.parametrize("pair", ["level=0.2", "blur.level=1"])
def test_a_setting_of_nobody_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="NAME is one of: noise, cutout"):
        settings_of("noise", [pair], ["noise", "cutout"])


def test_missing_inputs_are_found_out_at_once() -> None:
    check_inputs(["-", __file__])
    with pytest.raises(DataError, match=r"nowhere\.npz: no such file"):
        check_inputs([__file__, "nowhere.npz"])
    with pytest.raises(UsageError, match="only once"):
        check_inputs(["-", "-"])
