"""What the methods share: the index as kernels take it, and differences to a centre.

Shapes: c points in a chunk, k neighbours, d features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.constraints.cpu.local import differences, with_point  # the same for CuPy's arrays
from lle_gpu.cuda import cupy
from lle_gpu.cuda.geometry import LARGEST_INDEX

__all__ = ["differences", "kernel_index", "with_point"]


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
