"""Colours by class or by value, and the key that explains them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.plot.canvas import INK, MUTED, SMALL, matplotlib
from lle_gpu.plot.checks import one_each

__all__ = [
    "CLASS_COLOURS",
    "COLOUR_MAP",
    "LEGEND_MAX",
    "MISSING_COLOUR",
    "Colours",
    "colours_of",
    "folded",
]

Float = NDArray[np.float64]
# Ten colours that stay apart for colour-blind eyes and in grey.
# M. A. Petroff: Accessible color sequences for data visualization. arXiv:2107.02270 (2021).
CLASS_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
COLOUR_MAP = "viridis"
MISSING_COLOUR = "#c8c8c8"
LEGEND_MAX = 40
LEGEND_ROWS = 21
# Longer names of classes are folded, and cut where even so many lines do not do.
NAME_WIDTH, NAME_LINES = 24, 3


@dataclass(frozen=True)
class Colours:
    """A colour for each point, and the key that explains them."""

    rgba: Float  # (n, 4)
    classes: list[tuple[str, Any]]  # name and colour, if coloured by class
    row: NDArray[np.intp] | None  # each point's class, counted from 0
    values: Float | None
    bounds: tuple[float, float]  # of the colour map, if coloured by value
    name: str | None

    def draw_key(self, figure: Any, axes: list[Any]) -> None:
        """Draw a legend or a colour bar to the right of the axes; nothing for a single colour."""
        if self.values is not None:
            self._draw_bar(figure, axes)
        elif self.classes:
            self._draw_legend(figure, axes)

    def _draw_bar(self, figure: Any, axes: list[Any]) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        assert self.values is not None
        pad = 0.1 if axes[0].name == "3d" else 0.02
        bar = figure.colorbar(
            ScalarMappable(Normalize(*self.bounds), COLOUR_MAP), ax=axes, aspect=30, pad=pad
        )
        missing = "" if np.isfinite(self.values).all() else " (grey: missing)"
        bar.set_label(folded(self.name or "value", 40) + missing, color=INK)
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=MUTED, length=2, labelsize=SMALL)
        if self.bounds[0] == self.bounds[1]:
            bar.set_ticks([self.bounds[0]])

    def _draw_legend(self, figure: Any, axes: list[Any]) -> None:
        from matplotlib.lines import Line2D

        shown = self.classes[:LEGEND_MAX]
        handles = [
            Line2D([], [], marker="o", linestyle="", color=c, label=folded(n), markersize=6)
            for n, c in shown
        ]
        if len(shown) < len(self.classes):
            rest = f"and {len(self.classes) - len(shown):,} more"
            handles.append(Line2D([], [], linestyle="", label=rest))
        lines = sum(1 + str(handle.get_label()).count("\n") for handle in handles)
        options = {
            "title": None if self.name is None else folded(self.name),
            "frameon": False,
            "ncols": -(-lines // LEGEND_ROWS),
            "handletextpad": 0.1,
            "labelcolor": INK,
            "alignment": "left",
            "fontsize": "medium" if len(handles) <= len(CLASS_COLOURS) else SMALL,
        }
        if len(axes) == 1:
            right = 1.15 if axes[0].name == "3d" else 1  # beside the numbers of the third axis
            legend = axes[0].legend(
                handles=handles, loc="upper left", bbox_to_anchor=(right, 1), **options
            )
        else:
            legend = figure.legend(handles=handles, loc="outside right upper", **options)
        legend.get_title().set_color(INK)


def folded(name: str, width: int = NAME_WIDTH) -> str:
    """A name in lines of at most ``width`` letters; what matplotlib would set as formulas as is."""
    lines = textwrap.wrap(name.replace("$", r"\$"), width, max_lines=NAME_LINES, placeholder=" …")
    return "\n".join(lines)


def colours_of(
    n: int, labels: Any, values: Any, label_name: str | None, value_name: str | None
) -> Colours:
    """Colours of n points by class, by value, or one for all."""
    if labels is not None and values is not None:
        raise ValueError("labels and values are both given, but a point has one colour: choose one")
    mpl = matplotlib()
    to_rgba = mpl.colors.to_rgba
    if labels is not None:
        names, row = _classes(one_each(labels, n, "labels"))
        if len(names) <= len(CLASS_COLOURS):
            palette = np.array([to_rgba(c) for c in CLASS_COLOURS[: len(names)]])
        else:
            palette = mpl.colormaps[COLOUR_MAP](np.linspace(0, 1, len(names)))
        classes = list(zip(names, palette, strict=True))
        return Colours(palette[row], classes, row, None, (0, 1), label_name)
    if values is not None:
        numbers = one_each(values, n, "values")
        try:
            numbers = numbers.astype(float)
        except (TypeError, ValueError) as error:
            raise ValueError(f"values must be numbers ({error}); classes go to labels") from error
        known = np.isfinite(numbers)
        if not known.any():
            raise ValueError(f"values: none of the {n} is finite; leave values out")
        low, high = float(numbers[known].min()), float(numbers[known].max())
        scaled = (np.where(known, numbers, low) - low) / ((high - low) or 1.0)
        rgba = mpl.colormaps[COLOUR_MAP](scaled)
        rgba[~known] = to_rgba(MISSING_COLOUR)
        return Colours(rgba, [], None, numbers, (low, high), value_name)
    return Colours(np.tile(to_rgba(CLASS_COLOURS[0]), (n, 1)), [], None, None, (0, 1), None)


def _classes(labels: NDArray[Any]) -> tuple[list[str], NDArray[np.intp]]:
    """Names of the classes in order, and each point's class."""
    if labels.dtype == object:  # mixed types and None have no order
        labels = labels.astype(str)
    unique, row = np.unique(labels, return_inverse=True)
    as_text = (lambda v: f"{v:g}") if unique.dtype.kind == "f" else str
    return [as_text(v) for v in unique], row
