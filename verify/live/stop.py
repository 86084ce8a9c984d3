"""A guest that stands still: its registers at the exception level that runs, and memory by its own tables."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from kexec_verify.live.formulas import State
from kexec_verify.live.guest import Guest
from kexec_verify.live.tables import Leaf, Tables

_BANKED = ("sctlr", "ttbr0", "ttbr1", "tcr", "mair", "vbar", "esr", "far", "elr")
"""Registers that a kernel at EL2 with HCR_EL2.E2H reaches by their names of EL1."""
SYSTEM = ("sctlr_el1", "tcr_el1", "ttbr0_el1", "ttbr1_el1")
"""What a callee keeps unless its contract says otherwise."""
DAIF = 0x3C0
_FLAGS = {"NG": 31, "ZR": 30, "CY": 29, "OV": 28}
_HIGH = 1 << 63


class UnmappedError(ValueError):
    """The guest's running tables do not map an address."""


@dataclass
class Stop:
    """One moment. Registers are read once; memory is read when it is asked for.

    :ivar general: x0 to x30, sp, pc and cpsr.
    :ivar level: the exception level, 1 or 2.
    """

    guest: Guest
    general: dict[str, int] = field(init=False)
    level: int = field(init=False)
    _system: dict[str, int] = field(default_factory=dict, repr=False)
    _tables: dict[bool, Tables] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.general = self.guest.gdb.general()
        self.level = self.general["cpsr"] >> 2 & 3

    @property
    def pc(self) -> int:
        """The address of the next instruction."""
        return self.general["pc"]

    @property
    def sp(self) -> int:
        """The stack pointer."""
        return self.general["sp"]

    def register(self, name: str) -> int:
        """Return a register's value by its name in the engine.

        A kernel at EL2 with E2H reaches the registers of EL2 by the names of EL1, so these are returned.

        :raises KeyError: if the machine has none of that name.
        """
        if name in self.general:
            return self.general[name]
        if name in _FLAGS:
            return self.general["cpsr"] >> _FLAGS[name] & 1
        if name == "daif":
            return self.general["cpsr"] & DAIF
        if name == "currentel":
            return self.level << 2
        if name not in self._system:
            self._system[name] = self._read(name)
        return self._system[name]

    def _read(self, name: str) -> int:
        base, _, level = name.rpartition("_el")
        if base in _BANKED and level == "1":
            level = str(self.level)
        gdb = self.guest.gdb
        wanted = f"{base.upper()}_EL{level}"
        # QEMU describes what AArch32 has too by the name without a level.
        return gdb.register(wanted if gdb.has(wanted) or level != "1" else base.upper())

    def has(self, name: str) -> bool:
        """Return whether the machine has a system register of that name in the engine."""
        try:
            self.register(name)
        except KeyError:
            return False
        return True

    @property
    def mair(self) -> int:
        """MAIR_ELx of the level that runs."""
        return self.register("mair_el1")

    def tables(self, high: bool, base: int | None = None, t0sz: int | None = None) -> Tables:
        """Return the tables of one half of the address space: the running ones, or those at ``base``."""
        found = self.register("ttbr1_el1" if high else "ttbr0_el1") if base is None else base
        return Tables(self.guest.read, found, self.register("tcr_el1"), high, t0sz)

    def leaf(self, address: int) -> Leaf | None:
        """Return what the running tables map ``address`` to; None if nothing."""
        high = bool(address & _HIGH)
        if high not in self._tables:
            self._tables[high] = self.tables(high)
        return self._tables[high].walk(address)

    def physical(self, address: int) -> int:
        """Return the physical address of a virtual one.

        :raises UnmappedError: if the running tables do not map it.
        """
        leaf = self.leaf(address)
        if leaf is None:
            raise UnmappedError(f"{address:#x} is not mapped")
        return leaf.pa

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at a virtual address.

        :raises UnmappedError: if the running tables do not map all of them.
        """
        pieces = []
        while size > 0:
            piece = min(size, 4096 - address % 4096)
            pieces.append(self.guest.read(self.physical(address), piece))
            address, size = address + piece, size - piece
        return b"".join(pieces)

    def word(self, address: int) -> int:
        """Return the 64-bit word at a virtual address."""
        (value,) = struct.unpack("<Q", self.read(address, 8))
        return int(value)

    def state(self, **variables: int) -> State:
        """Return this moment as values for formulas."""
        return State(self.register, self.word, variables)
