"""The door to cuDSS: what it calls, what it answers when it cannot, and what is done then."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
from conftest import METHODS, make_manifold, two_clusters
from numpy.testing import assert_allclose
from scipy.sparse import coo_array, csr_array, eye_array

from lle_gpu import GpuFallbackWarning, GpuMemoryError, LocallyLinearEmbedding
from lle_gpu.constraints import Constraints, cpu
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.progress import StageTimes, report_to
from lle_gpu.spectral import cpu as cpu_spectral
from lle_gpu.spectral import gpu as gpu_spectral
from lle_gpu.spectral import solve
from lle_gpu.spectral.cpu.fill import predict_from_pieces
from lle_gpu.spectral.gpu import cudss, ordering, shift_invert
from lle_gpu.spectral.gpu.assemble import gram, stack
from lle_gpu.spectral.gpu.ordering import dissect
from lle_gpu.spectral.gpu.shift_invert import analyse, analysis_bytes, inverse, links
from lle_gpu.spectral.gpu.sparse import Csr
from lle_gpu.spectral.toolbox import Speeds

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
    assert all(solver.deterministic for solver in solvers)


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
    assert any("cuDSS has planned in" in text for text in notes)


@pytest.mark.parametrize("method", ["standard", "ltsa"])
def test_nothing_is_made_before_it_is_chosen(stand_in, nvmath, monkeypatch, method):
    """Of a cuDSS that takes so long that another solver is chosen, nothing is ever made."""
    solvers = nvmath()
    slow = Speeds(factor=1.0, solve=1.0, product=gpu_spectral.PRODUCT_SECONDS, cheap=0.0)
    monkeypatch.setattr(gpu_spectral, "CUDSS_SPEEDS", slow)
    V, spectrum, notes, on_cpu = solved(stand_in, method, solver="auto")
    assert "sparse LU with about" in spectrum.solver, "it was considered"
    assert not spectrum.solver.startswith("shift-invert")
    assert solvers == [], notes
    assert reference.sine(on_cpu, V) <= 1e-6


def test_what_it_will_take(stand_in, nvmath):
    """Two LUs of B, or one L of M, by the order that there will be."""
    _, device, _ = problem(stand_in, "standard")
    F, M = stack(device), gram(problem(stand_in, "ltsa")[1])
    nvmath("no nvmath")
    on_host = analyse(F, True).estimate, analyse(M, False).estimate
    cudss.forget()
    nvmath()
    on_device = analyse(F, True).estimate, analyse(M, False).estimate
    for here, there, A, factors in zip(on_host, on_device, (F, M), (2, 0.5), strict=True):
        fill = dissect(A).estimate()
        assert there.nonzeros == fill.nonzeros == pytest.approx(here.nonzeros, rel=0.7)
        assert there.flops == factors * fill.flops
        assert there.bytes == 12 * factors * fill.nonzeros
        assert there.seconds > here.seconds == 0
    assert on_host[0].bytes == 13 * on_host[0].nonzeros


@pytest.mark.parametrize("why", ["too long", "no memory"])
def test_what_it_will_take_where_there_is_no_dissection(stand_in, nvmath, monkeypatch, why):
    """Pieces of the graph tell it, and cuDSS finds the order, which takes longer."""
    nvmath()
    F = stack(problem(stand_in, "standard")[1])
    dissected = analyse(F, True)
    no_dissection = {"too long": lambda A: None, "no memory": _without_memory}[why]
    monkeypatch.setattr(shift_invert, "dissect", no_dissection)
    with report_to(StageTimes()) as said:
        plan = analyse(F, True)
    assert dissected.order is not None and plan.order is None
    assert plan.estimate.nonzeros == predict_from_pieces(links(F)).nonzeros
    assert plan.estimate.seconds > 3 * dissected.estimate.seconds
    assert any("no memory for a dissection" in text for text in said.notes) == (why == "no memory")


@pytest.mark.parametrize("method", METHODS)
def test_points_that_are_nobodys_neighbours(stand_in, nvmath, method):
    """Are on their own in M, where index sets lack the point itself; and there is an order yet."""
    solvers = nvmath()
    X = np.random.default_rng(0).normal(size=(500, 3))
    V, _, _, on_cpu = solved(stand_in, method, X=X, k=8)
    _, _, classes = problem(stand_in, method, X=X, k=8)
    assert len(classes.unreferenced) > 0
    assert all(solver.foreign for solver in solvers)
    assert reference.sine(on_cpu, V) <= 1e-6


@pytest.mark.parametrize(("method", "k"), [("standard", 3), ("standard", 12), ("ltsa", 10)])
def test_what_looking_takes(stand_in, nvmath, method, k):
    """At the most, and not much more than it takes."""
    nvmath()
    _, device, _ = problem(stand_in, method, X=make_manifold("swiss-roll", 1000), k=k)
    square = method == "standard"
    A = stack(device) if square else gram(device)
    machine = stand_in.machine
    machine.peak_bytes = before = machine.used[0]
    analyse(A, square)
    taken = machine.peak_bytes - before
    said = analysis_bytes(A.nnz, 1000, square)
    fixed = 2 * 4 * (ordering.MOST_STEPS + 1)  # of the search, whatever n is
    assert taken - fixed <= said <= 1.6 * taken


def _without_memory(A):
    raise MemoryError("out of memory allocating 1,000 bytes")


def test_bits_that_may_differ_are_told(stand_in, nvmath):
    nvmath("not reproducible")
    V, spectrum, notes, on_cpu = solved(stand_in, "ltsa")
    assert any("last bits" in text and "NOT_SUPPORTED" in text for text in notes)
    assert "cuDSS" in spectrum.solver and "host" not in spectrum.solver
    assert reference.sine(on_cpu, V) <= 1e-6


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
        cudss_inverse = inverse(F, analyse(F, True), True)
        B = F.to_host().toarray()
        n = len(B)
        one = np.full((n, 1), n**-0.5)
        cudss_inverse.deflate(stand_in.cupy.asarray(one))
        X = np.random.default_rng(0).normal(size=(n, 2))
        X -= one @ (one.T @ X)
        found = stand_in.to_numpy(cudss_inverse.apply(stand_in.cupy.asarray(X)))
        found -= one @ (one.T @ found)
        assert_allclose(found, np.linalg.pinv(B.T @ B, rcond=1e-13) @ X, rtol=1e-5)
        start = stand_in.cupy.asarray(X[:, :1] + 1.0)
        null = stand_in.to_numpy(cudss_inverse.null_vectors(start))
        assert np.linalg.norm(B @ null) <= 1e-12

    @pytest.mark.parametrize("method", ["standard", "ltsa"])
    def test_the_order_is_ours(self, stand_in, nvmath, method):
        """The stand-in checks that its separators separate."""
        solvers = nvmath()
        _, device, _ = problem(stand_in, method)
        A = stack(device) if method == "standard" else gram(device)
        plan = analyse(A, method == "standard")
        inverse(A, plan, method == "standard")
        assert len(solvers) == (2 if method == "standard" else 1)
        for solver in solvers:
            assert np.array_equal(solver.given["USER_PERM"], plan.order.permutation)
            assert np.array_equal(solver.given["USER_ND_PARTITION_TREE"], plan.order.tree)
            assert solver.plan_config.nd_min_levels == plan.order.levels == 3

    def test_b_and_its_transpose_have_one_order(self, stand_in, nvmath):
        """Where the order is cuDSS's own."""
        solvers = nvmath()
        _, device, _ = problem(stand_in, "standard")
        F = stack(device)
        inverse(F, shift_invert.GpuAnalysis(analyse(F, True).estimate), True)
        direct, transposed = solvers
        assert direct.given == {}
        assert np.array_equal(transposed.given["USER_PERM"], direct.order)
        assert np.array_equal(transposed.given["USER_ND_PARTITION_TREE"], direct.tree)
        assert transposed.plan_config.nd_min_levels == fake_nvmath.LEVELS

    def test_orders_that_are_not_one_are_made_anew(self, stand_in, nvmath):
        solvers = nvmath("unlike orders")
        _, device, _ = problem(stand_in, "standard")
        F = stack(device)
        inverse(F, shift_invert.GpuAnalysis(analyse(F, True).estimate), True)
        assert [solver.given for solver in solvers] == [{}, {}]

    def test_indices_beyond_int32_leave_the_order_to_cudss(self, stand_in, nvmath, monkeypatch):
        """Which wants it in the matrix's own indices."""
        solvers = nvmath()
        _, device, _ = problem(stand_in, "ltsa")
        M = gram(device)
        plan = analyse(M, False)
        monkeypatch.setattr(cudss, "LARGEST_INDEX", M.nnz - 1)
        inverse(M, plan, False)
        assert [solver.given for solver in solvers] == [{}]
        assert solvers[0].order is not plan.order.permutation

    @pytest.mark.parametrize("method", ["standard", "ltsa"])
    def test_memory_is_given_back_to_the_driver(self, stand_in, nvmath, method):
        """So that CuPy's pool, or another process, can have it."""
        solvers, machine = nvmath(), stand_in.machine
        _, device, _ = problem(stand_in, method)
        A = stack(device) if method == "standard" else gram(device)
        made = inverse(A, analyse(A, method == "standard"), method == "standard")
        taken = sum(solver.taken for solver in solvers)
        used = machine.used[0]
        assert taken > 0
        del made
        assert {solver.state for solver in solvers} == {"freed"}
        assert solvers[0].pool.reserved == 0
        assert machine.used[0] <= used - taken

    def test_a_plan_that_fails_leaves_no_solver(self, stand_in, nvmath):
        solvers = nvmath("cannot plan")
        _, device, _ = problem(stand_in, "ltsa")
        with pytest.raises(cudss.CudssError, match="planning: cuDSSError: NOT_SUPPORTED") as error:
            cudss.Factors(gram(device), "SPD")
        assert [solver.state for solver in solvers] == ["freed"], error


