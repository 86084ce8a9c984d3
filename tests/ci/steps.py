"""Reads CI files and runs their steps' commands as a runner would, as far as these files need it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
GOOD = ROOT / "binaries" / "kimage-mmu-4k-gcc.elf"
VERIFY = f"{sys.executable} -m kexec_verify"
DC_CIVAC, NOP = 0xD50B7E20, 0xD503201F


def load(path: Path):
    return YAML(typ="safe").load(path.read_text())


def environment(directory: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "CI"))}
    return {**kept, "HOME": str(directory), **more}


def run(command: list[str], directory: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, env=variables, capture_output=True, text=True, timeout=300, check=False
    )


def filled(text: str, inputs: dict[str, str]) -> str:
    """The text with each ``${{ inputs.NAME }}`` replaced."""
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: inputs[match[1]], text)


def holds(condition: str | None, inputs: dict[str, str], fork: bool = False) -> bool:
    """An ``if:`` made of always(), comparisons of inputs with words, and the test for a fork."""
    for part in (condition or "always()").split(" && "):
        if part == "always()":
            continue
        if part == "github.event.pull_request.head.repo.fork != true":
            if fork:
                return False
            continue
        match = re.fullmatch(r"inputs\.([\w-]+) (==|!=) '(.*)'", part)
        assert match, part
        if (inputs[match[1]] == match[3]) != (match[2] == "=="):
            return False
    return True


def broken(path: Path) -> Path:
    """A copy of the shipped routine without its ``dc civac``."""
    data = GOOD.read_bytes()
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
    (index,) = (i for i, word in enumerate(words) if word & ~0x1F == DC_CIVAC)
    path.write_bytes(data[: 4 * index] + NOP.to_bytes(4, "little") + data[4 * index + 4 :])
    return path
