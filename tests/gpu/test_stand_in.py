"""The stand-in for CuPy: its surface is CuPy's, and it is as strict as it says."""

from __future__ import annotations

import ast
import gc
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from stand_in import array, cublas, cuda, functions, install, linalg, random

from lle_gpu.spectral.lanczos import array_module, lanczos, to_host


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
    assert len(found) > 200
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
        lambda cp, x, h: cp.take(x, h),
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


def test_copies_are_counted(stand_in):
    cp, machine = stand_in.cupy, stand_in.machine
    x = cp.asarray(np.ones(10))
    assert (machine.bytes_to_device, machine.bytes_to_host) == (80, 0)
    x = cp.asarray(x)
    assert float(x[0]) == 1.0
    assert (machine.bytes_to_device, machine.bytes_to_host) == (80, 8)


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
    assert getattr(sys.modules.get("cupy"), "__version__", "") != "stand-in"
    with monkeypatch.context() as patch:
        install(patch)
        import cupy

        assert cupy.__version__ == "stand-in"
    assert getattr(sys.modules.get("cupy"), "__version__", "") != "stand-in"
