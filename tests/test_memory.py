"""Working memory: parsing, the estimate against a fresh process's peak, and limits that hold."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import METHODS
from scipy.sparse import csr_array, random_array
from sklearn.datasets import make_swiss_roll
from sklearn.neighbors import NearestNeighbors

from lle_gpu import LocallyLinearEmbedding, MemoryLimitError, estimate_memory, memory
from lle_gpu.constraints import Constraints
from lle_gpu.constraints import cpu as constraints_cpu
from lle_gpu.constraints.cpu.assemble import gram
from lle_gpu.memory import available_memory, parse_memory, readable
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.spectral import chebyshev, cpu, solve
from lle_gpu.spectral.cpu import shift_invert
from lle_gpu.spectral.cpu.products import row_block
from lle_gpu.spectral.problem import Problem, _gram_nonzeros


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (None, None),
        (1, 1),
        (2.5e9, 2_500_000_000),
        (np.int64(4096), 4096),
        ("4GB", 4_000_000_000),
        ("4 GiB", 4 << 30),
        ("512mb", 512_000_000),
        (" 1.5 tb ", 1_500_000_000_000),
        ("1e9", 10**9),
        ("1000 B", 1000),
    ],
)
def test_sizes_are_understood(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("bad", ["", "4", "GB", "4 GBs", "-1GB", "1.2.3GB", 0, -5, True, 0.5])
def test_what_is_no_size_is_refused(bad):
    if bad == "4":  # four bytes: a size, if a small one
        assert parse_memory(bad) == 4
        return
    with pytest.raises(ValueError, match="memory_limit="):
        parse_memory(bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "nan", "infGB"])
def test_a_limit_is_finite(bad):
    with pytest.raises(ValueError, match="memory_limit="):
        parse_memory(bad)


def test_sizes_in_words():
    assert [readable(size) for size in (0, 999, 1234567, 3.5e9, 2e12)] == [
        "0B",
        "999B",
        "1.23MB",
        "3.5GB",
        "2TB",
    ]


def test_available_memory_is_a_plausible_figure():
    assert 50e6 < available_memory() <= 1 << 62


def test_the_estimate_grows_with_every_size():
    def least(n=100_000, d=10, k=10, q=2, method="ltsa"):
        return estimate_memory((n, d), n_neighbors=k, n_components=q, method=method).least

    assert least() < min(least(n=200_000), least(k=20), least(q=9))
    assert least(d=10) <= least(d=10_000)
    with pytest.raises(ValueError, match="method='lle' is not known"):
        least(method="lle")
    with pytest.raises(ValueError, match="neighbors_algorithm='brut' is not known; .*'brute'"):
        estimate_memory((1000, 50), neighbors_algorithm="brut")
    with pytest.raises(ValueError, match="eigen_solver='dens' is not known; .*'dense'"):
        estimate_memory((1000, 50), eigen_solver="dens")
    for name, sizes in (
        ("n_neighbors", {"k": True}),
        ("n_neighbors", {"k": 2.5}),
        ("n_components", {"q": 0}),
    ):
        with pytest.raises(ValueError, match=f"{name}=.* must be a whole number of at least 1"):
            least(**sizes)


def test_the_gpus_estimate_has_x_twice():
    """784 numbers of a million points: 6.3 GB in float64, 3.1 GB in float32."""
    n, d = 1_000_000, 784
    on_gpu, on_cpu = (
        estimate_memory((n, d), n_neighbors=10, device=device) for device in ("gpu", "cpu")
    )
    assert list(on_gpu.stages) == list(on_cpu.stages)
    assert min(on_gpu.stages.values()) > 8 * n * d
    assert on_gpu.stages["neighbors"] > 12 * n * d, "with the float32 copy"
    assert on_gpu.least < 16 * n * d
    assert estimate_memory((n, d), n_neighbors=10, device="cuda") == on_gpu
    with pytest.raises(ValueError, match="device='tpu' is not known"):
        estimate_memory((n, d), device="tpu")
    with pytest.raises(ValueError, match="n_stored=5 is of sparse X"):
        estimate_memory((n, d), device="gpu", n_stored=5)


PEAK = """
import sys, threading, time
import numpy as np
from sklearn.datasets import make_swiss_roll
from lle_gpu import LocallyLinearEmbedding

def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])

