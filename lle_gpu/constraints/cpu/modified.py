"""Modified LLE (MLLE): several weight vectors per point, so that no single one can mislead.

For each point, Z_i (k x d) = neighbours minus point, Z_i = U S V^T, lambda = S^2:

    w_i     the standard weights
    s_i     the largest s with (sum of the s smallest lambda) / (sum of the others) < eta, where
            eta is the median over all points of (all but d_emb largest) / (d_emb largest);
            at least 1, at most k - d_emb, and never less than the exact null space
    V_i     the s_i last left singular vectors (k x s_i);  alpha = ||V_i^T 1|| / sqrt(s_i)
    H       the Householder matrix with H V_i^T 1 = alpha 1
    W_i     V_i H + (1 - alpha) w_i 1^T, whose s_i columns are weight vectors (each sums to one)

The constraints are the s_i rows 1 e_i^T - W_i^T. They are given here multiplied from the left by
V_i H, which has orthonormal columns and so changes no inner product of columns:

    rows = p e_i^T / alpha - P - (1 - alpha)/alpha p w_i^T,   P = V_i V_i^T,  p = P 1,

since V_i H 1 = p / alpha. P = I - U' U'^T needs only the k - s_i *leading* vectors: neither a basis
of the (arbitrary) null space nor the Householder matrix is ever formed.

Z. Zhang, J. Wang: MLLE: modified locally linear embedding using multiple weights. NIPS 19 (2006).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.cpu.local import (
    differences,
    principal_directions,
    typical_width,
    with_point,
)
from lle_gpu.constraints.cpu.standard import local_weights
from lle_gpu.cuda.arrays import array_module
from lle_gpu.parallel import for_each_chunk

__all__ = ["almost_null_sizes", "modified"]

Float = NDArray[np.float64]


def modified(
    X: NDArray[Any],
    index: NDArray[np.integer],
    n_components: int,
    *,
    reg: float = 1e-3,
    modified_tol: float = 1e-12,
    n_jobs: int | None = None,
) -> Constraints:
    """Rows of modified LLE on the index sets [i, neighbours of i].

    Parameters
    ----------
    X : ndarray of shape (n, d)
    index : ndarray of shape (n, k), k > n_components
    n_components : int
    reg : float, default=1e-3
        Ridge of the standard weights, in units of the local trace.
    modified_tol : float, default=1e-12
        Below this alpha the vector of ones is taken to be orthogonal to V_i.
    n_jobs : int or None

    Returns
    -------
    Constraints with rows of shape (n, k, k + 1); the rank of each point's block is s_i.
    """
    n, k = index.shape
    p = min(k, X.shape[1])
    values = np.empty((n, p))
    rows = np.empty((n, k, k + 1))
    # eta needs all points. Until it is known, w_i and U (k x p, p <= k) wait where their point's
    # rows go in the end, so that they take no memory of their own.
    w, U = rows[:, :, 0], rows[:, :, 1 : 1 + p]

    def measure(chunk: slice) -> None:
        Z = differences(X[chunk], X, index[chunk])
        w[chunk] = local_weights(Z, reg)
        U[chunk], values[chunk] = principal_directions(Z)

    bytes_per_row = 8 * k * (2 * typical_width(X, k) + 4 * k + p)
    for_each_chunk(measure, n, bytes_per_row=bytes_per_row, n_jobs=n_jobs)
    n_leading = k - almost_null_sizes(values, k, n_components)

    def combine(chunk: slice) -> None:
        leading = np.where(np.arange(p) < n_leading[chunk, None, None], U[chunk], 0.0)
        P = -(leading @ leading.transpose(0, 2, 1))
        P[:, range(k), range(k)] += 1.0
        ones = P.sum(axis=2)  # P 1
        s = k - n_leading[chunk]
        alpha = np.linalg.norm(ones, axis=1) / np.sqrt(s)
        flat = alpha <= modified_tol
        alpha[flat] = 0.0
        scaled = ones / np.where(flat, 1.0, alpha)[:, None]  # V H 1
        if flat.any():
            # V^T 1 = 0, so H is the identity, and V H 1 = V 1 depends on the basis V: any vector
            # of norm sqrt(s) in V's span will do.
            scaled[flat] = _any_direction(P[flat], s[flat])
        towards = ((1.0 - alpha)[:, None] * scaled)[:, :, None] * w[chunk, None, :]
        rows[chunk, :, 1:] = -P - towards
        rows[chunk, :, 0] = scaled

    for_each_chunk(combine, n, bytes_per_row=8 * k * (p + 5 * k), n_jobs=n_jobs, quiet=True)
    return Constraints(with_point(index), rows)


def almost_null_sizes(values: Any, k: int, n_components: int) -> Any:
    """s_i for every point from the squared singular values (n, p), largest first; any device's."""
    xp = array_module(values)
    p = values.shape[1]
    if n_components >= p:  # every direction with any extent is kept
        return xp.full(len(values), k - p)
    head = xp.cumsum(values, axis=1)[:, :-1]
    tail = xp.cumsum(values[:, ::-1], axis=1)[:, -2::-1]
    # Neighbours that all coincide with their point have no ratio: it counts as zero.
    ratio = xp.where(head > 0, tail / xp.where(head > 0, head, 1.0), 0.0)
    eta = xp.median(ratio[:, n_components - 1])
    # What has no extent at all belongs to the almost-null space, whatever eta is.
    droppable = ((ratio < eta) | (tail == 0)).sum(axis=1)
    return xp.clip(droppable + k - p, 1, k - n_components)


def _any_direction(P: Float, s: NDArray[np.int64]) -> Float:
    """For projectors P (c, k, k), a vector of norm sqrt(s) in the range of each."""
    column = np.argmax(np.einsum("ckk->ck", P), axis=1)
    vector = P[np.arange(len(P)), :, column]
    return vector / np.linalg.norm(vector, axis=1, keepdims=True) * np.sqrt(s)[:, None]
