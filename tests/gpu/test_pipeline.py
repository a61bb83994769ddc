"""The whole GPU path, through the public estimator and function, against the CPU's."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings

import numpy as np
import pytest
from conftest import METHODS, make_manifold, two_clusters
from numpy.testing import assert_allclose, assert_array_equal

import lle_gpu
from lle_gpu import GpuFallbackWarning, GpuMemoryError, LocallyLinearEmbedding
from lle_gpu.exceptions import DisconnectedGraphWarning


@pytest.fixture
def gpu(gpu_once):
    """The kernels have their own tests, in every schedule."""
    return gpu_once


def sine(A, B):
    """Largest sine between the spans of the columns."""
    A, B = (np.linalg.qr(np.asarray(M, dtype=float))[0] for M in (A, B))
    return np.linalg.norm(A - B @ (B.T @ A), 2)


def fitted(X, device, **parameters):
    parameters = {"n_neighbors": 12, "n_components": 2} | parameters
    return LocallyLinearEmbedding(device=device, **parameters).fit(X)


@contextlib.contextmanager
def device_memory(gpu, size):
    """Have the device's memory end at ``size`` bytes more than is used now."""
    if gpu.machine is not None:
        before = gpu.machine.memory_bytes
        gpu.machine.memory_bytes = max(gpu.machine.used) + size
        try:
            yield
        finally:
            gpu.machine.memory_bytes = before
    else:
        pool = gpu.cupy.get_default_memory_pool()
        pool.free_all_blocks()
        # Blocks of which a part is used stay, and would give more than what is allowed: fill them.
        filled, part = [], pool.free_bytes()
        pool.set_limit(size=pool.total_bytes())
        while part >= 512:
            try:
                filled.append(pool.malloc(part))
            except gpu.cupy.cuda.memory.OutOfMemoryError:
                part //= 2
        pool.set_limit(size=pool.total_bytes() + size)
        try:
            yield
        finally:
            pool.set_limit(size=0)
            filled.clear()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("solver", ["auto", "shift-invert", "chebyshev", "dense"])
def test_the_embedding_is_the_cpus(gpu, method, solver):
    X = make_manifold("swiss-roll", 300)
    cpu = fitted(X, "cpu", method=method)
    model = fitted(X, "gpu", method=method, eigen_solver=solver)
    assert model.device_ == "gpu"
    assert type(model.embedding_) is np.ndarray
    assert model.spectrum_.converged
    assert sine(model.embedding_, cpu.embedding_) <= 1e-6
    assert_allclose(model.spectrum_.values, cpu.spectrum_.values, rtol=1e-6)
    assert_array_equal(
        gpu.to_numpy(model.nbrs_.kneighbors(return_distance=False)),
        cpu.nbrs_.kneighbors(return_distance=False),
    )


@pytest.mark.parametrize("method", METHODS)
def test_float32_input(gpu, method):
    X = make_manifold("s-curve", 400).astype(np.float32)
    model = fitted(X, "gpu", method=method)
    assert model.embedding_.dtype == np.float32
    assert sine(model.embedding_, fitted(X, "cpu", method=method).embedding_) <= 1e-3


@pytest.mark.parametrize("name", ["digits", "five-d"])
@pytest.mark.parametrize("method", METHODS)
def test_many_features(gpu, name, method):
    X = make_manifold(name, 150)
    model = fitted(X, "gpu", method=method, n_neighbors=20)
    cpu = fitted(X, "cpu", method=method, n_neighbors=20)
    assert sine(model.embedding_, cpu.embedding_) <= 1e-6


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_cupy_in_cupy_out(gpu, dtype):
    cp = gpu.cupy
    X = make_manifold("swiss-roll", 300).astype(dtype)
    on_device = cp.asarray(X)
    model = fitted(on_device, "auto")
    assert model.device_ == "gpu"
    for result in (
        model.embedding_,
        model.transform(on_device[:5]),
        model.inverse_transform(model.embedding_[:5]),
        LocallyLinearEmbedding(n_neighbors=12, device="gpu").fit_transform(on_device),
        lle_gpu.locally_linear_embedding(on_device, n_neighbors=12, n_components=2)[0],
    ):
        assert isinstance(result, cp.ndarray)
        assert result.dtype == dtype
    # Each call gives back what it is given, whatever the fit had.
    assert type(model.transform(X[:5])) is np.ndarray
    assert isinstance(fitted(X, "gpu").transform(on_device[:5]), cp.ndarray)


def test_x_stays_on_the_device(stand_in):
    """Of CuPy input, less than a copy of X ever comes to the host; the graph and T alone do."""
    X = stand_in.cupy.asarray(make_manifold("digits", 400))
    machine = stand_in.machine
    before = machine.bytes_to_host
    fitted(X, "gpu", eigen_solver="chebyshev").transform(X[:50])
    assert machine.bytes_to_host - before < X.nbytes / 2


def test_cupy_input_on_the_cpu(gpu):
    cp = gpu.cupy
    X = make_manifold("swiss-roll", 300)
    model = fitted(cp.asarray(X), "cpu")
    assert model.device_ == "cpu"
    assert isinstance(model.embedding_, cp.ndarray)
    assert_array_equal(gpu.to_numpy(model.embedding_), fitted(X, "cpu").embedding_)


def test_new_points_and_back(gpu):
    X = make_manifold("s-curve", 400)
    model, cpu = fitted(X, "gpu"), fitted(X, "cpu")
    cpu.embedding_ = model.embedding_  # signs and rotations aside
    points = X[:50] + 0.01
    assert_allclose(model.transform(points), cpu.transform(points), atol=1e-10)
    Y = model.embedding_[:20] * 1.01
    assert_allclose(model.inverse_transform(Y), cpu.inverse_transform(Y), atol=1e-8)
    assert_array_equal(model.transform(X), model.embedding_)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("disconnected", ["bridge", "largest"])
