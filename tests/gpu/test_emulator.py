"""The emulator catches planted bugs, each in the modes that can, and checks arguments.

Under a sanitizer (``python -m tests.emulator.sanitize``) the same tests expect what it adds.
"""

from __future__ import annotations

import re
from pathlib import Path

import emulator
import numpy as np
import pytest
from emulator import EmulatorError, Module
from emulator.host import missing_emulator, sanitizer

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(bool(missing_emulator()), reason=missing_emulator() or "it is there"),
]
BUGS = (Path(emulator.__file__).parent / "bugs.cu").read_text()
# What shows a bug: "error" in any build; "address", "thread": an error under that sanitizer;
# "results": they are NaN, or differ between schedules. The control shows nothing.
SHOWN_BY = {
    "reversed": (),
    "shared_overrun<float>": ("address",),
    "shared_overrun_by_pointer": ("address",),
    "row_overrun": ("address",),
    "dynamic_overrun": ("error",),
    "global_overrun": ("address",),
    "misaligned": ("address",),
    "undefined_shift": ("address",),
    "no_syncthreads": ("thread", "results"),
    "no_syncwarp": ("thread",),
    "overwritten_too_early": ("thread", "results"),
    "global_race": ("thread",),
    "race_of_blocks": ("results",),
    "unwritten": ("results",),
    "divergent": ("error",),
    "two_barriers": ("error",),
    "early_return": ("error",),
    "warp_divergent": ("error",),
    "shuffle_from_returned": ("error",),
    "not_in_mask": ("error",),
}


@pytest.fixture(scope="module")
def bugs():
    return Module(BUGS, list(SHOWN_BY))


def test_every_planted_bug_is_listed():
    planted = re.findall(r"__global__ void (\w+)\(", BUGS)
    assert sorted(planted) == sorted(name.partition("<")[0] for name in SHOWN_BY)


@pytest.mark.parametrize("name", SHOWN_BY)
def test_planted_bug(bugs, name):
    shown_by = SHOWN_BY[name]
    results, error = [], None
    try:
        for seed in (0, 1, 7, 8):
            x, y = np.arange(1, 65, dtype=np.float32), np.zeros(64, np.float32)
            grid = (4,) if name == "race_of_blocks" else (1,)
            shared = 256 if name == "dynamic_overrun" else 0
            bugs.launch(name, grid, (64,), (x, y, np.int32(64)), shared_bytes=shared, seed=seed)
            results.append(y)
    except EmulatorError as caught:
        error = caught
    if "error" in shown_by or sanitizer() in shown_by:
        assert error is not None
    elif "results" in shown_by:
        assert np.isnan(results).any() or any((y != results[0]).any() for y in results)
    elif not shown_by:
        assert error is None
        np.testing.assert_array_equal(results, [np.arange(64, 0, -1)] * 4)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("divergent", r"threads 0-39 wait in __syncthreads\(\) at unit.cpp:\d+\n  threads 40-63"),
        ("two_barriers", r"__syncthreads\(\) divergence: this thread at .*, thread \d+ at "),
        ("early_return", r"threads 50-63 have returned"),
        ("shuffle_from_returned", r"shuffles from lane \d+, which takes no part"),
        ("not_in_mask", r"thread \(16,0,0\) = warp 0 lane 16: .* its mask 0000ffff does not name"),
        ("dynamic_overrun", r"past the end of dynamic shared memory|use-after-poison"),
    ],
)
def test_errors_say_what_happened_and_where(bugs, name, says):
    arguments = np.zeros(64, np.float32), np.zeros(64, np.float32), np.int32(64)
    with pytest.raises(EmulatorError, match=says):
        bugs.launch(name, (1,), (64,), arguments, shared_bytes=256)


def test_it_goes_on_after_an_error(bugs):
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    with pytest.raises(EmulatorError):
        bugs.launch("divergent", (1,), (64,), (x, y, np.int32(64)))
    bugs.launch("reversed", (1,), (64,), (x, y, np.int32(64)))
    np.testing.assert_array_equal(y, x[::-1])


