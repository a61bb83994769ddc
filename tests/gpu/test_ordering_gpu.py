"""Nested dissection on the device: each step beside plain NumPy, the whole beside the CPU's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import shortest_path
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from lle_gpu.constraints import Constraints, cpu
from lle_gpu.constraints.cpu.assemble import gram as host_gram
from lle_gpu.cuda.compiler import source_text
from lle_gpu.datasets import load
from lle_gpu.spectral.cpu import ordering as on_cpu
from lle_gpu.spectral.gpu import cudss, ordering
from lle_gpu.spectral.gpu.sparse import Csr, Rows

from .fake_nvmath import check_order


@pytest.fixture(autouse=True)
def few_threads(monkeypatch):
    """Each takes several entries of the queue, one after the other; and emulates faster."""
    monkeypatch.setattr(ordering, "MOST_ENTRIES", 64)


def neighbors(X, k=10):
    """Each point itself and its k nearest others."""
    return cKDTree(X).query(X, k + 1)[1].astype(np.int32)


def rows_of(cp, index):
    """The device's B of these index sets, all ones."""
    ones = np.ones((len(index), 1, index.shape[1]))
    return Rows(Constraints(cp.asarray(index), cp.asarray(ones)))


def pattern(index):
    n, m = index.shape
    return csr_array((np.ones(n * m), index.ravel(), np.arange(0, n * m + 1, m)), shape=(n, n))


def cloud(n, d, seed=0):
    return np.random.default_rng(seed).random((n, d))


def roll(n):
    return load("swiss-roll", n, random_state=0).X


def as_csr(cp, A):
    A = csr_array(A)
    indices = A.indices.astype(np.int32)
    return Csr(*map(cp.asarray, (A.data, indices, A.indptr.astype(np.int64))), A.shape)


def path(n):
    i = np.arange(n - 1)
    A = coo_array((np.ones(n - 1), (i, i + 1)), shape=(n, n))
    return csr_array(A + A.T)


