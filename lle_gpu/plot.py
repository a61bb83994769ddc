"""Pictures of embeddings, with matplotlib (extra ``[plot]``).

    from lle_gpu.plot import plot_embedding
    plot_embedding(Y, labels=y, images=digits).figure.savefig("digits.png")

Figures are made without pyplot: no display is needed, and nothing is left in its global state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["compare_methods", "plot_embedding"]

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
IMAGE_POINTS = 18  # height of a thumbnail, in points (1/72 inch)
INK = "#404040"
# When this share of the points lies within this share of each axis (either way from the median),
# the picture shows a few outliers and one dot: it says so.
CROWDED, DOT = 0.9, 0.01


def plot_embedding(
    Y: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    values: ArrayLike | None = None,
    images: ArrayLike | None = None,
    title: str | None = None,
    label_name: str | None = None,
    value_name: str | None = None,
    coordinates: tuple[int, int] = (0, 1),
    span: float = 1.0,
    n_images: int = 60,
    size: float | None = None,
    alpha: float | None = None,
    key: bool = True,
    ax: Any = None,
) -> Any:
    """Draw an embedding: two of its coordinates, coloured by class or by value.

    An embedding of one coordinate is drawn against the values, or in a row for each class.

    Parameters
    ----------
    Y : array-like of shape (n, n_components)
    labels : array-like of shape (n,), default=None
        A class for each point. Up to ten get a colour-blind-safe colour each; more are spread over
        a perceptual colour map.
    values : array-like of shape (n,), default=None
        A number for each point, shown by a perceptual colour map; grey where it is not finite.
    images : array-like of shape (n, height, width), default=None
        Thumbnails, in grey; drawn for points that lie well apart in the picture.
    title, label_name, value_name : str, default=None
        Titles of the picture, the legend and the colour bar.
    coordinates : (int, int), default=(0, 1)
        Which coordinates to draw, counted from 0.
    span : float, default=1.0
        Share of the points, for each axis, that the picture reaches over. 1 shows all of them;
        0.98 leaves out the outermost hundredth on each side, and the picture says how many.
    n_images : int, default=60
        At most so many thumbnails.
    size, alpha : float, default=None
        Area (points^2) and opacity of a marker; None chooses by n.
    key : bool, default=True
        Whether to draw the legend or the colour bar.
    ax : matplotlib Axes, default=None
        Where to draw; None makes a figure, which is the result's ``.figure``.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        For shapes that do not fit, both ``labels`` and ``values``, or a ``span`` outside (0, 1].

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
    Y = _embedding(Y, "Y")
    if not 0 < span <= 1:
        raise ValueError(f"span={span} must be greater than 0 and at most 1")
    colours = _colour(len(Y), labels, values, label_name, value_name)
    pictures = None if images is None else _images(images, len(Y))
    if ax is None:
        ax = _figure(8, 6).subplots()

    points = _plane(ax, Y, coordinates, colours)
    # One draw order for all: class after class would hide the early ones.
    order = np.random.default_rng(0).permutation(len(Y))
    ax.scatter(
        *points[order].T,
        c=colours.rgba[order],
        s=float(np.clip(420 / np.sqrt(len(Y)), 0.4, 36)) if size is None else size,
        alpha=float(np.clip(2.2 * len(Y) ** -0.15, 0.2, 0.9)) if alpha is None else alpha,
        linewidths=0,
        rasterized=len(Y) > 5000,  # in PDF and SVG
    )
    inside = _zoom(ax, points, span)
    _furnish(ax, title)
    if key:
        colours.draw_key(ax.figure, [ax])
    if pictures is not None:
        _draw_thumbnails(ax, points, pictures, colours.rgba, inside, n_images)
    return ax


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
        As in :func:`plot_embedding`; one legend or colour bar serves all pictures.
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
    arrays = {name: _embedding(Y, f"embeddings[{name!r}]") for name, Y in embeddings.items()}
    lengths = {name: len(Y) for name, Y in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(
            f"embeddings must be at least one, and of the same points; their lengths are {lengths}"
        )
    colours = _colour(next(iter(lengths.values())), labels, values, label_name, value_name)
    columns = min(len(arrays), max(1, n_columns))
    rows = -(-len(arrays) // columns)
    figure = _figure(3.6 * columns + 0.8, 3.4 * rows + (0.3 if title else 0))
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in grid[len(arrays) :]:
        unused.remove()
    axes = list(grid[: len(arrays)])
    figure.suptitle(title or "", fontweight="bold", color=INK)
    colours.draw_key(figure, axes)
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


@dataclass(frozen=True)
class _Colours:
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
            from matplotlib.cm import ScalarMappable
            from matplotlib.colors import Normalize

            bar = figure.colorbar(
                ScalarMappable(Normalize(*self.bounds), COLOUR_MAP), ax=axes, aspect=30, pad=0.02
            )
            missing = "" if np.isfinite(self.values).all() else " (grey: missing)"
            bar.set_label((self.name or "value") + missing, color=INK)
            bar.outline.set_visible(False)
            bar.ax.tick_params(colors=INK, length=2, labelsize=8)
        elif self.classes:
            from matplotlib.lines import Line2D

            shown = self.classes[:LEGEND_MAX]
            handles = [
                Line2D([], [], marker="o", linestyle="", color=c, label=n, markersize=6)
                for n, c in shown
            ]
            if len(shown) < len(self.classes):
                rest = f"and {len(self.classes) - len(shown)} more"
                handles.append(Line2D([], [], linestyle="", label=rest))
            options = {
                "title": self.name,
                "frameon": False,
                "ncols": -(-len(handles) // 21),
                "handletextpad": 0.1,
                "labelcolor": INK,
                "alignment": "left",
            }
            if len(axes) == 1:
                legend = axes[0].legend(
                    handles=handles, loc="upper left", bbox_to_anchor=(1, 1), **options
                )
            else:
                legend = figure.legend(handles=handles, loc="outside right upper", **options)
            legend.get_title().set_color(INK)


def _colour(
    n: int,
    labels: ArrayLike | None,
    values: ArrayLike | None,
    label_name: str | None,
    value_name: str | None,
) -> _Colours:
    """Colours of n points by class, by value, or one for all."""
    if labels is not None and values is not None:
        raise ValueError("labels and values are both given, but a point has one colour: choose one")
    matplotlib = _matplotlib()
    to_rgba = matplotlib.colors.to_rgba
    if labels is not None:
        names, row = _classes(_one_each(labels, n, "labels"))
        if len(names) <= len(CLASS_COLOURS):
            palette = np.array([to_rgba(c) for c in CLASS_COLOURS[: len(names)]])
        else:
            palette = matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, len(names)))
        classes = list(zip(names, palette, strict=True))
        return _Colours(palette[row], classes, row, None, (0, 1), label_name)
    if values is not None:
        numbers = np.asarray(_one_each(values, n, "values"), dtype=float)
        known = np.isfinite(numbers)
        if not known.any():
            raise ValueError(f"values: none of the {n} is finite; leave values out")
        low, high = float(numbers[known].min()), float(numbers[known].max())
        scaled = (np.where(known, numbers, low) - low) / ((high - low) or 1.0)
        rgba = matplotlib.colormaps[COLOUR_MAP](scaled)
        rgba[~known] = to_rgba(MISSING_COLOUR)
        return _Colours(rgba, [], None, numbers, (low, high), value_name)
    return _Colours(np.tile(to_rgba(CLASS_COLOURS[0]), (n, 1)), [], None, None, (0, 1), None)


def _classes(labels: NDArray[Any]) -> tuple[list[str], NDArray[np.intp]]:
    """Names of the classes in order, and each point's class."""
    if labels.dtype == object:  # mixed types and None have no order
        labels = labels.astype(str)
    unique, row = np.unique(labels, return_inverse=True)
    as_text = (lambda v: f"{v:g}") if unique.dtype.kind == "f" else str
    return [as_text(v) for v in unique], row


def _plane(ax: Any, Y: Float, coordinates: tuple[int, int], colours: _Colours) -> Float:
    """Choose what the two axes show, label them, and return the points in their plane."""
    q = Y.shape[1]
    of = f" of {q}" if q > 2 else ""
    if q > 1:
        first, second = coordinates
        if not (0 <= first < q and 0 <= second < q):
            raise ValueError(
                f"coordinates={coordinates} must be two numbers from 0 to {q - 1}: "
                f"the embedding has {q}"
            )
        ax.set_xlabel(f"coordinate {first + 1}{of}")
        ax.set_ylabel(f"coordinate {second + 1}{of}")
        return Y[:, [first, second]]
    ax.set_xlabel("coordinate 1 of 1")
    if colours.values is not None:
        known = np.isfinite(colours.values)
        ax.set_ylabel(colours.name or "value")
        return np.column_stack([Y[:, 0], np.where(known, colours.values, colours.bounds[0])])
    height = np.random.default_rng(1).uniform(-0.35, 0.35, len(Y))  # to see how many lie together
    if colours.row is not None and len(colours.classes) <= LEGEND_MAX:
        ax.set_yticks(range(len(colours.classes)), [name for name, _ in colours.classes])
        ax.set_ylabel(colours.name or "class")
        return np.column_stack([Y[:, 0], colours.row + height])
    ax.set_yticks([])
    ax.set_ylabel("scattered at random")
    ax.set_ylim(-1, 1)
    return np.column_stack([Y[:, 0], height])


def _zoom(ax: Any, points: Float, span: float) -> NDArray[np.bool_]:
    """Set the limits to ``span``, and say what the eye cannot see; which points are inside."""
    low, high = np.quantile(points, [(1 - span) / 2, (1 + span) / 2], axis=0)
    inside: NDArray[np.bool_] = ((low <= points) & (points <= high)).all(axis=1)
    ax.margins(0.03)
    if span < 1:
        margin = 0.03 * np.where(high > low, high - low, 1.0)
        inside = ((low - margin <= points) & (points <= high + margin)).all(axis=1)
        ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
        ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
    hidden = int((~inside).sum())
    in_a_dot = (np.abs(points - np.median(points, axis=0)) <= DOT * (high - low)).all(axis=1)
    remarks = [f"{hidden} of {len(points)} points lie outside"] if hidden else []
    if in_a_dot.mean() >= CROWDED:
        remarks.append(f"{int(in_a_dot.sum())} of {len(points)} points lie in one dot")
    if remarks:
        ax.annotate(
            "\n".join(remarks),
            (1, 1),
            xycoords="axes fraction",
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=INK,
        )
    return inside


def _furnish(ax: Any, title: str | None) -> None:
    """The quiet parts: title, spines, ticks."""
    if title:
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#b0b0b0")
    ax.tick_params(colors="#808080", length=2, labelsize=8)
    ax.locator_params(axis="x", nbins=6)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)


