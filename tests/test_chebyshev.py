"""Chebyshev-filtered Lanczos against dense algebra: the filter, the counts, the vectors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference
from conftest import METHODS, make_manifold, two_clusters
from numpy.polynomial import chebyshev as series
from scipy.sparse import csr_array, diags_array
from sklearn.exceptions import ConvergenceWarning

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.constraints import cpu
from lle_gpu.constraints.cpu.assemble import gram, stack
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.spectral import chebyshev
from lle_gpu.spectral.chebyshev import (
    ChebyshevFilter,
    Density,
    FilterPlan,
    chebyshev_bottom_vectors,
    predict_cost,
)
from lle_gpu.spectral.cpu import bottom_vectors
from lle_gpu.spectral.cpu import products as products_module
from lle_gpu.spectral.cpu.certify import rayleigh_ritz
from lle_gpu.spectral.cpu.products import Products
from lle_gpu.spectral.lanczos import lanczos

RNG = np.random.default_rng(0)


def diagonal(eigenvalues):
    """The operator whose M has these eigenvalues."""
    return Products(csr_array(diags_array(np.sqrt(eigenvalues))), n_jobs=1)


def solve(X, k, method, q, *, index=None, d=None, reg=None, **options):
    """Vectors, certificate, and the reference's values and vectors."""
    index = reference.neighbors(X, k) if index is None else index
    d = q if d is None else d
    keys = {} if reg is None else {"reg": reg}
    c = getattr(cpu, method)(X, index, d, **keys)
    V, spectrum = bottom_vectors(
        c,
        q,
        square=method == "standard",
        classes=closed_classes(index),
        solver="chebyshev",
        n_jobs=1,
        **options,
    )
    return V, spectrum, *reference.spectrum(reference.ROWS[method](X, index, d, **keys))


def assert_right(V, spectrum, values, true, *, sine=1e-6):
    q = V.shape[1]
    assert spectrum.converged
    assert "Chebyshev filter of degree" in spectrum.solver
    assert spectrum.residuals.max() <= 1e-10
    np.testing.assert_allclose(spectrum.values, values[:q], rtol=1e-6, atol=1e-12)
    assert spectrum.gap == pytest.approx(1 - values[q - 1] / values[q], abs=0.01)
    assert reference.sine(true[:, :q], V) <= sine
    np.testing.assert_allclose(V.T @ V, np.eye(q), atol=1e-12)
    np.testing.assert_allclose(V.sum(axis=0), 0, atol=1e-11)


def helix(n):
    t = np.sort(np.random.RandomState(0).uniform(0, 20, n))
    return np.column_stack([np.cos(t), np.sin(t), t / 10])


class TestFilter:
    @pytest.mark.parametrize(("degree", "low"), [(2, 1.0), (6, 0.5), (20, 0.4), (50, 0.05)])
    def test_is_the_scaled_polynomial(self, degree, low):
        eigenvalues = np.r_[0, np.geomspace(1e-6, 4, 99)]
        p = ChebyshevFilter(diagonal(eigenvalues).multiply, low, 4.0, degree)
        T = [0] * degree + [1]
        t = (2 * eigenvalues - low - 4) / (4 - low)
        true = series.chebval(t, T) / series.chebval(t[0], T)
        np.testing.assert_allclose(p.apply(np.eye(100)), np.diag(true), atol=1e-12)
        np.testing.assert_allclose(p.value(eigenvalues), true, atol=1e-12)
        assert np.abs(true[eigenvalues >= low]).max() <= p.bound * (1 + 1e-9)
        derivative = series.chebval(t, series.chebder(T)) * 2 / (4 - low) / series.chebval(t[0], T)
        below = eigenvalues < low
        moved = eigenvalues * np.abs(derivative)
        assert (p.scale(true) >= moved * (1 - 1e-9) - 1e-12)[below].all()
        known = below & (true > 2 * p.bound)
        assert (p.least_scale(true) <= moved * (1 + 1e-9) + 1e-12)[known].all()
        assert (p.least_scale(true) >= moved / 20)[known & (true < 1 - 1e-6)].all()
        assert (p.least_scale(true[~below]) <= p.least_scale(2 * p.bound)).all()

    def test_growth_beyond_the_largest_float_is_scaled_away(self):
        # T_m(t(0)) is about 1e780.
        eigenvalues = np.linspace(0, 1, 50)
        p = ChebyshevFilter(diagonal(eigenvalues).multiply, 0.5, 1.0, 1000)
        np.testing.assert_allclose(p.apply(np.ones((50, 1)))[0], 1, rtol=1e-10)
        assert np.isfinite(p.apply(np.ones((50, 1)))).all()

    @pytest.mark.parametrize("m", [60, 400])
    def test_slope_bounds_the_residual_in_m(self, m):
        # v = e_1 + a small part of each other eigenvector: ||M x - lambda x||, x = p(M) v / theta.
        eigenvalues = np.r_[1e-6, np.geomspace(1e-5, 1, 500)]
        p = ChebyshevFilter(diagonal(eigenvalues).multiply, (6 / m) ** 2, 1.0, m)
        theta = p.value(eigenvalues)
        for i in range(1, 501):
            missed = (theta[0] - theta[i]) * 1e-6
            left = theta[i] / theta[0] * 1e-6 * (eigenvalues[i] - eigenvalues[0])
            assert abs(left) <= 1.1 * missed / p.slope(theta[0])


