"""Working memory: what each stage needs, what the machine has, and what the user allows.

All figures are bytes beyond the input and the output (on a GPU, of its memory, which holds X as
well: :func:`_on_gpu`). They follow from the sizes of the arrays that are alive at once (n points, d
features, k neighbours; r rows of m coefficients a point):

    neighbors     distances and indices (k each), copies of X for the search (of a sparse X: what
                  it stores, with 12 bytes for each entry, up to six times), a block of candidates
    constraints   indices (k, int32), rows (r m), and m indices where the point itself is added
    F             the column indices (r m, int32); the coefficients are shared with the rows
    solver        F^T again and the basis vectors for a Chebyshev filter; the factors of B or M, the
                  matrix itself and the basis vectors for shift-invert; some dozen matrices n x n
                  for the dense solver

All but M and the factors are known beforehand. M's nonzeros and the fill depend on the neighbour
graph: they are predicted when that is known, and :func:`estimate_memory` says what the other solver
would take.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from lle_gpu.constraints import METHODS
from lle_gpu.exceptions import MemoryLimitError
from lle_gpu.neighbors import ALGORITHMS
from lle_gpu.neighbors.cpu import BLOCK_BYTES, CANDIDATE_BYTES, TREE_MAX_FEATURES
from lle_gpu.neighbors.products import BLOCK_BYTES as FLOAT32_BLOCK_BYTES

__all__ = [
    "DENSE_MAX_POINTS",
    "FIXED",
    "SOLVERS",
    "MemoryEstimate",
    "available_memory",
    "check_memory",
    "dense_bytes",
    "estimate_memory",
    "is_dense",
    "parse_memory",
    "readable",
]

# What computes the bottom vectors, each with a need of its own; "auto" chooses among them.
SOLVERS = ("auto", "dense", "shift-invert", "arpack", "davidson", "chebyshev")
UNITS = {"": 1, "B": 1}
UNITS |= {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)}
UNITS |= {f"{prefix}IB": 1024**power for power, prefix in enumerate("KMGT", start=1)}
# Where Linux tells about memory and control groups.
PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# What remains of a stage's temporary arrays, threads' chunks and the allocator's own needs.
FIXED = 64 << 20
# Candidates of the neighbour search held at once, and what is made of them.
CANDIDATES = 2 * CANDIDATE_BYTES
# Points that brute force centres at once, with the queries and what is made on the way, and those
# that are held in float32.
BLOCKS = 4 * BLOCK_BYTES + FLOAT32_BLOCK_BYTES
# What the search among sparse points holds: X in float64, centred, by columns, while each is made.
SPARSE_COPIES = 6
# Up to here the dense SVD takes milliseconds.
DENSE_MAX_POINTS = 200
# Bytes for each nonzero of the matrix to be factored, while its order of elimination is found: 64
# are measured, on graphs that are dissected.
DISSECTION = 68
# The most vectors of length n that the Lanczos iteration holds beside its basis.
SPARE_VECTORS = 8
# Columns that all iterations work on at once (LARGEST_BLOCK, WIDTH and LEAST_WIDTH in
# lle_gpu.spectral: rooms above this one, whose functions below repeat their least bases).
BLOCK = 8


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a fit needs beyond its input and output; on a GPU, of its memory, X included.

    Attributes
    ----------
    stages : dict of str to int
        The most that is held at once during each stage, in order: "neighbors", "constraints", "F"
        and "solver" (the Chebyshev filter, which needs no factorisation, or the dense solver).

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
        """The smallest ``memory_limit`` with which such a fit can run; on a GPU, what is held."""
        return max(self.stages.values())

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {readable(size)}" for name, size in self.stages.items())
        return f"at least {readable(self.least)} ({stages})"


def estimate_memory(
    shape: Any,
    *,
    n_neighbors: int = 5,
    n_components: int = 2,
    method: str = "standard",
    eigen_solver: str = "auto",
    n_stored: int | None = None,
    neighbors_algorithm: str = "auto",
    device: str = "cpu",
) -> MemoryEstimate:
    """Tell what a fit would need, from its sizes alone.

    The last stage is that of ``eigen_solver="chebyshev"``, or of the dense solver where that is
    taken: if it is asked for, if n_samples is at most 200, or if n_components + 1 is a third of it
    or more. Shift-invert is often faster and needs more: that depends on the data, is predicted
    during the fit, and is taken only if it fits in ``memory_limit`` (or, without one, in what the
    machine has free).

    Parameters
    ----------
    shape : tuple of two ints, or array, data frame, tensor or sparse matrix
        n_samples, n_features; or X itself, of which nothing but its shape, and ``X.nnz`` if it is
        sparse, is looked at.
    n_neighbors, n_components, method, eigen_solver
        As in :class:`lle_gpu.LocallyLinearEmbedding`.
    n_stored : int or None, default=None
        Of sparse X, how many entries it stores (``X.nnz``); None, if X itself is given.
    neighbors_algorithm : str, default="auto"
        As in :class:`lle_gpu.LocallyLinearEmbedding`. "brute", which is "auto" beyond 15 features,
        copies no more than some blocks of X; the others may copy all of it. On the CPU.
    device : {"cpu", "gpu", "cuda"}, default="cpu"
        "gpu" tells what the device's memory holds at least: X in float64 and, while neighbours
        are searched for, in float32 (float32 data take 4 bytes a number less), and what comes
        beside them. ``memory_limit`` is compared with the figures of "cpu", there too.

    Returns
    -------
    MemoryEstimate

    Raises
    ------
    ValueError
        For a method, a solver, an algorithm or a device that does not exist, numbers that are not
        whole or less than 1, sparse X on a GPU, or a shape that is not two numbers.

    Examples
    --------
    >>> from lle_gpu import estimate_memory
    >>> standard = estimate_memory((200_000, 50), n_neighbors=20, n_components=3)
    >>> ltsa = estimate_memory((200_000, 50), n_neighbors=20, n_components=3, method="ltsa")
    >>> standard.least < ltsa.least < 4e9
    True
    >>> on_gpu = estimate_memory((1_000_000, 784), n_neighbors=10, device="gpu")
    >>> on_gpu.least > 9.4e9  # X in float64 and in float32
    True
    """
    if device not in ("cpu", "gpu", "cuda"):
        raise ValueError(f"device={device!r} is not known; it must be 'cpu', 'gpu' or 'cuda'")
    sizes: dict[str, Any] = {"n_neighbors": n_neighbors, "n_components": n_components}
    for name, number in sizes.items():
        if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
            raise ValueError(f"{name}={number!r} must be a whole number of at least 1")
    for name, value, known in (
        ("method", method, METHODS),
        ("eigen_solver", eigen_solver, SOLVERS),
        ("neighbors_algorithm", neighbors_algorithm, ALGORITHMS),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is not known; it must be one of {sorted(known)}")
    if hasattr(shape, "shape"):
        if n_stored is None:
            n_stored = getattr(shape, "nnz", None)  # sparse X has it
        shape = shape.shape
    try:
        n, d = map(int, shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"shape={shape!r:.60} must be (n_samples, n_features), such as X.shape, or X itself as "
            "an array"
        ) from error
    if device != "cpu" and n_stored is not None:
        raise ValueError(
            f"n_stored={n_stored} is of sparse X, which is worked on by the CPU alone: use "
            f"device='cpu' in place of {device!r}, or n_stored=None for dense X"
        )
    k, q = n_neighbors, n_components
    includes_point = METHODS[method].includes_point
    m = k + 1 if includes_point else k
    r = {"standard": 1, "hessian": q * (q + 1) // 2}.get(method, k)
    index = 4 * n * k
    if device != "cpu":
        dense = eigen_solver == "dense" or is_dense(n, q)
        return _on_gpu((n, d), k, q, (r, m), square=METHODS[method].square, dense=dense)
    search = 16 * n * k + 8 * n * 12
    if n_stored is None:
        by_blocks = neighbors_algorithm == "brute" or (
            neighbors_algorithm == "auto" and d > TREE_MAX_FEATURES
        )
        copies = min(28 * n * d, BLOCKS) if by_blocks else 24 * n * d
        search += copies + min(CANDIDATES, 32 * n * (k + 9))
    else:
        search += SPARSE_COPIES * 12 * n_stored + 32 * d + 2 * CANDIDATES
    rows = 8 * n * r * m + (4 * n * m if includes_point else 0)
    F = rows + 4 * n * r * m
    if eigen_solver == "dense" or is_dense(n, q):
        solver = dense_bytes(n, q)
    else:
        solver = 12 * n * r * m + filter_bytes(n, q, n * r)
    return MemoryEstimate(
        {
            "neighbors": FIXED + search + index,
            "constraints": FIXED + 2 * index + rows,
            "F": FIXED + index + F,
            "solver": FIXED + index + F + solver,
        }
    )


def _on_gpu(
    shape: tuple[int, int], k: int, q: int, block: tuple[int, int], *, square: bool, dense: bool
) -> MemoryEstimate:
    """What the device holds at least, with a ``block`` of (r, m) coefficients a point.

    Beside X:

        neighbors     X's copy in float32; distances, and indices as int32 and int64
        constraints   indices, and rows with theirs
        F             the transposed index, int64, beside them
        solver        F^T and the filter's vectors for a square F, else the filter's vectors and M,
                      each of whose rows has m entries or more. The dense solver is the host's.
    """
    n, d = shape
    r, m = block
    points = FIXED + 8 * n * d
    rows = 4 * n * k + 8 * n * r * m
    F = rows + 8 * n * m
    vectors = filter_bytes(n, q, n if square else 0)
    solver = 0 if dense else 12 * n * m + vectors
    return MemoryEstimate(
        {
            "neighbors": points + 4 * n * d + 20 * n * k,
            "constraints": points + rows,
            "F": points + F,
            "solver": points + F + solver,
        }
    )


def is_dense(n: int, q: int) -> bool:
    """Whether the dense solver is taken, whichever is asked for: few points or many components."""
    return n <= DENSE_MAX_POINTS or 3 * (q + 1) >= n


def dense_bytes(n: int, q: int) -> int:
    """The dense solver's: a QR by blocks of rows, with copies, and an SVD with its work space."""
    return 8 * n * (4 * (n + max(n, 1024)) + 4 * n + q)


