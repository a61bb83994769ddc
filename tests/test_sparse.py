"""Sparse X: the same neighbours, constraints and embeddings as of X.toarray(), and never dense."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import reference
import scipy.sparse as sp
import sklearn.datasets
from conftest import METHODS, make_manifold, two_clusters
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsTransformer, NearestNeighbors, kneighbors_graph
from sklearn.pipeline import make_pipeline

from lle_gpu import (
    LocallyLinearEmbedding,
    MemoryLimitError,
    arrays,
    estimate_memory,
    locally_linear_embedding,
    parallel,
)
from lle_gpu.arrays import as_points
from lle_gpu.constraints import cpu
from lle_gpu.constraints.cpu.assemble import gram, stack
from lle_gpu.constraints.cpu.local import centred_neighborhoods, differences, typical_width
from lle_gpu.neighbors import sparse
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.progress import StageTimes, report_to

BUILD = {name: getattr(cpu, name) for name in METHODS}


def counts(n, d, words, seed=0):
    """Word counts of n texts; words are as frequent as in a language (Zipf)."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, d + 1)
    column = rng.choice(d, size=n * words, p=frequency / frequency.sum())
    X = sp.coo_array((np.ones(n * words), (np.repeat(np.arange(n), words), column)), (n, d))
    X = X.tocsr()
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    return X


def paragraphs():
    """A small corpus that scikit-learn brings: the paragraphs that describe its data sets."""
    folder = Path(sklearn.datasets.__file__).parent / "descr"
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.rst"))]
    return [part for text in texts for part in text.split("\n\n") if len(part.split()) > 8]


def mixed():
    """Counts with empty rows, and rows that stand there many times."""
    X = counts(160, 300, 12).toarray()
    X[[3, 50, 51, 52, 159]] = 0
    X[20:45] = X[60]
    return sp.csr_array(X)


def crowds():
    """Six sets of 20 points, 2^30 from the origin and 2^-10 from one another."""
    near = np.random.default_rng(0).integers(0, 9, size=(6, 20, 5)) * 2.0**-10
    return sp.block_diag(list(near + 2.0**30), format="csr")


RNG = np.random.default_rng(0)
# All sums of squares in these are exact, so that ties are ties.
EXACT = {
    "counts": counts(250, 2000, 20),
    "counts of few words": counts(250, 30, 6),
    "empty and repeated rows": mixed(),
    "float32": counts(200, 500, 15).astype(np.float32),
    "0 and 1": sp.csr_array(RNG.integers(0, 2, size=(120, 9)).astype(float)),
    "nothing in common": sp.csr_array(sp.identity(60, format="csr")),
    "one feature": sp.csr_array(RNG.integers(0, 50, size=(100, 1)).astype(float)),
    "a common offset": sp.csr_array(RNG.integers(0, 9, size=(150, 12)) + 2.0**40),
    "crowds far out": sp.csr_array(crowds()),
    "negative": sp.csr_array(RNG.integers(-2, 3, size=(150, 40)).astype(float)),
    "one long row": sp.csr_array(np.r_[np.ones((1, 400)), counts(100, 400, 5).toarray()]),
}
REAL = {
    "tf-idf": sp.csr_array(TfidfVectorizer().fit_transform(paragraphs())),
    "tf-idf, float32": sp.csr_array(TfidfVectorizer(dtype=np.float32).fit_transform(paragraphs())),
    "scales": sp.csr_array(counts(200, 300, 12).toarray() * 10.0 ** RNG.integers(-6, 7, size=300)),
    "an offset in half of the rows": sp.csr_array(
        np.c_[RNG.normal(size=(200, 5)), 1e8 * (RNG.uniform(size=200) < 0.6)]
    ),
}


@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize("name", EXACT)
def test_neighbours_are_the_reference_s(name, k):
    X = EXACT[name]
    distance, index = NeighborSearch(X, k).kneighbors()
    expected = reference.neighbors(X.toarray(), k)
    np.testing.assert_array_equal(index, expected)
    A = X.toarray().astype(np.float64)
    np.testing.assert_array_equal(distance, np.linalg.norm(A[expected] - A[:, None], axis=2))


