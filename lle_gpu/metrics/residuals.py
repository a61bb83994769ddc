"""An embedding against a reference, and what carries its coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.metrics.inputs import as_values

__all__ = ["affine_residual", "effective_support", "procrustes_residual"]

Float = NDArray[np.float64]


def affine_residual(Y: Any, reference: Any) -> float:
    """What no affine map of Y explains of a reference, as a share of the reference's spread.

    With T the reference, centred, and Y centred, ::

        min_A ||T - Y A||_F / ||T||_F,    A of shape (q, p).

    0: the reference is an affine image of Y. 1: Y says nothing about it. Neither an affine map of
    Y that can be undone, nor a shift, rotation or scaling of the reference changes it: an embedding
    by LLE, whose coordinates are orthonormal and of arbitrary scale, can be compared with the true
    coordinates of a manifold.

    Parameters
    ----------
    Y : array, data frame or tensor of shape (n, q) or (n,)
        The embedding; (n,) is one coordinate.
    reference : array, data frame or tensor of shape (n, p) or (n,)
        The coordinates that it should have found, row for row; (n,) is one coordinate.

    Returns
    -------
    float
        From 0 to 1. If all points of Y are equal: 1.

    Raises
    ------
    ValueError
        For NaN or infinity, different numbers of rows, or a reference whose points are all equal.

    Examples
    --------
    >>> import numpy as np
    >>> from lle_gpu.metrics import affine_residual
    >>> truth = np.random.default_rng(0).uniform(size=(100, 2))
    >>> f"{affine_residual(truth @ [[2.0, 1.0], [0.0, 3.0]] + 7.0, truth):.3f}"
    '0.000'
    >>> f"{affine_residual(truth[:, :1], truth):.2f}"
    '0.71'
    """
    Y, T = _centred_pair(Y, reference)
    norms = np.linalg.norm(Y, axis=0)
    Y /= np.where(norms > 0, norms, 1.0)  # so that small columns are not taken for rounding
    rest = T - Y @ np.linalg.lstsq(Y, T, rcond=None)[0]
    return min(1.0, float(np.linalg.norm(rest)))


def procrustes_residual(Y: Any, reference: Any) -> float:
    """What no rotation, reflection, scaling and shift of Y explains of a reference, as a share.

    With T the reference, and both centred, ::

        min_{R, s} ||T - s Y R||_F / ||T||_F = sqrt(1 - (sum_j sigma_j)^2 / (||Y||_F ||T||_F)^2),

    R orthogonal, sigma the singular values of Y^T T: R = U V^T of its singular value decomposition
    [1]_. The square of it is the disparity of :func:`scipy.spatial.procrustes`.

    The coordinates of an embedding by LLE have one and the same norm, whatever the manifold's
    extents: for these, :func:`affine_residual` is the one to take.

    Parameters
    ----------
    Y : array, data frame or tensor of shape (n, q) or (n,)
        The embedding; (n,) is one coordinate.
    reference : array, data frame or tensor of shape (n, q) or (n,)
        The coordinates that it should have found, row for row; (n,) is one coordinate.

    Returns
    -------
    float
        From 0 (equal up to such a map) to 1. If all points of Y are equal: 1.

    Raises
    ------
    ValueError
        For NaN or infinity, different shapes, or a reference whose points are all equal.

    References
    ----------
    .. [1] P. Schönemann: A generalized solution of the orthogonal Procrustes problem.
       Psychometrika 31:1 (1966).

    Examples
    --------
    >>> import numpy as np
    >>> from lle_gpu.metrics import procrustes_residual
    >>> truth = np.random.default_rng(0).uniform(size=(100, 2))
    >>> turned = 3.0 * truth @ [[0.6, -0.8], [0.8, 0.6]] - 1.0
    >>> f"{procrustes_residual(turned, truth):.3f}"
    '0.000'
    """
    Y, T = _centred_pair(Y, reference)
    if Y.shape[1] != T.shape[1]:
        raise ValueError(
            f"Y has {Y.shape[1]} coordinates and reference has {T.shape[1]}: a rotation needs as "
            "many of both. Give as many columns of each, or use affine_residual."
        )
    norm = float(np.linalg.norm(Y))
    if norm == 0:
        return 1.0
    Y /= norm
    U, sigma, Vt = np.linalg.svd(Y.T @ T)
    # Not by the formula's right side, which loses half of the digits of small residuals.
    return min(1.0, float(np.linalg.norm(T - Y @ (sigma.sum() * U @ Vt))))


def effective_support(Y: Any) -> Float:
    """How many points carry each coordinate.

    For each column v of Y, scaled to unit norm, the inverse participation ratio ::

        1 / sum_i v_i^4

    is m for the indicator of a set of m points, and n for a column that is as large everywhere. A
    coordinate of an embedding that is carried by a few dozen of thousands of points tells these
    points apart from the rest, and nothing about the rest.

    Parameters
    ----------
    Y : array, data frame or tensor of shape (n, q) or (n,)
        The embedding, as it is: it is not centred; (n,) is one coordinate.

    Returns
    -------
    ndarray of shape (q,), float64
        From 1 to n; 0 for a column of zeros.

    Raises
    ------
    ValueError
        For NaN or infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from lle_gpu.metrics import effective_support
    >>> effective_support(np.array([[1.0, 1.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]]))
    array([4., 1.])
    """
    V = as_values(Y, "Y")
    largest = np.abs(V).max(axis=0)
    V /= np.where(largest > 0, largest, 1.0)  # so that fourth powers neither overflow nor vanish
    squares = V * V
    support = squares.sum(axis=0) ** 2
    support /= np.where(largest > 0, (squares * squares).sum(axis=0), 1.0)
    return support


def _centred_pair(Y: Any, reference: Any) -> tuple[Float, Float]:
    """Y and the reference, centred, the reference of unit norm and Y's columns near it."""
    A, T = as_values(Y, "Y"), as_values(reference, "reference")
    if len(A) != len(T):
        raise ValueError(
            f"Y has {len(A)} rows and reference has {len(T)}: row i of both must be the same point."
        )
    if not np.ptp(T, axis=0).any():
        raise ValueError(
            f"all {len(T)} points of reference are equal: there is nothing to be explained."
        )
    for array in (A, T):
        extent = np.ptp(array, axis=0).max()
        array -= array.mean(axis=0)
        array *= 1.0 / extent if extent else 0.0
    return A, T / np.linalg.norm(T)
