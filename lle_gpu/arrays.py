"""The boundary: what comes in becomes a float array that the stages can trust, or an error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.constraints import METHODS

__all__ = ["FLOAT_DTYPES", "check_range", "check_sizes", "check_values"]

# Others are converted to the first.
FLOAT_DTYPES = [np.float64, np.float32]
# Squares of differences, summed over features, must neither overflow nor vanish.
LARGEST, SMALLEST = 1e150, 1e-150


def check_sizes(
    shape: tuple[int, int], *, method: str, n_neighbors: int, n_components: int
) -> None:
    """Check the parameters against one another and against the data's shape.

    Raises
    ------
    ValueError
        With the parameter, its value, what is allowed and why.
    """
    n, d = shape
    if n_components > d:
        raise ValueError(
            f"n_components={n_components}: the output dimension must be less than or equal to the "
            f"input dimension, and X has {d} feature(s)"
        )
    if n_components >= n:
        raise ValueError(
            f"n_components={n_components} must be less than n_samples={n}: an embedding of n "
            "points has at most n - 1 coordinates beside the constant"
        )
    if n_neighbors >= n:
        raise ValueError(
            f"Expected n_neighbors < n_samples, but n_samples = {n}, n_neighbors = {n_neighbors} "
            "(a point is not its own neighbour)"
        )
    rule = METHODS[method]
    least = rule.least_neighbors(n_components)
    if n_neighbors < least:
        raise ValueError(
            f"n_neighbors={n_neighbors} is too small for method={method!r} with "
            f"n_components={n_components}: it needs at least {least} ({rule.why})"
        )


def check_values(X: NDArray[Any], *, solver: str) -> None:
    """Reject finite data that no embedding can be made of.

    Raises
    ------
    ValueError
        If all points are equal, or if squared distances would overflow or vanish in float64.
    """
    extent = float((X.max(axis=0).astype(float) - X.min(axis=0).astype(float)).max())
    if extent == 0:
        raise ValueError(
            f"Error in determining null-space with {solver.upper()}: all {len(X)} points of X are "
            "equal, so every function on them is as good as any other. Check how X was loaded or "
            "scaled."
        )
    if not SMALLEST < extent < LARGEST:
        raise ValueError(
            f"the largest range of a feature of X is {extent:.3g}: it must be between {SMALLEST:g} "
            f"and {LARGEST:g}, or squared distances leave float64. Rescale X (the embedding does "
            "not depend on its scale)."
        )


def check_range(X: NDArray[Any]) -> None:
    """Reject new points so far away that squared distances to them overflow.

    Raises
    ------
    ValueError
    """
    largest = float(np.abs(X).max())
    if largest >= LARGEST:
        raise ValueError(
            f"the largest entry of X is {largest:.3g} in size: it must be below {LARGEST:g}, or "
            "squared distances overflow. Check how X was scaled."
        )
