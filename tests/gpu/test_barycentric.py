"""Barycentric weights and weighted means on the GPU, against the CPU's and a dense solution."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal

from lle_gpu.constraints import cpu
from lle_gpu.constraints.gpu.standard import barycentric_weights, standard, weighted_means
from lle_gpu.cuda import duration, kernel

# The function of that name hides the module from an import statement.
MODULE = sys.modules["lle_gpu.constraints.gpu.standard"]

REG = 1e-3
# Of weights whose system has a condition number of up to 1 / REG.
TOLERANCE = {np.float64: 1e-10, np.float32: 2e-4}


def problem(m, n, d, k, real=np.float64, seed=0):
    """m new points among n others, each with k of them for neighbours; no order, no structure."""
    rng = np.random.default_rng(seed)
    points, X = rng.standard_normal((m, d)), rng.standard_normal((n, d))
    index = np.argsort(rng.random((m, n)), axis=1)[:, :k]
    return points.astype(real), X.astype(real), index


@pytest.fixture
def by_kernel(monkeypatch):
    """No point may be done again: else what a kernel spoils and marks would be mended unseen."""

    def again(Z, reg):
        raise AssertionError(f"{len(Z)} points are done again")

    monkeypatch.setattr(MODULE, "local_weights", again)


@pytest.fixture
def asked(monkeypatch):
    """The names of the kernels that are asked for."""
    names = []

    def watched(source, name):
        names.append(name)
        return kernel(source, name)

    monkeypatch.setattr(MODULE, "kernel", watched)
    return names


def on(gpu, *arrays):
    return tuple(gpu.cupy.asarray(array) for array in arrays)


def weights(gpu, points, X, index, reg=REG):
    return gpu.to_numpy(barycentric_weights(*on(gpu, points, X, index), reg=reg))


def dense_weights(points, X, index, reg=REG):
    """One point at a time, in float64, by nothing of the package."""
    points, X = points.astype(np.float64), X.astype(np.float64)
    return np.array(
        [reference.weights(p, X[row], reg) for p, row in zip(points, index, strict=True)]
    )


def close(actual, expected, tolerance):
    """Relative to each point's largest weight."""
    scale = np.abs(expected).max(axis=1, keepdims=True)
    assert_allclose(actual / scale, expected / scale, rtol=0, atol=tolerance)


# k below, at and above each bound of the kernels; d below and above their tiles of columns, even
# and odd; as many points as fill no warp, one warp, and more than a block.
SIZES = [
    (1, 3, 3, 1),
    (7, 9, 1, 8),
    (70, 90, 2, 7),
    (19, 40, 8, 8),
    (9, 40, 17, 9),
    (33, 60, 50, 15),
    (32, 60, 16, 16),
    (5, 60, 33, 16),
    (6, 60, 31, 17),
    (18, 60, 40, 32),
    (3, 60, 784, 12),
    (5, 60, 58, 11),
    (4, 60, 61, 9),
    (4, 60, 9, 33),
    (3, 90, 70, 64),
    (2, 90, 15, 65),
    (2, 140, 130, 128),
    (2, 140, 18, 127),
]


@pytest.mark.parametrize("real", TOLERANCE)
@pytest.mark.parametrize(("m", "n", "d", "k"), SIZES)
def test_weights_solve_the_dense_system(gpu, by_kernel, m, n, d, k, real):
    data = problem(m, n, d, k, real)
    w = weights(gpu, *data)
    assert w.dtype == np.float64
    close(w, dense_weights(*data), TOLERANCE[real])
    close(w, cpu.barycentric_weights(*data, reg=REG), TOLERANCE[real])
    assert_allclose(w.sum(axis=1), 1.0, rtol=0, atol=1e-13)


@pytest.mark.parametrize("real", TOLERANCE)
@pytest.mark.parametrize(("d", "k"), [(10, 129), (70, 129), (150, 140), (160, 260), (257, 520)])
def test_more_neighbors_than_a_kernel_takes(gpu, d, k, real):
    """Beyond 256 rows cupy.linalg.solve, which the stand-in has not, is a loop over the points."""
    data = problem(3, k + 20, d, k, real)
    close(weights(gpu, *data), dense_weights(*data), 1e-10)


@pytest.mark.parametrize(("d", "k"), [(3, 12), (1, 2), (7, 8), (31, 32), (20, 40)])
def test_float32_data_with_singular_gram_matrices_are_computed_in_float64(gpu, by_kernel, d, k):
    data = problem(20, 60, d, k, np.float32)
    close(weights(gpu, *data), cpu.barycentric_weights(*data, reg=REG), 1e-10)


