"""Exact k nearest neighbours on the GPU: float32 proposes, float64 decides.

The twin of :mod:`lle_gpu.neighbors.cpu`: the same contract, the same answer.

1. A proposer names candidates, some more than k, by squared distances in float32: cuML, cuVS, or
   kernels of our own.
2. ``knn_rerank`` forms the candidates' squared distances once more, in float64, and sorts them by
   (distance, index). A row is settled if rounding cannot have kept a point out of the list.
3. The other rows (ties, duplicates, points nearer to each other than float32 can tell) are settled
   by ``knn_exact``, which looks at all points in float64. So are all rows for k > 120, where lists
   of candidates would be too long: in passes of 128 neighbours, each beginning where the last one
   ended, so that k has no bound.

Which proposer (``algorithm``):

- "auto": the first of cuML, cuVS and our own that is installed and sound; our own at once where all
  its work is done in less time than it takes to load a library.
- "cuml", "cuvs": that one or an error.
- "cupy": our own. In up to 32 dimensions it takes the differences of coordinates, with points in
  shared memory; beyond, it takes ||y||^2 + ||z||^2 - 2 y.z, with products by cuBLAS, which rounds
  more and is faster.

A proposer is unsound if a distance it gives is farther off than its rounding allows, or if the
neighbours of a sample of queries are not the right ones.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from lle_gpu.cuda import REALS, cupy, kernel, register
from lle_gpu.cuda.duration import multiprocessors, rows_at_once
from lle_gpu.cuda.geometry import warp_per_item
from lle_gpu.cuda.memory import for_each_chunk, is_out_of_memory
from lle_gpu.exceptions import GpuUnavailableError
from lle_gpu.kinds import host_rows, is_device_array
from lle_gpu.neighbors import CPU_ALGORITHMS, EUCLIDEAN, GPU_ALGORITHMS
from lle_gpu.neighbors.candidates import FLOAT32_ROUNDING, SPARE, Proposer, Scaled, Unusable
from lle_gpu.neighbors.cuml import CuML
from lle_gpu.neighbors.cuvs import CuVS
from lle_gpu.progress import note

__all__ = ["Differences", "NeighborSearch", "Products"]

SOURCE = "knn.cu"
SETTLED, UNSETTLED, BROKEN = 0, 1, 2  # as in knn.cu
WARPS = 8  # in a block
# Registers of 32 points each, of which a warp's list of nearest points is made.
LISTS = (1, 4)
MOST_CANDIDATES = 32 * LISTS[-1]
# Numbers of columns for which knn_difference is compiled; the points' are filled up with zeros.
COLUMNS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
# Registers of a thread that queries and their lists may take: with all else, 128.
QUERY_REGISTERS = 110
# A tile of products, 128 MiB, goes through the device's memory and back. By arithmetic that costs
# less than the launches of smaller tiles that would stay in the L2 (50 MB): not measured yet.
TILE_QUERIES, TILE_POINTS = 4096, 8192
# Up to so many multiplications "auto" loads no library: by their arithmetic ours take a second or
# two on a large device, and importing cuML takes six.
SMALL_WORK = 10**13
# Queries whose neighbours by another library's candidates are searched once more by ourselves.
SAMPLE = 64
INDEX_LIMIT = 2**31 - 1024
# Blocks of knn_exact for each multiprocessor, which has two at a time; points of a part at least.
BLOCKS, LEAST_PART = 4, 2048


def _queries_per_warp(columns: int, lists: int) -> int:
    """Queries that share what a warp of knn_difference loads: as many as registers allow."""
    for queries in (8, 4, 2):
        if queries * (columns + 2 * lists + 4) + columns <= QUERY_REGISTERS:
            return queries
    return 1


def _difference(columns: int, lists: int) -> str:
    return f"knn_difference<{columns}, {_queries_per_warp(columns, lists)}, {lists}>"


def _products(lists: int) -> str:
    return f"knn_products<{lists}>"


def _rerank(real: str, lists: int) -> str:
    return f"knn_rerank<{real}, {lists}>"


EXACT_QUERIES = {1: 4, 4: 2}  # queries of a warp by lists


def _exact(real: str, lists: int) -> str:
    return f"knn_exact<{real}, {EXACT_QUERIES[lists]}, {lists}>"


def _merge(lists: int) -> str:
    return f"knn_merge<{lists}>"


register(SOURCE, [_difference(columns, lists) for lists in LISTS for columns in COLUMNS])
register(SOURCE, [f(lists) for f in (_products, _merge) for lists in LISTS])
register(
    SOURCE,
    [f(real, lists) for f in (_rerank, _exact) for real in REALS.values() for lists in LISTS],
)


def _parts(blocks: int, n: int) -> tuple[int, int]:
    """Parts of n points, and points of a part: so many that ``blocks`` for each fill the device."""
    parts = min(-(-BLOCKS * multiprocessors() // blocks), max(1, n // LEAST_PART))
    size = 32 * -(-n // (32 * parts))
    return -(-n // size), size


def _lists(count: int) -> int:
    """Registers of the shortest list that holds ``count`` points, or of the longest there is."""
    return next((lists for lists in LISTS if count <= 32 * lists), LISTS[-1])


class _OwnProposer:
    """Our own kernels: a warp keeps the nearest of a query so far in a list in its registers."""

    def count(self, k: int) -> int:
        """All that a list holds."""
        return 32 * _lists(k + SPARE)


class Differences(_OwnProposer):
    """Our own proposer for up to 32 dimensions: sum_j (y_j - z_j)^2."""

    absolute = 0.0
    most_rows: int | None

    def __init__(self, Z: Any, squares: Any) -> None:
        self._columns = next(columns for columns in COLUMNS if columns >= Z.shape[1])
        self._Z = self._filled(Z)
        self.relative = (self._columns + 4) * FLOAT32_ROUNDING
        # A pair takes two instructions a coordinate, and some for the comparison with the list.
        self.most_rows = rows_at_once(len(Z) * (2.0 * self._columns + 6), double=False)

    def propose(self, Y: Any, squares: Any, own: Any, count: int) -> tuple[Any, Any]:
        """Squared distances and indices, ascending, the points themselves left out."""
        cp = cupy()
        n, m, lists = len(self._Z), len(Y), count // 32
        proposed, candidate = cp.empty((m, count), np.float32), cp.empty((m, count), np.int32)
        queries = _queries_per_warp(self._columns, lists)
        launch = warp_per_item(-(-m // queries), warps=WARPS)
        arrays = self._Z, self._filled(Y), own, proposed, candidate
        run = kernel(SOURCE, _difference(self._columns, lists))
        run.launch(launch, *arrays, np.int32(n), np.int32(m))
        return proposed, candidate

    def _filled(self, points: Any) -> Any:
        """The points with columns of zeros added, which change no distance."""
        m, d = points.shape
        if d == self._columns:
            return points
        filled = cupy().zeros((m, self._columns), np.float32)
        filled[:, :d] = points
        return filled


class Products(_OwnProposer):
    """Our own proposer for any dimension: ||y||^2 + ||z||^2 - 2 y.z, tile by tile."""

    relative = 0.0
    most_rows: int | None = None

    def __init__(self, Z: Any, squares: Any) -> None:
        self._Z, self._squares = Z, squares
        self.absolute = (Z.shape[1] + 6) * FLOAT32_ROUNDING

    def propose(self, Y: Any, squares: Any, own: Any, count: int) -> tuple[Any, Any]:
        """Squared distances and indices, ascending, the points themselves left out."""
        cp = cupy()
        m, n = len(Y), len(self._Z)
        proposed, candidate = cp.empty((m, count), np.float32), cp.empty((m, count), np.int32)
        nearest = kernel(SOURCE, _products(count // 32))
        for first in range(0, m, TILE_QUERIES):
            rows = slice(first, min(first + TILE_QUERIES, m))
            launch = warp_per_item(rows.stop - first, warps=WARPS)
            for low in range(0, n, TILE_POINTS):
                tile = self._Z[low : low + TILE_POINTS]
                nearest.launch(
                    launch,
                    cp.matmul(Y[rows], tile.T),
                    squares[rows],
                    self._squares,
                    own[rows],
                    proposed[rows],
                    candidate[rows],
                    np.int32(low),
                    np.int32(len(tile)),
                    np.int32(rows.stop - first),
                )
        return proposed, candidate


def _ours(Z: Any, squares: Any) -> Proposer:
    return (Differences if Z.shape[1] <= COLUMNS[-1] else Products)(Z, squares)


PROPOSERS: dict[str, Callable[[Any, Any], Proposer]] = {"cuml": CuML, "cuvs": CuVS, "cupy": _ours}


class NeighborSearch:
    """Exact nearest neighbours in a fixed set of points, on the GPU.

    Parameters
    ----------
    X : cupy.ndarray of shape (n, d), float32 or float64
        The points; kept, and copied only if they are not C-contiguous.
    n_neighbors : int
        How many neighbours :meth:`kneighbors` returns unless told otherwise.
    algorithm : {"auto", "cuml", "cuvs", "cupy"}, default="auto"
        Who proposes candidates, see above; the answer is always the same.
    metric : {"euclidean", "l2", "minkowski"}, default="euclidean"
        Names of the one metric there is here.
    random_state, n_jobs : default=None
        Not used.

    Attributes
    ----------
    algorithm : {"cuml", "cuvs", "cupy"}
        Who proposes. That is settled, and the library loaded, when it is asked for first.
    passed_over : dict of str to str
        Who was to propose and cannot, and why.

    Raises
    ------
    ValueError
        For an algorithm or a metric that is not known here.
    GpuUnavailableError
        From :meth:`kneighbors`, for "cuml" or "cuvs", if that one cannot be used or turns out to be
        unsound; the message says why.
    """

    def __init__(
        self,
        X: Any,
        n_neighbors: int,
        *,
        algorithm: str = "auto",
        metric: Any = "euclidean",
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        _check_choice(algorithm, metric)
        _check_points(X)
        if len(X) > INDEX_LIMIT:
            raise ValueError(f"X has {len(X)} rows; the GPU's search takes {INDEX_LIMIT} at most")
        self.X = cupy().ascontiguousarray(X)
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.n_jobs = n_jobs
        self.passed_over: dict[str, str] = {}
        self._asked = algorithm
        self._real = REALS[X.dtype.name]
        self._waiting = [algorithm]  # the first one is, or will be, asked
        if algorithm == "auto":
            n, d = X.shape
            small = n * n * d <= SMALL_WORK
            self._waiting = ["cupy"] if small else ["cuml", "cuvs", "cupy"]
        self._chosen = ""
        self._made: tuple[Proposer, Scaled] | None = None
        self._making = threading.Lock()

    @property
    def algorithm(self) -> str:
        """Who proposes."""
        if not self._chosen:
            self._ready()
        return self._chosen

    def __reduce__(self) -> Any:
        # Other libraries' indices cannot be pickled: they are made anew.
        options = {"algorithm": self._asked, "metric": self.metric, "n_jobs": self.n_jobs}
        return functools.partial(NeighborSearch, **options), (self.X, self.n_neighbors)

    def kneighbors(
        self,
        X: Any = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
    ) -> Any:
        """Find the nearest neighbours, ordered by (distance, index).

        Parameters
        ----------
        X : cupy.ndarray or array-like of shape (m, d), optional
            Query points, CuPy's on the device of the training points, float32 or float64. Without
            it the training points are the queries, each with itself left out.
        n_neighbors : int, optional
            Default: that of the constructor. At most n; n - 1 without ``X``.
        return_distance : bool, default=True
            Whether distances come before the indices, as in scikit-learn.

        Returns
        -------
        distance : cupy.ndarray of shape (m, k), float64
            Only if ``return_distance``.
        index : cupy.ndarray of shape (m, k), int64
            Both are NumPy's if X is given and not CuPy's.
        """
        with self.X.device:
            if X is None or is_device_array(X):
                return self._kneighbors(X, n_neighbors, return_distance)
            queries = cupy().asarray(host_rows(X, self.X.shape[1]))
            found = self._kneighbors(queries, n_neighbors, return_distance)
        return tuple(part.get() for part in found) if return_distance else found.get()

    def _kneighbors(self, X: Any, n_neighbors: int | None, return_distance: bool) -> Any:
        cp = cupy()
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        n, d = self.X.shape
        most = n - 1 if X is None else n
        if not 1 <= k <= most:
            raise ValueError(f"n_neighbors={k} must be from 1 to {most} with {n} training points")
        if X is not None:
            _check_points(X)
            if X.shape[1] != d:
                raise ValueError(f"X has {X.shape[1]} features; the points searched have {d}")
        points = self.X if X is None else cp.ascontiguousarray(X)
        m = len(points)
        own = cp.arange(m, dtype=np.int32) if X is None else cp.full(m, -1, np.int32)
        distance, index = cp.empty((m, k), np.float64), cp.empty((m, k), np.int32)
        unsettled = self._from_candidates(points, own, distance, index)
        self._from_all(points, own, unsettled, distance, index)
        if X is None:
            self._tell(len(unsettled))
            self._release()
        index = index.astype(np.int64)
        return (cp.sqrt(distance), index) if return_distance else index

    def _ready(self) -> tuple[Proposer, Scaled] | None:
        """A proposer and its points' scale, made if need be; None: float64 does everything."""
        with self._making:
            while self._made is None and self._waiting:
                self._chosen = self._waiting[0]
                try:
                    scaled = Scaled(self.X)
                    made = PROPOSERS[self._chosen](*scaled.points(self.X)), scaled
                    # Other threads, which may have streams of their own, take it as it is.
                    cupy().cuda.get_current_stream().synchronize()
                    self._made = made
                except Unusable as reason:
                    self._pass_over(reason)
                except Exception as error:
                    if not self._may_take_next(error):
                        raise
                    self._pass_over(Unusable("the GPU's memory does not hold its index"))
            return self._made

    def _may_take_next(self, error: Exception) -> bool:
        return len(self._waiting) > 1 and is_out_of_memory(error)

    def _release(self) -> None:
        """Give up the proposer and its float32 copy of the points until somebody asks again.

        A fit asks once, and its solver needs the memory.
        """
        with self._making:
            self._made = None

    def _give_up(self, made: tuple[Proposer, Scaled], reason: Unusable) -> None:
        """Pass over what was made, unless another thread has done so, or has released it."""
        with self._making:
            if self._made is made:
                self._pass_over(reason)

    def _pass_over(self, reason: Unusable) -> None:
        self._made = None
        self.passed_over[self._chosen] = str(reason)
        if self._asked == self._chosen != "cupy":
            raise GpuUnavailableError(
                f"neighbors_algorithm={self._asked!r} cannot be used: {reason}. Use 'auto' or "
                "'cupy', whose neighbours are the same."
            ) from reason
        del self._waiting[0]

    def _tell(self, n_unsettled: int) -> None:
        """What was chosen and what was done, in words."""
        reasons = "".join(f"; {name}: {why}" for name, why in self.passed_over.items())
        note(f"neighbours: candidates by {self.algorithm}{reasons}")
        if n_unsettled:
            note(f"neighbours: {n_unsettled} of {len(self.X)} points needed all in float64")

    def _from_candidates(self, points: Any, own: Any, distance: Any, index: Any) -> Any:
        """Fill the rows that a proposer's candidates settle; return the numbers of the others."""
        cp = cupy()
        m, k = distance.shape
        while k + SPARE <= MOST_CANDIDATES and m and (made := self._ready()):
            try:
                status = self._reranked(*made, points, own, distance, index)
                if not isinstance(made[0], _OwnProposer):
                    self._check_sample(status, points, own, index)
            except Unusable as reason:
                self._give_up(made, reason)
            except Exception as error:
                replaced = self._made is not made and is_out_of_memory(error)
                if not (replaced or self._may_take_next(error)):
                    raise
                self._give_up(made, Unusable("the GPU's memory is too small for its search"))
            else:
                return cp.flatnonzero(status)
            del made  # with the proposer's memory, for the next one
        return cp.arange(m)

    def _reranked(
        self,
        proposer: Proposer,
        scaled: Scaled,
        points: Any,
        own: Any,
        distance: Any,
        index: Any,
    ) -> Any:
        """Fill rows from a proposer's candidates; return which of them are settled."""
        cp = cupy()
        (m, k), (n, d) = distance.shape, self.X.shape
        count = proposer.count(k)
        status = cp.empty(m, np.int32)
        rerank = kernel(SOURCE, _rerank(self._real, _lists(k)))

        def work(rows: slice) -> None:
            Y, squares, reach = scaled.queries(points[rows])
            proposed, candidate = proposer.propose(Y, squares, own[rows], count)
            rerank.launch(
                warp_per_item(len(Y), warps=WARPS),
                self.X,
                points[rows].astype(np.float64),
                own[rows],
                candidate,
                proposed,
                reach,
                distance[rows],
                index[rows],
                status[rows],
                np.int32(n),
                np.int32(d),
                np.int32(len(Y)),
                np.int32(count),
                np.int32(k),
                np.int32(count >= n),
                np.float64(scaled.scale),
                np.float64(proposer.relative),
                np.float64(proposer.absolute),
            )

        for_each_chunk(work, m, bytes_per_row=40 * d + 32 * count, most_rows=proposer.most_rows)
        broken = int((status == BROKEN).sum())
        if broken:
            tf32 = " (CUPY_TF32 makes them so)" if self.algorithm == "cupy" else ""
            raise Unusable(
                f"for {broken} of {m} queries its distances are farther from the true ones than "
                f"float32 allows{tf32}, or a candidate is none or comes twice"
            )
        return status

    def _check_sample(self, status: Any, points: Any, own: Any, index: Any) -> None:
        """Search a few queries ourselves, where it was not us who proposed."""
        cp = cupy()
        m, k = index.shape
        sample = cp.arange(0, m, -(-m // SAMPLE))
        distance, expected = cp.empty((len(sample), k)), cp.empty((len(sample), k), np.int32)
        everything = cp.arange(len(sample))
        self._from_all(points[sample], own[sample], everything, distance, expected, quiet=True)
        wrong = (index[sample] != expected).any(axis=1) & (status[sample] == SETTLED)
        if bool(wrong.any()):
            raise Unusable(f"it misses neighbours, of {int(wrong.sum())} of {len(sample)} queries")

    def _from_all(
        self, points: Any, own: Any, rows: Any, distance: Any, index: Any, *, quiet: bool = False
    ) -> None:
        """Fill the rows with these numbers, by looking at all points in float64."""
        cp = cupy()
        k, (n, d) = distance.shape[1], self.X.shape

        def work(part: slice) -> None:
            some = rows[part]
            found = cp.empty((len(some), k)), cp.empty((len(some), k), np.int32)
            self._search_all(points[some], own[some], *found)
            distance[some], index[some] = found

        passes = -(-k // (32 * _lists(k)))
        for_each_chunk(
            work,
            len(rows),
            bytes_per_row=16 * d + 40 * k,
            most_rows=rows_at_once(passes * n * (3.0 * d + 4), double=True),
            quiet=quiet or len(rows) < len(points),
        )

    def _search_all(self, points: Any, own: Any, distance: Any, index: Any) -> None:
        cp = cupy()
        (m, k), (n, d) = distance.shape, self.X.shape
        lists = _lists(k)
        exact, merge = (kernel(SOURCE, name) for name in (_exact(self._real, lists), _merge(lists)))
        launch = warp_per_item(-(-m // EXACT_QUERIES[lists]), warps=WARPS)
        parts, size = _parts(launch.grid[0], n)
        Q = points.astype(np.float64)
        after, after_index = cp.full(m, -1.0), cp.full(m, -1, np.int32)
        for done in range(0, k, 32 * lists):
            columns = slice(done, min(done + 32 * lists, k))
            width = columns.stop - done
            found = cp.empty((parts, m, width)), cp.empty((parts, m, width), np.int32)
            sizes = map(np.int32, (n, d, m, width, size))
            arguments = (self.X, Q, own, after, after_index, *found, *sizes)
            exact((launch.grid[0], parts), launch.block, arguments)
            if parts > 1:
                merged = cp.empty((1, m, width)), cp.empty((1, m, width), np.int32)
                sizes = map(np.int32, (parts, m, width))
                merge.launch(warp_per_item(m, warps=WARPS), *found, *merged, *sizes)
                found = merged
            distance[:, columns], index[:, columns] = found[0][0], found[1][0]
            after, after_index = (a[:, columns.stop - 1].copy() for a in (distance, index))


def _check_choice(algorithm: str, metric: Any) -> None:
    choices = ", ".join(map(repr, ("auto", *GPU_ALGORITHMS)))
    if algorithm not in ("auto", *GPU_ALGORITHMS):
        where = " searches on the CPU" if algorithm in CPU_ALGORITHMS else " is not known"
        raise ValueError(
            f"neighbors_algorithm={algorithm!r}{where}: on the GPU it must be one of {choices}. "
            "Use one of these, or device='cpu'."
        )
    if not (isinstance(metric, str) and metric in EUCLIDEAN):
        raise ValueError(
            f"metric={metric!r} is not available on the GPU, where it must be 'euclidean'. Use "
            "device='cpu', which knows all metrics of sklearn.neighbors."
        )


def _check_points(X: Any) -> None:
    if not isinstance(X, cupy().ndarray):
        raise TypeError(f"X is a {type(X).__name__}; the GPU's search takes CuPy arrays")
    if X.ndim != 2 or X.dtype.name not in REALS:
        raise ValueError(
            f"X is of shape {X.shape} and dtype {X.dtype}; the GPU's search takes rows of "
            "float32 or float64: use astype"
        )
