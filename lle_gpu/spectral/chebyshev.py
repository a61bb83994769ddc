"""Chebyshev-filtered Lanczos: the bottom of M's spectrum through products with M alone.

For graphs whose factors fill in. M's eigenvalues lie in [0, b]. With T_m Chebyshev's polynomial,

    p(lambda) = T_m(t(lambda)) / T_m(t(0)),    t(lambda) = (2 lambda - a - b) / (b - a),

is 1 at 0, falls convexly to delta = 1 / |T_m(t(0))| at a, and is no larger than delta on [a, b]:
p(M) has the bottom of M's spectrum as its top, and Lanczos on p(M) finds it. With a = b (c / m)^2,
delta is about 2 exp(-2 c) whatever the degree m, and p(lambda) about exp(-c lambda / a) for small
lambda.

**The degree.** Lanczos needs about as many columns as M has eigenvalues below a, N(a), and each
costs m products. If N grows like a^s, the products m N(a) go like m^(1 - 2 s): where the bottom of
the spectrum is sparse (s < 1/2: curves, and what hangs together loosely) a low degree and a large
basis are best, until orthogonalising it costs as much as the products; where it is dense (s > 1/2:
more than two intrinsic dimensions) a high degree. So N is measured, by the trace

    N(a) = tr f(M) = E v^T f(M) v,   f the step at a, expanded in Chebyshev polynomials and damped,

from a few random vectors v, at a small part of the cost, and the degree of least predicted cost is
taken.

Y. Zhou, Y. Saad, M. L. Tiago, J. R. Chelikowsky: Self-consistent-field calculations using
Chebyshev-filtered subspace iteration. J. Comput. Phys. 219:172 (2006). H.-R. Fang, Y. Saad: A
filtered Lanczos procedure for extreme and interior eigenvalue problems. SIAM J. Sci. Comput.
34:A2220 (2012). E. Di Napoli, E. Polizzi, Y. Saad: Efficient estimation of eigenvalue counts in an
interval. Numer. Linear Algebra Appl. 23:674 (2016).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda.arrays import array_module
from lle_gpu.progress import note
from lle_gpu.spectral.lanczos import lanczos
from lle_gpu.spectral.multiplicity import Found, further_copies, may_lack_copies
from lle_gpu.spectral.spectrum import Solution

__all__ = [
    "ChebyshevFilter",
    "Density",
    "FilterPlan",
    "Operator",
    "chebyshev_bottom_vectors",
    "make_plan",
    "predict_cost",
]

Float = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
# c in a = b (c / m)^2: delta = 1.2e-5. Anything between 4 and 9 takes as many products in all.
EXPONENT = 6.0
# Columns iterated at once. Eight cost hardly more than four.
WIDTH = 8
# Columns that Lanczos takes: so many for each eigenvalue below a, and so many blocks.
COLUMNS_PER_EIGENVALUE = 0.75
# Eigenvalues estimated below a, for each that is wanted.
MARGIN = 1.5
EXTRA_BLOCKS = 4
# The cost of orthogonalising, for an entry of two columns, and of T's eigenproblems, for an entry
# of T and a column, in products' multiplications.
ORTHOGONALISING = 1.5
SMALL_EIGENPROBLEMS = 8.0
# Degrees of the density's Chebyshev expansion: at first, and at most.
FIRST_PROBE, LARGEST_PROBE = 32, 1 << 14
# Bytes that the basis may take, unless told otherwise.
BASIS_BYTES = 1 << 30
# How far above the largest eigenvalue that Lanczos saw b is set: it has seen it to 5 %.
ABOVE = 1.05
# Thick restarts with one filter, before the degree is doubled; so many times as many where vectors
# that were left out are looked for.
RESTARTS, PATIENCE = 3, 8
LARGEST_DEGREE = 20_000
# No other filter is tried once so many times the multiplications that were predicted are spent; it
# takes 5 times as many at most where the filter does it. So many, a few seconds', are always tried.
EFFORT = 20
LEAST_EFFORT = 1e10
# theta above 1 by more than this, or sigma^2 in the upper half: there are eigenvalues above b.
BEYOND_ONE = 1e-6
# A wanted value this far below the next, in units of the angle that was asked for, may be that of a
# null vector which is not yet free of the others.
SUSPICIOUS = 10.0
# No smaller angle is asked of the rounding in p(M).
BEST_ANGLE = 1e-8


class Operator(Protocol):
    """M on some device; ``recur`` is as :class:`ChebyshevFilter` has it, or None."""

    n: int
    nonzeros: int
    columns: int
    description: str

    recur: Callable[[Float, Float], Float] | None

    def multiply(self, X: Float) -> Float:
        """M X for X (n, b)."""


@dataclass(frozen=True)
class ChebyshevFilter:
    """The operator p(M).

    Attributes
    ----------
    multiply : callable
        X (n, b) -> M X.
    low, high : float
        a and b.
    degree : int
        m, even: an eigenvalue above b then shows, as a Ritz value above 1.
    recur : callable, optional
        (X, coefficients) -> the last Y_j of the recurrence, where the device has it in one piece.
    """

    multiply: Callable[[Float], Float]
    low: float
    high: float
    degree: int
    recur: Callable[[Float, Float], Float] | None = None

    @property
    def bound(self) -> float:
        """delta, the largest size of p on [a, b]."""
        t = (self.high + self.low) / (self.high - self.low)
        return float(1 / np.cosh(self.degree * np.arccosh(t)))

    def apply(self, X: Float) -> Float:
        """p(M) X for X (n, b)."""
        if self.recur is not None:
            return self.recur(X, self.coefficients())
        return self._recurrence(self.multiply, X)

    def value(self, eigenvalues: Float) -> Float:
        """p(lambda), by the same recurrence: what it rounds in the scale, it rounds alike."""
        return self._recurrence(lambda x: eigenvalues * x, np.ones_like(eigenvalues))

    def coefficients(self) -> Float:
        """alpha, beta, gamma (m, 3) of the recurrence of T_j(t(M)) / T_j(t(0)).

        Y_0 = X, Y_j = alpha_j M Y_{j-1} + beta_j Y_{j-1} + gamma_j Y_{j-2}, gamma_1 = 0 (Zhou et
        al., 4.3). Scaled at each degree, it neither overflows nor loses what it has gained.
        """
        centre, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        ratio = -half / centre  # T_{j-1}(t(0)) / T_j(t(0))
        twice = 2 / ratio
        rows = [(ratio / half, -ratio * centre / half, 0.0)]
        for _ in range(self.degree - 1):
            following = 1 / (twice - ratio)
            alpha = 2 * following / half
            rows.append((alpha, -alpha * centre, -ratio * following))
            ratio = following
        return np.array(rows)

    def _recurrence(self, multiply: Callable[[Float], Float], X: Float) -> Float:
        Y, X = X, np.empty(0)
        for alpha, beta, gamma in self.coefficients():
            W = multiply(Y)
            W *= alpha
            W += beta * Y
            if gamma:
                W += gamma * X
            X, Y = Y, W
        return Y

    def slope(self, theta: Float) -> Float:
        """What divides ||p(M) v - theta v|| to give ||M x - lambda x||, x = p(M) v / theta.

        v's part along an eigenvector of M is r_i / (theta - p_i), and x's is p_i / theta times
        that. Below a, where p is exp(-s lambda) with s = -p'(0) = m / sqrt(a b), more or less,
        (lambda_i - lambda) p_i / (theta - p_i) is at most 1 / s; beyond, b delta / (theta - delta).
        """
        falling = (self.low * self.high) ** 0.5 / self.degree
        return theta / max(falling, 2 * self.bound * self.high)

    def scale(self, theta: Float) -> Float:
        """1 - theta: p is convex, so it is no less than lambda |p'(lambda)|."""
        return np.maximum(1 - theta, 1000 * EPS)

    def least_scale(self, theta: Float) -> Float:
        """-theta log theta: no more than lambda |p'(lambda)|, since log p is concave up to a.

        Down at 2 delta it stays: beyond a no value of p is that of one lambda alone.
        """
        theta = np.maximum(theta, 2 * self.bound)
        return np.maximum(-theta * np.log(theta), 1000 * EPS)


