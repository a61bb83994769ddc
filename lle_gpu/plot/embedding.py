"""Embeddings: one, by class or by value, or several side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lle_gpu.plot.canvas import (
    BOLD_LETTER,
    INK,
    NAME_WIDTH,
    caption,
    escaped,
    figure_axes,
    folded,
    furnish,
    new_figure,
)
from lle_gpu.plot.checks import as_embedding, as_images
from lle_gpu.plot.colours import CLASS_COLOURS, LEGEND_MAX, Colours, colours_of
from lle_gpu.plot.key import date_ticks, draw_key, draw_shared_key, shortened
from lle_gpu.plot.overlays import draw_names, draw_thumbnails
from lle_gpu.plot.points import choose_drawing, draw_markers, draw_shaded

__all__ = ["compare_methods", "draw", "plot_embedding"]

Float = NDArray[np.float64]
# Where CROWDED of the points lie within DOT of each axis (either way from the median), the picture
# shows a few outliers and one dot, and says so. So it does where FEW_DOTS dots or fewer, half as
# large again, hold that share: weakly connected groups, and hardly anything between. A dot stands
# for POINTS_OF_A_DOT points at least: else it is just a picture of few points.
CROWDED, DOT = 0.9, 0.01
FEW_DOTS, POINTS_OF_A_DOT = 10, 50
# Coordinates have one scale, unless one extends over more than so many times the other.
STRIP = 4
MARGIN = 0.03
# More rows than these, of one coordinate, have names of one line each.
FOLDED_ROWS = 8
FIGURE_TITLE = 12  # points


def plot_embedding(
    Y: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    values: ArrayLike | None = None,
    images: ArrayLike | None = None,
    title: str | None = None,
    label_name: str | None = None,
    value_name: str | None = None,
    coordinates: Sequence[int] = (0, 1),
    span: float = 1.0,
    n_images: int = 60,
    size: float | None = None,
    alpha: float | None = None,
    key: bool = True,
    renderer: str = "auto",
    ax: Any = None,
) -> Any:
    """Draw an embedding: two or three of its coordinates, coloured by class or by value.

    An embedding of one coordinate is drawn against the values, or in a row for each class. Two
    coordinates have the same scale, as both are vectors of unit norm; where that would make a strip
    of the picture, they have not, and it says so.

    Parameters
    ----------
    Y : array-like of shape (n, n_components)
        Of any kind that a fit gives back.
    labels : array-like of shape (n,), default=None
        A class for each point. Ten have a colour-blind-safe colour each; up to forty take these
        again with the next of four shapes, and are named where they lie, as far as there is room.
        More, and shapes that cannot be seen (small markers, datashader), share a perceptual colour
        map, and the picture says so. Classes are sorted, as numbers where all are, also as text,
        or by the numbers in the text; a pandas categorical keeps its own order, and all of its
        categories. Missing ones are grey and come last.
    values : array-like of shape (n,), default=None
        A number or a date (with a time zone: shown in UTC) for each point, shown by a perceptual
        colour map; grey where it is missing or not finite.
    images : array-like of shape (n, height, width), default=None
        Thumbnails, in grey; drawn for points that lie well apart in the picture.
    title, label_name, value_name : str, default=None
        Titles of the picture, the legend and the colour bar.
    coordinates : two or three of int, default=(0, 1)
        Which coordinates to draw, counted from 0. Three make a picture in three dimensions.
    span : float, default=1.0
        Share of the points, for each axis, that the picture reaches over. 1 shows all of them;
        0.98 leaves out the outermost hundredth on each side, and the picture says how many.
    n_images : int, default=60
        At most so many thumbnails.
    size, alpha : float, default=None
        Area (points^2) and opacity of a marker; None chooses by n.
    key : bool, default=True
        Whether to draw the legend or the colour bar.
    renderer : {"auto", "markers", "datashader"}, default="auto"
        A marker for each point, or datashader's image of how many there are in each pixel of the
        axes, as large as they are now (extra ``[datashader]``). "auto" draws markers up to 200,000
        points, and beyond that datashader's image, or, where there is none (without datashader, in
        three dimensions, or with more than forty classes), markers of 200,000 points taken at
        random. The picture says so.
    ax : matplotlib Axes, default=None
        Where to draw, for three coordinates with ``projection="3d"``; None makes a figure, which is
        the result's ``.figure``. A legend lies to the right of the axes: give them a figure with a
        layout (``layout="constrained"``), or leave room there.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without matplotlib, or without datashader if ``renderer`` asks for it.
    ValueError
        For arrays that do not fit, both ``labels`` and ``values``, durations or text as ``values``,
        a ``span`` outside (0, 1], or what cannot be drawn in three dimensions.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> from lle_gpu.plot import plot_embedding
    >>> X, y = load_digits(return_X_y=True)
    >>> Y = LocallyLinearEmbedding(n_neighbors=30, method="ltsa").fit_transform(X)
    >>> ax = plot_embedding(Y, labels=y, images=X.reshape(-1, 8, 8))
    >>> ax.get_xlabel()
    'coordinate 1'
    """
    ax, _ = draw(
        as_embedding(Y, "Y"),
        labels=labels,
        values=values,
        images=images,
        title=title,
        label_name=label_name,
        value_name=value_name,
        coordinates=coordinates,
        span=span,
        n_images=n_images,
        size=size,
        alpha=alpha,
        key=key,
        renderer=renderer,
        ax=ax,
    )
    return ax


def draw(
    Y: Float,
    *,
    labels: Any,
    values: Any,
    images: Any = None,
    title: str | None,
    label_name: str | None,
    value_name: str | None,
    coordinates: Sequence[int],
    span: float,
    n_images: int = 60,
    size: float | None = None,
    alpha: float | None = None,
    key: bool = True,
    renderer: str,
    ax: Any,
    remarks: Sequence[str] = (),
) -> tuple[Any, Float]:
    """Draw an embedding (n, q), with remarks beside its own; the axes, and the points in them."""
    if not 0 < span <= 1:
        raise ValueError(f"span={span} must be greater than 0 and at most 1")
    shown = _coordinates(coordinates, Y.shape[1])
    colours = colours_of(len(Y), labels, values, label_name, value_name)
    pictures = None if images is None else as_images(images, len(Y))
    if pictures is not None and len(shown) == 3:
        raise ValueError("images cannot be drawn in three dimensions: give two coordinates")
    drawing = choose_drawing(renderer, colours, dimensions=len(shown), size=size)
    colours = drawing.colours
    if ax is None:
        ax = figure_axes(8, 6, max(2, len(shown)))
    if (ax.name == "3d") != (len(shown) == 3):
        raise ValueError(
            f"coordinates={tuple(coordinates)} need axes in {max(2, len(shown))} dimensions: "
            "projection='3d' is for three coordinates, and for them alone"
        )

    points = _place(ax, Y, shown, colours)
    furnish(ax)
    inside, unseen = _limit(ax, points, span, comparable=len(shown) > 1)
    if key:
        draw_key(colours, ax)
    caption(ax, title, [*remarks, *drawing.said, *unseen])
    if drawing.renderer == "datashader":
        draw_shaded(ax, points, colours)
    else:
        order = drawing.order
        if len(shown) == 3:  # whose axes do not clip
            order = order[inside[order]]
        draw_markers(ax, points, drawing, order, alpha)
    if pictures is not None:
        draw_thumbnails(ax, points, pictures, colours.rgba, inside, n_images)
    elif key and len(shown) == 2 and len(CLASS_COLOURS) < colours.n_classes <= LEGEND_MAX:
        draw_names(ax, points, colours, inside)
    return ax, points


def compare_methods(
    embeddings: Mapping[str, ArrayLike],
    *,
    labels: ArrayLike | None = None,
    values: ArrayLike | None = None,
    title: str | None = None,
    label_name: str | None = None,
    value_name: str | None = None,
    n_columns: int = 4,
    **options: Any,
) -> Any:
    """Draw embeddings of the same points side by side, in the same colours.

    Parameters
    ----------
    embeddings : mapping of str to array-like of shape (n, n_components)
        Title of each picture, and what it shows.
    labels, values, label_name, value_name
        As in :func:`plot_embedding`; one legend or colour bar serves all pictures. The figure grows
        by the legend: to the right for a few classes, below the pictures for many.
    title : str, default=None
    n_columns : int, default=4
        Pictures in a row.
    **options
        Passed on to :func:`plot_embedding` for every picture.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError, ValueError
        As in :func:`plot_embedding`; ValueError also if the embeddings differ in length.

    Examples
    --------
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> from lle_gpu.datasets import load
    >>> from lle_gpu.plot import compare_methods
    >>> roll = load("swiss-roll", n_samples=500)
    >>> lle = LocallyLinearEmbedding(n_neighbors=12)
    >>> figure = compare_methods(
    ...     {m: lle.set_params(method=m).fit_transform(roll.X) for m in ("standard", "ltsa")},
    ...     values=roll.position,
    ... )
    >>> [ax.get_title(loc="left") for ax in figure.axes[:2]]
    ['standard', 'ltsa']
    """
    arrays = {name: as_embedding(Y, f"embeddings[{name!r}]") for name, Y in embeddings.items()}
    lengths = {name: len(Y) for name, Y in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(
            f"embeddings must be at least one, and of the same points; their lengths are {lengths}"
        )
    colours = colours_of(next(iter(lengths.values())), labels, values, label_name, value_name)
    columns = min(len(arrays), max(1, n_columns))
    rows = -(-len(arrays) // columns)
    figure = new_figure(3.6 * columns + 0.8, 3.4 * rows + (0.3 if title else 0))
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in grid[len(arrays) :]:
        unused.remove()
    axes = list(grid[: len(arrays)])
    drawing = choose_drawing(options.get("renderer", "auto"), colours, size=options.get("size"))
    width = figure.get_figwidth()
    draw_shared_key(drawing.colours, figure, axes)
    if title:
        figure.suptitle(
            textwrap.fill(title, int(72 * width / (FIGURE_TITLE * BOLD_LETTER))),
            x=0.5 * width / figure.get_figwidth(),  # over the panels, not over a legend beside them
            fontsize=FIGURE_TITLE,
            fontweight="bold",
            color=INK,
            parse_math=False,
        )
    for ax, (name, Y) in zip(axes, arrays.items(), strict=True):
        plot_embedding(
            Y,
            labels=labels,
            values=values,
            title=name,
            key=False,
            ax=ax,
            label_name=label_name,
            value_name=value_name,
            **options,
        )
    return figure


def _coordinates(coordinates: Sequence[int], q: int) -> tuple[int, ...]:
    """The coordinates to draw, checked: two or three of q, or the only one there is."""
    if q == 1 and tuple(coordinates) == (0, 1):
        return (0,)
    if len(coordinates) not in (2, 3) or not all(c in range(q) for c in coordinates):
        raise ValueError(
            f"coordinates={tuple(coordinates)} must be two or three numbers from 0 to {q - 1}: "
            f"the embedding has {q}"
        )
    return tuple(int(c) for c in coordinates)


def _place(ax: Any, Y: Float, shown: tuple[int, ...], colours: Colours) -> Float:
    """Choose what the axes show, label them, and return the points there (n, 2 or 3)."""
    q = Y.shape[1]
    if len(shown) > 1:
        of = f" of {q}" if q > 2 else ""
        for axis, c in zip("xyz", shown, strict=False):
            getattr(ax, f"set_{axis}label")(f"coordinate {c + 1}{of}")
        return Y[:, shown]
    ax.set_xlabel("coordinate 1 of 1")
    if colours.values is not None:
        known = np.isfinite(colours.values)
        ax.set_ylabel(folded(colours.name or "value", 40))
        if colours.dates:
            date_ticks(ax.yaxis)
        return np.column_stack([Y[:, 0], np.where(known, colours.values, colours.bounds[0])])
    height = np.random.default_rng(1).uniform(-0.35, 0.35, len(Y))  # to see how many lie together
    if colours.row is not None and colours.n_classes <= LEGEND_MAX:
        names = [entry.name for entry in colours.classes]
        cut = [folded(name) for name in names]
        if len(names) > FOLDED_ROWS:
            cut = [escaped(name) for name in shortened(names, NAME_WIDTH)]
        ax.set_yticks(range(len(names)), cut)
        ax.set_ylabel(folded(colours.name or "class", 40))
        return np.column_stack([Y[:, 0], colours.row + height])
    ax.set_yticks([])
    ax.set_ylabel("scattered at random")
    ax.set_ylim(-1, 1)
    return np.column_stack([Y[:, 0], height])


def _dots(points: Float, low: Float, extent: Float) -> tuple[int, int]:
    """How many dots hold most of the points, and how many points that are; (0, 0): it takes many.

    After the one in the middle, the fullest first: around the mean of the fullest cell of a grid.
    """
    in_a_dot = (np.abs(points - np.median(points, axis=0)) <= DOT * extent).all(axis=1)
    if in_a_dot.mean() >= CROWDED:
        return 1, int(in_a_dot.sum())
    across = int(1 / DOT) + 3  # with what lies outside on either side
    cells = 1 + (points - low) / np.where(extent > 0, DOT * extent, 1.0)
    cells = cells.clip(0, across - 1).astype(int)
    cell = np.ravel_multi_index(tuple(cells.T), (across,) * points.shape[1])
    left = np.arange(len(points))
    for dots in range(1, min(FEW_DOTS, len(points) // POINTS_OF_A_DOT) + 1):
        fullest = np.bincount(cell[left]).argmax()
        centre = points[left[cell[left] == fullest]].mean(axis=0)
        left = left[(np.abs(points[left] - centre) > 1.5 * DOT * extent).any(axis=1)]
        if len(left) <= (1 - CROWDED) * len(points):
            return dots, len(points) - len(left)
    return 0, 0


def _limit(
    ax: Any, points: Float, span: float, *, comparable: bool
) -> tuple[NDArray[np.bool_], list[str]]:
    """Set limits and scales; which points are inside, and what the eye cannot see."""
    low, high = np.quantile(points, [(1 - span) / 2, (1 + span) / 2], axis=0)
    extent = high - low
    margin = MARGIN * np.where(extent > 0, extent, 1.0)
    inside: NDArray[np.bool_] = ((low - margin <= points) & (points <= high + margin)).all(axis=1)
    ax.margins(MARGIN)
    ax.update_datalim(points[:, :2]) if ax.name != "3d" else None
    if span < 1:
        for axis, start, stop in zip("xyz", low - margin, high + margin, strict=False):
            getattr(ax, f"set_{axis}lim")(start, stop)
    remarks = []
    if hidden := int((~inside).sum()):
        remarks.append(f"{hidden:,} of {len(points):,} points lie outside")
    dots, crowd = _dots(points, low, extent)
    if dots:
        where = "one dot" if dots == 1 else f"{dots} dots"
        remarks.append(f"{crowd:,} of {len(points):,} points lie in {where}")
    alike = comparable and extent.max() <= STRIP * extent.min()
    if comparable and not alike:
        remarks.append("the axes have different scales")
    if ax.name == "3d":
        # Smaller than it could be: else the layout cuts its labels.
        ax.set_box_aspect(extent if alike and extent.all() else None, zoom=0.9)
    elif alike:
        # The limits that were asked for stay; others may grow until they fill the axes.
        shared = any(
            len(group.get_siblings(ax)) > 1
            for group in (ax.get_shared_x_axes(), ax.get_shared_y_axes())
        )
        ax.set_aspect("equal", adjustable="box" if span < 1 or shared else "datalim")
    return inside, remarks
