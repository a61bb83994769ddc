"""The bottom of F's spectrum on the CPU: the choice of solver, null vectors, the certificate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from lle_gpu.constraints import Constraints
from lle_gpu.constraints.cpu.assemble import gram, stack
from lle_gpu.exceptions import warn_user
from lle_gpu.memory import filter_bytes, iteration_bytes
from lle_gpu.neighbors.graph import ClosedClasses
from lle_gpu.parallel import one_blas_thread
from lle_gpu.progress import note, stage
from lle_gpu.spectral.chebyshev import (
    BASIS_BYTES,
    BottomVectors,
    chebyshev_bottom_vectors,
    predict_cost,
)
from lle_gpu.spectral.choice import Cost, Plan, choose
from lle_gpu.spectral.cpu.certify import norm_estimate, rayleigh_ritz, residual_norms
from lle_gpu.spectral.cpu.dense import dense_bottom_vectors
from lle_gpu.spectral.cpu.ordering import Elimination, choose_elimination
from lle_gpu.spectral.cpu.products import Products
from lle_gpu.spectral.cpu.refinement import FINEST, refine
from lle_gpu.spectral.cpu.shift_invert import Inverse, SquareInverse, SymmetricInverse
from lle_gpu.spectral.lanczos import lanczos
from lle_gpu.spectral.spectrum import Spectrum

__all__ = ["bottom_vectors"]

Float = NDArray[np.float64]
# sigma / ||F|| below which a vector counts as a null vector. True null vectors come out near 1e-15;
# curves of 10^4 points have true values down to 1e-12.
NULL_TOL = 1e-13
# ||F^T F v - sigma^2 v|| / ||F||^2 that a converged vector must not exceed.
RESIDUAL_TOL = 1e-10
# The same, where a last step of inverse iteration could not improve anything.
POLISHED = 1e-14
# Largest accepted |theta sigma^2 - 1|, theta the eigenvalue of the inverse that was used and sigma
# measured through F. Beyond, the inverse is not that of M: its rounding is larger than sigma^2.
UNRESOLVED = 0.1
# The most vectors beyond the wanted ones that are refined, to be sure that none is left out.
GUARDS = 12
# Up to here "auto" answers that with the dense solver, which takes a second or two.
DENSE_RESCUE_POINTS = 1000
# Vectors iterated at once, if as many are wanted: eigenvalues of this multiplicity come whole.
# Fewer would be faster, by a third for two components at n=100k; more would not be any safer.
LARGEST_BLOCK = 8
# Arithmetic of SuperLU in a second, and of its solves, and steps of the iteration: for the choice.
FACTOR_SPEED, SOLVE_SPEED, STEPS = 6e9, 2.5e9, 8
# Products with one column that no filter has done without (MNIST, 5,000 points: 4,200), and seconds
# for each of a product's multiplications.
FEWEST_PRODUCTS, PRODUCT_SPEED = 4000, 3e-10
# Part of the time to beat that the prediction of a filter's cost may take.
WORTH_LOOKING = 0.1
# Seed of the start block when no random_state is given: the same input gives the same bits.
SEED = 0


def bottom_vectors(
    constraints: Constraints,
    n_components: int,
    *,
    square: bool,
    classes: ClosedClasses,
    solver: str = "auto",
    tol: float = 1e-6,
    max_iter: int = 100,
    random_state: Any = None,
    n_jobs: int | None = None,
    memory_limit: int | None = None,
) -> tuple[Float, Spectrum]:
    """Right singular vectors of F of smallest singular value, orthogonal to 1.

    Parameters
    ----------
    constraints : Constraints
    n_components : int
        q, less than n.
    square : bool
        Whether F is a square B = I - W (one row a point).
    classes : ClosedClasses
        Of the neighbour graph; each closed class of a square F is a null vector.
    solver : {"auto", "dense", "shift-invert", "arpack", "chebyshev"}
    tol : float
        Sine of the angle to the true space; see :func:`lle_gpu.spectral.lanczos.lanczos`.
    max_iter : int
        Restarts of the iteration.
    random_state : int, RandomState or None
        Of the start block.
    n_jobs : int or None
    memory_limit : int or None
        Bytes that may be held at once, the constraints included; None is what is free.

    Returns
    -------
    vectors : ndarray of shape (n, q), orthonormal, signs fixed.
    spectrum : Spectrum

    Warns
    -----
    ConvergenceWarning
        If the vectors are not known to be right to ``tol``.
    """
    n = constraints.n_points
    with stage("assembly"):
        F = stack(constraints)
        norm = norm_estimate(F)
    if norm == 0:
        raise ValueError(
            "no neighbourhood gives a constraint: the neighbours of every point are too degenerate "
            "(duplicated rows, or points on a line) for this method. Remove duplicates, raise "
            "n_neighbors, or use method='standard'."
        )
    problem = _Problem(
        F,
        norm,
        constraints,
        square,
        classes,
        n_components,
        tol,
        max_iter,
        random_state,
        n_jobs,
        memory_limit,
    )
    with stage("choice"):
        plan = choose(
            solver,
            n,
            n_components,
            memory_limit=memory_limit,
            shift_invert=problem.cost_of_shift_invert,
            chebyshev=problem.cost_of_chebyshev,
        )
    V, next_values, failure, n_iter, description = _solve(problem, plan, solver == "auto")
    with stage("certificate"):
        known_null = len(classes) if square else 1
        return _certified(F, norm, V, next_values, known_null, failure, description, n_iter)


@dataclass
class _Problem:
    """F, what is asked for, and the ways to answer it."""

    F: Any
    norm: float
    constraints: Constraints
    square: bool
    classes: ClosedClasses
    q: int
    tol: float
    max_iter: int
    random_state: Any
    n_jobs: int | None
    memory_limit: int | None

    @cached_property
    def matrix(self) -> csr_array:
        """What is factored: the square F = B as it is, or else M."""
        return self.F if self.square else gram(self.constraints, self.n_jobs)

    @cached_property
    def elimination(self) -> Elimination:
        """In which order, and what that will take."""
        return choose_elimination(self.matrix)

    @property
    def held(self) -> int:
        """Bytes of the constraints and of F's own indices."""
        arrays = self.constraints.index, self.constraints.rows, self.F.indices
        return sum(array.nbytes for array in arrays)

    def cost_of_shift_invert(self) -> Cost:
        """By the predicted fill: arithmetic of the factorisation and of the iteration's solves."""
        estimate = self.elimination.estimate
        n, width = self.F.shape[1], min(self.q + 1, LARGEST_BLOCK)
        solves = 4 * STEPS * width * estimate.nonzeros
        seconds = estimate.flops / FACTOR_SPEED + solves / SOLVE_SPEED
        copies = 36 * self.matrix.nnz  # the matrix, permuted, and with its shift
        words = f"sparse LU with about {estimate.nonzeros / n:.0f} nonzeros a row"
        size = self.held + copies + estimate.bytes + iteration_bytes(n, self.q)
        return Cost(seconds, size, words)

    def cost_of_chebyshev(self, to_beat: float) -> Cost:
        """By a short run of it, unless it cannot take less than ``to_beat`` seconds anyway."""
        seconds = float("inf")
        if FEWEST_PRODUCTS * PRODUCT_SPEED * self.product_nonzeros < to_beat:
            with self.products() as products:
                seconds = predict_cost(
                    products,
                    self.q,
                    random=check_random_state(SEED),
                    within=WORTH_LOOKING * to_beat,
                    basis_bytes=self.basis_bytes,
                )
        return Cost(seconds, self.held_by_filter, "Chebyshev filter")

    @property
    def product_nonzeros(self) -> int:
        """Nonzeros that a product runs through, as :class:`Products` has them."""
        both = 2 * self.F.nnz
        return int(both if self.square else min(both, self.matrix.nnz))

    @property
    def held_by_filter(self) -> int:
        """The least that it takes, with the smallest basis that is of use."""
        return self.held + 12 * self.product_nonzeros + filter_bytes(self.F.shape[1], self.q)

    @property
    def basis_bytes(self) -> int:
        """What the filter's basis may take beyond that."""
        if self.memory_limit is None:
            return BASIS_BYTES
        return min(BASIS_BYTES, max(0, self.memory_limit - self.held_by_filter))

    def products(self) -> Products:
        """M as an operator that only multiplies; a square F is always sparser than its M."""
        return Products(self.F, None if self.square else self.matrix, n_jobs=self.n_jobs)

    def shift_invert(self) -> _Solution:
        """Factor B or M, and iterate on the inverse."""
        with one_blas_thread():
            with stage("factor"):
                make = SquareInverse if self.square else SymmetricInverse
                elimination = self.elimination
                # Not kept beside its factors: at a million points M takes half a gigabyte.
                inverse: Inverse = make(self.__dict__.pop("matrix"), elimination)
                note(inverse.description)
            with stage("lanczos"):
                V, next_values, failure, n_iter = _iterate(
                    self.F,
                    self.norm,
                    inverse,
                    self.classes,
                    self.q,
                    self.tol,
                    self.max_iter,
                    self.random_state,
                )
        return _Solution(V, next_values, failure, n_iter, f"shift-invert, {inverse.description}")

    def chebyshev(self) -> _Solution:
        """Iterate on a polynomial in M."""
        with stage("filter"), one_blas_thread(), self.products() as M:
            bottom = _filter(
                self.F,
                self.norm,
                M,
                self.classes,
                self.square,
                self.q,
                self.tol,
                self.max_iter,
                self.random_state,
                self.basis_bytes,
            )
        return _Solution(
            bottom.vectors, bottom.next_values, bottom.failure, M.columns, bottom.description
        )

    def dense(self) -> _Solution:
        """All of them, and the bottom ones taken."""
        with stage("dense", self.F.shape[0]):
            V, next_values = dense_bottom_vectors(self.F, self.norm, self.q)
        return _Solution(V, next_values, "", 0, "dense SVD of F")


