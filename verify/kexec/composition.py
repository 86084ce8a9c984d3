"""Compose the parts of the whole kexec path, from machine_kexec to the new kernel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from kexec_verify.arm64.lift import Code
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.callees import Callee
from kexec_verify.kexec.calls import take
from kexec_verify.kexec.choices import name_of, said_where, sites_of, variants, where_set
from kexec_verify.kexec.context import RESTART, KexecContext
from kexec_verify.kexec.copier import Copier
from kexec_verify.kexec.joins import Joins
from kexec_verify.kexec.kvm_vectors import (
    HostVector,
    StubHandler,
    answers_as_assumed,
    has_kvm,
    is_nameless,
)
from kexec_verify.kexec.layout import layout_of
from kexec_verify.kexec.list_builder import ListFunction
from kexec_verify.kexec.list_chain import NAME as CHAIN
from kexec_verify.kexec.list_chain import chain
from kexec_verify.kexec.list_code import FUNCTIONS as LISTS
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.machine_kexec import NAME, Bug, MachineKexec
from kexec_verify.kexec.post_load import NAME as POST_LOAD
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.kexec.soft_restart import COPIED_VECTORS, VECTORS, El2Code, HypStub, SoftRestart
from kexec_verify.kexec.tables import NAME as TABLES
from kexec_verify.kexec.tables import TableCopy, copying_code
from kexec_verify.obligation import Obligation
from kexec_verify.specs.capabilities import PROTECTED_KVM
from kexec_verify.specs.contracts import Contract
from kexec_verify.specs.hyp_stub import HVC_SET_VECTORS
from kexec_verify.specs.kvm_vectors import HOST_VECTORS, STUB_HANDLER
from kexec_verify.symbolic.explore import Decide
from kexec_verify.symbolic.loop_iterations import LoopIterations
from kexec_verify.target import Kernel

CALLEE = "callee "
"""What the names of callees' parts begin with."""
STANDALONE = (TABLES, *LISTS, CHAIN)
"""What is proved without the others: functions, and at last what follows from them for the list."""
_MARKS = (NAME, POST_LOAD, "kernel_kexec", "__crash_kexec", "start_kernel")


_BUILDERS = (*LISTS, "kimage_load_segment")


def builds_lists(kernel: Kernel) -> bool:
    """Return whether the target has any of kexec_core's functions that build lists, or a clone of one."""
    return any(symbol.name.partition(".")[0] in _BUILDERS for symbol in kernel.symbols)


def has_whole_path(kernel: Kernel) -> bool:
    """Return whether this is a whole kernel, and not the routine alone."""
    return any(kernel.symbol(name) is not None for name in _MARKS)


@dataclass
class Part:
    """One function's part of the kexec path: its obligations, or why there are none.

    :param iterations: its loops, each described by its state after any number of iterations.
    :param proof: what ran it, for those who look for a concrete run.
    :param callee: the proof of a callee's contract, if it is no copy of bytes.
    :param tables: the proof of the copy of the linear map.
    :param list_function: the proof of a function that builds the list.
    :param used: the contracts that it relies on, by the callee's name.
    :param copied: copies of the image that it makes, or that it is the proof of: start, length in bytes.
    :param context: the kernel that it is about; None for the composition's own.
    """

    function: str
    obligations: list[Obligation] = field(default_factory=list)
    trouble: UnsupportedError | LimitError | None = None
    code: Code | None = None
    covered: frozenset[int] = frozenset()
    bugs: list[Bug] = field(default_factory=list)
    iterations: Sequence[LoopIterations] = ()
    proof: MachineKexec | PostLoad | SoftRestart | El2Code | None = None
    callee: Callee | None = None
    tables: TableCopy | None = None
    list_function: ListFunction | None = None
    used: dict[str, tuple[int, Contract]] = field(default_factory=dict)
    copied: list[tuple[int, int]] = field(default_factory=list)
    context: KexecContext | None = None

    @property
    def has_own_runs(self) -> bool:
        """Runs over tables or lists refute it, or it is about no bytes."""
        return self.tables is not None or self.list_function is not None or self.function == CHAIN


