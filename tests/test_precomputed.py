"""Neighbour graphs that the user brings: every form, every source, every way to be wrong."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import reference
import scipy.sparse as sp
from conftest import METHODS, make_manifold, two_clusters
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsTransformer,
    NearestNeighbors,
    kneighbors_graph,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from lle_gpu import (
    DisconnectedGraphError,
    DisconnectedGraphWarning,
    LocallyLinearEmbedding,
    locally_linear_embedding,
)
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.neighbors.precomputed import neighbor_index
from lle_gpu.sparse_structure import check_structure

K = 7
RNG = np.random.default_rng(0)
X = make_manifold("swiss-roll", 250)
N = len(X)
EXPECTED = reference.neighbors(X, K)
WIDE = reference.neighbors(X, K + 5)
DISTANCE = np.linalg.norm(X[WIDE] - X[:, None], axis=2)
OWN = np.arange(N)[:, None]


def sparse(index, distance, n=N):
    """A CSR matrix with these entries, in this order."""
    begin = np.arange(0, index.size + 1, index.shape[1])
    return sp.csr_array((distance.flatten(), index.flatten(), begin), shape=(n, n))


def with_self(column):
    """Indices and distances with the point itself in this column."""
    return np.insert(WIDE, column, OWN[:, 0], 1), np.insert(DISTANCE, column, 0, 1)


def shuffled(graph):
    """The same matrix with the entries of each row in another order."""
    coo = graph.tocoo()
    order = RNG.permutation(coo.nnz)
    return sp.coo_array((coo.data[order], (coo.row[order], coo.col[order])), coo.shape)


def dense():
    return cdist(X, X)


def dense_with_any_diagonal():
    D = cdist(X, X)
    np.fill_diagonal(D, np.nan)
    return D


def padded(index, distance, seed=0):
    """With -1 at the ends of the rows, where K neighbours or more are before it."""
    real = np.random.default_rng(seed).integers(K, index.shape[1] + 1, size=(N, 1))
    real += (index[:, :K] == OWN).any(axis=1)[:, None]  # itself does not count
    is_real = np.arange(index.shape[1]) < real
    return np.where(is_real, index, -1), np.where(is_real, distance, -np.inf)


FORMS = {
    "pair": lambda: (WIDE, DISTANCE),
    "pair, as many columns as needed": lambda: (WIDE[:, :K], DISTANCE[:, :K]),
    "pair, self first": lambda: with_self(0),
    "pair without distances": lambda: (WIDE, None),
    "pair, padded": lambda: padded(WIDE, DISTANCE),
    "pair, self first, padded": lambda: padded(*with_self(0)),
    "pair, nothing masked": lambda: (np.ma.array(WIDE), np.ma.array(DISTANCE)),
    "pair in a list": lambda: list(with_self(0)),
    "pair of lists": lambda: tuple(part.tolist() for part in with_self(0)),
    "pair of data frames": lambda: tuple(map(pd.DataFrame, with_self(0))),
    "pair, float32 distances": lambda: (WIDE, DISTANCE.astype(np.float32)),
    "pair, squared distances": lambda: (WIDE, DISTANCE**2),
    "pair, Fortran order": lambda: tuple(map(np.asfortranarray, with_self(0))),
    "indices": lambda: WIDE,
    "indices, self first": lambda: with_self(0)[0],
    "indices, self in the middle": lambda: with_self(3)[0],
    "indices, self last": lambda: with_self(K + 5)[0],
    "indices, padded": lambda: padded(WIDE, DISTANCE)[0],
    "indices, a full ranking": lambda: np.argsort(cdist(X, X), axis=1, kind="stable"),
    "indices written out": lambda: with_self(0)[0].tolist(),
    "int32": lambda: with_self(0)[0].astype(np.int32),
    "uint32": lambda: with_self(0)[0].astype(np.uint32),
    "uint64": lambda: with_self(0)[0].astype(np.uint64),
    "sparse": lambda: sparse(WIDE, DISTANCE),
    "sparse, with self": lambda: sparse(*with_self(0)),
    "sparse matrix": lambda: sp.csr_matrix(sparse(WIDE, DISTANCE)),
    "sparse, columns sorted": lambda: sparse(*with_self(0)).tocsc().tocsr(),
    "sparse, any order": lambda: shuffled(sparse(*with_self(0))),
    "csc": lambda: sparse(WIDE, DISTANCE).tocsc(),
    "lil": lambda: sparse(WIDE, DISTANCE).tolil(),
    "dok": lambda: sparse(WIDE, DISTANCE).todok(),
    "bsr": lambda: sparse(WIDE, DISTANCE).tobsr((1, 1)),
    "dia": lambda: sp.csr_array(dense()).todia(),
    "sparse, rows of many lengths": lambda: sp.csr_array(
        np.where(dense() <= np.maximum(DISTANCE[:, [K]], 3.0), dense(), 0)
    ),
    "dense": dense,
    "dense, float32": lambda: dense().astype(np.float32),
    "dense, any diagonal": dense_with_any_diagonal,
    "dense, written out": lambda: dense().tolist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_nearest(form):
    index = neighbor_index(FORMS[form](), N, K)
    assert index.dtype == np.int64
    np.testing.assert_array_equal(index, EXPECTED)


def test_self_in_some_rows_only_and_anywhere():
    index = np.empty((N, K + 5), dtype=int)
    distance = np.empty((N, K + 5))
    for i in range(N):
        if i % 3 == 0:
            index[i], distance[i] = WIDE[i], DISTANCE[i]
        else:
            at = i % (K + 5)
            index[i] = np.insert(WIDE[i], at, i)[: K + 5]
            distance[i] = np.insert(DISTANCE[i], at, 0 if at == 0 else DISTANCE[i, at - 1])[: K + 5]
    np.testing.assert_array_equal(neighbor_index(index, N, K), EXPECTED)
    np.testing.assert_array_equal(neighbor_index((index, distance), N, K), EXPECTED)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e-9, 5.0])
def test_the_distance_to_itself_does_not_matter(value):
    index, distance = with_self(0)
    distance[:, 0] = value
    np.testing.assert_array_equal(neighbor_index((index, distance), N, K), EXPECTED)
    graph = sparse(index, distance)
    np.testing.assert_array_equal(neighbor_index(graph, N, K), EXPECTED)


class TestTies:
    X = np.repeat(RNG.normal(size=(25, 3)), 4, axis=0)  # each point four times

    def test_at_the_end_by_index(self):
        index = np.array([[3, 2, 1], [3, 0, 2], [1, 3, 0], [2, 1, 0]])
        ones = np.ones_like(index, dtype=float)
        assert neighbor_index((index, ones), 4, 1).ravel().tolist() == [1, 0, 0, 0]
        # Of equals that are all taken the order stays.
        np.testing.assert_array_equal(neighbor_index((index, ones), 4, 3), index)
        # Without distances it is the order that counts.
        assert neighbor_index(index, 4, 1).ravel().tolist() == [3, 3, 1, 2]
        D = np.ones((4, 4))
        assert neighbor_index(D, 4, 2).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]

    def test_only_some_of_the_ties_are_taken(self):
        index = np.array([[4, 3, 2, 1], [0, 4, 3, 2], [0, 1, 4, 3], [0, 1, 2, 4], [3, 2, 1, 0]])
        distance = np.tile([1.0, 2.0, 2.0, 2.0], (5, 1))
        expected = [[4, 1], [0, 2], [0, 1], [0, 1], [3, 0]]
        assert neighbor_index((index, distance), 5, 2).tolist() == expected
        assert neighbor_index(sparse(index, distance, 5), 5, 2).tolist() == expected
        # Those before the boundary stay as they are.
        distance = np.tile([1.0, 1.0, 2.0, 2.0], (5, 1))
        assert neighbor_index((index, distance), 5, 3).tolist()[0] == [4, 3, 1]

    @pytest.mark.parametrize("k", [1, 3, 5])
    def test_duplicates_from_scikit_learn(self, k):
        """Zeros are stored, self is anywhere among the copies."""
        n = len(self.X)
        expected = reference.neighbors(self.X, k)
        graphs = {
            "kneighbors_graph": kneighbors_graph(self.X, 12, mode="distance"),
            "include_self": kneighbors_graph(self.X, 12, mode="distance", include_self=True),
            "KNeighborsTransformer": KNeighborsTransformer(n_neighbors=12).fit_transform(self.X),
            "dense": cdist(self.X, self.X),
        }
        for name, graph in graphs.items():
            np.testing.assert_array_equal(neighbor_index(graph, n, k), expected, err_msg=name)
        distance, index = NearestNeighbors(n_neighbors=12).fit(self.X).kneighbors(self.X)
        found = neighbor_index((index, distance), n, k)  # equals in scikit-learn's order
        np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(expected, axis=1))

    def test_stored_zeros_are_neighbours(self):
        zeros = sp.csr_array((np.zeros(6), [1, 2, 0, 2, 0, 1], [0, 2, 4, 6]), shape=(3, 3))
        assert neighbor_index(zeros, 3, 2).tolist() == [[1, 2], [0, 2], [0, 1]]


def test_faiss_gives_squared_distances_and_int64():
    faiss = pytest.importorskip("faiss")
    points = X.astype(np.float32)
    search = faiss.IndexFlatL2(3)
    search.add(points)
    distance, index = search.search(points, K + 3)
    np.testing.assert_array_equal(neighbor_index((index, distance), N, K), EXPECTED)
    for distance, index in (search.search(points, N + 1), search.search(points, N + 9)):
        assert (index[:, -1] == -1).all()
        np.testing.assert_array_equal(neighbor_index((index, distance), N, K), EXPECTED)
        np.testing.assert_array_equal(neighbor_index(index, N, K), EXPECTED)


def test_padding_is_left_out_where_enough_is_before_it_alone():
    index, distance = WIDE.copy(), DISTANCE.copy()
    index[17, K:], distance[17, K:] = -1, np.inf
    np.testing.assert_array_equal(neighbor_index((index, distance), N, K), EXPECTED)
    for columns in (slice(K - 1, None), slice(K, K + 2), slice(0, 1)):
        index = WIDE.copy()
        index[17, columns] = -1
        for graph in (index, (index, DISTANCE)):
            with pytest.raises(ValueError, match="knn, row 17: has the index -1.*n_neighbors=7"):
                neighbor_index(graph, N, K, name="knn")
    index = with_self(0)[0]
    index[17, K:] = -1  # itself is none of those that are enough
    with pytest.raises(ValueError, match="knn, row 17: has the index -1"):
        neighbor_index(index, N, K, name="knn")


def changed(array, row, column, value):
    array = np.array(array)
    array[row, column] = value
    return array


BAD = {
    "another n": (lambda: WIDE[:-3], ValueError, r"has 247 rows, and X has 250.*folds"),
    "another n, pair": (lambda: (WIDE[1:], DISTANCE[1:]), ValueError, "has 249 rows"),
    "another n, sparse": (lambda: sp.eye_array(40, format="csr"), ValueError, "has 40 rows"),
    "another n, dense": (lambda: cdist(X[:9], X[:9]), ValueError, "has 9 rows, and X has 250"),
    "too few columns": (
        lambda: WIDE[:, : K - 1],
        ValueError,
        r"row 0: has 6 neighbour\(s\), itself not counted, as in 250 rows of 250, and "
        r"n_neighbors=7 are needed\. Make the graph with n_neighbors \+ 1",
    ),
    "too few without self": (lambda: with_self(0)[0][:, :K], ValueError, "row 0: has 6 neighbour"),
    "too few in one row": (
        lambda: np.where(OWN == 31, with_self(0)[0][:, :K], WIDE[:, :K]),
        ValueError,
        r"row 31: has 6 neighbour\(s\), itself not counted, and",
    ),
    "an empty row": (
        lambda: sp.csr_array(np.where(OWN == 8, 0, sparse(WIDE, DISTANCE).toarray())),
        ValueError,
        r"row 8: has 0 neighbour\(s\)",
    ),
    "negative": (
        lambda: changed(WIDE, 17, 10, -1),
        ValueError,
        "row 17: has the index -1. pynndescent and FAISS fill up with -1.*search harder",
    ),
    "negative at the end": (
        lambda: changed(WIDE, 17, 11, -2),
        ValueError,
        "row 17: has the index -2",
    ),
    "masked indices": (
        lambda: (masked(WIDE, 8, 11), DISTANCE),
        ValueError,
        r"row 8: has masked entries, and masks are not read\. Leave out the last columns, down to "
        r"n_neighbors \+ 1, or use .filled\(value\)",
    ),
    "masked distances": (
        lambda: (WIDE, masked(DISTANCE, 9, 0)),
        ValueError,
        "row 9: has masked entries",
    ),
    "masked indices alone": (lambda: masked(WIDE, 3, 3), ValueError, "row 3: has masked.*filled"),
    "masked, dense": (
        lambda: masked(dense(), 5, 7),
        ValueError,
        "row 5: has masked.*as a sparse matrix",
    ),
    "integer distances": (
        lambda: dense().astype(int),
        ValueError,
        r"row 0: .*\(An integer array of shape \(250, 250\) is read as indices.*"
        r"or distances as floats\.\)",
    ),
    "out of range": (
        lambda: (changed(WIDE, 3, 2, 250), DISTANCE),
        ValueError,
        "row 3: has the index 250; with 250 points they end at 249",
    ),
    "out of range, sparse": (
        lambda: raw(changed(WIDE, 3, 2, 999)),
        ValueError,
        "row 3: has the index 999",
    ),
    "negative, sparse": (lambda: raw(changed(WIDE, 4, 2, -1)), ValueError, "row 4: has the ind"),
    "twice": (
        lambda: changed(WIDE, 5, 4, WIDE[5, 1]),
        ValueError,
        f"row 5: has the index {WIDE[5, 1]} twice",
    ),
    "itself twice": (
        lambda: changed(with_self(0)[0], 6, 4, 6),
        ValueError,
        "row 6: has the index 6 twice",
    ),
    "twice, sparse": (
        lambda: sparse(changed(WIDE, 5, 4, WIDE[5, 1]), DISTANCE),
        ValueError,
        f"row 5: has the index {WIDE[5, 1]} twice",
    ),
    "NaN": (
        lambda: (WIDE, changed(DISTANCE, 9, 3, np.nan)),
        ValueError,
        "row 9: has the distance nan. Leave such neighbours out",
    ),
    "infinite": (
        lambda: (WIDE, changed(DISTANCE, 9, 11, np.inf)),
        ValueError,
        "9: has the distanc",
    ),
    "NaN, sparse": (
        lambda: sparse(WIDE, changed(DISTANCE, 9, 3, np.nan)),
        ValueError,
        "row 9: has the distance nan",
    ),
    "NaN, dense": (
        lambda: changed(dense(), 9, 3, np.nan),
        ValueError,
        "row 9: has the distance nan",
    ),
    "negative distance": (
        lambda: (WIDE, changed(DISTANCE, 2, 0, -0.5)),
        ValueError,
        "row 2: has the distance -0.5. Similarities are no distances",
    ),
    "negative distance, dense": (
        lambda: -dense(),
        ValueError,
        "row 0: has the distance -.*Similarities",
    ),
    "float indices": (
        lambda: (WIDE.astype(float), DISTANCE),
        ValueError,
        "has indices of dtype float64; they must be integers",
    ),
    "float indices alone": (
        lambda: WIDE.astype(float),
        ValueError,
        r"is an array of float64 of shape \(250, 12\): indices must be integers",
    ),
    "booleans": (lambda: (WIDE > 3, DISTANCE), ValueError, "indices of dtype bool"),
    "the wrong way round": (
        lambda: (DISTANCE, WIDE),
        ValueError,
        r"these are \(distances, indices\), as kneighbors\(\) and FAISS.*Turn them round",
    ),
    "not sorted": (
        lambda: (WIDE, changed(DISTANCE, 12, 5, 1e-3)),
        ValueError,
        "row 12: has the distance 0.001 after .*must ascend: sort each row",
    ),
    "similarities": (lambda: (WIDE, DISTANCE[:, ::-1]), ValueError, "row 0: .*must ascend"),
    "shapes": (
        lambda: (WIDE, DISTANCE[:, 1:]),
        ValueError,
        r"indices of shape \(250, 12\) and distances of shape \(250, 11\)",
    ),
    "complex": (lambda: (WIDE, DISTANCE + 0j), ValueError, "distances of dtype complex128"),
    "no indices": (lambda: (None, DISTANCE), ValueError, "indices that are no array of shape"),
    "connectivity": (
        lambda: kneighbors_graph(X, K + 5),
        ValueError,
        "more than n_neighbors=7 entries, and all are 1.*mode='distance'",
    ),
    "not square": (lambda: sp.csr_array((N, 3)), ValueError, r"sparse, of shape \(250, 3\)"),
    "one row": (lambda: WIDE[0], ValueError, "no array of shape"),
    "three": (lambda: (WIDE, DISTANCE, None), TypeError, "is a tuple of 3.*Give"),
    "sparse indices": (lambda: (sp.csr_array(WIDE), DISTANCE), ValueError, "no array of shape"),
    "words": (lambda: np.array([["a"]]), TypeError, "dtype <U1. Give"),
}


def masked(array, row, column):
    mask = np.zeros(array.shape, dtype=bool)
    mask[row, column] = True
    return np.ma.array(array, mask=mask)


def raw(index):
    """A CSR matrix as a library makes it, unchecked."""
    graph = sparse(WIDE, DISTANCE)
    graph.indices = index.flatten().astype(graph.indices.dtype)
    return graph


@pytest.mark.parametrize("name", BAD)
def test_bad_graphs(name):
    graph, error, says = BAD[name]
    with pytest.raises(error, match=f"^knn_graph.*{says}") as info:
        neighbor_index(graph(), N, K, name="knn_graph")
    assert type(info.value) is error


def put(graph, part, place, value):
    """Change a part of a sparse graph, as SciPy lets one."""
    array = getattr(graph, part)
    if part == "coords":
        array, place = array[place[0]], place[1]
    array[place] = value
    return graph


def cut(graph, part, end):
    setattr(graph, part, getattr(graph, part)[:end])
    return graph


def doing(graph, change):
    change(graph)
    return graph


def rows():
    return sparse(WIDE, DISTANCE)


# What SciPy's conversions take as it is: some end the interpreter, some give another graph.
DAMAGED = {
    "csr, indptr rises and falls": (
        lambda: put(rows(), "indptr", 5, 1000),
        "csr array: indptr falls from 1000 to 72 at place 6",
    ),
    "csr, indptr begins late": (lambda: put(rows(), "indptr", 0, 5), "csr array.*start.* 0"),
    "csr, indptr ends late": (lambda: put(rows(), "indptr", -1, 50_000_000), "csr array.*Las"),
    "csr, few values": (lambda: cut(rows(), "data", 100), "csr array.*same size"),
    "csr, few rows": (lambda: cut(rows(), "indptr", 100), "csr array: index pointer size"),
    "csr, column": (lambda: put(rows(), "indices", 50, 50_000_000), "row 4: .*50000000"),
    "csc, indptr": (
        lambda: put(rows().tocsc(), "indptr", 5, 50_000_000),
        "csc array: indptr falls from 50000000",
    ),
    "csc, indptr ends late": (lambda: put(rows().tocsc(), "indptr", -1, 50_000_000), "csc array"),
    "csc, indptr ends with nothing": (lambda: put(rows().tocsc(), "indptr", -1, 0), "csc.*falls"),
    "csc, row": (lambda: put(rows().tocsc(), "indices", 50, 50_000_000), "csc array.* < 250"),
    "csc, negative row": (lambda: put(rows().tocsc(), "indices", 50, -1), "csc array.* >= 0"),
    "csc, float indices": (
        lambda: doing(rows().tocsc(), lambda g: setattr(g, "indices", g.indices + 0.5)),
        "csc array: indices is of dtype float64, and must be integers",
    ),
    "bsr, column": (
        lambda: put(rows().tobsr((1, 1)), "indices", 50, 50_000_000),
        "bsr array.*< 250",
    ),
    "bsr, indptr": (
        lambda: put(rows().tobsr((5, 5)), "indptr", 2, 10**6),
        "bsr array: indptr falls",
    ),
    "coo, row": (
        lambda: put(rows().tocoo(), "coords", (0, 3), 2**30),
        r"coo array: coords\[0\] has the index 1073741824, which must be from 0 to 249",
    ),
    "coo, negative row": (lambda: put(rows().tocoo(), "coords", (0, 3), -1), r"coo.*the index -1"),
    "coo, column": (
        lambda: put(rows().tocoo(), "coords", (1, 15), 2**30),
        "row 1: has the index 10",
    ),
    "coo, few values": (lambda: cut(rows().tocoo(), "data", 100), r"coo .*\(3000,\).*\(100,\)"),
    "lil, indices": (
        lambda: put(rows().tolil(), "rows", 3, [1, 2, 3]),
        "lil array: row 3 has 3 indices and 12 values",
    ),
    "lil, values": (
        lambda: put(rows().tolil(), "data", 4, [1.0]),
        "lil.* row 4 has 12 ind.* and 1 v",
    ),
    "lil, column": (
        lambda: put(rows().tolil(), "rows", 3, [2**30, *range(11)]),
        "lil array: row 3 has the index 1073741824",
    ),
    "lil, no list": (
        lambda: put(rows().tolil(), "rows", 3, None),
        "lil array: rows is not one list",
    ),
    "lil, few rows": (lambda: cut(rows().tolil(), "rows", 9), "lil array: rows is not one list"),
    "dok, column": (
        lambda: doing(rows().todok(), lambda g: g._dict.update({(3, 2**30): 1.0})),
        "dok array.*1073741824",
    ),
    "dok, key": (lambda: doing(rows().todok(), lambda g: g._dict.update({5: 1.0})), "dok array"),
    "dia, offsets": (
        lambda: put(sp.csr_array(dense()).todia(), "offsets", 0, 2**31 - 1),
        "dia.*of",
    ),
    "dia, a diagonal twice": (
        lambda: put(sp.csr_array(dense()).todia(), "offsets", 0, 1),
        "dia array: offsets has a diagonal twice",
    ),
    "dia, few values": (lambda: cut(sp.csr_array(dense()).todia(), "data", 9), r"dia.*\(9, "),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_sparse_graphs(name, monkeypatch):
    """Refused before anything is converted: a conversion here would be a crash elsewhere."""
    make, says = DAMAGED[name]
    graph = make()

    def convert(self, *_, **options):
        raise AssertionError("a damaged graph was about to be converted")

    # A coo_array's tocoo is itself, and a dok_array's goes through Python's objects.
    for method in ("tocsr", "tocsc", "toarray", "tocoo")[: 3 if graph.format in "coo dok" else 4]:
        monkeypatch.setattr(type(graph), method, convert)
    with pytest.raises(ValueError, match=f"^knn_graph.*{says}") as info:
        LocallyLinearEmbedding(n_neighbors=K).fit(X, knn_graph=graph)
    assert type(info.value) is ValueError


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("format", ["csr", "csc", "bsr", "coo", "lil", "dok", "dia"])
def test_sound_structures_of_all_formats_pass(format, kind):
    dense = np.array([[0.0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4], [0, 5, 0, 0]])
    for values in (dense, np.zeros((4, 4)), np.zeros((4, 0)), dense[:, :3]):
        graph = getattr(sp, f"{format}_{kind}")(values)
        before = copy.deepcopy(graph)
        check_structure(graph, "graph")
        assert (before != graph).nnz == 0


class TestTensors:
    """torch's, whatever their precision and whether or not a gradient goes through them."""

    def parts(self):
        torch = pytest.importorskip("torch")
        # No more than are needed: of rounded distances others could be the nearest.
        return tuple(torch.tensor(part[:, : K + 1]) for part in with_self(0))

    def test_half_precision_and_gradients(self):
        index, distance = self.parts()
        for other in (distance.bfloat16(), distance.half(), distance.requires_grad_()):
            np.testing.assert_array_equal(neighbor_index((index, other), N, K), EXPECTED)

    @pytest.mark.parametrize("layout", ["csr", "coo"])
    def test_sparse_ones_are_refused_with_the_way_out(self, layout):
        torch = pytest.importorskip("torch")
        graph = sparse(WIDE, DISTANCE)
        tensor = torch.sparse_csr_tensor(graph.indptr, graph.indices, graph.data, graph.shape)
        tensor = tensor if layout == "csr" else tensor.to_sparse_coo()
        for given in (tensor, (tensor, None)):
            with pytest.raises(TypeError, match=rf"^g is a sparse_{layout} tensor.*csr_array\(\("):
                neighbor_index(given, N, K, name="g")
        t = tensor.to_sparse_csr()  # the way out that it names
        mended = sp.csr_array(
            (t.values().cpu(), t.col_indices().cpu(), t.crow_indices().cpu()), shape=t.shape
        )
        np.testing.assert_array_equal(neighbor_index(mended, N, K), EXPECTED)

    def test_booleans_are_no_indices(self):
        torch = pytest.importorskip("torch")
        with pytest.raises(TypeError, match="dtype bool"):
            neighbor_index(torch.ones(2, 1, dtype=torch.bool), 2, 1)


