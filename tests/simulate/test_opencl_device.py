"""Broken OpenCL set-ups are found out before they can do harm."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from afmid.errors import PluginError, UsageError

pytest.importorskip("pyopencl", reason="pyopencl is not installed; it comes with afmid[opencl]")
from afmid.simulate import opencl_device
from afmid.simulate.opencl_device import Found, choose, try_out

CPU = Found("Some CPU", "cpu", "Some platform", 2)
GPU = Found("Some GPU", "gpu", "Other platform", 64)


@pytest.fixture
def found(monkeypatch):
    """Let the machine have other devices than it has."""

    def have(*devices: Found) -> None:
        monkeypatch.setattr(opencl_device, "try_out", lambda name="": devices)

    return have


def driver(folder: Path, code: str) -> Path:
    """Return a folder that holds an OpenCL driver made of C code."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("there is no C compiler to make a broken driver with")
    library, source = folder / "driver.so", folder / "driver.c"
    source.write_text(code)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    (folder / "driver.icd").write_text(str(library))
    return folder


def test_a_device_of_this_machine_computes_right():
    assert any(not device.failure for device in try_out())


def test_the_device_that_works_and_is_of_the_right_kind_is_chosen(found):
    found(CPU, GPU)
    assert (choose("cpu"), choose("cuda"), choose("mps")) == (CPU, GPU, GPU)
    assert choose("cpu", name="other PLATFORM") == GPU
    with pytest.raises(UsageError, match="no OpenCL device 'Radeon'; there are: Some CPU"):
        choose("cpu", name="Radeon")


def test_a_device_that_does_not_work_is_named_with_its_failure(found):
    broken = Found("Some CPU", "cpu", "Old platform", 2, "unknown target CPU 'generic'")
    found(broken)
    with pytest.raises(PluginError, match="OpenCL on Some CPU: unknown target CPU 'generic'; see: afmid doctor"):
        choose("cpu")
    found(broken, CPU)
    assert choose("cpu") == CPU
    found()
    with pytest.raises(PluginError, match="OpenCL finds no cpu; see: afmid doctor"):
        choose("cpu")


@pytest.mark.parametrize(
    "code",
    ["__attribute__((constructor)) void start(void) { __builtin_trap(); }", "int nothing;"],
    ids=["kills the process", "is no driver"],
)
def test_a_broken_driver_costs_one_line_and_torch_takes_over(tmp_path, monkeypatch, code):
    monkeypatch.setenv("OCL_ICD_VENDORS", str(driver(tmp_path, code)))
    scan = tmp_path / "scan.npz"
    command = [sys.executable, "-m", "afmid", "-v", "simulate", "benzene", "--pixels", "16", "-o", scan]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("afmid: warning: engine opencl is passed over, torch simulates: OpenCL ")
    assert "engine: torch on cpu" in done.stderr
    assert scan.exists()
    asked = subprocess.run([*command, "--force", "--engine", "opencl"], capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert "see: afmid doctor" in asked.stderr.splitlines()[-1]
