"""A sweep: each kernel is fetched, verified as by ``verify run``, written down and dropped again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from kexec_verify.errors import TargetError
from kexec_verify.report.read import read_run
from kexec_verify.report.save import RUN
from kexec_verify.sweep import journal
from kexec_verify.sweep.choose import in_order
from kexec_verify.sweep.model import Row
from kexec_verify.sweep.rows import error_row, queries
from kexec_verify.sweep.workers import Failed, outcomes
from kexec_verify.target.apt import cache_root
from kexec_verify.target.compressed import MAX_SIZE
from kexec_verify.target.debian import Package, drop, is_cached

REPORT_BYTES = 64 << 20
"""Room that a kernel's report must find; those of Debian's kernels take 9 MiB."""


@dataclass(frozen=True)
class Job:
    """One kernel to verify.

    :param tool: digest of the tool and of the user's waivers.
    :param waivers: files of waivers in addition to the tool's own.
    """

    package: Package
    target: str
    reports: Path
    tool: str
    waivers: tuple[Path, ...] = ()


def kernel_bytes(package: Package) -> int:
    """Return the most bytes that a kernel takes of the cache: its package and its image."""
    return package.size + MAX_SIZE


def sweep(
    targets: Mapping[Package, str],
    reports: Path,
    tool: str,
    work: Callable[[Job], Row],
    processes: int,
    prepare: Callable[[], None],
    waivers: tuple[Path, ...] = (),
) -> Generator[Row]:
    """Verify every kernel of ``targets`` that has no finished run by this tool; yield rows as they come.

    Kernel images that were not in the cache before are taken out of it again.

    :param targets: the target's name by package.
    :param tool: digest of the tool and of the user's waivers.
    :param work: makes a kernel's row, in a process that called ``prepare`` first.
    :param waivers: files of waivers in addition to the tool's own.
    """
    jobs = [Job(package, targets[package], reports, tool, waivers) for package in in_order(list(targets))]
    held: set[Package] = set()

    def admit(job: Job) -> None:
        if is_cached(job.package):
            held.add(job.package)
        _require_room(job, processes)

    def release(job: Job) -> None:
        if job.package not in held:
            drop(job.package)

    todo = []
    seen: set[str] = set()
    for job in jobs:
        known = journal.finished(reports, job.package, tool)
        if known is None:
            todo.append(job)
        else:
            seen |= _queries(reports, known)
            yield known
    for job, answer in outcomes(todo, work, processes, prepare=prepare, admit=admit, release=release):
        if isinstance(answer, Failed):
            row = error_row(job.package, tool, answer.reason, answer.exit_status)
        else:
            own = _queries(reports, answer)
            row = msgspec.structs.replace(answer, known=len(own & seen))
            seen |= own
        journal.add(reports, row)
        yield row


def _queries(reports: Path, row: Row) -> set[str]:
    """Return the digests of the queries of a kernel's obligations."""
    place = reports / row.name
    return queries(read_run(place / RUN), place)


def _require_room(job: Job, processes: int) -> None:
    """Refuse a kernel that could fill the disk.

    :raises TargetError: if one of that size for each process would not find room.
    """
    for place, bytes_ in ((cache_root(), kernel_bytes(job.package)), (job.reports, REPORT_BYTES)):
        needed = bytes_ * processes
        free = shutil.disk_usage(_existing(place)).free
        if free < needed:
            raise TargetError(f"{place}: expected {needed >> 20} MiB free, found {free >> 20} MiB")


def _existing(place: Path) -> Path:
    """Return ``place``, or the nearest folder above it that exists."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
