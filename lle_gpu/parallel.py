"""Work over points in chunks, on all cores: the one door to threads and to BLAS's own threads."""

from __future__ import annotations

import _thread
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import joblib
from threadpoolctl import ThreadpoolController

from lle_gpu.progress import advance

__all__ = ["chunk_rows", "effective_jobs", "for_each_chunk", "in_threads", "one_blas_thread"]

Item = TypeVar("Item")

# A chunk's arrays should live in a core's L2 cache (0.5 to 2 MiB on current machines): batched
# small matrices are read several times.
CHUNK_BYTES = 1 << 20
# Between two looks at whether the others have ended, after an interruption.
WAITING_SECONDS = 1e-3


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
        raise ValueError(
            "n_jobs=0 must be a positive number of threads, a negative one (-1: all cores, -2: all "
            "but one, ...), or None (all cores)"
        )
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

    def count(rows: slice) -> None:
        advance(0 if quiet else rows.stop - rows.start)

    with one_blas_thread():
        in_threads(work, slices, jobs, then=count)


def in_threads(
    work: Callable[[Item], object],
    items: Sequence[Item],
    jobs: int,
    then: Callable[[Item], None] | None = None,
) -> None:
    """Call ``work(item)`` for each of the items on up to ``jobs`` threads of its own.

    When it returns or raises, no ``work`` is running: not after an error, which is raised here, and
    not after Ctrl-C, wherever that strikes. An executor cannot promise it: a signal that interrupts
    one of its methods between two of its locks leaves threads, and this one, waiting for ever. So
    what this thread shares with the others are queues and lists, whose operations are not divided.

    Parameters
    ----------
    work : callable
    items : sequence
    jobs : int
        With one, or for one item, it is done here.
    then : callable, optional
        Called in this thread for each item that is done, in any order.
    """
    if jobs == 1 or len(items) <= 1:
        for item in items:
            work(item)
            if then is not None:
                then(item)
        return
    errand = _Errand(work, items)
    try:
        for _ in range(min(jobs, len(items))):
            _thread.start_new_thread(errand.take_part, ())
        for _ in items:
            item, error = errand.said.get()
            if error is not None:
                raise error
            if then is not None:
                then(item)
    except BaseException:  # Ctrl-C among them: nothing may leave before the threads have ended
        errand.give_up()
        raise


class _Errand(Generic[Item]):
    """Items to be worked on by whoever takes part."""

    def __init__(self, work: Callable[[Item], object], items: Sequence[Item]) -> None:
        self._work = work
        self._todo: SimpleQueue[Item] = SimpleQueue()
        for item in items:
            self._todo.put(item)
        self.said: SimpleQueue[tuple[Item, BaseException | None]] = SimpleQueue()
        self._entered: list[None] = []
        self._left: list[None] = []
        self._given_up = False

    def take_part(self) -> None:
        """Work until nothing is left to do, and say what is done."""
        self._entered.append(None)  # who is not in this list by then, sees that it is given up
        try:
            while not self._given_up:
                try:
                    item = self._todo.get_nowait()
                except Empty:
                    return
                try:
                    self._work(item)
                except BaseException as error:
                    self.said.put((item, error))
                    return
                self.said.put((item, None))
        finally:
            self._left.append(None)

    def give_up(self) -> None:
        """Begin no other item, and wait for those that are begun."""
        self._given_up = True
        while len(self._left) < len(self._entered):
            with contextlib.suppress(BaseException):  # the first interruption is on its way already
                time.sleep(WAITING_SECONDS)
