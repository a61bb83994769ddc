"""The one door to cuML's NearestNeighbors, as a proposer of candidates.

What is guarded against, as of cuML 26.10: importing it takes seconds and puts RMM in the place of
CuPy's allocator; it casts to float32 and takes ||y||^2 + ||z||^2 - 2 y.z; it sets small squared
distances to zero; ``kneighbors()`` without points drops the first column, which among duplicates
need not be the point itself; its streams are not CuPy's; a global output type goes before that of
the estimator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.cuda import cupy
from lle_gpu.cuda.memory import kept_allocator
from lle_gpu.neighbors.candidates import FLOAT32_ROUNDING, SPARE, Unusable

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

    def __init__(self, Z: Any, squares: Any) -> None:
        n, d = Z.shape
        self._n = n
        self._by_tree = d in (2, 3) and n >= TREE_MIN_POINTS
        # The square of a rounded root adds three roundings.
        self.relative = (d + 8) * FLOAT32_ROUNDING if self._by_tree else 0.0
        self.absolute = 0.0 if self._by_tree else (d + 8) * FLOAT32_ROUNDING
        self._cuml = _imported()
        self._search = self._cuml.neighbors.NearestNeighbors(
            algorithm="rbc" if self._by_tree else "brute",
            metric="euclidean" if self._by_tree else "sqeuclidean",
        )
        self._called(self._search.fit, Z)

    def count(self, k: int) -> int:
        """Neighbours, the point itself, and some to spare."""
        return min(self._n, k + 1 + SPARE)

    def propose(self, Y: Any, squares: Any, own: Any, count: int) -> tuple[Any, Any]:
        """Squared distances and indices, the points themselves among them."""
        distance, index = self._called(self._search.kneighbors, Y, count)
        proposed = distance * distance if self._by_tree else distance
        return _as(np.float32, proposed), _as(np.int32, index)

    def _called(self, function: Any, *arguments: Any) -> Any:
        # cuML works on a stream of its own, and waits for that before it returns.
        cupy().cuda.get_current_stream().synchronize()
        try:
            with self._cuml.using_output_type("cupy"):
                return function(*arguments)
        except MemoryError:
            raise  # answered by smaller chunks
        except Exception as error:  # whatever it is: another proposer may do
            raise Unusable(f"{function.__name__}() fails: {error}") from error


def _imported() -> Any:
    with kept_allocator():
        try:
            import cuml
            import cuml.neighbors
        except ModuleNotFoundError as error:
            if error.name == "cuml":
                raise Unusable("not installed (pip install cuml-cu13, or cuml-cu12)") from None
            raise Unusable(f"installed, but its import fails: {error}") from error
        except Exception as error:  # a broken install can raise anything
            raise Unusable(f"installed, but its import fails: {error}") from error
    return cuml


def _as(dtype: Any, array: Any) -> Any:
    cp = cupy()
    return cp.ascontiguousarray(array.astype(dtype, copy=False))
