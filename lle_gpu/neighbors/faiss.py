"""The one door to FAISS's exact search, ``IndexFlatL2``, as a proposer of candidates.

It compares in float32, by differences or by ||y||^2 + ||z||^2 - 2 y.z. Both are off by no more than
the rounding of points and products: what is nearer than the farthest candidate by more than that
is settled (:mod:`lle_gpu.neighbors.cpu`), so that the answer is exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.kinds import warn_of_copy
from lle_gpu.neighbors.float32 import Float32Points
from lle_gpu.parallel import effective_jobs

__all__ = ["Faiss"]

Float = NDArray[np.float64]


class Faiss:
    """``faiss.IndexFlatL2`` over points X (n, d); the compared quantity is the squared distance.

    Raises
    ------
    ImportError
        If FAISS is not installed, or its import fails.
    """

    spare = 8
    float32 = True

    def __init__(self, X: NDArray[Any], n_jobs: int | None) -> None:
        _imported()
        self._X, self._n_jobs = X, n_jobs
        self._in_float32 = Float32Points(X, n_jobs)
        self._index: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": None}  # is made anew, from the points

    def query(self, points: NDArray[Any], count: int) -> tuple[Float, NDArray[np.int64]]:
        """Squared distances (m, count), ascending, and indices of the nearest."""
        faiss = _imported()
        with _threads(faiss, self._n_jobs):
            if self._index is None:
                warn_of_copy(
                    self._X,
                    "neighbors_algorithm='faiss' holds the points in float32, and twice when it "
                    "begins",
                    "neighbors_algorithm='brute' reads X in parts",
                    itemsize=8,
                )
                Z = self._in_float32(self._X)
                index = faiss.IndexFlatL2(Z.shape[1])
                index.add(Z)
                self._index = index
            distance, index = self._index.search(self._in_float32(points), count)
        return self._in_float32.restored(distance.astype(np.float64)), index

    def error(self, points: NDArray[Any], distance: Float) -> Float:
        """How much less the true squared distance can be, where ``distance`` (m,) was proposed."""
        return self._in_float32.error(points, distance)


@contextlib.contextmanager
def _threads(faiss: Any, n_jobs: int | None) -> Iterator[None]:
    """FAISS's OpenMP threads, as many as ``n_jobs`` says, inside the ``with`` block."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(effective_jobs(n_jobs))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _imported() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            f"neighbors_algorithm='faiss' needs FAISS ({error}): pip install 'lle-gpu[faiss]', or "
            "use 'auto', whose neighbours are the same"
        ) from error
    return faiss