@dataclass
class Composition:
    """The parts of the kexec path in one kernel.

    :param variant: of its relocation routine.
    :param choices: prove each callee also where boot has patched it, for each set of choices.
    :param proved_both_ways: patch sites that have obligations for each way they may be, and the choice.
    :param refusing: patch sites by which protected KVM refuses HVC_SOFT_RESTART; that it does is assumed.
    :param kept: parts of another kernel's path that are reused, by name; the caller
        knows that nothing differs of what they read.
    """

    kernel: Kernel
    variant: AbiVariant
    routine: Function
    decide: Decide
    parts: dict[str, Part] = field(default_factory=dict)
    contracts: dict[str, tuple[int, Contract]] = field(default_factory=dict)
    copied: list[tuple[int, int]] = field(default_factory=list)
    kept: Mapping[str, Part] = field(default_factory=dict)
    choices: bool = False
    proved_both_ways: dict[int, str] = field(default_factory=dict)
    refusing: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        layout = layout_of(self.kernel, self.routine, self.variant.layout)
        self.context = KexecContext(self.kernel, layout, self.variant.page_size)
        self.by_restart = not self.variant.kimage
        self.through_routine = self.variant.tests_head

    def build(self, only: Collection[str] = (), lists: bool | None = None) -> None:
        """Run every function and add its obligations.

        :param only: these functions alone; each must be one of STANDALONE.
        :param lists: those that build lists too; None where T10 is about the kernel and it has one of them.
        """
        if only:
            self._alone(only)
            return
        self._attempt(NAME, self._machine_kexec)
        self._attempt(POST_LOAD, self._post_load)
        self._attempt(RESTART[0], self._restart)
        self._attempt(VECTORS, lambda part: self._at_el2(part, HypStub(self.context, VECTORS, False)))
        asked = f"{VECTORS}, HVC_SET_VECTORS"
        sets = HVC_SET_VECTORS
        self._attempt(asked, lambda part: self._at_el2(part, HypStub(self.context, VECTORS, False, sets)))
        if has_kvm(self.kernel) and is_nameless(self.kernel) and not self.variant.kimage:
            self._attempt(HOST_VECTORS, lambda part: part.obligations.append(answers_as_assumed()))
        elif has_kvm(self.kernel):
            self._attempt(HOST_VECTORS, lambda part: self._kvm(part, HostVector))
            self._attempt(STUB_HANDLER, lambda part: self._kvm(part, StubHandler))
        if self.variant.kimage:
            copied = COPIED_VECTORS
            self._attempt(copied, lambda part: self._at_el2(part, HypStub(self.context, copied, True)))
            self._attempt(TABLES, self._tables)
        if lists is None:
            lists = self.variant.kimage and builds_lists(self.kernel)
        if lists:
            self._alone((*LISTS, CHAIN))
        self.build_callees()
        self._attempt("", self._join)

    def _alone(self, functions: Collection[str]) -> None:
        """Run functions whose proofs use no contract that is proved."""
        for name in functions:
            if name == TABLES:
                self._attempt(TABLES, self._tables)
            elif name == CHAIN:
                self._attempt(CHAIN, self._chain)
            else:
                self._attempt(name, self._list_function)

    def _attempt(self, name: str, build: Build) -> None:
        part = self.kept.get(name, Part(name))
        self.parts[name] = part
        try:
            if name not in self.kept:
                build(part)
            self._use(part.used)
            self.copied += part.copied
        except (UnsupportedError, LimitError) as error:
            part.trouble = error
            if part.proof is not None:
                # What fails whatever comes after it: a run may show it all the same.
                part.obligations = [o for o in part.proof.obligations if o.goal.is_false()]

    def _use(self, used: dict[str, tuple[int, Contract]]) -> None:
        """Record contracts that are relied on, by the callee's name."""
        for key, (address, found) in used.items():
            take(self.contracts, key.partition("@")[0], address, found)

    def _machine_kexec(self, part: Part) -> None:
        proof = MachineKexec(self.context, self.decide, self.through_routine, self.by_restart, self.routine)
        part.proof = proof
        part.code = proof.code
        proof.prove()
        part.obligations, part.bugs = proof.obligations, proof.bugs
        part.covered = frozenset(proof.covered)
        part.used, part.copied, part.iterations = proof.used, proof.copied, proof.iterations

    def _post_load(self, part: Part) -> None:
        proof = PostLoad(
            self.context, self.decide, self.routine, self.through_routine, self.variant.kimage, self.choices
        )
        part.proof = proof
        part.code = proof.code
        proof.prove()
        part.obligations, part.bugs = proof.obligations, proof.bugs
        part.covered = frozenset(proof.covered)
        part.used, part.copied, part.iterations = proof.used, proof.copied, proof.iterations
        self.proved_both_ways |= proof.keys

    def _restart(self, part: Part) -> None:
        proof = SoftRestart(self.context, self.decide)
        part.proof = proof
        part.function, part.code = proof.code.name, proof.code
        proof.prove()
        part.obligations, part.covered = proof.obligations, frozenset(proof.code.addresses)

    def _at_el2(self, part: Part, proof: El2Code) -> None:
        part.proof = proof
        proof.prove()
        part.obligations, part.covered = proof.obligations, frozenset(proof.covered)

    def _kvm(self, part: Part, kind: type[HostVector | StubHandler]) -> None:
        """Prove code of KVM's at EL2, and note where protected KVM has other instructions."""
        proof = kind(self.context)
        self._at_el2(part, proof)
        sites = sites_of(self.kernel, proof.code)
        self.refusing |= {s.address for s in sites if name_of(self.kernel, s) == PROTECTED_KVM}

    def _tables(self, part: Part) -> None:
        self._copy(part, self.context)
        if self.choices:
            # A key's sites are followed both ways: it may be turned while the loops run.
            self._variants(TABLES, part, copying_code(self.context), self._copy, keys_too=False)

    def _copy(self, part: Part, context: KexecContext) -> None:
        proof = TableCopy(context, self.decide, self.choices)
        proof.prove()
        self.proved_both_ways |= proof.choices
        part.code, part.tables = proof.code, proof
        part.obligations, part.covered = proof.obligations, frozenset(proof.covered)

    def _list_function(self, part: Part) -> None:
        proof = ListFunction(self.context, part.function, self.decide)
        part.code, part.list_function = proof.code, proof
        proof.prove()
        part.obligations, part.covered = proof.obligations, frozenset(proof.covered)

    def _chain(self, part: Part) -> None:
        part.obligations = chain(self.context)

    def build_callees(self) -> None:
        """Prove each contract that a caller used, and those that the callee itself uses."""
        todo = dict(self.contracts)
        while todo:
            name, (address, contract) = todo.popitem()
            part_name = f"{CALLEE}{name}"
            if part_name in self.parts or contract.assumed:
                continue
            part = self.kept.get(part_name)
            if part is None or (contract.copies is not None and part.copied != self._copies()):
                part = Part(name.partition("@")[0])
                try:
                    self._callee(contract, address, part, self.context)
                except (UnsupportedError, LimitError) as error:
                    part.trouble = error
            self.parts[part_name] = part
            self._use(part.used)
            if self.choices and part.trouble is None:
                code, prove = (
                    self.context.code(part.function, address),
                    partial(self._callee, contract, address),
                )
                self._variants(part_name, part, code, prove)
            todo |= self.contracts

    def _variants(
        self, part_name: str, linked: Part, code: Code, prove: Prove, keys_too: bool = True
    ) -> None:
        """Prove a function also where boot has patched it, for each set of choices.

        What cannot be executed there is a part with trouble: what is said of the function is not proved then.

        :param keys_too: static keys are among the choices.
        """
        sites = [site for site in sites_of(self.kernel, code) if keys_too or site.key is None]
        try:
            found = list(variants(self.kernel, code, keys_too))
        except (UnsupportedError, LimitError) as error:
            names = ", ".join(sorted({name_of(self.kernel, site) for site in sites}))
            self.parts[f"{part_name}, {names}"] = Part(linked.function, trouble=where_set(names, error))
            return
        for variant in found:
            part = self.parts[f"{part_name}, {variant.title}"] = Part(linked.function)
            try:
                part.context = self.context.where_set(variant)
                prove(part, part.context)
            except (UnsupportedError, LimitError) as error:
                part.trouble = where_set(variant.title, error)
            said = said_where(variant.title)
            part.obligations = [replace(o, sentence=said + o.sentence) for o in part.obligations]
            self._use(part.used)
        self.proved_both_ways |= {site.address: name_of(self.kernel, site) for site in sites}

    def _callee(self, contract: Contract, address: int, part: Part, context: KexecContext) -> None:
        if contract.copies is not None:
            part.copied = self._copies()
            for start, length in part.copied:
                copier = Copier(context, part.function, start, length, self.decide, address)
                copier.prove()
                part.obligations += copier.obligations
                part.covered |= copier.covered
            return
        proof = Callee(context, part.function, contract, self.decide, address)
        part.callee, part.code = proof, proof.code
        used = proof.prove()
        part.obligations, part.covered, part.used = proof.obligations, frozenset(proof.covered), used

    def _copies(self) -> list[tuple[int, int]]:
        """Return the copies of the routine that post_load makes: start, and length in bytes."""
        return sorted(set(self.copied))

    def _join(self, part: Part) -> None:
        part.obligations += Joins(self.context, self.routine, self.variant).obligations()


type Build = Callable[[Part], None]
type Prove = Callable[[Part, KexecContext], None]
