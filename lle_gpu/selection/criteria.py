"""What tells a good embedding from a bad one when nothing but X is known.

**Distance residual.** An embedding by LLE keeps a manifold up to one linear map (its coordinates
are orthonormal). Let delta_ij be distances along the manifold, from l landmarks i to all points j
(or a sample of them), taken as shortest paths in the graph of the nearest neighbours, and
D_ij = y_i - y_j (q numbers). The best single metric G (symmetric, q x q) solves the linear least
squares problem

    min_G  sum_ij ( D_ij^T G D_ij / delta_ij^2 - 1 )^2

and the residual is 1 - r^2, r the correlation between delta_ij and sqrt(D_ij^T G D_ij). With G = I
and Euclidean delta it is the residual variance by which Kouropteva et al. choose k; with G = I and
the graph's distances that of Tenenbaum et al. G is what LLE does not fix. It is near 0 only where
the data are a manifold of q dimensions, nearly isometric to a flat piece, and the embedding has
found it.

**Neighbourhood preservation.** The mean share of each point's K nearest neighbours in X that are
among its K nearest in G^(1/2) Y (Q_NX(K) of Lee and Verleysen), K = 20. Without
G^(1/2) an embedding whose coordinates have other scales than the manifold loses neighbours that it
has. It says something always, also where q dimensions are too few, but cannot tell good embeddings
from very good ones.

**Long edges.** An edge (i, j) of the k-nearest-neighbour graph whose ends are several times as far
from one another in the graph of the few nearest is a short circuit: near in space, far along the
data. By the triangle inequality they are at least max_l |delta_li - delta_lj| apart, l the
landmarks: no path has to be searched for, so all edges are looked at, and none is called long
that is not. One may be missed, and those among the few nearest are not seen at all: the graph that
judges has them, too. :func:`lle_gpu.diagnosis.diagnose` looks at tangent planes instead.

O. Kouropteva, O. Okun, M. Pietikäinen: Selection of the optimal parameter value for the locally
linear embedding algorithm. FSKD 359 (2002). — J. Tenenbaum, V. de Silva, J. Langford: A global
geometric framework for nonlinear dimensionality reduction. Science 290:2319 (2000). — J. Lee,
M. Verleysen: Quality assessment of dimensionality reduction. Neurocomputing 72:1431 (2009).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from lle_gpu.neighbors.cpu import NeighborSearch, nearest_others

__all__ = ["LOCAL", "Judge", "instability"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]

# Neighbours that are taken to be near along the manifold, too.
LOCAL = 8
# Points whose distances to all others are compared; each costs a search through the graph. With
# 30, what they say of two candidates hardly depends on which points they are.
LANDMARKS = 30
# Points to which these distances are compared with the embedding's.
TARGETS = 20_000
# Points whose neighbourhoods are compared, and neighbours of each.
SAMPLE, SIZE = 300, 20
# Points whose edges are looked at; how much longer the way round a long one is.
EDGE_SAMPLE, DETOUR = 50_000, 4.0
SEED = 0
# Distances are compared that are more than this share of the largest.
NEAR = 1e-9


class Judge:
    """Both criteria for embeddings of the same data, and the long edges of their graph.

    Parameters
    ----------
    index, distance : ndarray of shape (n, k)
        Each point's neighbours, nearest first.
    n_jobs : int or None
    """

    def __init__(self, index: Index, distance: Float, n_jobs: int | None = None) -> None:
        n, k = index.shape
        self._n_jobs, self._index, self._distance = n_jobs, index, distance
        graph, place = _nearest_graph(index, distance)
        _, piece = connected_components(graph, directed=False)
        main = np.flatnonzero(piece[place] == np.bincount(piece[place]).argmax())
        rng = np.random.default_rng(SEED)
        self._landmarks = rng.choice(main, size=min(LANDMARKS, len(main)), replace=False)
        # Of all points: (l, n), infinite in other pieces than the largest.
        self._all = dijkstra(graph, directed=False, indices=place[self._landmarks])[:, place]
        self._piece = piece[place]
        self._rows = np.sort(rng.choice(n, size=min(SAMPLE, n), replace=False))
        self._near = index[self._rows, : min(SIZE, k)]
        # Copies, and what is as near as copies, have no direction.
        self._unit = self._all[np.isfinite(self._all)].max()
        targets = np.arange(n)
        if n > TARGETS:
            targets = np.sort(rng.choice(n, size=TARGETS, replace=False))
        along = self._all[:, targets]
        self._from, to = np.nonzero(np.isfinite(along) & (along > NEAR * self._unit))
        self._along, self._to = along[self._from, to], targets[to]

    def __call__(self, Y: Float) -> tuple[float, float]:
        """Distance residual, 0 at best, and neighbourhood preservation, 1 at best, of Y (n, q)."""
        q = Y.shape[1]
        a, b = np.triu_indices(q)
        if len(self._along) == 0:  # as many copies as neighbours: nothing lies along anything
            return 1.0, self._preservation(Y)
        D = Y[self._to] - Y[self._landmarks[self._from]]
        products = D[:, a] * D[:, b]
        scaled = products / ((self._along / self._unit) ** 2)[:, None]
        # So few unknowns and so many pairs: the normal equations save most of the work.
        normal, right = scaled.T @ scaled, scaled.sum(axis=0)
        solution = np.linalg.lstsq(normal, right, rcond=None)[0]
        length = np.sqrt(np.maximum(products @ solution, 0.0))
        varies = np.ptp(length) > 0 and np.ptp(self._along) > 0
        r = float(np.corrcoef(length, self._along)[0, 1]) if varies else 0.0
        G = np.zeros((q, q))
        G[a, b] = solution
        values, V = np.linalg.eigh((G + G.T) / 2)
        return 1.0 - max(r, 0.0) ** 2, self._preservation(Y @ V * np.sqrt(np.maximum(values, 0.0)))

    def long_edges(self) -> tuple[Float, int]:
        """Share of long edges among those to the k nearest neighbours, for k = 1, ..., K: (K,).

        An edge is long if its ends are more than ``DETOUR`` times as far apart along the graph of
        the ``LOCAL`` nearest, or in two pieces of it. Also, how many points' edges were looked at:
        all up to ``EDGE_SAMPLE``.
        """
        n, k = self._index.shape
        rows = np.arange(n)
        if n > EDGE_SAMPLE:
            rng = np.random.default_rng(SEED)
            rows = np.sort(rng.choice(n, size=EDGE_SAMPLE, replace=False))
        index = self._index[rows]
        allowed = DETOUR * self._distance[rows]
        is_long = self._piece[index] != self._piece[rows, None]
        for along in np.where(np.isfinite(self._all), self._all, 0.0):
            is_long |= np.abs(along[index] - along[rows, None]) > allowed
        return np.cumsum(is_long.mean(axis=0)) / np.arange(1, k + 1), len(rows)

    def _preservation(self, Y: Float) -> float:
        """As :func:`lle_gpu.metrics.neighborhood_preservation`, X's neighbours known already."""
        size = self._near.shape[1]
        search = NeighborSearch(Y, size, n_jobs=self._n_jobs)
        near = nearest_others(search, self._rows, size)
        return float((near[:, :, None] == self._near[:, None, :]).any(axis=2).mean())