def _draw_thumbnails(
    ax: Any,
    points: Float,
    images: Float,
    rgba: Float,
    inside: NDArray[np.bool_],
    n_images: int,
) -> None:
    """Draw the images of points that lie well apart, on white, in frames of the points' colours."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    zoom = IMAGE_POINTS / images.shape[1]
    side = 1.4 * IMAGE_POINTS * ax.figure.dpi / 72  # in pixels, with the frame and some air
    ax.figure.draw_without_rendering()  # a layout moves the axes: settle it before measuring
    candidates = np.flatnonzero(inside)
    pixels = ax.transData.transform(points[candidates])
    for row in candidates[_apart(pixels, n_images, side)]:
        picture = OffsetImage(images[row], zoom=zoom, cmap="gray_r", clim=(0, 1))
        frame = {"edgecolor": rgba[row], "facecolor": "white", "linewidth": 1.5}
        ax.add_artist(AnnotationBbox(picture, points[row], bboxprops=frame, pad=0.1))


def _apart(points: Float, count: int, distance: float) -> NDArray[np.intp]:
    """Rows of at most ``count`` points, pairwise at least ``distance`` apart (in the maximum norm).

    Greedy: each is the farthest from those before it, so the outermost come first.
    """
    chosen: list[int] = []
    nearest = np.abs(points - np.median(points, axis=0)).max(axis=1)
    while len(chosen) < min(count, len(points)):
        row = int(nearest.argmax())
        if chosen and nearest[row] < distance:
            break
        to_row = np.abs(points - points[row]).max(axis=1)
        nearest = np.minimum(nearest, to_row) if chosen else to_row
        chosen.append(row)
    return np.array(chosen, dtype=np.intp)


def _embedding(Y: ArrayLike, name: str) -> Float:
    array = np.asarray(Y, dtype=float)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}, but an embedding is (n, n_components)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; leave those points out")
    return array


def _one_each(values: ArrayLike, n: int, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}, but must be one for each of {n} points")
    return array


def _images(images: ArrayLike, n: int) -> Float:
    """Images scaled to [0, 1]."""
    array = np.asarray(images, dtype=float)
    if array.ndim != 3 or len(array) != n:
        raise ValueError(
            f"images has shape {array.shape}, but must be (n, height, width) with n={n}"
        )
    low, high = float(array.min()), float(array.max())
    return (array - low) / ((high - low) or 1.0)


def _figure(width: float, height: float) -> Any:
    _matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _matplotlib() -> Any:
    try:
        import matplotlib
        import matplotlib.colors
    except ImportError as error:
        raise ImportError(
            f"pictures need matplotlib ({error}): pip install 'lle-gpu[plot]'"
        ) from error
    return matplotlib
