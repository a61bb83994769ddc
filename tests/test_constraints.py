"""The constraints' algebra: F 1 = 0, M = F^T F, weights, degenerate neighbourhoods."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference
from conftest import METHODS, make_manifold
from scipy.stats import ortho_group

from lle_gpu.constraints import METHODS as TABLE
from lle_gpu.constraints import cpu
from lle_gpu.constraints.cpu import assemble
from lle_gpu.constraints.cpu.assemble import gram, stack
from lle_gpu.constraints.cpu.hessian import orthonormalise
from lle_gpu.constraints.cpu.local import differences, principal_directions
from lle_gpu.constraints.cpu.standard import local_weights
from lle_gpu.parallel import chunk_rows

BUILD = {name: getattr(cpu, name) for name in METHODS}
RNG = np.random.default_rng(0)


def constraints(method, X, k, d=2, **options):
    return BUILD[method](X, reference.neighbors(X, k), d, **options)


def test_the_table_names_the_methods():
    assert set(TABLE) == set(METHODS)
    for name in METHODS:
        for d in (1, 2, 3, 7):
            assert TABLE[name].least_neighbors(d) == reference.LEAST_K[name](d)


@pytest.mark.parametrize("manifold", ["swiss-roll", "digits"])
@pytest.mark.parametrize("method", METHODS)
def test_m_is_the_reference_s(method, manifold):
    """M does not depend on the basis in which rows are given; F's rows may."""
    X = make_manifold(manifold, 200)
    c = constraints(method, X, 9)
    F = reference.ROWS[method](X, reference.neighbors(X, 9), 2)
    M = F.T @ F
    scale = np.abs(M).max()
    np.testing.assert_allclose(gram(c).toarray(), M, atol=1e-9 * scale)
    stacked = stack(c)
    np.testing.assert_allclose((stacked.T @ stacked).toarray(), M, atol=1e-9 * scale)


@pytest.mark.parametrize("method", METHODS)
def test_rows_sum_to_zero(method):
    F = stack(constraints(method, make_manifold("five-d", 200), 12))
    assert np.abs(F @ np.ones(200)).max() <= 1e-13 * abs(F).max()


@pytest.mark.parametrize("method", METHODS)
def test_rows_sum_to_zero_on_very_thin_data(method):
    """Second direction a millionth of the first, along no axis."""
    X = RNG.uniform(size=(200, 3)) * [1.0, 1e-6, 1e-7] @ ortho_group.rvs(3, random_state=0)
    F = stack(constraints(method, X, 12))
    assert np.abs(F @ np.ones(200)).max() <= 1e-13 * abs(F).max()


@pytest.mark.parametrize("method", METHODS)
def test_threads_and_chunks_change_no_bit(method, monkeypatch):
    X = make_manifold("swiss-roll", 300)
    whole = constraints(method, X, 8, n_jobs=1).rows
    monkeypatch.setattr("lle_gpu.parallel.CHUNK_BYTES", 4096)
    assert chunk_rows(1000) == 4
    np.testing.assert_array_equal(constraints(method, X, 8, n_jobs=2).rows, whole)


@pytest.mark.parametrize("method", METHODS)
def test_building_f_and_m_leaves_the_constraints_alone(method):
    c = constraints(method, make_manifold("swiss-roll", 100), 8)
    rows, index = c.rows.copy(), c.index.copy()
    gram(c)
    F = stack(c)
    F.T @ F
    np.testing.assert_array_equal(c.rows, rows)
    np.testing.assert_array_equal(c.index, index)


def test_m_in_pieces(monkeypatch):
    c = constraints("ltsa", make_manifold("swiss-roll", 300), 9)
    whole = gram(c).toarray()
    monkeypatch.setattr(assemble, "GRAM_BYTES", 12 * 9 * 9 * 70)  # 70 points at a time
    np.testing.assert_allclose(gram(c).toarray(), whole, atol=1e-13)


