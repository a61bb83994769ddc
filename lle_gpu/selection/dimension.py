"""How many dimensions the data have, as seen from near by.

**Maximum likelihood** ("mle"). With T_j(x) the distance from x to its j-th nearest neighbour,

    1 / m_k = mean over x of  1/(k-1) sum_(j<k) log( T_k(x) / T_j(x) )

(Levina and Bickel's estimator; the mean is taken of the inverses, which MacKay and Ghahramani show
to be the likelihood's maximum over all points together). It is what the table shows, and is right
where distances v in units of T_k have the density d v^(d-1): on flat space without an end. Bends,
density and boundaries change that. So the density, to their first orders, is taken to be

    p(v) ~ v^(d-1) exp( -b v + c v^2 + 3/(d+2) c|c| v^4 ),    0 < v < 1.

- c, the share of curvature, of order T_k^2 (Karp and Pinsky), is fitted together with d, by maximum
  likelihood. What follows it, of order T_k^4, cannot be had from a few thousand points, and is
  known for products of spheres: 3/(d+2) is right for circles; 3-spheres have 5/(d+2), a single
  sphere 1/(d-2).
- Density is divided out: neighbours count as T_2k^d, which is 1 / density, and points as its
  inverse, though never more than the densest quarter's.
- b is the share of boundaries, of order T_k. It cannot be told from c by the distances of a few
  thousand points, but can by directions. With u the directions to a point's neighbours, weighted as
  above, e = E u and M = E u u^T, the mean of

      e^T (M - e e^T) e / tr M^2

  is of order T_k by boundaries, and of order T_k^4 by bends, where e is normal to the manifold. Its
  value at a half-space, and what that takes away from the distances, are integrals over the height
  above the boundary; b is their quotient times what is seen. For metric="euclidean" alone.

n points of d dimensions have their k nearest at about (k/n)^(1/d) of the data's own width. Where
that is most of it, nothing is near: "mle" and "twonn" fall short, and the limit, an extrapolation,
can be anything from 0 to several times d. Then, and where it is far above m_4, m_4 stands as it
is; and m_k where that is less than half of m_4, which then is the dimension of noise. Where m_4 is
more than the columns can have, the points are regularly spaced, and m_k is taken.

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
data. IEEE Trans. Comput. C-20:176 (1971). — L. Karp, M. Pinsky: Volume of a small extrinsic ball in
a submanifold. Bull. London Math. Soc. 21:87 (1989). — C. Loader: Local likelihood density
estimation. Ann. Statist. 24:1602 (1996), for polynomials in the exponent.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.sparse import issparse
from scipy.special import betainc, betaincinv
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from lle_gpu.arrays import as_points, check_values, on_device, to_host
from lle_gpu.backend import Backend
from lle_gpu.constraints.cpu.local import (
    centred_neighborhoods,
    differences,
    principal_directions,
    typical_width,
)
from lle_gpu.device import resolve
from lle_gpu.exceptions import warn_user
from lle_gpu.functional import PARAMETER_CONSTRAINTS, where_it_fits
from lle_gpu.parallel import for_each_chunk
from lle_gpu.progress import stage, watch
from lle_gpu.selection.results import DimensionEstimate

__all__ = ["intrinsic_dimension"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]

LEAST_NEIGHBORS = 4
# Neighbours by which the density is taken, in units of those whose distances are looked at.
WIDER = 2
# The share of the points, the densest, that count alike.
DENSEST = 0.25
# Curvature of the second order, as of a product of circles.
CLOSING = 3.0
# Quadrature, and steps that are never all needed.
NODES, NEWTON = 2000, 50
# The share of the ratios, the smallest, that the line is fitted to.
KEPT = 0.9
# How far the limit may lie from what the fewest neighbours give: the larger of so many dimensions
# and this share.
AGREED, AGREED_SHARE = 1.0, 0.35
# Noise: the most neighbours see less than this share of the dimensions that the fewest see. On a
# manifold without noise, bends, density and boundaries take away a quarter.
NOISY = 0.5
# Neighbours that are farther, in units of the data's width, are not near: four are as far as this
# where they see 12 dimensions with 500 points, or 21 with 20,000.
NOT_NEAR = 2 / 3
# More dimensions than the columns, by more than one and this many standard errors of the nearest
# neighbours' estimate: regular spacing. By other metrics than the Euclidean it can be that anyway.
STANDARD_ERRORS = 5.0
# Points that are left in the thinnest sample.
THINNEST = 100
# Neighbourhoods whose principal directions are looked at; draws from a ball.
SAMPLE, DRAWS = 1000, 400
# Directions in which the data may extend.
MOST_DIMENSIONS = 30
THIN = 0.5
SEED = 0
BY_PURPOSE = (
    "Take n_components by what the embedding is for: 2 or 3 to look at, what a grid search finds "
    "best to learn from"
)
TINY = float(np.finfo(np.float64).tiny)


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
          neighbourhoods of radius 0; twice as many are searched for. Where that cannot be
          trusted it is what four neighbours give, or, where these see noise or regular spacing,
          ``n_neighbors``.
        - "twonn": by the distances to the two nearest alone; sees noise before it sees the data.
        - "lle": by the principal directions of neighbourhoods of ``n_neighbors``; a whole number,
          up to ``n_neighbors`` and 31.
    n_neighbors : int, default=None
        None is 25 for "mle" and 32 for "lle", or what there are points for. At least 8 for "mle"
        and 3 for "lle". Not used by "twonn".
    metric, neighbors_algorithm, random_state, n_jobs, device, verbose, callbacks
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    Returns
    -------
    DimensionEstimate
        ``recommended`` is a whole number for n_components, from 1 to n_features, ``dimension`` the
        estimate.

    Raises
    ------
    ValueError
        As :class:`lle_gpu.LocallyLinearEmbedding`, for an ``n_neighbors`` out of range, and if
        fewer than 10 points differ from their nearest neighbours.
    GpuUnavailableError, GpuMemoryError
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    Warns
    -----
    UserWarning
        If the points are too few for so many dimensions, too noisy, or too regularly spaced, and
        the estimate is not to be relied on; ``warnings`` has the same text.

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
    k = {"mle": 25, "twonn": 2, "lle": 32}[method] if n_neighbors is None else n_neighbors
    k = min(k, n - 1) if n_neighbors is None else k
    if method == "twonn":
        k = 2
    if not least <= k < n:
        raise ValueError(
            f"n_neighbors={k} must be from {least} to {n - 1} for method={method!r} and {n} points"
        )
    check_values(points)

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
        distance, index = search(there, backend, min(WIDER * k, n - 1) if method == "mle" else k)
        if method == "lle":
            return _by_pieces(to_host(points), index, n_jobs)
        n_features = points.shape[1]
        bound = n_features if metric == "euclidean" else np.inf
        if method == "mle":
            X = to_host(points) if metric == "euclidean" else None
            return _by_likelihood(X, distance, index, k, n_features, bound, n_jobs)
        rows = backend.rows_of(there)
        return _by_two(distance, n_features, bound, lambda part: search(rows[part], backend, 2)[0])

    with watch(verbose, callbacks):
        with on_device(points):
            backend = resolve(
                device, metric=metric, algorithm=neighbors_algorithm, sparse=issparse(points)
            )
        advice = "or give fewer points"
        return where_it_fits(device, backend, points, points, run, advice=advice)[0]


def _by_likelihood(
    X: Any,
    distance: Float,
    index: Index,
    k: int,
    n_features: int,
    bound: float,
    n_jobs: int | None,
) -> DimensionEstimate:
    """Levina and Bickel's estimate for several k, and the limit for small neighbourhoods.

    ``X`` is None where distances are not those of its rows: then boundaries are not looked for.
    ``bound`` is how many dimensions there can be.
    """
    logs, warned = _logarithms(distance)
    before = np.cumsum(logs, axis=1)
    ks = np.unique(np.geomspace(LEAST_NEIGHBORS, k, 7).round().astype(int))
    inverse = np.array([np.mean(logs[:, j - 1] - before[:, j - 2] / (j - 1)) for j in ks])
    _check_spread(inverse)
    m, radius = 1.0 / inverse, np.exp([logs[:, j - 1].mean() for j in ks])
    n, few, many = len(logs), float(m[0]), float(m[-1])
    value, how, doubts = few, f"of which {ks[0]} are taken", _too_many(few, int(ks[0]), n)
    if _is_regular(few, bound, n):
        value, how = many, f"of which {k} are taken"
        how += ": the points are regularly spaced, and the nearest alone tell nothing"
        doubts = _too_many(many, int(ks[0]), n)
        if _is_regular(many, bound, n):
            doubts = [
                f"the points are regularly spaced: even {k} neighbours see {many:.3g} dimensions "
                f"in {n_features} columns. A larger n_neighbors, or method='lle', may tell"
            ]
    elif many < NOISY * few and _reach(many, k, n) <= NOT_NEAR:
        value, how = many, f"of which {k} are taken"
        doubts = [
            f"{ks[0]} neighbours see {few:.1f} dimensions and {k} only {many:.1f}: noise, or "
            "groups of a few points, are as wide as these are far, or the points are regularly "
            "spaced. A larger n_neighbors may see past that"
        ]
    elif not doubts:
        limit = _followed(X, distance, index, logs, k, n_jobs)
        is_near = abs(limit - few) <= max(AGREED, AGREED_SHARE * few)
        # Below what few give it may have seen past noise; above, or at nothing, it ran away.
        if is_near or 0.5 <= limit < few:
            value, how = limit, "in the limit of small neighbourhoods"
        if not is_near:
            doubts = [
                f"the limit for small neighbourhoods, {limit:.1f}, is far from what {ks[0]} "
                f"neighbours give, {few:.1f}: the points are too few, too noisy or too regular to "
                "tell. Compare the other methods, and a larger n_neighbors"
            ]
    said = f"{few:.2f} by {ks[0]} neighbours, {many:.2f} by {ks[-1]}"
    table = {"n_neighbors": ks, "dimension": m, "radius": radius}
    return _estimate(value, f"{said}, {how}", table, warned, doubts, n_features)


def _followed(
    X: Any, distance: Float, index: Index, logs: Float, k: int, n_jobs: int | None
) -> float:
    """The estimate followed to neighbourhoods of radius 0: density and boundaries taken out."""
    ratio = np.exp(logs[:, : k - 1] - logs[:, k - 1 : k])
    limit = _limit(ratio, np.ones_like(ratio), np.ones(len(ratio)), 0.0)
    if X is None:
        return limit
    rows = np.flatnonzero(distance[:, 0] > 0)
    far = np.full(len(distance), logs[:, -1].min())
    far[rows] = logs[:, -1]
    far -= np.quantile(logs[:, -1], DENSEST)
    near = np.exp(limit * (far[index[rows, :k]] - far[rows, None]))
    rank = np.exp(-limit * np.maximum(far[rows], 0.0))
    lopsided = _lopsidedness(X, rows, index[rows, :k], near, rank, n_jobs)
    lack = max(0.0, lopsided) * _lack_of_half_space(limit, distance.shape[1] / k)
    return _limit(ratio, near[:, : k - 1], rank, lack)


def _limit(ratio: Float, near: Float, rank: Float, lack: float) -> float:
    """The d of the density on [0, 1] that the module describes, by maximum likelihood.

    Parameters
    ----------
    ratio : ndarray of shape (n, k - 1)
        v, the distances in units of the k-th.
    near, rank : ndarrays of shape (n, k - 1) and (n,)
        Weights of the neighbours and of the points.
    lack : float
        b, the share of boundaries.
    """
    weights = near * (rank / near.sum(axis=1))[:, None]
    weights /= weights.sum()
    powers = np.log(ratio), ratio**2, ratio**4
    seen = np.array([(weights * power).sum() for power in powers])
    first = -1.0 / seen[0]
    closing = CLOSING / (first + 2)
    # Midpoints of equal shares under v^(first-1), from which the density is a smooth tilt.
    v = ((np.arange(NODES) + 0.5) / NODES) ** (1.0 / first)
    statistics = np.stack([np.log(v), v**2, v**4])

    def density(tilt: Float) -> tuple[float, Float]:
        """Its logarithm's mean over what was seen, and its masses at the nodes."""
        a, c = tilt
        powers = np.array([a, c, closing * c * abs(c)])
        log = powers @ statistics - lack * v
        p = np.exp(log - log.max())
        return float(powers @ seen - log.max() - np.log(p.sum())), p / p.sum()

    tilt = np.zeros(2)
    value, p = density(tilt)
    for _ in range(NEWTON):
        slope = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 2 * closing * abs(tilt[1])]])
        mean = statistics @ p
        covariance = (statistics * p) @ statistics.T - np.outer(mean, mean)
        step = np.linalg.solve(slope @ covariance @ slope.T, slope @ (seen - mean))
        while abs(step[0]) > 1e-6:
            there = density(tilt + step)
            if first + tilt[0] + step[0] > 0 and there[0] > value:
                break
            step /= 2
        else:
            break
        tilt = tilt + step
        value, p = there
    return float(first + tilt[0])


