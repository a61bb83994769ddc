"""From single runs to one line for each implementation."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.implementations import OURS

__all__ = ["Run", "kept", "sine", "summarise"]

# An increase in memory below this is noise of the allocator, and has no meaningful ratio.
SMALLEST_INCREASE = 4 << 20
# What a run says about its result; the first run's is shown.
QUALITY = (
    "reconstruction_error",
    "eigenvalues",
    "affine_residual",
    "sine_to_lle_gpu",
    "sine_to_reference",
    "converged",
    "largest_residual",
    "gap",
    "n_null",
    "n_iter",
    "solver",
)

Run = dict[str, Any]


def summarise(runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Medians, extremes and ratios for a case.

    Parameters
    ----------
    runs : dict of str to list of dict
        For each implementation its runs, each with ``status``: "ok", "timeout" (``seconds`` is then
        what it took at least), "failed", "missing" or "not tried" (with ``error``).

    Returns
    -------
    list of dict
        One for each implementation: ``implementation``; ``status``, "ok" only if every run was;
        ``error`` if there was one; and where known ``seconds`` (median, min, max), ``ratio`` (to
        lle_gpu's median, if that is there: above 1 the other is slower), ``peak_bytes`` and
        ``increase_bytes`` (medians), ``memory_ratio`` (of the increases), the first run's quality,
        ``stages`` (medians), ``warnings``, and the ``runs`` themselves.
    """
    results = [_summary(name, of_one) for name, of_one in runs.items()]
    ours = next((result for result in results if result["implementation"] == OURS), {})
    if ours.get("status") != "ok":
        return results
    for result in results:
        if "seconds" in result:
            result["ratio"] = result["seconds"]["median"] / ours["seconds"]["median"]
        if result["status"] == "ok" and ours["increase_bytes"] >= SMALLEST_INCREASE:
            result["memory_ratio"] = result["increase_bytes"] / ours["increase_bytes"]
    return results


def _summary(name: str, runs: list[Run]) -> dict[str, Any]:
    bad = next((run for run in runs if run["status"] != "ok"), None)
    result: dict[str, Any] = {"implementation": name, "status": bad["status"] if bad else "ok"}
    if bad:
        if "error" in bad:
            result["error"] = bad["error"]
        if bad["status"] == "timeout" and "seconds" in bad:
            result["seconds"] = dict.fromkeys(("median", "min", "max"), bad["seconds"])
        return result | {"runs": runs}
    seconds = [run["seconds"] for run in runs]
    result["seconds"] = {
        "median": statistics.median(seconds),
        "min": min(seconds),
        "max": max(seconds),
    }
    result["peak_bytes"] = statistics.median(run["peak_bytes"] for run in runs)
    result["increase_bytes"] = statistics.median(
        run["peak_bytes"] - run["bytes_before"] for run in runs
    )
    result |= {key: runs[0][key] for key in QUALITY if key in runs[0]}
    result["stages"] = {
        stage: statistics.median(run["stages"].get(stage, 0.0) for run in runs)
        for stage in runs[0].get("stages", {})
    }
    result["warnings"] = sorted({text for run in runs for text in run.get("warnings", ())})
    return result | {"runs": runs}


def kept(budget: tuple[float, float] | None, result: dict[str, Any]) -> bool | None:
    """Whether a result stays within a budget of seconds and of bytes of the whole process.

    None without a budget, or if nothing could be measured.
    """
    if budget is None or "seconds" not in result:
        return None
    seconds, size = budget
    return (
        result["status"] == "ok"
        and result["seconds"]["median"] <= seconds
        and result["peak_bytes"] <= size
    )


def sine(A: NDArray[Any], B: NDArray[Any]) -> float | None:
    """Sine of the largest angle between two embeddings' spaces, apart from their means.

    None if a value is not finite or the shapes differ.
    """
    if A.shape != B.shape or not (np.isfinite(A).all() and np.isfinite(B).all()):
        return None
    A, B = (np.linalg.qr(Y - Y.mean(axis=0))[0] for Y in (A, B))
    return min(1.0, float(np.linalg.norm(B - A @ (A.T @ B), ord=2)))
