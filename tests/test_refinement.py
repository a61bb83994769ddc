"""Refinement through F where M's rounding hides the answer, and other hard data for all methods."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference
from conftest import METHODS, five_dimensional_manifold, make_manifold
from scipy.linalg import eigh
from sklearn.datasets import make_swiss_roll
from sklearn.exceptions import ConvergenceWarning
from test_spectral import icosphere

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.constraints import cpu
from lle_gpu.constraints.cpu.assemble import gram, stack
from lle_gpu.spectral import refinement
from lle_gpu.spectral.cpu import TOOLS
from lle_gpu.spectral.cpu.shift_invert import SYMMETRIC_SHIFT, SymmetricInverse
from lle_gpu.spectral.refinement import refine


def fit(X, **parameters):
    with warnings.catch_warnings():
        # Convergence is read off the certificate, and some graphs are in pieces on purpose.
        warnings.simplefilter("ignore", UserWarning)
        return LocallyLinearEmbedding(eigen_solver="arpack", **parameters).fit(X)


def helix(n):
    """A curve: lambda_2 falls like n^-4 and faster, and soon below the rounding of M."""
    t = np.sort(np.random.RandomState(0).uniform(0, 20, n))
    return np.column_stack([np.cos(t), np.sin(t), t / 10])


def strip(n):
    """A long thin strip, bent to an arc: its points, and the place of each along it."""
    rng = np.random.RandomState(0)
    along, across = rng.uniform(0, 100, n), rng.uniform(0, 0.3, n)
    return np.column_stack([20 * np.cos(along / 20), 20 * np.sin(along / 20), across]), along


def hidden_below_rounding(method, X, k, d, value):
    """Whether value^2 is less than the shift, which is about M's rounding."""
    M = gram(getattr(cpu, method)(X, reference.neighbors(X, k), d))
    return value**2 < SYMMETRIC_SHIFT * abs(M.data).max()


class TestBelowTheRoundingOfM:
    # The last needs more vectors than are wanted: a third value is hidden as well.
    @pytest.mark.parametrize(
        ("method", "n", "d"), [("ltsa", 900, 2), ("hessian", 1500, 1), ("hessian", 1500, 2)]
    )
    def test_curves(self, method, n, d):
        X = helix(n)
        F = stack(getattr(cpu, method)(X, reference.neighbors(X, 12), d)).toarray()
        values, V = reference.spectrum(F)
        assert hidden_below_rounding(method, X, 12, d, values[d - 1])
        model = fit(X, n_neighbors=12, n_components=d, method=method)
        assert model.spectrum_.converged
        assert model.spectrum_.n_null == 1
        assert reference.sine(V[:, :d], model.embedding_) <= 1e-6
        np.testing.assert_allclose(model.spectrum_.values, values[:d], rtol=1e-6)
        gap = (values[d] - values[d - 1]) / values[d]
        assert model.spectrum_.gap == pytest.approx(gap, rel=1e-3)

    @pytest.mark.parametrize("method", ["ltsa", "hessian"])
    def test_a_long_thin_strip(self, method):
        X, along = strip(5000)
        model = fit(X, n_neighbors=12, method=method)
        assert hidden_below_rounding(method, X, 12, 2, model.spectrum_.values[0])
        assert model.spectrum_.converged
        assert reference.affine_residual(model.embedding_, along[:, None]) < 5e-5

    @pytest.mark.parametrize("method", ["ltsa", "hessian"])
    def test_below_the_rounding_of_f_is_not_certified(self, method):
        # sigma = 1e-10: eps ||F|| / sigma, the least error there can be, is 1e-5.
        X = helix(4000)
        with pytest.warns(ConvergenceWarning, match="lost in the rounding.*method='standard'"):
            model = LocallyLinearEmbedding(n_neighbors=12, method=method).fit(X)
        assert not model.spectrum_.converged
        assert np.isfinite(model.embedding_).all()
        assert fit(X, n_neighbors=12).spectrum_.converged

    @pytest.mark.parametrize("method", ["ltsa", "hessian"])
    def test_nearly_null_vectors_are_not_certified(self, method):
        # sigma below NULL_TOL, and the next one little above.
        X = helix(10000)
        assert not fit(X, n_neighbors=12, method=method).spectrum_.converged


