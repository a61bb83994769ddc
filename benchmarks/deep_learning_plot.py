"""The picture of records of ``benchmarks.deep_learning``: dots with their intervals."""

from __future__ import annotations

from typing import Any

from benchmarks.deep_learning_methods import METHODS
from benchmarks.deep_learning_tables import CEILING, Cell, Line, cells

__all__ = ["draw"]

# Blue and orange of M. Okabe, K. Ito: Color Universal Design (2008); the shapes differ, too.
LOOKS = {
    "inductive": {"color": "#0072b2", "marker": "o", "offset": -0.17},
    "transductive": {"color": "#d55e00", "marker": "D", "offset": 0.17},
}
OURS = "#f0f0f0"


def draw(*records: dict[str, Any]) -> Any:
    """A panel for each (data, labels): a row for each method, a dot for each setting.

    The locally linear methods' rows are shaded; the dashed lines are raw features.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    found = [cell for record in records for cell in cells(record)]
    if not found:
        raise ValueError("there are no results to draw: measure first, or --resume")
    data = list(dict.fromkeys(cell.data for cell in found))
    labels = list(dict.fromkeys(cell.labels for cell in found))
    shown = {line.method: line.title for cell in found for line in cell.lines}
    names = [name for name in (*METHODS, "ceiling") if name in shown]
    size = (2.6 + 3.2 * len(labels), 0.9 + (0.6 + 0.27 * len(names)) * len(data))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(data), len(labels), squeeze=False, sharey=True)
    for row, ax_row in zip(data, axes, strict=True):
        for amount, ax in zip(labels, ax_row, strict=True):
            here = [cell for cell in found if (cell.data, cell.labels) == (row, amount)]
            _panel(ax, here, names, shown)
            given = (
                "all labels" if amount == "all" else f"{amount} label{'s' * (amount > 1)} a class"
            )
            ax.set_title(f"{row}, {given}", loc="left", fontsize=9, fontweight="bold")
    for ax in axes[-1]:
        ax.set_xlabel("accuracy (%)", fontsize=8)
    seeds = {cell.seeds for cell in found}
    handles = [
        Line2D([], [], linestyle="", marker=look["marker"], color=look["color"], label=setting)
        for setting, look in LOOKS.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside upper right",
        ncols=2,
        fontsize=8,
        frameon=False,
        title=f"mean of {' or '.join(map(str, sorted(seeds)))} draws and its 95 % interval; "
        "shaded: locally linear; dashed: raw features",
        title_fontsize=8,
    )
    return figure


def _panel(ax: Any, here: list[Cell], names: list[str], shown: dict[str, str]) -> None:
    for place, name in enumerate(names):
        if name in METHODS and METHODS[name].ours:
            ax.axhspan(place - 0.5, place + 0.5, color=OURS, zorder=0, linewidth=0)
    for cell in here:
        look = LOOKS[cell.setting]
        for line in cell.lines:
            _dot(ax, line, names.index(line.method) + look["offset"], look)
            if line.method == "raw":
                ax.axvline(
                    100 * line.accuracy.mean, color=look["color"], linestyle=(0, (4, 3)), lw=0.8
                )
    ax.set_yticks(range(len(names)), [shown[name] for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(labelsize=8, length=2)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#d8d8d8", linewidth=0.6)
    ax.set_axisbelow(True)


def _dot(ax: Any, line: Line, height: float, look: dict[str, Any]) -> None:
    filled = line.title != CEILING
    ax.errorbar(
        100 * line.accuracy.mean,
        height,
        xerr=100 * line.accuracy.half,
        color=look["color"],
        marker=look["marker"],
        markersize=4.5,
        markerfacecolor=look["color"] if filled else "white",
        elinewidth=1.2,
    )