class TestWaysOut:
    @pytest.mark.parametrize("method", ["standard", "ltsa"])
    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            ("no foreign orders", "planning: cuDSSError: NOT_SUPPORTED"),
            ("inaccurate in foreign orders", "no factors that solve"),
            ("orders inverted", "nonzeros in an order that should leave"),
            ("orders inverted, as memory tells", "planning: 1.1TB in an order that should"),
        ],
    )
    def test_an_order_that_does_no_good_is_left_for_cudss(
        self, stand_in, nvmath, fault, said, method
    ):
        solvers = nvmath(fault)
        V, spectrum, notes, on_cpu = solved(stand_in, method, X=make_manifold("swiss-roll", 900))
        (note,) = [t for t in notes if "cuDSS finds an order of its own, since cuDSS failed" in t]
        assert said in note
        assert "cuDSS" in spectrum.solver and "host" not in spectrum.solver
        assert solvers[0].foreign and not solvers[-1].foreign
        assert solvers[0].state == "freed"
        assert reference.sine(on_cpu, V) <= 1e-6

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
        assert any("factors on the host, since cuDSS failed" in text for text in notes)
        assert any("backward error" in text for text in notes)
        assert "on the host, since cuDSS failed: no factors that solve" in spectrum.solver
        assert all(solver.state == "freed" for solver in solvers)
        assert reference.sine(on_cpu, V) <= 1e-6

    def test_what_cannot_be_planned_is_left_for_superlu(self, stand_in, nvmath):
        nvmath("cannot plan")
        V, spectrum, notes, on_cpu = solved(stand_in, "ltsa")
        assert any("cuDSS failed: planning: cuDSSError: NOT_SUPPORTED" in t for t in notes)
        assert "on the host, since cuDSS failed: planning" in spectrum.solver
        assert reference.sine(on_cpu, V) <= 1e-6

    def test_memory_that_does_not_do_leaves_it_to_the_filter(self, stand_in, nvmath):
        """And not to SuperLU, which would take hours where the device's memory is too small."""
        solvers = nvmath("no memory")
        V, spectrum, notes, on_cpu = solved(stand_in, "standard", solver="auto")
        assert "since shift-invert failed: cuDSS, factoring: cuDSSError: ALLOC" in spectrum.solver
        assert "Chebyshev filter of degree" in spectrum.solver
        assert not any("on the host" in text for text in notes)
        assert {solver.state for solver in solvers} == {"freed"}
        assert reference.sine(on_cpu, V) <= 1e-6

    def test_nothing_is_held_while_that_error_is(self, stand_in, nvmath):
        """Whose traceback would hold the solvers."""
        solvers = nvmath("no memory")
        F = stack(problem(stand_in, "standard")[1])
        with pytest.raises(MemoryError, match="ALLOC_FAILED") as error:
            inverse(F, analyse(F, True), True)
        assert [solver.state for solver in solvers] == ["freed", "freed"], error

    def test_nor_does_the_gpu_where_cudss_alone_is_asked_for(self, stand_in, nvmath):
        nvmath("no memory")
        X = make_manifold("swiss-roll", 300)
        parameters = {"n_neighbors": 10, "eigen_solver": "shift-invert"}
        with pytest.raises(GpuMemoryError, match="ALLOC_FAILED"):
            LocallyLinearEmbedding(device="gpu", **parameters).fit(X)
        with pytest.warns(GpuFallbackWarning, match="ALLOC_FAILED"):
            assert LocallyLinearEmbedding(**parameters).fit(X).device_ == "cpu"

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
    V, spectrum, _, on_cpu = solved(stand_in, "standard")
    assert "on the host" in spectrum.solver
    assert reference.sine(on_cpu, V) <= 1e-6
    assert solvers == []