@pytest.mark.parametrize("name", REAL)
def test_neighbours_of_real_numbers_to_rounding(name):
    """Where sums are rounded, two that are equal but for that may change places."""
    X, k = REAL[name], 9
    distance, index = NeighborSearch(X, k).kneighbors()
    A = X.toarray().astype(np.float64)
    exact = np.linalg.norm(A[index] - A[:, None], axis=2)
    np.testing.assert_allclose(distance, exact, rtol=1e-13)
    dense, expected = NeighborSearch(X.toarray(), k, algorithm="brute").kneighbors()
    np.testing.assert_allclose(distance, dense, rtol=1e-13)
    assert (index == expected).mean() > 0.98
    assert not (index == np.arange(len(A))[:, None]).any()
    assert (np.diff(distance, axis=1) >= 0).all()


def test_queries_sparse_and_dense():
    X, Q = EXACT["counts"], counts(40, 2000, 20, seed=1)
    search = NeighborSearch(X, 6)
    distance, index = search.kneighbors(Q)
    D = pairwise_distances(Q.toarray(), X.toarray(), metric="sqeuclidean").round()
    np.testing.assert_array_equal(index, np.argsort(D, axis=1, kind="stable")[:, :6])
    np.testing.assert_array_equal(distance, np.sqrt(np.sort(D, axis=1)[:, :6]))
    np.testing.assert_array_equal(search.kneighbors(Q.toarray())[1], index)
    itself = search.kneighbors(X)
    np.testing.assert_array_equal(itself[1][:, 0], np.arange(X.shape[0]))
    assert not itself[0][:, 0].any()
    everything = search.kneighbors(Q, X.shape[0], return_distance=False)
    np.testing.assert_array_equal(np.sort(everything, axis=1)[0], np.arange(X.shape[0]))
    with pytest.raises(TypeError, match="X is sparse.*give X.toarray"):
        NeighborSearch(X.toarray(), 3).kneighbors(Q)


@pytest.mark.parametrize("name", ["counts", "empty and repeated rows", "a common offset"])
def test_blocks_pieces_and_threads_change_nothing(monkeypatch, name):
    X = EXACT[name]
    whole = NeighborSearch(X, 7, n_jobs=1).kneighbors()
    monkeypatch.setattr(sparse, "BLOCK_BYTES", 32 * 250 * 3)  # a few rows at a time
    monkeypatch.setattr(sparse, "DIFFERENCES", 100)
    pieces = NeighborSearch(X, 7, n_jobs=2).kneighbors()
    np.testing.assert_array_equal(whole[0], pieces[0])
    np.testing.assert_array_equal(whole[1], pieces[1])


def test_an_offset_costs_no_pairs(monkeypatch):
    """Without centring, the rounding of 2^80 would let every pair be a neighbour."""
    looked_at = []
    distances = sparse.squared_distances
    monkeypatch.setattr(
        sparse, "squared_distances", lambda *a: looked_at.append(len(a[2])) or distances(*a)
    )
    X = EXACT["a common offset"]
    NeighborSearch(X, 5).kneighbors()
    assert sum(looked_at) < 0.1 * X.shape[0] ** 2


def test_pairs_without_a_common_feature_are_not_looked_at_again(monkeypatch):
    def fail(points, X, rows, columns):
        assert len(rows) == 0
        return np.empty(0)

    monkeypatch.setattr(sparse, "squared_distances", fail)
    index = NeighborSearch(EXACT["nothing in common"], 3).kneighbors(return_distance=False)
    np.testing.assert_array_equal(index[5], [0, 1, 2])


def test_copy_numbers():
    rows = [[1, 0, 2], [0, 0, 0], [1, 0, 2], [0, 0, 0], [2, 0, 1], [1, 0, 2], [0, 0, 0]]
    X = sp.csr_array(np.array(rows, dtype=float))
    np.testing.assert_array_equal(sparse.copy_numbers(X), [0, 0, 1, 1, 0, 2, 2])


