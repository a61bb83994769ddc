"""Scores of an embedding: against scikit-learn, literal definitions, closed forms, invariants."""

from __future__ import annotations

import json
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import reference
from conftest import MANIFOLDS, make_manifold
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import coo_array, csr_array, random_array
from scipy.spatial import procrustes
from sklearn import manifold

from lle_gpu import LocallyLinearEmbedding, metrics
from lle_gpu.metrics import ranks as counting
from lle_gpu.neighbors.cpu import NeighborSearch

SCORES = ("trustworthiness", "continuity", "neighborhood_preservation", "local_continuity")
rng = np.random.default_rng(0)
X60, Y60 = rng.normal(size=(60, 4)), rng.normal(size=(60, 2))


# The definitions, one point at a time ------------------------------------------------------------


def all_ranks(X):
    """(n, n): rank of each point among the neighbours of each, by (distance, index); 0 for itself.

    The distances are sums of squared differences in float64, as the contract of the neighbour
    search has it.
    """
    X = np.asarray(X, dtype=np.float64)
    n = len(X)
    result = np.zeros((n, n), dtype=int)
    for i in range(n):
        difference = X - X[i]
        squared = np.einsum("lf,lf->l", difference, difference)
        order = np.lexsort((np.arange(n), squared))
        result[i, order[order != i]] = np.arange(1, n)
    return result


def nearest(rank, k):
    """(n, k): the points of rank 1, ..., k."""
    return np.argsort(np.where(rank == 0, len(rank), rank), axis=1)[:, :k]


def by_definition(X, Y, k):
    in_X, in_Y = all_ranks(X), all_ranks(Y)
    n = len(in_X)
    scale = 2 / (n * k * (2 * n - 3 * k - 1))
    came_in = tore = kept = 0
    for i in range(n):
        for j in range(n):
            near_X, near_Y = 0 < in_X[i, j] <= k, 0 < in_Y[i, j] <= k
            came_in += (in_X[i, j] - k) if near_Y and not near_X else 0
            tore += (in_Y[i, j] - k) if near_X and not near_Y else 0
            kept += near_X and near_Y
    return {
        "trustworthiness": 1 - scale * came_in,
        "continuity": 1 - scale * tore,
        "neighborhood_preservation": kept / (n * k),
        "local_continuity": kept / (n * k) - k / (n - 1),
    }


def hard(name):
    """Points (n, d) on which a count can go wrong."""
    rng = np.random.default_rng(1)
    return {
        "plain": lambda: rng.normal(size=(300, 3)),
        "one column": lambda: rng.normal(size=(300, 1)),
        "many columns": lambda: rng.normal(size=(300, 40)),
        "float32": lambda: rng.normal(size=(300, 3)).astype(np.float32),
        "grid": lambda: np.stack(np.meshgrid(np.arange(18.0), np.arange(17.0)), -1).reshape(-1, 2),
        "integers": lambda: rng.integers(0, 4, size=(300, 3)).astype(float),
        "copies": lambda: np.repeat(rng.normal(size=(60, 3)), 5, axis=0)[rng.permutation(300)],
        "collapsed": lambda: np.full((300, 2), 0.1),
        "all but one equal": lambda: np.concatenate([np.zeros((299, 2)), [[1.0, 0.0]]]),
        "zeros of both signs": lambda: np.where(rng.uniform(size=(300, 2)) < 0.5, -0.0, 0.0),
        "far from the origin": lambda: rng.normal(size=(300, 3)) + 1e9,
        "an outlier": lambda: np.concatenate([rng.normal(size=(299, 3)), [[1e12, 0.0, 0.0]]]),
        "equally far": lambda: np.eye(60),
        "every scale": lambda: 10.0 ** rng.uniform(-70, 70, size=(100, 2)),
        "squares that almost vanish": lambda: np.concatenate(
            [1e-156 * rng.normal(size=(150, 2)), rng.normal(size=(150, 2))]
        ),
        "squares that vanish": lambda: np.concatenate(
            [1e-170 * rng.normal(size=(150, 2)), rng.normal(size=(150, 2))]
        ),
        "tiny": lambda: 1e-140 * rng.normal(size=(300, 3)),
        "huge": lambda: 1e140 * rng.normal(size=(300, 3)),
    }[name]()


HARD = (
    "plain", "one column", "many columns", "float32", "grid", "integers", "copies", "collapsed",
    "all but one equal", "zeros of both signs", "far from the origin", "an outlier", "equally far",
    "every scale", "squares that almost vanish", "squares that vanish", "tiny", "huge",
)  # fmt: skip


