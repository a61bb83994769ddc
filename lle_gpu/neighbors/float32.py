"""Points for searches that know float32 alone: centred, and of a size that float32 can square.

``candidates.Scaled`` is the GPU's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.parallel import for_each_chunk

__all__ = ["FLOAT32_ROUNDING", "Float32Points"]

FLOAT32_ROUNDING = 2.0**-24
LARGEST_COORDINATE = 30  # power of two
# Queries may lie anywhere: coordinates beyond this are cut off, so that nothing overflows.
LARGEST_QUERY = 2.0**50


class Float32Points:
    """The map from points to float32 points that have the same neighbours, up to rounding.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The points that define centre and scale.
    n_jobs : int or None
        Threads.

    Attributes
    ----------
    scale : float
        A power of two, so that scaling is exact.
    """

    def __init__(self, X: NDArray[Any], n_jobs: int | None = None) -> None:
        self._mean = X.mean(axis=0, dtype=np.float64)
        widest = np.maximum(X.max(axis=0) - self._mean, self._mean - X.min(axis=0))
        largest = float(widest.max())
        power = LARGEST_COORDINATE - int(np.frexp(largest)[1]) if largest > 0 else 0
        self.scale = 2.0 ** min(max(power, -1000), 1000)
        self._n_jobs = n_jobs

    def __call__(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """Map points (m, d); what is too far away for float32 is cut off."""
        Z = np.empty(points.shape, np.float32)

        def work(rows: slice) -> None:
            some = (points[rows] - self._mean) * self.scale
            Z[rows] = np.clip(some, -LARGEST_QUERY, LARGEST_QUERY)

        bytes_per_row = 20 * points.shape[1]
        for_each_chunk(
            work, len(points), bytes_per_row=bytes_per_row, n_jobs=self._n_jobs, quiet=True
        )
        return Z
