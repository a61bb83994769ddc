"""Colours, and where they do not do shapes, by class or by value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.kinds import which_missing
from lle_gpu.plot.canvas import matplotlib
from lle_gpu.plot.checks import one_each
from lle_gpu.plot.classes import classes_of

__all__ = [
    "CLASS_COLOURS",
    "COLOUR_MAP",
    "LEGEND_MAX",
    "MISSING_COLOUR",
    "SHAPES",
    "Colours",
    "Entry",
    "colours_of",
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
# More classes take the ten colours again, with the next shape.
SHAPES = ("o", "^", "s", "X")
LEGEND_MAX = len(CLASS_COLOURS) * len(SHAPES)
COLOUR_MAP = "viridis"
MISSING_COLOUR = "#c8c8c8"
# Its grey is near the tenth colour to eyes without red: the shape tells them apart.
MISSING_NAME, MISSING_SHAPE = "missing", "P"


@dataclass(frozen=True)
class Entry:
    """What a key says of one class."""

    name: str
    colour: Any  # RGBA
    shape: str = SHAPES[0]


@dataclass(frozen=True)
class Colours:
    """A colour for each point, and what a key needs to explain them."""

    rgba: Float  # (n, 4)
    name: str | None = None  # of the classes or the values
    classes: tuple[Entry, ...] = ()  # if coloured by class; the last may be for the missing ones
    row: NDArray[np.intp] | None = None  # each point's class, counted from 0
    n_classes: int = 0  # without the missing ones
    values: Float | None = None  # if coloured by value
    bounds: tuple[float, float] = (0.0, 1.0)  # of the colour map
    dates: bool = False  # whether the values are matplotlib's numbers of dates

    @property
    def shapes(self) -> NDArray[np.str_] | None:
        """Each point's shape; None if all have the first, which most pictures have."""
        used = np.array([entry.shape for entry in self.classes])
        return None if self.row is None or (used == SHAPES[0]).all() else used[self.row]

    @property
    def shaped(self) -> bool:
        """Whether classes differ by shape: those that are not missing."""
        return any(entry.shape != SHAPES[0] for entry in self.classes[: self.n_classes])

    def without_shapes(self) -> Colours:
        """The same in one colour map, for what draws no shapes: a colour is to mean one class."""
        if self.row is None or not self.shaped:
            return self
        looks = _looks(self.n_classes, shaped=False)
        classes = tuple(
            replace(entry, colour=colour, shape=shape)
            for entry, (colour, shape) in zip(self.classes, looks, strict=False)
        )
        classes += self.classes[self.n_classes :]
        palette = np.array([entry.colour for entry in classes])
        return replace(self, classes=classes, rgba=palette[self.row])


def colours_of(
    n: int, labels: Any, values: Any, label_name: str | None, value_name: str | None
) -> Colours:
    """Colours of n points by class, by value, or one for all."""
    if labels is not None and values is not None:
        raise ValueError("labels and values are both given, but a point has one colour: choose one")
    if labels is not None:
        return _by_class(*classes_of(labels, n), label_name)
    if values is not None:
        return _by_value(one_each(values, n, "values"), value_name)
    return Colours(np.tile(matplotlib().colors.to_rgba(CLASS_COLOURS[0]), (n, 1)))


def _by_class(names: list[str], row: NDArray[np.intp], name: str | None) -> Colours:
    looks = _looks(len(names), shaped=len(names) <= LEGEND_MAX)
    classes = [Entry(n, *look) for n, look in zip(names, looks, strict=True)]
    if (row < 0).any():
        row = np.where(row < 0, len(names), row)
        classes.append(
            Entry(MISSING_NAME, matplotlib().colors.to_rgba(MISSING_COLOUR), MISSING_SHAPE)
        )
    palette = np.array([entry.colour for entry in classes])
    return Colours(palette[row], name, tuple(classes), row, len(names))


def _looks(count: int, *, shaped: bool) -> list[tuple[Any, str]]:
    """Colour and shape of so many classes: ten colours, shape by shape, or one colour map."""
    mpl = matplotlib()
    ten = len(CLASS_COLOURS)
    if count > ten and not shaped:
        return [(c, SHAPES[0]) for c in mpl.colormaps[COLOUR_MAP](np.linspace(0, 1, count))]
    return [(mpl.colors.to_rgba(CLASS_COLOURS[c % ten]), SHAPES[c // ten]) for c in range(count)]


def _by_value(values: NDArray[Any], name: str | None) -> Colours:
    mpl = matplotlib()
    numbers, dates = _numbers(values)
    known = np.isfinite(numbers)
    if not known.any():
        raise ValueError(f"values: none of the {len(values)} is finite; leave values out")
    low, high = float(numbers[known].min()), float(numbers[known].max())
    scaled = (np.where(known, numbers, low) - low) / ((high - low) or 1.0)
    rgba = mpl.colormaps[COLOUR_MAP](scaled)
    rgba[~known] = mpl.colors.to_rgba(MISSING_COLOUR)
    return Colours(rgba, name, values=numbers, bounds=(low, high), dates=dates)


def _numbers(values: NDArray[Any]) -> tuple[Float, bool]:
    """Values as numbers, NaN where they are missing, and whether they were dates."""
    if values.dtype.kind == "m":
        raise ValueError("values are durations: divide them by one, as np.timedelta64(1, 'h')")
    known = ~which_missing(values)
    numbers = np.full(len(values), np.nan)
    first = values[known][:1].tolist() if values.dtype == object else []
    dates = values.dtype.kind == "M" or any(hasattr(value, "isoformat") for value in first)
    try:
        if dates:
            import matplotlib.dates

            calendar: Any = matplotlib.dates  # which has no types
            numbers[known] = calendar.date2num(values[known])
        else:
            numbers[known] = values[known].astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"values must be numbers or dates ({error}); classes go to labels"
        ) from error
    return numbers, dates
