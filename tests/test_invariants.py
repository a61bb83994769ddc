"""What must not depend on how the data are presented, on random data (hypothesis)."""

from __future__ import annotations

import warnings

import numpy as np
import reference
from conftest import METHODS
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.constraints import cpu
from lle_gpu.constraints.cpu.assemble import stack
from lle_gpu.neighbors.cpu import NeighborSearch

settings.register_profile(
    "lle_gpu", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lle_gpu")

methods = st.sampled_from(METHODS)
seeds = st.integers(0, 2**31)


@st.composite
def manifolds(draw):
    """A smooth random surface in 3 to 6 dimensions, 60 to 260 points, sometimes noisy."""
    rng = np.random.default_rng(draw(seeds))
    n = draw(st.integers(60, 260))
    d = draw(st.integers(3, 6))
    u = rng.uniform(-1, 1, size=(n, 2))
    bent = np.column_stack([u, np.sin(u * draw(st.floats(0.5, 3))), u**2, u[:, :1] * u[:, 1:]])
    X = bent @ rng.normal(size=(bent.shape[1], d))
    return X + draw(st.sampled_from([0.0, 1e-3])) * rng.normal(size=X.shape)


def fit(X, method, k):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return LocallyLinearEmbedding(n_neighbors=k, n_components=2, method=method).fit(X)


def assume_well_determined(model):
    """Rounding of the changed data moves the space by about eps ||F|| / (distance to the next)."""
    s = model.spectrum_
    assume(s.n_null == 1 and s.gap > 0.05 and s.values[-1] > 1e-7)


@given(manifolds(), methods, st.integers(8, 15), seeds, st.floats(0.01, 100))
@settings(max_examples=60)
def test_translation_rotation_and_scale_leave_the_embedding(X, method, k, seed, scale):
    model = fit(X, method, k)
    assume_well_determined(model)
    rng = np.random.default_rng(seed)
    rotation = ortho_group.rvs(X.shape[1], random_state=seed % 2**31)
    moved = scale * (X @ rotation) + rng.normal(size=X.shape[1]) * scale
    assert reference.sine(model.embedding_, fit(moved, method, k).embedding_) < 1e-6


@given(manifolds(), methods, st.integers(8, 15), seeds)
@settings(max_examples=60)
def test_permuting_the_rows_permutes_the_embedding(X, method, k, seed):
    model = fit(X, method, k)
    assume_well_determined(model)
    order = np.random.default_rng(seed).permutation(len(X))
    permuted = fit(X[order], method, k).embedding_
    assert reference.sine(model.embedding_[order], permuted) < 1e-6


@given(manifolds(), methods, st.integers(8, 15))
@settings(max_examples=60)
def test_constants_satisfy_every_constraint(X, method, k):
    index = NeighborSearch(X, k).kneighbors(return_distance=False)
    F = stack(getattr(cpu, method)(X, index, 2))
    assert np.abs(F @ np.ones(len(X))).max() <= 1e-12 * abs(F).max()


@given(manifolds(), st.integers(3, 20), st.sampled_from([0.0, 1e-9, 1e-3, 10.0]))
@settings(max_examples=60)
def test_weights_sum_to_one_and_move_with_the_data(X, k, reg):
    index = NeighborSearch(X, k).kneighbors(return_distance=False)
    w = cpu.barycentric_weights(X, X, index, reg=reg)
    assert np.isfinite(w).all()
    np.testing.assert_allclose(w.sum(axis=1), 1, atol=1e-9)
    if reg >= 1e-3:
        moved = cpu.barycentric_weights(3 * X + 5, 3 * X + 5, index, reg=reg)
        np.testing.assert_allclose(moved, w, atol=1e-7)


@given(manifolds(), st.sampled_from(["ltsa", "hessian"]), st.integers(8, 15))
@settings(max_examples=30)
def test_affine_functions_of_flat_data_satisfy_every_constraint(X, method, k):
    flat = np.column_stack([X[:, :2], np.zeros((len(X), 2))])
    index = NeighborSearch(flat, k).kneighbors(return_distance=False)
    F = stack(getattr(cpu, method)(flat, index, 2))
    assert np.abs(F @ flat[:, :2]).max() <= 1e-9 * np.abs(flat).max() * abs(F).max()


@given(manifolds(), methods, st.integers(8, 15))
@settings(max_examples=40)
def test_every_fit_is_certified_or_says_so(X, method, k):
    model = fit(X, method, k)
    Y, s = model.embedding_, model.spectrum_
    np.testing.assert_allclose(Y.T @ Y, np.eye(2), atol=1e-12)
    assert (np.diff(s.values) >= 0).all()
    assert s.converged
    assert s.residuals.max() <= 1e-10
    assert 0 <= s.gap <= 1
    np.testing.assert_array_equal(model.transform(X), Y)
