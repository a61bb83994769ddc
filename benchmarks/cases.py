"""What is measured: the one table of cases, and the data they run on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CASES", "Case", "Data", "quick", "select"]

# Grey values of the digits are whole numbers, so that distances tie and the k-th neighbour is a
# matter of taste. This much noise (of 16) makes the neighbours, and so the answer, unique.
DIGITS_NOISE = 0.01
# Sizes for --quick.
QUICK_POINTS = 1000
QUICK_NEW_POINTS = 2000


@dataclass(frozen=True)
class Data:
    """What a case runs on.

    Attributes
    ----------
    X : ndarray of shape (n, n_features)
        The points to fit.
    new : ndarray of shape (n_new, n_features)
        The points to transform; none unless that is timed.
    truth : ndarray of shape (n or n_new, 2), or None
        Isometric coordinates of the points whose embedding is judged.
    """

    X: NDArray[np.float64]
    new: NDArray[np.float64]
    truth: NDArray[np.float64] | None


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes
    ----------
    family : str
        The name without the size.
    data : {"swiss-roll", "digits"}
    n : int
        Points to fit.
    method : {"standard", "modified", "hessian", "ltsa"}
    k, d : int
        Neighbours and components.
    timed : {"fit", "transform"}
        With "transform" the fit is made before the clock starts.
    n_new : int
        Points to transform.
    opponents : tuple of str
        Who is compared with lle_gpu: names in :data:`benchmarks.implementations.IMPLEMENTATIONS`.
    slow : bool
        Run only if named in full, or with ``--slow``.
    """

    family: str
    data: str
    n: int
    method: str
    k: int
    d: int
    timed: str = "fit"
    n_new: int = 0
    opponents: tuple[str, ...] = ("sklearn-arpack", "tapkee")
    slow: bool = False

    @property
    def name(self) -> str:
        """Family and size."""
        new = f"{_short(self.n_new)}-onto-" if self.n_new else ""
        return f"{self.family}-{new}{_short(self.n)}"

    @property
    def description(self) -> str:
        """The case in words."""
        fit = f"{self.data}, {self.n:,} points, {self.method}, k={self.k}, d={self.d}"
        return f"transform of {self.n_new:,} points: {fit}" if self.n_new else fit

    def load(self) -> Data:
        """Make the data; the same call gives the same data."""
        from lle_gpu.datasets import load

        fitted = load(self.data, self.n)
        X, truth = fitted.X, fitted.truth
        if self.data == "digits":
            X = X + DIGITS_NOISE * np.random.default_rng(0).standard_normal(X.shape)
        if not self.n_new:
            return Data(X, X[:0], truth)
        later = load(self.data, self.n_new, random_state=1)
        return Data(X, later.X, later.truth)


def _short(n: int) -> str:
    """10000 as 10k."""
    return f"{n // 1000}k" if n >= 1000 and n % 1000 == 0 else str(n)


def _cases() -> list[Case]:
    roll: dict[str, Any] = {"data": "swiss-roll", "k": 12, "d": 2}
    cases = [
        Case("roll-standard", n=n, method="standard", slow=n > 100_000, **roll)
        for n in (2_000, 10_000, 30_000, 100_000, 300_000)
    ]
    for method in ("modified", "hessian", "ltsa"):
        # tapkee has no modified LLE.
        only = {"opponents": ("sklearn-arpack",)} if method == "modified" else {}
        cases += [
            Case(f"roll-{method}", n=n, method=method, slow=n >= 100_000, **roll, **only)
            for n in (10_000, 30_000, 100_000)
        ]
    # scikit-learn's eigen_solver="auto" is dense from 9 components on, and ARPACK below.
    both = ("sklearn-arpack", "sklearn-auto")
    digits: dict[str, Any] = {"data": "digits", "n": 1797}
    cases += [
        Case(
            "digits-standard-d10",
            method="standard",
            k=10,
            d=10,
            opponents=(*both, "tapkee"),
            **digits,
        ),
        Case("digits-modified-d10", method="modified", k=12, d=10, opponents=both, **digits),
        Case("digits-ltsa-d10", method="ltsa", k=12, d=10, opponents=(*both, "tapkee"), **digits),
        Case("digits-standard-d2", method="standard", k=30, d=2, **digits),
        Case(
            "digits-modified-d2",
            method="modified",
            k=30,
            d=2,
            opponents=("sklearn-arpack",),
            **digits,
        ),
        Case("digits-hessian-d2", method="hessian", k=30, d=2, **digits),
        Case("digits-ltsa-d2", method="ltsa", k=30, d=2, **digits),
    ]
    # tapkee's Python module cannot place new points.
    cases += [
        Case(
            "roll-transform",
            n=n,
            method="standard",
            timed="transform",
            n_new=100_000,
            opponents=("sklearn-arpack",),
            slow=n >= 100_000,
            **roll,
        )
        for n in (10_000, 100_000)
    ]
    return cases


CASES: tuple[Case, ...] = tuple(_cases())


def select(patterns: list[str] | None = None, *, slow: bool = False) -> list[Case]:
    """Pick cases by name, in the order of the table.

    Parameters
    ----------
    patterns : list of str, optional
        Names or globs; all cases without it.
    slow : bool, default=False
        Slow cases, too. A slow case that is named in full is always taken.

    Raises
    ------
    ValueError
        For a pattern that picks nothing.
    """
    names = {case.name for case in CASES}
    for pattern in patterns or ():
        matching = [case for case in CASES if fnmatchcase(case.name, pattern)]
        if not matching:
            raise ValueError(f"no case is called {pattern!r}: --list shows their names")
        if not slow and pattern not in names and all(case.slow for case in matching):
            raise ValueError(
                f"{pattern!r} matches slow cases only: add --slow, or name one in full"
            )
    return [
        case
        for case in CASES
        if patterns is None
        or case.name in patterns
        or any(fnmatchcase(case.name, pattern) for pattern in patterns)
        if slow or not case.slow or (patterns and case.name in patterns)
    ]


def quick(cases: list[Case]) -> list[Case]:
    """Shrink cases to a second or so each; those that become the same are kept once."""
    small = [
        replace(
            case,
            n=min(case.n, QUICK_POINTS),
            n_new=min(case.n_new, QUICK_NEW_POINTS),
            slow=False,
        )
        for case in cases
    ]
    return list(dict.fromkeys(small))
