"""The stand-in for CuPy: its surface is CuPy's, and it is as strict as it says."""

from __future__ import annotations

import ast
import gc
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stand_in import array, cublas, cuda, functions, install, linalg, random
from stand_in.streams import UnorderedError

import lle_gpu
from lle_gpu import LocallyLinearEmbedding
from lle_gpu.cuda.arrays import array_module, to_host
from lle_gpu.datasets import load
from lle_gpu.neighbors import cpu
from lle_gpu.neighbors.gpu import NeighborSearch
from lle_gpu.spectral.lanczos import lanczos


# ---- the surface, held against the real CuPy (which imports without a GPU) ----
def surface():
    """(dotted name in cupy, the stand-in's object) of everything public."""
    for name in functions.__all__:
        yield name, getattr(functions, name)
    parts = {"linalg.": linalg, "random.": random, "cuda.": cuda}
    for prefix, module in parts.items():
        for name in module.__all__:
            yield prefix + name, getattr(module, name)
    for prefix, part in (
        ("cuda.runtime.", cuda.runtime),
        ("cuda.device.", cuda.device),
        ("cuda.memory.", cuda.memory),
        ("cuda.compiler.", cuda.compiler),
        ("cuda.stream.", cuda.stream),
        ("cuda.graph.", cuda.graph),
        ("", cuda.TOP_LEVEL),
    ):
        for name in part.__all__:
            yield prefix + name, getattr(part, name)
    classes = {
        "ndarray": array.ndarray,
        "RawKernel": cuda.RawKernel,
        "RawModule": cuda.RawModule,
        "cuda.Device": cuda.Device,
        "cuda.Stream": cuda.Stream,
        "cuda.Event": cuda.Event,
        "cuda.Graph": cuda.Graph,
        "cuda.MemoryPool": cuda.MemoryPool,
        "random.RandomState": random.RandomState,
        "random.Generator": random.Generator,
    }
    for prefix, thing in classes.items():
        for name, member in vars(thing).items():
            if not name.startswith("_"):
                yield f"{prefix}.{name}", member


def named(node):
    """What of CuPy a node of lle_gpu's code names, as in ``cp.linalg.norm`` or ``cupy().cuda``."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Call):
        node = node.func
    is_cupy = isinstance(node, ast.Name) and node.id in ("cp", "xp", "cupy")
    return ".".join(reversed(parts)) if is_cupy else ""


def test_the_surface_has_all_that_lle_gpu_names():
    """So that nothing of it escapes the comparison with CuPy below."""
    package = Path(lle_gpu.__file__).parent
    trees = [ast.parse(path.read_text()) for path in package.rglob("*.py")]
    names = {named(node) for tree in trees for node in ast.walk(tree)}
    # ``at`` is a method of ufuncs; CuPy's version is a string.
    names = {name.removesuffix(".at") for name in names if name and not name.startswith("__")}
    assert {"concatenate", "linalg.norm", "cuda.runtime.memGetInfo"} <= names
    found = [f"{name}." for name, _ in surface()]
    missing = [name for name in names if not any(one.startswith(f"{name}.") for one in found)]
    assert missing == []


def parameters(thing):
    """Name to default of a callable's parameters, None if it does not tell."""
    try:
        found = inspect.signature(thing).parameters.values()
        return {p.name: p.default for p in found if p.name != "self"}
    except (TypeError, ValueError):  # compiled: Cython writes the signature in the docstring
        first = (thing.__doc__ or "").strip().split("\n")[0]
        text = re.match(r"[\w.]+\((.*)\)", first)
        if text is None:
            return None
    found = {}
    for part in filter(None, (part.strip() for part in text[1].split(","))):
        name, _, default = part.partition("=")
        found[name.split()[-1].lstrip("*")] = default or inspect.Parameter.empty
    return {name: default for name, default in found.items() if name not in ("self", "")}


