"""Exact k nearest neighbours on the CPU: a tree in low dimension, blocked products in high.

A search (SciPy's k-d tree, products of matrices, scikit-learn's trees) proposes candidates, a few
more than asked for. Their squared distances are then formed once more, in float64, as
sum_j (x_j - y_j)^2, and sorted by (distance, index). A row is final when its k-th neighbour lies
nearer than the farthest candidate by more than the search's rounding: nothing outside the list can
then belong in it. The other rows (ties at the boundary, duplicates) are searched again with twice
as many candidates. So the answer is exact and does not depend on who proposed it. Products of
float32 matrices (:mod:`lle_gpu.neighbors.products`) cost half of float64's and settle nearly every
row of most data; what they leave open, or FAISS, is searched again in float64.

pynndescent proposes, too, but gives no bound: what it proposes is ordered in the same way, and that
is all.

Sparse points have a search of their own, :mod:`lle_gpu.neighbors.sparse`, for Euclidean distances.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from scipy.spatial import cKDTree

# Not from sklearn.neighbors, where cuml.accel may stand with another, float32, search.
from sklearn.neighbors._unsupervised import NearestNeighbors

from lle_gpu.kinds import host_rows, listed, warn_of_copy
from lle_gpu.neighbors import EUCLIDEAN
from lle_gpu.neighbors.faiss import Faiss
from lle_gpu.neighbors.products import Float32Products
from lle_gpu.neighbors.pynndescent import PyNNDescent, candidates_for
from lle_gpu.neighbors.sparse import SparseSearch, copy_numbers
from lle_gpu.parallel import effective_jobs, for_each_chunk
from lle_gpu.progress import advance, note

__all__ = ["NeighborSearch", "nearest_others", "others", "spatial_order"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]

EPS = float(np.finfo(np.float64).eps)
# Above this dimension scikit-learn's blocked brute force beats a k-d tree (the limit that
# scikit-learn uses, too).
TREE_MAX_FEATURES = 15
# Bytes of candidates (distance and index, 16 each) held at once.
CANDIDATE_BYTES = 1 << 25
# Bytes of points that brute force centres, in float64, at once: X may be larger than the memory
# that there is (a memory-mapped file), and is never copied as a whole.
BLOCK_BYTES = 1 << 26
# Blocks of fewer points are multiplied as a whole: scikit-learn's own, of 256, would be too few.
FEW_POINTS = 1024
# With more features the rounding of float32, d 2^-24 of squared lengths, leaves too much open.
FLOAT32_MAX_FEATURES = 4096
# Rows that a search in float32 is asked for first; then twice as many, and so on. Where it leaves
# most of them open, as among points much nearer to one another than to the centre, float64 has the
# rest at once.
FIRST_ROWS = 1024


class _Search(Protocol):
    """Proposes nearest points, in the quantity that is compared (here called distance).

    ``spare`` is the number of candidates to ask for beyond k: at least the point itself and one to
    see past the k-th; more where a second search would cost as much as the first. What one in
    ``float32`` leaves open is not for it to search again.
    """

    spare: int
    float32: bool

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        """Distances (m, count), ascending, and indices of the nearest ``count`` points."""

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        """Bound on the rounding in ``distance`` (m,)."""


class _KDTree:
    """SciPy's k-d tree; the compared quantity is the squared Euclidean distance."""

    spare, float32 = 2, False

    def __init__(self, X: NDArray[Any], n_jobs: int | None) -> None:
        warn_of_copy(
            X,
            "the tree of neighbors_algorithm='kd_tree', which 'auto' is up to "
            f"{TREE_MAX_FEATURES} features, holds the points in float64",
            "neighbors_algorithm='brute' reads X in parts, and takes longer",
            itemsize=8,
        )
        # Points and queries in spatial order find each other in the cache: half the time at a
        # million points.
        self._order = spatial_order(X)
        # Sliding midpoints build faster than medians and query as fast.
        self._tree = cKDTree(X[self._order], balanced_tree=False)
        self._n_jobs = n_jobs

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        order = spatial_order(points)
        wanted = np.arange(1, count + 1)  # a list keeps the axis when count is 1
        distance = np.empty((len(points), count))
        index = np.empty((len(points), count), dtype=np.int64)

        def work(part: slice) -> None:
            rows = order[part]
            found, where = self._tree.query(points[rows], wanted)
            distance[rows] = found * found
            index[rows] = self._order[where]

        # Not on SciPy's threads: after Ctrl-C they would go on writing to memory given back.
        for_each_chunk(work, len(points), bytes_per_row=16 * count, n_jobs=self._n_jobs, quiet=True)
        return distance, index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        return (points.shape[1] + 8) * EPS * distance


