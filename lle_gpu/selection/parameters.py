"""The choice of n_neighbors and reg: embed with several values, judge each, take the best.

One search for neighbours, at the largest k, does for all: the k nearest are the first k columns.
What is then embedded costs about k + a (method "standard", one constraint a point), or the square
of that (the others, k x k numbers a point), where a = ``OVERHEAD`` + ``SETUP`` / n is what does not
grow with k. So the default candidates are tried from coarse to fine, as long as the sum stays below
``EFFORT`` times the cost of the largest in the range: with the search and the judging, the whole
takes about three times as long as one fit with that, or less. With hundreds of features the search
is much of a fit, and for method "standard" ``WIDE_EFFORT`` times as much keeps to the same; with
some tens it is less of one, and the whole can come near ``WIDE_EFFORT`` fits.

The largest is embedded only if the best so far lie beside it, or all others leave the graph in
pieces: it costs the most by far, and is seldom the best. What is saved goes to candidates around
the best, where the residual of method "standard" jumps from one k to the next.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils._param_validation import validate_params

from lle_gpu.arrays import as_points, check_sizes, check_values, on_device, to_host
from lle_gpu.backend import Backend
from lle_gpu.constraints import METHODS
from lle_gpu.device import resolve
from lle_gpu.exceptions import DisconnectedGraphError, DisconnectedGraphWarning
from lle_gpu.functional import PARAMETER_CONSTRAINTS, embed_graph, where_it_fits
from lle_gpu.neighbors.cpu import TREE_MAX_FEATURES
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.progress import stage, watch
from lle_gpu.selection.criteria import LOCAL, Judge, instability
from lle_gpu.selection.results import NeighborSelection, RegSelection

__all__ = ["select_n_neighbors", "select_reg"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]

# The default candidates for n_neighbors: from the first, or what the method needs, to the second.
LEAST, MOST = 6, 40
# What an embedding costs beside its neighbours, in neighbours: a share of the points', and one that
# does not depend on their number.
OVERHEAD, SETUP = 10, 30_000
# The sum of the costs of all that are tried by default, in units of that of the largest in the
# range; the second for one constraint a point and many features.
EFFORT, WIDE_EFFORT = 2.8, 4.0
# The first candidates are this factor apart; gaps count as equally wide whose widths, in such
# factors, round to the same half.
STEP = 2.0
# Candidates that are nearer to one another than this are not told apart.
FINEST = 1.06
# Powers of ten: 1e-3 is what LLE's authors use, 0.1 what classifiers often like better.
REGS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# A distance residual up to which the data count as a manifold that was found.
FOUND = 0.1
# Neighbours of which fewer are kept than this: n_components is too small to show the data.
POORLY_KEPT = 0.3
# Sine of the angle to which a candidate's vectors have to be right to be judged.
TOL = 1e-3

_SHARED = (
    "n_components", "method", "metric", "neighbors_algorithm", "random_state", "n_jobs", "device",
    "disconnected", "verbose", "callbacks",
)  # fmt: skip
_CHECKED = {
    "X": ["array-like", "sparse matrix"],
    "candidates": [None, "array-like"],
    **{k: PARAMETER_CONSTRAINTS[k] for k in _SHARED},
}


@validate_params(  # type: ignore[untyped-decorator]
    {**_CHECKED, "reg": PARAMETER_CONSTRAINTS["reg"]}, prefer_skip_nested_validation=True
)
def select_n_neighbors(
    X: Any,
    *,
    n_components: int = 2,
    method: str = "standard",
    candidates: Sequence[int] | None = None,
    reg: float = 1e-3,
    metric: Any = "euclidean",
    neighbors_algorithm: str = "auto",
    random_state: Any = None,
    n_jobs: int | None = None,
    device: str = "auto",
    disconnected: str = "warn",
    verbose: bool | int = False,
    callbacks: Any = None,
) -> NeighborSelection:
    """Find a number of neighbours that suits the data, the method and the number of components.

    Each candidate's embedding is judged against X alone (:mod:`lle_gpu.selection.criteria`). Where
    the best of them has distances like those along the data (``distance_residual`` at most 0.1),
    the data are a manifold that was found, and the smallest residual decides; else the share of
    neighbours that are kept does. Candidates whose graph gives more null vectors than the constant
    are taken only if all have: then all embeddings only tell parts apart, and ``disconnected`` is
    what helps.

    Parameters
    ----------
    X : array, data frame, tensor or sparse matrix of shape (n_samples, n_features)
        As in :meth:`lle_gpu.LocallyLinearEmbedding.fit`.
    n_components : int, default=2
    method : {"standard", "modified", "hessian", "ltsa"}, default="standard"
    candidates : sequence of int, default=None
        All of them are tried. None tries some numbers from 6 to 40 (more if the method needs more,
        less if there are few points), from coarse to fine around the best, in about two to
        four times the time of one fit with 40; 40 itself only if large numbers do best.
    disconnected : {"warn", "raise", "largest", "bridge"}, default="warn"
        As in :class:`lle_gpu.LocallyLinearEmbedding`, for each candidate's fit:

        - "warn": candidates whose graph is in pieces are embedded, and ``warnings`` names them.
        - "raise": they fail, as their fit would, and others are chosen from.
        - "bridge": each candidate's graph is bridged; ``long_edges`` is of the graph before.
        - "largest": each candidate embeds its own largest part, and places the other points beside
          it. Those count like all others, so that candidates are compared on the same points, and
          to leave out many is no advantage; ``warnings`` says how many are embedded.
    reg, metric, neighbors_algorithm, random_state, n_jobs, device, verbose, callbacks
        As in :class:`lle_gpu.LocallyLinearEmbedding`. Distances along the data are by ``metric``,
        neighbours kept too.

    Returns
    -------
    NeighborSelection

    Raises
    ------
    ValueError
        As :class:`lle_gpu.LocallyLinearEmbedding`, and for candidates that are no whole numbers,
        too few for the method, or not less than the number of points; or if all of them failed.
    DisconnectedGraphError
        A ValueError. If all of them failed because their graph is in pieces.
    GpuUnavailableError, GpuMemoryError
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    References
    ----------
    O. Kouropteva, O. Okun, M. Pietikäinen: Selection of the optimal parameter value for the locally
    linear embedding algorithm. FSKD 359 (2002).

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import select_n_neighbors
    >>> X, _ = make_swiss_roll(1000, random_state=0)
    >>> choice = select_n_neighbors(X, method="ltsa", candidates=[6, 9, 12, 30])
    >>> choice.recommended in (6, 9, 12)
    True
    >>> [float(share) > 0 for share in choice.table["long_edges"]]  # 30 reaches the next turn
    [False, False, False, True]
    """
    points = as_points(X, estimator="select_n_neighbors", least=3)
    n = points.shape[0]
    if candidates is None:
        least = METHODS[method].least_neighbors(n_components)
        low = min(max(LEAST, least), n - 1)
        high = min(max(MOST, 2 * low), max((n - 1) // 2, low))
        start = _ladder(low, high, METHODS[method].square)
    else:
        start = _numbers(candidates, "candidates", whole=True)
        low, high = start[0], start[-1]
    for k in (low, high):
        check_sizes(points.shape, method=method, n_neighbors=k, n_components=n_components)

    def run(backend: Backend) -> NeighborSelection:
        trials = _Trials(
            backend, points, high, n_components, method, metric, neighbors_algorithm,
            random_state, n_jobs, disconnected,
        )  # fmt: skip
        if candidates is None:
            _explore(trials, start, low, reg)
        else:
            for k in start:
                trials.run(k, k, reg)
        return _neighbor_selection(trials, ends=candidates is None)

    return _where(run, points, device, metric, neighbors_algorithm, verbose, callbacks)


@validate_params(  # type: ignore[untyped-decorator]
    {**_CHECKED, "n_neighbors": PARAMETER_CONSTRAINTS["n_neighbors"]},
    prefer_skip_nested_validation=True,
)
def select_reg(
    X: Any,
    *,
    n_neighbors: int,
    n_components: int = 2,
    method: str = "standard",
    candidates: Sequence[float] | None = None,
    metric: Any = "euclidean",
    neighbors_algorithm: str = "auto",
    random_state: Any = None,
    n_jobs: int | None = None,
    device: str = "auto",
    disconnected: str = "warn",
    verbose: bool | int = False,
    callbacks: Any = None,
) -> RegSelection:
    """Find a regularisation of the local weights, as :func:`select_n_neighbors` finds n_neighbors.

    Parameters
    ----------
    X : array, data frame, tensor or sparse matrix of shape (n_samples, n_features)
    n_neighbors : int
    n_components : int, default=2
    method : {"standard", "modified"}, default="standard"
        The others have no weights, and ``reg`` changes nothing of their embedding.
    candidates : sequence of float, default=None
        All of them are tried. None tries 1e-5, 1e-4, ..., 1.
    metric, neighbors_algorithm, random_state, n_jobs, device, disconnected, verbose, callbacks
        As in :class:`lle_gpu.LocallyLinearEmbedding`. All candidates have the same graph.

    Returns
    -------
    RegSelection

    Raises
    ------
    ValueError
        As :func:`select_n_neighbors`; for another method, and negative or infinite candidates.
    DisconnectedGraphError
        A ValueError. For ``disconnected="raise"``, if the graph is in pieces.
    GpuUnavailableError, GpuMemoryError
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    Examples
    --------
    >>> from sklearn.datasets import make_s_curve
    >>> from lle_gpu import select_reg
    >>> X, _ = make_s_curve(500, random_state=0)
    >>> select_reg(X, n_neighbors=12, candidates=[1e-3, 10.0]).recommended
    0.001
    """
    if method not in ("standard", "modified"):
        raise ValueError(
            f"method={method!r} has no weights to regularise, and reg changes nothing. "
            "Use method='standard' or 'modified'."
        )
    points = as_points(X, estimator="select_reg", least=3)
    check_sizes(points.shape, method=method, n_neighbors=n_neighbors, n_components=n_components)
    start = _numbers(REGS if candidates is None else candidates, "candidates", whole=False)

    def run(backend: Backend) -> RegSelection:
        trials = _Trials(
            backend, points, n_neighbors, n_components, method, metric, neighbors_algorithm,
            random_state, n_jobs, disconnected,
        )  # fmt: skip
        for reg in start:
            trials.run(reg, n_neighbors, reg)
        table = {"reg": np.array(sorted(trials.tried)), **trials.columns()}
        best, criterion, reason = _choose(table, "reg", trials.failures)
        said = _said(trials, table, best, ends=candidates is None)
        return RegSelection(float(table["reg"][best]), reason, table, tuple(said), criterion)

    return _where(run, points, device, metric, neighbors_algorithm, verbose, callbacks)


@dataclass(frozen=True)
class _Trial:
    """One candidate's embedding, and what was found out about it."""

    vectors: Float
    distance_residual: float
    neighborhood_preservation: float
    reconstruction_error: float
    null_vectors: float
    converged: bool


