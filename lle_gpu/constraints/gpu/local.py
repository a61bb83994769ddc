"""What the methods share: the index as kernels take it, and differences to a centre.

Shapes: c points in a chunk, k neighbours, d features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.cuda import cupy

__all__ = ["EPS", "differences", "kernel_index"]

EPS = float(np.finfo(np.float64).eps)
LARGEST_INDEX = 2**31 - 1


def kernel_index(index: Any, n: int) -> Any:
    """The index into ``n`` rows as C-contiguous int32, which is what kernels take.

    Raises
    ------
    ValueError
        If int32 does not reach all rows.
    """
    if n > LARGEST_INDEX:
        raise ValueError(
            f"X has {n} rows; on the GPU at most {LARGEST_INDEX} are allowed. Take fewer points "
            "(transform() places the others), or device='cpu'"
        )
    return cupy().ascontiguousarray(index.astype(np.int32, copy=False))


def differences(points: Any, X: Any, index: Any) -> Any:
    """Z_ij = x_index[i,j] - points_i in float64; points (c, d), index (c, k) -> (c, k, d)."""
    Z = X[index].astype(np.float64, copy=False)
    Z -= points[:, None, :]
    return Z
