"""Replace calls by contracts: the state after a callee, as specs/contracts.py describes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from kexec_verify.arm64.cache import Changed, Cleaned, stored
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import SIZE, Code, Instruction
from kexec_verify.arm64.state import FLAGS, GENERAL, GHOSTS, SCRATCH, Access, Event, State, width
from kexec_verify.arm64.system import touch
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.logic import (
    FALSE,
    TRUE,
    And,
    Formula,
    If,
    Or,
    Term,
    aligned,
    const,
    constant,
    difference,
    normal,
    ule,
    var,
)
from kexec_verify.memory import WORD_BYTES
from kexec_verify.obligation import Facts, Obligation, unreached
from kexec_verify.specs.contracts import Contract, Registers, contract
from kexec_verify.symbolic.explore import Decide
from kexec_verify.symbolic.objects import STACK_FRAME, Object, Objects

ENDS = "ends"
"""How a path ends at a call of what never returns; that it is not reached is an obligation."""
ARGUMENTS = tuple(f"x{i}" for i in range(8))
CLOBBERED = (*(f"x{i}" for i in range(19)), "x30", *FLAGS, *SCRATCH)
"""What every callee may change (AAPCS64, 6.1.1; x18 is the platform's, and counted with them)."""
CONTROL_PAGE = "the control page"
_LEFT = "kimage+"
_CALLS = {"CALL", "CALLIND", "BRANCHIND"}
POINTED_BYTES = 1 << 16  # what a callee may take an object that it is given to have at least
RANGE_MARGIN = 4096  # bytes, more than a cache line
TOUCHED = ("icache", "unfinished")
"""Ghost components that the stores to a callee's own frame change."""


@dataclass
class Calls:
    """Applies contracts at the calls of one function.

    :param used: the contracts that were applied, by the callee's name.
    :param warned: the WARNs that paths go on after, each with a state that got there.
    :param leaving: addresses whose call ends the function.
    :param named: what is assumed of addresses that a state has read from the list.
    :param own: for an object's name, when the function may store to it; None for always.
    :param quiet: what machine-quiet says of a state; under it no call that never returns may be reached.
    :param decide: finds the calls that no state reaches; what it finds must be proved.
    :param guessing: the paths are run to guess an invariant, and nothing is concluded from them: a call
        that may turn out to be unreachable ends its path.
    :param copied: what was copied to the control page: start in the image, length in bytes, and the path.
    """

    context: KexecContext
    code: Code
    used: dict[str, tuple[int, Contract]] = field(default_factory=dict)
    obligations: list[Obligation] = field(default_factory=list)
    warned: dict[int, State] = field(default_factory=dict)
    copied: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    leaving: frozenset[int] = frozenset()
    named: Callable[[State], Facts] | None = None
    own: Callable[[str], Formula | None] | None = None
    quiet: Callable[[State], Facts] | None = None
    decide: Decide | None = None
    guessing: bool = False
    _count: int = 0

    def leave(self, step: Step) -> list[Step] | None:
        """Return the steps that follow ``step``, or None if the function ends there.

        :raises UnsupportedError: for a callee without a contract, by name.
        """
        assert isinstance(step.then, Exit)
        state, at = step.state, step.state.trace[-1]
        kind, target = step.then.kind, constant(step.then.target)
        if kind == "brk":
            if at not in self.code.warnings:
                return None
            self.warned.setdefault(at, state)
            return [Step(self._event(state, "warn", at), at + SIZE)]
        if target is not None and kind == "call" and self.code.enters(target):
            return [Step(state, target)]
        if target is not None and kind == "ret" and target in self.code:
            return [Step(state, target)]
        if kind not in ("call", "br") or target is None or target in self.leaving:
            return None
        unreached_call = [Step(state, Exit(ENDS, const(target)))]
        try:
            name, found = self.callee(target, at)
        except UnsupportedError:
            if self.guessing or self._never_called(self.context.where(target), state, at):
                return unreached_call
            raise
        if found.reports and (self.guessing or self._never_called(name, state, at)):
            return unreached_call
        take(self.used, name, target, found)
        after = self.apply(found, name, state, at)
        if not found.returns:
            return [Step(after, Exit(ENDS, const(target)))]
        if kind == "br":
            return [Step(after, Exit("ret", state.registers["x30"]))]
        return [Step(after, at + SIZE)]

    def callee(self, target: int, at: int) -> tuple[str, Contract]:
        """Return the name of the function at ``target``, and its contract."""
        names = self.context.kernel.symbols_at(target)
        for name in names:
            found = contract(name)
            if found is not None:
                return name, found
        shown = names[0] if names else self.context.where(target)
        raise UnsupportedError(f"call of {shown}, which has no contract", at)

    def _event(self, state: State, name: str, at: int, tag: str | None = None) -> State:
        operands = tuple(state.registers[register] for register in ARGUMENTS)
        event = Event(name, operands, at, len(state.facts), state, tag)
        return replace(state, events=(*state.events, event))

    def apply(self, found: Contract, name: str, before: State, at: int) -> State:
        """Return the state after the call of ``name``, or at the call if the callee does not return."""
        self._count += 1
        tag = f"{name}#{self._count}"
        after = self._event(before, f"call {name}", at, tag)
        if not found.returns:
            self._require_unreached(name, after.events[-1], "which never returns")
            return after
        free = clobbered(self.context, name, found)
        after = after.with_registers(**{r: var(f"{r}@{tag}", width(r)) for r in free})
        changed = {*found.changes, *TOUCHED}
        registers = {n: var(f"{n}@{tag}", width(n)) for n in found.changes if n not in GHOSTS}
        after = after.with_registers(**registers)
        ghosts = {n: var(f"{n}@{tag}", bits) for n, bits in GHOSTS.items() if n in changed}
        after = after.with_ghosts(**ghosts)
        x = self.values(before)
        if found.ensures is not None:
            after = after.assume((f"contract of {name}", found.ensures(x, self.values(after))))
        if found.answers_stub:
            answer = If(self.context.stub_below(before), const(1, 8), const(0, 8))
            after = after.assume((f"contract of {name}", after.registers["x0"][7:0] == answer))
        if found.cleans is not None:
            start, end = found.cleans(x)
            self._require(name, start, end, before, at)
            after = replace(after, lines=Cleaned(after.lines, normal(start), normal(end), None))
        if found.fetches is not None:
            start, end = found.fetches(x)
            self._require(name, start, end, before, at)
            fetch = Cleaned(after.fetch, normal(start), normal(end), after.lines)
            after = replace(after, fetch=fetch)
        if found.copies is not None:
            after = self._copy(found.copies(x), name, after, at)
        if found.takes_pages:
            after = self._take_pages(after, tag)
        self._require_pointers(found, name, before, at)
        for number, register in enumerate(found.fills):
            value = filled(after.events[-1], number)
            pointer = before.registers[register]
            after = replace(after, memory=after.memory.store(pointer, value))
            after = touch(after, pointer, const(WORD_BYTES))
        return after

    def _take_pages(self, after: State, tag: str) -> State:
        """Forget the words of struct kimage that no field names: its lists of pages change."""
        memory = objects(after)
        if any(item.name == "kimage" for item in memory.objects):
            for offset in self.context.layout.others:
                memory = memory.storing("kimage", offset, left_by_callee(offset, tag))
        return replace(after, memory=memory)

    def _copy(self, copied: tuple[Term, Term, Term], name: str, after: State, at: int) -> State:
        """Copy a constant number of bytes of the image to a page of its own."""
        dest, source, length = copied[0], constant(copied[1]), constant(copied[2])
        kernel, page = self.context.kernel, self.context.page_size
        if source is None or length is None or not kernel.mapped(source, max(length, 1)) or length > page:
            raise UnsupportedError(f"{name} of bytes that are not a constant part of the image", at)
        linear = self.context.address_map(after).in_linear_map(dest)
        after = after.assume(("control-page-linear", And(linear, ule(dest, const(-(1 << 20))))))
        memory = objects(after).adding(Object(CONTROL_PAGE, dest, 0, page))
        for offset, byte in enumerate(kernel.read(source, length)):
            memory = memory.storing(CONTROL_PAGE, offset, const(byte, 8))
        self.copied.append((source, length, after.trace))
        lines = stored(after.lines, dest, const(length), after.cacheable)
        return replace(after, memory=memory, lines=lines, fetch=Changed(after.fetch, dest, const(length)))

    def _never_called(self, name: str, state: State, at: int) -> bool:
        """Return whether no state reaches the call of ``name``; that is then an obligation."""
        further = self.quiet(state) if self.quiet else ()
        if self.decide is None or not self.decide((*state.facts, *further), FALSE):
            return False
        self._require_unreached(name, self._event(state, f"call {name}", at).events[-1])
        return True

    def _require_unreached(self, name: str, call: Event, which: str = "") -> None:
        """Require that no path of a quiet machine reaches the call; ``which`` describes the call."""
        before = call.before
        further = self.quiet(before) if self.quiet else ()
        sentence = f"at {self.code.where(call.at)} {name}{f', {which},' if which else ''} is not called"
        fault = f"{name} is called{f', {which}' if which else ''}"
        required = unreached("call-unreached", sentence, fault, before.facts, further, call.at, call)
        self.obligations.append(required)

    def _require_pointers(self, found: Contract, name: str, before: State, at: int) -> None:
        """Require valid pointers for what the callee reads, and for the words that it sets."""
        memory, where = objects(before), self.code.where(at)

        def require(register: str, size: int, what: str, *further: Formula) -> None:
            pointer = before.registers[register]
            item, offset = memory.find(pointer)
            self.obligations.append(
                Obligation(
                    "call-pointer",
                    f"at {where} {name} is given in {register} {what} {item.name}",
                    before.facts,
                    And(item.holds(offset, size), not_below(before.sp, item, offset), *further),
                    at,
                    before.trace,
                )
            )

        for register in found.texts:
            text = constant(before.registers[register])
            held = text is not None and self.context.kernel.mapped(text)
            sentence = f"at {where} {name} is given in {register} an address in the kernel image"
            goal = TRUE if held else FALSE
            self.obligations.append(
                Obligation("call-pointer", sentence, before.facts, goal, at, before.trace)
            )
        for register, what in found.points.items():
            require(register, POINTED_BYTES, f"an {what}, in")
        for register in found.fills:
            item, _ = memory.find(before.registers[register])
            allowed = self.own(item.name) if self.own is not None else None
            require(register, WORD_BYTES, "a word to set, in", *(() if allowed is None else (allowed,)))

    def _require(self, name: str, start: Term, end: Term, before: State, at: int) -> None:
        shown = f"at {self.code.where(at)} {name} is given an address range that"
        facts = (*before.facts, *(self.named(before) if self.named else ()))
        mapped = self.context.address_map(before).shows(start, end)
        for sentence, goal in (
            (f"{shown} does not end below its start", range_is_sane(start, end)),
            (f"{shown} lies in the linear map", mapped),
        ):
            self.obligations.append(Obligation("call-range", sentence, facts, goal, at, before.trace))

    def values(self, state: State) -> Registers:
        """Return the registers and ghost components that a contract's formulas use."""
        found = {**state.registers, **state.ghosts}
        if "reserved_pg_dir" in self.context.globals:
            address_map_word = self.context.word(state, "kimage_voffset")
            found["PA(reserved_pg_dir)"] = const(self.context.globals["reserved_pg_dir"]) - address_map_word
        folds = self.context.globals.folds_ttbr
        found["folds TTBR"] = const(2 if folds is None else int(folds))
        return found


def take(used: dict[str, tuple[int, Contract]], name: str, address: int, found: Contract) -> None:
    """Record in ``used`` that the function called ``name`` at ``address`` is called by contract.

    Static functions of several files may share a name: the contract must be proved of each.
    """
    if used.setdefault(name, (address, found))[0] != address:
        used[f"{name}@{address:#x}"] = address, found


def filled(call: Event, number: int = 0) -> Term:
    """Return the value that a callee stores in the ``number``-th word that it is given to set."""
    return var(f"word{number}@{call.tag}")


def left_by_callee(offset: int, tag: str) -> Term:
    """Return the word of struct kimage at ``offset`` after a callee has taken pages."""
    return var(f"{_LEFT}{offset:#x}@{tag}")


def is_left_by_callee(word: Term, offset: int) -> bool:
    """Return whether a callee that takes pages has left ``word`` at ``offset``: nothing was stored since."""
    return word.op == "BVS" and str(word.args[0]).startswith(f"{_LEFT}{offset:#x}@")


def may_change(context: KexecContext) -> list[str]:
    """The registers that a callee of which nothing else is known may change."""
    return [register for register in CLOBBERED if register != "x18" or not context.shadow_calls]


def clobbered(context: KexecContext, name: str, found: Contract) -> list[str]:
    """Return the registers that the callee called ``name`` may change.

    A compiler relies on more than AAPCS64 if it has compiled the callee as well (gcc -fipa-ra): a callee
    that makes no call preserves the registers that it does not write. They are read off its bytes here, and
    the proof of its contract proves it. Nothing is read if the contract is assumed or if it is a copy. No
    callee changes x18 in a kernel with a shadow call stack.
    """
    usual = may_change(context)
    if found.assumed or found.copies is not None:
        return usual
    written: set[str] = set()
    try:
        # A caller knows no choice: it relies on what the callee keeps as it is linked.
        code = (context.linked or context).code(name)
        for instruction in (code.at(at) for piece in code.pieces for at in piece.addresses):
            if not _stays(instruction, code):
                return usual
            outputs = [o.output for o in instruction.operations if o.output is not None]
            written |= {v.getRegisterName() for v in outputs if v.space.name == "register"}
    except UnsupportedError:
        return usual
    candidates = [r for r in GENERAL if r in CLOBBERED and r != "x30"]  # the call itself writes x30
    kept = {r for r in candidates if not {r, f"w{r[1:]}"} & written}
    return [register for register in usual if register not in kept]


def _stays(instruction: Instruction, code: Code) -> bool:
    """Return whether it calls nothing, EL2 included, and branches only within ``code``."""
    if _CALLS.intersection(instruction.opcodes) or instruction.text.startswith("hvc"):
        return False
    goes = [o.inputs[0] for o in instruction.operations if o.opcode.name in ("BRANCH", "CBRANCH")]
    return all(v.space.name != "ram" or v.offset in code for v in goes)


def range_is_sane(start: Term, end: Term) -> Formula:
    """``start`` is not above ``end``, and the lines around both do not wrap at the top of memory."""
    return And(ule(start, end), ule(end, const(-RANGE_MARGIN)))


def required_access(
    prefix: str, where: Callable[[int], str], access: Access, own: Callable[[str], Formula | None]
) -> list[Obligation]:
    """Return the obligations on one access: it stays in its object, and a store is allowed there.

    :param own: for an object's name, when it may be stored to; None for always.
    """
    memory = objects(access.before)
    item, _ = memory.find(access.address)
    shown = f"the {access.kind} at {where(access.at)}"
    goals = [("access", f"{shown} stays in {item.name}", in_object(access))]
    allowed = own(item.name) if access.kind == "store" else None
    if allowed is not None:
        goals.append(("store", f"{shown} to {item.name} is allowed there", allowed))
    # A goal that is plainly true needs no path condition: one obligation covers every path to it.
    return [
        Obligation(
            f"{prefix}-{kind}",
            sentence,
            () if goal.is_true() else access.before.facts[: access.known],
            goal,
            access.at,
            subject=access,
        )
        for kind, sentence, goal in goals
    ]


def in_object(access: Access) -> Formula:
    """The access stays in the object that its address is made of, and in the stack frame not below SP."""
    memory = objects(access.before)
    item, offset = memory.find(access.address)
    # An instruction that pushes or pops is at the lower of its two stack pointers.
    live = Or(*(not_below(sp, item, offset) for sp in (access.sp, access.before.sp)))
    return And(memory.inside(access.address, access.size), live)


def not_below(sp: Term, item: Object, offset: Term) -> Formula:
    """Bytes at ``offset`` in ``item`` are not below SP, where an interrupt or a callee may write."""
    if item.name != STACK_FRAME or item.base is None:
        return TRUE
    return ule(normal(difference(sp, item.base) - item.low), normal(offset - item.low))


def stack_obligations(name: str, code: Code, entry: State, states: Iterable[State]) -> list[Obligation]:
    """Require SP to be a multiple of 16 at accesses through it and at calls (SCTLR_EL1.SA; AAPCS64,
    6.4.5.1).
    """
    assumed = ("stack-aligned", aligned(entry.sp, 16))
    found: dict[int, Obligation] = {}
    for state in states:
        uses: list[tuple[Access | Event, Term, str]] = [
            (access, access.sp, f"the {access.kind} through SP")
            for access in state.accesses
            if code.at(access.at).through_sp
        ]
        uses += [(e, e.before.sp, "the call") for e in state.events if e.name.startswith("call ")]
        for subject, sp, what in uses:
            goal = aligned(normal(sp), 16)
            sentence = f"SP is a multiple of 16 at {what} at {code.where(subject.at)}"
            fault = f"SP is not a multiple of 16 at {what}"
            required = Obligation(name, sentence, (assumed,), goal, subject.at, fault=fault, subject=subject)
            found.setdefault(goal.hash(), required)
    return list(found.values())


def without_doubles(obligations: Iterable[Obligation]) -> list[Obligation]:
    """Drop repeated obligations among those without hypotheses."""
    found: list[Obligation] = []
    seen: set[tuple[str, str, int | None, int]] = set()
    for obligation in obligations:
        key = (obligation.name, obligation.sentence, obligation.at, obligation.goal.hash())
        if obligation.hypotheses or key not in seen:
            seen.add(key)
            found.append(obligation)
    return found


def objects(state: State) -> Objects:
    """Return the memory of a state of C code."""
    if not isinstance(state.memory, Objects):
        raise UnsupportedError("memory that is not modelled as objects")
    return state.memory
