"""What mutants of a kernel are made of and held against: its functions, and what is proved of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from specs.properties import PROPERTIES, Property
from verify.arm64.lift import Code
from verify.errors import InternalError
from verify.kexec.form import Form, recognise
from verify.kexec.layout import stated_layout
from verify.kexec.locate import Function, find_routine
from verify.kexec.way import Part, Way, has_way
from verify.kexec.witnesses import folds_addresses
from verify.prove.discharge import Discharger, Result, decide
from verify.refute.whole.effects import Inputs
from verify.refute.whole.judge import usable
from verify.refute.whole.keeps import breach
from verify.refute.whole.paths import proof_of
from verify.refute.whole.search import leaving, taken
from verify.target import Kernel, open_target
from verify.theorems import judge, owed
from verify.verdict import Verdict

RUNS = 8
"""Of each path out of a function so many ways from its entry are run."""


@dataclass(frozen=True)
class Subject:
    """A function that is mutated.

    :param addresses: of its instructions that some path of its proof runs.
    """

    code: Code
    addresses: tuple[int, ...]


@dataclass
class Base:
    """A kernel before mutation.

    :ivar way: None for a target that is a routine and nothing else.
    :ivar discharger: for all mutants: what one leaves alone is asked once.
    """

    kernel: Kernel
    routine: Function = field(init=False)
    code: Code = field(init=False)
    form: Form = field(init=False)
    way: Way | None = field(init=False, default=None)
    discharger: Discharger = field(init=False, default_factory=Discharger)

    def __post_init__(self) -> None:
        self.routine = find_routine(self.kernel)
        self.code = Code(self.routine.name, self.routine.address, self.routine.code)
        form = recognise(self.code, self.kernel.page_size, stated_layout(self.kernel))
        self.form = replace(form, folds_ttbr=folds_addresses(self.kernel, "__enable_mmu"))
        if has_way(self.kernel):
            self.way = Way(self.kernel, self.form, self.routine, decide)
            self.way.build()

    def subjects(self) -> list[Subject]:
        """The routine, and each function of which a part of the way is proved, part by part."""
        ran: dict[int, set[int]] = {}
        codes: dict[int, Code] = {}
        for part in self.parts.values():
            code = self.code_of(part)
            if code is None:
                continue
            known = codes.setdefault(code.address, code)
            ran.setdefault(known.address, set()).update(part.covered)
        others = [Subject(code, tuple(sorted(ran[at]))) for at, code in codes.items()]
        return [Subject(self.code, tuple(self.code.addresses)), *(s for s in others if s.addresses)]

    @property
    def parts(self) -> Mapping[str, Part]:
        """The parts of the way; none for a routine alone."""
        return self.way.parts if self.way is not None else {}

    def code_of(self, part: Part) -> Code | None:
        """The bytes that a part of the way is about; None for what joins the parts."""
        if part.proof is not None:
            return part.proof.code
        if not part.function or self.way is None:
            return None
        return part.code if part.code is not None else self.way.whole.code(part.function)

    @functools.cached_property
    def results(self) -> dict[str, list[Result]]:
        """What came of each part's obligations that a property names, by the part's name."""
        claims = self._claims()
        return {
            name: self.discharger.discharge(
                [o for o in part.obligations if any(owed(claim, o.name) for claim in claims)]
            )
            for name, part in self.parts.items()
        }

    @functools.cached_property
    def claims(self) -> list[Property]:
        """The properties of the C functions that are proved of the kernel: a mutant is to lose none."""
        results = [result for found in self.results.values() for result in found]
        return [
            claim
            for claim in self._claims()
            if judge(claim, self.form, results, None).verdict is Verdict.PROVED
        ]

    def counts(self, name: str) -> bool:
        """An obligation of that name is one of a property that is proved of the kernel."""
        return any(owed(claim, name) for claim in self.claims)

    @functools.cached_property
    def runs(self) -> dict[str, list[Inputs]]:
        """Inputs of runs of each part that break nothing unchanged, by the part's name."""
        found: dict[str, list[Inputs]] = {}
        for name, part in self.parts.items():
            proof, paths = proof_of(part), sorted({o.path for o in part.obligations if o.path})
            if part.function and part.proof is None:
                found[name] = taken(proof, paths) if proof is not None else []
                self._keeps_contract(part, found[name])
            elif part.proof is not None:
                runs = [*leaving(part.proof, RUNS), *taken(part.proof, paths)]
                found[name] = usable(part.proof, runs, self.counts)
        return found

    def _keeps_contract(self, part: Part, found: list[Inputs]) -> None:
        """No run of an unchanged callee may break what is proved of it."""
        assert self.way is not None
        address, contract = self.way.contracts[part.function]
        code = self.way.whole.code(part.function, address)
        told = breach(self.way.whole, contract, code, part.copied, found)
        if told is not None:
            raise InternalError(f"the contract of {part.function} is proved, and a run shows: {told}")

    def _claims(self) -> list[Property]:
        names = {o.name for part in self.parts.values() for o in part.obligations}
        return [
            claim
            for claim in PROPERTIES.values()
            if claim.form in (None, self.form.name) and any(owed(claim, name) for name in names)
        ]


@functools.cache
def base_of(target: str) -> Base:
    """The kernel that ``target`` names, proved once in each process."""
    return Base(open_target(target))
