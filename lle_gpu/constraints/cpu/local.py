"""What the methods share: differences to a centre, and the principal directions of a neighbourhood.

Shapes: c points in a chunk, k neighbours, d features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from lle_gpu.cuda.arrays import array_module

__all__ = [
    "centred_neighborhoods",
    "differences",
    "principal_directions",
    "typical_width",
    "with_point",
]

Float = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)


def differences(points: NDArray[Any], X: NDArray[Any], index: NDArray[np.integer]) -> Float:
    """Z_ij = x_index[i,j] - points_i in float64; points (c, d), index (c, k) -> (c, k, d).

    For sparse points and X, Z is given in other coordinates, which change no inner product between
    rows of one neighbourhood: see :func:`_sparse_differences`.
    """
    if issparse(X):
        return _sparse_differences(points, X, index)
    Z = X[index].astype(np.float64, copy=False)
    Z -= points[:, None, :]
    return Z


def with_point(index: Any) -> Any:
    """The index sets [i, neighbours of i] (n, k + 1) of neighbours (n, k), NumPy's or CuPy's."""
    xp = array_module(index)
    own = xp.arange(len(index), dtype=index.dtype)[:, None]
    return xp.concatenate([own, index], axis=1)


def centred_neighborhoods(X: NDArray[Any], index: NDArray[np.integer]) -> Float:
    """Z_ij = x_index[i,j] - (their mean) in float64; index (c, k) -> (c, k, d).

    Taken relative to the first neighbour before the mean, so that data far from the origin lose
    nothing to the mean's rounding.
    """
    Z = differences(X[index[:, 0]], X, index)
    Z -= Z.mean(axis=1, keepdims=True)
    return Z


def _sparse_differences(points: Any, X: Any, index: NDArray[np.integer]) -> Float:
    """Differences of rows of csr_arrays, with as many coordinates as they need: (c, k, w).

    The differences are formed first, entry by entry; then each neighbourhood gets coordinates of
    its own:

    - those features in which two or more of its k differences have an entry, as they are;
    - for each difference one coordinate, the length of its entries in all other features: no other
      difference has any there, so that this is a rotation.

    So w - k is the number of shared features in the chunk's richest neighbourhood. With k features
    or fewer nothing is gained, and Z is what dense points give.
    """
    c, k = index.shape
    d = X.shape[1]
    own = np.repeat(np.arange(c), k)
    Z = X[index.ravel()].astype(np.float64, copy=False) - points[own].astype(np.float64, copy=False)
    if d <= k:
        return Z.toarray().reshape(c, k, d)
    row = np.repeat(np.arange(c * k), np.diff(Z.indptr))
    feature, entry, times = np.unique(
        own[row] * d + Z.indices, return_inverse=True, return_counts=True
    )
    is_shared = times > 1
    where = np.cumsum(is_shared) - 1
    start = np.searchsorted(feature[is_shared], np.arange(c + 1) * d)
    w = k + int(np.diff(start).max())
    compact = np.zeros((c * k, w))
    shared = is_shared[entry]
    row_shared = row[shared]
    compact[row_shared, k + where[entry[shared]] - start[own[row_shared]]] = Z.data[shared]
    alone = np.bincount(row[~shared], weights=Z.data[~shared] ** 2, minlength=c * k)
    compact[np.arange(c * k), np.tile(np.arange(k), c)] = np.sqrt(alone)
    return compact.reshape(c, k, w)


def typical_width(X: Any, k: int) -> int:
    """Coordinates of the differences in a neighbourhood, to make chunks by: d, or w if sparse."""
    d = int(X.shape[1])
    return min(d, k + (k + 1) * int(X.nnz) // (2 * X.shape[0])) if issparse(X) else d


def principal_directions(Z: Float) -> tuple[Float, Float]:
    """Left singular vectors and squared singular values of each Z, largest first.

    Z = U S V^T. With few features the SVD itself, else the eigenvectors of the Gram matrix
    Z Z^T = U S^2 U^T (k x k, whatever d is).

    Parameters
    ----------
    Z : ndarray of shape (c, k, d)

    Returns
    -------
    U : ndarray of shape (c, k, p), p = min(k, d)
        Orthonormal columns; those that belong to a singular value that is zero to working accuracy
        are set to zero, since the data do not determine them.
    values : ndarray of shape (c, p)
        S^2; zero where the column is zero.
    """
    k, d = Z.shape[1:]
    if d < k:
        U, S, _ = np.linalg.svd(Z, full_matrices=False)
        values = S * S
        floor = (k * EPS) ** 2
    else:
        values, U = np.linalg.eigh(Z @ Z.transpose(0, 2, 1))
        values, U = values[:, ::-1], U[:, :, ::-1]
        floor = k * EPS
    undetermined = values <= floor * values[:, :1]
    if undetermined.any():
        values = np.where(undetermined, 0.0, values)
        U = np.where(undetermined[:, None, :], 0.0, U)
    return U, values
