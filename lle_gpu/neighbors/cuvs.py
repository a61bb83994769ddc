"""The one door to cuVS's brute force, as a proposer of candidates.

What is guarded against, as of cuVS 26.10: float32 and ||y||^2 + ||z||^2 - 2 y.z; int64 indices and
arrays of a type of its own; the points themselves among their neighbours; streams that are not
CuPy's; errors that derive from plain Exception, out of memory included; an index that does not keep
the points alive.
"""

from __future__ import annotations

from typing import Any

from lle_gpu.neighbors.candidates import FLOAT32_ROUNDING, SPARE, called, copied, imported

__all__ = ["CuVS"]


class CuVS:
    """``cuvs.neighbors.brute_force`` over points Z (n, d), float32.

    Raises
    ------
    Unusable
        If cuVS is not installed, cannot be imported, or fails.
    """

    relative = 0.0
    most_rows: int | None = None

    def __init__(self, Z: Any, squares: Any) -> None:
        self._Z = Z
        self.absolute = (Z.shape[1] + 8) * FLOAT32_ROUNDING
        build, self._search = imported("cuvs.neighbors.brute_force", "build", "search")
        self._index = called(build, Z, metric="sqeuclidean")

    def count(self, k: int) -> int:
        """Neighbours, the point itself, and some to spare."""
        return min(len(self._Z), k + 1 + SPARE)

    def propose(self, Y: Any, squares: Any, own: Any, count: int) -> tuple[Any, Any]:
        """Squared distances and indices, the points themselves among them."""
        return copied(called(self._search, self._index, Y, count), (len(Y), count))
