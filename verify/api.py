"""The Python interface: a target in, a run out. docs/api.md lists what is public."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kexec_verify.cache.queries import cached_queries
from kexec_verify.html.index import write_index
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.selection import select
from kexec_verify.prove.discharge import Discharger
from kexec_verify.report.folder import report_folder
from kexec_verify.report.model import Run
from kexec_verify.report.place import require_writable
from kexec_verify.report.save import require_own
from kexec_verify.target import load_kernel, locate_target, read_target
from kexec_verify.verification import Verification, write_report
from kexec_verify.waivers import read_waivers

CONTRADICTIONS = "contradictions"  # folder of reports, for queries that the two solvers answer differently


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

    :param target: what ``verify run`` accepts: path of a vmlinux, an Image, a vmlinuz, a ``.deb`` or ``.rpm``
        file or a folder with a built kernel; ``-`` for standard input; or ``debian:PACKAGE``.
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
    name = locate_target(name)
    data, short = read_target(name)
    kernel = load_kernel(data, name, short)
    routine = find_routine(kernel)
    place = None if reports is None else report_folder(Path(reports), short, name)
    if place is not None:
        require_own(place)
        require_writable(place.parent)
    started = datetime.now(UTC)
    with cached_queries(jobs, cache) as queries:
        contradictions = place.parent / CONTRADICTIONS if place is not None else None
        discharger = Discharger(seed=seed, queries=queries, contradictions=contradictions)
        verification = Verification(kernel, routine, claims, properties, read_waivers(), discharger, started)
        run, outcome = verification.prove(tell, lambda: {"asked": queries.asked, "reused": queries.reused})
    if place is not None:
        tell("writing the report")
        write_report(run, outcome, place)
        write_index(place.parent)
    return run
