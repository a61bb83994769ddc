"""Work over points in chunks, on all cores: the one door to threads and to BLAS's own threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import joblib
from threadpoolctl import ThreadpoolController

from lle_gpu.progress import advance

__all__ = ["blas_threads", "chunk_rows", "effective_jobs", "for_each_chunk"]

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


def chunk_rows(bytes_per_row: int, budget: int = CHUNK_BYTES) -> int:
    """Rows in a chunk whose working arrays take about ``budget`` bytes; at least one."""
    return max(1, budget // max(1, bytes_per_row))


@functools.cache
def _controller() -> ThreadpoolController:
    # Finding the loaded BLAS libraries takes a millisecond or two: once is enough.
    return ThreadpoolController()


def blas_threads(count: int) -> Any:
    """Context in which BLAS uses ``count`` threads.

    The pipeline runs with one: it brings its own threads, and BLAS's, which spin while they wait,
    would take the cores from them.
    """
    return _controller().limit(limits=count, user_api="blas")


def for_each_chunk(
    work: Callable[[slice], None],
    n: int,
    *,
    bytes_per_row: int,
    n_jobs: int | None = None,
    quiet: bool = False,
) -> None:
    """Call ``work(rows)`` for consecutive slices that cover ``range(n)``, on ``n_jobs`` threads.

    ``work`` writes its result into arrays it knows; slices are disjoint, so the result does not
    depend on the number of threads. NumPy releases the interpreter lock inside its loops. The
    first error is raised, after the running chunks have ended. Unless ``quiet``, the rows done are
    reported as progress.
    """
    jobs = effective_jobs(n_jobs)
    size = min(chunk_rows(bytes_per_row), max(1, -(-n // jobs)))
    slices = [slice(low, min(low + size, n)) for low in range(0, n, size)]
    with blas_threads(1):
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
