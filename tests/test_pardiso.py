"""MKL's factors beside dense algebra and SuperLU's, and what happens without them."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import warnings

import numpy as np
import pytest
import reference
from conftest import METHODS, make_manifold, two_clusters
from scipy.sparse import csr_array, eye_array, random_array

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.constraints import cpu as constraints
from lle_gpu.constraints.cpu.assemble import gram
from lle_gpu.progress import StageTimes, report_to
from lle_gpu.spectral.cpu import pardiso, shift_invert
from lle_gpu.spectral.cpu.factorisation import Factorisation
from lle_gpu.spectral.cpu.pardiso import Pardiso, PardisoError, find_mkl
from lle_gpu.spectral.cpu.shift_invert import SquareInverse, SymmetricInverse, factorise

pytestmark = pytest.mark.mkl
needs_mkl = pytest.mark.skipif(find_mkl() is None, reason="MKL is not installed ([fast-cpu])")


def matrix(n=300, symmetric=False):
    """Random and sparse, with a strong diagonal."""
    A = random_array((n, n), density=0.02, random_state=0, format="csr")
    A = A + A.T if symmetric else A
    return csr_array(A + 3 * eye_array(n))


def sine(A, B):
    """Largest sine between the spans of orthonormal columns."""
    return np.linalg.norm(A - B @ (B.T @ A), 2)


def fit(X, **parameters):
    parameters = {"n_neighbors": 12, "n_components": 2, "device": "cpu"} | parameters
    return LocallyLinearEmbedding(eigen_solver="shift-invert", **parameters).fit(X)


@pytest.fixture
def always(monkeypatch):
    """MKL also for small matrices."""
    monkeypatch.setattr(shift_invert, "MKL_NONZEROS", 0)


@pytest.fixture
def not_installed(monkeypatch):
    for module in (pardiso, shift_invert):
        monkeypatch.setattr(module, "find_mkl", lambda: None)


@needs_mkl
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("n_jobs", [1, 2])
class TestSolutions:
    def test_both_ways(self, symmetric, n_jobs):
        A = matrix(symmetric=symmetric)
        factors = Pardiso(A, shift=0.0, symmetric=symmetric, n_jobs=n_jobs)
        dense = A.toarray()
        for b in (np.arange(300.0), np.random.default_rng(0).standard_normal((300, 3))):
            for rows in (b, np.asfortranarray(b), b[::-1]):
                given = rows.copy()
                np.testing.assert_allclose(
                    factors.solve(rows), np.linalg.solve(dense, rows), atol=1e-12
                )
                np.testing.assert_allclose(
                    factors.solve(rows, transposed=True),
                    np.linalg.solve(dense.T, rows),
                    atol=1e-12,
                )
                np.testing.assert_array_equal(rows, given)

    def test_the_shift(self, symmetric, n_jobs):
        A = matrix(symmetric=symmetric)
        factors = Pardiso(A, shift=0.5, symmetric=symmetric, n_jobs=n_jobs)
        shifted = A.toarray() + 0.5 * abs(A).max() * np.eye(300)
        b = np.ones(300)
        np.testing.assert_allclose(factors.solve(b), np.linalg.solve(shifted, b), atol=1e-12)

    def test_rows_in_any_order_and_holes_in_the_diagonal(self, symmetric, n_jobs):
        """And the matrix that was given stays as it was."""
        dense = matrix(symmetric=symmetric).toarray()
        dense[7] = dense[:, 7] = 0.0
        holed = csr_array(dense)
        row = np.repeat(np.arange(300), np.diff(holed.indptr))
        order = np.lexsort((-holed.indices, row))
        A = csr_array((holed.data[order], holed.indices[order], holed.indptr), shape=holed.shape)
        assert not A.has_sorted_indices
        factors = Pardiso(A, shift=0.1, symmetric=symmetric, n_jobs=n_jobs)
        shifted = dense + 0.1 * dense.max() * np.eye(300)
        b = np.ones(300)
        np.testing.assert_allclose(factors.solve(b), np.linalg.solve(shifted, b), atol=1e-12)
        np.testing.assert_array_equal(A.toarray(), dense)

    def test_the_same_bits_again(self, symmetric, n_jobs):
        A = matrix(2000, symmetric)
        b = np.random.default_rng(0).standard_normal((2000, 3))
        first, second = (
            Pardiso(A, shift=1e-14, symmetric=symmetric, n_jobs=n_jobs).solve(b) for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)

    def test_what_is_said(self, symmetric, n_jobs):
        A = csr_array(eye_array(50) * 2.0)
        factors = Pardiso(A, shift=0.0, symmetric=symmetric, n_jobs=n_jobs)
        assert 1 <= factors.fill <= 2, "L and U, or L and D, of a diagonal matrix"
        full = csr_array(np.ones((200, 200)) + 200 * np.eye(200))
        factors = Pardiso(full, shift=0.0, symmetric=symmetric, n_jobs=n_jobs)
        assert factors.fill >= (200 * 201 / 2 if symmetric else 200 * 200) / 200
        assert factors.bytes >= 8 * 200 * 201 / 2


@needs_mkl
class TestManners:
    def test_two_at_once_keep_apart_and_give_their_memory_back(self):
        A, B = matrix(), matrix(200, symmetric=True)
        first = Pardiso(A, shift=0.0, symmetric=False, n_jobs=1)
        second = Pardiso(B, shift=0.0, symmetric=True, n_jobs=1)
        handle, release = second._handle, second._release
        assert handle.any() and release.alive
        del second
        gc.collect()
        assert not release.alive
        b = np.ones(300)
        np.testing.assert_allclose(first.solve(b), np.linalg.solve(A.toarray(), b), atol=1e-12)

    def test_memory_comes_back(self):
        mkl = find_mkl()
        mkl.MKL_Mem_Stat.restype = ctypes.c_int64

        def held():
            gc.collect()
            mkl.MKL_Free_Buffers()
            return mkl.MKL_Mem_Stat(ctypes.byref(ctypes.c_int(0)))

        A = matrix(2000)
        Pardiso(A, shift=0.0, symmetric=False, n_jobs=1)
        before = held()
        factors = Pardiso(A, shift=0.0, symmetric=False, n_jobs=1)
        assert held() >= before + 8 * 2000, "the count counts"
        del factors
        assert held() <= before + 10_000

    def test_threads_of_others_are_left_as_they_are(self, monkeypatch):
        mkl = find_mkl()
        used = []
        real = pardiso._pardiso

        def spied(*arguments):
            used.append(mkl.MKL_Get_Max_Threads())
            return real(*arguments)

        monkeypatch.setattr(pardiso, "_pardiso", spied)
        before = mkl.MKL_Set_Num_Threads_Local(ctypes.c_int(3))
        try:
            Pardiso(matrix(), shift=0.0, symmetric=False, n_jobs=2).solve(np.ones(300))
            assert mkl.MKL_Set_Num_Threads_Local(ctypes.c_int(3)) == 3
        finally:
            mkl.MKL_Set_Num_Threads_Local(ctypes.c_int(before))
        assert used[:3] == [2, 2, 2]

    def test_from_several_threads(self):
        A = matrix(1000)
        b = np.random.default_rng(0).standard_normal((1000, 2))
        expected = np.linalg.solve(A.toarray(), b)
        wrong = []

        def work():
            for _ in range(5):
                found = Pardiso(A, shift=0.0, symmetric=False, n_jobs=1).solve(b)
                if not np.allclose(found, expected, atol=1e-10):
                    wrong.append(found)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


@needs_mkl
@pytest.mark.parametrize("method", METHODS)
def test_fits_are_those_of_superlu(method, monkeypatch):
    X = make_manifold("swiss-roll", 1500)
    expected = fit(X, method=method)
    assert "sparse LU of " in expected.spectrum_.solver
    monkeypatch.setattr(shift_invert, "MKL_NONZEROS", 0)
    model = fit(X, method=method)
    of = "B = I - W" if method == "standard" else "M = F^T F"
    assert f"MKL PARDISO's factors of {of}, " in model.spectrum_.solver
    assert model.spectrum_.converged
    assert sine(model.embedding_, expected.embedding_) <= 1e-7
    np.testing.assert_allclose(model.spectrum_.values, expected.spectrum_.values, rtol=1e-7)


@needs_mkl
def test_graphs_in_pieces(monkeypatch):
    """B has null vectors beside the constant, on the right and on the left."""
    X = two_clusters(150)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = fit(X, n_components=3)
        monkeypatch.setattr(shift_invert, "MKL_NONZEROS", 0)
        model = fit(X, n_components=3)
    assert "MKL" in model.spectrum_.solver and "MKL" not in expected.spectrum_.solver
    assert 2 == model.spectrum_.n_null == expected.spectrum_.n_null
    assert sine(model.embedding_, expected.embedding_) <= 1e-6


@needs_mkl
class TestFallingBack:
    def test_small_factors_are_superlus(self):
        assert isinstance(factorise(matrix(), shift=0.0, symmetric=False), Factorisation)

    def test_large_ones_are_mkls_without_a_dissection(self, monkeypatch):
        monkeypatch.setattr(shift_invert, "WHOLE", 1000)
        monkeypatch.setattr(shift_invert, "choose_elimination", _refuses_to_dissect)
        A = matrix(2000)
        assert isinstance(factorise(A, shift=0.0, symmetric=False), Pardiso)

    def test_inaccurate_factors_are_superlus(self, always, monkeypatch):
        monkeypatch.setattr(pardiso, "BACKWARD_ERROR", 0.0)
        times = StageTimes()
        with report_to(times):
            factors = factorise(matrix(), shift=0.0, symmetric=False)
        assert isinstance(factors, Factorisation)
        assert any("SuperLU instead of MKL: inaccurate" in text for text in times.notes)

    def test_errors_are_told(self, always, monkeypatch):
        monkeypatch.setattr(pardiso, "_pardiso", lambda *_: -4)
        with pytest.raises(PardisoError, match="error -4"):
            Pardiso(matrix(), shift=0.0, symmetric=False, n_jobs=1)
        assert isinstance(factorise(matrix(), shift=0.0, symmetric=False), Factorisation)

    def test_out_of_memory_is_out_of_memory(self, always, monkeypatch):
        """The other solver answers it: SuperLU would need more."""
        monkeypatch.setattr(pardiso, "_pardiso", lambda *_: -2)
        with pytest.raises(MemoryError, match="not enough memory"):
            factorise(matrix(), shift=0.0, symmetric=False)

    def test_too_many_entries(self, monkeypatch):
        monkeypatch.setattr(pardiso, "MOST_ENTRIES", 100)
        with pytest.raises(PardisoError, match="more than 32-bit integers count"):
            Pardiso(matrix(), shift=0.0, symmetric=False, n_jobs=1)


def _refuses_to_dissect(A, otherwise=None):
    assert otherwise is not None
    from lle_gpu.spectral.cpu.ordering import Elimination

    return Elimination(None, otherwise(A))


class TestWithoutMkl:
    def test_fits(self, not_installed, always):
        model = fit(make_manifold("swiss-roll", 600))
        assert "sparse LU of B" in model.spectrum_.solver
        assert model.spectrum_.converged

    def test_the_class_says_so(self, not_installed):
        with pytest.raises(PardisoError, match="not installed"):
            Pardiso(matrix(), shift=0.0, symmetric=False, n_jobs=1)

    def test_an_environment_that_has_none(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(pardiso.site, "getuserbase", lambda: str(tmp_path))
        assert find_mkl.__wrapped__() is None
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "libmkl_rt.so.2").write_text("no library")
        assert find_mkl.__wrapped__() is None

    @needs_mkl
    def test_integers_of_64_bits_are_not_ours(self, monkeypatch):
        """As where other code in the process has set them."""

        class Library:
            pardiso = type("Function", (), {})()

            def __init__(self, path):
                pass

            def MKL_Set_Interface_Layer(self, wanted):  # noqa: N802
                return 1

        monkeypatch.setattr(pardiso.ctypes, "CDLL", Library)
        assert find_mkl.__wrapped__() is None


@needs_mkl
def test_inverses(always):
    """Of B on the complement of its null vectors, and of M."""
    X = make_manifold("s-curve", 400)
    index = reference.neighbors(X, 10).astype(np.int32)
    one = np.full((400, 1), 400**-0.5)
    v = np.random.default_rng(0).standard_normal((400, 2))
    v -= one @ (one.T @ v)
    from lle_gpu.constraints.cpu.assemble import stack

    for method in ("standard", "ltsa"):
        rows = getattr(constraints, method)(X, index, 2)
        B = stack(rows)
        inverse = SquareInverse(B) if method == "standard" else SymmetricInverse(gram(rows))
        assert "MKL" in inverse.description
        inverse.deflate(one)
        found = inverse.apply(v)
        found -= one @ (one.T @ found)
        true = np.linalg.pinv((B.T @ B).toarray(), rcond=1e-13, hermitian=True)
        values = np.linalg.eigvalsh((B.T @ B).toarray())
        assert values[1] > 1e-10, "the reference itself is right"
        np.testing.assert_allclose(found, true @ v, atol=1e-4 * np.abs(true @ v).max())
