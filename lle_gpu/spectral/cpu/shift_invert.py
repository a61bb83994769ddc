"""Inverses of M = F^T F on the complement of its null space, by sparse LU on the CPU.

The bottom of M's spectrum is tiny beside its rounding (lambda_2 of a swiss roll of a million points
is 1e-14, ||M|| about 5), so what is factored matters:

    standard method    F = B = I - W is square. M^-1 = B^-1 B^-T, from one LU of B + delta I with
                       half the fill of M's, and with the condition number of B, the square root of
                       M's. B has right null vectors N (the constant) and left null vectors U; in
                           y = B^-T x;  y <- y - U (U^T y);  z = B^-1 y;  z <- z - N (N^T z)
                       the first projection is what makes it work: without it the null direction,
                       magnified by 1/delta, swamps the rest.
    other methods      a symmetric LU of M + delta I.

The order of elimination is :mod:`lle_gpu.spectral.cpu.ordering`'s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lle_gpu.spectral.cpu.factorisation import Factorisation
from lle_gpu.spectral.cpu.ordering import Elimination

__all__ = ["Factorisation", "SquareInverse", "SymmetricInverse"]

Float = NDArray[np.float64]
# The shift, relative to ||A||: above A's rounding, below every eigenvalue that shall be told apart.
SQUARE_SHIFT = 1e-14
SYMMETRIC_SHIFT = 1e-15


class SquareInverse:
    """(B^T B)^+ by an LU of B, for the standard method."""

    def __init__(self, B: csr_array, elimination: Elimination | None = None) -> None:
        self._lu = Factorisation(B, shift=SQUARE_SHIFT, pivot=0.1, elimination=elimination)
        self.description = f"sparse LU of B = I - W, {self._lu.fill:.0f} nonzeros a row"

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

    def __init__(self, M: csr_array, elimination: Elimination | None = None) -> None:
        self.shift = SYMMETRIC_SHIFT * float(np.abs(M.data).max(initial=0.0))
        self._lu = Factorisation(M, shift=SYMMETRIC_SHIFT, pivot=0.0, elimination=elimination)
        self.description = f"sparse LU of M = F^T F, {self._lu.fill:.0f} nonzeros a row"

    def deflate(self, null: Float) -> None:
        """Nothing to prepare: M's left and right null vectors are the same."""

    def apply(self, X: Float) -> Float:
        """X -> (M + delta I)^-1 X."""
        return self._lu.solve(X)
