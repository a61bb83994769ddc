"""What the cases of ``benchmarks.deep_learning`` say together: means, intervals, differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.deep_learning_methods import METHODS

__all__ = ["CEILING", "Cell", "Interval", "Line", "cells", "interval", "markdown", "paired"]

Record = dict[str, Any]
REFERENCE = "raw"
CEILING = "network, all labels"


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its interval (NaN for one value)."""

    mean: float
    half: float


@dataclass(frozen=True)
class Line:
    """One method in one cell; differences in accuracy are None where a reference is missing."""

    method: str
    title: str
    accuracy: Interval
    minus_raw: Interval | None
    minus_best: Interval | None
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One (data, labels, setting): its lines in the order of the methods."""

    data: str
    labels: int | str
    setting: str
    seeds: int
    best: str | None  # the locally linear method that was best in tuning
    lines: tuple[Line, ...]


def interval(values: Sequence[float]) -> Interval:
    """Student's 95 % interval of the mean: mean +- t(0.975, n - 1) std / sqrt(n)."""
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Interval(mean, math.nan)
    quantile = float(stats.t.ppf(0.975, n - 1))
    return Interval(mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(n))


def paired(ours: dict[int, float], theirs: dict[int, float]) -> Interval:
    """The interval of the mean difference over the seeds that both have."""
    seeds = sorted(ours.keys() & theirs.keys())
    return interval([ours[seed] - theirs[seed] for seed in seeds])


def cells(record: Record) -> list[Cell]:
    """All cells of a record for which anything was measured."""
    accuracy = _accuracies(record)
    choices = {
        (case["data"], choice["labels"], choice["setting"], case["method"]): choice
        for case in record["cases"]
        if case["part"] == "tuning"
        for choice in case["choices"]
    }
    order = record["arguments"]["labels"]
    keys = list(dict.fromkeys(key[:3] for key in accuracy if key[1] in order))
    keys.sort(key=lambda key: (key[0], order.index(key[1]), key[2]))
    found = []
    for key in keys:
        here = {name: accuracy[*key, name] for name in METHODS if (*key, name) in accuracy}
        ours = [name for name in here if METHODS[name].ours]
        best = max(ours, key=lambda name: choices[*key, name]["accuracy"], default=None)
        whole = accuracy.get((key[0], "all", key[2], "mlp"))

        lines = [
            (name, METHODS[name].title, choices[*key, name]["parameters"], own)
            for name, own in here.items()
        ]
        if whole and key[1] != "all":
            chosen = choices[key[0], "all", key[2], "mlp"]["parameters"]
            lines.append(("ceiling", CEILING, chosen, whole))
        seeds = max(len(own) for own in here.values())
        found.append(Cell(*key, seeds, best, tuple(_line(*line, here, best) for line in lines)))
    return found


def _line(
    name: str,
    title: str,
    parameters: dict[str, Any],
    own: dict[int, float],
    here: dict[str, dict[int, float]],
    best: str | None,
) -> Line:
    def minus(reference: str | None) -> Interval | None:
        missing = reference is None or reference not in here or reference == name
        return None if missing else paired(own, here[str(reference)])

    return Line(
        name,
        title,
        interval([own[seed] for seed in sorted(own)]),
        minus(REFERENCE),
        minus(best),
        parameters,
    )


def markdown(record: Record) -> str:
    """A table for each cell."""
    return "\n\n".join(_table(cell) for cell in cells(record))


def _accuracies(record: Record) -> dict[tuple[str, Any, str, str], dict[int, float]]:
    """(data, labels, setting, method) -> seed -> accuracy."""
    found: dict[tuple[str, Any, str, str], dict[int, float]] = {}
    for case in record["cases"]:
        if case["part"] == "report":
            for row in case["results"]:
                key = (case["data"], row["labels"], row["setting"], case["method"])
                found.setdefault(key, {})[case["seed"]] = row["accuracy"]
    return found


def _table(cell: Cell) -> str:
    labels = "all labels" if cell.labels == "all" else f"{cell.labels} a class"
    best = METHODS[cell.best].title if cell.best else "none"
    lines = [
        f"### {cell.data}, {labels}, {cell.setting}",
        f"{cell.seeds} seeds; the best LLE (in tuning): {best}. Percent and percentage points, "
        "95 % intervals.",
        "",
        "| method | accuracy | minus raw | minus best LLE | chosen |",
        "|---|---|---|---|---|",
    ]
    for line in cell.lines:
        chosen = ", ".join(f"{name}={value}" for name, value in line.parameters.items())
        values = (_signed(line.minus_raw), _signed(line.minus_best))
        lines.append(
            f"| {line.title} | {_percent(line.accuracy)} | {' | '.join(values)} | {chosen} |"
        )
    return "\n".join(lines)


def _percent(value: Interval) -> str:
    return f"{100 * value.mean:.1f} ± {100 * value.half:.1f}".replace("nan", "?")


def _signed(value: Interval | None) -> str:
    if value is None:
        return ""
    return f"{100 * value.mean:+.1f} ± {100 * value.half:.1f}".replace("nan", "?")
