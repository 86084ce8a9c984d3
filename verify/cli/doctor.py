"""What the commands need of the machine, and what it has."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


@dataclass(frozen=True)
class Check:
    """One thing that a command needs.

    :param needed: ``verify run`` cannot do without it.
    :param detail: its version or path; if it is missing, how to install it.
    :param used_by: which commands need it, and for what.
    """

    name: str
    found: bool
    needed: bool
    detail: str
    used_by: str = ""


_INSTALL = "pip install --force-reinstall kexec-verify, or make verify in a checkout"
_PACKAGES = {
    "angr": "run: lifts instructions and holds terms",
    "pypcode": "run: lifts instructions",
    "z3-solver": "run, check: finds each proof",
    "bitwuzla": "run, check: confirms each proof",
    "unicorn": "run, replay, cosim: runs the kernel's own instructions",
    "networkx": "run: control-flow graphs",
    "pyelftools": "run: reads ELF files",
    "capstone": "run: disassembly",
}
_TOOLS = {
    "apt-get": ("debian: targets, sweep: fetches packages", "apt"),
    "apt-cache": ("debian: targets, sweep: finds packages", "apt"),
    "dpkg-deb": ("debian: targets, sweep: unpacks packages", "dpkg"),
    "qemu-system-aarch64": ("live, replay --full-system, mutate --second-judge", "qemu-system-arm"),
    "cadical": ("check --certify", "cadical"),
    "aarch64-linux-gnu-gcc": ("building kernels and binaries/", "gcc-aarch64-linux-gnu"),
    "clang": ("building binaries/ with clang", "clang"),
}
"""What each tool is used for, and the Debian package that has it."""
_OPTIONAL = {
    "cvc5": ("check --cvc5", "cvc5"),
    "distributed": ("run --scheduler", "'kexec-verify[dask]'"),
}
"""What each module is used for, and what pip installs it."""


def examine() -> Iterator[Check]:
    """Yield a check for Python, each package, each module and each tool."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    yield Check(
        "python", sys.version_info >= (3, 12), True, f"{found}, at least 3.12 is needed", "every command"
    )
    for package, use in _PACKAGES.items():
        try:
            yield Check(package, True, True, version(package), use)
        except PackageNotFoundError:
            yield Check(package, False, True, _INSTALL, use)
    try:
        shadowing = version("claripy")
        detail = f"{shadowing} from PyPI shadows angr's own: pip uninstall claripy"
        yield Check("claripy", False, True, detail, "run: terms")
    except PackageNotFoundError:
        yield Check("claripy", True, True, "inside angr", "run: terms")
    for module, (use, install) in _OPTIONAL.items():
        is_there = find_spec(module) is not None
        yield Check(module, is_there, False, "installed" if is_there else f"pip install {install}", use)
    for tool, (use, package) in _TOOLS.items():
        path = shutil.which(tool)
        yield Check(tool, path is not None, False, path or f"apt-get install {package}", use)
