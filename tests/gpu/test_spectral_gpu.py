"""The bottom of the spectrum on the GPU: the CPU's vectors and certificate, by every solver."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import reference
import scipy.sparse
from conftest import METHODS, make_manifold, two_clusters
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from lle_gpu.constraints import Constraints, cpu
from lle_gpu.constraints.cpu import assemble as cpu_assemble
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.spectral import chebyshev
from lle_gpu.spectral import cpu as cpu_spectral
from lle_gpu.spectral import gpu as gpu_spectral
from lle_gpu.spectral.cpu import certify as cpu_certify
from lle_gpu.spectral.cpu.products import Products as CpuProducts
from lle_gpu.spectral.gpu import certify, cudss
from lle_gpu.spectral.gpu.assemble import stack
from lle_gpu.spectral.gpu.normals import Normals
from lle_gpu.spectral.gpu.products import Products, SquareProducts
from lle_gpu.spectral.gpu.sparse import Rows

SOLVERS = ("auto", "shift-invert", "chebyshev", "dense")


@pytest.fixture(autouse=True)
def asked_anew():
    cudss.forget()
    yield
    cudss.forget()


def problem(X, k, method, q, **options):
    index = reference.neighbors(X, k).astype(np.int32)
    return getattr(cpu, method)(X, index, q, **options), closed_classes(index)


def on_device(cp, constraints):
    return Constraints(cp.asarray(constraints.index), cp.asarray(constraints.rows))


def solved(backend, constraints, classes, q, method, **options):
    if backend is cpu_spectral:  # SciPy sorts the rows of its F, which shares their memory
        constraints = Constraints(constraints.index, constraints.rows.copy())
    return backend.bottom_vectors(
        constraints, q, square=method == "standard", classes=classes, n_jobs=1, **options
    )


def assert_certified(V, spectrum, constraints):
    """The certificate is what F says about the vectors, computed anew and densely."""
    F = cpu_assemble.stack(constraints).toarray()
    norm = np.linalg.norm(F, 2)
    assert spectrum.converged
    assert_allclose(np.linalg.norm(F @ V, axis=0), spectrum.values, rtol=1e-6, atol=1e-14)
    missed = np.linalg.norm(F.T @ (F @ V) - V * spectrum.values**2, axis=0) / norm**2
    assert_allclose(spectrum.residuals, missed, rtol=0.2, atol=1e-15)
    assert missed.max() <= 1e-10
    assert_allclose(V.T @ V, np.eye(V.shape[1]), atol=1e-12)
    assert_allclose(V.sum(axis=0), 0, atol=1e-11)
    assert (V[np.abs(V).argmax(axis=0), range(V.shape[1])] > 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_cpus_vectors(gpu, method, solver):
    X = make_manifold("swiss-roll", 300)
    constraints, classes = problem(X, 10, method, 2)
    V, spectrum = solved(
        gpu_spectral, on_device(gpu.cupy, constraints), classes, 2, method, solver=solver
    )
    V = gpu.to_numpy(V)
    on_cpu, theirs = solved(cpu_spectral, constraints, classes, 2, method, solver=solver)
    assert reference.sine(on_cpu, V) <= 1e-6
    assert_certified(V, spectrum, constraints)
    assert_allclose(spectrum.values, theirs.values, rtol=1e-8)
    assert (spectrum.n_null, spectrum.gap) == (theirs.n_null, pytest.approx(theirs.gap, abs=0.01))
    if solver != "auto":
        assert solver.split("-")[0] in spectrum.solver.lower()


@pytest.mark.parametrize("q", [1, 3])
def test_davidson(gpu_once, q):
    X = np.random.default_rng(0).uniform(size=(300, 5))
    constraints, classes = problem(X, 14, "standard", q)
    V, spectrum = solved(
        gpu_spectral,
        on_device(gpu_once.cupy, constraints),
        classes,
        q,
        "standard",
        solver="davidson",
    )
    assert spectrum.solver.startswith("Davidson's method with a polynomial")
    on_cpu, theirs = solved(cpu_spectral, constraints, classes, q, "standard", solver="dense")
    assert reference.sine(on_cpu, gpu_once.to_numpy(V)) <= 1e-6
    assert_certified(gpu_once.to_numpy(V), spectrum, constraints)
    assert spectrum.gap == pytest.approx(theirs.gap, abs=0.01)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_square_products(gpu, dtype):
    cp = gpu.cupy
    constraints, _ = problem(make_manifold("swiss-roll", 90), 6, "standard", 2)
    B = cpu_assemble.stack(Constraints(constraints.index, constraints.rows.copy())).toarray()
    X = np.random.default_rng(0).standard_normal((90, 3)).astype(dtype)
    with SquareProducts(stack(on_device(cp, constraints))) as products:
        for multiply, A in ((products.multiply, B), (products.multiply_transposed, B.T)):
            Y = cp.zeros((90, 3), dtype=dtype)

            def keep(rows, part, Y=Y):
                Y[rows] = part

            multiply(cp.asarray(X), keep)
            assert_allclose(gpu.to_numpy(Y), A @ X, rtol=1e-4, atol=1e-5)
        assert products.work == 2 * 3 * 90 * 7 * X.dtype.itemsize // 8


@pytest.mark.parametrize("q", [1, 3, 9])
@pytest.mark.parametrize("solver", ["shift-invert", "chebyshev"])
def test_components(gpu_once, q, solver):
    X = make_manifold("digits", 250)
    constraints, classes = problem(X, 12, "standard", q)
    V, spectrum = solved(
        gpu_spectral, on_device(gpu_once.cupy, constraints), classes, q, "standard", solver=solver
    )
    on_cpu, _ = solved(cpu_spectral, constraints, classes, q, "standard", solver="dense")
    assert reference.sine(on_cpu, gpu_once.to_numpy(V)) <= 1e-6
    assert_certified(gpu_once.to_numpy(V), spectrum, constraints)


@pytest.mark.parametrize("method", ["standard", "ltsa"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_more_null_vectors_than_the_constant(gpu_once, method, solver):
    X = two_clusters()
    constraints, classes = problem(X, 8, method, 2)
    V, spectrum = solved(
        gpu_spectral, on_device(gpu_once.cupy, constraints), classes, 2, method, solver=solver
    )
    on_cpu, theirs = solved(cpu_spectral, constraints, classes, 2, method, solver="dense")
    assert spectrum.n_null == theirs.n_null >= 2
    assert reference.sine(on_cpu, gpu_once.to_numpy(V)) <= 1e-6


def test_no_constraint_at_all_is_an_error(gpu):
    constraints = Constraints(np.zeros((5, 2), dtype=np.int32), np.zeros((5, 1, 2)))
    with pytest.raises(ValueError, match="no neighbourhood gives a constraint"):
        solved(
            gpu_spectral,
            on_device(gpu.cupy, constraints),
            closed_classes(constraints.index),
            1,
            "standard",
        )


def test_not_converged_is_a_warning(stand_in, monkeypatch):
    X = make_manifold("swiss-roll", 400)
    constraints, classes = problem(X, 10, "standard", 2)
    monkeypatch.setattr(chebyshev, "make_plan", lambda *_: chebyshev.FilterPlan(4, 0.5, 12, 0.0))
    with pytest.warns(ConvergenceWarning):
        _, spectrum = solved(
            gpu_spectral,
            on_device(stand_in.cupy, constraints),
            classes,
            2,
            "standard",
            solver="chebyshev",
            max_iter=1,
        )
    assert not spectrum.converged


def test_blocks_of_vectors_stay_on_the_device(stand_in):
    """What the filter copies to the host is small: nothing of length n goes there."""
    n = 400
    constraints, classes = problem(make_manifold("digits", n), 12, "standard", 2)
    device = on_device(stand_in.cupy, constraints)
    largest = []
    get = stand_in.cupy.ndarray.get

    def watched(self, *args, **kwargs):
        largest.append(self.size)
        return get(self, *args, **kwargs)

    stand_in.cupy.ndarray.get = watched
    try:
        V, spectrum = solved(gpu_spectral, device, classes, 2, "standard", solver="chebyshev")
    finally:
        stand_in.cupy.ndarray.get = get
    assert isinstance(V, stand_in.cupy.ndarray)
    assert spectrum.converged
    # The largest: the projected problem of a block of 8 against a basis, which shrinks beside n
    # only with n.
    assert max(largest) < 8 * n
    assert sum(size >= n for size in largest) <= spectrum.n_iter / 100


def test_the_same_bits_each_time(stand_in):
    constraints, classes = problem(make_manifold("digits", 250), 12, "standard", 2)
    device = on_device(stand_in.cupy, constraints)
    once, again = (
        stand_in.to_numpy(
            solved(gpu_spectral, device, classes, 2, "standard", solver="chebyshev")[0]
        )
        for _ in range(2)
    )
    assert_array_equal(once, again)
    V, _ = solved(gpu_spectral, device, classes, 2, "standard", solver="chebyshev", random_state=5)
    assert not np.array_equal(stand_in.to_numpy(V), once)
    assert reference.sine(once, stand_in.to_numpy(V)) <= 1e-6


class TestCertify:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_cpus_functions(self, gpu, method):
        constraints, _ = problem(make_manifold("s-curve", 80), 9, method, 2)
        F = stack(on_device(gpu.cupy, constraints))
        host = cpu_assemble.stack(constraints)
        norm = np.linalg.norm(host.toarray(), 2)
        assert 0.9 * norm <= certify.norm_estimate(F) <= norm * (1 + 1e-12)
        V = np.random.default_rng(0).normal(size=(80, 4))
        values, W = certify.rayleigh_ritz(F, gpu.cupy.asarray(V))
        theirs, U = cpu_certify.rayleigh_ritz(host, V)
        assert isinstance(values, np.ndarray)
        assert_allclose(values, theirs, rtol=1e-12)
        assert_allclose(np.abs(np.diag(U.T @ gpu.to_numpy(W))), 1, rtol=1e-9)
        product = certify.normal_product(F, gpu.cupy.asarray(V))
        assert_allclose(gpu.to_numpy(product), host.T @ (host @ V), atol=1e-12)

    def test_slabs(self, gpu, monkeypatch):
        """Of 5 points and more; the last has one."""
        constraints, _ = problem(make_manifold("s-curve", 81), 9, "ltsa", 2)
        F = stack(on_device(gpu.cupy, constraints))
        V = gpu.cupy.asarray(np.random.default_rng(0).normal(size=(81, 5)))
        whole, product = certify.rayleigh_ritz(F, V)[0], certify.normal_product(F, V)
        for size in (1, 3000, 8 * F.shape[0] * 2):
            monkeypatch.setattr(certify, "SLAB_BYTES", size)
            assert_allclose(certify.rayleigh_ritz(F, V)[0], whole, rtol=1e-12)
            assert_allclose(
                gpu.to_numpy(certify.normal_product(F, V)), gpu.to_numpy(product), atol=1e-13
            )


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_only_a_device_is_called_once_before_the_clock_runs(stand_in, monkeypatch, device):
    """A device's libraries start up at their first call, which is not the filter's time."""
    done = []
    largest, clock = chebyshev._largest_eigenvalue, chebyshev.time.perf_counter

    def watched(operator, start):
        done.append("product")
        return largest(operator, start)

    def read():
        done.append("clock")
        return clock()

    monkeypatch.setattr(chebyshev, "_largest_eigenvalue", watched)
    monkeypatch.setattr(chebyshev, "time", SimpleNamespace(perf_counter=read))
    F = scipy.sparse.eye_array(300, format="csr") - scipy.sparse.eye_array(300, k=1, format="csr")
    state = np.random.RandomState(0)
    if device == "cpu":
        M, random = CpuProducts(F), state
    else:
        index = np.stack([np.arange(300), (np.arange(300) + 1) % 300], axis=1).astype(np.int32)
        rows = np.tile([1.0, -1.0], (300, 1, 1))
        cp = stand_in.cupy
        M, random = Products(Rows(Constraints(cp.asarray(index), cp.asarray(rows)))), Normals(state)
    chebyshev.predict_cost(M, 2, random=random)
    assert done[0] == ("clock" if device == "cpu" else "product")