class _Solution(NamedTuple):
    vectors: Float
    next_values: Float
    failure: str
    n_iter: int
    description: str


def _solve(problem: _Problem, plan: Plan, auto: bool) -> _Solution:
    """Follow the plan; go over to the other solver, or the dense one, where it fails.

    A square sigma^2 that is lost in rounding is lost to shift-invert and the filter alike: only the
    dense solver is tried then. Everything else the other solver may well be able to do.
    """
    solvers = {
        "shift-invert": problem.shift_invert,
        "chebyshev": problem.chebyshev,
        "dense": problem.dense,
    }

    def run(name: str, reason: str) -> _Solution:
        note(f"solver: {name} ({reason})")
        solution = solvers[name]()
        return solution._replace(description=f"{solution.description}, {reason}")

    try:
        solution = run(plan.solver, plan.reason)
    except (ValueError, MemoryError) as error:
        if not plan.other:
            raise
        return run(plan.other, f"since {plan.solver} failed: {error}")
    if not solution.failure or not auto:
        return solution
    if problem.F.shape[1] <= DENSE_RESCUE_POINTS:
        return run("dense", f"since {plan.solver} failed: {solution.failure}")
    if plan.solver == "chebyshev" and plan.other:
        second = run(plan.other, f"since {plan.solver} failed: {solution.failure}")
        return solution if second.failure else second
    return solution


