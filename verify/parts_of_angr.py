"""The parts of angr that are used: claripy, and the meaning of p-code operations.

``import angr`` loads all of angr's analyses, which takes seconds. These parts load in a tenth of a
second, without the package's own ``__init__``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

_PACKAGES = ("angr", "angr.engines", "angr.engines.pcode")
_COMPILED = "angr.rustylib"  # can be loaded once in a process


def _load() -> tuple[ModuleType, ModuleType]:
    """Return claripy and angr's module of p-code behaviours.

    Each package is replaced by an empty one while its modules are imported. Afterwards only the
    compiled module stays in sys.modules, so a program that imports angr itself gets all of it.

    :raises ImportError: if angr is not installed.
    """
    if "angr" in sys.modules:
        claripy = importlib.import_module("angr.claripy")
        return claripy, importlib.import_module("angr.engines.pcode.behavior")
    before = set(sys.modules)
    try:
        root = _empty(_PACKAGES[0])
        importlib.import_module("angr._z3").load()  # the library that the compiled module needs
        claripy = importlib.import_module(_COMPILED).claripy
        root.claripy = claripy  # type: ignore[attr-defined]
        for name in [name for name in sys.modules if name.startswith(f"{_COMPILED}.claripy")]:
            sys.modules[f"angr{name.removeprefix(_COMPILED)}"] = sys.modules[name]
        sys.modules["angr.claripy"] = claripy
        for name in _PACKAGES[1:]:
            _empty(name)
        return claripy, importlib.import_module("angr.engines.pcode.behavior")
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "angr" and not name.startswith(_COMPILED):
                del sys.modules[name]


def _empty(name: str) -> ModuleType:
    """Put a package without contents in the place of the installed one, and return it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"expected the package {name}, found none", name=name)
    package = ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package
    return package


claripy, behavior = _load()
