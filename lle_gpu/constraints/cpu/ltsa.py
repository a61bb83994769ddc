"""Local tangent space alignment (LTSA): values must be affine in the local tangent coordinates.

For each point, Z_i (k x d) = its neighbours minus their mean, U_i (k x d_emb) the leading left
singular vectors. The constraints are the rows of the projector

    P_i = I - [1/sqrt(k), U_i] [1/sqrt(k), U_i]^T        (k x k, rank k - d_emb - 1)

so that P_i y is the part of the values y on the neighbourhood that no affine function of the
tangent coordinates explains.

Z. Zhang, H. Zha: Principal manifolds and nonlinear dimensionality reduction via tangent space
alignment. SIAM J. Sci. Comput. 26:313 (2004).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.cpu.local import (
    centred_neighborhoods,
    principal_directions,
    typical_width,
)
from lle_gpu.parallel import for_each_chunk

__all__ = ["ltsa", "tangent_coordinates"]

Float = NDArray[np.float64]


def tangent_coordinates(X: NDArray[Any], index: NDArray[np.integer], n_components: int) -> Float:
    """Orthonormal coordinates of the neighbours in each point's tangent plane.

    index (c, k) -> (c, k, n_components): columns orthonormal and orthogonal to 1. A direction in
    which the neighbours have no extent at all is a column of zeros.
    """
    U, _ = principal_directions(centred_neighborhoods(X, index))
    U = U[:, :, :n_components]
    # The mean is zero up to eps * (largest / own singular value): remove that, too.
    U = U - U.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(U, axis=1, keepdims=True)
    U /= np.where(norm > 0, norm, 1.0)
    return U


def ltsa(
    X: NDArray[Any],
    index: NDArray[np.integer],
    n_components: int,
    *,
    n_jobs: int | None = None,
) -> Constraints:
    """Rows of LTSA on the index sets of the k neighbours.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    index : ndarray of shape (n, k), k > n_components + 1
    n_components : int
    n_jobs : int or None

    Returns
    -------
    Constraints with rows of shape (n, k, k).
    """
    n, k = index.shape
    d = typical_width(X, k)
    rows = np.empty((n, k, k))

    def work(chunk: slice) -> None:
        U = tangent_coordinates(X, index[chunk], n_components)
        P = rows[chunk]
        np.matmul(U, U.transpose(0, 2, 1), out=P)
        np.negative(P, out=P)
        P -= 1.0 / k
        P[:, range(k), range(k)] += 1.0

    for_each_chunk(work, n, bytes_per_row=8 * k * (3 * d + 2 * k), n_jobs=n_jobs)
    return Constraints(index, rows)
