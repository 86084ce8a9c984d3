"""The recipe for a kernel tree: the docs' own lines, run in a tree that makes the objects as kbuild would."""

from __future__ import annotations

import shutil
import sys

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import Composition
from kexec_verify.kexec.locate import find_routine
from kexec_verify.prove.discharge import decide
from kexec_verify.report.read import read_run
from kexec_verify.target import open_target
from kexec_verify.verdict import Verdict

from . import steps
from .steps import ROOT

MAKEFILE = """\
ifneq ($(ARCH),arm64)
$(error expected ARCH=arm64)
endif
defconfig: ; touch .config
arch/arm64/kernel/%.o: arch/arm64/kernel/%.S .config ; $(CROSS_COMPILE)gcc -g -DPAGE_SHIFT=12 -c $< -o $@
"""


# The tree's sources for the whole kexec path, with the corpus file used for each; others are empty.
WHOLE = {
    "arch/arm64/kernel/relocate_kernel.S": "kimage-mmu/relocate_kernel.S",
    "arch/arm64/kernel/machine_kexec.c": "whole/later/machine_kexec.c",
    "arch/arm64/kernel/cpu-reset.S": "whole/later/cpu_soft_restart.S",
    "arch/arm64/kernel/hyp-stub.S": "whole/common/hyp_stub.S",
    "arch/arm64/kernel/cpufeature.c": "",
    "arch/arm64/kernel/cpu_errata.c": "",
    "arch/arm64/mm/trans_pgd-asm.S": "whole/later/trans_pgd_vectors.S",
    "arch/arm64/mm/trans_pgd.c": "whole/later/trans_pgd.c",
    "arch/arm64/mm/cache.S": "whole/later/cache.S",
    "arch/arm64/mm/context.S": "whole/common/switch_mm.S",
    "arch/arm64/mm/proc.S": "",
    "arch/arm64/mm/mmu.c": "whole/common/support.c",
    "arch/arm64/mm/init.c": "whole/later/support.c",
    "arch/arm64/lib/memcpy.S": "whole/common/memcpy.S",
    "kernel/kexec_core.c": "",
}
ABSENT = ("one_elsewhere", "two_elsewhere")
CALLS_ELSEWHERE = (
    "void one_elsewhere(void), two_elsewhere(void); void f(void) { one_elsewhere(); two_elsewhere(); }"
)
WHOLE_MAKEFILE = """\
ifneq ($(ARCH),arm64)
$(error expected ARCH=arm64)
endif
CC = $(CROSS_COMPILE)gcc -g -O2 -ffreestanding -fno-pic -mgeneral-regs-only -DPAGE_SHIFT=12 FLAGS
defconfig: ; touch .config
%.o: %.S .config ; $(CC) -c $< -o $@
%.o: %.c .config ; $(CC) -c $< -o $@
"""
# Aliases of what other objects of a kernel hold, as its linker script has them.
ALIASES = """
jiffies = jiffies_64;
__kvm_nvhe_kvm_patch_vector_branch = kvm_patch_vector_branch;;
PROVIDE(__efistub_screen_info = screen_info);
"""


def block(name):
    text = (ROOT / "docs" / "ci.md").read_text()
    return text.split(f"<!-- test: {name} -->\n```sh\n")[1].split("```")[0]


def recipe():
    return block("kernel tree").splitlines()


def in_path(place):
    """The environment in which ``verify`` is a command, from a folder that gets it."""
    (place / "verify").write_text(f'#!/bin/sh\nexec {sys.executable} -m kexec_verify "$@"\n')
    (place / "verify").chmod(0o755)
    variables = steps.environment(place, KEXEC_VERIFY=str(ROOT))
    return {**variables, "PATH": f"{place}:{variables['PATH']}"}


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
    return tmp_path


@pytest.fixture
def whole_tree(tmp_path, require_tool):
    require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    require_tool("aarch64-linux-gnu-ld", "binutils-aarch64-linux-gnu")
    require_tool("make", "make")
    sources = ROOT / "binaries" / "src"
    for name, own in WHOLE.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text((sources / own).read_text() if own else "")
    (tmp_path / "kernel" / "kexec_core.c").write_text(CALLS_ELSEWHERE)
    folders = sorted({header.parent for header in sources.rglob("*.h") if "seed" not in header.parent.name})
    flags = " ".join(f"-I{folder}" for folder in folders)
    (tmp_path / "Makefile").write_text(WHOLE_MAKEFILE.replace("FLAGS", flags))
    layout = tmp_path / "arch" / "arm64" / "kernel" / "vmlinux.lds"
    layout.write_text((sources / "whole" / "link.ld").read_text() + ALIASES)
    return tmp_path


@pytest.mark.toolchain
def test_lines_of_the_docs(tree):
    variables = in_path(tree)
    for line in recipe():
        done = steps.run(["sh", "-ec", line], tree, variables)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert done.stdout == ""  # the kernel's style: silence is good
    assert read_run(tree / "reports" / "kexec.elf" / "run.json").complete


@pytest.mark.toolchain
def test_objects_linked_by_the_docs_have_the_whole_way(whole_tree):
    text = block("kernel tree, whole kexec path").split("verify run")[0]
    done = steps.run(["sh", "-euc", text], whole_tree, in_path(whole_tree))
    assert done.returncode == 0, (done.stdout, done.stderr)
    kernel = open_target(str(whole_tree / "kexec.elf"))
    routine = find_routine(kernel)
    variant = recognise(Code(routine.name, routine.address, routine.code), kernel.page_size)
    composition = Composition(kernel, variant, routine, decide)
    composition.build()
    assert {name: part.trouble for name, part in composition.parts.items() if part.trouble} == {}
    assert {"machine_kexec", "machine_kexec_post_load", "callee cpu_do_switch_mm"} <= set(composition.parts)
    # What no object holds has a name, a place that nothing else has, and no bytes.
    absent = [kernel.symbol(name) for name in ABSENT]
    assert all(symbol is not None and not kernel.mapped(symbol.address) for symbol in absent)
    assert len({symbol.address >> 16 for symbol in absent}) == len(absent)


@pytest.mark.slow
@pytest.mark.toolchain
def test_lines_of_the_docs_for_the_whole_way(whole_tree):
    text = block("kernel tree, whole kexec path")
    done = steps.run(["sh", "-euc", text], whole_tree, in_path(whole_tree))
    assert done.returncode == 0, (done.stdout, done.stderr)
    run = read_run(whole_tree / "reports" / "kexec.elf" / "run.json")
    assert {record.theorem for record in run.properties} == {*(f"T{i}" for i in range(1, 9)), "T11"}
    assert run.verdict is Verdict.PROVED


def test_script_wants_objects():
    done = steps.run(["sh", str(ROOT / "scripts" / "link-objects.sh"), "out"], ROOT, steps.environment(ROOT))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "link-objects: error: expected OUT, a linker script and objects\n"
