"""Proof obligations of KVM's host vectors, which a crash may find at EL2 in place of the hyp stub (T6).

EL2 runs this code at addresses of its own. The proof runs it where it is linked: the only address that it
forms and uses is the handler's, which it makes a physical one by adding a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import SYSTEM, State, synced
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.calls import stack_obligations
from kexec_verify.kexec.patch_sites import unknown
from kexec_verify.kexec.soft_restart import LEAVES, VECTORS_BYTES, El2Code
from kexec_verify.logic import FALSE, And, Formula, Or, aligned, const, ule, var
from kexec_verify.obligation import Obligation
from kexec_verify.specs import effects
from kexec_verify.specs.hyp_stub import HVC_SOFT_RESTART, LOWER_EL_SYNC, soft_restart
from kexec_verify.specs.kvm_vectors import (
    ESR_HVC,
    HOST_HVC,
    HOST_STACK_BYTES,
    HOST_VECTORS,
    PHYSVIRT_OFFSET,
    STUB_HANDLER,
    el2_mmu_off,
    passes,
    returns_to_el2,
)
from kexec_verify.target import Kernel

_AT_EL1 = ("kvm_get_mode", "kvm_arch_init")  # KVM's, from 5.11 on and before 6.3
_AT_EL2 = (HOST_VECTORS, HOST_HVC, STUB_HANDLER)
AT_EL2 = "kvm-at-el2"
"""The assumption about the machine on which EL2 runs KVM's host vectors."""
ANSWERS = "kvm-answers"
"""The assumption about KVM's host vectors where their code cannot be located."""


def has_kvm(kernel: Kernel) -> bool:
    """Return whether KVM is in *kernel*: it has code of KVM's, for EL1 or for EL2."""
    return any(kernel.has_code(name) for name in (*_AT_EL1, *_AT_EL2))


def is_nameless(kernel: Kernel) -> bool:
    """Return whether none of KVM's code for EL2 has a symbol in *kernel*: kallsyms before 5.12 has none."""
    return not any(kernel.has_code(name) for name in _AT_EL2)


def answers_as_assumed() -> Obligation:
    """Return what is left to say of KVM's answer where its code cannot be located: it is assumed."""
    asked, answered = ({f"x{i}": var(f"x{i} {when}") for i in range(5)} for when in ("asked", "answered"))
    answers = soft_restart(asked, answered, var("where EL2 goes"))
    sentence = "KVM's host vectors answer HVC_SOFT_RESTART as the hyp stub does"
    return Obligation("kvm-answers", sentence, ((ANSWERS, answers),), answers)


