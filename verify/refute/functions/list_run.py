"""Runs of the functions that build the list, on concrete lists: which path each takes, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM
from kexec_verify.errors import InternalError, UnsupportedError
from kexec_verify.kexec import witnesses
from kexec_verify.kexec.list_code import ADD, ALLOCATES, ALLOCATORS, BEGIN, TERMINATE, ListCode
from kexec_verify.obligation import Obligation
from kexec_verify.refute.functions.effects import Answer, Inputs
from kexec_verify.refute.functions.path_run import PAGE, PathRun
from kexec_verify.refute.functions.record import CallCounterexample, ending, executed, rerun
from kexec_verify.specs.image_builder import ENOMEM, GFP_ZERO, NO_DESTINATION, WORD_BYTES
from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_INDIRECTION, IND_SOURCE

_BACK = 0xFFFF_FFF1_0000  # a place of no code
_MEMSTART = 0x4000_0000
_LENGTH = 4096  # instructions of a run
_KIMAGE, _STACK, _TASK, _LISTS, _NEW, _SOURCES = 0x40, 0x48, 0x4C, 0x60, 0x70, 0x100  # numbers of pages
_JUNK = 0x5A5A_0000_A5A5_0008  # what a word holds that nobody has set; a SOURCE, if it were one
_KIMAGE_WORDS = 512
_CALLER = 0x1111_0000  # what x19 to x29 hold, and the number of the register
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Expected:
    """One word that a run must leave: what it is called, its address and its value."""

    name: str
    address: int
    value: int


@dataclass(frozen=True)
class Fault:
    """What a run does that the function must not do: in words, what was expected, and where."""

    said: str
    expected: Expected
    at: int


@dataclass
class ListRun:
    """One run.

    :param length: words of the list before the first free one.
    :param word: what kimage_add_entry is given.
    :param given: the allocator returns something.
    :ivar fault: what the run does that the function must not do; None if nothing.
    """

    proof: ListCode
    length: int
    word: int
    given: bool
    run: PathRun = field(init=False)
    inputs: Inputs = field(init=False)
    fault: Fault | None = None

    def __post_init__(self) -> None:
        self.pages = self.proof.pages
        self.size = self.pages.page_size
        self.words = self.pages.words
        self.kimage = self._address(_KIMAGE)
        self._go()
        self.fault = self._fault()

    # The list

    def _address(self, page: int) -> int:
        return self.pages.addresses.page_offset + page * self.size & _MASK

    def _physical(self, page: int) -> int:
        return _MEMSTART + page * self.size

    def _page(self, rank: int) -> int:
        """The number of the list page of that rank; beyond the list it is the page that is found."""
        has = self.length and rank <= (self.length - 1) // self.words
        return _LISTS + 2 * rank if has else _NEW

    def _place(self, i: int) -> int:
        if i == 0:
            return self.kimage
        return self._address(self._page((i - 1) // self.words)) + (i - 1) % self.words * WORD_BYTES

    def _value(self, i: int) -> int:
        if i % self.words == 0:
            return self._physical(self._page(i // self.words)) | IND_INDIRECTION
        return self._physical(_SOURCES + i) | (IND_DESTINATION if i == 1 else IND_SOURCE)

    def _cursor(self, length: int) -> tuple[int, int]:
        if length == 0:
            return self.kimage, self.kimage
        place = self._place(length)
        return place, (place & -self.size) + self.size - WORD_BYTES

    # The run

    def _memory(self) -> dict[int, int]:
        known = self.proof.context.globals
        found = {known["memstart_addr"]: _MEMSTART}
        pages = {_NEW, *(self._page(i // self.words) for i in range(0, self.length, self.words))}
        for page in pages:
            found |= {self._address(page) + at: _JUNK for at in range(0, self.size, WORD_BYTES)}
        found |= {self.kimage + WORD_BYTES * at: _JUNK for at in range(_KIMAGE_WORDS)}
        if self.proof.name == BEGIN:
            return found
        found |= {self._place(i): self._value(i) for i in range(self.length)}
        entry, last = self._cursor(self.length)
        at = self.proof.context.layout
        return found | {
            self._place(self.length): 0,
            self.kimage + at.entry: entry,
            self.kimage + at.last_entry: last,
        }

    def _registers(self) -> dict[str, int]:
        registers = dict.fromkeys((*GENERAL, *FLAGS, *SYSTEM), 0)
        registers |= {f"x{n}": _CALLER + n for n in range(19, 30)}
        registers |= {"currentel": 1 << 2, "ctr_el0": 0x8444_C004, "x30": _BACK}
        stack = self._address(_STACK)
        registers |= {"sp": stack, "sp_el0": self._address(_TASK), "x1": self.word}
        return registers | ({"x0": self.kimage} if self.proof.name != BEGIN else {})

    def _go(self) -> None:
        """Run to the end; a call of the allocator is answered."""
        code, context = self.proof.code, self.proof.context
        memory = self._memory()
        formed = witnesses.pages_formed(context.kernel, code.name)
        held = (_KIMAGE, _STACK - 1, _STACK, _TASK, _NEW, *(_LISTS + n for n in range(0, 8, 2)))
        pages = {self._address(page) + at for page in held for at in range(0, self.size, PAGE)}
        pages |= {(at & -PAGE) + further for at in formed for further in (0, PAGE)} | {
            at & -PAGE for at in memory
        }
        answers: list[Answer] = []
        while True:
            self.inputs = Inputs(
                code.address, self._registers(), memory, tuple(sorted(pages)), tuple(answers), _LENGTH
            )
            self.run = PathRun(code, self.inputs)
            self.run.run()
            left = self.run.left
            if left is None or left.kind != "call" or answers or not self._asks(left.target):
                return
            answers.append(self._answer(left.at))

    def _asks(self, target: int) -> bool:
        names = self.proof.context.kernel.symbols_at(target)
        allowed = {ADD: (ALLOCATES,), BEGIN: ALLOCATORS, TERMINATE: ()}[self.proof.name]
        return any(name in allowed for name in names)

    def _answer(self, at: int) -> Answer:
        found = self.kimage if self.proof.name == BEGIN else self.pages.first + (_NEW << 6) & _MASK
        changed = {f"x{n}": 0xDEAD_0000 + n for n in range(1, 19)}
        zeroed = self.proof.name == BEGIN and self.run.registers()["x1"] & GFP_ZERO
        stores = {self.kimage: bytes(_KIMAGE_WORDS * WORD_BYTES).hex()} if zeroed and self.given else {}
        return Answer("page", at, {**changed, "x0": found if self.given else 0}, stores)

    # What it must do

    @property
    def _asked(self) -> bool:
        return bool(self.inputs.answers)

    def _expected(self) -> list[Expected]:
        """What the list must be afterwards: its new words, the cursor, and its older words."""
        at, name, length = self.proof.context.layout, self.proof.name, self.length
        added: dict[int, int] = {}
        if name == BEGIN and not self.given:
            return []
        if name == ADD and length % self.words == 0 and self.given:
            added = {length: self._value(length), length + 1: self.word}
        elif name == ADD and length % self.words:
            added = {length: self.word}
        length += len(added)
        added[length] = IND_DONE if name == TERMINATE else 0
        older = {i: self._value(i) for i in range(self.length)}
        found = [Expected(f"word {i}", self._place(i), value) for i, value in (added | older).items()]
        if name != TERMINATE:
            fields = zip(
                ("entry", "last_entry"), (at.entry, at.last_entry), self._cursor(length), strict=True
            )
            found += [
                Expected(f"kimage->{field}", self.kimage + offset, value) for field, offset, value in fields
            ]
        return found

    def _fault(self) -> Fault | None:
        """The first thing that is wrong."""
        left, last = self.run.left, self.run.trace[-1]
        if left is None or left.kind != "ret" or left.target != _BACK:
            how = left.kind if left is not None else "stopped"
            return Fault(f"it does not return: {how}", Expected("the end", 0, 0), last)
        registers = self.run.registers()
        for event in self.run.events:
            if self.proof.name == ADD and event.name == "call":
                asked = event.registers
                if asked["x0"] != self.kimage or asked["x2"] != NO_DESTINATION & _MASK:
                    return Fault(f"{ALLOCATES} is asked for another page", Expected("x2", 0, _MASK), event.at)
        for item in self._expected():
            found = self.run.read(item.address, WORD_BYTES)
            if found != item.value:
                stores = [a.at for a in self.run.accesses if a.kind == "store" and a.address == item.address]
                at = stores[-1] if stores else last
                return Fault(f"{item.name} is {found or 0:#x}", item, at)
        told = {item.address for item in self._expected()}
        for access in self.run.accesses:
            own = self._address(_STACK - 1) <= access.address < self._address(_STACK)
            in_kimage = self.kimage <= access.address < self.kimage + _KIMAGE_WORDS * WORD_BYTES
            fine = own or (self.proof.name == BEGIN and in_kimage)
            if access.kind == "store" and not fine and access.address not in told:
                item = Expected(
                    "a word of no list", access.address, self.inputs.memory.get(access.address, 0)
                )
                said = f"it stores to {access.address:#x}, which is no word of the list"
                return Fault(said, item, access.at)
        changed = [n for n in range(19, 30) if registers[f"x{n}"] != _CALLER + n]
        if changed or registers["sp"] != self._address(_STACK):
            return Fault("it does not keep SP and x19 to x29", Expected("registers", 0, 0), last)
        result = self._result()
        mask = _MASK if self.proof.name == BEGIN else 0xFFFF_FFFF
        if result is not None and registers["x0"] & mask != result & mask:
            return Fault(
                f"it returns {registers['x0'] & mask:#x}", Expected("the result", 0, result & mask), last
            )
        return None

    def _result(self) -> int | None:
        if self.proof.name == TERMINATE:
            return None
        if self.proof.name == BEGIN:
            return self.kimage if self.given else 0
        return 0 if self.given or self.length % self.words else -ENOMEM

    def given_in_words(self) -> dict[str, str]:
        """Return what the run was given, by name."""
        found = {"words of the list": str(self.length)}
        found |= {"entry": f"{self.word:#x}"} if self.proof.name == ADD else {}
        return found | (
            {"the allocator": "finds a page" if self.given else "finds none"} if self._asked else {}
        )

    def shown(self, obligation: Obligation, property_id: str) -> CallCounterexample:
        """Return the record of the run.

        :raises InternalError: if a replay does not show it.
        """
        assert self.fault is not None
        said, item, at = self.fault.said, self.fault.expected, self.fault.at
        code = self.proof.code
        value = self.run.read(item.address, WORD_BYTES) if item.address else None
        held = {item.address + i: (value or 0) >> 8 * i & 0xFF for i in range(WORD_BYTES)}
        found = CallCounterexample(
            function=code.name,
            property=property_id,
            obligation=obligation.sentence,
            inputs=self.given_in_words(),
            expected=f"{item.name}: {item.value:#x}",
            found=f"{value:#x}" if value is not None else said,
            effect=f"{code.where(at)}: after {code.name} on a list of {self.length} words, {said}",
            at=at,
            where=code.where(at),
            steps=executed(code, self.run, self.proof.context.kernel.called),
            code=(code.address, len(code.data)),
            resumed=tuple(sorted(code.warnings)),
            given=self.inputs,
            ending=ending(self.run, held if value is not None else {}),
        )
        if rerun(found.as_dict(), self.proof.context.kernel.read) != found:
            raise InternalError(f"the record of {property_id} is not what was run")
        return found


def runs(proof: ListCode) -> Iterator[ListRun]:
    """Run the function on lists that are empty, short, about to fill a page, and full."""
    words = proof.pages.words
    lengths = {BEGIN: (0,), TERMINATE: (0, 2, words, 2 * words)}
    for length in lengths.get(proof.name, (0, 2, 3, words - 1, words, words + 2, 2 * words)):
        for flag in (IND_DESTINATION, IND_SOURCE):
            for given in (True, False):
                word = _MEMSTART + (_SOURCES + 0x80) * proof.pages.page_size | flag
                try:
                    yield ListRun(proof, length, word, given)
                except UnsupportedError:
                    continue
