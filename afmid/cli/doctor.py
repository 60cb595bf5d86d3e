"""`afmid doctor`: what this machine has, what is missing, and what to do about it."""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

import afmid
from afmid import weights
from afmid.cli.options import Json, registry
from afmid.cli.output import one_line, print_json, print_table
from afmid.errors import AfmidError, PluginError
from afmid.mirror import without_password
from afmid.simulate.opencl_device import UNTRIED, try_out

# Each probe runs in a process of its own, so that a driver that crashes or hangs takes nothing with it. It prints one
# JSON object per finding.
PACKAGES = """
import importlib, json
from importlib.metadata import version
for name, module in (("numpy", "numpy"), ("scipy", "scipy"), ("ase", "ase"), ("rdkit", "rdkit.Chem"),
                     ("matplotlib", "matplotlib"), ("safetensors", "safetensors"), ("pooch", "pooch")):
    print(json.dumps({"name": name, "version": None, "failure": None}), flush=True)  # the last word, if it crashes
    try:
        importlib.import_module(module)
        print(json.dumps({"name": name, "version": version(name), "failure": ""}), flush=True)
    except Exception as error:
        print(json.dumps({"name": name, "version": None, "failure": f"{type(error).__name__}: {error}"}), flush=True)
"""
TORCH = """
import json, torch
print(json.dumps({"torch": torch.__version__}), flush=True)
names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
for name in ["cpu", *names, *(["mps"] if torch.backends.mps.is_available() else [])]:
    found = {"name": name, "failure": ""}
    try:
        torch.ones(2, device=name).sum().item()
        if name == "cpu":
            found["threads"] = torch.get_num_threads()
        if name in names:
            card = torch.cuda.get_device_properties(name)
            found.update(hardware=card.name, memory_bytes=card.total_memory)
    except Exception as error:
        found["failure"] = f"{type(error).__name__}: {error}"
    print(json.dumps(found), flush=True)
"""
SLOW = 120.0  # s; the first import of torch on a cold network disk takes long, as does a driver's first compilation


@dataclass
class Report:
    """What was found, what keeps afmid from working, and what could be better."""

    found: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def doctor(json_: Json = False) -> None:
    """Examine the installation: versions, plugins, devices, OpenCL, the cache and the weights.

    The exit code is 1 where something needed is broken, and 0 where only optional things are missing.

    \b
    afmid doctor
    afmid doctor --json
    """
    report = Report({"afmid": afmid.__version__, "python": platform.python_version(), "platform": platform.platform()})
    with ThreadPoolExecutor() as pool:
        packages, torch = pool.map(probe, (PACKAGES, TORCH), (SLOW, SLOW))
        opencl = pool.submit(_opencl)
    _packages(report, *packages)
    _torch(report, *torch)
    _add_opencl(report, *opencl.result())
    _plugins_and_weights(report)
    _cache(report)
    if json_:
        print_json({**report.found, "problems": report.problems, "hints": report.hints})
    else:
        _show(report)
    if report.problems:
        raise typer.Exit(1)


def probe(code: str, timeout: float) -> tuple[list[dict[str, Any]], str]:
    """Run Python code in a process of its own; return the JSON objects it printed, and how it failed or ""."""
    command = [sys.executable, "-P", "-c", code]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        return _objects(error.stdout or b""), f"no answer within {timeout:.0f} s"
    failure = ""
    if done.returncode < 0:
        failure = f"crashes with {signal.Signals(-done.returncode).name}"
    elif done.returncode:
        failure = (done.stderr.decode(errors="replace").split("\n")[-2:] or [""])[0].strip() or "fails"
    return _objects(done.stdout), failure


def _objects(output: bytes) -> list[dict[str, Any]]:
    """Return the lines that are JSON objects; drivers print other things in between."""
    found = []
    for line in output.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _packages(report: Report, found: list[dict[str, Any]], failure: str) -> None:
    packages = {item["name"]: item for item in found}  # the last word on each
    report.found["packages"] = {name: item["version"] for name, item in packages.items()}
    for name, item in packages.items():
        if why := failure if item["failure"] is None else item["failure"]:
            report.problems.append(f"{name} cannot be imported: {why}; install it again: pip install {name}")


def _torch(report: Report, found: list[dict[str, Any]], failure: str) -> None:
    versions = [item["torch"] for item in found if "torch" in item]
    report.found["packages"]["torch"] = versions[0] if versions else None
    report.found["devices"] = [item for item in found if "name" in item]
    if not versions:
        report.problems.append(f"torch cannot be imported: {failure}; see https://pytorch.org/get-started/locally")
    elif failure:
        report.hints.append(f"looking for devices, torch {failure}; update the driver, or use --device cpu")
    for item in report.found["devices"]:
        if item["failure"]:
            report.hints.append(f"{item['name']} is there but does not work: {item['failure']}; use --device cpu")


def _opencl() -> tuple[str | None, list[dict[str, Any]], str]:
    """Return the version of pyopencl, the devices, and what keeps OpenCL from working or ""."""
    try:
        found = version("pyopencl")
        return found, [asdict(device) for device in try_out()], ""
    except (PackageNotFoundError, ImportError):
        return None, [], "pyopencl is not installed"
    except PluginError as error:
        return found, [], str(error)