@dataclass
class HostVector(El2Code):
    """The proof of KVM's vector for an HVC from the kernel: it passes the call to the handler."""

    uses_stack = True

    @property
    def prefix(self) -> str:
        """Return the prefix of its obligations' names."""
        return "kvm-vector"

    @property
    def start(self) -> int:
        """Return the address of the vector."""
        return self.code.address + LOWER_EL_SYNC

    def code_of(self) -> Code:
        """Return the vectors, with the function that the one for an HVC branches to."""
        kernel, table = self.context.kernel, self.symbol_address(HOST_VECTORS)
        if not kernel.mapped(table, VECTORS_BYTES):
            raise UnsupportedError(f"kernel without the bytes of {HOST_VECTORS}")
        data, patched = kernel.read(table, VECTORS_BYTES), unknown(kernel, table, table + VECTORS_BYTES)
        others = (self.context.plain(HOST_HVC),)
        return Code(HOST_VECTORS, table, data, calls=True, el=2, continuations=others, unknown=patched)

    def entered(self) -> State:
        """Return the state in which EL2 takes the HVC."""
        entry = self.context.bare_entry(HOST_VECTORS)
        entry = entry.with_registers(x0=const(HVC_SOFT_RESTART), esr_el2=const(ESR_HVC))
        sp = entry.registers["sp"]
        return entry.assume((AT_EL2, And(aligned(sp, 16), ule(const(HOST_STACK_BYTES), sp))))

    def require(self, entry: State, step: Step) -> None:
        """Require what must hold at the end of one path from ``entry``."""
        state, known = step.state, entry.registers
        leaves = isinstance(step.then, Exit) and step.then.kind in LEAVES
        target = step.then.target if isinstance(step.then, Exit) else const(0)
        handler = const(self.symbol_address(STUB_HANDLER)) + self.context.word(entry, PHYSVIRT_OFFSET)
        goal = passes(known, state.registers, target, handler) if leaves else FALSE
        where = self.code.where(state.trace[-1])
        self.add(
            "passes", f"at {where} HVC_SOFT_RESTART is passed to {STUB_HANDLER}, with x0 to x4", step, goal
        )
        self.require_kept(step, known, SYSTEM)
        self.require_effects([state], known)
        self._require_memory(entry, step)
        self.obligations += stack_obligations(f"{self.prefix}-sp", self.code, entry, [state])

    def require_effects(self, states: list[State], entry: effects.Registers) -> None:
        """Require that the vector executes no system instruction."""
        self.add_effects(states, effects.KVM_HOST_VECTOR, entry)

    def _require_memory(self, entry: State, step: Step) -> None:
        """Require that memory below SP is all that is stored, and that and one word all that is loaded."""
        sp = entry.registers["sp"]
        word = const(self.context.globals[PHYSVIRT_OFFSET])
        for access in step.state.accesses:
            offset = access.address - (sp - HOST_STACK_BYTES)
            own: Formula = ule(offset, const(HOST_STACK_BYTES - access.size))
            if access.kind == "load":
                own = Or(own, access.address == word)
            where = self.code.where(access.at)
            sentence = f"the {access.kind} at {where} stays in the {HOST_STACK_BYTES} bytes below SP_EL2"
            self.add("memory", sentence, step, own)


@dataclass
class StubHandler(El2Code):
    """The proof of KVM's handler of the stub's calls: EL2's MMU off, then the entry at EL2."""

    @property
    def prefix(self) -> str:
        """Return the prefix of its obligations' names."""
        return "kvm-handler"

    @property
    def start(self) -> int:
        """Return the address at which the host vector enters it."""
        return self.code.address

    def code_of(self) -> Code:
        """Return the handler."""
        code = self.context.code(STUB_HANDLER)
        others, patched = code.continuations, code.unknown
        return Code(code.name, code.address, code.data, True, el=2, continuations=others, unknown=patched)

    def entered(self) -> State:
        """Return the state in which the host vector enters it."""
        return self.context.bare_entry(STUB_HANDLER).with_registers(x0=const(HVC_SOFT_RESTART))

    def require(self, entry: State, step: Step) -> None:
        """Require what must hold at the end of one path from ``entry``."""
        state, known = step.state, entry.registers
        registers = state.registers
        returns = isinstance(step.then, Exit) and step.then.kind == "eret"
        where = self.code.where(state.trace[-1])
        answered = soft_restart(known, registers, registers["elr_el2"])
        goal = And(answered, returns_to_el2(registers)) if returns else FALSE
        sentence = f"at {where} HVC_SOFT_RESTART enters x1 at EL2, masked, with x2, x3, x4 as arguments"
        self.add("soft-restart", sentence, step, goal)
        self.add("mmu-off", f"at {where} the MMU is off at EL2", step, el2_mmu_off(registers))
        self.add("synced", f"at {where} no context change awaits an ISB", step, synced(state.ghosts))
        changed = ("elr_el2", "spsr_el2", "sctlr_el2", "vbar_el2")
        self.require_kept(step, known, tuple(name for name in SYSTEM if name not in changed))
        self.require_effects([state], known)
        self.require_no_access(step)

    def require_effects(self, states: list[State], entry: effects.Registers) -> None:
        """Require that each system instruction is one that the handler may execute for this call."""
        self.add_effects(states, effects.KVM_STUB_HANDLER, entry)
