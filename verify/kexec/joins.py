"""Proof obligations on how the parts of the kexec path fit together."""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import SCTLR_C, SCTLR_M, synced
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.kvm_vectors import has_kvm
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.routine import Routine
from kexec_verify.logic import And, Formula, Term, aligned, const, ule, var
from kexec_verify.logic import Function as Uninterpreted
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs import boot_protocol
from kexec_verify.specs.cpu_soft_restart import asks_stub, enters
from kexec_verify.specs.hyp_stub import soft_restart
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.specs.kvm_vectors import passes
from kexec_verify.specs.machine_kexec import Fields, restarts_image, restarts_routine

type Registers = dict[str, Term]
_MOMENTS = ("called", "restarted", "asked", "answered")


@dataclass(frozen=True)
class Joins:
    """What one function of the path leaves is what the next one's proof starts from.

    :param variant: of the relocation routine.
    """

    context: KexecContext
    routine: Function
    variant: AbiVariant

    def obligations(self) -> list[Obligation]:
        """Return the obligations, for an image in place and for one that the routine relocates."""
        return [*self._in_place(), *self._relocating()]

    def _in_place(self) -> list[Obligation]:
        """Require the boot protocol of what the restart code is given, and of what it and the stub do."""
        names = ("kimage", "head", "start", "dtb_mem", "kern_reloc", "el2_vectors", "ttbr0", "t0sz")
        fields = Fields(*(var(f"{name}@path") for name in names))
        stub = var("hyp stub below@path", 1) == 1
        called, restarted, asked, answered = (_registers(f"{when}@path") for when in _MOMENTS)
        here, there = var("target at EL1@path"), var("target at EL2@path")
        handed = restarts_image(called, fields, stub)
        own: Facts = (
            ("machine_kexec hands over", handed),
            ("cpu_soft_restart enters", enters(called, restarted, here)),
        )
        by_stub: Facts = (
            ("machine_kexec hands over", handed),
            ("cpu_soft_restart asks the stub", asks_stub(called, asked)),
            ("the stub answers", soft_restart(asked, answered, there)),
        )
        goal_here = And(here == fields.start, boot_protocol.registers(restarted, fields.dtb_mem))
        goal_there = And(there == fields.start, boot_protocol.registers(answered, fields.dtb_mem))
        if self.variant.tests_head:
            return self._through_routine(fields, stub, called, restarted, here)
        found = [
            Obligation(
                "path-inplace",
                "in place, at EL1, start is entered with x0 = dtb_mem, x1 to x3 = 0",
                own,
                goal_here,
            ),
            Obligation(
                "path-inplace",
                "in place, by the stub, start is entered with x0 = dtb_mem, x1 to x3 = 0",
                by_stub,
                goal_there,
            ),
        ]
        if has_kvm(self.context.kernel):
            passed, handler = _registers("passed@path"), var("PA of the handler@path")
            sp, reached = {"sp": var("sp@path")}, var("target of the vector@path")
            by_kvm: Facts = (
                *by_stub[:2],
                ("KVM's host vector passes it on", passes(asked | sp, passed | sp, reached, handler)),
                ("KVM's handler answers", soft_restart(passed, answered, there)),
            )
            sentence = "in place, by KVM, start is entered with x0 = dtb_mem, x1 to x3 = 0"
            found.append(Obligation("path-inplace", sentence, by_kvm, goal_there))
        return found

    def _through_routine(
        self, fields: Fields, stub: Formula, called: Registers, restarted: Registers, target: Term
    ) -> list[Obligation]:
        facts: Facts = (
            ("machine_kexec hands over", restarts_routine(called, fields, stub)),
            ("cpu_soft_restart enters", enters(called, restarted, target)),
        )
        goal = And(
            target == fields.kern_reloc,
            restarted["x0"] == fields.head,
            restarted["x1"] == fields.start,
            restarted["x2"] == fields.dtb_mem,
        )
        sentence = "in place too the routine is entered with head, start and dtb_mem"
        return [Obligation("path-inplace", sentence, facts, goal)]

    def _relocating(self) -> list[Obligation]:
        """Require each assumption that the routine's proof makes of its entry."""
        code = Code(self.routine.name, self.routine.address, self.routine.code)
        routine = Routine(code, self.variant)
        x, system = routine.entry.registers, routine.entry.registers
        on = SCTLR_M | SCTLR_C
        facts: list[tuple[str, Formula]] = [
            ("machine_kexec: interrupts are masked (mk-masked)", boot_protocol.masked(var("daif@path"))),
            ("daif is handed on (restart-masked)", system["daif"] == var("daif@path")),
        ]
        if self.variant.kimage:
            layout = self.context.layout
            kimage, sctlr = var("kimage@path"), var("sctlr@path")
            facts += [
                ("mmu-on", (sctlr & on) == on),
                ("machine_kexec keeps SCTLR_EL1 (mk-sctlr-kept)", system["sctlr_el1"] == sctlr),
                ("no context change awaits an ISB (mk-synced)", synced(routine.entry.ghosts)),
                ("the routine is called with the kimage (mk-handover-routine)", x["x0"] == kimage),
                ("kimage-aligned", And(aligned(kimage, 8), ule(kimage, const(-layout.size)))),
                *self._phys_offset(kimage, layout),
            ]
        else:
            mmu_off = boot_protocol.mmu_off(system["sctlr_el1"])
            facts.append(("cpu_soft_restart turns the MMU off (restart-mmu-off)", mmu_off))
        # That head has no IND_DONE is the case in which machine_kexec enters it: mk-handover-routine.
        found = []
        for label, formula in routine.assumptions():
            if label == "ctr-legal":
                continue  # of the machine, not of what is handed over
            sentence = f"what machine_kexec passes to the routine satisfies the assumption {label}"
            found.append(Obligation("path-handover", sentence, tuple(facts), formula))
        return found

    def _phys_offset(self, kimage: Term, layout: KimageLayout) -> Facts:
        """The value that post_load wrote there is a difference of whole pages."""
        stored = Uninterpreted("M0")(kimage + layout.phys_offset)
        start = var("memstart_addr@path")
        offset = const(self.context.page_offset)
        return (
            ("post_load: phys_offset is that of the linear map (pl-tables)", stored == start - offset),
            ("memstart-aligned", aligned(start, self.variant.page_size)),
        )


def _registers(tag: str) -> Registers:
    return {f"x{i}": var(f"x{i} {tag}") for i in range(5)}
