"""Constraints -> F and M = F^T F on the GPU; see :mod:`lle_gpu.constraints.cpu.assemble`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lle_gpu.constraints import Constraints
from lle_gpu.cuda import REALS, cupy, kernel, register
from lle_gpu.cuda.geometry import thread_per_item
from lle_gpu.cuda.memory import LEAST_CHUNK_BYTES, free_bytes
from lle_gpu.spectral.gpu.sparse import SOURCE, Csr, Rows

__all__ = ["gram", "gram_bytes", "stack"]

# Bytes for each product of two of F's coefficients while M's pattern is found: its key, the key
# sorted, the order, and what sorting itself takes.
BYTES_PER_PRODUCT = 64
# Beyond this, more products at once gain nothing.
LARGEST_SLAB_BYTES = 1 << 32

register(SOURCE, [f"gram_values<{T}>" for T in REALS.values()])


def stack(constraints: Constraints) -> Rows:
    """F as it is."""
    return Rows(constraints)


def gram(constraints: Constraints, n_jobs: int | None = None) -> Csr:
    """M = F^T F (n x n, symmetric to the last bit, a place for all of its diagonal).

    Row j of M has an entry for each product of coefficients in the constraints that tie j. Their
    columns are found by sorting, a slab of rows at a time, and each value is then summed by one
    thread: over the points that tie both, in their order, and over each one's constraints.
    """
    cp = cupy()
    F = Rows(constraints)
    first, order, _ = F.by_column
    ends = first.get()
    slabs, nonzeros = [], 0
    for rows in _slabs(ends, F.m):
        keys, entries = _sorted_products(F, order, ends, rows)
        is_first = cp.concatenate([cp.ones(1, dtype=bool), keys[1:] != keys[:-1]])
        where = cp.flatnonzero(is_first)
        keys = keys[where]
        where = cp.concatenate([where, cp.full(1, entries.size, dtype=np.int64)])
        values = _values(F, where, entries, order[ends[rows.start] : ends[rows.stop]])
        columns = (keys % F.n).astype(np.int32)
        starts = cp.searchsorted(keys, cp.arange(rows.stop - rows.start) * F.n) + nonzeros
        nonzeros += int(values.size)
        slabs.append((values, columns, starts))
    parts = [[slab[part] for slab in slabs] for part in range(3)]
    starts = cp.concatenate([*parts[2], cp.full(1, nonzeros, dtype=np.int64)])
    return Csr(cp.concatenate(parts[0]), cp.concatenate(parts[1]), starts, (F.n, F.n))


def gram_bytes(constraints: Constraints, nonzeros: int) -> int:
    """Bytes at the peak of M's assembly, M included, beside slabs that take what is free."""
    return 24 * nonzeros


def _slabs(ends: Any, m: int) -> list[slice]:
    """Slices of M's rows with as many products as fit in memory, one row at least."""
    room = min(LARGEST_SLAB_BYTES, max(LEAST_CHUNK_BYTES, free_bytes() // 2))
    allowed = max(1, room // (BYTES_PER_PRODUCT * (m + 1)))
    slabs, low, n = [], 0, len(ends) - 1
    work = ends + np.arange(n + 1)  # each row has its entries, and a place on the diagonal
    while low < n:
        high = int(np.searchsorted(work, work[low] + allowed, "right"))
        high = min(max(high - 1, low + 1), n)
        slabs.append(slice(low, high))
        low = high
    return slabs


def _sorted_products(F: Rows, order: Any, ends: Any, rows: slice) -> tuple[Any, Any]:
    """Keys (row * n + column) of the slab's products, ascending, and their numbers t m + c."""
    cp = cupy()
    mine = order[ends[rows.start] : ends[rows.stop]]
    local = F.index.ravel()[mine].astype(np.int64) - rows.start
    columns = F.index[mine // F.m]
    places = cp.arange(rows.stop - rows.start)
    diagonal = places * (F.n + 1) + rows.start
    keys = cp.concatenate([(local[:, None] * F.n + columns).ravel(), diagonal])
    entries = cp.argsort(keys)
    return keys[entries], entries


def _values(F: Rows, where: Any, entries: Any, order: Any) -> Any:
    """M's nonzeros, one for each run of equal keys."""
    nonzeros = where.size - 1
    values = cupy().empty(nonzeros, dtype=F.rows.dtype)
    sizes = np.int64(nonzeros), np.int64(order.size * F.m), np.int32(F.r), np.int32(F.m)
    run = kernel(SOURCE, f"gram_values<{REALS[values.dtype.name]}>")
    run.launch(thread_per_item(nonzeros), where, entries, order, F.rows, values, *sizes)
    return values
