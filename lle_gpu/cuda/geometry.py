"""Grids, blocks and shared memory: the one place that computes and checks them.

A kernel works on n items (points, queries, rows) with one thread, a group of lanes, a warp or a
block for each; the functions here give the launch for each of these. Lanes are neighbours in a
warp, so a group of L lanes, L a power of two up to 32, never straddles two warps.

    thread_per_item(n)           item = blockIdx.x * blockDim.x + threadIdx.x
    lanes_per_item(n, L)         item = (blockIdx.x * blockDim.x + threadIdx.x) / L
    warp_per_item(n)             the same with L = 32
    block_per_item(n, threads)   item = blockIdx.x
    thread_per_entry(n, b)       row = blockIdx.x * blockDim.y + threadIdx.y, of n
                                 column = blockIdx.y * blockDim.x + threadIdx.x, of b
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from lle_gpu.cuda.duration import forget_rates
from lle_gpu.cuda.probe import cupy, forget_probes

__all__ = [
    "LARGEST_INDEX",
    "Geometry",
    "block_per_item",
    "check_launch",
    "fitting_threads",
    "forget_devices",
    "lanes_per_item",
    "shared_memory_limit",
    "thread_per_entry",
    "thread_per_item",
    "warp_per_item",
]

WARP = 32
# Kernels number rows and entries by int32.
LARGEST_INDEX = 2**31 - 1
# CUDA's limits, the same on all devices of compute capability 7.5 and above.
LARGEST_GRID = (2**31 - 1, 65_535, 65_535)
LARGEST_BLOCK = (1024, 1024, 64)


class Geometry(NamedTuple):
    """A launch: ``kernel(...).launch(geometry, *arguments)``.

    Attributes
    ----------
    grid, block : tuple of int
    shared_bytes : int
        Dynamic shared memory of a block.
    """

    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int = 0


def thread_per_item(n: int) -> Geometry:
    """One thread for each of ``n`` items, 256 in a block."""
    return lanes_per_item(n, 1, threads=256)


def lanes_per_item(n: int, lanes: int, *, threads: int = 128, shared_bytes: int = 0) -> Geometry:
    """``lanes`` neighbouring threads of one warp for each item, ``threads`` in a block.

    ``shared_bytes`` is dynamic shared memory per item.
    """
    if lanes not in (1, 2, 4, 8, 16, 32):
        raise ValueError(f"lanes={lanes} must be a power of two up to 32, so as to divide a warp")
    if threads % lanes:
        raise ValueError(f"threads={threads} must be a multiple of lanes={lanes}")
    items = threads // lanes
    return Geometry((-(-n // items),), (threads,), items * shared_bytes)


def fitting_threads(lanes: int, shared_bytes: int) -> int:
    """Threads for :func:`lanes_per_item` with ``shared_bytes`` per item: 128, 64, or 32.

    As many as take no more than 48 KiB, or one warp if a block may have what that takes; else 0.
    """
    for threads in (128, 64, WARP):
        if threads // lanes * shared_bytes <= 48 * 1024:
            return threads
    return WARP if WARP // lanes * shared_bytes <= shared_memory_limit() else 0


def warp_per_item(n: int, *, warps: int = 4, shared_bytes: int = 0) -> Geometry:
    """One warp for each item, ``warps`` in a block; ``shared_bytes`` per item."""
    return lanes_per_item(n, WARP, threads=warps * WARP, shared_bytes=shared_bytes)


def block_per_item(n: int, threads: int, *, shared_bytes: int = 0) -> Geometry:
    """One block of ``threads`` for each item."""
    return Geometry((n,), (threads,), shared_bytes)


def thread_per_entry(n_rows: int, n_columns: int, *, first_blocks: int = 0) -> Geometry:
    """One thread for each entry of a row-major matrix, 256 (or a few fewer) in a block.

    ``first_blocks`` blocks more come before those of the rows, for what the kernel does with them.
    """
    width = min(max(n_columns, 1), WARP)
    height = 256 // width
    return Geometry((first_blocks - (-n_rows // height), -(-n_columns // width)), (width, height))


def shared_memory_limit(device: int | None = None) -> int:
    """Bytes of shared memory that one block may have, static and dynamic, when it asks for them.

    99 KiB on compute capability 8.6, 8.9 and 12, 163 KiB on 8.0, 227 KiB on 9.0 and 10.0, 64 KiB
    on 7.5. ``device`` is the current one by default.
    """
    return _opt_in_limit(int(cupy().cuda.runtime.getDevice()) if device is None else device)


@functools.cache
def _opt_in_limit(device: int) -> int:
    return int(cupy().cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"])


def forget_devices() -> None:
    """Ask the devices again."""
    _opt_in_limit.cache_clear()
    forget_rates()
    forget_probes()


def check_launch(
    grid: Sequence[int],
    block: Sequence[int],
    shared_bytes: int,
    device: int,
    name: str,
    *,
    most_threads: int,
) -> None:
    """Refuse a launch that CUDA would, or would cut off, with an error that says what is allowed.

    ``shared_bytes`` is static and dynamic shared memory together, ``most_threads`` what the kernel
    was compiled for: its ``__launch_bounds__``, or fewer where its registers do not reach.
    """
    for what, sizes, largest, least in (
        ("grid", grid, LARGEST_GRID, 0),
        ("block", block, LARGEST_BLOCK, 1),
    ):
        if not 1 <= len(sizes) <= 3:
            raise ValueError(f"{what}={tuple(sizes)} of {name} must have one to three sizes")
        for size, limit in zip(sizes, largest, strict=False):
            if not least <= size <= limit:
                raise ValueError(
                    f"{what}={tuple(sizes)} of {name} is not possible: sizes are {least} to "
                    f"{largest}; work in chunks"
                )
    threads = 1
    for size in block:
        threads *= size
    if threads > most_threads:
        raise ValueError(
            f"block={tuple(block)} of {name} has {threads} threads; {most_threads} are allowed"
        )
    limit = shared_memory_limit(device)
    if shared_bytes > limit:
        raise ValueError(
            f"{name} needs {shared_bytes} bytes of shared memory in a block; device {device} has "
            f"{limit}. Fewer neighbours or components need less"
        )
