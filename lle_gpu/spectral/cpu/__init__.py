"""The bottom of F's spectrum on the CPU: SciPy's sparse products and SuperLU."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from lle_gpu.constraints.cpu.assemble import gram, gram_bytes, stack
from lle_gpu.memory import DISSECTION, available_memory
from lle_gpu.spectral import refinement, solve
from lle_gpu.spectral.chebyshev import BASIS_BYTES
from lle_gpu.spectral.cpu.certify import norm_estimate, normal_product, rayleigh_ritz
from lle_gpu.spectral.cpu.dense import dense_bottom_vectors
from lle_gpu.spectral.cpu.ordering import Elimination
from lle_gpu.spectral.cpu.pardiso import find_mkl
from lle_gpu.spectral.cpu.products import Products, SquareProducts
from lle_gpu.spectral.cpu.shift_invert import SquareInverse, SymmetricInverse, analyse
from lle_gpu.spectral.toolbox import Inverse, Speeds, Toolbox

__all__ = ["TOOLS", "bottom_vectors", "refine"]

# Arithmetic of a factorisation in a second, and of its solves; seconds of a product's
# multiplication. By SuperLU, and by MKL on two threads.
SPEEDS = Speeds(factor=6e9, solve=2.5e9, product=3e-10, cheap=2.0)
MKL_SPEEDS = replace(SPEEDS, factor=2.5e10, solve=7e9)


def _analysis_bytes(nonzeros: int, n: int, square: bool) -> int:
    return DISSECTION * nonzeros


def _analyse(A: csr_array, square: bool) -> Elimination:
    return analyse(A, symmetric=not square)


def _inverse(A: csr_array, elimination: Elimination, square: bool, n_jobs: int | None) -> Inverse:
    """From the factors of B or of M."""
    make = SquareInverse if square else SymmetricInverse
    return make(A, elimination, n_jobs)


def _products(F: csr_array, M: csr_array | None, n_jobs: int | None) -> Products:
    return Products(F, M, n_jobs=n_jobs)


def _square_products(F: csr_array, n_jobs: int | None) -> SquareProducts:
    return SquareProducts(F, n_jobs=n_jobs)


def _random(state: Any) -> Any:
    """NumPy's RandomState has what is needed."""
    return state


TOOLS = Toolbox(
    stack=stack,
    gram=gram,
    extra_bytes=lambda F: F.indices.nbytes,
    norm_estimate=norm_estimate,
    rayleigh_ritz=rayleigh_ritz,
    normal_product=normal_product,
    products=_products,
    square_products=_square_products,
    analyse=_analyse,
    analysis_bytes=_analysis_bytes,
    inverse=_inverse,
    dense=dense_bottom_vectors,
    normals=_random,
    asarray=np.asarray,
    speeds=lambda: SPEEDS if find_mkl() is None else MKL_SPEEDS,
    basis_bytes=lambda: BASIS_BYTES,
    free_for_factors=available_memory,
    free_for_filter=available_memory,
    gram_bytes=gram_bytes,
)

bottom_vectors = functools.partial(solve.bottom_vectors, TOOLS)
refine = functools.partial(refinement.refine, TOOLS)
