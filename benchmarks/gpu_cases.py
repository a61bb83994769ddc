"""What is measured on a GPU: kernels with their floors, fits, and the figures aimed at.

A kernel cannot take less time than the device needs to move its bytes, or to do its arithmetic: the
larger of the two is its floor. Bytes are what has to be moved if no cache ever helps (a neighbour's
row is read anew for every point), and whole arrays, once, for all else. Operations are those of the
plain algorithm. Rates are measured, on the same device (:mod:`benchmarks.gpu_measure`).

The figures aimed at are for an H200.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from benchmarks.cases import Case, Data

__all__ = ["CASES", "FitCase", "KernelCase", "RatioCase", "Target", "Work", "select", "shrunk"]

QUICK_POINTS = 2000
# A block of eight vectors, and so many steps of the recurrence in one call.
BLOCK, STEPS = 8, 64
# Operations of a symmetric eigenproblem with vectors, in k^3 (Golub, Van Loan: 8.3.3).
EIGENPROBLEM = 9
# Quantities whose aims hold for one size only.
TIMES = ("kernels", "warm", "ratio")


@dataclass(frozen=True)
class Target:
    """A figure aimed at: a result's ``quantity`` is to be at most, or at least, ``limit``."""

    quantity: str
    limit: float
    at_least: bool = False

    def judged(self, result: dict[str, Any], *, counts: bool) -> dict[str, Any]:
        """The target beside what was measured; ``met`` is None if it was not, or does not count."""
        measured = result.get(self.quantity)
        met = None
        if counts and measured is not None:
            met = bool(measured >= self.limit if self.at_least else measured <= self.limit)
        return {**asdict(self), "measured": measured, "met": met}


@dataclass(frozen=True)
class Work:
    """One call to be timed, and what it has to do at least.

    Attributes
    ----------
    run : callable
    bytes, operations : float
    real : {"float32", "float64"}
        In which the operations are done.
    ours : bool
        Whether launches of our kernels, outside of graphs, are all of it. Else the call is timed.
    """

    run: Callable[[], Any]
    bytes: float
    operations: float
    real: str
    ours: bool = True


@dataclass(frozen=True)
class KernelCase:
    """A kernel, through the function that launches it.

    Attributes
    ----------
    what : str
        A key of :data:`WORK`.
    n, d, k, q : int
        Points, features, neighbours, components.
    dtype : {"float32", "float64"}
        Of the points.
    algorithm : str
        Of the neighbour search.
    """

    what: str
    n: int
    d: int
    k: int
    q: int = 2
    dtype: str = "float64"
    algorithm: str = ""
    targets: tuple[Target, ...] = ()
    kind: str = field(default="kernel", init=False)

    @property
    def name(self) -> str:
        """What, its size, and in which numbers."""
        algorithm = f"-{self.algorithm}" if self.algorithm else ""
        return f"{self.what}{algorithm}-{self.n}x{self.d}-{self.dtype}"

    @property
    def description(self) -> str:
        """The case in words."""
        return f"{self.what}, n={self.n:,}, d={self.d}, k={self.k}, {self.dtype}"

    def work(self) -> Work:
        """Make the data on the device."""
        return WORK[self.what](self)


@dataclass(frozen=True)
class FitCase:
    """A fit from end to end.

    Attributes
    ----------
    case : benchmarks.cases.Case
    dtype : {"float32", "float64"}
    beside_cpu : bool
        Whether the CPU path embeds the same data for comparison.
    """

    case: Case
    dtype: str = "float64"
    beside_cpu: bool = True
    targets: tuple[Target, ...] = ()
    kind: str = field(default="fit", init=False)

    @property
    def name(self) -> str:
        """Family, size, and the numbers if they are not the usual ones."""
        return self.case.name + ("" if self.dtype == "float64" else f"-{self.dtype}")

    @property
    def description(self) -> str:
        """The case in words."""
        return f"{self.case.description}, {self.dtype}"

    def load(self) -> Data:
        """Make the data, on the host."""
        data = self.case.load()
        return replace(data, X=data.X.astype(self.dtype))


@dataclass(frozen=True)
class RatioCase:
    """scikit-learn's time on this machine's CPU, in units of the GPU's for the same fit."""

    case: Case
    targets: tuple[Target, ...] = ()
    kind: str = field(default="scikit-learn", init=False)

    @property
    def name(self) -> str:
        """Of the fit, with scikit-learn before it."""
        return f"scikit-learn-{self.case.name}"

    @property
    def description(self) -> str:
        """The case in words."""
        return f"scikit-learn on the CPU: {self.case.description}"


# The work of each kernel


