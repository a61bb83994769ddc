"""The bottom of F's spectrum on the CPU: SciPy's sparse products and SuperLU."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from lle_gpu.constraints.cpu.assemble import gram, gram_bytes, stack
from lle_gpu.memory import available_memory
from lle_gpu.spectral import solve
from lle_gpu.spectral.chebyshev import BASIS_BYTES
from lle_gpu.spectral.cpu.certify import norm_estimate, normal_product, rayleigh_ritz
from lle_gpu.spectral.cpu.dense import dense_bottom_vectors
from lle_gpu.spectral.cpu.pardiso import find_mkl
from lle_gpu.spectral.cpu.products import Products, SquareProducts
from lle_gpu.spectral.cpu.shift_invert import analyse, analysis_bytes, inverse
from lle_gpu.spectral.toolbox import Speeds, Toolbox

__all__ = ["TOOLS", "bottom_vectors"]

# Arithmetic of a factorisation in a second, and of its solves; seconds of a product's
# multiplication. By SuperLU, and by MKL on two threads.
SPEEDS = Speeds(factor=6e9, solve=2.5e9, product=3e-10, cheap=2.0)
MKL_SPEEDS = replace(SPEEDS, factor=2.5e10, solve=7e9)


TOOLS = Toolbox(
    stack=stack,
    gram=gram,
    extra_bytes=lambda F: F.indices.nbytes,
    norm_estimate=norm_estimate,
    rayleigh_ritz=rayleigh_ritz,
    normal_product=normal_product,
    products=Products,
    square_products=SquareProducts,
    analyse=analyse,
    analysis_bytes=analysis_bytes,
    inverse=inverse,
    dense=dense_bottom_vectors,
    normals=lambda state: state,  # which has what is needed
    asarray=np.asarray,
    speeds=lambda: SPEEDS if find_mkl() is None else MKL_SPEEDS,
    basis_bytes=lambda: BASIS_BYTES,
    free_for_factors=available_memory,
    free_for_filter=available_memory,
    gram_bytes=gram_bytes,
)

bottom_vectors = functools.partial(solve.bottom_vectors, TOOLS)
