"""Eigenvalues of high multiplicity, whole and cut in two: cubes, tori, designs, exactly known."""

from __future__ import annotations

import functools
import itertools
import warnings
from math import comb

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.spectral.lanczos import lanczos
from lle_gpu.spectral.multiplicity import Found, further_copies, may_lack_copies

# The neighbours of each point are alike, and so are their weights: B = I - A / k, where A is the
# adjacency matrix of a Cayley graph, whose eigenvalues are sums of characters.


def cube(d):
    """Corners of a cube: sigma = 2 j / d, as often as j of d can be chosen."""
    X = np.array(list(itertools.product([0.0, 1.0], repeat=d)))
    values = [2 * j / d for j in range(d + 1)]
    return X, d, np.repeat(values, [comb(d, j) for j in range(d + 1)])


def design(d):
    """All words of d letters out of three, one-hot: sigma = 3 j / (2 d), 2^j times as often."""
    X = np.eye(3)[np.array(list(itertools.product(range(3), repeat=d)))].reshape(3**d, 3 * d)
    values = [3 * j / (2 * d) for j in range(d + 1)]
    return X, 2 * d, np.repeat(values, [comb(d, j) * 2**j for j in range(d + 1)])


def torus(m, d):
    """Products of d rings of m points each."""
    angle = 2 * np.pi * np.arange(m) / m
    ring = np.column_stack([np.cos(angle), np.sin(angle)])
    X = ring[np.array(list(itertools.product(range(m), repeat=d)))].reshape(m**d, 2 * d)
    values = [sum(c) / d for c in itertools.product(1 - np.cos(angle), repeat=d)]
    return X, 2 * d, np.sort(values)


@functools.cache
def made(name, *sizes):
    return {"cube": cube, "design": design, "torus": torus}[name](*sizes)


def assert_exact(shape, q, solver, random_state=None):
    X, k, values = made(*shape)
    X = np.column_stack([X, np.zeros((len(X), q))])  # n_components may not exceed the features
    model = LocallyLinearEmbedding(
        n_neighbors=k, n_components=q, eigen_solver=solver, random_state=random_state
    ).fit(X)
    spectrum, values = model.spectrum_, values[1:]
    assert spectrum.converged
    assert solver not in {"chebyshev", "shift-invert"} or "dense" not in spectrum.solver
    np.testing.assert_allclose(spectrum.values, values[:q], rtol=1e-6)
    assert spectrum.gap == pytest.approx(1 - values[q - 1] / values[q], abs=0.01)


@pytest.mark.filterwarnings(f"error::{ConvergenceWarning.__module__}.ConvergenceWarning")
class TestExact:
    @pytest.mark.parametrize("q", [8, 16, 17, 20])
    def test_auto_on_a_one_hot_design(self, q):
        """16 copies and then 112: the filter, as the fill is large."""
        assert_exact(("design", 8), q, "auto")

    @pytest.mark.parametrize(
        ("shape", "q"),
        [
            *((("cube", 10), q) for q in (8, 9, 10, 11, 12, 13)),
            *((("cube", 8), q) for q in (7, 8, 9)),
            *((("torus", 4, 4), q) for q in (8, 9)),
            *((("torus", 3, 6), q) for q in (11, 12, 13)),
        ],
    )
    @pytest.mark.parametrize("solver", ["shift-invert", "chebyshev"])
    def test_both_solvers(self, shape, q, solver):
        assert_exact(shape, q, solver)

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("solver", ["shift-invert", "chebyshev"])
    def test_any_seed(self, solver, seed):
        assert_exact(("cube", 10), 8, solver, seed)
        assert_exact(("cube", 9), 9, solver, seed)

    def test_a_gap_that_the_first_filter_does_not_reach(self):
        assert_exact(("cube", 11), 11, "chebyshev")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("shape", "k"), [(("torus", 6, 3), 13), (("torus", 4, 4), 16)])
