"""Devices that are not the current one, streams, and devices whose memory is taken."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from conftest import make_manifold
from numpy.testing import assert_allclose, assert_array_equal

import lle_gpu
from lle_gpu import (
    GpuFallbackWarning,
    GpuMemoryError,
    GpuUnavailableError,
    arrays,
    locally_linear_embedding,
)
from lle_gpu.cuda import geometry
from lle_gpu.cuda.memory import for_each_chunk, is_out_of_memory
from lle_gpu.cuda.probe import find_device
from lle_gpu.device import find_gpu, resolve
from lle_gpu.spectral import solve
from lle_gpu.spectral.choice import Plan

from .test_pipeline import device_memory, fitted

SHAPES = {
    "plain": lambda X: X,
    "strided": lambda X: X[::2],
    "half": lambda X: X.astype(np.float16),
}


@pytest.fixture
def gpu(gpu_once):
    """The kernels have their own tests, in every schedule."""
    return gpu_once


@pytest.fixture
def two(gpu):
    """A machine with a second device, which is not the current one."""
    if gpu.cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one device")
    assert gpu.cupy.cuda.Device().id == 0
    yield gpu
    assert gpu.cupy.cuda.Device().id == 0, "the current device is left as it was"


class TestAnotherDevice:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_everything_stays_there(self, two, shape):
        X = np.round(make_manifold("swiss-roll", 300) * 8) / 8
        expected = fitted(SHAPES[shape](X).astype(float), "gpu")
        with two.cupy.cuda.Device(1):
            there = two.cupy.asarray(X)
            if shape == "strided":
                there = two.cupy.asarray(X)[::2]
            elif shape == "half":
                there = there.astype(np.float16)
        model = fitted(there, "gpu")
        results = [model.embedding_, model.transform(there)]
        results.append(model.inverse_transform(model.embedding_))
        results.append(locally_linear_embedding(there, n_neighbors=12, n_components=2)[0])
        results.append(model.nbrs_.kneighbors(return_distance=False))
        assert [result.device.id for result in results] == [1] * len(results)
        assert_array_equal(two.to_numpy(model.embedding_), expected.embedding_)
        assert_array_equal(two.to_numpy(results[-1]), two.to_numpy(expected.nbrs_.kneighbors()[1]))

    def test_numpy_in_numpy_out(self, two):
        X = make_manifold("swiss-roll", 200)
        with two.cupy.cuda.Device(1):
            model = fitted(X, "gpu")
        assert model.nbrs_.X.device.id == 1
        assert_array_equal(model.transform(X), model.embedding_)
        assert_array_equal(model.embedding_, fitted(X, "gpu").embedding_)

    def test_arrays_on_two_devices_are_an_error(self, two):
        X = make_manifold("swiss-roll", 200)
        model = fitted(two.cupy.asarray(X), "gpu")
        with two.cupy.cuda.Device(1):
            there = two.cupy.asarray(X)
        with pytest.raises(ValueError, match="on GPU 1, the computation on GPU 0"):
            model.transform(there)

    def test_range_is_checked_there(self, two):
        model = fitted(make_manifold("swiss-roll", 200), "gpu")
        with two.cupy.cuda.Device(1):
            far = two.cupy.asarray(np.full((1, 3), 1e200))
        with pytest.raises(ValueError, match="largest entry of X is 1e\\+200"):
            model.transform(far)

    def test_the_device_that_x_is_on_is_the_one_probed(self, two, monkeypatch):
        probed = []
        real = lle_gpu.device.find_device
        monkeypatch.setattr(
            "lle_gpu.device.find_device",
            lambda: (probed.append(two.cupy.cuda.Device().id), real())[1],
        )
        with two.cupy.cuda.Device(1):
            there = two.cupy.asarray(make_manifold("swiss-roll", 200))
        model = fitted(there, "auto")
        model.inverse_transform(model.transform(there))
        assert set(probed) == {1}


def test_a_device_is_probed_once(stand_in):
    """The probe compiles, launches and waits; fits and transforms after the first do not."""
    launches = stand_in.machine.launches
    for _ in range(3):
        assert find_device()
        with stand_in.cupy.cuda.Device(1):
            assert find_device()
    assert launches.count("probe") == 2
    geometry.forget_devices()
    find_device()
    assert launches.count("probe") == 3


def test_what_failed_is_probed_again(stand_in, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(stand_in.cupy, "RawKernel", None)
        with pytest.raises(GpuUnavailableError):
            find_device()
    assert find_device()


class TestFullDevice:
    """Nothing can be allocated, not even what a probe needs."""

    @pytest.fixture(autouse=True)
    def full(self, stand_in):
        stand_in.machine.memory_bytes = 0

    def test_it_is_not_called_missing(self):
        status = find_gpu()
        assert status.full
        assert not status.usable
        assert "memory is taken" in status.missing[0]

    def test_auto_warns(self):
        X = make_manifold("swiss-roll", 200)
        with pytest.warns(GpuFallbackWarning, match="Out of memory allocating"):
            assert fitted(X, "auto").device_ == "cpu"

    @pytest.mark.parametrize("parameters", [{"device": "gpu"}, {"algorithm": "cupy"}])
    def test_gpu_raises(self, parameters):
        with pytest.raises(GpuMemoryError, match="Out of memory allocating"):
            resolve(**{"device": "auto"} | parameters)

    def test_the_runtime_says_it_in_its_own_way(self, stand_in, monkeypatch):
        error = RuntimeError("cudaErrorMemoryAllocation: out of memory")
        monkeypatch.setattr(stand_in.cupy.cuda.runtime, "getDeviceProperties", raiser(error))
        assert find_gpu().full


def raiser(error):
    def function(*_, **__):
        raise error

    return function


# What CuPy raises, by its classes' bases, where a library could not allocate.
OUT_OF_MEMORY = [
    MemoryError("std::bad_alloc"),
    RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
    RuntimeError("CUSOLVER_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    RuntimeError("cudaErrorMemoryAllocation: out of memory"),
]
OTHERS = [
    RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"),
    RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"),
    ValueError("CUBLAS_STATUS_ALLOC_FAILED"),
    lle_gpu.exceptions.MemoryLimitError("memory_limit=1 is too small"),
]


@pytest.mark.parametrize("library", ["CUBLAS", "CUSOLVER"])
def test_a_library_that_cannot_be_made_ready_on_a_full_device(stand_in, library):
    """It says so without the word memory, and says the same where memory is not the reason."""
    error = RuntimeError(f"{library}_STATUS_NOT_INITIALIZED")
    assert not is_out_of_memory(error)
    stand_in.machine.memory_bytes = 1 << 20
    assert is_out_of_memory(error)
    assert not is_out_of_memory(OTHERS[0])


class TestOutOfMemory:
    @pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
    def test_is_told(self, error):
        assert is_out_of_memory(error)

    @pytest.mark.parametrize("error", OTHERS, ids=str)
    def test_from_others(self, error):
        assert not is_out_of_memory(error)

    @pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
    def test_halves_chunks(self, stand_in, error):
        done = []

        def work(rows):
            if rows.stop - rows.start > 30:
                raise error
            done.append(rows)

        for_each_chunk(work, 100, 1)
        assert [rows.start for rows in done] == [0, *(rows.stop for rows in done[:-1])]
        assert done[-1].stop == 100

    def test_others_pass(self, stand_in):
        with pytest.raises(RuntimeError, match="illegal"):
            for_each_chunk(raiser(OTHERS[1]), 100, 1)

    @pytest.mark.parametrize("error", OUT_OF_MEMORY[1:], ids=str)
    def test_auto_goes_over_to_the_cpu(self, stand_in, monkeypatch, error):
        monkeypatch.setattr("lle_gpu.spectral.gpu.bottom_vectors", raiser(error))
        X = make_manifold("swiss-roll", 200)
        with pytest.warns(GpuFallbackWarning, match="on the CPU"):
            assert fitted(X, "auto").device_ == "cpu"
        with pytest.raises(GpuMemoryError, match="device='gpu'"):
            fitted(X, "gpu")

    @pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
    def test_the_other_solver_is_tried(self, monkeypatch, error):
        problem = type("Problem", (), {"n": 10_000, "square": False})()
        answer = solve.Solution(None, np.array([1.0]), "", 0, "filter")
        monkeypatch.setattr(solve, "_shift_invert", raiser(error))
        monkeypatch.setattr(solve, "_chebyshev", lambda _: answer)
        plan = Plan("shift-invert", "cheaper", "chebyshev")
        assert str(error) in solve._follow(problem, plan, True).description


class TestNewPointsThatDoNotFit:
    @pytest.mark.parametrize("inverse", [False, True])
    def test_they_are_placed_in_chunks(self, gpu, inverse):
        X = make_manifold("s-curve", 120)
        model = fitted(X, "gpu")
        if inverse:
            method, points = model.inverse_transform, np.tile(model.embedding_, (12, 1)) * 1.01
        else:
            method, points = model.transform, np.tile(X, (12, 1)) + 0.01
        launches = [] if gpu.machine is None else gpu.machine.launches
        launches.clear()
        expected = method(points)
        at_once = len(launches)
        with device_memory(gpu, 120_000), warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_array_equal(method(points), expected)
        assert gpu.machine is None or len(launches) > 3 * at_once

    @pytest.mark.parametrize("inverse", [False, True])
    @pytest.mark.parametrize("kind", ["numpy", "cupy"])
    def test_auto_goes_over_to_the_cpu_and_says_so(self, gpu, inverse, kind):
        X = make_manifold("s-curve", 300)
        model = fitted(X, "auto")
        method = model.inverse_transform if inverse else model.transform
        points = (model.embedding_ if inverse else X)[:50] * 1.01
        expected = method(points)
        if kind == "cupy":
            points = gpu.cupy.asarray(points)
        message = "too small for 50 x .* on the CPU"
        with (
            device_memory(gpu, 1000 if kind == "numpy" else 4000),
            pytest.warns(GpuFallbackWarning, match=message),
        ):
            placed = method(points)
        assert_allclose(placed if kind == "numpy" else gpu.to_numpy(placed), expected, atol=1e-8)
        assert model.device_ == "gpu"

    @pytest.mark.parametrize("inverse", [False, True])
    def test_gpu_raises(self, gpu, inverse):
        X = make_manifold("s-curve", 300)
        model = fitted(X, "gpu")
        method = model.inverse_transform if inverse else model.transform
        points = (model.embedding_ if inverse else X)[:50] * 1.01
        with device_memory(gpu, 1000), pytest.raises(GpuMemoryError, match="device='auto'"):
            method(points)


@pytest.mark.parametrize("error", [AssertionError, KeyboardInterrupt])
def test_a_test_that_fails_leaves_the_memory(gpu, error):
    X = make_manifold("swiss-roll", 200)
    with pytest.raises(error), device_memory(gpu, 1000):
        raise error
    assert fitted(X, "gpu").device_ == "gpu"


def test_kneighbors_gives_what_it_gets(gpu):
    X = make_manifold("swiss-roll", 200)
    search = fitted(X, "gpu").nbrs_
    points = X[:9] + 0.01
    expected = search.kneighbors(gpu.cupy.asarray(points))
    for found, right in zip(search.kneighbors(points), expected, strict=True):
        assert type(found) is np.ndarray
        assert_array_equal(found, gpu.to_numpy(right))
    index = search.kneighbors(points, 3, return_distance=False)
    assert type(index) is np.ndarray
    assert index.shape == (9, 3)


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_go_there_in_parts(stand_in, monkeypatch, order):
    """CuPy pins as much memory of the host as it copies at once, and keeps it."""
    part = 1 << 12
    monkeypatch.setattr(arrays, "PART_BYTES", part)
    X = np.asarray(np.random.default_rng(0).normal(size=(1000, 7)), order=order)
    there = arrays.to_device(X)
    assert there.flags.c_contiguous
    assert_array_equal(there.get(), X)
    assert stand_in.machine.pinned_bytes <= part < X.nbytes
    assert stand_in.machine.bytes_to_device == X.nbytes


def test_the_graph_stays_where_it_is_unless_it_is_mended(stand_in, monkeypatch):
    """Up to the solver, nothing as large as the indices goes to the host or comes back."""
    n, machine = 600, stand_in.machine
    X = stand_in.cupy.asarray(make_manifold("swiss-roll", n))

    class ReachedError(Exception):
        """The solver."""

    def stop(*_, **__):
        raise ReachedError

    monkeypatch.setattr("lle_gpu.spectral.gpu.bottom_vectors", stop)

    def copied(k):
        before = machine.bytes_to_host, machine.bytes_to_device
        with pytest.raises(ReachedError):
            fitted(X, "gpu", n_neighbors=k)
        return machine.bytes_to_host - before[0], machine.bytes_to_device - before[1]

    # The indices are 4 x 600 x 20 bytes against 4 x 600 x 10; all else is about the same.
    for of_many, of_few in zip(copied(20), copied(10), strict=True):
        assert of_many - of_few < 4 * n * 6


@pytest.mark.parametrize("call", ["fit_transform", "transform"])
def test_set_output_makes_data_frames_of_cupy_arrays(gpu, call):
    pandas = pytest.importorskip("pandas")
    X = make_manifold("swiss-roll", 200)
    model = fitted(X, "gpu").set_output(transform="pandas")
    Y = getattr(model, call)(gpu.cupy.asarray(X))
    assert type(Y) is pandas.DataFrame
    assert list(Y.columns) == [f"locallylinearembedding{i}" for i in (0, 1)]
    model.set_output(transform="default")
    assert_array_equal(Y.to_numpy(), model.transform(X))


@pytest.mark.gpu
class TestStreams:
    """What the stand-in, which does everything at once, cannot show."""

    def test_a_fit_waits_for_what_its_stream_still_has_to_do(self):
        import cupy as cp

        points = make_manifold("swiss-roll", 2000)
        expected = fitted(cp.asarray(points), "gpu").embedding_
        busy = cp.ones((4096, 4096), dtype=np.float32)
        cp.cuda.Device().synchronize()
        with cp.cuda.Stream(non_blocking=True) as stream:
            X = cp.full(points.shape, 1e3)
            source = cp.asarray(points)
            for _ in range(50):
                busy = busy @ busy * np.float32(1 / 4096)
            X[...] = source  # not waited for
            Y = fitted(X, "gpu").embedding_
            stream.synchronize()
        assert_array_equal(Y.get(), expected.get())

    @pytest.mark.parametrize("method", ["standard", "ltsa"])
    def test_threads_with_streams_of_their_own(self, method):
        import cupy as cp

        clouds = [make_manifold("swiss-roll", 2000, seed) for seed in (0, 1)]
        expected = [fitted(X, "gpu", method=method).embedding_ for X in clouds]
        results: dict = {}
        barrier = threading.Barrier(2)

        def run(number):
            with cp.cuda.Stream(non_blocking=True):
                barrier.wait()
                results[number] = [
                    fitted(clouds[number], "gpu", method=method).embedding_ for _ in range(3)
                ]

        threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(results) == {0, 1}, "a thread failed"
        for number, right in enumerate(expected):
            for Y in results[number]:
                assert_array_equal(Y, right)

    def test_the_default_stream_of_each_thread(self, monkeypatch):
        """CuPy decides at its import whether threads share the default stream."""
        code = (
            "import threading, numpy as np, lle_gpu\n"
            "from sklearn.datasets import make_swiss_roll\n"
            "X = make_swiss_roll(1000, random_state=0)[0]\n"
            "fit = lambda: lle_gpu.LocallyLinearEmbedding(\n"
            "    n_neighbors=12, device='gpu', eigen_solver='chebyshev').fit(X).embedding_\n"
            "right, found = fit(), []\n"
            "threads = [threading.Thread(target=lambda: found.append(fit())) for _ in range(3)]\n"
            "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
            "assert len(found) == 3 and all(np.array_equal(Y, right) for Y in found)\n"
        )
        monkeypatch.setenv("CUPY_CUDA_PER_THREAD_DEFAULT_STREAM", "1")
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
