"""A neighbour graph that the user brings, in any of its usual forms -> index (n, k).

The forms are those that cuML's UMAP and TSNE take, and indices alone:

- ``(indices, distances)``, two arrays (n, k'); distances may be None;
- ``indices`` (n, k'), integers, nearest first;
- a sparse n x n matrix of distances, whose stored entries in row i are the neighbours of point i
  (stored zeros, too: duplicates have distance 0);
- a dense n x n array of distances.

So what cuML, cuVS, FAISS, pynndescent and scikit-learn give can be passed on. The point itself is
left out wherever it stands; of the others the k nearest are taken, by the given distances, ties by
index; without distances the first k. Indices of -1 at a row's end stand for neighbours that were
not found (as pynndescent and FAISS give them), and do no harm after enough that were. Everything
else is an error that names the row.

What is no graph of distances can look like one. Zeros of a dense array that contradict one another
are an error. Values that fall as the distances between the points grow, as similarities do, are a
warning: the graph may be of another space than X, of which X's distances prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from lle_gpu.exceptions import warn_user
from lle_gpu.kinds import host_array, to_host
from lle_gpu.sparse_structure import check_structure

__all__ = ["neighbor_index"]

Index = NDArray[np.int64]

# Bytes of dense distances looked at together.
DENSE_BYTES = 1 << 25
# Rows, and entries of each, by which distances are told from other numbers.
SAMPLE_ROWS, SAMPLE_ENTRIES = 100, 32
# Kendall's tau between a row's values and the distances in X, on average: 1 for Euclidean
# distances, about 0 at the least for those of any other metric or space, and well below this for
# similarities (tests/test_precomputed.py has both).
SIMILAR = -0.4
FEWEST_ROWS = 20  # of few short rows it can be as low by chance
FORMS = (
    "Give (indices, distances) or indices alone, of shape (n_samples, at least n_neighbors), or "
    "distances of shape (n_samples, n_samples), sparse or dense"
)


def neighbor_index(
    graph: Any,
    n_samples: int,
    n_neighbors: int,
    *,
    name: str = "precomputed_knn",
    points: Any = None,
) -> Index:
    """Check a graph of any form, and take the nearest neighbours out of it.

    Parameters
    ----------
    graph : tuple of two arrays, array, or sparse matrix
        See above; of any kind that X can be, on the host or a GPU.
    n_samples : int
        Points that it must be of.
    n_neighbors : int
        Neighbours to take of each.
    name : str
        What the user calls it; for errors.
    points : array or csr_array of shape (n_samples, n_features), optional
        The points, on any device, whose rows can be picked by NumPy's arrays of their numbers.
        Distances between them are held against the graph's.

    Returns
    -------
    ndarray of shape (n_samples, n_neighbors), int64
        The neighbours of each point, nearest first, itself not among them.

    Raises
    ------
    TypeError
        If it is none of the forms, or a sparse tensor.
    ValueError
        If it is of another number of points, if a row has too few neighbours, if an index is
        negative (-1 after enough others is not), out of range or comes twice, if a distance is NaN,
        infinite, negative or (with indices) smaller than the one before it, if an entry is masked,
        or if the parts of a sparse matrix do not fit together. The message names the first such
        row. Also if a dense array has zeros for what a sparse one did not store.

    Warns
    -----
    UserWarning
        If its values look like similarities of the ``points``.

    Examples
    --------
    >>> import numpy as np
    >>> from lle_gpu.neighbors.precomputed import neighbor_index
    >>> indices = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0]])
    >>> neighbor_index(indices, n_samples=3, n_neighbors=1)
    array([[1],
           [0],
           [1]])
    """
    check = _Checks(name, n_samples, n_neighbors, points)
    if isinstance(graph, (tuple, list)):
        parts = [host_array(part, name) for part in graph]
        if any(part.ndim >= 2 for part in parts):  # else they are the rows of an array
            if len(graph) != 2:
                raise TypeError(f"{name} is a {type(graph).__name__} of {len(graph)}. {FORMS}.")
            for part in graph:
                check.masks(part, "Leave out the last columns, down to n_neighbors + 1")
            indices, distances = parts
            return _from_lists(indices, None if graph[1] is None else distances, check)
        graph = parts
    check.masks(graph, "Leave such columns out, or give the distances as a sparse matrix")
    graph = host_array(graph, name)
    if issparse(graph):
        return _from_sparse(graph, check)
    if graph.dtype.kind in "iu":
        if graph.shape == (n_samples, n_samples):
            check.hint = (
                f" (An integer array of shape {graph.shape} is read as indices, nearest first: "
                "give those, or distances as floats.)"
            )
        return _from_lists(graph, None, check)
    return _from_dense(graph, check)


class _Checks:
    """What every form is held to, in the words of one user's call."""

    def __init__(self, name: str, n: int, k: int, points: Any = None) -> None:
        self.name, self.n, self.k, self.points = name, n, k, points
        self.hint = ""  # at the end of every message

    def fail(self, what: str) -> NoReturn:
        raise ValueError(f"{self.name} {what}{self.hint}")

    def fail_at(self, row: int, what: str) -> NoReturn:
        raise ValueError(f"{self.name}, row {row}: {what}{self.hint}")

    def masks(self, array: Any, instead: str) -> None:
        """No masked entries: what is under a mask would be taken for a neighbour."""
        if np.ma.is_masked(array):
            self.fail_at(
                int(np.argwhere(np.ma.getmaskarray(array))[0, 0]),
                f"has masked entries, and masks are not read. {instead}, or use .filled(value) "
                "where you know what belongs there (-1 for the index of one that was not found).",
            )

    def rows(self, count: int) -> None:
        """As many rows as X."""
        if count != self.n:
            self.fail(
                f"has {count} rows, and X has {self.n}: row i must hold the neighbours of row i "
                "of X. Make the graph of this X; where X is a part of your data, as in the folds "
                f"of a cross-validation, leave {self.name} None."
            )

    def enough(self, counts: NDArray[np.integer]) -> None:
        """At least k neighbours a row, the point itself not counted."""
        lacking = np.flatnonzero(counts < self.k)
        if len(lacking):
            row = int(lacking[0])
            more = f", as in {len(lacking)} rows of {self.n}" if len(lacking) > 1 else ""
            self.fail_at(
                row,
                f"has {counts[row]} neighbour(s), itself not counted{more}, and n_neighbors="
                f"{self.k} are needed. Make the graph with n_neighbors + 1 or more a row (the "
                "point itself is often one of them), or take a smaller n_neighbors.",
            )

    def indices(self, rows: NDArray[np.integer], index: NDArray[np.integer]) -> None:
        """From 0 to n - 1; ``rows``, of the same shape, says whose they are."""
        bad = (index < 0) | (index >= self.n)
        if not bad.any():
            return
        row, value = int(rows[bad][0]), int(index[bad][0])
        if value < 0:
            self.fail_at(
                row,
                f"has the index {value}. pynndescent and FAISS fill up with -1 what they did not "
                f"find, which is left out where it comes after n_neighbors={self.k} others: have "
                "them search harder, or take a smaller n_neighbors.",
            )
        self.fail_at(row, f"has the index {value}; with {self.n} points they end at {self.n - 1}.")

    def distances(self, rows: NDArray[np.integer], distance: NDArray[Any]) -> None:
        """Numbers that can be distances; ``rows``, of the same shape, says whose they are."""
        bad = ~((distance >= 0) & (distance < np.inf))  # NaN fails every comparison
        if not bad.any():
            return
        value = distance[bad][0]
        advice = (
            "Similarities are no distances; where it is rounding, clip it at 0."
            if value < 0
            else "Leave such neighbours out, or search with another metric."
        )
        self.fail_at(int(rows[bad][0]), f"has the distance {value}. {advice}")

    def kind(self, distance: NDArray[Any]) -> None:
        """Real numbers."""
        if distance.dtype.kind not in "fiu":
            self.fail(f"has distances of dtype {distance.dtype}; they must be real numbers.")

    def sample(self) -> Index:
        """Some rows."""
        return np.unique(np.linspace(0, self.n - 1, SAMPLE_ROWS).astype(np.int64))

    def zeros(self, distance: NDArray[Any]) -> None:
        """Two points of distance 0, whatever the metric, are not at 0 and farther from a third."""
        wrong, rows = 0, self.sample()
        for row in rows:
            here = distance[row].copy()
            here[row] = 0
            farthest = here.argmax()
            equal = np.flatnonzero(here == 0)
            equal = equal[equal != row]
            if len(equal) > self.k and here[farthest] > 0:
                wrong += (distance[equal, farthest] == 0).mean() > 0.5
        if 2 * wrong > len(rows):
            self.fail(
                f"is a dense array with zeros that cannot be distances, more than n_neighbors="
                f"{self.k} in most rows: points at distance 0 from one another would be at 0 and "
                "farther from the same third one. toarray() writes 0 for what a sparse matrix does "
                "not store. Give the sparse graph itself, or all distances."
            )

    def order(self, entries: Callable[[int], tuple[Index, NDArray[Any]]]) -> None:
        """The larger the value, the larger the distance in X, or at least not the other way round.

        ``entries`` has the neighbours of a row and their values, by ascending value.
        """
        if self.points is None:
            return
        rows = self.sample()
        taus = np.array([_agreement(*self._compared(row, *entries(row))) for row in rows])
        taus = taus[~np.isnan(taus)]
        if len(taus) >= FEWEST_ROWS and (tau := taus.mean()) < SIMILAR:
            warn_user(
                f"{self.name} looks like similarities: in its rows the values fall as the "
                f"distances in X grow (Kendall's tau is {tau:.2f} on average over {len(taus)} "
                "rows), and the smallest are taken for the nearest. Give distances, such as "
                "obsp['distances'] in place of obsp['connectivities'].",
                UserWarning,
            )

    def _compared(self, row: int, index: Index, value: NDArray[Any]) -> tuple[Any, Any]:
        """Of some of a row's entries: their values, and (squared) distances in X."""
        some = np.unique(np.linspace(0, len(index) - 1, SAMPLE_ENTRIES).astype(np.int64))
        points = to_host(self.points[np.append(row, index[some])])
        if issparse(points):
            squares = points.multiply(points).sum(axis=1)
            distance = squares - 2 * (points @ points[[0]].T).toarray()[:, 0]
        else:
            distance = np.square(points - points[0].astype(np.float64)).sum(axis=1)
        return value[some].astype(np.float64), distance[1:]

    def once(self, row: int, index: int) -> NoReturn:
        """An index that comes twice."""
        self.fail_at(row, f"has the index {index} twice. Each neighbour may come once.")


