"""Work over points in chunks, on all cores: the one door to threads and to BLAS's own threads."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import joblib
from threadpoolctl import ThreadpoolController

from lle_gpu.progress import advance

__all__ = ["chunk_rows", "effective_jobs", "for_each_chunk", "one_blas_thread"]

# A chunk's arrays should live in a core's L2 cache (0.5 to 2 MiB on current machines): batched
# small matrices are read several times.
CHUNK_BYTES = 1 << 20


def effective_jobs(n_jobs: int | None) -> int:
    """Number of threads meant by ``n_jobs``: None and -1 are all cores, -2 all but one, ...

    Raises
    ------
    ValueError
        If ``n_jobs`` is 0.
    """
    if n_jobs is None:
        n_jobs = -1
    if n_jobs == 0:
        raise ValueError("n_jobs=0 must be a positive number, -1 (all cores), or None (all cores)")
    if n_jobs > 0:
        return int(n_jobs)
    return max(1, int(joblib.cpu_count()) + 1 + int(n_jobs))


def chunk_rows(bytes_per_row: int, chunk_bytes: int | None = None) -> int:
    """Rows, at least one, whose working arrays take about ``chunk_bytes`` (``CHUNK_BYTES``)."""
    return max(1, (chunk_bytes or CHUNK_BYTES) // max(1, bytes_per_row))


@functools.cache
def _controller() -> ThreadpoolController:
    # Finding the loaded BLAS libraries takes a millisecond or two: once is enough.
    return ThreadpoolController()


class _OneBlasThread:
    """Holds BLAS at one thread while anybody is inside.

    The setting belongs to the process: with several fits at once, the first to enter saves it and
    the last to leave restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()
                self._limit = None


_one_blas_thread = _OneBlasThread()


def one_blas_thread() -> _OneBlasThread:
    """Context in which BLAS uses one thread.

    For code that brings its own threads, or works on small matrices: BLAS's threads spin while they
    wait, and would take the cores from the others.
    """
    return _one_blas_thread


def for_each_chunk(
    work: Callable[[slice], None],
    n: int,
    *,
    bytes_per_row: int,
    n_jobs: int | None = None,
    chunk_bytes: int | None = None,
    quiet: bool = False,
) -> None:
    """Call ``work(rows)`` for consecutive slices that cover ``range(n)``, on ``n_jobs`` threads.

    ``work`` writes its result into arrays it knows; slices are disjoint, so the result does not
    depend on the number of threads. NumPy releases the interpreter lock inside its loops. The
    first error is raised, after the running chunks have ended. Unless ``quiet``, the rows done are
    reported as progress. A chunk's arrays take about ``chunk_bytes``: what a core's cache holds,
    unless a call has costs of its own, which more rows should share.
    """
    jobs = effective_jobs(n_jobs)
    size = min(chunk_rows(bytes_per_row, chunk_bytes), max(1, -(-n // jobs)))
    slices = [slice(low, min(low + size, n)) for low in range(0, n, size)]
    with one_blas_thread():
        if jobs == 1 or len(slices) == 1:
            for rows in slices:
                work(rows)
                advance(0 if quiet else rows.stop - rows.start)
            return
        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(work, rows): rows for rows in slices}
            try:
                for future in as_completed(futures):
                    future.result()
                    rows = futures[future]
                    advance(0 if quiet else rows.stop - rows.start)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