@pytest.mark.parametrize("method", ["modified", "hessian", "ltsa"])
def test_a_finer_roll_is_not_worse(method):
    """Not the standard method: its ridge bends the roll, by 0.1, whatever n is."""
    residuals = []
    for n in (5000, 20000):
        X, t = make_swiss_roll(n, random_state=0)
        arc = (t * np.sqrt(1 + t * t) + np.arcsinh(t)) / 2
        model = fit(X, n_neighbors=12, method=method)
        assert model.spectrum_.converged
        residuals.append(
            reference.affine_residual(model.embedding_, np.column_stack([arc, X[:, 1]]))
        )
    assert residuals[1] <= residuals[0]


def noisy_inverse(F, delta, size, seed):
    """P = M + delta I + E with ||E|| = size: its inverse, and its eigenpairs by ascending value."""
    M = (F.T @ F).toarray()
    E = np.random.default_rng(seed).normal(size=M.shape)
    E += E.T
    P = M + delta * np.eye(len(M)) + E * (size / np.linalg.norm(E, 2))
    values, vectors = np.linalg.eigh(P)
    return np.linalg.inv(P), values, vectors


class TestRefine:
    """P = M + delta I + E on purpose, E as large as delta and far larger than lambda_2."""

    def problem(self):
        X = make_manifold("swiss-roll", 300)
        rows = reference.ltsa_rows(X, reference.neighbors(X, 12), 2)
        F = stack(cpu.ltsa(X, reference.neighbors(X, 12), 2))
        return F, np.linalg.norm(rows, 2), *reference.spectrum(rows)

    def run(self, F, norm, inverse, theta, start, delta, tol=1e-6, residual_tol=1e-12):
        n = F.shape[1]
        return refine(
            TOOLS,
            F,
            norm,
            lambda X: inverse @ X,
            start,
            theta,
            shift=delta,
            n_wanted=2,
            keep_out=np.full((n, 1), n**-0.5),
            tol=tol,
            residual_tol=residual_tol,
        )

    @pytest.mark.parametrize("excess", [0.1, 10.0, 1e3])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_what_the_noise_hides_comes_back(self, excess, seed):
        F, norm, values, V = self.problem()
        delta = excess * values[0] ** 2
        inverse, eigenvalues, vectors = noisy_inverse(F, delta, 0.9 * delta, seed)
        p = 2 + int((values**2 < 4 * delta).sum())
        start, theta = vectors[:, 1 : p + 1], 1 / eigenvalues[1 : p + 1]
        result = self.run(F, norm, inverse, theta, start, delta)
        assert result.converged
        true = reference.sine(V[:, :2], result.vectors[:, :2])
        assert true <= 1e-6
        assert true <= result.angle + 1e-11
        np.testing.assert_allclose(result.values[:2], values[:2], rtol=1e-10)

    @pytest.mark.parametrize("steps", [1, 2, 3, 4])
    def test_the_angle_is_a_bound(self, steps, monkeypatch):
        monkeypatch.setattr(refinement, "MAX_STEPS", steps)
        F, norm, values, V = self.problem()
        delta = 10 * values[0] ** 2
        for seed in range(5):
            inverse, eigenvalues, vectors = noisy_inverse(F, delta, 0.9 * delta, seed)
            result = self.run(
                F, norm, inverse, 1 / eigenvalues[1:8], vectors[:, 1:8], delta, tol=1e-12
            )
            true = reference.sine(V[:, :2], result.vectors[:, :2])
            assert true <= result.angle + 1e-11
            assert steps > 1 or true > 1e-4  # there was something to do

    def test_a_value_left_out_is_noticed(self):
        F, norm, values, V = self.problem()
        delta = 10 * values[2] ** 2
        inverse = np.linalg.inv((F.T @ F).toarray() + delta * np.eye(300))
        few = self.run(F, norm, inverse, 1 / (values[:3] ** 2 + delta), V[:, :3], delta)
        assert few.converged
        assert not few.complete
        many = self.run(F, norm, inverse, 1 / (values[:20] ** 2 + delta), V[:, :20], delta)
        assert many.complete == (values[19] ** 2 > values[1] ** 2 + delta)

    def test_theta_that_does_not_go_with_the_values_is_noticed(self):
        F, norm, values, V = self.problem()
        delta = 0.1 * values[0] ** 2
        inverse = np.linalg.inv((F.T @ F).toarray() + delta * np.eye(300))
        theta = 1 / (values[:5] ** 2 + delta)
        assert self.run(F, norm, inverse, theta, V[:, :5], delta).complete
        theta = 1 / (values[1:6] ** 2 + delta)
        assert not self.run(F, norm, inverse, theta, V[:, :5], delta).complete

    def test_indefinite_and_infinite_preconditioners(self):
        F, norm, values, V = self.problem()
        rough = V[:, :4] + 1e-3 * np.random.default_rng(0).normal(size=(300, 4)) / 300**0.5
        result = self.run(
            F, norm, -np.eye(300), 1 / values[:4] ** 2, rough, 1e-15, residual_tol=np.inf
        )
        assert not result.converged
        assert result.angle == np.inf
        with pytest.raises(ValueError, match="broke down"):
            self.run(F, norm, np.full((300, 300), np.nan), 1 / values[:4] ** 2, rough, 1e-15)