def _from_lists(index: NDArray[Any], distance: NDArray[Any] | None, check: _Checks) -> Index:
    """Of indices (n, k'), and distances if there are any."""
    if issparse(index) or issparse(distance) or index.ndim != 2:
        check.fail(f"has indices that are no array of shape (n_samples, n_neighbors). {FORMS}.")
    if index.dtype.kind not in "iu":
        if distance is not None and distance.dtype.kind in "iu":
            check.fail(
                f"has a first array of {index.dtype} and a second of {distance.dtype}: these are "
                "(distances, indices), as kneighbors() and FAISS's search() return them. Turn "
                "them round: (indices, distances)."
            )
        check.fail(f"has indices of dtype {index.dtype}; they must be integers: use astype.")
    n, width = index.shape
    check.rows(n)
    rows = np.broadcast_to(np.arange(n)[:, None], index.shape)
    is_own = index == rows
    padding = _padding(index, is_own, check.k)
    check.indices(rows, np.where(padding, 0, index))
    index = index.astype(np.int64, copy=False)
    ascending = np.sort(index, axis=1)
    twice = np.argwhere((ascending[:, 1:] == ascending[:, :-1]) & (ascending[:, 1:] >= 0))
    if len(twice):
        check.once(int(twice[0, 0]), int(ascending[tuple(twice[0])]))
    left_out = is_own | padding
    check.enough(width - left_out.sum(axis=1))
    order = np.argsort(left_out, axis=1, kind="stable")  # to the end
    index = np.take_along_axis(index, order, axis=1)
    if distance is None:
        return index[:, : check.k].copy()
    if distance.shape != index.shape:
        check.fail(
            f"has indices of shape {index.shape} and distances of shape {distance.shape}; they "
            "must be of one shape."
        )
    check.kind(distance)
    check.distances(rows, np.where(left_out, 0, distance))
    distance = np.take_along_axis(np.where(left_out, np.inf, distance), order, axis=1)
    falls = np.argwhere(distance[:, 1:] < distance[:, :-1])
    if len(falls):
        row, column = map(int, falls[0])
        check.fail_at(
            row,
            f"has the distance {distance[row, column + 1]} after {distance[row, column]}. "
            "They must ascend: sort each row by distance, and its indices with it.",
        )
    known = np.isfinite(distance) & (index >= 0)  # FAISS pads with -1, at 3e38
    check.order(lambda row: (index[row, known[row]], distance[row, known[row]]))
    return _nearest(index, distance, check.k)