class TestDensity:
    @pytest.mark.parametrize("power", [1, 2, 4])
    def test_counts(self, power):
        n = 4000
        eigenvalues = (np.arange(1, n + 1) / n) ** power
        operator = diagonal(eigenvalues)
        density = Density(operator, 1.05, RNG.normal(size=(n, 8)), n)
        density.extend(100)
        low = np.array([0.01, 0.1, 0.5])
        true = (eigenvalues[:, None] < low).sum(axis=0)
        np.testing.assert_allclose(density.count(low), true, rtol=0.25)
        assert density.bounded

    def test_moments_are_traces(self):
        A = RNG.normal(size=(30, 30))
        v = RNG.normal(size=(30, 1))
        density = Density(Products(csr_array(A), n_jobs=1), 200.0, v, 30)
        density.extend(6)
        values, Q = np.linalg.eigh(A.T @ A)
        weight = (Q.T @ v)[:, 0] ** 2
        true = [weight @ series.chebval(2 * values / 200 - 1, [0] * j + [1]) for j in range(12)]
        np.testing.assert_allclose(density._moments[:12], true, atol=1e-10)

    def test_an_eigenvalue_beyond_the_bound_shows(self):
        operator = diagonal(np.linspace(0, 1, 300))
        density = Density(operator, 0.9, RNG.normal(size=(300, 8)), 300)
        density.extend(32)
        assert not density.bounded

    @pytest.mark.parametrize("top", [[], [1.5], [1.001, 1.002]])
    def test_the_upper_bound_is_one(self, top):
        eigenvalues = np.r_[np.linspace(0, 1, 500), top]
        start = RNG.normal(size=(len(eigenvalues), 8))
        high = chebyshev._largest_eigenvalue(diagonal(eigenvalues), start)
        assert eigenvalues.max() <= high <= 1.06 * eigenvalues.max()


class TestProducts:
    @pytest.mark.parametrize("n_jobs", [1, 2, 3])
    @pytest.mark.parametrize("with_m", [False, True])
    def test_multiply(self, n_jobs, with_m, monkeypatch):
        monkeypatch.setattr(products_module, "THREADED_NONZEROS", 0)
        c = cpu.ltsa(
            make_manifold("s-curve", 200), reference.neighbors(RNG.normal(size=(200, 2)), 9), 2
        )
        F = stack(c)
        with Products(F, gram(c) if with_m else None, n_jobs=n_jobs) as M:
            for width in (1, 3, 8):
                X = RNG.normal(size=(200, width))
                np.testing.assert_allclose(M.multiply(X), F.T @ (F @ X), atol=1e-12)
            assert M.columns == 12
            assert M.description == ("M" if with_m else "F and F^T")

    def test_threads_change_no_bit(self, monkeypatch):
        monkeypatch.setattr(products_module, "THREADED_NONZEROS", 0)
        X = make_manifold("digits", 300)
        results = [
            bottom_vectors(
                cpu.standard(X, reference.neighbors(X, 8), 2),
                2,
                square=True,
                classes=closed_classes(reference.neighbors(X, 8)),
                solver="chebyshev",
                n_jobs=n_jobs,
            )[0]
            for n_jobs in (1, 2, 3)
        ]
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])

    def test_the_fewer_nonzeros_are_used(self):
        X = make_manifold("s-curve", 300)
        index = reference.neighbors(X, 10)
        for method, used in [("standard", "F and F^T"), ("ltsa", "M"), ("modified", "M")]:
            c = getattr(cpu, method)(X, index, 2)
            F = stack(c)
            with Products(F, gram(c), n_jobs=1) as M:
                assert M.description == used
                assert M.nonzeros == min(2 * F.nnz, (F.T @ F).nnz)


