"""``verify live``: boots a kernel under QEMU and holds what the proofs assume against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from kexec_verify.cli.options import quiet_option, reports_option
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError

if TYPE_CHECKING:
    from kexec_verify.report.live_model import Configuration, LiveRun
    from kexec_verify.report.model import Run

# Kept here too, so that `verify --help` need not load the package; a test holds the two together.
LEVELS = ("el1", "nvhe", "vhe")
MODES = ("load", "crash", "file")


def _listed(allowed: tuple[str, ...]) -> click.ParamType:
    """A list with commas of some of ``allowed``."""

    class Listed(click.ParamType):
        name = ",".join(allowed)

        def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
            found = [part.strip() for part in value.split(",")]
            unknown = [part for part in found if part not in allowed]
            if unknown:
                self.fail(f"expected {', '.join(allowed)}, found {unknown[0]!r}", param, ctx)
            return list(dict.fromkeys(found))

    return Listed()


@click.command()
@click.argument("target")
@click.option(
    "--el",
    "levels",
    default="el1,nvhe,vhe",
    show_default=True,
    type=_listed(LEVELS),
    help="Exception levels: the kernel at EL1 without EL2; at EL1 above its stub; at EL2 (VHE).",
)
@click.option(
    "--mode",
    "modes",
    default="load,crash",
    show_default=True,
    type=_listed(MODES),
    help="How the image is loaded: kexec -l, kexec -p and a panic, or kexec_file_load.",
)
@click.option("--cpu", default="", metavar="NAME", help="CPU model of QEMU, for all levels.")
@click.option(
    "--limit",
    default=300.0,
    show_default=True,
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Most time that the guest may take for one step.",
)
@reports_option("Directory of reports; live.json is written into the target's folder.")
@quiet_option
def live(
    target: str, levels: list[str], modes: list[str], cpu: str, limit: float, directory: Path, quiet: bool
) -> int:
    """Boot TARGET under QEMU, kexec it, and check the proofs' assumptions on the running kernel.

    TARGET is a Debian package, or an Image or vmlinuz with its drivers built in. The guest's programs are
    Debian packages, fetched like kernels. Registers come from QEMU's debugger and memory from the guest's
    RAM. A guest that dies is a result. A run of the same bytes under --reports shows what was seen.

    Exit status: 0 everything that was checked holds; 1 something is false or the guest died; 2 usage or bad
    input; 3 the guest was stopped before it was through.
    """
    from kexec_verify.live.run import run_live
    from kexec_verify.report.folder import report_folder
    from kexec_verify.report.live_record import write_live
    from kexec_verify.report.place import require_writable
    from kexec_verify.target import load_kernel, locate_target, read_target

    terminal = Terminal(quiet)
    with terminal.progress("live"):
        terminal.doing("loading the kernel")
        source = locate_target(target)
        data, name = read_target(source)
        kernel = load_kernel(data, source, name)
        place = report_folder(directory, name, source, {})
        require_writable(place)
        proved = _finished(place, kernel.sha256)
        made = run_live(kernel, data, levels, modes, cpu, limit, proved, terminal.doing)
    path = write_live(made, place)
    if proved is not None:
        from kexec_verify.html.index import write_index
        from kexec_verify.html.write import write_page

        write_page(place / "run.json")
        write_index(directory, terminal.note)
    terminal.lines(lines(made))
    if proved is None:
        terminal.line("  paths were not compared: there is no finished run of these bytes")
    terminal.line(f"  {path}")
    return exit_status(made)


def _finished(place: Path, sha256: str) -> Run | None:
    """The finished run of the same bytes in the target's folder."""
    from kexec_verify.report.read import read_run

    try:
        run = read_run(place / "run.json")
    except UsageError:
        return None
    return run if run.complete and run.target.sha256 == sha256 else None


def lines(made: LiveRun) -> list[str]:
    """What was seen, for the terminal: a line for each configuration, then each sentence that is false."""
    shown = [f"{made.name}, Linux {made.version}", f"  QEMU {made.versions['QEMU']}"]
    for each in made.configurations:
        counts = _counts(each)
        shown.append(
            f"  {each.mode:<5} {each.level:<4} {each.cpu:<12} {each.outcome:<8} {counts['held']:>3} held, "
            f"{counts['false']} false, {counts['untested']} untested  {each.seconds:.1f} s"
        )
        if each.reason:
            shown.append(f"    {each.reason}")
        if each.death is not None:
            shown += _death(each)
    told: dict[tuple[str, str, str], list[str]] = {}
    for each in made.configurations:
        for check in each.checks:
            if check.seen == "false":
                key = (check.assumption or "conclusion", check.what, check.value)
                told.setdefault(key, []).append(f"{each.mode} {each.level}")
    for (assumption, what, value), where in told.items():
        shown.append(f"  FALSE {assumption}: {what}: {value} ({', '.join(where)})")
    return shown


def _counts(each: Configuration) -> dict[str, int]:
    found = {"held": 0, "false": 0, "untested": 0}
    for check in each.checks:
        found[check.seen] += 1
    return found


def _death(each: Configuration) -> list[str]:
    death = each.death
    assert death is not None
    registers = ", ".join(f"{name} = {value:#x}" for name, value in death.registers.items())
    return [f"    died at {death.where}: {registers}", *(f"    {x}" for x in (death.word, death.entry) if x)]


def exit_status(made: LiveRun) -> int:
    """What the command exits with."""
    outcomes = {each.outcome for each in made.configurations}
    false = any(check.seen == "false" for each in made.configurations for check in each.checks)
    if false or "died" in outcomes:
        return 1
    return 0 if outcomes == {"entered"} else 3