def _lopsidedness(
    X: Any, rows: Index, index: Index, near: Float, rank: Float, n_jobs: int | None
) -> float:
    """Mean of e^T (M - e e^T) e / tr M^2, with e = E u and M = E u u^T over directions u.

    All products are taken over different neighbours, so that no number of them biases the mean.
    """
    k = index.shape[1]
    near = near / near.mean(axis=1, keepdims=True)
    upper, square = np.zeros(len(rows)), np.zeros(len(rows))
    diagonal = np.arange(k)
    halves = diagonal[::2], diagonal[1::2]

    def work(chunk: slice) -> None:
        U = differences(X[rows[chunk]], X, index[chunk])
        U /= np.maximum(np.linalg.norm(U, axis=2, keepdims=True), TINY)
        w = near[chunk]
        G = U @ U.transpose(0, 2, 1)
        G[:, diagonal, diagonal] = 0.0
        squares = G * G
        along = (G @ w[:, :, None])[:, :, 0] ** 2 - (squares @ (w * w)[:, :, None])[:, :, 0]
        third = (w * along).sum(axis=1) / (k * (k - 1) * (k - 2))
        one, other = (
            np.einsum("ni,nij,nj->n", w[:, h], G[:, h][:, :, h], w[:, h]) / (len(h) * (len(h) - 1))
            for h in halves
        )
        upper[chunk] = third - one * other
        square[chunk] = np.einsum("ni,nij,nj->n", w, squares, w) / (k * (k - 1))

    width = typical_width(X, k)
    for_each_chunk(work, len(rows), bytes_per_row=8 * k * (2 * width + 4 * k), n_jobs=n_jobs)
    return float((rank @ upper) / (rank @ square))


