"""Sparse LU: SuperLU, in an order with little fill, checked by a solve.

X. S. Li: An overview of SuperLU. ACM Trans. Math. Softw. 31:302 (2005).
"""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import SparseEfficiencyWarning, csc_array, csr_array
from scipy.sparse.linalg import splu

from lle_gpu.progress import note
from lle_gpu.spectral.cpu.ordering import Elimination, choose_elimination, permuted

__all__ = ["BACKWARD_ERROR", "Factorisation", "backward_error"]

Float = NDArray[np.float64]
# SuperLU factors this many columns at a time. Its own default is 20, which is up to a fifth slower
# on the little fill of a surface's graph and up to a sixth faster on the large fill of a 5-D
# cube's. (More than the default overruns its work arrays.)
PANEL_SIZE = 8
# A factorisation whose solutions miss by more (backward error) is repeated with full pivoting.
BACKWARD_ERROR = 1e-12


class Factorisation:
    """Sparse LU of A^T + shift I (A in CSR is A^T in CSC), checked by a solve.

    What SuperLU is given is P A^T P^T: P is the order of a nested dissection or, where that does
    not pay, the identity, and SuperLU reorders by minimum degree on the pattern of A + A^T.

    Parameters
    ----------
    A : csr_array of shape (n, n), with a pattern that is nearly symmetric
    shift : float
        In units of ||A||_max.
    pivot : float
        Off-diagonal pivots are taken where the diagonal is smaller than this fraction of the
        column's largest entry: 0 for symmetric positive definite matrices.
    elimination : Elimination, optional
        If it is known already.
    """

    name = "sparse LU"

    def __init__(
        self, A: csr_array, *, shift: float, pivot: float, elimination: Elimination | None = None
    ) -> None:
        scale = float(np.abs(A.data).max(initial=0.0))
        self._order = (elimination or choose_elimination(A)).order
        if self._order is None:
            reordered, permc = A.copy(), "MMD_AT_PLUS_A"
        else:
            reordered, permc = permuted(A, self._order), "NATURAL"
            self._rank = np.argsort(self._order)
        transposed = csc_array((reordered.data, reordered.indices, reordered.indptr), shape=A.shape)
        diagonal = transposed.diagonal()
        self.backward_error = np.inf
        for delta, threshold in ((shift, pivot), (shift, 1.0), (100 * shift, 1.0)):
            _set_diagonal(transposed, diagonal + delta * scale)
            try:
                self._lu = splu(
                    transposed,
                    permc_spec=permc,
                    diag_pivot_thresh=threshold,
                    panel_size=PANEL_SIZE,
                    options={"SymmetricMode": True},
                )
            except RuntimeError:  # "Factor is exactly singular": the next one shifts further
                continue
            self.backward_error = backward_error(self, A, delta * scale)
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

    def solve(self, X: Float, *, transposed: bool = False) -> Float:
        """A^-1 X, or A^-T X, for X of shape (n,) or (n, b).

        Not shared out among threads: SciPy holds the interpreter lock while SuperLU solves.
        """
        trans = "N" if transposed else "T"
        if self._order is None:
            return self._lu.solve(np.asfortranarray(X), trans)
        return self._lu.solve(np.asfortranarray(X[self._order]), trans)[self._rank]


class Factors(Protocol):
    """Of A + shift I."""

    def solve(self, X: Float, *, transposed: bool = False) -> Float:
        """A^-1 X, or A^-T X, for X of shape (n,) or (n, b)."""


def backward_error(factors: Factors, A: csr_array, shift: float) -> float:
    """Of one solve with a fixed right-hand side."""
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    x = factors.solve(b)
    if not np.isfinite(x).all():
        return float("inf")
    missed = np.abs(A @ x + shift * x - b).max()
    norm = float(np.abs(A).sum(axis=1).max())
    return float(missed / (norm * np.abs(x).max() + np.abs(b).max()))


def _set_diagonal(A: csc_array, diagonal: Float) -> None:
    """In place: no second copy of A at the time when memory is needed most."""
    with warnings.catch_warnings():
        # A point in no constraint has no entry there, and gets one.
        warnings.simplefilter("ignore", SparseEfficiencyWarning)
        A.setdiag(diagonal)
