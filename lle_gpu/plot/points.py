"""The points of an embedding, drawn: each as a marker, or, where they are too many, by datashader.

A marker has an area however many there are, so a million of them hide one another and show what
was drawn last. datashader [1]_ counts the points in each pixel and colours the counts.

.. [1] https://datashader.org
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.plot.canvas import matplotlib, settle
from lle_gpu.plot.colours import COLOUR_MAP, LEGEND_MAX, MISSING_COLOUR, Colours

__all__ = ["MANY", "RENDERERS", "Drawing", "choose_drawing", "draw_markers", "draw_shaded"]

Float = NDArray[np.float64]
RENDERERS = ("auto", "markers", "datashader")
# Markers that are drawn at most, unless more are asked for.
MANY = 200_000
RASTERIZED = 5000  # from here on, in PDF and SVG
# Markers of several shapes are larger by SHAPED, and have none below an area (points^2).
SHAPED, LEAST_SHAPED = 1.5, 6
# Opacity, of 255, of a pixel with one point, and pixels that lonely points may grow by.
FAINTEST, GROWTH = 60, 2


@dataclass(frozen=True)
class Drawing:
    """How points are drawn."""

    renderer: str  # "markers" or "datashader"
    order: NDArray[np.intp]  # which points, one after the other
    colours: Colours
    area: float  # of a marker, in points^2
    said: list[str]  # what the picture has to say about it


def choose_drawing(
    renderer: str, colours: Colours, *, dimensions: int = 2, size: float | None = None
) -> Drawing:
    """Choose how points are drawn: by what, which of them in which order, with shapes or without.

    Raises
    ------
    ImportError
        For "datashader", if it is not there.
    ValueError
        For a name that is not one of ``RENDERERS``, and for "datashader" in three dimensions or
        with more classes than a legend shows.
    """
    n, k = len(colours.rgba), colours.n_classes
    renderer, order, said = _choose_renderer(renderer, n, colours, dimensions)
    shaped = colours.shaped
    area = float(np.clip(420 * (SHAPED if shaped else 1) / np.sqrt(len(order)), 0.4, 36))
    area = area if size is None else size
    reasons = {
        f"{LEGEND_MAX} are the most that are told apart": k > LEGEND_MAX,
        "a picture of counts has no shapes": shaped and renderer == "datashader",
        "markers so small have no shapes": shaped and area < LEAST_SHAPED,
    }
    why = next((reason for reason, holds in reasons.items() if holds), None)
    if why is not None:
        colours = colours.without_shapes()
        said = [*said, f"{k:,} classes share one scale of colours: {why}"]
    return Drawing(renderer, order, colours, area, said)


def _choose_renderer(
    renderer: str, n: int, colours: Colours, dimensions: int
) -> tuple[str, NDArray[np.intp], list[str]]:
    """By what points are drawn, which of them in which order, and what has to be said about it."""
    if renderer not in RENDERERS:
        raise ValueError(f"renderer={renderer!r} must be one of {', '.join(map(repr, RENDERERS))}")
    too_much = {
        "three coordinates": dimensions == 3,
        f"more than {LEGEND_MAX} classes": colours.n_classes > LEGEND_MAX,
    }
    obstacle = next((what for what, holds in too_much.items() if holds), None)
    advice = ""
    if renderer == "datashader" and obstacle:
        raise ValueError(f"renderer='datashader' cannot draw {obstacle}: use 'markers' or 'auto'")
    if renderer == "datashader" or (renderer == "auto" and n > MANY and not obstacle):
        try:
            _datashader()
        except ImportError as error:
            if renderer == "datashader":
                raise
            advice = f"; {str(error).rpartition(': ')[2]} draws all"
        else:
            how = "mean value" if colours.values is not None else "the darker, the more"
            if colours.classes:
                how = "classes mixed, the stronger, the more"
            return "datashader", np.arange(n), [f"all {n:,} points, by pixel: {how} (datashader)"]
    # One draw order for all: class after class would hide the early ones.
    order = np.random.default_rng(0).permutation(n)
    if renderer == "markers" or n <= MANY:
        return "markers", order, []
    return "markers", order[:MANY], [f"{MANY:,} of {n:,} points, drawn at random{advice}"]


def draw_markers(
    ax: Any, points: Float, drawing: Drawing, order: NDArray[np.intp], alpha: float | None
) -> None:
    """Draw a marker for each of ``order``'s points (n, 2 or 3): the paler, the more there are."""
    n = len(order)
    style: dict[str, Any] = {
        "s": drawing.area,
        "alpha": float(np.clip(2.2 * n**-0.15, 0.2, 0.9)) if alpha is None else alpha,
        "linewidths": 0,
        "rasterized": n > RASTERIZED,
    }
    rgba, shapes = drawing.colours.rgba, drawing.colours.shapes
    if shapes is None:
        ax.scatter(*points[order].T, c=rgba[order], **style)
    elif ax.name == "3d":  # whose markers are sorted by depth, all but their shapes
        for shape in np.unique(shapes[order]):
            some = order[shapes[order] == shape]
            ax.scatter(*points[some].T, c=rgba[some], marker=shape, **style)
    else:
        # One collection, whose paths are drawn in turn: so no shape lies above the others.
        from matplotlib.markers import MarkerStyle

        names, which = np.unique(shapes[order], return_inverse=True)
        outlines = np.empty(len(names), dtype=object)
        for i, marker in enumerate(map(MarkerStyle, names)):
            outlines[i] = marker.get_path().transformed(marker.get_transform())
        ax.scatter(*points[order].T, c=rgba[order], **style).set_paths(list(outlines[which]))


