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

ALGORITHMS = ("auto", "brute", "kd_tree", "ball_tree")

__all__ = ["ALGORITHMS"]
