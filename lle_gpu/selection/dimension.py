"""How many dimensions the data have, as seen from near by.

**Maximum likelihood** ("mle"). With T_j(x) the distance from x to its j-th nearest neighbour,

    1 / m_k = mean over x of  1/(k-1) sum_(j<k) log( T_k(x) / T_j(x) )

(Levina and Bickel's estimator; the mean is taken of the inverses, which MacKay and Ghahramani show
to be the likelihood's maximum over all points together). Bends and changes of density make it wrong
by a share of the order of the radius squared. So m_k is computed for several k, the line

    m_k = m + c r_k^2,    r_k = geometric mean of T_k

is fitted (weights k: small k have few distances), and followed to r = 0. A boundary lacks points on
one side, which costs a share of the order of the radius itself: some of that is left, and seen in
many dimensions, where few points are far from a boundary.

**Two nearest neighbours** ("twonn"). mu = T_2 / T_1 has the distribution function 1 - mu^(-d), and
d is the slope through the origin of -log(1 - F(mu)) against log mu, without the largest tenth. The
table shows it for thinner and thinner samples, too, whose radii are larger: where noise makes the
data thick, d falls with the radius.

**Local linear pieces** ("lle"). LLE takes the neighbourhoods to be pieces of a linear space. With
lambda_1 >= lambda_2 >= ... the variances of a neighbourhood along its principal directions, the
thickness of the data over j dimensions is the median of lambda_(j+1) / lambda_j, in units of the
same median for as few points drawn from a ball of j + 1 dimensions. It is near 1 below the
dimension of the data, and near 0 there: the smallest j at which it is below 1/2 is the estimate, a
whole number.

E. Levina, P. Bickel: Maximum likelihood estimation of intrinsic dimension. NIPS 17 (2005). —
D. MacKay, Z. Ghahramani: Comments on the same (2005). — E. Facco, M. d'Errico, A. Rodriguez,
A. Laio: Estimating the intrinsic dimension of datasets by a minimal neighborhood information. Sci.
Rep. 7:12140 (2017). — K. Fukunaga, D. Olsen: An algorithm for finding intrinsic dimensionality of
data. IEEE Trans. Comput. C-20:176 (1971).
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from lle_gpu.arrays import as_points, check_values, on_device, to_host
from lle_gpu.backend import Backend
from lle_gpu.constraints.cpu.local import centred_neighborhoods, principal_directions, typical_width
from lle_gpu.device import resolve
from lle_gpu.functional import PARAMETER_CONSTRAINTS, where_it_fits
from lle_gpu.parallel import for_each_chunk
from lle_gpu.progress import stage, watch
from lle_gpu.selection.results import DimensionEstimate

__all__ = ["intrinsic_dimension"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]

LEAST_NEIGHBORS = 4
# The share of the ratios, the smallest, that the line is fitted to.
KEPT = 0.9
# Points that are left in the thinnest sample.
THINNEST = 100
# Neighbourhoods whose principal directions are looked at; draws from a ball.
SAMPLE, DRAWS = 1000, 400
# Directions in which the data may extend.
MOST_DIMENSIONS = 30
THIN = 0.5
SEED = 0


@validate_params(  # type: ignore[untyped-decorator]
    {
        "X": ["array-like", "sparse matrix"],
        "method": [StrOptions({"mle", "twonn", "lle"})],
        "n_neighbors": [None, Interval(Integral, 2, None, closed="left")],
        **{
            name: PARAMETER_CONSTRAINTS[name]
            for name in (
                "metric", "neighbors_algorithm", "random_state", "n_jobs", "device", "verbose",
                "callbacks",
            )
        },
    },
    prefer_skip_nested_validation=True,
)  # fmt: skip
def intrinsic_dimension(
    X: Any,
    *,
    method: str = "mle",
    n_neighbors: int | None = None,
    metric: Any = "euclidean",
    neighbors_algorithm: str = "auto",
    random_state: Any = None,
    n_jobs: int | None = None,
    device: str = "auto",
    verbose: bool | int = False,
    callbacks: Any = None,
) -> DimensionEstimate:
    """Estimate the dimension of the manifold that the data lie on.

    Parameters
    ----------
    X : array, data frame, tensor or sparse matrix of shape (n_samples, n_features)
        As in :meth:`lle_gpu.LocallyLinearEmbedding.fit`.
    method : {"mle", "twonn", "lle"}, default="mle"
        - "mle": by distances to the nearest neighbours, up to ``n_neighbors`` of them, followed to
          neighbourhoods of radius 0.
        - "twonn": by the distances to the two nearest alone; sees noise before it sees the data.
        - "lle": by the principal directions of neighbourhoods of ``n_neighbors``; a whole number,
          below ``n_neighbors`` and at most 30.
    n_neighbors : int, default=None
        None is 20 for "mle" and 32 for "lle", or what there are points for. At least 8 for "mle"
        and 3 for "lle". Not used by "twonn".
    metric, neighbors_algorithm, random_state, n_jobs, device, verbose, callbacks
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    Returns
    -------
    DimensionEstimate
        ``recommended`` is a whole number for n_components, ``dimension`` the estimate.

    Raises
    ------
    ValueError
        As :class:`lle_gpu.LocallyLinearEmbedding`, for an ``n_neighbors`` out of range, and if
        fewer than 10 points differ from their nearest neighbours.
    GpuUnavailableError, GpuMemoryError
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import intrinsic_dimension
    >>> X, _ = make_swiss_roll(1000, random_state=0)
    >>> [intrinsic_dimension(X, method=method).recommended for method in ("mle", "twonn", "lle")]
    [2, 2, 2]
    """
    points = as_points(X, estimator="intrinsic_dimension", least=10)
    n = points.shape[0]
    least = {"mle": 8, "twonn": 2, "lle": 3}[method]
    k = {"mle": 20, "twonn": 2, "lle": 32}[method] if n_neighbors is None else n_neighbors
    k = min(k, n - 1) if n_neighbors is None else k
    if method == "twonn":
        k = 2
    if not least <= k < n:
        raise ValueError(
            f"n_neighbors={k} must be from {least} to {n - 1} for method={method!r} and {n} points"
        )
    check_values(points, solver="auto")

    def search(points: Any, backend: Backend, k: int) -> tuple[Float, Index]:
        with stage("neighbors", points.shape[0]):
            found = backend.neighbor_search(
                points,
                k,
                algorithm=neighbors_algorithm,
                metric=metric,
                random_state=random_state,
                n_jobs=n_jobs,
            ).kneighbors()
        distance, index = map(to_host, found)
        return distance, index

    def run(backend: Backend) -> DimensionEstimate:
        there = backend.asarray(points)
        distance, index = search(there, backend, k)
        if method == "lle":
            return _by_pieces(to_host(points), index, n_jobs)
        if method == "mle":
            return _by_likelihood(distance)
        rows = backend.rows_of(there)
        return _by_two(distance, lambda part: search(rows[part], backend, 2)[0])

    with watch(verbose, callbacks):
        with on_device(points):
            backend = resolve(
                device, metric=metric, algorithm=neighbors_algorithm, sparse=issparse(points)
            )
        advice = "or give fewer points"
        return where_it_fits(device, backend, points, points, run, advice=advice)[0]


def _by_likelihood(distance: Float) -> DimensionEstimate:
    """Levina and Bickel's estimate for several k, and its limit for small neighbourhoods."""
    most = distance.shape[1]
    logs, warned = _logarithms(distance)
    before = np.cumsum(logs, axis=1)
    ks = np.unique(np.geomspace(LEAST_NEIGHBORS, most, 7).round().astype(int))
    inverse = np.array([np.mean(logs[:, k - 1] - before[:, k - 2] / (k - 1)) for k in ks])
    _check_spread(inverse)
    m, radius = 1.0 / inverse, np.exp([logs[:, k - 1].mean() for k in ks])
    line = np.column_stack([np.ones(len(ks)), (radius / radius[-1]) ** 2])
    root = np.sqrt(ks)[:, None]
    limit = float(np.linalg.lstsq(line * root, m * root[:, 0], rcond=None)[0][0])
    if abs(limit - m[0]) > max(1.0, 0.25 * m[0]):
        warned.append(
            f"the limit for small neighbourhoods, {limit:.1f}, is far from what {ks[0]} neighbours "
            f"give, {m[0]:.1f}: the points are too few, or too noisy, to tell"
        )
    said = f"{m[0]:.2f} by {ks[0]} neighbours, {m[-1]:.2f} by {ks[-1]}"
    table = {"n_neighbors": ks, "dimension": m, "radius": radius}
    return _estimate(limit, f"{said}, in the limit of small neighbourhoods", table, warned)


