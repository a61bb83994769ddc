"""Local tangent space alignment on the GPU; the twin of :mod:`lle_gpu.constraints.cpu.ltsa`."""

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
from lle_gpu.cuda.geometry import warp_per_item
from lle_gpu.cuda.memory import for_each_chunk

__all__ = ["ltsa"]

register("ltsa.cu", ["ltsa_rows"])


def ltsa(X: Any, index: Any, n_components: int, *, n_jobs: int | None = None) -> Constraints:
    """Rows of LTSA on the index sets of the k neighbours.

    Parameters
    ----------
    X : cupy.ndarray of shape (n, d), float32 or float64
    index : cupy.ndarray of shape (n, k), k > n_components + 1
    n_components : int
    n_jobs : int or None
        Not used.

    Returns
    -------
    Constraints with rows of shape (n, k, k), float64.
    """
    (n, k), d = index.shape, X.shape[1]
    rows = cupy().empty((n, k, k))
    project = kernel("ltsa.cu", "ltsa_rows")

    def work(chunk: slice) -> None:
        U = tangent_coordinates(X, index[chunk], n_components)
        c, q, _ = U.shape
        project.launch(warp_per_item(c), U, rows[chunk], *map(np.int32, (c, q, k)))

    for_each_chunk(work, n, directions_bytes(k, d, n_components), most_rows=directions_rows(k, d))
    return Constraints(index, rows)
