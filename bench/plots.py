"""Plots of what was measured, as SVG that can be read on white and on black."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench import tables
from bench.ids import Ids
from bench.targets import Data

INK: Final = "#7d8590"
"""Between white and black, far enough from both."""
BLUE: Final = "#3b82f6"
ORANGE: Final = "#e07b39"
GREEN: Final = "#2aa876"

STYLE: Final = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "font.size": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def taking(data: Data, path: Path) -> None:
    """Draw requests a second of each subject, single records."""
    rows: list[Any] = [row for row in tables.taking(data) if row["records"] == 1][::-1]
    with _figure(path, 1, height=0.6 + 0.35 * len(rows)) as (axes,):
        colours = [ORANGE if row["subject"] == "ingest" else BLUE for row in rows]
        bars = axes.barh([row["subject"] for row in rows], [row["requests/s"] for row in rows], color=colours)
        axes.bar_label(bars, [f" {row['requests/s']:,.0f}, {row['of bare']:.2f} of bare" for row in rows], color=INK)
        axes.set_xlabel("single durable POSTs a second, 64 connections")
        axes.margins(x=0.3)


def latency(data: Data, path: Path) -> None:
    """Draw latency and lag against load."""
    kinds = data["kinds"]
    with _figure(path, len(kinds), height=3.2) as panels:
        for axes, kind in zip(panels, kinds, strict=True):
            levels = sorted(kind["levels"], key=lambda one: one["offered"])
            loads = [one["offered"] for one in levels]
            axes.plot(loads, [one["p50"] for one in levels], "o-", color=BLUE, label="answer, p50")
            axes.plot(loads, [one["p99"] for one in levels], "o--", color=BLUE, label="answer, p99")
            axes.plot(loads, [one["lag_p99"] * 1e3 for one in levels], "s--", color=GREEN, label="200 to stored, p99")
            axes.axvline(kind["sustained"]["offered"], color=ORANGE, linewidth=1, label="sustained")
            axes.set_yscale("log")
            axes.set_title("single records" if kind["records"] == 1 else f"batches of {kind['records']}")
            axes.set_xlabel("events a second, at a fixed rate")
            axes.set_ylabel("ms")
        _legend(panels)


def cost(data: Data, path: Path) -> None:
    """Draw the CPU time of an event against what is stored, and against customers."""
    growth = tables.growth(data)
    series = [(ids.value, "stored", [row for row in growth if row["ids"] == ids]) for ids in Ids]
    series.append(("by customers", "customers", tables.customers(data)))
    with _figure(path, len(series), height=2.8, sharey=True) as panels:
        for axes, (title, by, rows) in zip(panels, series, strict=True):
            for name, colour in (("both µs", ORANGE), ("worker µs", BLUE), ("database µs", GREEN)):
                sizes, costs = [row[by] for row in rows], [row[name] for row in rows]
                axes.plot(sizes, costs, "o-", color=colour, label=name.removesuffix(" µs"))
            axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            axes.set_title(title)
            axes.set_xlabel("events stored already" if by == "stored" else by)
        panels[0].set_ylabel("µs of CPU for each event")
        _legend(panels)


def _legend(panels: Sequence[Any]) -> None:
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


@contextmanager
def _figure(path: Path, panels: int, *, height: float, sharey: bool = False) -> Iterator[Sequence[Any]]:
    """Give panels in a row, and write them to a file: the same bytes for the same figures."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second to load

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of a backend

    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, panels, figsize=(8, height), sharey=sharey, squeeze=False, layout="constrained")
        yield axes[0]
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