def test_a_null_space_wider_than_the_block(shape, k, seed):
    """8 null vectors are found at once. The vectors that are left over from that run are good: they
    converge in the next one before the ninth null vector shows."""
    X = np.column_stack([made(*shape)[0], np.zeros((len(made(*shape)[0]), 9))])

    def solved(**options):
        model = LocallyLinearEmbedding(n_neighbors=k, n_components=9, method="ltsa", **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return model.fit(X).spectrum_

    dense = solved(eigen_solver="dense")
    assert (dense.values < 1e-13).sum() == 9
    filtered = solved(eigen_solver="chebyshev", random_state=seed)
    assert filtered.converged
    np.testing.assert_allclose(filtered.values, dense.values, atol=1e-12)
    assert filtered.gap == pytest.approx(dense.gap, abs=0.01)


@pytest.mark.parametrize(("shape", "q"), [(("cube", 11), 13), (("design", 8), 20)])
def test_a_cut_through_a_multiple_eigenvalue_ends_soon(shape, q):
    """Two filters, not a hundred restarts that wait for what rounding does not allow."""
    X, k, values = made(*shape)
    X = np.column_stack([X, np.zeros((len(X), q))])
    for seed in range(2):
        model = LocallyLinearEmbedding(
            n_neighbors=k, n_components=q, eigen_solver="chebyshev", random_state=seed
        )
        spectrum = model.fit(X).spectrum_
        assert spectrum.converged
        assert spectrum.n_iter < 20_000
        np.testing.assert_allclose(spectrum.values, values[1 : q + 1], rtol=1e-6)


class TestSearch:
    @pytest.mark.parametrize(
        ("values", "n_wanted", "width", "lacks"),
        [
            ([1.0] * 8 + [2], 8, 8, True),
            ([1.0] * 8 + [2], 8, 9, False),
            ([1.0] * 7 + [2, 3], 8, 8, False),
            ([1.0, 2, 2, 2, 5], 4, 3, True),
            ([1.0, 2, 2, 2.005, 5], 4, 3, True),
            ([1.0, 2, 2, 2.2, 5], 4, 3, False),
            ([1.0, 2, 2, 2], 3, 3, False),  # the cut is within the copies: the gap is 0 as it is
            ([1.0, 2], 1, 1, True),
            ([1.0, 2], 1, 8, False),
            ([1.0], 0, 1, False),
        ],
    )
    def test_when_it_is_needed(self, values, n_wanted, width, lacks):
        assert may_lack_copies(np.array(values), n_wanted, width) is lacks

    @pytest.mark.parametrize(
        ("copies", "following", "q"), [(10, 30, 8), (25, 30, 17), (25, 3, 27), (9, 1, 9)]
    )
    def test_finds_them_all(self, copies, following, q):
        """A = diag(1 / sigma^2), from what a block of 8 sees of it."""
        sigma = np.r_[np.full(copies, 0.2), np.full(following, 0.4), np.linspace(0.5, 1, 300)]
        n = len(sigma)

        def rayleigh_ritz(V):
            Q, _ = np.linalg.qr(V)
            _, s, Zt = np.linalg.svd(sigma[:, None] * Q, full_matrices=False)
            return s[::-1], Q @ Zt[::-1].T

        # 8 of each, and then what comes next.
        seen = np.r_[:8, copies : copies + min(8, following), copies + following : n][: q + 1]
        found = Found(sigma[seen], np.eye(n)[:, seen], sigma[seen] ** -2.0)
        run = functools.partial(
            lanczos,
            lambda X: X / sigma[:, None] ** 2,
            tol=1e-8,
            residual_tol=1e-11,
            max_restarts=100,
        )
        whole = further_copies(
            run, rayleigh_ritz, np.random.RandomState(0), np.zeros((n, 0)), found
        )
        assert whole.converged
        assert whole.n_steps > 0
        np.testing.assert_allclose(whole.values, sigma[: q + 1], rtol=0.01)
        np.testing.assert_allclose(whole.values[:q], sigma[:q], rtol=1e-8)
        np.testing.assert_allclose(whole.theta[:q], sigma[:q] ** -2.0, rtol=1e-8)
        V = whole.vectors[:, :q]
        np.testing.assert_allclose(V.T @ V, np.eye(q), atol=1e-10)
        assert np.linalg.norm(sigma[:, None] ** 2 * V - V * whole.values[:q] ** 2) <= 1e-7

    def test_nothing_to_find_is_one_short_run(self):
        sigma = np.r_[np.full(8, 0.2), np.linspace(0.4, 1, 300)]
        found = Found(sigma[:9], np.eye(308)[:, :9], sigma[:9] ** -2.0)
        runs = []

        def run(start, n_wanted, **options):
            runs.append(n_wanted)
            return lanczos(
                lambda X: X / sigma[:, None] ** 2,
                start,
                n_wanted,
                tol=1e-8,
                residual_tol=1e-11,
                max_restarts=100,
                **options,
            )

        whole = further_copies(
            run,
            lambda V: (np.linalg.norm(sigma[:, None] * V, axis=0) / np.linalg.norm(V, axis=0), V),
            np.random.RandomState(0),
            np.zeros((308, 0)),
            found,
        )
        assert runs == [0]
        np.testing.assert_allclose(whole.values, sigma[:9], rtol=1e-12)
