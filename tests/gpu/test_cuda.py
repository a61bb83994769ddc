"""Loading, compiling and launching kernels; geometry; device memory; the probe."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import lle_gpu
from lle_gpu import GpuUnavailableError
from lle_gpu.cuda import compiler, cupy, geometry, kernel, memory, register
from lle_gpu.cuda.compiler import KernelCompilationError, instantiations, source_text
from lle_gpu.cuda.probe import find_device
from lle_gpu.progress import StageTimes, report_to

COMPAT = (Path(lle_gpu.__file__).parents[1] / "kernels" / "compat.cuh").read_text()
SCALE = """\
// y = factor x
#include "compat.cuh"
#include "factor.cuh"

template <class T>
__global__ void scale(const T* x, T* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = factor<T>() * x[i];
}
// Dynamic shared memory of so many elements: reverses a block.
template <class T>
__global__ void reverse(const T* x, T* y, int n) {
  DYN_SHARED(bytes);
  T* s = reinterpret_cast<T*>(bytes);
  for (int i = threadIdx.x; i < n; i += blockDim.x) s[i] = x[i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = s[n - 1 - i];
}
"""
FACTOR = """\
#pragma once
#include "compat.cuh"

template <class T>
__device__ T factor() { return T(3); }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of kernels of this test's own, with two instantiations registered."""
    monkeypatch.setattr(compiler, "kernel_folder", lambda: tmp_path)
    monkeypatch.setattr(compiler, "_registered", {})
    for name, text in (("scale.cu", SCALE), ("factor.cuh", FACTOR), ("compat.cuh", COMPAT)):
        (tmp_path / name).write_text(text)
    register("scale.cu", ["scale<float>", "scale<double>", "reverse<double>"])
    return tmp_path


# ---- loading and compiling ----
def test_headers_are_pasted_once_under_their_names(folder):
    text = source_text("scale.cu")
    assert text.count("T(3)") == 1
    assert text.count("DYN_SHARED(name)") == 1
    assert "#include" not in text
    assert "pragma once" not in text
    # Following the #line directives, every line is where the file has it.
    file, number, seen = None, 0, set()
    for line in text.split("\n"):
        directive = re.fullmatch(r'#line (\d+) "(.*)"', line)
        if directive:
            file, number = Path(directive[2]), int(directive[1])
            continue
        original = file.read_text().split("\n")[number - 1]
        assert line == original or original.startswith("#pragma once")
        seen.add((file.name, number))
        number += 1
    for name in ("scale.cu", "factor.cuh", "compat.cuh"):
        lines = (folder / name).read_text().splitlines()
        kept = {i for i, line in enumerate(lines, 1) if not line.startswith("#include")}
        assert {(name, i) for i in kept} <= seen


def test_a_changed_header_is_a_changed_source(folder):
    before = source_text("scale.cu")
    (folder / "factor.cuh").write_text(FACTOR.replace("T(3)", "T(4)"))
    assert source_text("scale.cu") != before


def test_a_missing_header_is_named_with_the_line_that_wants_it(folder):
    (folder / "factor.cuh").unlink()
    with pytest.raises(KernelCompilationError, match=r"scale.cu, line 3, asks for .*factor.cuh"):
        source_text("scale.cu")


def test_every_source_of_the_package_can_be_read():
    sources = [p.name for p in compiler.kernel_folder().iterdir() if p.name.endswith(".cu")]
    assert sources
    for source in sources:
        assert "__global__" in source_text(source)


@pytest.mark.parametrize(("name", "dtype"), [("float", np.float32), ("double", np.float64)])
def test_a_kernel_runs(gpu, folder, name, dtype):
    x = gpu.cupy.arange(1000, dtype=dtype)
    y = gpu.cupy.empty_like(x)
    launch = geometry.thread_per_item(1000)
    kernel("scale.cu", f"scale<{name}>")(launch.grid, launch.block, (x, y, np.int32(1000)))
    np.testing.assert_array_equal(gpu.to_numpy(y), 3 * np.arange(1000))


@pytest.mark.parametrize(
    ("file", "line", "wrong"), [("factor.cuh", 5, "T(3)"), ("scale.cu", 8, "x[i]")]
)
def test_compiler_messages_name_the_real_file_and_line(gpu, folder, file, line, wrong):
    text = (folder / file).read_text()
    (folder / file).write_text(text.replace(wrong, "undeclared_thing", 1))
    with pytest.raises(KernelCompilationError) as error:
        kernel("scale.cu", "scale<float>")
    message = str(error.value)
    assert re.search(rf"{re.escape(str(folder / file))}[:(]{line}\b", message), message
    for word in ("scale<float> of scale.cu", "for sm_", "undeclared_thing"):
        assert word in message


def test_a_kernel_is_compiled_once_per_device(stand_in, folder, monkeypatch):
    compiled = []
    real = compiler._compile
    monkeypatch.setattr(compiler, "_compile", lambda *key: compiled.append(key) or real(*key))
    first = kernel("scale.cu", "scale<float>")
    assert kernel("scale.cu", "scale<float>") is first
    other = kernel("scale.cu", "scale<double>")
    with stand_in.cupy.cuda.Device(1):
        elsewhere = kernel("scale.cu", "scale<float>")
    assert (first.device, elsewhere.device) == (0, 1)
    assert compiled == [
        ("scale.cu", "scale<float>", 0),
        ("scale.cu", "scale<double>", 0),
        ("scale.cu", "scale<float>", 1),
    ]
    assert other is kernel("scale.cu", "scale<double>")


def test_what_is_used_together_is_compiled_together(stand_in, folder, monkeypatch):
    """Kernels with the same template arguments; what is registered later, later."""
    cp = stand_in.cupy
    made, real = [], cp.RawModule
    monkeypatch.setattr(
        cp,
        "RawModule",
        lambda **options: made.append(options["name_expressions"]) or real(**options),
    )
    kernel("scale.cu", "scale<double>")
    kernel("scale.cu", "reverse<double>")
    assert made == [("scale<double>", "reverse<double>")]
    kernel("scale.cu", "scale<float>")
    assert made[1:] == [("scale<float>",)]
    register("scale.cu", ["reverse<float>"])
    kernel("scale.cu", "reverse<float>")
    assert made[2:] == [("scale<float>", "reverse<float>")]
    with cp.cuda.Device(1):
        kernel("scale.cu", "scale<double>")
    assert made[3:] == [("scale<double>", "reverse<double>")]


def test_threads_compile_a_kernel_once(stand_in, folder, monkeypatch):
    compiled, real = [], compiler._compile
    all_here = threading.Barrier(8)

    def counted(*key):
        compiled.append(key)
        return real(*key)

    def ask():
        all_here.wait()
        found.append(kernel("scale.cu", "scale<float>"))

    monkeypatch.setattr(compiler, "_compile", counted)
    found = []
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == len(compiled) == 1


def test_only_registered_instantiations_can_be_had(stand_in, folder):
    with pytest.raises(ValueError, match=r"'scale<int>' of scale.cu is not .* scale<float>, scale"):
        kernel("scale.cu", "scale<int>")
    register("scale.cu", ("scale<int>", "scale<float>"))
    assert instantiations()["scale.cu"] == (
        "scale<float>",
        "scale<double>",
        "reverse<double>",
        "scale<int>",
    )
    kernel("scale.cu", "scale<int>")


# ---- launching ----
@pytest.fixture
def scale(gpu, folder):
    """scale<float>, and arrays x, y of 64 elements for it."""
    x = gpu.cupy.ones(64, np.float32)
    return kernel("scale.cu", "scale<float>"), x, gpu.cupy.zeros_like(x)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda x: (x, x, 64), TypeError, "argument 2 of scale<float> is a builtins.int"),
        (lambda x: (x, 1.0, np.int32(64)), TypeError, "argument 1 .* builtins.float"),
        (lambda x: (x.get(), x, np.int32(64)), TypeError, "argument 0 .* numpy.ndarray"),
        (lambda x: (x[::2], x, np.int32(64)), ValueError, r"argument 0 .*\(32,\).*\(8,\).* not C-"),
        (lambda x: (x.reshape(8, 8).T, x, np.int32(64)), ValueError, "not C-contiguous"),
    ],
)
def test_arguments_are_checked(gpu, scale, wrong, error, says):
    f, x, y = scale
    with pytest.raises(error, match=says):
        f(1, 64, wrong(x))
    assert not gpu.to_numpy(y).any()


