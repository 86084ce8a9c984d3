"""``verify mutate``: change a kernel's functions one instruction at a time, and try each mutant."""

from __future__ import annotations

import fnmatch
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from kexec_verify.cli.options import number_option, reports_option
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError
from kexec_verify.near import near
from kexec_verify.specs.properties import RELOCATION

if TYPE_CHECKING:
    from kexec_verify.mutate.base import Base
    from kexec_verify.mutate.model import HypothesisRecord, MutationRun

JOURNAL = "mutation.jsonl"
HYPOTHESES, FAULTS = PHASES = ("hypotheses", "faults")
OUTCOMES = ("refuted", "equivalent", "unsupported", "survivor")


@click.command()
@click.argument("target")
@number_option("--most", 500, "Number of mutants over all functions.")
@click.option(
    "--function",
    "patterns",
    multiple=True,
    metavar="GLOB",
    help="Only these functions; repeatable.",
)
@number_option("--seed", 1, "Seed for the choice of mutants.")
@click.option(
    "-j",
    "--jobs",
    default=os.cpu_count() or 1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of processes.",
)
@click.option(
    "--ask-prover",
    "share",
    default=20,
    show_default=True,
    help="Also run the prover on every Nth refuted mutant, as a cross-check (0: never). A proof found for "
    "one is an internal fault.",
)
@click.option(
    "--second-judge",
    "by_qemu",
    is_flag=True,
    help="Run insertions and pairs of changes on QEMU's machine instead. Exit status 1 if a mutant dies "
    "there and is PROVED.",
)
@number_option("--insertions", 1000, "Number of harmful insertions for --second-judge.")
@number_option("--pairs", 500, "Number of pairs for --second-judge.")
@number_option(
    "--c-insertions",
    100,
    "Number of harmful insertions in machine_kexec and machine_kexec_post_load for --second-judge. QEMU "
    "cannot run these functions, so a mutant that is PROVED is listed.",
)
@click.option(
    "--skip",
    "skipped",
    multiple=True,
    type=click.Choice(PHASES),
    help="Leave out a phase: dropping and weakening hypotheses, or seeding errors into the verifier. "
    "Repeatable.",
)
@reports_option("Directory that mutation.json is written under.")
def mutate(
    target: str,
    most: int,
    patterns: tuple[str, ...],
    seed: int,
    jobs: int,
    share: int,
    by_qemu: bool,
    insertions: int,
    pairs: int,
    c_insertions: int,
    skipped: tuple[str, ...],
    directory: Path,
) -> int:
    """Change the functions of TARGET one instruction at a time and try each mutant.

    The functions are the routine and, in a kernel, those of the whole kexec path. Each mutant is refuted
    by a concrete run, proved equivalent, unsupported (the verifier has no model of an instruction), or a
    survivor. Then each assumption and invariant is dropped and weakened, and errors are seeded into the
    verifier itself. Exit status 3 if anything survives.

    The result of each mutant is written to mutation.jsonl at once. If the command is interrupted, the same
    command goes on from there.

    With --second-judge other mutants, of the routine, the restart code and the stubs, are run on
    QEMU's whole machine: two changes at once, or a harmful instruction in the place of another. It has
    neither --skip nor --function.
    """
    from kexec_verify.kexec.layout import stated_layout
    from kexec_verify.mutate import kernel_decision, model
    from kexec_verify.mutate.base import base_of
    from kexec_verify.mutate.decision import seed_each
    from kexec_verify.mutate.hypotheses import change_each
    from kexec_verify.mutate.journal import Journal
    from kexec_verify.mutate.run import attempts, jobs_of
    from kexec_verify.report.folder import report_folder
    from kexec_verify.theorems import prove

    terminal = Terminal()
    if by_qemu and (skipped or patterns):
        raise UsageError("expected --second-judge without --skip and --function, which it does not have")
    if by_qemu:
        return _second_judge(terminal, target, insertions, pairs, c_insertions, seed)
    started = time.monotonic()
    base = base_of(target)
    kernel = base.kernel
    possible = _possible(base, patterns)
    work = jobs_of(base, target, possible, most, seed, share)
    path = report_folder(directory, kernel.name, kernel.source) / "mutation.json"
    journal = Journal(path.with_name(JOURNAL), kernel.sha256)
    tried = {job: record for job in work if (record := journal.known(job)) is not None}
    known = sum(record.seconds for record in tried.values())
    if tried:
        terminal.line(f"{len(tried)} of {len(work)} mutants are known from {journal.path}")
    with terminal.progress(f"mutants of {kernel.name}"):
        for job, record in journal.follow(attempts([job for job in work if job not in tried], jobs)):
            tried[job] = record
            terminal.step(len(tried), len(work), "mutants")
        records = [tried[job] for job in work]
        dropped, faults = [], []
        if HYPOTHESES not in skipped:
            terminal.stage("dropping and weakening hypotheses")
            outcome = prove(base.code, RELOCATION, kernel.page_size, stated_layout(kernel), search_seconds=0)
            proofs = [result for finding in outcome.findings for result in finding.results]
            proofs += [result for found in base.results.values() for result in found]
            dropped = list(change_each(proofs))
        if FAULTS not in skipped:
            terminal.stage("seeding errors into the verifier")
            faults = list(seed_each(base.code, base.variant))
            if base.composition is not None:
                faults += kernel_decision.seed_each(base)
    result = model.MutationRun(
        model.SCHEMA,
        kernel.name,
        kernel.sha256,
        seed,
        sum(possible.values()),
        round(time.monotonic() - started + known, 1),
        records,
        dropped,
        faults,
        possible,
        [phase for phase in PHASES if phase in skipped],
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    _print(terminal, result)
    for phase in PHASES:
        if phase in skipped:
            terminal.line(f"skipped: {phase}")
    if HYPOTHESES not in skipped:
        _print_hypotheses(terminal, dropped)
    if FAULTS not in skipped:
        terminal.line("errors seeded into the verifier:")
    for fault in faults:
        terminal.line(f"  {fault.fault}: {'noticed: ' + fault.noticed if fault.noticed else 'NOT NOTICED'}")
    terminal.line(
        f"{kernel.name}: {len(records)} of {result.possible} mutants in {result.seconds:.0f} s: "
        + ", ".join(f"{result.count(outcome)} {outcome}" for outcome in OUTCOMES)
    )
    terminal.line(f"  {path}")
    unnoticed = [fault for fault in faults if not fault.noticed]
    return 3 if result.count("survivor") or unnoticed else 0


def _second_judge(
    terminal: Terminal, target: str, insertions: int, pairs: int, c_insertions: int, seed: int
) -> int:
    """Try mutants on QEMU; print the counts, and each mutant that dies there and is PROVED."""
    from kexec_verify.kexec.locate import find_routine
    from kexec_verify.mutate import c_code
    from kexec_verify.mutate.second_judge import KINDS, RESULTS, Record, campaign
    from kexec_verify.target import open_target

    kernel = open_target(target)
    routine = find_routine(kernel)
    with terminal.progress(f"mutants of {kernel.name}"):

        def tell(record: Record, done: int, of: int) -> None:
            terminal.doing(f"{record.function}, {done} of {of}")

        summary = campaign(kernel, routine, insertions, pairs, seed, tell)
        in_c_code = c_code.attempts(kernel, routine, c_insertions, seed, tell)
    terminal.line(f"{'function':<32}{'kind':<12}" + "".join(f"{result:>18}" for result in RESULTS))
    for function in summary.functions:
        for kind in KINDS:
            counts = "".join(f"{summary.count(function, kind, result):>18}" for result in RESULTS)
            terminal.line(f"{function:<32}{kind:<12}{counts}")
    for record in summary.survivors:
        words = ", ".join(f"{address:#x}: {word:#010x}" for address, word in record.words)
        terminal.line(f"  PROVED, but dies: {record.function} {record.edit} ({words}): {record.reason}")
    proved = [record for record in in_c_code if record.result == c_code.PROVED]
    for record in proved:
        terminal.line(f"  PROVED, not run: {record.edit}")
    terminal.line(f"{len(in_c_code)} mutants of C code, {len(proved)} are PROVED and were not run")
    found = len(summary.survivors)
    terminal.line(f"{kernel.name}: {len(summary.records)} mutants, {found} die on QEMU and are PROVED")
    return 1 if found else 0


def _possible(base: Base, patterns: tuple[str, ...]) -> dict[str, int]:
    """Return the number of mutants of each function whose name one of the globs matches.

    :raises UsageError: if a glob matches no function.
    """
    from kexec_verify.mutate import binary

    subjects = {subject.code.name: subject for subject in base.subjects()}
    wanted = set() if patterns else set(subjects)
    for pattern in patterns:
        matched = fnmatch.filter(subjects, pattern)
        if not matched:
            known = ", ".join(subjects)
            hint = near(pattern, subjects)
            raise UsageError(f"expected a function, found {pattern!r}, which matches none of {known}{hint}")
        wanted.update(matched)
    return {
        name: sum(1 for _ in binary.mutants(subject.code, subject.addresses))
        for name, subject in subjects.items()
        if name in wanted
    }


def _print(terminal: Terminal, result: MutationRun) -> None:
    records = result.mutants
    terminal.line(f"{'kind':<12}" + "".join(f"{outcome:>13}" for outcome in OUTCOMES))
    counts = Counter((record.kind, record.outcome) for record in records)
    for kind in sorted({record.kind for record in records}):
        terminal.line(f"{kind:<12}" + "".join(f"{counts[kind, outcome]:>13}" for outcome in OUTCOMES))
    terminal.line(f"{'function':<32}" + "".join(f"{outcome:>13}" for outcome in OUTCOMES) + f"{'of':>8}")
    counts = Counter((record.function, record.outcome) for record in records)
    for function, possible in result.functions.items():
        figures = "".join(f"{counts[function, outcome]:>13}" for outcome in OUTCOMES)
        terminal.line(f"{function:<32}{figures}{possible:>8}")
    for record in records:
        if record.outcome in ("survivor", "equivalent"):
            terminal.line(f"  {record.outcome}: {record.where}: {record.edit}")


def _print_hypotheses(terminal: Terminal, records: list[HypothesisRecord]) -> None:
    terminal.line("hypotheses dropped and weakened:")
    for record in records:
        if record.failing:
            what = f"{len(record.failing)} kinds of obligation fail: {', '.join(record.failing)}"
        else:
            what = f"nothing fails ({record.used} proofs used it, none needs it)"
        terminal.line(f"  {record.label}, {record.how}: {what}")
