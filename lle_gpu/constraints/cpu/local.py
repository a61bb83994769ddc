"""What the methods share: differences to a centre, and the principal directions of a neighbourhood.

Shapes: c points in a chunk, k neighbours, d features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["centred_neighborhoods", "differences", "principal_directions"]

Float = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)


def differences(points: NDArray[Any], X: NDArray[Any], index: NDArray[np.integer]) -> Float:
    """Z_ij = x_index[i,j] - points_i in float64; points (c, d), index (c, k) -> (c, k, d)."""
    Z = X[index].astype(np.float64, copy=False)
    Z -= points[:, None, :]
    return Z


def centred_neighborhoods(X: NDArray[Any], index: NDArray[np.integer]) -> Float:
    """Z_ij = x_index[i,j] - (their mean) in float64; index (c, k) -> (c, k, d).

    Taken relative to the first neighbour before the mean, so that data far from the origin lose
    nothing to the mean's rounding.
    """
    Z = X[index].astype(np.float64, copy=False)
    Z -= Z[:, :1, :].copy()
    Z -= Z.mean(axis=1, keepdims=True)
    return Z


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
