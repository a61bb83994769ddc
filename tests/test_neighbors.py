"""Exact neighbours: every algorithm the same, by (distance, index), never the point itself."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product

import numpy as np
import pandas as pd
import pytest
import reference
from conftest import make_manifold
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances

from lle_gpu.neighbors import CPU_ALGORITHMS, cpu
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.neighbors.graph import closed_classes

RNG = np.random.default_rng(0)
MISSING = pytest.mark.skipif(find_spec("faiss") is None, reason="FAISS is not installed")
EXACT = ("auto", *CPU_ALGORITHMS, pytest.param("faiss", marks=MISSING))
LATTICE = np.array(list(product(range(11), repeat=2)), dtype=float)
DATA = {
    "roll": make_manifold("swiss-roll", 300),
    "digits (many ties)": load_digits().data[:400],
    "lattice (ties everywhere)": LATTICE,
    "rows twenty times": np.repeat(RNG.normal(size=(20, 4)), 20, axis=0),
    "half of the rows equal": np.r_[np.zeros((150, 2)), RNG.normal(size=(150, 2))],
    "all rows equal": np.ones((60, 3)),
    "far from the origin, float32": (RNG.normal(size=(200, 20)) + 1e4).astype(np.float32),
    "far from the origin": RNG.normal(size=(200, 20)) + 1e7,
    "one feature": RNG.normal(size=(100, 1)),
    "features on very different scales": RNG.normal(size=(200, 18)) * 10.0 ** np.arange(-9, 9),
}


@pytest.mark.parametrize("algorithm", EXACT)
@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize("name", DATA)
def test_neighbours_are_the_reference_s(name, k, algorithm):
    X = DATA[name]
    expected = reference.neighbors(X, k)
    search = NeighborSearch(X, k, algorithm=algorithm)
    distance, index = search.kneighbors()
    np.testing.assert_array_equal(index, expected)
    exact = np.linalg.norm(X[index].astype(float) - X[:, None].astype(float), axis=2)
    np.testing.assert_allclose(distance, exact, rtol=1e-14)


@pytest.mark.parametrize("algorithm", EXACT)
def test_queries_may_be_training_points(algorithm):
    X = DATA["lattice (ties everywhere)"]
    distance, index = NeighborSearch(X, 4, algorithm=algorithm).kneighbors(X)
    np.testing.assert_array_equal(index[:, 0], np.arange(len(X)))
    np.testing.assert_array_equal(distance[:, 0], 0)
    all_distances = pairwise_distances(X)
    for i in range(len(X)):
        order = np.lexsort((np.arange(len(X)), all_distances[i]))
        np.testing.assert_array_equal(index[i], order[:4])


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "cosine", "correlation", "l2"])
def test_metrics(metric):
    X = RNG.normal(size=(150, 6))
    index = NeighborSearch(X, 5, metric=metric).kneighbors(return_distance=False)
    D = pairwise_distances(X, metric=metric)
    np.fill_diagonal(D, np.inf)
    np.testing.assert_array_equal(index, np.argsort(D, axis=1, kind="stable")[:, :5])


def test_callable_metric_with_ties():
    def steps(a, b):
        return float(np.abs(a - b).max())

    X = LATTICE[:40]
    index = NeighborSearch(X, 3, metric=steps).kneighbors(return_distance=False)
    D = pairwise_distances(X, metric="chebyshev")
    np.fill_diagonal(D, np.inf)
    np.testing.assert_array_equal(index, np.argsort(D, axis=1, kind="stable")[:, :3])


@pytest.mark.parametrize("algorithm", ["kd_tree", "brute", pytest.param("faiss", marks=MISSING)])
def test_blocks_of_rows_and_threads_change_nothing(monkeypatch, algorithm):
    X = DATA["digits (many ties)"][:, :12]
    whole = NeighborSearch(X, 6, algorithm=algorithm, n_jobs=1).kneighbors()
    monkeypatch.setattr(cpu, "CANDIDATE_BYTES", 2000)  # a few rows at a time
    pieces = NeighborSearch(X, 6, algorithm=algorithm, n_jobs=2).kneighbors()
    np.testing.assert_array_equal(whole[1], pieces[1])
    np.testing.assert_array_equal(whole[0], pieces[0])


@pytest.mark.parametrize("algorithm", EXACT)
def test_many_copies_of_a_row_cost_no_more_candidates(algorithm, monkeypatch):
    X = RNG.normal(size=(600, 3))
    X[RNG.permutation(600)[:400]] = 0
    expected = reference.neighbors(X, 6)
    search = NeighborSearch(X, 6, algorithm=algorithm)
    asked = []
    kind = type(search._search)
    query = kind.query
    monkeypatch.setattr(
        kind, "query", lambda self, points, count: asked.append(count) or query(self, points, count)
    )
    np.testing.assert_array_equal(search.kneighbors(return_distance=False), expected)
    assert max(asked) < 60, "the candidates grew to the number of copies"


@pytest.mark.parametrize("algorithm", ["kd_tree", "brute"])
def test_negative_zeros_are_duplicates_too(algorithm):
    X = np.zeros((60, 3))
    X[::2] *= -1.0
    found = NeighborSearch(X, 3, algorithm=algorithm).kneighbors(return_distance=False)
    assert found[0].tolist() == [1, 2, 3]
    assert found[5].tolist() == [0, 1, 2]


def test_impossible_number_of_neighbours():
    search = NeighborSearch(np.eye(4), 2)
    with pytest.raises(
        ValueError, match="n_neighbors=4 must be from 1 to 3 with 4 training points"
    ):
        search.kneighbors(n_neighbors=4)
    assert search.kneighbors(np.eye(4), 4, return_distance=False).shape == (4, 4)


@pytest.mark.parametrize("algorithm", ["kd_tree", "brute", "ball_tree"])
def test_queries_are_array_likes(algorithm):
    X = np.random.default_rng(0).normal(size=(40, 3)).round(1)
    search = NeighborSearch(X, 4, algorithm=algorithm)
    expected = search.kneighbors(X[:5])
    for queries in (X[:5].tolist(), tuple(X[:5].tolist()), pd.DataFrame(X[:5])):
        for found, right in zip(search.kneighbors(queries), expected, strict=True):
            np.testing.assert_array_equal(found, right)
    np.testing.assert_array_equal(
        search.kneighbors([[1, 2, 3]], return_distance=False),
        search.kneighbors(np.array([[1.0, 2.0, 3.0]]), return_distance=False),
    )


@pytest.mark.parametrize(
    ("queries", "says"),
    [
        ([1, 2, 3], r"^X is of shape \(3,\), and must be \(any number, 3\).*reshape\(1, -1\)"),
        ([[1, 2]], r"^X is of shape \(1, 2\), and must be \(any number, 3\)"),
        (np.ones((2, 2, 3)), r"^X is of shape \(2, 2, 3\)"),
        ([["a", "b", "c"]], "^X is of dtype <U1, and must hold real numbers"),
    ],
)
def test_queries_of_other_shapes(queries, says):
    for metric in ("euclidean", "manhattan"):
        with pytest.raises(ValueError, match=says):
            NeighborSearch(np.eye(3), 2, metric=metric).kneighbors(queries)


class TestClosedClasses:
    def test_one_on_a_connected_graph(self):
        ring = (np.arange(10)[:, None] + [1, 2]) % 10
        classes = closed_classes(ring)
        assert len(classes) == 1
        assert classes.sizes.tolist() == [10]
        assert (classes.labels == 0).all()
        assert len(classes.unreferenced) == 0

    def test_a_clique_that_others_point_into(self):
        # 0, 1, 2 point at one another; 3 points into them and nobody points at it.
        classes = closed_classes(np.array([[1, 2], [0, 2], [0, 1], [0, 1]]))
        assert classes.sizes.tolist() == [3]
        assert classes.labels.tolist() == [0, 0, 0, -1]
        assert classes.unreferenced.tolist() == [3]

    def test_two_cliques_and_a_bridge_out_of_neither(self):
        index = np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4], [0, 3]])
        classes = closed_classes(index)
        assert classes.sizes.tolist() == [3, 3]
        assert classes.example_rows.tolist() == [0, 3]
        assert classes.labels.tolist() == [0, 0, 0, 1, 1, 1, -1]
