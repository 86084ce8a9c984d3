"""``python -m bench`` measures, writes bench/results/bench.json, and draws the table and the plot of it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import compare, machine, plot, stock, table
from bench.harness import ROOT
from bench.tool import Commands

RESULTS = ROOT / "bench" / "results"


def _tell(text: str) -> None:
    print(f"bench: {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measure_all(record: dict[str, Any]) -> Iterator[None]:
    """Everything that is measured goes into ``record``, bit by bit; it can be kept after each."""
    cbmc = compare.find_cbmc()
    if cbmc is None:
        _tell("cbmc is not installed: its series are left out")
    started = time.monotonic()
    record |= {"schema": 1, "machine": machine.describe(cbmc), "limit": compare.LIMIT, "series": []}
    with tempfile.TemporaryDirectory() as name:
        commands = Commands(Path(name), _tell)
        kernel = commands.kernel()
        targets = [compare.BINARY, *([kernel["ELF"]] if kernel else [])]
        record["any_length"] = [commands.run(target, "--property", "reloc-*") for target in targets]
        record["whole"] = [commands.run(path) for path in kernel.values()]
        record["start"] = commands.start()
        record["stock"] = stock.attempts(_tell)
        record["dropped"] = stock.dropped_maintenance(Path(name), _tell)
    for one in compare.series(cbmc):
        points: list[compare.Record] = []
        record["series"].append({"id": one.id, "label": one.label, "proves": one.proves, "points": points})
        for point in compare.points(one, _tell):
            points.append(point)
            record["seconds"] = round(time.monotonic() - started)
            yield


def main() -> None:
    """Measure and draw, or with ``--docs`` draw again, into docs/ and README, what was measured last."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--docs", action="store_true", help="put the last results into docs/ and README")
    results = RESULTS / "bench.json"
    if parser.parse_args().docs:
        table.put(json.loads(results.read_text()), ROOT)
        plot.draw(json.loads(results.read_text()), ROOT / "docs" / "bench.svg")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what is running, too
    RESULTS.mkdir(exist_ok=True)
    measured: dict[str, Any] = {}
    for _ in measure_all(measured):
        results.write_text(json.dumps(measured, indent=1) + "\n")
    # What is shown is drawn from the file alone.
    record = json.loads(results.read_text())
    plot.draw(record, RESULTS / "bench.svg")
    print(table.text(record))


if __name__ == "__main__":
    main()
