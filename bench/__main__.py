"""``python -m bench`` measures, writes bench/results/bench.json, and draws the table and the plot of it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from bench import compare, machine, plot, stock, table
from bench.harness import ROOT
from bench.tool import Commands

RESULTS = ROOT / "bench" / "results"


def _tell(text: str) -> None:
    print(f"bench: {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measure_all() -> dict[str, object]:
    """Everything that is measured, as one record."""
    cbmc = compare.find_cbmc()
    if cbmc is None:
        _tell("cbmc is not installed: its series are left out")
    started = time.monotonic()
    record: dict[str, object] = {"schema": 1, "machine": machine.describe(cbmc), "limit": compare.LIMIT}
    with tempfile.TemporaryDirectory() as name:
        commands = Commands(Path(name), _tell)
        kernel = commands.kernel()
        targets = [compare.BINARY, *([kernel["ELF"]] if kernel else [])]
        record["any_length"] = [commands.run(target, "--property", "reloc-*") for target in targets]
        record["whole"] = [commands.run(path) for path in kernel.values()]
        record["start"] = commands.start()
        record["stock"] = stock.attempts(_tell)
        record["dropped"] = stock.dropped_maintenance(Path(name), _tell)
    record["series"] = [
        {"id": one.id, "label": one.label, "proves": one.proves, "points": compare.points(one, _tell)}
        for one in compare.series(cbmc)
    ]
    record["seconds"] = round(time.monotonic() - started)
    return record


def main() -> None:
    """Measure and draw, or with ``--docs`` draw again, into docs/ and README, what was measured last."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--docs", action="store_true", help="put the last results into docs/ and README")
    results = RESULTS / "bench.json"
    if parser.parse_args().docs:
        table.put(json.loads(results.read_text()), ROOT)
        plot.draw(json.loads(results.read_text()), ROOT / "docs" / "bench.svg")
        return
    record = measure_all()
    RESULTS.mkdir(exist_ok=True)
    results.write_text(json.dumps(record, indent=1) + "\n")
    # What is shown is drawn from the file alone.
    record = json.loads(results.read_text())
    plot.draw(record, RESULTS / "bench.svg")
    print(table.text(record))


if __name__ == "__main__":
    main()
