"""How a parameter was chosen: the criterion, what else was looked at, the choice, its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.plot.canvas import INK, MUTED, caption, figure_axes, furnish, legend_below
from lle_gpu.plot.colours import CLASS_COLOURS

__all__ = ["plot_selection"]

Float = NDArray[np.float64]
Flags = dict[str, NDArray[np.bool_]]
MARKERS = ("s", "^", "D", "v", "P", "X", "*")
DASHES = ("--", "-.", ":")
# Values that extend over so many times their smallest have a logarithmic axis.
WIDE = 30
# The part of the axes' height that curves with a scale of their own are drawn over.
LOW, HIGH = 0.12, 0.92
# The column that each result chooses from. One whose table has it as the criterion recommends a
# height, not a place along the picture.
CHOICES = {
    "NeighborSelection": "n_neighbors",
    "RegSelection": "reg",
    "DimensionEstimate": "dimension",
}
# Columns that matter where something is wrong.
ALARMS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "converged": ("not converged", lambda column: ~column.astype(bool)),
    "null_vectors": ("several null vectors", lambda column: column > 1),
}


def plot_selection(result: Any, ax: Any = None, *, title: str | None = None) -> Any:
    """Draw the criterion by which a parameter was chosen, what else was looked at, and the choice.

    The criterion has the vertical axis. The other columns are drawn more lightly, each over a range
    of its own, which the legend names, so that their shapes can be compared; where a value is not
    finite, a curve has a gap. Crosses along the bottom are candidates with something wrong.

    Parameters
    ----------
    result : NeighborSelection, RegSelection or DimensionEstimate
        Of :mod:`lle_gpu.selection`, or anything with their ``table`` (a mapping of names to 1-D
        arrays; the first goes along the picture), ``recommended``, ``reason``, and perhaps
        ``criterion`` (None: the second column) and ``warnings``.
    ax : matplotlib Axes, default=None
        Where to draw; None makes a figure, which is the result's ``.figure``.
    title : str, default=None
        None names the choice; the reason and the warnings stand below it.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError
        If ``result`` has no table.
    ValueError
        If its table has no curve, or columns of different lengths.

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu.plot import plot_selection
    >>> from lle_gpu.selection import intrinsic_dimension
    >>> X, _ = make_swiss_roll(1000, random_state=0)
    >>> plot_selection(intrinsic_dimension(X)).get_ylabel()
    'dimension'
    """
    name, x, criterion, curves, flags = _columns(result)
    ax = figure_axes(7, 5) if ax is None else ax
    curve = curves.pop(criterion)
    size = 6 if len(x) <= 40 else 3
    (line,) = ax.plot(x, curve, marker="o", color=CLASS_COLOURS[0], linewidth=2, markersize=size)
    line.set(label=_readable(criterion), zorder=3)
    handles = [line, *_draw_others(ax, x, curves, size - 2), *_draw_flags(ax, x, flags)]
    chosen = CHOICES.get(type(result).__name__, name)
    recommended = float(result.recommended)
    along = name == chosen or criterion != chosen
    handles.append(
        (ax.axvline if along else ax.axhline)(
            recommended,
            color=INK,
            linewidth=1,
            linestyle=(0, (6, 3)),
            zorder=1,
            label=f"recommended: {recommended:g}",
        )
    )
    if _is_wide(x):
        ax.set_xscale("log")
    if _is_wide(curve[np.isfinite(curve)]):
        ax.set_yscale("log")
    ax.margins(x=0.04, y=0.14)
    ax.set_xlabel(_readable(name))
    ax.set_ylabel(_readable(criterion) + " (log)" * (ax.get_yscale() == "log"))
    furnish(ax)
    warnings = [f"warning: {text}" for text in getattr(result, "warnings", ())]
    caption(
        ax,
        f"recommended: {_readable(chosen)} = {recommended:g}" if title is None else title,
        [result.reason, *warnings],
    )
    legend_below(ax, handles)
    return ax


def _draw_others(ax: Any, x: Float, curves: dict[str, Float], size: int) -> list[Any]:
    """Draw curves, each over a range of its own, which its label names; the legend's handles."""
    handles = []
    for i, (label, curve) in enumerate(curves.items()):
        low, high = np.nanmin(curve), np.nanmax(curve)
        share = (
            (curve - low) / (high - low) if high > low else np.where(np.isnan(curve), curve, 0.5)
        )
        handles += ax.plot(
            x,
            LOW + (HIGH - LOW) * share,
            transform=ax.get_xaxis_transform(),
            color=CLASS_COLOURS[1 + i % (len(CLASS_COLOURS) - 1)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle=DASHES[i % len(DASHES)],
            linewidth=1,
            markersize=size,
            alpha=0.8,
            label=f"{_readable(label)}: {low:.3g} to {high:.3g}",
        )
    return handles


def _draw_flags(ax: Any, x: Float, flags: Flags) -> list[Any]:
    """Draw crosses along the bottom at candidates with something wrong; the legend's handles."""
    from matplotlib.lines import Line2D

    handles = []
    bottom = ax.get_xaxis_transform()
    for i, (label, flag) in enumerate(flags.items()):
        style: dict[str, Any] = {
            "marker": "xP+"[i % 3],
            "linestyle": "",
            "color": MUTED,
            "markersize": 6,
        }
        ax.plot(x[flag], np.full(int(flag.sum()), 0.03), transform=bottom, label="_", **style)
        handles.append(Line2D([], [], label=_readable(label), **style))
    return handles


def _columns(result: Any) -> tuple[str, Float, str, dict[str, Float], Flags]:
    """What goes along the picture and its name, the criterion's name, curves, and alarms."""
    table: Any = getattr(result, "table", None)
    if not hasattr(table, "items"):
        raise TypeError(
            f"result is a {type(result).__name__}, but must be what a function of "
            "lle_gpu.selection returned: it has no table"
        )
    columns = {name: np.asarray(column) for name, column in table.items()}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(column.ndim != 1 for column in columns.values()):
        raise ValueError(f"result.table must have columns of one length, but has {shapes}")
    flags: Flags = {}
    for name, (text, is_wrong) in ALARMS.items():
        if name in columns and (wrong := is_wrong(columns.pop(name))).any():
            flags[text] = wrong
    flags |= {k: c for k, c in columns.items() if c.dtype.kind == "b" and c.any()}
    numbers = {k: c.astype(float) for k, c in columns.items() if c.dtype.kind in "fiu"}
    name, x = next(iter(numbers.items()), ("", np.array([np.nan])))
    curves = {k: c for k, c in numbers.items() if k != name and np.isfinite(c).any()}
    if not curves or not np.isfinite(x).all():
        raise ValueError(
            "result.table must have a column of finite numbers, and another with one at least; "
            f"it has {list(shapes)}"
        )
    curves = {k: np.where(np.isfinite(c), c, np.nan) for k, c in curves.items()}
    criterion: Any = getattr(result, "criterion", None)
    criterion = criterion if criterion in curves else next(iter(curves))
    return name, x, criterion, curves, flags


def _is_wide(values: Float) -> bool:
    return bool((values > 0).all() and values.max() > WIDE * values.min())


def _readable(name: str) -> str:
    return name if name in CHOICES.values() else name.replace("_", " ")