@pytest.fixture(params=["as they are", "small"])
def sizes(request, monkeypatch):
    """Blocks and tiles as they are, and so small that there are many of them."""
    if request.param == "small":
        monkeypatch.setattr(counting, "BLOCK", 16)
        monkeypatch.setattr(counting, "TILE", 7)
        monkeypatch.setattr(counting, "NUMBERS", 1000)
        monkeypatch.setattr(counting, "ROW_BYTES", 1 << 16)


class TestRanks:
    @pytest.mark.parametrize("name", HARD)
    def test_of_all_pairs_by_definition(self, name, sizes):
        X = hard(name)
        n = len(X)
        expected = all_ranks(X)
        rng = np.random.default_rng(2)
        columns = np.array([rng.permutation(np.delete(np.arange(n), i))[:9] for i in range(n)])
        near = nearest(expected, 2)
        found = counting.ranks(
            counting.Space(X, "euclidean"), np.arange(n), columns, near, n_jobs=2
        )
        assert_array_equal(found, np.take_along_axis(expected, columns, axis=1))

    @pytest.mark.parametrize("name", HARD)
    def test_in_both_spaces(self, name, sizes):
        X = hard(name)
        Y = np.random.default_rng(3).normal(size=(len(X), 2))
        for one, other in ((X, Y), (Y, X)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = metrics.co_ranking(one, other, n_neighbors=6)
            in_data, in_embedding = all_ranks(one), all_ranks(other)
            expected = np.take_along_axis(in_data, nearest(in_embedding, 6), axis=1)
            assert_array_equal(found.rank_in_data, expected)
            expected = np.take_along_axis(in_embedding, nearest(in_data, 6), axis=1)
            assert_array_equal(found.rank_in_embedding, expected)

    def test_tiles_of_copies_that_are_nearer_as_a_whole(self, monkeypatch):
        monkeypatch.setattr(counting, "BLOCK", 8)
        monkeypatch.setattr(counting, "TILE", 7)
        X = np.repeat(np.random.default_rng(0).uniform(size=(150, 2)), 3, axis=0)
        expected = all_ranks(X)
        columns = nearest(expected, 250)[:, 249:]
        found = counting.ranks(
            counting.Space(X, "euclidean"), np.arange(len(X)), columns, nearest(expected, 2)
        )
        assert_array_equal(found, 250)

    @pytest.mark.parametrize("size", [1e-152, 1e-156, 1e-161, 1e-170])
    def test_within_a_cluster_whose_squared_distances_vanish(self, size, monkeypatch):
        monkeypatch.setattr(counting, "BLOCK", 8)
        monkeypatch.setattr(counting, "TILE", 7)
        rng = np.random.default_rng(0)
        X = np.concatenate([size * rng.normal(size=(80, 2)), 1 + rng.uniform(size=(20, 2))])
        expected = all_ranks(X)
        rows = np.arange(80)
        columns = np.array([rng.permutation(np.delete(rows, i))[:9] for i in rows])
        found = counting.ranks(
            counting.Space(X, "euclidean"), rows, columns, nearest(expected, 2)[rows]
        )
        assert_array_equal(found, np.take_along_axis(expected[rows], columns, axis=1))

    def test_missed_copies_are_points_at_distance_zero(self, monkeypatch):
        X = hard("copies")
        monkeypatch.setattr(counting, "_first_copies", lambda X, n_jobs: np.arange(len(X)))
        Y = np.random.default_rng(3).normal(size=(len(X), 2))
        in_data = all_ranks(X)
        found = metrics.co_ranking(X, Y, n_neighbors=6).rank_in_data
        near = nearest(all_ranks(Y), 6)
        assert_array_equal(found, np.take_along_axis(in_data, near, axis=1))

    @pytest.mark.parametrize("name", ["copies", "collapsed", "plain", "zeros of both signs"])
    def test_first_copies(self, name):
        X = hard(name)
        expected = [int(np.flatnonzero((x == X).all(axis=1))[0]) for x in X]
        assert_array_equal(counting._first_copies(X, None), expected)

    def test_positions(self):
        near = np.array([[3, 1], [0, 2]])
        columns = np.array([[1, 2, 3], [2, 1, 3]])
        assert_array_equal(counting.positions(near, columns), [[2, 0, 1], [2, 0, 0]])

    def test_most_tiles_are_counted_as_a_whole(self, monkeypatch):
        """In few dimensions, if the ranks are not too large."""
        X = np.random.default_rng(0).uniform(size=(3000, 2))
        Y = X + np.random.default_rng(1).normal(scale=0.01, size=X.shape)
        monkeypatch.setattr(counting, "BLOCK", 64)
        monkeypatch.setattr(counting, "TILE", 63)
        seen = []
        nearer_in = counting._Block._nearer_in

        def counted(self, tile):
            seen.append(tile)
            return nearer_in(self, tile)

        monkeypatch.setattr(counting._Block, "_nearer_in", counted)
        metrics.trustworthiness(X, Y)
        blocks, tiles = 3000 / 64, 3000 / 63
        assert 0 < len(seen) < 0.4 * blocks * tiles

    def test_no_array_of_all_pairs(self):
        n = 4000
        rng = np.random.default_rng(0)
        X, Y = rng.normal(size=(n, 30)), rng.normal(size=(n, 2))
        tracemalloc.start()
        metrics.scores(X, Y, n_neighbors=5, n_jobs=1)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < n * n / 2  # bytes; an n x n array of anything has at least twice as many


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("name", MANIFOLDS)
    @pytest.mark.parametrize("k", [1, 12, 199])
    def test_trustworthiness_and_continuity(self, name, k):
        X = make_manifold(name, 400)
        # Distances of whole numbers tie, and scikit-learn's order is then one of chance.
        X = X + 1e-3 * np.random.default_rng(0).normal(size=X.shape)
        Y = X @ np.random.default_rng(1).normal(size=(X.shape[1], 2))
        ours = metrics.trustworthiness(X, Y, n_neighbors=k)
        assert ours == pytest.approx(manifold.trustworthiness(X, Y, n_neighbors=k), abs=1e-12)
        ours = metrics.continuity(X, Y, n_neighbors=k)
        assert ours == pytest.approx(manifold.trustworthiness(Y, X, n_neighbors=k), abs=1e-12)

    @pytest.mark.parametrize(
        "metric",
        ["manhattan", "cosine", "chebyshev", "l1", "l2", "minkowski", "canberra", "correlation",
         lambda a, b: float(np.abs(a - b).max())],
    )  # fmt: skip
    def test_metrics(self, metric, sizes):
        X = np.abs(X60)  # where Canberra distances do not tie
        for k in (3, 25):
            ours = metrics.trustworthiness(X, Y60, n_neighbors=k, metric=metric)
            theirs = manifold.trustworthiness(X, Y60, n_neighbors=k, metric=metric)
            assert ours == pytest.approx(theirs, abs=1e-12)

    @pytest.mark.parametrize("name", ["integers", "grid", "copies"])
    def test_ties_of_other_metrics_go_by_index(self, name, sizes):
        """Sums of absolute differences of whole numbers are exact, by whomever."""
        X, Y = np.round(2 * hard(name)[:100]), np.random.default_rng(0).normal(size=(100, 2))
        distance = np.abs(X[:, None] - X).sum(axis=2)
        np.fill_diagonal(distance, -1.0)
        expected = np.argsort(np.argsort(distance, axis=1, kind="stable"), axis=1)
        found = metrics.co_ranking(X, Y, metric="manhattan").rank_in_data
        assert_array_equal(found, np.take_along_axis(expected, nearest(all_ranks(Y), 5), axis=1))

    @pytest.mark.parametrize(("tree_name", "name"), [("infinity", "chebyshev"), ("p", "euclidean")])
    def test_names_that_only_trees_know(self, tree_name, name):
        ours = metrics.scores(X60, Y60, metric=tree_name)
        assert ours == pytest.approx(metrics.scores(X60, Y60, metric=name), abs=1e-12)

    @pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
    @pytest.mark.parametrize("make", [csr_array, coo_array])
    def test_sparse(self, metric, make):
        X = random_array((150, 30), density=0.7, rng=np.random.default_rng(0)).toarray()
        Y = X[:, :2] + 0.1 * np.random.default_rng(1).normal(size=(150, 2))
        for k in (3, 20):
            ours = metrics.trustworthiness(make(X), Y, n_neighbors=k, metric=metric)
            theirs = manifold.trustworthiness(X, Y, n_neighbors=k, metric=metric)
            assert ours == pytest.approx(theirs, abs=1e-12)
            assert metrics.scores(make(X), Y, n_neighbors=k, metric=metric) == pytest.approx(
                metrics.scores(X, Y, n_neighbors=k, metric=metric), abs=1e-12
            )

    def test_too_many_neighbours_in_their_words(self):
        with pytest.raises(ValueError, match="should be less than n_samples / 2"):
            manifold.trustworthiness(X60, Y60, n_neighbors=30)
        for name in ("trustworthiness", "continuity", "scores"):
            with pytest.raises(ValueError, match="n_neighbors \\(30\\) should be less than"):
                getattr(metrics, name)(X60, Y60, n_neighbors=30)
            getattr(metrics, name)(X60, Y60, n_neighbors=29)


class TestByDefinition:
    @pytest.mark.parametrize("name", ["plain", "grid", "integers", "copies", "collapsed"])
    @pytest.mark.parametrize("k", [1, 4, 20])
    def test_scores(self, name, k):
        X = hard(name)[:90]
        Y = np.random.default_rng(5).normal(size=(90, 2))
        for one, other in ((X, Y), (Y, X)):
            expected = by_definition(one, other, k)
            found = metrics.scores(one, other, n_neighbors=k)
            assert list(found) == list(SCORES)
            assert found == pytest.approx(expected, abs=1e-12)
            for score in SCORES:
                single = getattr(metrics, score)(one, other, n_neighbors=k)
                assert single == pytest.approx(expected[score], abs=1e-12)
                assert single.standard_error == 0

    def test_two_points(self):
        found = metrics.neighborhood_preservation([[0.0], [1.0]], [[3.0], [5.0]], n_neighbors=1)
        assert found == 1.0

    def test_neighbours_up_to_all(self):
        for k in (30, 45, 59):
            expected = by_definition(X60, Y60, k)
            for name in SCORES[2:]:
                found = getattr(metrics, name)(X60, Y60, n_neighbors=k)
                assert found == pytest.approx(expected[name], abs=1e-12)
        assert metrics.neighborhood_preservation(X60, Y60, n_neighbors=59) == 1.0
        assert metrics.local_continuity(X60, Y60, n_neighbors=59) == 0.0

    def test_a_similar_embedding_is_perfect(self):
        Y = 3.0 * X60 @ np.linalg.qr(rng.normal(size=(4, 4)))[0] - 7.0
        found = metrics.scores(X60, Y, n_neighbors=6)
        expected = dict.fromkeys(SCORES, 1.0) | {"local_continuity": 1 - 6 / 59}
        assert found == pytest.approx(expected, abs=1e-12)

    def test_a_collapsed_embedding_is_chance(self):
        X = make_manifold("swiss-roll", 2000)
        found = metrics.scores(X, np.zeros((2000, 2)), n_neighbors=10)
        assert found["trustworthiness"] == pytest.approx(0.5, abs=0.05)
        assert found["continuity"] == pytest.approx(0.5, abs=0.05)
        assert found["local_continuity"] == pytest.approx(0.0, abs=0.01)

    def test_what_they_tell_apart(self):
        """A fold brings in false neighbours, a tear loses true ones."""
        x = np.linspace(0.0, 1.0, 300)[:, None] + 1e-4 * rng.uniform(size=(300, 1))
        folded, torn = np.abs(x - 0.5), np.where(x < 0.5, x, x + 10.0)
        fold = metrics.scores(x, folded, n_neighbors=10)
        assert fold["trustworthiness"] < 0.8 < 0.95 < fold["continuity"]
        angle = 2 * np.pi * x
        circle = np.column_stack([np.cos(angle), np.sin(angle)])
        tear = metrics.scores(circle, x, n_neighbors=10)
        assert tear["continuity"] < tear["trustworthiness"]
        assert metrics.scores(x, torn, n_neighbors=10)["trustworthiness"] > 0.999

    def test_invariant_under_the_order_of_the_points(self):
        order = np.random.default_rng(0).permutation(60)
        found = metrics.scores(X60[order], Y60[order])
        assert found == pytest.approx(metrics.scores(X60, Y60), abs=1e-12)

    def test_threads_do_not_matter(self, monkeypatch):
        monkeypatch.setattr(counting, "BLOCK", 8)
        one, two = (metrics.co_ranking(X60, Y60, n_jobs=n) for n in (1, 3))
        assert_array_equal(one.rank_in_data, two.rank_in_data)
        assert_array_equal(one.rank_in_embedding, two.rank_in_embedding)


class TestCoRanking:
    def test_matrix(self):
        K = 8
        in_X, in_Y = all_ranks(X60), all_ranks(Y60)
        expected = np.zeros((59, 59), dtype=int)
        for i in range(60):
            for j in range(60):
                if i != j:
                    expected[in_X[i, j] - 1, in_Y[i, j] - 1] += 1
        ranking = metrics.co_ranking(X60, Y60, n_neighbors=K)
        assert_array_equal(ranking.matrix(), expected[:K, :K])
        assert ranking.n_neighbors == K and ranking.n_samples == 60
        assert_array_equal(metrics.co_ranking(X60, Y60, n_neighbors=59).matrix(), expected)

    def test_every_smaller_k_follows(self):
        ranking = metrics.co_ranking(X60, Y60, n_neighbors=20)
        for k in (1, 7, 20):
            expected = by_definition(X60, Y60, k)
            assert ranking.scores(k) == pytest.approx(expected, abs=1e-12)
            for name in SCORES:
                assert getattr(ranking, name)(k) == pytest.approx(expected[name], abs=1e-12)
        assert ranking.scores() == ranking.scores(20)

    def test_curves(self):
        curves = metrics.co_ranking(X60, Y60, n_neighbors=10).curves()
        assert list(curves) == ["n_neighbors", *SCORES]
        assert_array_equal(curves["n_neighbors"], np.arange(1, 11))
        for k in (1, 6, 10):
            expected = by_definition(X60, Y60, k)
            for name in SCORES:
                assert curves[name][k - 1] == pytest.approx(expected[name], abs=1e-12)
        assert len(metrics.co_ranking(X60, Y60, n_neighbors=59).curves()["continuity"]) == 29

    def test_beyond_what_it_was_made_for(self):
        ranking = metrics.co_ranking(X60, Y60, n_neighbors=40)
        with pytest.raises(ValueError, match="n_neighbors=41 is more than the 40"):
            ranking.neighborhood_preservation(41)
        with pytest.raises(ValueError, match="less than n_samples / 2"):
            ranking.trustworthiness()
        with pytest.raises(ValueError, match="n_neighbors=0"):
            ranking.continuity(0)
        assert ranking.local_continuity() == pytest.approx(
            by_definition(X60, Y60, 40)["local_continuity"], abs=1e-12
        )


class TestSample:
    @pytest.mark.parametrize("name", ["plain", "copies", "collapsed", "integers"])
    def test_rows_of_the_whole(self, name):
        X = hard(name)
        Y = np.random.default_rng(3).normal(size=(len(X), 2))
        for one, other in ((X, Y), (Y, X)):
            whole = metrics.co_ranking(one, other)
            some = metrics.co_ranking(one, other, sample=70, random_state=4)
            assert len(np.unique(some.rows)) == 70
            assert_array_equal(some.rank_in_data, whole.rank_in_data[some.rows])
            assert_array_equal(some.rank_in_embedding, whole.rank_in_embedding[some.rows])

    @pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
    def test_standard_error(self, metric):
        options = {"n_neighbors": 5, "metric": metric, "sample": 40, "random_state": 1}
        ranking = metrics.co_ranking(X60, Y60, **options)
        excess = np.maximum(ranking.rank_in_data - 5, 0).sum(axis=1)
        each = 1 - 2 * excess / (5 * (2 * 60 - 3 * 5 - 1))
        found = metrics.trustworthiness(X60, Y60, **options)
        assert found == pytest.approx(each.mean(), abs=1e-12)
        expected = each.std(ddof=1) / np.sqrt(40) * np.sqrt(1 - 40 / 60)
        assert found.standard_error == pytest.approx(expected, rel=1e-9)
        assert ranking.trustworthiness().standard_error == found.standard_error

    def test_the_error_is_the_spread_over_draws(self):
        X = make_manifold("swiss-roll", 600)
        Y = X[:, :2]
        whole = metrics.scores(X, Y)
        draws = [metrics.scores(X, Y, sample=100, random_state=seed) for seed in range(40)]
        for name in SCORES:
            values = np.array([draw[name] for draw in draws])
            error = np.mean([draw[name].standard_error for draw in draws])
            assert abs(values.mean() - whole[name]) < 4 * error / np.sqrt(40)
            assert 0.6 < values.std() / error < 1.5

    def test_all_of_them(self):
        whole = metrics.scores(X60, Y60)
        for sample in (60, 1000):
            found = metrics.scores(X60, Y60, sample=sample)
            assert found == whole
            assert all(score.standard_error == 0 for score in found.values())

    def test_seeds(self):
        def rows(seed):
            return metrics.co_ranking(X60, Y60, sample=20, random_state=seed).rows.tolist()

        assert rows(None) == rows(None)
        assert rows(3) == rows(3) == rows(np.random.RandomState(3))
        assert rows(3) != rows(4)


class TestScore:
    def test_is_a_number(self):
        score = metrics.Score(0.25, 0.01234)
        assert score == 0.25 and score + 1 == 1.25 and json.dumps(score) == "0.25"
        assert f"{score:.1f}" == "0.2" and str(score) == "0.25 ± 0.012"
        assert str(metrics.Score(0.25)) == "0.25"
        again = pickle.loads(pickle.dumps(score))
        assert again == score and again.standard_error == score.standard_error


class TestKnnGraph:
    def test_saves_the_search(self, monkeypatch):
        expected = metrics.scores(X60, Y60, n_neighbors=7)
        distance, index = NeighborSearch(X60, 9).kneighbors()
        searched = []
        search = metrics.neighborhoods.NeighborSearch
        monkeypatch.setattr(
            metrics.neighborhoods,
            "NeighborSearch",
            lambda X, *args, **options: searched.append(X.shape) or search(X, *args, **options),
        )
        for graph in (index, (index, distance)):
            searched.clear()
            assert metrics.scores(X60, Y60, n_neighbors=7, knn_graph=graph) == expected
            assert searched == [(60, 2)]
            some = metrics.co_ranking(X60, Y60, n_neighbors=7, knn_graph=graph, sample=20)
            whole = metrics.co_ranking(X60, Y60, n_neighbors=7)
            assert_array_equal(some.rank_in_embedding, whole.rank_in_embedding[some.rows])

    def test_of_a_model(self, roll):
        model = LocallyLinearEmbedding(n_neighbors=10, method="ltsa", device="cpu").fit(roll)
        graph = model.nbrs_.kneighbors(return_distance=False)
        found = metrics.scores(roll, model.embedding_, knn_graph=graph, n_neighbors=10)
        assert found == metrics.scores(roll, model.embedding_, n_neighbors=10)
        theirs = manifold.trustworthiness(roll, model.embedding_, n_neighbors=10)
        assert found["trustworthiness"] == pytest.approx(theirs, abs=1e-12)

    def test_what_is_not_in_it_has_a_rank_beyond_it(self):
        index = np.array([np.random.default_rng(i).permutation(np.delete(np.arange(60), i))[:3]
                          for i in range(60)])  # fmt: skip
        ranking = metrics.co_ranking(X60, Y60, n_neighbors=3, knn_graph=index)
        near = nearest(all_ranks(Y60), 3)
        listed = (near[:, :, None] == index[:, None, :]).any(axis=2)
        assert_array_equal(ranking.rank_in_data <= 3, listed)

    def test_of_other_points(self):
        with pytest.raises(ValueError, match="knn_graph has 50 rows, and X has 60"):
            metrics.scores(X60, Y60, knn_graph=np.zeros((50, 5), dtype=int))


class TestKinds:
    def test_they_give_the_same(self, tmp_path):
        pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
        expected = metrics.scores(X60, Y60)
        np.save(tmp_path / "X.npy", X60)
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        kinds = [
            (pd.DataFrame(X60), pd.DataFrame(Y60, columns=["a", "b"])),
            (pl.DataFrame(X60), pl.DataFrame(Y60)),
            (X60.tolist(), Y60.tolist()),
            (mapped, np.asfortranarray(Y60)),
            (csr_array(X60), Y60),
        ]
        for X, Y in kinds:
            assert metrics.scores(X, Y) == pytest.approx(expected, abs=1e-12)
            assert metrics.affine_residual(Y, Y60[:, :1]) < 1e-12
            assert metrics.effective_support(Y) == pytest.approx(metrics.effective_support(Y60))
            assert metrics.procrustes_residual(Y, Y60) < 1e-12

    def test_tensors(self):
        torch = pytest.importorskip("torch")
        found = metrics.scores(torch.from_numpy(X60), torch.from_numpy(Y60))
        assert found == metrics.scores(X60, Y60)

    def test_one_coordinate(self):
        pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
        y, column = Y60[:, 0], Y60[:, :1]
        for one in (y, y.tolist(), tuple(y), pd.Series(y), pl.Series(y)):
            assert metrics.effective_support(one) == metrics.effective_support(column)
            assert metrics.affine_residual(Y60, one) < 1e-12
            assert metrics.procrustes_residual(one, 3 * column) < 1e-12
            assert metrics.affine_residual(one, Y60) == metrics.affine_residual(column, Y60)

    def test_float32(self):
        X, Y = X60.astype(np.float32), Y60.astype(np.float32)
        assert metrics.scores(X, Y) == metrics.scores(X.astype(float), Y.astype(float))

    def test_what_comes_in_is_not_changed(self):
        X, Y, T = X60.copy(), Y60.copy(), X60[:, :2].copy()
        metrics.scores(X, Y)
        metrics.affine_residual(Y, T)
        metrics.procrustes_residual(Y, T)
        metrics.effective_support(Y)
        assert_array_equal(X, X60)
        assert_array_equal(Y, Y60)
        assert_array_equal(T, X60[:, :2])


def with_one(array, value):
    changed = array.copy()
    changed[3, 1] = value
    return changed


class TestBadInput:
    @pytest.mark.parametrize("name", [*SCORES, "scores", "co_ranking"])
    @pytest.mark.parametrize(
        ("X", "Y", "options", "error", "says"),
        [
            (X60, Y60[:50], {}, ValueError, "X has 60 rows and Y has 50"),
            (with_one(X60, np.nan), Y60, {}, ValueError, r"Input X contains NaN\.$"),
            (X60, with_one(Y60, np.nan), {}, ValueError, r"Input Y contains NaN\.$"),
            (X60, with_one(Y60, np.inf), {}, ValueError, "Input Y contains infinity"),
            (X60[:, 0], Y60, {}, ValueError, "X: .*1D array"),
            (X60, Y60[:, 0], {}, ValueError, "Y: .*1D array"),
            (X60[:1], Y60[:1], {}, ValueError, "1 sample"),
            (X60[:0], Y60[:0], {}, ValueError, "0 sample"),
            (X60 * 1e160, Y60, {}, ValueError, "range of a column of X .*1e\\+150.*Rescale X"),
            (X60, Y60 * 1e-160, {}, ValueError, "range of a column of Y .*1e-150.*Rescale Y"),
            (X60, Y60, {"n_neighbors": 0}, ValueError, "n_neighbors=0 must be"),
            (X60, Y60, {"n_neighbors": -3}, ValueError, "n_neighbors=-3 must be"),
            (X60, Y60, {"n_neighbors": 2.0}, ValueError, "n_neighbors=2.0 must be"),
            (X60, Y60, {"n_neighbors": True}, ValueError, "n_neighbors=True must be"),
            (X60, Y60, {"n_neighbors": "5"}, ValueError, "n_neighbors='5' must be"),
            (X60, Y60, {"n_neighbors": 60}, ValueError, "n_samples"),
            (X60[:5], Y60[:5], {}, ValueError, "n_samples"),
            (X60, Y60, {"metric": "nonsense"}, ValueError, "metric='nonsense' cannot be used"),
            (X60, Y60, {"metric": "precomputed"}, ValueError, "metric='precomputed' is not"),
            (X60, Y60, {"sample": 1}, ValueError, "sample=1 must be"),
            (X60, Y60, {"sample": 0.1}, ValueError, "sample=0.1 must be"),
            (X60, Y60, {"sample": True}, ValueError, "sample=True must be"),
            (X60, Y60, {"n_jobs": 0}, ValueError, "n_jobs=0"),
            (X60, Y60, {"sample": 9, "random_state": "x"}, ValueError, "seed|random_state"),
            (X60, Y60, {"knn_graph": "graph"}, (TypeError, ValueError), "knn_graph"),
        ],
    )
    def test_neighbourhoods(self, name, X, Y, options, error, says):
        with pytest.raises(error, match=says):
            getattr(metrics, name)(X, Y, **options)

    @pytest.mark.parametrize("name", [*SCORES, "scores", "co_ranking"])
    def test_options_are_named(self, name):
        with pytest.raises(TypeError, match="positional"):
            getattr(metrics, name)(X60, Y60, 5)

    @pytest.mark.parametrize("name", ["affine_residual", "procrustes_residual"])
    @pytest.mark.parametrize(
        ("Y", "T", "says"),
        [
            (Y60, Y60[:50], "Y has 60 rows and reference has 50"),
            (Y60, np.ones((60, 2)), "all 60 points of reference are equal"),
            (with_one(Y60, np.nan), Y60, r"Input Y contains NaN\.$"),
            (Y60, with_one(Y60, np.inf), "Input reference contains infinity"),
            (Y60[:, :, None], Y60, "Y: .*dim 3"),
            (Y60, ["a"] * 60, "reference"),
            (Y60 * 1e200, Y60, r"entry of Y is .*1e\+150"),
        ],
    )
    def test_residuals(self, name, Y, T, says):
        with pytest.raises(ValueError, match=says):
            getattr(metrics, name)(Y, T)

    def test_procrustes_of_different_dimensions(self):
        with pytest.raises(ValueError, match="Y has 2 coordinates and reference has 4"):
            metrics.procrustes_residual(Y60, X60)

    def test_effective_support(self):
        with pytest.raises(ValueError, match="NaN"):
            metrics.effective_support(with_one(Y60, np.nan))
        with pytest.raises(ValueError, match="Y: .*dim 3"):
            metrics.effective_support(Y60[:, :, None])


class TestResiduals:
    def test_affine_by_reference(self):
        for T in (X60, X60[:, :1], Y60**2):
            expected = reference.affine_residual(Y60, T)
            assert metrics.affine_residual(Y60, T) == pytest.approx(expected, rel=1e-12)

    def test_affine_closed_form(self):
        """Of orthogonal columns, what is left is the part that Y does not have."""
        Q = np.linalg.qr(np.column_stack([np.ones(50), rng.normal(size=(50, 3))]))[0][:, 1:]
        T = Q * [3.0, 4.0, 12.0]
        assert metrics.affine_residual(Q[:, :2], T) == pytest.approx(12 / 13, rel=1e-12)
        assert metrics.affine_residual(Q[:, 1:] @ [[1.0, 2.0], [0.0, 5.0]] + 1e3, T) == (
            pytest.approx(3 / 13, rel=1e-9)
        )

    @pytest.mark.parametrize("scale", [1e-140, 1e-8, 1.0, 1e8, 1e140])
    def test_scales_do_not_matter(self, scale):
        T = Y60 @ rng.normal(size=(2, 2)) + 0.1 * rng.normal(size=(60, 2))
        for residual in (metrics.affine_residual, metrics.procrustes_residual):
            expected = residual(Y60, T)
            assert 0.01 < expected < 1
            assert residual(Y60 * scale, T) == pytest.approx(expected, rel=1e-9)
            assert residual(Y60, T * scale) == pytest.approx(expected, rel=1e-9)
            assert residual(Y60 + 1e3, T - 1e3) == pytest.approx(expected, rel=1e-9)

    def test_affine_columns_of_very_different_scale(self):
        found = metrics.affine_residual(Y60 * [1e-20, 1e20], Y60)
        assert found < 1e-12

    def test_affine_takes_columns_that_repeat(self):
        Y = np.column_stack([Y60, Y60[:, 0], np.ones(60)])
        assert metrics.affine_residual(Y, Y60) < 1e-12

    def test_procrustes_by_scipy(self):
        for T in (X60[:, :2], Y60 * [1.0, -3.0], Y60 + rng.normal(size=(60, 2))):
            disparity = procrustes(T, Y60)[2]
            assert metrics.procrustes_residual(Y60, T) ** 2 == pytest.approx(disparity, rel=1e-9)

    def test_procrustes_of_a_similar_figure(self):
        turned = 5.0 * X60 @ np.linalg.qr(rng.normal(size=(4, 4)))[0] + 2.0
        mirrored = turned * [1.0, 1.0, 1.0, -1.0]
        assert metrics.procrustes_residual(turned, X60) < 1e-13
        assert metrics.procrustes_residual(mirrored, X60) < 1e-13

    def test_small_residuals_keep_their_digits(self):
        T = Y60 - Y60.mean(axis=0)
        noise = rng.normal(size=T.shape)
        noise -= noise.mean(axis=0)
        for residual in (metrics.affine_residual, metrics.procrustes_residual):
            one, tenth = (residual(T + size * noise, T) for size in (1e-9, 1e-10))
            assert 1e-10 < one < 1e-8
            assert one / tenth == pytest.approx(10, rel=1e-3)

    def test_affine_is_at_most_procrustes(self):
        for seed in range(5):
            A, B = np.random.default_rng(seed).normal(size=(2, 30, 3))
            least = metrics.affine_residual(A, B)
            assert 0 < least <= metrics.procrustes_residual(A, B) <= 1

    @pytest.mark.parametrize("residual", [metrics.affine_residual, metrics.procrustes_residual])
    def test_collapsed_explains_nothing(self, residual):
        assert residual(np.full((60, 2), 0.1), Y60) == 1.0
        assert residual(np.zeros((60, 2)), Y60) == 1.0


class TestEffectiveSupport:
    def test_indicators(self):
        V = np.zeros((100, 4))
        V[:11, 0], V[:, 1], V[7, 2] = 0.3, -2.0, 1e-30
        assert_allclose(metrics.effective_support(V), [11.0, 100.0, 1.0, 0.0], rtol=1e-12)

    def test_by_definition(self):
        V = Y60 / np.linalg.norm(Y60, axis=0)
        assert_allclose(metrics.effective_support(Y60), 1 / (V**4).sum(axis=0), rtol=1e-12)

    @pytest.mark.parametrize("scale", [1e-200, 1e-80, 1e80, 1e149])
    def test_scale_does_not_matter(self, scale):
        expected = metrics.effective_support(Y60 / 10)
        assert_allclose(metrics.effective_support(Y60 / 10 * scale), expected, rtol=1e-12)

    def test_closed_form_of_a_cosine(self):
        """sum cos^2 = n / 2 and sum cos^4 = 3 n / 8 over whole periods: 2 n / 3."""
        cosine = np.cos(2 * np.pi * np.arange(300) / 300)[:, None]
        assert metrics.effective_support(cosine)[0] == pytest.approx(200, rel=1e-12)


@pytest.mark.slow
def test_benchmark(tmp_path, capsys):
    from benchmarks import metrics as benchmark

    record = tmp_path / "record.json"
    arguments = ["--quick", "--repeat", "1", "--case", "roll-10k", "--json", str(record)]
    assert benchmark.main(arguments) == 0
    (case,) = json.loads(record.read_text())["cases"]
    assert [result["task"] for result in case["results"]] == list(benchmark.TASKS)
    assert {result["status"] for result in case["results"]} == {"ok"}
    scores, ours, theirs, sample = (result["values"] for result in case["results"])
    assert list(scores) == list(sample) == list(SCORES)
    assert scores["trustworthiness"] == ours["trustworthiness"] == theirs["trustworthiness"]
    assert "±" in sample["trustworthiness"]
    assert "roll-10k" in capsys.readouterr().out
