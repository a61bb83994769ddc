"""What is wrong with an embedding, in plain words: the checks behind ``model.diagnose()``.

A fitted model keeps its points, its neighbours, its certificate and its coordinates. Each check
looks at some of these and gives a :class:`Finding`, or none. Causes come first (the data, the
neighbour graph, the size of the neighbourhoods), then what the solver knows, then what can be seen
in the coordinates. ``docs/diagnosis.md`` has all findings.

How large the neighbourhoods are against the bends and the noise is read from principal components.
With lambda_1 >= lambda_2 >= ... the variances of a point and its j nearest neighbours along their
own principal directions, and q = n_components, ::

    thickness(j) = median over points of lambda_(q+1) / lambda_q,

divided by the same median for points drawn uniformly from a ball of q + 1 dimensions (as few points
as j + 1 look flatter than they are). It is near 0 where neighbourhoods of j points lie on a surface
of dimension q, and near 1 where there is no surface to be seen. It rises with j where the surface
bends, and falls with j where noise makes it thick: that is how the two are told apart. (The same
quotient one direction earlier, lambda_q / lambda_(q-1), says whether there are q directions.)

Everything but the neighbour graph is looked at on a sample of rows, the same each time. The model
is not changed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from scipy.sparse.csgraph import connected_components
from sklearn.utils.validation import check_is_fitted

from lle_gpu.arrays import HostIndexed, as_points, is_device_array, on_device, to_host
from lle_gpu.constraints import METHODS
from lle_gpu.constraints.cpu.local import (
    centred_neighborhoods,
    differences,
    principal_directions,
    typical_width,
)
from lle_gpu.kinds import check_kind
from lle_gpu.metrics import effective_support
from lle_gpu.neighbors import EUCLIDEAN
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.neighbors.precomputed import neighbor_index
from lle_gpu.parallel import for_each_chunk
from lle_gpu.progress import stage

__all__ = ["Diagnosis", "Finding", "diagnose"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]

# Rows looked at: neighbourhoods of several sizes, columns and coordinates; and edges, of which one
# in thousands can be enough to spoil an embedding.
SAMPLE, EDGE_SAMPLE = 500, 50_000
# A sample that is to show how coordinates depend on one another.
COORDINATE_SAMPLE = 2_000
SEED = 0
# Rows named in figures.
SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    name : str
        Stable, for programs: "short-circuit", "noise", ...; ``docs/diagnosis.md`` has them all.
    message : str
        What it is, in plain words.
    figures : mapping of str to number, str or list
        What it was seen by.
    advice : str
        What to try.
    """

    name: str
    message: str
    figures: Mapping[str, Any]
    advice: str

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {_text(value)}" for name, value in self.figures.items())
        return f"{self.name}: {self.message}\n    figures: {figures}\n    try: {self.advice}"


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found: causes first, then symptoms; false if nothing.

    Attributes
    ----------
    findings : tuple of Finding

    Examples
    --------
    >>> from lle_gpu.diagnosis import Diagnosis, Finding
    >>> bool(Diagnosis(()))
    False
    >>> Diagnosis((Finding("noise", "Too much of it.", {"thickness": 0.9}, "less of it"),)).names
    ('noise',)
    """

    findings: tuple[Finding, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The findings' names, in order."""
        return tuple(finding.name for finding in self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        if not self.findings:
            return "nothing found"
        return "\n".join(str(finding) for finding in self.findings)

    def to_pandas(self) -> Any:
        """One row a finding: name, message, figures (as text), advice.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            Without pandas.
        """
        check_kind("pandas")
        from pandas import DataFrame

        rows = [
            (
                finding.name,
                finding.message,
                ", ".join(f"{name}={_text(value)}" for name, value in finding.figures.items()),
                finding.advice,
            )
            for finding in self.findings
        ]
        return DataFrame(rows, columns=["name", "message", "figures", "advice"])


def diagnose(model: Any, X: Any = None) -> Diagnosis:
    """Say what is wrong with a fitted model, with the figures behind it and what to try.

    It costs one search for neighbours and passes over samples of the rows: less than the fit from
    several thousand points on; a few times the fit where points are few and columns many. The model
    is not changed. The result does not depend on chance.

    Parameters
    ----------
    model : LocallyLinearEmbedding
        Fitted; on a GPU, too, or loaded from a file.
    X : array, data frame, tensor or sparse matrix of shape (n_samples, any number), default=None
        Data of the same rows to judge by, such as the features from which those that were fitted
        were computed. None takes the points that the model keeps. A graph that was brought along
        as ``precomputed_knn`` is looked at instead of the nearest neighbours in these; one that was
        given to ``fit`` as ``knn_graph`` is not kept.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError
        If the model is not a LocallyLinearEmbedding of this package.
    NotFittedError
        If it is not fitted.
    ValueError
        If X has another number of rows, or cannot be worked on.

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> from lle_gpu.diagnosis import diagnose
    >>> X, _ = make_swiss_roll(1000, random_state=0)
    >>> print(diagnose(LocallyLinearEmbedding(n_neighbors=10, method="ltsa").fit(X)))
    nothing found
    >>> diagnose(LocallyLinearEmbedding(n_neighbors=40, method="ltsa").fit(X)).names
    ('short-circuit',)
    """
    if not hasattr(type(model), "diagnose"):
        raise TypeError(
            f"model is a {type(model).__name__}: diagnose() takes a fitted "
            "lle_gpu.LocallyLinearEmbedding"
        )
    check_is_fitted(model)
    with stage("diagnosis"):
        view = _View(model, X)
        findings = [finding for check in DATA for finding in check(view)]
        if not findings:  # neighbourhoods that the data spoil say nothing about their size
            findings = [finding for check in NEIGHBORHOODS for finding in check(view)]
        findings += [finding for check in RESULT for finding in check(view)]
    # One of each name: the first has the most to say.
    return Diagnosis(
        tuple({finding.name: finding for finding in reversed(findings)}.values())[::-1]
    )


class _View:
    """What the checks look at: the embedded points, their graph, their coordinates, on the host."""

    def __init__(self, model: Any, X: Any) -> None:
        self.model = model
        self.method: str = model.method
        self.rows: Index = model.embedded_rows_
        self.is_bridged = len(model.bridged_rows_) > 0
        self.n_all = int(model.embedding_.shape[0])
        self.is_whole = len(self.rows) == self.n_all
        self.Y: Float = to_host(model.embedding_)[self.rows].astype(np.float64, copy=False)
        self.n, self.q = self.Y.shape
        self.search, self.k = model.nbrs_, int(model.nbrs_.n_neighbors)
        if X is not None or not self.is_whole:
            self.search = self._search_in(X)
        self.X = self.search.X
        self.d = int(self.X.shape[1])
        self._variances: dict[int, Float] = {}

    def _search_in(self, X: Any) -> Any:
        """Neighbours among the embedded rows of X, or of the model's points."""
        points = self.model.nbrs_.X if X is None else as_points(X, estimator="diagnose", least=2)
        if points.shape[0] != self.n_all:
            raise ValueError(
                f"X has {points.shape[0]} rows, and the model was fitted to {self.n_all}: give the "
                "same rows in the same order"
            )
        points = to_host(points)
        if not self.is_whole:
            points = points[self.rows]
        options = {"metric": self.model.metric, "n_jobs": self.model.n_jobs}
        return NeighborSearch(points, self.k, **options)

    # The graph

    @cached_property
    def small(self) -> int:
        """Neighbours that a tangent plane of q dimensions is taken from.

        A plane is determined by q + 1 points; from twice as many and two more on, it is an average.
        """
        return min(2 * self.q + 4, self.n - 1)

    @cached_property
    def nearest(self) -> tuple[Float, Index]:
        """Distances to the nearest neighbours and their rows, (n, 2 k or more) each.

        One search for all checks: twice k shows what a larger k would join.
        """
        count = max(min(2 * self.k, self.n - 1), self.small)
        distance, index = self.search.kneighbors(n_neighbors=count)
        return to_host(distance), to_host(index)

    @cached_property
    def index(self) -> Index:
        """The graph (n, k) that was embedded; without its bridges."""
        given = self.model.precomputed_knn
        if given is None or not self.is_whole:
            return self.nearest[1][:, : self.k]
        return neighbor_index(given, self.n, self.k)

    @cached_property
    def classes(self) -> Any:
        """Closed classes of that graph."""
        return closed_classes(self.index)

    @cached_property
    def is_small(self) -> NDArray[np.bool_]:
        """Which of the closed classes are as small as a clique."""
        return self.is_few(self.classes.sizes)

    @cached_property
    def kth(self) -> Float:
        """Distances to the k-th neighbour; not zero."""
        kth: Float = np.maximum(self.nearest[0][:, self.k - 1], np.finfo(float).tiny)
        return kth

    @cached_property
    def group(self) -> Index:
        """Groups of points with no gap in between: (n,), numbers.

        Two points belong together if each is among the other's near ones: not farther than APART
        times its distance to the k-th neighbour. Asked of both, an outlier far from everything does
        not tie one cluster to another, whatever its own neighbours are; and points on a cluster's
        rim that lead into its closed class are in its group, though not in the class.
        """
        distance, index = self.nearest
        rows, places = np.nonzero(
            distance <= APART * np.minimum(self.kth[:, None], self.kth[index])
        )
        edges = csr_array((np.ones(len(rows)), (rows, index[rows, places])), shape=(self.n, self.n))
        group: Index = connected_components(edges, directed=False)[1]
        return group

    @cached_property
    def is_large(self) -> NDArray[np.bool_]:
        """Which of these groups are no cliques."""
        return ~self.is_few(np.bincount(self.group))

    def is_few(self, sizes: Index) -> NDArray[np.bool_]:
        """Which groups of so many points are as small as a clique."""
        few: NDArray[np.bool_] = sizes <= CLIQUE * (self.k + 1)
        return few & (sizes < CLIQUE_SHARE * self.n)

    # Samples

    def sample(self, count: int) -> Index:
        """So many rows, ascending, the same each time; all of them if there are no more."""
        if count >= self.n:
            return np.arange(self.n)
        return np.sort(np.random.default_rng(SEED).choice(self.n, count, replace=False))

    def points(self, index: Index) -> tuple[Any, Index]:
        """An array on the host that holds these rows of X, and where in it they are."""
        if not is_device_array(self.X):
            return self.X, index
        rows, where = np.unique(index, return_inverse=True)
        with on_device(self.X):
            return to_host(HostIndexed(self.X)[rows]), where.reshape(index.shape)

    @cached_property
    def scales(self) -> list[int]:
        """Sizes of neighbourhoods that are compared: from ``small`` by steps of a half.

        Up to four times k, and 64 at the least, but to no more than a quarter of the points.
        """
        largest = max(self.small, min(max(4 * self.k, 64), self.n // 4))
        sizes = [self.small]
        while (following := sizes[-1] + sizes[-1] // 2) <= largest:
            sizes.append(following)
        return sizes

    @cached_property
    def reached(self) -> list[int]:
        """Those of these sizes that are no larger than k; the first one always is among them."""
        return [size for size in self.scales if size <= max(self.k, self.small)]

    @cached_property
    def sampled(self) -> tuple[Any, Index]:
        """Points, and where in them each sampled row and its neighbours are, nearest first."""
        query, where = self.points(self.sample(SAMPLE))
        _, index = self.search.kneighbors(query[where], self.scales[-1] + 1)
        return self.points(to_host(index))

    def variances(self, size: int) -> Float:
        """Of a sample of neighbourhoods of this size, along principal directions: (m, q + 2).

        Shares of their sum; 0 where there are fewer directions. The last column has the sum of all
        after the first q + 1.
        """
        if size not in self._variances:
            self._variances[size] = self._measured_variances(size)
        return self._variances[size]

    def _measured_variances(self, size: int) -> Float:
        (X, index), q = self.sampled, self.q
        kept = np.zeros((len(index), q + 2))
        width = typical_width(X, size + 1)

        def work(chunk: slice) -> None:
            Z = centred_neighborhoods(X, index[chunk, : size + 1])
            # Without directions, the smaller of Z Z^T and Z^T Z is enough.
            wide = Z if Z.shape[1] <= Z.shape[2] else Z.transpose(0, 2, 1)
            values = np.maximum(np.linalg.eigvalsh(wide @ wide.transpose(0, 2, 1))[:, ::-1], 0)
            total = values.sum(axis=1, keepdims=True)
            values = values / np.where(total > 0, total, 1.0)
            top = values[:, : q + 1]
            kept[chunk, : top.shape[1]] = top
            kept[chunk, q + 1] = values[:, q + 1 :].sum(axis=1)

        for_each_chunk(
            work,
            len(index),
            bytes_per_row=24 * (size + 1) * width,
            n_jobs=self.model.n_jobs,
            quiet=True,
        )
        return kept

    def thickness(self, q: int, sizes: Iterable[int]) -> Float:
        """Relative extent in the direction after the first q, for each size: see the module."""
        return np.array([self._thickness(q, size) for size in sizes])

    def _thickness(self, q: int, size: int) -> float:
        before, after = self.variances(size)[:, q - 1 : q + 1].T
        even = _ball_variances(size, q + 1)
        return float(
            np.median(after / np.where(before > 0, before, 1.0))
            / np.median(even[:, q] / even[:, q - 1])
        )

    @cached_property
    def spreads(self) -> _Spreads | None:
        """How the columns' spreads compare."""
        return _spreads(self)

    @cached_property
    def dimension(self) -> float:
        """Dimension of the data by the distances in neighbourhoods of 8 to 16 points.

        E. Levina, P. Bickel: Maximum likelihood estimation of intrinsic dimension. NIPS 17 (2005),
        with the inverses averaged, as D. MacKay and Z. Ghahramani have it.
        """
        count = min(max(self.k, self.small), 16)
        distance = self.nearest[0][self.sample(SAMPLE), :count]
        distance = distance[distance[:, 0] > 0]
        if len(distance) == 0 or count < 3:
            return float(self.q)
        inverse = np.log(distance[:, -1:] / distance[:, :-1]).sum(axis=1) / (count - 1)
        return float(1 / max(inverse.mean(), 1e-9))


@functools.lru_cache(maxsize=256)
def _ball_variances(size: int, d: int) -> Float:
    """Variances along principal directions of size + 1 points in a ball: (draws, min(size + 1, d)).

    The first is its centre. Shares of their sum.
    """
    random = np.random.default_rng(SEED)
    Z = random.standard_normal((200, size + 1, d))
    Z *= random.uniform(size=(200, size + 1, 1)) ** (1 / d) / np.linalg.norm(
        Z, axis=2, keepdims=True
    )
    Z[:, 0] = 0
    Z -= Z.mean(axis=1, keepdims=True)
    values = np.linalg.svd(Z, compute_uv=False) ** 2
    shares: Float = values / values.sum(axis=1, keepdims=True)
    return shares


# The data -----------------------------------------------------------------------------------------

# Nearer than this part of the median distance to the k-th neighbour, points are copies: float32
# keeps 7 digits.
COPY = 1e-6
# Share of rows that have copies, or of the neighbours of some point that are its copies.
MANY_COPIES, CROWDED_BY_COPIES = 0.01, 0.5
# Columns decide alone who is whose neighbour if they make up this share of the variance.
DECIDING = 0.9
# Least spread of these over the median of the others', from which units are suspected; and from
# which nothing else need be known.
SEVERAL, UNITS_APART = 3.0, 10.0
# Variance of a column within neighbourhoods, as a share of its variance: neighbours that are chosen
# without regard to it come to 1, those of k points among n on a surface of d dimensions to about
# (k / n)^(2/d).
IGNORED = 0.5
# Scaled columns that tell of one another leave neighbours nearer than if all but the deciding ones
# were shuffled: 0.5 to 0.81 of that distance for breast cancer, wine, and a swiss roll with one
# column stretched; 0.93 to 1.05 where the others are noise or thickness.
STRUCTURE, STRUCTURE_NEIGHBORS = 0.86, 5
# Zeros in so many rows of the median column make it counts or pixels, alike in unit.
COUNTS = 0.1
# A constant column's spread is rounding, as a share of its entries.
ROUNDING = 1e-12
# Principal components fall in spread and are uncorrelated: correlations up to so many times what
# chance gives, and the rank correlation of spread and place.
UNCORRELATED, SORTED, FEWEST_SORTED = 1.5, -0.95, 4


def _duplicates(view: _View) -> Iterator[Finding]:
    distance = view.nearest[0][:, : view.k]
    near = distance <= COPY * np.median(distance[:, -1])
    if np.median(distance[:, -1]) == 0:
        near = distance == 0
    copies = near.sum(axis=1)
    share, most = float((copies > 0).mean()), int(copies.max())
    if share < MANY_COPIES and most <= CROWDED_BY_COPIES * view.k:
        return
    rows = np.flatnonzero(copies > 0)
    yield Finding(
        "duplicates",
        f"{len(rows)} of {view.n} rows have copies among their neighbours. Copies take neighbours' "
        "places and say nothing about the surface, and k + 1 of one row are a piece of their own.",
        {"rows with copies": len(rows), "share": share, "most copies": most, "rows": _shown(rows)},
        f"remove duplicated rows (numpy.unique(X, axis=0)), or n_neighbors={view.k + most}",
    )


@dataclass(frozen=True)
class _Spreads:
    """Columns in order of spread, and whether those that spread most decide alone.

    Attributes
    ----------
    large, small : ndarray of int
        Columns that make up DECIDING of the variance, or stand above a step of UNITS_APART; and
        the others that vary.
    ratio : float
        Least spread of the large ones over the median of the others.
    step : float
        The same over the largest of the others.
    ignored : float
        Variance of the others within neighbourhoods, as a share of theirs: median.
    hides : bool
        Whether the large columns are few, and the others, scaled, show a structure with them.
    """

    large: Index
    small: Index
    ratio: float
    step: float
    ignored: float
    hides: bool


def _spreads(view: _View) -> _Spreads | None:
    """Compare the columns' spreads; None where units do not matter or the spreads are alike."""
    if view.d < 2 or issparse(view.X) or view.model.metric not in (*EUCLIDEAN, "manhattan", "l1"):
        return None
    rows = view.sample(SAMPLE)
    X, index = view.points(np.column_stack([rows, view.index[rows]]))
    values = X[index[:, 0]].astype(np.float64)
    largest = np.abs(values).max(axis=0)
    zeros = np.median((values == 0).mean(axis=0))
    # A column that tells clusters apart spreads widely, and is no wider than others in each.
    groups = np.where(view.is_large[view.group], view.group, -1)[rows]
    for group in np.unique(groups):
        values[groups == group] -= values[groups == group].mean(axis=0)
    spread = values.std(axis=0)
    varying = np.flatnonzero(spread > ROUNDING * largest)
    order = varying[np.argsort(-spread[varying])]
    if len(order) < 2:
        return None
    sorted_spread = spread[order]
    steps = sorted_spread[:-1] / sorted_spread[1:]
    shares = np.cumsum(sorted_spread**2) / (sorted_spread**2).sum()
    cut = int(np.searchsorted(shares, DECIDING)) + 1
    if (steps >= UNITS_APART).any():
        cut = int(steps.argmax()) + 1
    large, small = order[:cut], order[cut:]
    if len(small) == 0:
        return None
    ratio = float(spread[large[-1]] / np.median(spread[small]))
    if ratio < SEVERAL or _are_principal_components(values[:, varying]):
        return None
    within = np.empty((len(rows), len(small)))

    def work(chunk: slice) -> None:
        within[chunk] = X[index[chunk]][:, :, small].var(axis=1, dtype=np.float64)

    for_each_chunk(work, len(rows), bytes_per_row=16 * index.shape[1] * view.d, quiet=True)
    return _Spreads(
        np.sort(large),
        np.sort(small),
        ratio,
        float(steps[cut - 1]),
        float(np.median(within.mean(axis=0) / spread[small] ** 2)),
        len(large) <= max(2, len(order) // 2)
        and zeros < COUNTS
        and _structure(values[:, order] / spread[order], cut) < STRUCTURE,
    )


def _are_principal_components(values: Float) -> bool:
    """Whether columns (m, d) fall in spread and are uncorrelated: their spreads have a meaning."""
    m, d = values.shape
    if d < FEWEST_SORTED:
        return False
    place = np.argsort(np.argsort(values.std(axis=0)))
    if float(np.asarray(np.corrcoef(place, np.arange(d)))[0, 1]) > SORTED:
        return False
    correlations = np.asarray(np.corrcoef(values.T))
    apart = correlations[np.triu_indices(d, 1)]
    return bool(np.sqrt((apart**2).mean()) < UNCORRELATED / np.sqrt(m))


def _structure(Z: Float, cut: int) -> float:
    """Median distance to a near neighbour in Z (m, d), as a share of that with shuffled columns.

    Each column from ``cut`` on is shuffled by itself: near 1 if these are noise.
    """
    random = np.random.default_rng(SEED)
    shuffled = np.column_stack([Z[:, :cut], *map(random.permutation, Z[:, cut:].T)])
    count = min(STRUCTURE_NEIGHBORS, len(Z) - 1)
    near, far = (
        np.median(NeighborSearch(values, count).kneighbors()[0][:, -1]) for values in (Z, shuffled)
    )
    return float(near / far) if far > 0 else 1.0


def _columns(view: _View) -> Iterator[Finding]:
    spreads = view.spreads
    if spreads is None or spreads.ignored < IGNORED:
        return
    if spreads.step < UNITS_APART and not spreads.hides:
        return
    yield Finding(
        "unscaled-columns",
        f"Columns {_listed(spreads.large)} spread {spreads.ratio:.3g} times as widely as others "
        "do, or more, and decide alone who is whose neighbour: within neighbourhoods the others "
        "vary about as much as in all of the data.",
        {
            "large columns": _shown(spreads.large),
            "their least spread over the others' median": spreads.ratio,
            "over the others' largest": spreads.step,
            "variance of the others within neighbourhoods": spreads.ignored,
        },
        "if the columns have different units, scale them (sklearn.preprocessing.StandardScaler); "
        "if the others are noise, leave them out",
    )


def _with_scaling(view: _View, finding: Finding) -> Finding:
    """The finding, with a word on columns that may be the cause of it, where they may."""
    spreads = view.spreads
    if spreads is None or not spreads.hides:
        return finding
    return replace(
        finding,
        figures={**finding.figures, "ratio of the columns' spreads": spreads.ratio},
        advice="scale the columns first, if their units differ (columns "
        f"{_listed(spreads.large)} spread {spreads.ratio:.3g} times as widely as others); else "
        f"{finding.advice}",
    )


# The neighbour graph, and the size of the neighbourhoods -----------------------------------------

# Points belong to one piece if they are no farther from each other than this many times their
# distances to the k-th neighbour. Where the density goes on, 2 k neighbours lie within
# 2^(1/d) <= 2 times that distance, d the dimension. A clique is known, too, by a distance to the
# k-th neighbour that is less than this part of the others'.
APART = 2.0
# A piece of fewer points, in units of k + 1, is called a clique; so is one of less than a tenth of
# the points.
CLIQUE, CLIQUE_SHARE = 4, 0.1
# Thickness from which noise spoils the neighbourhoods: its spread across the surface is half of the
# neighbourhoods' along it, the variance a quarter.
NOISY = 0.25
# The last of q directions is missing below.
MISSING = 0.1
# Noise is known by a thickness that falls to this part in larger neighbourhoods, or by variances
# that come this near to those of a ball that fills all columns.
FALLS, FILLS = 0.6, 0.85
# sin(45 degrees): an edge nearer to the normal than to the tangent plane.
STEEP = np.sqrt(0.5)
# An edge leaves the surface if it ends farther off than so many times the spread across it.
OFF = 5.0
# lambda_(q+1) / lambda_q up to which points lie on a plane.
FLAT = 0.1


def _pieces(view: _View) -> Iterator[Finding]:
    classes, k, is_small = view.classes, view.k, view.is_small
    if view.is_bridged:
        return
    (_, index), kth, group, is_large = view.nearest, view.kth, view.group, view.is_large
    inside = np.flatnonzero(classes.labels >= 0)
    label = classes.labels[inside]
    # Stragglers of a class are groups of their own: its home is where most of its points are.
    home = _most_common(label, group[inside])
    least = np.full(len(classes), np.inf)
    np.minimum.at(least, label, kth[inside])
    clique = is_small & (~is_large[home] | (APART * least < np.median(kth)))
    chance = np.flatnonzero(~clique & (np.bincount(home)[home] > 1))
    if clique.sum() <= len(chance):  # among so many, some will lie apart
        clique[:] = False
    pieces = np.flatnonzero(is_large)
    if len(pieces) > 1:  # one is what the rest is apart from
        members = np.bincount(group)
        pieces = pieces[np.argsort(-members[pieces], kind="stable")]
        yield Finding(
            "separate-pieces",
            f"The data come in {len(pieces)} pieces that no larger neighbourhoods join: each adds "
            "a null vector, or nearly one, and the first coordinates tell the pieces apart.",
            {
                "sizes": _shown(members[pieces]),
                "first rows": [int((group == piece).argmax()) for piece in pieces[:SHOWN]],
            },
            "embed the pieces one by one, or disconnected='largest' (the largest alone) or "
            "'bridge' (tied together at a few points)",
        )
    if clique.any():
        yield Finding(
            "clique",
            f"{clique.sum()} small group(s) of points have all their neighbours among themselves, "
            "nearer than others' are. Edges lead into such a group and none out: two of them are "
            "two null vectors, and the first coordinates tell them apart.",
            {
                "sizes": _shown(classes.sizes[clique]),
                "first rows": _shown(classes.example_rows[clique]),
                "distance to the k-th neighbour, in units of the median": float(
                    least[clique].min() / np.median(kth)
                ),
            },
            f"n_neighbors={int(classes.sizes[clique].max()) + k}, disconnected='bridge' to tie "
            "them to the rest, or disconnected='largest' to leave them out",
        )
    if len(chance) and len(pieces) < 2:
        grown = _grown(index, k, lambda wider: len(closed_classes(wider)) == 1)
        finding = Finding(
            "k-too-small",
            f"With n_neighbors={k} the neighbour graph has {len(classes)} closed classes, sets of "
            "points that no edge leaves, although there is no gap around them: the neighbourhoods "
            "overlap too little to hold the data together.",
            {
                "n_neighbors": k,
                "closed classes": len(classes),
                "sizes": _shown(classes.sizes[chance]),
                "first rows": _shown(classes.example_rows[chance]),
            },
            f"n_neighbors={grown}" if grown else f"n_neighbors={2 * k} or more",
        )
        yield _with_scaling(view, finding)


def _most_common(label: Index, value: Index) -> Index:
    """For each label 0, 1, ... the value that comes with it most often."""
    pairs, count = np.unique(np.column_stack([label, value]), axis=0, return_counts=True)
    pairs = pairs[np.lexsort((-count, pairs[:, 0]))]
    common: Index = pairs[np.unique(pairs[:, 0], return_index=True)[1], 1]
    return common


def _grown(index: Index, k: int, sound: Callable[[Index], bool]) -> int | None:
    """The first of some larger k, up to the width of ``index``, at which the graph is sound."""
    for size in sorted({k + 1, *(k + round(k * part / 4) for part in range(1, 5))}):
        if k < size <= index.shape[1] and sound(index[:, :size]):
            return size
    return None


def _few_constraints(view: _View) -> Iterator[Finding]:
    """Neighbours that leave no constraint to spare.

    A point brings k - q - 1 independent constraints with "ltsa" and k - q with "modified"; with
    one a point there are no more constraints than unknowns, and the slightest defect leaves
    something loose. For the standard method, k <= q neighbours span less than a tangent plane.
    The Hessian estimate at the least k has as many coefficients as points, and averages nothing.
    """
    k, q = view.k, view.q
    least = METHODS[view.method].least_neighbors(q)
    if view.method == "standard":
        if k > q:
            return
        why = f"{k} neighbours span {k - 1} direction(s), and n_components={q}"
    elif k > least:
        return
    else:
        why = {
            "modified": "every point has a single constraint",
            "ltsa": "every point has a single constraint",
            "hessian": "second derivatives are computed from as many points as they have unknowns",
        }[view.method]
    yield Finding(
        "k-too-small",
        f"n_neighbors={k} is the least that method={view.method!r} can work with: {why}, so that "
        "nothing makes up for a point that is badly held."
        if view.method != "standard"
        else f"n_neighbors={k} is too small: {why}.",
        {"n_neighbors": k, "n_components": q, "least that works": max(least, q + 1)},
        f"n_neighbors={2 * max(least, q + 1)}",
    )


def _unheld(view: _View) -> Iterator[Finding]:
    alone = view.classes.unreferenced
    if METHODS[view.method].includes_point or view.is_bridged or len(alone) == 0:
        return
    everyone = _grown(view.nearest[1], view.k, lambda wider: len(np.unique(wider)) == view.n)
    larger = everyone and f"n_neighbors={everyone}, at which every point is somebody's neighbour"
    yield Finding(
        "unheld-points",
        f"{len(alone)} point(s) are nobody's neighbour, and with method={view.method!r} no "
        "constraint holds them: each adds a null vector, and a coordinate that singles it out.",
        {"points": len(alone), "share": len(alone) / view.n, "rows": _shown(alone)},
        f"{larger or 'leave outliers out'}, disconnected='bridge' or 'largest', or "
        "method='modified', whose constraints hold every point",
    )


def _mended(view: _View) -> Iterator[Finding]:
    bridged = view.model.bridged_rows_
    if len(bridged):
        yield Finding(
            "bridged-rows",
            f"The neighbour graph was in pieces, and {len(bridged)} row(s) were given other "
            "neighbours to tie them together. Where the pieces lie to one another is decided by "
            "these rows alone.",
            {"rows": _shown(bridged), "count": len(bridged), "share": len(bridged) / view.n},
            f"n_neighbors={2 * view.k}, or disconnected='largest' to leave the small pieces out",
        )
    if not view.is_whole:
        out = np.setdiff1d(np.arange(view.n_all), view.rows)
        yield Finding(
            "rows-left-out",
            f"{len(out)} row(s) were not part of the embedding, and were placed afterwards beside "
            "their nearest embedded points: their coordinates are guesses.",
            {"rows": _shown(out), "count": len(out), "share": len(out) / view.n_all},
            f"n_neighbors={2 * view.k}, or disconnected='bridge'",
        )


def _surface(view: _View) -> Iterator[Finding]:
    """Noise, and data of more or of fewer dimensions than coordinates."""
    q, reached = view.q, view.reached
    if view.small < q + 2:
        return
    if q > 1 and (extent := view.thickness(q - 1, reached).min()) < MISSING:
        yield Finding(
            "too-many-components",
            f"The data have fewer than n_components={q} dimensions: neighbourhoods have next to no "
            f"extent in direction {q}, so that the last coordinates repeat the first.",
            {
                f"extent in direction {q}, relative": float(extent),
                "dimension of the data": view.dimension,
            },
            f"n_components={_least_dimension(view)}, unless the data close in on themselves, as a "
            "circle does",
        )
        return
    if view.d <= q:
        return
    if view.thickness(q, reached).min() < NOISY:
        return  # that is the most common case: larger neighbourhoods need not be looked at
    thickness = view.thickness(q, view.scales)
    few = len(reached)
    later = thickness[few:]
    falls = len(later) > 0 and later.min() < FALLS * thickness[few - 1]
    around = [np.median(_ball_variances(size, view.d)[:, q:].sum(axis=1)) for size in reached]
    filled = [np.median(view.variances(size)[:, q:].sum(axis=1)) for size in reached]
    fills = bool((np.array(filled) >= FILLS * np.array(around)).any())
    figures = {
        "n_neighbors": view.k,
        "thickness of the neighbourhoods": float(thickness[few - 1]),
        "least thickness": float(thickness.min()),
        "at": view.scales[int(thickness.argmin())],
        "dimension of the data": view.dimension,
    }
    more = min(max(round(view.dimension), q + 1), view.d)
    if falls or fills or view.d == q + 1:
        larger = [s for s, t in zip(view.scales, thickness, strict=True) if t < NOISY]
        finding = Finding(
            "noise",
            f"Neighbourhoods of {view.k} points are about as thick as they are wide: at this size "
            f"no surface of {q} dimension(s) can be seen. Either noise is as large as the "
            f"neighbourhoods, or the data have more than {q} dimension(s).",
            figures,
            (f"n_neighbors={larger[0]}" if larger else "smooth the data (PCA to fewer columns)")
            + f", or, if it is not noise, n_components={more}",
        )
        yield _with_scaling(view, finding)
    else:
        yield Finding(
            "too-few-components",
            f"The data have about {view.dimension:.1f} dimensions, and n_components={q}: "
            "neighbourhoods extend in further directions as widely as in these, at every size.",
            figures,
            f"n_components={more}"
            + (
                ""
                if view.method == "standard"
                else f"; method='standard' suffers less than {view.method!r}, which takes "
                f"neighbourhoods for flat in {q} dimension(s)"
            ),
        )


def _least_dimension(view: _View) -> int:
    """The number of directions in which neighbourhoods extend."""
    for q in range(1, view.q):
        if view.thickness(q, view.reached).min() < MISSING:
            return q
    return view.q


def _short_circuits(view: _View) -> Iterator[Finding]:
    """Edges that leave the surface.

    T_i (w x q), the tangent plane at point i, is taken from its nearest points: the 2 q + 4
    nearest, or fewer, down to q + 2, until lambda_(q+1) <= 0.1 lambda_q (where an edge across is
    as short as that, the nearest of all are still on the surface). An edge x_j - x_i is a short
    circuit if it is nearer to the normal than to the plane, longer than the median distance in this
    neighbourhood, and ends farther off the plane than 5 times the points' spread across it, their
    own or the data's typical one. Points with no such plane are passed over. On swiss rolls
    of 400 to 2,000 points with k = 8 to 12, where turns are joined by a few edges or none, 36 of 38
    graphs with such edges were told, and none of 124 others (six seeds).
    """
    q, k, small = view.q, view.k, view.small
    if view.d <= q or small < q + 2:
        return
    if view.thickness(q, view.reached).min() >= NOISY:
        return  # planes that are not there
    rows = view.sample(EDGE_SAMPLE)
    index = np.column_stack([rows, view.nearest[1][rows, :small], view.index[rows]])
    crowded = np.append(view.is_small, False)[view.classes.labels]
    index = index[~crowded[index].any(axis=1)]  # no plane can be seen beside a clique
    rows = index[:, 0]
    X, where = view.points(index)
    width = typical_width(X, index.shape[1])
    typical = np.median(view.variances(small)[:, q:].sum(axis=1))
    leaves = np.zeros((len(rows), k), dtype=bool)

    def work(chunk: slice) -> None:
        part = where[chunk]
        E = differences(X[part[:, 0]], X, part[:, 1:])
        todo = np.arange(len(E))
        for size in range(small, q + 1, -1):
            near, edges = E[todo, :size], E[todo, small:]
            T, values, across = _tangent_planes(near, q)
            flat = values[:, q] <= FLAT * values[:, q - 1]
            spread = np.maximum(across, typical * (values[:, :q].sum(axis=1) + across))
            length = np.linalg.norm(edges, axis=2)
            within = np.linalg.norm(edges @ T, axis=2)
            off = np.sqrt(np.maximum(length**2 - within**2, 0))
            median = np.median(np.linalg.norm(near, axis=2), axis=1)
            leaves[chunk.start + todo] = flat[:, None] & (
                (off > STEEP * length)
                & (off > OFF * np.sqrt(spread / (size + 1))[:, None])
                & (length > median[:, None])
            )
            todo = todo[~flat]
            if len(todo) == 0:
                return

    for_each_chunk(
        work,
        len(rows),
        bytes_per_row=8 * width * (3 * index.shape[1] + small),
        n_jobs=view.model.n_jobs,
        quiet=True,
    )
    if not leaves.any():
        return
    points, place = leaves.any(axis=1), int(leaves.any(axis=0).argmax())
    first = np.flatnonzero(points)[:SHOWN]
    edges = [[int(rows[i]), int(view.index[rows[i], leaves[i].argmax()])] for i in first]
    enough = place >= max(METHODS[view.method].least_neighbors(q) + 1, q + 2)
    finding = Finding(
        "short-circuit",
        f"{int(leaves.sum())} edge(s) of the neighbour graph leave the surface and join parts that "
        "are far apart along it: neighbourhoods reach across a gap or round a bend. A few of these "
        "edges are enough to fold the embedding.",
        {
            "edges": int(leaves.sum()),
            "points with such edges": int(points.sum()),
            "share of the points looked at": float(points.mean()),
            "nearest such neighbour is number": place + 1,
            "examples": edges,
        },
        f"n_neighbors={place}, the most without such an edge, or more points"
        if enough
        else "more points: even few neighbours reach that far; or leave the points out that have "
        "such edges",
    )
    yield _with_scaling(view, finding)


def _tangent_planes(near: Float, q: int) -> tuple[Float, Float, Float]:
    """Planes through the origin and points near it, (c, j, w): what spans them, (c, w, q).

    Then the squared singular values, (c, q + 1), and the squared distances to the plane, summed.
    """
    Z = np.concatenate([np.zeros_like(near[:, :1]), near], axis=1)
    Z -= Z.mean(axis=1, keepdims=True)
    U, values = principal_directions(Z)
    T = Z.transpose(0, 2, 1) @ U[:, :, :q]
    T /= np.sqrt(np.where(values > 0, values, 1.0))[:, None, :q]
    across = np.einsum("ckw,ckw->c", Z, Z) - values[:, :q].sum(axis=1)
    return T, values[:, : q + 1], np.maximum(across, 0)


# Outside of this range a ridge, in units of the trace, does not do its work: from the trace itself
# on, weights are equal to 10 %; and where there are more neighbours than features, less than 1e-6
# leaves the weights what no ridge leaves, large and of both signs (swiss roll and S-curve, 1,500
# points, k=8: the affine residual rises from 0.2 to between 0.5 and 0.9).
LEAST_REG, LARGEST_REG = 1e-6, 1.0


def _reg(view: _View) -> Iterator[Finding]:
    reg = float(view.model.reg)
    if view.method != "standard":
        return
    figures = {"reg": reg, "n_neighbors": view.k, "n_features": view.d}
    if reg >= LARGEST_REG:
        yield Finding(
            "reg-out-of-scale",
            f"reg={reg:g} is as large as the local Gram matrices' trace: the weights come out "
            "almost equal, whatever the geometry.",
            figures,
            "reg=1e-3, or 0.1 for noisy data",
        )
    elif reg < LEAST_REG and view.k > view.d:
        yield Finding(
            "reg-out-of-scale",
            f"reg={reg:g} is too small for n_neighbors={view.k} in {view.d} feature(s): without a "
            "ridge the weights are not unique, and they rebuild the bends of the surface as well, "
            "which ties the coordinates to nothing.",
            figures,
            "reg=1e-3",
        )


# What the solver knows, and what the coordinates show --------------------------------------------

# Gap below which the next vector is as good as the last; and relative distance of two values that
# are one value, which only symmetry brings about.
NO_GAP, EQUAL = 1e-3, 1e-6
# Share of the points that carry a coordinate: 0.55 for one that is spread evenly.
FEW_POINTS = 0.03
# A coordinate's range in cells, the share of the points counted, and the share of cells they fill:
# spread evenly, 0.9 of the cells.
CELLS, COUNTED, CROWDED = 100, 0.9, 0.08
# Variance of a coordinate among points that agree in the ones before, as a share of all: 1 for
# coordinates that have nothing to do with each other.
REPEATED = 0.02


def _spectrum(view: _View) -> Iterator[Finding]:
    spectrum, q = view.model.spectrum_, view.q
    residual, gap = float(spectrum.residuals.max()), float(spectrum.gap)
    values = spectrum.values
    if not spectrum.converged:
        yield Finding(
            "not-converged",
            "The solver did not reach its tolerance: the coordinates are not known to be right.",
            {"largest residual": residual, "gap": gap, "steps": spectrum.n_iter},
            f"another n_neighbors ({view.k + view.k // 2}), method='standard', "
            f"max_iter={10 * view.model.max_iter}, or, up to a few thousand points, "
            "eigen_solver='dense'",
        )
    loose = spectrum.n_null > q + 1
    torn = len(view.classes) > 1 or len(view.classes.unreferenced) > 0
    if loose or (spectrum.n_null > 1 and (torn or view.method == "standard")):
        yield Finding(
            "null-vectors",
            f"F has {spectrum.n_null} null vectors, the constant included: the first coordinates "
            "only tell loose parts from one another"
            + (", and are one choice among many." if loose else "."),
            {"null vectors": spectrum.n_null, "n_components": q, "values": _shown(values)},
            f"n_neighbors={2 * view.k}, another method, or what is advised about the graph",
        )
        return
    equal = np.flatnonzero(np.diff(values) <= EQUAL * values[1:])
    if gap < NO_GAP:
        yield Finding(
            "repeated-eigenvalue",
            f"The first value left out is the last one's equal: coordinate {q} is one choice among "
            "several that are as good.",
            {"gap": gap, "last value": float(values[-1])},
            f"n_components={q + 1}, or n_components={q - 1}" if q > 1 else f"n_components={q + 1}",
        )
    elif len(equal):
        first = int(equal[0])
        yield Finding(
            "repeated-eigenvalue",
            f"Coordinates {first + 1} and {first + 2} have the same value: they are free to "
            "rotate, and mean something together, not one by one.",
            {"values": _shown(values), "coordinates": _shown(equal + 1)},
            "look at them together; compare embeddings up to rotation (lle_gpu.metrics)",
        )


def _coordinates(view: _View) -> Iterator[Finding]:
    Y, n, q = view.Y, view.n, view.q
    support = effective_support(Y) / n
    local = np.flatnonzero(support < FEW_POINTS)
    if len(local):
        yield Finding(
            "localised",
            f"Coordinate(s) {_listed(local + 1)} are carried by a few points, and say nothing "
            "about the others.",
            {
                "coordinates": _shown(local + 1),
                "points that carry them": _shown((support[local] * n).round(1)),
                "rows": _shown(np.abs(Y[:, local[0]]).argsort()[::-1][:3]),
            },
            f"n_neighbors={2 * view.k}, disconnected='bridge' or 'largest', or leave these points "
            "out if they are outliers",
        )
    low, high = Y.min(axis=0), Y.max(axis=0)
    cells = ((Y - low) / np.where(high > low, high - low, 1.0) * CELLS).astype(int)
    filled = np.empty(q)
    for j in range(q):
        counts = np.sort(np.bincount(np.minimum(cells[:, j], CELLS - 1)))[::-1]
        filled[j] = (np.searchsorted(np.cumsum(counts), COUNTED * n) + 1) / CELLS
    crowded = np.setdiff1d(np.flatnonzero(filled < CROWDED), local)
    if len(crowded) and n >= CELLS:
        yield Finding(
            "collapsed",
            "Nine tenths of the points lie in a few spots of coordinate(s) "
            f"{_listed(crowded + 1)}: groups that are weakly tied are drawn as dots, "
            "and the rest is stretched between.",
            {
                "coordinates": _shown(crowded + 1),
                "share of the range that is filled": _shown(filled[crowded].round(3)),
            },
            f"n_neighbors={2 * view.k}, method='ltsa' or 'modified', or the groups one by one",
        )
    for j in range(1, q):
        left = _left_over(view, j)
        if j not in crowded and j not in local and left < REPEATED:
            yield Finding(
                "repeated-direction",
                f"Coordinate {j + 1} is a function of those before it: it shows a direction once "
                "more, and another one that the data have may be missing.",
                {"coordinate": j + 1, "variance left": left},
                f"method='ltsa' or 'hessian', more components (n_components={q + 1}) of which the "
                f"useful ones are chosen, or n_components={j}",
            )


def _left_over(view: _View, j: int) -> float:
    """Variance of coordinate j among points that agree in those before it, as a share of all."""
    rows = view.sample(COORDINATE_SAMPLE)
    before, value = view.Y[rows, :j], view.Y[rows, j]
    count = min(4, len(rows) - 1)
    index = NeighborSearch(before, count, n_jobs=view.model.n_jobs).kneighbors(
        return_distance=False
    )
    among = value[np.column_stack([np.arange(len(rows)), index])].var(axis=1, ddof=1).mean()
    return float(among / max(value.var(), np.finfo(float).tiny))


DATA: tuple[Callable[[_View], Iterator[Finding]], ...] = (_duplicates, _columns)
NEIGHBORHOODS: tuple[Callable[[_View], Iterator[Finding]], ...] = (
    _pieces,
    _few_constraints,
    _surface,
    _short_circuits,
    _unheld,
)
RESULT: tuple[Callable[[_View], Iterator[Finding]], ...] = (_mended, _reg, _spectrum, _coordinates)


# Words --------------------------------------------------------------------------------------------


def _shown(values: Any) -> list[Any]:
    return np.asarray(values)[:SHOWN].tolist()


def _listed(values: Any) -> str:
    return ", ".join(map(str, values[:SHOWN])) + (", ..." if len(values) > SHOWN else "")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
