import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from afmid.cli.doctor import probe

BROKEN_PLUGIN = "raise ImportError('libfoo.so.7: no such file')"


def run(folder: Path, *words: str, code: int = 0, **environment: object) -> subprocess.CompletedProcess[str]:
    more = {name: str(value) for name, value in environment.items()}
    path = [str(folder), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AFMID_")}
    done = subprocess.run(
        [sys.executable, "-m", "afmid", "doctor", *words],
        capture_output=True,
        text=True,
        env={**plain, "PYTHONPATH": os.pathsep.join(path), "AFMID_CACHE": str(folder / "cache"), **more},
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def report(folder: Path, *, code: int = 0, **environment: object) -> dict:
    [line] = run(folder, "--json", code=code, **environment).stdout.splitlines()
    return json.loads(line)


def install(folder: Path, name: str, content: str) -> None:
    """Put a package where `run` finds it, as pip would."""
    (folder / f"{name}.py").write_text(content)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    if name.startswith("afmid"):
        (info / "entry_points.txt").write_text(f"[afmid]\n{name.removeprefix('afmid_')} = {name}\n")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder for `run` in which the packages that take long to import are hidden, to be quick."""
    for name in ("ase", "matplotlib", "rdkit", "scipy", "torch"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('hidden')")
    return tmp_path


def test_a_sound_installation_has_versions_devices_a_cache_and_no_problems(tmp_path):
    found = report(tmp_path, AFMID_PLUGINS="core")
    assert found["problems"] == []
    assert {"torch", "rdkit", "ase", "numpy", "scipy"} <= found["packages"].keys()
    assert all(found["packages"].values())
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert next(device["threads"] for device in found["devices"] if device["name"] == "cpu") >= 1
    assert found["cache"] == {"folder": str(tmp_path / "cache"), "writable": True, "failure": ""}
    assert found["weights"] == []
    assert any("afmid train METHOD" in hint for hint in found["hints"])
    assert not (tmp_path / "cache").exists()


def test_an_opencl_driver_that_crashes_takes_nothing_with_it(bare):
    install(bare, "pyopencl", "import os\nclass LogicError(Exception): pass\ndef get_platforms():\n    os.abort()")
    found = report(bare, code=1)
    assert found["opencl"] == {"pyopencl": "1.0", "devices": [], "failure": "crashes with SIGABRT"}
    assert any("OpenCL does not work: crashes with SIGABRT" in hint for hint in found["hints"])
    assert found["packages"]["numpy"]


def test_without_opencl_there_is_a_hint(bare):
    (bare / "pyopencl.py").write_text("raise ModuleNotFoundError(\"No module named 'pyopencl'\")")
    found = report(bare, code=1)
    assert found["opencl"]["pyopencl"] is None
    assert any("pip install 'afmid[opencl]'" in hint for hint in found["hints"])


def test_the_report_for_people_says_the_same(tmp_path):
    install(tmp_path, "afmid_broken", BROKEN_PLUGIN)
    (tmp_path / "cache").write_text("a file, where nobody can make a folder")
    lines = run(tmp_path, AFMID_PLUGINS="broken", AFMID_WEIGHTS_URL="https://me:secret@server.example/afmid").stdout
    for words in ("afmid ", "torch ", "cpu (", "broken (afmid_broken 1.0), FAILED", "NOT writable", "hint: ",
                  "hint: plugin 'broken' is left out: ImportError: libfoo.so.7: no such file", "https://server.example"):
        assert words in lines
    assert "secret" not in lines


def test_a_needed_package_that_is_broken_is_a_problem_and_exit_code_1(bare):
    (bare / "pooch.py").write_text("import os; os.abort()")
    found = report(bare, code=1, AFMID_PLUGINS="core")
    assert [problem.partition(";")[0] for problem in found["problems"]] == [
        "scipy cannot be imported: ImportError: hidden",
        "ase cannot be imported: ImportError: hidden",
        "rdkit cannot be imported: ImportError: hidden",
        "matplotlib cannot be imported: ImportError: hidden",
        "pooch cannot be imported: crashes with SIGABRT",
        "torch cannot be imported: ImportError: hidden",
    ]
    assert found["packages"]["ase"] is found["packages"]["torch"] is None
    assert found["packages"]["numpy"]


INDEX = f"""schema = "afmid.weights/1"
[[weights]]
name = "toy"
file = "toy.safetensors"
sha256 = "{'0' * 64}"
size = 9
license = "MIT"
method = "toy"
version = "1"
"""
PLUGIN = """
from pathlib import Path
from afmid import Identifier, hookimpl

@hookimpl
def afmid_identify():
    index = Path(__file__).with_name("weights.toml")
    return [Identifier(name="toy", summary="A toy.", load=lambda weights, device: None, weights_index=index)]
"""


def test_damaged_weights_are_a_problem_and_missing_ones_a_hint(bare):
    install(bare, "afmid_toy", PLUGIN)
    (bare / "weights.toml").write_text(INDEX)
    found = report(bare, code=1, AFMID_PLUGINS="toy")
    assert found["weights"] == [{"name": "toy", "state": "missing"}]
    assert any("afmid weights fetch toy" in hint for hint in found["hints"])
    (bare / "toy.safetensors").write_text("cut")
    found = report(bare, code=1, AFMID_PLUGINS="toy")
    assert found["weights"] == [{"name": "toy", "state": "damaged"}]
    assert "install its plugin again" in found["problems"][-1]


CRASHES = {
    "import os; os.abort()": "crashes with SIGABRT",
    "import time; time.sleep(60)": "no answer within 1 s",
    "raise RuntimeError('no platform')": "RuntimeError: no platform",
    "raise SystemExit(3)": "fails",
}


@pytest.mark.parametrize("end", CRASHES)
def test_a_probe_survives_what_it_looks_at_and_keeps_what_was_found_before(end):
    code = "import json; print('noise of a driver'); print('[1]'); print(json.dumps({'a': 1}), flush=True)\n"
    assert probe(code + end, 1) == ([{"a": 1}], CRASHES[end])
