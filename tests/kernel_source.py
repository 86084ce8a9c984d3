"""A kernel's source and the objects of kexec's code built from it, for tests that compile it."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "linux-source-6.12"


@dataclass(frozen=True)
class Fault:
    """One wrong line of source.

    :param file: its path in the tree.
    :param old: a pattern of what ``new`` replaces, in the line ``number`` (from 0) of those that it matches.
    """

    file: str
    old: str
    new: str
    number: int = 0


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
    _run(["apt-get", "download", "-q", PACKAGE], folder)
    (package,) = folder.glob("*.deb")
    _run(["dpkg-deb", "-x", str(package), "unpacked"], folder)
    _run(["tar", "-xJf", f"unpacked/usr/src/{PACKAGE}.tar.xz"], folder)
    return folder / PACKAGE


def faulty_kernel(fault: Fault, tree: Path, out: Path, name: str, place: Path) -> tuple[Path, int]:
    """Link the objects of a configuration with one of them compiled from a source with the fault.

    :param out: where the configuration was built, as the last one of its toolchain.
    :param name: of the configuration.
    :param place: an empty folder for what is made.
    :returns: the linked file, and the number of the wrong line.
    """
    module = builder()
    toolchain = module.CONFIGURATIONS[name].toolchain
    built = out / toolchain
    source, line = _seeded(fault, tree, place)
    path = Path(fault.file).with_suffix(".o")
    saved = (built / path.parent / f".{path.name}.cmd").read_text().splitlines()[0]
    command = shlex.split(saved.partition(":= ")[2].partition(" ; ")[0])
    origin = tree.resolve() / fault.file
    assert command[-1] == str(origin)
    command[command.index("-o") + 1] = str(place / path.name)
    command[-1:] = ["-iquote", str(origin.parent), str(source)]
    _run(command, built)
    objects = [str(place / path.name) if Path(each) == path else each for each in module.OBJECTS]
    linked = place / f"{name}.elf"
    script = ["sh", str(ROOT / "scripts" / "link-objects.sh"), str(linked), module.LAYOUT, *objects]
    linker = "ld.lld-19" if toolchain == "clang" else "aarch64-linux-gnu-ld"
    _run(script, built, CROSS_COMPILE="aarch64-linux-gnu-", RELOCATABLE_LD=linker)
    return linked, line


def _seeded(fault: Fault, tree: Path, place: Path) -> tuple[Path, int]:
    """The file with the fault, and the number of the line that has it."""
    lines = (tree / fault.file).read_text().splitlines()
    found = [i for i, line in enumerate(lines) if re.search(fault.old, line)]
    assert len(found) > fault.number, "the pattern matches no line of this source"
    at = found[fault.number]
    lines[at] = re.sub(fault.old, fault.new, lines[at])
    path = place / Path(fault.file).name
    path.write_text("\n".join(lines) + "\n")
    return path, at + 1


def _run(command: list[str], folder: Path, **variables: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, **variables}
    )
    assert done.returncode == 0, done.stderr
