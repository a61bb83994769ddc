"""The one door to cuDSS, NVIDIA's sparse direct solver, by way of nvmath-python's DirectSolver.

Optional (``pip install 'lle-gpu[cudss]'``). nvmath-python 1.0 works with cuDSS 0.8 and no other, so
whether it can be used is asked of both, and answered in words (:func:`missing`). The calls are held
against the released package's signatures in the tests.

cuDSS has no row exchanges across the matrix: what it returns is checked by a solve, and repeated
with other pivots and a larger shift where the check fails, as SuperLU's is.

nvmath-python gives it memory from the driver's pool (cudaMallocAsync), which it has keep what comes
back. CuPy's pool could not use that, so :meth:`Factors.free` has the driver's pool let go of it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import logging
import sys
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda import cupy
from lle_gpu.cuda.geometry import LARGEST_INDEX
from lle_gpu.cuda.memory import is_out_of_memory, release_unused, says_out_of_memory
from lle_gpu.memory import readable
from lle_gpu.progress import note
from lle_gpu.spectral.cpu.factorisation import BACKWARD_ERROR
from lle_gpu.spectral.cpu.ordering import Dissection
from lle_gpu.spectral.gpu.normals import Normals
from lle_gpu.spectral.gpu.sparse import Csr
from lle_gpu.spectral.toolbox import FillEstimate

__all__ = ["CudssError", "Factors", "Order", "cost", "forget", "missing"]

INSTALL = "pip install 'lle-gpu[cudss]'"
# Right-hand sides solved for at once. cuDSS 0.8's deterministic mode takes one and no more
# (NOT_SUPPORTED). The same bits each time are worth more than blocks: its order and factors take
# most of the time.
WIDTH = 1
# A pivot is replaced only if it is smaller than this, which is to say zero. cuDSS's default, 1e-13
# of the matrix, is larger than eigenvalues that have to be told apart.
PIVOT_EPSILON = 1e-200
# Kinds of factors tried for a kind that is asked for, and by how much their shift is larger.
ATTEMPTS = {
    "GENERAL": (("GENERAL", 1), ("GENERAL", 100)),
    "SPD": (("SPD", 1), ("SYMMETRIC", 1), ("SYMMETRIC", 100)),
}
# Bytes that an entry of its factors takes at the peak: not measured yet. Its supernodes have 8 and
# few indices; what it works in comes beside that.
BYTES_PER_NONZERO = 12.0
# Of cuDSS's own ordering, for an entry of M and of B (which is ordered as B + B^T): nearly all of
# the stage "factor" in benchmarks/results/h200-2026-11-28.json, on 16 cores: 0.7 s for M of 100,000
# points, 0.4 and 5 s for B of 100,000 and a million.
ORDERING_SECONDS = {False: 1.5e-7, True: 3e-7}
# Of planning in an order that is given: estimates.
PLANNING_SECONDS = {False: 3e-8, True: 6e-8}
# In an order that is given, factors may have so many times the nonzeros that are predicted, and the
# peak of their memory so many times the bytes of these, or what is little anyway. Predictions are
# right within a third, and the peak in h200-2026-11-28.json is 2 to 4 times the factors. More means
# that cuDSS has taken the order for something else.
MOST_FILL, MOST_BYTES, LITTLE_BYTES = 3.0, 100.0, 1 << 28
# Its tree of separators has 2^levels - 1 nodes; it gives the tree to who names that size exactly.
MOST_LEVELS = 24
# Of the trees that we give: cuDSS's default, or fewer where parts would have fewer nodes than this.
TREE_LEVELS = 10
PART_NODES = 64
# The threads that cuDSS orders with, as its wheels for Linux and for Windows have them.
THREADING = ("libcudss_mtlayer_gomp.so.0", "cudss_mtlayer_vcomp14064_0.dll")

# cuDSS is not thread-safe. A solver may be collected, and so freed, within a thread's own call.
_lock = threading.RLock()
_log = logging.getLogger("lle_gpu.cudss")
_log.addHandler(logging.NullHandler())
_log.propagate = False  # nvmath warns of missing threads at every solver: once is enough


class CudssError(ValueError):
    """cuDSS could not do it; the message says what and why."""


@functools.cache
def missing() -> str:
    """What stands in the way of using cuDSS, and how to get it; empty if nothing does.

    Nothing is factored for the answer, but the libraries are loaded.
    """
    try:
        importlib.import_module("nvmath.sparse.advanced")
        bindings = importlib.import_module("nvmath.bindings.cudss")
    except ModuleNotFoundError as error:
        if error.name == "nvmath":
            return f"nvmath-python is not installed: {INSTALL}"
        return f"nvmath-python is installed but its import fails: {error}. Try {INSTALL}"
    except Exception as error:  # a broken install can raise anything
        return f"nvmath-python is installed but its import fails: {error}. Try {INSTALL}"
    try:
        version = int(bindings.get_property(0)), int(bindings.get_property(1))
    except Exception as error:  # DynamicLibNotFoundError, a RuntimeError
        reason = str(error).strip().splitlines()[0]
        return f"nvmath-python cannot load cuDSS: {reason}. {INSTALL} brings what it needs"
    if version != (0, 8):
        found = ".".join(map(str, version))
        return f"nvmath-python 1.0 needs cuDSS 0.8, and {found} is installed: {INSTALL}"
    return ""


def forget() -> None:
    """Ask again."""
    missing.cache_clear()


def cost(fill: FillEstimate, square: bool, stored: int, *, ordered: bool) -> FillEstimate:
    """What cuDSS will take where SuperLU would take ``fill``, for a matrix of ``stored`` entries.

    Two LUs, of B and of B^T, in one order; or L alone of M, by half the arithmetic. Whether the
    matrix is ``ordered`` already, decides what planning takes.
    """
    factors = 2.0 if square else 0.5
    size = BYTES_PER_NONZERO * factors * fill.nonzeros
    seconds = (PLANNING_SECONDS if ordered else ORDERING_SECONDS)[square] * stored
    return FillEstimate(fill.nonzeros, size, factors * fill.flops, seconds)


@dataclass(frozen=True)
class Order:
    """An order of elimination, in cuDSS's terms: most of planning is to find one.

    With the permutation alone cuDSS would look for the separators again, and factor more slowly.

    Attributes
    ----------
    permutation : ndarray of shape (n,), int32
        Of rows and of columns: A[permutation][:, permutation] is what is factored.
    tree : ndarray of shape (2^levels - 1,), int32
        Sizes of the parts that the nodes are dissected into, from left to right; then of the
        separators, level by level from the lowest one, the whole graph's at the end. So METIS has
        them (``METIS_NodeNDP``), by which cuDSS orders; that its own trees are like that, a test on
        a device checks.
    nonzeros : float
        Of L + U, as predicted; infinite if the order is cuDSS's own.
    """

    permutation: NDArray[np.int32]
    tree: NDArray[np.int32]
    nonzeros: float = float("inf")

    @property
    def levels(self) -> int:
        """Levels of the tree, the parts' included."""
        return (len(self.tree) + 1).bit_length() - 1

    @classmethod
    def of(cls, dissection: Dissection) -> Order | None:
        """That of a nested dissection; None if that does not cut the graph into two at least.

        The tree goes as far down as all parts have nodes.
        """
        n = len(dissection.order)
        levels = min(max(int(np.log2(n / PART_NODES)) + 1, 2), TREE_LEVELS)
        # Parents come first, level by level, and of few cells the upper part of the tree is made.
        upper = dissection.cells[: 2 ** (levels - 1)].tolist()
        cut = {(start, sum(parts)): parts for start, *parts in upper}
        cells = [(0, n)]
        separators: list[list[int]] = []
        while len(separators) < levels - 1 and all(
            cell in cut and min(cut[cell][:2]) > 0 for cell in cells
        ):
            halves = []
            for start, size in cells:
                left, right, _ = cut[start, size]
                halves += [(start, left), (start + left, right)]
            separators.append([cut[cell][2] for cell in cells])
            cells = halves
        if not separators:
            return None
        parts = [size for _, size in cells]
        tree = parts + [size for sizes in reversed(separators) for size in sizes]
        return cls(
            dissection.order.astype(np.int32),
            np.array(tree, dtype=np.int32),
            dissection.estimate().nonzeros,
        )


