"""Ranks of given points among a point's neighbours, without sorting and without an n x n array.

The rank of j among the neighbours of i is one more than the number of other points l that come
before it,

    rank(i, j) = 1 + #{l != i : (|x_i - x_l|^2, l) < (|x_i - x_j|^2, j)},

so it takes a count, no order; and where j is among i's k nearest, which are known, it takes
nothing. What is left are the pairs that only one of two spaces has as neighbours.

Euclidean distances: a block of points i is held against one tile of points l after the other. With
the block's centre as the origin,

    |x_l|^2 - 2 x_i.x_l < |x_i - x_j|^2 - |x_i|^2

takes one product of matrices, and for each j a search among the left sides, which are sorted a tile
at a time. Where the two sides are closer than rounding may make them (ties, and little else: errors
are relative to the distance from the block), the distance is formed once more, as
sum_f (x_if - x_lf)^2 in float64, which is how neighbours were ordered, and equal distances go by
index. Blocks and tiles follow the points' spatial order, and a tile whose box lies wholly within or
beyond all spheres in question is counted as a whole: in few dimensions, most do. Equal points are
one point with a weight.

Other metrics, and sparse points: scikit-learn's distances of some points to all, as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.metrics import pairwise_distances

from lle_gpu.neighbors import EUCLIDEAN
from lle_gpu.neighbors.cpu import spatial_order
from lle_gpu.parallel import effective_jobs, for_each_chunk

__all__ = ["Space", "positions", "ranks"]

Float = NDArray[np.float64]
Index = NDArray[np.integer[Any]]

EPS = float(np.finfo(np.float64).eps)
# Below, rounding is no longer relative.
TINY = float(np.finfo(np.float64).tiny)
# Points of a block and of a tile: their distances stay in a core's cache. A tile is one less than a
# power of two, for the binary search.
BLOCK, TILE = 256, 511
# Numbers that are formed at once of the differences of pairs, and of undecided pairs with a tile.
NUMBERS = 1 << 17
# Bytes of whole rows of distances, that all threads hold together.
ROW_BYTES = 1 << 27
# Names by which only scikit-learn's trees know a metric.
_PAIRWISE_NAMES = {"infinity": "chebyshev", "p": "euclidean"}


@dataclass(frozen=True)
class Space:
    """Points (n, d), dense or sparse, and the metric by which they are apart."""

    points: Any
    metric: Any

    @property
    def is_euclidean(self) -> bool:
        """Whether ranks follow from exact squared distances."""
        return self.metric in EUCLIDEAN and not issparse(self.points)


def ranks(
    space: Space, rows: Index, columns: Index, near: Index, n_jobs: int | None = None
) -> Index:
    """Ranks of some points among the neighbours of others.

    Parameters
    ----------
    space : Space
        Of n points.
    rows : ndarray of shape (m,), int
        The points whose neighbours are ranked.
    columns : ndarray of shape (m, l), int
        For each of them l other points.
    near : ndarray of shape (m, k), int
        Their k nearest others, in order.
    n_jobs : int or None

    Returns
    -------
    ndarray of shape (m, l), ``near``'s dtype
        From 1 to n - 1. Points that are not in ``near`` have ranks from k + 1.
    """
    result = positions(near, columns, n_jobs)
    row, slot = np.nonzero(result == 0)
    if len(row):
        count = _euclidean_ranks if space.is_euclidean else _other_ranks
        counted = count(space, rows[row], columns[row, slot], n_jobs)
        result[row, slot] = np.maximum(counted, near.shape[1] + 1)
    return result


def positions(near: Index, columns: Index, n_jobs: int | None = None) -> Index:
    """Where in ``near`` (m, k), from 1, each of ``columns`` (m, l) of the same row is; else 0."""
    result = np.zeros(columns.shape, dtype=near.dtype)

    def work(part: slice) -> None:
        same = columns[part, :, None] == near[part, None, :]
        result[part] = np.where(same.any(axis=2), same.argmax(axis=2) + 1, 0)

    each = 2 * columns.shape[1] * near.shape[1]
    for_each_chunk(work, len(columns), bytes_per_row=each, n_jobs=n_jobs, quiet=True)
    return result


# Euclidean distances ------------------------------------------------------------------------------


def _euclidean_ranks(space: Space, i: Index, j: Index, n_jobs: int | None) -> Index:
    """The rank of j among the neighbours of i, for each of p pairs."""
    tiles = _Tiles(space.points, n_jobs)
    result = np.empty(len(i), dtype=np.int64)
    order = np.lexsort((i, tiles.place[i]))  # neighbours in space, and all pairs of an i, together
    bounds = np.append(np.flatnonzero(np.diff(i[order], prepend=-1)), len(i))

    def work(part: slice) -> None:
        pairs = order[bounds[part.start] : bounds[part.stop]]
        result[pairs] = _Block(tiles, i[pairs], j[pairs]).ranks()

    for_each_chunk(work, len(bounds) - 1, bytes_per_row=1, n_jobs=n_jobs, chunk_bytes=BLOCK)
    return result


class _Tiles:
    """The points against which blocks are held, in runs of ``TILE``.

    Of equal points the first stands for all: there are u of these, in spatial order.

    Attributes
    ----------
    X : ndarray of shape (n, d)
    row : ndarray of shape (u,)
        Which rows of X they are.
    weight : ndarray of shape (u,), float64
        How many points each stands for.
    place : ndarray of shape (n,)
        Which of them stands for each row of X.
    bounds : ndarray of shape (t + 1,)
        Where the tiles begin, and u.
    weights : ndarray of shape (t,), float64
        What each tile's points weigh together.
    low, high : ndarray of shape (t, d)
        Corners of the box that holds a tile.
    """

    def __init__(self, X: NDArray[Any], n_jobs: int | None) -> None:
        n, d = X.shape
        first = _first_copies(X, n_jobs)
        row = spatial_order(X)
        self.X, self.row = X, row[first[row] == row]
        u = len(self.row)
        place = np.empty(n, dtype=np.int64)
        place[self.row] = np.arange(u)
        self.place = place[first]
        self.weight = np.bincount(self.place).astype(np.float64)
        self._copies = np.sort(self.place * n + np.arange(n)) if u < n else None
        self.bounds = np.append(np.arange(0, u, TILE), u)
        self.weights = np.add.reduceat(self.weight, self.bounds[:-1])
        self.low, self.high = np.empty((2, len(self.bounds) - 1, d))

        def work(part: slice) -> None:
            start, stop = self.bounds[part.start], self.bounds[part.stop]
            points, begin = X[self.row[start:stop]], self.bounds[part] - start
            self.low[part] = np.minimum.reduceat(points, begin)
            self.high[part] = np.maximum.reduceat(points, begin)

        for_each_chunk(work, len(self.low), bytes_per_row=8 * TILE * d, n_jobs=n_jobs, quiet=True)

    def before(self, place: Index, row: Index) -> Index:
        """How many of the points for which each ``place`` stands come before each ``row``."""
        if self._copies is None:
            return (self.row[place] < row).astype(np.int64)
        key = place * len(self.place)
        return np.searchsorted(self._copies, key + row) - np.searchsorted(self._copies, key)

    def range(self, points: NDArray[Any]) -> tuple[Float, Float]:
        """Bounds on each tile's squared distances from any of the points."""
        low, high = points.min(axis=0), points.max(axis=0)
        gap = np.maximum(np.maximum(self.low - high, low - self.high), 0.0)
        span = np.maximum(self.high - low, high - self.low)
        least, largest = np.einsum("tf,tf->t", gap, gap), np.einsum("tf,tf->t", span, span)
        d = points.shape[1]
        rounding, vanishing = 4 * (d + 4) * EPS, d * TINY
        return least * (1 - rounding) - vanishing, largest * (1 + rounding) + vanishing


