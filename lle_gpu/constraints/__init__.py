"""Stage 2: neighbourhoods -> linear constraints on the embedding, the one idea behind all methods.

Every method of the family says, for each point i, which linear combinations of the embedding's
values on a few points should vanish: a small index set (m points) and r rows of m coefficients.

========  ===================  ====================  ============================================
method    index set            rows (at most)        a row is
========  ===================  ====================  ============================================
standard  the point, k others  1                     e_i - w_i, w_i the barycentric weights
modified  the point, k others  k (rank s_i)          one of s_i weight vectors, rotated
hessian   k neighbours         d(d+1)/2              an estimate of a second derivative
ltsa      k neighbours         k (rank k-d-1)        what no affine function of the local tangent
                                                     coordinates can explain
========  ===================  ====================  ============================================

Stacked, the rows are a sparse matrix F with F 1 = 0, and the embedding minimises ||F Y||_F^2 over
Y^T Y = I, Y^T 1 = 0. The papers' matrix is M = F^T F. What follows this stage knows no method.

Each method is a function of its name in :mod:`lle_gpu.constraints.cpu` and in
:mod:`lle_gpu.constraints.gpu`, one file a method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["METHODS", "Constraints", "Method"]


@dataclass(frozen=True)
class Constraints:
    """For each of n points, r linear constraints on the values at m points.

    Attributes
    ----------
    index : ndarray of shape (n, m), int32 or int64
        Which points each constraint ties together.
    rows : ndarray of shape (n, r, m), float64
        The coefficients. A row of zeros is no constraint. Each row sums to zero.
    """

    index: NDArray[np.integer]
    rows: NDArray[np.float64]

    @property
    def n_points(self) -> int:
        """n, the number of points, which is also the number of columns of F."""
        return int(self.index.shape[0])


@dataclass(frozen=True)
class Method:
    """What a method needs, before any data are touched.

    Attributes
    ----------
    least_neighbors : callable
        n_components -> the smallest n_neighbors that gives at least one constraint.
    why : str
        The inequality behind it, for the error message.
    square : bool
        One row a point, so that F is a square matrix B = I - W.
    includes_point : bool
        Whether the index set has the point itself. Where it has not, a point that is nobody's
        neighbour is in no constraint: its unit vector is a null vector of F.
    """

    least_neighbors: Callable[[int], int]
    why: str
    square: bool
    includes_point: bool


METHODS: dict[str, Method] = {
    "standard": Method(
        least_neighbors=lambda d: 1,
        why="n_neighbors >= 1",
        square=True,
        includes_point=True,
    ),
    "modified": Method(
        least_neighbors=lambda d: d + 1,
        why="n_neighbors > n_components",
        square=False,
        includes_point=True,
    ),
    "hessian": Method(
        least_neighbors=lambda d: d * (d + 3) // 2 + 1,
        why="n_neighbors must be greater than [n_components * (n_components + 3) / 2]",
        square=False,
        includes_point=False,
    ),
    "ltsa": Method(
        least_neighbors=lambda d: d + 2,
        why="n_neighbors > n_components + 1",
        square=False,
        includes_point=False,
    ),
}
