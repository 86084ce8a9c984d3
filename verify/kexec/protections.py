"""The protections that boot maps the linear map with, at each call of the function that makes its entries."""

from __future__ import annotations

from dataclasses import dataclass, field

from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import GENERAL, SYSTEM, Event
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.branches import goes_to
from kexec_verify.kexec.context import IMAGE, KexecContext
from kexec_verify.kexec.table_paths import TablePaths, calls
from kexec_verify.logic import Formula, Not, Term, const, same, var
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs import page_tables as spec
from kexec_verify.specs.address_map import linear_map_end
from kexec_verify.symbolic.cut_paths import ENTRY
from kexec_verify.symbolic.explore import Decide

_ADDRESS, _PROTECTION = "x2", "x4"
_TABLE = "x1"  # of __set_fixmap: the physical address
_IMAGE_WORD = f"{IMAGE}@"


@dataclass
class Protections:
    """The proof that each entry of the linear map has PTE_DIRTY as boot makes it.

    :ivar given: the protection that each obligation is about, by the obligation's identity.
    """

    context: KexecContext
    decide: Decide
    obligations: list[Obligation] = field(default_factory=list)
    given: dict[int, Term] = field(default_factory=dict)
    _calls_in: dict[tuple[int, int], list[Event]] = field(default_factory=dict)
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
            self._callers(mapper.address, _ADDRESS, _PROTECTION)
        self._require_boot()
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
            found = self._calls(caller, callee)
            missed = self._places(caller, callee) - {call.at for call in found}
            if missed and any(map(_is_boot_mapper, names)):
                raise UnsupportedError("call that no path comes to", min(missed))
            for call in found:
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
        if not self._is_decided(call.before.facts, value, goal):
            raise UnsupportedError(f"the call at {where} with a protection that is not known", call.at)
        sentence = f"the call at {where}: entries of the linear map get PTE_DIRTY and AF"
        required = Obligation("tables-dirty", sentence, call.before.facts, goal, call.at)
        self.obligations.append(required)
        self.given[id(required)] = value

    def _is_decided(self, facts: Facts, value: Term, goal: Formula) -> bool:
        """Whether a protection is known well enough to say if it is right: it is, or it is not for any value
        of what is unknown, or it is made of nothing but system registers.
        """
        system = {f"{name}@{ENTRY}" for name in SYSTEM}
        return value.variables <= system or self.decide(facts, goal) or self.decide(facts, Not(goal))

    def _require_boot(self) -> None:
        """Demand that the functions that map the linear map at boot do so by calls that are covered.

        :raises UnsupportedError: if none of them has such a call, or if one accesses a table outside of the
            image itself: then a compiler may have inlined there what makes the entries.
        """
        kernel = self.context.kernel
        within = {kernel.symbol_before(required.at or 0) for required in self.obligations}
        if not any(symbol is not None and _is_boot_mapper(symbol.name) for symbol in within):
            raise UnsupportedError(f"no call in {' or '.join(spec.BOOT_MAPPERS)} that maps the linear map")
        fixmap = kernel.symbol(spec.SET_FIXMAP)
        if fixmap is None:
            raise UnsupportedError(f"kernel without {spec.SET_FIXMAP}")
        for caller in sorted(self._callers_of(fixmap.address)):
            name = kernel.symbols_at(caller)[0]
            if _is_boot_mapper(name):
                self._demand_own_tables(name, caller, fixmap.address)

    def _demand_own_tables(self, name: str, caller: int, fixmap: int) -> None:
        found = self._calls(caller, fixmap)
        if self._places(caller, fixmap) - {call.at for call in found}:
            raise UnsupportedError(f"{name} that accesses tables where no path comes to", caller)
        for call in found:
            words = call.before.registers[_TABLE].variables
            if not all(name.startswith(_IMAGE_WORD) for name in words):
                raise UnsupportedError(f"{name} that accesses tables itself", call.at)

    def _code(self, caller: int, callee: int) -> Code:
        apart = frozenset((*spec.MAPPERS, *self.context.kernel.symbols_at(callee)))
        return self.context.with_callees(caller, apart)

    def _places(self, caller: int, callee: int) -> set[int]:
        """Where the function branches to ``callee`` or calls it."""
        code = self._code(caller, callee)
        return {at for at in code.addresses if goes_to(code.word(at), at) == callee}

    def _calls(self, caller: int, callee: int) -> list[Event]:
        key = (caller, callee)
        if key not in self._calls_in:
            found = calls(TablePaths(self.context, self._code(caller, callee), joins=2).run())
            self._calls_in[key] = [call for call in found if same(call.operands[0], const(callee))]
        return self._calls_in[key]

    def _callers_of(self, callee: int) -> set[int]:
        """The first addresses of the functions that branch to ``callee`` or call it.

        What boot writes over instructions is not looked at, so the answer serves for every choice.
        """
        found: set[int] = set()
        for at in self.context.branches.to(callee):
            symbol = self.context.kernel.symbol_before(at)
            if symbol is None:
                raise UnsupportedError("call that is in no function", at)
            found.add(symbol.address)
        return found


def _passed_on(value: Term) -> str | None:
    """The register that the function was given ``value`` in, if it is what one held on entry."""
    return next((name for name in GENERAL if same(value, var(f"{name}@{ENTRY}"))), None)


def _is_boot_mapper(name: str) -> bool:
    return name.partition(".")[0] in spec.BOOT_MAPPERS