class Density:
    """Number of M's eigenvalues below a, estimated from random vectors.

    Parameters
    ----------
    operator : Operator
    high : float
        b; no eigenvalue may be larger.
    start : ndarray of shape (n, s)
        Random vectors, orthogonal to what is not to be counted.
    room : int
        Dimension of the space they are random in.
    """

    def __init__(self, operator: Operator, high: float, start: Float, room: int) -> None:
        self._operator, self.high, self._room = operator, high, room
        self._before, self._last = start, self._shifted(start)
        self._moments = [_inner(start, start), _inner(start, self._last)]
        self.degree = 1

    def _shifted(self, X: Float) -> Float:
        """T_1 = (2 M / b - 1) X."""
        Y = self._operator.multiply(X)
        Y *= 2 / self.high
        Y -= X
        return Y

    def extend(self, degree: int) -> None:
        """Go on to ``degree``, which gives moments v^T T_j v up to j = 2 degree."""
        first, second = self._moments[:2]
        for _ in range(self.degree, degree):
            # 2 T_i T_j = T_(i + j) + T_|i - j|
            self._moments.append(2 * _inner(self._last, self._last) - first)
            following = self._shifted(self._last)
            following *= 2
            following -= self._before
            self._moments.append(2 * _inner(following, self._last) - second)
            self._before, self._last = self._last, following
        self.degree = max(self.degree, degree)

    @property
    def bounded(self) -> bool:
        """False if an eigenvalue above b has shown, by a moment that cannot be."""
        return bool(np.abs(self._moments).max() <= (1 + 1e-6) * self._moments[0])

    def count(self, low: Float) -> Float:
        """N(a) for each of several a, with Jackson's damping."""
        moments = np.array(self._moments)
        J = len(moments)
        j = np.arange(J)
        u = np.pi / (J + 1)
        damping = ((J - j + 1) * np.cos(j * u) + np.sin(j * u) / np.tan(u)) / (J + 1)
        angle = np.arccos(2 * np.minimum(low / self.high, 1) - 1)[:, None]
        step = -2 * np.sin(j[1:] * angle) / (np.pi * j[1:])
        fraction = 1 - angle[:, 0] / np.pi + step @ (damping * moments)[1:] / moments[0]
        return np.maximum(fraction * self._room, 0)


