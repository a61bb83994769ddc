"""Rayleigh-Ritz and products through F: what makes the vectors' values trustworthy.

sigma = ||F v|| is accurate to eps ||F|| in sigma. Through M only lambda = sigma^2 is accurate to
eps ||M||, which is worse by a factor of sigma / ||F||: everything, at the bottom of the spectrum.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lle_gpu.spectral.cpu.products import row_block

__all__ = ["norm_estimate", "normal_product", "rayleigh_ritz"]

Float = NDArray[np.float64]
# Rows of F taken at once, and bytes of their products. F has up to k n rows: F V as a whole would
# be many times V.
SLAB_ROWS, SLAB_BYTES = 1 << 17, 1 << 24


def norm_estimate(F: csr_array, n_steps: int = 8) -> float:
    """||F||_2 from below, by a few steps of the power method on F^T F (typically within 5 %)."""
    v = np.random.default_rng(0).standard_normal(F.shape[1])
    norm = 0.0
    for _ in range(n_steps):
        v /= np.linalg.norm(v)
        Fv = F @ v
        norm = float(np.linalg.norm(Fv))
        v = F.T @ Fv
        if not v.any():  # F = 0
            break
    return norm


def rayleigh_ritz(F: csr_array, V: Float) -> tuple[Float, Float]:
    """Best singular vectors within the span of V (n, q): (sigma ascending, vectors (n, q)).

    V = Q R_V, F Q = Q' R, and the singular values and vectors of R; F Q is never whole: the R of
    its slabs, stacked, have the same R.
    """
    Q, _ = np.linalg.qr(V)
    R = np.concatenate([np.linalg.qr(part @ Q, mode="r") for part in _slabs(F, V.shape[1])])
    _, values, Zt = np.linalg.svd(np.linalg.qr(R, mode="r"))
    return values[::-1], Q @ Zt[::-1].T


def normal_product(F: csr_array, V: Float) -> Float:
    """F^T (F V) for V (n, q)."""
    product = np.zeros(V.shape)
    for part in _slabs(F, V.shape[1]):
        product += part.T @ (part @ V)
    return product


def _slabs(F: csr_array, columns: int) -> Iterator[csr_array]:
    """F's rows, in order, as many at a time as go with so many columns, without copies."""
    size = max(1, min(SLAB_ROWS, SLAB_BYTES // (8 * max(columns, 1))))
    for low in range(0, F.shape[0], size):
        yield row_block(F, slice(low, low + size))