def test_exactly_enough_connectivity_will_do():
    index = neighbor_index(kneighbors_graph(X, K), N, K)
    np.testing.assert_array_equal(index, np.sort(EXPECTED, axis=1))


class TestEstimator:
    def model(self, **parameters):
        return LocallyLinearEmbedding(n_neighbors=K, **parameters)

    @pytest.mark.filterwarnings("ignore::lle_gpu.DisconnectedGraphWarning")  # one lonely point
    @pytest.mark.parametrize("method", METHODS)
    def test_the_exact_graph_gives_the_same_bits(self, method):
        expected = self.model(method=method).fit(X)
        for graph in (
            (WIDE, DISTANCE),
            with_self(0)[0].astype(np.uint32),
            sparse(WIDE, DISTANCE),
            dense(),
        ):
            given = self.model(method=method, precomputed_knn=graph).fit(X)
            np.testing.assert_array_equal(given.embedding_, expected.embedding_)
            np.testing.assert_array_equal(given.spectrum_.values, expected.spectrum_.values)
            Y, error = locally_linear_embedding(
                X, n_neighbors=K, n_components=2, method=method, precomputed_knn=graph
            )
            np.testing.assert_array_equal(Y, expected.embedding_)
            assert error == expected.reconstruction_error_

    def test_our_own_search_s_ties_keep_their_order(self):
        """Distances that differ in their squares alone are equal as given."""
        third = np.array([[i, j, k] for i in range(6) for j in range(6) for k in range(6)]) / 3
        distance, index = NeighborSearch(third, 10).kneighbors()
        np.testing.assert_array_equal(neighbor_index((index, distance), len(third), 10), index)

    def test_the_graph_is_what_counts(self):
        """Neighbours that are not the nearest: against a literal implementation."""
        far = reference.neighbors(X, 3 * K)[:, ::3]
        model = self.model(precomputed_knn=far).fit(X)
        values, V = reference.spectrum(reference.standard_rows(X, far, 2))
        assert reference.sine(V[:, :2], model.embedding_) <= 1e-6
        np.testing.assert_allclose(model.spectrum_.values, values[:2], rtol=1e-6)

    def test_another_metric_s_graph(self):
        data = make_manifold("five-d", 200)
        index = NearestNeighbors(metric="cosine").fit(data).kneighbors(data, K + 1)[1]
        given = self.model(precomputed_knn=index).fit(data)
        searched = self.model(metric="cosine").fit(data)
        np.testing.assert_array_equal(given.embedding_, searched.embedding_)

    def test_the_argument_of_fit_goes_first_and_is_for_one_call(self):
        far = reference.neighbors(X, 3 * K)[:, ::3]
        model = self.model(precomputed_knn=far)
        np.testing.assert_array_equal(
            model.fit_transform(X, knn_graph=WIDE), self.model().fit_transform(X)
        )
        assert model.precomputed_knn is far
        by_far = model.fit_transform(X)
        np.testing.assert_array_equal(by_far, self.model().fit(X, knn_graph=far).embedding_)
        with pytest.raises(ValueError, match="^knn_graph, row 0"):
            model.fit(X, knn_graph=WIDE[:, :3])
        with pytest.raises(ValueError, match="^precomputed_knn, row 0"):
            self.model(precomputed_knn=WIDE[:, :3]).fit(X)

    def test_no_search_is_made_for_nothing(self):
        """A function as metric is slow; it is asked when transform() searches."""
        calls = []

        def metric(x, y):
            calls.append(1)
            return float(np.abs(x - y).sum())

        model = LocallyLinearEmbedding(n_neighbors=K, metric=metric).fit(X, knn_graph=WIDE)
        assert len(calls) < 20  # whether it is one that can be used
        new = X[:3] + 0.1
        by_name = LocallyLinearEmbedding(n_neighbors=K, metric="manhattan").fit(X, knn_graph=WIDE)
        np.testing.assert_array_equal(model.transform(new), by_name.transform(new))
        assert len(calls) > N

    def test_a_metric_that_there_is_not_is_refused_all_the_same(self):
        with pytest.raises(ValueError, match="metric='nothing' cannot be used here"):
            LocallyLinearEmbedding(n_neighbors=K, metric="nothing").fit(X, knn_graph=WIDE)

    def test_transform_searches_as_ever(self):
        far = reference.neighbors(X, 3 * K)[:, ::3]
        model = self.model(precomputed_knn=far).fit(X)
        np.testing.assert_array_equal(model.transform(X), model.embedding_)
        np.testing.assert_array_equal(
            model.nbrs_.kneighbors(return_distance=False), EXPECTED, "nbrs_ knows the graph"
        )
        new = X[:20] + 0.1
        for x, y in zip(new, model.transform(new), strict=True):
            near = np.argsort(((X - x) ** 2).sum(axis=1))[:K]
            w = reference.weights(x, X[near], 1e-3)
            np.testing.assert_allclose(y, w @ model.embedding_[near], atol=1e-10)

    @pytest.mark.parametrize("how", ["warn", "raise", "bridge", "largest"])
    def test_a_graph_in_pieces(self, how):
        data = two_clusters(100)
        index = reference.neighbors(data, K)
        given = self.model(disconnected=how, precomputed_knn=index)
        searched = self.model(disconnected=how)
        if how == "raise":
            with pytest.raises(DisconnectedGraphError):
                given.fit(data)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DisconnectedGraphWarning)
            given.fit(data)
            searched.fit(data)
        np.testing.assert_array_equal(given.embedding_, searched.embedding_)
        np.testing.assert_array_equal(given.bridged_rows_, searched.bridged_rows_)
        # The other way round: pieces in the graph alone.
        inner = np.vstack([reference.neighbors(X[:120], K), reference.neighbors(X[120:], K) + 120])
        with pytest.raises(DisconnectedGraphError, match="2 closed classes"):
            self.model(disconnected="raise", precomputed_knn=inner).fit(X)

    def test_clone_parameters_pickle_and_words(self):
        graph = with_self(0)
        model = self.model(precomputed_knn=graph)
        assert model.get_params()["precomputed_knn"] is graph
        assert "precomputed_knn" in repr(model)
        fresh = clone(model)
        for a, b in zip(fresh.precomputed_knn, graph, strict=True):
            np.testing.assert_array_equal(a, b)
        fitted = model.fit(X)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.embedding_, fitted.embedding_)
        np.testing.assert_array_equal(again.transform(X[:9] + 0.1), fitted.transform(X[:9] + 0.1))
        np.testing.assert_array_equal(again.precomputed_knn[0], graph[0])
        np.testing.assert_array_equal(again.fit(X).embedding_, fitted.embedding_)

    def test_nothing_is_changed(self):
        for form in ("pair, self first", "sparse, with self", "dense", "indices, self last"):
            graph = FORMS[form]()
            arrays = (
                [graph.data, graph.indices]
                if sp.issparse(graph)
                else list(graph if isinstance(graph, tuple) else [graph])
            )
            kept = [array.copy() for array in arrays]
            for array in arrays:
                array.flags.writeable = False
            self.model(precomputed_knn=graph).fit(X)
            for array, before in zip(arrays, kept, strict=True):
                np.testing.assert_array_equal(array, before)

    def test_a_bad_graph_leaves_the_estimator(self):
        model = self.model().fit(X)
        before = {name: id(value) for name, value in vars(model).items()}
        with pytest.raises(ValueError, match="row 17"):
            model.fit(X, knn_graph=changed(WIDE, 17, 0, -1))
        assert {name: id(value) for name, value in vars(model).items()} == before

    @pytest.mark.parametrize("value", ["graph.npy", 5, True])
    def test_what_is_no_graph(self, value):
        with pytest.raises(InvalidParameterError, match="precomputed_knn"):
            self.model(precomputed_knn=value).fit(X)
        with pytest.raises(
            (TypeError, ValueError), match=r"knn_graph.*Give \(indices, distances\)"
        ):
            self.model().fit(X, knn_graph=value)

    def test_sizes_are_checked_first(self):
        with pytest.raises(ValueError, match="Expected n_neighbors < n_samples"):
            LocallyLinearEmbedding(n_neighbors=N, precomputed_knn=WIDE).fit(X)

    def test_it_says_where_the_neighbours_are_from(self, capsys):
        self.model(verbose=True).fit(X, knn_graph=WIDE)
        assert "taken from knn_graph" in capsys.readouterr().err


