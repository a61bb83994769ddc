"""Which device: what is there, what was asked for, and how to get what is missing.

Whether a GPU is usable is found out by :mod:`lle_gpu.cuda.probe`, by running a kernel on it.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from typing import Any

from lle_gpu.backend import Backend, cpu_backend, gpu_backend
from lle_gpu.cuda.inventory import (
    CUPY_DISTRIBUTIONS,
    LIBRARIES,
    device_facts,
    import_error,
    version,
)
from lle_gpu.cuda.probe import find_device
from lle_gpu.exceptions import (
    GpuFallbackWarning,
    GpuMemoryError,
    GpuUnavailableError,
    warn_user,
)
from lle_gpu.neighbors import CPU_ALGORITHMS, CPU_LIBRARIES, EUCLIDEAN, GPU_ALGORITHMS
from lle_gpu.patching import is_patched
from lle_gpu.progress import note

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
    full : bool
        Nothing is missing but memory, which is all taken.
    """

    usable: bool
    name: str
    missing: tuple[str, ...]
    full: bool = False


def find_gpu() -> GpuStatus:
    """Look for a GPU that CuPy can use. Never raises; imports CuPy if it is installed."""
    try:
        return GpuStatus(True, find_device(), ())
    except GpuUnavailableError as error:
        return GpuStatus(False, "", (str(error),))
    except GpuMemoryError as error:
        return GpuStatus(False, "", (str(error),), full=True)


def resolve(
    device: str, *, metric: Any = "euclidean", algorithm: str = "auto", sparse: bool = False
) -> Backend:
    """Choose the backend, once, at the boundary.

    Parameters
    ----------
    device : {"auto", "cpu", "gpu", "cuda"}
        "auto" is the GPU where one is usable and has what the other two parameters ask for.
    metric, algorithm
        Of the neighbour search; the GPU knows the Euclidean metric and algorithms of its own.
    sparse : bool, default=False
        Whether X is sparse, which only the CPU works on.

    Raises
    ------
    GpuUnavailableError
        If the GPU is asked for, by ``device`` or ``algorithm``, and cannot be used. There is no
        silent falling back.
    GpuMemoryError
        If the GPU is asked for, and other programs, or this one, have all its memory.
    ValueError
        If ``device`` and the other two exclude each other.

    Warns
    -----
    GpuFallbackWarning
        For "auto", if there is a GPU and all its memory is taken.
    """
    for_gpu = algorithm in GPU_ALGORITHMS
    if device == "cpu" and for_gpu:
        raise ValueError(
            f"neighbors_algorithm={algorithm!r} searches on the GPU, and device='cpu' was asked "
            f"for. Use device='auto' or 'gpu', or one of 'auto', {_listed(CPU_ALGORITHMS)}."
        )
    if sparse:
        if for_gpu or device in ("gpu", "cuda"):
            asked = f"neighbors_algorithm={algorithm!r}" if for_gpu else f"device={device!r}"
            raise ValueError(
                f"{asked} does not take sparse X, which is worked on by the CPU alone. Use "
                "device='auto' or 'cpu' with neighbors_algorithm='auto', or give X.toarray() if "
                "that fits in the GPU's memory."
            )
        if device == "auto":
            note("device: the CPU, since X is sparse")
        return cpu_backend()
    why_cpu = ""
    if not (isinstance(metric, str) and metric in EUCLIDEAN):
        why_cpu = f"metric={metric!r}"
    elif algorithm in (*CPU_ALGORITHMS, *CPU_LIBRARIES):
        why_cpu = f"neighbors_algorithm={algorithm!r}"
    if why_cpu and (for_gpu or device in ("gpu", "cuda")):
        raise ValueError(
            f"{why_cpu} is not known to the GPU's neighbour search. Use device='cpu', or "
            f"metric='euclidean' with one of 'auto', {_listed(GPU_ALGORITHMS)}."
        )
    if device == "cpu" or (device == "auto" and why_cpu):
        return cpu_backend()
    status = find_gpu()
    if status.usable:
        if device == "auto":
            note(f"device: {status.name}")
        return gpu_backend()
    if device == "auto" and not for_gpu:
        if status.full:
            warn_user(f"{status.missing[0]}: the CPU is used.", GpuFallbackWarning)
        return cpu_backend()
    asked = f"device={device!r}" if not for_gpu else f"neighbors_algorithm={algorithm!r}"
    error = GpuMemoryError if status.full else GpuUnavailableError
    raise error(
        f"{asked} cannot be used here. "
        + ". ".join(status.missing)
        + ". Use device='auto' or device='cpu'"
        + (" with neighbors_algorithm='auto'" if for_gpu else "")
        + " to run on the CPU."
    )


