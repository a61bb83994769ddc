"""``cupy.cuda``: devices, streams, graphs, memory, and RawModule on the emulator."""

from __future__ import annotations

import itertools
import math
import time
import types
from typing import Any

import numpy as np
from emulator import EmulatorError, Module

from . import streams
from .array import ndarray, operands, unwrap
from .machine import machine

COMPUTE_CAPABILITY = "90"
PLAIN_SHARED_BYTES = 48 * 1024
# The emulator's g++ is given none of the options. These are the ones that it need not know.
OPTIONS = ("-std=c++17", "-lineinfo")


class CUDARuntimeError(RuntimeError):
    """An error code of the runtime."""

    def __init__(self, status):
        super().__init__(f"CUDA runtime error {status}")
        self.status = status


class CUDADriverError(RuntimeError):
    """An error code of the driver."""


class OutOfMemoryError(MemoryError):
    """The device does not have so much."""

    def __init__(self, size, total, limit=0):
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes)."
        )


class CompileException(Exception):  # noqa: N818
    """The kernel does not compile."""

    def __init__(self, msg, source, name, options, backend="nvrtc"):
        super().__init__(msg)
        self.source, self.name, self.options, self.backend = source, name, options, backend


class Device:
    """One of the machine's devices; as a context, the current one."""

    def __init__(self, device=None):
        self.id = machine.device if device is None else int(device)
        self._before: list[int] = []

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return self.id

    def __enter__(self):
        self._before.append(machine.device)
        machine.device = self.id
        return self

    def __exit__(self, *_):
        machine.device = self._before.pop()

    def use(self):
        machine.device = self.id
        return self

    def synchronize(self):
        machine.streams.wait_for_device(self.id)

    @property
    def compute_capability(self):
        return COMPUTE_CAPABILITY

    @property
    def pci_bus_id(self):
        return f"0000:{0x65 + self.id:02X}:00.0"

    @property
    def attributes(self):
        return {
            "MaxSharedMemoryPerBlockOptin": machine.shared_bytes,
            "MaxSharedMemoryPerBlock": PLAIN_SHARED_BYTES,
            "MultiProcessorCount": machine.multiprocessors,
            "ClockRate": 1_000_000,  # kHz
            "SingleToDoublePrecisionPerfRatio": 32,
            "MaxThreadsPerBlock": 1024,
            "WarpSize": 32,
        }

    @property
    def mem_info(self):
        with self:
            return memGetInfo()


def get_cublas_handle():
    return _handle("CUBLAS")


def get_cusolver_handle():
    return _handle("CUSOLVER")


def _handle(library):
    if memGetInfo()[0] == 0:
        raise RuntimeError(f"{library}_STATUS_NOT_INITIALIZED")
    return 1


class Graph:
    """The kernels launched while a stream was captured."""

    def __init__(self, launches):
        self._launches = launches

    def launch(self, stream=None):
        for launch in self._launches:
            launch((stream or get_current_stream())._name)

    def upload(self, stream=None):
        return None


