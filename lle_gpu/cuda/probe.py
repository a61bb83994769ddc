"""Whether there is a GPU that CuPy works on.

That CuPy can be imported proves nothing: it can on machines without a driver. A GPU is usable when
a device is there, a kernel has been compiled, launched and waited for, and CUDA's linear algebra
libraries can be loaded.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from lle_gpu.exceptions import GpuMemoryError, GpuUnavailableError

__all__ = ["cupy", "find_device", "forget_probes"]

INSTALL = (
    "pip install 'lle-gpu[gpu-cuda13]' (or [gpu-cuda12], by the CUDA version that nvidia-smi shows)"
)
# Older ones sort into no memory at all where none is left (cupy#9894), and go on without an error;
# this package counts on running out being one.
LEAST_CUPY = (14, 2)
# For less no kernel here is compiled in the tests; before 7.0 a warp's threads run in step.
LEAST_CAPABILITY = 75
# The names of devices that a kernel ran on: CuPy and the device's number are the key.
_usable: dict[tuple[Any, int], str] = {}


def cupy() -> Any:
    """Import CuPy and return it.

    Raises
    ------
    GpuUnavailableError
        If it is not installed, or its import fails; the message says which, and what to do.
    """
    try:
        return importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            raise GpuUnavailableError(f"CuPy is not installed: {INSTALL}") from None
        raise GpuUnavailableError(f"CuPy is installed but its import fails: {error}") from error
    except Exception as error:  # a broken install can raise anything
        raise GpuUnavailableError(f"CuPy is installed but its import fails: {error}") from error


def find_device() -> str:
    """Run a kernel on the current device and return the device's name.

    One that was found usable is not tried again in this process; a failure is.

    Raises
    ------
    GpuUnavailableError
        If something is in the way; the message says what.
    GpuMemoryError
        If it is only that the device's memory is all taken.
    """
    cp = cupy()
    if tuple(map(int, cp.__version__.split(".")[:2])) < LEAST_CUPY:
        least = ".".join(map(str, LEAST_CUPY))
        raise GpuUnavailableError(
            f"CuPy {cp.__version__} is older than {least}, the first that lle_gpu works with: "
            f"pip install 'cupy-cuda13x[ctk]>={least}' (or cupy-cuda12x)"
        )
    try:
        cp.cuda.runtime.getDeviceCount()
    except (
        Exception
    ) as error:  # CUDARuntimeError without driver or device, ImportError for libcudart
        raise GpuUnavailableError(f"CuPy finds no NVIDIA driver or device: {error}") from error
    with _told("CuPy cannot run a kernel on the device: {}"):
        device = int(cp.cuda.runtime.getDevice())
        if (cp, device) in _usable:
            return _usable[cp, device]
        name = str(cp.cuda.runtime.getDeviceProperties(device)["name"].decode())
        capability = int(cp.cuda.Device(device).compute_capability)
    if capability < LEAST_CAPABILITY:
        raise GpuUnavailableError(
            f"{name} has compute capability {capability / 10}; lle_gpu's kernels need "
            f"{LEAST_CAPABILITY / 10} or more (NVIDIA's GPUs since Turing, 2018)"
        )
    with _told("CuPy cannot run a kernel on the device: {}"):
        probe = cp.RawKernel('extern "C" __global__ void probe(int* x) { *x = 1; }', "probe")
        x = cp.zeros(1, dtype=cp.int32)
        probe((1,), (1,), (x,))
        if int(x[0]) != 1:  # waits for the kernel
            raise RuntimeError("the kernel ran and wrote nothing")
    with _told(
        f"CuPy runs kernels on {name}, but CUDA's libraries for linear algebra cannot be loaded: "
        "{}. They come with pip install 'cupy-cuda13x[ctk]' (or cupy-cuda12x), or with the CUDA "
        "toolkit"
    ):
        importlib.import_module("cupyx.scipy.sparse.linalg")  # loads cuBLAS, cuSPARSE and cuSOLVER
        # Which take memory for themselves when they are used first: now, while there is some.
        cp.cuda.device.get_cublas_handle()
        cp.cuda.device.get_cusolver_handle()
    _usable[cp, device] = name
    return name


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever is raised, as the reason why the device is not usable."""
    from lle_gpu.cuda.memory import is_out_of_memory  # which needs cupy() above

    try:
        yield
    except Exception as error:  # compiler, driver or device trouble: all mean "not usable"
        if is_out_of_memory(error):
            raise GpuMemoryError(f"the GPU's memory is taken: {error}") from error
        raise GpuUnavailableError(what.format(error)) from error


def forget_probes() -> None:
    """Try every device anew."""
    _usable.clear()
