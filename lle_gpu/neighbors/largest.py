"""disconnected="largest": the part of the neighbour graph that holds most points, on its own.

What is kept are the points from which the closed class that holds most points can be reached. The
other closed classes are left out, and with them all that leads only to them: of two separate
clusters one goes as a whole; of a bulk that leads to several small classes, only those classes go.
Neighbours are then searched again among the points that are kept, where any was lost, and all is
repeated, since that can make new classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.neighbors.cpu import others
from lle_gpu.neighbors.graph import closed_classes, destinations, leading_to, main_class

__all__ = ["largest_part"]

Index = NDArray[np.int64]


def largest_part(
    X: NDArray[Any],
    index: NDArray[np.integer],
    *,
    search_in: Callable[[NDArray[Any]], Any],
    hold_all: bool,
) -> tuple[Index, NDArray[np.integer]]:
    """Leave points out until the neighbour graph of the others has one closed class.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    index : ndarray of shape (n, k)
        Row i holds the neighbours of point i.
    search_in : callable
        Points (m, d) -> a search over them, with ``kneighbors``.
    hold_all : bool
        Whether to leave out points that are nobody's neighbour, too (for methods whose constraints
        do not include the point itself).

    Returns
    -------
    rows : ndarray of int, shape (m,)
        The points that are kept, ascending; more than k, since a closed class has that many.
    index : ndarray of shape (m, k)
        Their k nearest among themselves, as positions in ``rows``: what a search over ``X[rows]``
        gives.
    """
    k = index.shape[1]
    rows = np.arange(len(index))
    while True:
        classes = closed_classes(index)
        keep = np.ones(len(rows), dtype=bool)
        if len(classes) > 1:
            main = main_class(index, classes, destinations(index, classes)[0])
            keep = leading_to(index, int(classes.example_rows[main]))
        elif hold_all and len(classes.unreferenced):
            keep[classes.unreferenced] = False
        else:
            return rows, index
        complete = keep[index].all(axis=1)[keep]
        index = (np.cumsum(keep) - 1)[index[keep]].astype(index.dtype)
        rows = rows[keep]
        lost = np.flatnonzero(~complete)
        if len(lost):
            points = X[rows]
            found = search_in(points).kneighbors(points[lost], k + 1, return_distance=False)
            index[lost] = found[others(found, lost)].reshape(-1, k)
