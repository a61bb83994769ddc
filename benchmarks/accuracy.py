"""How near each method comes to coordinates that are known: ``python -m benchmarks.accuracy``.

Points are drawn from surfaces that were bent without stretching, so that their coordinates before
the bending are what an embedding should find, up to an affine map: LLE fixes the embedding's scale
and leaves its rotation open. The figure is the relative affine residual

    ||T - (1 a' + Y A)||_F / ||T - mean||_F,   (a, A) the best affine map,

0 where Y is T, 1 where Y knows nothing of it. T is (n, 2): arc length along the bend, and height.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from dataclasses import dataclass

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.constraints import METHODS
from lle_gpu.datasets import load
from lle_gpu.metrics import affine_residual

__all__ = ["CASES", "Row", "main", "markdown", "measure"]

# Data, and n_neighbors. The first three are the yardstick of tests/test_against_reference.py.
CASES = (
    ("swiss-roll", 8),
    ("swiss-hole", 8),
    ("s-curve", 12),
    ("swiss-roll", 12),
    ("swiss-hole", 12),
    ("s-curve", 8),
)
TITLES = {"swiss-roll": "swiss roll", "swiss-hole": "swiss roll with a hole", "s-curve": "S-curve"}
POINTS, SEEDS = 1000, 3


@dataclass(frozen=True)
class Row:
    """Residuals of one data set.

    Attributes
    ----------
    data : str
    n_neighbors : int
    residuals : dict of str to float
        For each method the median over the seeds.
    """

    data: str
    n_neighbors: int
    residuals: dict[str, float]


def measure(
    cases: tuple[tuple[str, int], ...] = CASES, n_samples: int = POINTS, seeds: int = SEEDS
) -> list[Row]:
    """Fit every method to every case, for each seed from 0 on."""
    rows = []
    for name, n_neighbors in cases:
        sets = [load(name, n_samples, random_state=seed) for seed in range(seeds)]
        residuals = {}
        for method in METHODS:
            model = LocallyLinearEmbedding(n_neighbors=n_neighbors, method=method)
            with warnings.catch_warnings():
                # A graph in pieces is part of what is measured.
                warnings.simplefilter("ignore", UserWarning)
                residuals[method] = statistics.median(
                    affine_residual(model.fit_transform(data.X), data.truth) for data in sets
                )
        rows.append(Row(name, n_neighbors, residuals))
    return rows


def markdown(rows: list[Row]) -> str:
    """The rows as a table."""
    lines = ["| data | k | " + " | ".join(METHODS) + " |", "|---|---:|" + "---:|" * len(METHODS)]
    for row in rows:
        figures = " | ".join(f"{row.residuals[method]:.2g}" for method in METHODS)
        lines.append(f"| {TITLES[row.data]} | {row.n_neighbors} | {figures} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("-n", type=int, default=POINTS, help="points (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    for name in ("n", "seeds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)} must be at least 1")
    print(markdown(measure(n_samples=options.n, seeds=options.seeds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
