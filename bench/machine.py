"""What the machine is that a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("angr", "z3-solver", "bitwuzla", "pypcode", "matplotlib")


def describe(cbmc: str | None) -> dict[str, object]:
    """CPU, cores, memory (GiB), load average before the run, and versions.

    :param cbmc: its command, if there is one.
    """
    load = os.getloadavg()
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    versions = {name: _version(name) for name in _PACKAGES}
    versions["cbmc"] = _output([cbmc, "--version"]) if cbmc else "not installed"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory": round(pages * size / 2**30, 1),
        "load": [round(value, 2) for value in load],
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _output(["git", "rev-parse", "--short", "HEAD"]),
        "versions": versions,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
