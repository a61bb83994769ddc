"""Nested dissection on the GPU; see :mod:`lle_gpu.spectral.cpu.ordering`, whose twin this is.

The graph never leaves the device: what takes the host seconds for a million points, and cuDSS's
own search longer still, takes a few thousand launches here. What is done differently, since a
device does other things well:

    pivots      16 random nodes, searched from at once, instead of 8 far-apart ones in turn: each
                step of the search is a launch, and there are as many as the graph is wide
    separator   a vertex cover by rounds of local maxima, instead of a least one from a matching

The fill is the same within a few percent. A graph in pieces is searched again, from nodes that the
last search has not reached; those that are left after SEARCHES of them, in small pieces, have one
coordinate. There is no dissection (None) of a graph that is longer than MOST_STEPS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.cuda import cupy, kernel, register
from lle_gpu.cuda.geometry import (
    LARGEST_INDEX,
    Geometry,
    lanes_per_item,
    thread_per_item,
    warp_per_item,
)
from lle_gpu.spectral.cpu.ordering import (
    BINS,
    REACH,
    SAMPLE,
    SWEEPS,
    Dissection,
    next_cells,
)
from lle_gpu.spectral.gpu.sparse import Csr, Rows

__all__ = ["SOURCE", "dissect"]

SOURCE = "dissection.cu"
register(
    SOURCE,
    [
        "spread",
        "choose_coordinate",
        "sort_into_bins",
        "count_crossing",
        "choose_threshold",
        "open_degrees",
        "join_cover",
    ],
)

# As in the source: pivots, threads for a node's neighbours, labels of a cell.
PIVOTS, LANES, SLOTS = 16, 8, 32
FAR = np.iinfo(np.int32).max
SEED = 0
# Steps of the search between two looks at whether it has ended, and the most of them.
STEPS, MOST_STEPS = 32, 1 << 15
# Searches, in graphs of several pieces.
SEARCHES = 8
# Entries that a step of the search has threads for: more of them are taken in turn.
MOST_ENTRIES = 1 << 15
# Rounds of the cover between two looks at which nodes still have open edges.
ROUNDS = 4


def dissect(A: Rows | Csr) -> Dissection | None:
    """Nested dissection of the graph of a square F and its transpose, or of M.

    Parameters
    ----------
    A : Rows of one row a point, or a symmetric Csr
        Only its pattern counts.

    Returns
    -------
    Dissection or None
        On the host. None if there is none.
    """
    cp = cupy()
    n = A.shape[1]
    if n * PIVOTS > LARGEST_INDEX:
        return None
    graph = _graph(A)
    depth = _depths(*graph)
    if depth is None:
        return None
    x = _smoothed(depth, *graph)
    del depth

    order = cp.empty(n, dtype=np.int32)
    label = cp.full(n, -1, dtype=np.int32)
    degree = cp.zeros(n, dtype=np.int32)
    covered = cp.zeros(n, dtype=np.int8)
    # The nodes of this level's cells, cell by cell: where in ``order`` they will stand, whose they
    # are; and on the host the cells, their sizes, their neighbours outside.
    nodes = slots = cp.arange(n, dtype=np.int32)
    cell = cp.zeros(n, dtype=np.int32)
    start, size, outside = np.array([0]), np.array([n]), np.array([0.0])
    cut_cells, fronts = [], []
    while len(size):
        m = len(size)
        limit = _limits(graph, x, nodes, cell, size, label)
        _cover(graph, nodes, label, limit, degree, covered)

        # Into ``order``: the left half, the right half, the separator.
        part = cp.maximum(2 * covered[nodes], label[nodes] > limit[cell])
        key = (3 * cell + part).astype(np.int32)
        sort = cp.argsort(key)  # CuPy's is stable
        key, nodes = key[sort], nodes[sort]
        order[slots] = nodes
        ends = cp.searchsorted(key, cp.arange(3 * m + 1, dtype=np.int32)).get()
        parts = np.diff(ends).reshape(m, 3)
        cut_cells.append(np.column_stack([start, parts]))
        fronts.append(np.column_stack([parts[:, 2], outside]))
        start, size, outside, go_on, leaves = next_cells(start, size, outside, parts)
        fronts.append(leaves)
        renumbered = np.full((m, 3), -1, dtype=np.int32)
        renumbered[:, :2][go_on] = np.arange(np.count_nonzero(go_on))
        cell = cp.asarray(renumbered.ravel())[key]
        label[nodes[cell < 0]] = -1
        keep = cp.flatnonzero(cell >= 0)
        nodes, slots, cell = nodes[keep], slots[keep], cell[keep]
    return Dissection(order.get(), np.concatenate(cut_cells), np.concatenate(fronts))


def _graph(A: Rows | Csr) -> tuple[Any, Any]:
    """Where each node's neighbours begin, (n + 1,) int64, and the neighbours, int32."""
    if isinstance(A, Csr):
        return A.first, A.columns
    if A.r != 1:
        raise ValueError(f"r={A.r} rows a point: only a square F is a graph of its points")
    cp = cupy()
    n, m = A.n, A.m
    into, entries, _ = A.by_column  # entries i m + a by the point that they lead to
    before = into + cp.arange(0, n * m + 1, m)
    neighbors = cp.empty(2 * n * m, dtype=np.int32)
    neighbors[before[:-1, None] + cp.arange(m)] = A.index
    # Behind them those that have this one for a neighbour.
    node = A.index.ravel()[entries].astype(np.int64)
    neighbors[cp.arange(n * m) + (node + 1) * m] = entries // m
    return before, neighbors