def test_a_row_of_zeros_is_no_constraint():
    # Six neighbours on a line: with d=2 there is one direction, and no second derivative across it.
    line = np.column_stack([np.arange(40.0), np.zeros(40), np.zeros(40)])
    F = stack(constraints("hessian", line, 6))
    assert F.shape[0] < 40 * 3
    assert np.abs(F @ np.arange(40.0)).max() < 1e-12  # affine functions satisfy all of them
    assert np.isfinite(F.data).all()


def test_orthonormalise():
    Q = np.zeros((1, 4, 6))
    Q[0, 0, 0] = 1
    Q[0, 1] = [1, 1e-3, 0, 0, 0, 0]  # nearly dependent: kept, and orthogonal to the last bit
    Q[0, 2] = [1, 1, 1e-9, 0, 0, 0]  # dependent but for noise: no direction
    Q[0, 3] = RNG.normal(size=6)
    Q = Q @ ortho_group.rvs(6, random_state=0)
    orthonormalise(Q, 1, 1e-4)
    np.testing.assert_allclose(Q[0] @ Q[0].T, np.diag([1, 1, 0, 1]), atol=2e-15)
    assert not Q[0, 2].any()


class TestWeights:
    @pytest.mark.parametrize(("k", "d"), [(5, 2), (12, 3), (6, 6), (4, 20), (9, 5)])
    @pytest.mark.parametrize("reg", [1e-6, 1e-3, 1.0])
    def test_equal_the_reference_on_both_routes(self, k, d, reg):
        # 2 d < k takes the small d x d system, else the k x k one.
        Z = RNG.normal(size=(50, k, d))
        expected = np.array([reference.weights(np.zeros(d), z, reg) for z in Z])
        np.testing.assert_allclose(local_weights(Z, reg), expected, rtol=0, atol=1e-9)

    def test_sum_to_one_and_rebuild(self):
        X = make_manifold("swiss-roll", 300)
        index = reference.neighbors(X, 12)
        w = cpu.barycentric_weights(X, X, index, reg=1e-3)
        np.testing.assert_allclose(w.sum(axis=1), 1, atol=1e-13)
        rebuilt = cpu.weighted_means(w, index, X)
        assert np.linalg.norm(rebuilt - X) < 0.1 * np.linalg.norm(X - X.mean(axis=0))

    def test_all_neighbours_on_the_point_share_equally(self):
        np.testing.assert_allclose(local_weights(np.zeros((3, 4, 2)), 1e-3), 0.25)
        np.testing.assert_allclose(local_weights(np.zeros((3, 4, 2)), 0), 0.25)

    @pytest.mark.parametrize(("k", "d"), [(7, 3), (3, 3), (3, 8), (12, 2)])
    def test_without_ridge_they_are_the_limit(self, k, d):
        Z = RNG.normal(size=(30, k, d))
        limit = np.array([reference.weights(np.zeros(d), z, 1e-10) for z in Z])
        np.testing.assert_allclose(local_weights(Z, 0), limit, atol=1e-4 * np.abs(limit).max())

    @pytest.mark.parametrize("reg", [1e-9, 1e-12, 1e-16, 1e-20, 1e-300])
    @pytest.mark.parametrize(("k", "d"), [(5, 3), (8, 3), (6, 20)])
    def test_a_ridge_near_rounding_is_not_lost(self, k, d, reg):
        """All these Gram matrices are singular: the ridge alone decides between their solutions.

        The reference solves with Z^T Z in three dimensions, where it is regular.
        """
        Z = RNG.normal(size=(30, k, 3))
        G = Z.transpose(0, 2, 1) @ Z
        ridge = reg * np.trace(G, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        expected = 1 - (Z @ np.linalg.solve(G + ridge, Z.sum(axis=1)[:, :, None]))[:, :, 0]
        expected /= expected.sum(axis=1, keepdims=True)
        wide = Z @ ortho_group.rvs(d, random_state=0)[:3]
        np.testing.assert_allclose(
            local_weights(wide, reg), expected, rtol=0, atol=1e-10 * np.abs(expected).max()
        )

    @pytest.mark.parametrize("reg", [0.0, 1e-20, 1e-3, 1e307])
    def test_squares_that_leave_float64(self, reg):
        Z = RNG.normal(size=(30, 6, 4))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_allclose(local_weights(1e-170 * Z, reg), 1 / 6, rtol=1e-12)
            np.testing.assert_allclose(local_weights(3e-160 * Z, reg), 1 / 6, rtol=1e-12)
            large = local_weights(2.0**490 * Z, reg)
        np.testing.assert_allclose(large, local_weights(Z, reg), rtol=1e-9)

    def test_without_ridge_they_rebuild_exactly_with_least_norm(self):
        Z = RNG.normal(size=(30, 8, 3))
        w = local_weights(Z, 0)
        np.testing.assert_allclose((w[:, None] @ Z)[:, 0], 0, atol=1e-12)
        for z, row in zip(Z, w, strict=True):
            A = np.vstack([z.T, np.ones(8)])
            np.testing.assert_allclose(row, np.linalg.pinv(A) @ np.eye(4)[3], atol=1e-10)

    def test_far_from_the_origin_nothing_is_lost(self):
        X = RNG.normal(size=(50, 3))
        index = reference.neighbors(X, 8)
        near = cpu.barycentric_weights(X, X, index)
        shift = 2.0**30  # X + shift rounds X to 2^-22
        rounded = (X + shift) - shift
        far = cpu.barycentric_weights(rounded + shift, rounded + shift, index)
        np.testing.assert_allclose(
            far, cpu.barycentric_weights(rounded, rounded, index), atol=1e-12
        )
        np.testing.assert_allclose(far, near, atol=1e-3)


class TestPrincipalDirections:
    @pytest.mark.parametrize(("k", "d"), [(8, 3), (8, 8), (5, 40)])
    def test_equal_the_svd(self, k, d):
        Z = RNG.normal(size=(20, k, d))
        U, values = principal_directions(Z)
        for z, u, v in zip(Z, U, values, strict=True):
            left, s, _ = np.linalg.svd(z, full_matrices=False)
            # To the rounding of the Gram matrix, which is that of its largest eigenvalue.
            np.testing.assert_allclose(v, s**2, rtol=0, atol=4e-15 * s[0] ** 2)
            np.testing.assert_allclose(np.abs(np.sum(u * left, axis=0)), 1, atol=1e-8)

    def test_directions_without_extent_are_zero(self):
        Z = np.zeros((1, 6, 3))
        Z[0, :, 0] = np.arange(6)
        U, values = principal_directions(Z)
        assert (U[0, :, 1:] == 0).all()
        assert (values[0, 1:] == 0).all()

    def test_differences_are_taken_in_float64(self):
        X = np.array([[1.0], [1.0 + 2.0**-23]], dtype=np.float32)
        Z = differences(X[:1], X, np.array([[1]]))
        assert Z.dtype == np.float64
        assert Z[0, 0, 0] == 2.0**-23


class TestModified:
    def test_every_point_has_at_least_one_constraint(self):
        # d_in > k: no exact null space, so that the ratio alone decides.
        X = make_manifold("digits", 150)
        c = constraints("modified", X, 8, 3)
        rank = np.linalg.matrix_rank(c.rows, tol=1e-8)
        assert rank.min() >= 1
        assert rank.max() <= 8 - 3

    def test_reg_is_honoured(self):
        X = make_manifold("swiss-roll", 150)
        a = gram(constraints("modified", X, 8, reg=1e-3)).toarray()
        b = gram(constraints("modified", X, 8, reg=1e-1)).toarray()
        assert np.abs(a - b).max() > 1e-3 * np.abs(a).max()

    def test_ones_orthogonal_to_the_almost_null_space(self):
        # Neighbours at +-1 and +-2 on a line: V holds all vectors orthogonal to (1, -1, 2, -2), and
        # a huge tolerance makes every alpha count as zero.
        X = np.column_stack([np.arange(30.0), np.zeros(30), np.zeros(30)])
        c = constraints("modified", X, 4, 1, modified_tol=10.0)
        assert np.isfinite(c.rows).all()
        norms = np.einsum("nrm,nrm->n", c.rows[:, :, :1], c.rows[:, :, :1])
        np.testing.assert_allclose(norms, 3, atol=1e-9)  # M_ii gets s_i = k - 1
