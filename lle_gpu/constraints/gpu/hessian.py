"""Hessian eigenmaps on the GPU; the twin of :mod:`lle_gpu.constraints.cpu.hessian`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.gpu.directions import (
    directions_bytes,
    directions_rows,
    tangent_coordinates,
)
from lle_gpu.cuda import cupy, kernel, register
from lle_gpu.cuda.geometry import Geometry, fitting_threads, lanes_per_item
from lle_gpu.cuda.memory import for_each_chunk

__all__ = ["hessian"]

register("hessian.cu", ["hessian_rows<true>", "hessian_rows<false>"])


def hessian(
    X: Any,
    index: Any,
    n_components: int,
    *,
    hessian_tol: float = 1e-4,
    n_jobs: int | None = None,
) -> Constraints:
    """Rows of Hessian eigenmaps on the index sets of the k neighbours.

    Parameters
    ----------
    X : cupy.ndarray of shape (n, d), float32 or float64
    index : cupy.ndarray of shape (n, k), k > n_components (n_components + 3) / 2
    n_components : int
    hessian_tol : float, default=1e-4
        A quadratic column of which less than this fraction is left after the columns before it
        (neighbours on a line, or a regular grid) gives no constraint: what is left is rounding.
    n_jobs : int or None
        Not used.

    Returns
    -------
    Constraints with rows of shape (n, n_components (n_components + 1) / 2, k), float64.
    """
    (n, k), d = index.shape, X.shape[1]
    rows = cupy().empty((n, n_components * (n_components + 1) // 2, k))

    def work(chunk: slice) -> None:
        hessian_rows(tangent_coordinates(X, index[chunk], n_components), rows[chunk], hessian_tol)

    for_each_chunk(work, n, directions_bytes(k, d, n_components), most_rows=directions_rows(k, d))
    return Constraints(index, rows)


def hessian_rows(U: Any, rows: Any, tol: float) -> None:
    """Write the rows (c, h, k) that belong to tangent coordinates U (c, q, k)."""
    c, q, k = U.shape
    shared, lanes, geometry = _geometry(c, q, k)
    run = kernel("hessian.cu", f"hessian_rows<{str(shared).lower()}>")
    run.launch(geometry, U, rows, *map(np.int32, (c, q, k)), np.float64(tol), np.int32(lanes))


def _geometry(c: int, q: int, k: int) -> tuple[bool, int, Geometry]:
    """Whether the rows are worked on in shared memory, lanes a point, the launch."""
    h = q * (q + 1) // 2
    lanes = 8 if k <= 16 else 16 if k <= 32 else 32
    products, columns = 8 * (1 + q + h), 8 * h * (k | 1)
    both = products + columns
    threads = fitting_threads(lanes, both)
    if threads:
        return True, lanes, lanes_per_item(c, lanes, threads=threads, shared_bytes=both)
    # Only neighbours by the hundred come here: a warp each.
    return False, 32, lanes_per_item(c, 32, threads=32, shared_bytes=products)
