"""Check the proof obligations at a function's end for a concrete run of it.

The obligations are those of the proof, built for a state made of constants: registers and memory from
Unicorn, barriers and caches from the plain ghost state. No path, contract or solver is involved. So a run
that breaks what is PROVED shows an error in one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import msgspec
from kexec_verify.arm64.cache import LineState
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.state import FLAGS, GENERAL, GHOSTS, SYSTEM, Event, State
from kexec_verify.kexec.calls import CONTROL_PAGE
from kexec_verify.kexec.context import FRAME_BYTES, SHADOW_CALL_BYTES, KexecContext
from kexec_verify.kexec.list_flush import LIST_POINTER, LIST_WORD
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.kexec.soft_restart import El2Code, SoftRestart
from kexec_verify.logic import Term, const, constant
from kexec_verify.obligation import Obligation
from kexec_verify.refute import ghost as plain
from kexec_verify.refute.functions.contract_run import FILLED, LIMIT, ContractRun, Range, varied
from kexec_verify.refute.functions.effects import Inputs
from kexec_verify.refute.functions.layout import base
from kexec_verify.refute.functions.path_run import PAGE
from kexec_verify.refute.functions.values import image_of, usual_word
from kexec_verify.specs.kimage import IND_DONE, IND_INDIRECTION, IND_SOURCE
from kexec_verify.substitute import Substitution
from kexec_verify.symbolic.objects import SHADOW_CALL_STACK, STACK_FRAME, Object, Objects

type Function = MachineKexec | PostLoad | SoftRestart | El2Code

_TASK_BYTES = 1 << 14
_WORDS = 64  # of a list that a run is given; it has two or three
_LIST_OFFSET, _LIST_BYTES = 0x40_0000, 0x1_0000


@dataclass(frozen=True)
class _Line:
    """The state of the one word in question."""

    value: int

    def read(self, address: Term) -> Term:
        return const(self.value, 2)


def broken(
    proof: Function, inputs: Inputs, wanted: Callable[[str], bool]
) -> tuple[str | None, tuple[int, ...]]:
    """Return which obligation a run of ``proof``'s code breaks, None if none does; and the run's
    instructions.

    :param proof: one that has not run; only its obligations are used.
    :param inputs: registers and memory; callees answer by contract.
    :param wanted: whether an obligation of that name counts.
    :raises UnsupportedError: if the run comes to an instruction without a model.
    """
    judge = _Judge(proof, inputs, wanted)
    return judge.broken(), tuple(judge.run.trace)


class _Judge:
    def __init__(self, proof: Function, inputs: Inputs, wanted: Callable[[str], bool]):
        self.proof, self.context, self.wanted = proof, proof.context, wanted
        self.entry: State = proof.entry if not isinstance(proof, El2Code) else proof.entered()
        self.inputs = _long(inputs)
        self.list: list[tuple[int, int]] = []
        self.answered: dict[str, int] = {}
        self.image = image_of(proof)
        self.segments = self._segments() if self.image is not None else []
        if self.image is not None and self.image.flush is not None:
            self.list = self._listed()
        dirty = {at & -PAGE for start, end in self.segments for at in (start, end - 8)}
        dirty |= {at & -PAGE for at, _ in self.list} | {at & -PAGE for at, _ in self._list_words()}
        self.run = ContractRun(proof.code, self.inputs, self.context, self._regions(), dirty)

    # Where things are

    def _objects(self) -> dict[str, Range]:
        context, low = self.context, self.context.globals.low
        if isinstance(self.proof, (SoftRestart, El2Code)):
            uses_stack = isinstance(self.proof, El2Code) and self.proof.uses_stack
            frame = base(context, STACK_FRAME)
            own = {STACK_FRAME: (frame - FRAME_BYTES, frame), "the image": (low, context.globals.high)}
            return own if uses_stack else {}
        places = {name: base(context, name) for name in ("kimage", STACK_FRAME, "the task")}
        lists, shadow = context.page_offset + _LIST_OFFSET, base(context, SHADOW_CALL_STACK)
        return {
            "kimage": (places["kimage"], places["kimage"] + context.layout.size),
            STACK_FRAME: (places[STACK_FRAME] - FRAME_BYTES, places[STACK_FRAME]),
            "the task": (places["the task"], places["the task"] + _TASK_BYTES),
            SHADOW_CALL_STACK: (shadow, shadow + SHADOW_CALL_BYTES),
            "the image": (low, context.globals.high),
            "the list": (lists, lists + _LIST_BYTES),
        }

    def _regions(self) -> list[Range]:
        found = list(self._objects().values())
        if self.image is not None:
            page = base(self.context, CONTROL_PAGE) & -PAGE
            found.append((page, page + (1 << 16)))
        return found

    def _segments(self) -> list[Range]:
        """Return the image's segments in the linear map."""
        assert self.image is not None
        layout, found = self.context.layout, []
        kimage = base(self.context, "kimage")
        count = self.inputs.memory.get(kimage + layout.nr_segments, 0)
        for index in range(min(count, 16)):
            asked = self.image.segment(const(index))
            start = self.value(self.image.map.phys_to_linear(asked.mem))
            size = self.value(asked.memsz)
            if size and size < 1 << 32:
                found.append((start, start + size))
        return found

    def _listed(self) -> list[tuple[int, int]]:
        """Return address and value of each word of the list; empty if the list does not end in this run."""
        found: list[tuple[int, int]] = []
        at = base(self.context, "kimage") + self.context.layout.head
        while len(found) < _WORDS:
            word = self._word(at)
            found.append((at, word))
            if word & IND_DONE:
                return found
            indirection = word & IND_INDIRECTION and not word & IND_SOURCE
            at = self._shown(word) if indirection else at + 8
        return []

    def _shown(self, word: int) -> int:
        """Return the linear map's address of the page that a word of the list names."""
        assert self.image is not None
        page = word & ~(self.context.page_size - 1)
        return self.value(self.image.map.phys_to_linear(const(page)))

    def _list_words(self) -> Iterator[tuple[int, int]]:
        """Yield the words that the routine reads of list and source pages, each with an entry's index."""
        for index, (at, word) in enumerate(self.list):
            if index:
                yield at, index
            if word & IND_SOURCE and not word & IND_DONE:
                page = self._shown(word)
                yield from ((page, index), (page + self.context.page_size - 8, index))

    # Values of terms over the entry

    def value(self, term: Term) -> int:
        """Return the value in this run of a term over the state at entry."""
        found = constant(self._bind(0, 0, 0)(term))
        assert found is not None
        return found

    def _bind(self, word: int, segment: int, listed: int) -> Substitution:
        """Return this run's terms, at one word of memory, one segment and one word of the list."""
        given, last = self.inputs.registers, len(self.list) - 1

        def variable(name: str, width: int) -> Term | None:
            register, _, tag = name.partition("@")
            if register == "x0" and tag in self.answered:
                return const(self.answered[tag], width)
            special = {"a": word, "segment": segment, "word": listed, "last": last}
            special |= {f"word{number}": value for number, value in enumerate(FILLED)}
            return const(special.get(register, given.get(register, 0)), width)

        def apply(name: str, width: int, arguments: tuple[Term, ...]) -> Term | None:
            if name == "signed":
                return arguments[0]
            if name.startswith("L@") or name.startswith("F@"):
                return const(plain.DIRTY, width)
            address = constant(arguments[0])
            assert address is not None
            if name in (LIST_POINTER, LIST_WORD):
                standing = self.list[address] if address < len(self.list) else (0, 0)
                return const(standing[name == LIST_WORD], width)
            return const(self._word(address), width)

        return Substitution(variable, apply)

    def _word(self, address: int) -> int:
        low = address & -8
        if low in self.inputs.memory or low & -PAGE in self.inputs.pages:
            return self.inputs.memory.get(low, 0)
        return usual_word(self.context, low)

    # The run as a state

    def broken(self) -> str | None:
        run = self.run
        run.run()
        self.answered = run.answered
        left = run.left
        assert left is not None
        if run.undecided:
            return None
        if run.misplaced:
            return run.misplaced
        fault = self._misplaced()
        if fault is not None or left.kind == "ends":
            return fault  # only the proof checks that a function which never returns is not called
        if left.kind not in ("call", "br", "ret", "eret", "brk"):
            return f"control leaves {run.code.name} by a forbidden {left.kind} at {run.code.where(left.at)}"
        for word, segment, listed in self._asked():
            proof = replace(self.proof, obligations=[])
            self._require(proof, self._step(word))
            bind = self._bind(word, segment, listed)
            required = [
                *proof.obligations,
                *(proof.image.obligations if isinstance(proof, MachineKexec) and proof.image else []),
                *(
                    [*proof.image.obligations, *proof.preparation.obligations]
                    if isinstance(proof, PostLoad)
                    else []
                ),
            ]
            for obligation in required:
                if self.wanted(obligation.name) and self._is_broken(bind, obligation):
                    where = run.code.where(obligation.at or left.at)
                    fault = f"must hold: {obligation.sentence}; found: {self._found()}"
                    return f"{where}: {obligation.fault or fault}"
        return None

    def _is_broken(self, bind: Substitution, obligation: Obligation) -> bool:
        if any(not bind(fact).is_true() for _, fact in obligation.hypotheses):
            return False
        return bool(bind(obligation.goal).is_false())

    def _found(self) -> str:
        registers, left = self.run.registers(), self.run.left
        assert left is not None
        names = ("x0", "x1", "x2", "x3", "x4", "ttbr0_el1", "tcr_el1")
        shown = ", ".join(f"{name} = {registers[name]:#x}" for name in names)
        return f"{left.kind} to {left.target:#x} with {shown}"

    def _misplaced(self) -> str | None:
        """Return the first access outside of every object, or store where none is allowed."""
        objects = self._objects()
        own = (STACK_FRAME, SHADOW_CALL_STACK)
        may_store = (*own, "kimage") if isinstance(self.proof, PostLoad) else own
        for access in self.run.accesses:
            inside = [
                name
                for name, (start, end) in objects.items()
                if start <= access.address and access.address + access.size <= end
            ]
            if not inside or (access.kind == "store" and inside[0] not in may_store):
                where = self.run.code.where(access.at)
                return f"the {access.kind} at {where} goes to {access.address:#x}, which is not allowed"
        return None

    def _asked(self) -> Iterator[tuple[int, int, int]]:
        """Yield words to check, each with the segment and the list entry that it belongs to."""
        words = [
            (at, i, 0) for i, (start, end) in enumerate(self.segments) for at in (start & -8, (end - 1) & -8)
        ]
        words += [(at, 0, index) for at, index in self._list_words()]
        for dest, _, length in self.run.copied[:1]:
            words += [(at & -8, 0, 0) for at in (dest, dest + max(length, 1) - 1)]
        yield from words or [(0, 0, 0)]

    def _step(self, word: int) -> Step:
        run, left = self.run, self.run.left
        assert left is not None
        events = tuple(self._events())
        state = self._state(run.registers(), run.ghosts_now())
        memory = self._memory()
        lines = cast(LineState, _Line(run.ghost.line(word)))
        fetch = cast(LineState, _Line(run.fetched.get(word, plain.DIRTY)))
        state = replace(state, memory=memory, lines=lines, fetch=fetch, events=events, trace=tuple(run.trace))
        kind = "br" if left.kind == "call" and isinstance(self.proof, (SoftRestart, El2Code)) else left.kind
        return Step(state, Exit(kind, const(left.target)))

    def _state(self, registers: dict[str, int], ghosts: dict[str, int]) -> State:
        known = self.entry.registers
        found = {n: const(registers[n], known[n].length) for n in (*GENERAL, "sp", *FLAGS, *SYSTEM)}
        values = {name: const(value, GHOSTS[name]) for name, value in ghosts.items()}
        return replace(self.entry, registers={**known, **found}, ghosts=values, facts=())

    def _events(self) -> Iterator[Event]:
        called, memory = iter(self.run.called), self._memory()
        for event, ghosts in zip(self.run.events, self.run.ghosts, strict=True):
            state = self._state(event.registers, ghosts)
            if event.name == "call":
                tag = next(called)
                registers = state.registers | self._pointers(event.registers)
                state = replace(state, registers=registers, memory=memory)
                yield Event(f"call {tag.partition('#')[0]}", (), event.at, 0, state, tag)
            else:
                yield Event(event.name, (const(event.operand),), event.at, 0, state)

    def _pointers(self, registers: dict[str, int]) -> dict[str, Term]:
        """Return the arguments that point into an object, as terms over its base."""
        found = {}
        for name in ("x0", "x1", "x2", "x3"):
            value = registers[name]
            for item, pointer in (("kimage", "x0"), (STACK_FRAME, "sp")):
                start, end = self._objects().get(item, (0, 0))
                if start <= value < end:
                    origin = base(self.context, item)
                    found[name] = self.entry.registers[pointer] + const(value - origin)
        return found

    def _memory(self) -> Objects:
        memory = self.entry.memory
        assert isinstance(memory, Objects)
        objects = {n: r for n, r in self._objects().items() if n in ("kimage", STACK_FRAME)}
        for dest, _, _ in self.run.copied[:1]:
            memory = memory.adding(Object(CONTROL_PAGE, const(dest), 0, self.context.page_size))
            objects[CONTROL_PAGE] = (dest, dest + self.context.page_size)
        for address, data in self.run.stored:
            for name, (start, end) in objects.items():
                origin = dest if name == CONTROL_PAGE else base(self.context, name)
                for i, byte in enumerate(data):
                    if start <= address + i < end:
                        memory = memory.storing(name, address + i - origin, const(byte, 8))
        return memory

    def _require(self, proof: Function, step: Step) -> None:
        assert isinstance(step.then, Exit)
        if isinstance(proof, (MachineKexec, PostLoad)):
            proof.require_effects(step.state)
            if step.then.kind == "brk":
                proof.require_brk(step)
            elif isinstance(proof, MachineKexec):
                proof.require_exit(step)
            else:
                proof.require_return(step, step.then)
        elif isinstance(proof, SoftRestart):
            proof.require_effects([step.state])
            proof.require_end(step)
        else:
            proof.require(self.entry, step)


