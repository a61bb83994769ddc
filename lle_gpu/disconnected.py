"""A neighbour graph in pieces: say so, refuse it, embed its largest part, or bridge it.

Two situations give null vectors that tell sets of points apart instead of showing their shape:

- several closed classes, sets of points that no edge of the directed graph leaves;
- points that are nobody's neighbour, for the methods whose constraints do not include the point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.arrays import feature_ranges, to_host
from lle_gpu.constraints import METHODS
from lle_gpu.exceptions import DisconnectedGraphError, DisconnectedGraphWarning, warn_user
from lle_gpu.kinds import listed, warn_of_copy
from lle_gpu.neighbors.bridge import bridge
from lle_gpu.neighbors.graph import ClosedClasses, closed_classes
from lle_gpu.neighbors.largest import largest_part
from lle_gpu.progress import note

__all__ = ["DISCONNECTED", "Graph", "settle_graph"]

DISCONNECTED = ("warn", "raise", "largest", "bridge")


@dataclass(frozen=True)
class Graph:
    """The neighbour graph to go on with.

    Attributes
    ----------
    index : ndarray of shape (m, k)
        The neighbours of the m points to embed, as positions among them: what was given, or an
        array on the host.
    classes : ClosedClasses
        Of that graph.
    embedded_rows : ndarray of int, shape (m,)
        Which rows of X they are, ascending: all, but for "largest".
    bridged_rows : ndarray of int
        Which rows got other neighbours; none, but for "bridge".
    """

    index: NDArray[np.integer]
    classes: ClosedClasses
    embedded_rows: NDArray[np.int64]
    bridged_rows: NDArray[np.int64]


def settle_graph(
    X: NDArray[Any],
    index: NDArray[np.integer],
    classes: ClosedClasses,
    *,
    disconnected: str,
    method: str,
    n_components: int,
    search_in: Callable[[NDArray[Any]], Any],
) -> Graph:
    """Do what ``disconnected`` says about several closed classes, and unreferenced points.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Or, of points on another device, what takes row numbers as it does.
    index : ndarray of shape (n, k)
        Row i holds the neighbours of point i; on any device, and copied only to be mended.
    classes : ClosedClasses
        Of this graph.
    disconnected : {"warn", "raise", "largest", "bridge"}
    method : str
    n_components : int
    search_in : callable
        Points (m, d) -> a search over them, with ``kneighbors``.

    Returns
    -------
    Graph

    Raises
    ------
    DisconnectedGraphError
        For "raise", if the graph is in pieces; for "largest", if too few points are left; for
        "bridge", if it comes to no end.

    Warns
    -----
    DisconnectedGraphWarning
        For "warn", if the graph is in pieces.
    """
    n, k = index.shape
    everything, nothing = np.arange(n), np.arange(0)
    hold_all = not METHODS[method].includes_point
    problems = _problems(classes, method, k)
    if disconnected == "raise" and problems:
        raise DisconnectedGraphError(" ".join(problems.values()))
    if disconnected == "warn" or not problems:
        for problem in problems.values():
            warn_user(problem, DisconnectedGraphWarning)
        return Graph(index, classes, everything, nothing)
    note(f"disconnected graph: {' and '.join(problems)}")
    warn_of_copy(
        X,
        f"disconnected={disconnected!r} searches among copies of rows, up to all of them",
        "A larger n_neighbors may leave the graph whole, and disconnected='raise' tells before "
        "anything is copied",
    )
    index = to_host(index)
    if disconnected == "bridge":
        index, rows = bridge(X, index, n_components, search_in=search_in, hold_all=hold_all)
        note(f"bridged: {len(rows)} of {n} points got other neighbours")
        return Graph(index, closed_classes(index), everything, rows)
    rows, index = largest_part(X, index, search_in=search_in, hold_all=hold_all)
    _check_part(X[rows], n, n_components)
    note(f"largest part: {len(rows)} of {n} points are embedded, the others placed beside them")
    return Graph(index, closed_classes(index), rows, nothing)


def _problems(classes: ClosedClasses, method: str, k: int) -> dict[str, str]:
    """What is wrong with the graph: in a few words, and at length with what to try."""
    problems = {}
    if len(classes) > 1:
        sizes, rows = listed(classes.sizes, str), listed(classes.example_rows, str)
        meaning = (
            "Each adds a null vector, so that the first coordinates only tell these sets apart."
            if METHODS[method].square
            else "Little or nothing ties them to the rest, so that the first coordinates may only "
            "tell these sets apart."
        )
        problems[f"{len(classes)} closed classes"] = (
            f"The directed {k}-nearest-neighbour graph has {len(classes)} closed classes, sets of "
            f"points that no edge leaves: of {sizes} points (the first rows in each: {rows}). "
            f"{meaning} Try a larger n_neighbors, remove duplicated rows, or let "
            "disconnected='bridge' tie them together or disconnected='largest' embed the largest "
            "part alone."
        )
    alone = classes.unreferenced
    if len(alone) and not METHODS[method].includes_point:
        problems[f"{len(alone)} points that are nobody's neighbour"] = (
            f"{len(alone)} point(s) are among no other point's {k} nearest neighbours (rows "
            f"{listed(alone, str)}). With method={method!r} nothing ties them to the rest: each "
            "adds a null vector, so that the first coordinates single them out. Try a larger "
            "n_neighbors, disconnected='bridge' to make each a neighbour of its nearest point or "
            "disconnected='largest' to leave them out and place them afterwards, or use "
            "method='standard' or 'modified', whose constraints hold every point."
        )
    return problems


def _check_part(X: NDArray[Any], n: int, n_components: int) -> None:
    """Raise if the part X (m, d) that is left of n points cannot be embedded."""
    if X.shape[0] <= n_components:
        why = f"n_components={n_components} needs at least {n_components + 1}"
    elif not feature_ranges(X).any():
        why = "these are all equal"
    else:
        return
    raise DisconnectedGraphError(
        f"disconnected='largest' leaves {X.shape[0]} of {n} points, and {why}. Raise n_neighbors, "
        "or use disconnected='bridge'."
    )
