"""Nested dissection: an elimination order with little fill, and what a factorisation will take.

A separator is a set of nodes without which a graph falls into two halves. Eliminate the halves
first, each in the same way, and the separator last: no fill ever joins the halves. Graphs of
surfaces have separators of O(n^1/2) nodes, and their factors O(n log n) entries.

The pieces that are left are *cells*. All cells of a level are cut at once, in array operations:

    coordinates   distances in the graph from far-apart pivots, smoothed over the neighbours
    cut           across the cell's widest coordinate, where the fewest edges cross
    separator     the smallest set of nodes that touches every crossing edge: a minimum vertex
                  cover of a bipartite graph, from a maximum matching

The separators also tell the fill before anything is factored. When a separator of s nodes is
eliminated, its cell has b neighbours outside, and all s + b are coupled:

    nonzeros of L + U    sum of  s^2 + 2 s b
    flops                sum of  2/3 s^3 + 2 s^2 b + 2 s b^2

A. George: Nested dissection of a regular finite element mesh. SIAM J. Numer. Anal. 10:345 (1973).
R. J. Lipton, D. J. Rose, R. E. Tarjan: Generalized nested dissection. SIAM J. Numer. Anal. 16:346
(1979).
D. Harel, Y. Koren: Graph drawing by high-dimensional embedding. Graph Drawing 2002.
D. Koenig: Graphen und Matrizen. Matematikai es Fizikai Lapok 38:116 (1931).
G. Karypis, V. Kumar: A fast and high quality multilevel scheme for partitioning irregular graphs.
SIAM J. Sci. Comput. 20:359 (1998), which does the same by coarsening.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import (
    breadth_first_order,
    connected_components,
    maximum_bipartite_matching,
)

from lle_gpu.spectral.toolbox import FillEstimate

__all__ = [
    "Dissection",
    "Elimination",
    "choose_elimination",
    "dissect",
    "next_cells",
    "permuted",
]

Float = NDArray[np.float64]
Int = NDArray[np.integer]
Bool = NDArray[np.bool_]

# Pivots, and smoothing sweeps over their distances. Half as many cost a few percent of fill.
PIVOTS = 8
SWEEPS = 6
# Thresholds tried in a cell lie within this many standard deviations of the mean, so many bins.
REACH = 0.5
BINS = 24
# Cells of so few nodes are not cut any further.
LEAF = 8
# Coordinates that deviate no more from their mean, in parts of it, are equal.
SAME = 1e-6
# Nodes of a cell that mean and variance are taken from.
SAMPLE = 256
# Mean size of a search's levels from which nested dissection beats minimum degree.
WIDE = 400
# A surface has about n^1/2 levels (rolls: 0.6 to 1.2 times that). So many times that, or fewer, are
# no surface's; among so few points as this it does not matter.
FLAT, FEW_POINTS = 0.25, 3000
# Nonzeros of L + U by minimum degree on narrow graphs, per entry of A and doubling of n: 0.45 on
# surfaces, B and M alike, and up to 0.6 on ltsa's M (docs/ordering.md).
NARROW_FILL = 0.55
# Bin of the nodes that belong to a separator or a leaf already.
DONE = -1
# SuperLU's memory at its peak, per entry of L + U: 12 bytes, and what its arrays grow too far.
BYTES_PER_NONZERO = 13.0


@dataclass(frozen=True)
class Elimination:
    """How a matrix will be factored.

    Attributes
    ----------
    order : ndarray of shape (n,), or None
        Of a nested dissection; None leaves it to minimum degree.
    estimate : FillEstimate
    """

    order: Int | None
    estimate: FillEstimate


@dataclass(frozen=True)
class Dissection:
    """A nested dissection of n nodes.

    Attributes
    ----------
    order : ndarray of shape (n,)
        The nodes, in the order of elimination.
    cells : ndarray of shape (m, 4)
        ``start, left, right, separator`` of each cell that was cut: from ``start`` on, ``order``
        holds the left half, the right half, and the separator, of these sizes. Parents come first.
    fronts : ndarray of shape (f, 2)
        ``s, b`` of each separator and of each leaf.
    """

    order: Int
    cells: Int
    fronts: Float

    def estimate(self) -> FillEstimate:
        """Fill, memory and work of the factorisation in this order."""
        s, b = self.fronts.T
        nonzeros = float((s * (s + 2 * b)).sum())
        flops = float((s * (2 / 3 * s * s + 2 * b * (s + b))).sum())
        return FillEstimate(nonzeros, BYTES_PER_NONZERO * nonzeros, flops)


def choose_elimination(
    A: csr_array, otherwise: Callable[[csr_array], FillEstimate] | None = None
) -> Elimination:
    """The order to eliminate in, and what that will take.

    Where separators are small, as on a surface of up to a hundred thousand points, minimum degree,
    which SuperLU finds by itself, leaves as little fill and takes less time. How large they are is
    told by the levels of a breadth-first search, each of which is a separator. There the estimate
    is that of a surface; such graphs are cheap to factor in any case.

    Parameters
    ----------
    A : csr_array of shape (n, n), n >= 1
        Only its pattern counts.
    otherwise : callable, optional
        Estimates in place of a dissection, for who has no use for its order.
    """
    n = A.shape[0]
    start = breadth_first_order(A, 0, return_predecessors=False)[-1]
    order, parent = breadth_first_order(A, int(start))
    levels = len(_level_sizes(order, parent))
    if len(order) >= WIDE * levels or (n >= FEW_POINTS and levels <= FLAT * n**0.5):
        if otherwise is not None:
            return Elimination(None, otherwise(A))
        dissection = dissect(A)
        return Elimination(dissection.order, dissection.estimate())
    nonzeros = min(NARROW_FILL * A.nnz * np.log2(n + 1), float(n) * n)
    return Elimination(
        None, FillEstimate(nonzeros, BYTES_PER_NONZERO * nonzeros, 2 * nonzeros**2 / n)
    )


def permuted(A: csr_array, order: Int) -> csr_array:
    """A[order][:, order]; the columns of a row are not sorted."""
    rank = np.empty(len(order), dtype=A.indices.dtype)
    rank[order] = np.arange(len(order), dtype=rank.dtype)
    rows = A[order]
    return csr_array((rows.data, rank[rows.indices], rows.indptr), shape=A.shape)


def dissect(pattern: csr_array) -> Dissection:
    """Nested dissection of the graph of A + A^T.

    Parameters
    ----------
    pattern : csr_array of shape (n, n), n >= 1
        A; only its pattern counts.

    Returns
    -------
    Dissection
    """
    n = pattern.shape[0]
    # Float64 is what SciPy's graph algorithms copy everything else to, at every call.
    ones = csr_array((np.ones(pattern.nnz), pattern.indices, pattern.indptr), shape=pattern.shape)
    graph, renumbered, first_depths = _by_depth((ones + ones.T).tocsr())
    coordinates = _coordinates(graph, first_depths)
    tail, head = _edges(graph)
    del ones, graph

    order = np.arange(n)
    bins = np.zeros(n, dtype=np.int8)
    cell_of = np.zeros(n, dtype=np.int32)
    # The cells of this level: where in ``order`` they start, their sizes, their neighbours outside.
    start, size, outside = np.array([0]), np.array([n]), np.array([0.0])
    nodes = order.copy()  # of the cells, cell by cell
    cut_cells, fronts = [], []
    n_loops = 0
    while len(size):
        m = len(size)
        cell = np.repeat(np.arange(m), size)
        cell_of[nodes] = cell
        bins[nodes] = node_bins = _bins(coordinates, nodes, cell, size)

        # Only edges between two bins can cross. Those that end in a separator or a leaf are over:
        # they become loops, and are dropped now and then.
        between = np.flatnonzero(bins[tail] != bins[head])
        i, j = tail[between], head[between]
        is_open = (bins[i] != DONE) & (bins[j] != DONE)
        head[between[~is_open]] = i[~is_open]
        n_loops += len(between) - int(np.count_nonzero(is_open))
        if n_loops > len(tail) // 8:
            is_edge = tail != head
            tail, head, n_loops = tail[is_edge], head[is_edge], 0
        i, j = i[is_open], j[is_open]

        threshold = _thresholds(node_bins, cell, size, bins[i], bins[j], cell_of[i])
        limit = threshold[cell_of[i]]
        i_above, j_above = bins[i] > limit, bins[j] > limit
        up, down = ~i_above & j_above, i_above & ~j_above
        in_separator = np.zeros(n, dtype=bool)
        in_separator[
            _vertex_cover(np.concatenate([i[up], j[down]]), np.concatenate([j[up], i[down]]))
        ] = True

        # Into ``order``: the left half, the right half, the separator.
        part = np.where(in_separator[nodes], 2, node_bins > threshold[cell])
        sort = np.argsort(3 * cell + part, kind="stable")
        nodes, cell, part = nodes[sort], cell[sort], part[sort]
        order[np.repeat(start - (np.cumsum(size) - size), size) + np.arange(len(nodes))] = nodes
        parts = np.bincount(3 * cell + part, minlength=3 * m).reshape(m, 3)
        cut_cells.append(np.column_stack([start, parts]))
        fronts.append(np.column_stack([parts[:, 2], outside]))
        start, size, outside, go_on, leaves = next_cells(start, size, outside, parts)
        fronts.append(leaves)
        keep = np.column_stack([go_on, np.zeros(m, dtype=bool)])[cell, part]
        bins[nodes[~keep]] = DONE
        nodes = nodes[keep]
    return Dissection(renumbered[order], np.concatenate(cut_cells), np.concatenate(fronts))


def next_cells(
    start: Int, size: Int, outside: Float, parts: Int
) -> tuple[Int, Int, Float, Bool, Float]:
    """The halves of cells that have been cut, as the next cells, or as leaves.

    Each half has the separator and its share of the cell's own neighbours outside; all of them, if
    the other half has no nodes.

    Parameters
    ----------
    start, size, outside : ndarrays of shape (m,)
        Of each cell: where it begins in the order, its nodes, its neighbours outside.
    parts : ndarray of shape (m, 3)
        Nodes of the left half, the right half, and the separator.

    Returns
    -------
    start, size, outside : ndarrays
        Of the halves that are cut further, cell by cell.
    go_on : ndarray of shape (m, 2), bool
        Which these are.
    leaves : ndarray of shape (l, 2)
        ``size, outside`` of the others that have nodes.
    """
    halves = parts[:, :2]
    share = np.where((halves == 0).any(axis=1)[:, None], halves > 0, halves / size[:, None])
    outside = outside[:, None] * share + parts[:, 2:]
    go_on = (halves > LEAF) & (halves < size[:, None])
    left_over = ~go_on & (halves > 0)
    leaves = np.column_stack([halves[left_over], outside[left_over]])
    start = np.column_stack([start, start + halves[:, 0]])[go_on]
    return start, halves[go_on], outside[go_on], go_on, leaves


def _bins(coordinates: NDArray[np.float32], nodes: Int, cell: Int, size: Int) -> NDArray[np.int8]:
    """Bin, 0 to BINS + 1, of each node along its cell's widest coordinate."""
    m = len(size)
    start = np.cumsum(size) - size
    sampled = len(nodes) >= 2 * SAMPLE * m
    if sampled:
        pick = nodes[start[:, None] + np.arange(SAMPLE) * size[:, None] // SAMPLE]
    mean, variance, widest = np.zeros(m), np.full(m, -1.0), np.zeros(m, dtype=np.int64)
    for j, coordinate in enumerate(coordinates):
        if sampled:
            x = coordinate[pick]
            mu, var = x.mean(axis=1), x.var(axis=1)
        else:
            x = coordinate[nodes]
            mu = np.add.reduceat(x, start) / size
            x -= mu[cell]
            var = np.add.reduceat(x * x, start) / size
        wider = var > variance
        mean[wider], variance[wider], widest[wider] = mu[wider], var[wider], j
    is_flat = variance <= (SAME * np.maximum(1.0, np.abs(mean))) ** 2
    scale = BINS / (2 * REACH * np.sqrt(np.where(is_flat, 1.0, variance)))
    x = (coordinates[widest[cell], nodes] - mean[cell]) * scale[cell]
    if is_flat.any():
        # Of equal coordinates, the first half of the nodes and the second.
        is_second = np.arange(len(nodes)) - start[cell] >= size[cell] // 2
        x = np.where(is_flat[cell], np.where(is_second, 0.0, -1.0), x)
    return np.clip(x + (1 + BINS / 2), 0, BINS + 1).astype(np.int8)


def _thresholds(bins: Int, cell: Int, size: Int, i: Int, j: Int, edge_cell: Int) -> Int:
    """The bin after which each cell is cut best: few edges cross, and neither half is small.

    The nodes are in ``bins`` of ``cell``, the edges' ends in bins ``i``, ``j`` of ``edge_cell``.
    Minimises crossing edges / (nodes of the smaller half)^1/2: along a straight strip all cuts
    have as many edges, and the middle one is the best.
    """
    m, width = len(size), BINS + 2

    def count(of_cell: Int, which: Int) -> Int:
        counts = np.bincount(of_cell * width + which, minlength=m * width)
        return counts.reshape(m, width).cumsum(axis=1)

    edge_cell = edge_cell.astype(np.int64)
    # An edge from bin i to bin j > i crosses the thresholds i, ..., j - 1.
    crossing = count(edge_cell, np.minimum(i, j)) - count(edge_cell, np.maximum(i, j))
    below = count(cell, bins)
    smaller = np.minimum(below, size[:, None] - below)
    cost = np.where(smaller > 0, (crossing + 0.5) / np.sqrt(np.maximum(smaller, 1)), np.inf)
    return cost.argmin(axis=1)


def _vertex_cover(left_ends: Int, right_ends: Int) -> Int:
    """Smallest set of nodes that touches every edge of a bipartite graph.

    By Koenig's theorem: from the left nodes that a maximum matching leaves free, walk along any
    edge to the right and along the matching's edges back. The cover is what is not reached on the
    left and what is reached on the right; it is as large as the matching.
    """
    if len(left_ends) == 0:
        return left_ends
    left, i = np.unique(left_ends, return_inverse=True)
    right, j = np.unique(right_ends, return_inverse=True)
    a, b = len(left), len(right)
    graph = csr_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(a, b))
    partner = maximum_bipartite_matching(graph, perm_type="column")
    free, matched = np.flatnonzero(partner < 0), np.flatnonzero(partner >= 0)
    # One more node, a + b, leads to all free ones.
    tails = np.concatenate([i, a + partner[matched], np.full(len(free), a + b)])
    heads = np.concatenate([a + j, matched, free])
    walks = csr_array((np.ones(len(tails)), (tails, heads)), shape=(a + b + 1, a + b + 1))
    reached = np.zeros(a + b + 1, dtype=bool)
    reached[breadth_first_order(walks, a + b, return_predecessors=False)] = True
    return np.concatenate([left[~reached[:a]], right[reached[a : a + b]]])


