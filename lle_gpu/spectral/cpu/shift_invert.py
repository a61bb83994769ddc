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

Both orders reduce fill by minimum degree on the pattern of A + A^T, SuperLU's symmetric mode.

X. S. Li: An overview of SuperLU. ACM Trans. Math. Softw. 31:302 (2005).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, eye_array
from scipy.sparse.linalg import splu

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.cpu.assemble import gram
from lle_gpu.progress import note

__all__ = ["Factorisation", "Inverse", "SquareInverse", "SymmetricInverse"]

Float = NDArray[np.float64]
# The shift, relative to ||A||: above A's rounding, below every eigenvalue that shall be told apart.
SQUARE_SHIFT = 1e-14
SYMMETRIC_SHIFT = 1e-15
# SuperLU factors this many columns at a time. Its own default is 20, which is a fifth slower on the
# little fill of a surface's graph and a sixth faster on the large fill of a 5-D cube's. (More than
# the default overruns its work arrays.)
PANEL_SIZE = 8
# A factorisation whose solutions miss by more (backward error) is repeated with full pivoting.
BACKWARD_ERROR = 1e-12


class Inverse(Protocol):
    """A = M^+ on the complement of the null vectors, for :func:`lle_gpu.spectral.lanczos`."""

    description: str

    def deflate(self, null: Float) -> None:
        """Tell it the null vectors: ``null`` (n, c), orthonormal, the constant among them."""

    def apply(self, X: Float) -> Float:
        """X (n, b), orthogonal to the null vectors -> M^+ X (n, b)."""


class Factorisation:
    """Sparse LU of A^T + shift I (A in CSR is A^T in CSC), checked by a solve.

    Parameters
    ----------
    A : csr_array of shape (n, n), with a pattern that is nearly symmetric
    shift : float
        In units of ||A||_max.
    pivot : float
        Off-diagonal pivots are taken where the diagonal is smaller than this fraction of the
        column's largest entry: 0 for symmetric positive definite matrices.
    """

    def __init__(self, A: csr_array, *, shift: float, pivot: float) -> None:
        self._A = A
        scale = float(np.abs(A.data).max(initial=0.0))
        transposed = csc_array((A.data, A.indices, A.indptr), shape=A.shape)
        identity = eye_array(A.shape[0], format="csc")
        self.backward_error = np.inf
        for delta, threshold in ((shift, pivot), (shift, 1.0), (100 * shift, 1.0)):
            try:
                self._lu = splu(
                    transposed + (delta * scale) * identity,
                    permc_spec="MMD_AT_PLUS_A",
                    diag_pivot_thresh=threshold,
                    panel_size=PANEL_SIZE,
                    options={"SymmetricMode": True},
                )
            except RuntimeError:  # "Factor is exactly singular": the next one shifts further
                continue
            self.backward_error = self._check(delta * scale)
            if self.backward_error <= BACKWARD_ERROR:
                break
            note(f"LU inaccurate (backward error {self.backward_error:.1e}): pivoting more")
        if not self.backward_error <= BACKWARD_ERROR:
            raise ValueError(
                "the sparse LU factorisation broke down (backward error "
                f"{self.backward_error:.1e}): the matrix is singular beyond its known null "
                "vectors. Try eigen_solver='dense', a larger reg or a larger n_neighbors."
            )
        self.fill = self._lu.nnz / A.shape[0]

    def _check(self, shift: float) -> float:
        """Backward error of one solve with a fixed right-hand side."""
        b = np.random.default_rng(0).standard_normal(self._A.shape[0])
        x = self._lu.solve(b, trans="T")
        if not np.isfinite(x).all():
            return float("inf")
        missed = np.abs(self._A @ x + shift * x - b).max()
        norm = float(np.abs(self._A).sum(axis=1).max())
        return float(missed / (norm * np.abs(x).max() + np.abs(b).max()))

    def solve(self, X: Float, *, transposed: bool = False) -> Float:
        """A^-1 X, or A^-T X, for X of shape (n, b).

        Not shared out among threads: SciPy holds the interpreter lock while SuperLU solves.
        """
        trans = "N" if transposed else "T"
        return self._lu.solve(np.asfortranarray(X), trans)


class SquareInverse:
    """(B^T B)^+ by an LU of B, for the standard method."""

    def __init__(self, B: csr_array) -> None:
        self._lu = Factorisation(B, shift=SQUARE_SHIFT, pivot=0.1)
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
    """M^+ by a symmetric LU of M = F^T F, for the other methods."""

    def __init__(self, constraints: Constraints, *, n_jobs: int | None) -> None:
        M = gram(constraints, n_jobs)
        self._lu = Factorisation(M, shift=SYMMETRIC_SHIFT, pivot=0.0)
        self.description = f"sparse LU of M = F^T F, {self._lu.fill:.0f} nonzeros a row"

    def deflate(self, null: Float) -> None:
        """Nothing to prepare: M's left and right null vectors are the same."""

    def apply(self, X: Float) -> Float:
        """X -> (M + delta I)^-1 X."""
        return self._lu.solve(X)
