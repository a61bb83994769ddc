"""disconnected="bridge": tie the closed classes of the neighbour graph to the rest.

The rule, for every closed class but the one that holds most points:

- the n_components + 1 points of the class that lie nearest to the outside
- get their n_components + 1 nearest points outside (at most half of k) as neighbours,
- in place of their farthest ones;

and again while several closed classes are left: two may have been tied to each other alone. Outside
are the points that lead elsewhere; those that only lead back into the class would not open it.

Where each point must be somebody's neighbour, one that is not takes the place of the farthest
neighbour of its own nearest neighbour in whose row nothing has been replaced yet. In many
dimensions a few hubs are the neighbours of most points: those that find no such row among their own
neighbours go to the nearest point that has one. A row that is about several such points has too few
constraints to hold them and tie them to the rest: data with six hubs kept more null vectors with
two or three of them a row than with one.

All other rows of the index stay as they are.

Why so many: a class tied at a single point can still turn and stretch about it at little cost (an
affine image of n_components coordinates is fixed by the values at n_components + 1 points). Why
not more: points deep in a class would get neighbours far across a gap, which bends the class. Why
in place of neighbours instead of beside them: every row keeps k neighbours, which is what all that
follows is built on, and the embeddings are as good. ``docs/disconnected.md`` has the figures.

Replacing never closes a part of a class: whichever of its points one starts at, the way to the
first bridged point is as it was, and that point leads outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.exceptions import DisconnectedGraphError
from lle_gpu.neighbors.graph import closed_classes, destinations, main_class

__all__ = ["bridge", "nearest_with_another_label"]

Index = NDArray[np.int64]
SearchIn = Callable[[NDArray[Any]], Any]
# Answers of one search for points with room.
SEARCHED = 1 << 22


def bridge(
    X: NDArray[Any],
    index: NDArray[np.integer],
    n_components: int,
    *,
    search_in: SearchIn,
    hold_all: bool,
) -> tuple[NDArray[np.integer], Index]:
    """Change a few rows of the neighbours' index so that one closed class is left.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    index : ndarray of shape (n, k)
        Row i holds the neighbours of point i; not changed.
    n_components : int
    search_in : callable
        Points (m, d) -> a search over them, with ``kneighbors``.
    hold_all : bool
        Whether to make each point somebody's neighbour, too (for methods whose constraints do not
        include the point itself): it becomes a neighbour of its own nearest point with room.

    Returns
    -------
    index : ndarray of shape (n, k)
        With one closed class.
    rows : ndarray of int
        The rows that were changed, ascending.

    Raises
    ------
    DisconnectedGraphError
        If every neighbour in a class has been replaced and it is still closed, or if every
        neighbour of all points has been and one of them is still nobody's: both take a very small
        k.
    """
    k = index.shape[1]
    n_points = n_components + 1
    n_outside = min(n_components + 1, max(1, k // 2))
    rows = _Rows(index)
    main: int | None = None  # a row of the class that stays as it is
    while True:
        classes = closed_classes(rows.index)
        if len(classes) > 1:
            nearest, several = destinations(rows.index, classes)
            if main is None:
                main = int(classes.example_rows[main_class(rows.index, classes, nearest)])
            kept = classes.labels[main]
            labels = np.where(several | (nearest == kept), 0, nearest + 1)
            in_class = (classes.labels >= 0) & (classes.labels != kept)
            points = rows.with_room(np.flatnonzero(in_class), k)
            if len(np.unique(labels[points])) < len(classes) - 1:
                raise _no_room(k, "of a closed class, which is still closed")
            distance, outside = nearest_with_another_label(X, labels, points, n_outside, search_in)
            order = np.lexsort((points, distance[:, 0], labels[points]))
            sorted_labels = labels[points[order]]
            rank_in_class = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
            for i in order[rank_in_class < n_points]:
                rows.replace_farthest(int(points[i]), outside[i][np.isfinite(distance[i])])
        elif hold_all and len(classes.unreferenced):
            _hold(X, rows, classes.unreferenced, search_in)
        else:
            return rows.index, rows.changed


def _hold(X: NDArray[Any], rows: _Rows, points: Index, search_in: SearchIn) -> None:
    """Make each of the points, which are nobody's neighbour, one of a row that has none such yet.

    First of its own nearest neighbour with room. For those that find none there, all points with
    room are searched, again as long as others have taken that room meanwhile: for twice as many at
    a time, so that few searches do where all go to the same place. Only where too few points have
    room does a row take a second.
    """
    n, k = rows.index.shape
    count, most = k, 1
    waiting = rows.give_holders(points, rows.index[points], most)
    while len(waiting):
        room = rows.with_room(np.arange(n), most)
        if len(room) < 2:  # the one may be the point that waits
            most += 1
            if most > k:
                raise _no_room(k, "of all points, and some are still nobody's neighbour")
            continue
        count = min(2 * count, max(k + 1, SEARCHED // len(waiting)), len(room))
        _, near = search_in(X[room]).kneighbors(X[waiting], count)
        waiting = rows.give_holders(waiting, room[near], most)


def nearest_with_another_label(
    X: NDArray[Any],
    labels: Index,
    points: Index,
    count: int,
    search_in: SearchIn,
) -> tuple[NDArray[np.float64], Index]:
    """Find the nearest points that bear another label, exactly.

    Two labels differ in some binary digit. So for each digit the points with a 0 are searched for
    neighbours among those with a 1, and the other way round, and the nearest of all answers are
    kept: 2 log2(number of labels) searches, however many labels there are and however large the
    sets are that bear them.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    labels : ndarray of int, shape (n,), not negative
    points : ndarray of int, shape (m,)
        Rows of X that ask.
    count : int
        How many to find for each.
    search_in : callable
        Points (m, d) -> a search over them, with ``kneighbors``.

    Returns
    -------
    distance : ndarray of shape (m, count)
        Ascending; infinite where there are not so many.
    index : ndarray of shape (m, count)
        Rows of X by (distance, row); meaningless where the distance is infinite.
    """
    distance = np.full((len(points), count), np.inf)
    index = np.full((len(points), count), -1)
    for digit in range(int(labels.max()).bit_length()):
        bit = labels >> digit & 1
        for value in (0, 1):
            asking = np.flatnonzero(bit[points] == value)
            others = np.flatnonzero(bit != value)
            if len(asking) == 0 or len(others) == 0:
                continue
            found_distance, found = search_in(X[others]).kneighbors(
                X[points[asking]], min(count, len(others))
            )
            found = others[found]
            known = (found[:, :, None] == index[asking, None, :]).any(axis=2)
            found_distance = np.where(known, np.inf, found_distance)
            both_distance = np.concatenate([distance[asking], found_distance], axis=1)
            both = np.concatenate([index[asking], found], axis=1)
            nearest = np.lexsort((both, both_distance), axis=-1)[:, :count]
            distance[asking] = np.take_along_axis(both_distance, nearest, axis=1)
            index[asking] = np.take_along_axis(both, nearest, axis=1)
    return distance, index


class _Rows:
    """A copy of the index of which a few rows change, and what has been put where.

    What has been put in stays in, so that the rounds come to an end.
    """

    def __init__(self, index: NDArray[np.integer]) -> None:
        self.index = index.copy()
        self._times_referenced = np.bincount(index.ravel(), minlength=len(index))
        self._added: dict[int, set[int]] = {}
        self._n_added = np.zeros(len(index), dtype=np.int64)

    @property
    def changed(self) -> Index:
        """The rows that were changed, ascending."""
        return np.array(sorted(self._added), dtype=np.int64)

    def with_room(self, rows: NDArray[np.integer], most: int) -> Index:
        """Those of the rows of which fewer than ``most`` neighbours have been replaced."""
        return rows[self._n_added[rows] < most].astype(np.int64, copy=False)

    def give_holders(self, points: Index, near: NDArray[np.integer], most: int) -> Index:
        """Put each of the points (m,) into the first row of its (m, c) that has room.

        Those are returned that found none. A point is no neighbour of its own.
        """
        waiting = []
        for point, candidates in zip(points.tolist(), near, strict=True):
            holders = self.with_room(candidates[candidates != point], most)
            if len(holders):
                self.replace_farthest(int(holders[0]), np.array([point]))
            else:
                waiting.append(point)
        return np.array(waiting, dtype=np.int64)

    def replace_farthest(self, row: int, points: NDArray[np.integer]) -> None:
        """Put points, nearest first, in the place of the row's farthest own neighbours.

        A neighbour that nobody else has stays if another can go.
        """
        neighbors = self.index[row].tolist()
        added = self._added.setdefault(row, set())
        for point in points.tolist():
            own = [j for j in neighbors if j not in added]
            if not own:
                break
            shared = [j for j in own if self._times_referenced[j] > 1]
            leaving = (shared or own)[-1]
            neighbors.remove(leaving)
            neighbors.append(point)
            added.add(point)
            self._times_referenced[leaving] -= 1
            self._times_referenced[point] += 1
        self.index[row] = neighbors
        self._n_added[row] = len(added)


def _no_room(k: int, where: str) -> DisconnectedGraphError:
    more = "to 4 or more" if k < 4 else f"above {k}"
    return DisconnectedGraphError(
        f"disconnected='bridge' has replaced all neighbours (n_neighbors={k} a point) {where}. "
        f"Raise n_neighbors {more}, or use disconnected='largest' or 'warn'."
    )