def _inner(X: Float, Y: Float) -> float:
    """Sum of the products of all entries."""
    return float((X * Y).sum())


@dataclass(frozen=True)
class FilterPlan:
    """A filter, and what it should take.

    Attributes
    ----------
    degree : int
    low : float
    columns : int
        Columns of the Lanczos basis.
    work : float
        Multiplications in all, orthogonalising included in products' equivalents.
    """

    degree: int
    low: float
    columns: int
    work: float


class _BeyondBoundError(ArithmeticError):
    """An eigenvalue above b has shown."""


def make_plan(
    operator: Operator,
    density: Density,
    n_wanted: int,
    largest_probe: float = LARGEST_PROBE,
    basis_bytes: int = BASIS_BYTES,
) -> FilterPlan:
    """Degree of least predicted cost; the density is refined as far as that takes."""
    n = operator.n
    largest = min(n, max(basis_bytes // (8 * n) - EXTRA_BLOCKS * WIDTH, n_wanted + 1 + 4 * WIDTH))
    probe = FIRST_PROBE
    while True:
        density.extend(probe)
        if not density.bounded:
            raise _BeyondBoundError
        # A step at a is resolved by 2 probe moments if a is above b (3 / probe)^2, more or less.
        degrees = 2 * np.unique(np.geomspace(8, 2 * probe, 60).astype(int))
        low = density.high * np.minimum((EXPONENT / degrees) ** 2, 0.5)
        found = np.maximum.accumulate(density.count(low)[::-1])[::-1]
        columns = np.ceil(COLUMNS_PER_EIGENVALUE * np.maximum(found, n_wanted + 1))
        columns += EXTRA_BLOCKS * WIDTH
        columns = np.minimum(columns, n)
        per_column = degrees * operator.nonzeros + ORTHOGONALISING * n * columns
        work = columns * (per_column + SMALL_EIGENPROBLEMS * columns**2)
        work[columns > largest] = np.inf
        # The wanted ones must be among those below a, beyond the estimate's error.
        enough = found >= MARGIN * (n_wanted + 1)
        enough[0] = True
        work[~enough] = np.inf
        best = int(work.argmin())
        if (degrees[best] <= 3 * probe and np.isfinite(work[best])) or 2 * probe > largest_probe:
            kept = min(int(columns[best]), int(largest))
            return FilterPlan(int(degrees[best]), float(low[best]), kept, float(work[best]))
        probe *= 2


def predict_cost(
    operator: Operator,
    n_wanted: int,
    *,
    random: Any,
    within: float = float("inf"),
    basis_bytes: int = BASIS_BYTES,
) -> float:
    """Seconds that :func:`chebyshev_bottom_vectors` should take for ``n_wanted`` vectors.

    A probe is run, about a hundred products with blocks as a rule, and timed: the rest is the
    plan's work at the same speed. If the probe itself would take more than ``within`` seconds, or
    does not see the bottom of the spectrum in that time, the answer is infinity.
    """
    start = random.standard_normal((operator.n, WIDTH))
    start -= start.mean(axis=0)
    if array_module(start) is not np:
        # Not timed: at its first calls in a process a device's libraries start up.
        _largest_eigenvalue(operator, start)
    begin, done = time.perf_counter(), operator.columns
    high = _largest_eigenvalue(operator, start)
    Y = operator.multiply(start)
    Y -= start  # a step of the density does as much beside its product
    columns = operator.columns - done
    affordable = within * columns / (time.perf_counter() - begin) / WIDTH
    if affordable < FIRST_PROBE:
        return float("inf")
    begin, done = time.perf_counter(), operator.columns
    room = operator.n - 1
    plan, _, seen = _checked_plan(
        operator, high, start, n_wanted, room, min(affordable, LARGEST_PROBE), basis_bytes
    )
    if plan.degree > 3 * seen:
        return float("inf")
    speed = (operator.columns - done) * operator.nonzeros / (time.perf_counter() - begin)
    return plan.work / speed


def chebyshev_bottom_vectors(
    operator: Operator,
    rayleigh_ritz: Callable[[Float], tuple[Float, Float]],
    null: Float,
    q: int,
    *,
    hints: Float,
    random: Any,
    tol: float,
    residual_tol: float,
    null_value: float,
    max_iter: int,
    basis_bytes: int = BASIS_BYTES,
) -> Solution:
    """Right singular vectors of F of smallest singular value, beside a known null space.

    Parameters
    ----------
    operator : Operator
    rayleigh_ritz : callable
        V (n, p) -> (sigma ascending, vectors), the best within V's span, through F.
    null : ndarray of shape (n, c)
        Orthonormal null vectors of F, the constant first; the results are null[:, 1:] and others.
    q : int
        Vectors wanted, beside the constant.
    hints : ndarray of shape (n, h)
        Vectors that others wanted are near to, for a start; h may be 0.
    random : Generator or RandomState of the device's array module
    tol : float
        Sine of the angle to the true space, as in :func:`lle_gpu.spectral.lanczos.lanczos`.
    residual_tol : float
        Largest accepted ||F^T F v - sigma^2 v||.
    null_value : float
        sigma below which a vector is a null vector.
    max_iter : int
        Restarts.
    basis_bytes : int
        That the basis may take, if a usable one fits.

    Returns
    -------
    Solution
    """
    xp = array_module(null)
    start = random.standard_normal((operator.n, WIDTH))
    start -= null @ (null.T @ start)
    high = _largest_eigenvalue(operator, start)
    plan, high, _ = _checked_plan(
        operator, high, start, q, operator.n - null.shape[1], LARGEST_PROBE, basis_bytes
    )
    warm, left, angle, begin = hints, max_iter, tol, operator.columns
    allowed = max(EFFORT * plan.work, LEAST_EFFORT)
    while True:
        p = ChebyshevFilter(operator.multiply, plan.low, high, plan.degree, operator.recur)
        note(f"filter of degree {p.degree} on [{p.low:.1e}, {high:.3g}], {plan.columns} columns")
        # With all q null vectors found, one more value tells what lies next.
        n_wanted = max(q + 1 - null.shape[1], 1)
        fresh = max(WIDTH - warm.shape[1], 1)
        # Warm vectors may converge before what is fresh has turned to anything.
        width = fresh if warm is hints else 1
        run = functools.partial(
            lanczos,
            p.apply,
            tol=angle,
            residual_tol=residual_tol,
            max_restarts=max(min(RESTARTS, left), 0),
            max_basis=plan.columns + EXTRA_BLOCKS * WIDTH,
            slope=p.slope,
            scale=p.least_scale,
        )
        start = xp.concatenate([warm, random.standard_normal((operator.n, fresh))], axis=1)
        result = run(start, n_wanted, keep_out=null)
        left -= result.n_restarts + 1
        values, warm = rayleigh_ritz(result.vectors)
        theta, converged = result.values, result.converged
        suspicious = angle > 0 and values[0] <= SUSPICIOUS * tol * values[-1]
        excess = _rounding(p, values, theta, n_wanted, tol) if values[-1] > null_value else 0.0
        # What converged above a is not known to be the lowest: p does not fall there.
        below = values[-1] ** 2 < p.low
        sound = converged and below and values[0] > null_value and not suspicious and excess <= 1
        if sound and may_lack_copies(values, n_wanted, width):
            # This filter does it: no other one is to be tried if a fresh block takes it longer.
            patient = functools.partial(run, max_restarts=max(min(PATIENCE * RESTARTS, left), 0))
            found = Found(values, warm, theta)
            whole = further_copies(patient, rayleigh_ritz, random, null, found)
            left -= whole.n_restarts
            values, warm = whole.values, whole.vectors
            theta, converged = whole.theta, whole.converged
        failure = ""
        beyond = converged and values[-1] ** 2 > high / 2
        if theta[0] > 1 + BEYOND_ONE or beyond:
            high *= 1.2
            failure = "the largest eigenvalue was not found"
        elif values[0] <= null_value and null.shape[1] > q:
            pass  # more null vectors than are wanted, whether or not this one has settled
        elif values[0] <= null_value:
            count = int((values <= null_value).sum())
            note(f"{count} more null vectors")
            Q, _ = xp.linalg.qr(xp.concatenate([null, warm[:, :count]], axis=1))
            null, warm, angle = Q[:, : q + 1], warm[:, count:], tol
            failure = "the null vectors were not all found"
        elif converged and not below:
            plan = _with_degree(plan, high, plan.degree / 2)
            failure = "the wanted values and the next one are not all below the filter's interval"
        elif not converged:
            # Ritz values are lower bounds: above delta, there are enough eigenvalues below a, and
            # too many; if none is, even after a whole basis, too few.
            crowded = result.converged or theta[-1] > 2 * p.bound
            plan = _with_degree(plan, high, plan.degree * (2.0 if crowded else 0.5))
            failure = f"{result.n_steps} steps of the last filter were not enough"
        elif suspicious:
            angle = 0.0  # whatever rounding allows
            failure = "a null vector was not told from the others"
        elif excess > 1:
            plan = _with_degree(plan, high, plan.degree * max(excess**0.5, 2.0))
            failure = (
                f"the smallest singular value, {values[0]:.1e}, is so small that its square is "
                "lost in the rounding of the filter"
            )
        needed = operator.nonzeros * (operator.columns - begin + plan.degree * plan.columns)
        if not failure or left < 0 or plan.degree > LARGEST_DEGREE or needed > allowed:
            break
    if failure:
        limit = f"max_iter={max_iter} restarts" if left < 0 else f"degree {p.degree}"
        if left >= 0 and needed > allowed:
            limit = f"{limit}, and far more products than predicted"
        failure = f"{failure} ({limit}); eigen_solver='shift-invert' may do it"
    description = (
        f"Chebyshev filter of degree {p.degree} on [{p.low:.1e}, {p.high:.3g}], "
        f"{operator.columns:,} products with {operator.description}"
    )
    n_wanted = q + 1 - null.shape[1]
    vectors = xp.concatenate([null[:, 1:], warm[:, :n_wanted]], axis=1)
    next_values = values[len(values) - warm.shape[1] :][n_wanted:]
    return Solution(vectors, next_values, failure, operator.columns, description)


def _rounding(p: ChebyshevFilter, values: Float, theta: Float, n_wanted: int, tol: float) -> float:
    """The rounding in p(M), in units of what the angle that is asked for bears.

    It is measured: sigma is known through F, to more digits.
    """
    missed = np.abs(p.value(values**2) - theta)[:n_wanted]
    return max(float(missed.max()), 8 * EPS) / (max(tol, BEST_ANGLE) * float(p.scale(theta[-1])))


def _with_degree(plan: FilterPlan, high: float, degree: float) -> FilterPlan:
    """The plan with about this degree, and the a that goes with it."""
    even = max(2 * int(np.ceil(degree / 2)), 2)
    return replace(plan, degree=even, low=min(plan.low * (plan.degree / even) ** 2, high / 2))


def _checked_plan(
    operator: Operator,
    high: float,
    start: Float,
    n_wanted: int,
    room: int,
    largest_probe: float,
    basis_bytes: int,
) -> tuple[FilterPlan, float, int]:
    """A plan, b, raised as long as an eigenvalue above it shows, and the density's degree."""
    while True:
        density = Density(operator, high, start, room)
        try:
            plan = make_plan(operator, density, n_wanted, largest_probe, basis_bytes)
        except _BeyondBoundError:
            high *= 1.1
        else:
            return plan, high, density.degree


def _largest_eigenvalue(operator: Operator, start: Float) -> float:
    """Upper bound of M's eigenvalues: the largest that Lanczos finds, and its error."""
    result = lanczos(
        operator.multiply,
        start[:, :1],
        0,
        keep_out=start[:, :0],
        tol=1.0,
        residual_tol=np.inf,
        max_restarts=20,
    )
    return ABOVE * float(result.values[0])
