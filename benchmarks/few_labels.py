"""What ten labels a class do, with and without local context: ``python -m benchmarks.few_labels``.

Digits (1797, of 8 x 8 pixels), a quarter held out, and of the training part ten labels a class
kept; all defaults but ``scale="common"``, as is right for pixels. Nothing was tuned on these
splits. Figures are per cent right, mean and standard deviation over the seeds: on held-out points
(inductive) and on training points whose labels were hidden (transductive). The ceiling is the same
small network as the baseline's, given all labels of the training part.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from sklearn.datasets import load_digits

from benchmarks import records
from lle_gpu.torch import LocalContextClassifier, evaluate

__all__ = ["ROWS", "main", "row"]

# Name, context, labels a class.
ROWS: tuple[tuple[str, str, int | None], ...] = (
    ("propagation", "propagation", 10),
    ("embedding + network", "embedding", 10),
    ("network", "none", 10),
    ("network, all labels", "none", None),
)


def row(name: str, context: str, labels: int | None, seeds: int) -> str:
    """A line of the table."""
    X, y = load_digits(return_X_y=True)
    model = LocalContextClassifier(context=context, scale="common")
    results = [
        evaluate(model, X, y, labels_per_class=labels, random_state=seed) for seed in range(seeds)
    ]
    cells = []
    for kind in ("inductive", "transductive"):
        right = 100 * np.array([getattr(result, kind) for result in results])
        deviation = right.std(ddof=1) if seeds > 1 else 0.0
        cells.append("" if np.isnan(right).any() else f"{right.mean():.1f} +- {deviation:.1f}")
    return f"{name:22}{cells[0]:>16}{cells[1]:>16}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_labels", description=__doc__)
    parser.add_argument(
        "--seeds", type=records.positive(int), default=10, help="draws (default: %(default)s)"
    )
    seeds = parser.parse_args(arguments).seeds
    print(f"{'':22}{'inductive':>16}{'transductive':>16}")
    for name, context, labels in ROWS:
        print(row(name, context, labels, seeds), flush=True)


if __name__ == "__main__":
    main()
