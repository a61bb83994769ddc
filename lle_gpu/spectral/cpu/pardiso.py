"""The one door to MKL's PARDISO (extra ``[fast-cpu]``): sparse factors on all cores.

It works on dense blocks, the supernodes, with threads, and of a symmetric matrix it keeps one
triangle, where SuperLU has columns, one thread and both triangles. ``docs/ordering.md`` says what
that saves. Where MKL is not installed, or finds a matrix too hard, SuperLU does it.

    B = I - W            L U, pivots within supernodes
    M = F^T F            L D L^T (Bunch, Kaufman): rounding may turn a pivot of M + delta I negative

MKL is bound by ctypes, as few calls are needed: ``pardiso`` itself, and a thread's number of
threads. ctypes gives the interpreter lock back meanwhile.

O. Schenk, K. Gaertner: Solving unsymmetric sparse systems of linear equations with PARDISO. Future
Gener. Comput. Syst. 20:475 (2004).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import site
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array

from lle_gpu.parallel import effective_jobs
from lle_gpu.spectral.cpu.factorisation import BACKWARD_ERROR, backward_error

__all__ = ["Pardiso", "PardisoError", "find_mkl"]

Float = NDArray[np.float64]
# Kinds of matrices.
UNSYMMETRIC, SYMMETRIC = 11, -2
# Phases of the work.
FACTOR, SOLVE, RELEASE = 12, 33, -1
OUT_OF_MEMORY = -2
# Its integers are of 32 bits (LP64), as those of SciPy's sparse matrices are.
LP64, ILP64 = 0, 1
MOST_ENTRIES = np.iinfo(np.int32).max
# A pivot below 10^-15 ||A|| is replaced by that: the shift is as large.
PIVOT_DIGITS = 15


class PardisoError(ArithmeticError):
    """PARDISO cannot factor the matrix."""


class Pardiso:
    """Factors of A + shift I, for a CSR matrix A.

    Parameters
    ----------
    A : csr_array of shape (n, n)
        Unchanged.
    shift : float
        In units of ||A||_max.
    symmetric : bool
        Whether A is; its upper triangle is read then.
    n_jobs : int or None
        Threads.

    Attributes
    ----------
    fill : float
        Nonzeros of the factors, of L and U or of L and D, a row.
    bytes : int
        MKL's memory at its peak.

    Raises
    ------
    PardisoError
        If there is no MKL, or it cannot do it.
    MemoryError
    """

    name = "MKL PARDISO's factors"

    def __init__(
        self,
        A: csr_array,
        *,
        shift: float,
        symmetric: bool,
        n_jobs: int | None,
    ) -> None:
        mkl = find_mkl()
        if mkl is None:
            raise PardisoError("MKL is not installed")
        n = A.shape[0]
        self._mkl, self._n_jobs = mkl, effective_jobs(n_jobs)
        scale = float(np.abs(A.data).max(initial=0.0))
        given = _shifted(A.copy(), shift * scale, symmetric)
        if given.nnz > MOST_ENTRIES:
            raise PardisoError(f"{given.nnz} entries are more than 32-bit integers count")
        # Kept: PARDISO may read them again in every solve.
        arrays = (
            np.ascontiguousarray(given.data, np.float64),
            np.ascontiguousarray(given.indptr, np.int32),
            np.ascontiguousarray(given.indices, np.int32),
        )
        self._parameters = np.zeros(64, np.int32)
        for place, value in {
            0: 1,  # these, not the defaults
            1: 3,  # nested dissection, on all threads
            9: PIVOT_DIGITS,
            17: -1,  # counts nonzeros
            20: 1,  # Bunch, Kaufman
            23: 1,  # factors in two levels, for many threads
            34: 1,  # rows count from 0
        }.items():
            self._parameters[place] = value
        self._handle = np.zeros(64, np.int64)
        kind = SYMMETRIC if symmetric else UNSYMMETRIC
        self._run = functools.partial(
            _pardiso, mkl, self._handle, kind, n, arrays, self._parameters
        )
        nothing = np.zeros(n)
        self._release = weakref.finalize(self, self._run, RELEASE, np.zeros(1), np.zeros(1))
        self._call(FACTOR, nothing, nothing)
        self.fill = int(self._parameters[17]) / n
        self.bytes = 1024 * int(max(self._parameters[14], self._parameters[15:17].sum()))
        error = backward_error(self, A, shift * scale)
        if not error <= BACKWARD_ERROR:
            raise PardisoError(f"inaccurate factors (backward error {error:.1e})")

    def solve(self, X: Float, *, transposed: bool = False) -> Float:
        """A^-1 X, or A^-T X, for X of shape (n,) or (n, b)."""
        right = np.asfortranarray(X, dtype=np.float64)
        found = np.empty_like(right)
        self._parameters[11] = 2 if transposed else 0
        self._call(SOLVE, right, found)
        return found

    def _call(self, phase: int, right: Float, found: Float) -> None:
        with _threads(self._mkl, self._n_jobs):
            error = self._run(phase, right, found)
        if error == OUT_OF_MEMORY:
            raise MemoryError("PARDISO: not enough memory for the factors")
        if error:
            raise PardisoError(f"PARDISO's error {error} (see MKL's documentation)")


def _shifted(A: csr_array, shift: float, symmetric: bool) -> csr_array:
    """A + shift I, with sorted rows and a whole diagonal; only the upper triangle if symmetric."""
    if not A.has_sorted_indices:
        A.sort_indices()
    n = A.shape[0]
    row = np.repeat(np.arange(n, dtype=np.int32), np.diff(A.indptr))
    on_diagonal = A.indices == row
    if np.count_nonzero(on_diagonal) == n:
        A.data[on_diagonal] += shift
    else:  # a point in no constraint has no entry there
        A = csr_array(A + shift * eye_array(n, format="csr"))
        A.sort_indices()
        row = np.repeat(np.arange(n, dtype=np.int32), np.diff(A.indptr))
    if not symmetric:
        return A
    upper = A.indices >= row
    indptr = np.concatenate([[0], np.cumsum(upper)])[A.indptr]
    return csr_array((A.data[upper], A.indices[upper], indptr), shape=A.shape)


@functools.cache
def find_mkl() -> ctypes.CDLL | None:
    """MKL's library, if it is installed in this environment (by pip or conda) and can be used."""
    for folder in dict.fromkeys((sys.prefix, site.getuserbase())):
        for path in sorted(Path(folder, "lib").glob("libmkl_rt.so*")):
            try:
                mkl = ctypes.CDLL(str(path))
                # Another layer stays if MKL is in use already.
                layer = mkl.MKL_Set_Interface_Layer(LP64)
                mkl.pardiso.restype = None
            except (OSError, AttributeError):
                continue
            return None if layer & ILP64 else mkl
    return None


