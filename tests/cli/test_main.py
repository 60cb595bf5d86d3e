"""Errors, exit codes and help, of the real command."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import afmid as package
from afmid.cli.main import COMMANDS, app
from afmid.cli.main import Commands as Group

HEAVY = {"torch", "rdkit", "ase", "matplotlib", "scipy"}
LIGHT = ([], ["--help"], ["--version"], ["plugins"], *([name, "--help"] for name in COMMANDS))


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_help_and_listings_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from afmid.cli.main import main
sys.argv = ["afmid", *{arguments!r}]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
print(*sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stderr.splitlines()[-1] == ""
    assert done.stdout


def test_help_goes_to_stdout_and_names_every_command(afmid) -> None:
    done = afmid("--help")
    assert (done.returncode, done.stderr) == (0, b"")
    words = done.stdout.decode()
    assert all(f"  {name} " in words and sentence in words for name, sentence in COMMANDS.items())
    assert afmid().stdout == done.stdout


def test_the_version_is_the_packages(afmid) -> None:
    assert afmid("--version").stdout.decode() == f"afmid {package.__version__}\n"


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_the_examples_in_the_help_use_commands_and_options_that_exist(name: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, Group)
    context = group.make_context("afmid", [], resilient_parsing=True)
    text = (group.get_command(context, name) if name else group).help or ""
    examples = [line.strip() for line in text.split("\b")[-1].split("\n\n")[0].splitlines() if line.strip()]
    assert 2 <= len(examples) <= 5
    for example in examples:
        for part in example.split("|"):
            words = [word for word in shlex.split(part) if not word.startswith("AFMID_")]
            assert words[0] == "afmid"
            command = group.get_command(context, words[1])
            if hasattr(command, "commands") and words[2] in command.commands:
                command = command.commands[words[2]]
            known = {option for parameter in command.get_params(context) for option in parameter.opts}
            assert {word for word in words[2:] if word.startswith("-") and word != "-"} <= known


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["identfy"], "no command 'identfy'; did you mean 'identify'?"),
        (["xyz"], "no command 'xyz'; there are: simulate, augment,"),
        (["simulate", "benzene", "--pixls", "9"], "no such option: --pixls"),
        (["simulate"], "missing argument 'MOLECULE'; see: afmid simulate --help"),
        (["identify", "a.npz", "--pixel", "wide"], "invalid value for '--pixel': "),
        (["plugins", "--set"], "no such option: --set"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(afmid, arguments: list[str], message: str) -> None:
    done = afmid(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    line, *rest = done.stderr.decode().splitlines()
    assert line.startswith("afmid: ")
    assert message in line
    assert rest == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_and_exit_code_1() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "afmid", "plugins"], stdout=full, stderr=-1, check=False)
    assert (done.returncode, done.stderr) == (1, b"afmid: no space left on device\n")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    running = subprocess.Popen([sys.executable, "-m", "afmid", "plugins", "--json"], stdout=-1, stderr=-1)
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait() == 1


def test_a_bug_keeps_its_traceback_as_python_writes_it(afmid, stranger, scan: Path) -> None:
    done = afmid("identify", scan, "--set", "fault=bug", "--device", "cpu", **stranger)
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert b"ZeroDivisionError: a bug" in done.stderr
    assert not set("╭╮╰╯│─") & set(done.stderr.decode())


def test_verbose_tells_more_on_stderr_and_nothing_on_stdout(afmid, tmp_path: Path) -> None:
    done = afmid("--verbose", "simulate", "benzene", "--pixels", "8", "--heights", "1", "-o", tmp_path / "scan.npz")
    assert b"afmid: engine: " in done.stderr
    assert done.stdout == b""
