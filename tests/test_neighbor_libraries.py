"""FAISS, which is exact here, and pynndescent, which is not: beside brute force by NumPy."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from conftest import METHODS, make_manifold, two_clusters
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import VALID_METRICS

from lle_gpu import LocallyLinearEmbedding, kinds, locally_linear_embedding
from lle_gpu.neighbors import pynndescent as door
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.neighbors.faiss import Faiss
from lle_gpu.progress import StageTimes, report_to

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="FAISS is not installed"
)
ROLL = make_manifold("swiss-roll", 300)


@needs_faiss
class TestFaiss:
    """Exactness on ugly data is in test_neighbors.py."""

    def test_what_float32_cannot_tell_is_searched_in_float64(self):
        """Twenty copies each, nearer to one another than float32 can tell."""
        rng = np.random.default_rng(0)
        X = np.repeat(rng.normal(size=(12, 20)), 20, axis=0)
        X += 1e-9 * rng.normal(size=X.shape) + 1e3
        with report_to(StageTimes()) as report:
            index = NeighborSearch(X, 5, algorithm="faiss").kneighbors(return_distance=False)
        np.testing.assert_array_equal(index, reference.neighbors(X, 5))
        assert report.notes == ["neighbours: 240 of 240 points searched in float64"]

    def test_well_spread_points_are_settled_at_once(self):
        X = np.random.default_rng(0).normal(size=(500, 30))
        with report_to(StageTimes()) as report:
            NeighborSearch(X, 5, algorithm="faiss").kneighbors()
        assert report.notes == []

    @pytest.mark.parametrize("scale", [1.0, 1e-130, 1e130])
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_the_bound_holds(self, scale, offset):
        """No true squared distance is below the proposed one by more than the bound."""
        rng = np.random.default_rng(0)
        X = (rng.normal(size=(200, 60)) * 10.0 ** rng.uniform(-3, 0, 60) + offset) * scale
        queries = np.r_[X[:30], X[:30] * 1.5, X[:30] * 1e9]
        search = Faiss(X, None)
        proposed, index = search.query(queries, len(X))
        true = ((queries[:, None] - X[index]) ** 2).sum(axis=2)
        bounds = np.column_stack([search.error(queries, column) for column in proposed.T])
        assert (proposed - true <= bounds).all()
        assert (np.diff(proposed, axis=1) >= 0).all()
        # And is no larger than it must be.
        assert np.median(bounds[:30] / true.max()) < 1e-4

    def test_queries_from_far_away(self):
        X = np.random.default_rng(0).normal(size=(200, 18))
        queries = np.array([[1e3], [1e15], [1e120], [-1e140]]) + X[:4]
        expected = NeighborSearch(X, 6, algorithm="brute").kneighbors(queries)
        for found, true in zip(
            NeighborSearch(X, 6, algorithm="faiss").kneighbors(queries), expected, strict=True
        ):
            np.testing.assert_array_equal(found, true)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_embedding_is_the_same_to_the_bit(self, method):
        X = make_manifold("five-d", 300)
        expected = LocallyLinearEmbedding(n_neighbors=12, method=method).fit(X)
        model = LocallyLinearEmbedding(n_neighbors=12, method=method, neighbors_algorithm="faiss")
        np.testing.assert_array_equal(model.fit(X).embedding_, expected.embedding_)
        new = X[:20] + 0.01
        np.testing.assert_array_equal(model.transform(new), expected.transform(new))
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.transform(new), expected.transform(new))

    def test_threads_are_set_and_put_back(self, monkeypatch):
        import faiss

        before = faiss.omp_get_max_threads()
        seen = []
        search = faiss.IndexFlatL2.search
        monkeypatch.setattr(
            faiss.IndexFlatL2,
            "search",
            lambda *given: seen.append(faiss.omp_get_max_threads()) or search(*given),
        )
        for jobs in (1, 3):
            NeighborSearch(ROLL, 3, algorithm="faiss", n_jobs=jobs).kneighbors()
        assert seen == [1, 3]
        assert faiss.omp_get_max_threads() == before

    def test_euclidean_only(self):
        model = LocallyLinearEmbedding(neighbors_algorithm="faiss", metric="cosine")
        with pytest.raises(ValueError, match="metric='cosine' is none that.*'faiss'.*'auto'"):
            model.fit(ROLL)


# A fake, so that the tests need not compile for half a minute: the true neighbours by brute force
# in float32, some of which it misses. Its names and conventions are those of pynndescent 0.7.
class FakeNNDescent:
    made: list[dict] = []
    # Row -> what goes wrong there.
    misses: dict[int, int] = {}
    holes: tuple[int, ...] = ()
    inside = 0

    def __init__(self, data, metric, n_neighbors, random_state):
        assert data.dtype == np.float32 and data.flags.c_contiguous
        type(self).made.append(
            {"metric": metric, "n_neighbors": n_neighbors, "seed": random_state, "n": len(data)}
        )
        assert len(data) > n_neighbors
        self.data, self.metric, self.count = data, metric, n_neighbors

    def nearest(self, points, k):
        D = pairwise_distances(points, self.data, metric=self.metric)
        index = np.argsort(D, axis=1)[:, :k]
        return index.astype(np.int32), np.take_along_axis(D, index, axis=1).astype(np.float32)

    @property
    def neighbor_graph(self):
        cls = type(self)
        assert cls.inside == 0, "two at once"
        cls.inside += 1
        time.sleep(0.01)
        cls.inside -= 1
        index, distance = self.nearest(self.data, self.count + 1)
        n = len(index)
        for i in range(n):  # itself first, as theirs
            others = np.flatnonzero(index[i] != i)[: self.count - 1]
            index[i, 1 : self.count] = index[i, others]
            distance[i, 1 : self.count] = distance[i, others]
        index[:, 0], distance[:, 0] = np.arange(n), 0
        for row, column in self.misses.items():
            index[row, column:-1] = index[row, column + 1 :]
            distance[row, column:-1] = distance[row, column + 1 :]
        for row in self.holes:
            index[row, -3:], distance[row, -3:] = -1, np.inf
        return index[:, : self.count], distance[:, : self.count]

    def query(self, points, k, epsilon):
        assert points.dtype == np.float32 and 0 < epsilon <= 0.3
        return self.nearest(points, k)


@pytest.fixture
def fake(monkeypatch):
    threads = SimpleNamespace(now=4, seen=[])

    def set_num_threads(count):
        threads.now = count
        threads.seen.append(count)

    numba = SimpleNamespace(
        get_num_threads=lambda: threads.now,
        set_num_threads=set_num_threads,
        config=SimpleNamespace(NUMBA_NUM_THREADS=4),
    )
    kind = type("NNDescent", (FakeNNDescent,), {"made": [], "misses": {}, "holes": ()})
    monkeypatch.setitem(sys.modules, "numba", numba)
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=kind))
    kind.threads = threads
    return kind


class TestPyNNDescentsDoor:
    def search(self, X, k=5, **options):
        return NeighborSearch(X, k, algorithm="pynndescent", **options)

    def test_a_copy_of_a_memory_mapped_array(self, fake, tmp_path, monkeypatch):
        monkeypatch.setattr(kinds, "_MAPPED", 1000)
        np.save(tmp_path / "X.npy", ROLL)
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        with pytest.warns(UserWarning, match="'pynndescent' holds .*float32.*'brute' reads X in"):
            self.search(mapped).kneighbors()

    @pytest.mark.parametrize("k", [1, 5, 20])
    @pytest.mark.parametrize(
        "X",
        [
            ROLL,
            ROLL * 1e-140,
            ROLL * 1e140,
            ROLL + 1e9,  # float32 alone would see one point
            np.repeat(np.random.default_rng(0).normal(size=(60, 3)), 2, axis=0),
        ],
        ids=["roll", "tiny", "huge", "far from the origin", "every point twice"],
    )
    def test_candidates_are_ordered_in_float64_without_self(self, fake, X, k):
        distance, index = self.search(X, k).kneighbors()
        np.testing.assert_array_equal(index, reference.neighbors(X, k))
        exact = np.linalg.norm((X[index] - X[:, None]) / X.max(), axis=2) * X.max()
        np.testing.assert_allclose(distance, exact, rtol=1e-12)
        # With three times as many candidates, and never less than pynndescent's 30.
        assert [made["n_neighbors"] for made in fake.made] == [max(30, 3 * (k + 1))]

    def test_what_it_misses_is_missed(self, fake):
        fake.misses = {3: 1, 8: 2}  # the nearest of row 3, the second of row 8
        wide = reference.neighbors(ROLL, 6)
        expected = wide[:, :5].copy()
        expected[3], expected[8] = wide[3, 1:], wide[8, [0, 2, 3, 4, 5]]
        index = self.search(ROLL).kneighbors(return_distance=False)
        np.testing.assert_array_equal(index, expected)

    def test_rows_that_it_did_not_fill_are_searched_exactly(self, fake):
        fake.holes = (0, 7, 299)
        fake.misses = {7: 1}
        with report_to(StageTimes()) as report:
            distance, index = self.search(ROLL).kneighbors()
        expected = NeighborSearch(ROLL, 5).kneighbors()
        np.testing.assert_array_equal(index, expected[1])
        np.testing.assert_array_equal(distance, expected[0])
        assert report.notes == ["neighbours: 3 of 300 points are searched exactly"]

    def test_rows_that_it_did_not_fill_among_many_copies(self, fake):
        X = np.r_[np.zeros((60, 3)), ROLL]
        fake.holes = (50, 200)
        index = self.search(X).kneighbors(return_distance=False)
        assert index[50].tolist() == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(index[200], reference.neighbors(X, 5)[200])

    @pytest.mark.parametrize("n", [7, 20, 30])
    def test_few_points_are_searched_exactly(self, fake, n):
        X = ROLL[:n]
        index = self.search(X).kneighbors(return_distance=False)
        np.testing.assert_array_equal(index, reference.neighbors(X, 5))
        found = self.search(X).kneighbors(X[:4] + 0.1)[1]
        np.testing.assert_array_equal(found, NeighborSearch(X, 5).kneighbors(X[:4] + 0.1)[1])
        assert fake.made == []

    def test_queries(self, fake):
        search, new = self.search(ROLL), ROLL[:40] + 0.1
        for found, expected in zip(
            search.kneighbors(new), NeighborSearch(ROLL, 5).kneighbors(new), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
        assert search.kneighbors(ROLL)[1][:, 0].tolist() == list(range(300))
        search.kneighbors()
        assert len(fake.made) == 1, "the index was made again"
        search.kneighbors(n_neighbors=40)
        assert [made["n_neighbors"] for made in fake.made] == [30, 123]

    def test_other_metrics(self, fake):
        X = make_manifold("five-d", 200)
        D = pairwise_distances(X.astype(np.float32), metric="manhattan")
        np.fill_diagonal(D, np.inf)
        for metric in ("manhattan", "l1", "cityblock"):
            index = self.search(X, metric=metric).kneighbors(return_distance=False)
            np.testing.assert_array_equal(index, np.argsort(D, axis=1, kind="stable")[:, :5])
        assert {made["metric"] for made in fake.made} == {"manhattan", "l1"}
        # The cosine is about the origin, which must not be moved.
        C = pairwise_distances(X + 5, metric="cosine")
        np.fill_diagonal(C, np.inf)
        index = self.search(X + 5, metric="cosine").kneighbors(return_distance=False)
        same = np.sort(index) == np.sort(np.argsort(C, axis=1)[:, :5])
        assert same.mean() > 0.95

    def test_seeds(self, fake):
        for state in (None, 7, np.int64(7), np.random.RandomState(7), np.random.RandomState(7)):
            self.search(ROLL, random_state=state).kneighbors()
        seeds = [made["seed"] for made in fake.made]
        assert seeds[:3] == [0, 7, 7]
        assert seeds[3] == seeds[4] != 7
        assert all(type(seed) is int for seed in seeds)
        model = LocallyLinearEmbedding(
            n_neighbors=8, neighbors_algorithm="pynndescent", random_state=11
        )
        model.fit(ROLL).transform(ROLL[:3])
        assert [made["seed"] for made in fake.made[5:]] == [11]

    def test_threads_are_set_and_put_back(self, fake):
        for jobs in (1, 2, 64):
            self.search(ROLL, n_jobs=jobs).kneighbors()
        assert fake.threads.seen == [1, 4, 2, 4, 4, 4]  # no more than numba has

    def test_one_search_at_a_time(self, fake):
        """numba's simplest threading layer ends the process if two enter."""
        barrier = threading.Barrier(4)

        def search():
            barrier.wait()
            return self.search(ROLL).kneighbors(return_distance=False)

        with ThreadPoolExecutor(4) as pool:
            found = [job.result() for job in [pool.submit(search) for _ in range(4)]]
        for index in found:
            np.testing.assert_array_equal(index, found[0])

    def test_pickles_are_small_and_made_anew(self, fake):
        search = self.search(ROLL, random_state=np.random.RandomState(0))
        expected = search.kneighbors()
        data = pickle.dumps(search)
        assert len(data) < 2 * ROLL.nbytes
        again = pickle.loads(data)
        np.testing.assert_array_equal(again.kneighbors()[1], expected[1])
        assert fake.made[0] == fake.made[1]

    @pytest.mark.parametrize("disconnected", ["bridge", "largest"])
    def test_mending_is_exact_and_makes_no_index(self, fake, disconnected):
        X = two_clusters(100)
        options = {"n_neighbors": 8, "disconnected": disconnected}
        model = LocallyLinearEmbedding(neighbors_algorithm="pynndescent", **options).fit(X)
        assert len(fake.made) == 1
        expected = LocallyLinearEmbedding(**options).fit(X)
        np.testing.assert_array_equal(model.embedding_, expected.embedding_)

    @pytest.mark.parametrize("method", METHODS)
    def test_all_found_is_the_exact_embedding(self, fake, method):
        X = make_manifold("s-curve", 300)
        options = {"n_neighbors": 10, "method": method}
        expected = LocallyLinearEmbedding(**options).fit(X)
        model = LocallyLinearEmbedding(neighbors_algorithm="pynndescent", **options).fit(X)
        np.testing.assert_array_equal(model.embedding_, expected.embedding_)
        np.testing.assert_array_equal(model.transform(X), model.embedding_)
        new = X[:20] + 0.01
        np.testing.assert_array_equal(model.transform(new), expected.transform(new))
        Y, _ = locally_linear_embedding(
            X, n_components=2, neighbors_algorithm="pynndescent", **options
        )
        np.testing.assert_array_equal(Y, expected.embedding_)

    def test_a_given_graph_needs_no_index_before_transform(self, fake):
        model = LocallyLinearEmbedding(n_neighbors=5, neighbors_algorithm="pynndescent")
        model.fit(ROLL, knn_graph=reference.neighbors(ROLL, 5))
        assert fake.made == []
        model.transform(ROLL[:2])
        assert len(fake.made) == 1

    def test_metrics_that_it_does_not_know(self, fake):
        for metric in ("mahalanobis", "seuclidean", "nan_euclidean", "precomputed", "no such"):
            with pytest.raises(ValueError, match=f"metric='{metric}' is none.*'cosine'.*'auto'"):
                self.search(ROLL, metric=metric)
        with pytest.raises(ValueError, match="is none that neighbors_algorithm='pynndescent'"):
            self.search(ROLL, metric=lambda a, b: 0.0)

    def test_numbers_too_large_for_float32(self, fake):
        with pytest.raises(ValueError, match="beyond 3e38.*float32. Rescale X"):
            self.search(ROLL * 1e60, metric="cosine").kneighbors()

    def test_distances_that_are_not_finite(self, fake, monkeypatch):
        nearest = fake.nearest

        def broken(self, points, k):
            index, distance = nearest(self, points, k)
            distance[5, 3] = np.nan
            return index, distance

        monkeypatch.setattr(fake, "nearest", broken)
        with pytest.raises(ValueError, match=r"'correlation' gives.*not finite \(row 5\)"):
            self.search(make_manifold("five-d", 200), metric="correlation").kneighbors()


