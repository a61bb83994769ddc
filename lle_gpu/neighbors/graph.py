"""The directed k-nearest-neighbour graph: which sets of points does no edge leave?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

__all__ = ["ClosedClasses", "closed_classes"]


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
        Row i holds the neighbours of point i.
    """
    n, k = index.shape
    graph = csr_array(
        (np.ones(n * k, dtype=np.int8), index.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n)
    )
    n_strong, strong = connected_components(graph, directed=True, connection="strong")
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
