"""Working memory: what each stage needs, what the machine has, and what the user allows.

All figures are bytes beyond the input and the output. They follow from the sizes of the arrays that
are alive at once (n points, d features, k neighbours; r rows of m coefficients a point):

    neighbors     distances and indices (k each), copies of X for the search, a block of candidates
    constraints   indices (k, int32), rows (r m), and m indices where the point itself is added
    F             the column indices (r m, int32); the coefficients are shared with the rows
    solver        F^T again and the basis vectors for a Chebyshev filter; the factors of B or M, the
                  matrix itself and the basis vectors for shift-invert

All but the factors are known beforehand. Fill depends on the neighbour graph: it is predicted when
that is known, and :func:`estimate_memory` says what the other solver would take.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lle_gpu.constraints import METHODS
from lle_gpu.exceptions import MemoryLimitError

__all__ = [
    "MemoryEstimate",
    "available_memory",
    "check_memory",
    "estimate_memory",
    "parse_memory",
    "readable",
]

UNITS = {"": 1, "B": 1}
UNITS |= {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)}
UNITS |= {f"{prefix}IB": 1024**power for power, prefix in enumerate("KMGT", start=1)}
# What remains of a stage's temporary arrays, threads' chunks and the allocator's own needs.
FIXED = 64 << 20
# Candidates of the neighbour search held at once (lle_gpu.neighbors.cpu.CANDIDATE_BYTES), twice.
CANDIDATES = 1 << 26
# The most vectors of length n that the Lanczos iteration holds beside its basis.
SPARE_VECTORS = 8


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a fit needs beyond its input and output.

    Attributes
    ----------
    stages : dict of str to int
        The most that is held at once during each stage, in order: "neighbors", "constraints", "F"
        and "solver" (the Chebyshev filter, which needs no factorisation).

    Examples
    --------
    >>> from lle_gpu import estimate_memory
    >>> estimate = estimate_memory((1_000_000, 50), n_neighbors=15)
    >>> list(estimate.stages)
    ['neighbors', 'constraints', 'F', 'solver']
    >>> estimate.least == max(estimate.stages.values())
    True
    """

    stages: dict[str, int]

    @property
    def least(self) -> int:
        """The smallest ``memory_limit`` with which such a fit can run."""
        return max(self.stages.values())

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {readable(size)}" for name, size in self.stages.items())
        return f"at least {readable(self.least)} ({stages})"


def estimate_memory(
    shape: tuple[int, int],
    *,
    n_neighbors: int = 5,
    n_components: int = 2,
    method: str = "standard",
) -> MemoryEstimate:
    """Tell what a fit on the CPU would need, from its sizes alone.

    The last stage is that of ``eigen_solver="chebyshev"``. Shift-invert is often faster and needs
    more: that depends on the data, is predicted during the fit, and is taken only if it fits in
    ``memory_limit`` (or, without one, in what the machine has free).

    Parameters
    ----------
    shape : tuple of two ints
        n_samples, n_features.
    n_neighbors, n_components, method
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    Returns
    -------
    MemoryEstimate

    Raises
    ------
    ValueError
        For a method that does not exist.

    Examples
    --------
    >>> from lle_gpu import estimate_memory
    >>> standard = estimate_memory((200_000, 50), n_neighbors=20, n_components=3)
    >>> ltsa = estimate_memory((200_000, 50), n_neighbors=20, n_components=3, method="ltsa")
    >>> standard.least < ltsa.least < 4e9
    True
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known; it must be one of {sorted(METHODS)}")
    n, d = shape
    k, q = n_neighbors, n_components
    includes_point = METHODS[method].includes_point
    m = k + 1 if includes_point else k
    r = {"standard": 1, "hessian": q * (q + 1) // 2}.get(method, k)
    index = 4 * n * k
    search = 16 * n * k + 8 * n * (3 * d + 12) + min(CANDIDATES, 32 * n * (k + 9))
    rows = 8 * n * r * m + (4 * n * m if includes_point else 0)
    F = rows + 4 * n * r * m
    return MemoryEstimate(
        {
            "neighbors": FIXED + search + index,
            "constraints": FIXED + 2 * index + rows,
            "F": FIXED + index + F,
            "solver": FIXED + index + F + 12 * n * r * m + filter_bytes(n, q),
        }
    )


def iteration_bytes(n: int, q: int) -> int:
    """Basis and scratch vectors of the Lanczos iteration for ``q`` vectors of length ``n``."""
    block = min(q + 1, 8)
    return 8 * n * (max(2 * (q + 1) + 4 * block, 24) + 3 * (q + 1) + SPARE_VECTORS + 3 * block)


def filter_bytes(n: int, q: int) -> int:
    """The least that a Chebyshev filter holds: its basis, and blocks of 8 for its recurrence."""
    basis = q + 2 + 4 * 8 + 4 * 8
    return 8 * n * (basis + 6 * 8 + 3 * (q + 1))


def check_memory(estimate: MemoryEstimate, limit: int | None) -> None:
    """Refuse a ``memory_limit`` that no solver can keep, before any work is done."""
    if limit is not None and estimate.least > limit:
        raise too_small(limit, estimate.least)


def too_small(limit: int, least: int, means: str = "") -> MemoryLimitError:
    """The error that says the least that would do."""
    return MemoryLimitError(
        f"memory_limit={readable(limit)} is too small{means}: at least "
        f"memory_limit='{-(-least // 10**6)}MB' is needed. Raise it, or take a smaller "
        "n_neighbors, fewer points (transform() places the others), or method='standard', which "
        "needs least."
    )


def parse_memory(limit: int | float | str | None) -> int | None:
    """Bytes meant by ``memory_limit``: a number, or a text such as "4GB", "512 MiB", "1.5e9".

    Raises
    ------
    ValueError
        If it is none of these, or not positive.
    """
    if limit is None:
        return None
    if isinstance(limit, bool):
        size = None
    elif isinstance(limit, str):
        parts = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", limit.lower())
        unit = UNITS.get(parts[2].upper()) if parts else None
        try:
            size = float(parts[1]) * unit if parts and unit else None
        except ValueError:
            size = None
    else:
        size = float(limit)
    if size is None or not 1 <= size < float("inf"):
        raise ValueError(
            f"memory_limit={limit!r} must be None, a number of bytes of at least 1, or a text such "
            "as '4GB', '512MB' or '2GiB'"
        )
    return int(size)


def available_memory() -> int:
    """Bytes that can be had now: free memory, or what is left in this process's control group."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):  # free, and caches that can be dropped
                free = 1024 * int(line.split()[1])
    except (OSError, ValueError, AttributeError):  # not Linux: no figure, no limit
        return 1 << 62
    group = Path("/sys/fs/cgroup")
    try:
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no limit ("max"), or no control groups
        return free
    return max(0, min(free, left))


def readable(size: float) -> str:
    """A size in words: 1234567 -> "1.2MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}TB"
