"""Memory as C sees it: separate objects, each an array of bytes of its own.

That the objects do not overlap is an assumption, and that each access lies in the object
whose base its address is made of is an obligation. Under both, a store to one object does not
change another, and no query is about aliasing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import (
    FALSE,
    TRUE,
    And,
    Formula,
    Function,
    If,
    Term,
    addends,
    aligned,
    const,
    constant,
    difference,
    normal,
    offset_from,
    same,
    ule,
)
from kexec_verify.memory import WORD_BYTES, Memory

STACK_FRAME = "the stack frame"
"""The object of which only bytes at or above SP keep their values."""
SHADOW_CALL_STACK = "the shadow call stack"
"""The object that grows upwards from x18: only bytes below x18 that were stored keep their values."""
LINEAR_MAP = "what a physical address names"
"""The object that is accessed through the linear map, at an address computed from a physical one."""


@dataclass(frozen=True)
class Object:
    """One object: where it starts, and which bytes around there are its own.

    :param base: 64-bit address; None for the kernel's image, whose addresses are constants.
    :param low: offset of its first byte from the base, in bytes; negative for a stack frame.
    :param high: offset of the first byte after it.
    :param known: bytes that never change, by offset: what the image holds at a constant address.
    :param bits: of an object without a base, bits that its addresses are formed by setting: those of
        the linear map's start, as phys_to_virt does.
    """

    name: str
    base: Term | None
    low: int
    high: int
    known: Mapping[int, int] = field(default_factory=dict, repr=False)
    bits: int | None = None

    def offset(self, address: Term) -> Term | None:
        """Return the offset of ``address`` from the base; None if it is not computed from the base."""
        if self.bits is not None:
            return address if any(_sets(part, self.bits) for part in addends(address)) else None
        if self.base is None:
            value = constant(address)
            return address if value is not None and self.low <= value < self.high else None
        if same(address, self.base) or any(same(part, self.base) for part in addends(address)):
            return difference(address, self.base)
        found = offset_from(address, self.base)
        return None if found is None else const(found)

    def holds(self, offset: Term, size: int) -> Formula:
        """Return the formula that the ``size`` bytes at ``offset`` lie in the object."""
        if constant(offset) is not None:
            value = _signed(offset) if self.base is not None else constant(offset)
            assert value is not None
            return TRUE if self.low <= value and value + size <= self.high else FALSE
        return ule(offset - self.low, const(self.high - self.low - size))


def _sets(term: Term, bits: int) -> bool:
    """Return whether ``term`` is another one with ``bits`` set."""
    return term.op == "__or__" and any(constant(part) == bits for part in term.args)


def _signed(offset: Term) -> int:
    value = constant(offset)
    assert value is not None
    return value - (1 << 64) if value >> 63 else value


type Byte = tuple[Term, int]
"""A stored value, and which of its bytes this is."""


@dataclass(frozen=True)
class _Contents:
    """An object with the bytes that were stored into it, by offset.

    :param popped: of a stack frame, the offset below which a byte may have changed since it was stored.
    """

    object: Object
    stored: Mapping[int, Byte] = field(default_factory=dict)
    popped: int | None = None


class Objects(Memory):
    """Memory made of ``objects``; reads of bytes that were not stored are unknown functions.

    :param tag: of the moment at which nothing had been stored yet.
    """

    words = False

    def __init__(self, objects: tuple[Object, ...], tag: str = "entry"):
        super().__init__()
        self.tag = tag
        self._contents = {item.name: _Contents(item) for item in objects}

    @property
    def objects(self) -> tuple[Object, ...]:
        """The objects, in the order in which an address is looked for in them."""
        return tuple(contents.object for contents in self._contents.values())

    def _with(self, contents: _Contents) -> Objects:
        return self._holding({**self._contents, contents.object.name: contents})

    def _holding(self, contents: dict[str, _Contents]) -> Objects:
        """Return this memory with these objects in place of its own."""
        result = Objects((), self.tag)
        result._contents = contents
        return result

    def adding(self, item: Object) -> Objects:
        """Return this memory with one more object."""
        return self._with(_Contents(item))

    def only(self, names: Collection[str]) -> Objects:
        """Return this memory with only the objects of the given names."""
        return self._holding({name: found for name, found in self._contents.items() if name in names})

    def popped(self, name: str, before: Term, after: Term) -> Objects:
        """Return this memory after SP has changed: an interrupt or a callee may write below it at any time.

        :param name: of the stack frame's object.
        :raises UnsupportedError: if SP is at no known distance from the frame's base.
        """
        contents = self._contents[name]
        base = contents.object.base
        assert base is not None
        was, now = offset_from(before, base), offset_from(after, base)
        if was is None or now is None:
            raise UnsupportedError("stack pointer at an unknown distance from its value at entry")
        low, high = _signed(const(was)), _signed(const(now))
        return self.losing(name, high) if high > low else self

    def losing(self, name: str, end: int, kept: Collection[int] = ()) -> Objects:
        """Return this memory without the bytes of object ``name`` below offset ``end``: none may be read.

        :param kept: offsets of bytes that were stored again.
        """
        contents = self._contents[name]
        stored = {at: byte for at, byte in contents.stored.items() if at >= end or at in kept}
        lost = end if contents.popped is None else max(end, contents.popped)
        return self._with(replace(contents, stored=stored, popped=lost))

    def pushed(self, top: Term) -> Objects:
        """Return this memory with only what the shadow call stack holds below *top*, the value of x18.

        A callee or an interrupt may write at x18 and above at any time.

        :raises UnsupportedError: if x18 is at no known distance from its value at entry.
        """
        contents = self._contents.get(SHADOW_CALL_STACK)
        if contents is None or not contents.stored:
            return self
        base = contents.object.base
        assert base is not None
        distance = offset_from(top, base)
        if distance is None:
            raise UnsupportedError("x18 at an unknown distance from its value at entry")
        end = _signed(const(distance))
        if max(contents.stored) < end:
            return self
        stored = {at: byte for at, byte in contents.stored.items() if at < end}
        return self._with(replace(contents, stored=stored))

    def lost(self, name: str) -> int | None:
        """Return the offset below which bytes of the object called ``name`` were lost."""
        return self._contents[name].popped

    def find(self, address: Term) -> tuple[Object, Term]:
        """Return the object from whose base ``address`` is computed, and the offset in it.

        :raises UnsupportedError: if it is computed from no object's base.
        """
        address = normal(address)
        # What has a base of its own may be located in the linear map as well.
        for contents in sorted(self._contents.values(), key=lambda found: found.object.bits is not None):
            offset = contents.object.offset(address)
            if offset is not None:
                return contents.object, offset
        raise UnsupportedError(f"access through a pointer to no known object, {_short(address)}")

    def inside(self, address: Term, size: int) -> Formula:
        """Return the formula that the access stays in its object, at a word if its offset is unknown."""
        item, offset = self.find(address)
        held = item.holds(offset, size)
        return held if constant(offset) is not None else And(held, aligned(offset, WORD_BYTES))

    def _read(self, address: Term) -> Term:
        return self.load(address, WORD_BYTES)

    def load(self, address: Term, size: int) -> Term:
        """Return the ``size`` bytes at ``address``, little-endian."""
        item, offset = self.find(address)
        contents = self._contents[item.name]
        if constant(offset) is not None:
            at = _signed(offset) if item.base is not None else constant(offset)
            assert at is not None
            return self._bytes(contents, at, size)
        if size != WORD_BYTES:
            raise UnsupportedError(f"load of {size} bytes at an unknown offset in {item.name}")
        value = self._unknown(item, offset)
        for start in sorted({at & -WORD_BYTES for at in contents.stored}):
            stored = self._bytes(contents, start, WORD_BYTES)
            value = If(offset == start, stored, value)
        return value

    def word(self, name: str, address: Term) -> Term:
        """Return the initial word at ``address`` in the object called ``name``, which has no base."""
        return Function(f"{name}@{self.tag}")(normal(address))

    def _unknown(self, item: Object, offset: Term) -> Term:
        """Return the initial word at ``offset``, before any store."""
        base = const(0) if item.base is None else item.base
        return Function(f"{item.name}@{self.tag}")(normal(base + offset))

    def _bytes(self, contents: _Contents, at: int, size: int) -> Term:
        parts = [self._byte(contents, at + i) for i in range(size)]
        value, first = parts[0]
        if all(same(part, value) and index == first + i for i, (part, index) in enumerate(parts)):
            return value if size * 8 == value.length else value[(first + size) * 8 - 1 : first * 8]
        last, *rest = [part[8 * index + 7 : 8 * index] for part, index in reversed(parts)]
        return last.concat(*rest)

    def _byte(self, contents: _Contents, at: int) -> Byte:
        if at in contents.stored:
            return contents.stored[at]
        item = contents.object
        if at in item.known:
            return const(item.known[at], 8), 0
        if item.name == SHADOW_CALL_STACK:
            raise UnsupportedError(f"load of bytes of {item.name} at or above x18, or that were not pushed")
        if contents.popped is not None and at < contents.popped:
            raise UnsupportedError(f"load of popped bytes of {item.name}")
        word = at & -WORD_BYTES
        return self._unknown(item, const(word)), at - word

    def store(self, address: Term, value: Term) -> Memory:
        """Return this memory after a store of as many bytes as ``value`` is wide."""
        item, offset = self.find(address)
        if constant(offset) is None:
            raise UnsupportedError(f"store at an unknown offset in {item.name}")
        at = _signed(offset) if item.base is not None else constant(offset)
        assert at is not None
        return self.storing(item.name, at, value)

    def storing(self, name: str, at: int, value: Term) -> Objects:
        """Return this memory with ``value`` at offset ``at`` of the object called ``name``."""
        contents = self._contents[name]
        stored = {**contents.stored, **{at + i: (value, i) for i in range(value.length // 8)}}
        return self._with(replace(contents, stored=stored))

    def write(self, address: Term, value: Term) -> Memory:
        """Return this memory after the word at ``address`` was set to ``value``."""
        return self.store(address, value)

    def copy(self, dest: Term, source: Term, length: Term | int, origin: Memory | None = None) -> Memory:
        """Refuse: objects support no copies of unknown length.

        :raises UnsupportedError: always.
        """
        raise UnsupportedError("loop that copies between objects")

    def stored_in(self, name: str) -> dict[int, Term]:
        """Return the bytes that were stored into the object called ``name``, by offset."""
        return {
            at: value[8 * index + 7 : 8 * index] for at, (value, index) in self._contents[name].stored.items()
        }

    def stored_words(self, name: str) -> dict[int, Term]:
        """The aligned words that were stored into the object called ``name``, by offset."""
        contents = self._contents[name]
        starts = {at for at in contents.stored if at % WORD_BYTES == 0}
        whole = (at for at in sorted(starts) if all(at + i in contents.stored for i in range(WORD_BYTES)))
        return {at: self._bytes(contents, at, WORD_BYTES) for at in whole}


def _short(term: Term) -> str:
    text = str(term)
    return text if len(text) <= 120 else f"{text[:117]}..."
