"""Davidson's method for a square F = B: the bottom of its spectrum through products with B alone.

For graphs that fill in, so that B cannot be factored. With p(B) an approximate inverse of B
(:mod:`lle_gpu.spectral.gmres_polynomial`), P = p(B) p(B)^T is one of M = B^T B. From a basis Q and
B Q, Rayleigh-Ritz through B (the R of B Q, and its SVD) gives the best vectors v in the basis and
sigma = ||B v|| to the accuracy of B itself. Their residuals

    r = B^T (B v) - sigma^2 v

are what is still wrong; P r, without what the basis has already, is what the basis lacks. Where p
is a good inverse a step brings 1 to 2 digits. Where it is not, for the vectors that B almost takes
to zero, the basis has to learn them one by one: it holds a dozen times the block, and keeps its
better half when it is full.

The certificate is Davis and Kahan's: the sine of the angle between the wanted space and the true
one is at most ||R|| / (lambda_next - lambda_last), R the residuals of the wanted vectors.

E. R. Davidson: The iterative calculation of a few of the lowest eigenvalues and corresponding
eigenvectors of large real-symmetric matrices. J. Comput. Phys. 17:87 (1975). L. Wu, E. Romero,
A. Stathopoulos: PRIMME_SVDS: a high-performance preconditioned SVD solver. SIAM J. Sci. Comput.
39:S248 (2017). R. Morgan, D. Scott: Generalizations of Davidson's method. SIAM J. Sci. Stat.
Comput. 7:817 (1986).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda.arrays import array_module, to_host
from lle_gpu.progress import advance, note
from lle_gpu.spectral.gmres_polynomial import Polynomial, Then, gmres_polynomial
from lle_gpu.spectral.lanczos import COPIES, NEXT_VALUE_TOL, LanczosResult, project
from lle_gpu.spectral.spectrum import Solution

__all__ = ["SquareProducts", "davidson", "davidson_bottom_vectors"]

Float = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
# Residual of GMRES's polynomial, and the largest degree tried for it. With less of a polynomial it
# takes more steps, with more of one a step costs more: from 2e-4 to 5e-5 the products grow by 60 %
# on 20,000 word vectors and on images, and shrink by 20 % on 100,000.
POLYNOMIAL_TOL, LARGEST_DEGREE = 1e-4, 160
# Residual for another vector beyond which rounding has ruined it. Weights of both signs make B so
# far from normal that 2 is seen where all goes well; what is ruined has 10^20.
USABLE = 10.0
# Vectors that are improved beside the wanted ones, and how many at least in all.
GUARDS, LEAST_WIDTH = 4, 8
# The basis holds so many times these; at least so many, if there is no room.
BASIS, LEAST_BASIS = 12, 4
# Residuals below this part of what is asked for are not improved any more.
DONE = 0.3
# The guards need no more than this, relative to their eigenvalues.
GUARDS_DONE = 0.02
# Residuals at the rounding of B^T (B v), in units of eps ||B|| sigma.
AT_ROUNDING = 8.0
# They will do only where the cut goes through values closer than this, relatively, so that any of
# their vectors is as good as another.
CLUSTER = 1e-6
# No smaller angle is asked of the rounding in residuals.
BEST_ANGLE = 1e-8
# Steps in which the residuals have to be halved.
PATIENCE = 80
# When this part of the allowed work is spent, enough digits must have been won that the rest will
# do, if it goes on no slower than this part of the present speed.
LOOK_AT, SLOWER = 1 / 3, 0.5


class SquareProducts(Protocol):
    """B on some device, in the precision of what it multiplies: single or double.

    Attributes
    ----------
    n : int
    nonzeros : int
        Of B.
    work : int
        Multiplications done so far, those in single precision counted half.
    """

    n: int
    nonzeros: int
    work: int

    def multiply(self, X: Any, then: Then) -> None:
        """Give ``then`` the rows of B X, X (n, b) in C order."""

    def multiply_transposed(self, X: Any, then: Then) -> None:
        """Give ``then`` the rows of B^T X."""


def davidson_bottom_vectors(
    B: SquareProducts,
    null: Float,
    q: int,
    *,
    random: Any,
    norm: float,
    tol: float,
    residual_tol: float,
    null_value: float,
    max_iter: int,
    basis_bytes: int,
    allowed: float = math.inf,
) -> Solution:
    """Right singular vectors of B of smallest singular value, beside the constant.

    Parameters
    ----------
    B : SquareProducts
    null : ndarray of shape (n, 1)
        The constant, which has to be B's only null vector.
    q : int
        Vectors wanted.
    random : Generator or RandomState of the device's array module
    norm : float
        ||B||.
    tol : float
        Sine of the angle to the true space.
    residual_tol : float
        Largest accepted ||B^T B v - sigma^2 v||.
    null_value : float
        sigma below which a vector is a null vector.
    max_iter : int
        Restarts.
    basis_bytes : int
        That the basis may take, if a usable one fits.
    allowed : float
        Multiplications; it is given up where it will not do with them.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        If there is no polynomial, or a number is not finite.
    """
    n, width = B.n, min(max(q + GUARDS, LEAST_WIDTH), B.n - 1)
    begin = B.work

    p = _usable_polynomial(B, random)
    note(f"polynomial of degree {p.degree}, residual {p.residual:.1e}")
    precondition = _Preconditioner(B, p)
    fits = max(basis_bytes // (16 * n), LEAST_BASIS * width)
    max_basis = min(BASIS * width, fits, n - 1)

    # More columns than wanted vectors: of a multiple value all copies come that can be wanted.
    found = davidson(
        B,
        precondition,
        random.standard_normal((n, width)),
        q,
        keep_out=null,
        norm=norm,
        tol=tol,
        residual_tol=residual_tol,
        max_basis=max_basis,
        max_restarts=max_iter,
        allowed=begin + allowed,
    )
    values, vectors = 1 / np.sqrt(found.values), found.vectors
    failure = ""
    if not found.converged:
        failure = f"{found.n_steps} steps of Davidson's method were not enough"
    elif values[0] <= null_value:
        failure = "there are more null vectors than the constant"
    words = (
        f"Davidson's method with a polynomial of degree {p.degree} in B, "
        f"{(B.work - begin) / B.nonzeros:,.0f} products with B"
    )
    return Solution(vectors[:, :q], values[q:], failure, found.n_steps, words)


def _usable_polynomial(B: SquareProducts, random: Any) -> Polynomial:
    """The polynomial that GMRES finds for a random vector of B's range, tried on another one."""
    b, other = (random.standard_normal((B.n, 1)).astype(np.float32) for _ in range(2))
    for x in b, other:
        B.multiply(x.copy(), _into(x))
    p = gmres_polynomial(B.multiply, b[:, 0], tol=POLYNOMIAL_TOL, max_degree=LARGEST_DEGREE)
    missed = math.inf
    if p is not None:
        rest = array_module(b).empty_like(other)
        B.multiply(p.apply(B.multiply, other), _into(rest))
        rest -= other
        missed = float((rest**2).sum() / (other**2).sum()) ** 0.5
    if p is None or not missed <= USABLE:
        raise ValueError(
            f"Davidson's method: no polynomial of degree up to {LARGEST_DEGREE} comes near to the "
            "inverse of B = I - W, as where weights are large and of both signs. Try "
            "eigen_solver='auto', 'shift-invert' or 'chebyshev', a larger reg, or a smaller "
            "n_neighbors."
        )
    return p


