"""Checks of what was asked of the solver, what it knows, and what the coordinates show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lle_gpu.diagnosis.findings import Finding, listed, shown
from lle_gpu.diagnosis.view import View
from lle_gpu.metrics import effective_support
from lle_gpu.neighbors.cpu import NeighborSearch

# Rows on which the dependence of coordinates on one another is looked at.
COORDINATE_SAMPLE = 2_000
# Outside of this range a ridge, in units of the trace, does not do its work. As large as the trace,
# it makes weights equal to within 10 %. Below 1e-6, with more neighbours than features, weights are
# as large and of both signs as without a ridge (swiss roll and S-curve, 1,500 points, k=8: the
# affine residual rises from 0.2 to between 0.5 and 0.9).
LEAST_REG, LARGEST_REG = 1e-6, 1.0
# Gap below which the next vector is as good as the last; and relative distance of two values that
# are one value, which only symmetry brings about.
NO_GAP, EQUAL = 1e-3, 1e-6
# Share of the points that carry a coordinate: 0.55 for one that is spread evenly.
FEW_POINTS = 0.03
# A coordinate's range in cells, the share of the points counted, and the share of cells they fill:
# spread evenly, 0.9 of the cells.
CELLS, COUNTED, CROWDED = 100, 0.9, 0.08
# Variance of a coordinate among points that agree in the ones before, as a share of all: 1 for
# coordinates that have nothing to do with each other.
REPEATED = 0.02


def find_reg(view: View) -> Iterator[Finding]:
    """A ridge that does not do its work."""
    reg = float(view.model.reg)
    if view.method != "standard":
        return
    figures = {"reg": reg, "n_neighbors": view.k, "n_features": view.d}
    if reg >= LARGEST_REG:
        yield Finding(
            "reg-out-of-scale",
            f"reg={reg:g} is as large as the local Gram matrices' trace: the weights come out "
            "almost equal, whatever the geometry.",
            figures,
            "reg=1e-3, or 0.1 for noisy data",
        )
    elif reg < LEAST_REG and view.k > view.d:
        yield Finding(
            "reg-out-of-scale",
            f"reg={reg:g} is too small for n_neighbors={view.k} in {view.d} feature(s): without a "
            "ridge the weights are not unique, and they rebuild the bends of the surface as well, "
            "which ties the coordinates to nothing.",
            figures,
            "reg=1e-3",
        )


def find_spectrum(view: View) -> Iterator[Finding]:
    """What the certificate says."""
    spectrum, q = view.model.spectrum_, view.q
    residual, gap = float(spectrum.residuals.max()), float(spectrum.gap)
    values = spectrum.values
    if not spectrum.converged:
        yield Finding(
            "not-converged",
            "The solver did not reach its tolerance: the coordinates are not known to be right.",
            {"largest residual": residual, "gap": gap, "steps": spectrum.n_iter},
            f"another n_neighbors ({view.k + view.k // 2}), method='standard', "
            f"max_iter={10 * view.model.max_iter}, or, up to a few thousand points, "
            "eigen_solver='dense'",
        )
    loose = spectrum.n_null > q + 1
    torn = len(view.classes) > 1 or len(view.classes.unreferenced) > 0
    if loose or (spectrum.n_null > 1 and (torn or view.method == "standard")):
        yield Finding(
            "null-vectors",
            f"F has {spectrum.n_null} null vectors, the constant included: the first coordinates "
            "only tell loose parts from one another"
            + (", and are one choice among many." if loose else "."),
            {"null vectors": spectrum.n_null, "n_components": q, "values": shown(values)},
            f"n_neighbors={2 * view.k}, another method, or what is advised about the graph",
        )
        return
    equal = np.flatnonzero(np.diff(values) <= EQUAL * values[1:])
    if gap < NO_GAP:
        yield Finding(
            "repeated-eigenvalue",
            f"The first value left out is the last one's equal: coordinate {q} is one choice among "
            "several that are as good.",
            {"gap": gap, "last value": float(values[-1])},
            f"n_components={q + 1}, or n_components={q - 1}" if q > 1 else f"n_components={q + 1}",
        )
    elif len(equal):
        first = int(equal[0])
        yield Finding(
            "repeated-eigenvalue",
            f"Coordinates {first + 1} and {first + 2} have the same value: they are free to "
            "rotate, and mean something together, not one by one.",
            {"values": shown(values), "coordinates": shown(equal + 1)},
            "look at them together; compare embeddings up to rotation (lle_gpu.metrics)",
        )


def find_coordinates(view: View) -> Iterator[Finding]:
    """Coordinates that show a few points, a few spots, or a direction once more."""
    Y, n, q = view.Y, view.n, view.q
    support = effective_support(Y) / n
    local = np.flatnonzero(support < FEW_POINTS)
    if len(local):
        yield Finding(
            "localised",
            f"Coordinate(s) {listed(local + 1)} are carried by a few points, and say nothing "
            "about the others.",
            {
                "coordinates": shown(local + 1),
                "points that carry them": shown((support[local] * n).round(1)),
                "rows": shown(np.abs(Y[:, local[0]]).argsort()[::-1][:3]),
            },
            f"n_neighbors={2 * view.k}, disconnected='bridge' or 'largest', or leave these points "
            "out if they are outliers",
        )
    low, high = Y.min(axis=0), Y.max(axis=0)
    cells = ((Y - low) / np.where(high > low, high - low, 1.0) * CELLS).astype(int)
    filled = np.empty(q)
    for j in range(q):
        counts = np.sort(np.bincount(np.minimum(cells[:, j], CELLS - 1)))[::-1]
        filled[j] = (np.searchsorted(np.cumsum(counts), COUNTED * n) + 1) / CELLS
    crowded = np.setdiff1d(np.flatnonzero(filled < CROWDED), local)
    if len(crowded) and n >= CELLS:
        yield Finding(
            "collapsed",
            "Nine tenths of the points lie in a few spots of coordinate(s) "
            f"{listed(crowded + 1)}: groups that are weakly tied are drawn as dots, "
            "and the rest is stretched between.",
            {
                "coordinates": shown(crowded + 1),
                "share of the range that is filled": shown(filled[crowded].round(3)),
            },
            f"n_neighbors={2 * view.k}, method='ltsa' or 'modified', or the groups one by one",
        )
    for j in range(1, q):
        left = _left_over(view, j)
        if j not in crowded and j not in local and left < REPEATED:
            yield Finding(
                "repeated-direction",
                f"Coordinate {j + 1} is a function of those before it: it shows a direction once "
                "more, and another one that the data have may be missing.",
                {"coordinate": j + 1, "variance left": left},
                f"method='ltsa' or 'hessian', more components (n_components={q + 1}) of which the "
                f"useful ones are chosen, or n_components={j}",
            )


def _left_over(view: View, j: int) -> float:
    """Variance of coordinate j among points that agree in those before it, as a share of all."""
    rows = view.sample(COORDINATE_SAMPLE)
    before, value = view.Y[rows, :j], view.Y[rows, j]
    count = min(4, len(rows) - 1)
    index = NeighborSearch(before, count, n_jobs=view.model.n_jobs).kneighbors(
        return_distance=False
    )
    among = value[np.column_stack([np.arange(len(rows)), index])].var(axis=1, ddof=1).mean()
    return float(among / max(value.var(), np.finfo(float).tiny))
