"""Multiple eigenvalues: whether there are more copies than the iteration could see, and which.

A Krylov space from b random vectors holds b copies of each eigenvalue, however many there are:
what M does to two vectors of one eigenspace is the same. (Rounding brings the others in, but only
after a while.) A grid, a torus or a cube's corners have eigenvalues of any multiplicity, and the
first copy that is left out may be a wanted vector, or the next value, by which the gap is measured.

So where b of the wanted values are equal, the iteration is run again from a fresh block, with what
was found kept out: at first for one value, loosely, which costs a few steps. Only if that one is no
larger than the last wanted one are there copies to look for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda.arrays import array_module
from lle_gpu.progress import note
from lle_gpu.spectral.lanczos import LanczosResult

__all__ = ["Found", "further_copies", "may_lack_copies"]

Float = NDArray[np.float64]
# Values of sigma that differ by less, relatively, may be those of one eigenvalue.
ALIKE = 0.01
# How far above the last wanted value the first one of a fresh run must lie to be beyond it: it is
# known to 3 % (lanczos.NEXT_VALUE_TOL).
BEYOND = 0.1
# A value must be smaller than the last wanted one by more, relatively, to take its place.
SMALLER = 1e-6
# Width of the fresh block.
WIDTH = 8


@dataclass(frozen=True)
class Found:
    """The n_wanted vectors of smallest sigma, and the next one.

    Attributes
    ----------
    values : ndarray of shape (n_wanted + 1,), ascending
        sigma.
    vectors : ndarray of shape (n, n_wanted + 1)
    theta : ndarray of shape (n_wanted + 1,), descending
        The iteration's values.
    converged : bool
    n_steps, n_restarts : int
        Of the search.
    """

    values: Float
    vectors: Float
    theta: Float
    converged: bool = True
    n_steps: int = 0
    n_restarts: int = 0


def may_lack_copies(values: Float, n_wanted: int, width: int) -> bool:
    """Whether as many wanted values are equal as there were random vectors to start from."""
    runs = max(n_wanted - width + 1, 0)  # of ``width`` wanted values each
    return bool((values[width - 1 : width - 1 + runs] <= (1 + ALIKE) * values[:runs]).any())


def further_copies(
    run: Callable[..., LanczosResult],
    rayleigh_ritz: Callable[[Float], tuple[Float, Float]],
    random: Any,
    keep_out: Float,
    found: Found,
) -> Found:
    """Look for vectors that the iteration has left out, and put them in their place.

    Parameters
    ----------
    run : callable
        (start block, n_wanted, keep_out=) -> what :func:`lle_gpu.spectral.lanczos.lanczos` finds.
    rayleigh_ritz : callable
        V (n, p) -> (sigma ascending, vectors), the best within V's span.
    random : Generator or RandomState of the device's array module
    keep_out : ndarray of shape (n, c)
        Orthonormal null vectors.
    found : Found

    Returns
    -------
    Found
    """
    xp = array_module(keep_out)
    n_wanted = len(found.theta) - 1
    values, theta = found.values[:n_wanted], found.theta[:n_wanted]
    vectors, next_vector = found.vectors[:, :n_wanted], found.vectors[:, n_wanted:]
    next_value, next_theta = found.values[n_wanted], found.theta[n_wanted]
    count = n_steps = n_restarts = 0
    while True:
        more = run(
            random.standard_normal((len(vectors), WIDTH)),
            count,
            keep_out=xp.concatenate([keep_out, vectors], axis=1),
        )
        n_steps, n_restarts = n_steps + more.n_steps, n_restarts + more.n_restarts
        more_values, more_vectors = rayleigh_ritz(more.vectors)
        limit = 1 + BEYOND if count == 0 else 1 - SMALLER
        if not more.converged or more_values[0] >= limit * values[-1]:
            break
        if count:
            note(f"{int((more_values < values[-1]).sum())} more copies of a multiple eigenvalue")
            both = xp.concatenate([vectors, more_vectors[:, :count]], axis=1)
            all_values, all_vectors = rayleigh_ritz(both)
            all_theta = np.sort(np.append(theta, more.values[:count]))[::-1]
            values, vectors, theta = (
                all_values[:n_wanted],
                all_vectors[:, :n_wanted],
                all_theta[:n_wanted],
            )
            next_value, next_theta = all_values[n_wanted], all_theta[n_wanted]
            next_vector = all_vectors[:, n_wanted : n_wanted + 1]
        count = min(2 * count + 1, WIDTH - 1)
    if more_values[0] < next_value:
        next_value, next_theta = more_values[0], more.values[0]
        next_vector = more_vectors[:, :1]
    return Found(
        np.append(values, next_value),
        xp.concatenate([vectors, next_vector], axis=1),
        np.append(theta, next_theta),
        more.converged,
        n_steps,
        n_restarts,
    )
