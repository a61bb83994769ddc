"""Candidates for the GPU's neighbour search: who proposes them, and how far off they may be.

A proposer sees float32 points only: centred, since ||y||^2 + ||z||^2 - 2 y.z cancels, and with a
largest coordinate of 2^30, far from what float32 flushes to zero and from what cuML takes for zero.
So its squared distances p differ from the true ones, t, by no more than

    relative (sqrt(t) + shift)^2 + absolute reach^2 + shift (2 sqrt(t) + shift),

with reach = |y| + max |z|, and shift = 2^-24 reach for the rounding of the points themselves;
`relative` and `absolute` are the proposer's own rounding, of differences or of products. The bound
decides whether a candidate list is long enough (``knn_rerank`` in ``kernels/knn.cu``), and a
proposer that breaks it is not used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from lle_gpu.cuda import cupy
from lle_gpu.cuda.memory import (
    for_each_chunk,
    is_out_of_memory,
    kept_allocator,
    says_out_of_memory,
)
from lle_gpu.neighbors.float32 import FLOAT32_ROUNDING, LARGEST_QUERY, scale_of

__all__ = [
    "FLOAT32_ROUNDING",
    "SPARE",
    "Proposer",
    "Scaled",
    "Unusable",
    "called",
    "copied",
    "imported",
]

# Candidates asked for beyond k and the point itself: the more, the fewer searches in float64.
SPARE = 8


class Unusable(Exception):  # noqa: N818  a reason more than an error
    """A proposer cannot be used, or not relied on; the message says why."""


class Proposer(Protocol):
    """Proposes nearest points among those it was made of, by float32 squared distances.

    Made of points Z (n, d), float32, and their squared norms (n,); raises :class:`Unusable`.

    Attributes
    ----------
    relative, absolute : float
        Bounds on the rounding of its squared distances, see above.
    most_rows : int or None
        Queries of one call, where more would make a launch too long.
    """

    relative: float
    absolute: float
    most_rows: int | None

    def count(self, k: int) -> int:
        """How many candidates it proposes for k neighbours."""

    def propose(self, Y: Any, squares: Any, own: Any, count: int) -> tuple[Any, Any]:
        """Squared distances (m, count), float32, and indices (m, count), int32, in any order.

        ``Y`` (m, d) and ``squares`` (m,) are queries and their squared norms, ``own`` (m,) their
        own rows, which may be left out. -1 stands for "no more points".
        """


def imported(module: str, *names: str) -> Any:
    """Import what a module of one of NVIDIA's libraries has; CuPy's allocator stays what it is.

    Parameters
    ----------
    module : str
    *names : str

    Returns
    -------
    list
        What has these names.

    Raises
    ------
    Unusable
        If it is not installed, cannot be imported, or has no such thing.
    """
    library = module.partition(".")[0]
    with kept_allocator():
        try:
            found = importlib.import_module(module)
            return [getattr(found, name) for name in names]
        except ModuleNotFoundError as error:
            if error.name == library:
                how = f"pip install {library}-cu13, or {library}-cu12"
                raise Unusable(f"not installed ({how})") from None
            raise Unusable(f"installed, but its import fails: {error}") from error
        except Exception as error:  # a broken install can raise anything
            raise Unusable(f"installed, but its import fails: {error}") from error


def called(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a library that works on a stream of its own, and waits for that before it returns.

    Raises
    ------
    MemoryError, RuntimeError
        If memory runs out, which is answered by smaller chunks.
    Unusable
        For whatever else is raised.
    """
    cupy().cuda.get_current_stream().synchronize()
    try:
        return function(*arguments, **options)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said = f"{getattr(function, '__name__', function)}() fails: {error}"
        if says_out_of_memory(error):
            raise MemoryError(said) from error
        raise Unusable(said) from error


def copied(found: Any, shape: tuple[int, int]) -> tuple[Any, Any]:
    """The distances and indices that a library has found, as float32 and int32, in CuPy's memory.

    Kernels read them, and rely on their shape. The library's own memory goes back to its pool as
    soon as nothing here refers to it, and that pool does not know what our stream still has to do
    with it. So the copies are waited for.

    Raises
    ------
    Unusable
        If they are something else.
    """
    cp = cupy()
    try:
        copies = tuple(
            cp.array(part, dtype=dtype, order="C")
            for part, dtype in zip(found, (np.float32, np.int32), strict=True)
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise Unusable(f"what it finds is no pair of arrays: {error}") from error
    if any(part.shape != shape for part in copies):
        shapes = " and ".join(str(part.shape) for part in copies)
        raise Unusable(f"what it finds is of shapes {shapes} instead of {shape}")
    cp.cuda.get_current_stream().synchronize()
    return copies


class Scaled:
    """The map from points to the float32 points that are searched.

    Parameters
    ----------
    X : cupy.ndarray of shape (n, d)
        The points that define centre and scale.

    Attributes
    ----------
    scale : float
        A power of two, so that scaling is exact.
    radius : float
        The largest norm of a scaled point.
    """

    def __init__(self, X: Any) -> None:
        cp = cupy()
        self._mean = X.mean(axis=0, dtype=np.float64)
        widest = cp.maximum(X.max(axis=0) - self._mean, self._mean - X.min(axis=0))
        self.scale = scale_of(float(widest.max()))
        self.radius = 0.0

    def points(self, X: Any) -> tuple[Any, Any]:
        """Scale the points (n, d) that are searched; gives them and their squared norms."""
        cp = cupy()
        Z, squares = cp.empty(X.shape, np.float32), cp.empty(len(X), np.float32)

        def work(rows: slice) -> None:
            Z[rows], squares[rows] = self._scaled(X[rows])

        for_each_chunk(work, len(X), bytes_per_row=16 * X.shape[1], quiet=True)
        self.radius = 1.0001 * float(squares.max()) ** 0.5
        return Z, squares

    def queries(self, points: Any) -> tuple[Any, Any, Any]:
        """Scale queries (m, d); gives them, their squared norms, and their reach (m,), float64.

        The reach of queries too far away for float32 is infinite: what is proposed for them decides
        nothing.
        """
        cp = cupy()
        Y, squares = self._scaled(points)
        reach = 1.0001 * cp.sqrt(squares.astype(np.float64)) + self.radius
        return Y, squares, cp.where(squares < LARGEST_QUERY**2, reach, np.inf)

    def _scaled(self, points: Any) -> tuple[Any, Any]:
        cp = cupy()
        Z = (points - self._mean) * self.scale
        Z = cp.clip(Z, -LARGEST_QUERY, LARGEST_QUERY).astype(np.float32)
        return Z, (Z * Z).sum(axis=1)