def _by_two(distance: Float, search: Any) -> DimensionEstimate:
    """Facco and others' estimate on all points, and on halves, quarters ... of them."""
    n = len(distance)
    order = np.random.default_rng(SEED).permutation(n)
    sizes, values, radii, warned = [], [], [], []
    size = n
    while size == n or size >= THINNEST:
        near = distance if size == n else search(np.sort(order[:size]))
        logs, said = _logarithms(near)
        warned += said if size == n else []
        ratio = np.sort(logs[:, 1] - logs[:, 0])
        most = max(2, int(KEPT * len(ratio)))
        behind = -np.log1p(-np.arange(1, most + 1) / len(ratio))
        square = float(ratio[:most] @ ratio[:most])
        _check_spread(np.array([square]))
        sizes.append(size)
        values.append(float(ratio[:most] @ behind) / square)
        radii.append(float(np.exp(logs[:, 1].mean())))
        size //= 2
    table = {
        "n_samples": np.array(sizes[::-1]),
        "dimension": np.array(values[::-1]),
        "radius": np.array(radii[::-1]),
    }
    return _estimate(values[0], "by the ratios of the two nearest distances", table, warned)


def _by_pieces(X: Any, index: Index, n_jobs: int | None) -> DimensionEstimate:
    """The number of directions in which neighbourhoods extend."""
    n, k = index.shape
    rng = np.random.default_rng(SEED)
    rows = np.sort(rng.choice(n, size=min(SAMPLE, n), replace=False))
    pieces = np.column_stack([rows, index[rows]])
    width = min(int(X.shape[1]), k, MOST_DIMENSIONS + 1)
    variances = np.zeros((len(rows), width))

    def work(chunk: slice) -> None:
        found = principal_directions(centred_neighborhoods(X, pieces[chunk]))[1][:, :width]
        variances[chunk, : found.shape[1]] = found

    d = typical_width(X, k + 1)
    for_each_chunk(work, len(rows), bytes_per_row=8 * (k + 1) * (3 * d + k), n_jobs=n_jobs)
    thickness: list[float] = []
    for j in range(1, width):
        lower, upper = variances[:, j], variances[:, j - 1]
        ratio = np.divide(lower, upper, out=np.zeros(len(rows)), where=upper > 0)
        thickness.append(float(np.median(ratio)) / _thickness_of_ball(j, k))
        if thickness[-1] < THIN:
            break
    else:
        thickness.append(0.0 if width == X.shape[1] else float("nan"))
    found = len(thickness)
    warned = []
    if np.isnan(thickness[-1]):
        warned.append(
            f"neighbourhoods of {k} points extend in all of the {found} dimensions that were "
            "looked at: the data have that many or more, or the noise has. More points, or a "
            "larger n_neighbors, can tell"
        )
        reason = f"neighbourhoods of {k} points are not thin over fewer"
    else:
        reason = f"over as many, neighbourhoods of {k} points are {thickness[-1]:.2f} as thick as "
        reason += "a ball"
    table = {"dimension": np.arange(1, found + 1), "thickness": np.array(thickness)}
    return _estimate(float(found), reason, table, warned, criterion="thickness")