def difference(real, name, ours):
    """What CuPy has otherwise, in words; empty if nothing."""
    theirs = real
    for part in name.split("."):
        if not hasattr(theirs, part):
            return "is not in CuPy"
        theirs = getattr(theirs, part)
    if not inspect.isfunction(ours):
        return ""
    if isinstance(theirs, real.ufunc):
        return "" if theirs.nin == getattr(ours, "arguments", 2) else f"takes {theirs.nin}"
    have, want = parameters(theirs), parameters(ours)
    if have is None:
        return "does not tell its parameters"
    if [p for p in have if p in want] != list(want):
        return f"has {list(have)}, not {list(want)}"
    for p in want:
        in_ours, in_theirs = (
            None if default is inspect.Parameter.empty else str(default).strip("'\"")
            for default in (want[p], have[p])
        )
        floats = ("<class 'float'>", "<class 'numpy.float64'>")
        if in_ours != in_theirs and not (in_ours in floats and in_theirs in floats):
            return f"has {p}={in_theirs}, not {in_ours}"
    return ""


def test_cupy_has_all_of_it_with_the_same_parameters():
    real = pytest.importorskip("cupy", minversion="14.2", reason="CuPy is not installed")
    found = {name: difference(real, name, ours) for name, ours in surface()}
    assert {name: text for name, text in found.items() if text} == {}


def test_cublas_has_all_of_it_with_the_same_parameters():
    """Read, not imported: that needs cuBLAS."""
    found = importlib.util.find_spec("cupy.cublas") if importlib.util.find_spec("cupy") else None
    if found is None:
        pytest.skip("CuPy is not installed")
    defined = {
        node.name: [argument.arg for argument in node.args.args]
        for node in ast.parse(Path(found.origin).read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    for name in cublas.__all__:
        assert defined[name] == list(inspect.signature(getattr(cublas, name)).parameters)


# ---- strictness; what is said here of CuPy is tried on it where there is a device ----
@pytest.mark.parametrize(
    "mix",
    [
        lambda cp, x, h: x + h,
        lambda cp, x, h: h * x,
        lambda cp, x, h: x @ h,
        lambda cp, x, h: h @ x,
        lambda cp, x, h: cp.maximum(x, h),
        lambda cp, x, h: cp.concatenate([x, h]),
        lambda cp, x, h: np.asarray(x),
        lambda cp, x, h: np.array(x),
        lambda cp, x, h: np.linalg.qr(h)[0] @ x,
    ],
)
def test_arrays_do_not_mix_with_numpy_s(gpu, mix):
    with pytest.raises(TypeError):
        mix(gpu.cupy, gpu.cupy.ones((3, 3)), np.ones((3, 3)))


@pytest.mark.parametrize(
    "mix",
    [
        lambda cp, x, h: x[h > 0],
        lambda cp, x, h: x.__setitem__(Ellipsis, h),
        lambda cp, x, h: cp.concatenate([x, h]),
        lambda cp, x, h: cp.where(x > 0, x, h),
        lambda cp, x, h: np.sqrt(x),
        lambda cp, x, h: x * [1.0, 1.0, 1.0],
        lambda cp, x, h: x[[0, 1]],
        lambda cp, x, h: x.__iadd__(h),
    ],
)
def test_nor_where_cupy_would_copy_in_silence(stand_in, mix):
    with pytest.raises(TypeError):
        mix(stand_in.cupy, stand_in.cupy.ones((3, 3)), np.ones((3, 3)))


def test_numbers_are_arrays_of_no_dimension(gpu):
    cp = gpu.cupy
    x = cp.arange(6.0).reshape(2, 3)
    for number in (x[1, 2], x.sum(), x.max(), x[0] @ x[1]):
        assert isinstance(number, cp.ndarray)
        assert number.shape == ()
    assert float(x[1, 2]) == 5.0
    assert int(x.sum()) == 15
    assert bool((x >= 0).all())
    x[1, 2] = x[0, 1] + np.float64(1.0)
    assert x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 2.0]]


