"""Choosing: how many neighbours, how much regularisation, how many coordinates.

===========================  =====================================================================
:func:`select_n_neighbors`   n_neighbors: embeds with several, judges each against the data
:func:`select_reg`           reg, in the same way
:func:`intrinsic_dimension`  n_components: the dimension of the manifold, from the data alone
===========================  =====================================================================

All see X alone: no labels, no true coordinates. Each returns a result with a table, a
recommendation, its reason and warnings. ``python -m benchmarks.selection`` measures how well they
do, and where they fail.

>>> from sklearn.datasets import make_swiss_roll
>>> from lle_gpu.selection import select_n_neighbors
>>> X, _ = make_swiss_roll(1000, random_state=0)
>>> choice = select_n_neighbors(X, method="ltsa", candidates=[6, 9, 12, 30])
>>> choice.recommended < 30
True
>>> choice.criterion
'distance_residual'
"""

from __future__ import annotations

from lle_gpu.selection.dimension import intrinsic_dimension
from lle_gpu.selection.parameters import select_n_neighbors, select_reg
from lle_gpu.selection.results import DimensionEstimate, NeighborSelection, RegSelection

__all__ = [
    "DimensionEstimate",
    "NeighborSelection",
    "RegSelection",
    "intrinsic_dimension",
    "select_n_neighbors",
    "select_reg",
]
