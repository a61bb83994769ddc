"""Products with M = F^T F on the CPU, on all cores: what a solver without factors lives on.

M X = F^T (F X) takes 2 nnz(F) multiplications a column, and M itself, once formed, nnz(M). Both run
at the same speed per nonzero, so the fewer nonzeros decide: F where it has one row a point (M has
three to eight times as many as F and F^T), M where F has many (ltsa with k = 20: 131 a point
against 800). The rounding of a formed M, eps ||M||, is harmless in a filter: what the vectors are
worth is measured through F.

Blocks of 8 columns cost about 0.3 ns a nonzero and column, single ones 0.5: SciPy's loop over the
columns is what the compiler vectorises. (Its in-place kernel, which is private, gains nothing.)
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lle_gpu.parallel import effective_jobs, in_threads

__all__ = ["Products", "SquareProducts", "row_block"]

Float = NDArray[np.float64]
# Nonzeros from which products are shared out among threads. A block of 8 columns then takes one
# thread more than a millisecond; handing it over and waiting takes a tenth of that, and F^T by
# rows a fifth more than by columns.
THREADED_NONZEROS = 500_000
# Rows of a product that a thread makes at a time, for what is then done to them in its cache.
ROWS_AT_A_TIME = 1 << 13


class Products:
    """X -> M X, X (n, b) in C order.

    Parameters
    ----------
    F : csr_array of shape (R, n)
    M : csr_array of shape (n, n), optional
        F^T F. It is used if it has fewer nonzeros than F and F^T.
    n_jobs : int or None
        Threads.

    Attributes
    ----------
    n : int
    nonzeros : int
        Multiplications for a product with one column.
    columns : int
        Columns multiplied so far.
    description : str
    """

    def __init__(self, F: csr_array, M: csr_array | None = None, n_jobs: int | None = None) -> None:
        self.n = int(F.shape[1])
        self.columns = 0
        # SciPy has nothing that does more than multiply.
        self.recur: Callable[[Float, Float], Float] | None = None
        self._jobs = effective_jobs(n_jobs)
        if M is not None and M.nnz < 2 * F.nnz:
            self.description, factors = "M", [M]
        else:
            self.description, factors = "F and F^T", [F, F.T]
        self.nonzeros = int(sum(factor.nnz for factor in factors))
        self._factors = factors
        self._parts: list[list[tuple[slice, Any]]] = []
        if self._jobs > 1 and self.nonzeros >= THREADED_NONZEROS:
            # One thread takes F^T as a view, which scatters: as fast, and no memory. Several need a
            # copy, so that each can gather rows of its own.
            self._parts = [_row_blocks(factor.tocsr(), self._jobs) for factor in factors]

    def __enter__(self) -> Products:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""

    def multiply(self, X: Float) -> Float:
        """M X for X (n, b)."""
        self.columns += X.shape[1]
        if not self._parts:
            for factor in self._factors:
                X = factor @ X
            return X
        for factor, parts in zip(self._factors, self._parts, strict=True):
            product = np.empty((factor.shape[0], X.shape[1]))
            in_threads(_multiply_rows(X, product), parts, self._jobs)
            X = product
        return X


class SquareProducts:
    """B X and B^T X for a square B, with something done to the rows of the product at once.

    In the precision of X; the copies in single precision, and B^T by rows, are made here.

    Parameters
    ----------
    B : csr_array of shape (n, n)
    n_jobs : int or None
        Threads.

    Attributes
    ----------
    n : int
    nonzeros : int
        Of B.
    work : int
        Multiplications done so far, those in single precision counted half.
    """

    def __init__(self, B: csr_array, n_jobs: int | None = None) -> None:
        self.n, self.nonzeros, self.work = int(B.shape[0]), int(B.nnz), 0
        jobs = effective_jobs(n_jobs)
        self._jobs = jobs if 2 * self.nonzeros >= THREADED_NONZEROS else 1
        count = 1 if self._jobs == 1 else max(jobs, -(-self.n // ROWS_AT_A_TIME))
        single = B.astype(np.float32)
        # Blocks in double precision are few: F^T as a view is fast enough for them.
        whole = slice(0, self.n)
        self._parts = {
            (False, "float32"): _row_blocks(single, count),
            (True, "float32"): _row_blocks(single.T.tocsr(), count),
            (False, "float64"): _row_blocks(B, count),
            (True, "float64"): [(whole, B.T)],
        }

    def __enter__(self) -> SquareProducts:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""

    def multiply(self, X: Any, then: Callable[[Any, Any], None]) -> None:
        """Give ``then`` rows and (B X)[rows], X (n, b) in C order, for slices that are all rows."""
        self._multiply(False, X, then)

    def multiply_transposed(self, X: Any, then: Callable[[Any, Any], None]) -> None:
        """The same with B^T."""
        self._multiply(True, X, then)

    def _multiply(self, transposed: bool, X: Any, then: Callable[[Any, Any], None]) -> None:
        self.work += self.nonzeros * X.shape[1] * X.dtype.itemsize // 8
        parts = self._parts[transposed, X.dtype.name]

        def work(part: tuple[slice, Any]) -> None:
            rows, block = part
            then(rows, block @ X)

        in_threads(work, parts, self._jobs)


def _row_blocks(A: csr_array, count: int) -> list[tuple[slice, csr_array]]:
    """A's rows in ``count`` slices with about as many nonzeros each, without copies."""
    targets = np.linspace(0, A.nnz, count + 1)
    bounds = np.searchsorted(A.indptr, targets, side="left")
    bounds[0], bounds[-1] = 0, A.shape[0]
    blocks = []
    for low, high in pairwise(bounds):
        rows = slice(int(low), int(high))
        blocks.append((rows, row_block(A, rows)))
    return blocks


def row_block(A: csr_array, rows: slice) -> csr_array:
    """A[rows], which shares A's memory.

    The attributes are set one by one, since a constructor that is given less than half of an array
    copies it.
    """
    pointer = A.indptr[rows.start : rows.stop + 1]
    inside = slice(pointer[0], pointer[-1])
    block = csr_array((len(pointer) - 1, A.shape[1]), dtype=A.dtype)
    block.data, block.indices = A.data[inside], A.indices[inside]
    block.indptr = pointer - pointer[0]
    return block


def _multiply_rows(X: Float, product: Float) -> Callable[[tuple[slice, Any]], None]:
    """What one thread does: its rows of ``product``."""

    def work(part: tuple[slice, Any]) -> None:
        rows, block = part
        product[rows] = block @ X

    return work
