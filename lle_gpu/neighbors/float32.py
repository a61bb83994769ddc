"""Points for searches that know float32 alone: centred, and of a size that float32 can square.

``candidates.Scaled`` is the GPU's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.parallel import for_each_chunk

__all__ = ["FLOAT32_ROUNDING", "LARGEST_QUERY", "Float32Points", "scale_of"]

Float = NDArray[np.float64]

FLOAT32_ROUNDING = 2.0**-24
LARGEST_COORDINATE = 30  # power of two
# Queries may lie anywhere: coordinates beyond this are cut off, so that nothing overflows.
LARGEST_QUERY = 2.0**50
# Added to lengths, for what rounds to zero: far more than d coordinates of 2^-126, and products of
# them, can make (for any d that fits in memory), and far less than rounding does to most points.
SMALLEST_LENGTH = 2.0**-40


def scale_of(largest: float) -> float:
    """The power of two, so that scaling is exact, that brings a largest coordinate to 2^30.

    That is far from what float32 flushes to zero, and its square from what overflows.
    """
    power = LARGEST_COORDINATE - int(np.frexp(largest)[1]) if largest > 0 else 0
    return 2.0 ** min(max(power, -1000), 1000)


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
        self.scale = scale_of(float(widest.max()))
        self._n_jobs = n_jobs

    def __call__(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """Map points (m, d); what is too far away for float32 is cut off."""
        Z = np.empty(points.shape, np.float32)

        def work(rows: slice) -> None:
            Z[rows] = self.mapped(points[rows])

        self._for_each_chunk(work, points)
        return Z

    def mapped(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """As a call does, for as many points as a thread takes at once."""
        some = points - self._mean
        some *= self.scale
        return np.clip(some, -LARGEST_QUERY, LARGEST_QUERY, out=some).astype(np.float32)

    def restored(self, squares: Float) -> Float:
        """Squared distances between X's points from those between the mapped ones."""
        return squares / self.scale / self.scale  # the scale's square may overflow

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        r"""How much nearer a point can be than a search in float32 finds it.

        Let x be a query, mapped and rounded, and r^2 = ``distance`` the largest that the search
        proposes for it. A point y that it does not propose was found no nearer. By differences, or
        by |x|^2 + |y|^2 - 2 x.y in any order of summation, that is wrong by at most

            gamma (|x| + |y|)^2,    gamma = c u / (1 - c u),  c = d + 8,  u = 2^-24

        (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and x and y
        themselves by u (|x| + |y|). Here |y| need not be more than |x| + r: a point farther than
        that from the centre is farther than r from x. Coordinates that were cut off bring a query
        nearer to all points, and are no matter.

        Parameters
        ----------
        points : ndarray of shape (m, d)
            The queries.
        distance : ndarray of shape (m,)
            Squared distances, as found.

        Returns
        -------
        error : ndarray of shape (m,)
            The true squared distances of points not proposed are at least ``distance - error``.
        """
        terms = (points.shape[1] + 8) * FLOAT32_ROUNDING
        if terms >= 0.5:
            return np.full(len(points), np.inf)
        found = np.maximum(distance, 0.0) * self.scale * self.scale
        reach = 2 * self._norms(points) + np.sqrt(found) + SMALLEST_LENGTH
        nearest = np.sqrt(np.maximum(found - terms / (1 - terms) * reach**2, 0.0))
        nearest = np.maximum(nearest - 1.001 * FLOAT32_ROUNDING * reach, 0.0)
        return distance - self.restored(nearest**2)

    def _norms(self, points: NDArray[Any]) -> Float:
        norms = np.empty(len(points))

        def work(rows: slice) -> None:
            Z = self.mapped(points[rows])
            norms[rows] = np.sqrt(np.einsum("ij,ij->i", Z, Z, dtype=np.float64))

        self._for_each_chunk(work, points)
        return norms

    def _for_each_chunk(self, work: Any, points: NDArray[Any]) -> None:
        for_each_chunk(
            work,
            len(points),
            bytes_per_row=20 * points.shape[1],
            n_jobs=self._n_jobs,
            quiet=True,
        )
