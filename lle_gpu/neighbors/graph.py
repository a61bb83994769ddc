"""The directed k-nearest-neighbour graph: which sets of points does no edge leave?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, dijkstra

__all__ = ["ClosedClasses", "closed_classes", "destinations", "leading_to", "main_class"]

# Closed classes of which it is counted exactly how many points lead to them.
MOST_COMPARED = 16


@dataclass(frozen=True)
class ClosedClasses:
    """Closed strongly connected classes of the directed graph, largest first.

    Attributes
    ----------
    sizes : ndarray of int, shape (c,)
        Number of points in each class.
    example_rows : ndarray of int, shape (c,)
        The lowest row of each class.
    labels : ndarray of int, shape (n,)
        Class of each point, -1 for the points that belong to none.
    unreferenced : ndarray of int
        Points that are nobody's neighbour.
    """

    sizes: NDArray[np.int64]
    example_rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    unreferenced: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sizes)


def closed_classes(index: NDArray[np.integer]) -> ClosedClasses:
    """Find the sets of points that reach one another and that no edge leaves.

    With one row e_i - w_i per point, ``B = I - W`` is block triangular over the strong
    components, and each closed one makes its diagonal block singular (the weights sum to one):
    B has as many null vectors as there are closed classes. A sound graph has one.

    Parameters
    ----------
    index : ndarray of shape (n, k)
        Row i holds the neighbours of point i, each once: SciPy's search for strong components
        comes to no end where an edge is repeated.
    """
    n = len(index)
    n_strong, strong = connected_components(_graph(index), directed=True, connection="strong")
    leaves = (strong[index] != strong[:, None]).any(axis=1)
    is_open = np.zeros(n_strong, dtype=bool)
    is_open[strong[leaves]] = True
    sizes = np.bincount(strong, minlength=n_strong)
    _, first_row = np.unique(strong, return_index=True)
    closed = np.flatnonzero(~is_open)
    closed = closed[np.lexsort((first_row[closed], -sizes[closed]))]
    rank = np.full(n_strong, -1)
    rank[closed] = np.arange(len(closed))
    unreferenced = np.flatnonzero(np.bincount(index.ravel(), minlength=n) == 0)
    return ClosedClasses(sizes[closed], first_row[closed], rank[strong], unreferenced)


def destinations(
    index: NDArray[np.integer], classes: ClosedClasses
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Find the closed class to which each point leads, and the points that lead to several.

    From every point some closed class is reached along the edges. Several are, if the point comes
    to an edge between points with different nearest classes: that takes two searches against the
    edges, however many classes there are.

    Parameters
    ----------
    index : ndarray of shape (n, k)
    classes : ClosedClasses
        Of this graph.

    Returns
    -------
    nearest : ndarray of int, shape (n,)
        The number of the closed class that is fewest steps away.
    several : ndarray of bool, shape (n,)
        Whether others can be reached, too.
    """
    against = _graph(index).T.tocsr()
    nearest = classes.labels[_first_reached(against, np.flatnonzero(classes.labels >= 0))]
    crossing = np.flatnonzero((nearest[index] != nearest[:, None]).any(axis=1))
    several = np.zeros(len(index), dtype=bool)
    if len(crossing):
        several = _first_reached(against, crossing) >= 0
    return nearest, several


def main_class(
    index: NDArray[np.integer], classes: ClosedClasses, nearest: NDArray[np.int64]
) -> int:
    """Choose the closed class that holds most points: its own, and all that lead to it.

    A class's own size would be misleading: a few mutual neighbours in the middle of a large cluster
    are a small class to which the whole cluster leads. Of many classes, those are compared that are
    nearest to most points.

    Parameters
    ----------
    index : ndarray of shape (n, k)
    classes : ClosedClasses
        Of this graph.
    nearest : ndarray of int, shape (n,)
        From :func:`destinations`.

    Returns
    -------
    int
        Its number among ``classes``: of equal ones the larger class, then the one with the lower
        row.
    """
    near = np.bincount(nearest, minlength=len(classes))
    compared = np.sort(np.argsort(-near, kind="stable")[:MOST_COMPARED])
    held = [leading_to(index, int(classes.example_rows[number])).sum() for number in compared]
    return int(compared[np.argmax(held)])


def leading_to(index: NDArray[np.integer], row: int) -> NDArray[np.bool_]:
    """Whether a path of edges leads from each of the n points to ``row``, where it may begin."""
    leads = np.zeros(len(index), dtype=bool)
    leads[breadth_first_order(_graph(index).T.tocsr(), row, return_predecessors=False)] = True
    return leads


def _first_reached(against: csr_array, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Which of ``rows`` is fewest steps away from each point; negative if none is reached.

    ``against`` is the graph with its edges turned round.
    """
    _, _, first = dijkstra(
        against, indices=rows, unweighted=True, min_only=True, return_predecessors=True
    )
    return first


def _graph(index: NDArray[np.integer]) -> csr_array:
    """The directed graph's adjacency matrix: an edge from each point to its neighbours."""
    n, k = index.shape
    # Float64 is what SciPy's graph algorithms copy everything else to.
    return csr_array((np.ones(n * k), index.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