def spread(X, width):
    """The same columns in places far apart, as hashes of features are."""
    places = np.sort(np.random.default_rng(0).choice(width // X.shape[1], X.shape[1])) + np.arange(
        X.shape[1]
    ) * (width // X.shape[1])
    return sp.csr_array((X.data, places[X.indices], X.indptr), (X.shape[0], width))


class TestWidth:
    """A width takes no memory to write down, and none to work on: 2^50 would be petabytes."""

    @pytest.mark.parametrize("name", EXACT)
    def test_neighbours(self, name):
        X = EXACT[name]
        narrow, wide = NeighborSearch(X, 4), NeighborSearch(spread(X, 2**50), 4)
        for one, other in zip(narrow.kneighbors(), wide.kneighbors(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_queries_with_entries_where_no_point_has_any(self):
        X = counts(90, 300, 20)
        points, queries = X[:60].toarray(), X[60:]
        points[:, ::3] = 0
        found = NeighborSearch(spread(sp.csr_array(points), 2**50), 5).kneighbors(
            spread(queries, 2**50)
        )
        D = pairwise_distances(queries.toarray(), points)
        np.testing.assert_allclose(found[0], np.sort(D, axis=1)[:, :5], rtol=1e-12)
        np.testing.assert_array_equal(found[1], np.argsort(D, axis=1, kind="stable")[:, :5])

    @pytest.mark.parametrize("method", METHODS)
    def test_embeddings(self, method):
        X = counts(200, 400, 40)
        narrow, wide = (
            LocallyLinearEmbedding(n_neighbors=20, method=method).fit(points)
            for points in (X, spread(X, 2**50))
        )
        np.testing.assert_allclose(wide.embedding_, narrow.embedding_, atol=1e-9)
        np.testing.assert_allclose(
            wide.transform(spread(X, 2**50)[:9]), narrow.embedding_[:9], atol=1e-9
        )

    def test_places_that_int64_cannot_number(self):
        with pytest.raises(ValueError, match=r"places than int64 can number.*numpy\.unique"):
            LocallyLinearEmbedding(n_neighbors=20).fit(spread(counts(200, 400, 40), 2**62))


@pytest.mark.parametrize("metric", ["cosine", "manhattan", "l2"])
def test_metrics(metric):
    X = counts(150, 400, 20, seed=3)
    distance, index = NeighborSearch(X, 5, metric=metric).kneighbors()
    D = pairwise_distances(X.toarray(), metric=metric)
    np.fill_diagonal(D, np.inf)
    np.testing.assert_allclose(distance, np.sort(D, axis=1)[:, :5], atol=1e-12)
    np.testing.assert_allclose(np.take_along_axis(D, index, 1), distance, atol=1e-12)


def test_a_function_gets_rows_of_the_points_width():
    X = counts(40, 400, 20, seed=3)
    weights = np.random.default_rng(0).random(400)

    def metric(x, y):
        return float(abs(x - y).toarray().ravel() @ weights)

    index = NeighborSearch(X, 5, metric=metric).kneighbors(return_distance=False)
    D = pairwise_distances(X.toarray() * weights, metric="manhattan")
    np.fill_diagonal(D, np.inf)
    np.testing.assert_array_equal(index, np.argsort(D, axis=1, kind="stable")[:, :5])


def test_metrics_with_many_copies():
    index = NeighborSearch(EXACT["empty and repeated rows"], 4, metric="manhattan").kneighbors()[1]
    D = pairwise_distances(EXACT["empty and repeated rows"].toarray(), metric="manhattan")
    np.fill_diagonal(D, np.inf)
    np.testing.assert_array_equal(index, np.argsort(D, axis=1, kind="stable")[:, :4])


WELL_POSED = {
    "k < d": (counts(200, 2000, 20), 12),
    "k > d": (sp.csr_array(make_manifold("swiss-roll", 200)), 12),
    "k = d": (counts(200, 12, 6), 12),
    "k > rank": (sp.csr_array(make_manifold("swiss-roll", 200) @ RNG.normal(size=(3, 40))), 12),
    "tf-idf": (REAL["tf-idf"], 15),
    "tf-idf, float32": (REAL["tf-idf, float32"], 15),
    "far from the origin": (sp.csr_array(make_manifold("five-d", 200) + 1e6), 12),
    "wide and dense": (sp.csr_array(RNG.normal(size=(100, 60))), 9),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", WELL_POSED)
def test_constraints_are_those_of_dense_points(name, method):
    X, k = WELL_POSED[name]
    index = reference.neighbors(X.toarray(), k)
    ours, dense = (BUILD[method](points, index, 2) for points in (X, X.toarray()))
    np.testing.assert_array_equal(ours.index, dense.index)
    F, G = (c.rows for c in (ours, dense))
    if method == "hessian":  # whose rows turn with the tangent coordinates: M does not
        F, G = gram(ours).toarray(), gram(dense).toarray()
    np.testing.assert_allclose(F, G, rtol=0, atol=1e-10 * np.abs(G).max())


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_modified_finds_each_point_s_directions_once(kind, monkeypatch):
    """They wait for eta, which needs all points, in the rows' own memory."""
    module = importlib.import_module("lle_gpu.constraints.cpu.modified")
    X, k = WELL_POSED["k < d"]
    index = reference.neighbors(X.toarray(), k)
    X = X if kind == "sparse" else X.toarray()
    expected = module.modified(X, index, 2).rows
    seen = {"differences": 0, "principal_directions": 0}

    def counting(name, whole):
        def call(first, *others):
            seen[name] += first.shape[0]
            return whole(first, *others)

        return call

    for name in seen:
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    np.testing.assert_array_equal(module.modified(X, index, 2, n_jobs=1).rows, expected)
    assert seen == {"differences": X.shape[0], "principal_directions": X.shape[0]}


@pytest.mark.parametrize("method", METHODS)
def test_constraints_on_empty_and_repeated_rows(method):
    X = EXACT["empty and repeated rows"]
    index = reference.neighbors(X.toarray(), 9)
    F = stack(BUILD[method](X, index, 2))
    assert np.isfinite(F.data).all()
    assert np.abs(F @ np.ones(X.shape[0])).max() <= 1e-13 * abs(F).max()
    if method in ("standard", "ltsa"):
        G = stack(BUILD[method](X.toarray(), index, 2))
        ours, dense = (F.T @ F).toarray(), (G.T @ G).toarray()
        same = [not X[index[i]].toarray().std(axis=0).any() for i in range(X.shape[0])]
        assert any(same)  # neighbourhoods without extent
        np.testing.assert_allclose(np.trace(ours), np.trace(dense), rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_threads_and_chunks_change_only_the_padding(method, monkeypatch):
    """Zeros beside the coordinates may change how a sum is made, and nothing else."""
    X, k = WELL_POSED["k < d"]
    index = reference.neighbors(X.toarray(), k)
    whole = gram(BUILD[method](X, index, 2, n_jobs=1)).toarray()
    monkeypatch.setattr(parallel, "CHUNK_BYTES", 4096)
    pieces = gram(BUILD[method](X, index, 2, n_jobs=2)).toarray()
    np.testing.assert_allclose(pieces, whole, atol=1e-12 * np.abs(whole).max())


def test_local_coordinates_keep_inner_products():
    X, k = counts(60, 5000, 25).astype(np.float32), 8
    index = reference.neighbors(X.toarray(), k)
    A = X.toarray().astype(np.float64)
    for ours, dense in (
        (differences(X, X, index), differences(A, A, index)),
        (centred_neighborhoods(X, index), centred_neighborhoods(A, index)),
    ):
        assert ours.dtype == np.float64
        assert ours.shape[:2] == (60, k)
        assert k <= ours.shape[2] < 200
        assert ours.shape[2] / 4 < typical_width(X, k) < 4 * ours.shape[2]  # chunks are made by it
        np.testing.assert_allclose(
            ours @ ours.transpose(0, 2, 1), dense @ dense.transpose(0, 2, 1), atol=1e-10
        )


def test_differences_are_formed_before_products():
    """Points 1e-3 apart, 1e8 from the origin: inner products of rows would have no digit left."""
    Z = RNG.integers(1, 9, size=(1, 6, 40)) * 2.0**-10
    X = sp.csr_array(np.r_[np.zeros((1, 40)), Z[0]] + 2.0**27)
    ours = differences(X[:1], X, np.arange(1, 7)[None])
    np.testing.assert_allclose(ours @ ours.transpose(0, 2, 1), Z @ Z.transpose(0, 2, 1), rtol=1e-14)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("disconnected", ["warn", "bridge", "largest"])
def test_embeddings_are_those_of_dense_points(method, disconnected):
    X = counts(220, 600, 40, seed=5)
    if disconnected != "warn":
        X = sp.block_diag([X, counts(60, 100, 20)], format="csr")
    parameters = {"n_neighbors": 14, "method": method, "disconnected": disconnected}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ours = LocallyLinearEmbedding(**parameters).fit(X)
        dense = LocallyLinearEmbedding(**parameters).fit(X.toarray())
    np.testing.assert_array_equal(ours.embedded_rows_, dense.embedded_rows_)
    np.testing.assert_array_equal(ours.bridged_rows_, dense.bridged_rows_)
    values = dense.spectrum_.values
    np.testing.assert_allclose(ours.spectrum_.values, values, atol=1e-10)
    if dense.spectrum_.n_null == 1:
        assert reference.sine(ours.embedding_, dense.embedding_) < 1e-6
    if disconnected != "warn":
        assert len(ours.bridged_rows_) > 0 or len(ours.embedded_rows_) < X.shape[0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_transform_of_sparse_and_dense_points_by_sparse_and_dense_models(dtype, monkeypatch):
    X, Q = counts(220, 600, 40).astype(dtype), counts(30, 600, 40, seed=1).astype(dtype)
    monkeypatch.setattr(arrays, "PART_BYTES", 8 * 600 * 50)  # fifty rows at a time, or a hundred
    models = [LocallyLinearEmbedding(n_neighbors=12).fit(data) for data in (X, X.toarray())]
    answers = [m.transform(q) for m in models for q in (Q, Q.tocsc(), Q.toarray())]
    for answer in answers:
        assert type(answer) is np.ndarray
        assert answer.dtype == dtype
        np.testing.assert_allclose(answer, answers[-1], atol=1e-5 if dtype == np.float32 else 1e-9)
    for model, data in zip(models, (X.toarray(), X), strict=True):
        np.testing.assert_array_equal(model.transform(data), model.embedding_)
    Y = models[1].embedding_[:20] + 1e-4
    back = [m.inverse_transform(Y) for m in models]
    assert type(back[0]) is np.ndarray
    np.testing.assert_allclose(back[0], back[1], atol=1e-3 if dtype == np.float32 else 1e-9)
    np.testing.assert_allclose(models[0].inverse_transform(sp.csr_array(Y)), back[0], atol=1e-6)


def test_the_right_part_of_the_weights_meets_the_right_value():
    """weighted_means with sparse values, in pieces."""
    values = counts(50, 80, 10)
    index, weights = RNG.integers(0, 50, size=(30, 6)), RNG.normal(size=(30, 6))
    expected = np.einsum("mk,mkq->mq", weights, values.toarray()[index])
    np.testing.assert_allclose(cpu.weighted_means(weights, index, values), expected, atol=1e-12)


FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


@pytest.mark.filterwarnings("ignore:Constructing a DIA:scipy.sparse.SparseEfficiencyWarning")
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csr_matrix])
@pytest.mark.parametrize("form", FORMATS)
def test_formats(form, kind):
    X = counts(80, 60, 10)
    expected = LocallyLinearEmbedding(n_neighbors=8).fit(X)
    model = LocallyLinearEmbedding(n_neighbors=8).fit(kind(X).asformat(form))
    np.testing.assert_array_equal(model.embedding_, expected.embedding_)
    Y, error = locally_linear_embedding(kind(X).asformat(form), n_neighbors=8, n_components=2)
    np.testing.assert_array_equal(Y, expected.embedding_)
    assert error == expected.reconstruction_error_
    assert isinstance(model.nbrs_.X, sp.csr_array)
    assert model.n_features_in_ == 60


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.bool_])
def test_types_become_float64(dtype):
    X = counts(80, 60, 10).astype(dtype)
    model = LocallyLinearEmbedding(n_neighbors=8).fit(X)
    expected = LocallyLinearEmbedding(n_neighbors=8).fit(X.astype(float))
    assert model.nbrs_.X.dtype == model.embedding_.dtype == np.float64
    np.testing.assert_array_equal(model.embedding_, expected.embedding_)


def untidy(kind, index, start):
    """The same matrix with unsorted columns, duplicates and explicit zeros."""
    X = counts(90, 70, 10)
    row = np.repeat(np.arange(90), np.diff(X.indptr))
    row, column, data = (
        np.r_[row, row, np.arange(90)],
        np.r_[X.indices, X.indices, np.full(90, 69)],
        np.r_[X.data - 3, np.full(X.nnz, 3.0), np.zeros(90)],
    )
    order = np.lexsort((RNG.permutation(len(row)), row))
    starts = np.searchsorted(row[order], np.arange(91))
    made = kind((data[order], column[order], starts), shape=X.shape)
    made.indices, made.indptr = made.indices.astype(index), made.indptr.astype(start)
    return X, made


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csr_matrix])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("start", [np.int32, np.int64])
def test_untidy_matrices_are_tidied_and_left_alone(kind, index, start):
    X, made = untidy(kind, index, start)
    before = [a.copy() for a in (made.data, made.indices, made.indptr)]
    model = LocallyLinearEmbedding(n_neighbors=8).fit(made)
    expected = LocallyLinearEmbedding(n_neighbors=8).fit(X)
    np.testing.assert_array_equal(model.embedding_, expected.embedding_)
    np.testing.assert_array_equal(model.transform(made), model.embedding_)
    assert model.nbrs_.X.nnz == X.nnz
    for old, new in zip(before, (made.data, made.indices, made.indptr), strict=True):
        assert old.dtype == new.dtype
        np.testing.assert_array_equal(old, new)


def test_stored_zeros_are_dropped_from_a_copy():
    X = counts(80, 60, 10)
    X.data[::7] = 0
    n_stored = X.nnz
    model = LocallyLinearEmbedding().fit(X)
    assert model.nbrs_.X.nnz == np.count_nonzero(X.data) < n_stored == X.nnz
    assert not X.data[::7].any()
    again = LocallyLinearEmbedding().fit(sp.csr_array(X.toarray()))
    np.testing.assert_array_equal(model.embedding_, again.embedding_)


def test_tidy_data_are_not_copied():
    X = counts(80, 60, 10)
    assert np.shares_memory(LocallyLinearEmbedding().fit(X).nbrs_.X.data, X.data)


def damaged(what):
    X = counts(60, 50, 8)
    X = sp.csr_array((X.data.copy(), X.indices.copy(), X.indptr.copy()), shape=X.shape)
    if what == "column":
        X.indices[5] = 10**6
    elif what == "negative column":
        X.indices[5] = -1
    elif what == "start":
        X.indptr[5] = 10**6
    elif what == "column of csc":
        X = sp.csc_array(X)
        X.indices[5] = 10**6
    elif what == "row of coo":
        X = sp.coo_array(X)
        X.coords[0][5] = 10**6
    elif what == "start of csc":
        X = sp.csc_array(X)
        X.indptr[1:-1], X.indptr[-1] = 10**6, 0
    elif what == "row of lil":
        X = sp.lil_array(X)
        X.rows[3] = [1]
    else:
        X.data[5] = what
    return X


def like(module, name, **methods):
    return type(name, (), {"__module__": module, "shape": (60, 3), "ndim": 2, **methods})()


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (damaged(np.nan), ValueError, "NaN"),
        (damaged(np.inf), ValueError, "infinity"),
        (damaged("column"), ValueError, "not a valid sparse csr array.*indices"),
        (damaged("negative column"), ValueError, "not a valid sparse csr array.*indices"),
        (damaged("start"), ValueError, "not a valid sparse csr array.*indptr"),
        (damaged("column of csc"), ValueError, "not a valid sparse csc array.*indices"),
        (damaged("start of csc"), ValueError, "^X is not a valid sparse csc array.*indptr falls"),
        (damaged("row of coo"), ValueError, r"not a valid sparse coo array: coords\[0\].*1000000"),
        (damaged("row of lil"), ValueError, "not a valid sparse lil array: row 3 has 1 indices"),
        (
            sp.csr_array((np.full(120, 1e308), np.zeros(120, int), np.arange(0, 121, 2)), (60, 5)),
            ValueError,
            "duplicated entries",
        ),
        (counts(60, 50, 8) * 1j, ValueError, "[Cc]omplex"),
        (sp.csr_array((60, 5)), ValueError, "all 60 points of X are equal"),
        (sp.csr_array(np.ones((60, 5))), ValueError, "all 60 points of X are equal"),
        (sp.csr_array((60, 0)), ValueError, "0 feature"),
        (sp.csr_array((0, 5)), ValueError, "0 sample"),
        (sp.coo_array(np.ones(60)), ValueError, "Expected a 2D sparse X, got 1D"),
        (counts(60, 50, 8) * 1e160, ValueError, "between 1e-150 and 1e\\+150"),
        (counts(60, 50, 8) * 1e-160, ValueError, "between 1e-150 and 1e\\+150"),
        (like("cupyx.scipy.sparse._csr", "csr_matrix"), TypeError, r"CuPy csr_matrix.*X\.get\(\)"),
        (
            like("sparse.numba_backend", "COO", to_scipy_sparse=None),
            TypeError,
            r"sparse\.COO.*X\.to_scipy_sparse\(\)",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_bad_data(data, error, says):
    model = LocallyLinearEmbedding()
    before = dict(vars(model))
    with pytest.raises(error, match=says):
        model.fit(data)
    assert vars(model) == before
    with pytest.raises(error, match=says):
        locally_linear_embedding(data, n_neighbors=5, n_components=2)


@pytest.mark.parametrize("damage", [np.nan, np.inf, "column", "row of coo"])
def test_bad_new_points(damage):
    model = LocallyLinearEmbedding().fit(counts(60, 50, 8))
    with pytest.raises(ValueError, match="NaN|infinity|not a valid sparse"):
        model.transform(damaged(damage))
    with pytest.raises(ValueError, match="X has 7 features, .* expecting 50"):
        model.transform(counts(5, 7, 3))
    with pytest.raises(ValueError, match="must be below 1e\\+150"):
        model.transform(counts(5, 50, 8) * 1e151)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"device": "gpu"}, "device='gpu' does not take sparse X.*X.toarray"),
        ({"device": "cuda"}, "device='cuda' does not take sparse X.*X.toarray"),
        ({"neighbors_algorithm": "cupy"}, "neighbors_algorithm='cupy' does not take sparse X"),
        ({"neighbors_algorithm": "kd_tree"}, "neighbors_algorithm='kd_tree' does not take sparse"),
        ({"neighbors_algorithm": "ball_tree"}, "'ball_tree' does not take sparse X.*'brute'"),
        ({"metric": "chebyshev"}, "metric='chebyshev' cannot be used.*not valid for sparse"),
        ({"n_neighbors": 60}, "n_samples = 60"),
        ({"n_components": 60}, "n_components=60.*50 feature"),
    ],
)
def test_parameters_that_do_not_go_with_sparse_points(parameters, says):
    with pytest.raises(ValueError, match=says):
        LocallyLinearEmbedding(**parameters).fit(counts(60, 50, 8))


