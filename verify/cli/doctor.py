"""What a run, the tests and the reports need of the machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Check:
    """One thing looked for; ``needed`` if ``verify run`` cannot do without it."""

    name: str
    found: bool
    needed: bool
    detail: str


_PACKAGES = ("angr", "pypcode", "z3-solver", "bitwuzla", "unicorn", "networkx", "pyelftools", "capstone")
_TOOLS = (
    ("apt-get", "fetches debian:PACKAGE targets"),
    ("dpkg-deb", "unpacks debian:PACKAGE targets"),
    ("cadical", "certificates of `verify check --certify`; Debian package cadical"),
    ("aarch64-linux-gnu-gcc", "rebuilds binaries/; Debian package gcc-aarch64-linux-gnu"),
)


def examine() -> Iterator[Check]:
    """Each check in turn."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    yield Check("python", sys.version_info >= (3, 12), True, f"{found}, at least 3.12 is needed")
    for package in _PACKAGES:
        try:
            yield Check(package, True, True, version(package))
        except PackageNotFoundError:
            yield Check(package, False, True, "run scripts/bootstrap.sh")
    try:
        beside = version("claripy")
        yield Check("claripy", False, True, f"{beside} from PyPI shadows angr's own: pip uninstall claripy")
    except PackageNotFoundError:
        yield Check("claripy", True, True, "inside angr")
    for tool, use in _TOOLS:
        path = shutil.which(tool)
        yield Check(tool, path is not None, False, path or use)
