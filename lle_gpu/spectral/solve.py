"""The bottom of F's spectrum: the choice of solver, the ways out of failures, the certificate."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.constraints import Constraints
from lle_gpu.cuda.memory import is_out_of_memory
from lle_gpu.neighbors.graph import ClosedClasses
from lle_gpu.parallel import one_blas_thread
from lle_gpu.progress import note, stage
from lle_gpu.spectral.certificate import certified
from lle_gpu.spectral.chebyshev import chebyshev_bottom_vectors
from lle_gpu.spectral.choice import Plan, choose
from lle_gpu.spectral.davidson import davidson_bottom_vectors
from lle_gpu.spectral.inverse_iteration import iterate
from lle_gpu.spectral.problem import RESIDUAL_TOL, Problem
from lle_gpu.spectral.refinement import FINEST
from lle_gpu.spectral.spectrum import Solution, Spectrum
from lle_gpu.spectral.toolbox import Toolbox

__all__ = ["bottom_vectors"]

Float = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
# Up to here "auto" answers a failure with the dense solver, which takes a second or two.
DENSE_RESCUE_POINTS = 1000
# Restarts of Davidson's method where another solver can take its place.
TRIED_RESTARTS = 12


def bottom_vectors(
    tools: Toolbox,
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
    tools : Toolbox
        Of the device that the constraints are on.
    constraints : Constraints
    n_components : int
        q, less than n.
    square : bool
        Whether F is a square B = I - W (one row a point).
    classes : ClosedClasses
        Of the neighbour graph; each closed class of a square F is a null vector.
    solver : {"auto", "dense", "shift-invert", "arpack", "davidson", "chebyshev"}
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
    vectors : array of shape (n, q), orthonormal, signs fixed; on the constraints' device.
    spectrum : Spectrum

    Warns
    -----
    ConvergenceWarning
        If the vectors are not known to be right to ``tol``.
    """
    with stage("assembly"):
        F = tools.stack(constraints)
        norm = tools.norm_estimate(F)
    if norm == 0:
        raise ValueError(
            "no neighbourhood gives a constraint: the neighbours of every point are too degenerate "
            "(duplicated rows, or points on a line) for this method. Remove duplicates, raise "
            "n_neighbors, or use method='standard'."
        )
    problem = Problem(
        tools=tools,
        F=F,
        norm=norm,
        constraints=constraints,
        square=square,
        classes=classes,
        q=n_components,
        tol=tol,
        max_iter=max_iter,
        random_state=random_state,
        n_jobs=n_jobs,
        memory_limit=memory_limit,
    )
    plan_for = functools.partial(
        choose,
        solver,
        problem.n,
        n_components,
        memory_limit=memory_limit,
        shift_invert=problem.cost_of_shift_invert,
        chebyshev=problem.cost_of_chebyshev,
        cheap=tools.speeds().cheap,
        held=problem.held,
        standard=square,
    )
    with stage("choice"):
        plan = plan_for(davidson=problem.cost_of_davidson)
    if plan.solver == "davidson":
        run = _davidson if solver == "davidson" else _try_davidson
        solution = run(problem, plan)
        if solution.failure and solver == "auto":
            note(f"solver: davidson was given up, since {solution.failure}")
            with stage("choice"):
                plan = plan_for(davidson=None)
            reason = f"{plan.reason} (Davidson's method was given up, since {solution.failure})"
            del solution
            solution = _follow(problem, replace(plan, reason=reason), auto=True)
    else:
        solution = _follow(problem, plan, solver == "auto")
    with stage("certificate"):
        return certified(problem, solution)


def _follow(problem: Problem, plan: Plan, auto: bool) -> Solution:
    """Follow the plan; go over to the other solver, or the dense one, where it fails.

    A square sigma^2 that is lost in rounding is lost to shift-invert and the filter alike: only the
    dense solver is tried then. Everything else the other solver may well be able to do.
    """
    solvers = {"shift-invert": _shift_invert, "chebyshev": _chebyshev, "dense": _dense}

    def run(name: str, reason: str) -> Solution:
        note(f"solver: {name} ({reason})")
        solution = solvers[name](problem)
        failure = solution.failure
        if name == "dense" or problem.square:  # else the refinement through F has seen to it
            tol = problem.tol if name == "dense" else max(problem.tol, FINEST)
            failure = failure or _turned_by_rounding(problem, solution, tol)
        description = f"{solution.description}, {reason}"
        return solution._replace(failure=failure, description=description)

    solution, broken = None, ""
    try:
        solution = run(plan.solver, plan.reason)
    except Exception as error:
        if not plan.other or not (isinstance(error, ValueError) or is_out_of_memory(error)):
            raise
        broken = str(error)
    if solution is None:
        # Outside the except clause: the error's traceback held the factors.
        return run(plan.other, f"since {plan.solver} failed: {broken}")
    if not solution.failure or not auto or plan.solver == "dense":
        return solution
    if problem.n <= DENSE_RESCUE_POINTS:
        return run("dense", f"since {plan.solver} failed: {solution.failure}")
    if plan.solver == "chebyshev" and plan.other:
        second = run(plan.other, f"since {plan.solver} failed: {solution.failure}")
        return solution if second.failure else second
    return solution


