"""Plugins as strangers write them: installed by pip, run by the real command."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from afmid import Augmentation, Identifier, Metric
from afmid.errors import PluginError, UsageError
from afmid.plugins import discover, parse_options
from afmid.testing import MethodContract

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "{version}"
[tool.hatch.build.targets.wheel]
include = ["*.py"]
[project.entry-points.afmid]
"""
HOWTO = Path(__file__).parents[1] / "docs" / "howto" / "add-a-method.md"
BRIGHTEST = re.search(r"```python\n(.*?)```", HOWTO.read_text(), re.DOTALL)[1]  # the page that shows how
HOOK = "from afmid import hookimpl, Identifier, Metric\n@hookimpl\n"
BROKEN = {
    "raises": "raise RuntimeError('no licence\\nfound')",
    "exits": "import sys; sys.exit('goodbye')",
    "lacks": "import a_module_that_nobody_has",
    "misspelt": HOOK + "def afmid_identfy(): return []",
    "unmarked": "def afmid_identify(): return []",
    "wrong-kind": HOOK + "def afmid_identify(): return [Metric(name='a', summary='', load=print)]",
    "no-list": HOOK + "def afmid_identify(): return Identifier(name='a', summary='', load=print)",
    "bad-name": HOOK + "def afmid_identify(): return [Identifier(name='Bad Name', summary='', load=print)]",
    "lax": "from pydantic import BaseModel as B\n"
    + HOOK
    + "def afmid_identify(): return [Identifier(name='a', summary='', load=print, options=B)]",
    "late": HOOK + "def afmid_identify():\n    yield from ()\n    raise ValueError('too late')",
}
REASONS = {
    "raises": "RuntimeError: no licence found",
    "exits": "SystemExit: goodbye",
    "lacks": "'a_module_that_nobody_has', which is not installed",
    "misspelt": "unknown hook 'afmid_identfy'",
    "unmarked": "implements no hook; is @hookimpl missing?",
    "wrong-kind": "afmid_identify must return Identifier objects, returned Metric",
    "no-list": "afmid_identify must return a list of Identifier objects",
    "bad-name": "'Bad Name': a name has lower-case letters",
    "lax": 'extra="forbid"',
    "late": "ValueError: too late",
}
NEEDY = """
from pathlib import Path
from afmid import Engine, Identifier, Metric, Trainer, hookimpl
from afmid.recipe import Recipe
def load(*arguments):
    import a_module_that_nobody_has
words = dict(name="needy", summary="", load=load)
@hookimpl
def afmid_simulate(): return [Engine(**words, priority=-9)]
@hookimpl
def afmid_train(): return [Trainer(**words, options=Recipe)]
@hookimpl
def afmid_identify():
    illegible = dict(words, name="illegible", weights_index=Path(__file__))  # Python is no TOML
    return [Identifier(**words, priority=-9), Identifier(**illegible)]
@hookimpl
def afmid_evaluate(): return [Metric(**words)]
"""
CHATTY = "print('hello from a plugin')\n" + HOOK + "def afmid_evaluate(): return []"


def _install(folder: Path, *projects: tuple[str, str, dict[str, str]]) -> Path:
    """Write each project (name, version, entry point to code) into a folder of its own; pip-install all into one."""
    for name, version, modules in projects:
        home = folder / name
        home.mkdir(parents=True)
        text = PROJECT.format(name=name, version=version)
        for point, code in modules.items():
            module = f"{name}_{point}".replace("-", "_")
            (home / f"{module}.py").write_text(code)
            text += f'{point} = "{module}"\n'
        (home / "pyproject.toml").write_text(text)
    homes = [folder / name for name, _, _ in projects]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", folder / "site", *homes], check=True, capture_output=True)
    return folder / "site"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where strangers' distributions are installed: one works, one has broken plugins alone, one lacks a module."""
    working = ("afmid-brightest", "1.0", {"brightest": BRIGHTEST})
    broken = ("afmid-broken", "0.3", {**BROKEN, "chatty": CHATTY})
    needy = ("afmid-needy", "2.1", {"needy": NEEDY})
    return _install(tmp_path_factory.mktemp("strangers"), working, broken, needy)


