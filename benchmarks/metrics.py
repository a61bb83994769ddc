"""How long judging an embedding takes, and how much memory: ``python -m benchmarks.metrics``.

Each run is a process of its own, and those of a case take turns. Measured is the call alone:

    scores            trustworthiness, continuity, neighbourhood preservation, local continuity
    trustworthiness   by lle_gpu
    scikit-learn      its trustworthiness, up to SKLEARN_MOST_POINTS points (n x n arrays)
    sample            scores on a random sample of the points

Seconds are by the clock and of all processors together, which other programs disturb less. Memory
is the largest resident size of the process, and how much of it came during the call. The embeddings
are a standard LLE of the rolls, which is good, and the first two principal components of the rest,
which have few neighbours in common with the data and make for the most work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import machine, records, runs
from benchmarks.data import missing_data

__all__ = ["CASES", "TASKS", "Case", "main", "markdown"]

TASKS = ("scores", "trustworthiness", "scikit-learn", "sample")
SKLEARN_MOST_POINTS = 10_000
QUICK_POINTS = 600
HEAD = """| case | n x d | k | task | median s | processor s | peak MiB | +MiB | value |
|---|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Case:
    """Data, an embedding of it, and k."""

    name: str
    data: str
    n: int
    embedding: str
    n_neighbors: int = 10
    sample: int = 2000


CASES = (
    Case("roll-10k", "swiss-roll", 10_000, "lle"),
    Case("glove-10k", "glove", 10_000, "pca"),
    Case("mnist-5k", "mnist-5k", 5_000, "pca"),
    Case("roll-100k", "swiss-roll", 100_000, "lle"),
    Case("glove-100k", "glove", 100_000, "pca"),
    Case("roll-1M", "swiss-roll", 1_000_000, "lle"),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    int
        0; 1 if a run failed or ran out of time.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.metrics", description=__doc__.splitlines()[0]
    )
    names = [case.name for case in CASES]
    parser.add_argument("--case", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=TASKS, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_POINTS} points: a smoke test")
    records.add_arguments(parser, timeout=1800)
    options = parser.parse_args(arguments)
    try:
        path = records.path_in(options, "metrics")
        record = records.begin(
            path, {"repeat": options.repeat, "quick": options.quick, "tasks": list(options.task)}
        )
    except ValueError as error:
        parser.error(str(error))
    print("\n".join(machine.lines(record["machine"])), end="\n\n")
    print(HEAD, flush=True)
    for case in CASES:
        if case.name not in options.case:
            continue
        if options.quick:
            case = Case(**{**asdict(case), "n": QUICK_POINTS, "sample": 100})
        result = {**asdict(case), "results": _run(case, options)}
        record["cases"].append(result)
        records.write(record, path)
    print(f"\nrecord: {path}")
    results = [result for case in record["cases"] for result in case["results"]]
    return int(any(result["status"] in ("failed", "timeout") for result in results))


def _run(case: Case, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs of a case, the tasks in turn; prints a line for each task."""
    absent = missing_data(case.data)
    if absent:
        result = {"status": "missing", "error": absent}
        print(_row(asdict(case), result), flush=True)
        return [result]
    tasks = [
        task for task in options.task if task != "scikit-learn" or case.n <= SKLEARN_MOST_POINTS
    ]
    done: dict[str, list[dict[str, Any]]] = {task: [] for task in tasks}
    for _ in range(options.repeat):
        for task, earlier in done.items():
            if all(run["status"] == "ok" for run in earlier):
                what = {"case": asdict(case), "task": task}
                run, _ = runs.in_process("benchmarks.metrics_measure", what, options.timeout)
                earlier.append(run)
    results = [_summary(task, of_task) for task, of_task in done.items()]
    for result in results:
        print(_row(asdict(case), result), flush=True)
    return results


def markdown(record: dict[str, Any]) -> str:
    """The table of a record."""
    rows = [_row(case, result) for case in record["cases"] for result in case["results"]]
    return "\n".join([*machine.lines(record["machine"]), "", HEAD, *rows])


def _row(case: dict[str, Any], result: dict[str, Any]) -> str:
    if result["status"] == "ok":
        cells = (
            f"{result['seconds']:.3g}",
            f"{result['processor_seconds']:.3g}",
            f"{result['peak_bytes'] / 2**20:.0f}",
            f"{result['increase_bytes'] / 2**20:.0f}",
            ", ".join(result["values"].values()),
        )
    else:
        cells = (result["status"], "", "", "", str(result.get("error", "")))
    size = f"{case['n']:,} x {result.get('d', '')}"
    row = (case["name"], size, str(case["n_neighbors"]), result.get("task", ""), *cells)
    return f"| {' | '.join(row)} |"


def _summary(task: str, done: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the runs of a task; if the last did not succeed, that one."""
    if done[-1]["status"] != "ok":
        return {"task": task, **done[-1]}
    return {
        **done[0],
        "task": task,
        "seconds": statistics.median(run["seconds"] for run in done),
        "processor_seconds": statistics.median(run["processor_seconds"] for run in done),
        "all_seconds": [run["seconds"] for run in done],
        "peak_bytes": max(run["peak_bytes"] for run in done),
        "increase_bytes": max(run["peak_bytes"] - run["bytes_before"] for run in done),
    }


if __name__ == "__main__":
    sys.exit(main())
