"""Exact k nearest neighbours on the CPU: a tree in low dimension, blocked products in high.

A library's search (SciPy's k-d tree, scikit-learn's brute force or trees) proposes candidates, a
few more than asked for. Their squared distances are then formed once more, in float64, as
sum_j (x_j - y_j)^2, and sorted by (distance, index). A row is final when its k-th neighbour lies
nearer than the farthest candidate by more than the search's rounding: nothing outside the list can
then belong in it. The other rows (ties at the boundary, duplicates) are searched again with twice
as many candidates. So the answer is exact and does not depend on who proposed it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from lle_gpu.parallel import effective_jobs, for_each_chunk
from lle_gpu.progress import advance

__all__ = ["NeighborSearch"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]

EPS = float(np.finfo(np.float64).eps)
# Above this dimension scikit-learn's blocked brute force beats a k-d tree (the limit that
# scikit-learn uses, too).
TREE_MAX_FEATURES = 15
# Bytes of candidates (distance and index, 16 each) held at once.
CANDIDATE_BYTES = 1 << 25


class _Search(Protocol):
    """Proposes nearest points, in the quantity that is compared (here called distance).

    ``spare`` is the number of candidates to ask for beyond k: at least the point itself and one to
    see past the k-th; more where a second search would cost as much as the first.
    """

    spare: int

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        """Distances (m, count), ascending, and indices of the nearest ``count`` points."""

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        """Bound on the rounding in ``distance`` (m,)."""


class _KDTree:
    """SciPy's k-d tree; the compared quantity is the squared Euclidean distance."""

    spare = 2

    def __init__(self, X: NDArray[Any], n_jobs: int | None) -> None:
        # Points and queries in spatial order find each other in the cache: half the time at a
        # million points.
        self._order = _spatial_order(X)
        # Sliding midpoints build faster than medians and query as fast.
        self._tree = cKDTree(X[self._order], balanced_tree=False)
        self._n_jobs = n_jobs

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        order = _spatial_order(points)
        wanted = np.arange(1, count + 1)  # a list keeps the axis when count is 1
        found, where = self._tree.query(points[order], wanted, workers=effective_jobs(self._n_jobs))
        distance, index = np.empty_like(found), np.empty_like(where)
        distance[order] = found * found
        index[order] = self._order[where]
        return distance, index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        return (points.shape[1] + 8) * EPS * distance


class _Brute:
    """scikit-learn's blocked ||x||^2 + ||y||^2 - 2 x.y; squared Euclidean distances.

    The expanded form cancels: its error grows with the norms. The points are centred first, and
    the bound below covers what is left.
    """

    spare = 8  # integer data (images) have many ties

    def __init__(self, X: NDArray[Any]) -> None:
        self._mean = X.mean(axis=0, dtype=np.float64)
        centred = X - self._mean
        self._largest_raw = float(np.abs(X).max())
        self._radius = float(np.sqrt(np.einsum("ij,ij->i", centred, centred).max()))
        self._search = NearestNeighbors(algorithm="brute", metric="sqeuclidean").fit(centred)

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        distance, index = self._search.kneighbors(points - self._mean, count)
        return distance, index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        d = points.shape[1]
        centred = points - self._mean
        norm = np.sqrt(np.einsum("ij,ij->i", centred, centred))
        expanded = (d + 4) * EPS * (norm + self._radius) ** 2
        largest = max(self._largest_raw, float(np.abs(points).max()))
        centring = 4 * EPS * largest * np.sqrt(d * np.abs(distance)) + d * (2 * EPS * largest) ** 2
        return expanded + centring


class _ScikitLearn:
    """Any other metric: scikit-learn's distances are taken as they are."""

    spare = 2

    def __init__(self, X: NDArray[Any], algorithm: str, metric: Any, n_jobs: int | None) -> None:
        if metric == "precomputed":
            raise ValueError(
                "metric='precomputed' is not possible: the weights and tangent planes need "
                "coordinates. Give X itself, with the metric that made the distances."
            )
        try:
            self._search = NearestNeighbors(
                algorithm=algorithm, metric=metric, n_jobs=effective_jobs(n_jobs)
            ).fit(X)
            self._search.kneighbors(X[:1], 1)  # some metrics complain only now
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"metric={metric!r} cannot be used here with algorithm={algorithm!r}: {error}. Use "
                "a metric of sklearn.neighbors that needs no parameters, or a function of two rows "
                "(for 'seuclidean' and 'mahalanobis': scale or whiten X instead)."
            ) from error
        self._metric = metric

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        distance, index = self._search.kneighbors(points, count)
        if not np.isfinite(distance).all():
            rows = np.flatnonzero(~np.isfinite(distance).all(axis=1))
            raise ValueError(
                f"metric={self._metric!r} gives distances that are not finite, for {len(rows)} "
                f"of {len(points)} points at least (rows {_listed(rows)}). Constant or zero rows "
                "often cause it: leave them out, or use another metric."
            )
        return distance, index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        return np.zeros(len(points))


