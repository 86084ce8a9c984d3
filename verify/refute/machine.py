"""Run the target's bytes on a concrete arm64 CPU (Unicorn), and record every effect.

Unicorn computes and moves data. System instructions never reach it: its copy of the code has NOPs there,
and a hook applies their effects to registers and ghost state kept here.
"""

from __future__ import annotations

from collections.abc import Callable

import unicorn
from kexec_verify.arm64.emulator import emulator
from kexec_verify.arm64.execute import UNDEFINED
from kexec_verify.arm64.legality import lowest_el
from kexec_verify.arm64.lift import SIZE, Code, Instruction
from kexec_verify.arm64.system import MEANING
from kexec_verify.errors import UnsupportedError
from kexec_verify.refute.effects import Access, Context, Effect, End, Event, Mark, Run
from kexec_verify.refute.ghost import Ghost, cacheable
from kexec_verify.refute.intercept import TRAPS, effect, system_register, user_operation
from kexec_verify.refute.scenario import ENTRY_TTBR1, MASK, SCTLR_OFF, Scenario, image
from unicorn import arm64_const

_NOP = (0xD503201F).to_bytes(SIZE, "little")
_HOST_PAGE = 4096

_X = [getattr(arm64_const, f"UC_ARM64_REG_X{i}") for i in range(31)]
_PC, _SP = arm64_const.UC_ARM64_REG_PC, arm64_const.UC_ARM64_REG_SP
_ZERO = 31

# SCTLR_EL1 as the kernel runs with it (M, C, I, SA and its RES1 bits), and as cpu_soft_restart leaves it.
_SCTLR_ON = 0x34F4D91D
_DAIF_MASKED = 0x3C0
_CTR = 0x8400C004