class TestAgainstReference:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("q", [2, 10])
    def test_digits(self, method, q):
        X = make_manifold("digits", 450)
        k = 75 if method == "hessian" and q == 10 else 30
        V, spectrum, values, true = solve(X, k, method, q)
        q_null = (values < 1e-12).sum()
        if q_null > q:  # flat neighbourhoods: any null vectors will do
            assert (spectrum.values < 1e-12).all()
            assert spectrum.gap == 0
        else:
            assert_right(V, spectrum, values, true)

    def test_all_digits(self):
        assert_right(*solve(make_manifold("digits", 1797), 30, "standard", 10))

    @pytest.mark.parametrize("q", [2, 4])
    def test_a_ring_has_pairs(self, q):
        n = 500
        t = np.arange(n) * 2 * np.pi / n
        index = (np.arange(n)[:, None] + [1, -1, 2, -2, 3, -3]) % n
        X = np.column_stack([np.cos(t), np.sin(t)])
        V, spectrum, values, true = solve(X, 6, "standard", q, index=index)
        np.testing.assert_allclose(values[0], values[1], rtol=1e-6)
        assert_right(V, spectrum, values, true)

    def test_half_a_pair_is_a_vector_of_the_pair(self):
        n = 500
        t = np.arange(n) * 2 * np.pi / n
        index = (np.arange(n)[:, None] + [1, -1, 2, -2, 3, -3]) % n
        X = np.column_stack([np.cos(t), np.sin(t)])
        V, spectrum, _, true = solve(X, 6, "standard", 1, index=index)
        assert spectrum.gap < 1e-8
        assert np.linalg.norm(V - true[:, :2] @ (true[:, :2].T @ V)) <= 1e-6

    @pytest.mark.parametrize("q", [4, 8])
    def test_a_torus_has_fourfold_values(self, q):
        u = np.arange(24) * 2 * np.pi / 24
        a, b = (angle.ravel() for angle in np.meshgrid(u, u))
        X = np.column_stack([np.cos(a), np.sin(a), np.cos(b), np.sin(b)])
        V, spectrum, values, true = solve(X, 8, "standard", q)
        np.testing.assert_allclose(values[:4], values[0], rtol=1e-6)
        assert_right(V, spectrum, values, true)

    def test_a_sphere(self):
        i = np.arange(700) + 0.5
        z, phi = 1 - 2 * i / 700, np.pi * (1 + 5**0.5) * i
        X = np.column_stack([np.sqrt(1 - z**2) * np.cos(phi), np.sqrt(1 - z**2) * np.sin(phi), z])
        assert_right(*solve(X, 8, "standard", 3, reg=1e-2))

    def test_nearly_equal_points(self):
        X = make_manifold("s-curve", 500)
        X = np.concatenate([X, X[:100] + 1e-9 * RNG.normal(size=(100, 3))])
        assert_right(*solve(X, 10, "standard", 2))

    @pytest.mark.parametrize("q", [1, 2, 20, 50])
    def test_five_dimensions(self, q):
        X = np.random.default_rng(0).uniform(size=(900, 5))
        assert_right(*solve(X, 14, "standard", q))

    @pytest.mark.parametrize("method", ["modified", "hessian", "ltsa"])
    def test_a_roll_with_the_other_methods(self, method):
        assert_right(*solve(make_manifold("swiss-roll", 500), 12, method, 2))

    def test_a_tight_tolerance(self):
        V, spectrum, values, true = solve(
            make_manifold("swiss-roll", 600), 12, "standard", 2, tol=1e-12
        )
        assert_right(V, spectrum, values, true, sine=1e-9)

    @pytest.mark.parametrize("name", ["digits", "five-d"])
    def test_a_loose_tolerance_still_keeps_the_residuals_and_the_gap(self, name):
        V, spectrum, values, true = solve(make_manifold(name, 500), 12, "standard", 3, tol=0.5)
        assert_right(V, spectrum, values, true, sine=0.5)

    @pytest.mark.parametrize("seed", range(5))
    def test_any_seed(self, seed):
        X = make_manifold("five-d", 500)
        assert_right(*solve(X, 12, "standard", 3, random_state=seed))


