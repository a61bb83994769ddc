"""Refinement through F: it brings back what the rounding of M hides from an inverse of M.

The inverse at hand is that of P = M + delta I + E, where E is the rounding of M and of its
factors: ||E|| <= delta, a few eps ||M||. Its eigenvectors v are good, since E couples smooth
vectors to rough ones, but sigma^2 can be smaller than delta, so that nothing that P says about
values or residuals counts. F does better: fl(F v) = F v + e with ||e|| <= eps ||F||, so

    r = F^T (F v) - sigma^2 v      has the rounding F^T e, and M^-1 F^T e = F^+ e

is no larger than eps ||F|| / sigma, where the rounding of M would leave eps ||F||^2 / sigma^2. P is
the preconditioner: Rayleigh-Ritz through F on span[V, P^-1 R], and again, is Davidson's method. One
or two steps do, because P^-1 M has the eigenvalues lambda / (lambda + delta), all 1 but for the few
lambda below delta, whose vectors are in V already.

What is certified. A = M^-1 is self-adjoint in the inner product x^T M y. A unit vector v with
sigma = ||F v|| has ||v||_M = sigma, A's residual is A v - v / sigma^2 = -M^-1 r / sigma^2, and so

    rho = ||r||_{M^-1} / sigma,        ||x||_{M^-1}^2 = x^T M^-1 x

is the residual of A relative to its eigenvalue 1 / sigma^2, free of all scales. Some eigenvalue
lambda of M satisfies |sigma^2 / lambda - 1| <= rho, and rho^2 over the relative gap where the
others are apart (Kato, Temple). An eigenvector u of M with the eigenvalue lambda has

    u^T M v = (u^T r) / (1 - sigma^2 / lambda)

and summed over all lambda >= lambda_next, outside the wanted space (Davis, Kahan), the part of v
outside is at most

    in M's norm, relative:  rho / (1 - sigma^2 / lambda_next)
    in length:              the same times sigma / lambda_next^1/2

M^-1 is not at hand, but x^T M^-1 x <= (1 + 2 delta / sigma_1^2) x^T P^-1 x: that is used.

Whether a value was missed is told by the iteration on P^-1, which found its largest eigenvalues
theta. The eigenvalues of P are those of M + delta I up to ||E||, so (Weyl) the values of M that
were left out are at least 1 / theta_last - 2 delta, and those found are 1 / theta - delta up to
delta.

Where it ends: eps ||F|| / sigma is the least rho there can be. On curves sigma falls like n^-2 and
faster, and at 1e-10 the vectors are lost in the rounding of F itself. That is not certified.

E. R. Davidson: The iterative calculation of a few of the lowest eigenvalues and corresponding
eigenvectors of large real-symmetric matrices. J. Comput. Phys. 17:87 (1975).
A. Knyazev: Toward the optimal preconditioned eigensolver. SIAM J. Sci. Comput. 23:517 (2001).
B. Parlett: The symmetric eigenvalue problem, chapters 11 and 15.
N. Higham: Accuracy and stability of numerical algorithms, chapters 3 (the rounding of F v), 10 (of
a Cholesky factor) and 12 (iterative refinement).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda.arrays import array_module, to_host
from lle_gpu.progress import advance
from lle_gpu.spectral.lanczos import project
from lle_gpu.spectral.toolbox import Toolbox

__all__ = ["FINEST", "Refinement", "refine"]

Float = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
# Steps after which an iteration that has neither converged nor stagnated is given up. It takes one
# or two; eight and more where dozens of eigenvalues lie below delta.
MAX_STEPS = 30
# The basis holds this many times the vectors that are refined.
BASIS = 4
# A step that does not bring the residuals below this fraction of the best so far has stagnated.
PROGRESS = 0.7
# rho at the rounding of F, in units of eps ||F|| / sigma: 0.3 to 1 is what is measured.
AT_ROUNDING = 4.0
# The relative accuracy of sigma^2 to which "not missed" is meant: values closer than this to the
# last wanted one do not count.
UNRESOLVED = 0.1
# The largest rho that may pass as converged for being at F's rounding. Only clusters cut in two
# need it, whose angle is undetermined; the values are then known to its square.
FINEST = 1e-6


@dataclass(frozen=True)
class Refinement:
    """Ritz pairs of F, and how good they are.

    Attributes
    ----------
    values : ndarray of shape (p,), ascending
        sigma = ||F v||.
    vectors : ndarray of shape (n, p), orthonormal
    angle : float
        Bound on the sine of the angle between the wanted vectors and the true ones, as far as they
        are the lowest.
    converged : bool
        Whether ``angle`` is at most ``tol``, or rho as small as F's rounding allows.
    complete : bool
        Whether the vectors are known to be the lowest: no value below the last wanted one was left
        out. If not, start with more vectors.
    n_steps : int
        Applications of the preconditioner to the block.
    """

    values: Float
    vectors: Float
    angle: float
    converged: bool
    complete: bool
    n_steps: int


def refine(
    tools: Toolbox,
    F: Any,
    norm: float,
    precondition: Callable[[Float], Float],
    start: Float,
    theta: Float,
    *,
    shift: float,
    n_wanted: int,
    keep_out: Float,
    tol: float,
    residual_tol: float,
) -> Refinement:
    """Bottom singular vectors of F from good guesses, by Davidson's method.

    Parameters
    ----------
    tools : Toolbox
    F : sparse matrix of shape (R, n), the device's
    norm : float
        ||F||.
    precondition : callable
        X (n, p) -> P^-1 X.
    start : ndarray of shape (n, p)
        p > n_wanted guesses, the n_wanted lowest among them.
    theta : ndarray of shape (p,)
        The largest eigenvalues of P^-1, whose vectors span those of ``start``.
    shift : float
        delta: P = F^T F + delta I + E, ||E|| <= delta.
    n_wanted : int
        How many of the vectors shall converge. The next one is needed loosely, for the gap.
    keep_out : ndarray of shape (n, c)
        Orthonormal null vectors.
    tol : float
        Largest accepted sine of the angle.
    residual_tol : float
        Largest accepted ||F^T F v - sigma^2 v|| of a wanted vector.

    Returns
    -------
    Refinement

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    xp = array_module(start)
    p = start.shape[1]
    values, basis = tools.rayleigh_ritz(F, project(start, keep_out))
    best, n_steps = np.inf, 0
    while True:
        values, V = values[:p], basis[:, :p]
        R = project(tools.normal_product(F, V) - V * xp.asarray(values**2), keep_out)
        Z = project(precondition(R), keep_out)
        n_steps += 1
        advance()
        if not bool(xp.isfinite(Z).all()):
            raise ValueError(
                "the refinement broke down (not a number). "
                "Try eigen_solver='dense', a larger reg or a larger n_neighbors."
            )
        rho = _relative_residuals(R, Z, values)
        wanted = slice(n_wanted)
        at_rounding = bool((rho[wanted] <= AT_ROUNDING * EPS * norm / values[wanted]).all())
        rho = rho * np.sqrt(1 + 2 * shift / values[0] ** 2)
        angle = _angle(rho, values, n_wanted)
        lengths = to_host(xp.linalg.norm(R[:, wanted], axis=0))
        accurate = bool((lengths <= residual_tol).all())
        converged = accurate and (
            angle <= tol or (at_rounding and bool((rho[wanted] <= FINEST).all()))
        )
        worst = float(rho[: n_wanted + 1].max())
        stagnates = n_steps > 2 and worst > PROGRESS * best
        if converged or stagnates or n_steps == MAX_STEPS:
            complete = _complete(values, theta, n_wanted, shift)
            return Refinement(values, V, angle, converged, complete, n_steps)
        best = min(best, worst)
        length = to_host(xp.linalg.norm(Z, axis=0))
        kept = np.flatnonzero(length)
        Z = Z[:, xp.asarray(kept)] / xp.asarray(length[kept])
        # The best Ritz vectors of before stay, beyond the p lowest: a thick restart of the basis.
        basis = xp.concatenate([basis[:, : (BASIS - 1) * p], Z], axis=1)
        values, basis = tools.rayleigh_ritz(F, basis)


