"""Standard LLE: one row e_i - w_i per point, w_i the weights that rebuild x_i from its neighbours.

    minimise  || x_i - sum_j w_ij x_j ||^2 + ridge_i ||w_i||^2   subject to  sum_j w_ij = 1

    G_i = Z_i Z_i^T (k x k), Z_i the differences x_j - x_i; ridge_i = reg * trace(G_i);
    w_i ~ (G_i + ridge_i I)^-1 1, scaled to sum to one.

S. Roweis, L. Saul: Nonlinear dimensionality reduction by locally linear embedding. Science
290:2323 (2000); L. Saul, S. Roweis: Think globally, fit locally. JMLR 4:119 (2003), section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.cpu.local import EPS, differences, typical_width, with_point
from lle_gpu.cuda.arrays import array_module
from lle_gpu.parallel import for_each_chunk

__all__ = ["barycentric_weights", "local_weights", "standard", "weighted_means"]

Float = NDArray[np.float64]
Solve = Callable[[Float, Float], NDArray[Any]]
# Below, squares are rounded to multiples of 5e-324.
TINY = float(np.finfo(np.float64).tiny)
# The least ridge, in units of the trace, that a Gram matrix is solved with: its inverse magnifies
# the matrix's rounding. With 1e-16, weights that look like any others are 10 % wrong.
LEAST_SOLVED = 1e-8


def local_weights(Z: Float, reg: float, solve: Solve = np.linalg.solve) -> Float:
    """Barycentric weights of the origin in each set of points Z_i, NumPy's or CuPy's.

    Parameters
    ----------
    Z : ndarray of shape (c, k, d), float64
        Neighbours minus point.
    reg : float
        Ridge in units of the trace of the Gram matrix. 0 gives the limit reg -> 0: the weights of
        least norm among those that rebuild best.
    solve : callable
        A (c, m, m) and b (c, m, 1) -> the solutions of A x = b.

    Returns
    -------
    w : ndarray of shape (c, k), rows sum to one.
    """
    w = _by_eigenvectors(Z, reg) if reg < LEAST_SOLVED else _by_solving(Z, reg, solve)
    w /= w.sum(axis=1, keepdims=True)
    return w


def _by_solving(Z: Float, reg: float, solve: Solve) -> Float:
    """(G / trace(G) + reg I)^-1 1, up to its length.

    In units of the trace, so that neither a large ridge nor small distances leave float64.
    """
    xp = array_module(Z)
    k, d = Z.shape[1:]
    transposed = Z.transpose(0, 2, 1)
    # All neighbours on the point itself: any ridge gives equal weights.
    trace = xp.einsum("ckd,ckd->c", Z, Z)[:, None, None]
    trace = xp.where(trace > TINY, trace, 1.0)
    if 2 * d < k:
        # (Z Z^T + r I)^-1 1 = (1 - Z (Z^T Z + r I)^-1 Z^T 1) / r: d x d instead of k x k.
        A = _scaled(transposed @ Z, trace, reg)
        return 1.0 - (Z @ solve(A, Z.sum(axis=1)[:, :, None] / trace))[:, :, 0]
    G = _scaled(Z @ transposed, trace, reg)
    return solve(G, xp.ones((len(Z), k, 1)))[:, :, 0]


def _scaled(A: Float, trace: Float, reg: float) -> Float:
    """A / trace + reg I for A (c, m, m) and its traces (c, 1, 1); in place if A is in C order."""
    A = array_module(A).ascontiguousarray(A)  # whose reshape is a view
    A /= trace
    c, m, _ = A.shape
    A.reshape(c, m * m)[:, :: m + 1] += reg
    return A


def _by_eigenvectors(Z: Float, reg: float) -> Float:
    """Direction of (G + reg trace(G) I)^-1 1, by the eigenvectors of G.

    What rounding makes of G's zero eigenvalues is no longer small beside such a ridge, and is left
    out. A ridge below rounding is none: the limit reg -> 0. Where 1 has a part in the null space of
    G, that is this part alone, which rebuilds the point exactly with the least norm; otherwise the
    pseudo-inverse.
    """
    xp = array_module(Z)
    k = Z.shape[1]
    values, V = xp.linalg.eigh(Z @ Z.transpose(0, 2, 1))
    largest = values.max(axis=1, keepdims=True)
    null = values <= xp.maximum(k * EPS * largest, TINY)
    values = xp.where(null, 0.0, values / xp.where(largest > TINY, largest, 1.0))
    along = V.sum(axis=1)  # V^T 1
    if reg > k * EPS:
        trace = values.sum(axis=1, keepdims=True)
        coefficients = along / (values + reg * xp.where(trace > 0, trace, 1.0))
    else:
        null_part = xp.where(null, along, 0.0)
        exact = (null_part * null_part).sum(axis=1) > k * np.sqrt(EPS)
        regular = xp.where(null, 0.0, along / xp.where(null, 1.0, values))
        coefficients = xp.where(exact[:, None], null_part, regular)
    return (V @ coefficients[:, :, None])[:, :, 0]


def barycentric_weights(
    points: NDArray[Any],
    X: NDArray[Any],
    index: NDArray[np.integer],
    *,
    reg: float = 1e-3,
    n_jobs: int | None = None,
) -> Float:
    """Weights that rebuild each point from its neighbours in X.

    Parameters
    ----------
    points : ndarray of shape (m, d)
    X : ndarray of shape (n, d)
    index : ndarray of shape (m, k)
        The neighbours of each point, rows of X.
    reg : float, default=1e-3
        See :func:`local_weights`.
    n_jobs : int or None
        Threads.

    Returns
    -------
    w : ndarray of shape (m, k), float64; rows sum to one.
    """
    m, k = index.shape
    d = typical_width(X, k)
    w = np.empty((m, k))

    def work(rows: slice) -> None:
        w[rows] = local_weights(differences(points[rows], X, index[rows]), reg)

    for_each_chunk(work, m, bytes_per_row=8 * (k * (d + min(k, d) + 3)), n_jobs=n_jobs)
    return w


def weighted_means(
    weights: Float,
    index: NDArray[np.integer],
    values: NDArray[Any],
    *,
    n_jobs: int | None = None,
) -> Float:
    """sum_j weights_ij values_index[i,j]: weights and index (m, k), values (n, q) -> (m, q).

    The values may be a sparse array; the means are dense.
    """
    m, k = index.shape
    n, q = values.shape
    means = np.empty((m, q))

    def work(rows: slice) -> None:
        if issparse(values):
            ends = np.arange(len(index[rows]) + 1) * k
            W = csr_array((weights[rows].ravel(), index[rows].ravel(), ends), (len(ends) - 1, n))
            (W @ values).toarray(out=means[rows])
            return
        picked = values[index[rows]].astype(np.float64, copy=False)
        means[rows] = (weights[rows, None, :] @ picked)[:, 0]

    for_each_chunk(work, m, bytes_per_row=8 * k * (q + 1), n_jobs=n_jobs)
    return means


def standard(
    X: NDArray[Any],
    index: NDArray[np.integer],
    n_components: int,
    *,
    reg: float = 1e-3,
    n_jobs: int | None = None,
) -> Constraints:
    """Rows [1, -w_i] on the index sets [i, neighbours of i].

    Parameters
    ----------
    X : ndarray of shape (n, d)
    index : ndarray of shape (n, k)
    n_components : int
        Not used: the weights do not depend on it.
    reg, n_jobs
        As in :func:`barycentric_weights`.

    Returns
    -------
    Constraints with rows of shape (n, 1, k + 1).
    """
    n, k = index.shape
    rows = np.empty((n, 1, k + 1))
    rows[:, 0, 0] = 1.0
    np.negative(barycentric_weights(X, X, index, reg=reg, n_jobs=n_jobs), out=rows[:, 0, 1:])
    return Constraints(with_point(index), rows)
