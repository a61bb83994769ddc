"""What is measured: the tables of cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from benchmarks.data import points

__all__ = ["CASES", "SOLVER_CASES", "Case", "Data", "quick", "select"]

# Sizes for --quick.
QUICK_POINTS = 1000
QUICK_NEW_POINTS = 2000


@dataclass(frozen=True)
class Data:
    """What a case runs on.

    Attributes
    ----------
    X : ndarray or csr_array of shape (n, n_features)
        The points to fit.
    new : ndarray or csr_array of shape (n_new, n_features)
        The points to transform; none unless that is timed.
    truth : ndarray of shape (n or n_new, 2), or None
        Isometric coordinates of the points whose embedding is judged.
    """

    X: NDArray[np.float64] | csr_array
    new: NDArray[np.float64] | csr_array
    truth: NDArray[np.float64] | None


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes
    ----------
    family : str
        The name without the size.
    data : str
        A key of :data:`benchmarks.data.DATA`.
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
    options : tuple of (str, value)
        Further parameters of lle_gpu.
    alone : str
        If not empty, why lle_gpu is measured alone unless opponents are asked for.
    budget : (float, float), optional
        The seconds of a run and the bytes of its process that lle_gpu must not exceed.
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
    options: tuple[tuple[str, Any], ...] = ()
    alone: str = ""
    budget: tuple[float, float] | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Case:
        """The case whose fields went through JSON, which knows no tuples."""
        return cls(**{name: _hashable(value) for name, value in fields.items()})

    @property
    def name(self) -> str:
        """Family and size."""
        new = f"{_short(self.n_new)}-onto-" if self.n_new else ""
        return f"{self.family}-{new}{_short(self.n)}"

    @property
    def description(self) -> str:
        """The case in words."""
        fit = f"{self.data}, {self.n:,} points, {self.method}, k={self.k}, d={self.d}"
        fit += "".join(f", {name}={value!r}" for name, value in self.options)
        return f"transform of {self.n_new:,} points: {fit}" if self.n_new else fit

    def load(self) -> Data:
        """Make the data; the same call gives the same data."""
        X, truth = points(self.data, self.n)
        if not self.n_new:
            return Data(X, X[:0], truth)
        new, truth = points(self.data, self.n_new, seed=1)
        return Data(X, new, truth)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _short(n: int) -> str:
    """10000 as 10k, 1000000 as 1M."""
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if n >= unit and n % unit == 0:
            return f"{n // unit}{letter}"
    return str(n)


def _cases() -> list[Case]:
    roll: dict[str, Any] = {"data": "swiss-roll", "k": 12, "d": 2}
    cases = [
        Case("roll-standard", n=n, method="standard", slow=n > 100_000, **roll)
        for n in (2_000, 10_000, 30_000, 100_000, 300_000)
    ]
    cases.append(
        Case(
            "roll-standard",
            n=1_000_000,
            method="standard",
            slow=True,
            alone="scikit-learn takes about twelve minutes and 15 GB",
            **roll,
        )
    )
    for method in ("modified", "hessian", "ltsa"):
        # tapkee has no modified LLE.
        only = {"opponents": ("sklearn-arpack",)} if method == "modified" else {}
        cases += [
            Case(f"roll-{method}", n=n, method=method, slow=n >= 100_000, **roll, **only)
            for n in (10_000, 30_000, 100_000)
        ]
    untried = (
        "scikit-learn loops over the points in Python and factors M with several times the fill; "
        "nobody waited for it"
    )
    cases += [
        Case("roll-ltsa", n=n, method="ltsa", slow=True, alone=untried, **roll)
        for n in (300_000, 1_000_000)
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
    cases += [
        Case(
            "mnist-standard-d10",
            data="mnist-5k",
            n=5000,
            method="standard",
            k=10,
            d=10,
            opponents=both,
        ),
        Case(
            "branching-modified-d3",
            data="branching",
            n=200_000,
            method="modified",
            k=20,
            d=3,
            opponents=("sklearn-arpack",),
            slow=True,
            alone=untried,
            budget=(600.0, 8e9),
        ),
        Case(
            "glove-standard-d10",
            data="glove",
            n=400_000,
            method="standard",
            k=15,
            d=10,
            opponents=(),
            slow=True,
            options=(("disconnected", "bridge"), ("memory_limit", "8GB")),
            alone="no other library bridges a graph that falls apart, or keeps a memory limit",
            budget=(3600.0, 8e9),
        ),
        Case(
            "documents-standard-d2",
            data="documents",
            n=20_000,
            method="standard",
            k=10,
            d=2,
            opponents=(),
            options=(("disconnected", "bridge"),),
            alone="neither scikit-learn nor tapkee takes sparse points; dense they are 32 GB",
        ),
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


def _solver_cases() -> dict[str, tuple[Case, ...]]:
    def case(family: str, data: str, n: int, k: int, d: int = 2, **more: Any) -> Case:
        return Case(family, data, n, **{"method": "standard", "k": k, "d": d, **more})

    bridged = (("disconnected", "bridge"),)
    return {
        "Usual": (
            case("roll-standard", "swiss-roll", 10_000, 12),
            case("roll-standard", "swiss-roll", 100_000, 12),
            case("roll-ltsa", "swiss-roll", 30_000, 12, method="ltsa"),
            case("digits-d2", "digits", 1797, 30),
            case("digits-d10", "digits", 1797, 30, d=10),
            case("mnist-d10", "mnist-5k", 5000, 10, d=10),
            case("cube-3d", "cube-3d", 20_000, 12),
            case("cube-5d", "cube-5d", 10_000, 14),
            case("cube-10d", "cube-10d", 5000, 20),
            case("glove", "glove", 20_000, 10, options=bridged),
        ),
        # 2304 is a square, for the grid, and 48 times a whole number, for the sphere.
        "Hard": (
            case("near-duplicates", "near-duplicates", 2304, 12),
            case("bridged-clusters", "bridged-clusters", 2304, 12),
            case("ring", "ring", 2304, 8),
            case("sphere", "sphere", 2304, 12, d=3),
            case("grid", "grid", 2304, 8, d=4),
        ),
    }


CASES: tuple[Case, ...] = tuple(_cases())
# For benchmarks.solvers, in groups.
SOLVER_CASES: dict[str, tuple[Case, ...]] = _solver_cases()


def select(
    patterns: list[str] | None = None, *, slow: bool = False, cases: Sequence[Case] = CASES
) -> list[Case]:
    """Pick cases by name, in the order of the table.

    Parameters
    ----------
    patterns : list of str, optional
        Names or globs; all cases without it.
    slow : bool, default=False
        Slow cases, too. A slow case that is named in full is always taken.
    cases : sequence of Case, default=CASES
        The table to pick from.

    Raises
    ------
    ValueError
        For a pattern that picks nothing.
    """
    names = {case.name for case in cases}
    for pattern in patterns or ():
        matching = [case for case in cases if fnmatchcase(case.name, pattern)]
        if not matching:
            raise ValueError(f"no case is called {pattern!r}: --list shows their names")
        if not slow and pattern not in names and all(case.slow for case in matching):
            raise ValueError(
                f"{pattern!r} matches slow cases only: add --slow, or name one in full"
            )
    return [
        case
        for case in cases
        if patterns is None
        or case.name in patterns
        or any(fnmatchcase(case.name, pattern) for pattern in patterns)
        if slow or not case.slow or (patterns and case.name in patterns)
    ]


def quick(cases: Iterable[Case], most: int = QUICK_POINTS) -> list[Case]:
    """Shrink cases to a second or so each; those that become the same are kept once."""
    small = [
        replace(
            case,
            n=min(case.n, most),
            n_new=min(case.n_new, QUICK_NEW_POINTS),
            slow=False,
            alone="",
            budget=None,
        )
        for case in cases
    ]
    return list(dict.fromkeys(small))
