"""The journal of a mutation run: what came of each mutant, written as it is known.

An interrupted run is taken up where it broke off: a mutant that the journal has is not tried
again. A line is believed only if it speaks of the very same question: these bytes of the
target, this mutant of them, this tool. Others stay in the file and are passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from kexec_verify.digest import tool_digest
from kexec_verify.errors import UsageError
from kexec_verify.files import decode_json, read_file
from kexec_verify.mutate.model import MutantRecord
from kexec_verify.mutate.run import Job, Outcome

_LIMIT = 1 << 28  # bytes; a kernel's journal has some 10 MiB


class Line(msgspec.Struct, frozen=True):
    """One mutant's record, and what it is the answer to.

    :param tool: digest of the tool; ``target``: SHA-256 of the target.
    :param mutant: digest of the question that was asked of the mutant.
    """

    tool: str
    target: str
    mutant: str
    record: MutantRecord


def query(job: Job) -> str:
    """A digest of all that decides what comes of a job: the mutant's bytes, its form, what is asked.

    The bytes around the function are the target's, whose hash the line has.
    """
    mutant, code = job.mutant, job.mutant.code
    function = f"{code.name} {code.address:#x} {'of a kernel' if job.target else 'by itself'}"
    asked = f"{mutant.kind} {mutant.at:#x} {mutant.edit}\0{function}\0{_variant(job)}\0"
    return hashlib.sha256(asked.encode() + code.data).hexdigest()


def _variant(job: Job) -> str:
    variant = msgspec.to_builtins(job.variant)
    variant["exits"] = sorted(job.variant.exits)  # the order of a set is no part of the question
    return f"{sorted(variant.items())} {job.ask_prover}"


class Journal:
    """A JSON-lines file beside mutation.json, one line for each mutant tried.

    :param target: SHA-256 of the target.
    """

    def __init__(self, path: Path, target: str):
        self.path, self.target, self.tool = path, target, tool_digest()
        self._known = {line.mutant: line.record for line in self._read() if self._is_ours(line)}

    def known(self, job: Job) -> MutantRecord | None:
        """What an earlier run of this tool on this target wrote of the mutant."""
        return self._known.get(query(job))

    def follow(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """The same outcomes, each written to the file before it is passed on.

        :raises UsageError: if the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._drop_torn_line()
            stream = self.path.open("ab")
        except OSError as error:
            raise UsageError(f"{self.path}: expected a file to write, found: {error.strerror}") from error
        with stream:
            for job, record in outcomes:
                line = Line(self.tool, self.target, query(job), record)
                stream.write(msgspec.json.encode(line) + b"\n")
                stream.flush()
                yield job, record

    def _is_ours(self, line: Line) -> bool:
        return (line.tool, line.target) == (self.tool, self.target)

    def _read(self) -> Iterator[Line]:
        """Every line that can be read; one that cannot is as good as none."""
        try:
            data = read_file(self.path, _LIMIT)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"{self.path}: expected a journal, found: {error.strerror}") from error
        for text in data.splitlines():
            try:
                yield decode_json(text, Line)
            except msgspec.DecodeError:
                continue

    def _drop_torn_line(self) -> None:
        """Remove an incomplete last line of a killed run, so that the next line starts a line."""
        if self.path.exists():
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole != len(data):
                with self.path.open("r+b") as stream:
                    stream.truncate(whole)
