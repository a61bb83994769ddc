"""What the checks look at, each part computed once, when it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from scipy.sparse.csgraph import connected_components

from lle_gpu.arrays import HostIndexed, as_points, is_device_array, on_device, to_host
from lle_gpu.constraints.cpu.local import centred_neighborhoods, typical_width
from lle_gpu.diagnosis.spreads import Spreads, compare_spreads
from lle_gpu.kinds import warn_of_copy
from lle_gpu.neighbors import EUCLIDEAN
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.neighbors.precomputed import neighbor_index
from lle_gpu.parallel import for_each_chunk

Float = NDArray[np.float64]
Index = NDArray[np.int64]

# Rows looked at: neighbourhoods of several sizes, and columns.
SAMPLE = 500
SEED = 0
# Points belong to one piece if they are no farther from each other than this many times their
# distances to the k-th neighbour. Where the density goes on, 2 k neighbours lie within
# 2^(1/d) <= 2 times that distance, d the dimension. A clique is known, too, by a distance to the
# k-th neighbour that is less than this part of the others'.
APART = 2.0
# A piece of fewer points, in units of k + 1, is called a clique; so is one of less than a tenth of
# the points.
CLIQUE, CLIQUE_SHARE = 4, 0.1


class View:
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
            warn_of_copy(
                points,
                "diagnose() copies the rows that disconnected='largest' embedded",
                "A model of these rows alone needs no copy",
            )
            points = points[self.rows]
        options = {"metric": self.model.metric, "n_jobs": self.model.n_jobs}
        return NeighborSearch(points, self.k, **options)

    def names_of(self, columns: Index) -> list[Any]:
        """Columns by name, if the model was fitted to a data frame; else by number."""
        names = getattr(self.model, "feature_names_in_", range(self.d))
        return [names[column] for column in columns.tolist()]

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
        even = ball_variances(size, q + 1)
        return float(
            np.median(after / np.where(before > 0, before, 1.0))
            / np.median(even[:, q] / even[:, q - 1])
        )

    @cached_property
    def spreads(self) -> Spreads | None:
        """How the columns' spreads compare; None where that does not matter."""
        metrics = (*EUCLIDEAN, "manhattan", "l1")
        if self.d < 2 or issparse(self.X) or self.model.metric not in metrics:
            return None
        rows = self.sample(SAMPLE)
        X, index = self.points(np.column_stack([rows, self.index[rows]]))
        groups = np.where(self.is_large[self.group], self.group, -1)
        return compare_spreads(X, index, groups[rows])

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
def ball_variances(size: int, d: int) -> Float:
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
