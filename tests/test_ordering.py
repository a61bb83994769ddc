"""Nested dissection: separators, fill, its prediction, and what is solved with it."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from conftest import make_manifold
from scipy.sparse import csc_array, csr_array, diags_array, eye_array, kron, random_array
from scipy.sparse.linalg import splu
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

# The benchmarks are not installed: they run from the repository.
from benchmarks import orders
from lle_gpu.constraints import cpu
from lle_gpu.constraints.cpu.assemble import gram, stack
from lle_gpu.spectral.cpu import ordering
from lle_gpu.spectral.cpu.factorisation import Factorisation
from lle_gpu.spectral.cpu.ordering import (
    Elimination,
    choose_elimination,
    dissect,
    permuted,
)
from lle_gpu.spectral.cpu.pardiso import find_mkl


def neighbors(X, k):
    return NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)


def square(X, k):
    """B of the standard method."""
    return stack(cpu.standard(X, neighbors(X, k).astype(np.int32), 2))


def grid(*shape):
    """The lattice's Laplacian plus the identity."""
    A = csr_array((1, 1))
    for size in shape:
        path = diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(size, size))
        A = kron(A, eye_array(size)) + kron(eye_array(A.shape[0]), path)
    return csr_array(A + eye_array(A.shape[0]))


def cube(n, d, k):
    return square(np.random.default_rng(0).random((n, d)), k)


def blobs(*sizes):
    """One clique of each size."""
    label = np.repeat(np.arange(len(sizes)), sizes)
    return csr_array((label[:, None] == label).astype(float) + 10 * np.eye(len(label)))


GRAPHS = {
    "two-nodes": lambda: csr_array(np.array([[2.0, -1.0], [-1.0, 2.0]])),
    "no-edges": lambda: csr_array(eye_array(50)),
    "no-entries": lambda: csr_array((20, 20)),
    "clique": lambda: blobs(120),
    "cliques": lambda: blobs(1, 40, 3, 1, 25, 1),
    "path": lambda: grid(800),
    "star": lambda: csr_array(
        10 * eye_array(80)
        + csr_array((np.ones(79), (np.zeros(79, int), np.arange(1, 80))), shape=(80, 80))
    ),
    "grid": lambda: grid(40, 60),
    "two-grids": lambda: csr_array(kron(eye_array(2), grid(20, 20))),
    "roll": lambda: square(make_manifold("swiss-roll", 2000), 12),
    "cube": lambda: cube(1500, 5, 14),
    "one-way": lambda: csr_array(
        5 * eye_array(200) + random_array((200, 200), density=0.02, rng=np.random.default_rng(1))
    ),
}


@pytest.fixture(params=GRAPHS, ids=list(GRAPHS))
def graph(request):
    return GRAPHS[request.param]()


def superlu_fill(A, order):
    """Nonzeros of L + U: in the given order, or in SuperLU's own."""
    if order is not None:
        A = permuted(A, order)
    lu = splu(
        csc_array(A.T),
        permc_spec="MMD_AT_PLUS_A" if order is None else "NATURAL",
        diag_pivot_thresh=0.1,
        options={"SymmetricMode": True},
    )
    return lu.nnz


class TestDissection:
    def test_the_order_is_a_permutation(self, graph):
        n = graph.shape[0]
        np.testing.assert_array_equal(np.sort(dissect(graph).order), np.arange(n))

    def test_separators_separate(self, graph):
        dissection = dissect(graph)
        pattern = (abs(graph) + abs(graph).T).tocsr()
        assert len(dissection.cells) >= 1
        for start, left, right, separator in dissection.cells:
            nodes = dissection.order[start : start + left + right + separator]
            assert len(nodes) == left + right + separator
            assert pattern[nodes[:left]][:, nodes[left : left + right]].nnz == 0

    def test_the_halves_of_a_surface_are_halves(self):
        cells = dissect(square(make_manifold("swiss-roll", 5000), 12)).cells
        large = cells[cells[:, 1:].sum(axis=1) > 100]
        assert (large[:, 1:3].min(axis=1) >= 0.15 * large[:, 1:].sum(axis=1)).all()
        assert len(large) > 50

    def test_a_path_is_cut_in_the_middle(self):
        _, left, right, separator = dissect(grid(800)).cells[0]
        assert separator == 1
        assert min(left, right) > 0.45 * 800

    def test_the_cover_is_a_smallest_one(self):
        left, right = np.random.default_rng(3).integers(0, [[12], [9]], size=(2, 25))
        cover = ordering._vertex_cover(left, right + 100)
        assert len(set(cover)) == len(cover)
        assert (np.isin(left, cover) | np.isin(right + 100, cover)).all()
        # As large as a maximum matching, here by augmenting paths.
        partner = {}

        def augment(i, seen):
            for j in right[left == i]:
                if j not in seen:
                    seen.add(j)
                    if j not in partner or augment(partner[j], seen):
                        partner[j] = i
                        return True
            return False

        assert sum(augment(i, set()) for i in np.unique(left)) == len(cover)

    def test_the_same_graph_gives_the_same_order(self):
        A = grid(30, 30)
        np.testing.assert_array_equal(dissect(A).order, dissect(A.copy()).order)

    @pytest.mark.parametrize(
        ("name", "factor"), [("roll-20k", 1.15), ("grid-3d", 0.9), ("cube-5d", 0.8)]
    )
    def test_fill_beside_minimum_degree(self, name, factor):
        A = {
            "roll-20k": lambda: square(make_manifold("swiss-roll", 20_000), 12),
            "grid-3d": lambda: grid(16, 16, 16),
            "cube-5d": lambda: cube(3000, 5, 14),
        }[name]()
        assert superlu_fill(A, dissect(A).order) <= factor * superlu_fill(A, None)

    def test_it_is_taken_where_separators_are_large(self):
        assert choose_elimination(square(make_manifold("swiss-roll", 3000), 12)).order is None
        assert choose_elimination(cube(6000, 5, 14)).order is not None

    def test_permuted(self):
        A = random_array((30, 30), density=0.2, format="csr", rng=np.random.default_rng(0))
        order = np.random.default_rng(1).permutation(30)
        np.testing.assert_array_equal(
            permuted(csr_array(A), order).toarray(), A.toarray()[order][:, order]
        )


