"""Device memory: how much is free, work in chunks that fit, CuPy's allocator as it was found.

What is free is what the driver reports plus what CuPy's pool holds unused. It is a guess: other
processes allocate too, and a pool in pieces cannot give what the sum of its pieces promises. So
running out is expected, and answered by smaller chunks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from lle_gpu.cuda.probe import cupy
from lle_gpu.exceptions import MemoryLimitError
from lle_gpu.progress import advance, note

__all__ = [
    "LEAST_CHUNK_BYTES",
    "chunk_rows",
    "for_each_chunk",
    "free_bytes",
    "is_out_of_memory",
    "kept_allocator",
    "release_unused",
    "says_out_of_memory",
]

# Beyond this a chunk fills any device, and a larger one gains nothing.
LARGEST_CHUNK_BYTES = 1 << 30
# And so much is tried whatever is said to be free: an allocator that keeps the device's memory to
# itself, as a pool of RMM's does, leaves none that the driver knows of.
LEAST_CHUNK_BYTES = 1 << 24
# Of the free memory, the part that a chunk may take.
FREE_FRACTION = 0.5
# In the messages of CUDA's libraries, runtime and driver, and of RAPIDS's memory manager.
OUT_OF_MEMORY = (
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "cudaErrorMemoryAllocation",
    "bad_alloc",
    "out_of_memory",
)
# What cuBLAS and cuSOLVER say if they cannot have memory for themselves when they are used first
# (it may mean something else, too), and how little is free then.
UNMADE = (
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUSOLVER_STATUS_NOT_INITIALIZED",
    "CUSOLVER_STATUS_INTERNAL_ERROR",
)
LITTLE = 1 << 28


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, the device's or the host's.

    CuPy's allocator and RMM raise MemoryErrors; what the libraries, the runtime and the driver
    cannot allocate by themselves (workspaces, handles, graphs) are RuntimeErrors. The user's own
    limit is not meant.
    """
    if isinstance(error, MemoryLimitError):
        return False
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and (says_out_of_memory(error) or _is_unmade(error))
    )


def says_out_of_memory(error: BaseException) -> bool:
    """Whether an error's message does: for libraries whose errors are of no class in particular."""
    return any(code in str(error) for code in OUT_OF_MEMORY)


def _is_unmade(error: RuntimeError) -> bool:
    """Whether a library could not be made ready, and the driver has next to nothing left."""
    if not any(code in str(error) for code in UNMADE):
        return False
    try:
        free, _ = cupy().cuda.runtime.memGetInfo()
    except Exception:  # the device is lost: that is another error
        return False
    return bool(free < LITTLE)


def free_bytes() -> int:
    """Bytes on the current device that an allocation could get."""
    cp = cupy()
    free, _ = cp.cuda.runtime.memGetInfo()
    pool = cp.get_default_memory_pool()
    free += pool.free_bytes()
    limit = pool.get_limit()
    return int(max(0, min(free, limit - pool.used_bytes())) if limit else free)


def release_unused() -> None:
    """Give the blocks that CuPy's pool holds unused back to the driver, so that they can merge."""
    cupy().get_default_memory_pool().free_all_blocks()


def chunk_rows(bytes_per_row: int) -> int:
    """Rows whose working arrays should fit in the current device's free memory; at least one."""
    available = min(LARGEST_CHUNK_BYTES, int(FREE_FRACTION * free_bytes()))
    available = max(available, LEAST_CHUNK_BYTES)
    return max(1, available // max(1, bytes_per_row))


def for_each_chunk(
    work: Callable[[slice], None],
    n: int,
    bytes_per_row: int,
    *,
    most_rows: int | None = None,
    quiet: bool = False,
) -> None:
    """Call ``work(rows)`` for consecutive slices that cover ``range(n)``.

    ``work`` writes its result into arrays it knows. It may be called again for rows it was
    interrupted in: when the device's memory runs out, the chunk is halved and that part repeated.
    Unless ``quiet``, the rows done are reported as progress.

    Parameters
    ----------
    work : callable
    n : int
    bytes_per_row : int
        Device memory that ``work`` allocates for each row.
    most_rows : int, optional
        Of a slice, for another reason than memory: see :func:`lle_gpu.cuda.duration.rows_at_once`.
    quiet : bool

    Raises
    ------
    MemoryError, RuntimeError
        The allocator's or the library's own, if there is not enough memory for a single row.
    """
    size = min(chunk_rows(bytes_per_row), most_rows or n)
    low = 0
    while low < n:
        rows = slice(low, min(low + size, n))
        if _fits(work, rows):
            low = rows.stop
            advance(0 if quiet else rows.stop - rows.start)
        else:
            # Outside the except clause, whose traceback held the arrays of the failed attempt.
            release_unused()
            size = (rows.stop - rows.start + 1) // 2
            note(f"device memory ran out: chunks of {size} rows")


def _fits(work: Callable[[slice], None], rows: slice) -> bool:
    """Do the work; False if memory ran out and fewer rows may do."""
    try:
        work(rows)
    except Exception as error:
        if rows.stop - rows.start == 1 or not is_out_of_memory(error):
            raise
        return False
    return True


@contextlib.contextmanager
def kept_allocator() -> Iterator[None]:
    """Put CuPy's allocator back afterwards; importing cuML sets another for the whole process.

    Inside ``cupy.cuda.using_allocator`` nobody can set another (CuPy raises, and cuML's import with
    it), so that there is nothing to put back, and nothing is set.
    """
    cp = cupy()
    allocator = cp.cuda.get_allocator()
    try:
        yield
    finally:
        if cp.cuda.get_allocator() != allocator:
            cp.cuda.set_allocator(allocator)
