"""One run of ``benchmarks.metrics`` in a process of its own; see :mod:`benchmarks.measure`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from benchmarks.data import points
from benchmarks.measure import peak_bytes, reset_peak
from benchmarks.metrics import Case
from lle_gpu import LocallyLinearEmbedding, metrics

__all__ = ["main", "measure"]


def measure(case: Case, task: str, folder: Path) -> dict[str, Any]:
    """Make data and embedding, warm up on a few points, and time one call; JSON's types only."""
    X, _ = points(case.data, case.n)
    if case.embedding == "pca":
        Y = PCA(2, random_state=0).fit_transform(X)
    else:
        Y = LocallyLinearEmbedding(n_neighbors=12, device="cpu").fit_transform(X)
    call = _call(case, task)
    call(X[:100], Y[:100])
    reset_peak()
    before = peak_bytes()
    (folder / "started").touch()
    begin, worked = time.perf_counter(), time.process_time()
    values = call(X, Y)
    return {
        "status": "ok",
        "seconds": time.perf_counter() - begin,
        "processor_seconds": time.process_time() - worked,
        "peak_bytes": peak_bytes(),
        "bytes_before": before,
        "d": X.shape[1],
        "values": {name: _shown(value) for name, value in values.items()},
    }


def _call(case: Case, task: str) -> Callable[[Any, Any], dict[str, float]]:
    k = {"n_neighbors": case.n_neighbors}
    return {
        "scores": lambda X, Y: metrics.scores(X, Y, **k),
        "trustworthiness": lambda X, Y: {"trustworthiness": metrics.trustworthiness(X, Y, **k)},
        "scikit-learn": lambda X, Y: {"trustworthiness": trustworthiness(X, Y, **k)},
        "sample": lambda X, Y: metrics.scores(X, Y, sample=case.sample, **k),
    }[task]


def _shown(value: float) -> str:
    error = getattr(value, "standard_error", 0.0)
    return f"{value:.4f}" + (f" ± {error:.4f}" if error else "")


def main() -> None:
    """Run the task in the first argument."""
    task = json.loads(sys.argv[1])
    folder = Path(task["folder"])
    try:
        result = measure(Case(**task["case"]), task["task"], folder)
    except Exception as error:  # whatever is raised is the result
        result = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