@dataclass
class _Trials:
    """Embeddings of the same points, with neighbours that were searched for once.

    ``parts`` has, by the number of neighbours, how many points are embedded where not all are.
    """

    backend: Backend
    points: Any
    most: int
    n_components: int
    method: str
    metric: Any
    algorithm: str
    random_state: Any
    n_jobs: int | None
    disconnected: str
    tried: dict[float, _Trial | None] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    parts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_values(self.points)
        self.points = self.backend.asarray(self.points)
        with stage("neighbors", self.points.shape[0]):
            search = self.backend.neighbor_search(
                self.points,
                self.most,
                algorithm=self.algorithm,
                metric=self.metric,
                random_state=self.random_state,
                n_jobs=self.n_jobs,
            )
            distance, index = map(to_host, search.kneighbors())
        self.index = index
        with stage("graph"):
            self.judge = Judge(index, distance, self.n_jobs)

    def run(self, candidate: float, k: int, reg: float) -> None:
        """Embed and judge; what fails leaves a message."""
        self.tried[candidate], said = None, []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # What "warn" says of each graph is said once of all, by their null vectors.
            warnings.simplefilter("ignore", DisconnectedGraphWarning)
            try:
                self.tried[candidate] = self._embed(k, reg)
            except (ValueError, np.linalg.LinAlgError) as error:
                self.failures.append(error)
                said.append(f"{candidate:g} failed: {error}")
        self.messages += [f"{candidate:g}: {warning.message}" for warning in caught] + said

    def _embed(self, k: int, reg: float) -> _Trial:
        nearest = np.ascontiguousarray(self.index[:, :k].astype(np.int32, copy=False))
        vectors, spectrum, graph = embed_graph(
            self.points,
            self.backend.asarray(nearest),
            self.backend,
            n_components=self.n_components,
            method=self.method,
            options={"reg": reg} if self.method in ("standard", "modified") else {},
            reg=reg,
            neighbors_algorithm=self.algorithm,
            metric=self.metric,
            disconnected=self.disconnected,
            solver="auto",
            tol=TOL,
            max_iter=100,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
            memory_limit=None,
        )
        Y = to_host(vectors)
        with stage("judging"):
            residual, kept = self.judge(Y)
        if len(graph.embedded_rows) < len(nearest):
            self.parts[k] = len(graph.embedded_rows)
            Y = np.linalg.qr(Y)[0]  # with the points that are placed, the columns lean
        return _Trial(Y, residual, kept, spectrum.error, spectrum.n_null, spectrum.converged)

    @property
    def is_mended(self) -> bool:
        """Whether graphs in pieces are."""
        return self.disconnected in ("bridge", "largest")

    def said_of_parts(self) -> list[str]:
        """A warning, if "largest" left points out."""
        if not self.parts:
            return []
        listed = ", ".join(f"{m} with n_neighbors={k}" for k, m in sorted(self.parts.items()))
        return [
            f"of {len(self.index)} points, disconnected='largest' embeds {listed}. The others are "
            "placed beside them, and count in the table all the same"
        ]

    def columns(self) -> dict[str, NDArray[Any]]:
        """The table, but for its first column."""
        trials = [self.tried[candidate] for candidate in sorted(self.tried)]
        names = [
            "distance_residual", "neighborhood_preservation", "reconstruction_error", "null_vectors"
        ]  # fmt: skip
        table: dict[str, NDArray[Any]] = {
            name: np.array([getattr(trial, name, np.nan) for trial in trials]) for name in names
        }
        change = np.full(len(trials), np.nan)
        before: _Trial | None = None
        for i, trial in enumerate(trials):
            if trial and before:
                change[i] = instability(trial.vectors, before.vectors)
            before = trial or before
        table["instability"] = change
        table["converged"] = np.array([bool(trial and trial.converged) for trial in trials])
        return table


