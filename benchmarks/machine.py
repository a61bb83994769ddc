"""Where the measurements were made."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "describe", "lines"]

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = ("lle-gpu", "numpy", "scipy", "mkl", "scikit-learn", "tapkee")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def describe() -> dict[str, Any]:
    """Hardware, versions, date and commit; JSON's types only."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": _cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in DISTRIBUTIONS},
        "blas": _blas(),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }


def lines(machine: dict[str, Any]) -> list[str]:
    """The same, to read."""
    versions = [f"Python {machine['python']}"]
    versions += [f"{name} {v}" for name, v in machine["versions"].items() if v]
    versions += machine["blas"]
    versions += [f"{name}={value}" for name, value in machine["threads"].items()]
    return [
        f"{machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; {machine['system']}",
        ", ".join(versions),
        f"{machine['date']}, commit {machine['commit'] or 'unknown'}, "
        f"load {machine['load_before']} before",
    ]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Those this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _blas() -> list[str]:
    import scipy.linalg  # noqa: F401  loads SciPy's BLAS; NumPy's comes with it
    from threadpoolctl import threadpool_info

    return sorted(
        {
            f"{pool['internal_api']} {pool['version']} ({pool['num_threads']} threads)"
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        }
    )


def _commit() -> str:
    """Of the repository, "+" if files in it differ; empty outside of one."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
