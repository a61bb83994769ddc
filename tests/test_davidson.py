"""Davidson's method and its polynomial, against Krylov spaces and singular values made densely."""

from __future__ import annotations

import re

import numpy as np
import pytest
import reference
from conftest import make_manifold as a_manifold
from conftest import two_clusters
from scipy.sparse import block_diag, csr_array, random_array
from sklearn.exceptions import ConvergenceWarning

from lle_gpu import LocallyLinearEmbedding, MemoryLimitError
from lle_gpu.constraints import cpu
from lle_gpu.constraints.cpu.assemble import stack
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.spectral import choice, davidson, solve
from lle_gpu.spectral.cpu import bottom_vectors
from lle_gpu.spectral.cpu import products as products_module
from lle_gpu.spectral.cpu.products import SquareProducts
from lle_gpu.spectral.gmres_polynomial import gmres_polynomial


def make_manifold(name, n):
    if name == "cube-5d":
        return np.random.default_rng(0).uniform(size=(n, 5))
    return a_manifold(name, n)


def multiply_by(A):
    """B X in the form that polynomials take it, in two pieces."""

    def multiply(X, then):
        product = (A @ X).astype(X.dtype)
        half = len(product) // 2
        then(slice(0, half), product[:half].copy())
        then(slice(half, len(product)), product[half:].copy())

    return multiply


def matrix(n=120, seed=0, spread=0.5):
    """Eigenvalues around 1, complex ones among them."""
    rng = np.random.default_rng(seed)
    return np.eye(n) + spread * rng.standard_normal((n, n)) / n**0.5


def least_residual(A, b, m):
    """||b - A x|| / ||b|| and x, x the best of span(b, A b, ..., A^(m-1) b)."""
    basis = np.empty((len(b), m))
    for j in range(m):
        v = b if j == 0 else A @ basis[:, j - 1]
        for _ in range(2):
            v = v - basis[:, :j] @ (basis[:, :j].T @ v)
        basis[:, j] = v / np.linalg.norm(v)
    x = basis @ np.linalg.lstsq(A @ basis, b, rcond=None)[0]
    return np.linalg.norm(b - A @ x) / np.linalg.norm(b), x


class TestPolynomial:
    @pytest.mark.parametrize("seed", range(3))
    def test_is_gmres(self, seed):
        A = matrix(seed=seed)
        b = np.random.default_rng(seed + 10).standard_normal(len(A))
        p = gmres_polynomial(multiply_by(A), b, tol=1e-4, max_degree=80)
        residual, x = least_residual(A, b, p.degree)
        assert p.residual == pytest.approx(residual, rel=1e-6)
        assert least_residual(A, b, p.degree - 8)[0] > 1e-4  # the least degree, by eights
        np.testing.assert_allclose(
            p.apply(multiply_by(A), b[:, None])[:, 0], x, rtol=0, atol=1e-8 * np.abs(x).max()
        )

    def test_that_of_the_transpose_is_the_adjoint(self):
        A, rng = matrix(), np.random.default_rng(1)
        p = gmres_polynomial(multiply_by(A), A[:, 0].copy(), tol=1e-6, max_degree=100)
        x, y = rng.standard_normal((2, len(A), 3))
        forth, back = p.apply(multiply_by(A), x), p.apply(multiply_by(A.T), y)
        np.testing.assert_allclose(y.T @ forth, back.T @ x, rtol=1e-9)

    def test_inverts_for_other_right_hand_sides_in_single_precision(self):
        A = matrix().astype(np.float32)
        b = np.ones(len(A), dtype=np.float32)
        p = gmres_polynomial(multiply_by(A), b, tol=1e-4, max_degree=100)
        X = np.random.default_rng(5).standard_normal((len(A), 4)).astype(np.float32)
        result = p.apply(multiply_by(A), X)
        assert result.dtype == np.float32
        off = np.linalg.norm(A @ result - X, axis=0) / np.linalg.norm(X, axis=0)
        assert off.max() < 3e-3

    def test_a_root_that_stands_apart_is_repeated(self):
        # Without the copies the factors at 40 are 10^9 and more: rounding is all that is left.
        eigenvalues = np.r_[np.linspace(0.5, 1.5, 199), 40.0]
        A = np.diag(eigenvalues).astype(np.float32)
        b = np.ones(200, dtype=np.float32)
        p = gmres_polynomial(multiply_by(A), b, tol=1e-5, max_degree=60)
        roots = p.roots[np.abs(p.roots - 40) < 1]
        assert len(roots) > 1
        result = p.apply(multiply_by(A), b[:, None])[:, 0]
        np.testing.assert_allclose(result, 1 / eigenvalues, rtol=1e-2)

    def test_a_space_that_ends_is_exact(self):
        A = np.diag(np.repeat([1.0, 2.0, 5.0], 10))
        p = gmres_polynomial(multiply_by(A), np.ones(30), tol=1e-10, max_degree=20)
        assert p.degree == 3
        np.testing.assert_allclose(np.sort(p.roots.real), [1, 2, 5], rtol=1e-12)

    def test_there_is_none_where_b_is_out_of_range(self):
        A = np.diag(np.repeat([0.0, 1.0], 5))
        assert gmres_polynomial(multiply_by(A), np.ones(10), tol=1e-3, max_degree=9) is None

    def test_there_is_none_where_gmres_makes_no_progress(self):
        shift = np.roll(np.eye(100), 1, axis=0)  # eigenvalues all around 0
        b = np.zeros(100)
        b[0] = 1
        assert gmres_polynomial(multiply_by(shift), b, tol=0.5, max_degree=60) is None


