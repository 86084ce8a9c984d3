"""What decides a verdict beside the bytes that are verified: this tool's own files and its engines."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import specs
import verify

ENGINES = ("angr", "pypcode", "z3-solver", "bitwuzla", "unicorn", "networkx")
_COMPILED = "__pycache__"


def engine_versions() -> dict[str, str]:
    """The versions of the packages that proofs are made with; ``missing`` where one is not installed."""
    found = {"python": platform.python_version()}
    for package in ENGINES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


@functools.cache
def tool_digest() -> str:
    """SHA-256, in hexadecimal, of the tool's version, every file of its own, and its engines' versions."""
    digest = hashlib.sha256(verify.__version__.encode())
    for package in (verify, specs):
        for folder in map(Path, package.__path__):
            for source in sorted(folder.rglob("*")):
                if source.is_file() and _COMPILED not in source.parts:
                    digest.update(f"{source.relative_to(folder)}\0".encode() + source.read_bytes())
    digest.update(repr(sorted(engine_versions().items())).encode())
    return digest.hexdigest()