def _long(inputs: Inputs) -> Inputs:
    """Return the same inputs with the greatest run length."""
    return msgspec.structs.replace(inputs, length=LIMIT)


def renewed(proof: Function, context: KexecContext) -> Function:
    """Return the same proof of another kernel's function, not run yet.

    :raises UnsupportedError: if that kernel has no such function, or one that cannot be read.
    """
    return replace(proof, context=context, obligations=[])


def usable(proof: Function, found: list[Inputs], wanted: Callable[[str], bool]) -> list[Inputs]:
    """Return the inputs, varied, with which unchanged code breaks nothing; each has a control page.

    A path that copies nothing leaves open where the control page is. A changed function may copy.
    """
    if image_of(proof) is not None:
        field = base(proof.context, "kimage") + proof.context.layout.control_code_page
        pages = [inputs.memory[field] for inputs in found if inputs.memory.get(field)]
        if pages:
            found = [
                inputs
                if inputs.memory.get(field)
                else msgspec.structs.replace(inputs, memory={**inputs.memory, field: pages[0]})
                for inputs in found
            ]
    every = (other for inputs in found for other in varied(inputs))
    return [inputs for inputs in every if _breaks_nothing(proof, inputs, wanted)]


def _breaks_nothing(proof: Function, inputs: Inputs, wanted: Callable[[str], bool]) -> bool:
    judge = _Judge(proof, inputs, wanted)
    return judge.broken() is None and not judge.run.undecided