def _add_opencl(report: Report, found: str | None, devices: list[dict[str, Any]], failure: str) -> None:
    report.found["opencl"] = {"pyopencl": found, "devices": devices, "failure": failure}
    cure = "a driver for the CPU: pip install 'afmid[opencl]'; until then torch simulates"
    if folder := os.environ.get("OCL_ICD_VENDORS"):
        cure = f"OCL_ICD_VENDORS has it look for drivers in {folder} alone; until that is mended torch simulates"
    if not found:
        report.hints.append("OpenCL simulates faster on a CPU, and is optional: pip install 'afmid[opencl]'")
    elif failure:
        report.hints.append(f"OpenCL does not work: {failure}; {cure}")
    elif not devices:
        report.hints.append(f"OpenCL finds no device; {cure}")
    works = any(not item["failure"] for item in devices)
    for item in devices:
        if item["failure"] not in ("", UNTRIED):
            name, then = f"{item['name']} ({item['platform']})", "another device does" if works else cure
            report.hints.append(f"OpenCL on {name} does not work: {item['failure']}; {then}")


def _plugins_and_weights(report: Report) -> None:
    report.found |= {"plugins": [], "weights": []}
    try:
        known = registry()
    except AfmidError as error:
        report.problems.append(str(error))
        return
    keys = ("name", "distribution", "version", "failure")
    report.found["plugins"] = [{key: getattr(plugin, key) for key in keys} for plugin in known.plugins]
    for plugin in known.plugins:
        if plugin.failure:
            cure = f"update or uninstall {plugin.distribution or plugin.module}"
            report.hints.append(f"plugin {plugin.name!r} is left out: {plugin.failure}; {cure}")
    for entry in weights.available(known):
        _weights(report, entry)
    if not report.found["weights"]:
        report.hints.append("no installed plugin brings weights; make some: afmid train METHOD")


def _weights(report: Report, entry: weights.WeightsEntry) -> None:
    cache = weights.cache_folder(os.environ)
    copies = weights.copies(entry, cache)
    report.found["weights"].append({"name": entry.name, "state": weights.state(entry, cache)})
    usable = any(copy.good for copy in copies)
    (report.hints if usable else report.problems).extend(copy.fault for copy in copies if not copy.good)
    if not copies:
        report.hints.append(f"weights {entry.name!r} are not on this machine: afmid weights fetch {entry.name}")


def _cache(report: Report) -> None:
    folder = weights.cache_folder(os.environ).absolute()
    mirror = weights.mirror_url(os.environ)
    failure = _write_failure(folder)
    report.found["cache"] = {"folder": str(folder), "writable": not failure, "failure": failure}
    report.found["mirror"] = without_password(mirror) if mirror else None
    if failure:
        report.hints.append(f"the cache {folder} cannot be written: {failure}; set AFMID_CACHE to another folder")


def _write_failure(folder: Path) -> str:
    """Say why nothing can be written into a folder, or the first one above it that exists; "" where it can."""
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _show(report: Report) -> None:
    found = report.found
    opencl, cache = found["opencl"], found["cache"]
    rows = [
        ("afmid", f"{found['afmid']}, Python {found['python']}, {found['platform']}"),
        ("packages", ", ".join(f"{name} {version or 'BROKEN'}" for name, version in found["packages"].items())),
        *(("plugin", _plugin(item)) for item in found["plugins"]),
        *(("device", _device(item)) for item in found["devices"]),
        ("opencl", f"pyopencl {opencl['pyopencl']}" if opencl["pyopencl"] else "not available"),
        *(("opencl", _opencl_device(item)) for item in opencl["devices"]),
        ("cache", f"{cache['folder']} ({'writable' if cache['writable'] else 'NOT writable'})"),
        *([("mirror", found["mirror"])] if found["mirror"] else []),
        *(("weights", f"{item['name']}: {item['state']}") for item in found["weights"]),
    ]
    print_table(("", ""), rows)
    for text in report.problems:
        typer.echo(f"problem: {one_line(text)}")
    for text in report.hints:
        typer.echo(f"hint: {one_line(text)}")


def _plugin(item: dict[str, str]) -> str:
    return f"{item['name']} ({item['distribution']} {item['version']})" + (", FAILED" if item["failure"] else "")


def _opencl_device(item: dict[str, Any]) -> str:
    state = {"": "", UNTRIED: f", {UNTRIED}"}.get(item["failure"], ", FAILED")
    return f"{item['name']} ({item['kind']}, {item['compute_units']} compute units, {item['platform']}){state}"


def _device(item: dict[str, Any]) -> str:
    details = [f"{item['threads']} threads"] if "threads" in item else []
    details += [item["hardware"], f"{item['memory_bytes'] / 2**30:.0f} GiB"] if "hardware" in item else []
    details += ["FAILED"] if item["failure"] else []
    return f"{item['name']} ({', '.join(details)})" if details else f"{item['name']}"
