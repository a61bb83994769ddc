"""Shift-invert: Lanczos on an inverse of M, with F's null vectors kept out, and refinement."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda.arrays import array_module
from lle_gpu.progress import note
from lle_gpu.spectral.certificate import residual_norms
from lle_gpu.spectral.lanczos import lanczos, project
from lle_gpu.spectral.multiplicity import Found, further_copies, may_lack_copies
from lle_gpu.spectral.problem import LARGEST_BLOCK, RESIDUAL_TOL, Problem
from lle_gpu.spectral.refinement import FINEST, refine
from lle_gpu.spectral.spectrum import Solution
from lle_gpu.spectral.toolbox import Inverse

__all__ = ["iterate"]

Float = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
# ||F^T F v - sigma^2 v|| / ||F||^2 where a last step of inverse iteration could not improve
# anything.
POLISHED = 1e-14
# Largest accepted |theta sigma^2 - 1|, theta the eigenvalue of the inverse that was used and sigma
# measured through F. Beyond, the inverse is not that of M: its rounding is larger than sigma^2.
UNRESOLVED = 0.1
# Vectors whose theta is at least this part of the first are as right as that, but for three digits.
LEADING = 1e-3
# The most vectors beyond the wanted ones that are refined, to be sure that none is left out.
GUARDS = 12


def iterate(problem: Problem, inverse: Inverse) -> Solution:
    """Lanczos on the inverse, again with each null vector that it turns up kept out.

    An inverse of M is refined through F, with more vectors where M's rounding mixes their order.

    Parameters
    ----------
    problem : Problem
    inverse : Inverse
        Of a square F = B or of M, as ``problem.square`` says.

    Returns
    -------
    Solution
    """
    tools, F, q, tol = problem.tools, problem.F, problem.q, problem.tol
    norm, null_value = problem.norm, problem.null_value
    random = problem.normals()
    null = _known_null_vectors(problem, inverse)
    xp = array_module(null)
    description = f"shift-invert, {inverse.description}"
    n_iter = guards = 0
    aside = null[:, :0]
    while True:
        inverse.deflate(null)
        kept_out = xp.concatenate([null, aside], axis=1)
        n_wanted = max(q + 1 - kept_out.shape[1], 0)
        found = _bottom(problem, inverse, kept_out, n_wanted + guards, random)
        n_iter += found.n_steps
        values, vectors = found.values, found.vectors
        outshining = _outshining(found.theta, n_wanted, max(tol, FINEST)) if problem.square else 0
        if outshining and found.converged and values[0] > null_value:
            note(f"{outshining} vectors kept out, whose rounding hides the others")
            aside = xp.linalg.qr(xp.concatenate([aside, vectors[:, :outshining]], axis=1))[0]
            continue
        resolved = not (np.abs(found.theta * values**2 - 1)[:n_wanted] > UNRESOLVED).any()
        if not problem.square:
            shift = inverse.shift  # type: ignore[attr-defined]  # an inverse of M has one
            # Beside as many null vectors as are wanted the next value is all that is looked for.
            n_looked_for = max(n_wanted, 1)
            if values[0] > null_value and _hidden(values[: n_looked_for + 1], shift, tol):
                refined = refine(
                    tools,
                    F,
                    norm,
                    inverse.apply,
                    vectors,
                    found.theta,
                    shift=shift,
                    n_wanted=n_looked_for,
                    keep_out=null,
                    tol=tol,
                    residual_tol=POLISHED * norm**2,
                )
                n_iter += refined.n_steps
                values, vectors = refined.values, refined.vectors
                resolved = n_wanted == 0 or (refined.converged and refined.complete)
                room = guards < GUARDS and 3 * (n_wanted + guards + 1) < problem.n
                if not resolved and not refined.complete and found.converged and room:
                    guards = min(2 * guards + 4, GUARDS)
                    note(f"{guards} vectors more, since the rounding of M mixes them")
                    continue
            resolved = resolved and _null_error(problem, null, values) <= max(tol, FINEST)
        n_null = int((values <= null_value).sum())  # they ascend: the first ones
        if n_wanted == 0 or n_null == 0:
            V = xp.concatenate([kept_out[:, 1:], vectors[:, :n_wanted]], axis=1)
            failure = ""
            if not found.converged:
                failure = f"max_iter={problem.max_iter} restarts ({n_iter} steps) were not enough"
            elif not resolved:
                failure = (
                    f"the smallest singular value, {values[0]:.1e}, is so small that its square is "
                    "lost in the rounding of the matrix that was factored"
                )
            return Solution(V, values[n_wanted:], failure, n_iter, description)
        note(f"{n_null} more null vectors")
        null = xp.linalg.qr(xp.concatenate([null, vectors[:, :n_null]], axis=1))[0]
        null, aside = null[:, : q + 1], aside[:, :0]


def _bottom(problem: Problem, inverse: Inverse, kept_out: Float, count: int, random: Any) -> Found:
    """The ``count`` vectors of smallest sigma beside those that are kept out, and the next one.

    All copies of multiple values are looked for, and sigma is measured through F.
    """
    tools, F, norm = problem.tools, problem.F, problem.norm

    def polish(V: Float) -> tuple[Float, Float]:
        """One true application of the inverse, and Rayleigh-Ritz through F.

        It takes out what the iteration's own rounding has left at the upper end of the spectrum.
        """
        return tools.rayleigh_ritz(F, project(inverse.apply(V), kept_out))

    run = functools.partial(
        lanczos,
        inverse.apply,
        tol=problem.tol,
        residual_tol=0.1 * RESIDUAL_TOL * norm**2,
        max_restarts=problem.max_iter,
        accept=lambda V: bool((polish(V)[0] <= problem.null_value).all()),
    )
    width = min(count + 1, LARGEST_BLOCK)
    result = run(random.standard_normal((problem.n, width)), count, keep_out=kept_out)
    n_steps = result.n_steps
    if not bool(array_module(kept_out).isfinite(result.vectors).all()):
        raise ValueError(
            "the iteration on the inverse broke down (not a number). "
            "Try eigen_solver='dense', a larger reg or a larger n_neighbors."
        )
    values, vectors = tools.rayleigh_ritz(F, result.vectors)
    if (residual_norms(tools, F, vectors, values) > POLISHED * norm**2).any():
        values, vectors = polish(vectors)
        n_steps += 1
    found = Found(values, vectors, result.values, result.converged, n_steps)
    is_null = values[0] <= problem.null_value
    if not found.converged or is_null or not may_lack_copies(values, count, width):
        return found
    whole = further_copies(run, polish, random, kept_out, found)
    return replace(whole, n_steps=n_steps + whole.n_steps)


def _hidden(values: Float, shift: float, tol: float) -> bool:
    """Whether M's rounding, at most ``shift``, may turn the wanted vectors by a tenth of ``tol``.

    It turns them by no more than its size over the gap (Davis, Kahan) between the last wanted
    eigenvalue and the first one left out.
    """
    gap = float(values[-1] ** 2 - values[-2] ** 2) if len(values) > 1 else 0.0
    return shift > 0.1 * tol * gap


def _outshining(theta: Float, n_wanted: int, tol: float) -> int:
    """How many leading vectors hide the others, which the inverse of B turns by over ``tol`` / 10.

    The rounding in it is eps theta_1, which counts where sigma_1 is tiny and not null, as of a
    group of points that is tied weakly to the rest. These vectors are right themselves; once they
    are kept out, the others are.
    """
    leading = int((theta >= LEADING * theta[0]).sum())
    if leading >= n_wanted:
        return 0
    gap = float(theta[n_wanted - 1] - theta[n_wanted]) if len(theta) > n_wanted else 0.0
    return leading if EPS * float(theta[0]) > 0.1 * tol * gap else 0


def _null_error(problem: Problem, null: Float, values: Float) -> float:
    """Bound on the sine of the angle between null vectors and true ones: ||F v|| / sigma_next.

    0 for the constant, which is known, and among more null vectors than are wanted.
    """
    if null.shape[1] == 1 or values[0] <= problem.null_value:
        return 0.0
    return float(problem.tools.rayleigh_ritz(problem.F, null[:, 1:])[0].max() / values[0])


def _known_null_vectors(problem: Problem, inverse: Inverse) -> Float:
    """Orthonormal null vectors (n, c), c <= q + 1, known beforehand; the constant is the first.

    A square B has one for each closed class: 1 on the class, 0 on the other classes, and on the
    open points whatever B v = 0 makes of it.
    """
    classes = problem.classes
    null = problem.known_null_vectors()
    if problem.square and len(classes) > 1:
        xp = array_module(null)
        largest = min(len(classes) - 1, problem.q)
        indicators = (classes.labels[:, None] == np.arange(largest)).astype(float)
        vectors = inverse.null_vectors(  # type: ignore[attr-defined]  # an inverse of B has them
            problem.tools.asarray(indicators)
        )
        null = xp.linalg.qr(xp.concatenate([null, vectors], axis=1))[0]
    return null
