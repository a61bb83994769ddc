"""Lanczos, the inverses, the certificate: against dense algebra, on easy and hard spectra."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference
from conftest import METHODS, make_manifold, two_clusters
from scipy.sparse import csr_array, eye_array
from scipy.spatial import ConvexHull
from sklearn.exceptions import ConvergenceWarning

from lle_gpu import DisconnectedGraphWarning, LocallyLinearEmbedding
from lle_gpu.constraints import cpu
from lle_gpu.constraints.cpu.assemble import gram, stack
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.spectral.cpu import bottom_vectors
from lle_gpu.spectral.cpu.certify import norm_estimate, rayleigh_ritz
from lle_gpu.spectral.cpu.shift_invert import Factorisation, SquareInverse, SymmetricInverse
from lle_gpu.spectral.lanczos import lanczos

RNG = np.random.default_rng(0)


def icosphere(subdivisions):
    """Nearly uniform points on the unit sphere, symmetric under the icosahedron's rotations."""
    golden = (1 + 5**0.5) / 2
    corners = np.array([[0, a, b * golden] for a in (-1, 1) for b in (-1, 1)], dtype=float)
    points = np.concatenate([np.roll(corners, shift, axis=1) for shift in range(3)])
    faces = ConvexHull(points).simplices
    for _ in range(subdivisions):
        a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
        points = np.unique(
            np.round(np.concatenate([points, (a + b) / 2, (b + c) / 2, (c + a) / 2]), 12), axis=0
        )
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        points = np.unique(np.round(points, 12), axis=0)
        faces = ConvexHull(points).simplices
    return points


def symmetric(values):
    """Dense symmetric matrix with the given eigenvalues; its eigenvectors."""
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(len(values), len(values))))[0]
    return (Q * values) @ Q.T, Q


def run(A, n_wanted, *, block=None, keep_out=None, tol=1e-8, max_restarts=50, **options):
    n = len(A)
    width = n_wanted + 1 if block is None else block
    return lanczos(
        lambda X: A @ X,
        np.random.default_rng(2).normal(size=(n, width)),
        n_wanted,
        keep_out=np.empty((n, 0)) if keep_out is None else keep_out,
        tol=tol,
        residual_tol=np.inf,
        max_restarts=max_restarts,
        **options,
    )


class TestLanczos:
    @pytest.mark.parametrize(
        ("values", "n_wanted"),
        [(np.linspace(1, 2, 200), q) for q in (1, 2, 5, 20)]
        + [(np.geomspace(1, 1e12, 200), q) for q in (1, 2, 5, 20)]
        + [(np.r_[np.ones(195), 2, 3, 4, 5, 6], q) for q in (1, 2, 5)],
        ids=[f"{kind}-{q}" for kind in ("even", "geometric") for q in (1, 2, 5, 20)]
        + [f"few-outliers-{q}" for q in (1, 2, 5)],
    )
    def test_largest_pairs(self, values, n_wanted):
        A, Q = symmetric(values)
        result = run(A, n_wanted)
        assert result.converged
        top = np.argsort(values)[::-1]
        np.testing.assert_allclose(result.values[:n_wanted], values[top[:n_wanted]], rtol=1e-10)
        assert reference.sine(Q[:, top[:n_wanted]], result.vectors[:, :n_wanted]) <= 1e-7
        np.testing.assert_allclose(result.values[n_wanted], values[top[n_wanted]], rtol=1e-2)

    @pytest.mark.parametrize("multiplicity", [2, 3, 4])
    def test_multiple_eigenvalues_come_whole(self, multiplicity):
        values = np.r_[np.linspace(1, 2, 150), [5.0] * multiplicity]
        A, Q = symmetric(values)
        result = run(A, multiplicity)
        np.testing.assert_allclose(result.values[:multiplicity], 5, rtol=1e-12)
        assert reference.sine(Q[:, 150:], result.vectors[:, :multiplicity]) <= 1e-8

    def test_eigenvalues_closer_than_1e_minus_6(self):
        values = np.r_[np.linspace(0.1, 1, 150), 2.0, 2.0 * (1 + 1e-7), 2.0 * (1 + 2e-7)]
        A, Q = symmetric(values)
        result = run(A, 3)
        assert reference.sine(Q[:, 150:], result.vectors[:, :3]) <= 1e-8

    def test_kept_out_vectors_stay_out(self):
        values = np.linspace(1, 2, 100)
        A, Q = symmetric(values)
        result = run(A, 2, keep_out=Q[:, -3:])
        np.testing.assert_allclose(result.values[:2], values[-5:-3][::-1])
        np.testing.assert_allclose(Q[:, -3:].T @ result.vectors, 0, atol=1e-13)

    def test_small_bases_restart_and_converge(self):
        values = np.geomspace(1, 1e3, 300)
        A, Q = symmetric(values)
        result = run(A, 2, max_basis=18)
        assert result.converged
        assert result.n_steps > 18 // 3
        assert reference.sine(Q[:, -2:], result.vectors[:, :2]) <= 1e-7

    def test_exhausted_space_is_exact(self):
        values = np.arange(1.0, 8)
        A, _ = symmetric(values)
        result = run(A, 5)
        assert result.converged
        np.testing.assert_allclose(result.values[:5], [7, 6, 5, 4, 3])

    def test_rank_one_operator(self):
        A, Q = symmetric(np.r_[np.zeros(49), 1.0])
        result = run(A, 1)
        assert result.converged
        assert reference.sine(Q[:, -1:], result.vectors[:, :1]) <= 1e-8

    def test_no_restart_left_is_said(self):
        A, _ = symmetric(np.linspace(1, 1.01, 400))
        result = run(A, 2, max_restarts=1)
        assert not result.converged
        assert result.angle > 1e-8