def test_the_cpu_is_taken_and_said():
    with report_to(StageTimes()) as times:
        model = LocallyLinearEmbedding().fit(counts(60, 50, 8))
    assert model.device_ == "cpu"
    assert "device: the CPU, since X is sparse" in times.notes


def test_fitted_models_can_be_pickled_and_cloned():
    X = counts(80, 60, 10)
    model = LocallyLinearEmbedding(n_neighbors=8).fit(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X), model.embedding_)


def test_a_fitted_search_and_a_sparse_frame():
    pandas = pytest.importorskip("pandas")
    X = counts(80, 60, 10)
    expected = LocallyLinearEmbedding(n_neighbors=8).fit(X).embedding_
    search = NearestNeighbors().fit(sp.csr_matrix(X))
    Y, _ = locally_linear_embedding(search, n_neighbors=8, n_components=2)
    np.testing.assert_array_equal(Y, expected)
    frame = pandas.DataFrame.sparse.from_spmatrix(
        sp.csr_matrix(X), columns=[f"w{i}" for i in range(60)]
    )
    model = LocallyLinearEmbedding(n_neighbors=8).fit(frame)
    np.testing.assert_array_equal(model.embedding_, expected)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert sp.issparse(model.nbrs_.X)


def test_in_a_pipeline_of_text():
    from sklearn.pipeline import make_pipeline

    texts = paragraphs()
    pipeline = make_pipeline(
        CountVectorizer(), LocallyLinearEmbedding(n_neighbors=12, disconnected="bridge")
    )
    Y = pipeline.fit_transform(texts)
    assert Y.shape == (len(texts), 2)
    np.testing.assert_array_equal(pipeline.transform(texts[:5]).shape, (5, 2))


