"""Read what a gate decides on: runs, their mutants, the binary at hand."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kexec_verify.errors import UsageError
from kexec_verify.files import file_sha256, read_record
from kexec_verify.gate.decide import Evidence
from kexec_verify.mutate.model import SCHEMA, MutationRun
from kexec_verify.report.live_record import read_live
from kexec_verify.report.live_verdicts import with_live
from kexec_verify.report.read import read_run


def gather(patterns: Sequence[str], binary: Path | None = None) -> list[Evidence]:
    """Return the runs that ``patterns`` name: run.json files, their folders, folders of these, or globs.

    :param binary: the binary that the one run must be of.
    :raises UsageError: if a pattern names no run, two runs are of one name, or a file is unreadable.
    """
    paths = list(dict.fromkeys(path for pattern in patterns for path in _paths(pattern)))
    if binary is not None and len(paths) != 1:
        raise UsageError(f"expected one run to hold --binary {binary} against, found {len(paths)}")
    digest = sha256_of(binary) if binary is not None else None
    found = [_evidence(path, digest) for path in paths]
    for name, count in Counter(item.run.target.name for item in found).items():
        if count > 1:
            raise UsageError(
                f"expected one run of each target, found {count} of {name}; gate them one by one"
            )
    return found


def _evidence(path: Path, digest: str | None) -> Evidence:
    """The run in ``path``, as live runs of the same bytes leave it, and what stands beside it."""
    run = read_run(path)
    live = read_live(path.parent, run.target.sha256)
    return Evidence(with_live(run, live), path, digest, _mutation(path), live)


def _paths(pattern: str) -> list[Path]:
    literal = Path(pattern)
    names = [literal] if literal.exists() else [Path(name) for name in sorted(glob.glob(pattern))]
    found = [path for name in names for path in _runs_in(name)]
    if not found:
        raise UsageError(f"expected a run.json, found none at {pattern}", "verify run TARGET")
    return found


def _runs_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    own = path / "run.json"
    return [own] if own.exists() else sorted(path.glob("*/run.json"))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a binary as run.json states it: of the file as it is.

    :raises UsageError: if it cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise UsageError(f"{path}: expected a readable binary, found: {error.strerror}") from error


def _mutation(run_json: Path) -> MutationRun | None:
    path = run_json.with_name("mutation.json")
    return read_record(path, MutationRun, SCHEMA) if path.exists() else None
