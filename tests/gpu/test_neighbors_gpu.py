"""Neighbours on the GPU: the CPU's, to the last bit, whoever proposes the candidates."""

from __future__ import annotations

import copy
import gc
import inspect
import platform
import re
import sys
import threading
import time
from itertools import permutations, product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import reference
from conftest import make_manifold
from numpy.testing import assert_array_equal

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.cuda import duration
from lle_gpu.cuda.memory import is_out_of_memory
from lle_gpu.exceptions import GpuUnavailableError
from lle_gpu.neighbors import CPU_ALGORITHMS, candidates, cpu
from lle_gpu.neighbors import gpu as gpu_neighbors
from lle_gpu.neighbors.candidates import Scaled
from lle_gpu.neighbors.gpu import INDEX_LIMIT, Differences, NeighborSearch, Products
from lle_gpu.progress import StageTimes, report_to

from . import fake_rapids

RNG = np.random.default_rng(0)
ROLL = make_manifold("swiss-roll", 150)
LATTICE = np.array(list(product(range(9), repeat=2)), dtype=float)
DATA = {
    "roll": ROLL,
    "digits (many ties)": make_manifold("digits", 100),
    "lattice (ties everywhere)": LATTICE,
    "rows ten times": np.repeat(RNG.normal(size=(9, 4)), 10, axis=0),
    "half of the rows equal": np.r_[np.zeros((50, 2)), RNG.normal(size=(50, 2))],
    "all rows equal": np.ones((40, 3)),
    "far from the origin": RNG.normal(size=(80, 20)) + 1e7,
    "pairs nearer than float32 tells": np.repeat(RNG.normal(size=(40, 3)), 2, axis=0)
    + 1e-9 * RNG.normal(size=(80, 3)),
    # More points than a list of candidates holds: it does not matter which float32 prefers.
    "cluster nearer than float32 tells": np.r_[1e-9 * RNG.normal(size=(60, 3)), np.ones((1, 3))],
    "cluster at the limit of float32": np.r_[
        1 + 1e-7 * RNG.normal(size=(60, 2)), -np.ones((60, 2))
    ],
    "one feature": RNG.normal(size=(70, 1)),
    "features on very different scales": RNG.normal(size=(80, 18)) * 10.0 ** np.arange(-9, 9),
    "subnormal": 1e-310 * RNG.uniform(1, 2, size=(60, 3)),
    "huge": 1e150 * RNG.uniform(1, 2, size=(60, 3)),
    "tiny": 1e-150 * RNG.uniform(1, 2, size=(60, 3)),
    "large for float32": 1e30 * RNG.normal(size=(60, 3)),
    "small for float32": 1e-30 * RNG.normal(size=(60, 3)),
    "two points": np.array([[0.0], [1.0]]),
}


def both(gpu, X, k, queries=None, **options):
    """(distance, index) of the GPU's search and of the CPU's."""
    cp = gpu.cupy
    asked = () if queries is None else (cp.asarray(queries),)
    found = NeighborSearch(cp.asarray(X), k, **options).kneighbors(*asked)
    expected = cpu.NeighborSearch(X, k).kneighbors(*(() if queries is None else (queries,)))
    return tuple(map(gpu.to_numpy, found)), expected


def assert_equal(found, expected):
    for of_gpu, of_cpu in zip(found, expected, strict=True):
        assert of_gpu.dtype == of_cpu.dtype
    assert_array_equal(found[1], expected[1])
    if platform.machine() == "x86_64":  # elsewhere NumPy may add in another order
        assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", DATA)
def test_neighbours_are_the_cpus(gpu, name, dtype):
    if dtype == np.float32 and name == "huge":
        pytest.skip("beyond float32")
    X = DATA[name].astype(dtype)
    assert_equal(*both(gpu, X, min(7, len(X) - 1)))


@pytest.mark.parametrize("name", ["roll", "lattice (ties everywhere)"])
def test_neighbours_are_the_references(gpu, name):
    X = DATA[name]
    index = NeighborSearch(gpu.cupy.asarray(X), 6).kneighbors(return_distance=False)
    assert_array_equal(gpu.to_numpy(index), reference.neighbors(X, 6))


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 40, 100, 784])
def test_any_number_of_features(gpu_once, d):
    X = np.random.default_rng(d).normal(size=(45, d))
    assert_equal(*both(gpu_once, X, 5))
    if gpu_once.machine is not None:
        ours = "knn_difference" if d <= 32 else "knn_products"
        launched = gpu_once.machine.launches
        assert any(name.startswith(ours) for name in launched)
        assert not any(name.startswith("knn_exact") for name in launched), "float32 settles none"


