"""Inverses of M = F^T F from factors, on the GPU; see :mod:`lle_gpu.spectral.cpu.shift_invert`.

The factors come from one of two providers:

    cuDSS         :mod:`lle_gpu.spectral.gpu.cudss`, where it is installed: factors on the device
    the CPU's     on the host: MKL, where that is installed, or SuperLU. Only the blocks that are
                  solved for travel

:func:`analyse` predicts what either will take. For cuDSS it dissects the graph, on the device
(:mod:`lle_gpu.spectral.gpu.ordering`): that tells the fill, and is the order that cuDSS then takes,
which would search long for one on the host. Where it cannot be dissected, or cuDSS cannot use the
order, cuDSS searches. Where cuDSS fails, the host is tried, and that is told in the inverse's
description. Where cuDSS runs out of memory, that is an error, which the device's other solver
answers: the host would take long over factors of that size.

Why B and B^T are both factored, for (B^T B)^+ = B^+ (B^T)^+:

- cuDSS 0.8 does not solve with the transpose of what it has factored (of CUDSS_CONFIG_SOLVE_MODE
  its header says "not supported right now"). cuDSS 1.0 does, and nvmath-python 1.0 does not take
  that.
- M = B^T B, factored once by Cholesky, gains nothing and loses half the digits. On swiss rolls of
  100,000 points and 3-D cubes of 50,000 its L has 0.8 times the entries of the two LUs, for twice
  the arithmetic, and a graph of three times the edges has to be ordered once instead of twice. Its
  smallest eigenvalue, 1e-14 on a roll of a million points, is left one digit by its rounding, eps
  ||M|| = 1e-15; B's singular value, 1e-7, keeps eight.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda import cupy
from lle_gpu.cuda.memory import is_out_of_memory, release_unused
from lle_gpu.memory import DISSECTION, readable
from lle_gpu.progress import note
from lle_gpu.spectral.cpu import shift_invert as cpu
from lle_gpu.spectral.cpu.fill import WHOLE, Links, predict_from_pieces
from lle_gpu.spectral.cpu.ordering import Dissection, Elimination, choose_elimination
from lle_gpu.spectral.cpu.shift_invert import SQUARE_SHIFT, SYMMETRIC_SHIFT
from lle_gpu.spectral.gpu import cudss
from lle_gpu.spectral.gpu.ordering import dissect
from lle_gpu.spectral.gpu.sparse import Csr, Rows
from lle_gpu.spectral.toolbox import FillEstimate, Inverse

__all__ = [
    "GpuAnalysis",
    "HostInverse",
    "SquareInverse",
    "SymmetricInverse",
    "analyse",
    "analysis_bytes",
    "inverse",
]

Float = NDArray[np.float64]

# Nodes of the pieces from which cuDSS's fill is predicted where there is no dissection: a quarter
# of the usual number, for what those take is as much as cuDSS's order and factors. On a roll, and
# cubes of three and five dimensions, nonzeros are within 20 % of what the larger pieces say,
# arithmetic within a factor of 1.7.
PIECE = 1 << 12
# Bytes of a dissection on the device for each entry of M or B, and for each node. The tests hold
# them against what is allocated.
DISSECTION_BY_ENTRY = {False: 4, True: 48}
DISSECTION_BY_NODE = 350


@dataclass(frozen=True)
class GpuAnalysis:
    """What a factorisation will take.

    Attributes
    ----------
    estimate : FillEstimate
        Of the provider that there is.
    elimination : Elimination, optional
        The host's order, where it is known already.
    order : cudss.Order, optional
        Ours for cuDSS.
    """

    estimate: FillEstimate
    elimination: Elimination | None = None
    order: cudss.Order | None = None


def analyse(A: Rows | Csr, square: bool) -> GpuAnalysis:
    """Predict what the factors of a square F, or of M, will take."""
    if not cudss.missing():
        dissection = _dissection(A)
        fill = dissection.estimate() if dissection else predict_from_pieces(links(A), PIECE)
        order = cudss.Order.of(dissection) if dissection else None
        return GpuAnalysis(cudss.cost(fill, square, A.nnz, ordered=order is not None), order=order)
    if A.shape[0] > WHOLE:
        return GpuAnalysis(predict_from_pieces(links(A)))
    elimination = choose_elimination(A.to_host())
    return GpuAnalysis(elimination.estimate, elimination)


def analysis_bytes(nonzeros: int, n: int, square: bool) -> int:
    """Bytes at the peak of :func:`analyse`, where the factors will be, beside the matrix."""
    if cudss.missing():
        return DISSECTION * nonzeros
    return DISSECTION_BY_ENTRY[square] * nonzeros + DISSECTION_BY_NODE * n


def _dissection(A: Rows | Csr) -> Dissection | None:
    """The device's dissection; None, too, if memory is too small for it."""
    try:
        return dissect(A)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        note(f"no memory for a dissection on the device: {error}")
    release_unused()
    return None


