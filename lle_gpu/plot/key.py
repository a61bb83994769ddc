"""The key to the colours: a legend or a colour bar, that leaves the picture its room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

import numpy as np

from lle_gpu.plot.canvas import (
    INK,
    LETTER,
    LINE,
    MUTED,
    NAME_WIDTH,
    SMALL,
    escaped,
    folded,
    height_of,
    settle,
    width_of,
)
from lle_gpu.plot.colours import CLASS_COLOURS, COLOUR_MAP, LEGEND_MAX, Colours, Entry

__all__ = ["date_ticks", "draw_key", "draw_shared_key", "shortened"]

MEDIUM = 10  # points; of the letters where there are few classes
# A legend beside the axes is at most so wide, of their width before it is there.
SHARE = 0.4
# In units of the letters' size: between rows, and of a column all but its letters.
BETWEEN, BESIDE = 0.3, 3.0
FEWEST_LETTERS = 8
PADDING = 12  # points; of the whole legend


@dataclass(frozen=True)
class _Form:
    """How a legend is set: its letters' size, its columns, its title and what the rows say."""

    size: float
    columns: int
    title: str | None
    rows: list[tuple[Entry, str]]


def draw_key(colours: Colours, ax: Any) -> None:
    """Draw a legend or a colour bar to the right of the axes; nothing for a single colour."""
    if colours.values is not None:
        _draw_bar(colours, ax.figure, [ax])
    if not colours.classes:
        return
    settle(ax)
    right = 1.15 if ax.name == "3d" else 1  # beside the numbers of the third axis
    room = SHARE * width_of(ax)
    if ax.figure.figure.get_layout_engine() is None:  # nothing makes room: it is what there is
        end = ax.transAxes.transform((right, 1))[0]
        room = (ax.figure.figure.bbox.x1 - end) * 72 / ax.figure.dpi
    form = _column(colours, room, height_of(ax)) or _beside(colours, room, height_of(ax))
    _draw_legend(colours, form, ax, loc="upper left", bbox_to_anchor=(right, 1))


def draw_shared_key(colours: Colours, figure: Any, axes: Sequence[Any]) -> None:
    """Draw the key to axes side by side; the figure grows by what a legend takes.

    One column stands to the right of them, more lie below.
    """
    if colours.values is not None:
        _draw_bar(colours, figure, axes)
    if not colours.classes:
        return
    width, height = figure.get_size_inches()
    form = _column(colours, (NAME_WIDTH + BESIDE) * MEDIUM, 0.8 * height * 72)
    if form is not None:
        legend = _draw_legend(colours, form, figure, loc="outside right upper")
        figure.set_size_inches(width + _inches(legend)[0], height)
    else:
        form = _below(colours, width * 72)
        legend = _draw_legend(colours, form, figure, loc="outside lower left")
        figure.set_size_inches(width, height + _inches(legend)[1])


def date_ticks(axis: Any) -> None:
    """Ticks at round dates along an axis of matplotlib's numbers of dates."""
    import matplotlib.dates

    dates: Any = matplotlib.dates  # which has no types
    locator = dates.AutoDateLocator()
    axis.set_major_locator(locator)
    axis.set_major_formatter(dates.ConciseDateFormatter(locator))


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Names of at most ``width`` letters, cut where most of them stay different.

    At the end, or else in the middle, at the beginning, or before and behind what tells them apart.
    """
    long = [name for name in names if len(name) > width]
    alike = len(commonprefix(long))  # noqa: RUF071  of letters, not of a path's parts
    cuts = [
        [_cut(name, width, head, width - 1 - head) for name in names]
        for head in (width - 1, width // 2, 0)
    ]
    cuts.append(
        [_cut("…" + n[alike:], width, width - 1, 0) if len(n) > width else n for n in names]
    )
    return max(cuts, key=lambda cut: len(set(cut)))


def _cut(name: str, width: int, head: int, tail: int) -> str:
    """So many of the first and the last letters of a name, if it has more than ``width``."""
    return name if len(name) <= width else f"{name[:head]}…{name[len(name) - tail :]}"


def _draw_bar(colours: Colours, figure: Any, axes: Sequence[Any]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    assert colours.values is not None
    pad = 0.1 if axes[0].name == "3d" else 0.02
    bar = figure.colorbar(
        ScalarMappable(Normalize(*colours.bounds), COLOUR_MAP), ax=axes, aspect=30, pad=pad
    )
    missing = "" if np.isfinite(colours.values).all() else " (grey: missing)"
    bar.set_label(folded(colours.name or "value", 40) + missing, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, length=2, labelsize=SMALL)
    bar.ax.yaxis.get_offset_text().set(size=SMALL, color=MUTED)
    if colours.dates:
        date_ticks(bar.ax.yaxis)
    if colours.bounds[0] == colours.bounds[1]:
        bar.set_ticks([colours.bounds[0]])


def _column(colours: Colours, width: float, height: float) -> _Form | None:
    """One column of all classes' names, folded, in so many points; None if they are too many."""
    if len(colours.classes) > LEGEND_MAX:
        return None
    for size in (MEDIUM, SMALL) if len(colours.classes) <= len(CLASS_COLOURS) else (SMALL,):
        letters = int((width - PADDING) / (size * LETTER) - BESIDE / LETTER)
        if letters < FEWEST_LETTERS:
            continue
        letters = min(NAME_WIDTH, letters)
        names = [folded(entry.name, letters) for entry in colours.classes]
        title = None if colours.name is None else folded(colours.name, letters)
        lines = sum(1 + name.count("\n") for name in [*names, *([title] if title else [])])
        if size * (lines * LINE + len(names) * BETWEEN) + PADDING <= height:
            return _Form(size, 1, title, list(zip(colours.classes, names, strict=True)))
    return None


