"""The plot of a record: CPU time against the length of the list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Told apart by colour and by mark (Okabe and Ito's colours).
_STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"))


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the plot of ``record`` to ``path``, an SVG or PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "bench"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9.5, 5.4), layout="constrained")
    for one, (colour, mark) in zip(record["series"], _STYLES, strict=False):
        done = [(p["pages"], p["cpu"]) for p in one["points"] if p["status"] == "done"]
        pages = [n for n, _ in done]
        medians = [cpu["median"] for _, cpu in done]
        spread = [
            [cpu["median"] - cpu["min"] for _, cpu in done],
            [cpu["max"] - cpu["median"] for _, cpu in done],
        ]
        axes.errorbar(pages, medians, spread, color=colour, marker=mark, label=one["label"])
        for point in one["points"]:
            if point["status"] != "done":
                ended = point["limit"] if point["status"] == "timeout" else point["cpu"]["median"]
                axes.plot(point["pages"], ended, marker="x", color=colour, markersize=10, mew=2.5)
                axes.annotate(
                    point["status"],
                    (point["pages"], ended),
                    textcoords="offset points",
                    xytext=(0, 8),
                    color=colour,
                    ha="center",
                )
    for point, line, colour in zip(record["any_length"], ("-", "--"), ("black", "0.6"), strict=False):
        if point["status"] == "done":
            label = f"this tool, any length, T1–T5: {point['target']}"
            axes.axhline(point["cpu"]["median"], color=colour, linestyle=line, linewidth=2, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.09, y=0.1)
    axes.set_xlabel("pages that the list copies")
    axes.set_ylabel("CPU time, seconds")
    axes.set_title("× not proved, and why. What each proves differs: see docs/bench.md", fontsize=10)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