class TestPrediction:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: square(make_manifold("swiss-roll", 10_000), 12),
            lambda: cube(4000, 3, 12),
            lambda: cube(2000, 5, 14),
            lambda: cube(2000, 10, 10),
            lambda: square(load_digits().data, 30),
            lambda: grid(50, 50),
            lambda: grid(4000),
            lambda: blobs(300),
        ],
        ids=["roll", "cube-3d", "cube-5d", "cube-10d", "digits", "grid", "path", "clique"],
    )
    def test_within_a_factor_of_two(self, make):
        A = make()
        # Small fill on all graphs is easy to predict; the true one comes from the factorisation.
        true = superlu_fill(A, dissect(A).order)
        assert true / 2 <= dissect(A).estimate().nonzeros <= 2 * true

    def test_of_ltsa(self):
        X = make_manifold("swiss-roll", 5000)
        M = gram(cpu.ltsa(X, neighbors(X, 12).astype(np.int32), 2))
        true = superlu_fill(csr_array(M + eye_array(5000)), dissect(M).order)
        assert true / 2 <= dissect(M).estimate().nonzeros <= 2 * true

    def test_a_clique_is_dense(self):
        estimate = dissect(blobs(300)).estimate()
        assert estimate.nonzeros == 300**2
        assert estimate.flops == pytest.approx(2 / 3 * 300**3)
        assert estimate.bytes >= 12 * estimate.nonzeros


class TestFactorisation:
    @pytest.fixture(autouse=True)
    def always_dissected(self, monkeypatch):
        monkeypatch.setattr(ordering, "WIDE", 0)

    def test_solutions(self, graph):
        if graph.nnz == 0:
            pytest.skip("a matrix with no entries has no inverse")
        A = csr_array(graph + 0.1 * eye_array(graph.shape[0]))
        lu = Factorisation(A, shift=1e-15, pivot=0.1)
        assert lu._order is not None
        b = np.random.default_rng(0).standard_normal((A.shape[0], 3))
        dense = A.toarray()
        np.testing.assert_allclose(lu.solve(b), np.linalg.solve(dense, b), atol=1e-10)
        np.testing.assert_allclose(
            lu.solve(b, transposed=True), np.linalg.solve(dense.T, b), atol=1e-10
        )
        np.testing.assert_allclose(lu.solve(b[:, 0]), np.linalg.solve(dense, b[:, 0]), atol=1e-10)

    def test_symmetric_without_pivoting(self):
        X = make_manifold("s-curve", 400)
        M = gram(cpu.ltsa(X, reference.neighbors(X, 10), 2)) + 0.01 * eye_array(400)
        lu = Factorisation(csr_array(M), shift=1e-15, pivot=0.0)
        b = np.random.default_rng(0).standard_normal((400, 2))
        np.testing.assert_allclose(lu.solve(b), np.linalg.solve(M.toarray(), b), atol=1e-9)

    def test_weak_pivots_are_found_out(self):
        n = 60
        A = csr_array(eye_array(n) * 1e-17 + eye_array(n, k=1) + eye_array(n, k=-1))
        lu = Factorisation(A, shift=1e-20, pivot=0.0)
        b = np.random.default_rng(0).standard_normal((n, 1))
        np.testing.assert_allclose(A @ lu.solve(b), b, atol=1e-10)

    def test_fill_is_that_of_the_dissection(self):
        A = grid(16, 16, 16)
        ours = Factorisation(A, shift=1e-15, pivot=0.1).fill
        by_degree = Elimination(None, dissect(A).estimate())
        assert ours < Factorisation(A, shift=1e-15, pivot=0.1, elimination=by_degree).fill


class TestTheComparison:
    @pytest.mark.mkl
    def test_orders(self, monkeypatch, capsys):
        monkeypatch.setitem(orders.CASES, "small", ("swiss-roll", 600, "ltsa", 10, 2))
        orders.main(["small"])
        lines = capsys.readouterr().out.splitlines()
        names = [line.split(" | ")[1] for line in lines[2:]]
        assert {"minimum degree", "lle_gpu"} <= set(names) <= {*orders.ORDERS, orders.MKL}
        assert (orders.MKL in names) == (find_mkl() is not None)
        assert {line.count("|") for line in lines} == {9}

    def test_unknown_cases_are_refused(self, capsys):
        with pytest.raises(SystemExit):
            orders.main(["nothing"])
        assert "no case is called 'nothing'" in capsys.readouterr().err
