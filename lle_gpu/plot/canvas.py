"""Figures, and what frames a picture: title, remarks, spines, legends. The door to matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

__all__ = [
    "FAINT",
    "INK",
    "MUTED",
    "WARNING",
    "caption",
    "escaped",
    "figure_axes",
    "fold",
    "folded",
    "furnish",
    "height_of",
    "legend_below",
    "matplotlib",
    "new_figure",
    "settle",
    "width_of",
]

INK, MUTED = "#404040", "#767676"  # of at least 4.5 : 1 on white, as WCAG 2.1 wants for text
FAINT = "#b0b0b0"
WARNING = "#bd1f01"
SMALL = 8  # points; of remarks, ticks and legends' entries below a picture
# Width of DejaVu Sans's letters, of its font size, on average and with some to spare.
LETTER, BOLD_LETTER = 0.56, 0.68
# Longer names of classes are folded, and cut where even so many lines do not do.
NAME_WIDTH, NAME_LINES = 24, 3
LINE = 1.25  # from one line to the next, of the font size
TITLE_SIZE = 11


def matplotlib() -> Any:
    """Import matplotlib.

    Raises
    ------
    ImportError
        If it is not there, naming the extra that brings it.
    """
    try:
        import matplotlib
        import matplotlib.colors
    except ImportError as error:
        raise ImportError(
            f"pictures need matplotlib ({error}): pip install 'lle-gpu[plot]'"
        ) from error
    return matplotlib


def new_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """A figure of so many inches, which pyplot knows nothing of."""
    matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def figure_axes(width: float, height: float, dimensions: int = 2) -> Any:
    """The axes of a new figure, for pictures of two or three dimensions."""
    matplotlib()
    if dimensions == 2:
        return new_figure(width, height).subplots()
    import mpl_toolkits.mplot3d  # noqa: F401  registers the projection

    # Layouts cannot measure such axes: the room for title and key is left by hand.
    figure = new_figure(width, height, layout="none")
    figure.subplots_adjust(left=0, right=0.82, bottom=0.02, top=0.9)
    return figure.add_subplot(projection="3d")


def furnish(ax: Any) -> None:
    """The quiet parts: spines and ticks."""
    ax.tick_params(colors=MUTED, length=2, labelsize=SMALL)
    for axis in (ax.xaxis, ax.yaxis, *([ax.zaxis] if ax.name == "3d" else [])):
        axis.label.set_color(INK)
        axis.get_offset_text().set(size=SMALL, color=MUTED)
    if ax.name == "3d":
        ax.locator_params(nbins=5)
        ax.zaxis.labelpad = 8
        return
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    # A factor common to all ticks stands over them, not where the remarks begin.
    ax.yaxis.get_offset_text().set_horizontalalignment("right")


def caption(ax: Any, title: str | None, remarks: Sequence[str], *, colour: str = INK) -> None:
    """Write the title, and under it, smaller, what else must be said about the picture."""
    settle(ax)
    lines = [line for remark in remarks for line in fold(ax, remark, SMALL * LETTER)]
    if lines:
        ax.annotate(
            "\n".join(lines),
            (0, 1),
            xycoords="axes fraction",
            xytext=(0, 4),
            textcoords="offset points",
            ha="left",
            va="bottom",
            fontsize=SMALL,
            linespacing=LINE,
            color=INK,
            annotation_clip=False,
            parse_math=False,
        )
    if title:
        ax.set_title(
            "\n".join(fold(ax, title, TITLE_SIZE * BOLD_LETTER)),
            loc="left",
            fontsize=TITLE_SIZE,
            fontweight="bold",
            color=colour,
            pad=6 + len(lines) * SMALL * LINE * 1.2,
            parse_math=False,
        )


def settle(ax: Any) -> None:
    """Let the figure's layout move the axes to where they will be, so that they can be measured."""
    figure = ax.figure.figure  # of a subfigure, too
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    ax.apply_aspect()


def width_of(ax: Any) -> float:
    """The width of the axes, in points (1/72 inch)."""
    return float(ax.get_window_extent().width * 72 / ax.figure.dpi)


def height_of(ax: Any) -> float:
    """The height of the axes, in points."""
    return float(ax.get_window_extent().height * 72 / ax.figure.dpi)


def escaped(text: str) -> str:
    """Text that is no formula where ``parse_math=False`` cannot be said."""
    return text.replace("$", r"\$")


def folded(name: str, width: int = NAME_WIDTH) -> str:
    """A name in a few lines of at most ``width`` letters, and no formulas."""
    lines = textwrap.wrap(escaped(name), width, max_lines=NAME_LINES, placeholder=" …")
    return "\n".join(lines)


def fold(ax: Any, text: str, letter: float) -> list[str]:
    """Lines of text as long as the axes are wide, for letters of so many points."""
    return textwrap.wrap(text, max(12, int(width_of(ax) / letter))) or [""]


def legend_below(ax: Any, handles: Sequence[Any]) -> Any:
    """Draw a legend below the axes; one that is there, of the classes, stays."""
    from matplotlib.legend import Legend
    from matplotlib.transforms import ScaledTranslation

    labels = [handle.get_label() for handle in handles]
    column = (max(map(len, labels)) + 6) * SMALL * LETTER
    legend = Legend(
        ax,
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes
        + ScaledTranslation(0, -32 / 72, ax.figure.dpi_scale_trans),  # below ticks and label
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        ncols=max(1, min(len(handles), int(width_of(ax) / column))),
        borderpad=0,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.5,
    )
    ax.add_artist(legend)
    legend.set_clip_on(False)
    return legend
