"""Products of float32 matrices as proposers: beside brute force in float64 by NumPy."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lle_gpu.neighbors import cpu, products
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.neighbors.products import Float32Products
from lle_gpu.progress import StageTimes, report_to


def nearest(X, k, queries=None):
    """Distances and indices by (distance, index); of the points, if no queries are given."""
    asked = np.asarray(X if queries is None else queries, dtype=float)
    X = np.asarray(X, dtype=float)
    distance, index = np.empty((len(asked), k)), np.empty((len(asked), k), dtype=int)
    for i, x in enumerate(asked):
        squares = ((x - X) ** 2).sum(axis=1)
        if queries is None:
            squares[i] = np.inf
        index[i] = np.lexsort((np.arange(len(X)), squares))[:k]
        distance[i] = np.sqrt(squares[index[i]])
    return distance, index


def assert_exact(found, X, k, queries=None):
    distance, index = nearest(X, k, queries)
    np.testing.assert_array_equal(found[1], index)
    np.testing.assert_allclose(found[0], distance, rtol=1e-13)


def clusters(rng):
    centers = np.repeat(100 * rng.normal(size=(6, 16)), 50, axis=0)
    return centers + 1e-6 * rng.normal(size=(300, 16)) + 1e4


def outlier(rng):
    X = rng.normal(size=(300, 20))
    X[7] = 1e6
    return X


def half_hostile(rng):
    """Half of the rows is settled by float32; the other is a heap that it sees as one point."""
    X = rng.normal(size=(300, 20))
    X[150:] = X[0] + 1e-8 * rng.normal(size=(150, 20))
    return X


def copies(rng):
    X = rng.normal(size=(300, 17))
    X[rng.permutation(300)[:60]] = X[0]
    return X


DATA = {
    "gaussian": lambda rng: rng.normal(size=(700, 40)),
    "float32": lambda rng: rng.normal(size=(300, 40)).astype(np.float32) + np.float32(1000),
    "more features than points": lambda rng: rng.normal(size=(60, 2000)),
    "digits": lambda rng: load_digits().data[:600],
    "integers, ties everywhere": lambda rng: rng.integers(0, 2, size=(400, 16)).astype(float),
    "clusters of 1e-6": clusters,
    "an outlier": outlier,
    "a heap": half_hostile,
    "copies": copies,
    "all equal": lambda rng: np.full((80, 20), 3.7),
    "a curve": lambda rng: np.cos(np.sort(rng.uniform(size=(600, 1)), axis=0) * np.arange(1, 19)),
    "nearer and nearer": lambda rng: np.linspace(9, 1, 700)[:, None] * np.ones(20),
    "scales": lambda rng: rng.normal(size=(300, 18)) * 10.0 ** np.arange(-9, 9),
    "constant features": lambda rng: np.c_[rng.normal(size=(200, 2)), np.full((200, 20), 1e5)],
    "1e-140": lambda rng: rng.normal(size=(200, 20)) * 1e-140,
    "1e140": lambda rng: rng.normal(size=(200, 20)) * 1e140,
}


class TestNeighbours:
    """However the points are cut into blocks, lists merged and work shared."""

    @pytest.mark.parametrize(("k", "small"), [(1, True), (10, False), (10, True), (45, False)])
    @pytest.mark.parametrize("name", DATA)
    def test_as_by_brute_force(self, name, k, small, monkeypatch):
        rng = np.random.default_rng(0)
        X = DATA[name](rng)
        if small:
            monkeypatch.setattr(products, "COLUMNS", 23)
            monkeypatch.setattr(products, "PRODUCTS", 1)
            monkeypatch.setattr(products, "MERGED", 100)
            monkeypatch.setattr(products, "BLOCK_BYTES", 4 * (X.shape[1] + 1) * 50)
            monkeypatch.setattr(cpu, "FIRST_ROWS", 30)
        search = NeighborSearch(X, k, n_jobs=1 + small)
        assert isinstance(search._search, Float32Products)
        assert_exact(search.kneighbors(), X, k)
        exact = (np.round(X) == X).all()  # ties are to stay ties
        factor = 1.5 if exact else 1 + 0.01 * rng.normal(size=X[::9].shape)
        new = (X[::9] * factor).astype(X.dtype)
        assert_exact(search.kneighbors(new), X, k, new)

    @pytest.mark.parametrize("n", [1, 2, 3, 511, 512, 513, 1025])
    def test_sizes(self, n):
        X = np.random.default_rng(n).normal(size=(n, 16))
        new = X[:3] + 0.1
        for k in {1, min(n, 5), n}:
            search = NeighborSearch(X, k)
            assert_exact(search.kneighbors(new), X, k, new)
            if k < n:
                assert_exact(search.kneighbors(), X, k)

    @pytest.mark.parametrize("order", [1, -1])
    def test_points_in_order_of_distance(self, order):
        """Every point is nearer than all before, and is collected; or none but the first."""
        direction = np.random.default_rng(0).normal(size=20)
        X = np.linspace(1, 2, 5000)[::order, None] ** 2 * direction
        search = Float32Products(X, 1)
        queries = np.r_[0.5 * X[:1], 0 * X[:700], 3 * X[:1]]
        found, index = search.query(queries, 30)
        near = np.arange(30) if order == 1 else np.arange(4999, 4969, -1)
        np.testing.assert_array_equal(np.sort(index[1:701]), np.tile(np.sort(near), (700, 1)))
        assert (np.diff(found, axis=1) >= 0).all()

    @pytest.mark.parametrize("count", [1, 9, 400, 3000])
    def test_nothing_nearer_is_missed(self, count, monkeypatch):
        """Integers about zero, which float32 multiplies exactly: what is proposed is true."""
        monkeypatch.setattr(products, "COLUMNS", 100)
        monkeypatch.setattr(products, "PRODUCTS", 1)
        X = np.random.default_rng(0).integers(-9, 10, size=(1500, 16)).astype(float)
        X = np.r_[X, -X]
        true = np.sort(((X[:40, None] - X) ** 2).sum(axis=2), axis=1)
        proposed, index = Float32Products(X, 2).query(X[:40], count)
        np.testing.assert_array_equal(proposed, true[:, :count])
        np.testing.assert_array_equal(((X[:40, None] - X[index]) ** 2).sum(axis=2), proposed)
        assert (np.diff(np.sort(index, axis=1), axis=1) > 0).all()

    def test_one_row_has_many_more_than_the_others(self, monkeypatch):
        """Its lists are merged apart from those of the others, which stay short."""
        monkeypatch.setattr(products, "MERGED", 2000)
        rng = np.random.default_rng(0)
        for heavy in (0, 5, 10):
            value = np.sort(rng.normal(size=(11, 4)).astype(np.float32), axis=1)
            index = rng.integers(1000, size=(11, 4))
            row = np.sort(np.r_[np.full(300, heavy), rng.integers(11, size=40)])
            column = 1000 + np.arange(len(row))
            new = rng.normal(size=len(row)).astype(np.float32)
            expected = []
            for i in range(11):
                values = np.r_[value[i], new[row == i]]
                least = np.argsort(values)[:4]
                expected.append(np.sort(np.r_[index[i], column[row == i]][least]))
            products._merge(value, index, row, column, new)
            np.testing.assert_array_equal(np.sort(index, axis=1), expected)

    def test_queries_from_far_away(self, monkeypatch):
        X = np.random.default_rng(0).normal(size=(200, 18))
        queries = np.array([[1e3], [1e15], [1e120], [-1e140]]) + X[:4]
        found = NeighborSearch(X, 6).kneighbors(queries)
        monkeypatch.setattr(cpu, "FLOAT32_MAX_FEATURES", 0)
        # Many distances are equal, as rounded: not for another order of summation.
        for part, expected in zip(found, NeighborSearch(X, 6).kneighbors(queries), strict=True):
            np.testing.assert_array_equal(part, expected)

    def test_many_features_are_for_float64(self):
        X = np.random.default_rng(0).normal(size=(50, cpu.FLOAT32_MAX_FEATURES + 1))
        search = NeighborSearch(X, 4)
        assert not search._search.float32
        assert_exact(search.kneighbors(), X, 4)


@pytest.mark.parametrize("count", [1, 5, 12, 13, 24, 25])
def test_the_first_bound_is_above_as_many_as_are_asked_for(count):
    rng = np.random.default_rng(count)
    for P in (rng.normal(size=(9, 24)), rng.integers(0, 2, size=(9, 24)), np.zeros((9, 24))):
        P = P.astype(np.float32)
        below = (products._first_bound(P, count) > P).sum(axis=1)
        assert (below >= min(count, 24)).all()


class TestTheBound:
    @pytest.mark.parametrize("scale", [1.0, 1e-130, 1e130])
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_it_holds(self, scale, offset):
        """No point outside the list is truly nearer than the last in it by more than the bound."""
        rng = np.random.default_rng(0)
        X = (rng.normal(size=(200, 60)) * 10.0 ** rng.uniform(-3, 0, 60) + offset) * scale
        X[50] += 1e4 * scale
        queries = np.r_[X[:60], X[:30] * 1.5, X[:30] * 1e9]
        search = Float32Products(X, None)
        proposed, index = search.query(queries, len(X))
        true = ((queries[:, None] - X[index]) ** 2).sum(axis=2)
        for j in range(len(X) - 1):
            least = proposed[:, j] - search.error(queries, proposed[:, j])
            assert (true[:, j + 1 :] >= least[:, None]).all()

    @pytest.mark.parametrize("d", [16, 100, 3000])
    def test_it_covers_any_order_of_summation(self, d):
        """Also one term after the other, each rounded the same way."""
        rng = np.random.default_rng(0)
        X = np.r_[[np.full(d, 1.0)], [np.full(d, -1.0)], rng.uniform(0.9, 1, size=(300, d))]
        search = Float32Products(X, None)
        Z = search._in_float32(X)
        squares = np.einsum("ij,ij->i", Z, Z, dtype=np.float64)
        scale = search._in_float32.scale
        for i in range(len(X)):
            terms = np.c_[-2 * Z * Z[i], squares.astype(np.float32)]
            found = np.cumsum(terms, axis=1, dtype=np.float32)[:, -1].astype(float) + squares[i]
            found = found / scale**2
            true = ((X - X[i]) ** 2).sum(axis=1)
            assert (true >= found - search.error(np.repeat(X[i : i + 1], len(X), 0), found)).all()

    def test_it_is_no_larger_than_it_must_be(self):
        X = np.random.default_rng(0).normal(size=(2000, 60))
        search = Float32Products(X, None)
        last = search.query(X, 20)[0][:, -1]
        assert (search.error(X, last) < 1e-4 * last).all()

    def test_an_outlier_makes_it_no_larger_where_the_centre_stays(self):
        X = np.random.default_rng(0).normal(size=(2000, 20))
        X[0], X[1] = 1e6, -1e6
        with report_to(StageTimes()) as report:
            NeighborSearch(X, 10).kneighbors()
        assert report.notes in ([], ["neighbours: 2 of 2000 points searched in float64"])


class TestWhatIsLeftOpen:
    def test_nothing_of_ordinary_data(self):
        for X in (np.random.default_rng(0).normal(size=(1500, 50)), load_digits().data):
            with report_to(StageTimes()) as report:
                NeighborSearch(X, 10).kneighbors()
            assert report.notes == []

    def test_float64_has_the_rest_as_soon_as_most_is_open(self, monkeypatch):
        """The first 20, 40 and 80 rows are settled, the next 160 are not: no more follow."""
        rng = np.random.default_rng(0)
        X = rng.normal(size=(1000, 20))
        X[140:] = X[0] + 1e-9 * rng.normal(size=(860, 20))
        asked = []
        query = Float32Products.query
        monkeypatch.setattr(
            Float32Products,
            "query",
            lambda self, points, count: asked.append(len(points)) or query(self, points, count),
        )
        monkeypatch.setattr(cpu, "FIRST_ROWS", 20)
        with report_to(StageTimes()) as report:
            found = NeighborSearch(X, 8).kneighbors()
        assert_exact(found, X, 8)
        assert asked == [20, 40, 80, 160]
        assert len(report.notes) == 1
        assert int(report.notes[0].split()[1]) >= 860


def test_a_pickle_holds_the_points_alone():
    X = np.random.default_rng(0).normal(size=(400, 30))
    search = NeighborSearch(X, 5)
    expected = search.kneighbors(X[:9])
    assert search._search._whole is not None
    text = pickle.dumps(search)
    assert len(text) < 1.1 * X.nbytes
    for found, true in zip(pickle.loads(text).kneighbors(X[:9]), expected, strict=True):
        np.testing.assert_array_equal(found, true)


def test_points_beyond_a_block_are_not_held(monkeypatch):
    X = np.random.default_rng(0).normal(size=(400, 30))
    monkeypatch.setattr(products, "BLOCK_BYTES", 31 * 4 * 399)
    search = NeighborSearch(X, 5)
    search.kneighbors()
    assert search._search._whole is None
