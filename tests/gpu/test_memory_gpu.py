"""The device's memory: what is foretold beside what the stand-in counts."""

from __future__ import annotations

import importlib.metadata
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from conftest import make_manifold

from lle_gpu import LocallyLinearEmbedding, estimate_memory
from lle_gpu.constraints import Constraints, cpu
from lle_gpu.cuda import memory
from lle_gpu.memory import FIXED
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.spectral import chebyshev, solve
from lle_gpu.spectral import gpu as gpu_spectral
from lle_gpu.spectral.gpu import cudss
from lle_gpu.spectral.problem import Problem

from . import fake_nvmath


@pytest.fixture(autouse=True)
def asked_anew():
    cudss.forget()
    cudss._threading_library.cache_clear()
    yield
    cudss.forget()
    cudss._threading_library.cache_clear()


@pytest.mark.parametrize(
    ("method", "d", "most"),
    [("standard", 3, 2.5), ("standard", 200, 1.5), ("hessian", 3, 3), ("ltsa", 200, 2)],
)
def test_the_estimate_bounds_the_peak_from_below(stand_in, method, d, most, monkeypatch):
    """With chunks so small that arrays of all points are what counts.

    Within a factor, for M's nonzeros and the work arrays are not known from sizes.
    """

    def coarse(operator, density, *_):
        density.extend(2)
        return chebyshev.FilterPlan(2, density.high / 2, 40, 0.0)

    n, k = 250, 12
    X = np.zeros((n, d))
    X[:, :3] = make_manifold("swiss-roll", n)
    monkeypatch.setattr(chebyshev, "make_plan", coarse)
    monkeypatch.setattr(memory, "FREE_FRACTION", 0)
    monkeypatch.setattr(memory, "LEAST_CHUNK_BYTES", 1 << 16)
    sizes = {"n_neighbors": k, "method": method, "eigen_solver": "chebyshev"}
    model = LocallyLinearEmbedding(device="gpu", max_iter=1, **sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.fit(X)
    estimate = estimate_memory(X.shape, device="gpu", **sizes)
    # The 64 MB are for chunks and for what libraries need, which the stand-in has not.
    arrays = estimate.least - FIXED
    assert arrays <= stand_in.machine.peak_bytes <= most * arrays
    held = stand_in.machine.used[0]
    assert 8 * n * d <= held <= 8 * n * d + 50_000, "the model's X, and no copy"


@pytest.mark.parametrize("free_for", ["cudss", "host"])
@pytest.mark.parametrize("method", ["standard", "ltsa"])
def test_what_is_held_need_not_be_free(stand_in, method, free_for, monkeypatch):
    """Shift-invert is taken where what is still to be allocated fits, and not with a byte less."""
    if free_for == "cudss":
        fake_nvmath.install(monkeypatch, stand_in.cupy)
    cp, machine = stand_in.cupy, stand_in.machine
    index = reference.neighbors(make_manifold("swiss-roll", 300), 12).astype(np.int32)
    host = getattr(cpu, method)(make_manifold("swiss-roll", 300), index, 2)
    before = machine.used[0]
    device = Constraints(cp.asarray(host.index), cp.asarray(host.rows))
    asked = Problem.cost_of_shift_invert
    seen = []

    def cost(problem):
        held = machine.used[0] - before
        seen.append((asked(problem), held))
        return seen[-1][0]

    monkeypatch.setattr(Problem, "cost_of_shift_invert", cost)

    def spectrum(free):
        tools = replace(
            gpu_spectral.TOOLS, free_for_factors=lambda: free, free_for_filter=lambda: 1 << 40
        )
        return solve.bottom_vectors(
            tools, device, 2, square=method == "standard", classes=closed_classes(index)
        )[1]

    assert spectrum(1 << 40).solver.startswith("shift-invert")
    (whole, held), *_ = seen
    assert 0.9 * held <= whole.held <= held, "what the device has allocated"
    more = int(np.ceil(whole.bytes - whole.held))
    assert spectrum(more).solver.startswith("shift-invert")
    less = spectrum(more - 1).solver
    assert not less.startswith("shift-invert")
    assert "would need" in less


@pytest.mark.parametrize("name", ["libcudss_mtlayer_gomp.so.0", "cudss_mtlayer_vcomp14064_0.dll"])
def test_the_threads_of_each_platforms_wheel(name, monkeypatch):
    """As nvidia_cudss_cu13-0.8.0.10 lists them, for Linux and for Windows."""

    def files(distribution):
        if distribution != "nvidia-cudss-cu12":
            raise importlib.metadata.PackageNotFoundError
        names = ["cudss64_0.dll", name, "cudss_mtlayer_vcomp140.lib"]
        return [
            SimpleNamespace(name=each, locate=lambda each=each: f"wheel/{each}") for each in names
        ]

    monkeypatch.setattr(importlib.metadata, "files", files)
    assert cudss._threading_library() == f"wheel/{name}"
