"""binaries/build.py as a module: it is a script, and not installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

BINARIES = Path(__file__).resolve().parents[1] / "binaries"


def load_build() -> ModuleType:
    """Return a new module of binaries/build.py."""
    spec = importlib.util.spec_from_file_location("corpus_build", BINARIES / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses looks its module up by name while the class is made.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
