"""The one door to pynndescent: nearest neighbour descent, which is approximate.

What is guarded against, as of pynndescent 0.7: it works in float32; importing it takes a second,
and the first search in a process some twenty more, in which numba compiles; with numba's simplest
threads two searches at once would end the process; its own warnings about rows in which it found
too little. Its answer depends on the number of threads, and on nothing else but the seed.

W. Dong, M. Charikar, K. Li: Efficient k-nearest neighbor graph construction for generic similarity
measures. WWW 2011.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from lle_gpu.kinds import warn_of_copy
from lle_gpu.neighbors import EUCLIDEAN
from lle_gpu.neighbors.float32 import Float32Points
from lle_gpu.parallel import effective_jobs

__all__ = ["METRICS", "PyNNDescent", "candidates_for"]

Found = tuple[NDArray[np.float64], NDArray[np.int64]]

# scikit-learn's metrics without parameters that it knows, and that mean the same to both but for
# rows of zeros or constants, where scikit-learn's may be undefined. (russellrao does not.)
SAME = (
    "braycurtis", "canberra", "chebyshev", "correlation", "cosine", "dice", "hamming", "haversine",
    "jaccard", "l1", "manhattan", "rogerstanimoto", "sokalsneath", "sqeuclidean", "yule",
)  # fmt: skip
# scikit-learn's name -> pynndescent's.
METRICS = dict.fromkeys(EUCLIDEAN, "euclidean")
METRICS |= {name: name for name in SAME} | {"cityblock": "manhattan"}
# Candidates asked for: with three times the neighbours 0.996 of the nearest 15 among 100,000 GloVe
# vectors are found, with twice as many 0.986 in 0.57 of the time. Below 30, pynndescent's default,
# its graph is too thin.
LEAST_CANDIDATES = 30
# How far beyond the k-th candidate a query looks, relatively. With pynndescent's default, 0.1, it
# misses five times as many.
EPSILON = 0.2

_one_at_a_time = threading.Lock()


def candidates_for(k: int) -> int:
    """How many candidates to ask for where k neighbours are wanted."""
    return max(LEAST_CANDIDATES, 3 * (k + 1))


class PyNNDescent:
    """``pynndescent.NNDescent`` over points X (n, d), made when it is first needed.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    metric : str
        A key of :data:`METRICS`.
    random_state : int, RandomState instance or None
        None is a fixed seed.
    n_jobs : int or None
        Threads.

    Raises
    ------
    ImportError
        If pynndescent is not installed, or its import fails.
    ValueError
        For another metric.
    """

    def __init__(self, X: NDArray[Any], metric: Any, random_state: Any, n_jobs: int | None) -> None:
        if not (isinstance(metric, str) and metric in METRICS):
            raise ValueError(
                f"metric={metric!r} is none that neighbors_algorithm='pynndescent' knows: it must "
                f"be one of {sorted(METRICS)}. Use one of these, or neighbors_algorithm='auto'."
            )
        _imported()
        self._X, self._metric, self._n_jobs = X, metric, n_jobs
        self.seed = _seed(random_state)
        # Others, such as the cosine, depend on the origin.
        self._centred = Float32Points(X, n_jobs) if metric in EUCLIDEAN else None
        self._index: Any = None
        self._count = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": None, "_count": 0}  # is made anew, from the seed

    def graph(self, count: int) -> Found:
        """Distances (n, count), ascending, and indices of points near each of X; -1: none found.

        The points themselves are among them.
        """
        with _numba_threads(self._n_jobs):
            index, distance = self._made(count).neighbor_graph
        return _checked(self._metric, distance[:, :count], index[:, :count])

    def query(self, points: NDArray[Any], count: int) -> Found:
        """The same, of points of X near any others (m, d)."""
        with _numba_threads(self._n_jobs):
            made = self._made(count)
            index, distance = made.query(self._in_float32(points), k=count, epsilon=EPSILON)
        return _checked(self._metric, distance, index)

    def _made(self, count: int) -> Any:
        if count > self._count:
            warn_of_copy(
                self._X,
                "neighbors_algorithm='pynndescent' holds the points in float32",
                "neighbors_algorithm='brute' reads X in parts, and takes longer",
                itemsize=4,
            )
            with warnings.catch_warnings():
                # Of rows in which it found too little, which are searched exactly.
                warnings.filterwarnings("ignore", "Failed to correctly find", UserWarning)
                self._index = _imported().NNDescent(
                    self._in_float32(self._X),
                    metric=METRICS[self._metric],
                    n_neighbors=count,
                    random_state=self.seed,
                )
            self._count = count
        return self._index

    def _in_float32(self, points: NDArray[Any]) -> NDArray[np.float32]:
        if self._centred is not None:
            return self._centred(points)
        with np.errstate(over="ignore"):
            Z = points.astype(np.float32, order="C", copy=True)  # cosines are taken in place
        if not np.isfinite(Z).all():
            raise ValueError(
                "X has entries beyond 3e38, and neighbors_algorithm='pynndescent' works in "
                "float32. Rescale X, or use neighbors_algorithm='auto'."
            )
        return Z


def _checked(metric: str, distance: NDArray[Any], index: NDArray[Any]) -> Found:
    if np.isnan(distance).any():
        row = int(np.flatnonzero(np.isnan(distance).any(axis=1))[0])
        raise ValueError(
            f"metric={metric!r} gives distances that are not finite (row {row}). Constant or zero "
            "rows often cause it: leave them out, or use another metric."
        )
    # Copies: it uses its arrays again.
    return distance.astype(np.float64), index.astype(np.int64)


def _seed(random_state: Any) -> int:
    """An int is one, so that a search can be made anew from its ``seed``."""
    if random_state is None or isinstance(random_state, Integral):
        return int(random_state or 0)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


@contextlib.contextmanager
def _numba_threads(n_jobs: int | None) -> Iterator[None]:
    """As many threads of numba's as ``n_jobs`` says, and one caller at a time."""
    import numba

    most: Any = numba.config
    with _one_at_a_time:
        before = numba.get_num_threads()
        numba.set_num_threads(min(effective_jobs(n_jobs), most.NUMBA_NUM_THREADS))
        try:
            yield
        finally:
            numba.set_num_threads(before)


def _imported() -> Any:
    try:
        import pynndescent
    except ImportError as error:
        raise ImportError(
            f"neighbors_algorithm='pynndescent' needs pynndescent ({error}): pip install "
            "'lle-gpu[pynndescent]', or use 'auto', whose neighbours are exact"
        ) from error
    return pynndescent
