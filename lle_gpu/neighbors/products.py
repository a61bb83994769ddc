"""Brute force by products of float32 matrices, as a proposer of candidates.

|x - y|^2 = |x|^2 + (|y|^2 - 2 x.y), and for one query x the bracket alone decides. With one more
column it is a product of matrices and nothing else:

    [x, 1] . [-2 y, |y|^2] = |y|^2 - 2 x.y

Few of its entries matter: those below the query's ``count``-th best so far. So a block of products
(queries x points) is made where a core's cache holds it, and compared with the queries' bounds;
what is below them is collected, and merged into the lists when twice as many points have been seen
as at the last merge. Of points in no particular order some count * log2(n / block) per query get
so far. (The lists are those of a blocked scan, as in FAISS: Johnson, Douze, Jegou, "Billion-scale
similarity search with GPUs", 2017; there they are kept in registers.)

Products and points are rounded to float32. :meth:`Float32Points.error` bounds what that can do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.neighbors.float32 import Float32Points
from lle_gpu.parallel import for_each_chunk

__all__ = ["Float32Products"]

Float32 = NDArray[np.float32]
Float = NDArray[np.float64]
Index = NDArray[np.int64]

# A block of products, of 1 MiB: so many points by as many queries, or more by fewer.
COLUMNS = 512
PRODUCTS = 1 << 18
# Bytes of points held in float32 at once. More are converted again, block by block, whenever they
# are looked at: X may be larger than the memory that there is.
BLOCK_BYTES = 1 << 26
# Entries that are collected before they are merged, and entries of lists merged at once.
MERGED = 1 << 18


class Float32Products:
    """Nearest of the points X (n, d) by products; the compared quantity is the squared distance.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Kept, not copied.
    n_jobs : int or None
        Threads.
    """

    spare = 8
    float32 = True

    def __init__(self, X: NDArray[Any], n_jobs: int | None) -> None:
        self._X, self._n_jobs = X, n_jobs
        self._in_float32 = Float32Points(X, n_jobs)
        self._whole: Float32 | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_whole": None}  # is made anew, from the points

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, Index]:
        """Squared distances (m, count), ascending, and indices of the nearest."""
        m, n = len(points), len(self._X)
        value = np.full((m, count), np.inf, np.float32)
        index = np.zeros((m, count), np.int64)
        distance = np.empty((m, count))
        size = max(1, BLOCK_BYTES // (4 * (points.shape[1] + 1)))
        for low in range(0, n, size):
            factors = self._factors(slice(low, min(low + size, n)))

            def work(rows: slice, low: int = low, factors: Float32 = factors) -> None:
                queries = self._in_float32.mapped(points[rows])
                _update(value[rows], index[rows], queries, factors, low)
                if low + size >= n:
                    _sort(value[rows], index[rows])
                    squares = np.einsum("ij,ij->i", queries, queries, dtype=np.float64)
                    distance[rows] = self._in_float32.restored(value[rows] + squares[:, None])

            for_each_chunk(work, m, bytes_per_row=4 * COLUMNS, n_jobs=self._n_jobs, quiet=True)
        return distance, index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        """How much less the true squared distance can be, where ``distance`` (m,) was proposed."""
        return self._in_float32.error(points, distance)

    def _factors(self, block: slice) -> Float32:
        """The rows [-2 y, |y|^2] of these points; kept if they are all."""
        points = self._X[block]
        n, d = points.shape
        if self._whole is not None and n == len(self._X):
            return self._whole
        factors = np.empty((n, d + 1), np.float32)

        def work(rows: slice) -> None:
            Y = self._in_float32.mapped(points[rows])
            np.multiply(Y, -2.0, out=factors[rows, :d])
            factors[rows, d] = np.einsum("ij,ij->i", Y, Y, dtype=np.float64)

        for_each_chunk(work, n, bytes_per_row=24 * d, n_jobs=self._n_jobs, quiet=True)
        if n == len(self._X):
            self._whole = factors
        return factors


def _update(value: Float32, index: Index, queries: Float32, factors: Float32, offset: int) -> None:
    """Bring the nearest of these points into the lists of the queries, in place.

    Parameters
    ----------
    value, index : ndarray of shape (m, count)
        The least |y|^2 - 2 x.y so far (infinity: none), in no order, and whose they are.
    queries : ndarray of shape (m, d)
    factors : ndarray of shape (n, d + 1)
        Of the points from ``offset`` on.
    """
    (m, count), n = value.shape, len(factors)
    size = min(max(COLUMNS, PRODUCTS // m), n)
    queries = np.hstack([queries, np.ones((m, 1), np.float32)])
    bound = value.max(axis=1, keepdims=True)
    memory, mask = np.empty(m * size, np.float32), np.empty(m * size, bool)
    found: list[tuple[Index, Index, Float32]] = []
    n_found, due = 0, 0
    for low in range(0, n, size):
        width = min(size, n - low)
        products = memory[: m * width].reshape(m, width)
        below = mask[: m * width].reshape(m, width)
        np.matmul(queries, factors[low : low + width].T, out=products)
        if low == 0 and not np.isfinite(bound).all():
            bound = np.minimum(bound, _first_bound(products, count))
        at = np.flatnonzero(np.less(products, bound, out=below))
        found.append((at // width, at % width + (offset + low), products.ravel()[at]))
        n_found += len(at)
        if low >= due or n_found > MERGED or low + width == n:
            row, column, new = (np.concatenate(parts) for parts in zip(*found, strict=True))
            order = np.argsort(row, kind="stable")
            _merge(value, index, row[order], column[order], new[order])
            bound = value.max(axis=1, keepdims=True)
            found, n_found, due = [], 0, 2 * low + size


def _first_bound(products: Float32, count: int) -> Float32:
    """A number (m, 1) above at least ``count`` of each row's entries, if there are so many.

    The ``count`` least minima of disjoint groups belong to ``count`` entries. Of twice as many
    groups they are little more than the least entries themselves, and soon found.
    """
    m, width = products.shape
    if count > width:
        return np.full((m, 1), np.inf, np.float32)
    size = max(1, width // (2 * count))
    groups = width // size
    least = products[:, : size * groups].reshape(m, size, groups).min(axis=1)
    bound = np.partition(least, count - 1, axis=1)[:, count - 1 : count]
    return np.nextafter(bound, np.float32(np.inf))


def _merge(value: Float32, index: Index, row: Index, column: Index, new: Float32) -> None:
    """Put the entries (row, column, new), sorted by row, into the lists (m, count) in place."""
    m, count = value.shape
    numbers = np.bincount(row, minlength=m)
    width = count + int(numbers.max())
    if m > 1 and m * width > MERGED:  # as when one row has far more than the others
        half = m // 2
        cut = int(numbers[:half].sum())
        _merge(value[:half], index[:half], row[:cut], column[:cut], new[:cut])
        _merge(value[half:], index[half:], row[cut:] - half, column[cut:], new[cut:])
        return
    place = count + np.arange(len(row)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    values = np.full((m, width), np.inf, np.float32)
    indices = np.zeros((m, width), np.int64)
    values[:, :count], indices[:, :count] = value, index
    values[row, place], indices[row, place] = new, column
    least = np.argpartition(values, count - 1, axis=1)[:, :count]
    value[:] = np.take_along_axis(values, least, axis=1)
    index[:] = np.take_along_axis(indices, least, axis=1)


def _sort(value: Float32, index: Index) -> None:
    order = np.argsort(value, axis=1)
    value[:] = np.take_along_axis(value, order, axis=1)
    index[:] = np.take_along_axis(index, order, axis=1)
