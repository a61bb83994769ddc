"""Principal directions of all neighbourhoods at once, by one-sided Jacobi.

The twin of ``principal_directions`` in :mod:`lle_gpu.constraints.cpu.local`. The differences to the
centre are never stored: the kernels gather them. Which kernel, by k neighbours and d features:

====================  ============================================================================
k <= 32               a column in each lane's registers, min(k, d) lanes or a few more a point
larger, while the     a block a point: to k = 128 with 163 KiB a block or more (compute capability
columns fit in        8.0, 9.0, 10.0), to k = 104 with 99 KiB, to k = 77 with 64 KiB, for any number
shared memory         of features; further with few features, never beyond k = 128
beyond                the same with the columns in global memory: any k
====================  ============================================================================

Points at which Jacobi has not converged within ``SWEEPS`` sweeps are done again on the last route
with ten times as many; if one fails there, that is an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.constraints.gpu.local import kernel_index
from lle_gpu.cuda import REALS, cupy, kernel, register
from lle_gpu.cuda.duration import rows_at_once
from lle_gpu.cuda.geometry import Geometry, block_per_item, lanes_per_item, shared_memory_limit
from lle_gpu.cuda.memory import chunk_rows

__all__ = ["directions_bytes", "directions_rows", "principal_directions", "tangent_coordinates"]

SOURCE = "local_eigen.cu"
# Where d >= k no matrix tried took more than 12; where d < k, 28, with singular values from 1 to
# 1e-16 in equal steps, and 12 else.
SWEEPS = 60
# Bounds on k, and for each the bounds on d < k (lanes a point); d >= k takes K lanes.
LANES = {8: (4, 8), 16: (4, 8, 16), 32: (4, 8, 16, 32)}
# Rows that each of a team of 8 lanes holds; 0: none, whatever k is.
ROWS = (8, 16, 0)
# Features behind Z Z^T that a block holds at a time, as in the kernel.
TILE = 16
# More blocks than any device runs at once would only take more work space.
GLOBAL_BLOCKS = 512

register(
    SOURCE,
    [
        *(
            f"principal_directions_lanes<{T}, {K}, {M}, {gram}>"
            for T in REALS.values()
            for K, bounds in LANES.items()
            for M, gram in [*((M, "false") for M in bounds), (K, "true")]
        ),
        *(f"principal_directions_block<{T}, {rows}>" for T in REALS.values() for rows in ROWS),
    ],
)


def principal_directions(
    points: Any, X: Any, index: Any, count: int | None = None, *, centred: bool = False
) -> tuple[Any, Any]:
    """Left singular vectors and squared singular values of each neighbourhood, largest first.

    Z_i = the neighbours of point i minus the point = U S V^T.

    Parameters
    ----------
    points : cupy.ndarray of shape (c, d), float32 or float64
    X : cupy.ndarray of shape (n, d), the same dtype
    index : cupy.ndarray of shape (c, k), integer
        The neighbours, rows of X.
    count : int, optional
        How many directions are wanted; min(k, d) by default.
    centred : bool
        Take the neighbours' mean for the centre, and make the directions orthogonal to the vector
        of ones. ``points`` is not used then.

    Returns
    -------
    U : cupy.ndarray of shape (c, count, k), float64
        Orthonormal rows (the CPU's columns); those that belong to a singular value that is zero to
        working accuracy are zero, since the data do not determine them.
    values : cupy.ndarray of shape (c, min(k, d)), float64
        S^2; zero where the direction is.

    Raises
    ------
    numpy.linalg.LinAlgError
        If Jacobi does not converge; no finite data are known to do that.
    """
    cp = cupy()
    c, k = index.shape
    p = min(k, X.shape[1])
    U = cp.empty((c, p if count is None else min(count, p), k))
    values = cp.empty((c, p))
    info = cp.empty(c, dtype=np.int32)
    index = kernel_index(index, len(X))

    _launch(_route(k, X.shape[1]), points, X, index, U, values, info, centred, SWEEPS)
    failed = cp.flatnonzero(info)
    if failed.size:
        few = U[failed], values[failed], info[failed]
        origins = points if centred else points[failed]
        _launch(0, origins, X, index[failed], *few, centred, 10 * SWEEPS)
        if few[2].any():
            raise np.linalg.LinAlgError(
                f"the principal directions of {int(few[2].sum())} neighbourhoods did not converge "
                f"in {10 * SWEEPS} sweeps; check that X is finite"
            )
        U[failed], values[failed] = few[:2]
    return U, values


def tangent_coordinates(X: Any, index: Any, n_components: int) -> Any:
    """Orthonormal coordinates of the neighbours in each point's tangent plane.

    index (c, k) -> (c, n_components, k): rows orthonormal and orthogonal to 1. A direction in which
    the neighbours have no extent at all is a row of zeros.
    """
    return principal_directions(X, X, index, n_components, centred=True)[0]


def directions_bytes(k: int, d: int, count: int) -> int:
    """Device memory per point that :func:`principal_directions` takes, its result included."""
    return 8 * (count * k + min(k, d)) + 4 * (k + 1)


def directions_rows(k: int, d: int) -> int:
    """Points that :func:`principal_directions` is to be called for at once: see ``duration``.

    The inner products of k differences; then as many sweeps as most points need, each of p^2 / 2
    pairs, p = min(k, d), with three products and two updates of k numbers.
    """
    p, sweeps = min(k, d), 8
    return rows_at_once(p * k * d / 2 + 2.5 * sweeps * p * p * k, double=True)


def _route(k: int, d: int) -> int | tuple[int, int, str]:
    """Template arguments: (K, M, gram) for lanes, rows for blocks."""
    if k <= max(LANES):
        K = next(bound for bound in LANES if bound >= k)
        return (K, K, "true") if d >= k else (K, next(M for M in LANES[K] if d <= M), "false")
    rows = next((rows for rows in ROWS if 8 * rows >= k), 0)
    return rows if 8 * _block_numbers(k, d) <= shared_memory_limit() else 0


def _block_numbers(k: int, d: int) -> int:
    """Numbers that a block works on: columns, their norms, one a warp, a tile."""
    padded = (k + 7) // 16 * 16 + 8
    return min(k, d) * padded + k + 32 + (TILE * (k | 1) if d >= k else 0)


def _launch(
    route: int | tuple[int, int, str],
    points: Any,
    X: Any,
    index: Any,
    U: Any,
    values: Any,
    info: Any,
    centred: bool,
    sweeps: int,
) -> None:
    c, k = index.shape
    d = X.shape[1]
    T = REALS[X.dtype.name]
    arrays = X, points, index, U, values, info
    sizes = tuple(map(np.int32, (c, d, k, U.shape[1], centred, sweeps)))
    if isinstance(route, tuple):
        K, M, gram = route
        run = kernel(SOURCE, f"principal_directions_lanes<{T}, {K}, {M}, {gram}>")
        run.launch(lanes_per_item(c, M), *arrays, *sizes)
        return
    run = kernel(SOURCE, f"principal_directions_block<{T}, {route}>")
    numbers = _block_numbers(k, d)
    blocks = c if route else min(c, GLOBAL_BLOCKS, chunk_rows(8 * numbers))
    work = cupy().empty(0 if route else blocks * numbers)
    geometry = _block_geometry(blocks, min(k, d), 8 * numbers if route else 0)
    run.launch(geometry, *arrays, work, np.int64(numbers), *sizes)


def _block_geometry(blocks: int, columns: int, shared_bytes: int) -> Geometry:
    """Eight lanes for each pair of columns, 128 to 512 threads."""
    threads = 8 * (1 << (columns - 1).bit_length()) // 2
    return block_per_item(blocks, min(max(threads, 128), 512), shared_bytes=shared_bytes)