class TestNullVectors:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("seed", [None, 8, 10])
    def test_two_clusters(self, method, seed):
        if seed is None:
            X = two_clusters()
        else:
            X = np.random.default_rng(seed).normal(size=(400, 3))
            X[200:, 0] += 9
        V, spectrum, values, true = solve(X, 9, method, 3, d=2)
        n_null = int((values < 1e-12).sum())
        assert spectrum.n_null == 1 + n_null or (n_null >= 3 and spectrum.gap == 0)
        if n_null <= 3:
            assert reference.sine(true[:, :3], V) <= 1e-6
        assert (spectrum.values[: min(n_null, 3)] <= 1e-12).all()
        assert spectrum.converged
        assert spectrum.n_iter < 20_000

    @pytest.mark.parametrize("tol", [1e-6, 1e-2])
    def test_what_is_left_of_others_hides_no_null_vector(self, tol, monkeypatch):
        # Within the tolerance, sigma of the null vector would be 1e-11 or more.
        monkeypatch.setattr(chebyshev, "make_plan", lambda *_: FilterPlan(20, 0.2, 40, 0.0))
        eigenvalues = np.r_[0, 0, np.linspace(0.003, 1, 2000) ** 2]
        F = csr_array(diags_array(np.sqrt(eigenvalues)))
        result = chebyshev_bottom_vectors(
            Products(F, n_jobs=1),
            lambda V: rayleigh_ritz(F, V),
            np.eye(2002)[:, :1],
            2,
            hints=np.empty((2002, 0)),
            random=np.random.RandomState(0),
            tol=tol,
            residual_tol=1e-11,
            null_value=1e-13,
            max_iter=100,
        )
        assert not result.failure
        values = rayleigh_ritz(F, result.vectors)[0]
        assert values[0] <= 1e-14
        assert values[1] == pytest.approx(0.003, rel=1e-6)
        assert result.next_values[0] == pytest.approx(0.0035, rel=0.03)

    @pytest.mark.parametrize("following", [0.15, 0.3, 0.42, 0.5, 0.7])
    def test_the_next_value_wherever_it_is(self, following, monkeypatch):
        """a = 0.2, sqrt(a) = 0.447: where p is small, and where it is no more than delta."""
        monkeypatch.setattr(chebyshev, "make_plan", lambda *_: FilterPlan(14, 0.2, 60, 0.0))
        sigma = np.r_[0, 0.01, 0.02, following, np.linspace(following + 0.02, 1, 2000)]
        F = csr_array(diags_array(sigma))
        for seed in range(5):
            result = chebyshev_bottom_vectors(
                Products(F, n_jobs=1),
                lambda V: rayleigh_ritz(F, V),
                np.eye(len(sigma))[:, :1],
                2,
                hints=np.empty((len(sigma), 0)),
                random=np.random.RandomState(seed),
                tol=1e-2,
                residual_tol=1e-3,
                null_value=1e-13,
                max_iter=100,
            )
            assert not result.failure
            assert following * (1 - 1e-9) <= result.next_values[0] <= 1.03 * following

    @pytest.mark.parametrize("q", [2, 4, 6])
    def test_five_classes(self, q):
        X = np.concatenate([make_manifold("s-curve", 60, seed) + 100 * seed for seed in range(5)])
        V, spectrum, values, true = solve(X, 6, "standard", q)
        assert (values < 1e-12).sum() == 4
        assert spectrum.n_null == 5
        assert spectrum.converged
        assert (spectrum.gap == 0) == (q < 4)
        # Whatever is chosen among null vectors, all of V lies in the null space, or contains it.
        wide = true[:, : max(q, 4)]
        assert np.linalg.norm(V - wide @ (wide.T @ V)) <= 1e-6
        assert (spectrum.values[: min(q, 4)] <= 1e-12).all()

    def test_the_coordinates_of_flat_data(self):
        X = np.column_stack([RNG.uniform(size=(400, 2)), np.zeros(400)])
        V, spectrum, _, true = solve(X, 12, "ltsa", 4, d=2)
        assert spectrum.n_null == 3
        assert reference.sine(true[:, :4], V) <= 1e-6

    def test_small_is_not_null(self):
        # Two clusters that hang together by one point's neighbours: a value far below the next.
        X = np.random.default_rng(3).normal(size=(300, 2))
        index = reference.neighbors(np.r_[X[:150], X[150:] + 100], 8)
        index[0, 0], index[299, 0] = 299, 0
        V, spectrum, values, true = solve(X, 8, "standard", 2, index=index)
        assert 1e-12 < values[0] < 0.3 * values[1]
        assert spectrum.n_null == 1
        assert_right(V, spectrum, values, true)


