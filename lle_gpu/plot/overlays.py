"""What is drawn over the points of an embedding where it finds room: thumbnails, classes' names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.plot.canvas import INK, SMALL, settle
from lle_gpu.plot.colours import Colours
from lle_gpu.plot.key import shortened

__all__ = ["IMAGE_POINTS", "draw_names", "draw_thumbnails"]

Float = NDArray[np.float64]
IMAGE_POINTS = 18  # height of a thumbnail, in points (1/72 inch)
NAME_LETTERS = 16  # of a class's name, over the points


def draw_thumbnails(
    ax: Any,
    points: Float,
    images: Float,
    rgba: Float,
    inside: NDArray[np.bool_],
    n_images: int,
) -> None:
    """Draw the images of points that lie well apart, on white, in frames of the points' colours."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    zoom = IMAGE_POINTS / max(images.shape[1:])
    side = 1.4 * IMAGE_POINTS * ax.figure.dpi / 72  # in pixels, with the frame and some air
    settle(ax)  # a layout moves the axes: settle it before measuring
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


def draw_names(ax: Any, points: Float, colours: Colours, inside: NDArray[np.bool_]) -> None:
    """Write the classes' names where they lie, the largest classes' first, none over another."""
    from matplotlib.patheffects import withStroke

    assert colours.row is not None
    settle(ax)
    taken: list[Any] = []
    names = shortened([entry.name for entry in colours.classes], NAME_LETTERS)
    sizes = np.bincount(colours.row[inside], minlength=len(names))[: colours.n_classes]
    for c in np.argsort(-sizes, kind="stable"):
        members = points[inside & (colours.row == c)]
        if not len(members):
            continue
        # A member, not the median itself: that may lie where no point is.
        place = members[np.abs(members - np.median(members, axis=0)).sum(axis=1).argmin()]
        text = ax.text(
            *place,
            names[c],
            ha="center",
            va="center",
            fontsize=SMALL,
            color=INK,
            parse_math=False,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
        box = text.get_window_extent().padded(1)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)