class TestSelection:
    y = (X[:, 0] > 0).astype(int)

    def test_grid_over_n_neighbors_with_one_graph(self):
        """One graph of the largest k does for all; each fit has all the points."""
        pipeline = make_pipeline(
            LocallyLinearEmbedding(precomputed_knn=with_self(0)), KNeighborsClassifier(3)
        )
        everything = [(np.arange(N), np.arange(N))]
        grid = {"locallylinearembedding__n_neighbors": [5, 9, 12]}
        search = GridSearchCV(pipeline, grid, cv=everything, error_score="raise").fit(X, self.y)
        assert search.best_score_ > 0.9
        for k in (5, 9):
            np.testing.assert_array_equal(
                LocallyLinearEmbedding(n_neighbors=k).fit_transform(X),
                LocallyLinearEmbedding(n_neighbors=k, precomputed_knn=WIDE).fit_transform(X),
            )

    def test_folds_are_other_points(self):
        pipeline = make_pipeline(
            LocallyLinearEmbedding(precomputed_knn=WIDE), KNeighborsClassifier(3)
        )
        grid = {"locallylinearembedding__n_neighbors": [5, 9]}
        search = GridSearchCV(pipeline, grid, cv=KFold(5), error_score="raise")
        with pytest.raises(ValueError, match="has 250 rows, and X has 200.*folds.*None"):
            search.fit(X, self.y)

    def test_through_a_pipeline(self):
        scaled = StandardScaler().fit_transform(X)
        graph = reference.neighbors(scaled, K)[:, ::-1]  # any order of its own
        pipeline = make_pipeline(StandardScaler(), LocallyLinearEmbedding(n_neighbors=K))
        Y = pipeline.fit_transform(X, locallylinearembedding__knn_graph=graph)
        model = LocallyLinearEmbedding(n_neighbors=K, precomputed_knn=graph)
        np.testing.assert_array_equal(Y, model.fit_transform(scaled))


