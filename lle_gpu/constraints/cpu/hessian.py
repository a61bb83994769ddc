"""Hessian eigenmaps: second derivatives of the embedding must vanish.

For each point, U_i (k x d_emb) the tangent coordinates of its neighbours as in LTSA, and

    Y_i = [1, U_i, U_a * U_b for a <= b]                 (k x 1 + d_emb + d_emb (d_emb + 1)/2)

Gram-Schmidt from left to right; the last d_emb (d_emb + 1)/2 orthonormal columns, transposed, are
the constraints: they annihilate affine functions and measure the quadratic part of a function on
the neighbourhood.

scikit-learn's ``method="hessian"`` keeps *all* k - 1 - d_emb columns of the complete QR, and so
computes LTSA. This is the estimator of the paper, for any n_components.

D. Donoho, C. Grimes: Hessian eigenmaps: locally linear embedding techniques for high-dimensional
data. PNAS 100:5591 (2003).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.cpu.local import typical_width
from lle_gpu.constraints.cpu.ltsa import tangent_coordinates
from lle_gpu.parallel import for_each_chunk

__all__ = ["hessian"]

Float = NDArray[np.float64]


def hessian(
    X: NDArray[Any],
    index: NDArray[np.integer],
    n_components: int,
    *,
    hessian_tol: float = 1e-4,
    n_jobs: int | None = None,
) -> Constraints:
    """Rows of Hessian eigenmaps on the index sets of the k neighbours.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    index : ndarray of shape (n, k), k > n_components (n_components + 3) / 2
    n_components : int
    hessian_tol : float, default=1e-4
        A quadratic column of which less than this fraction is left after the columns before it
        (neighbours on a line, or a regular grid) gives no constraint: what is left is rounding.
    n_jobs : int or None

    Returns
    -------
    Constraints with rows of shape (n, n_components (n_components + 1) / 2, k).
    """
    n, k = index.shape
    d = typical_width(X, k)
    a, b = np.triu_indices(n_components)
    width = 1 + n_components + len(a)
    rows = np.empty((n, len(a), k))

    def work(chunk: slice) -> None:
        U = tangent_coordinates(X, index[chunk], n_components)
        Q = np.empty((len(U), width, k))  # rows are the paper's columns: contiguous
        Q[:, 0] = k**-0.5
        Q[:, 1 : 1 + n_components] = U.transpose(0, 2, 1)
        Q[:, 1 + n_components :] = (U[:, :, a] * U[:, :, b]).transpose(0, 2, 1)
        orthonormalise(Q, 1 + n_components, hessian_tol)
        rows[chunk] = Q[:, 1 + n_components :]

    for_each_chunk(work, n, bytes_per_row=8 * k * (3 * d + 2 * width), n_jobs=n_jobs)
    return Constraints(index, rows)


def orthonormalise(Q: Float, done: int, tol: float) -> None:
    """Gram-Schmidt, in place, on the rows of each Q_i (width, k); the first ``done`` stand already.

    Each row is projected twice (once is not enough for nearly dependent ones: Kahan's and
    Parlett's "twice is enough"). A row that keeps less than ``tol`` of its norm becomes zero.
    """
    for j in range(done, Q.shape[1]):
        before = np.linalg.norm(Q[:, j], axis=1)
        for _ in range(2):
            coefficients = Q[:, :j] @ Q[:, j, :, None]
            Q[:, j] -= (coefficients.transpose(0, 2, 1) @ Q[:, :j])[:, 0]
        after = np.linalg.norm(Q[:, j], axis=1)
        keep = (after > tol * before) & (after > 0)
        Q[:, j] *= np.where(keep, 1.0 / np.where(keep, after, 1.0), 0.0)[:, None]
