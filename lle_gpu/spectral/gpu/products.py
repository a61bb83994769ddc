"""Products with M = F^T F on the GPU, and polynomials in M: what a filter lives on.

The twin of :mod:`lle_gpu.spectral.cpu.products`, by the same rule: M X = F^T (F X) where F is
square, M itself where it has fewer nonzeros. One step of a Chebyshev recurrence is one kernel with
M, two with F. On few points they take less time than launching them does, so that a run of steps
is captured as a CUDA graph, once for a block's width, and launched as one. Which step of the
recurrence it is, and with which coefficients, the kernels look up on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.constraints import Constraints
from lle_gpu.cuda import REALS, cupy, kernel, register
from lle_gpu.cuda.geometry import thread_per_entry
from lle_gpu.progress import note
from lle_gpu.spectral.gpu.sparse import SOURCE, Csr, Rows

__all__ = ["GRAPH_STEPS", "Products", "SquareProducts"]

Float = NDArray[np.float64]
# Steps in a graph: even, so that the two blocks of the recurrence have changed places twice each.
GRAPH_STEPS = 32
register(SOURCE, [*(f"chebyshev_step<{T}>" for T in REALS.values()), "count_steps"])


@dataclass
class _Workspace:
    """What the steps of a recurrence work on, always the same memory: graphs hold its addresses.

    ``blocks`` are Y_j and Y_{j-1} in turn, ``between`` is F Y, ``graph`` a captured run of
    GRAPH_STEPS steps or None.
    """

    blocks: tuple[Any, Any]
    between: Any
    coefficients: Any
    done: Any
    graph: Any = None


class Products:
    """X -> M X, X (n, b) CuPy's, in C order or copied to it.

    Parameters
    ----------
    F : Rows
    M : Csr, optional
        F^T F. It is used if it has fewer nonzeros than F and F^T, and has to be given if F is not
        square.
    n_jobs : int or None
        Not used.

    Attributes
    ----------
    n : int
    nonzeros : int
        Multiplications for a product with one column.
    columns : int
        Columns multiplied so far.
    description : str
    """

    def __init__(self, F: Rows, M: Csr | None = None, n_jobs: int | None = None) -> None:
        if M is None and F.r != 1:
            raise ValueError(f"F has r={F.r} rows a point: products need M")
        self.n = F.n
        self.columns = 0
        if M is not None and (M.nnz < 2 * F.nnz or F.r != 1):
            self.description, self._F, self._last = "M", None, M
        else:
            self.description, self._F, self._last = "F and F^T", F, F.transposed()
        self.nonzeros = self._last.nnz + (self._F.nnz if self._F is not None else 0)
        self._workspace: _Workspace | None = None
        # Kernels are compiled here, and not where the time of a product is taken.
        self.recur(cupy().zeros((self.n, 1)), np.zeros((1, 3)))
        self.multiply(cupy().zeros((self.n, 1)))
        self.columns = 0

    def __enter__(self) -> Products:
        return self

    def __exit__(self, *_: object) -> None:
        self._workspace = None

    def multiply(self, X: Any) -> Any:
        """M X for X (n, b)."""
        self.columns += X.shape[1]
        return self._last.multiply(X if self._F is None else self._F.multiply(X))

    def recur(self, X: Any, coefficients: Float) -> Any:
        """The last Y_j of a three-term recurrence in M.

        Parameters
        ----------
        X : array of shape (n, b)
            Y_0.
        coefficients : ndarray of shape (p, 3)
            alpha, beta, gamma of Y_j = alpha M Y_{j-1} + beta Y_{j-1} + gamma Y_{j-2}; the first
            gamma is 0.

        Returns
        -------
        array of shape (n, b)
        """
        steps = len(coefficients)
        self.columns += steps * X.shape[1]
        work = self._prepared(X, steps)
        work.blocks[0][...] = X
        work.coefficients[: 3 * steps] = cupy().asarray(np.ascontiguousarray(coefficients).ravel())
        work.done.fill(0)
        runs, rest = divmod(steps, GRAPH_STEPS)
        if runs and work.graph is None:
            work.graph = _captured(lambda: self._launch(work, GRAPH_STEPS, count=True))
        for _ in range(runs):
            if work.graph is not None:
                work.graph.launch()
            else:
                self._launch(work, GRAPH_STEPS, count=True)
        self._launch(work, rest, count=False)
        return work.blocks[steps % 2].copy()

    def _prepared(self, X: Any, steps: int) -> _Workspace:
        """Memory for blocks like X and so many steps; the last one's if it will do."""
        cp, work = cupy(), self._workspace
        alike = work is not None and (work.blocks[0].shape, work.blocks[0].dtype) == (
            X.shape,
            X.dtype,
        )
        if work is None or not alike or work.coefficients.size < 3 * steps:
            self._workspace = None  # before the new one is made
            blocks = (cp.empty(X.shape, dtype=X.dtype), cp.empty(X.shape, dtype=X.dtype))
            between = None if self._F is None else cp.empty(X.shape, dtype=X.dtype)
            capacity = 3 << max(steps - 1, 1023).bit_length()
            work = self._workspace = _Workspace(
                blocks, between, cp.empty(capacity), cp.zeros(1, dtype=np.int64)
            )
        return work

    def _launch(self, work: _Workspace, steps: int, *, count: bool) -> None:
        """Launch so many steps, and count them on the device; nothing is allocated."""
        n, b = work.blocks[0].shape
        A = self._last
        n_long = int(A.long_rows.size)
        geometry = thread_per_entry(n, b, first_blocks=n_long)
        step = kernel(SOURCE, f"chebyshev_step<{REALS[work.blocks[0].dtype.name]}>")
        for j in range(steps):
            Y, Z = work.blocks[j % 2], work.blocks[(j + 1) % 2]
            X = Y
            if self._F is not None:
                self._F.multiply_into(Y, work.between)
                X = work.between
            sizes = np.int32(n), np.int32(b)
            counted = work.coefficients, work.done, np.int32(j)
            step.launch(geometry, *A.arguments, X, Y, Z, *sizes, *counted)
        if count:
            kernel(SOURCE, "count_steps")(1, 1, (work.done, np.int32(steps)))