def test_what_is_made_stands_in_cupy_s_order(gpu):
    """A kernel is refused what is not in C order, and cuDSS what is not in Fortran's."""
    cp = gpu.cupy
    x = cp.asarray(np.asfortranarray(np.random.default_rng(0).normal(size=(5, 3))))
    for kept in (x, x.astype(np.float32), cp.empty_like(x), cp.linalg.qr(x)[0]):
        assert (kept.flags.c_contiguous, kept.flags.f_contiguous) == (False, True)
    foreign = cp.asarray(SimpleNamespace(__cuda_array_interface__=x.__cuda_array_interface__))
    np.testing.assert_array_equal(gpu.to_numpy(foreign), gpu.to_numpy(x))
    made = x + x, -x, cp.sqrt(abs(x)), cp.where(x > 0, x, 0.0), x.copy(), cp.concatenate([x, x])
    for new in (*made, x.T @ x, x[:, cp.arange(2)], cp.ascontiguousarray(x)):
        assert (new.flags.c_contiguous, new.flags.f_contiguous) == (True, False)


def test_systems_without_a_solution_are_not_told_of(stand_in):
    from cupy.cublas import batched_gesv

    cp = stand_in.cupy
    A = cp.asarray(np.stack([np.eye(2), np.ones((2, 2))]))
    found = batched_gesv(A, cp.ones((2, 2, 1))).get()
    assert np.isfinite(found).all(axis=(1, 2)).tolist() == [True, False]


def test_views_share_memory_and_copies_do_not(gpu):
    cp = gpu.cupy
    x = cp.zeros((4, 3))
    x.T[0, 1] = 1.0
    x[2:][1, 2] = 2.0
    x.reshape(-1)[0] = 3.0
    x.copy()[...] = 9.0
    x[cp.asarray([0, 1])][...] = 9.0
    x[x > 100] = 7.0
    expected = np.zeros((4, 3))
    expected[1, 0], expected[3, 2], expected[0, 0] = 1.0, 2.0, 3.0
    np.testing.assert_array_equal(gpu.to_numpy(x), expected)


def test_operators_are_numpy_s(gpu):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 4))
    x, y = gpu.cupy.asarray(a), gpu.cupy.asarray(b)
    for operate in (
        lambda p, q: p + q * 2 - 3 / q,
        lambda p, q: (p @ q.T) ** 2,
        lambda p, q: -abs(p) // 0.3 + 2**q,
        lambda p, q: (p > q) & ~(q < 0) | (p == q),
        lambda p, q: np.float32(2) * p - np.float64(1),
        lambda p, q: p.sum(axis=1, keepdims=True) / q.max(axis=0),
    ):
        # pow of CUDA and of the C library differ in the last digits.
        np.testing.assert_allclose(gpu.to_numpy(operate(x, y)), operate(a, b), rtol=1e-13)
    x += y
    x *= 2
    x @ y  # leaves its operands
    np.testing.assert_allclose(gpu.to_numpy(x), (a + b) * 2)
    with pytest.raises(TypeError):
        i = gpu.cupy.arange(3)
        i += 0.5


def test_the_lanczos_iteration_runs_on_it(gpu):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(60, 60))
    A = A @ A.T
    on_device = gpu.cupy.asarray(A)
    result = lanczos(
        lambda X: on_device @ X,
        gpu.cupy.asarray(rng.normal(size=(60, 2))),
        2,
        keep_out=gpu.cupy.zeros((60, 0)),
        tol=1e-8,
        residual_tol=1e-6,
        max_restarts=20,
        slope=np.ones_like,
    )
    assert result.converged
    assert array_module(result.vectors) is gpu.cupy
    values, vectors = np.linalg.eigh(A)
    np.testing.assert_allclose(result.values[:2], values[::-1][:2], rtol=1e-10)
    largest = to_host(result.vectors)[:, 0]
    np.testing.assert_allclose(
        abs(largest @ vectors[:, -1]) / np.linalg.norm(largest), 1.0, rtol=1e-10
    )


# ---- what only the stand-in does ----
def test_new_arrays_hold_garbage(stand_in):
    cp = stand_in.cupy
    assert np.isnan(cp.empty((3, 2)).get()).all()
    assert np.isnan(cp.empty_like(cp.zeros((3, 2), np.float32)).get()).all()
    assert (cp.empty(5, cp.int32).get() == -1).all()


