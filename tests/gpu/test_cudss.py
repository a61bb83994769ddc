"""The door to cuDSS: what it calls, what it answers when it cannot, and what is done then."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
from conftest import METHODS, make_manifold, two_clusters
from numpy.testing import assert_allclose

from lle_gpu.constraints import Constraints, cpu
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.progress import StageTimes, report_to
from lle_gpu.spectral import cpu as cpu_spectral
from lle_gpu.spectral import gpu as gpu_spectral
from lle_gpu.spectral import solve
from lle_gpu.spectral.gpu import cudss
from lle_gpu.spectral.gpu.assemble import gram, stack
from lle_gpu.spectral.gpu.shift_invert import CudssPlan, HostPlan, analyse

from . import fake_nvmath


@pytest.fixture(autouse=True)
def asked_anew():
    cudss.forget()
    yield
    cudss.forget()


@pytest.fixture
def nvmath(stand_in, monkeypatch):
    """nvmath(*faults) -> the list of solvers that will be made."""
    return lambda *faults: fake_nvmath.install(monkeypatch, stand_in.cupy, *faults)


def problem(stand_in, method, *, X=None, k=10, q=2):
    X = make_manifold("swiss-roll", 300) if X is None else X
    index = reference.neighbors(X, k).astype(np.int32)
    constraints = getattr(cpu, method)(X, index, q)
    cp = stand_in.cupy
    device = Constraints(cp.asarray(constraints.index), cp.asarray(constraints.rows))
    return constraints, device, closed_classes(index)


def solved(stand_in, method, *, solver="shift-invert", **options):
    """Vectors, certificate and notes on the GPU; the vectors on the CPU."""
    host, device, classes = problem(stand_in, method, **options)
    keys = {"square": method == "standard", "classes": classes}
    with report_to(StageTimes()) as said:
        V, spectrum = gpu_spectral.bottom_vectors(device, 2, solver=solver, **keys)
    on_cpu, _ = cpu_spectral.bottom_vectors(host, 2, solver="dense", **keys)
    return stand_in.to_numpy(V), spectrum, said.notes, on_cpu


@pytest.mark.parametrize("method", METHODS)
def test_the_cpus_vectors(stand_in, nvmath, method):
    solvers = nvmath()
    V, spectrum, _, on_cpu = solved(stand_in, method)
    assert spectrum.converged
    assert reference.sine(on_cpu, V) <= 1e-6
    assert "cuDSS" in spectrum.solver
    assert "host" not in spectrum.solver
    square = method == "standard"
    assert [solver.kind for solver in solvers] == (["GENERAL"] * 2 if square else ["SPD"])
    assert all(solver.solves > 3 for solver in solvers)
    assert all(solver.factorization_config.pivot_eps < 1e-100 for solver in solvers)


def test_null_vectors_of_closed_classes(stand_in, nvmath):
    nvmath()
    V, spectrum, _, on_cpu = solved(stand_in, "standard", X=two_clusters(), k=8)
    assert spectrum.n_null == 2
    assert reference.sine(on_cpu, V) <= 1e-6


def test_in_a_thread_that_did_not_import_it(stand_in, nvmath):
    nvmath()
    assert cudss.missing() == ""  # imports it here
    with ThreadPoolExecutor(1) as pool:
        V, spectrum, notes, on_cpu = pool.submit(solved, stand_in, "ltsa").result()
    assert "cuDSS" in spectrum.solver and "host" not in spectrum.solver, notes
    assert reference.sine(on_cpu, V) <= 1e-6


def test_auto_takes_it(stand_in, nvmath):
    nvmath()
    _, spectrum, notes, _ = solved(stand_in, "ltsa", solver="auto")
    assert "cuDSS" in spectrum.solver, notes


class TestFactors:
    @pytest.mark.parametrize("b", [1, 3, 8, 9, 20])
    def test_solutions(self, stand_in, nvmath, b):
        nvmath()
        _, device, _ = problem(stand_in, "ltsa")
        M = gram(device)
        factors = cudss.Factors(M, "SPD")
        delta = factors.factor(1e-3)
        assert delta == pytest.approx(1e-3 * M.largest())
        X = np.random.default_rng(0).normal(size=(300, b))
        A = M.to_host().toarray() + delta * np.eye(300)
        found = stand_in.to_numpy(factors.solve(stand_in.cupy.asarray(X)))
        assert_allclose(A @ found, X, atol=1e-10)
        assert factors.fill == pytest.approx(factors._solver.lu.nnz / 300)
        assert factors.backward_error <= 1e-12

    def test_b_and_its_transpose(self, stand_in, nvmath):
        nvmath()
        _, device, _ = problem(stand_in, "standard")
        F = stack(device)
        inverse = CudssPlan(F, True).inverse(True)
        B = F.to_host().toarray()
        n = len(B)
        one = np.full((n, 1), n**-0.5)
        inverse.deflate(stand_in.cupy.asarray(one))
        X = np.random.default_rng(0).normal(size=(n, 2))
        X -= one @ (one.T @ X)
        found = stand_in.to_numpy(inverse.apply(stand_in.cupy.asarray(X)))
        found -= one @ (one.T @ found)
        assert_allclose(found, np.linalg.pinv(B.T @ B, rcond=1e-13) @ X, rtol=1e-5)
        null = stand_in.to_numpy(inverse.null_vectors(stand_in.cupy.asarray(X[:, :1] + 1.0)))
        assert np.linalg.norm(B @ null) <= 1e-12

    def test_memory_is_given_back(self, stand_in, nvmath):
        solvers = nvmath()
        _, device, _ = problem(stand_in, "standard")
        plan = analyse(stack(device), True)
        assert plan.estimate.bytes > plan.estimate.nonzeros > 0
        plan.free()
        assert [solver.state for solver in solvers] == ["freed", "freed"]


class TestWaysOut:
    def test_what_is_not_definite_as_rounded_is_factored_as_symmetric(self, stand_in, nvmath):
        solvers = nvmath("indefinite")
        V, spectrum, notes, on_cpu = solved(stand_in, "ltsa")
        assert [solver.kind for solver in solvers] == ["SPD", "SYMMETRIC"]
        assert solvers[0].state == "freed"
        assert any("info=3" in text for text in notes)
        assert "SYMMETRIC" in spectrum.solver
        assert reference.sine(on_cpu, V) <= 1e-6

    @pytest.mark.parametrize("method", ["standard", "ltsa"])
    def test_factors_that_do_not_solve_are_left_for_superlu(self, stand_in, nvmath, method):
        solvers = nvmath("inaccurate")
        V, spectrum, notes, on_cpu = solved(stand_in, method)
        assert any("SuperLU on the host, since cuDSS failed" in text for text in notes)
        assert any("backward error" in text for text in notes)
        assert "on the host, since cuDSS failed: no factors that solve" in spectrum.solver
        assert all(solver.state == "freed" for solver in solvers)
        assert reference.sine(on_cpu, V) <= 1e-6

    def test_what_cannot_be_planned_is_left_for_superlu(self, stand_in, nvmath):
        nvmath("cannot plan")
        V, spectrum, notes, on_cpu = solved(stand_in, "ltsa")
        assert any("cuDSS failed to plan: planning: RuntimeError: ALLOC_FAILED" in t for t in notes)
        assert "on the host, since cuDSS failed: planning" in spectrum.solver
        assert reference.sine(on_cpu, V) <= 1e-6

    def test_a_solve_that_fails_leaves_it_to_the_filter(self, stand_in, nvmath, monkeypatch):
        """With the factors' memory given back before it begins."""
        solvers, states = nvmath("cannot solve"), []
        begin = solve._chebyshev

        def watched(problem):
            states.extend(solver.state for solver in solvers)
            return begin(problem)

        monkeypatch.setattr(solve, "_chebyshev", watched)
        V, spectrum, _, on_cpu = solved(stand_in, "ltsa", solver="auto")
        assert states == ["freed"]
        assert "EXECUTION_FAILED" in spectrum.solver
        assert "Chebyshev" in spectrum.solver
        assert reference.sine(on_cpu, V) <= 1e-6


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no nvmath", "nvmath-python is not installed: pip install"),
        ("broken import", "import fails: libsomething"),
        ("no cudss", "cannot load cuDSS: Failure finding"),
        ("cudss 1.0", "needs cuDSS 0.8, and 1.0 is installed"),
    ],
)
def test_what_is_missing_is_said_and_superlu_does_it(stand_in, nvmath, fault, said):
    solvers = nvmath(fault)
    reason = cudss.missing()
    assert said in reason
    assert "\n" not in reason
    assert "pip install 'lle-gpu[cudss]'" in reason
    _, device, _ = problem(stand_in, "ltsa")
    assert isinstance(analyse(gram(device), False), HostPlan)
    V, spectrum, _, on_cpu = solved(stand_in, "standard")
    assert "on the host" in spectrum.solver
    assert reference.sine(on_cpu, V) <= 1e-6
    assert solvers == []


