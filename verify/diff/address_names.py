"""Name addresses, so that what two kernels have at different addresses gets the same name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from kexec_verify.target import Kernel

_QUOTED = re.compile(r"\|[^|]*\|")
_ADDRESS = re.compile(r"0x[0-9a-f]{9,16}")
_CONSTANT = re.compile(r"\(_ bv(\d+) 64\)")
_OFFSET = re.compile(r"\+0x[0-9a-f]+(/0x[0-9a-f]+)?")
_IMAGE_BYTES = 1 << 28


@dataclass
class AddressNames:
    """The names of one kernel's addresses.

    :param named: functions that have no symbol, by the address of their first byte, with their size.
    """

    kernel: Kernel
    named: dict[int, tuple[str, int]] = field(default_factory=dict)
    _known: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._low = self.kernel.segments[0].address

    def name(self, address: int) -> str:
        """Return ``symbol+0xoffset``, or the plain address if no symbol is near."""
        if address not in self._known:
            self._known[address] = self._name(address)
        return self._known[address]

    def _name(self, address: int) -> str:
        for start, (name, size) in self.named.items():
            if start <= address < start + size:
                return f"{name}+{address - start:#x}"
        symbol = self.kernel.symbol_before(address)
        if symbol is None or not self._low <= address < self._low + _IMAGE_BYTES:
            return f"{address:#x}"
        # A name for several addresses would make two queries look like one.
        found = self.kernel.symbol(symbol.name)
        if found is None or found.address != symbol.address:
            return f"{address:#x}"
        return f"{symbol.name}+{address - symbol.address:#x}"

    def _by_name(self, match: re.Match[str]) -> str:
        return self.name(int(match[0], 16))

    def relabelled(self, script: str) -> str:
        """Return an equivalent SMT-LIB script with names for the addresses in labels and variables."""
        return _QUOTED.sub(lambda quoted: _ADDRESS.sub(self._by_name, quoted[0]), script)

    def unplaced(self, script: str) -> str:
        """Return the script with names for the image's addresses too: equal for code that only moved."""

        def constant(match: re.Match[str]) -> str:
            value = int(match[1])
            return f"(_ at {self.name(value)})" if self._low <= value < self._low + _IMAGE_BYTES else match[0]

        return _CONSTANT.sub(constant, self.relabelled(script))

    def sentence(self, text: str) -> str:
        """Return a sentence without offsets, which differ wherever a line was added above."""
        return _OFFSET.sub("", _ADDRESS.sub(self._by_name, text))


def without_offsets(script: str) -> str:
    """Return a script without the offsets of the instructions that its labels name."""
    substitute: Callable[[re.Match[str]], str] = lambda quoted: _OFFSET.sub("", quoted[0])  # noqa: E731
    return _QUOTED.sub(substitute, script)
