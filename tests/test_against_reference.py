"""All four methods against the independent dense reference, and against peers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference
from conftest import MANIFOLDS, METHODS, make_manifold
from sklearn.datasets import make_s_curve, make_swiss_roll
from sklearn.manifold import LocallyLinearEmbedding as ScikitLearnLLE

from lle_gpu import LocallyLinearEmbedding

NEIGHBORS = (5, 8, 12, 20, 30)
COMPONENTS = (1, 2, 3, 5, 10)
# A space is determined if the values around the cut differ by more than rounding.
UNDETERMINED = 1e-11


def fit(X, **parameters):
    with warnings.catch_warnings():
        # Small k on digits and on sparse rolls leaves points unreferenced: warned about, rightly.
        warnings.simplefilter("ignore", UserWarning)
        return LocallyLinearEmbedding(**parameters).fit(X)


@pytest.mark.parametrize("k", NEIGHBORS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("manifold", MANIFOLDS)
def test_bottom_space_is_the_reference_s(manifold, method, k):
    X = make_manifold(manifold)
    index = reference.neighbors(X, k)
    compared = 0
    for d in COMPONENTS:
        if d > X.shape[1] or k < reference.LEAST_K[method](d):
            continue
        F = reference.ROWS[method](X, index, d)
        values, V = reference.spectrum(F)
        model = fit(X, n_neighbors=k, n_components=d, method=method)
        spectrum, Y = model.spectrum_, model.embedding_
        np.testing.assert_allclose(Y.T @ Y, np.eye(d), atol=1e-12)
        np.testing.assert_allclose(Y.sum(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(spectrum.values, values[:d], atol=1e-11 * np.sqrt(k))
        assert np.linalg.norm(F @ Y) ** 2 == pytest.approx(
            model.reconstruction_error_, rel=1e-6, abs=1e-20
        )
        assert spectrum.converged
        assert spectrum.residuals.max() <= 1e-10
        if values[d] - values[d - 1] <= UNDETERMINED:
            # Both are null vectors: any will do, and the certificate says so.
            assert values[d] < UNDETERMINED
            assert spectrum.gap == 0
            assert spectrum.n_null > d + 1
            continue
        assert reference.sine(V[:, :d], Y) <= 1e-6
        compared += 1
    # k=5 has room for hessian with d=1 only, where points of degree 0 may leave nothing to compare.
    assert compared > 0 or k <= 8


@pytest.mark.parametrize("solver", ["dense", "shift-invert"])
@pytest.mark.parametrize("method", METHODS)
def test_solvers_agree_with_the_reference(method, solver):
    X = make_manifold("s-curve", 300)
    values, V = reference.spectrum(reference.ROWS[method](X, reference.neighbors(X, 10), 2))
    model = fit(X, n_neighbors=10, method=method, eigen_solver=solver)
    assert solver.split("-")[0] in model.spectrum_.solver
    assert reference.sine(V[:, :2], model.embedding_) <= 1e-6
    # One by one, too: the values are distinct here.
    for j in range(2):
        assert abs(V[:, j] @ model.embedding_[:, j]) == pytest.approx(1, abs=1e-9)
    expected_gap = (values[2] - values[1]) / values[2]
    assert model.spectrum_.gap == pytest.approx(expected_gap, rel=1e-2)


@pytest.mark.parametrize("manifold", ["swiss-roll", "s-curve"])
@pytest.mark.parametrize(("method", "k"), [("standard", 12), ("ltsa", 10)])
def test_scikit_learn_gives_the_same(manifold, method, k):
    X = make_manifold(manifold, 500)
    theirs = ScikitLearnLLE(n_neighbors=k, method=method, eigen_solver="dense", random_state=0).fit(
        X
    )
    ours = fit(X, n_neighbors=k, method=method)
    # Their eigensolver works on M and loses half of the digits.
    assert reference.sine(theirs.embedding_, ours.embedding_) <= 1e-5
    assert ours.reconstruction_error_ == pytest.approx(theirs.reconstruction_error_, rel=1e-4)


def test_scikit_learn_gives_the_same_for_modified():
    # At the point whose ratio is the median, rounding decides their s_i: an even n has no such
    # point, and with k > d they take the complete null space as we do.
    X = make_manifold("swiss-roll", 500)
    theirs = ScikitLearnLLE(n_neighbors=12, method="modified", eigen_solver="dense").fit(X)
    ours = fit(X, n_neighbors=12, method="modified")
    assert reference.sine(theirs.embedding_, ours.embedding_) <= 1e-5


@pytest.mark.parametrize("manifold", ["swiss-roll", "swiss-hole", "s-curve"])
@pytest.mark.parametrize("k", [8, 12])
def test_tapkee_gives_the_same_hessian(manifold, k):
    tapkee = pytest.importorskip("tapkee", reason="extra [test] brings tapkee")
    X = make_manifold(manifold, 500)
    theirs = tapkee.embed(
        np.asfortranarray(X.T),
        method="hlle",
        num_neighbors=k,
        target_dimension=2,
        eigen_method="dense",
        neighbors_method="brute",
    )
    ours = fit(X, n_neighbors=k, method="hessian")
    assert reference.sine(theirs, ours.embedding_) <= 1e-5


def test_scikit_learn_s_hessian_is_ltsa_and_ours_is_not():
    X = make_manifold("swiss-roll", 500)
    theirs = ScikitLearnLLE(n_neighbors=12, method="hessian", eigen_solver="dense").fit(X)
    ltsa = fit(X, n_neighbors=12, method="ltsa")
    hessian = fit(X, n_neighbors=12, method="hessian")
    assert reference.sine(theirs.embedding_, ltsa.embedding_) <= 1e-5
    assert reference.sine(theirs.embedding_, hessian.embedding_) > 1e-3


def arc_length(t):
    return 0.5 * (t * np.sqrt(1 + t * t) + np.arcsinh(t))


# Relative affine residual to the true coordinates, n=1000, median of three seeds.
YARDSTICK = {
    ("swiss-roll", 8): {"standard": 0.178, "modified": 0.016, "ltsa": 0.0061, "hessian": 0.0052},
    ("swiss-hole", 8): {"standard": 0.209, "modified": 0.016, "ltsa": 0.0049, "hessian": 0.0039},
    ("s-curve", 12): {"standard": 0.097, "modified": 0.0053, "ltsa": 0.0035, "hessian": 0.0037},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("manifold", "k"), YARDSTICK)
def test_true_coordinates_are_recovered(manifold, k, method):
    residuals = []
    for seed in range(3):
        if manifold == "s-curve":
            X, t = make_s_curve(1000, random_state=seed)
            along = t  # the S is made of two unit half circles
        else:
            X, t = make_swiss_roll(1000, hole=manifold == "swiss-hole", random_state=seed)
            along = arc_length(t)
        Y = fit(X, n_neighbors=k, method=method).embedding_
        residuals.append(reference.affine_residual(Y, np.column_stack([along, X[:, 1]])))
    # The figures are given with two or three digits.
    assert np.median(residuals) <= 1.03 * YARDSTICK[manifold, k][method]