def test_a_graph_in_pieces(gpu, method, disconnected):
    X = two_clusters(120, distance=60.0)
    parameters = {"method": method, "disconnected": disconnected, "n_neighbors": 10}
    model, cpu = fitted(X, "gpu", **parameters), fitted(X, "cpu", **parameters)
    assert_array_equal(model.embedded_rows_, cpu.embedded_rows_)
    assert_array_equal(model.bridged_rows_, cpu.bridged_rows_)
    assert sine(model.embedding_, cpu.embedding_) <= 1e-6


def test_duplicates(gpu):
    X = make_manifold("swiss-roll", 200)
    X = np.concatenate([X, X[:50], X[:50], X[:1].repeat(20, axis=0)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DisconnectedGraphWarning)
        model, cpu = fitted(X, "gpu"), fitted(X, "cpu")
    assert_array_equal(
        gpu.to_numpy(model.nbrs_.kneighbors(return_distance=False)),
        cpu.nbrs_.kneighbors(return_distance=False),
    )
    assert model.spectrum_.n_null == cpu.spectrum_.n_null


class TestBadInput:
    @pytest.mark.parametrize(
        ("X", "error", "says"),
        [
            (lambda cp: cp.zeros(5), ValueError, "Expected 2D array, got 1D"),
            (lambda cp: cp.zeros((5, 2), dtype=complex), ValueError, "Complex data not supported"),
            (lambda cp: cp.zeros((1, 2)), ValueError, "minimum of 2"),
            (lambda cp: cp.zeros((5, 0)), ValueError, "0 feature"),
            (lambda cp: cp.ones((50, 3)), ValueError, "all 50 points of X are equal"),
            (lambda cp: cp.asarray(np.full((50, 3), np.nan)), ValueError, "contains NaN"),
            (lambda cp: cp.asarray(np.full((50, 3), np.inf)), ValueError, "contains infinity"),
        ],
    )
    def test_arrays(self, gpu, X, error, says):
        model = LocallyLinearEmbedding(n_neighbors=12, device="gpu")
        with pytest.raises(error, match=says):
            model.fit(X(gpu.cupy))
        assert "embedding_" not in vars(model)

    def test_half_precision_integers_and_strides_take_a_copy(self, gpu):
        cp = gpu.cupy
        X = np.round(make_manifold("swiss-roll", 300) * 8)
        expected = fitted(X, "gpu").embedding_
        for given in (
            cp.asarray(X.astype(np.float16)),
            cp.asarray(X.astype(np.int32)),
            cp.asarray(np.asfortranarray(X)),
            cp.asarray(np.repeat(X, 2, axis=0))[::2],
        ):
            Y = fitted(given, "gpu").embedding_
            assert Y.dtype == np.float64
            assert_array_equal(gpu.to_numpy(Y), expected)

    def test_another_number_of_features(self, gpu):
        model = fitted(gpu.cupy.asarray(make_manifold("swiss-roll", 300)), "gpu")
        with pytest.raises(ValueError, match="X has 2 features, but .* expecting 3"):
            model.transform(gpu.cupy.zeros((4, 2)))

    @pytest.mark.parametrize(
        ("parameters", "says"),
        [
            ({"device": "gpu", "metric": "manhattan"}, "metric='manhattan' is not known to"),
            ({"device": "gpu", "neighbors_algorithm": "kd_tree"}, "'kd_tree' is not known to"),
            ({"device": "cpu", "neighbors_algorithm": "cupy"}, "searches on the GPU"),
            ({"metric": "manhattan", "neighbors_algorithm": "cuml"}, "use device='cpu'|device"),
        ],
    )
    def test_parameters_that_exclude_each_other(self, gpu, parameters, says):
        with pytest.raises(ValueError, match=says):
            LocallyLinearEmbedding(**parameters).fit(make_manifold("swiss-roll", 100))

    @pytest.mark.parametrize(
        "parameters", [{"metric": "manhattan"}, {"neighbors_algorithm": "kd_tree"}]
    )
    def test_auto_takes_the_cpu_for_what_only_it_can(self, gpu, parameters):
        X = make_manifold("swiss-roll", 100)
        assert fitted(X, "auto", **parameters).device_ == "cpu"


class TestOutOfMemory:
    def test_auto_goes_over_to_the_cpu_and_says_so(self, gpu):
        X = make_manifold("swiss-roll", 400)
        model = LocallyLinearEmbedding(n_neighbors=12)
        with device_memory(gpu, 20_000), pytest.warns(GpuFallbackWarning, match="on the CPU"):
            model.fit(X)
        assert model.device_ == "cpu"
        assert_array_equal(model.embedding_, fitted(X, "cpu").embedding_)

    def test_gpu_raises_and_leaves_the_estimator(self, gpu):
        X = make_manifold("swiss-roll", 400)
        model = fitted(X, "gpu")
        before = model.embedding_
        with device_memory(gpu, 20_000), pytest.raises(GpuMemoryError, match="device='auto'"):
            model.fit(X[:390])
        assert model.embedding_ is before
        assert model.device_ == "gpu"


def test_without_cupy_nothing_of_this_is_imported():
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed")
    with pytest.raises(lle_gpu.GpuUnavailableError, match="CuPy is not installed"):
        LocallyLinearEmbedding(neighbors_algorithm="cuml").fit(make_manifold("swiss-roll", 100))