def _filter(
    F: Any,
    norm: float,
    M: Products,
    classes: ClosedClasses,
    square: bool,
    q: int,
    tol: float,
    max_iter: int,
    random_state: Any,
    basis_bytes: int,
) -> BottomVectors:
    """Chebyshev-filtered Lanczos; the classes' indicators are near to a square F's null vectors."""
    hints = (classes.labels[:, None] == np.arange(min(len(classes) - 1, q) if square else 0)) * 1.0
    return chebyshev_bottom_vectors(
        M,
        lambda V: rayleigh_ritz(F, V),
        np.full((M.n, 1), M.n**-0.5),
        q,
        hints=hints,
        random=check_random_state(SEED if random_state is None else random_state),
        tol=tol,
        residual_tol=0.1 * RESIDUAL_TOL * norm**2,
        null_value=NULL_TOL * norm,
        max_iter=max_iter,
        basis_bytes=basis_bytes,
    )


def _iterate(
    F: Any,
    norm: float,
    inverse: Inverse,
    classes: ClosedClasses,
    q: int,
    tol: float,
    max_iter: int,
    random_state: Any,
) -> tuple[Float, Float, str, int]:
    """Lanczos on the inverse, again with each null vector that it turns up kept out.

    An inverse of M is refined through F, with more vectors where M's rounding mixes their order.
    Returns the q vectors, the next singular value, what went wrong (empty if nothing did), and the
    steps taken.
    """
    n = F.shape[1]
    random = check_random_state(SEED if random_state is None else random_state)
    null = _known_null_vectors(inverse, classes, n, q)
    n_iter = guards = 0
    while True:
        inverse.deflate(null)

        def polish(V: Float, null: Float = null) -> tuple[Float, Float]:
            """One true application of the inverse, and Rayleigh-Ritz through F.

            It takes out what the iteration's own rounding has left at the upper end of the
            spectrum.
            """
            AV = inverse.apply(V)
            return rayleigh_ritz(F, AV - null @ (null.T @ AV))

        n_wanted = max(q + 1 - null.shape[1], 0)
        n_kept = n_wanted + guards
        result = lanczos(
            inverse.apply,
            random.standard_normal((n, min(n_kept + 1, LARGEST_BLOCK))),
            n_kept,
            keep_out=null,
            tol=tol,
            residual_tol=0.1 * RESIDUAL_TOL * norm**2,
            max_restarts=max_iter,
            accept=lambda V: bool((polish(V)[0] <= NULL_TOL * norm).all()),
        )
        n_iter += result.n_steps
        if not np.isfinite(result.vectors).all():
            raise ValueError(
                "the iteration on the inverse broke down (not a number). "
                "Try eigen_solver='dense', a larger reg or a larger n_neighbors."
            )
        values, vectors = rayleigh_ritz(F, result.vectors)
        if (residual_norms(F, vectors, values) > POLISHED * norm**2).any():
            values, vectors = polish(vectors)
            n_iter += 1
        resolved = not (np.abs(result.values * values**2 - 1)[:n_wanted] > UNRESOLVED).any()
        if isinstance(inverse, SymmetricInverse):
            if (
                n_wanted
                and values[0] > NULL_TOL * norm
                and _hidden(values[: n_wanted + 1], inverse.shift, tol)
            ):
                refined = refine(
                    F,
                    norm,
                    inverse.apply,
                    vectors,
                    result.values,
                    shift=inverse.shift,
                    n_wanted=n_wanted,
                    keep_out=null,
                    tol=tol,
                    residual_tol=POLISHED * norm**2,
                )
                n_iter += refined.n_steps
                values, vectors = refined.values, refined.vectors
                resolved = refined.converged and refined.complete
                room = guards < GUARDS and 3 * (n_kept + 1) < n
                if not refined.complete and result.converged and room:
                    guards = min(2 * guards + 4, GUARDS)
                    note(f"{guards} vectors more, since the rounding of M mixes them")
                    continue
            resolved = resolved and _null_error(F, null, values, NULL_TOL * norm) <= max(
                tol, FINEST
            )
        found = values <= NULL_TOL * norm
        if n_wanted == 0 or not found.any():
            V = np.concatenate([null[:, 1:], vectors[:, :n_wanted]], axis=1)
            failure = ""
            if not result.converged:
                failure = f"max_iter={max_iter} restarts ({n_iter} steps) were not enough"
            elif not resolved:
                failure = (
                    f"the smallest singular value, {values[0]:.1e}, is so small that its square is "
                    "lost in the rounding of the matrix that was factored"
                )
            return V, values[n_wanted:], failure, n_iter
        note(f"{int(found.sum())} more null vectors")
        null = np.linalg.qr(np.concatenate([null, vectors[:, found]], axis=1))[0]
        null = null[:, : q + 1]