def test_nothing_is_missing_where_all_is_there(stand_in, nvmath):
    nvmath()
    assert cudss.missing() == ""


@pytest.mark.gpu
def test_its_own_trees_are_laid_out_as_ours():
    """METIS's way: the parts from left to right, and the separators up to the root's."""
    cp = pytest.importorskip("cupy")
    if cudss.missing():
        pytest.skip(cudss.missing())
    side = 60
    n = side * side
    grid = np.arange(n).reshape(side, side)
    pairs = [(grid[:, 1:], grid[:, :-1]), (grid[1:], grid[:-1])]
    i, j = (np.concatenate([ends.ravel() for ends in both]) for both in zip(*pairs, strict=True))
    A = coo_array((-np.ones(len(i)), (i, j)), shape=(n, n)).tocsr()
    A = csr_array(A + A.T + 5 * eye_array(n))
    parts = A.data, A.indices.astype(np.int32), A.indptr.astype(np.int64)
    on_device = Csr(*map(cp.asarray, parts), A.shape)
    its_own = cudss.Factors(on_device, "SPD").order
    assert np.count_nonzero(its_own.tree) > 10
    fake_nvmath.check_order(A, its_own.permutation, its_own.tree)
    fills = []
    for order in (None, cudss.Order.of(dissect(on_device))):
        factors = cudss.Factors(on_device, "SPD", order)
        factors.factor(0.0)
        assert factors.backward_error <= 1e-12
        fills.append(factors.fill)
    assert fills[1] <= 1.3 * fills[0]


