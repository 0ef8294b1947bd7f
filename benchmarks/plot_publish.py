"""Draw what published ports cost: traffic to one of them, and a change of one of them."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks import report
from benchmarks.report import Key, Results

_FEW, _MANY, _PEER = "#c9c9c9", "#c1121f", "#7d8597"
_LINE = "#555555"
_BAR = 0.38
_CALLS = {
    "publish": "publish\na port",
    "publish_automatic": "publish,\nport chosen",
    "unpublish": "unpublish\na port",
}


def draw(path: Path, results: Results) -> None:
    """Write a PNG with three panels; bars are medians, with lines from the least to the most.

    Traffic is drawn as a share of what one published port carries: publishers are measured one after the other, and
    the machine's speed differs more between them than many ports differ from one.
    """
    mpl.use("Agg")
    figure, (connections, throughput, calls) = plt.subplots(1, 3, figsize=(13, 5.2), dpi=130, width_ratios=(1, 1, 0.75))
    ports = max(key.count for key in results.values if key.task == "traffic")
    _draw_traffic(connections, results, ports, "connections", f"New connections with {ports:,} ports / with one")
    _draw_traffic(throughput, results, ports, "bytes", f"Throughput with {ports:,} ports / with one")
    throughput.set_yticklabels([])
    _draw_calls(calls, results)
    machine = results.machine
    figure.suptitle("One published port among many", x=0.01, ha="left", fontsize=14, fontweight="bold")
    figure.text(
        0.01,
        0.015,
        f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']}, {machine['date']}; "
        "median, lines from least to most",
        fontsize=8,
        color=_LINE,
    )
    figure.tight_layout(rect=(0, 0.03, 1, 0.98))
    figure.savefig(path)
    plt.close(figure)


def _draw_traffic(axes: Axes, results: Results, ports: int, load: str, title: str) -> None:
    names = report.publishers(results)
    series = [results.values[Key("traffic", name, ports, f"{load}_ratio")] for name in names]
    for place, (name, values) in enumerate(zip(names, series, strict=True)):
        median = statistics.median(values)
        color = _MANY if name == "dnet" else _PEER
        axes.barh(place, median, color=color)
        axes.errorbar(
            median, place, xerr=[[median - min(values)], [max(values) - median]], fmt="none", ecolor=_LINE, capsize=2
        )
        axes.text(0.02, place, f"{median:.2f}", va="center", color="white", fontweight="bold")
    axes.axvline(0.95, color=_LINE, linestyle="--", linewidth=1)
    axes.text(0.945, -0.55, "target", ha="right", fontsize=8, color=_LINE)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.75)
    _finish(axes, title)


def _draw_calls(axes: Axes, results: Results) -> None:
    counts = sorted({key.count for key in results.values if key.task == "calls"})
    for offset, count, color in zip((-0.5, 0.5), counts, (_FEW, _MANY), strict=False):
        for place, call in enumerate(_CALLS):
            milliseconds = [seconds * 1000 for seconds in results.values[Key("calls", "dnet", count, call)]]
            median = statistics.median(milliseconds)
            errors = [[median - min(milliseconds)], [max(milliseconds) - median]]
            label = f"{count:,} published besides" if place == 0 else None
            axes.bar(place + offset * _BAR, median, _BAR, color=color, label=label)
            axes.errorbar(place + offset * _BAR, median, yerr=errors, fmt="none", ecolor=_LINE, capsize=2)
    axes.axhline(2, color=_LINE, linestyle="--", linewidth=1)
    axes.text(len(_CALLS) - 0.5, 2, "target", ha="right", va="bottom", fontsize=8, color=_LINE)
    axes.set_xticks(range(len(_CALLS)), list(_CALLS.values()))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _finish(axes, "A call of dnet's engine, ms")


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