class TestProducts:
    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_all_rows_once(self, monkeypatch, n_jobs, dtype):
        monkeypatch.setattr(products_module, "THREADED_NONZEROS", 0)
        monkeypatch.setattr(products_module, "ROWS_AT_A_TIME", 7)
        B = csr_array(random_array((50, 50), density=0.2, rng=np.random.default_rng(0)))
        X = np.random.default_rng(1).standard_normal((50, 3)).astype(dtype)
        with SquareProducts(B, n_jobs=n_jobs) as products:
            for multiply, expected in (
                (products.multiply, B.toarray() @ X),
                (products.multiply_transposed, B.toarray().T @ X),
            ):
                Y, times = np.zeros((50, 3), dtype=dtype), np.zeros(50)

                def keep(rows, part, Y=Y, times=times):
                    Y[rows] = part
                    times[rows] += 1

                multiply(X, keep)
                np.testing.assert_allclose(Y, expected, rtol=1e-4, atol=1e-6)
                assert (times == 1).all()
        each = 3 * B.nnz * X.dtype.itemsize // 8
        assert products.work == 2 * each


class TestParts:
    def test_the_preconditioner_is_near_to_the_inverse_of_m(self):
        B = csr_array(matrix(n=150, spread=0.3))
        M = (B.T @ B).toarray()
        R = np.random.default_rng(2).standard_normal((150, 3))
        with SquareProducts(B, n_jobs=1) as products:
            p = gmres_polynomial(
                products.multiply, np.ones(150, dtype=np.float32), tol=1e-4, max_degree=60
            )
            Z = davidson._Preconditioner(products, p)(R)
        np.testing.assert_allclose(Z, np.linalg.solve(M, R), rtol=0, atol=0.01)

    def test_what_the_basis_lacks_is_orthonormal(self):
        rng = np.random.default_rng(3)
        Q = np.linalg.qr(rng.standard_normal((60, 9)))[0]
        keep_out, basis = Q[:, :1], Q[:, 1:]
        block = basis[:, :4] + 1e-9 * rng.standard_normal((60, 4))
        block = np.column_stack([block, block[:, 0], np.zeros(60), rng.standard_normal(60)])
        new = davidson._fresh(block, keep_out, basis)
        assert new.shape == (60, 5)
        np.testing.assert_allclose(new.T @ new, np.eye(5), atol=1e-14)
        np.testing.assert_allclose(Q.T @ new, 0, atol=1e-14)

    def test_the_gap_is_that_behind_all_copies(self):
        squares = np.array([1.0, 2.0, 2.0, 2.0, 3.0])
        residual = np.full(5, 1e-9)
        angle, converged = davidson._test(squares, residual, 2, 1e-6, 1e-6, 1e-16)
        assert converged
        assert angle == pytest.approx(1e-9 * 2**0.5, rel=1e-6)  # over 3 - 2
        assert not davidson._test(squares[:4], residual[:4], 2, 1e-6, 1e-6, 1e-16)[1]

    def test_next_value_and_residuals_have_to_be_known(self):
        squares = np.array([1.0, 2.0, 4.0])
        rough = np.array([1e-9, 1e-9, 1.0])
        assert not davidson._test(squares, rough, 2, 1e-6, 1e-6, 1e-16)[1]
        assert not davidson._test(squares, rough[:3] * [1, 1, 0], 2, 1e-6, 1e-10, 1e-16)[1]
        assert not davidson._test(squares, rough * [1, 1, 0], 2, 1e-10, 1e-6, 1e-16)[1]

    def test_rounding_will_do_only_within_a_cluster(self):
        small = np.array([1e-9, 1e-9, 0.0])
        apart, cluster = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 2 + 1e-7])
        assert not davidson._test(apart, small, 2, 1e-10, 1e-6, 1e-9)[1]
        assert davidson._test(cluster, small, 2, 1e-10, 1e-6, 1e-9)[1]
        assert not davidson._test(cluster, small, 2, 1e-10, 1e-6, 1e-11)[1]

    @pytest.mark.parametrize(
        ("spent", "digits", "expected"),
        [
            (0.1, 0.0, False),
            (0.4, 0.0, True),
            (0.4, 1.0, True),
            (0.4, 2.5, False),
            (0.9, 2.5, True),
            (0.9, 8.0, False),
            (1.0, 8.0, True),
        ],
    )
    def test_hopeless(self, spent, digits, expected):
        """Of eight digits that are wanted, so many are won."""
        assert davidson._hopeless(spent, 1.0, 10.0**-digits, 1e-8) is expected

    def test_more_null_vectors_are_a_failure(self):
        X = np.random.default_rng(0).uniform(size=(120, 5))
        one = stack(cpu.standard(X, reference.neighbors(X, 14), 2))
        B = csr_array(block_diag((one, one)))
        with SquareProducts(B, n_jobs=1) as products:
            found = davidson.davidson_bottom_vectors(
                products,
                np.full((240, 1), 240**-0.5),
                2,
                random=np.random.RandomState(0),
                norm=2.0,
                tol=1e-6,
                residual_tol=1e-10,
                null_value=1e-11,
                max_iter=10,
                basis_bytes=1 << 20,
            )
            assert found.failure == "there are more null vectors than the constant"
            assert f"{products.work / B.nnz:,.0f} products with B" in found.description


