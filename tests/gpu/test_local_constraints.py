"""Rows of modified LLE, Hessian eigenmaps and LTSA on the GPU, and the directions behind them.

Rows are compared by what does not depend on a choice of basis: the projectors R_i^T R_i.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import reference
from conftest import make_manifold
from numpy.testing import assert_allclose, assert_array_equal

from lle_gpu.constraints import cpu
from lle_gpu.constraints import gpu as on_gpu
from lle_gpu.constraints.cpu.local import principal_directions as cpu_directions
from lle_gpu.constraints.gpu import directions
from lle_gpu.constraints.gpu.directions import principal_directions
from lle_gpu.cuda import duration

EPS = np.finfo(np.float64).eps
METHODS = ("hessian", "ltsa", "modified")


def rotation(n, rng):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def directions_of(gpu, Z, count=None, dtype=np.float64):
    """Directions (c, count, k) and values (c, p) of given matrices Z (c, k, d)."""
    c, k, d = Z.shape
    X = gpu.cupy.asarray(Z.reshape(c * k, d).astype(dtype))
    index = gpu.cupy.asarray(np.arange(c * k).reshape(c, k))
    origin = gpu.cupy.zeros((c, d), dtype=dtype)
    U, values = principal_directions(origin, X, index, count)
    return gpu.to_numpy(U), gpu.to_numpy(values)


def jacobi_singular_values(A):
    """Hestenes' method as he wrote it, a pair after the other."""
    A = A.copy()
    for _ in range(30):
        for p in range(A.shape[1]):
            for q in range(p + 1, A.shape[1]):
                x, y = A[:, p].copy(), A[:, q].copy()
                angle = np.arctan2(2 * x @ y, x @ x - y @ y) / 2
                A[:, p] = np.cos(angle) * x + np.sin(angle) * y
                A[:, q] = np.cos(angle) * y - np.sin(angle) * x
    return np.linalg.norm(A, axis=0)


