"""The one door to cuVS's brute force, as a proposer of candidates.

What is guarded against, as of cuVS 26.10: float32 and ||y||^2 + ||z||^2 - 2 y.z; int64 indices and
arrays of a type of its own; the points themselves among their neighbours; streams that are not
CuPy's; errors that derive from plain Exception, out of memory included; an index that does not keep
the points alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.cuda import cupy
from lle_gpu.neighbors.candidates import FLOAT32_ROUNDING, SPARE, Unusable

__all__ = ["CuVS"]


class CuVS:
    """``cuvs.neighbors.brute_force`` over points Z (n, d), float32.

    Raises
    ------
    Unusable
        If cuVS is not installed, cannot be imported, or fails.
    """

    relative = 0.0

    def __init__(self, Z: Any, squares: Any) -> None:
        self._Z = Z
        self.absolute = (Z.shape[1] + 8) * FLOAT32_ROUNDING
        self._brute_force = _imported()
        self._index = _called(self._brute_force.build, Z, metric="sqeuclidean")

    def count(self, k: int) -> int:
        """Neighbours, the point itself, and some to spare."""
        return min(len(self._Z), k + 1 + SPARE)

    def propose(self, Y: Any, squares: Any, own: Any, count: int) -> tuple[Any, Any]:
        """Squared distances and indices, the points themselves among them."""
        cp = cupy()
        distance, index = _called(self._brute_force.search, self._index, Y, count)
        proposed, candidate = cp.asarray(distance), cp.asarray(index)
        # Kernels read what they are given as the type they expect.
        return proposed.astype(np.float32, copy=False), candidate.astype(np.int32)


def _imported() -> Any:
    try:
        from cuvs.neighbors import brute_force
    except ModuleNotFoundError as error:
        if error.name == "cuvs":
            raise Unusable("not installed (pip install cuvs-cu13, or cuvs-cu12)") from None
        raise Unusable(f"installed, but its import fails: {error}") from error
    except Exception as error:  # a broken install can raise anything
        raise Unusable(f"installed, but its import fails: {error}") from error
    return brute_force


def _called(function: Any, *arguments: Any, **options: Any) -> Any:
    # Without `resources` of ours, cuVS works on a stream of its own, and waits for it at the end.
    cupy().cuda.get_current_stream().synchronize()
    try:
        return function(*arguments, **options)
    except MemoryError:
        raise  # answered by smaller chunks
    except Exception as error:  # whatever it is: another proposer may do
        if "out_of_memory" in str(error) or "bad_alloc" in str(error):
            raise MemoryError(str(error)) from error
        raise Unusable(f"{function.__name__}() fails: {error}") from error