def _where(
    run: Callable[[Backend], Any],
    points: Any,
    device: str,
    metric: Any,
    algorithm: str,
    verbose: bool | int,
    callbacks: Any,
) -> Any:
    """Do it on the device, as the estimator's fit does."""
    with watch(verbose, callbacks):
        with on_device(points):
            backend = resolve(device, metric=metric, algorithm=algorithm, sparse=issparse(points))
        advice = "or give fewer points or smaller candidates"
        return where_it_fits(device, backend, points, points, run, advice=advice)[0]


def _explore(trials: _Trials, start: Sequence[int], low: int, reg: float) -> None:
    """Try ``start``, then what lies between the best and its neighbours, within the effort."""
    effort = _effort(trials) * _cost([trials.most], trials)
    if not trials.is_mended and len(closed_classes(trials.index[:, : start[-1]]).sizes) > 1:
        start = [trials.most, *reversed(start)]  # the more neighbours, the fewer pieces
    for k in start:
        if _cost([*trials.tried, k], trials) <= effort or not trials.tried:
            trials.run(k, k, reg)
    while any(trials.tried.values()):
        for k in _next(trials, low):
            if _cost([*trials.tried, k], trials) <= effort:
                trials.run(k, k, reg)
                break
        else:
            return


def _next(trials: _Trials, low: int) -> list[int]:
    """Numbers of neighbours that are worth trying next, the most promising first.

    They halve the gaps on both sides of the best (the ends of the range count as its neighbours):
    the wider gap first, so that no side is forgotten; of two alike, that to the better neighbour.
    A candidate that must not be chosen, for its null vectors, may have the smallest residual all
    the same: then what is better still is looked for between it and the next larger one first.
    """
    ks = sorted(int(k) for k in trials.tried)
    columns = trials.columns()
    best, criterion, _ = _choose({"n_neighbors": np.array(ks), **columns}, "n_neighbors")
    residual = columns["distance_residual"]
    if np.nanmin(residual) <= FOUND:
        criterion = "distance_residual"
    score = columns[criterion] * (-1 if criterion == "distance_residual" else 1)
    worth = {k: float(v) for k, v in zip(ks, score, strict=True) if np.isfinite(v)}
    rungs = sorted({low, *ks, trials.most})

    def gaps(k: int, *steps: int) -> list[tuple[int, int]]:
        at = rungs.index(k)
        beside = [rungs[at + step] for step in steps if 0 <= at + step < len(rungs)]
        beside.sort(
            key=lambda other: (
                -round(2 * abs(math.log(other / k, STEP))),
                -worth.get(other, -math.inf),
            )
        )
        return [(min(k, other), max(k, other)) for other in beside]

    around = gaps(ks[best], -1, 1)
    guide = max(worth, key=worth.__getitem__)
    if columns["null_vectors"][ks.index(guide)] > 1 and guide != ks[best]:
        around = gaps(guide, 1) + around
    new = [_between(a, b, trials.tried) for a, b in around]
    return [k for k in new if k is not None]