def hard_matrices(k, d, seed=0):
    """Matrices (c, k, d) that have made eigensolvers fail, or merely slow."""
    rng = np.random.default_rng(seed)
    p = min(k, d)

    def of(*singular):
        return rotation(k, rng)[:, :p] * np.array(singular) @ rotation(d, rng)[:, :p].T

    pair = np.zeros((k, d))
    pair[[0, k // 2]] = rng.normal(size=d)
    matrices = {
        "any": rng.normal(size=(k, d)),
        "graded": of(*np.logspace(0, -16, p)),
        "clustered": of(*(1 + 1e-9 * rng.normal(size=p)) * np.where(np.arange(p) % 2, 1e-3, 1.0)),
        "repeated": of(*np.where(np.arange(p) < (p + 1) // 2, 2.0, 1.0)),
        "all equal": of(*np.ones(p)),
        "rank 1": of(*(np.arange(p) == 0) * 3.0),
        "rank 2": of(*(np.arange(p) < 2) * 3.0),
        "zero": np.zeros((k, d)),
        "diagonal": np.eye(k, d) * np.arange(1.0, d + 1),
        "diagonal, growing": np.eye(k, d) * np.logspace(-5, 0, d),
        "two rows the same": pair,
        "columns of one length": np.array(
            [np.roll(np.arange(1.0, k + 1) ** 2, j) for j in range(d)]
        ).T,
        "large": 1e100 * rng.normal(size=(k, d)),
        "small": 1e-100 * rng.normal(size=(k, d)),
        "columns graded": rng.normal(size=(k, d)) * np.logspace(-12, 0, d),
    }
    return np.stack(list(matrices.values()))


def check_decomposition(Z, U, values):
    """U^T diag(values) U = Z Z^T, U orthonormal or zero, against NumPy's SVD and the CPU's rule."""
    k, d = Z.shape[1:]
    _, expected_values = cpu_directions(Z)
    assert (np.diff(values, axis=1) <= 0).all()
    determined = values > 0
    assert_array_equal(determined, np.any(U != 0, axis=2))
    # What lies at the floor is rounding on both sides: only there may they differ.
    largest = expected_values[:, :1]
    near = (np.maximum(values, expected_values) / np.where(largest > 0, largest, 1)) < (
        1e-29 * k**2 if d < k else 1e-14 * k
    )
    assert_array_equal(determined[~near], (expected_values > 0)[~near])
    products = np.einsum("cik,cjk->cij", U, U)
    identity = np.where(determined[:, :, None] & np.eye(values.shape[1], dtype=bool), 1.0, 0.0)
    assert_allclose(products, identity, rtol=0, atol=1e-14 * k)
    singular = np.linalg.svd(Z, compute_uv=False)
    if d < k:
        found = np.where(determined, np.sqrt(values), 0.0)
        assert_array_less_equal(np.abs(found - singular), 4 * k * EPS * singular[:, :1])
    else:
        error = np.abs(values - singular**2)
        assert_array_less_equal(error, 4 * (k + d) * EPS * singular[:, :1] ** 2)
    scaled = Z / np.where(singular[:, :1] > 0, singular[:, :1], 1)[:, :, None]
    relative = values / np.where(singular[:, :1] > 0, singular[:, :1], 1) ** 2
    gram = np.einsum("cik,ci,cil->ckl", U, relative, U)
    assert_allclose(gram, scaled @ scaled.transpose(0, 2, 1), rtol=0, atol=4 * (k + d) * EPS)


def assert_array_less_equal(a, b):
    assert (a <= b).all(), f"exceeded by {np.max(a - b)}"


class TestPrincipalDirections:
    # One (k, d) or two for each kernel, at and over its bounds.
    @pytest.mark.parametrize(
        ("k", "d"),
        [
            *[(2, 1), (8, 3), (8, 4), (7, 6), (9, 4), (16, 7), (13, 12), (17, 3), (30, 6)],
            *[(31, 16), (32, 31), (2, 2), (8, 8), (9, 9), (16, 40), (17, 20), (32, 32)],
            *[(33, 3), (64, 17), (65, 5), (128, 2), (129, 3)],
        ],
    )
    def test_equal_numpy_s_on_hard_matrices(self, gpu, k, d):
        Z = hard_matrices(k, d)
        check_decomposition(Z, *directions_of(gpu, Z))

    @pytest.mark.parametrize(("k", "d"), [(33, 40), (35, 35), (66, 70)])
    def test_equal_numpy_s_in_blocks_with_many_features(self, gpu, k, d):
        Z = hard_matrices(k, d)[[0, 1, 2, 6, 7]]
        check_decomposition(Z, *directions_of(gpu, Z))

    @pytest.mark.parametrize(("k", "d"), [(40, 5), (37, 41)])
    def test_equal_numpy_s_in_global_memory(self, gpu, monkeypatch, k, d):
        monkeypatch.setattr(directions, "shared_memory_limit", lambda: 0)
        monkeypatch.setattr(directions, "GLOBAL_BLOCKS", 3)  # each block takes several points
        Z = hard_matrices(k, d)[:7]
        U, values = directions_of(gpu, Z)
        check_decomposition(Z, U, values)
        if gpu.machine:
            assert gpu.machine.launches == ["principal_directions_block<double, 0>"]

    def test_128_neighbours_with_more_features(self, gpu):
        Z = hard_matrices(128, 130)[:2]
        check_decomposition(Z, *directions_of(gpu, Z))

    @pytest.mark.parametrize(("kib", "largest"), [(227, 128), (163, 128), (99, 104), (64, 77)])
    def test_bounds_on_k_by_shared_memory(self, monkeypatch, kib, largest):
        monkeypatch.setattr(directions, "shared_memory_limit", lambda: 1024 * kib)
        assert [directions._route(k, 784) for k in (largest, largest + 1)] == [16, 0]

    @pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 5)])
    def test_one_neighbour(self, gpu, k, d):
        Z = np.full((3, k, d), 2.0)
        Z[1] = 0
        U, values = directions_of(gpu, Z)
        assert_array_equal(np.abs(U[:, 0, 0]), [1, 0, 1])
        assert_allclose(values[:, 0], [4 * d, 0, 4 * d], rtol=1e-15)

    def test_no_points(self, gpu):
        U, values = directions_of(gpu, np.zeros((0, 5, 3)))
        assert U.shape == (0, 3, 5)
        assert values.shape == (0, 3)

    @pytest.mark.parametrize("k", [7, 40])
    def test_small_singular_values_keep_their_digits(self, gpu, k):
        """Z Z^T would lose them: (1e-13)^2 is far below eps of 1."""
        Q = rotation(k, np.random.default_rng(1))[:, :3]
        sizes = np.array([1e-13, 1.0, 1e-7])  # columns of Z that are orthogonal but for rounding
        U, values = directions_of(gpu, (Q * sizes)[None])
        assert_allclose(values[0], [1, 1e-14, 1e-26], rtol=1e-13)
        assert_allclose(np.abs(U[0] @ Q[:, [1, 2, 0]]), np.eye(3), atol=1e-14)

    def test_float32_is_subtracted_in_float64(self, gpu):
        cp = gpu.cupy
        X = np.array([[1.0], [1.0 + 2.0**-23]], dtype=np.float32)
        _, values = principal_directions(
            cp.asarray(X[:1]), cp.asarray(X), cp.asarray(np.array([[1, 1]], dtype=np.int32))
        )
        assert_allclose(gpu.to_numpy(values), [[2 * 2.0**-46]], rtol=1e-15)

    @pytest.mark.parametrize("k", [8, 30, 33])
    def test_what_has_no_extent_stays_without(self, gpu, k):
        """Z Z^T of less than full rank: pivots of rounding alone must not be taken for more."""
        rng = np.random.default_rng(7)
        rank = rng.integers(1, k, 200 if k < 33 else 20)
        left, right = rng.normal(size=(len(rank), k, k)), rng.normal(size=(len(rank), k, 50))
        within = (np.arange(k) < rank[:, None])[:, None, :]
        _, values = directions_of(gpu, (left * within) @ right, 0)
        assert_array_equal((values > 0).sum(axis=1), rank)

    @pytest.mark.parametrize("k", [7, 34])
    def test_rows_of_very_different_lengths(self, gpu, k):
        """Then Cholesky and Jacobi find the small values, too, to nearly all digits."""
        rng = np.random.default_rng(1)
        Z = rng.normal(size=(k, 2 * k)) * np.logspace(0, -6, k)[rng.permutation(k), None]
        _, values = directions_of(gpu, Z[None], 0)
        # The SVD of the transpose, whose columns are graded, by a method that is as accurate.
        expected = np.sort(jacobi_singular_values(Z.T))[::-1] ** 2
        assert_allclose(values[0], expected, rtol=1e-10)

    @pytest.mark.parametrize(("k", "d"), [(6, 3), (12, 20), (40, 3)])
    def test_no_bit_depends_on_the_other_points(self, gpu, k, d):
        Z = hard_matrices(k, d)
        U, values = directions_of(gpu, Z)
        for part in (slice(0, 1), slice(3, 9)):
            alone = directions_of(gpu, Z[part])
            assert_array_equal(alone[0], U[part])
            assert_array_equal(alone[1], values[part])

    @pytest.mark.parametrize(("k", "d"), [(9, 4), (6, 8)])
    def test_too_few_sweeps_are_made_up_for(self, gpu, monkeypatch, k, d):
        Z = hard_matrices(k, d)
        monkeypatch.setattr(directions, "SWEEPS", 2)
        check_decomposition(Z, *directions_of(gpu, Z))
        if gpu.machine:
            lanes, block = gpu.machine.launches
            assert lanes.startswith("principal_directions_lanes")
            assert block == "principal_directions_block<double, 0>"

    def test_no_convergence_is_an_error(self, gpu, monkeypatch):
        monkeypatch.setattr(directions, "SWEEPS", 0)
        with pytest.raises(np.linalg.LinAlgError, match="2 neighbourhoods did not converge"):
            directions_of(gpu, hard_matrices(5, 3)[:2])

    @pytest.mark.parametrize(
        ("k", "d", "sweeps"), [(16, 16, 12), (32, 32, 12), (33, 40, 12), (32, 31, 30)]
    )
    def test_sweeps_are_few(self, gpu, monkeypatch, k, d, sweeps):
        """Nothing is done again; without Cholesky before it, Jacobi takes up to 20 where d >= k."""
        monkeypatch.setattr(directions, "SWEEPS", sweeps)
        directions_of(gpu, hard_matrices(k, d))
        if gpu.machine:
            assert "principal_directions_block<double, 0>" not in gpu.machine.launches

    def test_data_that_no_kernel_reads(self, gpu):
        cp = gpu.cupy
        X, index = cp.zeros((20, 6)), cp.zeros((4, 3), dtype=np.int32)
        with pytest.raises(ValueError, match="C-contiguous"):
            principal_directions(X[:4, ::2], X[:, ::2], index)


def built(gpu, method, X, index, q, **options):
    """Projectors R_i^T R_i of the GPU's rows and of the CPU's, and the rows themselves."""
    cp = gpu.cupy
    constraints = getattr(on_gpu, method)(cp.asarray(X, order="C"), cp.asarray(index), q, **options)
    expected = getattr(cpu, method)(X, index, q, **options)
    rows = gpu.to_numpy(constraints.rows)
    assert rows.shape == expected.rows.shape
    assert rows.dtype == np.float64
    assert_array_equal(gpu.to_numpy(constraints.index), expected.index)
    assert constraints.index.dtype == index.dtype
    return projectors(rows), projectors(expected.rows), rows


def projectors(rows):
    return np.einsum("nri,nrj->nij", rows, rows)


def neighborhoods(name, n, k, dtype=np.float64):
    X = make_manifold(name, n).astype(dtype)
    return X, reference.neighbors(X, k)


@pytest.mark.parametrize("method", METHODS)
class TestRows:
    @pytest.mark.parametrize(
        ("manifold", "n", "k", "q", "dtype"),
        [
            ("swiss-roll", 61, 8, 2, np.float64),  # d < k
            ("swiss-roll", 61, 12, 2, np.float32),
            ("swiss-roll", 45, 40, 2, np.float64),  # a block a point
            ("five-d", 41, 16, 3, np.float64),  # d > k
            ("digits", 35, 30, 4, np.float64),
            ("digits", 37, 12, 2, np.float32),
        ],
    )
    def test_the_cpu_s(self, gpu, method, manifold, n, k, q, dtype):
        X, index = neighborhoods(manifold, n, k, dtype)
        found, expected, rows = built(gpu, method, X, index, q)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert_allclose(rows.sum(axis=2), 0, atol=1e-12)

    def test_one_point(self, gpu, method):
        X, index = neighborhoods("swiss-roll", 30, 7)
        found, expected, _ = built(gpu, method, X, index[:1], 2)
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("q", [1, 2])
    def test_the_least_k(self, gpu, method, q):
        X, index = neighborhoods("five-d", 40, reference.LEAST_K[method](q))
        found, expected, _ = built(gpu, method, X, index, q)
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    def test_one_feature(self, gpu, method):
        X = np.random.default_rng(3).normal(size=(40, 1))
        found, expected, _ = built(gpu, method, X, reference.neighbors(X, 6), 1)
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    def test_no_launch_is_long(self, stand_in, method, monkeypatch):
        """A watchdog would end it, and the process could use the device no more."""
        X, index = neighborhoods("five-d", 41, 16)
        stand_in.machine.multiprocessors = 1
        # 64 lanes at 1 GHz, and one in 32 of them in float64; Gram matrix and eight sweeps.
        seconds = (16 * 16 * 20 / 2 + 2.5 * 8 * 16**3) * 32 / 64e9
        monkeypatch.setattr(duration, "LONGEST", 9.5 * seconds)
        found, expected, _ = built(stand_in, method, X, index, 2)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        launched = [name for name in stand_in.machine.launches if "directions" in name]
        assert len(launched) == 5 * (2 if method == "modified" else 1)  # of 9 points; found twice

    def test_784_features(self, gpu, method):
        X = np.random.default_rng(3).normal(size=(24, 784)).astype(np.float32)
        found, expected, _ = built(gpu, method, X, reference.neighbors(X, 10), 2)
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    def test_far_from_the_origin(self, gpu, method):
        X = make_manifold("swiss-roll", 50) + 1e7
        found, expected, _ = built(gpu, method, X, reference.neighbors(X, 8), 2)
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("features", [3, 9])
    def test_duplicates(self, gpu, method, features):
        """Every point three times: neighbourhoods of rank 2, and some of rank 1."""
        rng = np.random.default_rng(5)
        X = np.repeat(rng.normal(size=(15, features)), 3, axis=0)
        found, expected, rows = built(gpu, method, X, reference.neighbors(X, 8), 2)
        assert np.isfinite(rows).all()
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    def test_all_points_the_same(self, gpu, method):
        X = np.ones((12, 3))
        found, expected, rows = built(gpu, method, X, reference.neighbors(X, 7), 2)
        assert np.isfinite(rows).all()
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    def test_points_on_a_line(self, gpu, method):
        """With q = 2 the second direction is not determined: zero, not rounding."""
        t = np.random.default_rng(4).uniform(size=30)
        X = np.outer(t, [1.0, 2.0, 3.0])
        found, expected, rows = built(gpu, method, X, reference.neighbors(X, 7), 2)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert_array_equal(np.linalg.matrix_rank(rows, tol=1e-8), np.linalg.matrix_rank(expected))

    @pytest.mark.parametrize("d", [3, 20])
    def test_very_thin_data_have_rows_that_sum_to_zero(self, gpu, method, d):
        rng = np.random.default_rng(6)
        sizes = np.r_[1.0, 1e-6, np.full(d - 2, 1e-8)]
        X = rng.uniform(size=(30, d)) * sizes @ rotation(d, rng)
        _, _, rows = built(gpu, method, X, reference.neighbors(X, 12), 2)
        largest = np.abs(rows).max(axis=(1, 2))
        assert (np.abs(rows.sum(axis=2)).max(axis=1) <= 1e-13 * largest).all()

    def test_chunks_change_no_bit(self, gpu, method, monkeypatch):
        X, index = neighborhoods("swiss-roll", 50, 9)
        _, _, whole = built(gpu, method, X, index, 2)
        monkeypatch.setattr("lle_gpu.cuda.memory.LARGEST_CHUNK_BYTES", 2000)
        _, _, pieces = built(gpu, method, X, index, 2)
        assert_array_equal(pieces, whole)

    def test_int32_index(self, gpu, method):
        X, index = neighborhoods("swiss-roll", 40, 8)
        found, expected, _ = built(gpu, method, X, index.astype(np.int32), 2)
        assert_allclose(found, expected, rtol=0, atol=1e-9)


class TestHessian:
    def test_a_column_with_nothing_left_is_no_row(self, gpu):
        """Neighbours on a line: no second derivative across it."""
        X = np.column_stack([np.arange(20.0), np.zeros(20), np.zeros(20)])
        found, expected, rows = built(gpu, "hessian", X, reference.neighbors(X, 6), 2)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert_array_equal((rows != 0).any(axis=2), np.tile([True, False, False], (20, 1)))

    def test_hessian_tol_is_honoured(self, gpu):
        X, index = neighborhoods("swiss-roll", 40, 8)
        found, expected, rows = built(gpu, "hessian", X, index, 2, hessian_tol=0.6)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert 0 < (rows != 0).any(axis=2).mean() < 1

    def test_nearly_dependent_columns_are_orthonormal(self, gpu):
        """Two clumps of neighbours: squares are nearly constant on each, projecting once fails."""
        rng = np.random.default_rng(8)
        X = np.repeat([[0.0, 0, 0], [1, 0, 0]], 12, axis=0) + 1e-5 * rng.normal(size=(24, 3))
        index = np.stack([rng.permutation(24)[:20] for _ in range(6)])
        _, _, rows = built(gpu, "hessian", X, index, 2, hessian_tol=1e-12)
        products = np.einsum("nri,nsi->nrs", rows, rows)
        assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-14)

    @pytest.mark.parametrize(("k", "q"), [(8, 2), (31, 4), (34, 6)])
    def test_columns_in_global_memory(self, gpu, monkeypatch, k, q):
        X, index = neighborhoods("digits", 40, k)
        index = index[:5]
        module = importlib.import_module("lle_gpu.constraints.gpu.hessian")
        monkeypatch.setattr(module, "fitting_threads", lambda *_: 0)
        found, expected, _ = built(gpu, "hessian", X, index, q)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        if gpu.machine:
            assert gpu.machine.launches[-1] == "hessian_rows<false>"


