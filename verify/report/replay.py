"""Replay the counterexamples of a finished run from run.json alone."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM
from kexec_verify.errors import InternalError, UnsupportedError, UsageError
from kexec_verify.kexec.abi_variant import AbiVariant, recognise
from kexec_verify.refute.counterexample import Counterexample, format_counterexample
from kexec_verify.refute.functions.record import CallCounterexample, format_call
from kexec_verify.refute.functions.record import rerun as rerun_call
from kexec_verify.refute.patched import patched
from kexec_verify.refute.scenario import MASK, RAM_PAGES, WORD, OutsideError, Scenario
from kexec_verify.refute.search import rerun
from kexec_verify.report.bounds import PAGE_SIZES
from kexec_verify.report.model import FunctionRecord, PropertyRecord, Run
from kexec_verify.specs.kimage import KimageLayout
from unicorn import UcError

_REGISTERS = frozenset((*GENERAL, "sp", *FLAGS, *SYSTEM))
_HEX_BYTES = re.compile(r"([0-9a-f]{2}){1,4096}")
_NO_BYTES = "a patch of other than bytes"
_MOST_PAGES = 1 << 12  # of 4 KiB
_MOST_STEPS = 1 << 20
_MOST_CODE = 1 << 20  # bytes
_MOST_DMINLINE = 9  # cache lines of 2 KiB, as CTR_EL0 can state at most (Arm ARM, D19.2.34)


@dataclass(frozen=True)
class Recorded:
    """A list that shows a fault of the routine, with the code and ABI variant that it is about."""

    counterexample: Counterexample
    code: Code
    variant: AbiVariant

    def confirm(self) -> None:
        """Run the counterexample again on the recorded bytes.

        :raises InternalError: if the run does not show the recorded effect.
        :raises UsageError: if it cannot be run.
        """
        shown = self.counterexample
        with _runs(shown.property):
            again = rerun(shown, self.code, self.variant)
        if not again:
            raise InternalError(f"the replay of {shown.property} does not show: {shown.effect}")


@dataclass(frozen=True)
class RecordedCall:
    """A call of a C function that shows a fault.

    :param code: of the function; ``others``: of the functions that are run as part of it.
    """

    counterexample: CallCounterexample
    code: Code
    others: tuple[Code, ...] = ()

    def confirm(self) -> None:
        """Run the counterexample again on the recorded bytes.

        :raises InternalError: if the run is not the recorded one.
        :raises UsageError: if it cannot be run.
        """
        with _runs(self.counterexample.property):
            rerun_call(self.counterexample.as_dict(), self._read)

    def _read(self, address: int, size: int) -> bytes:
        code = next((code for code in (self.code, *self.others) if address in code), self.code)
        offset = address - code.address
        return code.data[offset : offset + size]


@contextmanager
def _runs(name: str) -> Iterator[None]:
    """Distinguish a record that no emulator can run from one that runs and shows something else."""
    try:
        yield
    except (UcError, OutsideError, UnsupportedError) as error:
        raise UsageError(f"expected a counterexample of {name} that can be run, found: {error}") from error


def in_lines(shown: Counterexample | CallCounterexample) -> list[str]:
    """Return a counterexample of either kind as lines for a terminal."""
    return format_call(shown) if isinstance(shown, CallCounterexample) else format_counterexample(shown)


def recorded(run: Run) -> list[Recorded | RecordedCall]:
    """Return the counterexamples of a run.

    :raises UsageError: if its bytes are not those that its hash names.
    """
    found: list[Recorded | RecordedCall] = []
    for record in run.properties:
        if record.counterexample is None:
            continue
        if record.counterexample.get("kind") == "call":
            call = _converted(record, CallCounterexample)
            _require_inputs(call)
            names = (call.function, *(name for name, _, _ in call.further))
            function, *others = (_function_code(run, name) for name in names)
            found.append(RecordedCall(call, function, tuple(others)))
        else:
            shown = _converted(record, Counterexample)
            code = _as_run(_code(run.function), shown)
            if run.function.layout and "dtb_mem" not in run.function.layout:
                raise UsageError("expected a layout of struct kimage with dtb_mem, found none")
            layout = KimageLayout(run.function.layout["dtb_mem"]) if run.function.layout else None
            try:
                variant = recognise(code, run.function.page_size, layout)
            except UnsupportedError as error:
                raise UsageError(f"expected the code of a relocation routine, found: {error}") from error
            variant = dataclasses.replace(variant, folds_ttbr=run.function.folds_ttbr)
            _require_scenario(shown.scenario)
            found.append(Recorded(shown, code, variant))
    return found


def _converted[T](record: PropertyRecord, kind: type[T]) -> T:
    try:
        return msgspec.convert(record.counterexample, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"expected a counterexample of {record.id}, found: {error}") from error


def _require_inputs(call: CallCounterexample) -> None:
    """Refuse a call with inputs that no machine has, or that would use all of this machine's memory.

    :raises UsageError: for an unknown register, or numbers out of range.
    """
    given = call.given
    answered = [name for answer in given.answers for name in answer.registers]
    unknown = sorted({*given.registers, *answered} - _REGISTERS)
    missing = sorted(_REGISTERS - set(given.registers))
    stores = [(at, data) for answer in given.answers for at, data in answer.stores.items()]
    start, length = call.code
    for wrong, what in (
        (unknown, f"register {unknown[:1]}"),
        (missing, f"no register {missing[:1]}"),
        (len(given.pages) > _MOST_PAGES, f"{len(given.pages)} pages of memory"),
        (not 0 < given.length <= _MOST_STEPS, f"{given.length} instructions"),
        (start % SIZE or not 0 < length <= _MOST_CODE, f"{length} bytes of code at {start:#x}"),
        (call.el not in (1, 2), f"exception level {call.el}"),
        (any(not _HEX_BYTES.fullmatch(data) for _, data in stores), "a store of other than bytes"),
        (any(at + len(data) // 2 > MASK for at, data in stores), "a store beyond the address space"),
        (any(at + WORD > MASK for at in given.memory), "a word beyond the address space"),
        (any(not _HEX_BYTES.fullmatch(new) for _, new in call.patched), _NO_BYTES),
    ):
        if wrong:
            raise UsageError(f"expected the inputs of a call of {call.function}, found {what}")


def _require_scenario(scenario: Scenario) -> None:
    """Refuse a list and a memory that no machine can have.

    :raises UsageError: for numbers out of range.
    """
    last = scenario.ram_bytes - WORD
    for wrong, what in (
        (scenario.page_size not in PAGE_SIZES, f"pages of {scenario.page_size} bytes"),
        (not 0 <= scenario.dminline <= _MOST_DMINLINE, f"DminLine {scenario.dminline}"),
        (scenario.ram_at % scenario.page_size, f"memory at {scenario.ram_at:#x}"),
        (scenario.ram_at + scenario.ram_bytes > MASK, f"memory at {scenario.ram_at:#x}"),
        (scenario.hvc not in ("taken", "refused"), f"an HVC that is {scenario.hvc}"),
        (scenario.garbage not in ("marked", "zero", "addresses"), f"registers of {scenario.garbage}"),
        (len(scenario.words) > last or len(scenario.dirty) > RAM_PAGES, "more words or pages than fit"),
        (
            any(at % WORD or (at - scenario.ram_at) & MASK > last for at, _ in scenario.placed()),
            "a word outside of memory",
        ),
    ):
        if wrong:
            raise UsageError(f"expected a list in {RAM_PAGES} pages of memory, found {what}")


def _as_run(code: Code, shown: Counterexample) -> Code:
    """Return the routine with what boot writes over it on the counterexample's machine."""
    if any(not _HEX_BYTES.fullmatch(new) for _, new in shown.patched):
        raise UsageError(f"expected a counterexample of {shown.property}, found {_NO_BYTES}")
    return Code(code.name, code.address, patched(code.data, code.address, shown.patched))


def _function_code(run: Run, name: str) -> Code:
    function = next((f for f in run.functions if f.name == name), None)
    if function is None:
        raise UsageError(f"expected the code of {name} in the run, found none")
    return _code(function)


def _code(function: FunctionRecord) -> Code:
    if not function.instructions or function.address % SIZE:
        raise UsageError(f"expected the code of {function.name} in the run, found none")
    data = b"".join(instruction.word.to_bytes(4, "little") for instruction in function.instructions)
    found = hashlib.sha256(data).hexdigest()
    if found != function.sha256:
        raise UsageError(f"expected the bytes with SHA-256 {function.sha256}, found {found}")
    return Code(function.name, function.address, data)