def _between(a: int, b: int, tried: Mapping[float, Any]) -> int | None:
    """The middle of a < b, or an end of the range that is next to it; None if that was tried."""
    middle = round(math.sqrt(a * b))
    choices = [middle] if b > FINEST**2 * a else []
    choices += [a, b]
    return next((k for k in choices if k not in tried), None)


def _neighbor_selection(trials: _Trials, *, ends: bool) -> NeighborSelection:
    ks = np.array(sorted(trials.tried), dtype=int)
    long, looked_at = trials.judge.long_edges()
    table = {"n_neighbors": ks, **trials.columns(), "long_edges": long[ks - 1]}
    best, criterion, reason = _choose(table, "n_neighbors", trials.failures)
    said = _said(trials, table, best, ends=ends)
    if long[-1] > 0:
        first = int(np.argmax(long > 0)) + 1
        share = table["long_edges"][best]
        here = (
            f", and at the recommended {ks[best]} {share:.2%}: check the embedding, or take fewer"
            if share > 0
            else ""
        )
        said.append(
            f"edges that lead across the data (short circuits) were found from n_neighbors={first} "
            f"on, among those of {looked_at} points: at {trials.most} they are {long[-1]:.2%} of "
            f"all{here}. Those among the {LOCAL} nearest only diagnose() can tell"
        )
    return NeighborSelection(int(ks[best]), reason, table, tuple(said), criterion)