def _by_depth(graph: csr_array) -> tuple[csr_array, Int, NDArray[np.float32]]:
    """The graph renumbered by the distance from one of its ends, the new order, the distances.

    Neighbours then lie close in memory: each further search is ten times as fast as the first.
    Components are linked to a chain by one edge each.
    """
    n = graph.shape[0]
    reached = breadth_first_order(graph, 0, return_predecessors=False)
    if len(reached) < n:
        n_components, label = connected_components(graph)
        _, one = np.unique(label, return_index=True)
        links = csr_array((np.ones(n_components - 1), (one[:-1], one[1:])), shape=graph.shape)
        graph = (graph + links + links.T).tocsr()
        reached = breadth_first_order(graph, 0, return_predecessors=False)
    depth, order = _depths(graph, int(reached[-1]))
    return permuted(graph, order), order, depth[order]


def _depths(graph: csr_array, start: int) -> tuple[NDArray[np.float32], Int]:
    """Distances in edges from a node to all others, and the nodes in that order."""
    n = graph.shape[0]
    order, parent = breadth_first_order(graph, start)
    depth = np.empty(n, dtype=np.float32)
    sizes = _level_sizes(order, parent)
    depth[order] = np.repeat(np.arange(len(sizes), dtype=np.float32), sizes)
    return depth, order