def _relative_residuals(R: Float, Z: Float, values: Float) -> Float:
    """(r^T P^-1 r)^1/2 / sigma of each column, Z = P^-1 R; infinite where P is not definite."""
    squares = to_host((R * Z).sum(axis=0))
    return np.where(squares >= 0, np.sqrt(np.abs(squares)) / values, np.inf)


def _complete(values: Float, theta: Float, n_wanted: int, shift: float) -> bool:
    """Whether theta and the values agree as Weyl says, and no wanted value can be left out."""
    found = values[:n_wanted] ** 2
    # In clusters wider than the rounding one value is as good as the next within this.
    slack = UNRESOLVED * found
    eigenvalues = 1 / theta - shift
    agree = (np.abs(eigenvalues[:n_wanted] - found) <= shift + slack).all()
    return bool(agree and found[-1] - slack[-1] <= eigenvalues[-1] - shift)


def _angle(rho: Float, values: Float, n_wanted: int) -> float:
    """Bound on the sine of the angle to the true space, by the formula above."""
    if len(values) <= n_wanted or not np.isfinite(rho).all():
        return float("inf")
    next_value = values[n_wanted] / np.sqrt(1 + rho[n_wanted])  # from below
    ratio = values[:n_wanted] / next_value
    if not (ratio < 1).all():
        return float("inf")
    return float(np.linalg.norm(rho[:n_wanted] * ratio / (1 - ratio**2)))