def _choose(
    table: dict[str, NDArray[Any]], name: str, failures: Sequence[Exception] = ()
) -> tuple[int, str, str]:
    """The row to recommend, the column that decided, and a sentence about it."""
    residual, kept = table["distance_residual"], table["neighborhood_preservation"]
    sound = np.isfinite(residual)
    if not sound.any():
        in_pieces = all(isinstance(error, DisconnectedGraphError) for error in failures)
        raise (DisconnectedGraphError if in_pieces else ValueError)(
            f"no candidate for {name} could be embedded; tried "
            f"{', '.join(f'{c:g}' for c in table[name])}. The last: {failures[-1]}"
        ) from failures[-1]
    if (table["null_vectors"][sound] == 1).any():
        sound &= table["null_vectors"] == 1
    best = int(np.argmin(np.where(sound, residual, np.inf)))
    if residual[best] <= FOUND:
        return (
            best,
            "distance_residual",
            f"{name}={table[name][best]:g}: distances in its embedding are most like those along "
            f"the data (1 - r^2 = {residual[best]:.2g}, up to one linear map).",
        )
    best = int(np.argmax(np.where(sound, kept, -np.inf)))
    return (
        best,
        "neighborhood_preservation",
        f"{name}={table[name][best]:g}: its embedding keeps most neighbours ({kept[best]:.0%}); no "
        f"candidate's distances are those along the data (1 - r^2 is {residual[sound].min():.2g} "
        "at best).",
    )


