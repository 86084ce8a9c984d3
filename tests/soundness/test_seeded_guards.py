"""Each guard of a closed world, taken out of the tool: then a kernel that dies is proved.

Each case is a shipped kernel with a seeded fault. The sound tool does not prove it; with the guard
taken out it does. So nothing else notices that fault, and the tests that use the guard would fail.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
from kexec_verify.arm64 import lift, system
from kexec_verify.arm64 import state as ghost
from kexec_verify.arm64.lift import SIZE
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec import machine_kexec, soft_restart
from kexec_verify.kexec.image_flush import ImageFlush
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.kexec.routine import Routine
from kexec_verify.kexec.soft_restart import SoftRestart
from kexec_verify.logic import TRUE
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Discharger
from kexec_verify.specs import boot_protocol
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.target import Kernel, open_target
from kexec_verify.theorems import has_obligation
from kexec_verify.verdict import Verdict

from tests.conftest import BINARIES
from tests.obligations import context, of_machine_kexec, of_post_load, of_restart, of_restart_in, of_routine

pytestmark = pytest.mark.toolfault

type Patch = tuple[str, int, int]  # symbol, offset, word
type Build = Callable[[Kernel], list[Obligation]]
NOP = 0xD503_201F
WAIVED = "mk-icache-invalid"


@functools.cache
def opened(stem: str) -> Kernel:
    return open_target(str(BINARIES / "whole" / f"{stem}.elf"))


def patched(stem: str, patches: Iterable[Patch]) -> Kernel:
    kernel = opened(stem)
    for name, offset, word in patches:
        symbol = kernel.symbol(name)
        assert symbol is not None
        kernel = kernel.patched(symbol.address + offset, word.to_bytes(SIZE, "little"))
    return kernel


def of_post_load_with_mmu_off(kernel: Kernel) -> list[Obligation]:
    return of_post_load(kernel, mmu_on=False)


def of_restart_outside_the_idmap(kernel: Kernel) -> list[Obligation]:
    found = context(kernel)
    found.globals.addresses["__idmap_text_end"] = found.globals.addresses["__idmap_text_start"]
    return of_restart_in(found)


def of_routine_of_one_flag(kernel: Kernel) -> list[Obligation]:
    return of_routine(kernel, single_flags=True)


def proved(build: Build, kernel: Kernel) -> bool:
    """Every obligation of the function is proved, except for the deviation that all kernels have."""
    try:
        obligations = build(kernel)
    except UnsupportedError:
        return False
    asked = [o for o in obligations if any(has_obligation(claim, o.name) for claim in PROPERTIES.values())]
    results = Discharger().discharge([o for o in asked if o.name != WAIVED])
    return bool(results) and all(result.verdict is Verdict.PROVED for result in results)


@dataclass(frozen=True)
class Case:
    """A guard, how it is taken out, and a fault that it alone notices."""

    build: Build
    patches: tuple[Patch, ...]
    without: Callable[[pytest.MonkeyPatch], None]
    stem: str = "later-4k-gcc"


def nothing(*given: object, **named: object) -> None:
    return None


def no_obligations(*given: object, **named: object) -> list[Obligation]:
    return []


def weak_sctlr(sctlr):
    """What the MMU-off value was before: M, C and EE alone."""
    return (sctlr & (1 << 0 | 1 << 2 | 1 << 25)) == 0


def replaced(place: object, name: str, value: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(place, name, value)


def without_isb_after_invalidation(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ISB is asked for twice: of the cache's own state, and of what awaits a context synchronization."""
    invalidate = system.ic_iallu

    def ic_iallu(state, operands, at):
        return invalidate(state, operands, at).with_ghosts(unsynced=state.ghosts["unsynced"])

    monkeypatch.setattr(ghost, "ICACHE_COMPLETE", ghost.ICACHE_INVALID)
    monkeypatch.setitem(system.MEANING, "IC_IALLU", ic_iallu)


MACHINE_KEXEC, POST_LOAD = "machine_kexec", "machine_kexec_post_load"
ROUTINE, RESTART = "arm64_relocate_new_kernel", "cpu_soft_restart"
LATE_INVALIDATION = (
    0xD281_0005,  # mov x5, #0x800
    0xF2A6_0A05,  # movk x5, #0x3050, lsl #16
    0xD503_3FDF,  # isb
    0xD518_1005,  # msr sctlr_el1, x5
    0xD503_3FDF,  # isb
    0xD508_751F,  # ic iallu
    0xD503_379F,  # dsb nsh
    NOP,
)
CASES = {
    "1 effects of machine_kexec: msr sp_el0, xzr": Case(
        of_machine_kexec,
        ((MACHINE_KEXEC, 0x4, 0xD518_411F),),
        replaced(machine_kexec, "effect_obligations", no_obligations),
    ),
    "1 effects of the restart code: at s1e1r, x0": Case(
        of_restart,
        ((RESTART, 0x0, 0xD508_7800),),
        replaced(soft_restart, "effect_obligations", no_obligations),
    ),
    "2 each access is mapped: ldr x3, [x0] while TTBR1 names the zero page": Case(
        of_routine_of_one_flag,
        ((ROUTINE, 0x38, 0xD518_2021), (ROUTINE, 0x3C, 0xD503_3FDF), (ROUTINE, 0x40, 0xF940_0003)),
        replaced(Routine, "in_context", lambda self, access, *tables: TRUE),
    ),
    "2 the restart code is in the idmap": Case(
        of_restart_outside_the_idmap,
        (),
        replaced(SoftRestart, "_require_idmap", nothing),
    ),
    "3 an unpredictable encoding: ldp x13, x13, [x0]": Case(
        of_machine_kexec,
        ((MACHINE_KEXEC, 0x4, 0xA940_340D),),
        replaced(lift, "illegal", nothing),
    ),
    "4 an ISB after the DSB that completes ic iallu": Case(
        of_routine_of_one_flag,
        tuple((ROUTINE, 0xD8 + SIZE * i, word) for i, word in enumerate(LATE_INVALIDATION)),
        without_isb_after_invalidation,
    ),
    "5 a callee's error is passed on": Case(
        of_post_load,
        ((POST_LOAD, 0xC8, NOP),),
        replaced(PostLoad, "_require_errors", nothing),
    ),
    "5 struct kimage is kept: str xzr, [x20, #8]": Case(
        of_post_load,
        ((POST_LOAD, 0xAC, 0xF900_069F),),
        replaced(PostLoad, "_require_kimage", nothing),
    ),
    "7 a BUG is not reached: the branch to it is taken for one CPU": Case(
        of_machine_kexec,
        ((MACHINE_KEXEC, 0x14C, 0x5400_002D),),  # b.le to the next instruction
        replaced(MachineKexec, "require_brk", nothing),
    ),
    "8 the list is flushed: a page's flush is left out": Case(
        of_post_load_with_mmu_off,
        ((POST_LOAD, 0x158, NOP),),
        replaced(ImageFlush, "require_list", nothing),
        "seed-after-4k-gcc",
    ),
    "13 SCTLR_EL1 is the kernel's value: WXN is set": Case(
        of_restart,
        ((RESTART, 0x8, 0xF2A6_0B09),),
        replaced(boot_protocol, "sctlr_is_off", weak_sctlr),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_without_the_guard_a_faulty_kernel_is_proved(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    kernel = patched(case.stem, case.patches)
    assert not proved(case.build, kernel)
    case.without(monkeypatch)
    assert proved(case.build, kernel)