class Stream:
    """Everything is done at once; who would have had to wait is kept count of."""

    null: Any = None
    _numbers = itertools.count(1)

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self._captured = None
        self._before: list[Any] = []
        self.ptr = 0 if null else id(self)
        self.device_id = -1 if null else machine.device
        self._number = 0 if null else next(Stream._numbers)
        self._blocking = not non_blocking

    @classmethod
    def from_external(cls, obj):
        try:
            version, ptr = obj.__cuda_stream__()
        except AttributeError as error:
            raise TypeError(f"{type(obj)} does not implement the CUDA stream protocol") from error
        if version != 0 or not isinstance(ptr, int):
            raise TypeError("__cuda_stream__() must return (0, int)")
        stream = cls(null=True)  # on whatever device is the current one
        stream.ptr = stream._number = ptr
        stream._blocking = ptr == 0
        return stream

    def __enter__(self):
        self._before.append((machine.device, get_current_stream()))
        return self.use()

    def __exit__(self, *_):
        device, before = self._before.pop()
        _current_streams()[device] = before

    def use(self):
        if self.device_id not in (-1, machine.device):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) does not match with "
                f"the current device ({machine.device})"
            )
        _current_streams()[machine.device] = self
        return self

    def begin_capture(self, mode=None):
        if self is Stream.null:
            raise RuntimeError("cannot capture the default stream")
        if self._captured is not None:
            raise RuntimeError("the stream is being captured already")
        self._captured = []

    def end_capture(self):
        if self._captured is None:
            raise RuntimeError("the stream is not being captured")
        graph, self._captured = Graph(self._captured), None
        return graph

    def is_capturing(self):
        return self._captured is not None

    def synchronize(self):
        if self.is_capturing():
            raise RuntimeError("a stream cannot be waited for while it is captured")
        machine.streams.wait_on_host(machine.streams.at(self._name))

    @property
    def _name(self):
        device = machine.device if self.device_id < 0 else self.device_id
        return streams.Stream(device, self._number, self._blocking)

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        machine.streams.wait(self._name, event._done)

    @property
    def done(self):
        self.synchronize()
        return True


Stream.null = Stream(null=True)


class Event:
    """A moment."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self._time, self._done = 0.0, {}

    def record(self, stream=None):
        self._time = time.perf_counter()
        self._done = machine.streams.at((stream or get_current_stream())._name)

    def synchronize(self):
        machine.streams.wait_on_host(self._done)

    @property
    def done(self):
        self.synchronize()
        return True


def _current_streams() -> dict[int, Stream]:
    """The calling thread's, by device."""
    return vars(machine.thread).setdefault("streams", {})


def get_current_stream(device_id=-1):
    return _current_streams().get(machine.device if device_id < 0 else device_id, Stream.null)


def get_elapsed_time(start_event, end_event):
    return 1e3 * (end_event._time - start_event._time)


def is_available():
    return True


class MemoryPool:
    """What was freed on a device stays in its pool."""

    def __init__(self, allocator=None):
        pass

    def malloc(self, size):
        raise NotImplementedError

    def free_bytes(self):
        return machine.pooled[machine.device]

    def used_bytes(self):
        return machine.used[machine.device]

    def total_bytes(self):
        return self.free_bytes() + self.used_bytes()

    def free_all_blocks(self, stream=None):
        machine.pooled[machine.device] = 0
        machine.streams.release(machine.device)

    def get_limit(self):
        return machine.pool_limit

    def set_limit(self, size=None, fraction=None):
        machine.pool_limit = size


_pool = MemoryPool()
_allocator = _pool.malloc


def get_default_memory_pool():
    return _pool


def get_allocator():
    return _allocator


def set_allocator(allocator=None):
    global _allocator
    _allocator = allocator


def getDeviceCount():  # noqa: N802
    return machine.n_devices


def getDevice():  # noqa: N802
    return machine.device


def setDevice(device):  # noqa: N802
    machine.device = device


def getDeviceProperties(device):  # noqa: N802
    return {
        "name": b"stand-in, no device",
        "multiProcessorCount": 4,
        "totalGlobalMem": machine.memory_bytes,
    }


def memGetInfo():  # noqa: N802
    taken = machine.used[machine.device] + machine.pooled[machine.device]
    return max(0, machine.memory_bytes - taken), machine.memory_bytes


def deviceSynchronize():  # noqa: N802
    machine.streams.wait_for_device(machine.device)


def driverGetVersion():  # noqa: N802
    return 13_000


def runtimeGetVersion():  # noqa: N802
    return 13_000