class TestInverses:
    @pytest.mark.parametrize("method", METHODS)
    def test_apply_inverts_m_on_the_complement_of_its_null_space(self, method):
        X = make_manifold("s-curve", 250)
        c = getattr(cpu, method)(X, reference.neighbors(X, 10), 2)
        F = stack(c)
        inverse = SquareInverse(F) if method == "standard" else SymmetricInverse(gram(c))
        ones = np.full((250, 1), 250**-0.5)
        inverse.deflate(ones)
        x = RNG.normal(size=(250, 3))
        x -= x.mean(axis=0)
        y = inverse.apply(x)
        y -= y.mean(axis=0)
        back = F.T @ (F @ y)
        np.testing.assert_allclose(back, x, atol=1e-8 * np.abs(y).max())
        expected = np.linalg.pinv((F.T @ F).toarray(), rcond=1e-13, hermitian=True) @ x
        assert np.linalg.norm(y - expected) <= 1e-5 * np.linalg.norm(expected)

    def test_the_left_null_vector_is_one(self):
        X = make_manifold("swiss-roll", 300)
        B = stack(cpu.standard(X, reference.neighbors(X, 8), 2))
        inverse = SquareInverse(B)
        inverse.deflate(np.full((300, 1), 300**-0.5))
        assert np.linalg.norm(B.T @ inverse._left) <= 1e-12

    def test_singular_matrices_are_refused(self):
        A = csr_array(np.zeros((5, 5)))
        with pytest.raises(ValueError, match="sparse LU factorisation broke down"):
            Factorisation(A, shift=1e-15, pivot=0.0)

    def test_weak_pivots_are_found_out(self):
        # Tiny diagonal, large off-diagonal entries: without pivoting the LU is useless.
        n = 60
        A = csr_array(eye_array(n) * 1e-17 + eye_array(n, k=1) + eye_array(n, k=-1)).tocsr()
        lu = Factorisation(A, shift=1e-20, pivot=0.0)
        b = RNG.normal(size=(n, 1))
        np.testing.assert_allclose(A @ lu.solve(b), b, atol=1e-10)
        np.testing.assert_allclose(A.T @ lu.solve(b, transposed=True), b, atol=1e-10)