class _Preconditioner:
    """P = p(B) p(B)^T in single precision."""

    def __init__(self, B: SquareProducts, p: Polynomial) -> None:
        self._B, self._p = B, p

    def __call__(self, R: Float) -> Float:
        """P R for R (n, b)."""
        single = array_module(R).ascontiguousarray(R, dtype=np.float32)
        halfway = self._p.apply(self._B.multiply_transposed, single)
        return self._p.apply(self._B.multiply, halfway).astype(np.float64)


def davidson(
    B: SquareProducts,
    precondition: Callable[[Float], Float],
    start: Float,
    n_wanted: int,
    *,
    keep_out: Float,
    norm: float,
    tol: float,
    residual_tol: float,
    max_basis: int,
    max_restarts: int,
    allowed: float = math.inf,
) -> LanczosResult:
    """The ``n_wanted`` smallest singular values of B, their vectors, and the next one.

    Parameters
    ----------
    B : SquareProducts
    precondition : callable
        R (n, b) -> P R, P near to (B^T B)^-1.
    start : ndarray of shape (n, width)
        Random; as many vectors are improved at once.
    n_wanted : int
        Less than ``width``. 0 computes the smallest value alone, loosely.
    keep_out : ndarray of shape (n, c)
        Orthonormal vectors that all results shall be orthogonal to.
    norm : float
        ||B||.
    tol, residual_tol : float
        As in :func:`lle_gpu.spectral.lanczos.lanczos`.
    max_basis : int
    max_restarts : int
    allowed : float
        ``B.work`` that must not be exceeded.

    Returns
    -------
    LanczosResult
        Its values are 1 / sigma^2, as those of an iteration on the inverse.
    """
    xp = array_module(start)
    n, width = start.shape
    max_basis = max(max_basis, min(2 * width, n - keep_out.shape[1]))
    Q, BQ = xp.empty((n, max_basis), order="F"), xp.empty((n, max_basis), order="F")
    filled = n_steps = restarts = 0
    begin, first, best, best_at = B.work, 0.0, math.inf, 0
    tol = max(tol, BEST_ANGLE)
    block = precondition(start / xp.linalg.norm(start, axis=0))
    while True:
        if not bool(xp.isfinite(block).all()):
            raise ValueError(
                "Davidson's method broke down (not a number). Try eigen_solver='shift-invert' or "
                "'dense', a larger reg or a larger n_neighbors."
            )
        block = _fresh(block, keep_out, Q[:, :filled])[:, : max_basis - filled]
        n_steps += 1
        advance()
        new = slice(filled, filled + block.shape[1])
        Q[:, new] = block
        B.multiply(xp.ascontiguousarray(block), _into(BQ[:, new]))
        filled = new.stop
        W, values = _bottom(xp, BQ[:, :filled])
        few = W[:, : min(width, filled)]
        V, BV = Q[:, :filled] @ few, BQ[:, :filled] @ few
        sigma = values[: few.shape[1]]
        R = xp.empty_like(V)
        B.multiply_transposed(xp.ascontiguousarray(BV), _into(R))
        R -= V * xp.asarray(sigma**2)
        # Normalised, R would magnify its rounding along the constant, which P cannot take.
        R = project(R, keep_out)
        residual = to_host(xp.linalg.norm(R, axis=0))
        angle, converged = _test(sigma**2, residual, n_wanted, tol, residual_tol, EPS * norm)
        worst = float(residual[: max(n_wanted, 1)].max())
        target = _target(sigma**2, n_wanted, tol)
        first = first or worst
        if worst < best / 2:
            best, best_at = worst, n_steps
        exhausted = filled == n - keep_out.shape[1]
        stuck = new.stop == new.start or n_steps - best_at > PATIENCE
        hopeless = _hopeless((B.work - begin) / max(allowed - begin, 1.0), first, worst, target)
        full = filled + width > max_basis
        if converged or exhausted or stuck or hopeless or (full and restarts == max_restarts):
            kept = min(n_wanted + 1, len(sigma))
            theta = 1 / np.maximum(sigma[:kept], EPS * norm) ** 2
            done = converged or (exhausted and len(sigma) >= n_wanted)
            return LanczosResult(theta, V[:, :kept], angle, n_steps, done, restarts)
        if full:
            restarts += 1
            kept = max_basis // 2
            lowest = W[:, :kept]
            Q[:, :kept], BQ[:, :kept] = Q[:, :filled] @ lowest, BQ[:, :filled] @ lowest
            filled = kept
        enough = np.where(
            np.arange(len(sigma)) < n_wanted,
            max(min(DONE * target, residual_tol), 0.0),
            GUARDS_DONE * sigma**2,
        )
        active = np.flatnonzero(residual > enough)
        if len(active) == 0:
            active = np.arange(len(sigma))
        picked = xp.asarray(active)
        block = precondition(R[:, picked] / xp.asarray(residual[active]))


