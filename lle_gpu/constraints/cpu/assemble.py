"""Constraints -> the sparse matrices that the eigensolvers work with.

F (R x n)   all rows, stacked
M (n x n)   F^T F, for the factorisations that need it
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array, vstack

from lle_gpu.constraints import Constraints
from lle_gpu.parallel import effective_jobs, for_each_chunk, in_threads

__all__ = ["gram", "gram_bytes", "stack"]

# Working memory of M's assembly, by parts of the points: blocks (8 bytes an entry) and their column
# indices (4). So much, or what makes so few parts: each is added to the sum of those before.
GRAM_BYTES = 1 << 26
GRAM_PARTS = 8


def stack(constraints: Constraints) -> csr_array:
    """F: every row of every point that is not zero, in the points' order.

    F shares the constraints' memory where it can, so its column indices stand in their order.
    """
    index, rows = constraints.index, constraints.rows
    n, r, m = rows.shape
    owner, which = np.nonzero(rows.any(axis=2))
    if len(owner) == n * r:
        data, columns = rows.reshape(n * r, m), np.repeat(index, r, axis=0)
    else:
        data, columns = rows[owner, which], index[owner]
    itype = _index_type(data.size, n)
    pointer = np.arange(0, data.size + 1, m, dtype=itype)
    return csr_array(
        (data.ravel(), columns.ravel().astype(itype, copy=False), pointer), shape=(len(data), n)
    )


def gram(constraints: Constraints, n_jobs: int | None = None) -> csr_array:
    """M = F^T F (n x n, symmetric), by the points' own m x m blocks.

    With A_i = rows_i^T rows_i, M = sum_i S_i^T A_i S_i, S_i picking the index set of point i. The
    A_i, stacked, are a sparse matrix (n m x n); the S_i^T side by side are one of zeros and ones
    (n x n m). Their product costs n m^2 operations, r times fewer than F^T F row by row. Points are
    taken a part at a time: less memory, and faster, since more of it stays in the caches.
    """
    n, _, m = constraints.rows.shape
    step = max(1, _chunk_bytes(n, m) // (12 * m * m))
    M = _gram_of(constraints, slice(0, step), n_jobs)
    for low in range(step, n, step):
        M = M + _gram_of(constraints, slice(low, low + step), n_jobs)
    return M


def gram_bytes(constraints: Constraints, nonzeros: int) -> int:
    """Bytes at the peak of M's assembly, M included: a part's blocks, that part, and two sums."""
    n, _, m = constraints.rows.shape
    return _chunk_bytes(n, m) + 36 * nonzeros


def _chunk_bytes(n: int, m: int) -> int:
    """Working memory of a part, of n index sets of m points in all."""
    whole = 12 * n * m * m
    return min(whole, max(GRAM_BYTES, whole // GRAM_PARTS))


def _gram_of(constraints: Constraints, points: slice, n_jobs: int | None) -> csr_array:
    """The points' part of M."""
    n = constraints.n_points
    index, rows = constraints.index[points], constraints.rows[points]
    c, r, m = rows.shape
    blocks = np.empty((c, m, m))

    def work(chunk: slice) -> None:
        R = rows[chunk]
        np.matmul(R.transpose(0, 2, 1), R, out=blocks[chunk])

    for_each_chunk(work, c, bytes_per_row=8 * m * (r + m), n_jobs=n_jobs, quiet=True)
    itype = _index_type(c * m * m, n)
    index = index.astype(itype, copy=False)
    A = csr_array(
        (
            blocks.ravel(),
            np.repeat(index, m, axis=0).ravel(),
            np.arange(0, c * m * m + 1, m, dtype=itype),
        ),
        shape=(c * m, n),
    )
    pick = csr_array(
        (np.ones(c * m), index.ravel(), np.arange(c * m + 1, dtype=itype)), shape=(c * m, n)
    )
    return _product(pick.T.tocsr(), A, effective_jobs(n_jobs))


def _product(left: csr_array, right: csr_array, jobs: int) -> csr_array:
    """Left @ right, by blocks of rows on several threads (SciPy releases the interpreter lock)."""
    if jobs == 1 or left.shape[0] < 4096:
        return left @ right
    bounds = np.linspace(0, left.shape[0], jobs + 1).astype(int)
    parts: list[Any] = [None] * jobs

    def work(number: int) -> None:
        parts[number] = left[bounds[number] : bounds[number + 1]] @ right

    in_threads(work, range(jobs), jobs)
    return vstack(parts, format="csr")


def _index_type(nonzeros: int, n: int) -> type[np.integer]:
    """int32 where it reaches: half the memory, and the only type SuperLU takes."""
    return np.int32 if max(nonzeros, n) <= np.iinfo(np.int32).max else np.int64
