"""Block Lanczos with full orthogonalisation and thick restart, for the largest eigenvalues.

Given a symmetric operator A that has the bottom of M's spectrum as its top (the inverse of M on the
complement of its null space, or a polynomial in M), a block Q_0 of b start vectors and an
orthonormal basis N of vectors to keep out, build an orthonormal basis Q of the Krylov space and
T = Q^T A Q:

    W = A Q_j;  W <- W - N N^T W;  T(:, j) = H = Q^T W;  W <- W - Q H;  Q_{j+1} R = W

The Ritz pairs (theta, Q s), T s = theta s, have the residuals ||A Q s - theta Q s|| = ||R s_last||,
known after every step at no cost, so convergence is tested after every step. A block as wide as the
number of wanted vectors finds multiple eigenvalues whole, which one vector at a time does not.

The long arrays may be NumPy's or CuPy's; T and what comes of it are NumPy's.

K. Wu, H. Simon: Thick-restart Lanczos method for large symmetric eigenvalue problems. SIAM J.
Matrix Anal. Appl. 22:602 (2000). B. Parlett: The symmetric eigenvalue problem, chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda.arrays import array_module, to_host
from lle_gpu.progress import advance

__all__ = ["LanczosResult", "lanczos", "project"]

Float = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
# How well the first unwanted eigenvalue must be known, relative to itself: it only measures the gap
# (its error is the square of its residual's).
NEXT_VALUE_TOL = 0.05
# Eigenvalues that differ by no more, relative to lambda, are copies of one.
COPIES = 1e-10
# What a unit vector must keep of its length when projected once more to count as a new direction.
SURVIVES = 0.5
# T's eigenproblem is solved again, to test for convergence, when the basis has grown by this
# fraction: after every step while it is small, and seldom enough that it costs little when not.
TEST_GROWTH = 1 / 16


@dataclass(frozen=True)
class LanczosResult:
    """Ritz pairs, largest first.

    Attributes
    ----------
    values : ndarray of shape (p,)
        p = n_wanted + 1, or fewer if the space is exhausted.
    vectors : ndarray of shape (n, p)
        The Ritz vectors after one more application of A, not normalised. It costs nothing, since
        A Q is known, and it all but removes what is left of eigenvectors with small eigenvalues.
    angle : float
        Estimate of the sine of the angle between the wanted vectors' span and the true one.
    n_steps : int
        Applications of A to a block.
    converged : bool
    n_restarts : int
    """

    values: Float
    vectors: Float
    angle: float
    n_steps: int
    converged: bool
    n_restarts: int


def lanczos(
    apply: Callable[[Float], Float],
    start: Float,
    n_wanted: int,
    *,
    keep_out: Float,
    tol: float,
    residual_tol: float,
    max_restarts: int,
    accept: Callable[[Float], bool] | None = None,
    max_basis: int | None = None,
    slope: Callable[[Float], Float] = np.square,
    scale: Callable[[Float], Float] = np.abs,
) -> LanczosResult:
    """Compute the ``n_wanted`` largest eigenpairs of A, and an estimate of the next value.

    Parameters
    ----------
    apply : callable
        X (n, b) -> A X (n, b).
    start : ndarray of shape (n, b)
        Start block; b >= n_wanted + 1 finds eigenvalues of that multiplicity. Approximations of
        the wanted vectors make it a warm start: what they still miss is all that has to be found.
    n_wanted : int
        0 computes the largest value alone, loosely.
    keep_out : ndarray of shape (n, c)
        Orthonormal vectors that all results shall be orthogonal to (eigenvectors of A, or null).
    tol : float
        Largest accepted sine of the angle between the computed and the true space, as residual
        over gap (Davis and Kahan). Where the cut goes through a multiple eigenvalue, so that any of
        its vectors will do, the gap is that behind its copies. Where the gap is so small that
        rounding decides, the residual alone is driven to rounding level.
    residual_tol : float
        Largest accepted ||M v - lambda v|| of a Ritz pair (theta, v), theta = A's eigenvalue for
        M's lambda. It is taken for ||A v - theta v|| / slope(theta).
    max_restarts : int
    accept : callable, optional
        Asked at each restart whether the wanted Ritz vectors (n, n_wanted) will do as they are; for
        null spaces wider than n_wanted, in which single vectors never settle.
    max_basis : int, optional
        Largest number of basis vectors held.
    slope : callable
        theta -> a lower bound of abs(d theta / d lambda); theta^2 for A = M^-1.
    scale : callable
        theta -> lambda abs(d theta / d lambda), by which theta moves when lambda changes by all of
        itself; theta for A = M^-1.

    Returns
    -------
    LanczosResult
    """
    xp = array_module(start)
    n = start.shape[0]
    room = n - keep_out.shape[1]
    block = _orthonormal(project(start, keep_out), floor=0.0)[0]
    width = block.shape[1]
    if max_basis is None:
        max_basis = max(2 * (n_wanted + 1) + 4 * width, 24)
    max_basis = min(room, max(max_basis, n_wanted + 1 + 2 * width))
    Q = xp.empty((n, max_basis), order="F")
    T = np.zeros((max_basis, max_basis))
    filled = n_steps = restarts = 0
    test_at = 0.0
    while True:
        # One step: extend the basis by A applied to its last block.
        new = slice(filled, filled + block.shape[1])
        Q[:, new] = block
        filled = new.stop
        basis = Q[:, :filled]
        W = apply(block)
        n_steps += 1
        advance()
        W = project(W, keep_out)
        projected = basis.T @ W
        W -= basis @ projected
        H = to_host(projected)
        T[:filled, new] = H
        T[new, :filled] = H.T
        T[new, new] = (H[new] + H[new].T) / 2
        # The largest entry of the diagonal is a lower bound of A's largest eigenvalue.
        block, R = _orthonormal(W, floor=EPS * abs(T.diagonal()[:filled].max()))
        # Once more ("twice is enough"): where little was left of W, normalising has magnified its
        # rounding along the basis. Directions that were nothing else go, too.
        block = project(project(block, keep_out), basis)
        block, again = _orthonormal(block, floor=SURVIVES)
        R = again @ R
        block, R = block[:, : room - filled], R[: room - filled]
        exhausted = block.shape[1] == 0
        full = filled + block.shape[1] > max_basis
        if not (exhausted or full or filled >= test_at):
            continue
        test_at = filled * (1 + TEST_GROWTH)
        theta, S = np.linalg.eigh(T[:filled, :filled])
        theta, S = theta[::-1], S[:, ::-1]
        residual = np.linalg.norm(R @ S[new], axis=0)
        angle, converged = _test(theta, residual, n_wanted, tol, residual_tol, slope, scale)
        if exhausted:
            converged = converged or len(theta) >= n_wanted
        if converged or exhausted or (full and restarts == max_restarts):
            p = min(n_wanted + 1, len(theta))
            # A Q s = theta Q s + Q_{j+1} R s_last
            vectors = basis @ xp.asarray(S[:, :p] * theta[:p]) + block @ xp.asarray(R @ S[new, :p])
            return LanczosResult(theta[:p], vectors, angle, n_steps, converged, restarts)
        if full:
            # Thick restart: keep the best Ritz vectors; the last residual block goes on from them.
            restarts += 1
            p = min(n_wanted + 1 + width, max_basis - block.shape[1])
            Q[:, :p] = basis @ xp.asarray(S[:, :p])
            if accept is not None and n_wanted > 0 and accept(Q[:, :n_wanted]):
                kept = n_wanted + 1
                return LanczosResult(
                    theta[:kept], Q[:, :kept].copy(), angle, n_steps, True, restarts
                )
            T[:] = 0.0
            T[range(p), range(p)] = theta[:p]
            filled, test_at = p, 0.0


def _test(
    theta: Float,
    residual: Float,
    n_wanted: int,
    tol: float,
    residual_tol: float,
    slope: Callable[[Float], Float],
    scale: Callable[[Float], Float],
) -> tuple[float, bool]:
    """Angle estimate, and whether the wanted pairs (and loosely the next one) have converged."""
    if len(theta) <= n_wanted:
        return float("inf"), False
    next_value, next_residual = theta[n_wanted], residual[n_wanted]
    next_known = bool(next_residual <= NEXT_VALUE_TOL * scale(next_value))
    if n_wanted == 0:
        return 0.0, next_known
    wanted, missed = theta[:n_wanted], residual[:n_wanted]
    worst = float(np.linalg.norm(missed))
    alike = max(float(COPIES * scale(wanted[-1])), 8 * EPS * float(wanted[-1]))
    outside = n_wanted + int((wanted[-1] - theta[n_wanted:] <= alike).sum())
    gap = float(wanted[-1] - theta[outside] - residual[outside]) if outside < len(theta) else 0.0
    angle = worst / gap if gap > 0 else float("inf")
    accurate = bool((missed <= residual_tol * slope(wanted)).all())
    at_rounding = worst <= 8 * EPS * wanted[0]
    return angle, ((angle <= tol and accurate) or at_rounding) and next_known


def project(W: Float, keep_out: Float) -> Float:
    """W minus its part in the span of keep_out's orthonormal columns."""
    if keep_out.shape[1] == 0:
        return W
    return W - keep_out @ (keep_out.T @ W)


def _orthonormal(W: Float, floor: float) -> tuple[Float, Float]:
    """W = Q R with orthonormal Q, without directions no longer than ``floor``; R is NumPy's."""
    xp = array_module(W)
    Q, R = xp.linalg.qr(W)
    A, values, Bt = np.linalg.svd(to_host(R))
    keep = values > max(floor, EPS * len(values) * values.max(initial=0.0))
    return Q @ xp.asarray(A[:, keep]), values[keep, None] * Bt[keep]
