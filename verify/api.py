"""The Python interface: a target in, a run out. docs/api.md lists what is public."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kexec_verify.cache.answers import Answers
from kexec_verify.cache.place import open_cache
from kexec_verify.html.index import PAGE, write_index
from kexec_verify.html.write import fresh_page, remember
from kexec_verify.kernel_proof import prove_kernel
from kexec_verify.kexec.composition import has_whole_path
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.selection import select
from kexec_verify.prove.discharge import Discharger
from kexec_verify.prove.executors import solving
from kexec_verify.prove.queries import Queries
from kexec_verify.report.model import Run
from kexec_verify.report.place import require_writable
from kexec_verify.report.record import record, report_files
from kexec_verify.report.save import require_own, save
from kexec_verify.target import load_kernel, read_target
from kexec_verify.theorems import Outcome
from kexec_verify.undecided import account
from kexec_verify.waivers import read_waivers

CONTRADICTIONS = "contradictions"  # folder of reports for queries that the two solvers answer differently


def verify(
    target: str | os.PathLike[str],
    *,
    properties: Sequence[str] = (),
    reports: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    seed: int = 0,
    cache: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Run:
    """Verify *target* and return its run.

    >>> from kexec_verify import Verdict, verify
    >>> run = verify("binaries/kimage-mmu-4k-gcc.elf", properties=["reloc-covered"])
    >>> run.verdict is Verdict.PROVED
    True
    >>> [(record.id, str(record.verdict)) for record in run.properties]
    [('reloc-covered', 'PROVED')]

    :param target: path of a vmlinux, an Image or a vmlinuz, or ``debian:PACKAGE``.
    :param properties: globs of property names; empty for all. Properties that these depend on are
        verified too.
    :param reports: folder to write the report to, in a subfolder of the target's name, as ``verify run
        --reports`` does. None writes nothing.
    :param jobs: number of solver processes; 0 is one for each core, 1 is the calling process.
    :param seed: random seed of the solvers. No verdict depends on it.
    :param cache: read and write the user's cache of solver answers.
    :param progress: called with the name of each stage.
    :raises UsageError: a glob matches no property, or *reports* cannot be written.
    :raises TargetError: *target* cannot be read, or is no little-endian arm64 kernel with kexec.
    :raises UnsupportedError: *target* contains something that cannot be modelled.
    :raises InternalError: the verifier contradicts itself.
    """
    name, tell = os.fspath(target), progress or (lambda stage: None)
    claims = select(properties)
    tell("opening")
    data, short = read_target(name)
    kernel = load_kernel(data, name, short)
    routine = find_routine(kernel)
    place = None if reports is None else Path(reports) / kernel.name
    if place is not None:
        require_own(place)
        require_writable(place.parent)
    began = datetime.now(UTC)
    store = open_cache() if cache else None
    try:
        with solving(jobs) as executor:
            queries = Queries(executor, Answers(store) if store is not None else None)
            contradictions = place.parent / CONTRADICTIONS if place is not None else None
            discharger = Discharger(seed=seed, queries=queries, contradictions=contradictions)
            outcome = prove_kernel(kernel, routine, claims, tell, discharger, waivers=read_waivers())
    finally:
        if store is not None:
            store.close()
    account(outcome, claims, properties, has_whole_path(kernel))
    counts = {"asked": queries.asked, "reused": queries.reused}
    run = record(kernel, routine, outcome, began, counts)
    if place is not None:
        tell("writing the report")
        _write(run, outcome, place)
    return run


def _write(run: Run, outcome: Outcome, place: Path) -> None:
    """Write the run's report to the folder *place*, and the index of all reports beside it."""
    save(report_files(run, outcome, {PAGE: fresh_page(run, place)}), place)
    remember(run, place)
    write_index(place.parent)