@pytest.mark.parametrize("what", ["float64", "int64"])
def test_the_emulator_knows_the_exact_types(stand_in, folder, what):
    f, cp = kernel("scale.cu", "scale<float>"), stand_in.cupy
    x = cp.ones(64, np.float64 if what == "float64" else np.float32)
    y = cp.ones(64, np.float32)
    n = np.int64(64) if what == "int64" else np.int32(64)
    with pytest.raises(TypeError, match=what):
        f(1, 64, (x, y, n))


def test_an_array_of_another_device_is_refused(stand_in, folder):
    cp = stand_in.cupy
    f, x = kernel("scale.cu", "scale<float>"), cp.ones(64, np.float32)
    with cp.cuda.Device(1):
        y = cp.ones(64, np.float32)
        with pytest.raises(ValueError, match="compiled for device 0 and the current device is 1"):
            f(1, 64, (y, y, np.int32(64)))
        kernel("scale.cu", "scale<float>")(1, 64, (y, y, np.int32(64)))
    assert (y.get() == 3.0).all()
    with pytest.raises(ValueError, match="argument 1 of .* is on device 1, the kernel on device 0"):
        f(1, 64, (x, y, np.int32(64)))


def test_an_empty_grid_launches_nothing(gpu, scale):
    f, x, y = scale
    launch = geometry.thread_per_item(0)
    f(launch.grid, launch.block, (x, y, np.int32(64)))
    f((3, 0), 64, (x, y, np.int32(64)))
    assert not gpu.to_numpy(y).any()
    with pytest.raises(TypeError, match="argument 2"):  # mistakes show all the same
        f(0, 64, (x, y, 64))


