"""Run one function of a kernel on Unicorn, from given registers, memory and callees' answers.

Only the function's own bytes are there. A call is answered with values that the callee's contract allows, a
system instruction acts on system registers kept here, and the run ends where control leaves the function.
"""

from __future__ import annotations

from collections.abc import Callable

import unicorn
from kexec_verify.arm64 import mops, pointer_authentication
from kexec_verify.arm64.emulator import Registers, emulator
from kexec_verify.arm64.execute import UNDEFINED, UNPRIVILEGED
from kexec_verify.arm64.legality import lowest_el
from kexec_verify.arm64.lift import SIZE, Code, Instruction
from kexec_verify.arm64.memory_copy import MOST
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM
from kexec_verify.errors import UnsupportedError
from kexec_verify.refute.functions.effects import Accessed, Answer, Happened, Inputs, Left
from kexec_verify.refute.intercept import effect, system_register, user_operation
from unicorn import arm64_const

PAGE = 4096
_NOP = (0xD503201F).to_bytes(SIZE, "little")
_ZERO = 31
_X = [getattr(arm64_const, f"UC_ARM64_REG_X{i}") for i in range(31)]
_PC, _SP = arm64_const.UC_ARM64_REG_PC, arm64_const.UC_ARM64_REG_SP
_NZCV = arm64_const.UC_ARM64_REG_NZCV
# MSR (immediate) of DAIFSet and DAIFClr: op1 = 3, op2 = 6 and 7, CRm the four bits (Arm ARM, C6.2.242).
_DAIF_SET, _DAIF_CLEAR, _DAIF_MASK = 0xD503_40DF, 0xD503_40FF, 0xFFFF_F0FF
_DAIF_SHIFT = 6
_MSR_REGISTER = 0xD51  # bits 31 to 20 of MSR (register), and of SYSL
_SYSTEM_INSTRUCTION = 0b1101010100  # bits 31 to 22 (Arm ARM, C4.1.94)

type Answering = Callable[[int, int], Answer | None]


