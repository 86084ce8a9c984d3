"""Examples in docstrings do what they show; test_api.py runs those of the Python interface."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import kexec_verify
import pytest

ROOT = Path(kexec_verify.__file__).resolve().parent
EXAMPLES = [
    path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text() and path.name != "api.py"
]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings(path):
    name = ".".join(("kexec_verify", *path.relative_to(ROOT).with_suffix("").parts))
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0 and found.failed == 0
