"""Which tool it is that answers: what was found by another is not believed."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import specs
import verify

_ENGINES = ("angr", "pypcode", "z3-solver", "bitwuzla", "unicorn", "networkx")

_SOURCES = (".py", ".toml")  # a waiver changes what a verdict is worth


@functools.cache
def tool_digest() -> str:
    """A digest of the tool's version, its own sources and the versions of its engines."""
    digest = hashlib.sha256(verify.__version__.encode())
    for package in (verify, specs):
        for folder in map(Path, package.__path__):
            for source in sorted(path for path in folder.rglob("*") if path.suffix in _SOURCES):
                digest.update(f"{source.relative_to(folder)}\0".encode() + source.read_bytes())
    for engine in _ENGINES:
        try:
            digest.update(f"{engine} {version(engine)}\0".encode())
        except PackageNotFoundError:
            digest.update(f"{engine} missing\0".encode())
    return digest.hexdigest()