class PathRun:
    """One run of one function.

    :param inputs: see Inputs.
    :param answering: answers a call at an address of a function, once no answer of ``inputs`` is left; None
        if that call is to end the run.
    :ivar answers: those that were given.
    """

    def __init__(self, code: Code, inputs: Inputs, answering: Answering | None = None):
        self.code, self.inputs, self._answering = code, inputs, answering
        self.answers: list[Answer] = []
        self.trace: list[int] = []
        self.changed: list[dict[str, int]] = []  # general registers that each instruction changed
        self.accesses: list[Accessed] = []
        self.events: list[Happened] = []
        self.before_last = 0  # accesses made before the last instruction
        self.left: Left | None = None
        self._before: list[int] = []
        self.system = {name: inputs.registers[name] for name in SYSTEM}
        self._answers = list(inputs.answers)
        self._actions: dict[int, Callable[[int], None]] = {}
        self._unsupported: UnsupportedError | None = None
        self._uc = emulator()
        self._general = Registers(self._uc, (*_X, _SP))
        self._load()

    def _load(self) -> None:
        uc, inputs, code = self._uc, self.inputs, self.code
        pages = {page & -PAGE for page in inputs.pages}
        pages |= {page for piece in code.pieces for page in range(piece.address & -PAGE, piece.end, PAGE)}
        for page in sorted(pages):
            uc.mem_map(page, PAGE, unicorn.UC_PROT_ALL)
        for address, word in inputs.memory.items():
            if address & -PAGE in pages:
                uc.mem_write(address, word.to_bytes(8, "little"))
        for piece in code.pieces:
            uc.mem_write(piece.address, piece.data)
            for address in piece.addresses:
                self._prepare(address)
        self._set(inputs.registers)
        uc.hook_add(unicorn.UC_HOOK_CODE, self._on_instruction)
        uc.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, self._on_access)
        uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)

    def _prepare(self, address: int) -> None:
        """Replace an instruction at ``address`` by a NOP if Unicorn must not execute it."""
        try:
            instruction = self.code.at(address)
        except UnsupportedError:
            return  # a run that comes here differs from every path
        kinds, name = set(instruction.opcodes), user_operation(instruction)
        action: Callable[[int], None] | None = None
        what = effect(instruction)
        if lowest_el(instruction.word) > self.code.el:
            action = self._undefined
        elif instruction.word in pointer_authentication.MEANING:
            action = lambda at: None  # noqa: E731 - as on a CPU without pointer authentication
        elif mops.part(instruction.word) is not None:
            action = self._copy
        elif name == "SoftwareBreakpoint":
            action = self._brk
        elif name == "ExceptionReturn":
            action = lambda at: self._leave("eret", at, 0)  # noqa: E731
        elif name == "CallHyperVisor":
            action = self._hvc
        elif system_register(instruction, SYSTEM) is not None:
            action = self._register
        elif name is not None or what is not None:
            happens = what or name or ""
            written = instruction.word & 31 if instruction.word >> 20 == _MSR_REGISTER else _ZERO
            action = lambda at: self._happen(happens, at, self._operand(written))  # noqa: E731
        elif "CALL" in kinds:
            # A small callee that is run in place of its call is entered as the CPU does it.
            action = self._call if not self._enters(instruction.call_target) else None
        elif kinds & {"CALLIND", "BRANCHIND", "RETURN"}:
            action = self._branch
        elif "BRANCH" in kinds and "CBRANCH" not in kinds and _target(instruction) not in self.code:
            action = self._tail_call
        if action is None and kinds and instruction.word >> 22 == _SYSTEM_INSTRUCTION:
            action = self._refuse
        if action is not None:
            self._actions[address] = action
        may_return = "RETURN" in kinds and bool(self.code.continuations)
        if action is not None and what != UNPRIVILEGED and not may_return:
            self._uc.mem_write(address, _NOP)

    def _enters(self, target: int | None) -> bool:
        return target is not None and self.code.enters(target)

    def run(self) -> None:
        """Run to the end.

        :raises UnsupportedError: on an instruction without a model.
        """
        try:
            self._uc.emu_start(self.inputs.start, 0)
        except unicorn.UcError as error:
            if self.left is None and not self._went_out(self._pc()):
                self.left = Left(f"fault ({error})", self._pc(), 0)
        if self._unsupported is not None:
            raise self._unsupported
        if self.left is None:
            self.left = Left("stopped", self._pc(), 0)
        self._note_change()

    # Registers and memory

    def registers(self) -> dict[str, int]:
        """Return every general register, SP, flags and system registers."""
        found = dict(zip((*GENERAL, "sp"), self._general.read(), strict=True))
        nzcv = int(self._uc.reg_read(_NZCV))
        flags = {name: nzcv >> (31 - bit) & 1 for bit, name in enumerate(FLAGS)}
        return {**found, **flags, **self.system}

    def read(self, address: int, size: int) -> int | None:
        """Return what memory holds; None if none is mapped there."""
        try:
            return int.from_bytes(self._uc.mem_read(address, size), "little")
        except unicorn.UcError:
            return None

    def _mapped(self, address: int) -> bool:
        """Return whether there is memory at ``address``."""
        return self.read(address, 1) is not None

    def _access(self, kind: int, address: int, value: int = 0) -> int:
        """Make an access to a byte that Unicorn's CPU does not make; return the byte that is there then.

        :raises UcError: there is no memory.
        """
        if not self._mapped(address):
            raise unicorn.UcError(unicorn.UC_ERR_EXCEPTION)
        self._on_access(self._uc, kind, address, 1, value, None)
        if kind == unicorn.UC_MEM_WRITE:
            self._uc.mem_write(address, bytes([value]))
        return int(self._uc.mem_read(address, 1)[0])

    def _set(self, registers: dict[str, int]) -> None:
        nzcv = int(self._uc.reg_read(_NZCV))
        for name, value in registers.items():
            if name in FLAGS:
                bit = 31 - FLAGS.index(name)
                nzcv = nzcv & ~(1 << bit) | (value & 1) << bit
            elif name == "sp":
                self._uc.reg_write(_SP, value)
            elif name in SYSTEM:
                self.system[name] = value
            else:
                self._uc.reg_write(_X[int(name[1:])], value)
        self._uc.reg_write(_NZCV, nzcv)

    def _pc(self) -> int:
        return int(self._uc.reg_read(_PC))

    def _operand(self, number: int) -> int:
        return 0 if number == _ZERO else int(self._uc.reg_read(_X[number]))

    # What instructions do

    def _on_instruction(self, uc: unicorn.Uc, address: int, size: int, data: object) -> None:
        self._note_change()
        if self._went_out(address):
            return
        if len(self.trace) >= self.inputs.length or address not in self.code:
            self._leave("stopped", address, address)
            return
        self.trace.append(address)
        self.before_last = len(self.accesses)
        if address in self._actions:
            self._actions[address](address)

    def _went_out(self, address: int) -> bool:
        """End a run of code that may branch to other functions, if control has gone on outside of it."""
        if address in self.code or not self.code.calls or not self.trace:
            return False
        self._leave("br", self.trace[-1], address)
        return True

    def _note_change(self) -> None:
        now = self._general.read()
        if self.trace and len(self.changed) < len(self.trace):
            names = (*GENERAL, "sp")
            pairs = zip(names, self._before, now, strict=True)
            self.changed.append({name: new for name, old, new in pairs if old != new})
        self._before = now

    def _leave(self, kind: str, at: int, target: int) -> None:
        if self.left is None:
            self.left = Left(kind, at, target)
        self._uc.emu_stop()

    def _happen(self, name: str, at: int, operand: int = 0) -> None:
        self.events.append(Happened(name, at, operand, self.registers()))

    def _answered(self, at: int, target: int = 0) -> bool:
        """Return whether the next answer is for the call at ``at``."""
        if not self._answers and self._answering is not None:
            further = self._answering(at, target)
            self._answers += [further] if further is not None else []
        return bool(self._answers) and self._answers[0].at == at

    def _answer(self, at: int) -> None:
        """Apply the next answer."""
        answer = self._answers.pop(0)
        self.answers.append(answer)
        self._set(answer.registers)
        for address, data in answer.stores.items():
            self._uc.mem_write(address, bytes.fromhex(data))

    def _call(self, at: int) -> None:
        instruction = self.code.at(at)
        target = instruction.call_target
        if target is None:
            target = self._operand(instruction.word >> 5 & 31)
        self._uc.reg_write(_X[30], at + SIZE)
        if not self._answered(at, target):
            self._leave("call", at, target)
            return
        self._happen("call", at)
        self._answer(at)

    def _tail_call(self, at: int) -> None:
        back = self._operand(30)
        if not self._answered(at):
            self._leave("br", at, _target(self.code.at(at)))
            return
        self._happen("call", at)
        self._answer(at)
        self._leave("ret", at, back)

    def _copy(self, at: int) -> None:
        """Copy memory: Unicorn's CPU has no such instruction. The last one of a sequence does it all."""
        done = mops.part(self.code.word(at))
        assert done is not None
        if done.number != mops.EPILOGUE:
            return
        to, source, count = (self._operand(int(name[1:])) for name in done.registers)
        if count > MOST:
            self._refuse(at)
            return
        try:
            data = [self._access(unicorn.UC_MEM_READ, source + i) for i in range(count)]
            for i, byte in enumerate(data):
                self._access(unicorn.UC_MEM_WRITE, to + i, byte)
        except unicorn.UcError as error:
            self._leave(f"fault ({error})", at, 0)
            return
        after = (to + count, source + count, 0)
        self._set(dict(zip(done.registers, after, strict=True)))

    def _hvc(self, at: int) -> None:
        self._happen("CallHyperVisor", at)
        if self._answered(at):
            self._answer(at)
        else:
            self._leave("hvc", at, 0)

    def _branch(self, at: int) -> None:
        instruction = self.code.at(at)
        target = self._operand(instruction.word >> 5 & 31)
        if "RETURN" in instruction.opcodes and target in self.code:
            return  # from a small callee: the CPU does it
        if "CALLIND" in instruction.opcodes:
            self._call(at)
        elif "BRANCHIND" in instruction.opcodes and self._answered(at, target):
            back = self._operand(30)
            self._happen("call", at)
            self._answer(at)
            if back in self.code:
                self._uc.reg_write(_PC, back)
            else:
                self._leave("ret", at, back)
        else:
            self._leave("ret" if "RETURN" in instruction.opcodes else "br", at, target)

    def _brk(self, at: int) -> None:
        if at in self.code.warnings:
            self._happen("warn", at)
        else:
            self._leave("brk", at, 0)

    def _register(self, at: int) -> None:
        instruction = self.code.at(at)
        found = system_register(instruction, SYSTEM)
        assert found is not None
        name, written = found
        word, number = instruction.word, instruction.word & 31
        if written and word & _DAIF_MASK in (_DAIF_SET, _DAIF_CLEAR):
            bits = (word >> 8 & 0xF) << _DAIF_SHIFT
            cleared = self.system["daif"] & ~bits
            value = cleared | bits if word & _DAIF_MASK == _DAIF_SET else cleared
        elif word >> 20 not in (0xD51, 0xD53):
            self._refuse(at)
            return
        elif not written:
            if number != _ZERO:
                self._uc.reg_write(_X[number], self.system[name])
            return
        else:
            value = self._operand(number)
        self._happen(f"msr {name}", at, value)
        self.system[name] = value

    def _undefined(self, at: int) -> None:
        self._happen(UNDEFINED, at)
        self._leave("undefined", at, 0)

    def _refuse(self, at: int) -> None:
        self._unsupported = UnsupportedError(f"instruction {self.code.at(at).text}", at)
        self._uc.emu_stop()

    # Unicorn's callbacks

    def _on_access(
        self, uc: unicorn.Uc, access: int, address: int, size: int, value: int, data: object
    ) -> None:
        address %= 1 << 64
        kind = "store" if access == unicorn.UC_MEM_WRITE else "load"
        if kind == "load":
            value = int.from_bytes(uc.mem_read(address, size), "little")
        self.accesses.append(Accessed(kind, self.trace[-1], address, size, value % (1 << 8 * size)))

    def _on_exception(self, uc: unicorn.Uc, number: int, data: object) -> None:
        self._leave("undefined", self._pc(), 0)


def _target(instruction: Instruction) -> int:
    """Return where an unconditional branch goes."""
    return next(int(o.inputs[0].offset) for o in instruction.operations if o.opcode.name == "BRANCH")
