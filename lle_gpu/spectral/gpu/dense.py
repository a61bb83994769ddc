"""Dense solution for a problem on the GPU: the host's, which for few points is the faster one.

It is for some hundred points, and for some thousand where somebody asks for it. LAPACK's divide and
conquer takes milliseconds for the former; cuSOLVER's QR iteration has the device wait for one small
kernel after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda import cupy
from lle_gpu.spectral.cpu import dense
from lle_gpu.spectral.gpu.sparse import Rows

__all__ = ["dense_bottom_vectors"]


def dense_bottom_vectors(F: Rows, norm: float, n_wanted: int) -> tuple[Any, NDArray[np.float64]]:
    """As :func:`lle_gpu.spectral.cpu.dense.dense_bottom_vectors`; the vectors are CuPy's."""
    V, next_values = dense.dense_bottom_vectors(F.to_host(), norm, n_wanted)
    return cupy().asarray(V), next_values