def test_arrays_belong_to_devices(stand_in):
    cp = stand_in.cupy
    x = cp.ones(3)
    with cp.cuda.Device(1):
        y = cp.ones(3)
        assert y.device.id == 1
        assert (y + y).device.id == 1
        for use in (lambda: x + x, lambda: x.sum(), lambda: x[:2], lambda: cp.sqrt(x)):
            with pytest.raises(ValueError, match="array of device 0 is used on device 1"):
                use()
        assert x.get().sum() == 3.0  # a copy to the host may be asked for from anywhere
    assert cp.cuda.Device() == cp.cuda.Device(0)
    with pytest.raises(ValueError, match="array of device 1 is used on device 0"):
        x + y
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError):
        cp.cuda.Device(2).use()


def test_elements_are_written_once(stand_in):
    """On a device several threads would write them, in any order."""
    cp = stand_in.cupy
    x, twice = cp.zeros(4), cp.asarray([1, 3, 1])
    x[twice] = 2.0
    x[twice] = cp.asarray([np.nan, 3.0, np.nan])
    with pytest.raises(ValueError, match="different values are written to one element"):
        x[twice] = cp.arange(3.0)


def test_memory_is_counted_and_runs_out(stand_in):
    cp, machine = stand_in.cupy, stand_in.machine
    pool = cp.get_default_memory_pool()
    machine.memory_bytes = 10_240
    x = cp.zeros(1024, cp.uint8)
    view = x[10:]
    assert pool.used_bytes() == 1024
    assert cp.cuda.runtime.memGetInfo() == (9216, 10_240)
    del x
    gc.collect()
    assert pool.used_bytes() == 1024, "a view keeps its array"
    del view
    assert (pool.used_bytes(), pool.free_bytes()) == (0, 1024)
    assert cp.cuda.runtime.memGetInfo()[0] == 9216, "what was freed is the pool's"
    pool.free_all_blocks()
    assert cp.cuda.runtime.memGetInfo()[0] == 10_240
    with pytest.raises(cp.cuda.memory.OutOfMemoryError, match="allocating 10,248 bytes"):
        cp.ones(1281)
    y = cp.ones(1000)
    with pytest.raises(MemoryError):
        y + y
    assert pool.used_bytes() == 8192
    assert machine.peak_bytes == 8192
    with cp.cuda.Device(1):
        cp.ones(1000)  # another device has its own
    pool.set_limit(8192 + 512)
    cp.ones(64)
    with pytest.raises(MemoryError):
        cp.ones(65)


def test_copies_are_counted(stand_in):
    cp, machine = stand_in.cupy, stand_in.machine
    x = cp.asarray(np.ones(10))
    assert (machine.bytes_to_device, machine.bytes_to_host) == (80, 0)
    x = cp.asarray(x)
    assert float(x[0]) == 1.0
    assert (machine.bytes_to_device, machine.bytes_to_host) == (80, 8)
    assert machine.pinned_bytes == 128


def test_a_captured_stream_takes_kernels_only(stand_in):
    cp = stand_in.cupy
    twice = cp.RawKernel('extern "C" __global__ void twice(double* x) { *x *= 2; }', "twice")
    x = cp.ones(1)
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        twice((1,), (1,), (x,))
        twice((1,), (1,), (x,))
        for other in (lambda: x + 1, lambda: cp.empty(3), lambda: x.get(), lambda: x.fill(2.0)):
            with pytest.raises(RuntimeError, match="while a stream is captured"):
                other()
        graph = stream.end_capture()
    assert float(x[0]) == 1.0, "capturing runs nothing"
    graph.launch()
    graph.launch()
    assert float(x[0]) == 16.0
    assert stand_in.machine.launches == ["twice"] * 4
    with pytest.raises(RuntimeError):
        cp.cuda.Stream.null.begin_capture()


def test_it_is_removed_afterwards(monkeypatch):
    assert getattr(sys.modules.get("cupy"), "__version__", "") != "14.2.stand-in"
    with monkeypatch.context() as patch:
        install(patch)
        import cupy

        assert cupy.__version__ == "14.2.stand-in"
    assert getattr(sys.modules.get("cupy"), "__version__", "") != "14.2.stand-in"


# ---- streams: what a device may do at once must not need an order ----
@pytest.fixture
def shift(stand_in):
    """A kernel that reads its first argument and writes its second, and an array."""
    cp = stand_in.cupy
    code = 'extern "C" __global__ void shift(const double* x, double* y) { *y = *x + 1; }'
    return cp, cp.RawKernel(code, "shift"), cp.ones(1)


