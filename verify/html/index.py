"""Draw the index over all runs in a reports' directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as replace_status
from pathlib import Path

from kexec_verify.errors import UsageError
from kexec_verify.html.history import replace
from kexec_verify.html.page import render
from kexec_verify.html.status import Headline, Status, headline
from kexec_verify.report.model import Run
from kexec_verify.report.read import read_run
from kexec_verify.sweep.model import PAGE as SWEEP

PAGE = "index.html"


@dataclass(frozen=True)
class Row:
    """One run: its directory's name, and whether there is a page in it."""

    directory: str
    run: Run
    headline: Headline
    page: bool

    @property
    def status(self) -> Status:
        """Return how the verdict is shown: green only if the run is of the whole kexec path."""
        shown = self.headline.status
        return shown if self.headline.whole or shown.tone != "good" else replace_status(shown, tone="part")

    @property
    def rank(self) -> int:
        """Return its position from bad to good; less than the whole kexec path never ranks among the best."""
        shown = self.headline.status
        if shown.tone == "bad":
            return 0
        if shown.tone == "warn" and shown.icon != "waived":
            return 1
        if not self.headline.whole:
            return 2
        return 3 if shown.tone == "warn" else 4


def rows(reports: Path, note: Callable[[str], None] = lambda _: None) -> list[Row]:
    """Return every run in ``reports`` by rank, then by name.

    :param note: called with a sentence for each run.json that is left out.
    """
    found = []
    for path in sorted(reports.glob("*/run.json")):
        try:
            run = read_run(path)
        except UsageError as error:
            note(str(error))
            continue
        found.append(Row(path.parent.name, run, headline(run), (path.parent / PAGE).is_file()))
    return sorted(found, key=lambda row: (row.rank, row.directory))


def write_index(reports: Path, note: Callable[[str], None] = lambda _: None) -> Path:
    """Write the index of ``reports`` and return its path.

    :param note: called with a sentence for each run.json that is left out.
    :raises UsageError: if the directory cannot be written.
    """
    sweep = SWEEP if (reports / SWEEP).is_file() else ""
    page = render("index.html.j2", {"rows": rows(reports, note), "sweep": sweep})
    try:
        reports.mkdir(parents=True, exist_ok=True)
        replace(reports / PAGE, page.encode(errors="replace"))
    except OSError as error:
        raise UsageError(f"expected a directory to write to, found {reports}: {error.strerror}") from error
    return reports / PAGE