def test_a_small_ridge_on_float32_data_is_computed_in_float64(gpu, by_kernel):
    points, X, index = problem(20, 60, 16, 12, np.float32)
    X[:, 2:] *= 1e-3  # nearly singular
    expected = cpu.barycentric_weights(points, X, index, reg=1e-6)
    close(weights(gpu, points, X, index, 1e-6), expected, 1e-8)


def test_rows_are_those_of_the_cpu(gpu, by_kernel):
    X = np.random.default_rng(3).standard_normal((50, 6))
    index = reference.neighbors(X, 5).astype(np.int32)
    expected = cpu.standard(X, index, 2, reg=1e-2)
    found = standard(*on(gpu, X, index), 2, reg=1e-2, n_jobs=3)
    assert found.n_points == 50
    assert found.index.dtype == np.int32
    assert_array_equal(gpu.to_numpy(found.index), expected.index)
    rows = gpu.to_numpy(found.rows)
    assert rows.dtype == np.float64
    assert rows.shape == (50, 1, 6)
    assert_array_equal(rows[:, 0, 0], 1.0)
    assert_allclose(rows, expected.rows, rtol=0, atol=1e-12)
    F = reference.standard_rows(X, index, 2, reg=1e-2)
    dense = np.zeros((50, 50))
    np.put_along_axis(dense, gpu.to_numpy(found.index).astype(int), rows[:, 0], axis=1)
    assert_allclose(dense, F, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("real", "k", "d"), [(np.float32, 15, 50), (np.float64, 40, 5)])
def test_rows_sum_to_zero_to_double_precision(gpu, by_kernel, real, k, d):
    X = np.random.default_rng(4).standard_normal((60, d)).astype(real)
    rows = standard(*on(gpu, X, reference.neighbors(X, k)), 2).rows
    assert_allclose(gpu.to_numpy(rows).sum(axis=2), 0.0, rtol=0, atol=1e-14)


@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_index_types(gpu, by_kernel, index_type):
    points, X, index = problem(9, 20, 4, 5)
    expected = dense_weights(points, X, index)
    close(weights(gpu, points, X, index.astype(index_type)), expected, 1e-10)
    found = standard(*on(gpu, X, reference.neighbors(X, 3).astype(index_type)), 2)
    assert found.index.dtype == index_type


# Where neighbours coincide ------------------------------------------------------------------------


@pytest.mark.parametrize("real", TOLERANCE)
@pytest.mark.parametrize("k", [1, 6, 20, 40, 130])
@pytest.mark.parametrize("reg", [REG, 0.0])
def test_neighbors_all_on_their_point_get_equal_weights(gpu, real, k, reg):
    X = np.random.default_rng(0).standard_normal((2 * k + 2, 3)).astype(real)
    X[: k + 1] = X[0]
    index = np.array([np.arange(1, k + 1), np.arange(k + 1, 2 * k + 1)])
    w = weights(gpu, X[[0, 2 * k + 1]], X, index, reg)
    assert_allclose(w[0], 1.0 / k, rtol=1e-14)
    close(w, cpu.barycentric_weights(X[[0, 2 * k + 1]], X, index, reg=reg), 1e-10)


@pytest.mark.parametrize("k", [1, 6, 9, 20, 40])
def test_in_float64_the_kernels_give_equal_weights_themselves(gpu, by_kernel, k):
    X = np.ones((k + 1, 3))
    w = weights(gpu, X[:1], X, np.arange(1, k + 1)[None])
    assert_allclose(w, 1.0 / k, rtol=1e-14)


@pytest.mark.parametrize("real", TOLERANCE)
@pytest.mark.parametrize(("d", "k"), [(4, 9), (40, 12), (40, 36)])
def test_duplicates_share_a_weight(gpu, by_kernel, real, d, k):
    points, X, index = problem(12, 80, d, k, real)
    X[index[:, 1]] = X[index[:, 0]]
    w = weights(gpu, points, X, index)
    twice = np.array([(X[a] == X[b]).all() for a, b in index[:, :2]])
    assert twice.any()
    assert_allclose(w[twice, 0], w[twice, 1], rtol=1e-3 if real is np.float32 else 1e-10)
    close(w, cpu.barycentric_weights(points, X, index, reg=REG), TOLERANCE[real])


