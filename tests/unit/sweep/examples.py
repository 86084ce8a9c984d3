"""Packages, and rows made from runs by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from kexec_verify.report.model import Run
from kexec_verify.sweep.model import Row
from kexec_verify.sweep.rows import Cost, row_of
from kexec_verify.target.debian import Package

from ..html import example

TOOL = "70" * 32


def package(name: str = "6.1.0-56-arm64", version: str = "6.1.192-2", size: int = 1 << 20) -> Package:
    """A package whose hash is that of its name and version."""
    digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    return Package(f"linux-image-{name}", version, digest, size)


def finished(reports: Path, package: Package, run: Run | None = None, **changed: Any) -> Row:
    """A row, with its run.json written where it belongs."""
    made = run or example.run(example.claim("reloc-step"), name=package.package)
    path = reports / package.package / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(made))
    row = row_of(package, TOOL, made, path, Cost(12.5, 400))
    return msgspec.structs.replace(row, **changed)
