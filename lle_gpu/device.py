"""Which device: what is there, what was asked for, and how to get what is missing.

Importing CuPy proves nothing: it succeeds on machines without a driver. A GPU counts as usable when
a device is there and CuPy can compile, launch and synchronise a kernel on it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from dataclasses import dataclass

from lle_gpu.backend import Backend, cpu_backend
from lle_gpu.exceptions import GpuUnavailableError

__all__ = ["DEVICES", "GpuStatus", "find_gpu", "resolve", "show_config"]

DEVICES = ("auto", "cpu", "gpu", "cuda")


@dataclass(frozen=True)
class GpuStatus:
    """What was found.

    Attributes
    ----------
    usable : bool
        A kernel ran.
    name : str
        The device's name, empty if there is none.
    missing : tuple of str
        What stands in the way and how to get it, in the order in which to mend it.
    """

    usable: bool
    name: str
    missing: tuple[str, ...]


def find_gpu() -> GpuStatus:
    """Look for a GPU that CuPy can use. Never raises; imports CuPy if it is installed."""
    if importlib.util.find_spec("cupy") is None:
        return GpuStatus(
            False,
            "",
            (
                "CuPy is not installed: pip install 'lle-gpu[gpu-cuda13]' "
                "(or [gpu-cuda12], by the CUDA version that nvidia-smi shows)",
            ),
        )
    try:
        import cupy
    except Exception as error:  # a broken install can raise anything: report it
        return GpuStatus(False, "", (f"CuPy is installed but its import fails: {error}",))
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CUDARuntimeError without a driver, ImportError without libcudart
        return GpuStatus(False, "", (f"CuPy finds no NVIDIA driver or device: {error}",))
    if count == 0:
        return GpuStatus(False, "", ("CuPy finds no NVIDIA device",))
    try:
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        probe = cupy.RawKernel('extern "C" __global__ void probe(int* x) { *x = 1; }', "probe")
        x = cupy.zeros(1, dtype=cupy.int32)
        probe((1,), (1,), (x,))
        if int(x[0]) != 1:
            raise RuntimeError("the kernel ran and wrote nothing")
    except Exception as error:  # compiler, driver or device trouble: all mean "not usable"
        return GpuStatus(False, "", (f"CuPy cannot run a kernel on the device: {error}",))
    return GpuStatus(True, name, ())


def resolve(device: str) -> Backend:
    """Choose the backend, once, at the boundary.

    Parameters
    ----------
    device : {"auto", "cpu", "gpu", "cuda"}
        This version has the CPU backend alone, so ``auto`` is the CPU.

    Raises
    ------
    GpuUnavailableError
        For "gpu" or "cuda"; there is no silent falling back.
    """
    if device in ("auto", "cpu"):
        return cpu_backend()
    status = find_gpu()
    missing = list(status.missing)
    missing.append(
        f"lle_gpu {_version('lle-gpu')} has no GPU backend yet"
        + (f"; the GPU itself is usable ({status.name})" if status.usable else "")
    )
    raise GpuUnavailableError(
        f"device={device!r} cannot be used here. "
        + ". ".join(missing)
        + ". Use device='auto' or device='cpu' to run on the CPU."
    )


def show_config() -> str:
    """Report versions, threads, and what is there or missing for the GPU (``lle-gpu info``).

    Examples
    --------
    >>> from lle_gpu import show_config
    >>> print(show_config())  # doctest: +ELLIPSIS
    lle_gpu ...
    """
    from threadpoolctl import threadpool_info

    lines = [
        f"lle_gpu {_version('lle-gpu')}",
        f"  python         {platform.python_version()} ({sys.executable})",
        f"  platform       {platform.platform()}, {os.cpu_count()} cores",
    ]
    lines.extend(f"  {name:<14} {_version(name)}" for name in ("numpy", "scipy", "scikit-learn"))
    for pool in threadpool_info():
        version = f" {pool['version']}" if pool.get("version") else ""
        lines.append(
            f"  {pool['user_api']:<14} {pool['internal_api']}{version}, "
            f"{pool['num_threads']} threads"
        )
    lines.append("optional")
    for name, purpose, extra in (
        ("matplotlib", "pictures", "plot"),
        ("tqdm", "progress bars", "plot"),
        ("pyarrow", "Parquet files", "plot"),
        ("tapkee", "the benchmarks' second opponent", "bench"),
    ):
        found = _version(name)
        hint = found or f"missing ({purpose}): pip install 'lle-gpu[{extra}]'"
        lines.append(f"  {name:<14} {hint}")
    lines.append("GPU")
    status = find_gpu()
    lines.append(f"  usable         {'yes, ' + status.name if status.usable else 'no'}")
    lines.extend(f"  missing        {reason}" for reason in status.missing)
    lines.append("  backend        none in this version: every device='auto' runs on the CPU")
    return "\n".join(lines)


def _version(distribution: str) -> str:
    """Installed version of a distribution, or an empty string."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