@pytest.mark.parametrize(
    ("grid", "block", "says"),
    [
        ((1, 65_536), 64, r"grid=\(1, 65536\) of scale<float>"),
        (2**31, 64, "work in chunks"),
        (-1, 64, r"grid=\(-1,\)"),
        (1, 1025, r"block=\(1025,\)"),
        (1, 0, r"block=\(0,\)"),
        (1, (64, 32), "has 2048 threads; 1024 are allowed"),
        ((1, 1, 1, 1), 64, "one to three sizes"),
    ],
)
def test_impossible_launches_are_refused(scale, grid, block, says):
    f, x, y = scale
    with pytest.raises(ValueError, match=says):
        f(grid, block, (x, y, np.int32(64)))


def test_more_threads_than_a_kernel_is_bound_to_are_refused(gpu, folder):
    (folder / "bound.cu").write_text(
        "__global__ void __launch_bounds__(32 * 3, 2)  // and\n"
        "bound(int* x) { if (threadIdx.x + threadIdx.y == 0) *x = 7; }\n"
    )
    register("bound.cu", ["bound"])
    f, x = kernel("bound.cu", "bound"), gpu.cupy.zeros(1, np.int32)
    f(1, (3, 32), (x,))
    with pytest.raises(ValueError, match=r"\(97,\) of bound has 97 threads; 96 are allowed"):
        f(1, 97, (x,))
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):  # and CUDA says this
        f.function((1,), (97,), (x,))
    assert int(x[0]) == 7