def test_ugly_but_legal_data_give_finite_embeddings():
    ugly = {
        "two clusters": sp.csr_array(two_clusters(40)),
        "empty and repeated rows": mixed(),
        "large": counts(80, 60, 10) * 1e140,
        "small": counts(80, 60, 10) * 1e-140,
        "a row of everything": EXACT["one long row"],
    }
    for name, data in ugly.items():
        for method in METHODS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                Y = LocallyLinearEmbedding(method=method, n_neighbors=7).fit_transform(data)
            assert np.isfinite(Y).all(), name
            np.testing.assert_allclose(Y.T @ Y, np.eye(2), atol=1e-10, err_msg=name)


def test_memory_is_estimated_by_what_is_stored():
    n, d, stored = 20_000, 200_000, 600_000
    estimate = estimate_memory((n, d), n_neighbors=10, n_stored=stored)
    assert estimate.least < 300e6 < 8 * n * d
    more = estimate_memory((n, d), n_neighbors=10, n_stored=10 * stored)
    assert more.least > estimate.least + 12 * 9 * stored
    X = counts(300, 20_000, 20)
    with pytest.raises(MemoryLimitError, match="memory_limit=10MB is too small"):
        LocallyLinearEmbedding(memory_limit="10MB").fit(X)
    least = estimate_memory(X.shape, n_stored=X.nnz).least
    assert LocallyLinearEmbedding(memory_limit=least).fit(X).spectrum_.converged