def instability(Y: Float, other: Float) -> float:
    """sqrt(1 - ||Y^T Z||_F^2 / q), columns orthonormal: 0 for one space, 1 for orthogonal ones."""
    return float(np.sqrt(max(0.0, 1.0 - float(np.sum((Y.T @ other) ** 2)) / Y.shape[1])))


def _nearest_graph(index: Index, distance: Float) -> tuple[csr_array, Index]:
    """The graph of the few nearest distinct points, and each point's place in it (n,).

    Copies share a place: edges between them lead nowhere, and many of them would use up the few.
    """
    n, k = index.shape
    few = min(LOCAL, k)
    if (distance[:, 0] > 0).all():
        pointer = np.arange(0, n * few + 1, few)
        plain = distance[:, :few].ravel(), index[:, :few].ravel(), pointer
        return csr_array(plain, shape=(n, n)), np.arange(n)
    row, column = np.nonzero(distance == 0)
    same = csr_array((np.ones(len(row)), (row, index[row, column])), shape=(n, n))
    m, place = connected_components(same, directed=False)
    first = np.unique(place, return_index=True)[1]
    target = place[index[first]]  # (m, k)
    row, column = np.nonzero(distance[first] > 0)
    # Each place once in a row, where it comes first, and the few first of these.
    once = np.sort(np.unique(row * m + target[row, column], return_index=True)[1])
    row, column = row[once], column[once]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    row, column = row[rank < few], column[rank < few]
    entries = distance[first][row, column], (row, target[row, column])
    return csr_array(entries, shape=(m, m)), place.astype(np.int64)