def _weights(case: KernelCase) -> Work:
    from lle_gpu.constraints.gpu import barycentric_weights
    from lle_gpu.cuda import cupy

    n, d, k = case.n, case.d, case.k
    X = cupy().asarray(_normal(n, d).astype(case.dtype))
    index = cupy().asarray(_scattered(n, k))
    gathered = n * (k + 1) * d * X.dtype.itemsize
    return Work(
        lambda: barycentric_weights(X, X, index),
        gathered + n * k * (4 + 8),
        n * (k * (k + 1) * d + k * d + k**3 / 3 + 2 * k**2),
        case.dtype,
    )


def _rows(case: KernelCase) -> Work:
    from lle_gpu.constraints import gpu
    from lle_gpu.neighbors.gpu import NeighborSearch

    X = _roll(case)
    index = NeighborSearch(X, case.k).kneighbors(return_distance=False).astype(np.int32)
    method = getattr(gpu, case.what.removesuffix("-rows"))
    n, d, k = case.n, case.d, case.k
    written = method(X, index, case.q).rows
    gathered = n * (k + 1) * d * X.dtype.itemsize + 4 * n * k
    small = k * (k + 1) * d + EIGENPROBLEM * min(k, d) ** 3 + 2 * written.shape[1] * k**2
    return Work(lambda: method(X, index, case.q), gathered + written.nbytes, n * small, "float64")


def _neighbors(case: KernelCase) -> Work:
    from lle_gpu.cuda import cupy
    from lle_gpu.neighbors.gpu import NeighborSearch

    X = cupy().asarray(_normal(case.n, case.d).astype(case.dtype))

    def run() -> Any:
        search = NeighborSearch(X, case.k, algorithm=case.algorithm)
        return search.kneighbors(return_distance=False)

    moved = X.nbytes + 8 * case.n * case.k
    return Work(run, moved, 2.0 * case.n**2 * case.d, "float32", ours=False)


def _filter(case: KernelCase) -> Work:
    """STEPS steps Y_j = alpha B^T (B Y_{j-1}) + beta Y_{j-1} + gamma Y_{j-2} of BLOCK vectors."""
    from lle_gpu.cuda import cupy
    from lle_gpu.spectral.gpu.products import Products

    products = Products(_square(case))
    n, m, b = case.n, case.k + 1, BLOCK
    Y = cupy().asarray(_normal(n, b))
    coefficients = np.tile([-0.5, 1.0, -0.5], (STEPS, 1))
    coefficients[0, 2] = 0.0
    # B: values and columns, Y once, B Y. B^T: the same, its row pointers, Y and Z, and Z again.
    step = n * m * 12 + 2 * 8 * n * b + n * m * 12 + 8 * n + 4 * 8 * n * b
    operations = STEPS * (4.0 * n * m * b + 5.0 * n * b)
    return Work(
        lambda: products.recur(Y, coefficients), STEPS * step, operations, "float64", ours=False
    )


def _dissection(case: KernelCase) -> Work:
    """An order of elimination for B, from its graph to the host's copy of the order."""
    from lle_gpu.spectral.cpu.ordering import LEAF, SWEEPS
    from lle_gpu.spectral.gpu.ordering import PIVOTS, dissect

    B = _square(case)
    edges = 2 * B.nnz
    levels = max(np.log2(case.n / LEAF), 0.0)
    # An edge and what is known of its end: for each pivot's search, in numbers for all pivots in
    # each sweep, and twice in each level of cuts.
    moved = edges * (PIVOTS * 8 + SWEEPS * (8 + 4 * PIVOTS) + levels * 2 * 8)

    def run() -> Any:
        found = dissect(B)
        if found is None:
            raise RuntimeError("there is no dissection of this graph")
        return found

    return Work(run, moved, 2.0 * SWEEPS * PIVOTS * edges, "float32", ours=False)


def _square(case: KernelCase) -> Any:
    """B of a swiss roll."""
    from lle_gpu.constraints.gpu import standard
    from lle_gpu.neighbors.gpu import NeighborSearch
    from lle_gpu.spectral.gpu.sparse import Rows

    X = _roll(case)
    index = NeighborSearch(X, case.k).kneighbors(return_distance=False).astype(np.int32)
    return Rows(standard(X, index, case.q))


WORK: dict[str, Callable[[KernelCase], Work]] = {
    "weights": _weights,
    "modified-rows": _rows,
    "hessian-rows": _rows,
    "ltsa-rows": _rows,
    "neighbors": _neighbors,
    "filter": _filter,
    "dissection": _dissection,
}


def _normal(n: int, d: int) -> Any:
    return np.random.default_rng(0).standard_normal((n, d))


