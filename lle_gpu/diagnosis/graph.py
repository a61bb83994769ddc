"""Checks of the neighbour graph: its pieces, and the points that nothing holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from lle_gpu.constraints import METHODS
from lle_gpu.diagnosis.data import with_scaling
from lle_gpu.diagnosis.findings import SHOWN, Finding, shown
from lle_gpu.diagnosis.view import APART, View
from lle_gpu.neighbors.graph import closed_classes

Index = NDArray[np.int64]


def find_pieces(view: View) -> Iterator[Finding]:
    """Pieces with gaps in between, cliques, and a graph that falls apart without a gap."""
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
        yield _separate_pieces(group, pieces)
    if clique.any():
        yield Finding(
            "clique",
            f"{clique.sum()} small group(s) of points have all their neighbours among themselves, "
            "nearer than others' are. Edges lead into such a group and none out: two of them are "
            "two null vectors, and the first coordinates tell them apart.",
            {
                "sizes": shown(classes.sizes[clique]),
                "first rows": shown(classes.example_rows[clique]),
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
                "sizes": shown(classes.sizes[chance]),
                "first rows": shown(classes.example_rows[chance]),
            },
            f"n_neighbors={grown}" if grown else f"n_neighbors={2 * k} or more",
        )
        yield with_scaling(view, finding)


def _separate_pieces(group: Index, pieces: Index) -> Finding:
    members = np.bincount(group)
    pieces = pieces[np.argsort(-members[pieces], kind="stable")]
    return Finding(
        "separate-pieces",
        f"The data come in {len(pieces)} pieces that no larger neighbourhoods join: each adds "
        "a null vector, or nearly one, and the first coordinates tell the pieces apart.",
        {
            "sizes": shown(members[pieces]),
            "first rows": [int((group == piece).argmax()) for piece in pieces[:SHOWN]],
        },
        "embed the pieces one by one, or disconnected='largest' (the largest alone) or "
        "'bridge' (tied together at a few points)",
    )


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


def find_few_constraints(view: View) -> Iterator[Finding]:
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


def find_unheld(view: View) -> Iterator[Finding]:
    """Points that no constraint holds."""
    alone = view.classes.unreferenced
    if METHODS[view.method].includes_point or view.is_bridged or len(alone) == 0:
        return
    everyone = _grown(view.nearest[1], view.k, lambda wider: len(np.unique(wider)) == view.n)
    larger = everyone and f"n_neighbors={everyone}, at which every point is somebody's neighbour"
    yield Finding(
        "unheld-points",
        f"{len(alone)} point(s) are nobody's neighbour, and with method={view.method!r} no "
        "constraint holds them: each adds a null vector, and a coordinate that singles it out.",
        {"points": len(alone), "share": len(alone) / view.n, "rows": shown(alone)},
        f"{larger or 'leave outliers out'}, disconnected='bridge' or 'largest', or "
        "method='modified', whose constraints hold every point",
    )


def find_mended(view: View) -> Iterator[Finding]:
    """What was done about a graph in pieces."""
    bridged = view.model.bridged_rows_
    if len(bridged):
        yield Finding(
            "bridged-rows",
            f"The neighbour graph was in pieces, and {len(bridged)} row(s) were given other "
            "neighbours to tie them together. Where the pieces lie to one another is decided by "
            "these rows alone.",
            {"rows": shown(bridged), "count": len(bridged), "share": len(bridged) / view.n},
            f"n_neighbors={2 * view.k}, or disconnected='largest' to leave the small pieces out",
        )
    if not view.is_whole:
        out = np.setdiff1d(np.arange(view.n_all), view.rows)
        yield Finding(
            "rows-left-out",
            f"{len(out)} row(s) were not part of the embedding, and were placed afterwards beside "
            "their nearest embedded points: their coordinates are guesses.",
            {"rows": shown(out), "count": len(out), "share": len(out) / view.n_all},
            f"n_neighbors={2 * view.k}, or disconnected='bridge'",
        )