class TestCertificate:
    def test_norm(self):
        F = csr_array(RNG.normal(size=(80, 50)))
        true = np.linalg.norm(F.toarray(), 2)
        assert 0.8 * true <= norm_estimate(F, 20) <= true * (1 + 1e-12)
        assert norm_estimate(csr_array((4, 3))) == 0

    def test_rayleigh_ritz_sorts_and_rotates(self):
        F = csr_array(np.diag([3.0, 1.0, 2.0, 5.0]))
        V = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
        values, vectors = rayleigh_ritz(F, np.vstack([V, np.zeros((1, 3))]))
        np.testing.assert_allclose(values, [1, 2, 3])
        np.testing.assert_allclose(np.abs(vectors), np.eye(4)[:, [1, 2, 0]], atol=1e-12)

    @pytest.mark.parametrize("method", METHODS)
    def test_residuals_are_recomputed_from_f(self, method):
        X = make_manifold("s-curve", 300)
        index = reference.neighbors(X, 9)
        F = reference.ROWS[method](X, index, 2)
        model = LocallyLinearEmbedding(n_neighbors=9, method=method).fit(X)
        Y, sigma = model.embedding_, model.spectrum_.values
        true = np.linalg.norm(F.T @ (F @ Y) - Y * sigma**2, axis=0) / np.linalg.norm(F, 2) ** 2
        np.testing.assert_allclose(model.spectrum_.residuals, true, rtol=0.5, atol=2e-15)

    def test_not_converged_is_a_warning_and_is_recorded(self):
        X = np.random.default_rng(0).normal(size=(900, 20))  # no manifold: a crowded spectrum
        with pytest.warns(ConvergenceWarning, match="max_iter=1 restarts.*larger max_iter"):
            model = LocallyLinearEmbedding(
                n_neighbors=15, max_iter=1, reg=1e-2, eigen_solver="arpack"
            ).fit(X)
        assert not model.spectrum_.converged
        assert "NOT CONVERGED" in str(model.spectrum_)

    def test_converged_reads_well(self):
        spectrum = LocallyLinearEmbedding(n_neighbors=8).fit(make_manifold("s-curve")).spectrum_
        assert str(spectrum).startswith("converged")
        assert "sparse LU of B = I - W" in str(spectrum)
        assert spectrum.error == pytest.approx((spectrum.values**2).sum())


