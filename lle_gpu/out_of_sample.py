"""Points that were not there when the embedding was made.

A new point is rebuilt from its k nearest training points by barycentric weights, and its embedding
is the same weighted mean of theirs; the inverse map goes the other way round. A point that
coincides with a training point gets that point's value exactly (the first one's, among
duplicates).

L. Saul, S. Roweis: Think globally, fit locally. JMLR 4:119 (2003), section 6.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.backend import Backend
from lle_gpu.progress import stage

__all__ = ["interpolate"]


def interpolate(
    points: NDArray[Any],
    search: Any,
    values: NDArray[Any],
    *,
    n_neighbors: int,
    reg: float,
    backend: Backend,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """Barycentric interpolation of ``values``, known at the search's points, at new ``points``.

    Parameters
    ----------
    points : array of shape (m, d), NumPy's or the backend's
    search : NeighborSearch
        Over the n training points, in the space of ``points``.
    values : ndarray of shape (n, q)
    n_neighbors : int
    reg : float
        Ridge of the weights in units of the local trace.
    backend : Backend
    n_jobs : int or None

    Returns
    -------
    array of shape (m, q), float64, of the points' kind
    """
    d, q = points.shape[1], values.shape[1]

    def work(some: NDArray[Any]) -> NDArray[np.float64]:
        m = some.shape[0]
        with stage("neighbors", m):
            distance, index = search.kneighbors(some, n_neighbors)
        with stage("weights", m):
            weights = backend.barycentric_weights(some, search.X, index, reg=reg, n_jobs=n_jobs)
            coincides = distance[:, 0] == 0
            weights *= ~coincides[:, None]
            weights[:, 0] += coincides
        with stage("means", m):
            return backend.weighted_means(weights, index, values, n_jobs=n_jobs)

    return backend.in_chunks(work, points, q, 8 * (d + 4 * n_neighbors + 2 * q))
