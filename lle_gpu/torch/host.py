"""Sparse systems solved on the host in float64: factored, or iterated where factors fill in.

    A x = b,  A^T x = b     A = R, or the normal equations of R: A = R^T R (m x m);  b (m x c)

    direct       sparse L U of A (MKL's or SuperLU's)
    iterative    A = R^T R: conjugate gradients with R^T (R p), scaled by A's diagonal
                 A = R: BiCGSTAB, column by column

A dissection predicts what the factors will take; beyond ``MOST_FLOPS`` or ``MOST_BYTES`` nothing is
factored. Either way the answer is refined, and certified by its backward error, the least
perturbation that makes it exact:

    max |b - A x| / (||A||_inf max |x| + max |b|)     of each column

M. R. Hestenes, E. Stiefel: Methods of conjugate gradients for solving linear systems. J. Res. Nat.
Bur. Standards 49:409 (1952); H. A. van der Vorst: Bi-CGSTAB. SIAM J. Sci. Stat. Comput. 13:631
(1992); J. L. Rigal, J. Gaches: On the compatibility of a given solution with the data of a linear
system. J. ACM 14:543 (1967).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import bicgstab
from sklearn.exceptions import ConvergenceWarning

from lle_gpu.exceptions import warn_user
from lle_gpu.progress import note
from lle_gpu.spectral.cpu.shift_invert import analyse, factorise

__all__ = ["HostSolver"]

Float = NDArray[np.float64]
Product = Callable[[Float], Float]
# SuperLU does some 5e9 a second.
MOST_FLOPS = 2e10
MOST_BYTES = 2e9
# Accepted backward error; with factors it costs little to come to rounding.
ACCEPTED, AIM = 1e-13, 1e-15
# In one go a column is iterated until its residual has fallen so far, by the recurrence; what is
# then left by the true residual is solved for again.
FALL = 1e-12
MOST_ITERATIONS = 20_000
REFINEMENTS = 6


class HostSolver:
    """Solutions with one matrix.

    Parameters
    ----------
    R : csr_array of shape (p, m), of rank m
    normal : bool
        Whether A is R^T R; else it is R, and p = m.
    what : str
        Named in notes and warnings.

    Raises
    ------
    ValueError
        If the factorisation breaks down: A is singular.
    """

    def __init__(self, R: csr_array, *, normal: bool, what: str) -> None:
        self._R, self._normal, self._what = R, normal, what
        self._A = A = (R.T @ R).tocsr() if normal else R
        self._norms = [float(abs(part).sum(axis=1).max()) for part in (A, A.T)]
        elimination = analyse(A, not normal)
        estimate = elimination.estimate
        self.iterative = estimate.flops > MOST_FLOPS or estimate.bytes > MOST_BYTES
        predicted = f"{estimate.nonzeros:.1e} nonzeros and {estimate.flops:.1e} operations"
        if self.iterative:
            method = "conjugate gradients" if normal else "BiCGSTAB"
            note(f"{what}: {method}; factors would take {predicted}")
            self._solved = self._iterated
        else:
            note(f"{what}: factored, for {predicted}")
            factors = factorise(A, shift=0.0, symmetric=normal, elimination=elimination)
            self._solved = lambda b, transposed: factors.solve(b, transposed=transposed)

    def solve(self, b: Float, *, transposed: bool = False) -> Float:
        """A^-1 b, or A^-T b, of shape (m, c). Columns of b that are not finite give NaN.

        Warns
        -----
        ConvergenceWarning
            If the backward error is above 1e-13.
        """
        x = np.full_like(b, np.nan)
        sound = np.isfinite(b).all(axis=0)
        if len(b) == 0 or not sound.any():
            return x
        A = self._A.T if transposed else self._A
        wanted = b[:, sound]
        found, error = np.zeros_like(wanted), np.inf
        for _ in range(REFINEMENTS):
            better = found + self._solved(wanted - A @ found, transposed)
            reached = self._backward_error(A, wanted, better, transposed)
            if not reached < error:
                break
            found, error = better, reached
            if error <= (ACCEPTED if self.iterative else AIM):
                break
        if not error <= ACCEPTED:
            warn_user(
                f"{self._what}: the system is solved to a backward error of {error:.1e} only "
                f"({ACCEPTED:.0e} is accepted), so that the scores are inexact. Label more points, "
                "or use non-negative weights or a larger reg: such systems are better conditioned.",
                ConvergenceWarning,
            )
        x[:, sound] = found
        return x

    def amplification(self) -> tuple[float, Float]:
        """A lower bound of the condition number, and the vector (m,) that shows it."""
        rough = np.random.default_rng(0).standard_normal((self._A.shape[0], 1))
        found = self._solved(rough, False)
        return self._norms[0] * float(np.abs(found).max() / np.abs(rough).max()), found[:, 0]

    def _backward_error(self, A: csr_array, b: Float, x: Float, transposed: bool) -> float:
        size = self._norms[transposed] * np.abs(x).max(axis=0) + np.abs(b).max(axis=0)
        missed = np.abs(b - A @ x).max(axis=0)
        return float((missed / np.where(size == 0, 1.0, size)).max())

    def _iterated(self, b: Float, transposed: bool) -> Float:
        R, Rt = self._R, self._R.T.tocsr()
        if self._normal:
            return _conjugate_gradients(lambda p: Rt @ (R @ p), self._A.diagonal(), b)
        options: dict[str, Any] = {"rtol": FALL, "maxiter": MOST_ITERATIONS}
        return np.column_stack(
            [bicgstab(Rt if transposed else R, column, **options)[0] for column in b.T]
        )


def _conjugate_gradients(product: Product, diagonal: Float, b: Float) -> Float:
    """All columns of b (m, c) side by side, each with its own coefficients, until it has fallen."""
    scale = 1 / diagonal[:, None]
    x, r = np.zeros_like(b), b.copy()
    z = scale * r
    p, rz = z.copy(), np.einsum("ij,ij->j", r, z)
    goal = FALL**2 * rz
    for _ in range(MOST_ITERATIONS):
        running = rz > goal
        if not running.any():
            break
        q = product(p)
        # Where nothing is left to be done a column stands still.
        curvature = np.einsum("ij,ij->j", p, q)
        running &= curvature > 0
        step = np.where(running, rz, 0.0) / np.where(running, curvature, 1.0)
        x += step * p
        r -= step * q
        z = scale * r
        new = np.einsum("ij,ij->j", r, z)
        p = z + np.where(running, new, 0.0) / np.where(running, rz, 1.0) * p
        rz = np.where(running, new, 0.0)
    return x
