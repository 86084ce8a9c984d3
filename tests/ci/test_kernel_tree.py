"""The recipe for a kernel tree: the docs' own lines, run in a tree that makes the objects as kbuild would."""

from __future__ import annotations

import shutil
import sys

import pytest

from verify.report.read import read_run

from . import steps
from .steps import ROOT

MAKEFILE = """\
ifneq ($(ARCH),arm64)
$(error expected ARCH=arm64)
endif
defconfig: ; touch .config
arch/arm64/kernel/%.o: arch/arm64/kernel/%.S .config ; $(CROSS_COMPILE)gcc -g -DPAGE_SHIFT=12 -c $< -o $@
"""


def recipe():
    text = (ROOT / "docs" / "ci.md").read_text()
    block = text.split("<!-- test: kernel tree -->\n```sh\n")[1].split("```")[0]
    return block.splitlines()


@pytest.fixture
def tree(tmp_path, require_tool):
    require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    require_tool("aarch64-linux-gnu-ld", "binutils-aarch64-linux-gnu")
    require_tool("make", "make")
    place = tmp_path / "arch" / "arm64" / "kernel"
    place.mkdir(parents=True)
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (source,) = (ROOT / "binaries" / "src" / "kimage-mmu").glob("*.S")
    for header in (ROOT / "binaries" / "src").rglob("*.h"):
        shutil.copy(header, place)
    shutil.copy(source, place / "relocate_kernel.S")
    (place / "machine_kexec.S").write_text(".globl machine_kexec\nmachine_kexec: b cpu_soft_restart\n")
    (tmp_path / "verify").write_text(f'#!/bin/sh\nexec {sys.executable} -m verify "$@"\n')
    (tmp_path / "verify").chmod(0o755)
    return tmp_path


@pytest.mark.toolchain
def test_lines_of_the_docs(tree):
    variables = steps.environment(tree)
    variables["PATH"] = f"{tree}:{variables['PATH']}"
    for line in recipe():
        done = steps.run(["sh", "-ec", line], tree, variables)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert done.stdout == ""  # the kernel's style: silence is good
    assert read_run(tree / "reports" / "kexec.elf" / "run.json").complete
