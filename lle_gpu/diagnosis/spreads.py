"""Whether some columns spread so much more widely than others that they decide alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.parallel import for_each_chunk

Float = NDArray[np.float64]
Index = NDArray[np.int64]

# Columns decide alone who is whose neighbour if they make up this share of the variance.
DECIDING = 0.9
# Least spread of these over the median of the others', from which units are suspected; and from
# which nothing else need be known.
SEVERAL, UNITS_APART = 3.0, 10.0
# Scaled columns that tell of one another leave neighbours nearer than if all but the deciding ones
# were shuffled: 0.5 to 0.81 of that distance for breast cancer, wine, and a swiss roll with one
# column stretched; 0.93 to 1.05 where the others are noise or thickness.
STRUCTURE, STRUCTURE_NEIGHBORS = 0.86, 5
# Zeros in so many rows of the median column make it counts or pixels, alike in unit.
COUNTS = 0.1
# A constant column's spread is rounding, as a share of its entries.
ROUNDING = 1e-12
# Principal components fall in spread and are uncorrelated: correlations up to so many times what
# chance gives, and the rank correlation of spread and place.
UNCORRELATED, SORTED, FEWEST_SORTED = 1.5, -0.95, 4
SEED = 0


@dataclass(frozen=True)
class Spreads:
    """Columns in order of spread, and whether those that spread most decide alone.

    Attributes
    ----------
    large, small : ndarray of int
        Columns that make up DECIDING of the variance, or stand above a step of UNITS_APART; and
        the others that vary.
    ratio : float
        Least spread of the large ones over the median of the others.
    step : float
        The same over the largest of the others.
    ignored : float
        Variance of the others within neighbourhoods, as a share of theirs: median.
    hides : bool
        Whether the large columns are few, and the others, scaled, show a structure with them.
    """

    large: Index
    small: Index
    ratio: float
    step: float
    ignored: float
    hides: bool


def compare_spreads(X: NDArray[Any], index: Index, groups: Index) -> Spreads | None:
    """Compare the columns' spreads; None where they are alike or have a meaning.

    The points are ``X[index[:, 0]]``, their neighbours follow; ``groups`` has each point's cluster.
    """
    values = X[index[:, 0]].astype(np.float64)
    largest = np.abs(values).max(axis=0)
    zeros = np.median((values == 0).mean(axis=0))
    # A column that tells clusters apart spreads widely, and is no wider than others in each.
    for group in np.unique(groups):
        values[groups == group] -= values[groups == group].mean(axis=0)
    spread = values.std(axis=0)
    varying = np.flatnonzero(spread > ROUNDING * largest)
    order = varying[np.argsort(-spread[varying])]
    if len(order) < 2:
        return None
    sorted_spread = spread[order]
    steps = sorted_spread[:-1] / sorted_spread[1:]
    shares = np.cumsum(sorted_spread**2) / (sorted_spread**2).sum()
    cut = int(np.searchsorted(shares, DECIDING)) + 1
    if (steps >= UNITS_APART).any():
        cut = int(steps.argmax()) + 1
    large, small = order[:cut], order[cut:]
    if len(small) == 0:
        return None
    ratio = float(spread[large[-1]] / np.median(spread[small]))
    if ratio < SEVERAL or _are_principal_components(values[:, varying]):
        return None
    within = np.empty((len(index), len(small)))

    def work(chunk: slice) -> None:
        within[chunk] = X[index[chunk]][:, :, small].var(axis=1, dtype=np.float64)

    for_each_chunk(work, len(index), bytes_per_row=16 * index.shape[1] * X.shape[1], quiet=True)
    return Spreads(
        np.sort(large),
        np.sort(small),
        ratio,
        float(steps[cut - 1]),
        float(np.median(within.mean(axis=0) / spread[small] ** 2)),
        len(large) <= max(2, len(order) // 2)
        and zeros < COUNTS
        and _structure(values[:, order] / spread[order], cut) < STRUCTURE,
    )


def _are_principal_components(values: Float) -> bool:
    """Whether columns (m, d) fall in spread and are uncorrelated: their spreads have a meaning."""
    m, d = values.shape
    if d < FEWEST_SORTED:
        return False
    place = np.argsort(np.argsort(values.std(axis=0)))
    if float(np.asarray(np.corrcoef(place, np.arange(d)))[0, 1]) > SORTED:
        return False
    correlations = np.asarray(np.corrcoef(values.T))
    apart = correlations[np.triu_indices(d, 1)]
    return bool(np.sqrt((apart**2).mean()) < UNCORRELATED / np.sqrt(m))


def _structure(Z: Float, cut: int) -> float:
    """Median distance to a near neighbour in Z (m, d), as a share of that with shuffled columns.

    Each column from ``cut`` on is shuffled by itself: near 1 if these are noise.
    """
    random = np.random.default_rng(SEED)
    shuffled = np.column_stack([Z[:, :cut], *map(random.permutation, Z[:, cut:].T)])
    count = min(STRUCTURE_NEIGHBORS, len(Z) - 1)
    near, far = (
        np.median(NeighborSearch(values, count).kneighbors()[0][:, -1]) for values in (Z, shuffled)
    )
    return float(near / far) if far > 0 else 1.0