def draw_shaded(ax: Any, points: Float, colours: Colours) -> None:
    """Draw the points (n, 2) as datashader's image of the axes as they are now."""
    datashader, transfer, pandas = _datashader()
    settle(ax)  # a layout moves the axes: settle it before counting pixels
    x_range, y_range = ax.get_xlim(), ax.get_ylim()
    box = ax.get_window_extent()
    canvas = datashader.Canvas(
        plot_width=max(1, round(box.width)),
        plot_height=max(1, round(box.height)),
        x_range=x_range,
        y_range=y_range,
    )
    frame = pandas.DataFrame(points, columns=["x", "y"])
    to_hex = matplotlib().colors.to_hex
    if colours.row is not None:
        names = [str(c) for c in range(len(colours.classes))]
        frame["class"] = pandas.Categorical.from_codes(colours.row, names)
        counts = canvas.points(frame, "x", "y", datashader.count_cat("class"))
        palette = {
            name: to_hex(entry.colour) for name, entry in zip(names, colours.classes, strict=True)
        }
        layers = [transfer.shade(counts, color_key=palette, how="eq_hist", min_alpha=FAINTEST)]
    elif colours.values is not None:
        frame["value"] = colours.values
        missing = frame[~np.isfinite(colours.values)]
        colour_map = matplotlib().colormaps[COLOUR_MAP]
        layers = [
            transfer.shade(
                canvas.points(missing, "x", "y", datashader.count()), cmap=[MISSING_COLOUR]
            ),
            transfer.shade(
                canvas.points(frame.drop(missing.index), "x", "y", datashader.mean("value")),
                cmap=[to_hex(colour_map(i)) for i in range(colour_map.N)],
                how="linear",
                span=_widened(colours.bounds),
            ),
        ]
    else:
        counts = canvas.points(frame, "x", "y", datashader.count())
        colour = to_hex(colours.rgba[0])
        # A colour, not a list of one: so its opacity tells the counts.
        layers = [transfer.shade(counts, cmap=colour, how="eq_hist", min_alpha=FAINTEST)]
    layers = [transfer.dynspread(layer, max_px=GROWTH) for layer in layers]
    picture = np.asarray(transfer.stack(*layers).to_pil())  # its first row is the top
    # The limits stay: as long as the axes' size does, a pixel of it is one of the picture's.
    ax.set_aspect(ax.get_aspect(), adjustable="box")
    ax.imshow(picture, extent=(*x_range, *y_range), aspect=ax.get_aspect(), zorder=1)
    ax.set_xlim(x_range)
    ax.set_ylim(y_range)


def _widened(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    return (low, high) if low < high else (low, low + 1.0)


def _datashader() -> tuple[Any, Any, Any]:
    try:
        import datashader
        import datashader.transfer_functions
        import pandas
    except ImportError as error:
        raise ImportError(
            f"renderer='datashader' needs datashader ({error}): pip install 'lle-gpu[datashader]'"
        ) from error
    return datashader, datashader.transfer_functions, pandas
