"""What the tool itself costs: whole commands, and the record that a run keeps of its solvers."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable
from pathlib import Path

from kexec_verify.errors import TargetError
from kexec_verify.target import open_target, write_elf
from kexec_verify.target.debian import newest, read

from bench.compare import Record, repeated
from bench.harness import VERIFY, Measured, Status, measure

SERIES = "6.1"
_LIMIT, _SHORT = 300.0, 20.0  # seconds of CPU time


class Commands:
    """Runs ``verify`` in a directory of its own, each time with nothing cached.

    :param directory: holds kernels, caches and reports.
    """

    def __init__(self, directory: Path, tell: Callable[[str], None]):
        self.directory = directory
        self.tell = tell
        self._numbers = itertools.count()

    def kernel(self) -> dict[str, str]:
        """Debian's newest kernel, as it comes and as an ELF file with symbols; nothing where apt has none."""
        try:
            package = newest(SERIES)
            if package is None:
                raise TargetError(f"apt knows none of {SERIES}")
            vmlinuz = self.directory / package / "vmlinuz"
            vmlinuz.parent.mkdir(exist_ok=True)
            vmlinuz.write_bytes(read(package))
            elf = self.directory / f"{package}.elf"
            write_elf(open_target(str(vmlinuz)), elf)
        except TargetError as error:
            self.tell(f"no kernel of Debian: {error}")
            return {}
        return {"ELF": str(elf), "vmlinuz": str(vmlinuz)}

    def run(self, target: str, *options: str) -> Record:
        """``verify run`` of ``target``, repeated where it is short; ``record`` is the last run's record."""
        name = _name(target)
        self.tell(f"verify run {' '.join((name, *options))}")
        reports = self.directory / f"reports{next(self._numbers)}"
        command = [VERIFY, "run", "-q", target, *options, "--reports", str(reports)]

        def once() -> Measured:
            cache = {"XDG_CACHE_HOME": str(self.directory / f"cache{next(self._numbers)}")}
            return measure(command, " PROVED", _LIMIT, environment=cache)

        point = repeated(once, _SHORT)
        found = list(reports.glob("*/run.json"))
        return {"target": name, **point, **({"record": figures(found[0])} if found else {})}

    def again(self, target: str) -> Record:
        """``verify run`` of a ``target`` that did not change since the run before."""
        name = _name(target)
        self.tell(f"verify run {name}, again")
        reports = self.directory / f"reports{next(self._numbers)}"
        command = [VERIFY, "run", "-q", target, "--reports", str(reports)]
        cache = {"XDG_CACHE_HOME": str(self.directory / f"cache{next(self._numbers)}")}
        first = measure(command, " PROVED", _LIMIT, environment=cache)
        point = repeated(lambda: measure(command, " PROVED", _LIMIT, environment=cache), _SHORT)
        return {"target": f"{name}, again", **(point if first.status is Status.DONE else first.record())}

    def start(self) -> Record:
        """The shortest command: what starting costs."""
        self.tell("verify list")
        return repeated(lambda: measure([VERIFY, "list"], "reloc-step"))


def _name(target: str) -> str:
    """What a target is called in tables: its file, with the package of a file that many packages have."""
    path = Path(target)
    # The package is the first part of the name of the directory that it is in.
    return path.name if path.suffix else f"{path.parent.name.partition('_')[0]}, {path.name}"


def figures(path: Path) -> Record:
    """Of a run: seconds by stage, and of solvers by function, each distinct text once; instructions run."""
    run = json.loads(path.read_text())
    seconds: dict[str, float] = {}
    functions: dict[str, float] = {}
    for claim in run["properties"]:
        name = claim["function"] or "callees, and how the parts join"
        for obligation in claim["obligations"]:
            text = obligation["sha256"]
            if text not in seconds:
                seconds[text] = sum(answer["seconds"] for answer in obligation["answers"])
                functions[name] = functions.get(name, 0.0) + seconds[text]
    times = list(seconds.values())
    return {
        "solver": sum(times),
        "texts": len(times),
        "median": statistics.median(times),
        "slowest": max(times),
        "instructions": sum(i["covered"] for function in run["functions"] for i in function["instructions"]),
        "functions": dict(sorted(functions.items(), key=lambda item: -item[1])),
        "stages": run["stages"],
    }
