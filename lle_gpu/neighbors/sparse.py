"""Exact k nearest neighbours among sparse points, which are never made dense as a whole.

For a block of queries x and all points y,

    |x - y|^2 = S - 2 x.y,    S = |x|^2 + |y|^2,

with x.y from one product of sparse matrices. This expanded form cancels, and is wrong by up to
gamma S, gamma some dozens of units of rounding. So each distance is known to lie between S (1 -
gamma) - 2 x.y and S (1 + gamma) - 2 x.y, and all pairs whose lower end is not beyond the k-th upper
end are looked at once more: their distances are formed from the sparse differences x - y in
float64, and sorted by (distance, index). One pass is enough, however many ties there are.

Pairs that have no column in common have x.y = 0: nothing cancels, and S is taken as it is. Text of
unit length, of which most pairs are at distance sqrt(2), so costs no more than other data.

Features that most points have are centred first (which at most doubles what is stored in them): a
common offset would make S, and with it the number of pairs looked at, large.

Products are those of the columns that the points have entries in. What queries have beside them is
in |x|^2 alone, and X may be as wide as it likes.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lle_gpu.parallel import effective_jobs, for_each_chunk
from lle_gpu.sparse_structure import narrowed, narrowed_to

__all__ = ["SparseSearch", "copy_numbers"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]

EPS = float(np.finfo(np.float64).eps)
# Bytes that the blocks of all threads take together, and bytes for each pair in a block: products
# and distances, a copy to find the k-th, the stored products.
BLOCK_BYTES = 1 << 26
PAIR_BYTES = 32
# Stored differences of the pairs that are looked at once more, formed at a time.
DIFFERENCES = 1 << 19


class SparseSearch:
    """Nearest points among the rows of a sparse array, by squared Euclidean distance.

    Parameters
    ----------
    X : csr_array of shape (n, d), float32 or float64
        In canonical format: sorted columns, no duplicates.
    n_jobs : int or None
        Threads.
    """

    def __init__(self, X: Any, n_jobs: int | None = None) -> None:
        self._X = X.astype(np.float64, copy=False)
        self._n_jobs = n_jobs
        self._columns, self._narrow = narrowed(self._X)
        self._copy = copy_numbers(self._narrow)
        times_stored, sums = (
            np.bincount(self._narrow.indices, weights, minlength=len(self._columns))
            for weights in (None, self._narrow.data)
        )
        self._offset = csr_array(np.where(2 * times_stored > X.shape[0], sums, 0)[None])
        self._offset.data /= X.shape[0]
        self._most_stored = int(np.diff(X.indptr).max()) + self._offset.nnz
        self._everything = self._prepared(self._narrow)

    def nearest(self, points: Any, k: int, *, exclude_self: bool = False) -> tuple[Float, Index]:
        """Find the k nearest points, ordered by (distance, index).

        Parameters
        ----------
        points : sparse array of shape (m, d)
        k : int
            At most n; n - 1 with ``exclude_self``.
        exclude_self : bool, default=False
            The points are the training points, and no row is its own neighbour.

        Returns
        -------
        squared_distance : ndarray of shape (m, k), float64
        index : ndarray of shape (m, k), int64
        """
        m, n = points.shape[0], self._X.shape[0]
        # By (distance, index), further copies of a row are nobody's neighbours.
        kept = np.flatnonzero(self._copy <= k)
        X, (transposed, square) = self._X, self._everything
        if len(kept) < n:
            X = X[kept]
            transposed, square = self._prepared(self._narrow[kept])
        place = np.full(n, -1)
        place[kept] = np.arange(len(kept))
        distance, index = np.empty((m, k)), np.empty((m, k), dtype=np.int64)

        def work(rows: slice) -> None:
            queries = points[rows].astype(np.float64, copy=False)
            among_them, beside = narrowed_to(self._columns, queries)
            centred = self._centred(among_them)
            own_square = squared_norms(centred) + squared_norms(beside)
            # Rounding of a product, of the two norms, of centring, and of the distances in the end.
            most_stored = int(np.diff(queries.indptr).max()) + self._offset.nnz
            gamma = 4 * (most_stored + self._most_stored + 8) * EPS
            product = (centred @ transposed).toarray()
            lower = product * -2.0
            lower += (1 - gamma) * own_square[:, None]
            lower += (1 - gamma) * square
            if exclude_self:
                own = place[rows]
                lower[np.flatnonzero(own >= 0), own[own >= 0]] = np.inf
            kth = np.partition(lower, k - 1, axis=1)[:, k - 1]
            # The k points found so have |y| <= |x| + |x - y|, and so S <= 3 |x|^2 + 2 |x - y|^2.
            upper = kth + 2.02 * gamma * (3 * own_square + 2 * np.maximum(kth, 0))
            row, column = np.nonzero(lower <= upper[:, None])
            del lower
            squared = own_square[row] + square[column]
            apart = (product[row, column] == 0) & (self._offset.nnz == 0)
            again = np.flatnonzero(~apart)
            squared[again] = squared_distances(queries, X, row[again], column[again])
            order = np.lexsort((column, squared, row))
            first = np.searchsorted(row, np.arange(queries.shape[0]))  # `row` ascends
            nearest = order[first[:, None] + np.arange(k)]
            distance[rows] = squared[nearest]
            index[rows] = kept[column[nearest]]

        for_each_chunk(
            work,
            m,
            bytes_per_row=PAIR_BYTES * len(kept),
            n_jobs=self._n_jobs,
            chunk_bytes=BLOCK_BYTES // effective_jobs(self._n_jobs),
        )
        return distance, index

    def _centred(self, X: Any) -> Any:
        """X with the offset of its common features taken away."""
        if self._offset.nnz == 0:
            return X
        return X - csr_array(np.ones((X.shape[0], 1))) @ self._offset

    def _prepared(self, X: Any) -> tuple[Any, Float]:
        """Centred points as columns, and their squared norms."""
        centred = self._centred(X)
        return centred.T.tocsr(), squared_norms(centred)


def squared_norms(X: Any) -> Float:
    """Squared length of each row of a sparse array."""
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    squares = X.data * X.data
    return np.bincount(row, weights=squares, minlength=X.shape[0]).astype(np.float64, copy=False)


def squared_distances(points: Any, X: Any, rows: Index, columns: Index) -> Float:
    """|points_rows[p] - X_columns[p]|^2 for each pair p, by differences, in pieces."""
    squared = np.empty(len(rows))
    stored = np.diff(points.indptr)[rows] + np.diff(X.indptr)[columns]
    piece = np.cumsum(stored, dtype=np.int64) // DIFFERENCES
    bounds = np.flatnonzero(np.diff(piece, prepend=-1, append=-1))
    for low, high in itertools.pairwise(bounds):
        pairs = slice(low, high)
        squared[pairs] = squared_norms(points[rows[pairs]] - X[columns[pairs]])
    return squared


def copy_numbers(X: Any) -> Index:
    """How many equal rows come before each row of a csr_array in canonical format."""
    n = X.shape[0]
    columns, narrow = narrowed(X)
    # Equal rows have the same image under any map: only neighbours in its order are compared.
    image = narrow @ np.random.default_rng(0).normal(size=len(columns))
    order = np.argsort(image, kind="stable")
    alike = np.flatnonzero(image[order[1:]] == image[order[:-1]])
    different = np.ones(n, dtype=bool)
    different[alike + 1] = np.diff((X[order[alike + 1]] - X[order[alike]]).indptr) > 0
    starts = np.flatnonzero(different)
    numbers = np.empty(n, dtype=np.int64)
    numbers[order] = np.arange(n) - np.repeat(starts, np.diff(np.append(starts, n)))
    return numbers
