"""The concrete ghost state against the rules that the proof uses."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from kexec_verify.arm64 import system
from kexec_verify.arm64.cache import CTR_EL0
from kexec_verify.arm64.state import SYSTEM, State
from kexec_verify.kexec.abi_variant import entry_state
from kexec_verify.logic import claripy, const, constant
from kexec_verify.memory import Unknown
from kexec_verify.refute.ghost import CLEAN, DIRTY, LOST, PENDING, Ghost, cacheable

PAGE, BASE = 4096, 0x8000
ON, OFF = 0x34F4D91D, 0x30D00800


class Initial:
    """Line states at entry as a function of constant addresses."""

    def read(self, address):
        return const(DIRTY if constant(address) & -PAGE == BASE else CLEAN, 2)


def concrete(term):
    """The value of a term in which only CTR_EL0 is unknown, for lines of 64 bytes."""
    return constant(claripy.replace(term, CTR_EL0, const(4 << 16)))


def start(sctlr: int) -> State:
    entry = entry_state()
    registers = {**entry.registers, **{name: const(0) for name in SYSTEM}, "sctlr_el1": const(sctlr)}
    ghosts = {
        "unsynced": const(1, 1),
        "unfinished": const(1, 1),
        "icache": const(2, 2),
        "translation": const(0, 3),
    }
    return State(registers, ghosts, Unknown("M"), Initial())


@pytest.mark.parametrize("seed", range(40))
def test_ghost_state_follows_the_rules_of_the_proof(seed):
    numbers = random.Random(seed)
    state = start(numbers.choice((ON, OFF)))
    ghost = Ghost(64, {BASE}, PAGE)
    for _ in range(25):
        cached = cacheable(constant(state.registers["sctlr_el1"]))
        address = BASE + numbers.randrange(0, 2 * PAGE, 8) % (PAGE + 256)
        match numbers.choice(
            ("store", "store", "dc", "dc", "dsb", "dsb", "isb", "ic", "tlbi", "ttbr1", "sctlr")
        ):
            case "store":
                state = system.store(state, const(address), const(8))
                ghost.store(address, 8, cached)
            case "dc":
                name = numbers.choice(("civac", "cvac", "ivac"))
                state = system.MEANING[f"DC_{name.upper()}"](state, (const(address),), 0)
                ghost.maintain(name, address, cached)
            case "dsb":
                domain, types = numbers.randrange(4), numbers.choice((1, 2, 3, 3))
                state = system.dsb(state, (const(domain), const(types), const(0)), 0)
                ghost.dsb(domain, types)
            case "isb":
                state = system.isb(state, (), 0)
                ghost.isb()
            case "ic":
                state = system.ic_iallu(state, (), 0)
                ghost.invalidate_icache()
            case "tlbi":
                state = system.tlbi(state, (), 0)
                ghost.invalidate_tlb()
            case "ttbr1":
                table = numbers.choice((0x1000, 0x2000))
                changed = constant(state.registers["ttbr1_el1"]) != table
                state = system.write_register(state, "ttbr1_el1", const(table))
                ghost.write_register("ttbr1_el1", changed)
            case "sctlr":
                state = system.write_register(state, "sctlr_el1", const(numbers.choice((ON, OFF))))
                ghost.write_register("sctlr_el1")
        for name, term in state.ghosts.items():
            assert getattr(ghost, name) == concrete(term), name
        for word in (address, address & -64, address ^ 8, BASE + 64, BASE + PAGE):
            assert ghost.line(word) == concrete(state.lines.read(const(word))), hex(word)
        state = replace(state, accesses=(), events=())


def test_line_that_was_invalidated_with_the_mmu_on_is_lost():
    ghost = Ghost(64, (), PAGE)
    ghost.store(BASE, 8, cacheable=True)
    ghost.maintain("ivac", BASE + 8, cacheable=True)
    assert ghost.line(BASE) == LOST


def test_nsh_barrier_completes_no_maintenance_by_address():
    ghost = Ghost(64, {BASE}, PAGE)
    ghost.maintain("civac", BASE, cacheable=True)
    ghost.dsb(domain=1, types=3)
    assert ghost.line(BASE) == PENDING
    ghost.dsb(domain=3, types=3)
    assert ghost.line(BASE) == CLEAN