@pytest.mark.parametrize("algorithm", ["faiss", "pynndescent"])
class TestBoth:
    def test_missing(self, monkeypatch, algorithm):
        monkeypatch.setitem(sys.modules, algorithm, None)
        match = rf"neighbors_algorithm='{algorithm}' needs.*'lle-gpu\[{algorithm}\]'.*'auto'"
        model = LocallyLinearEmbedding(neighbors_algorithm=algorithm)
        before = dict(vars(model))
        with pytest.raises(ImportError, match=match):
            model.fit(ROLL)
        assert vars(model) == before

    def test_the_cpu_s(self, fake, algorithm):
        pytest.importorskip(algorithm)
        model = LocallyLinearEmbedding(neighbors_algorithm=algorithm)
        assert model.fit(ROLL).device_ == "cpu"
        with pytest.raises(ValueError, match=f"'{algorithm}' is not known to .*device='cpu'"):
            model.set_params(device="gpu").fit(ROLL)

    def test_sparse_points(self, fake, algorithm):
        with pytest.raises(ValueError, match=f"'{algorithm}' does not take sparse X.*toarray"):
            LocallyLinearEmbedding(neighbors_algorithm=algorithm).fit(sp.csr_array(ROLL))


@pytest.mark.filterwarnings("ignore:Data was converted to boolean")
def test_metrics_mean_the_same_to_both():
    distances = pytest.importorskip("pynndescent.distances").named_distances
    rng = np.random.default_rng(0)
    valid = set(VALID_METRICS["brute"]) | set(VALID_METRICS["ball_tree"])
    assert set(door.METRICS) <= valid
    binary = rng.random((12, 8)) > 0.5
    binary[:, 0], binary[:, 1] = True, False  # no row all zeros or all ones
    data = {
        "real": rng.normal(size=(12, 8)),
        "some zeros": rng.normal(size=(12, 8)) * (binary | (rng.random((12, 8)) > 0.7)),
        "binary": binary,
        "angles": rng.uniform(-1, 1, size=(12, 2)),
    }
    for name, theirs in door.METRICS.items():
        distance = distances[theirs].py_func  # compiled, each takes more than a second
        for kind, X in data.items():
            if (name == "haversine") == (kind == "angles"):
                A = X.astype(np.float32)
                expected = pairwise_distances(A, metric=name)
                found = [[distance(a, b) for b in A] for a in A]
                np.testing.assert_allclose(
                    found, expected, rtol=1e-5, atol=2e-6, err_msg=f"{name}, {kind}"
                )