class SquareProducts:
    """B X and B^T X for a square B, in the precision of X, with something done to them at once.

    Parameters
    ----------
    B : Rows
        One row a point.
    n_jobs : int or None
        Not used.

    Attributes
    ----------
    n : int
    nonzeros : int
        Of B.
    work : int
        Multiplications done so far, those in single precision counted half.
    """

    def __init__(self, B: Rows, n_jobs: int | None = None) -> None:
        self.n, self.nonzeros, self.work = B.n, B.nnz, 0
        single = Rows(Constraints(B.index, B.rows.astype(np.float32)))
        self._factors = {"float32": (single, single.transposed()), "float64": (B, B.transposed())}

    def __enter__(self) -> SquareProducts:
        return self

    def __exit__(self, *_: object) -> None:
        self._factors = {}

    def multiply(self, X: Any, then: Callable[[Any, Any], None]) -> None:
        """Give ``then`` all rows and B X, X (n, b)."""
        self._multiply(0, X, then)

    def multiply_transposed(self, X: Any, then: Callable[[Any, Any], None]) -> None:
        """The same with B^T."""
        self._multiply(1, X, then)

    def _multiply(self, which: int, X: Any, then: Callable[[Any, Any], None]) -> None:
        self.work += self.nonzeros * X.shape[1] * X.dtype.itemsize // 8
        then(slice(None), self._factors[X.dtype.name][which].multiply(X))


def _captured(launch: Any) -> Any:
    """The kernels that ``launch`` launches as a CUDA graph, or None where that cannot be done."""
    cp = cupy()
    if not hasattr(cp.cuda.Stream, "begin_capture"):
        return None
    kernel(SOURCE, "count_steps")  # compiled beforehand: nothing else may happen in between
    stream = cp.cuda.Stream(non_blocking=True)
    try:
        with stream:
            stream.begin_capture()
            try:
                launch()
            finally:
                graph = stream.end_capture()
    except RuntimeError as error:  # CuPy's CUDARuntimeError, or CUDADriverError of a launch
        note(f"the steps of the filter are launched one by one: no CUDA graph ({error})")
        return None
    return graph
