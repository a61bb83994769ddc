"""F and M on the GPU, and their products with blocks of vectors by our own kernels.

F stays as the constraints have it (:class:`Rows`): a row's coefficients, and one index set for all
rows of a point, 8 r m + 4 m bytes a point and no copy. What is transposed is only the index: which
entries lie in each column, from a stable sort, so that F^T gathers in a fixed order and the same
input gives the same bits. M, and the transpose of a square F, are compressed rows (:class:`Csr`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.cpu.assemble import stack
from lle_gpu.cuda import REALS, cupy, kernel, register
from lle_gpu.cuda.geometry import LARGEST_INDEX, thread_per_entry

__all__ = ["SOURCE", "Csr", "Rows"]

SOURCE = "products.cu"
# Rows of more entries than the kernels' LONG have blocks of their own there.
LONG = 256

register(
    SOURCE,
    [
        f"{name}<{T}>"
        for name in ("multiply_rows", "multiply_transposed", "multiply_sparse")
        for T in REALS.values()
    ],
)


@dataclass(frozen=True)
class Csr:
    """A sparse matrix by rows, on the device.

    Attributes
    ----------
    values : array of shape (nnz,), float32 or float64
    columns : array of shape (nnz,), int32
    first : array of shape (rows + 1,), int64
        Where each row starts.
    shape : tuple of two ints
    """

    values: Any
    columns: Any
    first: Any
    shape: tuple[int, int]
    long_rows: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "long_rows", _long_rows(self.first))

    @property
    def nnz(self) -> int:
        """Entries, zeros among them included."""
        return int(self.values.size)

    def multiply(self, X: Any) -> Any:
        """A X (rows, b), row-major, for X (columns, b) of the same dtype."""
        X = cupy().ascontiguousarray(X)
        Y = cupy().empty((self.shape[0], X.shape[1]), dtype=X.dtype)
        geometry = thread_per_entry(*Y.shape, first_blocks=int(self.long_rows.size))
        run = kernel(SOURCE, f"multiply_sparse<{REALS[X.dtype.name]}>")
        run.launch(geometry, *self.arguments, X, Y, *map(np.int32, Y.shape))
        return Y

    @property
    def arguments(self) -> tuple[Any, ...]:
        """How the kernels take it."""
        n_long = np.int32(self.long_rows.size)
        return self.first, self.long_rows, n_long, self.columns, self.values

    def owners(self) -> Any:
        """The row of each entry, int64."""
        cp = cupy()
        return cp.searchsorted(self.first[1:], cp.arange(self.nnz), side="right")

    def transposed(self) -> Csr:
        """A^T, a copy; its columns stand in order."""
        cp = cupy()
        order = cp.argsort(self.columns)
        columns = self.columns[order]
        first = cp.searchsorted(columns, cp.arange(self.shape[1] + 1))
        owners = self.owners()[order].astype(np.int32)
        return Csr(self.values[order], owners, first, (self.shape[1], self.shape[0]))

    def largest(self) -> float:
        """The largest absolute value of an entry."""
        return float(abs(self.values).max()) if self.nnz else 0.0

    def to_host(self) -> csr_array:
        """The same matrix for SciPy, with int32 indices where they reach."""
        first = self.first.get()
        if self.nnz <= LARGEST_INDEX:
            first = first.astype(np.int32)
        return csr_array((self.values.get(), self.columns.get(), first), shape=self.shape)


class Rows:
    """F (R x n) on the device, R = n r, its zero rows included.

    Parameters
    ----------
    constraints : Constraints
        CuPy arrays.

    Attributes
    ----------
    index : array of shape (n, m), int32
    rows : array of shape (n, r, m)
    shape : (R, n)
    """

    def __init__(self, constraints: Constraints) -> None:
        cp = cupy()
        n, r, m = constraints.rows.shape
        if n > LARGEST_INDEX:
            raise ValueError(
                f"{n:,} points are more than the GPU's kernels can index ({LARGEST_INDEX:,}); use "
                "device='cpu'"
            )
        self.index = cp.ascontiguousarray(constraints.index).astype(np.int32, copy=False)
        self.rows = cp.ascontiguousarray(constraints.rows)
        self.shape = (n * r, n)
        self.n, self.r, self.m = n, r, m

    @property
    def nnz(self) -> int:
        """Entries, zeros among them included."""
        return int(self.rows.size)

    @cached_property
    def by_column(self) -> tuple[Any, Any, Any]:
        """The transposed index.

        Returns
        -------
        first : array of shape (n + 1,), int64
        order : array of shape (n m,), int64
            Entries i m + a, by their column and then by themselves.
        long_rows : array, int32
        """
        cp = cupy()
        columns = self.index.ravel()
        order = cp.argsort(columns)
        first = cp.searchsorted(columns[order], cp.arange(self.n + 1))
        return first, order, _long_rows(first)

    def multiply(self, X: Any, points: slice = slice(None)) -> Any:
        """F X (R, b), row-major, for X (n, b); of some points' rows if they are given."""
        cp = cupy()
        X = cp.ascontiguousarray(X)
        index, rows = self.index[points], self.rows[points]
        n_rows, b = index.shape[0] * self.r, X.shape[1]
        Y = cp.empty((n_rows, b), dtype=X.dtype)
        self.multiply_into(X, Y, index, rows)
        return Y

    def multiply_into(self, X: Any, Y: Any, index: Any = None, rows: Any = None) -> None:
        """The same, into Y, without an allocation; X and Y are C-contiguous."""
        index = self.index if index is None else index
        rows = self.rows if rows is None else rows
        n_rows, b = Y.shape
        sizes = np.int64(n_rows), np.int32(self.r), np.int32(self.m), np.int32(b)
        run = kernel(SOURCE, f"multiply_rows<{REALS[X.dtype.name]}>")
        run.launch(thread_per_entry(n_rows, b), index, rows, X, Y, *sizes)

    def multiply_transposed(self, Y: Any) -> Any:
        """F^T Y (n, b), row-major, for Y (R, b)."""
        cp = cupy()
        Y = cp.ascontiguousarray(Y)
        b = Y.shape[1]
        Z = cp.empty((self.n, b), dtype=Y.dtype)
        first, order, long_rows = self.by_column
        n_long = int(long_rows.size)
        geometry = thread_per_entry(self.n, b, first_blocks=n_long)
        sizes = map(np.int32, (self.n, self.r, self.m, b))
        run = kernel(SOURCE, f"multiply_transposed<{REALS[Y.dtype.name]}>")
        run.launch(geometry, first, long_rows, np.int32(n_long), order, self.rows, Y, Z, *sizes)
        return Z

    def transposed(self) -> Csr:
        """F^T of a square F with its values in order: twice as fast to read, 12 n m bytes."""
        if self.r != 1:
            raise ValueError(f"r={self.r} rows a point: only a square F is copied")
        first, order, _ = self.by_column
        owners = (order // self.m).astype(np.int32)
        return Csr(self.rows.ravel()[order], owners, first, (self.n, self.n))

    def to_host(self) -> csr_array:
        """F for SciPy, without its zero rows."""
        return stack(Constraints(self.index.get(), self.rows.get()))


def _long_rows(first: Any) -> Any:
    """The rows of more than LONG entries, int32."""
    return cupy().flatnonzero(first[1:] - first[:-1] > LONG).astype(np.int32)
