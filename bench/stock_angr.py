"""The routine in angr as it comes, without anything of this tool: what a user would try first.

``python -m bench.stock_angr ENGINE BINARY`` runs a list of one page, with addresses that are
constants and contents that are not, and says ``reached`` if control gets to kimage->start; with
a third argument, the address of an instruction, that instruction is a nop first, and ``same`` is
said if the run cannot be told from that of the original. ENGINE is ``vex`` or ``pcode``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import angr
import archinfo
from angr import claripy
from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_INDIRECTION, IND_SOURCE

PAGE = 4096
LIST, DESTINATION, SOURCE, KIMAGE = 0x4001_0000, 0x4800_0000, 0x6000_0000, 0x4000_0000
START = DESTINATION + 0x40
ARCH_OFFSET = 648  # of struct kimage_arch in struct kimage, in the shipped binaries
NOP = 0xD503_201F


def project(engine: str, binary: str) -> Any:
    """angr's project for ``binary``."""
    if engine == "vex":
        return angr.Project(binary, auto_load_libs=False)
    arch = archinfo.ArchPcode("AARCH64:LE:64:v8A")
    return angr.Project(binary, auto_load_libs=False, engine=angr.engines.UberEnginePcode, arch=arch)


def entry(found: Any) -> Any:
    """A state at the routine's entry, with a list of one page."""
    routine = found.loader.find_symbol("arm64_relocate_new_kernel")
    state = found.factory.blank_state(addr=routine.rebased_addr)

    def write(address: int, value: Any) -> None:
        word = claripy.BVV(value, 64) if isinstance(value, int) else value
        state.memory.store(address, word, endness="Iend_LE")

    for i in range(31):
        setattr(state.regs, f"x{i}", claripy.BVS(f"x{i}", 64, explicit_name=True))
    head = LIST | IND_INDIRECTION
    for i, word in enumerate((DESTINATION | IND_DESTINATION, SOURCE | IND_SOURCE, IND_DONE)):
        write(LIST + 8 * i, word)
    for i in range(PAGE // 8):
        write(SOURCE + 8 * i, content(i))
    if "kimage" in str(found.filename):
        write(KIMAGE, head)
        write(KIMAGE + 24, START)
        for field in range(0, 64, 8):
            write(KIMAGE + ARCH_OFFSET + field, 0)
        state.regs.x0 = KIMAGE
    else:
        state.regs.x0, state.regs.x1, state.regs.x2 = head, START, 0
    return state


def content(index: int) -> Any:
    """The unknown word of the source page at ``index``."""
    return claripy.BVS(f"word{index}", 64, explicit_name=True)


def run(engine: str, binary: str, dropped: int | None = None) -> Any:
    """The state in which kimage->start is reached.

    :param dropped: address of an instruction to replace by a nop.
    :raises SystemExit: with angr's own error if it is not reached.
    """
    found = project(engine, binary)
    if dropped is not None:
        found.loader.memory.store(dropped, NOP.to_bytes(4, "little"))
    manager = found.factory.simgr(entry(found))
    manager.explore(find=START)
    for errored in manager.errored:
        raise SystemExit(f"{type(errored.error).__name__} at {errored.state.addr:#x}: {errored.error}")
    if not manager.found:
        raise SystemExit(f"not reached: {manager}")
    return manager.found[0]


def observed(state: Any) -> list[str]:
    """All that a user sees of a final state: each general register, and each word of the destination."""
    registers = [str(getattr(state.regs, f"x{i}")) for i in range(31)]
    words = [state.memory.load(DESTINATION + 8 * i, 8, endness="Iend_LE") for i in range(PAGE // 8)]
    return [*registers, *(str(word) for word in words)]


def copied(state: Any) -> bool:
    """Each word of the destination is that of the source."""
    return all(
        state.solver.is_true(state.memory.load(DESTINATION + 8 * i, 8, endness="Iend_LE") == content(i))
        for i in range(PAGE // 8)
    )


def main(engine: str, binary: str, dropped: int | None) -> int:
    """0 if the run went through and what was asked holds."""
    logging.getLogger("angr").setLevel(logging.CRITICAL)
    logging.getLogger("cle").setLevel(logging.CRITICAL)
    state = run(engine, binary)
    if not copied(state):
        print("reaches kimage->start, but not with the source's content in the destination")
        return 1
    print("reached")
    if dropped is not None:
        print("same" if observed(state) == observed(run(engine, binary, dropped)) else "told apart")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3], 16) if len(sys.argv) > 3 else None))