def iteration_bytes(n: int, q: int) -> int:
    """Basis and scratch vectors of the Lanczos iteration for ``q`` vectors of length ``n``."""
    block = min(q + 1, BLOCK)
    return 8 * n * (max(2 * (q + 1) + 4 * block, 24) + 3 * (q + 1) + SPARE_VECTORS + 3 * block)


def filter_bytes(n: int, q: int, n_rows: int = 0) -> int:
    """The least that a Chebyshev filter holds: its basis, and blocks for its recurrence.

    Products with an F of ``n_rows`` rows hold F times a block, twice.
    """
    basis = q + 2 + 8 * BLOCK
    return 8 * n * (basis + 6 * BLOCK + 3 * (q + 1)) + 16 * BLOCK * n_rows


def davidson_bytes(n: int, q: int, *, basis_alone: bool = False) -> int:
    """The least that Davidson's method holds: a basis, B times it, and blocks of vectors.

    Of the blocks, four are in single precision while the polynomial is applied.
    """
    width = max(q + 4, BLOCK)
    basis = 2 * 8 * n * 4 * width
    return basis if basis_alone else basis + 8 * n * 8 * width


def check_memory(estimate: MemoryEstimate, limit: int | None, *, standard: bool = False) -> None:
    """Refuse a ``memory_limit`` that no solver can keep, before any work is done."""
    if limit is not None and estimate.least > limit:
        raise too_small(limit, estimate.least, standard=standard)