@contextlib.contextmanager
def _threads(mkl: ctypes.CDLL, count: int) -> Iterator[None]:
    """So many threads in this thread's calls: what other code has set stays as it is."""
    before = mkl.MKL_Set_Num_Threads_Local(ctypes.c_int(count))
    try:
        yield
    finally:
        mkl.MKL_Set_Num_Threads_Local(ctypes.c_int(before))


def _pardiso(
    mkl: ctypes.CDLL,
    handle: NDArray[np.int64],
    kind: int,
    n: int,
    arrays: tuple[Float, NDArray[np.int32], NDArray[np.int32]],
    parameters: NDArray[np.int32],
    phase: int,
    right: Float,
    found: Float,
) -> int:
    """Call ``pardiso(pt, maxfct, mnum, mtype, phase, n, a, ia, ja, perm, ...)``: its error."""

    def number(value: int) -> Any:
        return ctypes.byref(ctypes.c_int32(value))

    def pointer(array: NDArray[Any]) -> Any:
        return ctypes.c_void_p(array.ctypes.data)

    data, indptr, indices = arrays
    error = ctypes.c_int32(0)
    mkl.pardiso(
        pointer(handle),
        number(1),
        number(1),
        number(kind),
        number(phase),
        number(n),
        pointer(data),
        pointer(indptr),
        pointer(indices),
        None,  # no order of ours: with one, its solves would use one thread
        number(1 if right.ndim == 1 else right.shape[1]),
        pointer(parameters),
        number(0),  # no output
        pointer(right),
        pointer(found),
        ctypes.byref(error),
    )
    return error.value
