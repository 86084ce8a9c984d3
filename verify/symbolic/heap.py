"""Memory beside the objects: pages of the linear map, reached by pointers that are computed from no object.

An allocator hands out such pages, and page tables are made of them. Words there are one unknown function of
the address with a layer for each store, so aliasing is asked among words of the heap alone.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, override

from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import Term, constant, normal, var
from kexec_verify.memory import WORD_BYTES, Memory, Unknown
from kexec_verify.symbolic.objects import STACK_FRAME, Object, Objects

HEAP = Object("the heap", None, 0, 1 << 64)
"""What an address belongs to that is computed from the base of no object."""
_PARTS = itertools.count(1)
_WORDS = "heap@"  # what the names of the unknown functions begin with


class Heap(Objects):
    """Objects, and words of the heap at every address that is computed from none of their bases.

    A load of less than a word gives an unknown value. A store of less than a word makes all words unknown.
    A store at an unknown offset in an object makes everything unknown.
    That the heap and the objects do not overlap is assumed (``objects-apart``).

    :param tag: of the moment at which nothing had been stored yet; it names the unknown functions.
    """

    def __init__(self, objects: tuple[Object, ...], tag: str = "entry", words: Memory | None = None):
        super().__init__(objects, tag)
        self._words = words or Unknown(f"{_WORDS}{tag}")
        self._outside: dict[int, bool] = {}  # what is_heap has said, by the address; its objects stay

    @override
    def _holding(self, contents: dict[str, Any]) -> Heap:
        result = Heap((), self.tag, self._words)
        result._contents = contents
        result._outside = self._outside if contents.keys() == self._contents.keys() else {}
        return result

    def forgetting(self, tag: str, end: int | None = None) -> Heap:
        """Return this memory after code that is not looked at: only what was stored into the frame is known.

        :param end: offset in the stack frame from which on that code may store; None for nowhere.
        """
        result = Heap(self.objects, tag)
        result._outside = self._outside
        frame = self._contents[STACK_FRAME]
        stored = {at: byte for at, byte in frame.stored.items() if end is None or at < end}
        result._contents[STACK_FRAME] = replace(frame, stored=stored)
        return result

    def is_heap(self, address: Term) -> bool:
        """Return whether ``address`` is computed from the base of no object."""
        key = address.hash()
        if key not in self._outside:
            address = normal(address)
            self._outside[key] = all(item.offset(address) is None for item in self.objects)
        return self._outside[key]

    @override
    def find(self, address: Term) -> tuple[Object, Term]:
        """Return the object from whose base ``address`` is computed, or the heap, and the offset in it."""
        return (HEAP, normal(address)) if self.is_heap(address) else super().find(address)

    @override
    def load(self, address: Term, size: int) -> Term:
        """Return the ``size`` bytes at ``address``, little-endian."""
        item, offset = self.find(address)
        if item is HEAP and size == WORD_BYTES:
            return self._words.read(address)
        if size == WORD_BYTES or (item is not HEAP and constant(offset) is not None):
            return super().load(address, size)
        # Another load of the same bytes may give another value: more than what can happen.
        return var(f"part of a word {next(_PARTS)}@{self.tag}", size * 8)

    @override
    def store(self, address: Term, value: Term) -> Memory:
        """Return this memory after a store of as many bytes as ``value`` is wide."""
        item, offset = self.find(address)
        if item is not HEAP and constant(offset) is not None:
            return super().store(address, value)
        if item is not HEAP:
            return self.forgetting(f"{self.tag} after store {next(_PARTS)}", item.low)
        if value.length == WORD_BYTES * 8:
            changed = self._words.write(address, value)
        else:
            changed = Unknown(f"{_WORDS}{self.tag} after store {next(_PARTS)}")
        result = Heap((), self.tag, changed)
        result._contents, result._outside = self._contents, self._outside
        return result


def earlier_word(name: str) -> Term:
    """Return any value, as a word that was loaded from the heap at a moment and place that are not known.

    It is a word of an unknown function of its own: nothing of the heap as it is now follows from it.
    """
    return Unknown(f"{_WORDS}{name} when loaded").read(var(f"where {name} was loaded from"))


def is_heap_word(function: str) -> bool:
    """Return whether the function of that name is the heap's words at some moment."""
    return function.startswith(_WORDS)


def heap_of(memory: Memory) -> Heap:
    """Return ``memory``, which has a heap.

    :raises UnsupportedError: if it has none.
    """
    if not isinstance(memory, Heap):
        raise UnsupportedError("memory without a heap")
    return memory