class RawKernel:
    """A kernel in the emulator."""

    def __init__(
        self,
        code,
        name,
        options=(),
        backend="nvrtc",
        *,
        translate_cucomplex=False,
        enable_cooperative_groups=False,
        jitify=None,
    ):
        self._code, self.name, self._options = code, name, options
        self._modules: dict[int, Module] = {}
        self._max_dynamic = PLAIN_SHARED_BYTES

    def _module(self):
        device = machine.device
        if device not in self._modules:
            try:
                self._modules[device] = Module(self._code, [self.name])
            except EmulatorError as error:
                raise CompileException(str(error), self._code, self.name, self._options) from None
        return self._modules[device]

    @property
    def shared_size_bytes(self):
        return self._module().shared_bytes

    @property
    def max_threads_per_block(self):
        return self._module().most_threads[self.name]

    @property
    def max_dynamic_shared_size_bytes(self):
        return self._max_dynamic

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size):
        if size + self.shared_size_bytes > machine.shared_bytes:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self._max_dynamic = size

    def __call__(self, grid, block, args, *, shared_mem=0):
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("Argument 'grid' and 'block' must be tuples")
        module, static = self._module(), self.shared_size_bytes
        opted_in = self._max_dynamic > PLAIN_SHARED_BYTES and shared_mem <= self._max_dynamic
        too_much = static + shared_mem > PLAIN_SHARED_BYTES and not opted_in
        if too_much or math.prod(block) > self.max_threads_per_block:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        for argument in args:
            if isinstance(argument, np.ndarray):
                raise TypeError("You are trying to pass a numpy.ndarray as a kernel parameter")
        kept = [a.copy() if isinstance(a, np.generic) else a for a in args]
        # CUDA takes any array; the launcher is to have refused those that kernels cannot read.
        values = [unwrap(a) for a in kept]
        operands()  # of the launch, which may be later
        arrays = [
            (a._allocation.accesses, written)
            for a, written in zip(kept, module.written(self.name), strict=False)
            if isinstance(a, ndarray)
        ]

        def launch(stream):
            machine.streams.operation(
                stream,
                [accesses for accesses, written in arrays if not written],
                [accesses for accesses, written in arrays if written],
            )
            machine.launches.append(self.name)
            module.launch(
                self.name, grid, block, values, shared_bytes=shared_mem, seed=machine.seed
            )

        stream = get_current_stream()
        if stream.is_capturing():
            stream._captured.append(launch)
        else:
            launch(stream._name)


class RawModule:
    """Kernels of one source."""

    def __init__(
        self,
        *,
        code=None,
        path=None,
        options=(),
        backend="nvrtc",
        translate_cucomplex=False,
        enable_cooperative_groups=False,
        name_expressions=None,
        jitify=None,
    ):
        if not isinstance(options, tuple):
            raise TypeError("Argument 'options' must be a tuple")
        if unknown := set(options) - set(OPTIONS):
            raise NotImplementedError(f"the emulator does nothing about the options {unknown}")
        self._code, self._options = code, options
        self._names = tuple(name_expressions or ())

    def get_function(self, name):
        kernel = RawKernel(self._code, name, self._options)
        kernel._module()
        return kernel


def _part(*names: str) -> types.SimpleNamespace:
    everything = {name: globals()[name] for name in names}
    return types.SimpleNamespace(__all__=list(names), **everything)


runtime = _part(
    "CUDARuntimeError",
    "deviceSynchronize",
    "driverGetVersion",
    "getDevice",
    "getDeviceCount",
    "getDeviceProperties",
    "memGetInfo",
    "runtimeGetVersion",
    "setDevice",
)
device = _part("Device", "get_cublas_handle", "get_cusolver_handle")
memory = _part("MemoryPool", "OutOfMemoryError")
compiler = _part("CompileException")
stream = _part("Event", "Stream", "get_current_stream", "get_elapsed_time")
graph = _part("Graph")
TOP_LEVEL = _part("RawKernel", "RawModule", "get_default_memory_pool")
__all__ = [
    "Device",
    "Event",
    "Graph",
    "MemoryPool",
    "Stream",
    "get_allocator",
    "get_current_stream",
    "get_elapsed_time",
    "is_available",
    "set_allocator",
]
