"""The protections that boot maps the linear map with, at each call of the function that makes its entries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kexec_verify.arm64.lift import SIZE
from kexec_verify.arm64.state import GENERAL, Event
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.table_paths import TablePaths, calls
from kexec_verify.logic import Term, const, same, var
from kexec_verify.obligation import Obligation
from kexec_verify.specs import page_tables as spec
from kexec_verify.specs.address_map import linear_map_end
from kexec_verify.symbolic.cut_paths import ENTRY

_BRANCHES = re.compile(rb"[\x14-\x17\x94-\x97]")  # the last byte of B and BL (Arm ARM, C4.1.66)
_ADDRESS, _PROTECTION = "x2", "x4"


@dataclass
class Protections:
    """The proof that each entry of the linear map has PTE_DIRTY as boot makes it.

    :ivar given: the protection that each obligation is about, by the obligation's identity.
    """

    context: KexecContext
    obligations: list[Obligation] = field(default_factory=list)
    given: dict[int, Term] = field(default_factory=dict)
    _calls_in: dict[int, list[Event]] = field(default_factory=dict)
    _done: set[tuple[int, str | None, str]] = field(default_factory=set)

    def prove(self) -> list[Obligation]:
        """Return the obligations, one for each call on each path.

        :raises UnsupportedError: if the kernel has no such function, or a caller is not covered.
        """
        mappers = [s for s in self.context.kernel.symbols if s.name.partition(".")[0] in spec.MAPPERS]
        if not mappers:
            raise UnsupportedError(f"kernel without {' and '.join(spec.MAPPERS)}")
        for mapper in mappers:
            if mapper.name not in spec.MAPPERS:
                raise UnsupportedError(f"{mapper.name}, whose arguments may be in other registers")
            if mapper.name == spec.MAPPERS[-1] or len(mappers) == 1:
                self._callers(mapper.address, _ADDRESS, _PROTECTION)
        return self.obligations

    def _callers(self, callee: int, address: str | None, protection: str) -> None:
        """Owe of each call of ``callee`` that its arguments in these registers are as they must be."""
        if (callee, address, protection) in self._done:
            return
        self._done.add((callee, address, protection))
        for caller in sorted(self._callers_of(callee)):
            names = self.context.kernel.symbols_at(caller)
            if any(name in spec.ELSEWHERE for name in names):
                continue
            for call in self._calls(caller, callee):
                self._require(caller, call, address, protection)

    def _require(self, caller: int, call: Event, address: str | None, protection: str) -> None:
        given = call.before.registers
        value, start = given[protection], None if address is None else given[address]
        end = linear_map_end(self.context.page_offset, self.context.page_size)
        if start is not None and spec.outside(start, self.context.page_offset, end).is_true():
            return
        passed = _passed_on(value)
        if passed is not None:
            self._callers(caller, None if start is None else _passed_on(start), passed)
            return
        goal = spec.stays_writable(value)
        where = self.context.where(call.at)
        sentence = f"the call at {where}: entries of the linear map get PTE_DIRTY and AF"
        required = Obligation("tables-dirty", sentence, call.before.facts, goal, call.at)
        self.obligations.append(required)
        self.given[id(required)] = value

    def _calls(self, caller: int, callee: int) -> Iterator[Event]:
        if caller not in self._calls_in:
            code = self.context.plain(caller)
            self._calls_in[caller] = calls(TablePaths(self.context, code, joins=2).run())
        for call in self._calls_in[caller]:
            if same(call.operands[0], const(callee)):
                yield call

    def _callers_of(self, callee: int) -> set[int]:
        """The first addresses of the functions that branch to ``callee`` or call it.

        What boot writes over instructions is not looked at, so the answer serves for every choice.
        """
        if callee in self.context.callers:
            return self.context.callers[callee]
        found: set[int] = set()
        for segment in self.context.kernel.segments:
            data, first = segment.data, -segment.address % SIZE
            for match in _BRANCHES.finditer(data[first + SIZE - 1 :: SIZE]):
                offset = first + match.start() * SIZE
                word = int.from_bytes(data[offset : offset + SIZE], "little")
                distance = (word & 0x3FF_FFFF) - ((word & 0x200_0000) << 1)
                at = segment.address + offset
                if at + distance * SIZE == callee:
                    symbol = self.context.kernel.symbol_before(at)
                    if symbol is None:
                        raise UnsupportedError("call that is in no function", at)
                    found.add(symbol.address)
        self.context.callers[callee] = found
        return found


def _passed_on(value: Term) -> str | None:
    """The register that the function was given ``value`` in, if it is what one held on entry."""
    return next((name for name in GENERAL if same(value, var(f"{name}@{ENTRY}"))), None)
