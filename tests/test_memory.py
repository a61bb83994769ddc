"""Working memory: parsing, the estimate against a fresh process's peak, and limits that hold."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import METHODS
from sklearn.datasets import make_swiss_roll

from lle_gpu import LocallyLinearEmbedding, MemoryLimitError, estimate_memory
from lle_gpu.memory import available_memory, parse_memory, readable
from lle_gpu.spectral import cpu


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

thread = threading.Thread(target=watch)
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
    n, k = 20_000, 12
    command = [sys.executable, "-W", "ignore", "-c", PEAK, method, "chebyshev", str(n), str(k)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    estimate = estimate_memory((n, 3), n_neighbors=k, method=method)
    assert estimate.least / 4 <= peak <= estimate.least, (readable(peak), str(estimate))


class TestLimit:
    X = make_swiss_roll(2000, random_state=0)[0]

    def test_too_small_for_anything_says_the_least_and_the_least_works(self):
        model = LocallyLinearEmbedding(n_neighbors=12, memory_limit="1MB")
        with pytest.raises(MemoryLimitError, match=r"memory_limit=1MB is too small.*'\d+MB'") as e:
            model.fit(self.X)
        assert not hasattr(model, "embedding_")
        least = str(e.value).split("memory_limit='")[1].split("'")[0]
        model.set_params(memory_limit=least).fit(self.X)
        assert model.spectrum_.converged

    def test_is_a_memory_error_and_a_value_error(self):
        assert issubclass(MemoryLimitError, MemoryError)
        assert issubclass(MemoryLimitError, ValueError)

    def test_a_limit_too_small_for_the_factors_takes_the_filter(self):
        cube = np.random.default_rng(0).random((10_000, 5))
        model = LocallyLinearEmbedding(n_neighbors=14, memory_limit="120MB").fit(cube)
        assert model.spectrum_.solver.startswith("Chebyshev filter")
        assert "more than the 120MB that are allowed" in model.spectrum_.solver
        assert model.spectrum_.converged
        with pytest.raises(MemoryLimitError, match="eigen_solver='shift-invert'"):
            model.set_params(eigen_solver="shift-invert").fit(cube)


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

        monkeypatch.setattr(cpu, "SquareInverse", fails)
        model = LocallyLinearEmbedding(n_neighbors=12).fit(self.X)
        assert f"since shift-invert failed: {error}" in model.spectrum_.solver
        assert model.spectrum_.converged
        np.testing.assert_allclose(model.spectrum_.values, expected.spectrum_.values, rtol=1e-6)
        with pytest.raises(type(error), match=str(error)):
            model.set_params(eigen_solver="shift-invert").fit(self.X)
