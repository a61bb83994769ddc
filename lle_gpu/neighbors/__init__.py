"""Stage 1: X (n, d) -> index (n, k), the exact k nearest *other* points.

The contract, whatever the source:

- neighbours are ordered by (distance, index), distances compared in float64;
- a training point is never its own neighbour, also among duplicates;
- the choice of algorithm never changes the result, with one exception: pynndescent's search is
  approximate. What it finds is ordered in the same way; it may miss some.

:class:`~lle_gpu.neighbors.cpu.NeighborSearch` is the CPU's, and has a twin of that name in
:mod:`lle_gpu.neighbors.gpu`; :mod:`lle_gpu.neighbors.graph` looks at the graph they make;
:mod:`lle_gpu.neighbors.precomputed` takes one that the user brings; :mod:`lle_gpu.neighbors.bridge`
and :mod:`lle_gpu.neighbors.largest` mend one that is in pieces.
"""

from __future__ import annotations

CPU_ALGORITHMS = ("brute", "kd_tree", "ball_tree")
# Libraries that have to be installed; they search on the CPU.
CPU_LIBRARIES = ("faiss", "pynndescent")
APPROXIMATE = ("pynndescent",)
GPU_ALGORITHMS = ("cupy", "cuml", "cuvs")
ALGORITHMS = ("auto", *CPU_ALGORITHMS, *CPU_LIBRARIES, *GPU_ALGORITHMS)
# Metrics that the GPU's searches know: the Euclidean one, by its names.
EUCLIDEAN = ("euclidean", "l2", "minkowski")

__all__ = [
    "ALGORITHMS",
    "APPROXIMATE",
    "CPU_ALGORITHMS",
    "CPU_LIBRARIES",
    "EUCLIDEAN",
    "GPU_ALGORITHMS",
]