class _Brute:
    """scikit-learn's blocked ||x||^2 + ||y||^2 - 2 x.y; squared Euclidean distances.

    The expanded form cancels: its error grows with the norms. The points are centred first, and
    the bound below covers what is left. Points that are more than a block are centred again, block
    by block, whenever they are looked at.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    rows : ndarray of int, optional
        The rows that are points, ascending; all of them by default. Indices count these.
    """

    spare, float32 = 8, False  # integer data (images) have many ties

    def __init__(self, X: NDArray[Any], rows: Index | None = None) -> None:
        self._X, self._rows = X, rows
        self._n = len(X) if rows is None else len(rows)
        self._mean = X.mean(axis=0, dtype=np.float64)
        self._largest_raw = _largest(X)
        self._radius = float(self._norms(X).max())
        everything = self._blocks(self._n)
        self._few = len(everything) > 1 and everything[0].stop < FEW_POINTS
        self._only = self._search_among(everything[0]) if len(everything) == 1 else None

    def _blocks(self, n: int) -> list[slice]:
        size = max(1, BLOCK_BYTES // (8 * self._X.shape[1]))
        return [slice(low, min(low + size, n)) for low in range(0, n, size)]

    def _norms(self, points: NDArray[Any]) -> Float:
        norms = np.empty(len(points))
        for block in self._blocks(len(points)):
            centred = points[block] - self._mean
            norms[block] = np.sqrt(np.einsum("ij,ij->i", centred, centred))
        return norms

    def _search_among(self, block: slice) -> Any:
        points = self._X[block if self._rows is None else self._rows[block]]
        centred = points - self._mean
        if self._few:
            return _Products(centred)
        return NearestNeighbors(algorithm="brute", metric="sqeuclidean").fit(centred)

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        shape = len(points), count
        distance, index = np.empty(shape), np.empty(shape, dtype=np.int64)
        for queries in self._blocks(len(points)):
            centred = points[queries] - self._mean
            found = np.empty((len(centred), 0)), np.empty((len(centred), 0), dtype=np.int64)
            for block in self._blocks(self._n):
                search = self._only or self._search_among(block)
                near = search.kneighbors(centred, min(count, block.stop - block.start))
                found = _nearest_of(found, (near[0], near[1] + block.start), count)
            distance[queries], index[queries] = found
        return distance, index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        d = points.shape[1]
        expanded = (d + 4) * EPS * (self._norms(points) + self._radius) ** 2
        largest = max(self._largest_raw, _largest(points))
        centring = 4 * EPS * largest * np.sqrt(d * np.abs(distance)) + d * (2 * EPS * largest) ** 2
        return expanded + centring


class _Products:
    """The same, by one product of matrices: for few points of very many features."""

    def __init__(self, points: Float) -> None:
        self._points = points
        self._squares = np.einsum("ij,ij->i", points, points)

    def kneighbors(self, queries: Float, count: int) -> tuple[Float, Index]:
        distance = queries @ self._points.T
        distance *= -2.0
        distance += np.einsum("ij,ij->i", queries, queries)[:, None]
        distance += self._squares
        nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distance, nearest, axis=1), axis=1, kind="stable")
        nearest = np.take_along_axis(nearest, order, axis=1)
        return np.take_along_axis(distance, nearest, axis=1), nearest


