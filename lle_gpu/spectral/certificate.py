"""What is known about the vectors at the end, computed through F, and the warning if it is bad."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from lle_gpu.cuda.arrays import array_module, to_host
from lle_gpu.exceptions import warn_user
from lle_gpu.spectral.problem import RESIDUAL_TOL, Problem
from lle_gpu.spectral.spectrum import Solution, Spectrum
from lle_gpu.spectral.toolbox import Toolbox

__all__ = ["certified", "residual_norms"]

Float = NDArray[np.float64]


def residual_norms(tools: Toolbox, F: Any, V: Float, values: Float) -> Float:
    """||F^T F v_j - sigma_j^2 v_j|| for each column of V (n, q)."""
    xp = array_module(V)
    R = tools.normal_product(F, V) - V * xp.asarray(values**2)
    return to_host(xp.linalg.norm(R, axis=0))


def certified(problem: Problem, solution: Solution) -> tuple[Float, Spectrum]:
    """Rayleigh-Ritz through F, signs, residuals, and the warning if something did not converge.

    Returns
    -------
    vectors : array of shape (n, q)
    spectrum : Spectrum
    """
    tools, F, norm = problem.tools, problem.F, problem.norm
    V, next_values, failure, n_iter, description = solution
    xp = array_module(V)
    values, V = tools.rayleigh_ritz(F, V - V.mean(axis=0))
    largest = V[xp.abs(V).argmax(axis=0), xp.arange(V.shape[1])]
    V *= xp.where(largest < 0, -1.0, 1.0)
    residuals = residual_norms(tools, F, V, values) / norm**2
    gap = float("nan")
    if len(next_values):
        last, following = float(values[-1]), float(next_values[0])
        # Differences among null vectors are rounding.
        gap = 0.0 if problem.is_null(following) else max(following - last, 0.0) / following
    found_null = 1 + int((np.append(values, next_values) <= problem.null_value).sum())
    n_null = max(problem.known_nullity, found_null)
    if not failure and not (residuals <= RESIDUAL_TOL).all():
        failure = f"the residuals are above {RESIDUAL_TOL:.0e}"
    spectrum = Spectrum(values, residuals, gap, n_null, not failure, description, n_iter)
    if not bool(xp.isfinite(V).all()):
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