def test_a_sparse_frame_is_a_sparse_matrix():
    X = np.random.default_rng(0).normal(size=(40, 3))
    graph = kneighbors_graph(X, 6, mode="distance")
    frame = pd.DataFrame.sparse.from_spmatrix(graph)
    found = LocallyLinearEmbedding(n_neighbors=6).fit(X, knn_graph=frame).embedding_
    np.testing.assert_array_equal(
        found, LocallyLinearEmbedding(n_neighbors=6).fit(X, knn_graph=graph).embedding_
    )


def kernel(D, width=4.0):
    """Similarities of a graph's distances, or of all."""
    if not sp.issparse(D):
        return np.exp(-((D / width) ** 2))
    return sp.csr_array((np.exp(-((D.data / width) ** 2)), D.indices, D.indptr), shape=D.shape)


def fuzzy(D):
    """umap-learn's connectivities: each row by its own scale, made symmetric by a + b - ab."""
    D = sp.csr_array(D)
    nearest = D.data.reshape(N, -1)
    scale = (nearest - nearest.min(axis=1, keepdims=True)).mean(axis=1, keepdims=True)
    nearest = np.exp(-(nearest - nearest.min(axis=1, keepdims=True)) / scale)
    S = sp.csr_array((nearest.ravel(), D.indices, D.indptr), shape=D.shape)
    return sp.csr_array(S + S.T - S.multiply(S.T))


