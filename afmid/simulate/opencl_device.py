"""Finds the OpenCL device to compute on.

Drivers break in many ways, some by killing the process, so each device is tried out in a process of its own first:
`python -m afmid.simulate.opencl_device` prints one JSON object per device, saying whether a small scan came out right.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from afmid.errors import PluginError, UsageError
from afmid.molecule import Molecule
from afmid.simulate.elements import lennard_jones
from afmid.simulate.reference import forces
from afmid.simulate.scene import Scene
from afmid.simulate.tip import Tip
from afmid.units import COULOMB

if TYPE_CHECKING:
    import pyopencl as cl

KINDS = {"cpu": "cpu", "cuda": "gpu", "mps": "gpu"}  # of OpenCL device, for the devices that afmid names
SLOW = 120.0  # s: a driver may compile for a while when it meets the kernels first
SYSTEM = Path("/etc/OpenCL/vendors")
UNTRIED = "not tried"
_TRYING = "is being tried out"


@dataclass(frozen=True)
class Found:
    """An OpenCL device; `failure` says why it is of no use or UNTRIED, "" where it computes right."""

    name: str
    kind: str
    platform: str
    compute_units: int
    failure: str = ""


@cache
def try_out(name: str = "") -> tuple[Found, ...]:
    """Return the OpenCL devices of this machine, the most promising first, each tried out in another process.

    Once one of a kind works, the others of that kind are not tried. With a `name` only those are that bear it.

    Raises:
        ImportError: pyopencl is not installed.
        PluginError: OpenCL itself fails; the message says how.
    """
    import pyopencl  # noqa: F401

    known: dict[str, Found] = {}
    while True:
        done_with = [key for key, found in known.items() if found.failure != UNTRIED]
        output, crash = _in_a_process([name, *done_with])
        reports = list(_reports(output))
        known |= {f"{found.platform}/{found.name}": found for found in reports}  # the last word on each
        if not crash:
            return tuple(known.values())
        if not reports or reports[-1].failure != _TRYING:
            raise PluginError(crash)
        key = list(known)[-1]  # which killed the process: what comes after it is tried out in another
        known[key] = replace(known[key], failure=crash)


def _reports(output: bytes) -> Iterator[Found]:
    for line in output.splitlines():  # drivers print other things in between, and one may have died over a line
        if line.startswith(b'{"name":') and line.endswith(b"}"):
            yield Found(**json.loads(line))


def _in_a_process(arguments: Sequence[str]) -> tuple[bytes, str]:
    """Return what trying out the devices printed, and how it ended before its time or ""."""
    command = [sys.executable, "-P", "-m", "afmid.simulate.opencl_device", *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SLOW, check=False)
    except subprocess.TimeoutExpired as error:
        return error.stdout or b"", f"no answer within {SLOW:.0f} s"
    if done.returncode < 0:
        names = {signal_.value: signal_.name for signal_ in signal.Signals}
        return done.stdout, f"crashes with {names.get(-done.returncode, f'signal {-done.returncode}')}"
    last = done.stderr.decode(errors="replace").strip().split("\n")[-1] if done.returncode else ""
    return done.stdout, last or ("fails" if done.returncode else "")


def choose(device: str = "cpu", name: str = "") -> Found:
    """Return the device to compute on: the first that works, of the kind that goes with `device`.

    Args:
        device: cpu, cuda or mps; the latter two mean a GPU.
        name: part of the name of an OpenCL device or platform, any kind; "" leaves the choice open.

    Raises:
        ImportError: pyopencl is not installed.
        PluginError: no such device works; the message says why.
        UsageError: no device bears that name.
    """
    try:
        devices = try_out(name)
    except PluginError as error:
        raise PluginError(f"OpenCL does not work here: {error}; see: afmid doctor") from error
    kind = KINDS[device]
    fitting = [d for d in devices if (_bears(d, name) if name else d.kind == kind)]
    if working := [d for d in fitting if not d.failure]:
        return working[0]
    if fitting:
        raise PluginError(f"OpenCL on {fitting[0].name}: {fitting[0].failure}; see: afmid doctor")
    if not name:
        raise PluginError(f"OpenCL finds no {kind}; see: afmid doctor")
    there = ", ".join(f"{d.name} ({d.platform})" for d in devices) or "none"
    raise UsageError(f"no OpenCL device {name!r}; there are: {there}; see: afmid doctor")


def open_device(found: Found) -> "cl.Context":
    """Return an OpenCL context on a device."""
    import pyopencl as cl

    return cl.Context([device for device in _devices() if _describe(device) == replace(found, failure="")][:1])


@contextmanager
def _drivers() -> Iterator[None]:
    """Let the loader find Intel's CPU driver, which pip installs where no loader looks, beside the system's drivers."""
    ours = _pip_driver()
    if ours is None or "OCL_ICD_VENDORS" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, driver in enumerate([str(ours), *(path.read_text() for path in sorted(SYSTEM.glob("*.icd")))]):
            Path(folder, f"{number:02}.icd").write_text(driver)
        os.environ["OCL_ICD_VENDORS"] = folder
        try:
            yield
        finally:
            del os.environ["OCL_ICD_VENDORS"]


def _pip_driver() -> Path | None:
    try:
        installed = files("intel-opencl-rt") or []
    except PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).resolve() for file in installed if file.name == "libintelocl.so"), None)


@cache
def _devices() -> tuple["cl.Device", ...]:
    """Return the devices of all platforms; drivers that know new processors come before pocl."""
    import pyopencl as cl

    platforms: list[cl.Platform] = []
    with _drivers(), suppress(cl.LogicError):  # which says that there are none
        platforms = cl.get_platforms()
    platforms.sort(key=lambda platform: "Portable" in platform.name)
    unique: dict[tuple[str, str], cl.Device] = {}
    for platform in platforms:
        with suppress(cl.Error):  # a platform that fails to tell its devices has none
            unique |= {(platform.name, device.name): device for device in platform.get_devices()}
    return tuple(device for device in unique.values() if device.available and "FPGA" not in device.platform.name)


def _describe(device: "cl.Device") -> Found:
    import pyopencl as cl

    kinds = cl.device_type
    kind = "gpu" if device.type & kinds.GPU else "cpu" if device.type & kinds.CPU else "accelerator"
    return Found(device.name.strip(), kind, device.platform.name.strip(), device.max_compute_units)


def _works(context: "cl.Context") -> str:
    """Return why a device does not simulate right, "" where it does: a charged carbon atom under a CO tip."""
    from afmid.simulate.opencl_kernels import Kernels, record

    atom = Molecule(np.array([6]), np.zeros((1, 3)), np.array([0.3]))
    scene = Scene(atom, Tip(), np.zeros(1), np.zeros(1), np.array([4.0, 3.4, 3.1]))
    expected, _ = forces(scene)
    (radius,), (depth,) = lennard_jones([6])
    probe_radius, probe_depth = lennard_jones(scene.tip.number)
    reach6 = (radius + probe_radius) ** 6
    c6 = 2 * np.sqrt(depth * probe_depth) * reach6
    tip = scene.tip
    coefficients = [0, 0, 0, 6 * c6, 6 * c6 * reach6, 0, COULOMB * 0.3 * tip.quadrupole]
    springs = [[tip.lateral_stiffness, tip.radial_stiffness, tip.length, *tip.rest]]
    values, unsettled = Kernels(context).scan(
        record([coefficients]), np.array([0, 1]), np.array(springs),
        scene.x[None], scene.y[None], scene.z[None], np.ones(1),
    )  # fmt: skip
    if unsettled.any() or not np.allclose(values.ravel(), expected.ravel(), rtol=1e-4, atol=1e-6):
        return "computes wrong forces"
    return ""


def _main(name: str, *skipped: str) -> None:
    """Try out the devices, as `try_out` says, but for those that are skipped; print what became of each."""
    working: set[str] = set()
    for device in _devices():
        found = _describe(device)
        if f"{found.platform}/{found.name}" in skipped:
            continue
        if not _bears(found, name) or (not name and found.kind in working):
            _say(replace(found, failure=UNTRIED))
            continue
        _say(replace(found, failure=_TRYING))  # the last word, if it kills the process
        try:
            failure = _works(open_device(found))
        except Exception as error:  # whatever a driver comes up with
            failure = " ".join(str(error).split())[:300]
        _say(replace(found, failure=failure))
        if not failure:
            working.add(found.kind)


def _bears(found: Found, name: str) -> bool:
    return name.lower() in f"{found.platform} {found.name}".lower()


def _say(found: Found) -> None:
    print(f"\n{json.dumps(asdict(found))}", flush=True)  # noqa: T201


if __name__ == "__main__":
    _main(*sys.argv[1:])
