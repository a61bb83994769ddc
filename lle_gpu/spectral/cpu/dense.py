"""Dense solution on the CPU: the singular value decomposition of F itself, for few points.

No M is formed, so the singular values are right to eps ||F||, where an eigensolver on M would give
sqrt(eps) ||F||. The constant is lifted out of the way by one more row c 1^T / sqrt(n), c > ||F||,
which gives it the largest singular value and changes nothing orthogonal to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, svd
from scipy.sparse import csr_array

from lle_gpu.progress import advance

__all__ = ["dense_bottom_vectors"]

Float = NDArray[np.float64]


def dense_bottom_vectors(F: csr_array, norm: float, n_wanted: int) -> tuple[Float, Float]:
    """All bottom singular vectors of F orthogonal to 1, from a QR by blocks of rows and an SVD.

    Parameters
    ----------
    F : csr_array of shape (R, n)
    norm : float
        ||F||, to scale the row that lifts the constant.
    n_wanted : int
        At most n - 1.

    Returns
    -------
    vectors : ndarray of shape (n, n_wanted), by ascending singular value.
    next_values : ndarray of shape (0 or 1,)
        The first singular value left out, if there is one.
    """
    n = F.shape[1]
    R = np.full((1, n), 2.0 * norm / np.sqrt(n))
    block = max(n, 1024)
    for low in range(0, F.shape[0], block):
        rows = F[low : low + block].toarray()
        R = qr(np.concatenate([R, rows]), mode="r", overwrite_a=True, check_finite=False)[0][:n]
        advance(len(rows))
    if len(R) < n:  # fewer rows than points: the missing ones are zero
        R = np.concatenate([R, np.zeros((n - len(R), n))])
    _, values, Vt = svd(R, overwrite_a=True, check_finite=False)
    bottom = slice(n - n_wanted, n)
    return Vt[bottom][::-1].T.copy(), values[::-1][n_wanted : min(n_wanted + 1, n - 1)]
