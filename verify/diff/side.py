"""One of the two kernels: its functions, and everything that is owed for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from specs.contracts import Contract
from specs.kimage import KimageLayout
from specs.properties import RELOCATION
from verify.arm64.lift import Code
from verify.diff.places import Places
from verify.diff.shared import SharedDischarger
from verify.errors import LimitError, NoKexecError, UnsupportedError
from verify.kexec import relocation
from verify.kexec.callees import Callee
from verify.kexec.copier import Copier
from verify.kexec.form import Form, recognise
from verify.kexec.layout import stated_layout
from verify.kexec.locate import Function, find_routine
from verify.kexec.machine_kexec import MachineKexec
from verify.kexec.post_load import PostLoad
from verify.kexec.relocation import Parts
from verify.kexec.soft_restart import COPIED_VECTORS, VECTORS, HypStub, SoftRestart
from verify.kexec.whole import Whole
from verify.obligation import Obligation
from verify.prove.discharge import Result, decide
from verify.target import Kernel
from verify.theorems import Outcome, Progress, prove

SEARCH_SECONDS = 5.0  # of CPU time
_ARCH = 648
"""Offset of struct kimage_arch where neither BTF nor the routine tells: that of most configurations."""

_TROUBLES = (UnsupportedError, LimitError, NoKexecError)


@dataclass
class Side:
    """What is known of one kernel.

    :param label: OLD or NEW.
    :param troubles: what could not be proved, by function, and why.
    :param results: of every obligation on the C code, the restart code, the stub and the callees.
    :param outcome: the routine's verdicts.
    """

    label: str
    kernel: Kernel
    routine: Function = field(init=False)
    code: Code = field(init=False)
    places: Places = field(init=False)
    form: Form | None = None
    parts: Parts | None = None
    whole: Whole | None = None
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
        self.places = Places(self.kernel, named)

    @property
    def skips(self) -> bool:
        """The routine itself tests head for IND_DONE: some path from its entry passes the loop by."""
        if self.parts is None or self.form is None:
            return False
        return any(step.then != self.form.loop for step in self.parts.before)

    @property
    def all_results(self) -> list[Result]:
        """Of every obligation, those on the routine first."""
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
        layout = stated or (self.form.layout if self.form is not None else None) or KimageLayout(_ARCH)
        size = page or (self.form.page_size if self.form is not None else 4096)
        self.whole = whole = Whole(self.kernel, layout, size)
        mmu_on = self.form is not None and self.form.kimage
        self._try("machine_kexec", lambda: self._machine_kexec(whole, mmu_on))
        self._try("machine_kexec_post_load", lambda: self._post_load(whole, mmu_on))
        self._try("cpu_soft_restart", lambda: self._restart(whole))

    def _try(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except _TROUBLES as error:
            self.troubles[name] = str(error)

    def _routine(self, page: int | None, stated: KimageLayout | None) -> None:
        self.form = recognise(self.code, page, stated)
        self.parts = relocation.run(self.code, self.form, decide)

    def _machine_kexec(self, whole: Whole, mmu_on: bool) -> None:
        made = MachineKexec(whole, decide, self.skips, not mmu_on)
        made.prove()
        self.mk = made

    def _post_load(self, whole: Whole, mmu_on: bool) -> None:
        made = PostLoad(whole, decide, self.routine, self.skips, mmu_on)
        made.prove()
        self.post_load = made

    def _restart(self, whole: Whole) -> None:
        made = SoftRestart(whole, decide)
        made.prove()
        self.restart = made

    def discharge(self, discharger: SharedDischarger, tell: Progress) -> None:
        """Ask the solvers everything that is owed."""
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
        if self.whole is not None:
            for name, copied in ((VECTORS, False), (COPIED_VECTORS, True)):
                if self.kernel.symbol(name) is not None:
                    found += self._stub(self.whole, name, copied)
        return found + self._callees()

    def _stub(self, whole: Whole, name: str, copied: bool) -> list[Obligation]:
        stub = HypStub(whole, name, copied)
        self._try(name, stub.prove)
        return stub.obligations if name not in self.troubles else []

    def _callees(self) -> list[Obligation]:
        """The contracts of what is called, and of what that calls."""
        todo: dict[str, tuple[int, Contract]] = {}
        for part in (self.mk, self.post_load):
            todo |= part.used if part is not None else {}
        found: list[Obligation] = []
        while todo:
            name, (address, contract) = todo.popitem()
            if name in self.used:
                continue
            self.used[name] = (address, contract)
            if contract.assumed or self.whole is None:
                continue
            callee = Callee(self.whole, name, contract, decide)
            try:
                if contract.copies is not None:
                    found += self._copier(self.whole, name)
                    continue
                todo |= callee.prove()
                found += callee.obligations
            except _TROUBLES as error:
                self.troubles[name] = str(error)
        return found

    def _copier(self, whole: Whole, name: str) -> list[Obligation]:
        """The copies of the routine that post_load makes by calling ``name``."""
        found: list[Obligation] = []
        for start, length in self.post_load.copied if self.post_load is not None else ():
            copier = Copier(whole, name, start, length, decide)
            copier.prove()
            found += copier.obligations
        return found