def _beside(colours: Colours, width: float, height: float) -> _Form:
    """Names of a line each, in as few columns as do for so many points, or as fit."""
    title = None if colours.name is None else folded(colours.name)
    lines = 0 if title is None else 1 + title.count("\n")
    rows = max(3, int((height - PADDING) / SMALL / (LINE + BETWEEN)) - lines)
    most = max(1, int((width - PADDING) / SMALL / (FEWEST_LETTERS * LETTER + BESIDE)))
    entries = _listed(colours, rows * most)
    columns = -(-len(entries) // rows)
    letters = int(((width - PADDING) / columns / SMALL - BESIDE) / LETTER)
    return _form(colours, entries, columns, letters)


def _below(colours: Colours, width: float) -> _Form:
    """Names of a line each, in as many columns as so many points are wide enough for."""
    entries = _listed(colours, 2 * LEGEND_MAX)
    letters = min(NAME_WIDTH, max(len(entry.name) for entry in entries))
    columns = int((width - PADDING) / SMALL / (letters * LETTER + BESIDE))
    return _form(colours, entries, max(1, min(columns, len(entries))), letters)


def _form(colours: Colours, entries: Sequence[Entry], columns: int, letters: int) -> _Form:
    letters = max(FEWEST_LETTERS, min(NAME_WIDTH, letters))
    names = shortened([entry.name for entry in entries], letters)
    title = None if colours.name is None else folded(colours.name, max(letters * columns, 12))
    return _Form(
        SMALL, columns, title, [(e, escaped(n)) for e, n in zip(entries, names, strict=True)]
    )


def _listed(colours: Colours, capacity: int) -> list[Entry]:
    """The classes that a legend of so many entries names, how many more there are, the missing."""
    named, missing = colours.classes[: colours.n_classes], colours.classes[colours.n_classes :]
    capacity -= len(missing)
    if len(named) <= min(LEGEND_MAX, capacity):
        return list(colours.classes)
    shown = min(LEGEND_MAX, capacity - 1)
    return [*named[:shown], Entry(f"and {len(named) - shown:,} more", None, ""), *missing]


def _draw_legend(colours: Colours, form: _Form, where: Any, **place: Any) -> Any:
    """Draw a legend into axes or a figure."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=entry.shape, linestyle="", color=entry.colour, markersize=6)
        for entry, _ in form.rows
    ]
    legend = where.legend(
        handles,
        [text for _, text in form.rows],
        title=form.title,
        ncols=form.columns,
        fontsize=form.size,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1,
        labelspacing=BETWEEN,
        labelcolor=INK,
        alignment="left",
        **place,
    )
    legend.get_title().set(color=INK, fontsize=form.size)
    return legend


def _inches(artist: Any) -> tuple[float, float]:
    box = artist.get_window_extent()
    dpi = artist.figure.dpi
    return box.width / dpi, box.height / dpi