class NeighborSearch:
    """Exact nearest neighbours in a fixed set of points.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        The points; kept, not copied.
    n_neighbors : int
        How many neighbours :meth:`kneighbors` returns unless told otherwise.
    algorithm : {"auto", "brute", "kd_tree", "ball_tree"}, default="auto"
        ``auto`` is a k-d tree up to 15 dimensions and brute force beyond (for metrics other than
        the Euclidean one: scikit-learn's own choice).
    metric : str or callable, default="euclidean"
        Any metric of :class:`sklearn.neighbors.NearestNeighbors`.
    n_jobs : int or None, default=None
        Threads; None and -1 are all cores.

    Examples
    --------
    >>> import numpy as np
    >>> from lle_gpu.neighbors.cpu import NeighborSearch
    >>> X = np.array([[0.0], [1.0], [1.0], [3.0]])
    >>> NeighborSearch(X, 2).kneighbors(return_distance=False)
    array([[1, 2],
           [2, 0],
           [1, 0],
           [1, 2]])
    """

    def __init__(
        self,
        X: NDArray[Any],
        n_neighbors: int,
        *,
        algorithm: str = "auto",
        metric: Any = "euclidean",
        n_jobs: int | None = None,
    ) -> None:
        self.X = X
        self.n_neighbors = n_neighbors
        self.algorithm = algorithm
        self.metric = metric
        self.n_jobs = n_jobs
        # Minkowski's p is 2 unless said otherwise, and here it cannot be.
        self._euclidean = metric in ("euclidean", "l2", "minkowski")
        if self._euclidean and algorithm == "auto":
            self.algorithm = "kd_tree" if X.shape[1] <= TREE_MAX_FEATURES else "brute"
        self._search = self._search_in(X)

    def _search_in(self, X: NDArray[Any]) -> _Search:
        if self._euclidean and self.algorithm == "kd_tree":
            return _KDTree(X, self.n_jobs)
        if self._euclidean and self.algorithm == "brute":
            return _Brute(X)
        if self._euclidean:
            return _SquaredScikitLearn(X, self.algorithm, self.metric, self.n_jobs)
        return _ScikitLearn(X, self.algorithm, self.metric, self.n_jobs)

    def kneighbors(
        self,
        X: NDArray[Any] | None = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
    ) -> Any:
        """Find the nearest neighbours, ordered by (distance, index).

        Parameters
        ----------
        X : ndarray of shape (m, d), optional
            Query points. Without it the training points are the queries, each with itself
            left out.
        n_neighbors : int, optional
            Default: that of the constructor. At most n; n - 1 without ``X``.
        return_distance : bool, default=True
            Whether distances come before the indices, as in scikit-learn.

        Returns
        -------
        distance : ndarray of shape (m, k), float64
            Only if ``return_distance``.
        index : ndarray of shape (m, k), int64
        """
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        n = len(self.X)
        most = n - 1 if X is None else n
        if not 1 <= k <= most:
            raise ValueError(f"n_neighbors={k} must be from 1 to {most} with {n} training points")
        distance, index = self._exact(self.X if X is None else X, k, exclude_self=X is None)
        return (distance, index) if return_distance else index

    def _exact(self, points: NDArray[Any], k: int, *, exclude_self: bool) -> tuple[Float, Index]:
        m, n = len(points), len(self.X)
        distance = np.empty((m, k))
        index = np.empty((m, k), dtype=np.int64)
        pending = np.arange(m)
        search, kept = self._search, None
        count = min(n, k + search.spare)
        while len(pending):
            undecided = []
            block = max(1, CANDIDATE_BYTES // (16 * count))
            for low in range(0, len(pending), block):
                rows = pending[low : low + block]
                queries = points if len(rows) == m else points[rows]
                proposed, candidates = search.query(queries, count)
                if kept is not None:
                    candidates = kept[candidates]
                own = rows if exclude_self else None
                distance[rows], index[rows] = self._sorted(queries, proposed, candidates, own, k)
                if count == n:  # every point is in the list
                    final = np.ones(len(rows), dtype=bool)
                else:
                    last = proposed[:, -1]
                    final = distance[rows, -1] < last - search.error(queries, last)
                undecided.append(rows[~final])
                advance(int(final.sum()))
            pending = np.concatenate(undecided)
            if kept is None and len(pending):
                # The usual cause of ties is duplicated rows, of which only the first few matter.
                kept = _first_copies(self.X, k + 1)
                if len(kept) < n:
                    n = len(kept)
                    search = self._search_in(self.X[kept])
                    count = min(n, count)
                    continue
            count = min(n, 2 * count)
        if self._euclidean:
            np.sqrt(distance, out=distance)
        return distance, index

    def _sorted(
        self, queries: NDArray[Any], proposed: Float, candidates: Index, own: Index | None, k: int
    ) -> tuple[Float, Index]:
        """Return the k nearest of the candidates by (float64 distance, index), self left out."""
        m, d = queries.shape
        distance, index = np.empty((m, k)), np.empty((m, k), dtype=np.int64)

        def work(rows: slice) -> None:
            near, exact = candidates[rows], proposed[rows]
            is_own = None if own is None else near == own[rows][:, None]
            if is_own is not None and is_own[:, 0].all():  # as always, but for duplicates
                near, exact, is_own = near[:, 1:], exact[:, 1:], None
            if self._euclidean:
                difference = queries[rows, None, :].astype(np.float64, copy=False) - self.X[near]
                exact = np.einsum("mcd,mcd->mc", difference, difference)
            if is_own is not None:
                exact = np.where(is_own, np.inf, exact)  # to the end
            disordered = np.flatnonzero((exact[:, 1:] <= exact[:, :-1]).any(axis=1))
            if len(disordered):
                near, exact = near.copy(), exact.copy()
                order = np.lexsort((near[disordered], exact[disordered]), axis=-1)
                near[disordered] = np.take_along_axis(near[disordered], order, axis=1)
                exact[disordered] = np.take_along_axis(exact[disordered], order, axis=1)
            distance[rows], index[rows] = exact[:, :k], near[:, :k]

        count = candidates.shape[1]
        for_each_chunk(work, m, bytes_per_row=8 * count * (d + 3), n_jobs=self.n_jobs, quiet=True)
        return distance, index


class _SquaredScikitLearn(_ScikitLearn):
    """A scikit-learn tree asked for Euclidean distances, squared for the comparison."""

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        distance, index = super().query(points, count)
        return distance * distance, index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        return (points.shape[1] + 8) * EPS * distance


def _spatial_order(points: NDArray[Any], bits: int = 10) -> Index:
    """Order along a Morton curve through the three widest features, cells of 2^-10 of each."""
    low = points.min(axis=0).astype(np.float64)
    extent = points.max(axis=0) - low
    widest = np.argsort(-extent, kind="stable")[:3]
    wide = extent[widest] > np.finfo(np.float64).tiny  # else a constant, or nearly so
    scale = np.where(wide, (2**bits - 1) / np.where(wide, extent[widest], 1.0), 0.0)
    cell = ((points[:, widest] - low[widest]) * scale).astype(np.uint32)
    key = np.zeros(len(points), dtype=np.uint32)
    for bit in range(bits):
        for axis in range(len(widest)):
            key |= ((cell[:, axis] >> bit) & 1) << (bit * len(widest) + axis)
    return np.argsort(key, kind="stable")


def _first_copies(X: NDArray[Any], most: int) -> Index:
    """Rows of X, in order, but of equal rows only the first ``most``.

    By (distance, index) no other copy can be among anybody's ``most - 1`` nearest other points.
    """
    n = len(X)
    rows = np.ascontiguousarray(X) + 0.0  # -0.0, which equals 0.0, has other bytes
    key = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], (rows[order[1:]] != rows[order[:-1]]).any(1)]))
    copy = np.arange(n) - np.repeat(starts, np.diff(np.append(starts, n)))
    return np.sort(order[copy < most])


def _listed(rows: Index, most: int = 8) -> str:
    return ", ".join(map(str, rows[:most])) + (", ..." if len(rows) > most else "")
