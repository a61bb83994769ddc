"""Products with F, F^T and M, M itself, and polynomials in M: against SciPy and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from conftest import METHODS, make_manifold
from numpy.testing import assert_allclose, assert_array_equal

from lle_gpu.constraints import Constraints, cpu
from lle_gpu.constraints.cpu import assemble as cpu_assemble
from lle_gpu.cuda.compiler import source_text
from lle_gpu.spectral.chebyshev import ChebyshevFilter
from lle_gpu.spectral.gpu import products as products_module
from lle_gpu.spectral.gpu.assemble import gram, stack
from lle_gpu.spectral.gpu.normals import Normals
from lle_gpu.spectral.gpu.products import GRAPH_STEPS, Products
from lle_gpu.spectral.gpu.sparse import LONG, SOURCE, Csr, Rows

RNG = np.random.default_rng(0)
WIDTHS = (1, 3, 8, 33, 40)


def constraints_of(n, r, m, *, dtype=float, hub=False):
    """Random constraints; with a hub, point 0 is in every index set."""
    rng = np.random.default_rng(n + r + m)
    index = np.array([rng.choice(n, size=m, replace=False) for _ in range(n)], dtype=np.int32)
    if hub:
        for row in index:
            if 0 not in row:
                row[rng.integers(m)] = 0
    return Constraints(index, rng.normal(size=(n, r, m)).astype(dtype))


def on_device(cp, constraints):
    return Constraints(cp.asarray(constraints.index), cp.asarray(constraints.rows))


def dense(constraints):
    """F, entry by entry."""
    n, r, m = constraints.rows.shape
    F = np.zeros((n * r, n))
    for i in range(n):
        for s in range(r):
            for a in range(m):
                F[i * r + s, constraints.index[i, a]] += constraints.rows[i, s, a]
    return F


def of_method(method, n=60, k=8):
    X = make_manifold("swiss-roll", n)
    return getattr(cpu, method)(X, reference.neighbors(X, k).astype(np.int32), 2)


SIZES = [(1, 1, 1), (2, 1, 2), (7, 1, 3), (40, 1, 5), (31, 4, 6), (33, 9, 9), (300, 1, 2)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_f_and_its_transpose(gpu, size, dtype):
    cp = gpu.cupy
    constraints = constraints_of(*size, dtype=dtype)
    F, D = Rows(on_device(cp, constraints)), dense(constraints)
    tol = 1e-13 if dtype == np.float64 else 1e-4
    for b in WIDTHS:
        X = RNG.normal(size=(F.shape[1], b)).astype(dtype)
        Y = RNG.normal(size=(F.shape[0], b)).astype(dtype)
        assert_allclose(gpu.to_numpy(F.multiply(cp.asarray(X))), D @ X, atol=tol)
        assert_allclose(gpu.to_numpy(F.multiply_transposed(cp.asarray(Y))), D.T @ Y, atol=tol)
    assert (F.shape, F.nnz) == (D.shape, constraints.rows.size)


@pytest.mark.parametrize("points", [slice(0, 5), slice(5, 31), slice(30, 31), slice(7, 7)])
def test_some_points_rows(gpu, points):
    cp = gpu.cupy
    constraints = constraints_of(31, 4, 6)
    X = RNG.normal(size=(31, 3))
    part = Rows(on_device(cp, constraints)).multiply(cp.asarray(X), points)
    whole = dense(constraints) @ X
    assert_allclose(gpu.to_numpy(part), whole[4 * points.start : 4 * points.stop], atol=1e-13)


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_in_any_order(gpu, order):
    cp = gpu.cupy
    constraints = constraints_of(40, 1, 5)
    F, D = Rows(on_device(cp, constraints)), dense(constraints)
    X = np.asarray(RNG.normal(size=(40, 8)), order=order)
    wide = cp.asarray(np.asarray(RNG.normal(size=(40, 20)), order=order))
    assert_allclose(gpu.to_numpy(F.multiply(cp.asarray(X))), D @ X, atol=1e-13)
    assert_allclose(gpu.to_numpy(F.multiply(wide[:, 4:12])), D @ gpu.to_numpy(wide)[:, 4:12])
    M = Products(F)
    assert_allclose(gpu.to_numpy(M.multiply(wide[:, 4:12])), D.T @ D @ gpu.to_numpy(wide)[:, 4:12])


@pytest.mark.parametrize("above", [LONG - 1, LONG, LONG + 1, 3 * LONG])
@pytest.mark.parametrize("r", [1, 2])
def test_hubs(gpu, above, r):
    """A column with as many entries as one thread takes, and more."""
    cp = gpu.cupy
    constraints = constraints_of(above, r, 2, hub=True)
    F, D = Rows(on_device(cp, constraints)), dense(constraints)
    assert int(F.by_column[2].size) == (above > LONG)
    for b in (1, 8, 33):
        Y = RNG.normal(size=(F.shape[0], b))
        Z = F.multiply_transposed(cp.asarray(Y))
        assert_allclose(gpu.to_numpy(Z), D.T @ Y, atol=1e-11)
        if r == 1:
            transposed = F.transposed()
            assert_allclose(gpu.to_numpy(transposed.multiply(cp.asarray(Y))), D.T @ Y, atol=1e-11)


def test_the_kernels_long_rows_are_the_wrappers():
    assert f"constexpr int LONG = {LONG};" in source_text(SOURCE)


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_f_and_m(gpu, method):
    cp = gpu.cupy
    constraints = of_method(method)
    F = stack(on_device(cp, constraints))
    M = gram(on_device(cp, constraints))
    D = dense(constraints)
    host = cpu_assemble.gram(constraints, 1)
    assert_allclose(F.to_host().toarray(), cpu_assemble.stack(constraints).toarray())
    assert_allclose(M.to_host().toarray(), host.toarray(), atol=1e-12)
    assert_allclose(M.to_host().toarray(), D.T @ D, atol=1e-12)
    X = RNG.normal(size=(60, 8))
    assert_allclose(gpu.to_numpy(M.multiply(cp.asarray(X))), host @ X, atol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("slabs", ["one", "many"])
def test_gram(gpu, size, slabs, monkeypatch):
    cp = gpu.cupy
    constraints = constraints_of(*size, hub=size[0] > 2)
    if slabs == "many":
        monkeypatch.setattr("lle_gpu.spectral.gpu.assemble.LARGEST_SLAB_BYTES", 2000)
    M = gram(on_device(cp, constraints))
    D = dense(constraints)
    host = M.to_host()
    assert_allclose(host.toarray(), D.T @ D, atol=1e-11)
    assert_array_equal(host.toarray(), host.toarray().T)  # symmetric to the last bit
    assert (np.diff(host.indptr) > 0).all()
    for row in range(size[0]):
        columns = host.indices[host.indptr[row] : host.indptr[row + 1]]
        assert (np.diff(columns) > 0).all()  # in order, each once
        assert row in columns


def test_a_point_in_no_constraint_has_a_place_on_the_diagonal(gpu):
    cp = gpu.cupy
    index = np.array([[1, 2], [2, 1], [1, 2], [1, 2]], dtype=np.int32)
    rows = np.ones((4, 1, 2))
    M = gram(on_device(cp, Constraints(index, rows)))
    assert_array_equal(gpu.to_numpy(M.values), [0.0, 4.0, 4.0, 4.0, 4.0, 0.0])
    assert_array_equal(gpu.to_numpy(M.columns), [0, 1, 2, 1, 2, 3])


def test_int64_indices(gpu):
    cp = gpu.cupy
    constraints = constraints_of(20, 1, 4)
    wide = Constraints(constraints.index.astype(np.int64), constraints.rows)
    X = RNG.normal(size=(20, 2))
    Y = Rows(on_device(cp, wide)).multiply(cp.asarray(X))
    assert_allclose(gpu.to_numpy(Y), dense(constraints) @ X, atol=1e-13)


class TestCsr:
    def matrix(self, cp, shape=(50, 30), density=0.2):
        rng = np.random.default_rng(5)
        D = rng.normal(size=shape) * (rng.random(shape) < density)
        D[3] = 0.0
        rows, columns = np.nonzero(D)
        first = np.searchsorted(rows, np.arange(shape[0] + 1))
        A = Csr(
            cp.asarray(D[rows, columns]),
            cp.asarray(columns.astype(np.int32)),
            cp.asarray(first),
            shape,
        )
        return A, D

    def test_products_and_transposes(self, gpu):
        cp = gpu.cupy
        A, D = self.matrix(cp)
        X, Y = RNG.normal(size=(30, 4)), RNG.normal(size=(50, 4))
        assert_allclose(gpu.to_numpy(A.multiply(cp.asarray(X))), D @ X, atol=1e-13)
        T = A.transposed()
        assert T.shape == (30, 50)
        assert_allclose(gpu.to_numpy(T.multiply(cp.asarray(Y))), D.T @ Y, atol=1e-13)
        assert_array_equal(A.to_host().toarray(), D)
        assert_array_equal(T.to_host().toarray(), D.T)
        assert A.largest() == np.abs(D).max()


@pytest.mark.parametrize("capture", [True, False], ids=["graph", "plain"])
class TestProducts:
    @pytest.fixture(autouse=True)
    def capturing(self, request, capture, monkeypatch):
        if not capture:
            monkeypatch.setattr(products_module, "_captured", lambda launch: None)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("degree", [2, GRAPH_STEPS, 2 * GRAPH_STEPS + 2, 100])
    def test_a_filter(self, gpu, capture, method, degree):
        cp = gpu.cupy
        constraints = of_method(method)
        F = cpu_assemble.stack(constraints)
        device = on_device(cp, constraints)
        square = method == "standard"
        M = Products(Rows(device), None if square else gram(device))
        assert M.description == ("F and F^T" if square else "M")
        high = 1.05 * np.linalg.norm(F.toarray(), 2) ** 2
        X = RNG.normal(size=(60, 3))
        on_host = ChebyshevFilter(lambda X: F.T @ (F @ X), high / 50, high, degree)
        p = ChebyshevFilter(M.multiply, high / 50, high, degree, M.recur)
        assert_allclose(gpu.to_numpy(p.apply(cp.asarray(X))), on_host.apply(X), atol=1e-11)
        # A filter that only multiplies gives the same.
        plain = ChebyshevFilter(M.multiply, high / 50, high, degree)
        assert_allclose(gpu.to_numpy(plain.apply(cp.asarray(X))), on_host.apply(X), atol=1e-11)

    @pytest.mark.parametrize("hub", [False, True])
    def test_many_calls(self, gpu, capture, hub):
        """Widths and lengths change, and what was captured is used again where they do not."""
        cp = gpu.cupy
        n = LONG + 5 if hub else 40
        constraints = constraints_of(n, 1, 5, hub=hub)
        D = dense(constraints) / np.linalg.norm(dense(constraints), 2)
        constraints = Constraints(
            constraints.index, D[np.arange(n)[:, None], constraints.index][:, None]
        )
        M = Products(Rows(on_device(cp, constraints)))
        M_host = D.T @ D
        columns = 0
        rng = np.random.default_rng(1)
        calls = [(3, 70), (3, 70), (3, 64), (3, 1100), (8, 1), (8, 33), (1, 96)]
        for b, steps in calls[: 3 if hub else None]:
            C = rng.normal(size=(steps, 3)) / 2
            C[0, 2] = 0.0
            X = rng.normal(size=(n, b))
            before, now = np.zeros_like(X), X
            for alpha, beta, gamma in C:
                before, now = now, alpha * M_host @ now + beta * now + gamma * before
            Y = gpu.to_numpy(M.recur(cp.asarray(X), C))
            assert_allclose(Y, now, rtol=1e-9, atol=1e-12 * np.abs(now).max())
            columns += b * steps
        assert M.columns == columns

    def test_the_same_bits_each_time(self, gpu, capture):
        cp = gpu.cupy
        X = cp.asarray(RNG.normal(size=(3 * LONG, 4)))
        C = RNG.normal(size=(50, 3)) / 40
        C[0, 2] = 0.0
        constraints = constraints_of(3 * LONG, 1, 2, hub=True)
        once, again = (
            gpu.to_numpy(Products(Rows(on_device(cp, constraints))).recur(X, C)) for _ in range(2)
        )
        assert_array_equal(once, again)

    def test_the_result_is_not_the_workspace(self, gpu, capture):
        cp = gpu.cupy
        M = Products(Rows(on_device(cp, constraints_of(40, 1, 5))))
        C = np.array([[1.0, 0.5, 0.0]])
        X = cp.asarray(RNG.normal(size=(40, 2)))
        first = M.recur(X, C)
        kept = gpu.to_numpy(first)
        M.recur(2 * X, C)
        assert_array_equal(gpu.to_numpy(first), kept)


def test_a_graph_is_captured_once_and_launched_for_the_rest(stand_in):
    """Three runs of steps cost one capture; what is launched is the same as without."""
    cp, machine = stand_in.cupy, stand_in.machine
    M = Products(Rows(on_device(cp, constraints_of(40, 1, 5))))
    C = np.full((3 * GRAPH_STEPS + 5, 3), 0.1)
    C[0, 2] = 0.0
    captured = []
    begin = cp.cuda.Stream.begin_capture

    def counting(self, mode=None):
        captured.append(1)
        return begin(self, mode)

    cp.cuda.Stream.begin_capture = counting
    try:
        for _ in range(2):
            machine.launches.clear()
            M.recur(cp.asarray(RNG.normal(size=(40, 2))), C)
            steps = [name for name in machine.launches if "chebyshev_step" in name]
            assert len(steps) == 3 * GRAPH_STEPS + 5
    finally:
        cp.cuda.Stream.begin_capture = begin
    assert len(captured) == 1


def test_a_capture_that_fails_is_done_without(stand_in, monkeypatch):
    """A launch fails with the driver's error, which is not the runtime's."""
    cp = stand_in.cupy

    class CUDADriverError(RuntimeError):
        pass

    def failing(self, mode=None):
        raise CUDADriverError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")

    monkeypatch.setattr(cp.cuda.Stream, "begin_capture", failing)
    C = np.full((GRAPH_STEPS + 5, 3), 0.1)
    C[0, 2] = 0.0
    F, X = on_device(cp, constraints_of(40, 1, 5)), cp.asarray(RNG.normal(size=(40, 2)))
    found = stand_in.to_numpy(Products(Rows(F)).recur(X, C))
    monkeypatch.setattr(products_module, "_captured", lambda launch: None)
    assert (found == stand_in.to_numpy(Products(Rows(F)).recur(X, C))).all()


def test_where_nothing_can_be_captured_steps_are_launched_one_by_one(stand_in, monkeypatch):
    cp = stand_in.cupy
    M = Products(Rows(on_device(cp, constraints_of(40, 1, 5))))
    C = np.full((GRAPH_STEPS, 3), 0.1)
    C[0, 2] = 0.0
    X = cp.asarray(RNG.normal(size=(40, 2)))
    with_graph = stand_in.to_numpy(M.recur(X, C))

    def refused(self, mode=None):
        raise cp.cuda.runtime.CUDARuntimeError(900)

    monkeypatch.setattr(cp.cuda.Stream, "begin_capture", refused)
    without = stand_in.to_numpy(Products(Rows(on_device(cp, constraints_of(40, 1, 5)))).recur(X, C))
    assert_array_equal(without, with_graph)


@pytest.mark.parametrize("r", [2, 3])
def test_products_of_an_f_that_is_not_square_need_m(stand_in, r):
    F = Rows(on_device(stand_in.cupy, constraints_of(20, r, 4)))
    with pytest.raises(ValueError, match=f"r={r}"):
        Products(F)
    with pytest.raises(ValueError, match=f"r={r}"):
        F.transposed()


class TestNormals:
    def test_mean_variance_and_independence(self, gpu):
        x = gpu.to_numpy(Normals(np.random.RandomState(3)).standard_normal((5000, 4)))
        n = x.size
        assert abs(x.mean()) <= 4 / n**0.5
        assert abs(x.var() - 1) <= 4 * (2 / n) ** 0.5
        assert abs((x**4).mean() - 3) <= 0.3
        assert np.abs(np.corrcoef(x.T) - np.eye(4)).max() <= 4 / 5000**0.5
        assert len(np.unique(x)) == n

    def test_a_stream_goes_on_and_a_seed_starts_it_anew(self, gpu):
        whole = gpu.to_numpy(Normals(np.random.RandomState(3)).standard_normal((8, 2)))
        stream = Normals(np.random.RandomState(3))
        parts = [gpu.to_numpy(stream.standard_normal((4, 2))) for _ in range(2)]
        assert_array_equal(np.concatenate(parts), whole)
        other = gpu.to_numpy(Normals(np.random.RandomState(4)).standard_normal((8, 2)))
        assert not (whole == other).any()

    @pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 1), (513, 1)])
    def test_sizes(self, gpu, shape):
        x = gpu.to_numpy(Normals(np.random.RandomState(0)).standard_normal(shape))
        assert x.shape == shape
        assert np.isfinite(x).all()