def _level_sizes(order: Int, parent: Int) -> Int:
    """Numbers of nodes at distance 0, 1, ... from the start of a breadth-first search."""
    # Nodes stand in the order of their parents, so a level ends where the children of the last
    # node of the level before end.
    parent[order[0]] = order[0]
    children = np.bincount(parent[order], minlength=len(parent))[order]
    end_of_children = np.cumsum(children)
    ends = [0, 1]
    while ends[-1] < len(order):
        ends.append(end_of_children.item(ends[-1] - 1))
    return np.diff(ends)


def _coordinates(graph: csr_array, first: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances (PIVOTS, n) from pivots, each farthest from those before, smoothed."""
    depths = [first]
    nearest = first
    while len(depths) < PIVOTS:
        depths.append(_depths(graph, int(nearest.argmax()))[0])
        nearest = np.minimum(nearest, depths[-1])
    # Whole numbers make ragged cuts; the mean over the neighbours, a few times, makes smooth ones.
    ones = csr_array(
        (np.ones(graph.nnz, dtype=np.float32), graph.indices, graph.indptr), shape=graph.shape
    )
    degree = np.maximum(np.diff(graph.indptr), 1).astype(np.float32)
    x = np.ascontiguousarray(np.array(depths).T)
    for _ in range(SWEEPS):
        x = ones @ x
        x /= degree[:, None]
    return np.ascontiguousarray(x.T)


def _edges(graph: csr_array) -> tuple[Int, Int]:
    """Each edge once: its ends."""
    tail = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    forward = tail < graph.indices
    return tail[forward], graph.indices[forward].astype(np.int64)
