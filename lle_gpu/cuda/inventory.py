"""What a machine has for the GPU path: the device's facts, and NVIDIA's libraries.

Which libraries are installed is read from their metadata, and nothing is imported: importing cuML
takes seconds and replaces CuPy's allocator. Whether an import succeeds is therefore found out, if
at all, in a process of its own.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lle_gpu.cuda.probe import cupy

__all__ = [
    "CUPY_DISTRIBUTIONS",
    "LIBRARIES",
    "Library",
    "conflicts",
    "device_facts",
    "import_error",
    "version",
]

CUPY_DISTRIBUTIONS = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
# The series that nvmath-python 1.0 takes, and it takes no other.
CUDSS_WANTED = "0.8"
IMPORT_SECONDS = 120


@dataclass(frozen=True)
class Library:
    """One of NVIDIA's Python packages.

    Attributes
    ----------
    name : str
        As it is called.
    distributions : tuple of str
        Names under which it is installed; the first with CUDA 13, the second with CUDA 12.
    module : str
        What there is to import.
    probe : str
        Python that runs if and only if the library can be used.
    purpose : str
        What it does here, and what does it otherwise.
    """

    name: str
    distributions: tuple[str, ...]
    module: str
    probe: str
    purpose: str

    def command(self) -> str:
        """The command that installs it, for the CUDA version of the CuPy that is there."""
        cuda12 = bool(version("cupy-cuda12x")) and len(self.distributions) > 1
        return f"pip install '{self.distributions[cuda12]}'"

    def found(self) -> tuple[str, str]:
        """Name and version of the installed distribution; both empty if there is none."""
        for name in self.distributions:
            plain = re.split(r"[\[=<>]", name)[0]
            if version(plain):
                return plain, version(plain)
        return "", ""

    def state(self) -> str:
        """One line: the version, and what is wrong with it, or how to get it."""
        name, found = self.found()
        if not found and not _importable(self.module):
            return f"missing ({self.purpose}): {self.command()}"
        wrong = conflicts(name) if name else ()
        if not wrong:
            return found or "found, of unknown version"
        return f"{found}, which may fail: {'; '.join(wrong)}"


@dataclass(frozen=True)
class _CuDSS(Library):
    """cuDSS has no Python of its own; nvmath-python takes it in one version only."""

    def state(self) -> str:
        _, found = self.found()
        if not found and _importable("nvmath"):
            return f"missing, or not from a wheel ({self.purpose}): {self.command()}"
        if found and not found.startswith(CUDSS_WANTED + "."):
            return f"{found}, but nvmath-python works with {CUDSS_WANTED} only: {self.command()}"
        return found or super().state()


LIBRARIES = (
    Library(
        "cuml",
        ("cuml-cu13", "cuml-cu12", "cuml"),
        "cuml",
        "import cuml.neighbors",
        "proposes neighbours; without it cuVS or a kernel of this package does",
    ),
    Library(
        "cuvs",
        ("cuvs-cu13", "cuvs-cu12", "cuvs"),
        "cuvs",
        "import cuvs.neighbors",
        "proposes neighbours; without it a kernel of this package does",
    ),
    Library(
        "nvmath-python",
        ("nvmath-python[cu13]", "nvmath-python[cu12]"),
        "nvmath",
        "import nvmath.sparse.advanced",
        "the way to cuDSS",
    ),
    _CuDSS(
        "cudss",
        (f"nvidia-cudss-cu13=={CUDSS_WANTED}.*", f"nvidia-cudss-cu12=={CUDSS_WANTED}.*"),
        "nvmath",
        "from lle_gpu.spectral.gpu import cudss; raise SystemExit(cudss.missing() or 0)",
        "factors on the GPU; without it the Chebyshev filter or the host's SuperLU does",
    ),
)


def conflicts(distribution: str) -> tuple[str, ...]:
    """What an installed distribution needs, itself or through others, and does not find.

    As ``pip check`` tells, for this distribution alone. Empty if it cannot be told: the package
    ``packaging`` reads the requirements, and comes with cuML but not with this package.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ()
    wrong: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [distribution]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in importlib.metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            found = version(needed.name)
            if not found:
                wrong[f"{name} needs {needed.name}, which is not installed"] = None
            elif not needed.specifier.contains(found, prereleases=True):
                wrong[f"{name} needs {needed.name}{needed.specifier}, and {found} is here"] = None
            else:
                waiting.append(needed.name)
    return tuple(wrong)


def import_error(library: Library) -> str:
    """Import the library in a process of its own; why it fails, or an empty string."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", library.probe],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=IMPORT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {IMPORT_SECONDS} seconds"
    if done.returncode == 0:
        return ""
    said = [line for line in done.stderr.splitlines() if re.match(r"\w", line)]
    return said[-1] if said else f"exit status {done.returncode}"


def device_facts() -> dict[str, Any]:
    """What CuPy and the system tell about the current device, which must be usable.

    Returns
    -------
    dict
        ``name``, ``compute_capability`` ("9.0"), ``multiprocessors``, ``free_bytes``,
        ``total_bytes``, ``driver`` (its version, or empty), ``cuda_of_driver`` and
        ``cuda_runtime`` ("13.0").
    """
    runtime = cupy().cuda.runtime
    device = cupy().cuda.Device()
    properties = runtime.getDeviceProperties(device.id)
    capability = str(device.compute_capability)
    free, total = runtime.memGetInfo()
    return {
        "name": properties["name"].decode(),
        "compute_capability": f"{capability[:-1]}.{capability[-1]}",
        "multiprocessors": int(properties["multiProcessorCount"]),
        "free_bytes": int(free),
        "total_bytes": int(total),
        "driver": _driver(),
        "cuda_of_driver": _cuda(runtime.driverGetVersion()),
        "cuda_runtime": _cuda(runtime.runtimeGetVersion()),
    }


def version(distribution: str) -> str:
    """Installed version of a distribution, or an empty string."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a module without a spec, such as one made by hand
        return module in sys.modules


@functools.cache
def _driver() -> str:
    """The driver's version, where Linux tells it."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _cuda(number: int) -> str:
    """13000 as 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"
