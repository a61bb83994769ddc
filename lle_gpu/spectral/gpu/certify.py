"""Rayleigh-Ritz and products through F on the GPU; see :mod:`lle_gpu.spectral.cpu.certify`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda import cupy
from lle_gpu.spectral.gpu.normals import Normals
from lle_gpu.spectral.gpu.sparse import Rows

__all__ = ["norm_estimate", "normal_product", "rayleigh_ritz"]

Float = NDArray[np.float64]
# Of F V, held at once: it has up to k n rows.
SLAB_BYTES = 1 << 28


def norm_estimate(F: Rows, n_steps: int = 8) -> float:
    """||F||_2 from below, by a few steps of the power method on F^T F (typically within 5 %)."""
    cp = cupy()
    v = Normals(np.random.RandomState(0)).standard_normal((F.n, 1))
    norm = 0.0
    for _ in range(n_steps):
        v /= cp.linalg.norm(v)
        Fv = F.multiply(v)
        norm = float(cp.linalg.norm(Fv))
        v = F.multiply_transposed(Fv)
        if norm == 0:
            break
    return norm


def rayleigh_ritz(F: Rows, V: Any) -> tuple[Float, Any]:
    """Best singular vectors within the span of V (n, q): (sigma ascending, vectors (n, q)).

    V = Q R_V, F Q = Q' R, and the singular values, NumPy's, and vectors of R. F Q is never whole:
    the R of its slabs, stacked, have the same R, which the host decomposes.
    """
    cp = cupy()
    Q, _ = cp.linalg.qr(V)
    q = Q.shape[1]
    step = max(q, SLAB_BYTES // (8 * F.r * max(q, 1)))
    R = np.concatenate(
        [
            cp.linalg.qr(F.multiply(Q, slice(low, low + step)), mode="r").get()
            for low in range(0, F.n, step)
        ]
    )
    _, values, Zt = np.linalg.svd(np.linalg.qr(R, mode="r"))
    return values[::-1], Q @ cp.asarray(np.ascontiguousarray(Zt[::-1].T))


def normal_product(F: Rows, V: Any) -> Any:
    """F^T (F V) for V (n, q), a few columns at a time."""
    cp = cupy()
    step = max(1, SLAB_BYTES // (8 * F.shape[0]))
    parts = [
        F.multiply_transposed(F.multiply(V[:, low : low + step]))
        for low in range(0, V.shape[1], step)
    ]
    return parts[0] if len(parts) == 1 else cp.concatenate(parts, axis=1)