FLOATS = np.zeros(64, np.float32)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((FLOATS.astype(float), FLOATS, np.int32(64)), "array of float64; .* pointer to f4"),
        ((FLOATS, FLOATS, 64), "Python int"),
        ((FLOATS, FLOATS, np.int64(64)), "scalar of int64; the parameter is i4"),
        ((FLOATS, FLOATS, np.uint32(64)), "scalar of uint32; the parameter is i4"),
        ((FLOATS, FLOATS), "2 arguments for 3 parameters"),
        ((np.zeros((64, 2), np.float32)[:, 0], FLOATS, np.int32(64)), "not C-contiguous"),
        ((np.float32(1), FLOATS, np.int32(64)), "a scalar of float32; .* pointer to f4"),
        ((FLOATS, FLOATS, np.zeros(1, np.int32)), "an array of int32; the parameter is i4"),
    ],
)
def test_arguments_are_checked(bugs, arguments, says):
    with pytest.raises(TypeError, match=says):
        bugs.launch("reversed", (1,), (64,), arguments)


INTRINSICS = r"""
template <class T> __global__ void shuffles(const T* x, T* y, int width, int bits) {
  const int t = threadIdx.x;
  y[t] = __shfl_xor_sync(0xffffffffu, x[t], bits, width);
  y[32 + t] = __shfl_up_sync(0xffffffffu, x[t], 2, width);
  y[64 + t] = __shfl_down_sync(0xffffffffu, x[t], 2, width);
  y[96 + t] = __shfl_sync(0xffffffffu, x[t], 5, width);
}
__global__ void votes(const int* x, int* y) {
  const int t = threadIdx.x;
  y[t] = __ballot_sync(0xffffffffu, x[t] & 1);
  y[32 + t] = __any_sync(0xffffffffu, x[t] > 100) + 2 * __all_sync(0xffffffffu, x[t] >= 0);
  y[64 + t] = __reduce_max_sync(0xffffffffu, x[t]);
  y[96 + t] = __match_any_sync(0xffffffffu, x[t] % 4);
  y[128 + t] = __syncthreads_count(x[t] < 7);
  y[160 + t] = __reduce_add_sync(0xffffffffu, x[t]);
}
__global__ void indices(int* y, int n) {
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  if (i < n) atomicAdd(y + i, i);
}
__global__ void order(int* y, int* drawn) {
  y[atomicAdd(drawn, 1)] = blockIdx.x * blockDim.x + threadIdx.x;
}
__global__ void dynamic(double* y, int n) {
  DYN_SHARED(bytes);
  double* s = reinterpret_cast<double*>(bytes);
  s[threadIdx.x] = threadIdx.x;
  __syncthreads();
  y[threadIdx.x] = s[n - 1 - threadIdx.x];
}
"""


@pytest.fixture(scope="module")
def intrinsics():
    names = ["shuffles<float>", "shuffles<double>", "votes", "indices", "order", "dynamic"]
    return Module(INTRINSICS, names)


@pytest.mark.parametrize(("width", "bits"), [(32, 3), (16, 3), (8, 3), (16, 19), (8, 9)])
@pytest.mark.parametrize(("name", "dtype"), [("float", np.float32), ("double", np.float64)])
def test_shuffles(intrinsics, name, dtype, width, bits):
    x, y = np.arange(32, dtype=dtype), np.zeros(128, dtype)
    arguments = x, y, np.int32(width), np.int32(bits)
    intrinsics.launch(f"shuffles<{name}>", (1,), (32,), arguments, seed=5)
    lane = np.arange(32)
    group = lane - lane % width
    # A lane reads from earlier groups, but instead of from later ones from itself.
    np.testing.assert_array_equal(y[:32], np.where(lane ^ bits < group + width, lane ^ bits, lane))
    np.testing.assert_array_equal(y[32:64], np.where(lane % width < 2, lane, lane - 2))
    np.testing.assert_array_equal(y[64:96], np.where(lane % width >= width - 2, lane, lane + 2))
    np.testing.assert_array_equal(y[96:], group + 5)


def test_votes(intrinsics):
    x, y = np.arange(32, dtype=np.int32), np.zeros(192, np.int32)
    intrinsics.launch("votes", (1,), (32,), (x, y), seed=5)
    ballot, logic, largest, match, count, total = y.reshape(6, 32)
    assert (ballot.view(np.uint32) == 0xAAAAAAAA).all()
    assert (logic == 2).all()
    assert (largest == 31).all()
    np.testing.assert_array_equal(match.view(np.uint32), 0x11111111 << (x % 4).astype(np.uint32))
    assert (count == 7).all()
    assert (total == 496).all()


