"""Run the real bytes along the paths of a kernel's proofs: a proof whose path has no run is vacuous."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from kexec_verify.arm64.lift import loops
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.composition import Composition, Part
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.list_builder import ListFunction
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Result
from kexec_verify.refute.functions.chain import Proof
from kexec_verify.refute.functions.contract_check import broken, runs, shown
from kexec_verify.refute.functions.contract_run import ContractRun
from kexec_verify.refute.functions.list_run import runs as list_runs
from kexec_verify.refute.functions.record import CallCounterexample
from kexec_verify.refute.functions.search import Path, refute, witnesses
from kexec_verify.refute.functions.table_run import refute_any_copy, refute_copy
from kexec_verify.refute.functions.values import Models


@dataclass
class _Tried:
    """Return runs of a callee from entries that its contract allows, made when needed."""

    more: Iterator[ContractRun]
    made: list[ContractRun] = field(default_factory=list)

    def __iter__(self) -> Iterator[ContractRun]:
        yield from self.made
        for run in self.more:
            self.made.append(run)
            yield run


@dataclass
class PathRuns:
    """The runs of one kernel's functions.

    :param models: of earlier runs.
    :param given: of each path that was looked up, inputs of a run by the kernel's names; None if
        none was found.
    :param patched: the same of functions as boot patches them, by the choices too.
    :param seconds: spent on runs.
    :param broken: what a run along a path broke of its callee's contract.
    """

    composition: Composition
    models: Models | None = None
    given: dict[Path, dict[str, str] | None] = field(default_factory=dict)
    patched: dict[tuple[str, Path], dict[str, str] | None] = field(default_factory=dict)
    seconds: float = 0.0
    broken: dict[Path, str] = field(default_factory=dict)
    _tried: dict[tuple[str, str], _Tried] = field(default_factory=dict)

    def seen(self, obligation: Obligation) -> bool:
        """Return whether a run of the real bytes took the obligation's path; True if it has no path.

        :raises InternalError: if a run differs from the path that it is to take.
        """
        path = obligation.path
        if not path:
            return True
        part = part_of(self.composition, obligation)
        variant = part.context.variant if part is not None and part.context is not None else None
        if variant is not None:
            key = variant.title, path
            if key not in self.patched:
                self.patched[key] = self._timed(obligation)
            return self.patched[key] is not None
        if path not in self.given:
            self.given[path] = self._timed(obligation)
        return self.given[path] is not None

    def _timed(self, obligation: Obligation) -> dict[str, str] | None:
        started = time.perf_counter()
        found = self._look(obligation)
        self.seconds += time.perf_counter() - started
        return found

    def refute(self, result: Result, property_id: str) -> CallCounterexample | None:
        """Return a confirmed run on which the obligation of ``result`` does not hold; None if none was found.

        For a callee that is run by its contract, any breach of the contract counts.

        :raises InternalError: if a run differs from the path that it is to take.
        """
        part = part_of(self.composition, result.obligation)
        proof = proof_of(part)
        if proof is not None:
            return refute(proof, result, property_id)
        if part is not None and part.tables is not None:
            return refute_copy(part.tables, result, property_id)
        if part is not None and part.list_function is not None:
            wrong = (run for run in list_runs(part.list_function) if run.fault is not None)
            shown_by = next(wrong, None)
            return shown_by.shown(result.obligation, property_id) if shown_by is not None else None
        if part is None or not _is_callee(part):
            return None
        for run in self._runs(part):
            fault = broken(run, self.composition.contracts[part.function][1])
            if fault is not None:
                return shown(run, self._context(part).kernel, fault, result.obligation, property_id)
        return None

    def refute_any_copy(self, property_id: str) -> CallCounterexample | None:
        """Return a run whose copy of the linear map lacks an entry; None if none is found.

        The bytes are run as they are linked: the tables that are tried have the levels of such a machine.

        :raises InternalError: if a replay does not show it.
        :raises UnsupportedError: if a run that is tried does not end.
        """
        linked = [part for part in self.composition.parts.values() if part.context is None]
        shown = (refute_any_copy(part.tables, property_id) for part in linked if part.tables is not None)
        return next((one for one in shown if one is not None), None)

    def _look(self, obligation: Obligation) -> dict[str, str] | None:
        part, path = part_of(self.composition, obligation), obligation.path
        proof = proof_of(part)
        if part is not None and proof is not None:
            return self._along(part, proof, path)
        if part is not None and part.list_function is not None:
            return self._on_a_list(part.list_function, path)
        if part is None or not _is_callee(part):
            return None  # nothing ran such a path, so nothing shows that it can be taken
        took = (run for run in self._runs(part) if _takes(run, path))
        run = next(took, None)
        if run is None:
            return None
        fault = broken(run, self.composition.contracts[part.function][1])
        if fault is not None:
            self.broken[path] = fault
        names = ("x0", "x1", "x2", "ctr_el0")
        return {name: f"{run.inputs.registers[name]:#x}" for name in names}

    def _on_a_list(self, proof: ListFunction, path: Path) -> dict[str, str] | None:
        """Return what a run along ``path`` of a function that builds the list was given.

        A run that leaves a bad list is kept as a fault of the path: then nothing of it is proved.
        """
        for run in list_runs(proof):
            if tuple(run.run.trace[: len(path)]) == path:
                if run.fault is not None:
                    self.broken[path] = run.fault.said
                return run.given_in_words()
        return None

    def _along(self, part: Part, proof: Proof, path: Path) -> dict[str, str] | None:
        """Return inputs of a run along ``path``, or along a longer one that begins with it."""
        longer = {
            o.path for o in part.obligations if o.path[: len(path)] == path and o.path not in self.given
        }
        for tried in sorted(longer | {path}, key=lambda found: (-len(found), found)):
            found = witnesses(proof, [tried], self.models)[tried]
            if found is not None:
                shown = {other for other in longer if tried[: len(other)] == other}
                self.given |= dict.fromkeys(shown, found)
                return found
            self.given[tried] = None
        return None

    def _runs(self, part: Part) -> Iterator[ContractRun]:
        context = self._context(part)
        key = part.function, context.variant.title if context.variant is not None else ""
        if key not in self._tried:
            address, contract = self.composition.contracts[part.function]
            code = context.code(part.function, address)
            made = runs(context, contract, code, part.copied)
            self._tried[key] = _Tried(_as_far_as_modelled(made))
        yield from self._tried[key]

    def _context(self, part: Part) -> KexecContext:
        """Return the kernel that the part is about."""
        return self.composition.context if part.context is None else part.context


def _as_far_as_modelled(made: Iterator[ContractRun]) -> Iterator[ContractRun]:
    try:
        yield from made
    except UnsupportedError:
        return


def _takes(run: ContractRun, path: Path) -> bool:
    """Return whether the run takes the path; one iteration of a loop on it represents any number."""
    heads = {loop.head: loop for loop in loops(run.code)}
    crossed: list[int] = []
    for at in run.trace:
        if at in heads and at in crossed and heads[at].goes_round(crossed[-1]):
            del crossed[len(crossed) - 1 - crossed[::-1].index(at) :]
        crossed.append(at)
    return path in (tuple(run.trace[: len(path)]), tuple(crossed[: len(path)]))


def _is_callee(part: Part) -> bool:
    return part.callee is not None or bool(part.copied and part.proof is None)


def part_of(composition: Composition, obligation: Obligation) -> Part | None:
    """Return the part that ``obligation`` belongs to."""
    owing = (
        p for p in composition.parts.values() if any(obligation is required for required in p.obligations)
    )
    return next(owing, None)


def proof_of(part: Part | None) -> Proof | None:
    """Return what ran the part's paths segment by segment; None if nothing did, as for a callee with
    loops.
    """
    if part is None or part.proof is not None:
        return None if part is None else part.proof
    return part.callee if part.callee is not None and part.callee.segments else None
