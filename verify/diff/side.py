"""One of the two kernels: its functions, and all their proof obligations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kexec_verify.arm64.lift import Code
from kexec_verify.diff.address_names import AddressNames
from kexec_verify.diff.shared import SharedDischarger
from kexec_verify.errors import LimitError, NoKexecError, UnsupportedError
from kexec_verify.kexec import relocation
from kexec_verify.kexec.abi_variant import AbiVariant, recognise
from kexec_verify.kexec.callees import Callee
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.copier import Copier
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.kexec.locate import Function, find_routine
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.kexec.relocation import Parts
from kexec_verify.kexec.soft_restart import COPIED_VECTORS, VECTORS, HypStub, SoftRestart
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Result, decide
from kexec_verify.specs.contracts import Contract
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.symbolic.explore import Decide
from kexec_verify.target import Kernel
from kexec_verify.theorems import Outcome, Progress, prove

SEARCH_SECONDS = 5.0  # of CPU time
_ARCH = 648
"""Offset of struct kimage_arch where neither BTF nor the routine tells: that of most configurations."""

_TROUBLES = (UnsupportedError, LimitError, NoKexecError)


@dataclass
class Side:
    """What is known of one kernel.

    :param label: OLD or NEW.
    :param decide: finds invariants and calls that no state reaches; what it finds is proved.
    :param troubles: what could not be proved, by function, and why.
    :param results: of every obligation on the C code, the restart code, the stub and the callees.
    :param outcome: the routine's verdicts.
    """

    label: str
    kernel: Kernel
    decide: Decide = decide
    routine: Function = field(init=False)
    code: Code = field(init=False)
    places: AddressNames = field(init=False)
    variant: AbiVariant | None = None
    parts: Parts | None = None
    context: KexecContext | None = None
    mk: MachineKexec | None = None
    post_load: PostLoad | None = None
    restart: SoftRestart | None = None
    used: dict[str, tuple[int, Contract]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        self.routine = find_routine(self.kernel)
        self.code = Code(self.routine.name, self.routine.address, self.routine.code)
        named = {self.routine.address: (self.routine.name, len(self.routine.code))}
        self.places = AddressNames(self.kernel, named)

    @property
    def skips(self) -> bool:
        """Return whether the routine tests head for IND_DONE: some path from its entry skips the loop."""
        if self.parts is None or self.variant is None:
            return False
        return any(step.then != self.variant.loop for step in self.parts.before)

    @property
    def all_results(self) -> list[Result]:
        """Return the results of every obligation, those on the routine first."""
        routine: dict[int, Result] = {}
        for finding in self.outcome.findings if self.outcome is not None else ():
            routine |= {id(result): result for result in finding.results}
        return [*routine.values(), *self.results]

    def explore(self, tell: Progress) -> None:
        """Run every path of every function."""
        tell(f"{self.label}: running every path")
        page, stated = self.kernel.page_size, stated_layout(self.kernel)
        self._try(self.routine.name, lambda: self._routine(page, stated))
        if self.kernel.symbol("machine_kexec") is None:
            self.troubles["machine_kexec"] = "the file has no such symbol"
            return
        layout = stated or (self.variant.layout if self.variant is not None else None) or KimageLayout(_ARCH)
        size = page or (self.variant.page_size if self.variant is not None else 4096)
        self.context = context = KexecContext(self.kernel, layout, size)
        mmu_on = self.variant is not None and self.variant.kimage
        self._try("machine_kexec", lambda: self._machine_kexec(context, mmu_on))
        self._try("machine_kexec_post_load", lambda: self._post_load(context, mmu_on))
        self._try("cpu_soft_restart", lambda: self._restart(context))

    def _try(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except _TROUBLES as error:
            self.troubles[name] = str(error)

    def _routine(self, page: int | None, stated: KimageLayout | None) -> None:
        self.variant = recognise(self.code, page, stated)
        self.parts = relocation.run(self.code, self.variant, self.decide)

    def _machine_kexec(self, context: KexecContext, mmu_on: bool) -> None:
        made = MachineKexec(context, self.decide, self.skips, not mmu_on)
        made.prove()
        self.mk = made

    def _post_load(self, context: KexecContext, mmu_on: bool) -> None:
        made = PostLoad(context, self.decide, self.routine, self.skips, mmu_on)
        made.prove()
        self.post_load = made

    def _restart(self, context: KexecContext) -> None:
        made = SoftRestart(context, self.decide)
        made.prove()
        self.restart = made

    def discharge(self, discharger: SharedDischarger, tell: Progress) -> None:
        """Send all proof obligations to the solvers."""
        discharger.places = self.places
        claims = list(RELOCATION)
        stated = stated_layout(self.kernel)
        self.outcome = prove(
            self.code,
            claims,
            self.kernel.page_size,
            stated,
            lambda what: tell(f"{self.label}: {what}"),
            discharger,
            SEARCH_SECONDS,
        )
        discharger.progress = lambda obligation: tell(f"{self.label}: {obligation.name}")
        self.results = discharger.discharge(self._obligations())

    def _obligations(self) -> list[Obligation]:
        found: list[Obligation] = []
        for part in (self.mk, self.post_load, self.restart):
            found += part.obligations if part is not None else ()
        if self.context is not None:
            for name, copied in ((VECTORS, False), (COPIED_VECTORS, True)):
                if self.kernel.symbol(name) is not None:
                    found += self._stub(self.context, name, copied)
        return found + self._callees()

    def _stub(self, context: KexecContext, name: str, copied: bool) -> list[Obligation]:
        stub = HypStub(context, name, copied)
        self._try(name, stub.prove)
        return stub.obligations if name not in self.troubles else []

    def _callees(self) -> list[Obligation]:
        """Return the obligations of callees' contracts, and of their own callees' contracts."""
        todo: dict[str, tuple[int, Contract]] = {}
        for part in (self.mk, self.post_load):
            todo |= part.used if part is not None else {}
        found: list[Obligation] = []
        while todo:
            name, (address, contract) = todo.popitem()
            if name in self.used:
                continue
            self.used[name] = (address, contract)
            if contract.assumed or self.context is None:
                continue
            callee = Callee(self.context, name, contract, self.decide)
            try:
                if contract.copies is not None:
                    found += self._copier(self.context, name)
                    continue
                todo |= callee.prove()
                found += callee.obligations
            except _TROUBLES as error:
                self.troubles[name] = str(error)
        return found

    def _copier(self, context: KexecContext, name: str) -> list[Obligation]:
        """Return the obligations on the copies of the routine that post_load makes by calling ``name``."""
        found: list[Obligation] = []
        for start, length in self.post_load.copied if self.post_load is not None else ():
            copier = Copier(context, name, start, length, self.decide)
            copier.prove()
            found += copier.obligations
        return found
