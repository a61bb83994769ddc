"""Checks of the data: copies, and columns out of scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lle_gpu.diagnosis.findings import SHOWN, Finding, listed, shown
from lle_gpu.diagnosis.spreads import UNITS_APART, Spreads
from lle_gpu.diagnosis.view import View

# Nearer than this part of the median distance to the k-th neighbour, points are copies: float32
# keeps 7 digits.
COPY = 1e-6
# Share of rows that have copies, or of the neighbours of some point that are its copies.
MANY_COPIES, CROWDED_BY_COPIES = 0.01, 0.5
# Variance of a column within neighbourhoods, as a share of its variance: neighbours that are chosen
# without regard to it come to 1, those of k points among n on a surface of d dimensions to about
# (k / n)^(2/d).
IGNORED = 0.5


def find_duplicates(view: View) -> Iterator[Finding]:
    """Rows that have copies among their neighbours."""
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
        {"rows with copies": len(rows), "share": share, "most copies": most, "rows": shown(rows)},
        f"remove duplicated rows (numpy.unique(X, axis=0)), or n_neighbors={view.k + most}",
    )


def find_columns(view: View) -> Iterator[Finding]:
    """Columns that decide alone who is whose neighbour, for their units."""
    spreads = view.spreads
    if spreads is None or spreads.ignored < IGNORED:
        return
    if spreads.step < UNITS_APART and not spreads.hides:
        return
    yield Finding(
        "unscaled-columns",
        f"Who is whose neighbour is decided by {_which(view, spreads)} alone, {spreads.ratio:.3g} "
        "times as wide as others, or more: within neighbourhoods the others vary about as much as "
        "in all of the data.",
        {
            "large columns": view.names_of(spreads.large)[:SHOWN],
            "their least spread over the others' median": spreads.ratio,
            "over the others' largest": spreads.step,
            "variance of the others within neighbourhoods": spreads.ignored,
        },
        "if the columns have different units, scale them (sklearn.preprocessing.StandardScaler); "
        "if the others are noise, leave them out",
    )


def with_scaling(view: View, finding: Finding) -> Finding:
    """The finding, with a word on columns that may be the cause of it, where they may."""
    spreads = view.spreads
    if spreads is None or not spreads.hides:
        return finding
    return replace(
        finding,
        figures={**finding.figures, "ratio of the columns' spreads": spreads.ratio},
        advice=f"scale the columns first, if their units differ ({_which(view, spreads)}: "
        f"{spreads.ratio:.3g} times as wide as others); else {finding.advice}",
    )


def _which(view: View, spreads: Spreads) -> str:
    names = view.names_of(spreads.large)
    return f"column{'s' if len(names) > 1 else ''} {listed(names)}"
