"""Inverses of M = F^T F on the complement of its null space, by sparse factors on the CPU.

The bottom of M's spectrum is tiny beside its rounding (lambda_2 of a swiss roll of a million points
is 1e-14, ||M|| about 5), so what is factored matters:

    standard method    F = B = I - W is square. M^-1 = B^-1 B^-T, from one LU of B + delta I with
                       half the fill of M's, and with the condition number of B, the square root of
                       M's. B has right null vectors N (the constant) and left null vectors U; in
                           y = B^-T x;  y <- y - U (U^T y);  z = B^-1 y;  z <- z - N (N^T z)
                       the first projection is what makes it work: without it the null direction,
                       magnified by 1/delta, swamps the rest.
    other methods      a symmetric LU of M + delta I.

The factors are MKL's where that is installed and worth it, else SuperLU's, in the order of
:mod:`lle_gpu.spectral.cpu.ordering`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lle_gpu.memory import DISSECTION
from lle_gpu.progress import note
from lle_gpu.spectral.cpu.factorisation import Factorisation
from lle_gpu.spectral.cpu.fill import WHOLE, links, predict_from_pieces
from lle_gpu.spectral.cpu.ordering import Elimination, choose_elimination
from lle_gpu.spectral.cpu.pardiso import Pardiso, PardisoError, find_mkl
from lle_gpu.spectral.toolbox import FillEstimate, Inverse

__all__ = [
    "SquareInverse",
    "SymmetricInverse",
    "analyse",
    "analysis_bytes",
    "factorise",
    "inverse",
]

Float = NDArray[np.float64]
# The shift, relative to ||A||: above A's rounding, below every eigenvalue that shall be told apart.
SQUARE_SHIFT = 1e-14
SYMMETRIC_SHIFT = 1e-15
# With fewer nonzeros in the factors, SuperLU is done before MKL's threads have started.
MKL_NONZEROS = 1e6
# Its memory at the peak, per nonzero of L + U: 14.9 to 18.6 bytes were measured on swiss rolls of
# 20,000 to 400,000 points, the least on the largest; and half of that for the one triangle of M.
MKL_BYTES, MKL_BYTES_SYMMETRIC = 17.0, 9.0


def analyse(A: csr_array, square: bool) -> Elimination:
    """How a square F, or M, will be factored, and what that will take.

    MKL finds an order of its own: a large graph is not dissected for it.
    """
    large = find_mkl() is not None and A.shape[0] > WHOLE
    elimination = choose_elimination(A, _from_pieces if large else None)
    if not by_mkl(elimination):
        return elimination
    estimate = elimination.estimate
    held = MKL_BYTES if square else MKL_BYTES_SYMMETRIC
    return replace(elimination, estimate=replace(estimate, bytes=held * estimate.nonzeros))


def analysis_bytes(nonzeros: int, n: int, square: bool) -> int:
    """Bytes at the peak of :func:`analyse`, beside the matrix."""
    return DISSECTION * nonzeros


def inverse(
    A: csr_array, elimination: Elimination | None, square: bool, n_jobs: int | None = None
) -> Inverse:
    """From the factors of a square F, or of M; analysed now where no elimination is given."""
    make = SquareInverse if square else SymmetricInverse
    return make(A, elimination, n_jobs)


def _from_pieces(A: csr_array) -> FillEstimate:
    return predict_from_pieces(links(A))


def by_mkl(elimination: Elimination) -> bool:
    """Whether MKL is to make such factors."""
    return elimination.estimate.nonzeros >= MKL_NONZEROS and find_mkl() is not None


def factorise(
    A: csr_array,
    *,
    shift: float,
    symmetric: bool,
    elimination: Elimination | None = None,
    n_jobs: int | None = None,
) -> Pardiso | Factorisation:
    """Factors of A + shift ||A||_max I."""
    elimination = elimination or analyse(A, not symmetric)
    if by_mkl(elimination):
        try:
            return Pardiso(A, shift=shift, symmetric=symmetric, n_jobs=n_jobs)
        except PardisoError as error:
            note(f"SuperLU instead of MKL: {error}")
        # Outside the except clause, whose traceback holds the factors.
        elimination = choose_elimination(A)
    pivot = 0.0 if symmetric else 0.1
    return Factorisation(A, shift=shift, pivot=pivot, elimination=elimination)


class SquareInverse:
    """(B^T B)^+ by an LU of B, for the standard method."""

    def __init__(
        self, B: csr_array, elimination: Elimination | None = None, n_jobs: int | None = None
    ) -> None:
        self._lu = factorise(
            B, shift=SQUARE_SHIFT, symmetric=False, elimination=elimination, n_jobs=n_jobs
        )
        self.description = f"{self._lu.name} of B = I - W, {self._lu.fill:.0f} nonzeros a row"

    def deflate(self, null: Float) -> None:
        """Find the left null vectors that go with ``null``, by inverse iteration."""
        self._right = null
        U = null
        for _ in range(3):
            U = np.linalg.qr(self._lu.solve(U, transposed=True))[0]
        self._left = U

    def apply(self, X: Float) -> Float:
        """X -> B^-1 (I - U U^T) B^-T X."""
        Y = self._lu.solve(X, transposed=True)
        Y -= self._left @ (self._left.T @ Y)
        return self._lu.solve(Y)

    def null_vectors(self, start: Float) -> Float:
        """Right null vectors (n, c) of B, orthonormal, from c start vectors."""
        for _ in range(3):
            start = np.linalg.qr(self._lu.solve(start))[0]
        return start


class SymmetricInverse:
    """M^+ by a symmetric LU of M = F^T F, for the other methods.

    Attributes
    ----------
    shift : float
        delta. The rounding of M and of its factors is no larger, so that M + delta I is positive
        definite as it is factored. What it hides comes back by refinement.
    """

    def __init__(
        self, M: csr_array, elimination: Elimination | None = None, n_jobs: int | None = None
    ) -> None:
        self.shift = SYMMETRIC_SHIFT * float(np.abs(M.data).max(initial=0.0))
        self._lu = factorise(
            M, shift=SYMMETRIC_SHIFT, symmetric=True, elimination=elimination, n_jobs=n_jobs
        )
        self.description = f"{self._lu.name} of M = F^T F, {self._lu.fill:.0f} nonzeros a row"

    def deflate(self, null: Float) -> None:
        """Nothing to prepare: M's left and right null vectors are the same."""

    def apply(self, X: Float) -> Float:
        """X -> (M + delta I)^-1 X."""
        return self._lu.solve(X)
