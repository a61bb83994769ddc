"""``cupy.cublas``, as far as lle_gpu uses it."""

from __future__ import annotations

import functools
import warnings

import numpy as np

from .array import like_numpy

__all__ = ["batched_gesv", "get_batched_gesv_limit"]


def get_batched_gesv_limit():
    return 256


def _solved(a, b):
    if a.shape[-1] > get_batched_gesv_limit():
        warnings.warn(
            f"The matrix size ({a.shape[-1]}) exceeds the set limit ({get_batched_gesv_limit()})",
            stacklevel=3,
        )
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:  # of which cuBLAS says nothing
        return np.stack([_one_solved(*system) for system in zip(a, b, strict=True)])


def _one_solved(a, b):
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        return np.full(b.shape, np.nan)


@functools.partial(like_numpy, numpys=_solved)
def batched_gesv(a, b): ...
