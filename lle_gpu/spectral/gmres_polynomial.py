"""GMRES's polynomial: an approximate inverse of a square B that multiplies, and does nothing else.

GMRES from a vector b finds the polynomial p of degree m - 1 for which ||b - B p(B) b|| is least.
1 - x p(x) is 1 at 0 and has the harmonic Ritz values theta_1 ... theta_m for its roots, so

    p(x) = sum_j  (1 / theta_j)  prod_(i < j) (1 - x / theta_i)

which takes m - 1 products. Made once, from one random b, it serves as a preconditioner for any
right-hand side: unlike GMRES it is linear, it holds nothing but four blocks of vectors, and p(B^T)
is its adjoint. It says nothing about the eigenvalues of B next to 0; those it leaves to the
iteration that it preconditions.

Why B and not M. The rows of B = I - W are short and even, its columns are not: in high dimension a
few points, hubs, are neighbours of thousands. ||B||^2 is 250 for 400,000 word vectors, while B's
eigenvalues lie within 3.3 of 0. A polynomial in M = B^T B has to be small on [0, 250], one in B on
the spectrum of B alone: a hundred products do what takes thousands.

Rounding. In a bad order the factors overflow, or cancel: Leja's order keeps every partial product
small. At a root that stands apart from all others the product of the other factors is large, and so
is the rounding there: such a root is repeated, once for each 10^14 or part of it beyond 10^4 (in
double precision; 10^6 in single). Single precision then does, at half of the memory traffic.

J. Loe, H. Thornquist, E. Boman: Polynomial preconditioned GMRES in Trilinos. SIAM PP (2020).
J. Loe, R. Morgan: Toward efficient polynomial preconditioning for GMRES. Numer. Linear Algebra
Appl. 29:e2427 (2022). M. Embree, J. Loe, R. Morgan: Polynomial preconditioned Arnoldi with
stability control. SIAM J. Sci. Comput. 43:A1 (2021). L. Reichel: The application of Leja points to
Richardson iteration and polynomial preconditioning. Linear Algebra Appl. 154:389 (1991).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda.arrays import array_module, to_host

__all__ = ["Polynomial", "gmres_polynomial"]

Float = NDArray[Any]
Complex = NDArray[np.complexfloating]
# Called with rows and (A X)[rows], for slices of rows that together are all; what it is given is
# its own to overwrite.
Then = Callable[[Any, Float], None]
Multiply = Callable[[Float, Then], None]
# Beyond so many degrees the residual is looked at each so many.
STRIDE = 8
# A root so much smaller than the largest is rounding's, where a space has ended.
SMALLEST_ROOT = 1e-5
# Decimal digits that a factor may be larger than 1 at a root; and which part of a number's digits
# one more copy of the root takes away.
DIGITS, DIGITS_OF_A_COPY = 4.0, 0.9


@dataclass(frozen=True)
class Polynomial:
    """p, by the roots of 1 - x p(x).

    Attributes
    ----------
    roots : ndarray of complex
        In the order in which they are used; of each conjugate pair the one above the real axis.
    residual : float
        ||b - B p(B) b|| / ||b|| for the b it was made from.
    """

    roots: Complex
    residual: float

    @property
    def degree(self) -> int:
        """Roots, each of a pair counted; one more than the products."""
        return len(self.roots) + int((self.roots.imag > 0).sum())

    def apply(self, multiply: Multiply, X: Float) -> Float:
        """p(A) X for X (n, b), A by ``multiply(X, then)``."""
        xp = array_module(X)
        total = xp.zeros_like(X)
        now, last = X, len(self.roots) - 1
        for j, root in enumerate(self.roots):
            after = xp.empty_like(X)
            if root.imag == 0:
                factor = float(1 / root.real)
                if j == last:
                    total += now * X.dtype.type(factor)
                    break
                multiply(now, functools.partial(_real_root, total, now, after, factor))
            else:
                # (1 - x / theta) (1 - x / theta*) = 1 - x (2 Re theta - x) / |theta|^2
                between = xp.empty_like(X)
                size, twice = float(abs(root) ** 2), float(2 * root.real)
                multiply(now, functools.partial(_pair, total, now, between, twice, 1 / size))
                if j == last:
                    break
                multiply(between, functools.partial(_second, now, after, 1 / size))
            now = after
        return total


def _real_root(
    total: Float, now: Float, after: Float, factor: float, rows: Any, product: Float
) -> None:
    """Total += now / theta, after = now - A now / theta."""
    product *= product.dtype.type(factor)
    after[rows] = now[rows] - product
    total[rows] += now[rows] * product.dtype.type(factor)


def _pair(
    total: Float, now: Float, between: Float, twice: float, factor: float, rows: Any, product: Float
) -> None:
    """Between = (2 Re theta - A) now, total += between / |theta|^2."""
    between[rows] = now[rows] * product.dtype.type(twice) - product
    total[rows] += between[rows] * product.dtype.type(factor)


def _second(now: Float, after: Float, factor: float, rows: Any, product: Float) -> None:
    """After = now - A between / |theta|^2."""
    product *= product.dtype.type(factor)
    after[rows] = now[rows] - product


def gmres_polynomial(
    multiply: Multiply, start: Float, *, tol: float, max_degree: int
) -> Polynomial | None:
    """Make the polynomial of the least degree, in steps, whose residual is at most ``tol``.

    Parameters
    ----------
    multiply : callable
        (X (n, b), then) -> nothing; ``then`` gets the rows of B X.
    start : array of shape (n,)
        b, in the range of B.
    tol : float
    max_degree : int

    Returns
    -------
    Polynomial or None
        None if no degree up to ``max_degree`` will do.
    """
    xp = array_module(start)
    n = len(start)
    max_degree = min(max_degree, n - 1)
    basis = xp.empty((max_degree + 1, n), dtype=start.dtype)
    H = np.zeros((max_degree + 1, max_degree))
    basis[0] = start / xp.linalg.norm(start)
    product = xp.empty((n, 1), dtype=start.dtype)
    for j in range(max_degree):
        multiply(basis[j][:, None], functools.partial(_keep, product))
        w = product[:, 0]
        for _ in range(2):
            along = basis[: j + 1] @ w
            w = w - along @ basis[: j + 1]
            H[: j + 1, j] += to_host(along)
        length = float(xp.linalg.norm(w))
        H[j + 1, j] = length
        m = j + 1
        ended = length <= tol * np.abs(H[: m + 1, :m]).max()
        if ended or m <= STRIDE or m % STRIDE == 0 or m == max_degree:
            first = np.zeros(m + 1)
            first[0] = 1
            solved = np.linalg.lstsq(H[: m + 1, :m], first, rcond=None)[0]
            residual = float(np.linalg.norm(H[: m + 1, :m] @ solved - first))
            if residual <= tol:
                roots = _harmonic_ritz_values(H[: m + 1, :m])
                sizes = np.abs(roots)
                sound = sizes.min() > SMALLEST_ROOT * sizes.max()
                exact = -np.log10(np.finfo(start.dtype).eps)
                return Polynomial(_ordered(roots, exact), residual) if sound else None
        if ended:
            return None
        basis[m] = w / length
    return None


def _keep(product: Float, rows: Any, part: Float) -> None:
    product[rows] = part


def _harmonic_ritz_values(H: Float) -> Complex:
    """Roots of GMRES's residual polynomial, from the Hessenberg matrix H (m + 1, m).

    The eigenvalues of H_m + h^2 f e_m^T, H_m^T f = e_m, h the last subdiagonal entry.
    """
    m = H.shape[1]
    unit = np.zeros(m)
    unit[-1] = 1
    G = H[:m].copy()
    G[:, -1] += H[m, m - 1] ** 2 * np.linalg.solve(H[:m].T, unit)
    return np.linalg.eigvals(G).astype(complex)


def _ordered(roots: Complex, exact: float) -> Complex:
    """One root of each conjugate pair, those that stand apart repeated, in Leja's order.

    Numbers have ``exact`` digits.
    """
    upper = roots[roots.imag >= 0]
    points = []
    for root in upper:
        ratios = np.abs(1 - root / roots)
        ratios[np.abs(roots - root).argmin()] = 1
        digits = np.log10(np.maximum(ratios, np.finfo(float).tiny)).sum()
        copies = 1 + max(0, int(np.ceil((digits - DIGITS) / (DIGITS_OF_A_COPY * exact))))
        points += [root] * copies
    every = np.array(points)
    # Copies a little apart: a distance of 0 would put them last, together.
    apart = every * (1 + 1e-9 * np.arange(len(every)))
    left = np.ones(len(every), dtype=bool)
    logs = np.log(np.abs(apart))  # at first the largest
    order = []
    for _ in range(len(every)):
        j = int(np.where(left, logs, -np.inf).argmax())
        left[j] = False
        order.append(j)
        with np.errstate(divide="ignore"):
            logs = logs + np.log(np.abs(apart - apart[j]))
            if every[j].imag > 0:
                logs = logs + np.log(np.abs(apart - apart[j].conj()))
    return np.asarray(every[order])