class TestLimits:
    POOR = FilterPlan(degree=8, low=2.0, columns=24, work=0.0)
    TOO_SHARP = FilterPlan(degree=600, low=1e-5, columns=24, work=0.0)

    @pytest.mark.parametrize(
        ("plan", "method"), [(POOR, "standard"), (TOO_SHARP, "ltsa")], ids=["crowded", "empty"]
    )
    def test_a_poor_plan_is_mended(self, plan, method, monkeypatch):
        monkeypatch.setattr(chebyshev, "make_plan", lambda *_: plan)
        V, spectrum, values, true = solve(make_manifold("swiss-roll", 500), 10, method, 2)
        assert_right(V, spectrum, values, true)
        assert f"degree {plan.degree} " not in spectrum.solver

    def test_no_restart_left_is_a_warning(self, monkeypatch):
        monkeypatch.setattr(chebyshev, "make_plan", lambda *_: self.POOR)
        with pytest.warns(ConvergenceWarning, match=r"max_iter=1 restarts.*'shift-invert'"):
            V, spectrum, *_ = solve(make_manifold("swiss-roll", 500), 10, "standard", 2, max_iter=1)
        assert not spectrum.converged
        assert np.isfinite(V).all()

    @pytest.mark.parametrize("factor", [0.9, 0.99, 0.999])
    def test_a_bound_too_small_is_raised(self, factor, monkeypatch):
        def too_small(operator, start):
            return factor * found(operator, start) / chebyshev.ABOVE

        found = chebyshev._largest_eigenvalue
        monkeypatch.setattr(chebyshev, "_largest_eigenvalue", too_small)
        monkeypatch.setattr(Density, "bounded", True)  # the second line of defence alone
        assert_right(*solve(make_manifold("digits", 300), 10, "standard", 3))

    @pytest.mark.parametrize("n", [250, 500])
    @pytest.mark.parametrize("method", ["standard", "ltsa"])
    def test_what_is_certified_is_right(self, n, method, monkeypatch):
        monkeypatch.setattr(chebyshev, "LARGEST_DEGREE", 2000)
        with warnings.catch_warnings():
            # Some of these curves are beyond any solver; what is said to be right is looked at.
            warnings.simplefilter("ignore", ConvergenceWarning)
            V, spectrum, _, true = solve(helix(n), 11, method, 2)
        assert reference.sine(true[:, :2], V) <= 1e-6 or not spectrum.converged

    def test_values_lost_in_rounding_are_a_warning(self, monkeypatch):
        monkeypatch.setattr(chebyshev, "LARGEST_DEGREE", 500)
        with pytest.warns(ConvergenceWarning, match="lost in the rounding.*'shift-invert'"):
            solve(helix(900), 11, "ltsa", 2)

    def test_the_work_is_bounded(self, monkeypatch):
        X = helix(900)
        with pytest.warns(ConvergenceWarning, match="lost in the rounding.*'shift-invert'"):
            far = solve(X, 11, "ltsa", 2)[1]
        assert far.n_iter < 150_000  # up to the largest degree, 218,000
        monkeypatch.setattr(chebyshev, "LEAST_EFFORT", 0)
        monkeypatch.setattr(chebyshev, "EFFORT", 2)
        with pytest.warns(ConvergenceWarning, match="far more products than predicted"):
            near = solve(X, 11, "ltsa", 2)[1]
        assert near.n_iter < far.n_iter / 2

    @pytest.mark.filterwarnings("ignore:.*among no other point's:UserWarning")
    @pytest.mark.filterwarnings("ignore:F has at least:UserWarning")
    def test_a_wide_null_space_is_not_searched_through(self):
        """76 null vectors of 300, any of which will do; single ones of them never settle."""
        X = np.random.default_rng(0).standard_normal((300, 100))
        model = LocallyLinearEmbedding(
            n_neighbors=5, n_components=1, method="ltsa", eigen_solver="chebyshev"
        ).fit(X)
        assert model.spectrum_.converged
        assert model.spectrum_.n_null > 70
        assert model.spectrum_.gap == 0
        assert model.spectrum_.n_iter < 200_000

    @pytest.mark.parametrize(
        ("name", "k", "q"), [("digits", 30, 10), ("five-d", 14, 2), ("swiss-roll", 12, 2)]
    )
    def test_the_prediction(self, name, k, q, monkeypatch):
        X = make_manifold(name, 1500)
        c = cpu.standard(X, reference.neighbors(X, k), q)
        F = stack(c)
        with Products(F, n_jobs=1) as M:
            # A clock that only products move: what they are predicted to take is what they take.
            monkeypatch.setattr(chebyshev.time, "perf_counter", lambda: 1e-3 * M.columns)
            seconds = predict_cost(M, q, random=np.random.RandomState(0))
            assert M.columns <= 1100
        spectrum = bottom_vectors(
            c, q, square=True, classes=closed_classes(c.index[:, 1:]), solver="chebyshev", n_jobs=1
        )[1]
        assert 1 / 3 <= seconds / (1e-3 * spectrum.n_iter) <= 3

    def test_the_estimator_takes_it(self):
        X = make_manifold("s-curve", 400)
        model = LocallyLinearEmbedding(n_neighbors=10, eigen_solver="chebyshev").fit(X)
        other = LocallyLinearEmbedding(n_neighbors=10, eigen_solver="dense").fit(X)
        assert "Chebyshev filter" in str(model.spectrum_)
        assert reference.sine(model.embedding_, other.embedding_) <= 1e-7


