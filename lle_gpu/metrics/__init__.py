"""How good an embedding is: neighbourhoods kept, residuals to a reference, what carries it.

====================================  ===========================================================
:func:`scores`                        the four below in one pass
:func:`trustworthiness`               neighbours in Y that were far in X: what came in
:func:`continuity`                    neighbours in X that are far in Y: what was torn
:func:`neighborhood_preservation`     the share of each point's neighbours that are kept
:func:`local_continuity`              the same, less what chance would keep
:func:`co_ranking`                    ranks in both spaces, and all of these for k = 1, ..., K
:func:`affine_residual`               what no affine map of Y explains of a reference
:func:`procrustes_residual`           what no rotation, reflection and scaling of Y explains
:func:`effective_support`             how many points carry each coordinate
====================================  ===========================================================

They take every kind of data that the estimator takes, and work on the CPU. Neighbours are the
estimator's: exact, never the point itself, ordered by (distance, index), so that ties and
duplicates have one defined order, and the same data give the same number.
"""

from __future__ import annotations

from lle_gpu.metrics.neighborhoods import (
    CoRanking,
    Score,
    co_ranking,
    continuity,
    local_continuity,
    neighborhood_preservation,
    scores,
    trustworthiness,
)
from lle_gpu.metrics.residuals import affine_residual, effective_support, procrustes_residual

__all__ = [
    "CoRanking",
    "Score",
    "affine_residual",
    "co_ranking",
    "continuity",
    "effective_support",
    "local_continuity",
    "neighborhood_preservation",
    "procrustes_residual",
    "scores",
    "trustworthiness",
]