def _thickness_of_ball(j: int, k: int) -> float:
    """Median of lambda_(j+1) / lambda_j for the centre and k random points of a (j+1)-ball."""
    rng = np.random.default_rng(SEED)
    Z = rng.standard_normal((DRAWS, k + 1, j + 1))
    Z /= np.linalg.norm(Z, axis=2, keepdims=True)
    Z *= rng.uniform(size=(DRAWS, k + 1, 1)) ** (1 / (j + 1))
    Z[:, 0] = 0
    Z -= Z.mean(axis=1, keepdims=True)
    values = np.linalg.eigvalsh(Z.transpose(0, 2, 1) @ Z)
    return float(np.median(values[:, 0] / values[:, 1]))


def _logarithms(distance: Float) -> tuple[Float, list[str]]:
    """Logarithms of the distances of those points that have no copy."""
    apart = distance[:, 0] > 0
    if apart.sum() < 10:
        raise ValueError(
            f"only {int(apart.sum())} of {len(distance)} points differ from their nearest "
            "neighbours, and 10 are needed: remove duplicated rows from X"
        )
    copies = len(distance) - int(apart.sum())
    said = [f"{copies} points equal others, and are left out"] if copies else []
    return np.log(distance[apart]), said


def _check_spread(values: Float) -> None:
    if not (values > 0).all():
        raise ValueError(
            "all points have their neighbours at one distance (a regular grid?), from which no "
            "dimension follows. Use method='lle'."
        )


def _estimate(
    value: float,
    reason: str,
    table: dict[str, NDArray[Any]],
    warned: list[str],
    *,
    criterion: str = "dimension",
) -> DimensionEstimate:
    text = f"{value:.0f}" if criterion == "thickness" else f"{value:.2f}"
    return DimensionEstimate(
        recommended=max(1, round(value)),
        reason=f"dimension {text}: {reason}.",
        table=table,
        warnings=tuple(warned),
        criterion=criterion,
        dimension=value,
    )
