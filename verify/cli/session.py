"""The state that the targets of one command share: options, solvers, cached results."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kexec_verify.cli.terminal import Terminal
from kexec_verify.kexec.selection import select
from kexec_verify.report.model import Run
from kexec_verify.specs.properties import Property
from kexec_verify.waivers import OWN, read_all_waivers, read_waivers

if TYPE_CHECKING:
    from kexec_verify.cache.runs import Finished
    from kexec_verify.prove.discharge import Discharger
    from kexec_verify.prove.queries import Queries

CONTRADICTIONS = "contradictions"


class Session:
    """One command's work on any number of targets; a context manager that ends its processes.

    :param directory: that reports are written under.
    :param patterns: globs of property names; none are all.
    :param jobs: processes for solvers; 0 is one for each core, 1 is this one.
    :param scheduler: address of a Dask scheduler whose workers run the solvers.
    :param recheck: ignore cached results.
    :param no_cache: do not read or write the cache.
    :param waiver_files: files of waivers in addition to the tool's own.
    :raises UsageError: for a pattern that matches no property, and for a file that holds no waivers.
    """

    def __init__(
        self,
        terminal: Terminal,
        directory: Path,
        patterns: tuple[str, ...] = (),
        seed: int = 0,
        jobs: int = 0,
        scheduler: str | None = None,
        recheck: bool = False,
        no_cache: bool = False,
        waiver_files: tuple[Path, ...] = (),
    ):
        from kexec_verify.cache.place import open_cache

        self.terminal = terminal
        self.directory = directory
        self.patterns = patterns
        self.claims: list[Property] = select(patterns)
        self.waivers = read_waivers() + read_all_waivers(waiver_files)
        self._seed, self._jobs, self._scheduler, self._recheck = seed, jobs, scheduler, recheck
        self._cache = None if no_cache else open_cache()
        self._folders: dict[Path, str] = {}  # locations of targets
        self._queries: Queries | None = None
        self._discharger: Discharger | None = None
        self._counted = (0, 0)
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()
        if self._cache is not None:
            self._cache.close()

    @property
    def elsewhere(self) -> str:
        """Return the option that names the folder of reports; empty for the default folder."""
        return "" if self.directory == Path("reports") else f" --reports {shlex.quote(str(self.directory))}"

    def place(self, name: str, source: str) -> Path:
        """Return the folder of a target's report.

        :param name: the target's short name.
        :param source: the target as the user typed it.
        """
        from kexec_verify.report.folder import location_of, report_folder

        folder = report_folder(self.directory, name, source, self._folders)
        self._folders[folder] = location_of(source)
        return folder

    def discharger(self) -> Discharger:
        """Return what discharges the obligations of all targets; the first call starts the processes."""
        if self._discharger is None:
            from kexec_verify.cache.answers import Answers
            from kexec_verify.prove.discharge import Discharger
            from kexec_verify.prove.executors import solving
            from kexec_verify.prove.queries import Queries

            executor = self._ends.enter_context(solving(self._jobs, self._scheduler))
            answers = Answers(self._cache, self._recheck) if self._cache is not None else None
            self._queries = Queries(executor, answers)
            self._discharger = Discharger(
                seed=self._seed, queries=self._queries, contradictions=self.directory / CONTRADICTIONS
            )
        return self._discharger

    def queries(self) -> dict[str, int]:
        """Return how many queries went to solvers since the last call, and how many had an answer."""
        assert self._queries is not None
        asked, reused = self._counted
        self._counted = (self._queries.asked, self._queries.reused)
        return {"asked": self._queries.asked - asked, "reused": self._queries.reused - reused}

    def finished(self, sha256: str, target: str, place: Path) -> Finished | None:
        """Return the run of an earlier command with the same target and request, if it may be believed.

        :param sha256: of the target's file, in hexadecimal.
        """
        from kexec_verify.cache.runs import find_run

        if self._cache is None or self._recheck:
            return None
        return find_run(self._cache, self._query(sha256, target, place))

    def keep(
        self, sha256: str, target: str, place: Path, run: Run, files: dict[str, bytes], lines: list[str]
    ) -> None:
        """Keep a run for a later command with the same target and request."""
        from kexec_verify.cache.runs import Finished, keep_run

        if self._cache is not None:
            keep_run(self._cache, self._query(sha256, target, place), run, Finished(files, lines))

    def _query(self, sha256: str, target: str, place: Path) -> bytes:
        from kexec_verify.cache.runs import query
        from kexec_verify.report.folder import location_of

        request = [location_of(target), *self.patterns, *(claim.id for claim in self.claims)]
        request += [repr(waiver) for waiver in self.waivers if waiver.file != OWN]
        return query(sha256, target, str(place), request, self._seed)
