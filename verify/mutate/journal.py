"""Keep a journal of a mutation run: the result of each mutant, written as soon as it is known.

An interrupted run continues where it stopped: a mutant that the journal has is not tried again. A line counts
only if it has the digests of the same target, mutant and tool. Other lines stay in the file and are ignored.
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
    """One mutant's record, with the digests of what it is the result of.

    :param tool: digest of the tool; ``target``: SHA-256 of the target.
    :param mutant: digest of the job (see ``query``).
    """

    tool: str
    target: str
    mutant: str
    record: MutantRecord


def query(job: Job) -> str:
    """Return a digest of all that decides the result of a job: the mutant's bytes, ABI variant, and request.

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
    """A JSON-lines file next to mutation.json, one line for each mutant tried.

    :param target: SHA-256 of the target.
    """

    def __init__(self, path: Path, target: str):
        self.path, self.target, self.tool = path, target, tool_digest()
        self._known = {line.mutant: line.record for line in self._read() if self._is_ours(line)}

    def known(self, job: Job) -> MutantRecord | None:
        """Return what an earlier run of this tool on this target wrote about the mutant."""
        return self._known.get(query(job))

    def follow(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Yield the same outcomes, each written to the file first.

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
        """Yield every line that can be read."""
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
