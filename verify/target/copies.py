"""Calls that copy constant bytes: which arguments a function passes to memcpy."""

from collections.abc import Iterator
from dataclasses import dataclass

from capstone import arm64
from kexec_verify.target.constants import MASK, walk
from kexec_verify.target.kernel import Kernel

_COPY_FUNCTIONS = frozenset(("memcpy", "memmove", "__memcpy", "__memmove", "__pi_memcpy", "__pi_memmove"))


@dataclass(frozen=True)
class Copy:
    """A call at *call* of *callee* that copies *size* bytes from *start* (virtual addresses)."""

    call: int
    callee: str
    start: int
    size: int


def constant_copies(
    kernel: Kernel, address: int, code: bytes, constant_words: frozenset[str] = frozenset()
) -> Iterator[Copy]:
    """Yield the calls of memcpy and its like in *code*, at *address*, with constant x1 and x2.

    :param constant_words: symbols of 64-bit words that never change; loads of others are unknown.
    """
    for insn, known in walk(kernel, address, code, constant_words):
        if insn.id == arm64.ARM64_INS_BL:
            callee = insn.operands[0].imm & MASK
            names = _COPY_FUNCTIONS.intersection(kernel.symbols_at(callee))
            if names and "x1" in known and "x2" in known:
                yield Copy(insn.address, min(names, key=len), known["x1"], known["x2"])