def shared(D):
    """The share of neighbours in common (Jaccard's), of those that are neighbours."""
    A = sp.csr_array(D)
    A.data = np.ones_like(A.data)
    A = A + sp.eye_array(N)
    common = sp.csr_array((A @ A.T).multiply(A))
    common.data = common.data / (2 * (D.nnz / N + 1) - common.data)
    return common


class TestSimilarities:
    GRAPH = kneighbors_graph(X, 12, mode="distance")

    @pytest.mark.parametrize(
        "graph",
        [
            kernel(GRAPH),
            fuzzy(GRAPH),
            shared(GRAPH),
            kernel(cdist(X, X)),
            (WIDE[:, ::-1], kernel(DISTANCE)[:, ::-1]),
        ],
        ids=["kernel", "UMAP's", "shared neighbours", "dense", "pair"],
    )
    @pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
    def test_they_are_told_from_distances(self, graph, kind):
        with pytest.warns(UserWarning, match="knn_graph looks like similarities.*distances"):
            LocallyLinearEmbedding(n_neighbors=5, disconnected="bridge").fit(
                kind(X), knn_graph=graph
            )

    DATA = {
        "roll": X,
        "digits": make_manifold("digits", 250),
        "noise": RNG.normal(size=(N, 30)),
        "counts": RNG.poisson(RNG.lognormal(0, 1.5, size=(N, 1)) * RNG.lognormal(size=60)) + 0.0,
        "clusters": two_clusters(125),
    }

    @pytest.mark.parametrize("name", DATA)
    @pytest.mark.parametrize("k", [2, 3, 12])
    def test_distances_of_any_metric_and_space(self, name, k):
        points = self.DATA[name]
        graphs = [
            kneighbors_graph(points, k, mode="distance", metric=metric)
            for metric in ("euclidean", "cosine", "correlation", "manhattan", "canberra", "hamming")
        ]
        # Of another space: a few components, logarithms, or one that has nothing to do with X.
        latent = np.linalg.svd(points, full_matrices=False)[0][:, :3]
        for space in (latent, np.log1p(np.abs(points)), RNG.permutation(points)):
            graphs.append(kneighbors_graph(space, k, mode="distance"))
            graphs.append(kneighbors_graph(space, k, mode="connectivity"))
        everything = cdist(latent, latent)
        for graph in (*graphs, everything, 1 - kernel(everything)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                neighbor_index(graph, N, k, points=points)

    def test_a_few_short_rows_say_nothing(self):
        """Two values agree with anything in one case out of two."""
        far = np.array([[0.0], [1.0], [3.0], [7.0], [15.0], [31.0]])
        index = np.array([[1, 2], [0, 2], [1, 0], [2, 1], [3, 2], [4, 3]])
        distance = np.abs(far[index, 0] - far)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            neighbor_index((index[:, ::-1], distance), 6, 2, points=far)

    def test_what_faiss_pads_with_is_no_neighbour(self):
        """Of index -1, and a distance that is finite: not that to the last point."""
        index, distance = WIDE.copy(), DISTANCE.astype(np.float32)
        index[:, -3:], distance[:, -3:] = -1, np.finfo(np.float32).max
        asked = []

        class Points:
            def __getitem__(self, rows):
                asked.extend(np.atleast_1d(rows).tolist())
                return X[rows]

        neighbor_index((index, distance), N, K, points=Points())
        assert asked and min(asked) >= 0


class TestDenseZeros:
    @pytest.mark.parametrize("k", [3, 12])
    @pytest.mark.parametrize("mode", ["distance", "connectivity"])
    @pytest.mark.parametrize("symmetric", [False, True])
    def test_what_toarray_made_of_a_sparse_graph(self, k, mode, symmetric):
        graph = kneighbors_graph(X, k, mode=mode).toarray()
        if symmetric:
            graph = np.maximum(graph, graph.T)
        with pytest.raises(ValueError, match="zeros that cannot be distances.*sparse graph itself"):
            LocallyLinearEmbedding(n_neighbors=k).fit(X, knn_graph=graph)

    def test_honest_zeros(self):
        """Copies, of X's rows or of directions, which are at distance 0 by the cosine alone."""
        copies = np.repeat(X[:10], 25, axis=0)
        scaled = copies * RNG.uniform(1, 2, size=(N, 1))
        units = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
        by_cosine = np.round(cdist(units, units), 9)
        for D in (cdist(copies, copies), by_cosine, np.zeros((N, N))):
            assert ((D == 0).sum(axis=1) > 20).all()
            index = neighbor_index(D, N, K)
            assert (np.take_along_axis(D, index, axis=1) == 0).all()
            for diagonal in (2 * D.max() + 1, np.inf):
                np.fill_diagonal(D, diagonal)  # as some write it, so that no point is its own
                neighbor_index(D, N, K)
                np.fill_diagonal(D, 0)

    def test_a_few_rows_may_contradict_themselves(self):
        """Rounded or approximate distances do; and k zeros are what was asked for."""
        D = cdist(X, X)
        D[:5, 100:130] = 0
        neighbor_index(D, N, K)
        few = kneighbors_graph(X, 12, mode="distance").toarray()
        few[few == 0] = 9.0
        few[:, :K] = 0
        neighbor_index(few, N, K)
