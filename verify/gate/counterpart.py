"""Find the baseline target that a run is compared with, also for another version of the same kernel."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kexec_verify.errors import UsageError
from kexec_verify.gate.baseline import Baseline, Target, described
from kexec_verify.report.model import Run

# As in 6.1.0-55, 6.12.9+bpo and 6.6.0-00012-g1a2b3c4d-dirty; "-arm64" and "-16k" are no such parts.
_PART = r"(?:\d+|(?:rc|bpo|deb)\d*|g[0-9a-f]{7,40}|dirty)"
_VERSION = re.compile(
    rf"(?<![A-Za-z0-9])(\d+\.\d+)(?:\.\d+)*(?:[-+~.]?{_PART}(?![A-Za-z0-9]))*(?![A-Za-z0-9])"
)


def flavour(name: str) -> str:
    """Return a target's name with ``*`` in the place of its kernel version."""
    return _VERSION.sub("*", name, count=1)


def series(name: str) -> str:
    """Return the first two numbers of the kernel version in a target's name; empty if it has none."""
    found = _VERSION.search(name)
    return found[1] if found else ""


def counterparts(runs: Sequence[Run], baseline: Baseline, named: str = "") -> dict[str, str]:
    """Return the name of the baseline target that each run is compared with, by the run's target name.

    A run is compared with the baseline target of its own name. If there is none, with the one of the same
    flavour, ABI variant and page size. Of several, the one of the same series (6.1), then the one that
    has no run of its own name. A run without a counterpart is left out.

    :param named: the baseline target for the one run, as the user chose it.
    :raises UsageError: for a run with several counterparts, and if ``named`` is no baseline target or there
        are several runs for it.
    """
    if named:
        if named not in baseline.targets:
            known = ", ".join(sorted(baseline.targets)) or "none"
            raise UsageError(
                f"expected a target of the baseline for --baseline-target ({known}), found {named}"
            )
        if len(runs) != 1:
            raise UsageError(f"expected one run to compare with --baseline-target {named}, found {len(runs)}")
        return {runs[0].target.name: named}
    present = {run.target.name for run in runs}
    found = {}
    for run in runs:
        name = run.target.name
        other = name if name in baseline.targets else _counterpart(name, described(run), baseline, present)
        if other:
            found[name] = other
    return found


def _counterpart(name: str, target: Target, baseline: Baseline, present: set[str]) -> str:
    if not target.variant or not target.page_size:
        return ""
    alike = sorted(
        other
        for other, known in baseline.targets.items()
        if (flavour(other), known.variant, known.page_size)
        == (flavour(name), target.variant, target.page_size)
    )
    if len(alike) > 1:
        alike = [other for other in alike if series(other) == series(name)] or alike
    if len(alike) > 1:
        alike = [other for other in alike if other not in present] or alike
    if len(alike) > 1:
        raise UsageError(
            f"expected one target of the baseline to compare {name} with, found {', '.join(alike)}: "
            "gate this run alone with --baseline-target NAME"
        )
    return alike[0] if alike else ""
