"""The verification of one target: from its kernel to a run and the files of its report.

The command line and the Python interface share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from kexec_verify.arm64.lift import Code
from kexec_verify.html.index import PAGE
from kexec_verify.html.write import fresh_page, remember
from kexec_verify.kernel_proof import prove_kernel
from kexec_verify.kexec.composition import builds_lists, has_whole_path
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.selection import select
from kexec_verify.prove.discharge import Discharger
from kexec_verify.report.model import Run
from kexec_verify.report.partial import Partial
from kexec_verify.report.record import record, report_files
from kexec_verify.report.save import save
from kexec_verify.specs.properties import PROPERTIES, Property
from kexec_verify.target import Kernel
from kexec_verify.theorems import Outcome, Progress
from kexec_verify.undecided import account
from kexec_verify.waivers import Waiver

_LISTS = [claim for claim in PROPERTIES.values() if claim.theorem == "T10"]


class Verification:
    """The verification of one target.

    :param routine: the relocation routine of ``kernel``.
    :param claims: the properties to decide, with those that they depend on.
    :param patterns: names and globs of properties as the user typed them; none are all.
    :param waivers: of the tool and of the user.
    :param started: when the target was opened.
    """

    def __init__(
        self,
        kernel: Kernel,
        routine: Function,
        claims: Sequence[Property],
        patterns: Sequence[str],
        waivers: Sequence[Waiver],
        discharger: Discharger,
        started: datetime,
    ):
        self._kernel, self._routine, self._started = kernel, routine, started
        # Objects without trans_pgd.o cannot show what a routine's proof assumes of the copied linear map.
        able = {claim.id for claim in select(patterns, lambda claim: kernel.has_code(claim.function))}
        claims = [claim for claim in claims if claim.id in able]
        others = [claim for claim in claims if claim not in _LISTS]
        if others and not builds_lists(kernel) and not any(PROPERTIES.get(p) in _LISTS for p in patterns):
            claims = others  # nothing of kexec_core is in the target
        self._claims, self._patterns, self._waivers = claims, patterns, waivers
        self._discharger = discharger
        self._whole = has_whole_path(kernel)
        code = Code(routine.name, routine.address, routine.code)
        self._partial = Partial(code, claims, discharger, self._whole)

    def prove(self, progress: Progress, counts: Callable[[], dict[str, int]]) -> tuple[Run, Outcome]:
        """Decide the properties; return the run and what it is made from.

        :param progress: called with the name of each stage.
        :param counts: called at the end; returns how many queries were sent to solvers, and how many had
            an answer in the cache.
        """
        outcome, _ = prove_kernel(
            self._kernel,
            self._routine,
            self._claims,
            progress,
            self._discharger,
            self._partial.known,
            self._waivers,
        )
        account(outcome, self._claims, self._patterns, self._whole)
        return record(self._kernel, self._routine, outcome, self._started, counts()), outcome

    def save_partial(self, folder: Path) -> Path:
        """Write to *folder* what was decided until ``prove`` was interrupted; return the path of run.json."""
        outcome = self._partial.outcome()
        run = self._partial.incomplete(record(self._kernel, self._routine, outcome, self._started))
        return save(report_files(run, outcome), folder)


def write_report(
    run: Run, outcome: Outcome, folder: Path, note: Callable[[str], None] = lambda _: None
) -> dict[str, bytes]:
    """Write the report of a run to *folder*, and add the run to the target's history; return the files.

    :param note: called with a sentence for each file beside the report that cannot be read.
    :raises UsageError: *folder* cannot be written, or holds what is no report of this tool.
    """
    files = report_files(run, outcome, {PAGE: fresh_page(run, folder, note)})
    save(files, folder)
    remember(run, folder)
    return files