def too_small(
    limit: int, least: int, means: str = "", *, standard: bool = False
) -> MemoryLimitError:
    """The error that says the least that would do; ``standard`` is the method that needs least."""
    other = "." if standard else ", or method='standard', which needs least."
    return MemoryLimitError(
        f"memory_limit={readable(limit)} is too small{means}: at least "
        f"memory_limit='{-(-least // 10**6)}MB' is needed. Raise it, or take a smaller "
        f"n_neighbors or fewer points (transform() places the others){other}"
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
    """Bytes that can be had now: free memory, or what is left in this process's control groups."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for line in (PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):  # free, and caches that can be dropped
                free = 1024 * int(line.split()[1])
    except (OSError, ValueError, AttributeError):  # not Linux: no figure, no limit
        return 1 << 62
    return max(0, min([free, *_left_in_groups()]))


def _left_in_groups() -> Iterator[int]:
    """What each control group that this process is in allows beyond what cannot be dropped."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/"]:
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2
            root, most, used, cache = GROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):  # version 1
            root, most, used = GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        group = root / path.lstrip("/")
        # A container may see its own group as the root, and not under the path that it is told.
        for folder in [group, *group.parents[: len(group.parts) - len(root.parts)]]:
            try:
                limit = int((folder / most).read_text())
                usage = int((folder / used).read_text())
            except (OSError, ValueError):  # no such group, or no limit ("max")
                continue
            yield limit - usage + _cached(folder, cache)


def _cached(group: Path, key: str) -> int:
    """Bytes of files in memory, part of a control group's usage, that give way when needed."""
    try:
        for line in (group / "memory.stat").read_text().splitlines():
            name, _, size = line.partition(" ")
            if name == key:
                return int(size)
    except (OSError, ValueError):
        pass
    return 0


def readable(size: float) -> str:
    """A size in words: 1234567 -> "1.2MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}TB"