class _ScikitLearn:
    """Any other metric: scikit-learn's distances are taken as they are."""

    spare, float32 = 2, False

    def __init__(self, X: NDArray[Any], algorithm: str, metric: Any, n_jobs: int | None) -> None:
        if metric == "precomputed":
            raise ValueError(
                "metric='precomputed' is not possible: the weights and tangent planes need "
                "coordinates. Give X itself, and the distances beside it as knn_graph= to fit() or "
                "as the parameter precomputed_knn=; or X with the metric that made the distances."
            )
        warn_of_copy(
            X,
            f"scikit-learn's search by metric={metric!r} and algorithm={algorithm!r} may hold the "
            "points in float64",
            "neighbors_algorithm='brute' and metric='euclidean' read X in parts",
            itemsize=8,
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
                f"of {len(distance)} points at least (rows {listed(rows, str)}). Constant or zero "
                "rows often cause it: leave them out, or use another metric."
            )
        return distance, index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        return np.zeros(points.shape[0])


class _SquaredScikitLearn(_ScikitLearn):
    """A scikit-learn tree asked for Euclidean distances, squared for the comparison."""

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        distance, index = super().query(points, count)
        return distance * distance, index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        return (points.shape[1] + 8) * EPS * distance


class NeighborSearch:
    """Exact nearest neighbours in a fixed set of points.

    Parameters
    ----------
    X : ndarray or csr_array of shape (n, d), float32 or float64
        The points; kept, not copied. A sparse one without duplicated entries.
    n_neighbors : int
        How many neighbours :meth:`kneighbors` returns unless told otherwise.
    algorithm : {"auto", "brute", "kd_tree", "ball_tree", "faiss", "pynndescent"}, default="auto"
        ``auto`` is a k-d tree up to 15 dimensions and brute force beyond (for metrics other than
        the Euclidean one: scikit-learn's own choice). Sparse points know "auto" and "brute".
        "faiss" and "pynndescent" have to be installed; the latter is approximate.
    metric : str or callable, default="euclidean"
        Any metric of :class:`sklearn.neighbors.NearestNeighbors`.
    random_state : int, RandomState instance or None, default=None
        Of pynndescent's search; None is a fixed one.
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
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.X = X
        self.n_neighbors = n_neighbors
        self.algorithm = algorithm
        self.metric = metric
        self.n_jobs = n_jobs
        if issparse(X) and algorithm not in ("auto", "brute"):
            raise ValueError(
                f"neighbors_algorithm={algorithm!r} does not take sparse X. Use 'auto' or 'brute', "
                "or X.toarray() where that fits in memory."
            )
        # Minkowski's p is 2 unless said otherwise, and here it cannot be.
        self._euclidean = metric in EUCLIDEAN
        if self._euclidean and algorithm == "auto":
            low = X.shape[1] <= TREE_MAX_FEATURES and not issparse(X)
            self.algorithm = "kd_tree" if low else "brute"
        if algorithm == "faiss" and not self._euclidean:
            raise ValueError(
                f"metric={metric!r} is none that neighbors_algorithm='faiss' knows here: it must "
                "be 'euclidean'. Use that, or neighbors_algorithm='auto' or 'pynndescent'."
            )
        if algorithm == "pynndescent":  # which draws its seed now
            self._search = PyNNDescent(X, metric, random_state, n_jobs)
        else:  # a metric or a library that there is not is an error now
            wide = issparse(X) and isinstance(metric, str)  # a function may ask for the width
            self._search_in(csr_array(np.eye(2)) if wide else X[:2])

    @cached_property
    def _search(self) -> Any:
        """Made when it is needed: where a graph is given, that may be never."""
        return self._search_in(self.X)

    @property
    def random_state(self) -> int | None:
        """The seed of its search, drawn when it was made; None if it needs none."""
        return getattr(vars(self).get("_search"), "seed", None)

    def _search_in(
        self, X: NDArray[Any], rows: Index | None = None, *, float64: bool = False
    ) -> Any:
        """The search among these points, or rows of them; if ``float64``, one of that precision."""
        algorithm = self.algorithm
        if algorithm == "faiss" and float64:
            algorithm = "kd_tree" if X.shape[1] <= TREE_MAX_FEATURES else "brute"
        if self._euclidean and algorithm == "brute" and not issparse(X):
            if not float64 and X.shape[1] <= FLOAT32_MAX_FEATURES:
                return Float32Products(X, self.n_jobs)
            return _Brute(X, rows)
        X = X if rows is None else X[rows]
        if self._euclidean and issparse(X):
            return SparseSearch(X, self.n_jobs)
        if self._euclidean and algorithm == "kd_tree":
            return _KDTree(X, self.n_jobs)
        if algorithm == "faiss":
            return Faiss(X, self.n_jobs)
        if self._euclidean:
            return _SquaredScikitLearn(X, algorithm, self.metric, self.n_jobs)
        return _ScikitLearn(X, algorithm, self.metric, self.n_jobs)

    def kneighbors(
        self,
        X: NDArray[Any] | None = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
    ) -> Any:
        """Find the nearest neighbours, ordered by (distance, index).

        Parameters
        ----------
        X : array-like of shape (m, d), optional
            Query points; sparse ones, too, if the training points are sparse. Without it the
            training points are the queries, each with itself left out.
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
        n = self.X.shape[0]
        most = n - 1 if X is None else n
        if not 1 <= k <= most:
            raise ValueError(f"n_neighbors={k} must be from 1 to {most} with {n} training points")
        points = self.X if X is None else host_rows(X, self.X.shape[1])
        if issparse(self.X):
            points = csr_array(points)
        elif issparse(points):
            raise TypeError("X is sparse, and the training points are dense: give X.toarray()")
        if isinstance(self._search, SparseSearch):
            distance, index = self._search.nearest(points, k, exclude_self=X is None)
            np.sqrt(distance, out=distance)
        elif isinstance(self._search, PyNNDescent):
            distance, index = self._approximate(points, k, exclude_self=X is None)
        else:
            distance, index = self._exact(points, k, exclude_self=X is None)
        return (distance, index) if return_distance else index

    def _approximate(
        self, points: NDArray[Any], k: int, *, exclude_self: bool
    ) -> tuple[Float, Index]:
        """As :meth:`_exact`, but for the neighbours that the search does not propose."""
        m, n = len(points), len(self.X)
        distance, index = np.empty((m, k)), np.empty((m, k), dtype=np.int64)
        count = candidates_for(k)
        found = np.zeros(m, dtype=bool)
        if count < n:
            search = self._search
            proposed, candidates = (
                search.graph(count) if exclude_self else search.query(points, count)
            )
            found = (candidates >= 0).all(axis=1)
            rows = np.flatnonzero(found)
            own = rows if exclude_self else None
            distance[rows], index[rows] = self._sorted(
                points[rows], proposed[rows], candidates[rows], own, k
            )
            if self._euclidean:
                distance[rows] = np.sqrt(distance[rows])
            advance(len(rows))
        lacking = np.flatnonzero(~found)
        if len(lacking):
            note(f"neighbours: {len(lacking)} of {m} points are searched exactly")
            exact = NeighborSearch(self.X, k, metric=self.metric, n_jobs=self.n_jobs)
            near, which = exact.kneighbors(points[lacking], k + exclude_self)
            kept = others(which, lacking) if exclude_self else np.ones(which.shape, dtype=bool)
            distance[lacking] = near[kept].reshape(-1, k)
            index[lacking] = which[kept].reshape(-1, k)
        return distance, index

    def _exact(self, points: NDArray[Any], k: int, *, exclude_self: bool) -> tuple[Float, Index]:
        m, n = points.shape[0], self.X.shape[0]
        distance = np.empty((m, k))
        index = np.empty((m, k), dtype=np.int64)
        pending = np.arange(m)
        search, kept = self._search, None
        count = min(n, k + search.spare)
        while len(pending):
            undecided = []
            most = max(1, CANDIDATE_BYTES // (16 * count))
            copies = len(pending) < m
            if copies and not issparse(points):
                most = min(most, max(1, BLOCK_BYTES // points[:1].nbytes))
            low, block = 0, min(most, FIRST_ROWS) if search.float32 else most
            while low < len(pending):
                rows = pending[low : low + block]
                asked = rows if copies else slice(low, low + block)  # a slice copies nothing
                queries = points if len(rows) == m else points[asked]
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
                low, block = low + block, min(most, 2 * block)
                if search.float32 and 2 * final.sum() < len(rows):
                    undecided.append(pending[low:])
                    break
            pending = np.concatenate(undecided)
            if kept is None and len(pending):
                # The usual cause of ties is duplicated rows, of which only the first few matter.
                kept = _first_copies(self.X, k + 1)
                if len(kept) < n or search.float32:
                    if search.float32:
                        note(f"neighbours: {len(pending)} of {m} points searched in float64")
                    n = len(kept)
                    search = self._search_in(self.X, kept, float64=True)
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


def others(near: NDArray[np.integer], rows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which k of the k + 1 points near each row (m, k + 1) to keep: not the row itself."""
    kept = near != rows[:, None]
    kept[kept.all(axis=1), -1] = False  # it is behind k + 1 copies of its own
    return kept


def nearest_others(search: NeighborSearch, rows: NDArray[np.integer], k: int) -> Index:
    """The k nearest other points (m, k) of some of the training points, in order."""
    near: Index = search.kneighbors(search.X[rows], k + 1, return_distance=False)
    return near[others(near, rows)].reshape(len(rows), k)


def spatial_order(points: NDArray[Any]) -> Index:
    """Order along a Morton curve through the three widest features, cells of 2^-10 of each."""
    bits = 10  # three times that fill a key
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
    if issparse(X):
        return np.flatnonzero(copy_numbers(X) < most)
    n = len(X)
    key, differs = np.empty(n, dtype=np.uint64), np.ones(n, dtype=bool)
    # By a hash of each row, so that no copy of X has to be sorted. Rows that share a hash and
    # differ are told apart below; at worst a copy too many is kept, which does no harm.
    size = max(1, BLOCK_BYTES // (4 * 8 * X.shape[1]))
    factors = np.random.default_rng(0).integers(2**63, size=X.shape[1], dtype=np.uint64) * 2 + 1
    for low in range(0, n, size):
        block = slice(low, low + size)
        rows = np.ascontiguousarray(X[block]) + 0.0  # -0.0, which equals 0.0, has other bits
        bits = rows.view(f"u{rows.itemsize}").astype(np.uint64)
        bits ^= bits >> 32  # the low bits of short fractions are zero
        key[block] = bits @ factors
    order = np.argsort(key, kind="stable")
    alike = np.flatnonzero(key[order[1:]] == key[order[:-1]]) + 1
    for low in range(0, len(alike), size):
        at = alike[low : low + size]
        differs[at] = (X[order[at]] != X[order[at - 1]]).any(axis=1)
    starts = np.flatnonzero(differs)
    copy = np.arange(n) - np.repeat(starts, np.diff(np.append(starts, n)))
    return np.sort(order[copy < most])


def _largest(X: NDArray[Any]) -> float:
    """The largest absolute value, without a copy."""
    return max(float(X.max()), -float(X.min()))


def _nearest_of(
    one: tuple[Float, Index], other: tuple[Float, Index], count: int
) -> tuple[Float, Index]:
    """The nearest ``count`` of two lists for each query, by distance."""
    if one[1].shape[1] == 0:
        return other
    distance = np.concatenate([one[0], other[0]], axis=1)
    index = np.concatenate([one[1], other[1]], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(distance, order, axis=1), np.take_along_axis(index, order, axis=1)