def _into(target: Any) -> Then:
    """What writes the rows of a product into an array."""

    def write(rows: Any, product: Any) -> None:
        target[rows] = product

    return write


def _fresh(block: Float, keep_out: Float, basis: Float) -> Float:
    """Orthonormal vectors for what ``block`` has beyond the basis: "twice is enough"."""
    xp = array_module(block)
    lengths = to_host(xp.linalg.norm(block, axis=0))
    block = block[:, xp.asarray(np.flatnonzero(lengths))]
    block = block / xp.asarray(lengths[lengths > 0])
    for _ in range(2):
        block = project(project(block, keep_out), basis)
        block, R = xp.linalg.qr(block)
        sizes = to_host(xp.abs(xp.diagonal(R)))
        block = block[:, xp.asarray(np.flatnonzero(sizes > 1e-10))]
    return block


def _bottom(xp: Any, BQ: Float) -> tuple[Float, Float]:
    """Right singular vectors and values of B Q, smallest first; through its R."""
    _, values, Wt = np.linalg.svd(to_host(xp.linalg.qr(BQ, mode="r")))
    return xp.asarray(Wt[::-1].T), values[::-1]


def _target(squares: Float, n_wanted: int, tol: float) -> float:
    """The residual that the angle asks for, as far as the gap is known."""
    if n_wanted == 0 or len(squares) <= n_wanted:
        return NEXT_VALUE_TOL * float(squares[min(n_wanted, len(squares) - 1)])
    gap = max(float(squares[n_wanted] - squares[n_wanted - 1]), COPIES * float(squares[n_wanted]))
    return tol * gap / n_wanted**0.5