class _Block:
    """Some points, and the points whose ranks among their neighbours are asked for.

    These pairs are entries of a table. Row b is that of ``query[b]``, and its pairs are its first
    entries.
    """

    def __init__(self, tiles: _Tiles, i: Index, j: Index) -> None:
        self.query, row, count = np.unique(i, return_inverse=True, return_counts=True)
        together = np.argsort(row, kind="stable")
        column = np.empty_like(row)
        column[together] = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
        self.pairs, self.shape = (row, column), (len(count), int(count.max()))
        self.i, self.j, self.tiles = i, j, tiles

        self.squared = squared_distances(tiles.X, i, j)
        points = tiles.X[self.query].astype(np.float64, copy=False)
        self.range = tiles.range(points)
        self.centre = points.mean(axis=0)
        points = points - self.centre
        square = np.einsum("bf,bf->b", points, points)
        self.norm = np.sqrt(square)
        # A power of two, by which float32 holds the levels, however large or small.
        power = -np.frexp(max(self.squared.max(), square.max()))[1]
        self.scale = np.ldexp(1.0, min(power, 1000))
        factor = np.concatenate([-2.0 * points, np.ones((len(points), 1))], axis=1)
        self.factor = self.scale * factor
        self.bound = self._table(self.squared, 0.0)
        self.level = self.bound - square[:, None]
        self.target = self._table(j, -1)
        self.own = self._table(tiles.place[j], -1)

    def _table(self, values: NDArray[Any], otherwise: float) -> NDArray[Any]:
        table = np.full(self.shape, otherwise, dtype=values.dtype)
        table[self.pairs] = values
        return table

    def ranks(self) -> Index:
        """Of the pairs, in the order in which they were given."""
        least, largest = self.range
        ascending = np.sort(self.squared)
        next_up = np.append(ascending, np.inf)[np.searchsorted(ascending, least)]
        crossed = next_up <= largest
        nearer = self._wholly_nearer(np.flatnonzero(~crossed))
        for tile in np.flatnonzero(crossed).tolist():
            nearer += self._nearer_in(tile)
        # Of equal points, j's own were left out so far, and i itself was not.
        copies = self.tiles.before(self.tiles.place[self.j], self.j)
        itself = (self.squared > 0) | (self.i < self.j)
        return 1 + nearer[self.pairs].astype(np.int64) + copies - itself

    def _wholly_nearer(self, which: Index) -> Float:
        """The points of those of some tiles that are nearer as a whole; the others are farther."""
        which = which[np.argsort(self.range[1][which])]
        below = np.append(0.0, np.cumsum(self.tiles.weights[which]))
        return self._table(below[np.searchsorted(self.range[1][which], self.squared)], 0.0)

    def _nearer_in(self, tile: int) -> Float:
        """How many points of a tile come before each j of the table, j's equals left out."""
        low, high = self.tiles.bounds[tile : tile + 2]
        points = self.tiles.X[self.tiles.row[low:high]] - self.centre
        square = np.einsum("lf,lf->l", points, points)
        value = self.factor @ np.concatenate([points, square[:, None]], axis=1).T
        # Of norms and products, of centring, of the distances in the end, and of the level itself.
        d = points.shape[1]
        reach = self.norm[:, None] + np.sqrt(square.max())
        error = 4 * (d + 8) * EPS * reach**2 + 4 * EPS * np.abs(self.level) + d * TINY
        lower, upper = self.scale * (self.level - error), self.scale * (self.level + error)
        # Rounding to float32 keeps the order, and the rest takes half the time.
        with np.errstate(over="ignore"):
            value, lower, upper = (a.astype(np.float32) for a in (value, lower, upper))
        weight = self.tiles.weight[low:high]
        nearer, maybe = _weight_below(value, lower, upper, weight)
        here = (self.own >= low) & (self.own < high)
        maybe[here] -= self.tiles.weight[self.own[here]]
        undecided = np.nonzero((maybe > nearer) & (self.own >= 0))
        size = max(1, NUMBERS // len(points))
        for some in range(0, len(undecided[0]), size):
            at = undecided[0][some : some + size], undecided[1][some : some + size]
            near = value[at[0]]
            between = (near >= lower[at][:, None]) & (near <= upper[at][:, None])
            between &= np.arange(low, high) != self.own[at][:, None]
            nearer[at] += self._decided(at, low, *np.nonzero(between))
        return nearer

    def _decided(
        self, at: tuple[Index, Index], low: int, pair: Index, member: Index
    ) -> NDArray[Any]:
        """How many points of a tile's members come before j, for some entries of the table."""
        place = low + member
        row, column = at[0][pair], at[1][pair]
        squared = squared_distances(self.tiles.X, self.query[row], self.tiles.row[place])
        bound, j = self.bound[row, column], self.target[row, column]
        weight = np.where(squared < bound, self.tiles.weight[place], 0.0)
        tie = np.flatnonzero(squared == bound)
        weight[tie] = self.tiles.before(place[tie], j[tie])
        return np.bincount(pair, weights=weight, minlength=len(at[0]))


def _weight_below(
    value: NDArray[np.float32], lower: Any, upper: Any, weight: Float
) -> tuple[Float, Float]:
    """What those entries of a row weigh that are below ``lower``, and at most ``upper``.

    Parameters
    ----------
    value : ndarray of shape (b, l)
        l is at most ``TILE``.
    lower, upper : ndarray of shape (b, s)
        Bounds, for each row its own.
    weight : ndarray of shape (l,)

    Returns
    -------
    below, at_most : ndarray of shape (b, s)
    """
    b, size = value.shape
    ascending = np.full((b, TILE), np.inf, dtype=value.dtype)
    heavy = weight.max() > 1
    if heavy:
        order = np.argsort(value, axis=1)
        ascending[:, :size] = np.take_along_axis(value, order, axis=1)
        total = np.zeros((b, size + 1))
        np.cumsum(weight[order], axis=1, out=total[:, 1:])
    else:
        ascending[:, :size] = value
        ascending[:, :size].sort(axis=1)
    start, flat = TILE * np.arange(b)[:, None], ascending.ravel()
    found = []
    for bound, before in ((lower, np.less), (upper, np.less_equal)):
        at = np.repeat(start, bound.shape[1], axis=1)
        step = (TILE + 1) // 2
        while step:
            at += step * before(flat[at + (step - 1)], bound)
            step //= 2
        count = np.minimum(at - start, size)
        found.append(np.take_along_axis(total, count, axis=1) if heavy else count.astype(float))
    return found[0], found[1]


def squared_distances(X: NDArray[Any], i: Index, j: Index) -> Float:
    """|x_i - x_j|^2 of p pairs, in float64, as :class:`NeighborSearch` forms them."""
    squared = np.empty(len(i))
    size = max(1, NUMBERS // X.shape[1])
    for low in range(0, len(i), size):
        part = slice(low, low + size)
        difference = X[i[part]].astype(np.float64, copy=False) - X[j[part]]
        squared[part] = np.einsum("pf,pf->p", difference, difference)
    return squared


def _first_copies(X: NDArray[Any], n_jobs: int | None) -> Index:
    """For each row of X (n, d) the first that equals it.

    Some copies may be missed, which then are points of their own, at distance 0.
    """
    n, d = X.shape
    image, direction = np.empty(n), np.random.default_rng(0).normal(size=d)

    def project(part: slice) -> None:
        # Not by BLAS, whose rounding depends on where in the array a row stands.
        image[part] = np.einsum("lf,f->l", X[part].astype(np.float64, copy=False), direction)

    for_each_chunk(project, n, bytes_per_row=8 * d, n_jobs=n_jobs, quiet=True)
    order = np.argsort(image, kind="stable")
    alike = 1 + np.flatnonzero(image[order[1:]] == image[order[:-1]])
    new = np.ones(n, dtype=bool)

    def compare(part: slice) -> None:
        at = alike[part]
        new[at] = (X[order[at]] != X[order[at - 1]]).any(axis=1)

    for_each_chunk(compare, len(alike), bytes_per_row=16 * d, n_jobs=n_jobs, quiet=True)
    starts = np.flatnonzero(new)
    first = np.empty(n, dtype=np.int64)
    first[order] = np.repeat(order[starts], np.diff(np.append(starts, n)))
    return first


# Other distances ----------------------------------------------------------------------------------


def _other_ranks(space: Space, i: Index, j: Index, n_jobs: int | None) -> Index:
    """The rank of j among the neighbours of i, for each of p pairs, by scikit-learn's distances."""
    X, n = space.points, space.points.shape[0]
    metric = _PAIRWISE_NAMES.get(space.metric, space.metric)
    result = np.empty(len(i), dtype=np.int64)
    bounds = np.append(np.flatnonzero(np.diff(i, prepend=-1)), len(i))  # i ascends
    index = np.arange(n)

    def work(part: slice) -> None:
        pairs = slice(bounds[part.start], bounds[part.stop])
        query, column = np.unique(i[pairs], return_inverse=True)
        distance = pairwise_distances(X[query], X, metric=metric)
        distance[np.arange(len(query)), query] = np.inf
        for low in range(pairs.start, pairs.stop, len(query)):
            some = slice(low, min(low + len(query), pairs.stop))
            of = distance[column[some.start - pairs.start : some.stop - pairs.start]]
            bound = of[np.arange(len(of)), j[some], None]
            before = (of < bound) | ((of == bound) & (index < j[some, None]))
            result[some] = 1 + np.count_nonzero(before, axis=1)

    each = ROW_BYTES // effective_jobs(n_jobs)
    for_each_chunk(work, len(bounds) - 1, bytes_per_row=32 * n, n_jobs=n_jobs, chunk_bytes=each)
    return result
