"""One measurement in a process of its own: ``python -m benchmarks.measure TASK``.

TASK is JSON: the case, the implementation, and a folder that receives

    started         an empty file, the moment the clock starts
    result.json     times, memory, quality; or the error
    embedding.npy   what came out
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case, Data
from benchmarks.implementations import IMPLEMENTATIONS, Implementation
from lle_gpu.metrics import affine_residual

__all__ = ["main", "measure", "peak_bytes", "reset_peak"]

# Points of the warm-up fit: enough for the sparse solvers, too.
WARM_UP_POINTS = 400


def measure(case: Case, name: str, folder: Path) -> dict[str, Any]:
    """Make the data, warm up, and time one fit or transform.

    Parameters
    ----------
    case : Case
    name : str
        Of the implementation.
    folder : Path
        Receives ``started`` and ``embedding.npy``.

    Returns
    -------
    dict
        JSON's types only.
    """
    data = case.load()
    implementation = IMPLEMENTATIONS[name](case)
    _warm_up(IMPLEMENTATIONS[name](case), case, data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if case.timed == "transform":
            implementation.fit(data.X)
        reset_peak()
        before = peak_bytes()
        (folder / "started").touch()
        begin = time.perf_counter()
        if case.timed == "transform":
            implementation.transform(data.new)
        else:
            implementation.fit(data.X)
        seconds = time.perf_counter() - begin
        peak = peak_bytes()
    np.save(folder / "embedding.npy", implementation.embedding)
    result: dict[str, Any] = {
        "status": "ok",
        "seconds": seconds,
        "peak_bytes": peak,
        "bytes_before": before,
        "warnings": sorted({f"{w.category.__name__}: {w.message}" for w in caught}),
        **implementation.facts(),
    }
    comparable = data.truth is not None and data.truth.shape[1] == case.d
    if comparable and np.isfinite(implementation.embedding).all():
        result["affine_residual"] = affine_residual(implementation.embedding, data.truth)
    # JSON has no NaN.
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in result.items()
    }


def _warm_up(implementation: Implementation, case: Case, data: Data) -> None:
    """Let imports and libraries' initialisation happen before the clock starts."""
    # A warm-up may fail where the fit does not, and the other way round: the fit decides.
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        implementation.fit(data.X[:WARM_UP_POINTS])
        if case.timed == "transform":
            implementation.transform(data.new[:WARM_UP_POINTS])


def reset_peak() -> None:
    """Forget the peak so far, and give back what is free, where the system can (Linux)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Largest resident memory since the start or the last reset."""
    # Not ru_maxrss on Linux: it begins with the peak of the process that started this one.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Run the task in the first argument."""
    task = json.loads(sys.argv[1])
    folder = Path(task["folder"])
    try:
        result = measure(Case.of(task["case"]), task["implementation"], folder)
    except Exception as error:  # whatever a library raises is its result
        result = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
