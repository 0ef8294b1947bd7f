"""Draw the cost per container against the number of containers. The only module that loads matplotlib."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.report import Key, Results

_STYLES = {
    "floor": ("#555555", "--", "s"),
    "dnet": ("#c1121f", "-", "o"),
    "ip -batch, tuned": ("#7fb069", ":", "v"),
    "ip -batch": ("#2a7f62", "-", "^"),
    "pyroute2, in place": ("#d98324", ":", "d"),
    "pyroute2": ("#d98324", "-", "D"),
    "shell ip, in place": ("#335c9e", ":", "p"),
    "shell ip": ("#335c9e", "-", "P"),
}
_LABEL_HEIGHT = 0.046  # of the axes


def draw(path: Path, results: Results) -> None:
    """Write a PNG with one line for each contestant: the median, and bars from the least to the most."""
    mpl.use("Agg")
    figure, axes = plt.subplots(figsize=(9.5, 6.5), dpi=130)
    counts: set[int] = set()
    ends: dict[str, tuple[int, float]] = {}
    for contestant in _STYLES:
        sizes = results.sizes("create", contestant)
        if sizes:
            counts.update(sizes)
            ends[contestant] = (sizes[-1], _draw_contestant(axes, results, contestant, sizes))
    _scale(axes, sorted(counts))
    _label(axes, ends)
    machine = results.machine
    axes.set_title("Cost of one container network", loc="left", fontsize=14, fontweight="bold", pad=24)
    axes.text(
        0,
        1.02,
        f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']}, {machine['date']}; "
        "median, bars from least to most",
        transform=axes.transAxes,
        fontsize=8,
        color="#555555",
    )
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _draw_contestant(axes: Axes, results: Results, contestant: str, sizes: list[int]) -> float:
    """Draw one line and return the cost at its end, in milliseconds."""
    color, line, marker = _STYLES[contestant]
    costs = [
        [seconds / count * 1000 for seconds in results.values[Key("create", contestant, count)]] for count in sizes
    ]
    medians = [statistics.median(cost) for cost in costs]
    below = [median - min(cost) for median, cost in zip(medians, costs, strict=True)]
    above = [max(cost) - median for median, cost in zip(medians, costs, strict=True)]
    axes.errorbar(
        sizes, medians, yerr=[below, above], color=color, linestyle=line, marker=marker, capsize=3, linewidth=1.8
    )
    return medians[-1]


def _scale(axes: Axes, counts: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.1)
    axes.set_xlim(counts[0] * 0.8, counts[-1] * 5)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="major", alpha=0.35)
    axes.grid(visible=True, which="minor", axis="y", alpha=0.12)
    axes.set_xlabel("container networks made by one command")
    axes.set_ylabel("milliseconds per container network")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _label(axes: Axes, ends: dict[str, tuple[int, float]]) -> None:
    """Name each line at its end, moving a label up where it would lie on the one below."""
    to_axes = axes.transData + axes.transAxes.inverted()
    lowest: dict[int, float] = {}
    for contestant, (count, cost) in sorted(ends.items(), key=lambda item: item[1][1]):
        x, y = to_axes.transform((count, cost))
        y = max(y, lowest.get(count, 0.0))
        lowest[count] = y + _LABEL_HEIGHT
        decimals = 2 - (cost >= 1) - (cost >= 10)
        name = "the kernel's floor (C)" if contestant == "floor" else contestant
        axes.text(
            x + 0.015,
            y,
            f"{name}  {cost:.{decimals}f} ms",
            transform=axes.transAxes,
            va="center",
            color=_STYLES[contestant][0],
            fontweight="bold" if contestant == "dnet" else "normal",
        )
