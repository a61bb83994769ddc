"""Modified LLE (MLLE) on the GPU; the twin of :mod:`lle_gpu.constraints.cpu.modified`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.cpu.modified import almost_null_sizes
from lle_gpu.constraints.gpu.directions import (
    directions_bytes,
    directions_rows,
    principal_directions,
)
from lle_gpu.constraints.gpu.local import with_point
from lle_gpu.cuda import cupy, kernel, register
from lle_gpu.cuda.geometry import fitting_threads, lanes_per_item
from lle_gpu.cuda.memory import for_each_chunk

__all__ = ["modified"]

register("modified.cu", ["modified_rows"])


def modified(
    X: Any,
    index: Any,
    n_components: int,
    *,
    reg: float = 1e-3,
    modified_tol: float = 1e-12,
    n_jobs: int | None = None,
) -> Constraints:
    """Rows of modified LLE on the index sets [i, neighbours of i].

    Parameters
    ----------
    X : cupy.ndarray of shape (n, d), float32 or float64
    index : cupy.ndarray of shape (n, k), k > n_components
    n_components : int
    reg : float, default=1e-3
        Ridge of the standard weights, in units of the local trace.
    modified_tol : float, default=1e-12
        Below this alpha the vector of ones is taken to be orthogonal to V_i.
    n_jobs : int or None
        Not used.

    Returns
    -------
    Constraints with rows of shape (n, k, k + 1), float64; the rank of each point's block is s_i.
    """
    cp = cupy()
    n, k = index.shape
    d = X.shape[1]
    p = min(k, d)
    values = cp.empty((n, p))
    rows = cp.empty((n, k, k + 1))

    def measure(chunk: slice) -> None:
        values[chunk] = principal_directions(X[chunk], X, index[chunk], 0)[1]

    # eta needs all points. The directions are found again afterwards: keeping them would take
    # n x k x min(k, d) numbers.
    most = directions_rows(k, d)
    for_each_chunk(measure, n, directions_bytes(k, d, 0), most_rows=most, quiet=True)
    n_leading = (k - almost_null_sizes(values, k, n_components)).astype(np.int32)

    shared_bytes = 8 * (2 * p + 4 * k)
    threads = max(32, fitting_threads(32, shared_bytes))
    combine_rows = kernel("modified.cu", "modified_rows")

    def combine(chunk: slice) -> None:
        U, lambdas = principal_directions(X[chunk], X, index[chunk])
        c = len(U)
        geometry = lanes_per_item(c, 32, threads=threads, shared_bytes=shared_bytes)
        arrays = U, lambdas, n_leading[chunk], rows[chunk]
        sizes = np.int32(c), np.int32(p), np.int32(k)
        options = np.float64(reg), np.float64(modified_tol)
        combine_rows.launch(geometry, *arrays, *sizes, *options)

    for_each_chunk(combine, n, directions_bytes(k, d, p), most_rows=most)
    return Constraints(with_point(index), rows)