def _lack_of_half_space(d: float, wider: float) -> float:
    """What ``lack`` is per unit of lopsidedness, for points of a half-space of dimension d.

    All is integrated over the height h above the boundary, in units of the radius R that holds k
    points far from it. T(h) holds as many, and the weights' radius ``wider`` times as many.
    """
    height = np.linspace(0.0, 1 + wider ** (1 / d), 101)  # above, no weight sees the boundary
    T = np.ones_like(height)
    for _ in range(60):
        cap = betainc((d + 1) / 2, 0.5, np.maximum(0.0, 1 - (height / T) ** 2)) / 2
        T = (1 - cap) ** (-1 / d)
    stretch = wider ** (-1 / d)
    # Equal shares of a ball: radii, and one component of the directions.
    q = (np.arange(100) + 0.5) / 100
    rho = q ** (1 / d)
    u = np.sqrt(betaincinv(0.5, max(d - 1, 1e-2) / 2, q))
    u = np.concatenate([-u[::-1], u])
    above = height[:, None, None] + T[:, None, None] * rho[:, None] * u
    w = np.where(above > 0, np.interp(above * stretch, height, T**d), 0.0)
    w /= w.sum(axis=(1, 2), keepdims=True)
    inverse = -(w.sum(axis=2) @ np.log(rho))
    e, M = w.sum(axis=1) @ u, w.sum(axis=1) @ u**2
    rank = np.interp(height * stretch, height, T**-d)
    missing = trapezoid(rank * (inverse - inverse[-1]), height)
    # (1 - lack v) v^(d-1) has the mean -log v of 1/d + lack / (d+1)^2, to first order.
    return float((d + 1) ** 2 * missing / trapezoid(rank * e**2 * (M - e**2) * d, height))