def unordered(doing, was):
    return pytest.raises(UnorderedError, match=f"memory is {doing} on .* that was {was} on ")


USES = {  # of x, ready on the null stream; what is wrong with it there where nothing waits
    "kernel": lambda cp, f, x: f((1,), (1,), (x, cp.empty(1))),
    "kernel writes": lambda cp, f, x: f((1,), (1,), (cp.zeros(1), x)),
    "operator": lambda cp, f, x: x + 1,
    "in place": lambda cp, f, x: x.__iadd__(1),
    "function": lambda cp, f, x: cp.concatenate([x, x]),
    "ufunc": lambda cp, f, x: cp.sqrt(x),
    "out": lambda cp, f, x: cp.add(1.0, 2.0, out=x),
    "method": lambda cp, f, x: x.sum(),
    "elements": lambda cp, f, x: x.__setitem__(0, 2.0),
    "elements of a view": lambda cp, f, x: x[:1].reshape(1, 1).__setitem__(0, 2.0),
    "astype": lambda cp, f, x: cp.zeros(3)[x.astype(int)],
    "sort": lambda cp, f, x: x.sort(),
    "copy to the host": lambda cp, f, x: x.get(),
    "number": lambda cp, f, x: float(x[0]),
    "copy to the device": lambda cp, f, x: x.set(np.zeros(1)),
}


@pytest.mark.parametrize("use", USES)
def test_another_stream_must_wait_for_what_was_written(shift, use):
    cp, f, x = shift
    with cp.cuda.Stream(non_blocking=True) as stream:
        with unordered("(read|written)", "written"):
            USES[use](cp, f, x)
        stream.wait_event(cp.cuda.Stream.null.record())
        USES[use](cp, f, x)


def test_writing_must_wait_for_what_reads_and_reading_need_not(shift):
    cp, f, x = shift
    cp.cuda.Device().synchronize()
    with cp.cuda.Stream(non_blocking=True) as stream:
        f((1,), (1,), (x, cp.empty(1)))
    x + 1
    with unordered("written", "read, or freed"):
        f((1,), (1,), (x, x))
    stream.synchronize()
    f((1,), (1,), (x, x))


def test_nor_do_views_and_shapes_use_anything(shift):
    cp, _, x = shift
    with cp.cuda.Stream(non_blocking=True):
        assert x[:1].reshape(1, 1).T.shape == (1, 1)
        assert x.astype(float, copy=False) is not None
        cp.ones(1) + 1


WAITS = {
    "stream": lambda cp, a, b: a.synchronize(),
    "device": lambda cp, a, b: cp.cuda.Device().synchronize(),
    "runtime": lambda cp, a, b: cp.cuda.runtime.deviceSynchronize(),
    "event": lambda cp, a, b: b.wait_event(a.record()),
    "event on the host": lambda cp, a, b: a.record().synchronize(),
    "event, polled": lambda cp, a, b: a.record().done,
    "stream, polled": lambda cp, a, b: a.done,
}


@pytest.mark.parametrize("wait", WAITS)
def test_what_waits(stand_in, wait):
    cp = stand_in.cupy
    a, b = (cp.cuda.Stream(non_blocking=True) for _ in range(2))
    with a:
        x = cp.ones(1)
    before = a.record()
    with a:
        x += 1
    with b:
        for too_early in (lambda: None, lambda: b.wait_event(before), b.synchronize):
            too_early()
            with unordered("read", "written"):
                x + 1
        WAITS[wait](cp, a, b)
        y = x + 1
    with a, unordered("read", "written"):
        y + 1  # the one waited, not the other


def test_a_copy_to_the_host_waits_unless_it_is_told_not_to(stand_in):
    cp = stand_in.cupy
    a, b = (cp.cuda.Stream(non_blocking=True) for _ in range(2))
    with a:
        x = cp.ones(1)
        x.get(blocking=False)
    with b, unordered("read", "written"):
        x + 1
    x.get(stream=a)
    with b:
        x + 1