def _depths(first: Any, neighbors: Any) -> Any:
    """Distances in edges (n, PIVOTS), int32, from random nodes; None if they are too long.

    In a piece of the graph that a pivot's search does not reach, it is gone on with from another
    node, as if that were one step farther than all before: pieces are far from each other.
    """
    cp = cupy()
    n = len(first) - 1
    random = np.random.default_rng(SEED)
    pivots = cp.asarray(random.integers(n, size=PIVOTS).astype(np.int32))
    entries = pivots * PIVOTS + cp.arange(PIVOTS, dtype=np.int32)
    depth = cp.full(n * PIVOTS, FAR, dtype=np.int32)
    queue = cp.empty(n * PIVOTS, dtype=np.int32)
    # Of each level: where in the queue it begins, and how many entries it has.
    begin = cp.zeros(MOST_STEPS + 1, dtype=np.int32)
    found = cp.zeros_like(begin)
    step = kernel(SOURCE, "spread")
    geometry = _lanes_per(min(n * PIVOTS, MOST_ENTRIES))
    level = 0
    for _ in range(SEARCHES):
        n_found = int(begin[level])
        depth[entries] = level
        queue[n_found : n_found + len(entries)] = entries
        found[level] = len(entries)
        while int(found[level]):
            if level + STEPS > MOST_STEPS:
                return None
            for _ in range(STEPS):
                step.launch(geometry, first, neighbors, np.int32(level), depth, queue, begin, found)
                level += 1
        if int(begin[level]) == n * PIVOTS:
            break
        entries = _unreached(depth.reshape(n, PIVOTS), random)
    return cp.minimum(depth, level)


