"""Rayleigh-Ritz and residuals through F: what makes the vectors' values trustworthy.

sigma = ||F v|| is accurate to eps ||F|| in sigma. Through M only lambda = sigma^2 is accurate to
eps ||M||, which is worse by a factor of sigma / ||F||: everything, at the bottom of the spectrum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["norm_estimate", "rayleigh_ritz", "residual_norms"]

Float = NDArray[np.float64]


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
    """Best singular vectors within the span of V (n, q): (sigma ascending, vectors (n, q))."""
    Q, _ = np.linalg.qr(V)
    _, R = np.linalg.qr(F @ Q)
    _, values, Zt = np.linalg.svd(R)
    return values[::-1], Q @ Zt[::-1].T


def residual_norms(F: csr_array, V: Float, values: Float) -> Float:
    """||F^T F v_j - sigma_j^2 v_j|| for each column."""
    return np.linalg.norm(F.T @ (F @ V) - V * values**2, axis=0)
