"""What one device brings to the bottom of the spectrum, bound once; the rest is device-blind.

The arrays of length n are NumPy's or CuPy's, and whatever is small (values, angles, the projected
problem) is NumPy's. F is a sparse matrix of the device's own kind with a ``shape`` and an ``nnz``;
so is M.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Analysis", "FillEstimate", "Inverse", "Speeds", "Toolbox"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class FillEstimate:
    """What a factorisation will take.

    Attributes
    ----------
    nonzeros : float
        Of L + U.
    bytes : float
        At the peak.
    flops : float
        Of the factorisation itself.
    seconds : float
        Of ordering, where that has still to be done and counts.
    """

    nonzeros: float
    bytes: float
    flops: float
    seconds: float = 0.0


class Analysis(Protocol):
    """How a matrix will be factored: what is known before any number is computed."""

    @property
    def estimate(self) -> FillEstimate:
        """What that will take."""


class Inverse(Protocol):
    """A = M^+ on the complement of the null vectors, for :func:`lle_gpu.spectral.lanczos.lanczos`.

    An inverse of a square F = B has ``null_vectors`` too, right null vectors (n, c) of B from c
    start vectors; an inverse of M = F^T F has a ``shift``, the size of its rounding.
    """

    description: str

    def deflate(self, null: Float) -> None:
        """Tell it the null vectors: ``null`` (n, c), orthonormal, the constant among them."""

    def apply(self, X: Float) -> Float:
        """X (n, b), orthogonal to the null vectors -> M^+ X (n, b)."""


@dataclass(frozen=True)
class Speeds:
    """The device's speed, as far as the choice of a solver needs it.

    Attributes
    ----------
    factor, solve : float
        Arithmetic of a factorisation in a second, and of the solves with its factors.
    product : float
        Seconds for each multiplication of a product with M, no more.
    cheap : float
        A predicted factorisation of so few seconds is not compared with anything.
    """

    factor: float
    solve: float
    product: float
    cheap: float


@dataclass(frozen=True)
class Toolbox:
    """One device's functions for F, its M and their inverses.

    Attributes
    ----------
    stack : callable
        Constraints -> F.
    gram : callable
        (Constraints, n_jobs) -> M = F^T F.
    extra_bytes : callable
        F -> what it holds beside the constraints.
    norm_estimate : callable
        F -> ||F||, from below.
    rayleigh_ritz : callable
        (F, V) -> (sigma ascending, vectors), the best within the span of V (n, p).
    normal_product : callable
        (F, V) -> F^T (F V).
    products : callable
        (F, M or None, n_jobs) -> the :class:`lle_gpu.spectral.chebyshev.Operator` M, a context.
    square_products : callable
        (square F, n_jobs) -> its :class:`lle_gpu.spectral.davidson.SquareProducts`, a context.
    analyse : callable
        (square F or M, square) -> :class:`Analysis`.
    analysis_bytes : callable
        (its nonzeros, n, square) -> bytes at the peak of that, beside the matrix.
    inverse : callable
        (square F or M, its analysis, square, n_jobs) -> :class:`Inverse`.
    dense : callable
        (F, ||F||, q) -> (vectors (n, q), next values).
    normals : callable
        RandomState -> what has a ``standard_normal(shape)``, an array of the device.
    asarray : callable
        A host array -> the device's.
    speeds : callable
        () -> :class:`Speeds`.
    basis_bytes : callable
        () -> what the basis of a Chebyshev filter may take.
    free_for_factors, free_for_filter : callable
        () -> bytes free where the factors are, and where the filter works.
    gram_bytes : callable
        (Constraints, nonzeros of M) -> bytes at the peak of M's assembly.
    products_need_matrix : bool
        Whether ``products`` can do without M only if F is square.
    """

    stack: Callable[..., Any]
    gram: Callable[..., Any]
    extra_bytes: Callable[[Any], int]
    norm_estimate: Callable[[Any], float]
    rayleigh_ritz: Callable[[Any, Float], tuple[Float, Float]]
    normal_product: Callable[[Any, Float], Float]
    products: Callable[..., Any]
    square_products: Callable[..., Any]
    analyse: Callable[[Any, bool], Analysis]
    analysis_bytes: Callable[[int, int, bool], int]
    inverse: Callable[[Any, Any, bool, int | None], Any]
    dense: Callable[[Any, float, int], tuple[Float, Float]]
    normals: Callable[[Any], Any]
    asarray: Callable[[Any], Any]
    speeds: Callable[[], Speeds]
    basis_bytes: Callable[[], int]
    free_for_factors: Callable[[], int]
    free_for_filter: Callable[[], int]
    gram_bytes: Callable[[Any, int], int]
    products_need_matrix: bool = False