def _by_two(distance: Float, n_features: int, bound: float, search: Any) -> DimensionEstimate:
    """Facco and others' estimate on all points, and on halves, quarters ... of them.

    ``bound`` is how many dimensions there can be.
    """
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
    value, doubts = values[0], _too_many(values[0], 2, n)
    reason = "by the ratios of the two nearest distances"
    if _is_regular(value, bound, int((distance[:, 0] > 0).sum())):
        doubts = [
            f"the points are regularly spaced, and their two nearest neighbours at almost one "
            f"distance, as in {value:.3g} dimensions, though X has {n_features} columns. Use "
            "method='mle'"
        ]
        value, reason = float(n_features), f"as many as X has columns; {reason} there are more"
    return _estimate(value, reason, table, warned, doubts, n_features)


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
    doubts = []
    if np.isnan(thickness[-1]):
        advice = BY_PURPOSE if found > MOST_DIMENSIONS else "Larger n_neighbors, or 'mle', can tell"
        doubts.append(
            f"neighbourhoods of {k} points extend in all of the {found} dimensions that were "
            f"looked at: the data have that many or more, or the noise has. {advice}"
        )
        reason = f"neighbourhoods of {k} points are not thin over fewer"
    elif found == X.shape[1]:
        reason = f"neighbourhoods of {k} points extend along all columns"
    else:
        reason = f"over as many, neighbourhoods of {k} points are {thickness[-1]:.2f} as thick as "
        reason += "a ball"
    table = {"dimension": np.arange(1, found + 1), "thickness": np.array(thickness)}
    n_features = int(X.shape[1])
    return _estimate(float(found), reason, table, [], doubts, n_features, criterion="thickness")


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