# 24 | 25: a list of 32 candidates | of 128; 120 | 121: candidates | float64 for all;
# 128 | 129 and 256 | 257: passes of 128.
@pytest.mark.parametrize("k", [1, 24, 25, 32, 33, 120, 121, 128, 129, 256, 257, 299])
@pytest.mark.parametrize("d", [2, 40])
def test_any_number_of_neighbours(gpu_once, k, d):
    X = np.random.default_rng(d).normal(size=(300, d))
    if d == 2:
        X = np.round(2 * X)  # ties across all bounds
    queries = X[:: 40 if k > 24 else 10] + 0.01
    assert_equal(*both(gpu_once, X, k, queries))
    if k == 299:
        assert_equal(*both(gpu_once, X[:131], 130))


@pytest.mark.parametrize("k", [7, 40])
def test_float32_does_not_decide(gpu, k):
    """200 points at float32's limit: of each list the most are left out."""
    X = np.r_[1 + 1e-7 * np.random.default_rng(k).normal(size=(200, 2)), -np.ones((3, 2))]
    assert_equal(*both(gpu, X, k, X[::9]))
    # A few near points, and then a circle of them, all as far as float32 can tell.
    angle = np.linspace(0, 6, 200)
    circle = (1 + 1e-9 * np.cos(99 * angle)) * np.array([np.cos(angle), np.sin(angle)])
    X = np.r_[0.1 * circle.T[: k // 2], circle.T]
    assert_equal(*both(gpu, X, k, np.zeros((1, 2))))


@pytest.mark.parametrize("n", [2, 31, 32, 33, 127, 128, 129])
def test_any_number_of_points(gpu, n):
    X = np.random.default_rng(n).normal(size=(n, 3))
    assert_equal(*both(gpu, X, min(n - 1, 9), X[:: max(1, n // 7)]))


class TestQueries:
    @pytest.mark.parametrize("kinds", list(product([np.float32, np.float64], repeat=2)))
    @pytest.mark.parametrize("d", [3, 40])
    def test_new_points_of_either_precision(self, gpu, kinds, d):
        rng = np.random.default_rng(d)
        X, queries = (rng.normal(size=(50, d)).astype(kind) for kind in kinds)
        assert_equal(*both(gpu, X, 6, queries))

    def test_training_points_come_first(self, gpu):
        X = DATA["lattice (ties everywhere)"]
        (distance, index), _ = both(gpu, X, 5, X)
        assert_array_equal(index[:, 0], np.arange(len(X)))
        assert_array_equal(distance[:, 0], 0)

    @pytest.mark.parametrize("d", [3, 40])
    @pytest.mark.parametrize("distance", [1e3, 1e12, 1e30, 1e100])
    def test_far_from_all_points(self, gpu_once, distance, d):
        X = np.random.default_rng(d).normal(size=(60, d))
        queries = distance * np.random.default_rng(1).normal(size=(4, d))
        queries[1] = X[7]
        search = NeighborSearch(gpu_once.cupy.asarray(X), 5)
        found = search.kneighbors(gpu_once.cupy.asarray(queries))
        expected = cpu.NeighborSearch(X, 5).kneighbors(queries)
        assert_equal([gpu_once.to_numpy(part) for part in found], expected)
        assert search.passed_over == {}, "it is not the proposer's fault"

    def test_none_and_one_and_all(self, gpu):
        found, _ = both(gpu, ROLL, 3, ROLL[:0])
        assert [part.shape for part in found] == [(0, 3), (0, 3)]
        assert_equal(*both(gpu, ROLL, 3, ROLL[4:5]))
        assert_equal(*both(gpu, ROLL[:40], 40, ROLL[50:52]))
        assert_equal(*both(gpu, ROLL[:1], 1, ROLL[:3]))

    def test_lists_and_frames(self, stand_in):
        search = NeighborSearch(stand_in.cupy.asarray(ROLL[:60]), 3)
        expected = search.kneighbors(ROLL[60:69])
        for queries in (ROLL[60:69].tolist(), pd.DataFrame(ROLL[60:69])):
            found = search.kneighbors(queries)
            assert all(type(part) is np.ndarray for part in found)
            assert_equal(found, expected)
        with pytest.raises(ValueError, match=r"^X is of shape \(3,\), and must be"):
            search.kneighbors([1, 2, 3])

    def test_columns_first_in_memory(self, stand_in):
        cp = stand_in.cupy
        X, queries = ROLL[:60], ROLL[60:69]
        on_device = [cp.asfortranarray(cp.asarray(array)) for array in (X, queries)]
        assert not any(array.flags.c_contiguous for array in on_device)
        found = NeighborSearch(on_device[0], 3).kneighbors(on_device[1])
        assert_equal(
            [stand_in.to_numpy(part) for part in found],
            cpu.NeighborSearch(X, 3).kneighbors(queries),
        )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="NumPy adds in another order there")
@pytest.mark.parametrize("d", [3, 5, 8, 11, 40])
def test_near_ties_are_decided_by_the_cpus_rounding(gpu, d):
    """Equal distances but for the order of summation: only the same order gives the same answer."""
    values = np.random.default_rng(d).normal(size=d)
    orders = list(permutations(range(d)))[:60] if d < 8 else []
    orders += [np.random.default_rng(i).permutation(d) for i in range(60 - len(orders))]
    X = np.r_[np.zeros((1, d)), [values[list(order)] for order in orders]]
    found, expected = both(gpu, X, 40)
    exact = np.sort(np.square(X).sum(axis=1)[1:])
    assert len(np.unique(exact)) > 1 and exact[0] > exact[-1] * (1 - 1e-14)
    assert_equal(found, expected)


class TestProposals:
    """Our own candidates, before float64 looks at them."""

    @pytest.mark.parametrize("proposer", [Differences, Products])
    @pytest.mark.parametrize("k", [5, 40])
    def test_are_the_nearest_and_within_their_bound(self, gpu, proposer, k, monkeypatch):
        monkeypatch.setattr(gpu_neighbors, "TILE_POINTS", 50)
        monkeypatch.setattr(gpu_neighbors, "TILE_QUERIES", 32)
        cp = gpu.cupy
        X = np.random.default_rng(3).normal(size=(130, 9)) + 5
        queries = np.random.default_rng(4).normal(size=(39, 9)) + 5
        queries[:10] = X[:10] + 1e-5
        scaled = Scaled(cp.asarray(X))
        ours = proposer(*scaled.points(cp.asarray(X)))
        Y, squares, reach = scaled.queries(cp.asarray(queries))
        own = np.where(np.arange(39) < 10, np.arange(39), -1).astype(np.int32)
        count = ours.count(k)
        p, index = map(gpu.to_numpy, ours.propose(Y, squares, cp.asarray(own), count))
        assert p.shape == index.shape == (39, 32 if k == 5 else 128)
        assert (np.diff(p, axis=1) >= 0).all()
        t = np.square(np.longdouble(scaled.scale) * (queries[:, None] - X)).sum(axis=2)
        t[np.arange(10), np.arange(10)] = 1e30  # left out
        s, shift = gpu.to_numpy(reach)[:, None], 2.0**-24 * gpu.to_numpy(reach)[:, None]
        root = np.sqrt(t)
        bound = ours.relative * (root + shift) ** 2 + ours.absolute * s**2
        bound += shift * (2 * root + shift)
        for i in range(39):
            assert len(set(index[i])) == count
            chosen = np.isin(np.arange(130), index[i])
            assert (abs(p[i] - t[i, index[i]]) <= bound[i, index[i]]).all()
            # Whatever was left out could not have come before the last.
            assert (t[i] + bound[i] >= p[i, -1])[~chosen].all()
        assert np.median(bound) < 1e-5 * np.median(t)  # and says something

    def test_few_points_are_all_proposed(self, gpu):
        cp = gpu.cupy
        X = np.random.default_rng(3).normal(size=(10, 3))
        scaled = Scaled(cp.asarray(X))
        ours = Differences(*scaled.points(cp.asarray(X)))
        Y, squares, _ = scaled.queries(cp.asarray(X))
        _, index = ours.propose(Y, squares, cp.arange(10, dtype=np.int32), 32)
        index = gpu.to_numpy(index)
        assert (index[:, 9:] == -1).all()
        assert_array_equal(np.sort(index[:, :9]), [np.delete(np.arange(10), i) for i in range(10)])
        assert_equal(*both(gpu, X, 9))
        if gpu.machine is not None:
            launched = gpu.machine.launches
            assert not any(name.startswith("knn_exact") for name in launched), "all were proposed"


@pytest.mark.parametrize("k", [1, 40, 130])
def test_blocks_share_the_points_of_few_queries(gpu_once, monkeypatch, k):
    """Parts of 32 points, of which some have fewer than k, and ties across all of them."""
    monkeypatch.setattr(gpu_neighbors, "LEAST_PART", 32)
    monkeypatch.setattr(gpu_neighbors, "MOST_CANDIDATES", 0)
    X = np.round(2 * np.random.default_rng(k).normal(size=(171, 2)))
    for n_queries in (1, 33):
        assert_equal(*both(gpu_once, X, k, X[:n_queries]))
    assert_equal(*both(gpu_once, X[:161], k))
    if gpu_once.machine is not None:
        assert any(name.startswith("knn_merge") for name in gpu_once.machine.launches)


@pytest.mark.parametrize("multiprocessors", [1, 20, 132])
@pytest.mark.parametrize("blocks", [1, 2, 33, 10**5])
def test_parts_fill_the_device_and_are_no_smaller_than_need_be(stand_in, blocks, multiprocessors):
    stand_in.machine.multiprocessors = multiprocessors
    for n in (1, 31, 2047, 4096, 100_003, INDEX_LIMIT):
        parts, size = gpu_neighbors._parts(blocks, n)
        assert size % 32 == 0 and (parts - 1) * size < n <= parts * size
        assert parts == 1 or size >= gpu_neighbors.LEAST_PART
        assert parts == 1 or (parts - 1) * blocks < gpu_neighbors.BLOCKS * multiprocessors
        enough = parts * blocks >= 2 * multiprocessors  # that is how many run at a time
        assert enough or size < 2 * gpu_neighbors.LEAST_PART


@pytest.mark.parametrize("kernel", ["knn_difference", "knn_exact"])
def test_no_launch_is_long(stand_in, monkeypatch, kernel):
    """A watchdog would end it, and the process could use the device no more."""
    if kernel == "knn_exact":
        monkeypatch.setattr(gpu_neighbors, "MOST_CANDIDATES", 0)
    X = make_manifold("swiss-roll", 40)
    rows = []
    difference, search_all = Differences.propose, NeighborSearch._search_all
    counted = {
        "knn_difference": lambda self, Y, *rest: rows.append(len(Y)) or difference(self, Y, *rest),
        "knn_exact": lambda self, Y, *rest: rows.append(len(Y)) or search_all(self, Y, *rest),
    }[kernel]
    of = {"knn_difference": (Differences, "propose"), "knn_exact": (NeighborSearch, "_search_all")}
    monkeypatch.setattr(*of[kernel], counted)
    # One multiprocessor of the stand-in: 64 lanes at 1 GHz, and 1 for 32 of them in float64.
    stand_in.machine.multiprocessors = 1
    operations = {"knn_difference": 40 * 2 * 3, "knn_exact": 40 * 2 * 3 * 32}[kernel]
    seconds = operations / 64e9
    for longest in (12 * seconds, 0.1 * seconds):
        monkeypatch.setattr(duration, "LONGEST", longest)
        rows.clear()
        assert_equal(*both(stand_in, X, 5))
        assert sum(rows) == 40
        assert max(rows) == 1 or max(rows) * seconds <= longest
        assert max(rows) * seconds >= 0.3 * longest, "pieces that are far too small"


def test_only_what_is_unsettled_is_searched_in_float64(stand_in, monkeypatch):
    searched = []
    search_all = NeighborSearch._search_all

    def counted(self, points, own, *found):
        searched.extend(own.get().tolist())
        return search_all(self, points, own, *found)

    monkeypatch.setattr(NeighborSearch, "_search_all", counted)
    X = np.random.default_rng(0).normal(size=(90, 3))
    X[:60] = X[0]  # more copies than a list of candidates holds
    with report_to(StageTimes()) as times:
        assert_equal(*both(stand_in, X, 4))
    # Candidates settle all other points, unless a copy of the many is among their nearest.
    assert set(range(60)) <= set(searched)
    assert len(searched) == len(set(searched)) < 90
    assert f"neighbours: {len(searched)} of 90 points needed all in float64" in times.notes


def test_products_of_low_precision_are_found_out(stand_in, monkeypatch):
    """As with CUPY_TF32=1: 10 bits of each factor."""
    cp = stand_in.cupy
    matmul = cp.matmul

    def coarse(a, b):
        halves = [
            cp.asarray(np.ascontiguousarray(x.get()).view(np.int32) & ~0x1FFF) for x in (a, b)
        ]
        return matmul(*(x.view(np.float32) for x in halves))

    monkeypatch.setattr(cp, "matmul", coarse)
    X = np.random.default_rng(0).normal(size=(60, 40))
    search = NeighborSearch(cp.asarray(X), 4)
    assert_equal(
        [stand_in.to_numpy(part) for part in search.kneighbors()],
        cpu.NeighborSearch(X, 4).kneighbors(),
    )
    assert "CUPY_TF32" in search.passed_over["cupy"]


def test_memory_that_runs_out_makes_smaller_chunks(stand_in):
    X = np.random.default_rng(0).normal(size=(200, 40))
    search = NeighborSearch(stand_in.cupy.asarray(X), 5)
    stand_in.machine.memory_bytes = stand_in.machine.used[0] + 150_000
    with report_to(StageTimes()) as times:
        index = search.kneighbors(return_distance=False)
    assert_array_equal(index.get(), cpu.NeighborSearch(X, 5).kneighbors(return_distance=False))
    rerank = [name for name in stand_in.machine.launches if name.startswith("knn_rerank")]
    assert len(rerank) > 1 or any("chunks" in text for text in times.notes)


class TestThreads:
    """That ask one search, whose proposers fail them all at once."""

    @staticmethod
    def asked(stand_in, monkeypatch, order, bad, error):
        """What each of four threads found, and the search; ``bad`` fail with ``error``."""
        together = threading.Barrier(4)

        class Fails(Differences):
            def propose(self, *_):
                together.wait(timeout=60)
                raise error

        for name in order:
            monkeypatch.setitem(
                gpu_neighbors.PROPOSERS, name, Fails if name in bad else Differences
            )
        monkeypatch.setattr(gpu_neighbors, "SMALL_WORK", 0)
        search = NeighborSearch(stand_in.cupy.asarray(ROLL), 5)
        found = []

        def ask():
            try:
                found.append(search.kneighbors(ROLL[:9], return_distance=False))
            except Exception as error:
                found.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = cpu.NeighborSearch(ROLL, 5).kneighbors(ROLL[:9], return_distance=False)
        for each in found:
            assert not isinstance(each, Exception), repr(each)
            assert_array_equal(each, expected)
        assert len(found) == 4
        return search

    @pytest.mark.parametrize(
        "error", [candidates.Unusable("it fails"), MemoryError("none left")], ids=repr
    )
    def test_the_next_one_is_taken_and_none_passed_over(self, stand_in, monkeypatch, error):
        search = self.asked(stand_in, monkeypatch, ("cuml", "cuvs", "cupy"), ("cuml",), error)
        assert search.algorithm == "cuvs"
        assert set(search.passed_over) == {"cuml"}

    def test_where_the_last_one_fails_float64_does_everything(self, stand_in, monkeypatch):
        every = ("cuml", "cuvs", "cupy")
        error = candidates.Unusable("it fails")
        assert set(self.asked(stand_in, monkeypatch, every, every, error).passed_over) == set(every)

    def test_it_is_made_once(self, stand_in, monkeypatch):
        made = []

        class Counted(Differences):
            def __init__(self, *points):
                made.append(points)
                time.sleep(0.05)
                super().__init__(*points)

        monkeypatch.setitem(gpu_neighbors.PROPOSERS, "cupy", Counted)
        search = NeighborSearch(stand_in.cupy.asarray(ROLL), 5)
        threads = [threading.Thread(target=search.kneighbors, args=(ROLL[:9],)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1


def test_copies_do_the_same(stand_in):
    search = NeighborSearch(stand_in.cupy.asarray(ROLL), 4, algorithm="cupy")
    twin = copy.copy(search)
    assert twin.n_neighbors == 4 and twin.algorithm == "cupy"
    assert_array_equal(*(s.kneighbors(return_distance=False).get() for s in (search, twin)))


class TestErrors:
    @pytest.mark.parametrize("algorithm", CPU_ALGORITHMS)
    def test_algorithms_of_the_cpu(self, stand_in, algorithm):
        with pytest.raises(ValueError, match=f"'{algorithm}' searches on the CPU.*device='cpu'"):
            NeighborSearch(stand_in.cupy.asarray(ROLL), 3, algorithm=algorithm)

    def test_unknown_algorithm(self, stand_in):
        with pytest.raises(ValueError, match="'rbc' is not known.*'auto', 'cupy', 'cuml', 'cuvs'"):
            NeighborSearch(stand_in.cupy.asarray(ROLL), 3, algorithm="rbc")

    @pytest.mark.parametrize("metric", ["manhattan", "cosine", lambda a, b: 0.0])
    def test_metrics(self, stand_in, metric):
        with pytest.raises(ValueError, match="metric=.* is not available on the GPU.*device='cpu'"):
            NeighborSearch(stand_in.cupy.asarray(ROLL), 3, metric=metric)

    @pytest.mark.parametrize("metric", ["l2", "minkowski"])
    def test_names_of_the_euclidean_metric(self, stand_in, metric):
        assert_equal(*both(stand_in, ROLL[:40], 3, metric=metric))

    def test_arrays(self, stand_in):
        cp = stand_in.cupy
        with pytest.raises(TypeError, match="X is a ndarray; the GPU's search takes CuPy arrays"):
            NeighborSearch(ROLL, 3)
        with pytest.raises(ValueError, match="dtype float16.*float32 or float64"):
            NeighborSearch(cp.asarray(ROLL.astype(np.float16)), 3)
        with pytest.raises(ValueError, match=r"shape \(150,\)"):
            NeighborSearch(cp.asarray(ROLL[:, 0]), 3)
        search = NeighborSearch(cp.asarray(ROLL), 3)
        with pytest.raises(ValueError, match="X has 2 features; the points searched have 3"):
            search.kneighbors(cp.asarray(ROLL[:, :2]))
        with pytest.raises(ValueError, match="dtype int64"):
            search.kneighbors(cp.asarray(np.ones((2, 3), dtype=int)))

    def test_impossible_number_of_neighbours(self, stand_in):
        search = NeighborSearch(stand_in.cupy.asarray(np.eye(4)), 2)
        for k, most, queries in ((4, 3, None), (0, 3, None), (5, 4, search.X)):
            with pytest.raises(ValueError, match=f"n_neighbors={k} must be from 1 to {most} with"):
                search.kneighbors(queries, k)


FAULTS = {
    "misses": "misses neighbours",
    "coarse": "farther from the true ones than float32 allows",
    "repeats": "comes twice",
    "out of range": "a candidate is none",
    "gives up": "a candidate is none",
    "raises": "fails: CUDA error encountered",
    "no handle": "fails: CUBLAS_STATUS_NOT_INITIALIZED",
    "another version": "installed, but its import fails: .*has no attribute",
    "no pair": "what it finds is no pair of arrays",
    "too few": "what it finds is of shapes .*instead of",
    "broken import": "installed, but its import fails: lib.*cannot open shared object",
}


@pytest.fixture
def rapids(monkeypatch, stand_in):
    """rapids(cuml=faults, cuvs=faults) -> log of calls; what is not named is not installed."""
    monkeypatch.setattr(gpu_neighbors, "SMALL_WORK", 0)

    def install(**packages):
        calls = []
        for package in ("cuml", "cuvs"):
            if package in packages:
                log = fake_rapids.install(monkeypatch, stand_in.cupy, package, *packages[package])
                calls.append(log)
            else:
                fake_rapids.remove(monkeypatch, package)
        return calls[0] if len(calls) == 1 else calls

    real = fake_rapids.take_out("cuml"), fake_rapids.take_out("cuvs")
    yield install
    for package, modules in zip(("cuml", "cuvs"), real, strict=True):
        fake_rapids.take_out(package)
        sys.modules.update(modules)


class TestLibraries:
    """cuML and cuVS as proposers, with their real signatures and faults."""

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    @pytest.mark.parametrize("name", DATA)
    def test_neighbours_are_the_cpus(self, stand_in, rapids, package, name):
        calls = rapids(**{package: ()})
        X = DATA[name]
        assert_equal(*both(stand_in, X, min(6, len(X) - 1), algorithm=package))
        assert any(call[0].startswith(package) for call in calls if isinstance(call, tuple))

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    def test_new_points_and_no_points(self, stand_in, rapids, package):
        rapids(**{package: ()})
        assert_equal(*both(stand_in, ROLL, 6, ROLL[::9] + 0.01, algorithm=package))
        assert_equal(*both(stand_in, ROLL[:9], 9, ROLL[::30], algorithm=package))
        found, _ = both(stand_in, ROLL, 6, ROLL[:0], algorithm=package)
        assert found[1].shape == (0, 6)
        assert_equal(*both(stand_in, ROLL, 6, 1e100 * ROLL[:3], algorithm=package))

    def test_distances_of_another_type_are_converted(self, stand_in, rapids):
        rapids(cuvs=("float64",))
        assert_equal(*both(stand_in, ROLL, 6, algorithm="cuvs"))

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    def test_one_that_gives_up_on_few_points(self, stand_in, rapids, package):
        rapids(**{package: ("gives up",)})
        assert_equal(*both(stand_in, ROLL[:14], 6, algorithm=package))

    def test_the_ball_cover_in_few_dimensions(self, stand_in, rapids, monkeypatch):
        calls = rapids(cuml=())
        monkeypatch.setattr("lle_gpu.neighbors.cuml.TREE_MIN_POINTS", 150)
        kinds = []
        for d, n in ((1, 150), (2, 200), (3, 400), (4, 200), (3, 149)):
            X = np.random.default_rng(d).normal(size=(n, d))
            del calls[:]
            assert_equal(*both(stand_in, X, 3, X[::9] + 0.1, algorithm="cuml"))
            kinds.append(calls[-1][0])
        brute, rbc = "cuml brute", "cuml rbc"
        assert kinds == [brute, rbc, rbc, brute, brute]

    def test_auto_takes_the_first_that_is_there(self, stand_in, rapids):
        cp = stand_in.cupy
        for packages, taken in (
            ({"cuml": (), "cuvs": ()}, "cuml"),
            ({"cuvs": ()}, "cuvs"),
            ({}, "cupy"),
        ):
            rapids(**packages)
            search = NeighborSearch(cp.asarray(ROLL), 4)
            assert search.algorithm == taken
            with report_to(StageTimes()) as times:
                search.kneighbors()
            assert times.notes[0].startswith(f"neighbours: candidates by {taken}")
            missing = [name for name in ("cuml", "cuvs") if name not in packages]
            if taken != "cuml":
                for name in missing:
                    assert f"{name}: not installed (pip install {name}-cu13" in times.notes[0]

    def test_auto_loads_no_library_for_little_work(self, stand_in, rapids, monkeypatch):
        calls = rapids(cuml=())
        monkeypatch.setattr(gpu_neighbors, "SMALL_WORK", 150 * 150 * 3)
        assert NeighborSearch(stand_in.cupy.asarray(ROLL), 4).algorithm == "cupy"
        assert calls == []
        monkeypatch.setattr(gpu_neighbors, "SMALL_WORK", 150 * 150 * 3 - 1)
        assert NeighborSearch(stand_in.cupy.asarray(ROLL), 4).algorithm == "cuml"

    @pytest.mark.parametrize("fault", FAULTS)
    def test_auto_passes_over_what_is_unsound(self, stand_in, rapids, fault):
        rapids(cuml=(fault,), cuvs=(fault,))
        X = np.random.default_rng(0).normal(size=(120, 6))
        search = NeighborSearch(stand_in.cupy.asarray(X), 6)
        with report_to(StageTimes()) as times:
            found = [stand_in.to_numpy(part) for part in search.kneighbors()]
        assert_equal(found, cpu.NeighborSearch(X, 6).kneighbors())
        assert search.algorithm == "cupy"
        assert set(search.passed_over) == {"cuml", "cuvs"}
        for name, reason in search.passed_over.items():
            assert re.search(FAULTS[fault], reason)
            assert f"{name}: {reason}" in times.notes[0]

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    @pytest.mark.parametrize("fault", FAULTS)
    def test_what_was_asked_for_is_not_replaced_in_silence(self, stand_in, rapids, package, fault):
        rapids(**{package: (fault,)})
        X = np.random.default_rng(0).normal(size=(120, 6))
        match = f"neighbors_algorithm='{package}' cannot be used: .*{FAULTS[fault]}.*Use 'auto'"
        with pytest.raises(GpuUnavailableError, match=match):
            NeighborSearch(stand_in.cupy.asarray(X), 6, algorithm=package).kneighbors()

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    def test_what_was_asked_for_is_not_there(self, stand_in, rapids, package):
        rapids()
        match = f"'{package}' cannot be used: not installed .pip install {package}-cu13"
        search = NeighborSearch(stand_in.cupy.asarray(ROLL), 6, algorithm=package)
        with pytest.raises(GpuUnavailableError, match=match):
            search.kneighbors()
        with pytest.raises(GpuUnavailableError, match=match):  # and again, not something else
            search.kneighbors(stand_in.cupy.asarray(ROLL[:3]))

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    def test_their_running_out_of_memory_makes_smaller_chunks(self, stand_in, rapids, package):
        calls = rapids(**{package: ("small memory",)})
        assert_equal(*both(stand_in, ROLL, 6, algorithm=package))
        sizes = [call[1][0] for call in calls if isinstance(call, tuple)]
        assert sizes[0] == 150 and 16 >= sizes[-1] > 0

    @pytest.mark.parametrize("fault", ["cannot allocate", "no room"])
    def test_auto_passes_over_what_does_not_fit(self, stand_in, rapids, fault):
        """Whatever class the library's error is of."""
        rapids(cuml=(fault,), cuvs=(fault,))
        search = NeighborSearch(stand_in.cupy.asarray(ROLL), 6)
        found = [stand_in.to_numpy(part) for part in search.kneighbors()]
        assert_equal(found, cpu.NeighborSearch(ROLL, 6).kneighbors())
        assert search.algorithm == "cupy"
        assert set(search.passed_over) == {"cuml", "cuvs"}
        for reason in search.passed_over.values():
            assert re.match("the GPU's memory (is too small|does not hold)", reason)

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    @pytest.mark.parametrize("fault", ["cannot allocate", "no room"])
    def test_memory_that_does_not_do_is_an_error_of_that_kind(
        self, stand_in, rapids, package, fault
    ):
        """Where that library was asked for: which the caller answers by going to the CPU."""
        rapids(**{package: (fault,)})
        with pytest.raises((MemoryError, RuntimeError)) as error:
            NeighborSearch(stand_in.cupy.asarray(ROLL), 6, algorithm=package).kneighbors()
        assert is_out_of_memory(error.value)

    def test_our_own_running_out_for_the_points_is_an_error(self, stand_in, rapids, monkeypatch):
        rapids()
        error = RuntimeError("CUSOLVER_STATUS_ALLOC_FAILED")

        def points(*_):
            raise error

        monkeypatch.setattr(Scaled, "points", points)
        with pytest.raises(RuntimeError, match="CUSOLVER"):
            NeighborSearch(stand_in.cupy.asarray(ROLL), 6).kneighbors()

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    def test_a_graph_that_was_brought_loads_none(self, stand_in, rapids, package):
        calls = rapids(**{package: ()})
        graph = cpu.NeighborSearch(ROLL, 6).kneighbors(return_distance=False)
        options = {"n_neighbors": 6, "neighbors_algorithm": package, "device": "gpu"}
        model = LocallyLinearEmbedding(**options).fit(ROLL, knn_graph=graph)
        assert not calls
        model.transform(ROLL[:2])
        assert calls

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    def test_nothing_of_theirs_is_kept_once_the_training_points_have_theirs(
        self, stand_in, rapids, package
    ):
        """But what new points need is made once for all of them."""
        calls = rapids(**{package: ()})
        X, new = stand_in.cupy.asarray(ROLL), stand_in.cupy.asarray(ROLL[:9] + 0.1)
        search = NeighborSearch(X, 6, algorithm=package)
        before = stand_in.machine.used[0]
        found = search.kneighbors(return_distance=False)
        gc.collect()
        assert stand_in.machine.used[0] - before < found.nbytes + 512
        held = []
        for _ in range(3):
            assert_array_equal(
                search.kneighbors(new, return_distance=False).get(),
                cpu.NeighborSearch(ROLL, 6).kneighbors(ROLL[:9] + 0.1, return_distance=False),
            )
            held.append(search._made)
        assert held[0] is held[1] is held[2] is not None
        assert calls

    @pytest.mark.parametrize("package", ["cuml", "cuvs"])
    def test_they_wait_for_our_stream(self, stand_in, rapids, monkeypatch, package):
        """Before the search, and before what it gave is let go."""
        calls = rapids(**{package: ()})
        stream = SimpleNamespace(synchronize=lambda: calls.append("waited"))
        monkeypatch.setattr(stand_in.cupy.cuda, "get_current_stream", lambda: stream)
        NeighborSearch(stand_in.cupy.asarray(ROLL), 6, algorithm=package).kneighbors()
        searches = [i for i, call in enumerate(calls) if isinstance(call, tuple)]
        assert searches
        assert all(calls[i - 1] == calls[i + 1] == "waited" for i in searches)

    def test_what_they_give_is_copied(self, stand_in):
        """Whether or not it has the right type already."""
        cp = stand_in.cupy
        given = cp.asarray(np.ones((3, 2), np.float32)), cp.asarray(np.ones((3, 2), np.int32))
        for kinds in (given, tuple(map(fake_rapids.device_ndarray, given))):
            for found, source in zip(candidates.copied(kinds, (3, 2)), given, strict=True):
                assert found.dtype == source.dtype
                assert not cp.shares_memory(found, source)
        wide = cp.asarray(np.ones((2, 3)).T), cp.asarray(np.ones((2, 3), np.int64).T)
        found = candidates.copied(wide, (3, 2))
        assert [part.dtype for part in found] == [np.float32, np.int32]
        assert all(part.flags.c_contiguous for part in found)

    def test_the_allocator_is_put_back(self, stand_in, rapids):
        calls = rapids(cuml=())
        cuda = stand_in.cupy.cuda
        before = cuda.get_allocator()
        try:
            cuda.set_allocator("the user's")
            NeighborSearch(stand_in.cupy.asarray(ROLL), 6, algorithm="cuml").kneighbors()
            assert "import cuml" in calls
            assert cuda.get_allocator() == "the user's"
        finally:
            cuda.set_allocator(before)

    def test_the_global_output_type_is_put_back(self, stand_in, rapids):
        rapids(cuml=())
        search = NeighborSearch(stand_in.cupy.asarray(ROLL), 6, algorithm="cuml")
        import cuml

        cuml.output_type[0] = "cudf"
        search.kneighbors()
        assert cuml.output_type[0] == "cudf"


@pytest.mark.parametrize("package", ["cuml", "cuvs"])
def test_the_recorded_signatures_are_the_installed_package_s(package):
    """Where the real package is there. Compiled functions tell their signature in their text."""
    pytest.importorskip(package, reason=f"{package} is not installed")
    if package == "cuml":
        from cuml.neighbors import NearestNeighbors

        for method, name in (("__init__", ""), ("fit", ".fit"), ("kneighbors", ".kneighbors")):
            real = inspect.signature(getattr(NearestNeighbors, method))
            recorded = fake_rapids.signature("cuml", f"NearestNeighbors{name}")
            assert list(recorded.parameters) == [p for p in real.parameters if p != "self"]
    else:
        from cuvs.neighbors import brute_force

        for name in ("build", "search"):
            text = getattr(brute_force, name).__doc__
            for parameter in fake_rapids.signature("cuvs", f"brute_force.{name}").parameters:
                assert parameter in text