def show_config(*, imports: bool = False) -> str:
    """Report versions, threads, and what is there or missing for the GPU (``lle-gpu info``).

    Parameters
    ----------
    imports : bool, default=False
        Import NVIDIA's libraries, too, each in a process of its own (seconds), to see whether that
        works. Without it only their versions are looked at.

    Examples
    --------
    >>> from lle_gpu import show_config
    >>> print(show_config())  # doctest: +ELLIPSIS
    lle_gpu ...
    """
    from threadpoolctl import threadpool_info

    lines = [
        f"lle_gpu {version('lle-gpu')}",
        _line("python", f"{platform.python_version()} ({sys.executable})"),
        _line("platform", f"{platform.platform()}, {os.cpu_count()} cores"),
    ]
    lines.extend(_line(name, version(name)) for name in ("numpy", "scipy", "scikit-learn"))
    for pool in threadpool_info():
        of = f" {pool['version']}" if pool.get("version") else ""
        lines.append(
            _line(pool["user_api"], f"{pool['internal_api']}{of}, {pool['num_threads']} threads")
        )
    whose = "lle_gpu's" if is_patched() else "its own (lle_gpu.patch_sklearn() changes that)"
    lines.append(_line("sklearn's LLE", whose))
    lines.append("optional")
    for name, purpose, extra in (
        ("matplotlib", "pictures", "plot"),
        ("datashader", "pictures of more than 200,000 points", "datashader"),
        ("tqdm", "progress bars", "plot"),
        ("ipywidgets", "progress bars in notebooks", "notebook"),
        ("pyarrow", "Parquet files", "plot"),
        ("mkl", "sparse factors on all cores", "fast-cpu"),
        ("faiss-cpu", "neighbors_algorithm='faiss'", "faiss"),
        ("pynndescent", "neighbors_algorithm='pynndescent'", "pynndescent"),
        ("tapkee", "the benchmarks' second opponent", "bench"),
    ):
        hint = f"missing ({purpose}): pip install 'lle-gpu[{extra}]'"
        lines.append(_line(name, version(name) or hint))
    return "\n".join([*lines, "GPU", *_gpu_lines(imports)])


def _gpu_lines(imports: bool) -> list[str]:
    """The device, CuPy, and NVIDIA's libraries: found, missing or unfit, and what to do."""
    status = find_gpu()
    lines = [_line("usable", f"yes, {status.name}" if status.usable else "no")]
    lines.extend(_line("missing", reason) for reason in status.missing)
    if status.usable:
        facts = device_facts()
        free, total = facts["free_bytes"], facts["total_bytes"]
        driver = f"{facts['driver']}, " if facts["driver"] else ""
        lines += [
            _line(
                "device",
                f"compute capability {facts['compute_capability']}, "
                f"{facts['multiprocessors']} multiprocessors",
            ),
            _line("memory", f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"),
            _line("driver", f"{driver}up to CUDA {facts['cuda_of_driver']}"),
            _line("CUDA", f"{facts['cuda_runtime']}, CuPy's"),
        ]
    several = [f"{name} {version(name)}" for name in CUPY_DISTRIBUTIONS if version(name)]
    if several:
        clash = "; these exclude each other: uninstall all, install one" if several[1:] else ""
        lines.append(_line("cupy", ", ".join(several) + clash))
    for library in LIBRARIES:
        text = library.state()
        if imports and not text.startswith("missing"):
            error = import_error(library)
            text += f"; its import fails: {error}" if error else "; can be imported"
        lines.append(_line(library.name, text))
    return lines


def _line(name: str, text: str) -> str:
    return f"  {name:<14} {text}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names))
