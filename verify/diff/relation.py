"""Obligations that both kernels reach the same entry in the same state with the same memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from kexec_verify.diff.rename import GIVEN, Renamer, leaves
from kexec_verify.diff.side import Side
from kexec_verify.diff.whole_paths import ARGUMENTS, IN_PLACE, RELOCATED, End, WholePath, passed
from kexec_verify.kexec.calls import objects
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.logic import FALSE, TRUE, And, Formula, Not, Or, Term, application, var
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.prove.discharge import Result
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import model_z3
from kexec_verify.specs import boot_protocol
from kexec_verify.symbolic.objects import STACK_FRAME
from kexec_verify.verdict import Verdict

_LOADED = ("head", "start", "dtb_mem")
"""What kexec_core and the loader put into struct kimage; the rest is machine_kexec_post_load's own."""
_PREPARED = ("kern_reloc", "el2_vectors", "ttbr0", "t0sz")
_WORDS = ("kimage_voffset", "memstart_addr")


@dataclass
class Relation:
    """The obligations that both kernels end in the same state, in one case.

    :param asked: what each query compares: a name, and the term on either side.
    """

    case: str
    old: WholePath
    new: WholePath
    obligations: list[Obligation] = field(default_factory=list)
    asked: dict[int, list[tuple[str, Term, Term]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    given: Facts = ()

    def __post_init__(self) -> None:
        self.left, self.right = (Renamer(f"{whole_path.side.label}: ") for whole_path in (self.old, self.new))

    def build(self) -> None:
        """Add the obligations for each pair of ends."""
        self.given = self._given()
        for whole_path in (self.old, self.new):
            self.obligations += whole_path.obligations
            self.missing += [f"{whole_path.side.label}: {what}" for what in whole_path.stuck]
            if not whole_path.ends and not whole_path.stuck:
                self.missing.append(f"{whole_path.side.label}: no path reaches an entry where {self.case}")
            self._require_memory(whole_path)
            if self.case == IN_PLACE:
                self._require_no_routine(whole_path)
        for old in self.old.ends:
            for new in self.new.ends:
                self._require_pair(old, new)
        if self.case == RELOCATED:
            self._require_handover()

    def _given(self) -> Facts:
        """Both have the same kimage, were booted in the same way and are located at the same address."""
        facts: list[tuple[str, Formula]] = []

        def same(label: str, old: Term, new: Term) -> None:
            facts.append((label, self.left.term(old) == self.right.term(new)))

        old, new = self.old.mk, self.new.mk
        # Before 5.12 nothing is prepared but the control page, whose address is not in struct kimage.
        early = old.image is not None or new.image is not None
        prepared = ("kern_reloc",) if early else _PREPARED
        for name in _LOADED + (prepared if self.case == RELOCATED else ()):
            label = "same-kimage" if name in _LOADED else "same-preparation"
            same(label, getattr(passed(old), name), getattr(passed(new), name))
        for name in _WORDS:
            if name in old.context.globals and name in new.context.globals:
                same("same-globals", old.context.word(old.entry, name), new.context.word(new.entry, name))
        stub = [
            renamer.term(mk.context.stub_below(mk.entry))
            for renamer, mk in ((self.left, old), (self.right, new))
        ]
        facts.append(("same-boot-mode", stub[0] == stub[1]))
        if self.case == RELOCATED:
            for side, renamer, mk in (
                (self.old.side, self.left, old),
                (self.new.side, self.right, new),
            ):
                if side.variant is not None and side.variant.kimage:
                    facts.append(("same-preparation", renamer.term(_vectors_for_stub(mk))))
        return tuple(facts)

    def _require(
        self, name: str, sentence: str, facts: Facts, goal: Formula, *asked: tuple[str, Term, Term]
    ) -> None:
        obligation = Obligation(f"diff-{name}", f"where {self.case}: {sentence}", facts, goal)
        self.asked[id(obligation)] = list(asked)
        self.obligations.append(obligation)

    def _require_pair(self, old: End, new: End) -> None:
        facts = (*self.given, *self.left.facts(old.facts))
        path = self.right.facts(new.facts)
        if old.via != new.via:
            both = And(*(fact for _, fact in path))
            sentence = f"OLD does not end through {old.via} where NEW ends through {new.via}"
            self._require("level", sentence, facts, Not(both))
            return
        facts = (*facts, *path)
        whole_paths = f"{' → '.join(old.legs)} and {' → '.join(new.legs)}"

        def both_terms(name: str, left: Term, right: Term) -> tuple[str, Term, Term]:
            return name, self.left.term(left), self.right.term(right)

        target = both_terms("the entry", old.target, new.target)
        self._require(
            "entry", f"{whole_paths} branch to the same address", facts, target[1] == target[2], target
        )
        x = [both_terms(name, old.x[name], new.x[name]) for name in ARGUMENTS]
        alike = And(*(left == right for _, left, right in x))
        self._require("registers", f"{whole_paths} leave the same in x0 to x3", facts, alike, *x)
        off = [boot_protocol.mmu_off(term) for term in self._terms(old.sctlr, new.sctlr)]
        self._require("mmu-off", f"{whole_paths} turn MMU and data cache off", facts, And(*off))
        masked = [boot_protocol.masked(term) for term in self._terms(old.daif, new.daif)]
        self._require("masked", f"{whole_paths} leave interrupts masked", facts, And(*masked))

    def _terms(self, old: Term, new: Term) -> list[Term]:
        return [self.left.term(old), self.right.term(new)]

    def _require_memory(self, whole_path: WholePath) -> None:
        """Require that each store on the path is to machine_kexec's own frame."""
        label = whole_path.side.label
        states = [*whole_path.mk.ran, *(state for end in whole_path.ends for state in end.states)]
        seen: set[tuple[int, str]] = set()
        for state in states:
            for access in state.accesses:
                where = whole_path.side.places.name(access.at)
                if access.kind != "store" or (access.at, where) in seen:
                    continue
                seen.add((access.at, where))
                item, _ = objects(access.before).find(access.address)
                own = TRUE if item.name == STACK_FRAME else FALSE
                self._require("memory", f"{label}: the store at {where} is to its own frame", (), own)
        if not seen:
            self._require("memory", f"{label}: the path stores nothing", (), TRUE)

    def _require_no_routine(self, whole_path: WholePath) -> None:
        """Require that a path that skips the routine goes to kimage->start, and not to the routine."""
        renamer = self.left if whole_path is self.old else self.right
        start = renamer.term(whole_path.mk.fields.start)
        for end in whole_path.ends:
            if whole_path.side.routine.name not in end.legs:
                target = renamer.term(end.target)
                sentence = f"{whole_path.side.label}: {' → '.join(end.legs)} branches to kimage->start"
                facts = (*self.given, *renamer.facts(end.facts))
                self._require(GUARD, sentence, facts, target == start, (whole_path.side.label, target, start))

    def _require_handover(self) -> None:
        """Require that two routines of one ABI variant are entered with the same arguments."""
        old, new = self.old.side.variant, self.new.side.variant
        if old is None or new is None or old.kimage != new.kimage:
            return
        names = ("x0",) if old.kimage else ("x0", "x1", "x2")
        for left_facts, left in self.old.handed:
            for right_facts, right in self.new.handed:
                facts = (*self.given, *self.left.facts(left_facts), *self.right.facts(right_facts))
                terms = [
                    (n, self.left.term(left.registers[n]), self.right.term(right.registers[n])) for n in names
                ]
                goal = And(*(one == other for _, one, other in terms))
                self._require(
                    "handover", f"both hand the routine the same {', '.join(names)}", facts, goal, *terms
                )

    def model(self, result: Result) -> dict[str, str] | None:
        """Return values that show a difference of the kernels; None if they depend on unshared inputs.

        A callee's result or a spilled word is unconstrained in the proof, so values of these show nothing.
        """
        asked = self.asked.get(id(result.obligation), [])
        if not asked:
            return None
        given = [leaf for _, left, right in asked for term in (left, right) for leaf in leaves(term)]
        if not all(_is_given(leaf) for leaf in given):
            return None
        probes: Facts = tuple(
            (f"{side} {name}", var(f"{side} {name}", term.length) == term)
            for name, left, right in asked
            for side, term in zip(_sides(name), (left, right), strict=True)
        )
        fields = [(name, self.left.term(getattr(self.old.mk.fields, name))) for name in _LOADED]
        probes += tuple((name, var(f"kimage->{name}") == term) for name, term in fields)
        names = [f"{side} {name}" for name, _, _ in asked for side in _sides(name)]
        names += [f"kimage->{name}" for name in _LOADED]
        text = script((*result.obligation.hypotheses, *probes), result.obligation.goal)
        values = model_z3(text, names)
        if values is None:
            return None
        return {name: f"{values[name]:#x}" for name in names if name in values}


def _sides(name: str) -> tuple[str, str]:
    """Return the labels of a query's two terms: both kernels, or one kernel and the required value."""
    return ("found", "expected") if name in ("OLD", "NEW") else ("OLD", "NEW")


def _vectors_for_stub(mk: MachineKexec) -> Formula:
    """``pl-tables``: el2_vectors is 0 exactly if the hyp stub is not installed below the kernel."""
    below, none = mk.context.stub_below(mk.entry), mk.fields.el2_vectors == 0
    return Or(And(below, Not(none)), And(Not(below), none))


def _is_given(leaf: Term) -> bool:
    """Return whether the value belongs to the kimage or to what both kernels are entered with."""
    applied = application(leaf)
    if applied is not None:
        return applied.function.endswith("kimage@entry")
    return str(leaf.args[0]) in GIVEN


def support(side: Side, case: str) -> tuple[list[Result], list[str]]:
    """Return the dependencies of the relation on one kernel's proofs: unproved contracts, and assumptions.

    In place that is machine_kexec with the contracts it relies on, the restart code and the stub;
    through the routine, post_load's copy of it too; for a list, the routine's own properties.
    """
    prefixes = ["mk-", "call-", "contract-", "restart-", "stub"]
    if case == RELOCATED or side.skips:
        prefixes += ["pl-copied", "pl-kern-reloc", "pl-code", "pl-fits", "pl-position", "pl-loop", "pl-kept"]
    if case == RELOCATED:
        prefixes += ["pl-tables"]
    weak = [
        result
        for result in side.results
        if result.verdict is not Verdict.PROVED
        and result.obligation.name.startswith(tuple(prefixes))
        and result.obligation.name not in _OF_CACHES
    ]
    assumed = [
        f"{name}: {contract.sentence}" for name, (_, contract) in side.used.items() if contract.assumed
    ]
    return weak, sorted(assumed)


_OF_CACHES = frozenset({"mk-icache-invalid"})
"""Not of where control goes nor of memory: what the caches hold is compared by itself, in effects."""

GUARD = "guard"
"""Name of the queries whether a path skips the routine; a routine that faults on DONE depends on them."""

CASES = (IN_PLACE, RELOCATED)