def test_an_inverse_that_is_not_finite_is_an_error(monkeypatch):
    monkeypatch.setattr(SymmetricInverse, "apply", lambda self, X: X * np.nan)
    with pytest.raises((ValueError, np.linalg.LinAlgError)):
        fit(make_manifold("s-curve", 300), n_neighbors=10, method="ltsa")


def near_duplicates():
    X = make_manifold("swiss-roll", 330)
    twins = X[:30] + 1e-9 * np.random.default_rng(0).normal(size=(30, 3))
    return np.concatenate([X, twins])


def bent_grid():
    a, b = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 20))
    return np.column_stack([a.ravel(), b.ravel(), 0.2 * (a**2 + b**2).ravel()])


def thread():
    """Two rolls, and a thread of points from one to the other."""
    a, b = make_manifold("swiss-roll", 150), make_manifold("swiss-roll", 150, 1)
    b[:, 0] += 60
    s = np.linspace(0, 1, 40)[:, None]
    ends = a[a[:, 0].argmax()], b[b[:, 0].argmin()]
    line = (1 - s) * ends[0] + s * ends[1]
    return np.concatenate([a, b, line + 0.1 * np.random.default_rng(0).normal(size=line.shape)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [near_duplicates, bent_grid, thread])
def test_hard_data(make, method):
    X = make()
    F = stack(getattr(cpu, method)(X, reference.neighbors(X, 12), 2))
    values, V = reference.spectrum(F.toarray())
    model = fit(X, n_neighbors=12, method=method)
    assert model.spectrum_.converged
    np.testing.assert_allclose(model.spectrum_.values, values[:2], rtol=1e-8, atol=1e-13)
    if values[2] - values[1] > 1e-8:
        assert reference.sine(V[:, :2], model.embedding_) <= 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_a_threefold_eigenvalue_cut_in_two(method):
    """A sphere's first eigenvalue is threefold: any two of its vectors will do, and gap says so."""
    X = icosphere(3)
    F = stack(getattr(cpu, method)(X, reference.neighbors(X, 6), 2))
    values, V = reference.spectrum(F.toarray())
    model = fit(X, n_neighbors=6, method=method)
    assert model.spectrum_.converged
    np.testing.assert_allclose(model.spectrum_.values, values[:2], rtol=1e-8, atol=1e-13)
    close = int((values < values[1] * (1 + 1e-6)).sum())
    outside = model.embedding_ - V[:, :close] @ (V[:, :close].T @ model.embedding_)
    assert np.linalg.norm(outside) <= 1e-6
    assert close == 2 or model.spectrum_.gap <= 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_a_cube_of_five_dimensions(method):
    X = five_dimensional_manifold(2000)
    k, d = (25, 5) if method != "hessian" else (25, 3)
    model = fit(X, n_neighbors=k, n_components=d, method=method)
    assert model.spectrum_.converged
    M = gram(getattr(cpu, method)(X, reference.neighbors(X, k), d)).toarray()
    values, V = eigh(M, subset_by_index=[1, d])
    np.testing.assert_allclose(model.spectrum_.values**2, values, rtol=1e-6)
    assert reference.sine(V, model.embedding_) <= 1e-6


@pytest.mark.parametrize("method", ["standard", "modified", "ltsa"])
@pytest.mark.parametrize("q", [1, 10, 50])
def test_many_components_stay_sparse(method, q):
    X = make_manifold("digits", 1000)
    X += 0.1 * np.random.default_rng(0).normal(size=X.shape)
    k = 55
    model = fit(X, n_neighbors=k, n_components=q, method=method)
    assert model.spectrum_.converged
    assert "sparse LU" in model.spectrum_.solver
    M = gram(getattr(cpu, method)(X, reference.neighbors(X, k), q)).toarray()
    values, V = eigh(M, subset_by_index=[0, q + 1])
    np.testing.assert_allclose(model.spectrum_.values**2, values[1:-1], rtol=1e-6, atol=1e-13)
    if values[-1] - values[-2] > 1e-6 * values[-1]:
        outside = model.embedding_ - V[:, :-1] @ (V[:, :-1].T @ model.embedding_)
        assert np.linalg.norm(outside) <= 1e-5
