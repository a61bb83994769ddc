"""Graphs that the user brings, for and from the GPU."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import reference
from conftest import make_manifold
from numpy.testing import assert_array_equal

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.neighbors.precomputed import neighbor_index

from .test_kinds_gpu import KINDS, World

K = 9
X = make_manifold("swiss-roll", 200)
WIDE = reference.neighbors(X, K + 4)
DISTANCE = np.linalg.norm(X[WIDE] - X[:, None], axis=2)
WITH_SELF = np.insert(WIDE, 0, np.arange(len(X)), 1), np.insert(DISTANCE, 0, 0, 1)


@pytest.fixture
def gpu(gpu_once):
    return gpu_once


def graphs(cp):
    sparse = importlib.import_module("cupyx.scipy.sparse")
    begin = np.arange(0, WITH_SELF[0].size + 1, K + 5, dtype=np.int32)
    parts = WITH_SELF[1].ravel(), WITH_SELF[0].astype(np.int32).ravel(), begin
    return {
        "cuML's": (cp.asarray(WITH_SELF[0].astype(np.int32)), cp.asarray(np.float32(WITH_SELF[1]))),
        "cuVS's": cp.asarray(WIDE.astype(np.uint32)),
        "sparse": sparse.csr_matrix(tuple(map(cp.asarray, parts)), shape=(len(X), len(X))),
        "NumPy's": WIDE,
    }


def test_cupys_graphs_come_to_the_host(gpu):
    for name, graph in graphs(gpu.cupy).items():
        index = neighbor_index(graph, len(X), K)
        assert type(index) is np.ndarray, name
        assert_array_equal(index, WIDE[:, :K], err_msg=name)


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_fits_are_the_same_to_the_bit(gpu, device):
    """Whatever is where: X, the graph, and the work."""
    for points in (X, gpu.cupy.asarray(X)):
        expected = LocallyLinearEmbedding(n_neighbors=K, device=device).fit(points)
        for graph in graphs(gpu.cupy).values():
            model = LocallyLinearEmbedding(n_neighbors=K, device=device)
            model.fit(points, knn_graph=graph)
            assert type(model.embedding_) is type(expected.embedding_)
            pair = (
                M.get() if isinstance(M, gpu.cupy.ndarray) else M
                for M in (model.embedding_, expected.embedding_)
            )
            assert_array_equal(*pair)


def test_an_array_that_has_to_be_asked_for_its_copy():
    """As cuVS's ``device_ndarray``, which NumPy cannot read; made after pylibraft 26.10."""

    class DeviceNdarray:
        def __init__(self, array):
            self._array = array
            self.shape, self.dtype = array.shape, array.dtype

        def __array__(self, *_):
            raise TypeError("this is in a GPU's memory")

        def copy_to_host(self):
            return self._array.copy()

    given = DeviceNdarray(WITH_SELF[0]), DeviceNdarray(WITH_SELF[1])
    assert_array_equal(neighbor_index(given, len(X), K), WIDE[:, :K])
    assert_array_equal(neighbor_index(given[0], len(X), K), WIDE[:, :K])


@pytest.fixture
def world(monkeypatch, stand_in):
    return World(monkeypatch, stand_in)


class TestOtherLibraries:
    """Whatever X can be, a graph can be: its parts are read by the same module."""

    def given(self, world, kind, part):
        return world.make(kind, part, names=range(part.shape[1]), labels=range(len(part)))

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_in_every_form(self, world, kind):
        index, distance = (self.given(world, kind, part) for part in WITH_SELF)
        dense = self.given(world, kind, np.linalg.norm(X[:, None] - X, axis=2))
        for graph in ((index, distance), [index, None], index, dense, (index, WITH_SELF[1])):
            found = neighbor_index(graph, len(X), K)
            assert type(found) is np.ndarray
            assert_array_equal(found, WIDE[:, :K])

    def test_what_has_no_shape_of_its_own(self, world):
        graph = [world.make("interface", part) for part in WITH_SELF]
        for part in graph:
            del part.shape
        assert_array_equal(neighbor_index(tuple(graph), len(X), K), WIDE[:, :K])

    def test_tensors_that_numpy_does_not_read(self, world):
        index, distance = map(world.cupy.asarray, WITH_SELF)
        index = world.torch.cuda_tensor(index)
        for options in (
            {"requires_grad": True},
            {"dtype": "torch.bfloat16"},
            {"dtype": "torch.float16"},
        ):
            graph = index, world.torch.cuda_tensor(distance, **options)
            assert_array_equal(neighbor_index(graph, len(X), K), WIDE[:, :K])

    def test_sparse_tensors_and_the_way_out(self, world):
        graph = world.torch.cuda_tensor(world.cupy.asarray(X), layout="torch.sparse_coo")
        with pytest.raises(TypeError, match=r"^knn_graph is a sparse_coo tensor.*csr_array\("):
            LocallyLinearEmbedding(n_neighbors=K).fit(X, knn_graph=graph)


def test_errors_name_the_row(gpu):
    bad = WIDE.copy()
    bad[17, 2] = -1
    with pytest.raises(ValueError, match="^knn_graph, row 17: has the index -1"):
        LocallyLinearEmbedding(n_neighbors=K, device="gpu").fit(
            gpu.cupy.asarray(X), knn_graph=gpu.cupy.asarray(bad)
        )
