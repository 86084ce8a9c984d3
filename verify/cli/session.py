"""What the targets of one command share: options, solvers, and what earlier runs found."""

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
from kexec_verify.waivers import OWN, read_waivers

if TYPE_CHECKING:
    from kexec_verify.cache.runs import Finished
    from kexec_verify.prove.discharge import Discharger
    from kexec_verify.prove.queries import Queries

CONTRADICTIONS = "contradictions"


class Session:
    """One command's work on any number of targets; a context manager that ends its processes.

    :param directory: that reports are written under.
    :param patterns: globs of property ids; none are all.
    :param jobs: processes for solvers; 0 is one for each core, 1 is this one.
    :param scheduler: address of a Dask scheduler to ask instead.
    :param recheck: nothing that an earlier run found is believed.
    :param no_cache: nothing is read or kept.
    :param waiver_files: files of waivers beside the tool's own.
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
        self.waivers = read_waivers() + [w for path in waiver_files for w in read_waivers(path)]
        self._seed, self._jobs, self._scheduler, self._recheck = seed, jobs, scheduler, recheck
        self._cache = None if no_cache else open_cache()
        self._names: set[str] = set()
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
        """What a command about these reports must be told; nothing where they are in their usual place."""
        return "" if self.directory == Path("reports") else f" --reports {shlex.quote(str(self.directory))}"

    def place(self, name: str) -> Path:
        """The directory of a target's report; of a second target of that name one with a number."""
        from kexec_verify.files import safe_name

        safe = fresh = safe_name(name)
        count = 1
        while fresh in self._names:
            count += 1
            fresh = f"{safe}-{count}"
        self._names.add(fresh)
        return self.directory / fresh

    def discharger(self) -> Discharger:
        """The one that discharges the obligations of all targets; processes start with it."""
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
        """How many questions went to solvers since this was last asked, and how many were known."""
        assert self._queries is not None
        asked, reused = self._counted
        self._counted = (self._queries.asked, self._queries.reused)
        return {"asked": self._queries.asked - asked, "reused": self._queries.reused - reused}

    def finished(self, data: bytes, target: str, place: Path) -> Finished | None:
        """The earlier run of these bytes that was asked the same, if it may be believed."""
        from kexec_verify.cache.runs import find_run

        if self._cache is None or self._recheck:
            return None
        return find_run(self._cache, self._query(data, target, place))

    def keep(
        self, data: bytes, target: str, place: Path, run: Run, files: dict[str, bytes], lines: list[str]
    ) -> None:
        """Keep a run for the next that is asked the same."""
        from kexec_verify.cache.runs import Finished, keep_run

        if self._cache is not None:
            keep_run(self._cache, self._query(data, target, place), run, Finished(files, lines))

    def _query(self, data: bytes, target: str, place: Path) -> bytes:
        from kexec_verify.cache.runs import query

        asked = [*self.patterns, *(claim.id for claim in self.claims)]
        asked += [repr(waiver) for waiver in self.waivers if waiver.file != OWN]
        return query(data, target, str(place), asked, self._seed)