method, solver, n, k = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
X = make_swiss_roll(n, random_state=0)[0]
LocallyLinearEmbedding(n_neighbors=k, method=method, eigen_solver=solver).fit(X[:1000])
base, peak, running = resident(), 0, True

def watch():
    global peak
    while running:
        peak = max(peak, resident() - base)
        time.sleep(0.002)

thread = threading.Thread(target=watch, daemon=True)
thread.start()
LocallyLinearEmbedding(n_neighbors=k, method=method, eigen_solver=solver, max_iter=1).fit(X)
running = False
thread.join()
print(peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", METHODS)
def test_the_estimate_bounds_the_peak_of_a_fresh_process(method):
    """Without a factorisation; within a factor of 4, so that the figure is of use."""
    n, k = 10_000, 12
    command = [sys.executable, "-W", "ignore", "-c", PEAK, method, "chebyshev", str(n), str(k)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    estimate = estimate_memory((n, 3), n_neighbors=k, method=method)
    assert estimate.least / 4 <= peak <= estimate.least, (readable(peak), str(estimate))


CROWDED = """
import sys, threading, time
import numpy as np
from lle_gpu import LocallyLinearEmbedding, estimate_memory
from lle_gpu.spectral import chebyshev

def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])

# Few products and a full basis: what is held is as it is with many.
def plan(operator, density, n_wanted, largest_probe=0, basis_bytes=0):
    density.extend(2)
    columns = max(basis_bytes // (8 * operator.n) - 32, n_wanted + 33)
    return chebyshev.FilterPlan(2, density.high / 2, int(min(columns, 200)), 0.0)

chebyshev.make_plan = plan
method, solver, k, q = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
X = np.random.default_rng(0).standard_normal((6000, 8))
sizes = {"n_neighbors": k, "n_components": q, "method": method}
limit = estimate_memory(X.shape, **sizes).least
model = LocallyLinearEmbedding(eigen_solver=solver, max_iter=1, n_jobs=2, **sizes)
model.fit(X[:500])
base, peak, running = resident(), 0, True

def watch():
    global peak
    while running:
        peak = max(peak, resident() - base)
        time.sleep(0.001)

thread = threading.Thread(target=watch, daemon=True)
thread.start()
model.set_params(memory_limit=limit).fit(X)
running = False
thread.join()
print(peak, limit)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("solver", ["auto", "chebyshev"])
@pytest.mark.parametrize(
    ("method", "k", "q"),
    [("standard", 20, 2), ("modified", 20, 2), ("hessian", 40, 2), ("ltsa", 20, 2)],
)
def test_the_least_is_kept_where_m_is_dense(method, k, q, solver):
    """Eight dimensions: M, its assembly and its dissection would each take far more."""
    sizes = [method, solver, str(k), str(q)]
    command = [sys.executable, "-W", "ignore", "-c", CROWDED, *sizes]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak, limit = map(int, output.split())
    assert peak <= limit, (readable(peak), readable(limit))


@pytest.mark.parametrize(("n", "d", "k"), [(3000, 2, 10), (3000, 10, 20), (200, 3, 8)])
def test_the_nonzeros_of_m_are_estimated_without_it(n, d, k):
    X = np.random.default_rng(0).standard_normal((n, d))
    index = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)
    M = gram(Constraints(index, np.ones((n, 1, k))))
    assert _gram_nonzeros(index) == pytest.approx(M.nnz, rel=0.1)


def test_blocks_of_rows_share_memory():
    A = random_array((100, 40), density=0.2, format="csr", rng=np.random.default_rng(0))
    for rows in (slice(0, 100), slice(0, 20), slice(30, 31), slice(95, 120), slice(7, 7)):
        block = row_block(A, rows)
        np.testing.assert_array_equal(block.toarray(), A.toarray()[rows])
        assert block.nnz == 0 or np.shares_memory(block.data, A.data)
        assert block.nnz == 0 or np.shares_memory(block.indices, A.indices)
        X = np.random.default_rng(1).standard_normal((40, 3))
        np.testing.assert_array_equal(block @ X, (A @ X)[rows])


class TestControlGroups:
    """A machine of 1000 MB free, and groups that allow less, as Linux's two versions tell it."""

    @pytest.fixture(autouse=True)
    def machine(self, tmp_path, monkeypatch):
        self.proc, self.groups = tmp_path / "proc", tmp_path / "groups"
        (self.proc / "self").mkdir(parents=True)
        self.groups.mkdir()
        (self.proc / "meminfo").write_text("MemTotal: 4000000 kB\nMemAvailable: 1000000 kB\n")
        monkeypatch.setattr(memory, "PROC", self.proc)
        monkeypatch.setattr(memory, "GROUPS", self.groups)

    def group(self, path, **files):
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("memory_", "memory.")).write_text(f"{text}\n")

    def test_none(self):
        assert available_memory() == 1_024_000_000

    def test_what_a_group_leaves(self):
        self.group("", memory_max=500_000_000, memory_current=200_000_000)
        assert available_memory() == 300_000_000

    def test_the_page_cache_gives_way(self):
        stat = "anon 1\ninactive_file 150000000\nactive_file 7"
        self.group("", memory_max=500_000_000, memory_current=450_000_000, memory_stat=stat)
        assert available_memory() == 200_000_000

    def test_no_limit(self):
        self.group("", memory_max="max", memory_current=200_000_000)
        assert available_memory() == 1_024_000_000

    def test_the_groups_own_path_and_those_above(self):
        (self.proc / "self/cgroup").write_text("0::/slice/job\n")
        self.group("slice/job", memory_max=500_000_000, memory_current=0)
        assert available_memory() == 500_000_000
        self.group("slice", memory_max=600_000_000, memory_current=300_000_000)
        assert available_memory() == 300_000_000
        self.group("slice/other", memory_max=1, memory_current=0)
        assert available_memory() == 300_000_000

    def test_version_1(self):
        (self.proc / "self/cgroup").write_text("9:name=systemd:/\n4:cpu,memory:/docker/abc\n")
        sizes = {"memory_limit_in_bytes": 400_000_000, "memory_usage_in_bytes": 390_000_000}
        self.group("memory", memory_stat="cache 5\ntotal_inactive_file 90000000", **sizes)
        assert available_memory() == 100_000_000  # the container's own, seen as the root
        sizes = {"memory_limit_in_bytes": 300_000_000, "memory_usage_in_bytes": 250_000_000}
        self.group("memory/docker/abc", **sizes)
        assert available_memory() == 50_000_000
        self.group("memory/docker/abc", memory_usage_in_bytes=310_000_000)
        assert available_memory() == 0


class TestLimit:
    X = make_swiss_roll(2000, random_state=0)[0]

    @staticmethod
    def coarse(operator, density, *_):
        """A filter that has done soon, with or without success."""
        density.extend(2)
        return chebyshev.FilterPlan(2, density.high / 2, 40, 0.0)

    def test_too_small_for_anything_says_the_least_and_the_least_works(self):
        model = LocallyLinearEmbedding(n_neighbors=12, memory_limit="1MB")
        with pytest.raises(MemoryLimitError, match=r"memory_limit=1MB is too small.*'\d+MB'") as e:
            model.fit(self.X)
        assert not hasattr(model, "embedding_")
        least = str(e.value).split("memory_limit='")[1].split("'")[0]
        model.set_params(memory_limit=least).fit(self.X)
        assert model.spectrum_.converged

    @pytest.mark.parametrize("solver", ["auto", "chebyshev", "dense"])
    def test_the_least_where_the_dense_solver_is_taken(self, solver):
        X = np.random.default_rng(0).standard_normal((1100, 400))
        sizes = {"n_neighbors": 5, "n_components": 370}
        model = LocallyLinearEmbedding(eigen_solver=solver, memory_limit="10MB", **sizes)
        with pytest.raises(MemoryLimitError) as e:
            model.fit(X)
        least = str(e.value).split("memory_limit='")[1].split("'")[0]
        estimate = estimate_memory(X.shape, eigen_solver=solver, **sizes)
        assert parse_memory(least) >= estimate.least > parse_memory(least) - 10**6
        model.set_params(memory_limit=least).fit(X)
        assert model.spectrum_.solver.startswith("dense")

    def test_a_dense_fit_that_was_asked_for(self):
        few = estimate_memory((1500, 3), n_neighbors=12).least
        assert estimate_memory((1500, 3), n_neighbors=12, eigen_solver="dense").least > 2 * few
        model = LocallyLinearEmbedding(n_neighbors=12, eigen_solver="dense", memory_limit=few)
        with pytest.raises(MemoryLimitError, match="is too small: at least"):
            model.fit(self.X[:1500])

    @pytest.mark.filterwarnings("ignore::lle_gpu.DisconnectedGraphWarning")
    def test_no_other_method_is_advised_where_there_is_no_better_one(self):
        cube = np.random.default_rng(0).random((6000, 5))
        for method, advised in [("standard", False), ("ltsa", True)]:
            # Before any work, and once the factors are predicted.
            for X, k, solver, limit in [(self.X, 12, "auto", "1MB"), (cube, 14, "arpack", "120MB")]:
                model = LocallyLinearEmbedding(
                    n_neighbors=k, method=method, eigen_solver=solver, memory_limit=limit
                )
                with pytest.raises(MemoryLimitError, match="is too small") as e:
                    model.fit(X)
                assert ("method='standard'" in str(e.value)) is advised

    @pytest.mark.parametrize("solver", ["auto", "chebyshev"])
    def test_m_is_not_formed_only_to_be_counted(self, solver, monkeypatch):
        def formed(*_):
            raise AssertionError("M was formed")

        X = np.random.default_rng(0).standard_normal((2500, 10))
        monkeypatch.setattr(chebyshev, "make_plan", self.coarse)
        sizes = {"n_neighbors": 30, "n_components": 1, "method": "hessian"}
        limit = estimate_memory(X.shape, **sizes).least
        tools = replace(cpu.TOOLS, gram=formed)
        monkeypatch.setattr(cpu, "bottom_vectors", partial(solve.bottom_vectors, tools))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = LocallyLinearEmbedding(
                eigen_solver=solver, memory_limit=limit, max_iter=1, **sizes
            ).fit(X)
        assert "products with F and F^T" in model.spectrum_.solver
        if solver == "auto":
            assert "the order of elimination alone would need" in model.spectrum_.solver

    def test_m_is_dropped_where_the_filter_does_not_use_it(self, monkeypatch):
        """Formed for the dissection, and no longer held while the filter runs on F and F^T."""
        held = []

        def watched(F, M, n_jobs):
            gc.collect()
            square = (F.shape[1], F.shape[1])
            # By type(): isinstance() asks an object's class, and a proxy may have lost its object.
            alive = (x for x in gc.get_objects() if type(x) is csr_array)
            held.append(sum(x.shape == square and x is not F for x in alive))
            return cpu.TOOLS.products(F, M, n_jobs)

        X = np.random.default_rng(0).standard_normal((4000, 8))
        monkeypatch.setattr(chebyshev, "make_plan", self.coarse)
        tools = replace(cpu.TOOLS, products=watched)
        monkeypatch.setattr(cpu, "bottom_vectors", partial(solve.bottom_vectors, tools))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = LocallyLinearEmbedding(
                n_neighbors=30, n_components=1, method="hessian", memory_limit="250MB", max_iter=1
            ).fit(X)
        assert "sparse LU with about" in model.spectrum_.solver  # it was looked at
        assert "products with F and F^T" in model.spectrum_.solver
        assert held[-1] == 0

    def test_is_a_memory_error_and_a_value_error(self):
        assert issubclass(MemoryLimitError, MemoryError)
        assert issubclass(MemoryLimitError, ValueError)

    def test_a_limit_too_small_for_the_factors_takes_what_has_none(self):
        cube = np.random.default_rng(0).random((10_000, 5))
        model = LocallyLinearEmbedding(n_neighbors=14, memory_limit="120MB").fit(cube)
        assert model.spectrum_.solver.startswith("Davidson's method")
        assert "sparse LU with about" in model.spectrum_.solver
        assert model.spectrum_.converged
        with pytest.raises(MemoryLimitError, match="eigen_solver='shift-invert'"):
            model.set_params(eigen_solver="shift-invert").fit(cube)

    def test_or_the_filter_for_the_other_methods(self):
        cube = np.random.default_rng(0).random((3000, 5))
        model = LocallyLinearEmbedding(n_neighbors=12, method="modified", memory_limit="105MB")
        model.fit(cube)
        assert model.spectrum_.solver.startswith("Chebyshev filter")
        assert "more than the 105MB that are allowed" in model.spectrum_.solver
        assert model.spectrum_.converged


class TestWithoutALimit:
    """What is free has to hold what is still to come: the constraints and F are there already."""

    @staticmethod
    def problem(method, free=1 << 40):
        """A fit's problem on a machine with so much memory, and bytes of the constraints and F."""
        X = np.random.default_rng(0).random((1000, 2))
        index = NearestNeighbors(n_neighbors=12).fit(X).kneighbors(return_distance=False)
        constraints = getattr(constraints_cpu, method)(X, index.astype(np.int32), 2)
        tools = replace(cpu.TOOLS, free_for_factors=lambda: free, free_for_filter=lambda: free)
        F = tools.stack(constraints)
        norm, square, classes = tools.norm_estimate(F), method == "standard", closed_classes(index)
        made = Problem(
            tools, F, norm, constraints, square, classes, 2, 1e-6, 100, None, 1, memory_limit=None
        )
        return made, sum(a.nbytes for a in (constraints.index, constraints.rows, F.indices))

    def chosen(self, free):
        """The spectrum's words where so much is free."""
        made, _ = self.problem("ltsa", free)
        options = {"square": False, "classes": made.classes}
        return solve.bottom_vectors(made.tools, made.constraints, 2, **options)[1].solver

    def test_factors_are_made_where_they_fit(self):
        made, held = self.problem("ltsa")
        more = int(made.cost_of_shift_invert().bytes) - held
        assert held > 1_000_000
        assert self.chosen(more + 1).startswith("shift-invert")
        filtered = self.chosen(more - 1)
        assert filtered.startswith("Chebyshev filter")
        assert re.search(
            "would need another ([0-9.]+MB), more than the \\1 that are free", filtered
        )

    @pytest.mark.parametrize(
        "ask", [Problem.cost_of_davidson, lambda made: made.cost_of_chebyshev(0.0)]
    )
    def test_a_square_f_counts_once(self, ask):
        def cost(free):
            made, held = self.problem("standard", free)
            return ask(made), held

        predicted, held = cost(1 << 40)
        more = int(predicted.bytes) - held
        assert cost(more)[0].fits(None)
        assert not cost(more - 1)[0].fits(None)

    @pytest.mark.parametrize("looked", [False, True])
    def test_m_counts_once_for_the_filter(self, looked):
        """Formed for the dissection, it is no longer free, and need not be."""

        def cost(free):
            made, held = self.problem("ltsa", free)
            if looked:
                M = made.matrix
                held += M.data.nbytes + M.indices.nbytes
            assert made.multiplies_matrix == (free >= more)
            return made.cost_of_chebyshev(0.0), held

        more = 0
        predicted, held = cost(1 << 40)
        more = int(predicted.bytes) - held
        assert cost(more)[0].fits(None)
        cost(more - 1)  # with F and F^T, though M would be sparser


class TestGoingOver:
    """When a solver fails, "auto" takes the other; one that was asked for fails by name."""

    X = make_swiss_roll(1500, random_state=0)[0]

    @pytest.mark.parametrize(
        "error", [ValueError("the sparse LU broke down"), MemoryError("no room for the sparse LU")]
    )
    def test_from_a_factorisation_that_fails(self, error, monkeypatch):
        expected = LocallyLinearEmbedding(n_neighbors=12).fit(self.X)

        def fails(*_):
            raise error

        monkeypatch.setattr(shift_invert, "SquareInverse", fails)
        model = LocallyLinearEmbedding(n_neighbors=12).fit(self.X)
        assert f"since shift-invert failed: {error}" in model.spectrum_.solver
        assert model.spectrum_.converged
        np.testing.assert_allclose(model.spectrum_.values, expected.spectrum_.values, rtol=1e-6)
        with pytest.raises(type(error), match=str(error)):
            model.set_params(eigen_solver="shift-invert").fit(self.X)


def test_an_estimate_by_x_itself():
    X = np.zeros((500, 30), dtype=np.float32)
    assert estimate_memory(X, n_neighbors=9) == estimate_memory((500, 30), n_neighbors=9)
    sparse = random_array((500, 30), density=0.1, rng=0)
    assert estimate_memory(sparse) == estimate_memory(sparse.shape, n_stored=sparse.nnz)
    for shape in (500, X[0], X.tolist(), "500 x 30"):
        with pytest.raises(ValueError, match=r"shape=.*must be \(n_samples, n_features\)"):
            estimate_memory(shape)