def _hidden(values: Float, shift: float, tol: float) -> bool:
    """Whether M's rounding, at most ``shift``, may turn the wanted vectors by a tenth of ``tol``.

    It turns them by no more than its size over the gap (Davis, Kahan) between the last wanted
    eigenvalue and the first one left out.
    """
    gap = float(values[-1] ** 2 - values[-2] ** 2) if len(values) > 1 else 0.0
    return shift > 0.1 * tol * gap


def _null_error(F: Any, null: Float, values: Float, null_tol: float) -> float:
    """Bound on the sine of the angle between null vectors and true ones: ||F v|| / sigma_next.

    0 for the constant, which is known, and among more null vectors than are wanted.
    """
    if null.shape[1] == 1 or values[0] <= null_tol:
        return 0.0
    return float(rayleigh_ritz(F, null[:, 1:])[0].max() / values[0])


def _known_null_vectors(inverse: Inverse, classes: ClosedClasses, n: int, q: int) -> Float:
    """Orthonormal null vectors (n, c), c <= q + 1, known beforehand; the constant is the first.

    A square B has one for each closed class: 1 on the class, 0 on the other classes, and on the
    open points whatever B v = 0 makes of it.
    """
    null = np.full((n, 1), n**-0.5)
    if isinstance(inverse, SquareInverse) and len(classes) > 1:
        largest = min(len(classes) - 1, q)
        indicators = (classes.labels[:, None] == np.arange(largest)).astype(float)
        null = np.linalg.qr(np.concatenate([null, inverse.null_vectors(indicators)], axis=1))[0]
    return null


