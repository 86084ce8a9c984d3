"""Replays the counterexamples of a finished run from run.json alone."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import msgspec
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import InternalError, UsageError
from kexec_verify.kexec.abi_variant import AbiVariant, recognise
from kexec_verify.refute.counterexample import Counterexample, format_counterexample
from kexec_verify.refute.functions.record import CallCounterexample, format_call
from kexec_verify.refute.functions.record import rerun as rerun_call
from kexec_verify.refute.search import rerun
from kexec_verify.report.model import FunctionRecord, Run
from kexec_verify.specs.kimage import KimageLayout


@dataclass(frozen=True)
class Recorded:
    """A list that shows a fault of the routine, with the code and ABI variant that it is about."""

    counterexample: Counterexample
    code: Code
    variant: AbiVariant

    def confirm(self) -> None:
        """Run the counterexample again on the recorded bytes.

        :raises InternalError: if the run does not show the recorded effect.
        """
        shown = self.counterexample
        if not rerun(shown, self.code, self.variant):
            raise InternalError(f"the replay of {shown.property} does not show: {shown.effect}")


@dataclass(frozen=True)
class RecordedCall:
    """A call of a C function that shows a fault, with the function's code."""

    counterexample: CallCounterexample
    code: Code

    def confirm(self) -> None:
        """Run the counterexample again on the recorded bytes.

        :raises InternalError: if the run is not the recorded one.
        """
        rerun_call(self.counterexample.as_dict(), self._read)

    def _read(self, address: int, size: int) -> bytes:
        offset = address - self.code.address
        return self.code.data[offset : offset + size]


def in_lines(shown: Counterexample | CallCounterexample) -> list[str]:
    """A counterexample of either kind for a terminal."""
    return format_call(shown) if isinstance(shown, CallCounterexample) else format_counterexample(shown)


def recorded(run: Run) -> list[Recorded | RecordedCall]:
    """The counterexamples of a run.

    :raises UsageError: if its bytes are not those that its hash names.
    """
    found: list[Recorded | RecordedCall] = []
    for record in run.properties:
        if record.counterexample is None:
            continue
        if record.counterexample.get("kind") == "call":
            call = msgspec.convert(record.counterexample, CallCounterexample, strict=False)
            function = next((f for f in run.functions if f.name == call.function), None)
            if function is None:
                raise UsageError(f"expected the code of {call.function} in the run, found none")
            found.append(RecordedCall(call, _code(function)))
        else:
            code = _code(run.function)
            layout = KimageLayout(run.function.layout["dtb_mem"]) if run.function.layout else None
            variant = recognise(code, run.function.page_size, layout)
            variant = dataclasses.replace(variant, folds_ttbr=run.function.folds_ttbr)
            shown = msgspec.convert(record.counterexample, Counterexample, strict=False)
            found.append(Recorded(shown, code, variant))
    return found


def _code(function: FunctionRecord) -> Code:
    data = b"".join(instruction.word.to_bytes(4, "little") for instruction in function.instructions)
    found = hashlib.sha256(data).hexdigest()
    if found != function.sha256:
        raise UsageError(f"expected the bytes with SHA-256 {function.sha256}, found {found}")
    return Code(function.name, function.address, data)