class TestModified:
    @pytest.mark.parametrize("reg", [1.0, 1e-6, 0.0])
    @pytest.mark.parametrize(("k", "d"), [(8, 3), (6, 6), (5, 9), (12, 2)])
    def test_reg_is_honoured(self, gpu, k, d, reg):
        X = np.random.default_rng(9).normal(size=(30, d))
        found, expected, _ = built(gpu, "modified", X, reference.neighbors(X, k), 1, reg=reg)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        other, _, _ = built(gpu, "modified", X, reference.neighbors(X, k), 1, reg=0.1)
        assert np.abs(other - found).max() > 1e-3

    def test_reg_zero_where_no_weights_rebuild_the_point(self, gpu):
        """Neighbours on a plane that the point is not on: least squares, not the null space."""
        rng = np.random.default_rng(9)
        X = rng.normal(size=(30, 3))
        X[:, 0] = np.arange(30) >= 10
        index = np.stack([10 + rng.permutation(20)[:7] for _ in range(10)])
        found, expected, _ = built(gpu, "modified", X, index, 2, reg=0.0)
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    def test_reg_zero_and_thin_data(self, gpu):
        """An extent of 1e-9 counts for the directions, not for the weights: its square is lost."""
        X = np.random.default_rng(9).normal(size=(30, 3)) * [1, 1, 1e-9]
        found, expected, _ = built(gpu, "modified", X, reference.neighbors(X, 6), 1, reg=0.0)
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    def test_reg_zero_and_neighbours_on_the_point(self, gpu):
        X = np.repeat(np.random.default_rng(9).normal(size=(6, 3)), 5, axis=0)
        found, expected, _ = built(gpu, "modified", X, reference.neighbors(X, 4), 2, reg=0.0)
        assert_allclose(found, expected, rtol=0, atol=1e-9)

    def test_almost_null_spaces_of_several_sizes(self, gpu):
        X, index = neighborhoods("digits", 40, 8)
        found, expected, rows = built(gpu, "modified", X, index, 3)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        rank = np.linalg.matrix_rank(rows, tol=1e-8)
        assert 1 <= rank.min() < rank.max() <= 5

    @pytest.mark.parametrize(("n", "k"), [(40, 8), (39, 9)])
    def test_the_directions_alone_explain_the_data(self, gpu, n, k):
        """As many components as features: all that has an extent is kept."""
        X = np.random.default_rng(2).normal(size=(n, 3))
        found, expected, rows = built(gpu, "modified", X, reference.neighbors(X, k), 3)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert_array_equal(np.linalg.matrix_rank(rows, tol=1e-8), k - 3)

    @pytest.mark.parametrize("k", [7, 36])
    def test_ones_orthogonal_to_the_almost_null_space(self, gpu, k):
        """A tolerance that makes every alpha zero: a column of P takes the place of P 1."""
        X, index = neighborhoods("swiss-roll", 40, k)
        found, expected, rows = built(gpu, "modified", X, index, 2, modified_tol=10.0)
        assert_allclose(found, expected, rtol=0, atol=1e-9)
        s = np.linalg.matrix_rank(rows[:, :, 1:], tol=1e-8)
        assert_allclose((rows[:, :, 0] ** 2).sum(axis=1), s, atol=1e-9)
