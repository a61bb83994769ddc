"""Shared data. Random, seeded, small; real data where it comes with a package."""

from __future__ import annotations

import os

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_s_curve, make_swiss_roll
from threadpoolctl import threadpool_limits

from lle_gpu.spectral import cpu
from lle_gpu.spectral.cpu import pardiso, shift_invert

# The references are many small decompositions, on which BLAS's threads only wait for one another:
# two test runs side by side would take ten times as long. Subprocesses get it by the environment.
threadpool_limits(limits=1, user_api="blas")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_numbers(request):
    """A module's RNG begins anew for each test, whatever ran before it, or in another process."""
    for generator in (getattr(request.module, name, None) for name in ("RNG", "rng")):
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(autouse=True)
def no_mkl(request, monkeypatch):
    """SuperLU, which everyone has, makes the factors; tests marked ``mkl`` may have MKL's."""
    if not request.node.get_closest_marker("mkl"):
        for module in (cpu, pardiso, shift_invert):
            monkeypatch.setattr(module, "find_mkl", _no_mkl)


def _no_mkl():
    """None: as where MKL is not installed."""


def five_dimensional_manifold(n, random_state=0):
    """A smooth 5-D manifold, bent and rotated into 20 dimensions."""
    rng = np.random.default_rng(random_state)
    u = rng.uniform(size=(n, 5))
    bent = np.column_stack([u, np.sin(2 * u), np.cos(3 * u), u**2])
    return bent @ rng.normal(size=(20, 20))


def make_manifold(name, n=400, random_state=0):
    """Points (n, d) of one of the manifolds that the tests go through."""
    return {
        "swiss-roll": lambda: make_swiss_roll(n, random_state=random_state)[0],
        "swiss-hole": lambda: make_swiss_roll(n, hole=True, random_state=random_state)[0],
        "s-curve": lambda: make_s_curve(n, random_state=random_state)[0],
        "digits": lambda: load_digits().data[:n],
        "five-d": lambda: five_dimensional_manifold(n, random_state),
    }[name]()


MANIFOLDS = ("swiss-roll", "swiss-hole", "s-curve", "digits", "five-d")
METHODS = ("standard", "modified", "hessian", "ltsa")


def two_clusters(n=150, distance=1e3, random_state=0):
    """Two swiss rolls far apart: (2 n, 3)."""
    a = make_manifold("swiss-roll", n, random_state)
    b = make_manifold("swiss-roll", n, random_state + 1)
    return np.concatenate([a, b + distance])


@pytest.fixture(scope="session")
def roll():
    return make_manifold("swiss-roll", 600)


@pytest.fixture(scope="session")
def digits():
    return load_digits(return_X_y=True)