class Factors:
    """cuDSS's factors of A + delta I, ordered and analysed when this is made.

    Parameters
    ----------
    A : Csr of shape (n, n)
        With a place for all of its diagonal, and columns in order.
    kind : {"GENERAL", "SPD"}
    order : Order, default=None
        Taken in place of a new one, where indices are int32.

    Attributes
    ----------
    order : Order or None
        The one taken; None if cuDSS does not tell it.
    kind : str
        "GENERAL", "SPD", or "SYMMETRIC" where A + delta I was not definite as it is rounded.
    peak_bytes : int
        Of device memory, as cuDSS has estimated it.
    fill : float
        Nonzeros of L and U a row.
    backward_error : float
    """

    def __init__(self, A: Csr, kind: str, order: Order | None = None) -> None:
        self._A, self.kind = A, kind
        self.order = order if A.nnz <= LARGEST_INDEX else None
        self._n = A.shape[0]
        self._solver: Any = None
        self.peak_bytes = 0
        self.fill = self.backward_error = float("nan")
        try:
            self._plan()
        except Exception:  # the solver may have been made, and the error's traceback holds it
            self.free()
            raise

    def _plan(self) -> None:
        """Order and analyse. The values' array is kept: shifts are written into it."""
        cp = cupy()
        sparse = importlib.import_module("cupyx.scipy.sparse")
        advanced = importlib.import_module("nvmath.sparse.advanced")
        A = self._A
        itype = np.int32 if A.nnz <= LARGEST_INDEX else np.int64
        self.free()
        release_unused()  # cuDSS does not allocate from CuPy's pool
        self._values = A.values.copy()
        self._on_diagonal = cp.flatnonzero(A.owners() == A.columns)
        indices = A.columns.astype(itype, copy=False), A.first.astype(itype, copy=False)
        self._block = cp.zeros((self._n, WIDTH), dtype=A.values.dtype, order="F")
        with _lock, _our_errors("planning"):
            self._solver = advanced.DirectSolver(
                sparse.csr_matrix((self._values, *indices), shape=A.shape),
                self._block,
                options=advanced.DirectSolverOptions(
                    sparse_system_type=getattr(advanced.DirectSolverMatrixType, self.kind),
                    multithreading_lib=_threading_library(),
                    logger=_log,
                ),
            )
            _make_reproducible(self._solver)
            if self.order is not None:
                _give_order(self._solver, self.order)
            plan = self._solver.plan()
            self.peak_bytes = int(plan.memory_estimates.peak_device_memory)
        if self.order is None:
            with _lock:
                self.order = _order_of(self._solver, plan)
        elif self.peak_bytes > max(MOST_BYTES * self.order.nonzeros, LITTLE_BYTES):
            raise CudssError(
                f"planning: {readable(self.peak_bytes)} in an order that should leave "
                f"{self.order.nonzeros:.2g} nonzeros"
            )

    def factor(self, shift: float) -> float:
        """Factor A + delta I, delta = shift ||A||_max or, where need be, a hundred times that.

        Returns
        -------
        float
            delta.

        Raises
        ------
        CudssError
            If no solution is right, or an order that was given leaves far more than predicted.
        """
        scale = self._A.largest()
        for kind, times in ATTEMPTS[self.kind]:
            if kind != self.kind:
                self.kind = kind
                self._plan()
            delta = times * shift * scale
            self.backward_error, reason = self._attempt(delta)
            nonzeros = self.fill * self._n
            if self.order is not None and nonzeros > MOST_FILL * self.order.nonzeros:
                raise CudssError(
                    f"{nonzeros:.2g} nonzeros in an order that should leave "
                    f"{self.order.nonzeros:.2g}"
                )
            if self.backward_error <= BACKWARD_ERROR:
                return delta
            note(f"cuDSS, {kind}, delta = {delta:.1e}: {reason}")
        raise CudssError(f"no factors that solve: {reason}")

    def _attempt(self, delta: float) -> tuple[float, str]:
        """Factor, solve once: the backward error, or infinity, and what to say of it."""
        cp, A = cupy(), self._A
        self._values[self._on_diagonal] = A.values[self._on_diagonal] + delta
        b = Normals(np.random.RandomState(0)).standard_normal((self._n, 1))
        try:
            with _lock, _our_errors("factoring"):
                self._solver.factorization_config.pivot_eps = PIVOT_EPSILON
                info = self._solver.factorize()
                self.fill = float(info.lu_nnz) / self._n
                status = int(info.info)
            if status != 0:
                return float("inf"), f"its factorisation stopped with info={status}"
            x = self.solve(b)
        except CudssError as error:
            return float("inf"), str(error)
        missed = abs(A.multiply(x) + delta * x - b).max()
        sizes = Csr(abs(A.values), A.columns, A.first, A.shape)
        norm = sizes.multiply(cp.ones((self._n, 1))).max()
        missed = float(missed / (norm * abs(x).max() + abs(b).max()))
        missed = missed if np.isfinite(missed) else float("inf")
        return missed, f"backward error {missed:.1e}"

    def solve(self, X: Any) -> Any:
        """(A + delta I)^-1 X for X (n, b), in Fortran order."""
        cp = cupy()
        solution = cp.empty(X.shape, dtype=X.dtype, order="F")
        for low in range(0, X.shape[1], WIDTH):
            part = X[:, low : low + WIDTH]
            width = part.shape[1]
            self._block[:, :width] = part  # the others are solved for, too, and left
            with _lock, _our_errors("solving"):
                solution[:, low : low + width] = self._solver.solve()[:, :width]
        return solution

    def free(self) -> None:
        """Give the device's memory back, to the driver."""
        if self._solver is None:
            return
        solver, self._solver = self._solver, None
        with _lock, self._A.values.device:
            solver.free()
            # cuDSS gives it back on this stream; the driver's pool can let go of what it has.
            cupy().cuda.get_current_stream().synchronize()
            memory = importlib.import_module("nvmath.internal.memory")
            memory.free_reserved_memory()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.free()


