"""Read the other files of a run's folder that its page shows: checks, co-simulation, mutation, history."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from kexec_verify.check.model import FILE as CHECK
from kexec_verify.check.model import CertificateRecord, Check
from kexec_verify.cosim.model import Report
from kexec_verify.files import JSON_LIMIT, decode_json, read_file
from kexec_verify.html import history
from kexec_verify.html.history import Entry
from kexec_verify.mutate.model import MutationRun
from kexec_verify.report.live_model import FILE as LIVE
from kexec_verify.report.live_model import LiveRun
from kexec_verify.report.model import Run

COSIMULATION = "cosim.json"
MUTATION = "mutation.json"


@dataclass(frozen=True)
class CompanionFiles:
    """Everything that a page shows and run.json does not hold; absent parts are None or empty.

    :param stale: names of files that are there and are about another run or other bytes.
    """

    check: Check | None = None
    cosimulation: Report | None = None
    mutation: MutationRun | None = None
    earlier: list[Entry] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    live: LiveRun | None = None

    @property
    def certificates(self) -> dict[str, CertificateRecord]:
        """Return the result of certifying each obligation, by the file of its text."""
        if self.check is None:
            return {}
        return {text.text: text.certificate for text in self.check.texts if text.certificate is not None}


def before_save(directory: Path, run: Run, note: Callable[[str], None] = lambda _: None) -> CompanionFiles:
    """Return the files next to a run in ``directory`` that will still be there when a new one replaces it.

    :param note: called with a sentence for each file that cannot be read.
    """
    cosimulation = _read(directory.parent / COSIMULATION, Report, note)
    earlier = history.read(directory.parent, directory.name, note)
    live = _read(directory / LIVE, LiveRun, note)
    if live is not None and live.sha256 != run.target.sha256:
        live = None
    return CompanionFiles(cosimulation=cosimulation, earlier=earlier, live=live)


def companion_files(
    directory: Path, run: Run, encoded: bytes, note: Callable[[str], None] = lambda _: None
) -> CompanionFiles:
    """Return the files next to the run in ``directory``, and in the reports' directory above it.

    :param encoded: the run.json, byte for byte.
    :param note: called with a sentence for each file that cannot be read.
    """
    stale = []
    check = _read(directory / CHECK, Check, note)
    if check is not None and check.run_sha256 != hashlib.sha256(encoded).hexdigest():
        stale.append(CHECK)
        check = None
    mutation = _read(directory / MUTATION, MutationRun, note)
    if mutation is not None and mutation.sha256 != run.target.sha256:
        stale.append(MUTATION)
        mutation = None
    cosimulation = _read(directory.parent / COSIMULATION, Report, note)
    earlier = history.read(directory.parent, directory.name, note)
    live = _read(directory / LIVE, LiveRun, note)
    if live is not None and live.sha256 != run.target.sha256:
        stale.append(LIVE)
        live = None
    return CompanionFiles(check, cosimulation, mutation, earlier, stale, live)


def _read[T](path: Path, kind: type[T], note: Callable[[str], None]) -> T | None:
    """Return the contents of *path*; None if there is no such file, and with a note if it is malformed."""
    try:
        return decode_json(read_file(path, JSON_LIMIT), kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        note(history.left_out(path, error))
        return None