def test_shared_memory_beyond_48_kib_is_asked_for(gpu, folder):
    f, limit = kernel("scale.cu", "reverse<double>"), geometry.shared_memory_limit()
    # 64 bytes less: the emulator counts a little beside the kernel's own static memory.
    for size in (6_000, 8_000, 7_000, (limit - 64) // 8, 10):
        x = gpu.cupy.arange(size, dtype=np.float64)
        y = gpu.cupy.empty_like(x)
        f(1, 256, (x, y, np.int32(size)), shared_bytes=8 * size)
        np.testing.assert_array_equal(gpu.to_numpy(y), np.arange(size)[::-1])


def test_more_shared_memory_than_there_is_is_refused(gpu, folder):
    f, limit = kernel("scale.cu", "reverse<double>"), geometry.shared_memory_limit()
    x = gpu.cupy.ones(8)
    with pytest.raises(ValueError, match=rf"needs \d+ bytes of shared memory .* has {limit}"):
        f(1, 8, (x, x.copy(), np.int32(8)), shared_bytes=limit + 8)


# ---- geometry ----
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 1000])
def test_every_item_has_its_threads(n):
    for lanes in (1, 2, 4, 8, 16, 32):
        grid, block, shared = geometry.lanes_per_item(n, lanes, shared_bytes=24)
        assert block == (128,)
        items = 128 // lanes
        assert grid[0] * items >= n > (grid[0] - 1) * items or n == grid[0] == 0
        assert shared == 24 * items
    assert geometry.warp_per_item(n, warps=8, shared_bytes=4) == ((-(-n // 8),), (256,), 32)
    assert geometry.block_per_item(n, 96, shared_bytes=5) == ((n,), (96,), 5)
    assert geometry.thread_per_item(n).grid[0] * 256 >= n


@pytest.mark.parametrize(("lanes", "threads"), [(3, 128), (64, 128), (0, 128), (32, 48)])
def test_groups_of_lanes_divide_warps_and_blocks(lanes, threads):
    with pytest.raises(ValueError, match="lanes"):
        geometry.lanes_per_item(10, lanes, threads=threads)


def test_each_device_has_its_own_limit(stand_in):
    assert geometry.shared_memory_limit() == 232_448
    stand_in.machine.shared_bytes = 101_376
    assert geometry.shared_memory_limit() == 232_448, "asked once"
    with stand_in.cupy.cuda.Device(1):
        assert geometry.shared_memory_limit() == 101_376
    geometry.forget_devices()
    assert geometry.shared_memory_limit() == 101_376


# ---- memory ----
def test_chunks_cover_all_rows_once_and_report(stand_in, monkeypatch):
    monkeypatch.setattr(memory, "LEAST_CHUNK_BYTES", 1)
    stand_in.machine.memory_bytes = 1 << 20

    class Steps(StageTimes):
        steps = ()

        def advance(self, steps):
            self.steps += (steps,)

    slices = []
    with report_to(Steps()) as progress:
        memory.for_each_chunk(slices.append, 1000, 1024)
    # Half of what is free: 512 rows.
    assert slices == [slice(0, 512), slice(512, 1000)]
    assert progress.steps == (512, 488)
    with report_to(Steps()) as progress:
        memory.for_each_chunk(slices.append, 1000, 1024, quiet=True)
    assert not any(progress.steps)
    slices.clear()
    memory.for_each_chunk(slices.append, 0, 1024)
    assert slices == []
    memory.for_each_chunk(slices.append, 3, 1 << 30)  # a row at least
    assert slices == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_chunks_where_an_allocator_keeps_all_memory_to_itself(stand_in, monkeypatch):
    """As a pool of RMM's: the driver has none, and allocations succeed."""
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    slices = []
    memory.for_each_chunk(slices.append, 3 << 13, 2048)
    assert slices == [slice(low << 13, low + 1 << 13) for low in range(3)]


def test_a_chunk_that_does_not_fit_is_halved_and_repeated(stand_in, monkeypatch):
    monkeypatch.setattr(memory, "LEAST_CHUNK_BYTES", 1)
    cp, machine = stand_in.cupy, stand_in.machine
    result = cp.zeros(1000)
    machine.memory_bytes = machine.used[0] + 8 * 128  # what others leave: 128 rows
    tried, pooled = [], []

    def work(rows):
        tried.append(rows)
        pooled.append(machine.pooled[0])
        first = cp.empty(1)
        work_space = cp.empty(rows.stop - rows.start - 64)
        result[rows] += 1.0
        del first, work_space

    with report_to(StageTimes()) as progress:
        memory.for_each_chunk(work, 1000, 1)  # says one byte a row and takes eight
    done = result.get()
    assert (done == 1.0).all()
    assert [rows.stop - rows.start for rows in tried[:3]] == [512, 256, 128]
    assert all(rows.stop - rows.start <= 128 for rows in tried[2:])
    assert progress.notes == [f"device memory ran out: chunks of {n} rows" for n in (256, 128)]
    assert pooled[1] == pooled[2] == 0, "blocks too small for the next attempt are given back"
    assert machine.used[0] == result.nbytes + 192, "nothing of the failed attempts is held"


def test_a_row_that_does_not_fit_is_an_error(stand_in):
    cp, tried = stand_in.cupy, []
    stand_in.machine.memory_bytes = 4096

    def work(rows):
        tried.append(rows)
        cp.empty(1000)

    with pytest.raises(cp.cuda.memory.OutOfMemoryError, match="8,000 bytes"):
        memory.for_each_chunk(work, 3, 500)
    assert tried == [slice(0, 3), slice(0, 2), slice(0, 1)]


def test_other_errors_are_not_taken_for_it(stand_in):
    def work(rows):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        memory.for_each_chunk(work, 10, 8)


def test_free_bytes_counts_what_the_pool_holds(stand_in):
    cp, pool = stand_in.cupy, stand_in.cupy.get_default_memory_pool()
    stand_in.machine.memory_bytes = 10_240
    held = cp.zeros(512, np.uint8)
    cp.zeros(1024, np.uint8)  # and freed
    assert (pool.used_bytes(), pool.free_bytes()) == (512, 1024)
    assert memory.free_bytes() == 10_240 - 512
    memory.release_unused()
    assert pool.free_bytes() == 0
    assert memory.free_bytes() == 10_240 - held.nbytes
    pool.set_limit(2048)
    assert memory.free_bytes() == 2048 - 512


def test_an_allocator_that_cannot_be_set_is_left_alone(stand_in, monkeypatch):
    """As inside ``cupy.cuda.using_allocator``, where CuPy raises this."""

    def refuse(allocator=None):
        raise ValueError("Can't change the global allocator inside using_allocator context manager")

    monkeypatch.setattr(stand_in.cupy.cuda, "set_allocator", refuse)
    with pytest.raises(ValueError, match="using_allocator"):
        stand_in.cupy.cuda.set_allocator()
    with memory.kept_allocator():
        pass


def test_the_allocator_is_put_back(gpu):
    cuda = gpu.cupy.cuda
    before = cuda.get_allocator()
    with memory.kept_allocator():
        cuda.set_allocator(cuda.MemoryPool().malloc)
        assert cuda.get_allocator() != before
    assert cuda.get_allocator() == before
    with pytest.raises(ImportError), memory.kept_allocator():
        cuda.set_allocator(cuda.MemoryPool().malloc)
        raise ImportError
    assert cuda.get_allocator() == before


# ---- the probe ----
def test_the_device_is_found(gpu):
    assert find_device()


def test_cupy_that_is_missing_or_broken(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)  # import raises ModuleNotFoundError
    with pytest.raises(GpuUnavailableError, match=r"not installed: pip install 'lle-gpu\[gpu"):
        cupy()
    monkeypatch.delitem(sys.modules, "cupy")
    for text, says in (
        ("import fastrlock_that_is_missing", "its import fails: No module named 'fastrlock_that"),
        ("raise OSError('libcuda is from another planet')", "libcuda is from another planet"),
    ):
        (tmp_path / "cupy.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(GpuUnavailableError, match=says):
            cupy()


@pytest.mark.parametrize(
    ("where", "broken", "says"),
    [
        ("cuda.runtime.getDeviceCount", RuntimeError("no driver"), "no NVIDIA driver.*: no driver"),
        ("RawKernel", ImportError("libnvrtc.so"), "cannot run a kernel on the device: libnvrtc"),
        ("RawKernel", lambda *_: None, "the kernel ran and wrote nothing"),
    ],
)
def test_what_stands_in_the_way_is_said(stand_in, monkeypatch, where, broken, says):
    def replacement(*_, **__):
        if isinstance(broken, Exception):
            raise broken
        return broken

    *path, name = where.split(".")
    module = stand_in.cupy
    for part in path:
        module = getattr(module, part)
    monkeypatch.setattr(module, name, replacement)
    with pytest.raises(GpuUnavailableError, match=says):
        find_device()


def test_missing_linear_algebra_is_said(stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupyx.scipy.sparse.linalg", None)
    with pytest.raises(
        GpuUnavailableError, match=r"linear algebra.*pip install 'cupy-cuda13x\[ctk"
    ):
        find_device()


def test_importing_the_gpu_s_modules_imports_no_cupy():
    code = (
        "import sys, pkgutil, importlib, lle_gpu\n"
        "for m in pkgutil.walk_packages(lle_gpu.__path__, 'lle_gpu.'):\n"
        "    skipped = '__main__' in m.name or m.name.startswith('lle_gpu.torch')\n"  # PyTorch's
        "    if not skipped: importlib.import_module(m.name)\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('cupy', 'cupyx', 'cuml', 'cuvs')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