def test_a_point_among_its_neighbors(gpu, by_kernel):
    points, X, index = problem(10, 30, 5, 4)
    X[index[:, 2]] = points
    close(weights(gpu, points, X, index), dense_weights(points, X, index), 1e-10)


# Without a ridge, and nearly so -------------------------------------------------------------------


@pytest.mark.parametrize("real", TOLERANCE)
@pytest.mark.parametrize(("d", "k"), [(3, 8), (12, 20), (5, 40), (8, 130)])
def test_without_ridge_weights_rebuild_with_least_norm(gpu, real, d, k):
    points, X, index = problem(6, 200, d, k, real)
    w = weights(gpu, points, X, index, reg=0.0)
    for point, row, found in zip(points.astype(float), index, w, strict=True):
        # Z^T w = 0 and 1^T w = 1, by the pseudo-inverse.
        system = np.vstack([(X[row].astype(float) - point).T, np.ones(k)])
        least = np.linalg.pinv(system) @ np.append(np.zeros(d), 1.0)
        assert_allclose(found, least, rtol=0, atol=1e-10)


@pytest.mark.parametrize("real", TOLERANCE)
@pytest.mark.parametrize(("d", "k"), [(30, 8), (60, 20), (90, 40)])
def test_without_ridge_and_with_regular_gram_matrices(gpu, by_kernel, real, d, k):
    data = problem(6, 120, d, k, real)
    close(weights(gpu, *data, reg=0.0), dense_weights(*data, reg=0.0), 1e-10)


@pytest.mark.parametrize("k", [6, 40])
def test_without_ridge_singular_and_regular_points_may_be_mixed(gpu, k):
    points, X, index = problem(12, 400, 60, k)
    flat = slice(3, 6)
    for i in range(flat.start, flat.stop):  # neighbours that span two dimensions
        X[index[i], 2:] = 0.0
    points[flat, 2:] = 0.0
    expected = cpu.barycentric_weights(points, X, index, reg=0.0)
    close(weights(gpu, points, X, index, reg=0.0), expected, 1e-9)


@pytest.mark.parametrize(("d", "k"), [(3, 10), (2, 32), (3, 50)])
def test_ridge_below_what_pivots_can_tell(gpu, d, k):
    # By eigenvectors, as on the CPU.
    data = problem(10, 80, d, k)
    close(weights(gpu, *data, reg=1e-13), cpu.barycentric_weights(*data, reg=1e-13), 1e-8)


@pytest.mark.parametrize("reg", [1e-9, 1e-13, 1e-18, 1e-300])
@pytest.mark.parametrize(("d", "k"), [(3, 5), (60, 6), (60, 40)])
def test_ridge_near_rounding(gpu, reg, d, k):
    points, X, index = problem(8, 400, d, k)
    points[:, 2:], X[:, 2:] = 0.0, 0.0  # all Gram matrices are singular
    expected = cpu.barycentric_weights(points, X, index, reg=reg)
    close(weights(gpu, points, X, index, reg=reg), expected, 1e-9)


@pytest.mark.parametrize("scale", [1e-160, 1e-155, 1e140])
@pytest.mark.parametrize("reg", [0.0, 1e-3])
def test_squares_that_leave_float64(gpu, scale, reg):
    points, X, index = problem(8, 80, 3, 6)
    expected = cpu.barycentric_weights(points * scale, X * scale, index, reg=reg)
    close(weights(gpu, points * scale, X * scale, index, reg=reg), expected, 1e-9)


# Numbers at the ends of float32's range -----------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-33, 1e-25, 1e-17, 1e17, 1e25, 1e35])
@pytest.mark.parametrize("k", [8, 36])
def test_float32_scale_does_not_matter(gpu, scale, k):
    points, X, index = problem(9, 50, 40, k, np.float32)
    points, X = (points * np.float32(scale)), (X * np.float32(scale))
    expected = cpu.barycentric_weights(points, X, index, reg=REG)
    close(weights(gpu, points, X, index), expected, TOLERANCE[np.float32])


@pytest.mark.parametrize("scale", [1.0, 1e12])
@pytest.mark.parametrize("k", [8, 36])
def test_a_ridge_beyond_the_range_of_float32_makes_all_weights_equal(gpu, scale, k):
    points, X, index = problem(9, 50, 40, k, np.float32)
    points, X = (points * np.float32(scale)), (X * np.float32(scale))
    for reg in (1e9, 1e38):
        close(weights(gpu, points, X, index, reg=reg), np.full((9, k), 1 / k), 1e-6)


