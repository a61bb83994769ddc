"""``cupyx.scipy.sparse``, as far as lle_gpu uses it."""

from __future__ import annotations

import scipy.sparse

from .array import ndarray

__all__ = ["csr_matrix"]


class csr_matrix:  # noqa: N801
    """A matrix given by its three arrays, (data, indices, indptr)."""

    def __init__(self, arg1, shape=None, dtype=None, copy=False):
        self.data, self.indices, self.indptr = arg1
        for part in arg1:
            if not isinstance(part, ndarray):
                raise TypeError(f"Unsupported type {type(part)}")
        self.shape = shape
        self.dtype = self.data.dtype
        self.nnz = self.data.size

    def get(self, stream=None):
        return scipy.sparse.csr_matrix(
            (self.data.get(), self.indices.get(), self.indptr.get()), shape=self.shape
        )


csr_matrix.__module__ = "cupyx.scipy.sparse"