def _said(trials: _Trials, table: dict[str, NDArray[Any]], best: int, *, ends: bool) -> list[str]:
    """Warnings that do not depend on what is chosen."""
    name, values = next(iter(table.items()))
    said = [*trials.messages, *trials.said_of_parts()]
    many = table["null_vectors"] > 1
    if many.any():
        which = ", ".join(f"{v:g}" for v in values[many])
        bridge = "" if trials.is_mended else " or disconnected='bridge'"
        taken = "; the recommended value is one of them" if many[best] else ""
        said.append(
            f"with {name} = {which} the graph falls into closed classes, or F has other null "
            f"vectors beside the constant: the first coordinates only tell parts apart{taken}. "
            f"Larger n_neighbors{bridge} may mend it"
        )
    if ends and len(values) > 1 and best in (0, len(values) - 1):
        end = "smallest" if best == 0 else "largest"
        said.append(f"the recommended {name}={values[best]:g} is the {end} tried: give candidates")
    kept = float(table["neighborhood_preservation"][best])
    if kept < POORLY_KEPT:
        said.append(
            f"the best embedding keeps {kept:.0%} of the neighbours: the data have more than "
            "n_components dimensions (intrinsic_dimension estimates how many), or are noise"
        )
    return said


def _cost(ks: Iterable[float], trials: _Trials) -> float:
    """What embeddings with these numbers of neighbours take, in a unit of the method's own."""
    power = 1 if METHODS[trials.method].square else 2
    beside = OVERHEAD + SETUP / trials.points.shape[0]
    return float(sum((k + beside) ** power for k in ks))


def _effort(trials: _Trials) -> float:
    """What all trials may cost together, in units of one with the largest number."""
    is_wide = trials.points.shape[1] > TREE_MAX_FEATURES
    return WIDE_EFFORT if is_wide and METHODS[trials.method].square else EFFORT


def _ladder(low: int, high: int, square: bool) -> list[int]:
    """Whole numbers between low and high, ``STEP`` apart, half a step from low; low if none.

    Where small numbers are cheap beside the largest, a large one is among them, too: these methods
    embed images well with many neighbours, and badly with few.
    """
    steps = math.log(high / low, STEP)
    count = math.floor(steps) if square else math.floor(steps + 0.5)
    return [round(low * STEP ** (j + 0.5)) for j in range(count)] or [low]


def _numbers(values: Any, name: str, *, whole: bool) -> list[Any]:
    """Check candidates; ascending, each once."""
    given = list(values)
    kind, least = (Integral, 1) if whole else (Real, 0)
    for value in given:
        number = isinstance(value, kind) and np.isfinite(float(value)) and float(value) >= least
        if not number or value is True:
            allowed = f"whole numbers from {least}" if whole else f"finite numbers from {least}"
            raise ValueError(f"{name} has {value!r}, but must be {allowed} on")
    if not given:
        raise ValueError(f"{name} is empty: give at least one, or None for the default")
    return sorted({int(v) if whole else float(v) for v in given})