def _hopeless(spent: float, first: float, worst: float, target: float) -> bool:
    """Whether the work that is left, of 1 in all, will not do at the speed so far."""
    if spent >= 1:
        return True
    if spent < LOOK_AT or worst <= target:
        return False
    return math.log(first / worst) < SLOWER * spent * math.log(first / target)


def _test(
    squares: Float,
    residual: Float,
    n_wanted: int,
    tol: float,
    residual_tol: float,
    rounding: float,
) -> tuple[float, bool]:
    """Bound on the angle, and whether the wanted pairs (and loosely the next one) have converged.

    The gap is that behind all copies of the last wanted value.
    """
    if len(squares) <= n_wanted:
        return math.inf, False
    next_known = bool(residual[n_wanted] <= NEXT_VALUE_TOL * squares[n_wanted])
    if n_wanted == 0:
        return 0.0, next_known
    last, missed = float(squares[n_wanted - 1]), residual[:n_wanted]
    worst = float(np.linalg.norm(missed))
    outside = n_wanted + int((squares[n_wanted:] - last <= COPIES * last).sum())
    gap = float(squares[outside] - residual[outside] - last) if outside < len(squares) else 0.0
    angle = worst / gap if gap > 0 else math.inf
    accurate = bool((missed <= residual_tol).all())
    at_rounding = bool((missed <= AT_ROUNDING * rounding * squares[:n_wanted] ** 0.5).all())
    at_rounding = at_rounding and gap <= CLUSTER * last
    return angle, ((angle <= tol and accurate) or at_rounding) and next_known
