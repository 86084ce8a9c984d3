"""Digest everything but the target that a verdict depends on: the tool's files, its engines, Python."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import kexec_verify
from kexec_verify import specs

ENGINES = (
    "angr",
    "pypcode",
    "z3-solver",
    "bitwuzla",
    "unicorn",
    "capstone",
    "pyelftools",
    "networkx",
    "lz4",
    "zstandard",
    "msgspec",
)
"""Packages that a verdict depends on. Packages that these require are included in the digest."""
_COMPILED = "__pycache__"
_SLACK = 2.0  # seconds between the writing of a package's files and of its RECORD, which comes last
_REQUIRES = re.compile(r"^Requires-Dist: *([A-Za-z0-9._-]+)(.*)$", re.MULTILINE)


def engine_versions() -> dict[str, str]:
    """Return the versions of the packages that proofs use; ``missing`` for one that is not installed."""
    found = {"python": platform.python_version()}
    for package in ENGINES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


@functools.cache
def tool_digest() -> str:
    """Return the SHA-256, in hexadecimal, of the tool's version, its files, its engines, and Python."""
    digest = hashlib.sha256(f"{kexec_verify.__version__}\0{sys.version}".encode())
    for package in (kexec_verify, specs):
        for folder in map(Path, package.__path__):
            for source in sorted(_files(folder)):
                if _COMPILED not in source.parts:
                    digest.update(f"{source.relative_to(folder)}\0".encode() + source.read_bytes())
    for part in engine_parts(sys.path):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below *folder*; a link to a folder, as scripts/import-tree.sh makes, is followed."""
    for directory, _, names in os.walk(folder, followlinks=True):
        yield from (Path(directory) / name for name in names)


def engine_parts(path: Iterable[str]) -> Iterator[bytes]:
    """Yield the installed contents of the engines and of all packages that they require, in a fixed order.

    :param path: the folders that Python imports from.
    """
    installed = _installed(path)
    todo, seen = list(ENGINES), set[str]()
    while todo:
        name = _plain(todo.pop())
        if name not in seen:
            seen.add(name)
            if name in installed:
                todo += _required(installed[name])
    for name in sorted(seen):
        yield name.encode()
        yield from _package(installed[name]) if name in installed else (b"missing",)


def _plain(name: str) -> str:
    """Return a package's name in the normal form in which PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(path: Iterable[str]) -> dict[str, Path]:
    """Return the metadata folder of each installed package; of two, the one that Python imports."""
    found: dict[str, Path] = {}
    for folder in path:
        try:
            entries = sorted(entry.name for entry in os.scandir(folder or "."))
        except OSError:
            continue
        for entry in entries:
            if entry.endswith(".dist-info"):
                found.setdefault(_plain(entry.split("-", 1)[0]), Path(folder, entry))
    return found


def _required(metadata: Path) -> list[str]:
    """Return the packages that one requires, without those of its extras."""
    text = (metadata / "METADATA").read_text(errors="replace")
    return [name for name, rest in _REQUIRES.findall(text) if "extra ==" not in rest]


def _package(metadata: Path) -> Iterator[bytes]:
    """Yield the package's RECORD (files and hashes), and each file that was changed after installation."""
    yield metadata.name.encode()
    record = metadata / "RECORD"
    try:
        listed = record.read_bytes()
        last = record.stat().st_mtime + _SLACK
    except OSError:
        yield (metadata / "METADATA").read_bytes()
        return
    yield listed
    base = f"{metadata.parent}/"
    for line in listed.decode(errors="replace").splitlines():
        name = line.rsplit(",", 2)[0].strip('"')
        if name.endswith(".pyc"):
            continue
        try:
            changed = os.stat(base + name).st_mtime > last
        except OSError:
            yield f"{name} is gone".encode()
            continue
        if changed:
            yield name.encode()
            yield Path(base, name).read_bytes()