class TestSteps:
    def test_the_graph_has_each_edge_at_both_ends(self, gpu):
        index = neighbors(cloud(50, 2), 4)
        first, found = (gpu.to_numpy(part) for part in ordering._graph(rows_of(gpu.cupy, index)))
        A = pattern(index)
        for i in range(50):
            of_i = found[first[i] : first[i + 1]]
            assert_array_equal(of_i[:5], index[i])
            assert sorted(of_i[5:]) == sorted(A[:, [i]].nonzero()[0])

    @pytest.mark.parametrize("data", ["cloud", "hub", "path"])
    def test_distances(self, gpu, data):
        cp = gpu.cupy
        if data == "path":
            A = path(150)
            graph = ordering._graph(as_csr(cp, A))
        else:
            index = neighbors(cloud(120, 2), 5)
            if data == "hub":
                index[:, 1] = 0
            A, graph = pattern(index), ordering._graph(rows_of(cp, index))
        n = A.shape[0]
        depth = gpu.to_numpy(ordering._depths(*graph)).reshape(n, ordering.PIVOTS)
        pivots = depth.argmin(axis=0)
        assert (depth[pivots, np.arange(ordering.PIVOTS)] == 0).all()
        exact = shortest_path(A, directed=False, unweighted=True, indices=pivots).T
        assert_array_equal(depth, exact)

    def test_they_are_smoothed(self, gpu):
        cp = gpu.cupy
        index = neighbors(cloud(60, 2), 4)
        graph = ordering._graph(rows_of(cp, index))
        depth = ordering._depths(*graph)
        A = pattern(index)
        A = (A + A.T).toarray()
        mean = np.linalg.matrix_power(A / A.sum(axis=1)[:, None], on_cpu.SWEEPS)
        expected = mean @ gpu.to_numpy(depth).reshape(60, -1)
        assert_allclose(gpu.to_numpy(ordering._smoothed(depth, *graph)), expected, rtol=1e-5)

    @pytest.mark.parametrize("sizes", [[400], [1, 300, 7, 40, 2]], ids=["one", "many"])
    def test_bins_and_thresholds(self, gpu, sizes):
        """The widest coordinate of each cell, the bins along it, and the best cut between two."""
        cp, size = gpu.cupy, np.array(sizes)
        n, m = 450, len(size)
        rng = np.random.default_rng(1)
        x = rng.normal(size=(n, ordering.PIVOTS)).astype(np.float32)
        x *= 1 + np.arange(ordering.PIVOTS, dtype=np.float32)[::-1]
        index = rng.integers(n, size=(n, 6)).astype(np.int32)
        nodes = rng.permutation(n)[: size.sum()].astype(np.int32)
        cell = np.repeat(np.arange(m), size).astype(np.int32)
        label = cp.full(n, -1, dtype=np.int32)
        graph = ordering._graph(rows_of(cp, index))
        given = cp.asarray(x), cp.asarray(nodes), cp.asarray(cell)
        limit = gpu.to_numpy(ordering._limits(graph, *given, size, label))
        label = gpu.to_numpy(label)

        cell_of = np.full(n, -1)
        cell_of[nodes] = cell
        assert_array_equal(label >= 0, cell_of >= 0)
        assert_array_equal(label[nodes] // ordering.SLOTS, cell)
        bins = label % ordering.SLOTS
        edges = pattern(index)
        i, j = (edges + edges.T).nonzero()
        once = (i < j) & (cell_of[i] == cell_of[j]) & (cell_of[i] >= 0)
        weight = np.asarray((edges + edges.T)[i[once], j[once]]).ravel()
        i, j = i[once], j[once]
        for c in range(m):
            of_c = nodes[cell == c]
            samples = min(len(of_c), on_cpu.SAMPLE)
            sample = of_c[np.arange(samples) * (len(of_c) // samples)]
            widest = x[sample].astype(float).var(axis=0).argmax()
            mean, deviation = x[sample, widest].mean(), max(x[sample, widest].std(), 1e-6)
            width = 2 * on_cpu.REACH * deviation / on_cpu.BINS
            place = np.clip((x[of_c, widest] - mean) / width + 13, 0, on_cpu.BINS + 1)
            near = np.minimum(place % 1, 1 - place % 1) < 1e-3  # rounding decides
            assert_array_equal(bins[of_c][~near], place.astype(int)[~near])
            mine = cell_of[i] == c
            costs = np.full(on_cpu.BINS + 2, np.inf)
            for b in range(on_cpu.BINS + 2):
                crossing = weight[mine & ((bins[i] <= b) != (bins[j] <= b))].sum()
                smaller = min((bins[of_c] <= b).sum(), (bins[of_c] > b).sum())
                if smaller:
                    costs[b] = (crossing + 0.5) / smaller**0.5
            chosen = costs[limit[c] % ordering.SLOTS]
            assert limit[c] // ordering.SLOTS == c
            assert chosen == np.inf == costs.min() or chosen <= costs.min() * (1 + 1e-6)

    def test_of_equal_coordinates_half_the_nodes_are_cut_off(self, gpu):
        cp, n = gpu.cupy, 90
        graph = ordering._graph(rows_of(cp, neighbors(cloud(n, 2), 4)))
        x = cp.asarray(np.full((n, ordering.PIVOTS), 7.3, np.float32))
        size = np.array([60, 30])
        cell = np.repeat([0, 1], size).astype(np.int32)
        nodes, label = cp.arange(n, dtype=np.int32), cp.full(n, -1, dtype=np.int32)
        limit = ordering._limits(graph, x, nodes, cp.asarray(cell), size, label)
        above = gpu.to_numpy(label) > gpu.to_numpy(limit)[cell]
        assert_array_equal(above, np.r_[np.arange(60) >= 30, np.arange(30) >= 15])

    @pytest.mark.parametrize("k", [1, 4, 12])
    def test_the_cover_touches_every_crossing_edge(self, gpu, k):
        cp, n, m = gpu.cupy, 300, 4
        rng = np.random.default_rng(k)
        index = rng.integers(n, size=(n, k)).astype(np.int32)
        cell = rng.integers(-1, m, size=n)
        bins = rng.integers(26, size=n)
        label = np.where(cell < 0, -1, cell * ordering.SLOTS + bins).astype(np.int32)
        limit = (np.arange(m) * ordering.SLOTS + 12).astype(np.int32)
        nodes = np.flatnonzero(cell >= 0).astype(np.int32)
        covered = cp.zeros(n, dtype=np.int8)
        graph = ordering._graph(rows_of(cp, index))
        degree = cp.zeros(n, dtype=np.int32)
        given = cp.asarray(nodes), cp.asarray(label), cp.asarray(limit)
        ordering._cover(graph, *given, degree, covered)
        covered = gpu.to_numpy(covered) != 0

        i, j = pattern(index).nonzero()
        crossing = (cell[i] == cell[j]) & (cell[i] >= 0) & ((bins[i] > 12) != (bins[j] > 12))
        i, j = i[crossing], j[crossing]
        assert len(i) > 15
        assert (covered[i] | covered[j]).all()
        assert not covered[cell < 0].any()
        above = bins[i] > 12
        least = on_cpu._vertex_cover(np.where(above, i, j), np.where(above, j, i))
        assert len(least) <= covered.sum() <= 1.1 * len(least)


GRAPHS = {
    "roll": lambda n: neighbors(roll(n)),
    "cube": lambda n: neighbors(cloud(n, 3)),
    "curve": lambda n: neighbors(np.sort(cloud(n, 1), axis=0)),
    "duplicates": lambda n: neighbors(np.repeat(cloud(n // 3, 2), 3, axis=0), 14),
    "few": lambda n: neighbors(cloud(12, 2), 3),
    "one": lambda n: np.zeros((1, 1), dtype=np.int32),
    "random": lambda n: np.random.default_rng(0).integers(n, size=(n, 6)).astype(np.int32),
}


class TestDissection:
    @pytest.mark.parametrize("graph", list(GRAPHS))
    def test_separators_separate(self, gpu, graph):
        """In every cell, down to the smallest; and so does what of them cuDSS is given."""
        index = GRAPHS[graph](300)
        n = len(index)
        found = ordering.dissect(rows_of(gpu.cupy, index))
        rank = np.empty(n, dtype=int)
        rank[found.order] = np.arange(n)
        ends = np.sort([rank[end] for end in pattern(index).nonzero()], axis=0)
        assert sorted(found.order) == list(range(n))
        assert_array_equal(found.cells[0], [0, *found.cells[0, 1:]])
        for start, left, right, separator in found.cells:
            middle, stop = start + left, start + left + right
            low, high = ends
            across = (start <= low) & (low < middle) & (middle <= high) & (high < stop)
            assert not across.any()
            # Nobody is in it for an edge that leads out of the cell.
            inside = ((start <= ends) & (ends < stop + separator)).all(axis=0)
            touched = np.unique(ends[:, inside & (low != high)])
            assert separator == np.count_nonzero((stop <= touched) & (touched < stop + separator))
        order = cudss.Order.of(found)
        assert (order is None) == (graph == "one")
        if order is not None:
            assert order.tree.dtype == order.permutation.dtype == np.int32
            assert order.tree[: (len(order.tree) + 1) // 2].min() > 0
            check_order(pattern(index), order.permutation, order.tree)

    @pytest.mark.parametrize("graph", ["roll", "cube", "curve", "random"])
    def test_fill_and_what_is_said_of_it(self, gpu_once, graph):
        """As little as the CPU's dissection leaves, and SuperLU finds what was predicted."""
        index = GRAPHS[graph](1200)
        A = pattern(index)
        found, other = ordering.dissect(rows_of(gpu_once.cupy, index)), on_cpu.dissect(A)
        there = other.estimate()
        assert found.estimate().nonzeros == pytest.approx(there.nonzeros, rel=0.15)
        assert found.estimate().flops == pytest.approx(there.flops, rel=0.25)
        fills = []
        for order in (found.order, other.order):
            dominant = on_cpu.permuted(A, order) + 100 * csr_array(np.eye(len(order)))
            lu = splu(dominant.tocsc(), permc_spec="NATURAL", options={"SymmetricMode": True})
            fills.append(lu.nnz)
        assert fills[0] <= 1.15 * fills[1]

    def test_of_m(self, gpu):
        X = roll(300)
        constraints = cpu.ltsa(X, neighbors(X)[:, 1:], 2)
        M = csr_array(host_gram(constraints))
        found = ordering.dissect(as_csr(gpu.cupy, M))
        order = cudss.Order.of(found)
        check_order(M, order.permutation, order.tree)
        there = on_cpu.dissect(M).estimate()
        assert found.estimate().nonzeros == pytest.approx(there.nonzeros, rel=0.15)

    def test_in_every_schedule_the_same(self, stand_in):
        """Queues are filled in another order; what comes out is not."""
        index = GRAPHS["roll"](400)
        orders = []
        for seed in (0, 1, 12345):
            stand_in.machine.seed = seed
            orders.append(ordering.dissect(rows_of(stand_in.cupy, index)).order)
        assert_array_equal(orders[0], orders[1])
        assert_array_equal(orders[0], orders[2])

    @pytest.mark.parametrize("data", ["two halves", "many pieces", "loners", "star", "clique"])
    def test_graphs_that_fall_apart_and_dense_ones(self, gpu, data):
        """The order is good, and what is said of its fill is no guess at the densest."""
        n = 240
        if data == "two halves":
            A = pattern(neighbors(np.concatenate([cloud(120, 2), cloud(120, 2) + 100]), 6))
        elif data == "many pieces":
            A = pattern(np.arange(n, dtype=np.int32).reshape(-1, 4).repeat(4, axis=0))
        elif data == "loners":
            A = path(n).tolil()
            A[40:] = 0
            A = csr_array(A)
        elif data == "star":
            A = csr_array((np.ones(n - 1), (np.zeros(n - 1, int), np.arange(1, n))), shape=(n, n))
        else:
            A = csr_array(np.ones((n, n)))
        A = csr_array(A + A.T)
        found = ordering.dissect(as_csr(gpu.cupy, A))
        order = cudss.Order.of(found)
        if data in ("star", "clique"):  # whose first separator has one whole half
            assert order is None
        else:
            check_order(A, order.permutation, order.tree)
        lu = splu(
            (on_cpu.permuted(A, found.order) + 2 * n * csr_array(np.eye(n))).tocsc(),
            permc_spec="NATURAL",
            options={"SymmetricMode": True},
        )
        for estimate in (found.estimate(), on_cpu.dissect(A).estimate()):
            assert lu.nnz / 3 <= estimate.nonzeros <= 3 * lu.nnz + 8 * n

    def test_pieces_are_far_from_each_other(self, gpu):
        """As the search has them: every pivot tells any two apart, as long as they are few."""
        cp = gpu.cupy
        X = np.concatenate([cloud(40, 2) + 100 * piece for piece in range(3)])
        depth = gpu.to_numpy(ordering._depths(*ordering._graph(rows_of(cp, neighbors(X, 6)))))
        depth = depth.reshape(3, 40, ordering.PIVOTS)
        ends = np.sort(np.stack([depth.min(axis=1), depth.max(axis=1)]), axis=0)
        for p in range(ordering.PIVOTS):
            low, high = ends[:, np.argsort(ends[0, :, p]), p]
            assert (high[:-1] < low[1:]).all()

    def test_nor_of_what_is_too_long(self, gpu, monkeypatch):
        A = path(150)
        assert ordering.dissect(as_csr(gpu.cupy, A)) is not None
        monkeypatch.setattr(ordering, "MOST_STEPS", 64)
        assert ordering.dissect(as_csr(gpu.cupy, A)) is None

    def test_nor_of_what_int32_does_not_number(self, gpu, monkeypatch):
        rows = rows_of(gpu.cupy, neighbors(cloud(100, 2)))
        monkeypatch.setattr(ordering, "LARGEST_INDEX", 1599)
        assert ordering.dissect(rows) is None
        monkeypatch.setattr(ordering, "LARGEST_INDEX", 1600)
        assert ordering.dissect(rows) is not None

    def test_several_rows_a_point_are_no_graph(self, gpu):
        cp = gpu.cupy
        index = cp.asarray(neighbors(cloud(30, 2)))
        F = Rows(Constraints(index, cp.asarray(np.ones((30, 2, 11)))))
        with pytest.raises(ValueError, match="r=2 rows a point"):
            ordering.dissect(F)


def test_the_sources_numbers_are_pythons():
    text = source_text(ordering.SOURCE)
    for name in ("PIVOTS", "LANES", "SLOTS"):
        assert f"constexpr int {name} = {getattr(ordering, name)};" in text
    assert f"constexpr float SAME = {on_cpu.SAME:.0e}".replace("e-06", "e-6f") in text
    assert on_cpu.BINS + 2 <= ordering.SLOTS
