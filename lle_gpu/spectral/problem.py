"""The problem of a fit: F, what is asked for, and what each way to answer it will cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from lle_gpu.constraints import Constraints
from lle_gpu.cuda.arrays import array_module, to_host
from lle_gpu.memory import FIXED, davidson_bytes, filter_bytes, iteration_bytes
from lle_gpu.neighbors.graph import ClosedClasses
from lle_gpu.spectral.chebyshev import predict_cost
from lle_gpu.spectral.choice import Cost
from lle_gpu.spectral.toolbox import Analysis, Toolbox

__all__ = ["LARGEST_BLOCK", "NULL_TOL", "RESIDUAL_TOL", "Problem"]

Float = NDArray[np.float64]
# sigma / ||F|| below which a vector counts as a null vector. True null vectors come out near 1e-15;
# curves of 10^4 points have true values down to 1e-12.
NULL_TOL = 1e-13
# ||F^T F v - sigma^2 v|| / ||F||^2 that a converged vector must not exceed.
RESIDUAL_TOL = 1e-10
# Vectors iterated at once, if as many are wanted: eigenvalues of this multiplicity come whole, and
# further copies are looked for (lle_gpu.spectral.multiplicity) where so many values are equal.
# Fewer would be faster, by a third for two components at n=100k.
LARGEST_BLOCK = 8
# Steps of the iteration on an inverse, for the choice.
STEPS = 8
# Products with one column that no filter has done without (MNIST, 5,000 points: 4,200).
FEWEST_PRODUCTS = 4000
# And that Davidson's method has not done without, products with B (MNIST, 5,000 points).
FEWEST_SQUARE_PRODUCTS = 3000
# Part of the time to beat that the prediction of a filter's cost may take.
WORTH_LOOKING = 0.1
# Rows of M whose nonzeros are counted to estimate them all.
COUNTED_ROWS = 256
# Seed of the start block when no random_state is given: the same input gives the same bits.
SEED = 0


@dataclass
class Problem:
    """F, what is asked for, and the costs of the ways to answer it.

    Attributes
    ----------
    tools : Toolbox
        Of the device that F is on.
    F : sparse matrix of shape (R, n)
    norm : float
        ||F||.
    q : int
        Vectors wanted, beside the constant.

    The others are as in :func:`lle_gpu.spectral.solve.bottom_vectors`.
    """

    tools: Toolbox
    F: Any
    norm: float
    constraints: Constraints
    square: bool
    classes: ClosedClasses
    q: int
    tol: float
    max_iter: int
    random_state: Any
    n_jobs: int | None
    memory_limit: int | None

    @property
    def n(self) -> int:
        """The number of points."""
        return int(self.F.shape[1])

    @property
    def null_value(self) -> float:
        """Sigma below which a vector counts as a null vector."""
        return NULL_TOL * self.norm

    @property
    def known_nullity(self) -> int:
        """How many null vectors there are at least, the constant included, by the graph alone."""
        return len(self.classes) if self.square else 1 + len(self.unheld)

    def is_null(self, next_value: float) -> bool:
        """Whether the first value left out is that of a null vector.

        Where more are known than are wanted it is, and may not have been found to the last digit.
        """
        return next_value <= self.null_value or self.known_nullity > self.q + 1

    def normals(self) -> Any:
        """Random numbers for the start block, the same each time."""
        state = SEED if self.random_state is None else self.random_state
        return self.tools.normals(check_random_state(state))

    @cached_property
    def unheld(self) -> NDArray[np.integer]:
        """Points in no constraint: nobody's neighbours, where a point is not in its own index set.

        Their unit vectors are null vectors of F.
        """
        points = self.classes.unreferenced
        if self.square or len(points) == 0:
            return points[:0]
        own = to_host(self.constraints.index[self.tools.asarray(points)])
        return points[(own != points[:, None]).all(axis=1)]

    def known_null_vectors(self) -> Float:
        """The constant, and null vectors of what is unheld: (n, c), c <= q + 1, orthonormal."""
        vectors = self.tools.asarray(np.full((self.n, 1), self.n**-0.5))
        if len(self.unheld) == 0:
            return vectors
        xp = array_module(vectors)
        units = np.arange(self.n)[:, None] == self.unheld[: self.q]
        vectors = xp.concatenate([vectors, self.tools.asarray(units.astype(float))], axis=1)
        return xp.linalg.qr(vectors)[0]

    @cached_property
    def matrix(self) -> Any:
        """What is factored: the square F = B as it is, or else M."""
        return self.F if self.square else self.tools.gram(self.constraints, self.n_jobs)

    @cached_property
    def analysis(self) -> Analysis:
        """How that will be factored, and what it will take."""
        return self.tools.analyse(self.matrix, self.square)

    def inverse(self) -> Any:
        """The factors. The matrix is not kept: at a million points M takes half a gigabyte.

        Nor is the analysis, so that all of it is given back with the inverse.
        """
        analysis = self.analysis
        matrix = self.__dict__.pop("matrix")
        del self.__dict__["analysis"]
        return self.tools.inverse(matrix, analysis, self.square, self.n_jobs)

    def products(self) -> Any:
        """M as an operator that only multiplies."""
        M = self.matrix if self.multiplies_matrix else None
        return self.tools.products(self.F, M, self.n_jobs)

    def drop_what_is_factored(self) -> None:
        """Give back what only a factorisation has a use for."""
        self.__dict__.pop("analysis", None)
        if not self.multiplies_matrix:
            self.__dict__.pop("matrix", None)

    @cached_property
    def matrix_nonzeros(self) -> int:
        """Nonzeros of what is factored; those of M are estimated, since forming it takes memory."""
        if self.square:
            return int(self.F.nnz)
        return _gram_nonzeros(to_host(self.constraints.index))

    @property
    def forming(self) -> int:
        """Bytes at the peak of M's assembly, M included."""
        return 0 if self.square else self.tools.gram_bytes(self.constraints, self.matrix_nonzeros)

    @cached_property
    def multiplies_matrix(self) -> bool:
        """Whether products are made with M and not with F and F^T.

        A square F is always sparser than its M. Otherwise the fewer nonzeros decide, if there is
        room to form M at all.
        """
        if self.square or self.tools.products_need_matrix:
            return not self.square
        room = self.memory_limit
        if room is None:
            room = self.allocated + self._free_for_filter()
        return self.matrix_nonzeros < 2 * self.F.nnz and self._held_with_matrix() <= room

    def cost_of_shift_invert(self) -> Cost:
        """By the predicted fill: arithmetic of the factorisation and of the iteration's solves.

        To predict it takes memory, too: M, and the graph's arrays while it is dissected. What is
        free is asked before, since these are counted.
        """
        matrix = 0 if self.square else 12 * self.matrix_nonzeros
        ordering = self.tools.analysis_bytes(self.matrix_nonzeros, self.n, self.square)
        looking = self.held + max(self.forming, matrix + ordering)
        words = "the order of elimination alone"
        free = self.tools.free_for_factors()
        cost = Cost(float("inf"), looking, words, self.allocated, free)
        if not cost.fits(self.memory_limit):
            return cost
        estimate, speeds = self.analysis.estimate, self.tools.speeds()
        width = min(self.q + 1, LARGEST_BLOCK)
        solves = 4 * STEPS * width * estimate.nonzeros
        seconds = estimate.seconds + estimate.flops / speeds.factor + solves / speeds.solve
        copies = 36 * self.matrix.nnz  # the matrix, permuted, and with its shift
        words = f"sparse LU with about {estimate.nonzeros / self.n:.0f} nonzeros a row"
        size = self.held + copies + estimate.bytes + iteration_bytes(self.n, self.q)
        return replace(cost, seconds=seconds, bytes=max(size, looking), words=words)

    def cost_of_davidson(self) -> Cost:
        """The least that it may take; infinite where it does not apply.

        It has to know all null vectors beforehand. Which polynomial there is and how many steps it
        takes, only trying tells.
        """
        if not self.square or len(self.classes) > 1:
            return Cost(float("inf"), 0, "")
        seconds = FEWEST_SQUARE_PRODUCTS * self.tools.speeds().product * self.F.nnz
        size, free = self.held_by_davidson, self._free_for_filter()
        return Cost(seconds, size, "Davidson's method", self.allocated, free)

    @property
    def held_by_davidson(self) -> int:
        """With the smallest basis that is of use: B and B^T in single precision, and vectors."""
        return self.held + 16 * int(self.F.nnz) + davidson_bytes(self.n, self.q)

    def cost_of_chebyshev(self, to_beat: float) -> Cost:
        """By a short run of it, unless it cannot take less than ``to_beat`` seconds anyway."""
        seconds = float("inf")
        if FEWEST_PRODUCTS * self.tools.speeds().product * self.product_nonzeros < to_beat:
            with self.products() as products:
                seconds = predict_cost(
                    products,
                    self.q,
                    random=self.tools.normals(check_random_state(SEED)),
                    within=WORTH_LOOKING * to_beat,
                    basis_bytes=self.basis_bytes,
                )
        size, free = self.held_by_filter, self._free_for_filter()
        return Cost(seconds, size, "Chebyshev filter", self.allocated, free)

    @property
    def allocated(self) -> int:
        """Bytes of the constraints and of what F holds beside them: no longer free."""
        arrays = self.constraints.index, self.constraints.rows
        return sum(array.nbytes for array in arrays) + self.tools.extra_bytes(self.F)

    def _free_for_filter(self) -> int:
        """M's bytes among them, if it was formed to be looked at: it is dropped, or counted."""
        formed = 0 if self.square or "matrix" not in self.__dict__ else 12 * self.matrix.nnz
        return self.tools.free_for_filter() + int(formed)

    @property
    def held(self) -> int:
        """Bytes of these, and of what is small, which each stage allocates anew."""
        return FIXED + self.allocated

    @property
    def product_nonzeros(self) -> int:
        """Nonzeros that a product runs through, as the device's products have them."""
        return self.matrix_nonzeros if self.multiplies_matrix else 2 * int(self.F.nnz)

    @property
    def held_by_filter(self) -> int:
        """What it takes with the smallest basis that is of use: M or F^T, and blocks of vectors."""
        if self.multiplies_matrix:
            return self._held_with_matrix()
        R, n = self.F.shape
        return self.held + 12 * int(self.F.nnz) + filter_bytes(n, self.q, R)

    def _held_with_matrix(self) -> int:
        """First M's assembly, then M and the filter's vectors."""
        vectors = filter_bytes(self.n, self.q)
        return self.held + max(self.forming, 12 * self.matrix_nonzeros + vectors)

    @property
    def basis_bytes(self) -> int:
        """What the filter's basis may take beyond that."""
        return self._spare_bytes(self.held_by_filter)

    @property
    def davidson_basis_bytes(self) -> int:
        """What the basis of Davidson's method may take, the smallest included."""
        smallest = davidson_bytes(self.n, self.q, basis_alone=True)
        return smallest + self._spare_bytes(self.held_by_davidson)

    def _spare_bytes(self, held: int) -> int:
        most = self.tools.basis_bytes()
        if self.memory_limit is None:
            return most
        return min(most, max(0, self.memory_limit - held))


def _gram_nonzeros(index: NDArray[Any]) -> int:
    """Nonzeros of M, about, from the index sets (n, m): those of some of its rows, counted.

    Row j has the points that any index set with j in it ties j to.
    """
    n = len(index)
    rows = np.random.default_rng(SEED).choice(n, min(n, COUNTED_ROWS), replace=False)
    counted = np.zeros(n, dtype=bool)
    counted[rows] = True
    i, place = np.nonzero(counted[index])
    entries = index[i, place].astype(np.int64)[:, None] * n + index[i]
    return len(np.unique(entries)) * n // len(rows)