def _certified(
    F: Any,
    norm: float,
    V: Float,
    next_values: Float,
    known_null: int,
    failure: str,
    description: str,
    n_iter: int,
) -> tuple[Float, Spectrum]:
    """Rayleigh-Ritz through F, signs, residuals, and the warning if something did not converge."""
    values, V = rayleigh_ritz(F, V - V.mean(axis=0))
    V *= np.where(V[np.abs(V).argmax(axis=0), range(V.shape[1])] < 0, -1.0, 1.0)
    residuals = residual_norms(F, V, values) / norm**2
    gap = float("nan")
    if len(next_values):
        last, following = float(values[-1]), float(next_values[0])
        is_null = following <= NULL_TOL * norm  # differences among null vectors are rounding
        gap = 0.0 if is_null else max(following - last, 0.0) / following
    found_null = 1 + int((np.append(values, next_values) <= NULL_TOL * norm).sum())
    n_null = max(known_null, found_null)
    if not failure and not (residuals <= RESIDUAL_TOL).all():
        failure = f"the residuals are above {RESIDUAL_TOL:.0e}"
    spectrum = Spectrum(values, residuals, gap, n_null, not failure, description, n_iter)
    if not np.isfinite(V).all():
        raise ValueError("the eigensolver returned values that are not finite; try another one")
    if failure:
        warn_user(
            f"The bottom vectors have not converged: {failure} (largest residual "
            f"{residuals.max():.1e}, gap to the next value {gap:.1e}). Try another n_neighbors, "
            "method='standard' (its factorisation loses least), eigen_solver='dense' (a few "
            "thousand points at most), or a larger max_iter or tol.",
            ConvergenceWarning,
        )
    return V, spectrum