def _scattered(n: int, k: int) -> Any:
    """K other points for each, all over memory, so that no cache helps."""
    permuted = np.random.default_rng(1).permutation(n).astype(np.int32)
    place = np.argsort(permuted)
    return permuted[(place[:, None] + 1 + np.arange(k)) % n]


def _roll(case: KernelCase) -> Any:
    """A swiss roll, with columns of zeros if it is to have more than three."""
    from lle_gpu.cuda import cupy
    from lle_gpu.datasets import load

    X = np.zeros((case.n, case.d), case.dtype)
    X[:, :3] = load("swiss-roll", case.n, random_state=0).X
    return cupy().asarray(X)


# The table

AnyCase = KernelCase | FitCase | RatioCase


def _cases() -> list[AnyCase]:
    """Everything that is measured, the quick things first."""

    def fit(family: str, n: int, method: str = "standard", **more: Any) -> Case:
        roll = {"data": "swiss-roll", "k": 12, "d": 2}
        return Case(family, n=n, method=method, **{**roll, **more})

    def most(quantity: str, limit: float) -> tuple[Target, ...]:
        return (Target(quantity, limit),)

    same = most("neighbors_differing", 0)
    close = (*same, Target("sine_to_cpu", 1e-6))
    cases: list[AnyCase] = [
        # Twice the floors of 0.77 and 1.53 ms.
        KernelCase("weights", 1_000_000, 50, 15, dtype="float32", targets=most("kernels", 1.54e-3)),
        KernelCase("weights", 1_000_000, 50, 15, targets=most("kernels", 3.06e-3)),
        KernelCase("weights", 70_000, 784, 10, dtype="float32"),
        KernelCase("weights", 70_000, 784, 10),
    ]
    cases += [
        KernelCase(f"{method}-rows", 100_000, 3, 12) for method in ("modified", "hessian", "ltsa")
    ]
    cases += [
        KernelCase("neighbors", n, d, k, dtype="float32", algorithm=algorithm)
        for n, d, k in ((100_000, 3, 12), (100_000, 50, 15), (70_000, 784, 10))
        for algorithm in ("cupy", "cuml", "cuvs")
    ]
    cases += [
        KernelCase(what, n, 3, 12)
        for what in ("filter", "dissection")
        for n in (100_000, 1_000_000)
    ]
    cases += [
        FitCase(fit("roll-standard", 10_000), targets=close),
        FitCase(
            fit("roll-standard", 10_000),
            dtype="float32",
            targets=(*same, Target("sine_to_cpu", 1e-3)),
        ),
        FitCase(fit("roll-standard", 100_000), targets=(Target("warm", 0.5), *close)),
    ]
    cases += [
        FitCase(fit(f"roll-{method}", 100_000, method), targets=close)
        for method in ("modified", "hessian", "ltsa")
    ]
    cases += [
        FitCase(fit("roll-standard", 1_000_000), beside_cpu=False, targets=most("warm", 10.0)),
        FitCase(
            fit(
                "glove-standard",
                400_000,
                data="glove",
                k=15,
                d=10,
                options=(("disconnected", "bridge"),),
            ),
            beside_cpu=False,
            targets=most("warm", 10.0),
        ),
        RatioCase(fit("roll-standard", 10_000)),
        RatioCase(fit("roll-standard", 100_000), targets=(Target("ratio", 100.0, at_least=True),)),
    ]
    return cases


CASES: tuple[AnyCase, ...] = tuple(_cases())


def select(patterns: list[str] | None) -> list[AnyCase]:
    """Pick cases by name or glob, in the order of the table.

    Raises
    ------
    ValueError
        For a pattern that picks nothing.
    """
    for pattern in patterns or ():
        if not any(fnmatchcase(case.name, pattern) for case in CASES):
            raise ValueError(f"no case is called {pattern!r}: --list shows their names")
    return [
        case
        for case in CASES
        if patterns is None or any(fnmatchcase(case.name, pattern) for pattern in patterns)
    ]


def shrunk(cases: Iterable[AnyCase], most: int) -> list[AnyCase]:
    """Cases of at most so many points, without aims at times; of one name, the first is kept."""
    small: dict[str, AnyCase] = {}
    for case in cases:
        targets = tuple(target for target in case.targets if target.quantity not in TIMES)
        if isinstance(case, KernelCase):
            less: AnyCase = replace(case, n=min(case.n, most), targets=targets)
        else:
            fit = replace(case.case, n=min(case.case.n, most))
            less = replace(case, case=fit, targets=targets)
        small.setdefault(less.name, less)
    return list(small.values())
