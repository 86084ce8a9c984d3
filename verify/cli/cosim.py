"""``verify cosim``: the meaning of instructions held against Unicorn and the architecture's table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from kexec_verify.cli.options import jobs_option, number_option, quiet_option
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError
from kexec_verify.shipped import corpus_files

if TYPE_CHECKING:
    from kexec_verify.cosim.model import Report


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@number_option("--vectors", 100_000, "Minimum number of test vectors.", least=1)
@number_option("--seed", 0, "Seed for the random states.")
@jobs_option("Number of processes; 0: one for each core.")
@click.option(
    "--output",
    default="reports/cosim.json",
    show_default=True,
    type=click.Path(path_type=Path),
    help="File for the report.",
)
@quiet_option
def cosim(targets: tuple[str, ...], vectors: int, seed: int, jobs: int, output: Path, quiet: bool) -> int:
    """Compare the engine with Unicorn on each instruction that the TARGETs' kexec code uses.

    That is the routine, and in a whole kernel machine_kexec, what it leaves through and what
    it calls. Without a TARGET: the binaries that ship with the tool. Each encoding that is used, and random
    ones of its opcode class, run on random states; registers, flags, memory and the next
    instruction must agree. System instructions are held against a table written from the
    architecture. Random words must have no meaning that Unicorn lacks.

    Exit status: 0 all agree and every used instruction is covered, 1 something differs,
    2 usage or bad input, 3 a used instruction is not covered.
    """
    terminal = Terminal(quiet)
    names = list(targets) or corpus_files()
    with terminal.progress("cosim"):
        terminal.doing("loading the engine")
        import msgspec
        from kexec_verify.cosim.run import cosimulate
        from kexec_verify.target import open_target

        kernels = [open_target(name) for name in names]
        report = cosimulate(kernels, vectors, seed, jobs or os.cpu_count() or 1, progress=terminal.doing)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    except OSError as error:
        raise UsageError(f"expected a file to write, found {output}: {error.strerror}") from error
    terminal.lines(lines(report))
    terminal.line(f"  {output}")
    if report.mismatches:
        return 1
    return 0 if report.complete else 3


def lines(report: Report) -> list[str]:
    """Return the report as lines of text: one for each opcode class, the sums, then mismatches."""
    shown = [f"{'opcode class':<34} {'checked by':<9} {'used':>5} {'drawn':>6} {'vectors':>8} {'solved':>7}"]
    for record in sorted(report.classes, key=lambda record: (record.checked != "unicorn", record.shape)):
        row = f"{record.shape:<34} {record.checked:<9} {record.used:>5} {record.drawn:>6} "
        if record.checked == "table":
            shown.append(f"{row} {record.name}")
        else:
            shown.append(f"{row}{record.vectors:>9} {record.solved:>7}")
        shown += [f"  unsupported: {text}" for text in record.unsupported[:3]]
    negative, system = report.negative, report.system
    shown.append("")
    shown.append(
        f"{negative.words} random words: {negative.refused} without a meaning, {negative.compared} compared, "
        f"{negative.system} by the table, {negative.unpredictable} unpredictable, "
        f"{negative.unmapped} literal loads"
    )
    agreeing = sum(system.agreeing.values())
    shown.append(
        f"{system.swept} system instructions: {system.refused} without a meaning, {agreeing} as in the table"
    )
    rate = report.vectors / report.seconds if report.seconds else 0
    shown.append(
        f"{report.covered}/{report.encodings} encodings in {len(report.classes)} classes, "
        f"{report.vectors} vectors, {len(report.mismatches)} mismatches "
        f"in {report.seconds:.1f} s ({rate:.0f}/s), seed {report.seed}"
    )
    for mismatch in report.mismatches[:10]:
        shown += ["", *mismatch]
    return shown