@pytest.fixture(scope="session")
def scan(afmid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "benzene.npz"
    assert afmid("simulate", "benzene", "-o", path, "--pixels", "24", "--heights", "2").returncode == 0
    return path


@pytest.fixture(scope="session")
def listed(afmid, site: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """What `afmid plugins --json` says, by plugin, and its stderr."""
    done = afmid("plugins", "--json", PYTHONPATH=str(site))
    assert done.returncode == 0
    return {record["plugin"]: record for record in map(json.loads, done.stdout.splitlines())}, done.stderr.decode()


def test_a_plugin_of_25_lines_adds_a_method(afmid, site: Path, scan: Path) -> None:
    assert len(BRIGHTEST.splitlines()) <= 25
    done = afmid("identify", scan, "--method", "brightest", "--set", "element=N", "--json", PYTHONPATH=str(site))
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["method"] == "brightest"
    assert [atom["element"] for atom in answer["atoms"]] == ["N"]


def test_broken_plugins_break_nothing_and_cost_one_line_each(listed, afmid, site: Path) -> None:
    plugins, stderr = listed
    complaints = [line for line in stderr.splitlines() if "is left out" in line]
    assert len(complaints) == len(BROKEN)
    assert [record["name"] for record in plugins["brightest"]["offers"]] == ["brightest"]
    assert plugins["brightest"]["distribution"] == "afmid-brightest"
    assert plugins["brightest"]["hooks"] == ["afmid_identify"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_listed_with_the_reason(listed, name: str) -> None:
    plugins, stderr = listed
    assert REASONS[name] in plugins[name]["failure"]
    assert REASONS[name] in stderr
    assert plugins[name]["offers"] == []


def test_what_a_plugin_prints_does_not_reach_the_data(listed) -> None:
    plugins, stderr = listed
    assert plugins["chatty"]["failure"] is None
    assert "hello from a plugin" in stderr


def test_a_method_whose_plugin_is_broken_is_refused_with_the_reason(afmid, site: Path, scan: Path) -> None:
    done = afmid("identify", scan, "--method", "lacks", PYTHONPATH=str(site))
    assert done.returncode == 2
    assert "failed to load" in done.stderr.decode().splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("engine", ("simulate", "benzene", "--engine", "needy", "-o", "new.npz")),
        ("trainer", ("train", "needy", "--data", "list.csv", "-o", "run/")),
        ("method", ("identify", "scan.npz", "--method", "needy")),
        ("metric", ("evaluate", "scan.npz", "--method", "brightest", "--metrics", "needy")),
    ],
)
def test_an_offer_that_lacks_a_module_is_refused_in_one_line(
    afmid, site: Path, scan: Path, tmp_path: Path, kind: str, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "scan.npz").write_bytes(scan.read_bytes())
    (tmp_path / "list.csv").write_text("smiles\nc1ccccc1\nCCO\n")
    options = () if kind == "trainer" else ("--device", "cpu")
    done = afmid(*arguments, *options, cwd=tmp_path, PYTHONPATH=str(site), AFMID_PLUGINS="needy,brightest")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Traceback" not in done.stderr
    assert done.stderr.decode().splitlines()[-1] == (
        f"afmid: the {kind} 'needy' of afmid-needy does not load: it needs the module 'a_module_that_nobody_has', "
        "which is not installed; try: pip install --upgrade afmid-needy"
    )


def test_a_metric_that_lacks_a_module_costs_itself_and_one_line(afmid, site: Path, scan: Path) -> None:
    arguments = ("evaluate", scan, "--method", "brightest", "--device", "cpu", "--json")
    done = afmid(*arguments, PYTHONPATH=str(site), AFMID_PLUGINS="needy,brightest")
    assert done.returncode == 0
    (complaint,) = done.stderr.decode().splitlines()
    assert complaint.startswith("afmid: warning: the metric 'needy' of afmid-needy does not load: ")
    _, record = map(json.loads, done.stdout.splitlines())
    assert "atoms_found" in record["figures"]


def test_an_illegible_list_of_weights_costs_its_method_and_one_line(afmid, site: Path, scan: Path) -> None:
    done = afmid("identify", scan, "--json", PYTHONPATH=str(site), AFMID_PLUGINS="needy,brightest")
    assert done.returncode == 0
    assert json.loads(done.stdout)["method"] == "brightest"
    complaint, choice = done.stderr.decode().splitlines()
    assert "is no valid TOML" in complaint
    assert complaint.endswith("; the method illegible is left out")
    assert choice == "afmid: method: brightest"


def test_the_core_names_no_method() -> None:
    root = Path(__file__).parents[1]
    methods = [folder.name.removeprefix("afmid-") for folder in (root / "plugins").iterdir() if folder.is_dir()]
    core = [path for path in (root / "afmid").rglob("*.py") if any(name in path.read_text("utf-8") for name in methods)]
    assert methods
    assert core == []


def test_afmid_plugins_limits_what_is_loaded(afmid, site: Path) -> None:
    done = afmid("plugins", "--json", PYTHONPATH=str(site), AFMID_PLUGINS="brightest")
    assert {json.loads(line)["plugin"] for line in done.stdout.splitlines()} == {"core", "brightest"}
    assert done.stderr == b""


def test_afmid_plugins_must_name_installed_ones(afmid, site: Path) -> None:
    done = afmid("plugins", PYTHONPATH=str(site), AFMID_PLUGINS="brigthest")
    assert done.returncode == 2
    assert b"no plugin 'brigthest' is installed" in done.stderr


def test_two_methods_of_one_name_are_an_error_that_names_both(site: Path, tmp_path: Path, monkeypatch) -> None:
    other = _install(tmp_path, ("afmid-another", "2.0", {"another": BRIGHTEST}))
    for place in (site, other):
        monkeypatch.syspath_prepend(str(place))
    with pytest.raises(PluginError, match="afmid-another and afmid-brightest"):
        discover(["another", "brightest"])


def test_words_that_no_answer_has_are_refused() -> None:
    with pytest.raises(PluginError, match="identifier 'mine': gives 'atom', which no answer has; the words are:"):
        Identifier(name="mine", summary="", load=lambda *_: None, gives=("atom",))
    with pytest.raises(PluginError, match="metric 'mine': needs 'element', which no answer has"):
        Metric(name="mine", summary="", load=lambda: None, needs=("element",))


class Inner(BaseModel, extra="forbid"):
    size: int = Field(4, ge=1, le=9, description="width, pixels")
    depth: float = Field(1.0, gt=0, description="depth, Å")


class Pair(BaseModel, extra="forbid"):
    low: int = Field(0, description="lower end")
    high: int = Field(1, description="upper end")

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Options(BaseModel, extra="forbid"):
    level: float = Field(0.1, ge=0, le=1, description="strength")
    kind: Literal["fast", "good"] = Field("fast", description="way")
    span: tuple[float, float] = Field((0.0, 1.0), description="range, Å")
    inner: Inner = Field(Inner(size=5), description="inside")
    pair: Pair = Field(Pair(), description="ends")


OFFER = Augmentation(name="blur", summary="Blur.", options=Options, load=print)


@given(st.floats(0, 1), st.sampled_from(["fast", "good"]), st.tuples(st.floats(-9, 9), st.floats(-9, 9)))
def test_options_are_read_as_they_are_written(level: float, kind: str, span: tuple[float, float]) -> None:
    pairs = [f"level={level}", f"kind = {kind}", f"span={span[0]},{span[1]}"]
    assert parse_options(OFFER, pairs) == Options(level=level, kind=kind, span=span)


def test_setting_one_inner_option_leaves_its_neighbours_at_the_offers_defaults() -> None:
    assert parse_options(OFFER, ["inner.depth=2"]) == Options(inner=Inner(size=5, depth=2))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("levle=1", "blur: no option levle; did you mean: level"),
        ("xyz=1", "blur: no option xyz; there is: level, kind, span, inner, pair"),
        ("inner.sise=1", "blur: no option inner.sise; did you mean: inner.size"),
        ("level=2", "blur: level is '2'; it should be less than or equal to 1"),
        ("inner.size=0", "blur: inner.size is '0'; it should be greater than or equal to 1"),
        ("kind=bad", "blur: kind is 'bad'; it should be 'fast' or 'good'"),
        ("span=1,x", "blur: span is 'x'; it should be a valid number"),
        ("pair.low=2", "blur: pair: low is above high"),
        ("level", "--set needs key=value, got 'level'"),
    ],
)
def test_a_wrong_option_is_refused_in_words(pair: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(OFFER, [pair])
    assert str(caught.value).startswith(message)


def _brightest() -> Identifier:
    namespace: dict[str, Any] = {}
    exec(BRIGHTEST, namespace)  # noqa: S102 (the code above)
    return namespace["METHOD"]


class TestBrightest(MethodContract):
    method = _brightest()


def test_of_all_methods_one_that_does_not_load_costs_itself(afmid, site: Path, scan: Path) -> None:
    plugins = {"PYTHONPATH": str(site), "AFMID_PLUGINS": "needy,brightest"}
    done = afmid("identify", scan, "--method", "all", "--json", **plugins)
    assert done.returncode == 0
    assert [json.loads(line)["method"] for line in done.stdout.splitlines()] == ["brightest"]
    assert b"the method needy is left out" in done.stderr


def test_a_scan_is_not_replaced_by_its_answer(afmid, site: Path, scan: Path) -> None:
    before = scan.read_bytes()
    plugins = {"PYTHONPATH": str(site), "AFMID_PLUGINS": "brightest"}
    done = afmid("identify", scan, "--method", "brightest", "-o", scan, "--force", **plugins)
    assert done.returncode == 2
    assert b"is the scan itself" in done.stderr
    assert scan.read_bytes() == before
