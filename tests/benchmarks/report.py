"""The machine, tables, and the page of the documentation that they go to."""

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("afmid", "numpy", "torch", "triton", "pyopencl", "intel-opencl-rt", "pocl-binary-distribution", "ppafm")


def machine(opencl: str = "", device: str = "cpu") -> dict[str, str]:
    """Return what the figures depend on besides the program."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    vectors = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in text), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "Processor": f"{model[1] if model else platform.processor()}, {cores} cores{vectors and ', ' + vectors}",
        "OpenCL": opencl,
        "GPU": _gpu() if device == "cuda" else "",
        "Versions": ", ".join([f"Python {platform.python_version()}", *_versions()]),
        "Date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name()


def _versions() -> Iterable[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def short(value: float | None) -> str:
    """Return a number with two or three digits that count, "–" for none."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}".replace("e-0", "e-")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, numbers to the right."""
    rule = ["---" if i == 0 else "--:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def parser(about: str | None, timed: bool = True) -> argparse.ArgumentParser:
    """Return a parser of the options that the benchmarks share; `timed` ones repeat calls on a device of choice."""
    made = argparse.ArgumentParser(description=about)
    made.set_defaults(device="cpu")
    if timed:
        made.add_argument("--seconds", type=float, default=5.0, help="for how long calls are repeated")
        made.add_argument("--device", choices=("cpu", "cuda", "mps"), help="where to simulate")
    made.add_argument("--json", type=Path, help="file for all figures")
    made.add_argument("--page", type=Path, help="Markdown page whose block is replaced")
    return made


def publish(options: argparse.Namespace, name: str, rows: Sequence[dict[str, Any]], text: str, opencl: str) -> None:
    """Write figures and text where `options` say: as JSON, into the block "name device" of a page, and to stdout."""
    facts = machine(opencl, options.device)
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1))
    text = "\n".join(f"- {fact}: {value}" for fact, value in facts.items()) + f"\n\n{text}"
    sys.stdout.write(text + "\n")
    if options.page:
        _write_block(options.page, f"{name} {options.device}", text)


def _write_block(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end -->` in a page."""
    before, mark, rest = page.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    if not mark:
        raise SystemExit(f"{page} has no line <!-- {name} -->")
    page.write_text(before + mark + "\n" + text + "\n\n" + rest[rest.index("<!-- end -->") :], encoding="utf-8")
