"""Neighbourhoods in the data and in the embedding, compared by ranks."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from lle_gpu.arrays import LARGEST, SMALLEST, feature_ranges
from lle_gpu.metrics.inputs import as_named_points
from lle_gpu.metrics.ranks import Space, positions, ranks
from lle_gpu.neighbors.cpu import NeighborSearch, nearest_others
from lle_gpu.neighbors.precomputed import neighbor_index
from lle_gpu.progress import stage

__all__ = [
    "CoRanking",
    "Score",
    "co_ranking",
    "continuity",
    "local_continuity",
    "neighborhood_preservation",
    "scores",
    "trustworthiness",
]

Float = NDArray[np.float64]
Index = NDArray[np.integer[Any]]


class Score(float):
    """A number, and how far it may be off.

    Parameters
    ----------
    value : float
    standard_error : float, default=0.0

    Attributes
    ----------
    standard_error : float
        Of a mean over points drawn at random, s / sqrt(m) * sqrt(1 - m / n) with s the standard
        deviation over the m of n points; 0 if the mean is over all of them.

    Examples
    --------
    >>> from lle_gpu.metrics import Score
    >>> print(Score(0.75, 0.0123), Score(0.75))
    0.75 ± 0.012 0.75
    """

    standard_error: float

    def __new__(cls, value: float, standard_error: float = 0.0) -> Score:  # noqa: D102
        score = super().__new__(cls, value)
        score.standard_error = standard_error
        return score

    def __str__(self) -> str:
        error = f" ± {self.standard_error:.2g}" if self.standard_error else ""
        return f"{float(self)}{error}"


@dataclass(frozen=True)
class CoRanking:
    """The ranks, in the one space, of each point's K nearest neighbours in the other.

    All scores for k = 1, ..., K are sums over these, and take no further search. Made by
    :func:`co_ranking`.

    Attributes
    ----------
    rank_in_data : ndarray of shape (m, K), int
        Entry (r, l - 1) is the rank, among the neighbours in X of point ``rows[r]``, of its l-th
        nearest neighbour in Y; from 1 to n - 1.
    rank_in_embedding : ndarray of shape (m, K), int
        The same with the spaces' roles exchanged.
    rows : ndarray of shape (m,), int
        The points that were looked at, ascending: all n, or the sample.
    n_samples : int
        n.
    """

    rank_in_data: Index
    rank_in_embedding: Index
    rows: Index
    n_samples: int

    @property
    def n_neighbors(self) -> int:
        """K, the largest number of neighbours that can be asked for."""
        return int(self.rank_in_data.shape[1])

    def trustworthiness(self, n_neighbors: int | None = None) -> Score:
        """As :func:`trustworthiness`, for k = ``n_neighbors``, by default K."""
        k = self._k(n_neighbors, halved=True)
        return _mean(_near_in_rank(self.rank_in_data[:, :k], self.n_samples), self.n_samples)

    def continuity(self, n_neighbors: int | None = None) -> Score:
        """As :func:`continuity`, for k = ``n_neighbors``, by default K."""
        k = self._k(n_neighbors, halved=True)
        return _mean(_near_in_rank(self.rank_in_embedding[:, :k], self.n_samples), self.n_samples)

    def neighborhood_preservation(self, n_neighbors: int | None = None) -> Score:
        """As :func:`neighborhood_preservation`, for k = ``n_neighbors``, by default K."""
        k = self._k(n_neighbors)
        return _mean((self.rank_in_data[:, :k] <= k).mean(axis=1), self.n_samples)

    def local_continuity(self, n_neighbors: int | None = None) -> Score:
        """As :func:`local_continuity`, for k = ``n_neighbors``, by default K."""
        k = self._k(n_neighbors)
        return _beyond_chance(self.neighborhood_preservation(k), k, self.n_samples)

    def scores(self, n_neighbors: int | None = None) -> dict[str, Score]:
        """As :func:`scores`, for k = ``n_neighbors``, by default K."""
        return {
            "trustworthiness": self.trustworthiness(n_neighbors),
            "continuity": self.continuity(n_neighbors),
            "neighborhood_preservation": self.neighborhood_preservation(n_neighbors),
            "local_continuity": self.local_continuity(n_neighbors),
        }

    def curves(self) -> dict[str, NDArray[Any]]:
        """All scores for k = 1, 2, ..., up to K, or to where k < n / 2 ends.

        Returns
        -------
        dict of str to ndarray
            "n_neighbors", and the names of :meth:`scores`; ``pandas.DataFrame(curves)`` is a table.

        Examples
        --------
        >>> import numpy as np
        >>> from lle_gpu.metrics import co_ranking
        >>> X = np.random.default_rng(0).normal(size=(100, 3))
        >>> curves = co_ranking(X, X[:, :2], n_neighbors=3).curves()
        >>> curves["n_neighbors"], curves["neighborhood_preservation"].round(2)
        (array([1, 2, 3]), array([0.3 , 0.32, 0.4 ]))
        """
        most = min(self.n_neighbors, (self.n_samples - 1) // 2)
        rows = [self.scores(k) for k in range(1, most + 1)]
        names = self.scores(1) if most else ()
        return {
            "n_neighbors": np.arange(1, most + 1),
            **{name: np.array([row[name] for row in rows], dtype=float) for name in names},
        }

    def matrix(self) -> NDArray[np.int64]:
        """The corner of the co-ranking matrix.

        Returns
        -------
        ndarray of shape (K, K), int64
            Entry (a - 1, b - 1) counts the pairs of points of which the second is the a-th nearest
            neighbour of the first in X, and the b-th nearest in Y.

        Examples
        --------
        >>> import numpy as np
        >>> from lle_gpu.metrics import co_ranking
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> co_ranking(X, 2 * X, n_neighbors=2).matrix()
        array([[100,   0],
               [  0, 100]])
        """
        K = self.n_neighbors
        in_embedding = np.broadcast_to(np.arange(K), self.rank_in_data.shape)
        inside = self.rank_in_data <= K
        cell = (self.rank_in_data[inside].astype(np.int64) - 1) * K + in_embedding[inside]
        return np.bincount(cell, minlength=K * K).reshape(K, K)

    def _k(self, n_neighbors: int | None, *, halved: bool = False) -> int:
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        _check_neighbors(k, self.n_samples, halved=halved)
        if k > self.n_neighbors:
            raise ValueError(
                f"n_neighbors={k} is more than the {self.n_neighbors} that this co-ranking was "
                f"made for: call co_ranking with n_neighbors={k}"
            )
        return k


def scores(
    X: Any,
    Y: Any,
    *,
    n_neighbors: int = 5,
    metric: Any = "euclidean",
    knn_graph: Any = None,
    sample: int | None = None,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> dict[str, Score]:
    """Trustworthiness, continuity, neighbourhood preservation and local continuity in one pass.

    Takes as long as the first two together: the neighbour searches, and distances of all points to
    all others in each space, of which in two or three dimensions most need not be formed. There is
    no n x n array: memory, beyond the data, is some 100 n n_neighbors bytes, and 100 MB or so of
    blocks in the search for neighbours. For a quick look at many points see ``sample``.

    Parameters
    ----------
    X : array, data frame, tensor or sparse matrix of shape (n, d)
        The data, of any kind that :meth:`lle_gpu.LocallyLinearEmbedding.fit` takes.
    Y : array, data frame or tensor of shape (n, q)
        The embedding, row for row. Distances in it are Euclidean.
    n_neighbors : int, default=5
        k, less than n / 2.
    metric : str or callable, default="euclidean"
        Of the data: any that the neighbour search knows, "precomputed" not among them. The
        Euclidean one is exact. For others, and for sparse X, ranks beyond k are by
        :func:`sklearn.metrics.pairwise_distances`, whose rounding decides between distances that
        are almost equal; they form all n^2 distances.
    knn_graph : tuple, array or sparse matrix, optional
        The data's neighbours, if they are known already, at least n_neighbors of each point, such
        as ``model.nbrs_.kneighbors(return_distance=False)``; in any form that
        :meth:`lle_gpu.LocallyLinearEmbedding.fit` takes. Saves the search in X, which in many
        dimensions is up to half of the time.
    sample : int, optional
        Look at so many points only, drawn at random, each with its neighbours and ranks among all
        n. Scores then have a ``standard_error``. From 2; all points if there are no more.
    random_state : int, RandomState instance or None, default=None
        Of the draw; None is a fixed one.
    n_jobs : int or None, default=None
        Threads; None and -1 are all cores.

    Returns
    -------
    dict of str to Score
        "trustworthiness", "continuity", "neighborhood_preservation", "local_continuity".

    Raises
    ------
    ValueError
        For different numbers of rows, NaN or infinity, ``n_neighbors`` or ``sample`` out of range,
        or data whose squared distances leave float64.

    Notes
    -----
    Neighbours are ordered by (distance, index), distances by float64. An embedding that has
    collapsed, all points of Y equal, so has the points of lowest index as everybody's neighbours,
    and gets about what chance gives: a trustworthiness of about 1/2, a local continuity of
    about 0. scikit-learn leaves the order of equal distances to chance, and counts a point as its
    own neighbour if it has duplicates; without these the trustworthiness is the same.

    Examples
    --------
    >>> from sklearn.datasets import make_s_curve
    >>> from lle_gpu.metrics import scores
    >>> X, _ = make_s_curve(500, random_state=0)
    >>> for name, score in scores(X, X[:, :2], n_neighbors=10).items():
    ...     print(f"{name:26}{score:.3f}")
    trustworthiness           0.668
    continuity                0.980
    neighborhood_preservation 0.334
    local_continuity          0.314
    >>> scores(X, X[:, :2], sample=100)["continuity"].standard_error < 0.01
    True
    """
    view = _View(X, Y, n_neighbors, metric, knn_graph, sample, random_state, n_jobs, halved=True)
    return view.co_ranking().scores()


def trustworthiness(
    X: Any,
    Y: Any,
    *,
    n_neighbors: int = 5,
    metric: Any = "euclidean",
    knn_graph: Any = None,
    sample: int | None = None,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> Score:
    """How far neighbours in the embedding can be trusted to be neighbours in the data. ::

        T(k) = 1 - 2 / (n k (2n - 3k - 1)) sum_i sum_{j in N_Y(i)} max(0, r_X(i, j) - k),

    N_Y(i) the k nearest neighbours of i in Y, and r_X(i, j) the rank of j among all neighbours of i
    in X [1]_. The same as :func:`sklearn.manifold.trustworthiness`, without its n x n arrays.

    Parameters
    ----------
    X, Y, n_neighbors, metric, knn_graph, sample, random_state, n_jobs
        As in :func:`scores`.

    Returns
    -------
    Score
        From 0 to 1. 1: all neighbours in Y are neighbours in X; chance gives about 1/2.

    Raises
    ------
    ValueError
        As :func:`scores`.

    References
    ----------
    .. [1] J. Venna, S. Kaski: Neighborhood preservation in nonlinear projection methods: an
       experimental study. ICANN 2001, 485-491.

    Examples
    --------
    >>> from sklearn.datasets import make_s_curve
    >>> from lle_gpu.metrics import trustworthiness
    >>> X, _ = make_s_curve(500, random_state=0)
    >>> f"{trustworthiness(X, X[:, :2]):.3f}"
    '0.662'
    """
    view = _View(X, Y, n_neighbors, metric, knn_graph, sample, random_state, n_jobs, halved=True)
    return _mean(_near_in_rank(view.rank_in_data(), view.n), view.n)


def continuity(
    X: Any,
    Y: Any,
    *,
    n_neighbors: int = 5,
    metric: Any = "euclidean",
    knn_graph: Any = None,
    sample: int | None = None,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> Score:
    """How far neighbours in the data are still neighbours in the embedding.

    :func:`trustworthiness` with the roles of the spaces exchanged [1]_, ::

        C(k) = 1 - 2 / (n k (2n - 3k - 1)) sum_i sum_{j in N_X(i)} max(0, r_Y(i, j) - k):

    low where the embedding tears apart what belongs together.

    Parameters
    ----------
    X, Y, n_neighbors, metric, knn_graph, sample, random_state, n_jobs
        As in :func:`scores`.

    Returns
    -------
    Score
        From 0 to 1. 1: all neighbours in X are neighbours in Y; chance gives about 1/2.

    Raises
    ------
    ValueError
        As :func:`scores`.

    References
    ----------
    .. [1] J. Venna, S. Kaski: Neighborhood preservation in nonlinear projection methods: an
       experimental study. ICANN 2001, 485-491.

    Examples
    --------
    >>> from sklearn.datasets import make_s_curve
    >>> from lle_gpu.metrics import continuity
    >>> X, _ = make_s_curve(500, random_state=0)
    >>> f"{continuity(X, X[:, :2]):.3f}"
    '0.987'
    """
    view = _View(X, Y, n_neighbors, metric, knn_graph, sample, random_state, n_jobs, halved=True)
    return _mean(_near_in_rank(view.rank_in_embedding(), view.n), view.n)


def neighborhood_preservation(
    X: Any,
    Y: Any,
    *,
    n_neighbors: int = 5,
    metric: Any = "euclidean",
    knn_graph: Any = None,
    sample: int | None = None,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> Score:
    """The mean share of each point's k nearest neighbours that are the same in both spaces. ::

        Q(k) = 1 / (n k) sum_i |N_X(i) & N_Y(i)|,

    which is Q_NX(k) of the co-ranking framework [1]_. Takes the neighbour searches, and nothing
    beyond.

    Parameters
    ----------
    X, Y, metric, knn_graph, sample, random_state, n_jobs
        As in :func:`scores`.
    n_neighbors : int, default=5
        k, less than n.

    Returns
    -------
    Score
        From 0 to 1; chance gives k / (n - 1).

    Raises
    ------
    ValueError
        As :func:`scores`.

    References
    ----------
    .. [1] J. Lee, M. Verleysen: Quality assessment of dimensionality reduction: rank-based
       criteria. Neurocomputing 72:1431 (2009).

    Examples
    --------
    >>> from sklearn.datasets import make_s_curve
    >>> from lle_gpu.metrics import neighborhood_preservation
    >>> X, _ = make_s_curve(500, random_state=0)
    >>> f"{neighborhood_preservation(X, X[:, :2]):.3f}"
    '0.321'
    """
    view = _View(X, Y, n_neighbors, metric, knn_graph, sample, random_state, n_jobs)
    return view.preservation()


def local_continuity(
    X: Any,
    Y: Any,
    *,
    n_neighbors: int = 5,
    metric: Any = "euclidean",
    knn_graph: Any = None,
    sample: int | None = None,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> Score:
    """The local continuity meta-criterion: neighbourhood preservation, less that of chance. ::

        LCMC(k) = Q(k) - k / (n - 1),

    Q(k) of :func:`neighborhood_preservation` [1]_. Unlike that, it falls when k comes near to n,
    and can choose k.

    Parameters
    ----------
    X, Y, metric, knn_graph, sample, random_state, n_jobs
        As in :func:`scores`.
    n_neighbors : int, default=5
        k, less than n.

    Returns
    -------
    Score
        From -k / (n - 1) to 1 - k / (n - 1); chance gives 0.

    Raises
    ------
    ValueError
        As :func:`scores`.

    References
    ----------
    .. [1] L. Chen, A. Buja: Local multidimensional scaling for nonlinear dimension reduction, graph
       drawing, and proximity analysis. J. Amer. Statist. Assoc. 104:209 (2009).

    Examples
    --------
    >>> from sklearn.datasets import make_s_curve
    >>> from lle_gpu.metrics import local_continuity
    >>> X, _ = make_s_curve(500, random_state=0)
    >>> f"{local_continuity(X, X[:, :2]):.3f}"
    '0.311'
    """
    view = _View(X, Y, n_neighbors, metric, knn_graph, sample, random_state, n_jobs)
    return _beyond_chance(view.preservation(), n_neighbors, view.n)


def co_ranking(
    X: Any,
    Y: Any,
    *,
    n_neighbors: int = 5,
    metric: Any = "euclidean",
    knn_graph: Any = None,
    sample: int | None = None,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> CoRanking:
    """Ranks in both spaces, from which all scores for k = 1, ..., ``n_neighbors`` follow.

    The co-ranking matrix [1]_ counts pairs of points by their ranks in both spaces, and has n - 1
    rows and columns. What is kept here is the part of it that says something about neighbourhoods:
    all pairs that are neighbours in either space, with their ranks in both.

    Parameters
    ----------
    X, Y, metric, knn_graph, sample, random_state, n_jobs
        As in :func:`scores`.
    n_neighbors : int, default=5
        K, the largest k that will be asked for; less than n.

    Returns
    -------
    CoRanking

    Raises
    ------
    ValueError
        As :func:`scores`.

    References
    ----------
    .. [1] J. Lee, M. Verleysen: Quality assessment of dimensionality reduction: rank-based
       criteria. Neurocomputing 72:1431 (2009).

    Examples
    --------
    >>> from sklearn.datasets import make_s_curve
    >>> from lle_gpu.metrics import co_ranking
    >>> X, _ = make_s_curve(500, random_state=0)
    >>> ranking = co_ranking(X, X[:, :2], n_neighbors=20)
    >>> [f"{ranking.trustworthiness(k):.3f}" for k in (5, 10, 20)]
    ['0.662', '0.668', '0.671']
    """
    view = _View(X, Y, n_neighbors, metric, knn_graph, sample, random_state, n_jobs)
    return view.co_ranking()


class _View:
    """The data and the embedding, and in both the neighbours of the points that are looked at."""

    def __init__(
        self,
        X: Any,
        Y: Any,
        n_neighbors: int,
        metric: Any,
        knn_graph: Any,
        sample: int | None,
        random_state: Any,
        n_jobs: int | None,
        *,
        halved: bool = False,
    ) -> None:
        data, embedding = _points(X, "X"), _points(Y, "Y")
        self.n = n = data.shape[0]
        if embedding.shape[0] != n:
            raise ValueError(
                f"X has {n} rows and Y has {embedding.shape[0]}: row i of Y must be the embedding "
                "of row i of X."
            )
        _check_neighbors(n_neighbors, n, halved=halved)
        if isinstance(metric, str) and metric == "precomputed":
            raise ValueError(
                "metric='precomputed' is not possible: give X itself, with the metric that made "
                "the distances, and its neighbours as knn_graph if you have them."
            )
        self.rows = _sampled(n, sample, random_state)
        self._data, self._embedding = Space(data, metric), Space(embedding, "euclidean")
        self._n_jobs = n_jobs
        with stage("neighbors", (1 + (knn_graph is None)) * len(self.rows)):
            if knn_graph is None:
                self._near_in_data = _nearest(self._data, self.rows, n_neighbors, n_jobs)
            else:
                graph = neighbor_index(knn_graph, n, n_neighbors, name="knn_graph")
                self._near_in_data = graph[self.rows].astype(_index_type(n))
            self._near_in_embedding = _nearest(self._embedding, self.rows, n_neighbors, n_jobs)

    def preservation(self) -> Score:
        """The mean share of neighbours that are the same."""
        same = positions(self._near_in_data, self._near_in_embedding, self._n_jobs) > 0
        return _mean(same.mean(axis=1), self.n)

    def rank_in_data(self) -> Index:
        """Ranks (m, k) in X of the neighbours in Y."""
        return self._ranks(self._data, self._near_in_embedding, self._near_in_data)

    def rank_in_embedding(self) -> Index:
        """Ranks (m, k) in Y of the neighbours in X."""
        return self._ranks(self._embedding, self._near_in_data, self._near_in_embedding)

    def co_ranking(self) -> CoRanking:
        """Both."""
        return CoRanking(self.rank_in_data(), self.rank_in_embedding(), self.rows, self.n)

    def _ranks(self, space: Space, columns: Index, near: Index) -> Index:
        with stage("ranks"):
            return ranks(space, self.rows, columns, near, self._n_jobs)


def _points(array: Any, name: str) -> Any:
    """Points on the host, of which squared distances make sense."""
    points = as_named_points(array, name, least=2)
    extent = float(feature_ranges(points).max())
    if extent and not SMALLEST < extent < LARGEST:
        raise ValueError(
            f"the largest range of a column of {name} is {extent:.3g}: it must be between "
            f"{SMALLEST:g} and {LARGEST:g}, or squared distances leave float64. Rescale {name} "
            "(the result does not depend on its scale)."
        )
    return points


def _check_neighbors(k: Any, n: int, *, halved: bool) -> None:
    if not _is_count(k, least=1):
        raise ValueError(f"n_neighbors={k!r} must be an integer from 1")
    if halved and k >= n / 2:
        raise ValueError(
            f"n_neighbors ({k}) should be less than n_samples / 2 ({n / 2}): beyond, "
            "trustworthiness and continuity leave 0 to 1. Take fewer neighbours; "
            "neighborhood_preservation and local_continuity take up to n_samples - 1."
        )
    if k >= n:
        raise ValueError(
            f"n_neighbors={k} must be less than n_samples={n} (a point is not its own neighbour)"
        )


def _is_count(value: Any, *, least: int) -> bool:
    # Booleans are integers, too.
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def _index_type(n: int) -> Any:
    """The smallest that counts n points."""
    return np.int32 if n <= np.iinfo(np.int32).max else np.int64


def _sampled(n: int, sample: Any, random_state: Any) -> Index:
    """The rows that are looked at, ascending."""
    if sample is None:
        return np.arange(n)
    if not _is_count(sample, least=2):
        raise ValueError(
            f"sample={sample!r} must be an integer from 2, the number of points that are drawn, or "
            "None for all points"
        )
    random = check_random_state(0 if random_state is None else random_state)
    return np.sort(random.permutation(n)[:sample])


def _nearest(space: Space, rows: Index, k: int, n_jobs: int | None) -> Index:
    """The k nearest other points (m, k) of some rows, in order."""
    n = space.points.shape[0]
    search = NeighborSearch(space.points, k, metric=space.metric, n_jobs=n_jobs)
    if len(rows) == n:
        return search.kneighbors(return_distance=False).astype(_index_type(n))
    return nearest_others(search, rows, k).astype(_index_type(n))


def _near_in_rank(rank: Index, n: int) -> Float:
    """1 - 2 / (k (2n - 3k - 1)) sum_j max(0, rank - k) of each row (m, k)."""
    k = rank.shape[1]
    return 1.0 - np.maximum(rank - k, 0).sum(axis=1) * (2.0 / (k * (2.0 * n - 3.0 * k - 1.0)))


def _beyond_chance(kept: Score, k: int, n: int) -> Score:
    return Score(float(kept) - k / (n - 1), kept.standard_error)


def _mean(values: Float, n: int) -> Score:
    """The mean over m of n points, drawn without replacement, and its standard error."""
    m = len(values)
    error = np.sqrt(values.var(ddof=1) / m * (1.0 - m / n)) if m < n else 0.0
    return Score(float(values.mean()), float(error))