def _unreached(depth: Any, random: np.random.Generator) -> Any:
    """For each pivot a random one of the nodes (n, PIVOTS) that it has not reached: entries."""
    cp = cupy()
    n = len(depth)
    numbers = cp.arange(PIVOTS, dtype=np.int32)
    drawn = cp.asarray(random.permutation(n).astype(np.int32))[:, None]
    lots = cp.where(depth == FAR, (drawn + numbers * (n // PIVOTS)) % n, -1)
    drawn = lots.argmax(axis=0)
    return (drawn * PIVOTS + numbers)[lots.max(axis=0) >= 0].astype(np.int32)


def _smoothed(depth: Any, first: Any, neighbors: Any) -> Any:
    """The distances, each replaced by the mean of its neighbours' a few times: (n, PIVOTS).

    Whole numbers make ragged cuts.
    """
    cp = cupy()
    n = len(first) - 1
    degree = cp.maximum(first[1:] - first[:-1], 1).astype(np.float32)[:, None]
    adjacency = Csr(cp.ones(neighbors.size, dtype=np.float32), neighbors, first, (n, n))
    x = depth.reshape(n, PIVOTS).astype(np.float32)
    for _ in range(SWEEPS):
        x = adjacency.multiply(x)
        x /= degree
    return x


def _limits(graph: tuple[Any, Any], x: Any, nodes: Any, cell: Any, size: Any, label: Any) -> Any:
    """Find where the cells are cut.

    Parameters
    ----------
    graph : (first, neighbors)
    x : array of shape (n, PIVOTS), float32
    nodes, cell : arrays, int32
        The cells' nodes, cell by cell, and the cell of each.
    size : ndarray of shape (m,)
        The cells' sizes.
    label : array of shape (n,), int32
        Is written: cell and bin of each of the nodes.

    Returns
    -------
    array of shape (m,), int32
        The last label of each cell's left half.
    """
    cp = cupy()
    m, n = len(size), np.int32(len(nodes))
    start = cp.asarray((np.cumsum(size) - size).astype(np.int32))
    sizes = cp.asarray(size.astype(np.int32))
    widest = cp.empty(m, dtype=np.int32)
    low, scale = cp.empty(m, dtype=np.float32), cp.empty(m, dtype=np.float32)
    cells = x, nodes, start, sizes, np.int32(m), np.int32(SAMPLE), np.float32(BINS / (2 * REACH))
    _launch("choose_coordinate", warp_per_item(m), *cells, widest, low, scale)
    inside = cp.zeros(m * SLOTS, dtype=np.int32)
    crossing = cp.zeros(m * SLOTS, dtype=np.int32)
    bins = np.int32(BINS)
    by_node = thread_per_item(len(nodes))
    drawn = cell, start, sizes, widest, low, scale, n, bins
    _launch("sort_into_bins", by_node, x, nodes, *drawn, label, inside)
    _launch("count_crossing", _lanes_per(len(nodes)), *graph, nodes, label, n, crossing)
    limit = cp.empty(m, dtype=np.int32)
    counts = inside, crossing, sizes, np.int32(m), bins
    _launch("choose_threshold", thread_per_item(m), *counts, limit)
    return limit


def _cover(
    graph: tuple[Any, Any], nodes: Any, label: Any, limit: Any, degree: Any, covered: Any
) -> None:
    """Mark a set of nodes that touches every edge across a limit, in ``covered``.

    ``nodes``, ``label`` and ``limit`` are those of :func:`_limits`. ``degree`` (n,), int32, and
    ``covered`` (n,), int8, are zero for all of the nodes.
    """
    cp = cupy()
    rounds = 1  # first find out who has such edges at all
    while len(nodes):
        geometry, n = _lanes_per(len(nodes)), np.int32(len(nodes))
        for _ in range(rounds):
            _launch("open_degrees", geometry, *graph, nodes, label, limit, covered, n, degree)
            _launch("join_cover", geometry, *graph, nodes, label, limit, degree, n, covered)
        # The latest of the cover among them, whose degrees the next round sets to zero.
        nodes = nodes[cp.flatnonzero(degree[nodes] > 0)]
        rounds = ROUNDS


def _lanes_per(n: int) -> Geometry:
    return lanes_per_item(n, LANES, threads=256)


def _launch(name: str, geometry: Geometry, *arguments: Any) -> None:
    kernel(SOURCE, name).launch(geometry, *arguments)
