"""The kernel before mutation: its functions, and the properties that are proved of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kexec_verify.arm64.lift import Code
from kexec_verify.errors import InternalError
from kexec_verify.kexec.abi_variant import AbiVariant, recognise
from kexec_verify.kexec.composition import CALLEE, Composition, Part, has_whole_path
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.kexec.locate import Function, find_routine
from kexec_verify.kexec.witnesses import folds_addresses
from kexec_verify.prove.discharge import Discharger, Result, decide
from kexec_verify.refute.functions.contract_check import breach
from kexec_verify.refute.functions.effects import Inputs
from kexec_verify.refute.functions.judge import usable
from kexec_verify.refute.functions.paths import proof_of
from kexec_verify.refute.functions.search import leaving, taken
from kexec_verify.specs.properties import PROPERTIES, Property
from kexec_verify.target import Kernel, open_target
from kexec_verify.theorems import has_obligation, judge
from kexec_verify.verdict import Verdict

RUNS = 8
"""Maximum number of paths from the entry that are run for each exit path of a function."""


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

    :ivar composition: None for a target that is a routine and nothing else.
    :ivar discharger: for all mutants: queries that a mutant does not change are sent once.
    """

    kernel: Kernel
    routine: Function = field(init=False)
    code: Code = field(init=False)
    variant: AbiVariant = field(init=False)
    composition: Composition | None = field(init=False, default=None)
    discharger: Discharger = field(init=False, default_factory=Discharger)

    def __post_init__(self) -> None:
        self.routine = find_routine(self.kernel)
        self.code = Code(self.routine.name, self.routine.address, self.routine.code)
        variant = recognise(self.code, self.kernel.page_size, stated_layout(self.kernel))
        self.variant = replace(variant, folds_ttbr=folds_addresses(self.kernel, "__enable_mmu"))
        if has_whole_path(self.kernel):
            self.composition = Composition(self.kernel, self.variant, self.routine, decide)
            self.composition.build()

    def subjects(self) -> list[Subject]:
        """Return the routine, and each function that is part of the kexec path and that runs can judge."""
        ran: dict[int, set[int]] = {}
        codes: dict[int, Code] = {}
        for part in self.parts.values():
            code = self.code_of(part)
            if code is None or part.has_own_runs:
                continue
            known = codes.setdefault(code.address, code)
            ran.setdefault(known.address, set()).update(part.covered)
        others = [Subject(code, tuple(sorted(ran[at]))) for at, code in codes.items()]
        return [Subject(self.code, tuple(self.code.addresses)), *(s for s in others if s.addresses)]

    @property
    def parts(self) -> Mapping[str, Part]:
        """Return the parts of the kexec path; none for a routine alone."""
        return self.composition.parts if self.composition is not None else {}

    def code_of(self, part: Part) -> Code | None:
        """Return the bytes that a part is about; None for the composition of the parts."""
        if part.proof is not None:
            return part.proof.code
        if not part.function or self.composition is None:
            return None
        return part.code if part.code is not None else self.composition.context.code(part.function)

    @functools.cached_property
    def results(self) -> dict[str, list[Result]]:
        """Return the results of each part's obligations that a property names, by the part's name."""
        claims = self._claims()
        return {
            name: self.discharger.discharge(
                [o for o in part.obligations if any(has_obligation(claim, o.name) for claim in claims)]
            )
            for name, part in self.parts.items()
        }

    @functools.cached_property
    def claims(self) -> list[Property]:
        """Return the C functions' properties that are proved of the kernel; an equivalent mutant keeps
        all.
        """
        results = [result for found in self.results.values() for result in found]
        return [
            claim
            for claim in self._claims()
            if judge(claim, self.variant, results, None).verdict is Verdict.PROVED
        ]

    def counts(self, name: str) -> bool:
        """Return whether an obligation of that name belongs to a property that is proved of the kernel."""
        return any(has_obligation(claim, name) for claim in self.claims)

    @functools.cached_property
    def runs(self) -> dict[str, list[Inputs]]:
        """Return inputs of runs of each part that break nothing unchanged, by the part's name."""
        found: dict[str, list[Inputs]] = {}
        for name, part in self.parts.items():
            proof, paths = proof_of(part), sorted({o.path for o in part.obligations if o.path})
            if part.has_own_runs:
                found[name] = []  # its obligations are about entries or lists, which no run here looks at
            elif part.function and part.proof is None:
                found[name] = taken(proof, paths) if proof is not None else []
                self._keeps_contract(name, part, found[name])
            elif part.proof is not None:
                runs = [*leaving(part.proof, RUNS), *taken(part.proof, paths)]
                found[name] = usable(part.proof, runs, self.counts)
        return found

    def _keeps_contract(self, name: str, part: Part, found: list[Inputs]) -> None:
        """Check that no run of an unchanged callee breaks its proved contract."""
        assert self.composition is not None
        address, contract = self.composition.contracts[name.removeprefix(CALLEE)]
        code = self.composition.context.code(part.function, address)
        fault = breach(self.composition.context, contract, code, part.copied, found)
        if fault is not None:
            raise InternalError(f"the contract of {part.function} is proved, but a run shows: {fault}")

    def _claims(self) -> list[Property]:
        names = {o.name for part in self.parts.values() for o in part.obligations}
        return [
            claim
            for claim in PROPERTIES.values()
            if claim.variant in (None, self.variant.name)
            and any(has_obligation(claim, name) for name in names)
        ]


@functools.cache
def base_of(target: str) -> Base:
    """Return the kernel that ``target`` names; it is proved once in each process."""
    return Base(open_target(target))