def test_nothing_is_missing_where_all_is_there(stand_in, nvmath):
    nvmath()
    assert cudss.missing() == ""


def test_importing_the_package_imports_no_nvmath():
    assert "nvmath" not in sys.modules


def test_the_recorded_signatures_are_the_installed_packages():
    """Where the real package is there."""
    import inspect

    advanced = pytest.importorskip("nvmath.sparse.advanced", reason="nvmath is not installed")
    from nvmath.sparse._internal import cudss_config_ifc, cudss_data_ifc

    def shape(signature):
        return [
            (p.name, p.kind, p.default is p.empty)
            for p in signature.parameters.values()
            if p.name != "self"
        ]

    solver = advanced.DirectSolver
    for name, real in (
        ("DirectSolver", solver),
        ("DirectSolverOptions", advanced.DirectSolverOptions),
        *(
            (f"DirectSolver.{m}", getattr(solver, m))
            for m in ("plan", "factorize", "solve", "free")
        ),
    ):
        assert shape(inspect.signature(real)) == shape(fake_nvmath.signature(name)), name
    kinds = {k: int(v) for k, v in advanced.DirectSolverMatrixType.__members__.items()}
    assert kinds == fake_nvmath.SIGNATURES["DirectSolverMatrixType"]
    for name, real in (
        ("DirectSolver", solver),
        ("FactorizationConfig", cudss_config_ifc.FactorizationConfig),
        ("FactorizationInfo", cudss_data_ifc.FactorizationInfo),
    ):
        for attribute in fake_nvmath.SIGNATURES[f"{name} properties"]:
            assert isinstance(inspect.getattr_static(real, attribute), property)
    names = cudss_data_ifc.memory_estimates_dtype.names
    assert list(names) == fake_nvmath.SIGNATURES["memory_estimates"]
