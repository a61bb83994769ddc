"""Closed classes of a neighbour graph that is on the GPU; the twin of :mod:`.graph`.

Nearly every graph has one closed class, and that takes two searches to see: from a point in it,
against the edges, which comes to all points, and along them, which comes to the class. A step of
both is one launch. Graphs with more classes, and long ones, are looked at on the host, where strong
components tell all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.cuda import cupy, kernel, register
from lle_gpu.cuda.geometry import thread_per_item
from lle_gpu.neighbors import graph
from lle_gpu.neighbors.graph import ClosedClasses

__all__ = ["SOURCE", "closed_classes"]

SOURCE = "closed_classes.cu"
KERNEL = "spread_both_ways"
register(SOURCE, [KERNEL])
# Steps between two looks at whether there was anything to do in the last one.
STEPS = 32
# The host takes half a microsecond a point (``graph`` in h200-2026-11-28.json), and a launch is
# counted as eight, which is an estimate: a search that takes more than one step for so many points
# is not worth its while.
POINTS_PER_STEP = 16


def closed_classes(index: Any) -> ClosedClasses:
    """Find the sets of points that reach one another and that no edge leaves.

    Parameters
    ----------
    index : cupy.ndarray of shape (n, k), int32, C-contiguous
        Row i holds the neighbours of point i.

    Returns
    -------
    ClosedClasses
        On the host, as from :func:`lle_gpu.neighbors.graph.closed_classes`.
    """
    cp = cupy()
    n = len(index)
    # Not bincount, which takes n numbers of device memory for each of hundreds of blocks.
    degree = cp.zeros(n, dtype=np.int32)
    cp.add.at(degree, index, 1)
    # Whom most points have for a neighbour is in a closed class, but for very odd graphs. If it is
    # not, no point of that class leads to it.
    reached = _only_class(index, int(degree.argmax()))
    if reached is None:
        return graph.closed_classes(index.get())
    inside = reached.get()
    return ClosedClasses(
        sizes=np.array([np.count_nonzero(inside)]),
        example_rows=np.array([inside.argmax()]),
        labels=np.where(inside, 0, -1),
        unreferenced=cp.flatnonzero(degree == 0).get(),
    )


def _only_class(index: Any, row: int) -> Any:
    """Which points (n,), bool, the class of ``row`` has; None if there may be another one."""
    cp = cupy()
    n, k = index.shape
    leads, reached = cp.zeros(n, dtype=np.int32), cp.zeros(n, dtype=np.int32)
    leads[row] = reached[row] = 1
    last = cp.zeros(1, dtype=np.int32)
    launch, spread = thread_per_item(n), kernel(SOURCE, KERNEL)
    for first in range(1, n // POINTS_PER_STEP - STEPS + 2, STEPS):
        for step in range(first, first + STEPS):
            spread.launch(launch, index, *map(np.int32, (n, k, step)), leads, reached, last)
        if int(last[0]) < step:
            return reached > 0 if bool(leads.all()) else None
    return None
