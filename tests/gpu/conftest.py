"""The ``gpu`` fixture: the same test on the stand-in in three schedules, and on a real device.

What uses it is marked ``kernel``, and is run under the sanitizers, too (``.ci/run``).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from emulator.host import missing_emulator, sanitizer
from stand_in import Machine, install

from lle_gpu.cuda import compiler, geometry

# The emulator's seeds: the order in which threads and blocks run.
SCHEDULES = {"ascending": 0, "descending": 1, "random": 12345}
if sanitizer() != "none":  # which sees the same in every order, and takes its time
    SCHEDULES = {"random": SCHEDULES["random"]}


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items):
    """Mark what runs kernels in several schedules."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "gpu" in fixtures and "gpu_once" not in fixtures:
            item.add_marker(pytest.mark.kernel)


@functools.cache
def missing_device() -> str:
    """Why there is no device to test on; empty if there is one."""
    if importlib.util.find_spec("cupy") is None:
        return "no GPU: CuPy is not installed"
    import cupy

    return "" if cupy.cuda.is_available() else "no GPU that CuPy finds"


def pytest_runtest_setup(item):
    """Skip what needs a device where there is none."""
    if item.get_closest_marker("gpu") and missing_device():
        pytest.skip(missing_device())


@dataclass(frozen=True)
class Gpu:
    """What a test needs of the GPU.

    Attributes
    ----------
    cupy : module
        The stand-in or the real CuPy.
    machine : Machine or None
        The stand-in's settings and counters; None on a real device.
    """

    cupy: Any
    machine: Machine | None

    def to_numpy(self, array: Any) -> np.ndarray:
        """A copy on the host; the array must be CuPy's."""
        assert isinstance(array, self.cupy.ndarray), f"{type(array)} is not a CuPy array"
        return array.get()


@pytest.fixture(params=[*SCHEDULES, pytest.param("device", marks=pytest.mark.gpu)])
def gpu(request, monkeypatch):
    """A GPU: emulated under three schedules, and real."""
    _forget()
    if request.param == "device":
        with _device() as device:
            yield device
    else:
        yield _stand_in(monkeypatch, SCHEDULES[request.param])
    _forget()


@pytest.fixture(params=["stand-in", pytest.param("device", marks=pytest.mark.gpu)])
def gpu_once(request, monkeypatch):
    """A GPU, emulated in the random schedule alone, and real: for the whole path, which is long."""
    _forget()
    if request.param == "device":
        with _device() as device:
            yield device
    else:
        yield _stand_in(monkeypatch, SCHEDULES["random"])
    _forget()


@pytest.fixture
def stand_in(monkeypatch):
    """The stand-in alone, in one schedule: for tests of what no schedule changes."""
    _forget()
    yield _stand_in(monkeypatch, 0)
    _forget()


@contextlib.contextmanager
def _device():
    """The real CuPy; with EXACT_ALLOCATIONS (``.ci/gpu``) without its pool, which rounds up."""
    cupy = importlib.import_module("cupy")
    allocator = cupy.cuda.get_allocator()
    if "EXACT_ALLOCATIONS" in os.environ:
        cupy.cuda.set_allocator(None)
    try:
        yield Gpu(cupy, None)
    finally:
        cupy.cuda.set_allocator(allocator)


def _stand_in(monkeypatch: Any, seed: int) -> Gpu:
    if missing_emulator():
        pytest.skip(missing_emulator())
    machine = install(monkeypatch)
    machine.seed = seed
    import cupy

    return Gpu(cupy, machine)


def _forget() -> None:
    compiler.forget_kernels()
    geometry.forget_devices()