def solve_by_davidson(X, k, q, *, index=None, **options):
    """Vectors, certificate, and the reference's values and vectors."""
    index = reference.neighbors(X, k) if index is None else index
    V, spectrum = bottom_vectors(
        cpu.standard(X, index, q),
        q,
        square=True,
        classes=closed_classes(index),
        solver="davidson",
        n_jobs=1,
        **options,
    )
    return V, spectrum, *reference.spectrum(reference.standard_rows(X, index, q))


def assert_right(V, spectrum, values, true):
    q = V.shape[1]
    assert spectrum.converged, spectrum
    assert spectrum.solver.startswith("Davidson's method with a polynomial of degree")
    assert spectrum.residuals.max() <= 1e-10
    np.testing.assert_allclose(spectrum.values, values[:q], rtol=1e-6, atol=1e-12)
    assert spectrum.gap == pytest.approx(1 - values[q - 1] / values[q], abs=0.01)
    assert spectrum.n_null == 1
    assert reference.sine(true[:, :q], V) <= 1e-6
    np.testing.assert_allclose(V.T @ V, np.eye(q), atol=1e-12)
    np.testing.assert_allclose(V.sum(axis=0), 0, atol=1e-11)


class TestBottomVectors:
    @pytest.mark.parametrize("q", [1, 2, 5, 12])
    @pytest.mark.parametrize(("data", "k"), [("cube-5d", 14), ("swiss-roll", 12), ("s-curve", 8)])
    def test_against_the_reference(self, data, k, q):
        assert_right(*solve_by_davidson(make_manifold(data, 500), k, q))

    def test_hubs(self):
        """A cloud in 30 dimensions: single points are neighbours of a tenth of all."""
        X = np.random.default_rng(0).standard_normal((800, 30))
        index = reference.neighbors(X, 8)
        assert np.bincount(index.ravel()).max() > 60
        assert_right(*solve_by_davidson(X, 8, 6, index=index))

    def test_multiple_values_come_whole(self):
        """A torus of 18 x 18 points: fourfold values, more copies than a narrow block sees."""
        angle = 2 * np.pi * np.arange(18) / 18
        u, v = (a.ravel() for a in np.meshgrid(angle, angle))
        X = np.column_stack([np.cos(u), np.sin(u), np.cos(v), np.sin(v)])
        V, spectrum, values, true = solve_by_davidson(X, 8, 12)
        assert spectrum.converged
        np.testing.assert_allclose(spectrum.values, values[:12], rtol=1e-6)
        assert reference.sine(true[:, :12], V) <= 1e-6

    def test_a_small_basis_restarts(self):
        X = make_manifold("cube-5d", 500)
        roomy, unlimited, values, _ = solve_by_davidson(X, 14, 4)
        with pytest.raises(MemoryLimitError) as error:
            solve_by_davidson(X, 14, 4, memory_limit=1 << 20)
        least = int(re.search(r"memory_limit='(\d+)MB' is needed", str(error.value))[1])
        V, spectrum, _, _ = solve_by_davidson(X, 14, 4, memory_limit=least * 10**6)
        assert spectrum.converged
        assert spectrum.n_iter <= 1.5 * unlimited.n_iter
        np.testing.assert_allclose(spectrum.values, values[:4], rtol=1e-6)
        assert reference.sine(roomy, V) <= 2e-6

    def test_the_same_input_gives_the_same_bits(self):
        X = make_manifold("cube-5d", 400)
        first, second = (solve_by_davidson(X, 14, 3)[0] for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_not_enough_steps_are_said(self, monkeypatch):
        monkeypatch.setattr(davidson, "PATIENCE", -1)  # the first step is the last
        with pytest.warns(ConvergenceWarning, match="steps of Davidson's method were not enough"):
            solve_by_davidson(make_manifold("cube-5d", 500), 14, 4)

    @pytest.mark.parametrize("seed", [0, 1, 13, 91])
    @pytest.mark.parametrize(("n", "k", "q", "reg"), [(300, 20, 1, 1e-3), (333, 2, 2, 0.0)])
    def test_few_distinct_eigenvalues(self, n, k, q, reg, seed):
        """Points that are all as far from each other: Krylov spaces end after three steps."""
        model = LocallyLinearEmbedding(
            n_neighbors=k, n_components=q, reg=reg, disconnected="largest", random_state=seed
        )
        dense = model.set_params(eigen_solver="dense").fit(np.eye(n)).spectrum_
        found = model.set_params(eigen_solver="davidson").fit(np.eye(n)).spectrum_
        assert found.converged
        np.testing.assert_allclose(found.values, dense.values, rtol=1e-9)

    def test_no_angle_at_all_is_as_small_as_it_goes(self):
        assert_right(*solve_by_davidson(make_manifold("cube-5d", 400), 14, 3, tol=0.0))

    def test_no_polynomial_is_said(self, monkeypatch):
        monkeypatch.setattr(davidson, "LARGEST_DEGREE", 8)
        with pytest.raises(ValueError, match="no polynomial of degree up to 8 comes near"):
            solve_by_davidson(make_manifold("cube-5d", 500), 14, 4)

    def test_it_is_for_the_standard_method(self):
        model = LocallyLinearEmbedding(method="ltsa", n_neighbors=10, eigen_solver="davidson")
        with pytest.raises(ValueError, match="eigen_solver='davidson' is for method='standard'"):
            model.fit(make_manifold("swiss-roll", 300))

    def test_it_needs_one_class(self):
        model = LocallyLinearEmbedding(n_neighbors=8, eigen_solver="davidson")
        with (
            pytest.warns(UserWarning, match="closed classes"),
            pytest.raises(ValueError, match=r"one closed class, and this one has 2.*bridge"),
        ):
            model.fit(two_clusters())
        model.set_params(n_neighbors=12, disconnected="bridge").fit(two_clusters(distance=40))
        assert model.spectrum_.converged


class TestChoice:
    @pytest.fixture
    def always(self, monkeypatch):
        """Tries it on any number of points."""
        monkeypatch.setattr(choice, "WORTH_TRYING", 0.0)
        monkeypatch.setattr(choice, "FAR_LESS", float("inf"))

    def test_auto_takes_it(self, always, monkeypatch):
        monkeypatch.setattr(solve, "davidson_bottom_vectors", self.patient())
        X = make_manifold("cube-5d", 500)
        model = LocallyLinearEmbedding(n_neighbors=14, n_components=3).fit(X)
        assert "Davidson's method with" in model.spectrum_.solver
        assert "sparse LU with about" in model.spectrum_.solver
        dense = LocallyLinearEmbedding(n_neighbors=14, n_components=3, eigen_solver="dense").fit(X)
        assert reference.sine(model.embedding_, dense.embedding_) <= 1e-6

    @staticmethod
    def patient():
        """It, with more work allowed than five hundred points are worth."""

        def run(*args, allowed, **options):
            return davidson.davidson_bottom_vectors(*args, **options)

        return run

    def test_auto_goes_on_to_another_if_it_is_not_worth_it(self, always):
        X = make_manifold("cube-5d", 500)
        model = LocallyLinearEmbedding(n_neighbors=14, n_components=3).fit(X)
        assert model.spectrum_.converged
        assert model.spectrum_.solver.startswith("shift-invert")
        assert "Davidson's method was given up" in model.spectrum_.solver

    def test_auto_goes_on_to_another_if_there_is_no_polynomial(self, always):
        X = a_manifold("five-d", 500)  # more neighbours than dimensions, weights of both signs
        model = LocallyLinearEmbedding(n_neighbors=10, n_components=3).fit(X)
        assert model.spectrum_.converged
        assert "given up, since Davidson's method: no polynomial" in model.spectrum_.solver

    def test_auto_with_no_angle_at_all(self, always):
        X = np.random.default_rng(0).normal(size=(600, 20))
        assert LocallyLinearEmbedding(n_neighbors=10, tol=0).fit(X).spectrum_.converged

    def test_auto_does_not_try_it_for_other_methods(self, always):
        X = make_manifold("cube-5d", 500)
        model = LocallyLinearEmbedding(n_neighbors=14, n_components=3, method="modified").fit(X)
        assert "Davidson" not in model.spectrum_.solver

    @pytest.mark.parametrize(
        ("direct", "least", "bytes_", "expected"),
        [
            (100.0, 1.0, 0, "davidson"),
            (float("inf"), 1.0, 0, "davidson"),
            (100.0, 50.0, 0, "shift-invert"),
            (100.0, float("inf"), 0, "shift-invert"),
            (100.0, 1.0, 1 << 40, "shift-invert"),
            (0.1, 0.001, 0, "shift-invert"),
        ],
    )
    def test_by_what_it_may_take(self, direct, least, bytes_, expected):
        free = 1 << 30
        plan = choice.choose(
            "auto",
            10_000,
            2,
            memory_limit=None,
            shift_invert=lambda: choice.Cost(direct, 0, "LU", free=free),
            chebyshev=lambda to_beat: choice.Cost(float("inf"), 0, "filter", free=free),
            davidson=lambda: choice.Cost(least, bytes_, "Davidson's method", free=free),
        )
        assert plan.solver == expected
        if expected == "davidson":
            assert plan.worth == direct

    def test_a_limit_too_small_for_it_is_refused(self):
        with pytest.raises(MemoryLimitError, match="davidson"):
            choice.choose(
                "davidson",
                10_000,
                2,
                memory_limit=1000,
                shift_invert=lambda: pytest.fail("not asked"),
                chebyshev=lambda to_beat: pytest.fail("not asked"),
                davidson=lambda: choice.Cost(1.0, 2000, "Davidson's method"),
            )