PEAK = """
import sys, threading, time, warnings
import numpy as np
import scipy.sparse as sp
from lle_gpu import LocallyLinearEmbedding, estimate_memory
from lle_gpu.constraints import cpu as constraints

def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])

n, d, words, k = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
row = np.repeat(np.arange(n), words)
X = sp.coo_array((np.ones(n * words), (row, rng.integers(0, d, n * words))), (n, d)).tocsr()
parameters = dict(n_neighbors=k, eigen_solver="chebyshev", max_iter=1)
LocallyLinearEmbedding(**parameters).fit(X[:200])
base, peak, running = resident(), 0, True

def watch():
    global peak
    while running:
        peak = max(peak, resident() - base)
        time.sleep(0.002)

thread = threading.Thread(target=watch, daemon=True)
thread.start()
model = LocallyLinearEmbedding(**parameters).fit(X)
model.transform(X[:500])
index = model.nbrs_.kneighbors(return_distance=False)
for build in (constraints.modified, constraints.hessian, constraints.ltsa):
    build(model.nbrs_.X, index, 2)
running = False
thread.join()
print(peak, estimate_memory((n, d), n_neighbors=k, n_stored=X.nnz).least)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_estimate_bounds_the_peak_of_a_fresh_process():
    """3,000 points that would take 4.8 GB if they were made dense."""
    sizes = map(str, (3000, 200_000, 30, 10))
    command = [sys.executable, "-W", "ignore", "-c", PEAK, *sizes]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak, stated = map(int, output.split())
    assert peak <= stated < 400e6, (peak, stated)


class TestGraphsTakenForPoints:
    ROLL = make_manifold("swiss-roll", 200)

    def made(self, step, **options):
        return make_pipeline(step, LocallyLinearEmbedding(n_neighbors=8, **options))

    def test_a_neighbours_transformer_before_it(self):
        copies = self.ROLL.copy()
        copies[7] = copies[9]  # whose distance, 0, is stored
        for X in (self.ROLL, copies):
            with pytest.warns(UserWarning, match="looks like a graph of neighbours.*knn_graph="):
                self.made(KNeighborsTransformer(n_neighbors=8), disconnected="bridge").fit(X)

    @pytest.mark.parametrize("mode", ["distance", "connectivity"])
    def test_a_graph_by_itself(self, mode):
        graph = kneighbors_graph(self.ROLL, 8, mode=mode)
        for X in (graph, sp.csc_array(graph), sp.lil_array(graph)):
            with pytest.warns(UserWarning, match="looks like a graph of neighbours"):
                locally_linear_embedding(X, n_neighbors=8, n_components=2)

    def test_points_are_not(self):
        rng = np.random.default_rng(0)
        square = sp.random_array((200, 200), density=0.2, rng=rng, format="csr")
        same_count = sp.csr_array(
            (
                rng.random(200 * 8),
                np.concatenate([rng.choice(200, 8, replace=False) for _ in range(200)]),
                np.arange(0, 1601, 8),
            ),
            shape=(200, 200),
        )
        hollow = square - sp.diags_array(square.diagonal())
        wide = sp.csr_array(kneighbors_graph(self.ROLL, 8)[:, :190])
        signed = kneighbors_graph(self.ROLL, 8, mode="distance")
        signed.data[3] *= -1
        some = sp.csr_array(kneighbors_graph(self.ROLL, 1))[[0, 1, 2]]
        mostly_empty = sp.vstack([some, sp.csr_array((197, 200))], format="csr")
        points = (square, same_count, sp.csr_array(hollow), wide, sp.eye_array(200))
        for X in (*points, signed, mostly_empty):
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*graph of neighbours")
                as_points(X, estimator="test")