class Machine:
    """Runs one routine in many scenarios.

    :param watch: addresses whose execution is recorded as a Mark.
    :param each: called with the address of each instruction before it is executed, before any of its
        effects; it may call ``stop``.
    """

    def __init__(self, code: Code, watch: frozenset[int], each: Callable[[int], None] | None = None):
        self.code = code
        self._each = each
        self.log: list[Effect] = []
        self.end: End | None = None
        self._count = 0
        self._last_at = code.address
        self._uc = emulator()
        self._ram: tuple[int, int] | None = None
        self._first = code.address & -_HOST_PAGE
        self._last = -(-code.end // _HOST_PAGE) * _HOST_PAGE
        uc = self._uc
        if each is not None:  # hooks run in the order in which they are added
            uc.hook_add(unicorn.UC_HOOK_CODE, self._on_instruction, begin=code.address, end=code.end - 1)
        for address in sorted(watch):
            uc.hook_add(unicorn.UC_HOOK_CODE, self._on_mark, begin=address, end=address)
        self._load()
        uc.hook_add(unicorn.UC_HOOK_BLOCK, self._on_block)
        uc.hook_add(unicorn.UC_HOOK_MEM_READ, self._on_load)
        uc.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._on_store)
        uc.hook_add(unicorn.UC_HOOK_MEM_READ_UNMAPPED, self._on_lost_load)
        uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)

    def _load(self) -> None:
        """Load the code into Unicorn, with hooks on instructions that it must not execute."""
        uc, code = self._uc, self.code
        uc.mem_map(self._first, self._last - self._first, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        uc.mem_write(code.address, code.data)
        for address in code.addresses:
            try:
                instruction = code.at(address)
            except UnsupportedError:
                continue  # Unicorn's answer is used: most likely undefined
            system = instruction.word >> 22 == 0b1101010100
            name, register = user_operation(instruction), system_register(instruction)
            kinds = {operation.opcode.name for operation in instruction.operations}
            if name in TRAPS:
                continue
            what = effect(instruction)
            if lowest_el(instruction.word) > code.el:
                uc.hook_add(unicorn.UC_HOOK_CODE, self._on_undefined, begin=address, end=address)
                uc.mem_write(address, _NOP)
                continue
            if what is not None and register is None and self._ghostless(what):
                uc.hook_add(unicorn.UC_HOOK_CODE, self._on_effect, begin=address, end=address)
                if instruction.is_system:
                    uc.mem_write(address, _NOP)
                continue
            if kinds & {"BRANCHIND", "RETURN", "CALLIND"}:
                uc.hook_add(unicorn.UC_HOOK_CODE, self._on_exit, begin=address, end=address)
            elif register is not None or name is not None:
                hook = self._on_register if register is not None else self._on_system
                uc.hook_add(unicorn.UC_HOOK_CODE, hook, begin=address, end=address)
                uc.mem_write(address, _NOP)
            elif system and kinds:
                uc.hook_add(unicorn.UC_HOOK_CODE, self._on_system, begin=address, end=address)
        for begin, end in ((self._first, code.address), (code.end, self._last)):
            if begin < end:
                uc.hook_add(unicorn.UC_HOOK_CODE, self._on_leave, begin=begin, end=end - 1)

    # Running

    def run(self, scenario: Scenario, limit: int) -> Run:
        """Run from the first instruction.

        :param limit: instructions after which to look for a repeated state; at twice as many
            the run is stopped.
        :raises UnsupportedError: on an instruction without a model.
        """
        self._prepare(scenario, limit)
        try:
            self._uc.emu_start(self.code.address, 0)
        except unicorn.UcError as error:
            if self.end is None:
                self.end = self._failed(error)
        if self._unsupported is not None:
            raise self._unsupported
        end = self.end or End("stopped", self._pc())
        sp = int(self._uc.reg_read(_SP))
        return Run(self.log, end, self._count, self.general(), self._context(), self.ghost, sp=sp)

    def _prepare(self, scenario: Scenario, limit: int) -> None:
        uc = self._uc
        ram = (scenario.ram_at, scenario.ram_bytes)
        if ram != self._ram:
            if self._ram is not None:
                uc.mem_unmap(*self._ram)
            uc.mem_map(*ram, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
            self._ram = ram
        uc.mem_write(scenario.ram_at, image(scenario))
        for number, register in enumerate((*_X, _SP)):
            uc.reg_write(register, scenario.unset(number))
        uc.reg_write(arm64_const.UC_ARM64_REG_NZCV, 0 if scenario.garbage == "zero" else 0xF000_0000)
        for name, value in scenario.arguments().items():
            uc.reg_write(_X[int(name[1:])], value)
        self.system = {
            "sctlr_el1": _SCTLR_ON if scenario.kimage else SCTLR_OFF,
            "ttbr0_el1": 0x1_4100_0000,
            "ttbr1_el1": ENTRY_TTBR1,
            "tcr_el1": 0x32_B550_3510,
            "ctr_el0": _CTR | scenario.dminline << 16,
            "daif": _DAIF_MASKED,
        }
        self.ghost = Ghost(scenario.line_size, scenario.dirty, scenario.page_size)
        if scenario.kimage:
            self.ghost.synchronize()  # the assumption context-synced
        self.log, self.end = [], None
        self._scenario, self._limit, self._count = scenario, limit, 0
        self._unsupported: UnsupportedError | None = None
        self._now: Context | None = None
        self._again: tuple[int, ...] | None = None

    def _pc(self) -> int:
        return int(self._uc.reg_read(_PC))

    def general(self) -> tuple[int, ...]:
        """Return x0 … x30 now."""
        return tuple(self._uc.reg_read(register) for register in _X)

    def _context(self) -> Context:
        if self._now is None:
            system, ghost = self.system, self.ghost
            self._now = Context(
                system["sctlr_el1"],
                system["ttbr0_el1"],
                system["ttbr1_el1"],
                system["tcr_el1"],
                system["daif"],
                ghost.unsynced,
                ghost.icache,
                ghost.translation,
            )
        return self._now

    def _stop(self, end: End) -> None:
        if self.end is None:
            self.end = end
        self._uc.emu_stop()

    def _failed(self, error: unicorn.UcError) -> End:
        at = self._pc()
        if error.errno == unicorn.UC_ERR_EXCEPTION:
            return End("undefined", at)
        if error.errno in (unicorn.UC_ERR_FETCH_UNMAPPED, unicorn.UC_ERR_FETCH_PROT):
            return End("fetch", self._last_at, at)
        last = self.log[-1] if self.log else None
        return End("fault", at, last.address if isinstance(last, Access) else 0)

    def stop(self) -> None:
        """End the run before the current instruction."""
        self._uc.emu_stop()

    # Hooks

    def _on_instruction(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        assert self._each is not None
        self._each(address)

    def _on_block(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        self._count += size // SIZE
        if self.code.address <= address < self.code.end:
            self._last_at = min(address + size, self.code.end) - SIZE  # a block may go on past the end
        if self._count <= self._limit:
            return
        # A long run is not endless: only a repeated state shows that the run never ends.
        if self._again is None:
            self._again = self._state(address)
        elif address == self._again[0] and self._state(address) == self._again:
            self._stop(End("endless", address))
        elif self._count > 2 * self._limit:
            self._stop(End("timeout", address))

    def _state(self, address: int) -> tuple[int, ...]:
        """Return what decides how a run continues from ``address`` while no store changes memory."""
        own = (self._uc.reg_read(register) for register in (_SP, arm64_const.UC_ARM64_REG_NZCV))
        return (address, *self.general(), *own, *self.system.values())

    def _on_mark(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        self.log.append(Mark(address))

    def _on_leave(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        self._stop(End("fetch", self._last_at, address))

    def _on_exception(self, uc: unicorn.Uc, number: int, data: object) -> None:
        at = self._pc()
        # BRK: 11010100001, and a number (Arm ARM, C6.2.45).
        brk = self.code.address <= at < self.code.end and self._word(at) >> 21 == 0b11010100001
        self._stop(End("brk" if brk else "undefined", at))

    def _word(self, address: int) -> int:
        offset = address - self.code.address
        return int.from_bytes(self.code.data[offset : offset + SIZE], "little")

    def _on_load(
        self, uc: unicorn.Uc, access: int, address: int, size: int, value: int, data: object
    ) -> None:
        address &= MASK
        value = int.from_bytes(uc.mem_read(address, size), "little")
        self.log.append(Access("load", self._pc(), address, size, value, self._now or self._context()))

    def _on_lost_load(
        self, uc: unicorn.Uc, access: int, address: int, size: int, value: int, data: object
    ) -> bool:
        # A store that faults has gone through _on_store; a load that faults comes here only.
        self.log.append(Access("load", self._pc(), address & MASK, size, 0, self._context()))
        return False

    def _on_store(
        self, uc: unicorn.Uc, access: int, address: int, size: int, value: int, data: object
    ) -> None:
        address &= MASK
        value &= (1 << 8 * size) - 1
        self._again = None  # memory may change: any state is a new one
        self.log.append(Access("store", self._pc(), address, size, value, self._now or self._context()))
        ghost = self.ghost
        ghost.store(address, size, cacheable(self.system["sctlr_el1"]))
        if self._now is None or self._now.icache != ghost.icache:
            self._now = None

    def _on_exit(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        instruction = self.code.at(address)
        kinds = {"RETURN": "ret", "CALLIND": "call"}
        kind = next((kinds[name] for name in instruction.opcodes if name in kinds), "br")
        self._stop(End(kind, address, self._read(instruction.word >> 5 & 31)))

    def _read(self, number: int) -> int:
        return 0 if number == _ZERO else int(self._uc.reg_read(_X[number]))

    def _event(self, name: str, at: int, operand: int) -> None:
        registers = self.general() if name == "CallHyperVisor" else ()
        lines = dict(self.ghost.lines) if name in ("CallHyperVisor", "msr sctlr_el1") else None
        self.log.append(Event(name, at, operand, self._context(), registers, lines))
        self._now = None

    def _on_register(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        instruction = self.code.at(address)
        found = system_register(instruction)
        assert found is not None
        name, written = found
        number = instruction.word & 31
        if instruction.word >> 20 & 0xFFF not in (0xD51, 0xD53):
            self._event(f"msr {name}", address, 0)  # MSR (immediate): no rule allows one here
        elif not written:
            if number != _ZERO:
                uc.reg_write(_X[number], self.system[name])
        else:
            value = self._read(number)
            self._event(f"msr {name}", address, value)
            changed = self.system.get(name) != value
            self.system[name] = value
            self.ghost.write_register(name, changed)

    @staticmethod
    def _ghostless(what: str) -> bool:
        """Record an effect for which the ghost state has no rules."""
        return what not in MEANING

    def _on_effect(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        what = effect(self.code.at(address))
        assert what is not None
        self._event(what, address, 0)

    def _on_undefined(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        self._event(UNDEFINED, address, 0)
        self._stop(End("undefined", address))

    def _refuse(self, instruction: Instruction) -> None:
        self._unsupported = UnsupportedError(f"instruction {instruction.text}", instruction.address)
        self._uc.emu_stop()

    def _on_system(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        instruction = self.code.at(address)
        word, name = instruction.word, user_operation(instruction)
        if name is None:
            self._refuse(instruction)
            return
        operand = self._read(word & 31) if name.startswith("DC_") else 0
        self._event(name, address, operand)
        if name == "CallHyperVisor":
            self._call(address)
        elif not self.ghost.perform(name, word, operand, cacheable(self.system["sctlr_el1"])):
            self._refuse(instruction)

    def _call(self, address: int) -> None:
        if self._scenario.hvc == "taken":
            self._stop(End("hvc", address))
            return
        # SMCCC 1.0, 2.6: a call that returns may change x0-x17.
        for number in range(18):
            self._uc.reg_write(_X[number], 0xDEAD_0000_0000_0000 | number << 8)
