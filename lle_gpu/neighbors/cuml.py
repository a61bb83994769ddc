"""The one door to cuML's NearestNeighbors, as a proposer of candidates.

What is guarded against, as of cuML 26.10: importing it takes seconds and puts RMM in the place of
CuPy's allocator; it casts to float32 and takes ||y||^2 + ||z||^2 - 2 y.z; it sets small squared
distances to zero; ``kneighbors()`` without points drops the first column, which among duplicates
need not be the point itself; its streams are not CuPy's; a global output type goes before that of
the estimator.
"""

from __future__ import annotations

from typing import Any

from lle_gpu.neighbors.candidates import FLOAT32_ROUNDING, SPARE, called, copied, imported

__all__ = ["CuML"]

# Random ball cover wants at most sqrt(n) neighbours: 128 (more are never proposed) and a margin.
TREE_MIN_POINTS = 160**2


class CuML:
    """``cuml.neighbors.NearestNeighbors`` over points Z (n, d), float32.

    Brute force, and in 2 and 3 dimensions its random ball cover, which is exact, too.

    Raises
    ------
    Unusable
        If cuML is not installed, cannot be imported, or fails.
    """

    most_rows: int | None = None

    def __init__(self, Z: Any, squares: Any) -> None:
        n, d = Z.shape
        self._n = n
        self._by_tree = d in (2, 3) and n >= TREE_MIN_POINTS
        # The square of a rounded root adds three roundings.
        self.relative = (d + 8) * FLOAT32_ROUNDING if self._by_tree else 0.0
        self.absolute = 0.0 if self._by_tree else (d + 8) * FLOAT32_ROUNDING
        (NearestNeighbors,) = imported("cuml.neighbors", "NearestNeighbors")
        (self._using_output_type,) = imported("cuml", "using_output_type")
        self._search = called(
            NearestNeighbors,
            algorithm="rbc" if self._by_tree else "brute",
            metric="euclidean" if self._by_tree else "sqeuclidean",
        )
        called(self._search.fit, Z)

    def count(self, k: int) -> int:
        """Neighbours, the point itself, and some to spare."""
        return min(self._n, k + 1 + SPARE)

    def propose(self, Y: Any, squares: Any, own: Any, count: int) -> tuple[Any, Any]:
        """Squared distances and indices, the points themselves among them."""
        with called(self._using_output_type, "cupy"):
            found = called(self._search.kneighbors, Y, count)
        distance, index = copied(found, (len(Y), count))
        return distance * distance if self._by_tree else distance, index