@pytest.mark.slow  # numba compiles for some twenty seconds
def test_pynndescent_itself():
    pytest.importorskip("pynndescent")
    X = make_manifold("digits", 1200)
    exact = reference.neighbors(X, 10)
    search = NeighborSearch(X, 10, algorithm="pynndescent", n_jobs=2)
    distance, index = search.kneighbors()
    found = np.mean([len(np.intersect1d(a, b)) for a, b in zip(exact, index, strict=True)]) / 10
    assert found > 0.99
    assert not (index == np.arange(1200)[:, None]).any()
    true = np.linalg.norm(X[index] - X[:, None], axis=2)
    np.testing.assert_allclose(distance, true, rtol=1e-14)
    order = np.lexsort((index, true), axis=-1)
    np.testing.assert_array_equal(order, np.tile(np.arange(10), (1200, 1)))
    again = NeighborSearch(X, 10, algorithm="pynndescent", n_jobs=2).kneighbors()
    np.testing.assert_array_equal(again[1], index)

    options = {"n_neighbors": 10, "neighbors_algorithm": "pynndescent", "n_jobs": 2}
    model = LocallyLinearEmbedding(**options).fit(X)
    by_graph = LocallyLinearEmbedding(n_neighbors=10).fit(X, knn_graph=index)
    np.testing.assert_array_equal(model.embedding_, by_graph.embedding_)
    np.testing.assert_array_equal(model.transform(X[:200]), model.embedding_[:200])
    new = X[:200] + 0.25
    placed = model.nbrs_.kneighbors(new, 10)[1]
    expected = NeighborSearch(X, 10).kneighbors(new)[1]
    assert np.mean(np.sort(placed) == np.sort(expected)) > 0.98
    theirs = search._search._index.neighbor_graph  # as its users have it: itself first
    LocallyLinearEmbedding(n_neighbors=10).fit(X, knn_graph=theirs)
