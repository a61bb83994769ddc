"""Standard LLE: one row e_i - w_i per point, w_i the weights that rebuild x_i from its neighbours.

The twin of :mod:`lle_gpu.constraints.cpu.standard`, whose docstring has the formulas; the kernels
are in ``kernels/barycentric.cu``. Which way a problem goes:

===========================  ======================================================================
k <= 32                      one kernel, 2 to 16 lanes a point
k <= 128                     one kernel, a block a point, if the device has the shared memory (k =
                             128 in float64 takes 75 KiB; compute capability 7.5 has 64)
beyond                       :func:`local_weights`: batched matrix products and solutions (cuBLAS)
reg < 1e-8                   the same: a Gram matrix that is singular, as all are where k > d, takes
                             eigenvectors (reg = 0 and k <= d: only those that a kernel marks)
points that a kernel marks   the same: a pivot lost in rounding, a trace or ridge out of range
===========================  ======================================================================

float64 throughout, with one exception: float32 data with k <= d and reg >= 1e-3 are computed in
float32 and scaled in float64. There the rounding of the Gram matrix, 6e-8 of its trace, is at most
1e-4 of the ridge. With a smaller ridge it would be felt; with fewer features than neighbours, where
the ridge alone makes the matrix regular, too, and a small d makes float64 cheap anyway.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.cpu.standard import LEAST_SOLVED
from lle_gpu.constraints.cpu.standard import local_weights as weights_of
from lle_gpu.constraints.gpu.local import differences, kernel_index, with_point
from lle_gpu.cuda import REALS, cupy, kernel, register
from lle_gpu.cuda.duration import rows_at_once
from lle_gpu.cuda.geometry import (
    block_per_item,
    lanes_per_item,
    shared_memory_limit,
    thread_per_item,
)
from lle_gpu.cuda.memory import for_each_chunk
from lle_gpu.progress import advance

__all__ = ["barycentric_weights", "local_weights", "standard", "weighted_means"]

SOURCE = "barycentric.cu"
# (data, arithmetic)
PRECISIONS = (("float", "float"), ("float", "double"), ("double", "double"))
LANE_BOUNDS = (8, 16, 32)
# Chunks of 16 bytes of each row that barycentric_warp has in shared memory, odd.
PITCHES = (3, 7, 13)
WARPS_AT_ONCE = 8
BLOCK_BOUND = 128
# The least ridge, in units of the trace, beside which the rounding of float32 is small.
LEAST_SINGLE_REG = 1e-3


def _rows_per_lane(arithmetic: str, bound: int) -> int:
    """Rows of the Gram matrix that a lane holds: as many as registers allow."""
    return 2 if (arithmetic, bound) == ("double", 32) else 4


def _loads(arithmetic: str) -> tuple[int, ...]:
    """Columns that a lane may load at once."""
    return (2, 1) if arithmetic == "float" else (1,)


def _pitch(d: int, itemsize: int, bound: int, rows: int) -> int:
    """Chunks of 16 bytes of a row that are gathered together.

    All of them where eight warps, enough to keep a multiprocessor busy, have the shared memory.
    """
    whole = next((pitch for pitch in PITCHES if d * itemsize <= 16 * pitch), PITCHES[-1])
    fits = WARPS_AT_ONCE * 32 * rows // bound * _tile_bytes(bound, rows, whole)
    return whole if fits <= shared_memory_limit() else min(whole, PITCHES[-2])


def _tile_bytes(bound: int, rows: int, pitch: int) -> int:
    """Shared memory of a point in barycentric_warp: tile_bytes of the kernel."""
    lanes = bound // rows
    return 16 * (bound * pitch + (lanes if lanes < 8 else 0))


def _in_lanes(data: str, arithmetic: str, bound: int, load: int, pitch: int) -> str:
    rows = _rows_per_lane(arithmetic, bound)
    return f"barycentric_warp<{data}, {arithmetic}, {bound}, {rows}, {load}, {pitch}>"


def _in_block(data: str, arithmetic: str, load: int) -> str:
    return f"barycentric_block<{data}, {arithmetic}, {load}>"


def _means(data: str) -> str:
    return f"weighted_means<{data}>"


for _data, _arithmetic in PRECISIONS:
    for _load in _loads(_arithmetic):
        register(
            SOURCE,
            [
                _in_lanes(_data, _arithmetic, bound, _load, pitch)
                for bound in LANE_BOUNDS
                for pitch in PITCHES
            ],
        )
        register(SOURCE, [_in_block(_data, _arithmetic, _load)])
register(SOURCE, map(_means, REALS.values()))


def local_weights(Z: Any, reg: float) -> Any:
    """As :func:`lle_gpu.constraints.cpu.standard.local_weights`, by cuBLAS and cuSOLVER."""
    return weights_of(Z, reg, _solve)


def _solve(A: Any, b: Any) -> Any:
    """Solve all the systems at once, A (c, m, m) and b (c, m, 1).

    cupy.linalg.solve (14.2) goes through those with m > 256 one by one, in Python, since cuBLAS is
    slow there, of which CuPy warns: so many calls, for each point, would take longer still (by
    their number; not measured).
    """
    from cupy.cublas import batched_gesv, get_batched_gesv_limit

    if A.shape[-1] <= get_batched_gesv_limit():
        return batched_gesv(A, b)
    with warnings.catch_warnings():  # which is the whole process's: not where there is no need
        warnings.filterwarnings("ignore", "The matrix size", UserWarning)
        return batched_gesv(A, b)


def barycentric_weights(
    points: Any,
    X: Any,
    index: Any,
    *,
    reg: float = 1e-3,
    n_jobs: int | None = None,
) -> Any:
    """Weights that rebuild each point from its neighbours in X.

    Parameters
    ----------
    points : cupy.ndarray of shape (m, d)
    X : cupy.ndarray of shape (n, d)
    index : cupy.ndarray of shape (m, k)
        The neighbours of each point, rows of X.
    reg : float, default=1e-3
        See :func:`local_weights`.
    n_jobs : int or None
        Not used.

    Returns
    -------
    w : cupy.ndarray of shape (m, k), float64; rows sum to one.
    """
    w = cupy().empty(index.shape)
    _write_weights(w, points, X, index, reg)
    return w


def standard(
    X: Any,
    index: Any,
    n_components: int,
    *,
    reg: float = 1e-3,
    n_jobs: int | None = None,
) -> Constraints:
    """Rows [1, -w_i] on the index sets [i, neighbours of i].

    Parameters
    ----------
    X : cupy.ndarray of shape (n, d)
    index : cupy.ndarray of shape (n, k)
    n_components : int
        Not used: the weights do not depend on it.
    reg, n_jobs
        As in :func:`barycentric_weights`.

    Returns
    -------
    Constraints with rows of shape (n, 1, k + 1).
    """
    n, k = index.shape
    rows = cupy().empty((n, 1, k + 1))
    _write_weights(rows[:, 0], X, X, index, reg)
    return Constraints(with_point(index), rows)


def _write_weights(out: Any, points: Any, X: Any, index: Any, reg: float) -> None:
    """Fill ``out``: with the weights if it is (m, k), with [1, -w] if it is (m, k + 1)."""
    cp = cupy()
    m, k = index.shape
    d = X.shape[1]
    real = np.promote_types(np.promote_types(points.dtype, X.dtype), np.float32)
    points = cp.ascontiguousarray(points.astype(real, copy=False))
    index = kernel_index(index, len(X))
    single = real == np.float32 and k <= d and reg >= LEAST_SINGLE_REG
    arithmetic = np.dtype(np.float32 if single else np.float64)
    fits = k <= LANE_BOUNDS[-1] or (
        k <= BLOCK_BOUND and _block_bytes(k, arithmetic.itemsize) <= shared_memory_limit()
    )
    if not fits or (reg < LEAST_SOLVED and (reg > 0 or k > d)):
        _write_slowly(out, points, X, index, reg)
        return

    in_order = cp.ascontiguousarray(X)
    marked = cp.empty(m, np.int32)

    def own(index: Any) -> tuple[Any, Any]:
        """X as the kernel takes it, or a copy of the neighbours, and their numbers there."""
        if X.dtype == real:
            return in_order, index
        each = cp.arange(index.size, dtype=np.int32).reshape(index.shape)
        return X[index].reshape(-1, d).astype(real), each

    def work(rows: slice) -> None:
        _launch(out[rows], points[rows], *own(index[rows]), marked[rows], reg, arithmetic)

    copied = 0 if X.dtype == real else k * (d * (X.itemsize + real.itemsize) + 4)
    operations = k * (d * (k + 1) / 2 + k * k / 6)
    for_each_chunk(
        work, m, copied, most_rows=rows_at_once(operations, double=not single), quiet=True
    )
    again = cp.flatnonzero(marked)
    advance(m - len(again))
    _write_slowly(out, points, X, index, reg, again)


def _launch(
    out: Any, points: Any, X: Any, index: Any, marked: Any, reg: float, arithmetic: np.dtype[Any]
) -> None:
    """Fill ``out`` (m, k) or (m, k + 1) by the kernel for that k, and ``marked`` (m,)."""
    (m, k), d = index.shape, X.shape[1]
    # Two numbers of float32 at once, where every row begins at a multiple of them.
    single = arithmetic == np.float32
    pairs = single and d % 2 == 0 and points.data.ptr % 8 == X.data.ptr % 8 == 0
    types = REALS[X.dtype.name], REALS[arithmetic.name]
    if k <= LANE_BOUNDS[-1]:
        bound = next(bound for bound in LANE_BOUNDS if k <= bound)
        rows = _rows_per_lane(types[1], bound)
        pitch = _pitch(d, arithmetic.itemsize, bound, rows)
        name = _in_lanes(*types, bound, 1 + pairs, pitch)
        tile = _tile_bytes(bound, rows, pitch)
        launch = lanes_per_item(m, bound // rows, threads=64, shared_bytes=tile)
    else:
        name = _in_block(*types, 1 + pairs)
        launch = block_per_item(
            m, 128 if k <= 64 else 256, shared_bytes=_block_bytes(k, arithmetic.itemsize)
        )
    sizes = (m, d, k, out.shape[1] > k)
    numbers = *map(np.int32, sizes), arithmetic.type(reg)
    kernel(SOURCE, name).launch(launch, points, X, index, out, marked, *numbers)


def _block_bytes(k: int, itemsize: int) -> int:
    """Shared memory of barycentric_block: a tile of Z, the triangle of G, two vectors."""
    return 64 * (-(-k // 4) * 4) + (k * (k + 1) // 2 + 2 * k) * itemsize


def _write_slowly(out: Any, points: Any, X: Any, index: Any, reg: float, which: Any = None) -> None:
    """Fill the rows ``which`` of ``out`` (all by default) by :func:`local_weights`, in chunks."""
    k, d = index.shape[1], X.shape[1]

    def work(rows: slice) -> None:
        chosen = rows if which is None else which[rows]
        w = local_weights(differences(points[chosen], X, index[chosen]), reg)
        if out.shape[1] > k:
            out[chosen, 0] = 1.0
            out[chosen, 1:] = -w
        else:
            out[chosen] = w

    # The gathered rows of X, their differences and a product's transposed copy; the Gram matrix,
    # the same with its ridge, and its factors or eigenvectors with their work space.
    solved = min(k, 2 * d) if reg else k
    bytes_per_row = 8 * k * (3 * d + 6 * solved + 8)
    for_each_chunk(work, len(index) if which is None else len(which), bytes_per_row)


def weighted_means(
    weights: Any,
    index: Any,
    values: Any,
    *,
    n_jobs: int | None = None,
) -> Any:
    """sum_j weights_ij values_index[i,j]: weights and index (m, k), values (n, q) -> (m, q)."""
    cp = cupy()
    m, k = index.shape
    n, q = values.shape
    real = np.promote_types(values.dtype, np.float32)
    values = cp.ascontiguousarray(values.astype(real, copy=False))
    weights = cp.ascontiguousarray(weights.astype(np.float64, copy=False))
    means = cp.empty((m, q))
    arrays = weights, kernel_index(index, n), values, means
    run = kernel(SOURCE, _means(REALS[values.dtype.name]))
    run.launch(thread_per_item(m * q), *arrays, *map(np.int32, (m, k, q)))
    advance(m)
    return means