def _is_regular(d: float, bound: float, n: int) -> bool:
    """Whether n points' nearest neighbours see more than ``bound`` dimensions, not by chance."""
    return d > bound * (1 + STANDARD_ERRORS / np.sqrt(n)) + 1


def _reach(d: float, k: int, n: int) -> float:
    """How far the k nearest of n points in d dimensions are, in units of the data's width."""
    return float((k / n) ** (1 / d))


def _too_many(d: float, k: int, n: int) -> list[str]:
    """What there is to say if the k nearest of n points in d dimensions are not near."""
    reach = _reach(d, k, n)
    if reach <= NOT_NEAR:
        return []
    return [
        f"about {d:.0f} dimensions are too many for {n} points to tell, or noise hides how many "
        f"there are: among so many, even the {k} nearest neighbours are about {reach:.0%} as far "
        f"as the data are wide. {BY_PURPOSE}"
    ]


def _estimate(
    value: float,
    reason: str,
    table: dict[str, NDArray[Any]],
    warned: list[str],
    doubts: list[str],
    n_features: int,
    *,
    criterion: str = "dimension",
) -> DimensionEstimate:
    """The result; ``doubts`` of it are warned about, what is in ``warned`` is only told."""
    for doubt in doubts:
        warn_user(f"{doubt}.", UserWarning)
    text = f"{value:.0f}" if criterion == "thickness" else f"{value:.2f}"
    return DimensionEstimate(
        recommended=min(max(1, round(value)), n_features),
        reason=f"dimension {text}: {reason}.",
        table=table,
        warnings=(*warned, *doubts),
        criterion=criterion,
        dimension=value,
    )