@pytest.mark.gpu
@pytest.mark.parametrize("graph", ["two pieces", "duplicates"])
def test_it_takes_trees_with_separators_of_no_nodes(graph):
    """In a process of its own: what a library makes of them may be no error that can be caught."""
    pytest.importorskip("cupy")
    if cudss.missing():
        pytest.skip(cudss.missing())
    script = f"""
import cupy, numpy as np
from lle_gpu import LocallyLinearEmbedding
X = np.random.default_rng(0).random((4000, 3))
if {graph!r} == "two pieces":
    X[:1500] += 100.0
else:
    X[:1000] = X[0]
model = LocallyLinearEmbedding(n_neighbors=12, device="gpu", eigen_solver="shift-invert").fit(X)
assert "cuDSS" in model.spectrum_.solver and "host" not in model.spectrum_.solver
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


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
        ("PlanConfig", cudss_config_ifc.PlanConfig),
        ("FactorizationConfig", cudss_config_ifc.FactorizationConfig),
        ("FactorizationInfo", cudss_data_ifc.FactorizationInfo),
        ("PlanInfo", cudss_data_ifc.PlanInfo),
    ):
        for attribute in fake_nvmath.SIGNATURES[f"{name} properties"]:
            assert isinstance(inspect.getattr_static(real, attribute), property)
    from nvmath.bindings import cudss as bindings
    from nvmath.internal import memory

    for name, module in (
        ("config_set", bindings),
        ("data_set", bindings),
        ("data_get", bindings),
        ("get_config_param_dtype", bindings),
        ("free_reserved_memory", memory),
    ):
        said = getattr(module, name).__doc__.strip().splitlines()[0].replace("intptr_t ", "")
        said = said.replace("size_t ", "").replace("int ", "").replace("bool ", "")
        assert said == f"{name}{fake_nvmath.SIGNATURES[name]}"
    assert set(fake_nvmath.SIGNATURES["DataParam"]) <= set(bindings.DataParam.__members__)
    for what in ("ConfigParam", "Status"):
        for name, value in fake_nvmath.SIGNATURES[what].items():
            assert int(getattr(bindings, what)[name]) == value
    dtype = np.dtype(fake_nvmath.SIGNATURES["DETERMINISTIC_MODE dtype"])
    assert bindings.get_config_param_dtype(bindings.ConfigParam.DETERMINISTIC_MODE) == dtype
    assert bindings.cuDSSError.__mro__[1] is Exception
    names = cudss_data_ifc.memory_estimates_dtype.names
    assert list(names) == fake_nvmath.SIGNATURES["memory_estimates"]