def _padding(index: NDArray[Any], is_own: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """Where -1 stands for nothing: at the ends of rows that have k neighbours before it."""
    unknown = index == -1
    if not unknown.any():
        return unknown
    at_end = np.logical_and.accumulate(unknown[:, ::-1], axis=1)[:, ::-1]
    return at_end & ((~(at_end | is_own)).sum(axis=1, keepdims=True) >= k)


def _nearest(index: Index, distance: NDArray[Any], k: int) -> Index:
    """Of neighbours by ascending distance (n, k') the first k; ties at the end by index.

    Other ties stay in the order of the search, which may have known more digits than it gave.
    """
    nearest = index[:, :k].copy()
    if index.shape[1] > k:
        tied = np.flatnonzero(distance[:, k] == distance[:, k - 1])
        chosen = np.lexsort((index[tied], distance[tied]), axis=-1)[:, :k]
        nearest[tied] = np.take_along_axis(index[tied], np.sort(chosen, axis=1), axis=1)
    return nearest


def _from_sparse(graph: Any, check: _Checks) -> Index:
    """Of the stored entries of a sparse n x n matrix."""
    if graph.ndim != 2 or graph.shape[0] != graph.shape[1]:
        check.fail(f"is sparse, of shape {graph.shape}, and must be (n_samples, n_samples).")
    check.rows(graph.shape[0])
    n, k = check.n, check.k
    by_row = graph.format in ("csr", "coo")  # wrong columns are found below, and their rows
    check_structure(graph, check.name, columns=not by_row)
    if graph.format == "csr":
        rows, nnz = np.repeat(np.arange(n), np.diff(graph.indptr)), graph.indptr[-1]
        index, distance = graph.indices[:nnz].astype(np.int64), graph.data[:nnz]
    else:
        entries = graph.tocoo()  # which keeps stored zeros and duplicates
        rows, index = entries.row.astype(np.int64), entries.col.astype(np.int64)
        distance = entries.data
    if distance.dtype.kind == "b":  # whether there is an edge
        distance = distance.astype(np.int8)
    check.kind(distance)
    check.indices(rows, index)
    others = rows != index
    rows, index, distance = rows[others], index[others], distance[others]
    order = np.lexsort((index, rows))
    again = np.flatnonzero((np.diff(rows[order]) == 0) & (np.diff(index[order]) == 0))
    if len(again):
        check.once(int(rows[order[again[0]]]), int(index[order[again[0]]]))
    counts = np.bincount(rows, minlength=n)
    check.enough(counts)
    check.distances(rows, distance)
    if (counts > k).any() and (distance == 1).all():
        check.fail(
            f"has rows of more than n_neighbors={k} entries, and all are 1, which does not say "
            "which are nearest. Give distances (kneighbors_graph(..., mode='distance')), or "
            "n_neighbors entries a row."
        )
    order = np.lexsort((index, distance, rows))
    begin = np.cumsum(counts) - counts

    def of_row(row: int) -> tuple[Index, NDArray[Any]]:
        own = order[begin[row] : begin[row] + counts[row]]
        return index[own], distance[own]

    check.order(of_row)
    return index[order[begin[:, None] + np.arange(k)]]


def _from_dense(distance: NDArray[Any], check: _Checks) -> Index:
    """Of a dense n x n array of distances, whose diagonal is not looked at."""
    n, k = check.n, check.k
    if distance.ndim != 2 or distance.dtype.kind != "f":
        raise TypeError(
            f"{check.name} is an array of shape {distance.shape} and dtype {distance.dtype}. "
            f"{FORMS}."
        )
    check.rows(len(distance))
    if distance.shape != (n, n):
        check.fail(
            f"is an array of {distance.dtype} of shape {distance.shape}: indices must be integers "
            f"(use astype), and distances alone of shape {(n, n)}. {FORMS}."
        )
    check.enough(np.full(n, n - 1))
    nearest = np.empty((n, k), dtype=np.int64)
    block = max(1, DENSE_BYTES // (8 * n))
    for low in range(0, n, block):
        rows = np.arange(low, min(low + block, n))
        some = distance[rows].astype(np.float64)
        itself = np.arange(len(rows)), rows
        some[itself] = 0
        check.distances(np.broadcast_to(rows[:, None], some.shape), some)
        some[itself] = np.inf
        kth = np.partition(some, k - 1, axis=1)[:, k - 1 : k]
        nearer, tied = some < kth, some == kth
        # Of those as far away as the k-th, the first ones.
        missing = k - nearer.sum(axis=1, keepdims=True)
        taken = nearer | (tied & (np.cumsum(tied, axis=1) <= missing))
        index = np.nonzero(taken)[1].reshape(-1, k)
        order = np.argsort(some[taken].reshape(-1, k), axis=1, kind="stable")
        nearest[rows] = np.take_along_axis(index, order, axis=1)
    check.zeros(distance)

    def of_row(row: int) -> tuple[Index, NDArray[Any]]:
        order = np.argsort(distance[row], kind="stable")
        order = order[order != row]
        return order, distance[row, order]

    check.order(of_row)
    return nearest


def _agreement(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Kendall's tau: of the pairs that differ in both, the share in one order less the other's."""
    signs = np.sign(np.subtract.outer(a, a)) * np.sign(np.subtract.outer(b, b))
    n = np.count_nonzero(signs)
    return float(signs.sum() / n) if n else np.nan