def links(A: Rows | Csr) -> list[Links]:
    """The host's copy of A's pattern and, where it is another, of A^T's."""
    if isinstance(A, Csr):  # M, which is symmetric
        return [(A.first.get(), A.columns.get())]
    first, order, _ = A.by_column
    own = np.arange(0, A.n * A.m + 1, A.m), A.index.get().ravel()
    return [own, (first.get(), (order // A.m).astype(np.int32).get())]


def inverse(A: Rows | Csr, plan: GpuAnalysis, square: bool, n_jobs: int | None = None) -> Inverse:
    """Order and factor: by cuDSS if it can be used; where it fails, on the host.

    Raises
    ------
    MemoryError
        If the device's memory is too small for cuDSS.
    """
    reason = ""
    orders = [] if cudss.missing() else [plan.order, None] if plan.order else [None]
    for order in orders:
        # What follows a failure is outside its except clause, whose traceback holds cuDSS's arrays.
        try:
            return _by_cudss(A, square, order)
        except cudss.CudssError as error:
            reason = f", since cuDSS failed: {error}"
        note(
            f"cuDSS finds an order of its own{reason}" if order else f"factors on the host{reason}"
        )
    return HostInverse(cpu.inverse(A.to_host(), plan.elimination, square, n_jobs), reason)


def _by_cudss(A: Rows | Csr, square: bool, order: cudss.Order | None) -> Inverse:
    """By the factors of B and B^T, in one order, or of M."""
    if isinstance(A, Rows):
        transposed = A.transposed()
        matrices = [transposed.transposed(), transposed]
    else:
        matrices = [A]
    factors: list[cudss.Factors] = []
    begin = time.perf_counter()
    with contextlib.ExitStack() as failing:
        for matrix in matrices:
            factors.append(cudss.Factors(matrix, "GENERAL" if square else "SPD", order))
            failing.callback(factors[-1].free)
            order = factors[-1].order
        size = readable(sum(part.peak_bytes for part in factors))
        note(f"cuDSS has planned in {time.perf_counter() - begin:.2g} s, and will take {size}")
        made = SquareInverse(*factors) if square else SymmetricInverse(*factors)
        failing.pop_all()
    return made


class HostInverse:
    """An inverse of the CPU's, for blocks of CuPy's.

    Attributes
    ----------
    description : str
    """

    def __init__(self, inverse: Any, reason: str = "") -> None:
        self._inverse = inverse
        self.description = f"{inverse.description}, on the host{reason}"

    @property
    def shift(self) -> float:
        """Of an inverse of M."""
        return float(self._inverse.shift)

    def deflate(self, null: Any) -> None:
        """Tell it the null vectors."""
        self._inverse.deflate(null.get())

    def apply(self, X: Any) -> Any:
        """X (n, b) -> M^+ X (n, b), by way of the host."""
        return cupy().asarray(self._inverse.apply(X.get()))

    def null_vectors(self, start: Any) -> Any:
        """Right null vectors of a square F."""
        return cupy().asarray(self._inverse.null_vectors(start.get()))


class SquareInverse:
    """(B^T B)^+ by cuDSS's LU of B and of B^T, for the standard method.

    Attributes
    ----------
    description : str
    """

    def __init__(self, direct: cudss.Factors, transposed: cudss.Factors) -> None:
        self._direct, self._transposed = direct, transposed
        for factors in (direct, transposed):
            factors.factor(SQUARE_SHIFT)
        self.description = f"cuDSS LU of B = I - W and of B^T, {direct.fill:.0f} nonzeros a row"

    def deflate(self, null: Any) -> None:
        """Find the left null vectors that go with ``null``, by inverse iteration."""
        U = null
        for _ in range(3):
            U = cupy().linalg.qr(self._transposed.solve(U))[0]
        self._left = U

    def apply(self, X: Any) -> Any:
        """X -> B^-1 (I - U U^T) B^-T X."""
        Y = self._transposed.solve(X)
        Y -= self._left @ (self._left.T @ Y)
        return self._direct.solve(Y)

    def null_vectors(self, start: Any) -> Any:
        """Right null vectors (n, c) of B, orthonormal, from c start vectors."""
        for _ in range(3):
            start = cupy().linalg.qr(self._direct.solve(start))[0]
        return start


class SymmetricInverse:
    """M^+ by cuDSS's factorisation of M + delta I, for the other methods.

    Attributes
    ----------
    shift : float
        delta.
    description : str
    """

    def __init__(self, factors: cudss.Factors) -> None:
        self._factors = factors
        self.shift = factors.factor(SYMMETRIC_SHIFT)
        self.description = (
            f"cuDSS {factors.kind} factors of M = F^T F, {factors.fill:.0f} nonzeros a row"
        )

    def deflate(self, null: Any) -> None:
        """Nothing to prepare: M's left and right null vectors are the same."""

    def apply(self, X: Any) -> Any:
        """X -> (M + delta I)^-1 X."""
        return self._factors.solve(X)
