"""Measures whole commands on a real kernel: `make bench` prints a table and writes JSON.

Each figure is of the whole process from start to exit, by the operating system's own
accounting: wall and CPU seconds, peak resident memory of the largest process. Solver
time and the slowest obligation are read from the run's own record.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERIFY = ROOT / ".venv" / "bin" / "verify"
RUNS = 3


def _measure(command: list[str]) -> dict[str, float]:
    """Wall and CPU seconds and peak memory (MB) of one run of ``command``."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"bench: {' '.join(command)} exited with {os.waitstatus_to_exitcode(status)}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024}


def _solver_figures(path: Path) -> dict[str, float]:
    """Solver seconds (each distinct text once), the slowest text, and their number."""
    run = json.loads(path.read_text())
    texts = {
        obligation["sha256"]: sum(answer["seconds"] for answer in obligation["answers"])
        for claim in run["properties"]
        for obligation in claim["obligations"]
    }
    times = list(texts.values())
    return {
        "solver": sum(times),
        "slowest": max(times),
        "median": statistics.median(times),
        "texts": len(times),
    }


def _by_function(path: Path) -> dict[str, float]:
    """Solver seconds by function, each distinct text once, for the first property that asked it."""
    run = json.loads(path.read_text())
    seen: set[str] = set()
    seconds: dict[str, float] = {}
    for claim in run["properties"]:
        name = claim["function"] or "callees, and how the parts join"
        for obligation in claim["obligations"]:
            if obligation["sha256"] not in seen:
                seen.add(obligation["sha256"])
                spent = sum(answer["seconds"] for answer in obligation["answers"])
                seconds[name] = seconds.get(name, 0.0) + spent
    return seconds


def _kernel_elf(directory: Path) -> Path:
    """The newest 6.1 kernel that apt knows, written out as an ELF."""
    from verify.target import open_target, write_elf
    from verify.target.debian import newest

    kernel = open_target(f"debian:{newest('6.1')}")
    path = directory / f"{kernel.name}.elf"
    write_elf(kernel, path)
    return path


def main() -> None:
    """Measure, print, write bench/results/run.json."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        elf = _kernel_elf(directory)
        reports = directory / "reports"
        commands = {
            "verify run (ELF of Debian 6.1)": [str(VERIFY), "run", "-q", str(elf), "--reports", str(reports)],
            "verify run (smallest shipped binary)": [
                str(VERIFY),
                "run",
                "-q",
                "binaries/regs-no-test-4k-gcc.elf",
                "--reports",
                str(reports),
            ],
            "verify list": [str(VERIFY), "list"],
        }
        table = {}
        for label, command in commands.items():
            runs = [_measure(command) for _ in range(RUNS)]
            table[label] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        record_path = next(reports.glob(f"{elf.stem}*/run.json"))
        solver, functions = _solver_figures(record_path), _by_function(record_path)
        stages = json.loads(record_path.read_text())["stages"]
    print(f"{'command':<40} {'wall':>8} {'cpu':>8} {'memory':>9}   (medians of {RUNS})")
    for label, row in table.items():
        print(f"{label:<40} {row['wall']:>6.2f} s {row['cpu']:>6.2f} s {row['memory']:>6.0f} MB")
    print(
        f"solvers on Debian 6.1: {solver['solver']:.2f} s for {solver['texts']:.0f} texts, "
        f"median {solver['median'] * 1000:.0f} ms, slowest {solver['slowest']:.2f} s"
    )
    for name, seconds in sorted(functions.items(), key=lambda item: -item[1]):
        print(f"  {name:<40} {seconds:>6.2f} s of solvers")
    for name, seconds in stages.items():
        print(f"  stage {name:<34} {seconds:>6.2f} s")
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    record = {"machine": machine, "commands": table, "solvers": solver, "kernel": elf.stem}
    record |= {"functions": functions, "stages": stages}
    (results / "run.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
