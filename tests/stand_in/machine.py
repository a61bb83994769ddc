"""The machine that the stand-in pretends to have: devices, their memory, what was done there."""

from __future__ import annotations

import importlib.machinery
import sys
import threading
import types
from typing import Any

from .streams import Stream, Streams

__all__ = ["Allocation", "Machine", "install", "machine"]

ALIGNMENT = 512  # CuPy's pool rounds sizes up to it


class Machine:
    """Settings and counters; one for the process, reset by :func:`install`.

    Attributes
    ----------
    memory_bytes : int
        Of each device; lower it to have allocations fail.
    seed : int
        The emulator's schedule.
    launches : list of str
        Names of the kernels launched, in order.
    bytes_to_host, bytes_to_device : int
        Copied so far.
    pinned_bytes : int
        The most memory of the host that CuPy has pinned for a copy, and keeps.
    peak_bytes : int
        The most that was allocated at once on one device.
    shared_bytes : int
        Shared memory that a block may have with the opt-in.
    multiprocessors : int
    """

    n_devices = 2

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin anew; arrays that are still alive no longer count."""
        self.memory_bytes = 1 << 34
        self.pool_limit = 0  # none
        self.seed = 0
        self.launches: list[str] = []
        self.bytes_to_host = self.bytes_to_device = self.peak_bytes = self.pinned_bytes = 0
        self.shared_bytes = 232_448
        self.multiprocessors = 4
        self.used = [0] * self.n_devices
        self.pooled = [0] * self.n_devices
        self.generation = object()
        self.thread = threading.local()
        self.streams = Streams()

    @property
    def stream(self) -> Stream:
        """The calling thread's current stream on its current device."""
        from .cuda import get_current_stream

        return get_current_stream()._name

    @property
    def device(self) -> int:
        """The calling thread's current device."""
        return getattr(self.thread, "device", 0)

    @device.setter
    def device(self, device: int) -> None:
        if not 0 <= device < self.n_devices:
            from .cuda import CUDARuntimeError

            raise CUDARuntimeError(101)  # cudaErrorInvalidDevice
        self.thread.device = device


class Allocation:
    """Bytes of the current device, held as long as this object lives."""

    def __init__(self, size: int) -> None:
        from .cuda import OutOfMemoryError

        self.device = machine.device
        self.size = -(-size // ALIGNMENT) * ALIGNMENT
        self.generation = machine.generation
        with machine._lock:
            used = machine.used[self.device] + self.size
            pool = machine.pool_limit or machine.memory_bytes
            if used > min(machine.memory_bytes, pool):
                self.size = 0
                raise OutOfMemoryError(size, machine.used[self.device])
            machine.used[self.device] = used
            # As CuPy does, take from the pool first, and empty it rather than fail.
            pooled = max(0, machine.pooled[self.device] - self.size)
            machine.pooled[self.device] = min(pooled, machine.memory_bytes - used)
            machine.peak_bytes = max(machine.peak_bytes, used)
        self.stream = machine.stream
        self.accesses = machine.streams.allocated(self.stream)

    def __del__(self) -> None:
        if self.generation is machine.generation:
            machine.used[self.device] -= self.size
            machine.pooled[self.device] += self.size
            if self.size:
                machine.streams.free(self.stream, self.accesses)


machine = Machine()


def install(monkeypatch: Any) -> Machine:
    """Put the stand-in where ``import cupy`` and ``import cupyx`` find it; reset the machine."""
    from . import array, cublas, cuda, functions, linalg, random, sparse

    machine.reset()
    modules = {
        "cupy": array,
        "cupy.cublas": cublas,
        "cupy.linalg": linalg,
        "cupy.random": random,
        "cupy.cuda": cuda,
        "cupyx": None,
        "cupyx.scipy": None,
        "cupyx.scipy.sparse": sparse,
        "cupyx.scipy.sparse.linalg": None,
    }
    made = {}
    for name, source in modules.items():
        made[name] = _module(name, source)
    for part in (functions, cuda.TOP_LEVEL):
        _fill(made["cupy"], part)
    for name in ("runtime", "device", "memory", "compiler", "stream", "graph"):
        made[f"cupy.cuda.{name}"] = _module(f"cupy.cuda.{name}", getattr(cuda, name))
    for name, module in made.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(made[parent], child, module)
        monkeypatch.setitem(sys.modules, name, module)
    return machine


def _module(name: str, source: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    if source is not None:
        _fill(module, source)
    return module


def _fill(module: types.ModuleType, source: Any) -> None:
    for name in source.__all__:
        setattr(module, name, getattr(source, name))