def test_data_far_from_the_origin(gpu, by_kernel):
    points, X, index = problem(9, 50, 20, 10)
    expected = dense_weights(points, X, index)
    close(weights(gpu, points + 1e6, X + 1e6, index), expected, 1e-6)


# Which kernel ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "d", "k", "reg", "expected"),
    [
        (np.float32, 50, 8, 1e-3, "barycentric_warp<float, float, 8, 4, 2, 13>"),
        (np.float32, 51, 9, 1e-3, "barycentric_warp<float, float, 16, 4, 1, 13>"),
        (np.float32, 50, 16, 1e-4, "barycentric_warp<float, double, 16, 4, 1, 13>"),
        (np.float32, 4, 17, 1e-3, "barycentric_warp<float, double, 32, 2, 1, 3>"),
        (np.float32, 50, 32, 1e-3, "barycentric_warp<float, float, 32, 4, 2, 13>"),
        (np.float32, 12, 9, 1e-3, "barycentric_warp<float, float, 16, 4, 2, 3>"),
        (np.float32, 13, 9, 1e-3, "barycentric_warp<float, float, 16, 4, 1, 7>"),
        (np.float32, 28, 9, 1e-3, "barycentric_warp<float, float, 16, 4, 2, 7>"),
        (np.float32, 30, 9, 1e-3, "barycentric_warp<float, float, 16, 4, 2, 13>"),
        (np.float32, 50, 33, 1e-3, "barycentric_block<float, float, 2>"),
        (np.float64, 50, 8, 1e-3, "barycentric_warp<double, double, 8, 4, 1, 13>"),
        (np.float64, 60, 17, 0.0, "barycentric_warp<double, double, 32, 2, 1, 13>"),
        (np.float64, 5, 128, 1e-3, "barycentric_block<double, double, 1>"),
        (np.float64, 5, 129, 1e-3, None),
        (np.float64, 5, 6, 0.0, None),
    ],
)
def test_which_kernel(stand_in, asked, real, d, k, reg, expected):
    weights(stand_in, *problem(2, 140, d, k, real), reg=reg)
    assert asked == [expected] * (expected is not None)


@pytest.mark.parametrize("real", TOLERANCE)
@pytest.mark.parametrize(("d", "k"), [(50, 15), (3, 5), (70, 30)])
def test_a_device_with_little_shared_memory(gpu, by_kernel, asked, monkeypatch, d, k, real):
    monkeypatch.setattr(MODULE, "shared_memory_limit", lambda: 64 * 1024)
    data = problem(40, 60, d, k, real)
    close(weights(gpu, *data), dense_weights(*data), TOLERANCE[real])
    assert [name[-3:] for name in asked] == [" 3>" if d == 3 else " 7>"]


# How arrays lie in memory -------------------------------------------------------------------------


def test_rows_at_odd_addresses(gpu, by_kernel, asked):
    # Rows of an even number of float32 columns that begin between two multiples of 8 bytes.
    points, X, index = problem(9, 40, 34, 10, np.float32)
    flat = np.concatenate([[0], X.ravel()]).astype(np.float32)
    shifted = gpu.cupy.asarray(flat)[1:].reshape(X.shape)
    assert shifted.data.ptr % 8 == 4
    points_, index_ = on(gpu, points, index)
    w = gpu.to_numpy(barycentric_weights(points_, shifted, index_, reg=REG))
    assert asked == ["barycentric_warp<float, float, 16, 4, 1, 13>"]
    close(w, dense_weights(points, X, index), TOLERANCE[np.float32])


def test_strided_arrays(gpu, by_kernel):
    points, X, index = problem(9, 40, 6, 5)
    P, Y, J = on(gpu, np.repeat(points, 2, axis=1), np.repeat(X, 2, axis=0), index.T.copy())
    w = barycentric_weights(P[:, ::2], Y[::2], J.T, reg=REG)
    close(gpu.to_numpy(w), dense_weights(points, X, index), 1e-10)


@pytest.mark.parametrize("kinds", [(np.float64, np.float32), (np.float32, np.float64)])
def test_mixed_precision_is_float64(gpu, by_kernel, kinds):
    points, X, index = problem(9, 40, 20, 10)
    points, X = points.astype(kinds[0]), X.astype(kinds[1])
    close(weights(gpu, points, X, index), dense_weights(points, X, index), 1e-10)