@pytest.mark.parametrize("seed", [0, 1, 2, 12345])
@pytest.mark.parametrize(
    ("grid", "block"), [((5,), (33,)), ((2, 3), (4, 2)), ((1, 2, 3), (3, 5, 7)), ((6,), (1,))]
)
def test_every_thread_of_every_block_runs_once(intrinsics, grid, block, seed):
    n = int(np.prod(grid) * np.prod(block))
    y = np.zeros(n, np.int32)
    intrinsics.launch("indices", grid, block, (y, np.int32(n)), seed=seed)
    np.testing.assert_array_equal(y, np.arange(n))


def test_the_seed_is_the_order(intrinsics):
    orders = []
    for seed in (0, 1, 2, 3, 4, 5, 12345):
        y, drawn = np.full(5 * 40, -1, np.int32), np.zeros(1, np.int32)
        intrinsics.launch("order", (5,), (40,), (y, drawn), seed=seed)
        assert sorted(y) == list(range(200))
        assert (y // 40 == (y // 40)[::40].repeat(40)).all(), "block after block"
        orders.append(y)
    np.testing.assert_array_equal(orders[0], np.arange(200))
    np.testing.assert_array_equal(orders[1], np.arange(200)[::-1])
    for y in orders[2:]:
        assert len(set(np.diff(y[:40]))) > 10, "threads in no order"
    blocks = [tuple(y[::40] // 40) for y in orders]
    assert len(set(blocks)) > 4


def test_dynamic_shared_memory(intrinsics):
    y = np.zeros(64)
    intrinsics.launch("dynamic", (1,), (64,), (y, np.int32(64)), shared_bytes=512, seed=3)
    np.testing.assert_array_equal(y, np.arange(64)[::-1])


def test_what_does_not_compile_is_said():
    with pytest.raises(EmulatorError, match="undeclared_thing"):
        Module("__global__ void f(int* x) { *x = undeclared_thing; }", ["f"])


BOUND = r"""
constexpr int WARPS = 2;
template <class T, int P>
__global__ void __launch_bounds__(32 * WARPS, P == 13 || P < 8 ? 4 : 8)  // (registers)
template_bound(T* x) {
  if (threadIdx.x + threadIdx.y == 0) *x = blockDim.x * blockDim.y;
}
__global__ void __launch_bounds__(96) bound(int* x) {
  if (threadIdx.x + threadIdx.y == 0) *x = blockDim.x * blockDim.y;
}
__global__ void unbound(int* x) {
  if (threadIdx.x + threadIdx.y == 0) *x = blockDim.x * blockDim.y;
}
// __launch_bounds__(7) of nothing
"""


def test_threads_beyond_the_launch_bounds_are_refused():
    most = {"template_bound<int, 5>": 64, "bound": 96, "unbound": 1024}
    module = Module(BOUND, list(most))
    assert module.most_threads == most
    for name, threads in most.items():
        x = np.zeros(1, np.int32)
        module.launch(name, (1,), (threads // 2, 2), (x,))
        assert x[0] == threads
        with pytest.raises(EmulatorError, match=f"{threads + 1} threads in a block; {threads} are"):
            module.launch(name, (1,), (threads + 1,), (x,))


def test_bounds_that_cannot_be_read_are_errors():
    with pytest.raises(EmulatorError, match="__launch_bounds__ those alone can be read"):
        Module("__global__ void __launch_bounds__(f<2>(3)) f(int* x) { *x = 1; }", ["f"])


@pytest.mark.parametrize("length", [64, 70])
def test_aliased_arguments_stay_aliased(bugs, length):
    # As points of the training set are: the first rows of X, and X.
    x = np.arange(length, dtype=np.float32)
    bugs.launch("reversed", (1,), (64,), (x[:64], x, np.int32(64)))
    np.testing.assert_array_equal(x[:64], np.arange(64)[::-1])
    np.testing.assert_array_equal(x[64:], np.arange(64, length))
    y = np.arange(128, dtype=np.float32)  # neighbours in memory that do not overlap
    bugs.launch("reversed", (1,), (64,), (y[:64], y[64:], np.int32(64)))
    np.testing.assert_array_equal(y, [*range(64), *reversed(range(64))])