def test_a_warm_start_is_warm():
    values = np.linspace(0, 1, 300) ** 4
    Q = np.linalg.qr(RNG.normal(size=(300, 300)))[0]

    def steps(start):
        return lanczos(
            lambda X: (Q * values) @ (Q.T @ X),
            start,
            3,
            keep_out=np.empty((300, 0)),
            tol=1e-8,
            residual_tol=np.inf,
            max_restarts=50,
        ).n_steps

    near = Q[:, -4:] + 1e-12 * RNG.normal(size=(300, 4))
    assert steps(near) == 1
    assert steps(RNG.normal(size=(300, 4))) > 5


class TestWhatLanczosIsAsked:
    values = np.linspace(0, 1, 400) ** 3

    def run(self, **options):
        return lanczos(
            lambda X: self.values[:, None] * X,
            np.random.default_rng(0).normal(size=(400, 3)),
            2,
            keep_out=np.empty((400, 0)),
            max_restarts=100,
            **options,
        )

    @pytest.mark.parametrize("slope", [1.0, 1e-6])
    def test_slope_carries_the_residual_over(self, slope):
        result = self.run(tol=1.0, residual_tol=1e-3, slope=lambda theta: slope + 0 * theta)
        x = result.vectors[:, 0] / np.linalg.norm(result.vectors[:, 0])
        assert np.linalg.norm((self.values - result.values[0]) * x) <= 1e-3 * slope

    def test_scale_says_how_well_the_next_value_is_known(self):
        loose = self.run(tol=1.0, residual_tol=np.inf)
        tight = self.run(tol=1.0, residual_tol=np.inf, scale=lambda theta: 1e-6 + 0 * theta)
        assert abs(tight.values[2] - self.values[-3]) <= 1e-9
        assert abs(loose.values[2] - self.values[-3]) > 1e-9
        assert loose.n_steps < tight.n_steps


def test_the_basis_keeps_to_its_bytes(monkeypatch):
    """A curve's graph wants a wide basis; with less room the degree rises, and the answer stays."""
    held = []

    def watched(*arguments, **options):
        held.append(options.get("max_basis", 0))
        return lanczos(*arguments, **options)

    X = make_manifold("swiss-roll", 1500)
    F = stack(cpu.standard(X, reference.neighbors(X, 12), 2))
    monkeypatch.setattr(chebyshev, "lanczos", watched)

    def bottom(basis_bytes):
        held.clear()
        with Products(F, n_jobs=1) as M:
            result = chebyshev_bottom_vectors(
                M,
                lambda V: rayleigh_ritz(F, V),
                np.full((1500, 1), 1500**-0.5),
                2,
                hints=np.empty((1500, 0)),
                random=np.random.RandomState(0),
                tol=1e-6,
                residual_tol=1e-11,
                null_value=1e-13,
                max_iter=100,
                basis_bytes=basis_bytes,
            )
        assert not result.failure
        return rayleigh_ritz(F, result.vectors)[0], max(held)

    free, wide = bottom(1 << 30)
    confined, narrow = bottom(8 * 1500 * 80)
    assert narrow <= 80 < wide
    np.testing.assert_allclose(confined, free, rtol=1e-6)
