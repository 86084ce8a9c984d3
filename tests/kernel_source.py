"""A kernel's source and the objects of kexec's code built from it, for tests that compile it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "linux-source-6.12"


def builder() -> ModuleType:
    """scripts/build-configurations.py as a module."""
    path = ROOT / "scripts" / "build-configurations.py"
    spec = importlib.util.spec_from_file_location("build_configurations", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def kernel_tree(folder: Path) -> Path:
    """An unpacked tree: that of KEXEC_VERIFY_LINUX, or of Debian's package, fetched to ``folder``."""
    given = os.environ.get("KEXEC_VERIFY_LINUX")
    if given:
        return Path(given)
    run(["apt-get", "download", "-q", PACKAGE], folder)
    (package,) = folder.glob("*.deb")
    run(["dpkg-deb", "-x", str(package), "unpacked"], folder)
    run(["tar", "-xJf", f"unpacked/usr/src/{PACKAGE}.tar.xz"], folder)
    return folder / PACKAGE


def run(command: list[str], folder: Path) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