def _shift_invert(problem: Problem) -> Solution:
    """Factor B or M, and iterate on the inverse."""
    with one_blas_thread():
        with stage("factor"):
            inverse = problem.inverse()
            note(inverse.description)
        with stage("lanczos"):
            return iterate(problem, inverse)


def _try_davidson(problem: Problem, plan: Plan) -> Solution:
    """The same, where another solver can take its place: an error is a failure like others."""
    try:
        return _davidson(problem, plan)
    except Exception as error:
        if not (isinstance(error, ValueError) or is_out_of_memory(error)):
            raise
        return Solution(np.empty((0, 0)), np.empty(0), str(error).partition(".")[0], 0, "")


def _davidson(problem: Problem, plan: Plan) -> Solution:
    """Davidson's method, as long as it is worth it, for a square F with one closed class."""
    tools, tried = problem.tools, plan.worth < float("inf")
    if not problem.square:
        raise ValueError(
            "eigen_solver='davidson' is for method='standard', whose F is square. Use "
            "eigen_solver='auto', 'shift-invert' or 'chebyshev'."
        )
    if len(problem.classes) > 1:
        raise ValueError(
            f"eigen_solver='davidson' needs a neighbour graph with one closed class, and this one "
            f"has {len(problem.classes)}. Use disconnected='bridge' or 'largest', a larger "
            "n_neighbors, or eigen_solver='auto'."
        )
    note(f"solver: davidson ({plan.reason})")
    problem.__dict__.pop("analysis", None)
    with (
        stage("davidson"),
        one_blas_thread(),
        tools.square_products(problem.F, problem.n_jobs) as B,
    ):
        solution = davidson_bottom_vectors(
            B,
            problem.known_null_vectors(),
            problem.q,
            random=problem.normals(),
            norm=problem.norm,
            tol=problem.tol,
            residual_tol=0.1 * RESIDUAL_TOL * problem.norm**2,
            null_value=problem.null_value,
            max_iter=min(problem.max_iter, TRIED_RESTARTS) if tried else problem.max_iter,
            basis_bytes=problem.davidson_basis_bytes,
            allowed=plan.worth / tools.speeds().product,
        )
    tol = max(problem.tol, FINEST)
    return solution._replace(
        failure=solution.failure or _turned_by_rounding(problem, solution, tol),
        description=f"{solution.description}, {plan.reason}",
    )


def _chebyshev(problem: Problem) -> Solution:
    """Iterate on a polynomial in M; the classes' indicators are near to a square F's null vectors.

    Where F is not square, only those of points in no constraint are known beforehand.
    """
    tools, q = problem.tools, problem.q
    problem.drop_what_is_factored()
    n_hints = min(len(problem.classes) - 1, q) if problem.square else 0
    hints = (problem.classes.labels[:, None] == np.arange(n_hints)).astype(float)
    with stage("filter"), one_blas_thread(), problem.products() as M:
        return chebyshev_bottom_vectors(
            M,
            lambda V: tools.rayleigh_ritz(problem.F, V),
            problem.known_null_vectors(),
            q,
            hints=tools.asarray(hints),
            random=problem.normals(),
            tol=problem.tol,
            residual_tol=0.1 * RESIDUAL_TOL * problem.norm**2,
            null_value=problem.null_value,
            max_iter=problem.max_iter,
            basis_bytes=problem.basis_bytes,
        )


def _dense(problem: Problem) -> Solution:
    """All of them, and the bottom ones taken."""
    with stage("dense", problem.F.shape[0]):
        V, next_values = problem.tools.dense(problem.F, problem.norm, problem.q)
    return Solution(V, next_values, "", 0, "dense SVD of F")


def _turned_by_rounding(problem: Problem, solution: Solution, tol: float) -> str:
    """Say so, if the rounding of F turns the vectors by more than ``tol``, whoever found them.

    By eps ||F|| over the gap behind them. Where that is no gap, within a multiple value or among
    null vectors, any will do.
    """
    next_values = solution.next_values
    if len(next_values) == 0 or problem.is_null(next_values[0]):
        return ""
    following = float(next_values[0])
    gap = following - float(problem.tools.rayleigh_ritz(problem.F, solution.vectors)[0][-1])
    error = EPS * problem.norm / gap if gap > 0 else float("inf")
    if error <= tol or gap <= tol * following:
        return ""
    return (
        f"the next singular value, {following:.1e}, is so near that rounding, "
        f"{EPS * problem.norm:.1e}, turns the vectors by {error:.0e}"
    )
