"""Stage 1: X (n, d) -> index (n, k), the exact k nearest *other* points.

The contract, whatever the source:

- neighbours are ordered by (distance, index), distances compared in float64;
- a training point is never its own neighbour, also among duplicates;
- the choice of algorithm never changes the result.

:class:`~lle_gpu.neighbors.cpu.NeighborSearch` is the CPU's; :mod:`lle_gpu.neighbors.graph` looks
at the graph they make; :mod:`lle_gpu.neighbors.bridge` and :mod:`lle_gpu.neighbors.largest` mend
one that is in pieces.
"""

from __future__ import annotations

CPU_ALGORITHMS = ("brute", "kd_tree", "ball_tree")
GPU_ALGORITHMS = ("cupy", "cuml", "cuvs")
ALGORITHMS = ("auto", *CPU_ALGORITHMS, *GPU_ALGORITHMS)
# Metrics that the GPU's searches know: the Euclidean one, by its names.
EUCLIDEAN = ("euclidean", "l2", "minkowski")

__all__ = ["ALGORITHMS", "CPU_ALGORITHMS", "EUCLIDEAN", "GPU_ALGORITHMS"]