def test_the_null_stream_and_blocking_streams_wait_for_each_other(stand_in):
    cp = stand_in.cupy
    a, b = cp.cuda.Stream(), cp.cuda.Stream()
    x = cp.ones(1)
    with a:
        x += 1
    with b, unordered("read", "written"):
        x + 1
    with cp.cuda.Stream(null=True):  # there is one only: after a's work, and before b's from now on
        cp.ones(1)
    with b:
        x += 1
    x += 1


def test_a_graph_is_launched_on_the_current_stream_or_on_another(shift):
    cp, f, x = shift
    y = cp.zeros(1)
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        f((1,), (1,), (x, y))
        graph = stream.end_capture()  # where it was captured is not where it runs
    graph.launch()
    with unordered("read", "written"):
        graph.launch(stream=cp.cuda.Stream(non_blocking=True))
    with stream, unordered("read", "written"):
        graph.launch()
    assert float(y[0]) == 2.0


def test_freed_memory_goes_back_to_the_stream_it_was_allocated_on(shift):
    cp, f, _ = shift
    other = cp.cuda.Stream(non_blocking=True)
    y = cp.empty(1)
    with other:
        f((1,), (1,), (cp.zeros(1), y))
        z = cp.empty(1)
    del y
    gc.collect()
    new = cp.empty(1)  # maybe y's memory, which other may be about to write to
    with unordered("written", "read, or freed"):
        new[...] = 0
    with other:
        z[...] = 0  # of another pool
    other.synchronize()
    cp.zeros(1)


@pytest.mark.parametrize(
    ("method", "solver"), [("standard", "shift-invert"), ("ltsa", "chebyshev")]
)
def test_a_model_is_fitted_on_one_stream_and_used_on_others(stand_in, method, solver):
    cp, X = stand_in.cupy, load("swiss-roll", 100, random_state=0).X
    model = LocallyLinearEmbedding(
        n_neighbors=10, method=method, eigen_solver=solver, random_state=0, device="gpu"
    )
    with cp.cuda.Stream(non_blocking=True):
        expected = model.fit(cp.asarray(X)).transform(X[:9])
    np.testing.assert_array_equal(model.transform(X[:9]), expected)
    with cp.cuda.Stream(non_blocking=True):
        np.testing.assert_array_equal(model.transform(X[:9]), expected)


@pytest.mark.parametrize("d", [3, 5, 40])
def test_a_proposer_is_made_on_one_stream_and_used_on_others(stand_in, d):
    """With columns added to the points (d = 5), and none."""
    cp, X = stand_in.cupy, np.random.default_rng(d).normal(size=(60, d))
    search = NeighborSearch(cp.asarray(X), 5)
    expected = cpu.NeighborSearch(X, 5).kneighbors(X[:9], return_distance=False)
    cp.cuda.runtime.deviceSynchronize()
    with cp.cuda.Stream(non_blocking=True):
        assert search.algorithm == "cupy"
    with cp.cuda.Stream(non_blocking=True):
        found = search.kneighbors(cp.asarray(X[:9]), return_distance=False)
        np.testing.assert_array_equal(found.get(), expected)


def test_devices_have_streams_of_their_own(stand_in):
    cp = stand_in.cupy
    with cp.cuda.Stream(non_blocking=True) as stream, cp.cuda.Device(1):
        assert cp.cuda.get_current_stream() is cp.cuda.Stream.null
        x = cp.ones(1)
    with cp.cuda.Device(1):
        x + 1
        with pytest.raises(RuntimeError, match="does not match with the current device"):
            stream.use()
        with cp.cuda.Stream(non_blocking=True) as other, cp.cuda.Device(0):
            assert cp.cuda.get_current_stream() is cp.cuda.Stream.null
            assert cp.cuda.get_current_stream(1) is other
    assert stream.done


def test_a_copy_to_the_host_is_made_on_the_current_device_s_stream(stand_in):
    """Wherever the array is."""
    cp = stand_in.cupy
    with cp.cuda.Device(1):
        x = cp.ones(1)
    assert float(x.get()[0]) == 1.0  # the null stream is the array's device's
    with cp.cuda.Stream(non_blocking=True), cp.cuda.Device(1):
        x += 1
    with cp.cuda.Stream(non_blocking=True), unordered("read", "written"):
        x.get()