@pytest.mark.parametrize("k", [4, 40, 130])
def test_no_points(gpu, k):
    X = np.zeros((140, 3))
    index = np.zeros((0, k), dtype=np.int32)
    assert weights(gpu, X[:0], X, index).shape == (0, k)
    means = weighted_means(*on(gpu, np.zeros((0, k)), index, X))
    assert means.shape == (0, 3)


# Memory -------------------------------------------------------------------------------------------


def test_little_shared_memory(stand_in):
    data = problem(3, 140, 130, 128)
    stand_in.machine.shared_bytes = 64 * 1024  # compute capability 7.5
    close(weights(stand_in, *data), dense_weights(*data), 1e-10)


def test_many_neighbors_in_little_memory(stand_in):
    data = problem(20, 150, 40, 130)
    arrays = on(stand_in, *data)
    stand_in.machine.memory_bytes = 4_000_000
    close(stand_in.to_numpy(barycentric_weights(*arrays, reg=REG)), dense_weights(*data), 1e-10)


@pytest.mark.parametrize(("d", "k"), [(3, 30), (3, 100), (3, 130), (150, 130)])
def test_chunks_without_ridge_are_no_larger_than_they_say(stand_in, monkeypatch, d, k):
    asked = []

    def counted(work, n, bytes_per_row, **_):
        before = stand_in.machine.peak_bytes = stand_in.machine.used[0]
        work(slice(0, n))
        asked.append((n * bytes_per_row, stand_in.machine.peak_bytes - before))

    arrays = on(stand_in, *problem(60, 200, d, k))
    monkeypatch.setattr(MODULE, "for_each_chunk", counted)
    barycentric_weights(*arrays, reg=0)
    said, taken = max(asked, key=lambda pair: pair[1])
    assert said / 8 < taken <= said


@pytest.mark.parametrize("k", [12, 60])
def test_new_points_of_double_precision_copy_no_single_training_points(stand_in, k):
    """But their neighbours."""
    points, X, index = problem(2, 20_000, 20, k)
    arrays = on(stand_in, points, X.astype(np.float32), index)
    before = stand_in.machine.peak_bytes = stand_in.machine.used[0]
    w = barycentric_weights(*arrays, reg=REG)
    assert stand_in.machine.peak_bytes - before < 100_000 < arrays[1].nbytes
    close(stand_in.to_numpy(w), dense_weights(points, X.astype(np.float32), index), 1e-10)


@pytest.mark.parametrize("k", [12, 60])
def test_no_launch_is_long(stand_in, monkeypatch, k):
    data = problem(50, 90, 70, k)
    stand_in.machine.multiprocessors = 1
    # 64 lanes at 1 GHz, and one in 32 of them in float64: seven points.
    operations = k * (70 * (k + 1) / 2 + k * k / 6)
    monkeypatch.setattr(duration, "LONGEST", 7.5 * operations * 32 / 64e9)
    close(weights(stand_in, *data), dense_weights(*data), 1e-10)
    launched = [name for name in stand_in.machine.launches if name.startswith("barycentric")]
    assert len(launched) == -(-50 // 7)


# Weighted means -----------------------------------------------------------------------------------


@pytest.mark.parametrize("real", TOLERANCE)
@pytest.mark.parametrize(("m", "n", "k", "q"), [(1, 1, 1, 1), (300, 40, 5, 2), (7, 90, 33, 100)])
def test_weighted_means(gpu, m, n, k, q, real):
    rng = np.random.default_rng(2)
    w, index = rng.standard_normal((m, k)), rng.integers(0, n, (m, k))
    values = rng.standard_normal((n, q)).astype(real)
    found = gpu.to_numpy(weighted_means(*on(gpu, w, index, values), n_jobs=2))
    assert found.dtype == np.float64
    expected = np.array([w[i] @ values[index[i]].astype(np.float64) for i in range(m)])
    assert_allclose(found, expected, rtol=0, atol=1e-13 * k)
    assert_allclose(found, cpu.weighted_means(w, index, values), rtol=0, atol=1e-13 * k)


def test_weighted_means_of_weights_rebuild_the_points(gpu):
    points, X, index = problem(20, 60, 3, 9)
    arrays = on(gpu, points, X, index)
    w = barycentric_weights(*arrays, reg=0.0)
    assert_allclose(gpu.to_numpy(weighted_means(w, arrays[2], arrays[1])), points, atol=1e-12)