class _our_errors:  # noqa: N801  a context manager
    """Whatever nvmath or cuDSS raises, as a :class:`CudssError`, or a MemoryError if it is one."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        _prepare_thread()

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, Exception):
            said = f"{self._doing}: {type(error).__name__}: {error}"
            # cuDSS's own errors are plain Exceptions.
            if is_out_of_memory(error) or says_out_of_memory(error):
                raise MemoryError(f"cuDSS, {said}") from error
            raise CudssError(said) from error


def _prepare_thread() -> None:
    """Give this thread what nvmath-python 1.0 makes for the importing thread alone.

    Without it, every other thread fails to read sizes and results (an AttributeError).
    """
    for part in ("cudss_config_ifc", "cudss_data_ifc"):
        of_thread = getattr(sys.modules.get(f"nvmath.sparse._internal.{part}"), "_tls", None)
        if of_thread is not None and not hasattr(of_thread, "size_written"):
            of_thread.size_written = np.empty((1,), np.uint64)


def _make_reproducible(solver: Any) -> None:
    """Have the same input give the same bits, which DirectSolver has no property for."""
    bindings = importlib.import_module("nvmath.bindings.cudss")
    mode = bindings.ConfigParam.DETERMINISTIC_MODE
    on = np.ones(1, dtype=bindings.get_config_param_dtype(mode))
    try:
        bindings.config_set(solver.config_ptr, mode, on.ctypes.data, on.nbytes)
    except bindings.cuDSSError as error:
        note(f"cuDSS's results may differ in the last bits from one time to the next: {error}")


def _order_of(solver: Any, plan: Any) -> Order | None:
    """The order that was planned, if rows and columns have one and int32 holds it."""
    rows = plan.row_permutation.copy()
    if rows.dtype != np.int32 or not np.array_equal(rows, plan.col_permutation):
        return None
    bindings = importlib.import_module("nvmath.bindings.cudss")
    written = np.zeros(1, np.uint64)
    for levels in range(1, MOST_LEVELS):
        tree = np.empty(2**levels - 1, np.int32)
        try:
            bindings.data_get(
                solver.handle,
                solver.data_ptr,
                bindings.DataParam.ND_PARTITION_TREE,
                tree.ctypes.data,
                tree.nbytes,
                written.ctypes.data,
            )
        except bindings.cuDSSError:  # another size
            continue
        return Order(rows, tree)
    return None


def _give_order(solver: Any, order: Order) -> None:
    """Have it planned by this order, which the caller keeps while it is."""
    bindings = importlib.import_module("nvmath.bindings.cudss")
    solver.plan_config.nd_min_levels = order.levels
    for name, part in (("USER_PERM", order.permutation), ("USER_ND_PARTITION_TREE", order.tree)):
        what = getattr(bindings.DataParam, name)
        bindings.data_set(solver.handle, solver.data_ptr, what, part.ctypes.data, part.nbytes)


@functools.cache
def _threading_library() -> str | None:
    """Path of cuDSS's threading layer, if the wheel that brings it is installed."""
    for distribution in ("nvidia-cudss-cu13", "nvidia-cudss-cu12"):
        try:
            files = importlib.metadata.files(distribution) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name in THREADING:
                return str(file.locate())
    note("cuDSS orders with one thread: its threading layer was not found")
    return None
