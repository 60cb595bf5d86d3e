import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

CONTENT = save({"layer.weight": np.arange(20, dtype=np.float32)}, {"method": "toy", "architecture": "ToyNet"})
SHA256 = hashlib.sha256(CONTENT).hexdigest()
INDEX = f"""schema = "afmid.weights/1"
[[weights]]
name = "toy"
file = "toy.safetensors"
sha256 = "{SHA256}"
size = {len(CONTENT)}
license = "MIT"
method = "toy"
version = "1.2"
recipe = {{steps = 100, seed = 0}}
scores = {{precision = 0.9123, recall = 0.5}}
"""
PLUGIN = """
from pathlib import Path
from afmid import Identifier, hookimpl

@hookimpl
def afmid_identify():
    index = Path(__file__).with_name("weights.toml")
    return [Identifier(name="toy", summary="A toy.", load=lambda weights, device: None, weights_index=index)]
"""


class Machine:
    """A folder with a plugin, as pip installs it, and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.package = folder / "site" / "afmid_toy"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").write_text(PLUGIN)
        (self.package / "weights.toml").write_text(INDEX)
        self.shipped = self.package / "toy.safetensors"
        self.shipped.write_bytes(CONTENT)
        info = folder / "site" / "afmid_toy-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: afmid-toy\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[afmid]\ntoy = afmid_toy\n")
        path = [str(folder / "site"), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AFMID_")},
            "PYTHONPATH": os.pathsep.join(path),
            "AFMID_CACHE": str(self.cache),
            "AFMID_PLUGINS": "toy",
        }

    def run(self, *words: object, code: int = 0, **environment: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "afmid", "weights", *map(str, words)]
        more = {name: str(value) for name, value in environment.items()}
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment | more, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_list_shows_what_there_is_and_in_which_state(machine):
    row = machine.run("list").stdout.splitlines()[1].split()
    assert row[:3] == ["toy", "toy", "1.2"]
    assert row[-6:] == ["MIT", "shipped", "precision", "0.9123,", "recall", "0.5"]
    machine.run("fetch", "toy")
    [record] = map(json.loads, machine.run("list", "--json").stdout.splitlines())
    assert record["state"] == "cached"
    assert record["size_bytes"] == len(CONTENT)
    assert record["recipe"] == {"steps": 100, "seed": 0}
    machine.shipped.write_bytes(b"no weights")
    assert json.loads(machine.run("list", "--json").stdout)["state"] == "damaged"


def test_fetch_prints_where_the_verified_file_lies(machine):
    done = machine.run("fetch")
    path = Path(done.stdout.strip())
    assert path.read_bytes() == CONTENT
    assert machine.cache in path.parents
    assert done.stderr == ""
    assert json.loads(machine.run("fetch", "--json").stdout) == {
        "name": "toy", "path": str(path), "sha256": SHA256, "size_bytes": len(CONTENT),
    }


def test_a_mirror_that_cannot_be_reached_costs_one_line_on_stderr(machine):
    done = machine.run("fetch", AFMID_WEIGHTS_URL="http://127.0.0.1:1", NO_PROXY="127.0.0.1")
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    [line] = done.stderr.splitlines()
    assert line.startswith("afmid: warning: http://127.0.0.1:1/toy.safetensors: the mirror cannot be reached")


def test_a_wrong_file_is_one_line_and_exit_code_1(machine, tmp_path):
    (tmp_path / "toy.safetensors").write_bytes(b"something else")
    [line] = machine.run("fetch", code=1, AFMID_WEIGHTS_URL=tmp_path).stderr.splitlines()
    assert SHA256 in line
    assert hashlib.sha256(b"something else").hexdigest() in line
    assert not [path for path in machine.cache.rglob("*") if path.is_file()]


def test_verify_finds_damaged_copies(machine):
    machine.run("fetch")
    assert [line.split()[:3] for line in machine.run("verify").stdout.splitlines()] == [
        ["good", "toy", "cached:"],
        ["good", "toy", "shipped:"],
    ]
    machine.shipped.write_bytes(CONTENT[:-1])
    done = machine.run("verify", code=1)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["good", "damaged"]
    assert SHA256 in done.stderr
    assert done.stderr.splitlines()[-1] == "afmid: 1 damaged copy of weights"
    records = [json.loads(line) for line in machine.run("verify", "toy", "--json", code=1).stdout.splitlines()]
    assert [(record["state"], record["place"]) for record in records] == [("good", "cached"), ("damaged", "shipped")]


def test_weights_that_are_nowhere_are_missing_not_damaged(machine):
    machine.shipped.unlink()
    assert machine.run("verify").stdout.split() == ["missing", "toy"]
    assert json.loads(machine.run("verify", "--json").stdout) == {
        "name": "toy", "state": "missing", "expected_sha256": SHA256,
    }
    assert "set AFMID_WEIGHTS_URL" in machine.run("fetch", code=1).stderr


def test_an_exported_folder_serves_another_machine_as_mirror(machine, tmp_path):
    mirror = tmp_path / "mirror"
    written = machine.run("export", "toy", "-o", mirror).stdout.split()
    assert written == [str(mirror / "toy.safetensors"), str(mirror / "weights.toml")]
    machine.shipped.unlink()
    done = machine.run("fetch", AFMID_WEIGHTS_URL=mirror, AFMID_CACHE=tmp_path / "other")
    assert Path(done.stdout.strip()).read_bytes() == CONTENT


def test_export_writes_over_files_only_when_forced(machine, tmp_path):
    machine.run("export", "-o", tmp_path / "mirror")
    assert "give --force to write over it" in machine.run("export", "-o", tmp_path / "mirror", code=1).stderr
    machine.run("export", "-o", tmp_path / "mirror", "--force")


def test_an_unknown_name_is_wrong_usage(machine):
    for command in (["fetch"], ["verify"], ["export", "-o", "nowhere"]):
        assert "no weights 'tyo'; did you mean 'toy'?" in machine.run(*command, "tyo", code=2).stderr


def test_where_no_plugin_brings_weights_there_is_a_line_that_says_so(machine):
    (machine.package / "weights.toml").unlink()
    for command in ("list", "fetch", "verify"):
        [line] = machine.run(command).stderr.splitlines()
        assert line == "afmid: no installed plugin brings weights; make some: afmid train METHOD"


def test_help_stands_in_for_a_missing_command(machine):
    for words in ([], ["--help"]):
        help_ = machine.run(*words).stdout
        assert all(command in help_ for command in ("list", "fetch", "verify", "export"))
