"""Checks of the neighbourhoods' size, against the surface's bends and its noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lle_gpu.constraints import METHODS
from lle_gpu.constraints.cpu.local import differences, principal_directions, typical_width
from lle_gpu.diagnosis.data import with_scaling
from lle_gpu.diagnosis.findings import SHOWN, Finding
from lle_gpu.diagnosis.view import View, ball_variances
from lle_gpu.parallel import for_each_chunk

Float = NDArray[np.float64]
Index = NDArray[np.int64]

# Edges looked at are those of so many rows: one in thousands can be enough to spoil an embedding.
EDGE_SAMPLE = 50_000
# Thickness from which noise spoils the neighbourhoods: its spread across the surface is half of the
# neighbourhoods' along it, the variance a quarter.
NOISY = 0.25
# The last of q directions is missing below.
MISSING = 0.1
# Noise is known by a thickness that falls to this part in larger neighbourhoods, or by variances
# that come this near to those of a ball that fills all columns.
FALLS, FILLS = 0.6, 0.85
# sin(45 degrees): an edge nearer to the normal than to the tangent plane.
STEEP = np.sqrt(0.5)
# An edge leaves the surface if it ends farther off than so many times the spread across it.
OFF = 5.0
# lambda_(q+1) / lambda_q up to which points lie on a plane.
FLAT = 0.1


def find_surface(view: View) -> Iterator[Finding]:
    """Noise, and data of more or of fewer dimensions than coordinates."""
    q, reached = view.q, view.reached
    if view.small < q + 2:
        return
    if q > 1 and (extent := view.thickness(q - 1, reached).min()) < MISSING:
        yield _too_many_components(view, float(extent))
        return
    if view.d <= q:
        return
    if view.thickness(q, reached).min() < NOISY:
        return  # that is the most common case: larger neighbourhoods need not be looked at
    thickness = view.thickness(q, view.scales)
    few = len(reached)
    later = thickness[few:]
    falls = len(later) > 0 and later.min() < FALLS * thickness[few - 1]
    around = [np.median(ball_variances(size, view.d)[:, q:].sum(axis=1)) for size in reached]
    filled = [np.median(view.variances(size)[:, q:].sum(axis=1)) for size in reached]
    fills = bool((np.array(filled) >= FILLS * np.array(around)).any())
    figures = {
        "n_neighbors": view.k,
        "thickness of the neighbourhoods": float(thickness[few - 1]),
        "least thickness": float(thickness.min()),
        "at": view.scales[int(thickness.argmin())],
        "dimension of the data": view.dimension,
    }
    more = min(max(round(view.dimension), q + 1), view.d)
    if falls or fills or view.d == q + 1:
        larger = [s for s, t in zip(view.scales, thickness, strict=True) if t < NOISY]
        finding = Finding(
            "noise",
            f"Neighbourhoods of {view.k} points are about as thick as they are wide: at this size "
            f"no surface of {q} dimension(s) can be seen. Either noise is as large as the "
            f"neighbourhoods, or the data have more than {q} dimension(s).",
            figures,
            (f"n_neighbors={larger[0]}" if larger else "smooth the data (PCA to fewer columns)")
            + f", or, if it is not noise, n_components={more}",
        )
        yield with_scaling(view, finding)
    else:
        yield Finding(
            "too-few-components",
            f"The data have about {view.dimension:.1f} dimensions, and n_components={q}: "
            "neighbourhoods extend in further directions as widely as in these, at every size.",
            figures,
            f"n_components={more}"
            + (
                ""
                if view.method == "standard"
                else f"; method='standard' suffers less than {view.method!r}, which takes "
                f"neighbourhoods for flat in {q} dimension(s)"
            ),
        )


def _too_many_components(view: View, extent: float) -> Finding:
    q = view.q
    return Finding(
        "too-many-components",
        f"The data have fewer than n_components={q} dimensions: neighbourhoods have next to no "
        f"extent in direction {q}, so that the last coordinates repeat the first.",
        {
            f"extent in direction {q}, relative": extent,
            "dimension of the data": view.dimension,
        },
        f"n_components={_least_dimension(view)}, unless the data close in on themselves, as a "
        "circle does",
    )


def _least_dimension(view: View) -> int:
    """The number of directions in which neighbourhoods extend."""
    for q in range(1, view.q):
        if view.thickness(q, view.reached).min() < MISSING:
            return q
    return view.q


def find_short_circuits(view: View) -> Iterator[Finding]:
    """Neighbours that are reached across a gap or round a bend."""
    q = view.q
    if view.d <= q or view.small < q + 2:
        return
    if view.thickness(q, view.reached).min() >= NOISY:
        return  # planes that are not there
    rows, leaves = _leaving_edges(view)
    if not leaves.any():
        return
    points, place = leaves.any(axis=1), int(leaves.any(axis=0).argmax())
    first = np.flatnonzero(points)[:SHOWN]
    edges = [[int(rows[i]), int(view.index[rows[i], leaves[i].argmax()])] for i in first]
    enough = place >= max(METHODS[view.method].least_neighbors(q) + 1, q + 2)
    finding = Finding(
        "short-circuit",
        f"{int(leaves.sum())} edge(s) of the neighbour graph leave the surface and join parts that "
        "are far apart along it: neighbourhoods reach across a gap or round a bend. A few of these "
        "edges are enough to fold the embedding.",
        {
            "edges": int(leaves.sum()),
            "points with such edges": int(points.sum()),
            "share of the points looked at": float(points.mean()),
            "nearest such neighbour is number": place + 1,
            "examples": edges,
        },
        f"n_neighbors={place}, the most without such an edge, or more points"
        if enough
        else "more points: even few neighbours reach that far; or leave the points out that have "
        "such edges",
    )
    yield with_scaling(view, finding)


def _leaving_edges(view: View) -> tuple[Index, NDArray[np.bool_]]:
    """Edges that leave the surface: rows (m,) that were looked at, and which neighbours (m, k).

    T_i (w x q), the tangent plane at point i, is taken from its nearest points: the 2 q + 4
    nearest, or fewer, down to q + 2, until lambda_(q+1) <= 0.1 lambda_q (where an edge across is
    as short as that, the nearest of all are still on the surface). An edge x_j - x_i is a short
    circuit if it is nearer to the normal than to the plane, longer than the median distance in this
    neighbourhood, and ends farther off the plane than 5 times the points' spread across it, their
    own or the data's typical one. Points with no such plane are passed over. On swiss rolls
    of 400 to 2,000 points with k = 8 to 12, where turns are joined by a few edges or none, 36 of 38
    graphs with such edges were told, and none of 124 others (six seeds).
    """
    q, k, small = view.q, view.k, view.small
    rows = view.sample(EDGE_SAMPLE)
    index = np.column_stack([rows, view.nearest[1][rows, :small], view.index[rows]])
    crowded = np.append(view.is_small, False)[view.classes.labels]
    index = index[~crowded[index].any(axis=1)]  # no plane can be seen beside a clique
    rows = index[:, 0]
    X, where = view.points(index)
    width = typical_width(X, index.shape[1])
    typical = np.median(view.variances(small)[:, q:].sum(axis=1))
    leaves = np.zeros((len(rows), k), dtype=bool)

    def work(chunk: slice) -> None:
        part = where[chunk]
        E = differences(X[part[:, 0]], X, part[:, 1:])
        todo = np.arange(len(E))
        for size in range(small, q + 1, -1):
            near, edges = E[todo, :size], E[todo, small:]
            T, values, across = _tangent_planes(near, q)
            flat = values[:, q] <= FLAT * values[:, q - 1]
            spread = np.maximum(across, typical * (values[:, :q].sum(axis=1) + across))
            length = np.linalg.norm(edges, axis=2)
            within = np.linalg.norm(edges @ T, axis=2)
            off = np.sqrt(np.maximum(length**2 - within**2, 0))
            median = np.median(np.linalg.norm(near, axis=2), axis=1)
            leaves[chunk.start + todo] = flat[:, None] & (
                (off > STEEP * length)
                & (off > OFF * np.sqrt(spread / (size + 1))[:, None])
                & (length > median[:, None])
            )
            todo = todo[~flat]
            if len(todo) == 0:
                return

    for_each_chunk(
        work,
        len(rows),
        bytes_per_row=8 * width * (3 * index.shape[1] + small),
        n_jobs=view.model.n_jobs,
        quiet=True,
    )
    return rows, leaves


def _tangent_planes(near: Float, q: int) -> tuple[Float, Float, Float]:
    """Planes through the origin and points near it, (c, j, w): what spans them, (c, w, q).

    Then the squared singular values, (c, q + 1), and the squared distances to the plane, summed.
    """
    Z = np.concatenate([np.zeros_like(near[:, :1]), near], axis=1)
    Z -= Z.mean(axis=1, keepdims=True)
    U, values = principal_directions(Z)
    T = Z.transpose(0, 2, 1) @ U[:, :, :q]
    T /= np.sqrt(np.where(values > 0, values, 1.0))[:, None, :q]
    across = np.einsum("ckw,ckw->c", Z, Z) - values[:, :q].sum(axis=1)
    return T, values[:, : q + 1], np.maximum(across, 0)
