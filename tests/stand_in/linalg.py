"""``cupy.linalg``, as far as lle_gpu uses it."""

from __future__ import annotations

import functools

import numpy as np

from .array import like_numpy

__all__ = ["cholesky", "eigh", "eigvalsh", "norm", "qr", "svd"]


def _linalg(stub):
    return like_numpy(stub, getattr(np.linalg, stub.__name__))


def _qr(a, mode="reduced"):
    """As cuSOLVER leaves them: by columns."""
    found = np.linalg.qr(a, mode)
    return found if mode == "r" or a.ndim > 2 else tuple(map(np.asfortranarray, found))


@_linalg
def cholesky(a): ...
@_linalg
def eigh(a, UPLO="L"): ...
@_linalg
def eigvalsh(a, UPLO="L"): ...
@_linalg
def norm(x, ord=None, axis=None, keepdims=False): ...
@functools.partial(like_numpy, numpys=_qr, order="K")
def qr(a, mode="reduced"): ...
@_linalg
def svd(a, full_matrices=True, compute_uv=True): ...
