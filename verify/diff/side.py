"""One of the two kernels: its functions, its proof obligations, and the verdicts of `verify run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from kexec_verify.arm64.lift import Code
from kexec_verify.diff.address_names import AddressNames
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.kernel_proof import prove_kernel
from kexec_verify.kexec import relocation
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.composition import Composition
from kexec_verify.kexec.context import RESTART, KexecContext
from kexec_verify.kexec.locate import Function, find_routine
from kexec_verify.kexec.machine_kexec import NAME as MACHINE_KEXEC
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.post_load import NAME as POST_LOAD
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.kexec.relocation import Parts
from kexec_verify.kexec.soft_restart import SoftRestart
from kexec_verify.prove.discharge import Discharger, Result
from kexec_verify.specs.contracts import Contract
from kexec_verify.specs.properties import PROPERTIES, RELOCATION
from kexec_verify.target import Kernel
from kexec_verify.theorems import Finding, Outcome, Progress
from kexec_verify.waivers import Waiver


@dataclass
class Side:
    """What is known of one kernel.

    :param label: OLD or NEW.
    :ivar outcome: the verdicts, as `verify run` has them; ``composition``: what they are about.
    :ivar troubles: what could not be proved, by function, and why.
    """

    label: str
    kernel: Kernel
    routine: Function = field(init=False)
    code: Code = field(init=False)
    places: AddressNames = field(init=False)
    outcome: Outcome | None = None
    composition: Composition | None = None
    parts: Parts | None = None
    troubles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.routine = find_routine(self.kernel)
        self.code = Code(self.routine.name, self.routine.address, self.routine.code)
        named = {self.routine.address: (self.routine.name, len(self.routine.code))}
        self.places = AddressNames(self.kernel, named)

    def prove(self, discharger: Discharger, waivers: Sequence[Waiver], tell: Progress) -> None:
        """Decide every property, and run the routine's paths for the relation."""
        self.outcome, self.composition = prove_kernel(
            self.kernel,
            self.routine,
            list(PROPERTIES.values()),
            lambda what: tell(f"{self.label}: {what}"),
            discharger,
            waivers=waivers,
        )
        try:
            if self.variant is not None:
                self.parts = relocation.run(self.code, self.variant, discharger.decide)
        except (UnsupportedError, LimitError) as error:
            self.troubles[self.routine.name] = str(error)
        if self.variant is None:
            first = next((f.reason for f in self.outcome.findings if f.reason), "ABI variant not recognised")
            self.troubles[self.routine.name] = first
        if self.composition is None:
            has_none = self.kernel.symbol(MACHINE_KEXEC) is None
            reason = "the file has no such symbol" if has_none else "the routine's ABI variant is not known"
            self.troubles[MACHINE_KEXEC] = reason
            return
        for part in self.composition.parts.values():
            if part.trouble is not None:
                self.troubles[part.function] = str(part.trouble)

    @property
    def variant(self) -> AbiVariant | None:
        """The ABI variant of the routine; None if the proof covers none that is like it."""
        return self.outcome.variant if self.outcome is not None else None

    @property
    def context(self) -> KexecContext | None:
        """The kernel as its C functions' proofs see it; None if there are none."""
        return self.composition.context if self.composition is not None else None

    @property
    def mk(self) -> MachineKexec | None:
        """The proof of machine_kexec; None if it could not be run."""
        found = self._proof(MACHINE_KEXEC)
        return found if isinstance(found, MachineKexec) else None

    @property
    def post_load(self) -> PostLoad | None:
        """The proof of machine_kexec_post_load; None if it could not be run."""
        found = self._proof(POST_LOAD)
        return found if isinstance(found, PostLoad) else None

    @property
    def restart(self) -> SoftRestart | None:
        """The proof of cpu_soft_restart; None if it could not be run."""
        found = self._proof(RESTART[0])
        return found if isinstance(found, SoftRestart) else None

    def _proof(self, name: str) -> object:
        part = self.composition.parts.get(name) if self.composition is not None else None
        return part.proof if part is not None and part.trouble is None else None

    @property
    def used(self) -> dict[str, tuple[int, Contract]]:
        """The contracts that are relied on, by the callee's name, with its address."""
        return self.composition.contracts if self.composition is not None else {}

    @property
    def skips(self) -> bool:
        """Whether the routine tests head for IND_DONE: some path from its entry skips the loop."""
        if self.parts is None or self.variant is None:
            return False
        return any(step.then != self.variant.loop for step in self.parts.before)

    def finding(self, name: str) -> Finding | None:
        """Return the property's verdict and results; None for a property of another ABI variant."""
        findings = self.outcome.findings if self.outcome is not None else ()
        return next((found for found in findings if found.claim.id == name), None)

    @cached_property
    def results(self) -> list[Result]:
        """The results of the obligations on the C code, the restart code, the stub and the callees."""
        return self._results(routine=False)

    @property
    def all_results(self) -> list[Result]:
        """The results of every obligation, those on the routine first."""
        return [*self._results(routine=True), *self.results]

    def _results(self, routine: bool) -> list[Result]:
        found: dict[int, Result] = {}
        for finding in self.outcome.findings if self.outcome is not None else ():
            if (finding.claim in RELOCATION) == routine:
                found |= {id(result): result for result in finding.results}
        return list(found.values())