class TestBelowTheRoundingOfM:
    """On curves sigma^2 falls below eps ||M||: an inverse of M alone then says nothing."""

    def helix(self, n):
        t = np.sort(np.random.RandomState(0).uniform(0, 20, n))
        return np.column_stack([np.cos(t), np.sin(t), t / 10])

    @pytest.mark.parametrize(("method", "d"), [("ltsa", 2), ("hessian", 1)])
    def test_refinement_finds_it(self, method, d):
        X = self.helix(900)
        model = LocallyLinearEmbedding(n_neighbors=11, n_components=d, method=method).fit(X)
        assert "sparse LU" in model.spectrum_.solver
        assert model.spectrum_.converged
        F = reference.ROWS[method](X, reference.neighbors(X, 11), d)
        values, V = reference.spectrum(F)
        assert values[0] ** 2 < 1e-13
        assert reference.sine(V[:, :d], model.embedding_) < 1e-6

    def test_failures_on_few_points_are_solved_densely(self):
        X = np.random.default_rng(0).normal(size=(900, 20))
        model = LocallyLinearEmbedding(n_neighbors=15, max_iter=1, reg=1e-2).fit(X)
        assert "dense SVD of F, since shift-invert failed: max_iter=1" in model.spectrum_.solver
        assert model.spectrum_.converged

    def nearly_equal_points(self):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((200, 4))
        twins = [X + 1e-11 * rng.standard_normal(X.shape) for _ in range(2)]
        return np.concatenate([X, *twins]), {"n_neighbors": 8, "method": "modified"}

    def harmonics(self):
        t = np.linspace(0, 1, 700)[:, None]
        X = np.hstack([np.cos(j * t) for j in range(1, 6)])
        return X, {"n_neighbors": 12, "n_components": 5, "method": "ltsa"}

    @pytest.mark.filterwarnings("ignore::lle_gpu.DisconnectedGraphWarning")
    @pytest.mark.parametrize("make", [nearly_equal_points, harmonics])
    @pytest.mark.parametrize("solver", ["auto", "dense"])
    def test_what_rounding_turns_is_certified_by_no_solver(self, make, solver):
        """The order of the points is nothing to the problem, but it changes the rounding."""
        X, parameters = make(self)
        shuffled = np.random.default_rng(1).permutation(len(X))
        with pytest.warns(ConvergenceWarning, match="so near that rounding.*turns the vectors"):
            one = LocallyLinearEmbedding(eigen_solver=solver, **parameters).fit(X)
            two = LocallyLinearEmbedding(eigen_solver=solver, **parameters).fit(X[shuffled])
        assert reference.sine(one.embedding_[shuffled], two.embedding_) > 1e-6
        assert not one.spectrum_.converged
        assert not two.spectrum_.converged
        assert "dense SVD" in one.spectrum_.solver

    @pytest.mark.parametrize("solver", ["auto", "arpack", "davidson", "chebyshev"])
    def test_nor_with_a_square_f(self, solver):
        """With next to no ridge, linear projections of X are solutions up to 1e-13."""
        X = make_manifold("swiss-roll", 400)
        shuffled = np.random.default_rng(1).permutation(len(X))
        parameters = {"n_neighbors": 12, "reg": 1e-12, "eigen_solver": solver}
        with pytest.warns(ConvergenceWarning):
            one = LocallyLinearEmbedding(**parameters).fit(X)
            two = LocallyLinearEmbedding(**parameters).fit(X[shuffled])
        assert reference.sine(one.embedding_[shuffled], two.embedding_) > 1e-6
        assert not one.spectrum_.converged
        assert not two.spectrum_.converged

    @pytest.mark.parametrize("d", [2, 3])
    @pytest.mark.parametrize("seed", range(3))
    def test_a_tiny_value_does_not_hide_the_others(self, seed, d):
        """sigma_1 is 1e-11, and the rounding in the inverse as large as 1 / sigma_3^2."""
        X = np.random.default_rng(seed).uniform(size=(260, 3)) * [1e6, 1, 1e-3]
        c = cpu.standard(X, reference.neighbors(X, 12), d, reg=1e-9)
        values, V = reference.spectrum(stack(c).toarray())
        assert 1e-12 < values[0] < 1e-10 < 1e7 * values[0] < values[d]
        model = LocallyLinearEmbedding(
            n_neighbors=12, n_components=d, reg=1e-9, eigen_solver="arpack"
        ).fit(X)
        assert model.spectrum_.converged
        assert reference.sine(V[:, :d], model.embedding_) <= 1e-6
        np.testing.assert_allclose(model.spectrum_.values, values[:d], rtol=1e-4)

    @pytest.mark.filterwarnings("ignore::lle_gpu.DisconnectedGraphWarning")
    def test_the_dense_solver_is_not_its_own_way_out(self):
        X, parameters = self.nearly_equal_points()
        X = X[np.r_[0:60, 200:260, 400:460]]
        with pytest.warns(ConvergenceWarning, match="so near that rounding"):
            model = LocallyLinearEmbedding(**parameters).fit(X)
        assert model.spectrum_.solver == "dense SVD of F, n=180 is at most 200"

    def test_a_multiple_value_cut_in_two_is_no_failure_of_the_dense_solver(self):
        angle = 2 * np.pi * np.arange(150) / 150
        X = np.column_stack([np.cos(angle), np.sin(angle)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = LocallyLinearEmbedding(n_neighbors=6, n_components=1).fit(X)
        assert model.spectrum_.converged
        assert model.spectrum_.solver.startswith("dense")
        assert model.spectrum_.gap < 1e-9

    @pytest.mark.parametrize("solver", ["auto", "arpack"])
    @pytest.mark.parametrize("n", [250, 400, 550, 700, 850])
    def test_what_is_certified_is_right(self, n, solver):
        X = self.helix(n)
        _, V = reference.spectrum(reference.ltsa_rows(X, reference.neighbors(X, 11), 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = LocallyLinearEmbedding(n_neighbors=11, method="ltsa", eigen_solver=solver)
            model.fit(X)
        sine = reference.sine(V[:, :2], model.embedding_)
        assert sine <= 1e-6 or not model.spectrum_.converged


class TestNullSpace:
    def test_each_closed_class_is_a_null_vector_of_b(self):
        X = two_clusters()
        index = reference.neighbors(X, 8)
        classes = closed_classes(index)
        F = reference.ROWS["standard"](X, index, 2)
        values = np.linalg.svd(F, compute_uv=False)
        assert (values < 1e-10).sum() == len(classes) == 2
        with pytest.warns(DisconnectedGraphWarning, match="2 closed classes"):
            model = LocallyLinearEmbedding(n_neighbors=8, n_components=3).fit(X)
        assert model.spectrum_.n_null == 2
        assert model.spectrum_.converged
        reference_values, V = reference.spectrum(F)
        assert reference.sine(V[:, :3], model.embedding_) <= 1e-6
        np.testing.assert_allclose(model.spectrum_.values, reference_values[:3], atol=1e-12)
        # The first coordinate is constant on each cluster.
        assert np.ptp(model.embedding_[:150, 0]) < 1e-6

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("solver", ["arpack", "chebyshev", "dense"])
    def test_more_points_without_constraints_than_coordinates(self, solver):
        """The first value left out is that of a null vector, and so there is no gap."""
        X = np.random.default_rng(0).normal(size=(268, 21))
        X[:5, 0] += 1e4
        spectrum = LocallyLinearEmbedding(
            n_neighbors=8, method="hessian", eigen_solver=solver
        ).fit(X).spectrum_  # fmt: skip
        assert spectrum.n_null > 3
        assert spectrum.gap == 0

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("solver", ["arpack", "dense"])
    def test_a_null_vector_that_is_left_out(self, solver):
        """Beside as many as are wanted: M's rounding hides that its value is none."""
        X = 1e-3 * np.random.default_rng(0).normal(size=(210, 3))
        X[:, 0] += np.arange(210) // 6
        spectrum = LocallyLinearEmbedding(
            n_neighbors=4, n_components=3, method="modified", eigen_solver=solver
        ).fit(X).spectrum_  # fmt: skip
        assert spectrum.converged
        assert spectrum.n_null == 5
        assert spectrum.gap == 0

    def test_more_classes_than_coordinates(self):
        X = np.concatenate([make_manifold("s-curve", 60, seed) + 100 * seed for seed in range(5)])
        with pytest.warns(DisconnectedGraphWarning, match="5 closed classes"):
            model = LocallyLinearEmbedding(n_neighbors=6, n_components=2).fit(X)
        assert model.spectrum_.n_null == 5
        assert model.spectrum_.gap == 0
        F = reference.ROWS["standard"](X, reference.neighbors(X, 6), 2)
        assert np.linalg.norm(F @ model.embedding_) < 1e-10

    @pytest.mark.parametrize("method", ["modified", "ltsa", "hessian"])
    def test_two_clusters_with_the_other_methods(self, method):
        X = two_clusters()
        index = reference.neighbors(X, 9)
        F = reference.ROWS[method](X, index, 2)
        values, V = reference.spectrum(F)
        with pytest.warns(DisconnectedGraphWarning, match="2 closed classes"):
            model = LocallyLinearEmbedding(n_neighbors=9, method=method, n_components=2).fit(X)
        assert model.spectrum_.n_null == 1 + (values < 1e-10).sum()
        assert reference.sine(V[:, :2], model.embedding_) <= 1e-6

    @pytest.mark.parametrize("method", ["ltsa", "hessian"])
    def test_a_null_vector_does_not_swamp_the_others(self, method):
        # One point that nothing holds: 1 / delta = 1e15 beside eigenvalues of the inverse near 1.
        X = make_manifold("digits", 350)
        X[11] += 1000
        F = reference.ROWS[method](X, reference.neighbors(X, 24), 4)
        values, V = reference.spectrum(F)
        with pytest.warns(DisconnectedGraphWarning, match="among no other point's"):
            model = LocallyLinearEmbedding(
                n_neighbors=24, n_components=4, method=method, eigen_solver="arpack"
            ).fit(X)
        assert values[0] < 1e-12
        assert values[1] > 1e-2
        np.testing.assert_allclose(model.spectrum_.values[1:], values[1:4], rtol=1e-10)
        assert reference.sine(V[:, :4], model.embedding_) <= 1e-7

    @pytest.mark.parametrize("solver", ["arpack", "chebyshev", "dense"])
    @pytest.mark.parametrize("method", ["ltsa", "hessian"])
    def test_all_points_in_no_constraint_are_counted(self, method, solver):
        X = np.random.default_rng(0).standard_normal((500, 10))
        index = reference.neighbors(X, 12)
        unheld = np.flatnonzero(np.bincount(index.ravel(), minlength=500) == 0)
        F = reference.ROWS[method](X, index, 2)
        assert len(unheld) > 5
        assert not F[:, unheld].any()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = LocallyLinearEmbedding(n_neighbors=12, method=method, eigen_solver=solver)
            spectrum = model.fit(X).spectrum_
        assert spectrum.converged
        assert spectrum.n_null == 1 + len(unheld)
        assert spectrum.gap == 0
        assert np.linalg.norm(F @ model.embedding_) < 1e-12

    @pytest.mark.parametrize("solver", ["shift-invert", "chebyshev"])
    def test_few_points_in_no_constraint_leave_room_for_others(self, solver):
        X = make_manifold("swiss-roll", 400)
        X[[3, 7, 11]] += np.diag([400, 500, 600])
        index = reference.neighbors(X, 10)
        classes = closed_classes(index)
        np.testing.assert_array_equal(classes.unreferenced, [3, 7, 11])
        true, T = reference.spectrum(reference.ROWS["ltsa"](X, index, 2))
        V, spectrum = bottom_vectors(
            cpu.ltsa(X, index, 2), 5, square=False, classes=classes, solver=solver
        )
        assert spectrum.converged
        assert spectrum.n_null == 4
        np.testing.assert_allclose(spectrum.values, true[:5], rtol=1e-9, atol=1e-12)
        assert reference.sine(T[:, :5], V) <= 1e-6

    @pytest.mark.parametrize("solver", ["shift-invert", "chebyshev"])
    def test_nobodys_neighbour_is_held_where_it_has_a_row_of_its_own(self, solver):
        X = make_manifold("swiss-roll", 300)
        X[7] = [500, 500, 500]
        index = reference.neighbors(X, 10)
        V, spectrum = bottom_vectors(
            cpu.modified(X, index, 2), 2, square=False, classes=closed_classes(index), solver=solver
        )
        assert spectrum.n_null == 1
        _, T = reference.spectrum(reference.ROWS["modified"](X, index, 2))
        assert reference.sine(T[:, :2], V) <= 1e-6

    def test_flat_data_have_their_coordinates_as_null_vectors(self):
        X = np.column_stack([RNG.uniform(size=(400, 2)), np.zeros(400)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = LocallyLinearEmbedding(n_neighbors=12, method="ltsa").fit(X)
        assert model.spectrum_.n_null == 3
        assert model.spectrum_.gap > 0.9
        assert reference.affine_residual(model.embedding_, X[:, :2]) < 1e-9

    def test_points_that_are_nobodys_neighbour(self):
        X = make_manifold("swiss-roll", 300)
        X[7] = [500, 500, 500]
        with pytest.warns(DisconnectedGraphWarning, match="1 point.*rows 7.*'ltsa'"):
            LocallyLinearEmbedding(n_neighbors=10, method="ltsa").fit(X)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            LocallyLinearEmbedding(n_neighbors=10, method="modified").fit(X)

    def test_more_null_vectors_than_coordinates_are_said(self):
        # Without a ridge k > d neighbours rebuild X exactly: its coordinates are null vectors.
        X = make_manifold("swiss-roll", 400)
        with pytest.warns(UserWarning, match=r"F has at least 4 null vectors.*n_components=2"):
            model = LocallyLinearEmbedding(n_neighbors=12, reg=0).fit(X)
        assert model.spectrum_.gap == 0


def test_symmetric_data_keep_their_multiple_eigenvalues():
    """A ring: all eigenvalues come in pairs, and both of a pair belong to the embedding."""
    angle = 2 * np.pi * np.arange(400) / 400
    X = np.column_stack([np.cos(angle), np.sin(angle)])
    model = LocallyLinearEmbedding(n_neighbors=6, n_components=2, eigen_solver="arpack").fit(X)
    assert model.spectrum_.values[0] == pytest.approx(model.spectrum_.values[1], rel=1e-6)
    assert reference.affine_residual(model.embedding_, X) < 1e-6
    assert model.spectrum_.gap > 0.5


@pytest.mark.parametrize("n_components", [3, 8])
def test_a_sphere_keeps_its_threefold_and_fivefold_eigenvalues(n_components):
    """Vertices of a subdivided icosahedron: spherical harmonics of degree 1 (3) and 2 (5)."""
    X = icosphere(3)
    model = LocallyLinearEmbedding(n_neighbors=6, n_components=3, eigen_solver="arpack").fit(X)
    assert reference.affine_residual(model.embedding_, X) < 0.02
    x, y, z = X.T
    degree_2 = np.column_stack([x * y, y * z, z * x, x * x - y * y, 2 * z * z - x * x - y * y])
    wide = np.column_stack([X, np.zeros((len(X), 5))])  # n_components may not exceed the features
    model = LocallyLinearEmbedding(
        n_neighbors=6, n_components=n_components, eigen_solver="arpack", reg=1e-2
    ).fit(wide)
    harmonics = np.column_stack([X, degree_2])[:, :n_components]
    assert reference.affine_residual(model.embedding_, harmonics) < 0.1
    assert model.spectrum_.gap > 0.3


def test_matrix_and_rows_give_the_same_m():
    X = make_manifold("swiss-hole", 200)
    c = cpu.ltsa(X, reference.neighbors(X, 9), 2)
    F = stack(c)
    np.testing.assert_allclose((F.T @ F).toarray(), gram(c).toarray(), atol=1e-12)
    with pytest.raises(ValueError, match="no neighbourhood gives"):
        bottom_vectors(
            type(c)(c.index, np.zeros_like(c.rows)),
            2,
            square=False,
            classes=closed_classes(c.index),
            solver="shift-invert",
        )
