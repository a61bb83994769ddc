"""The bottom of F's spectrum on the GPU: our own products, cuDSS or SuperLU for inverses.

The twin of :mod:`lle_gpu.spectral.cpu`: the same choice, fallbacks and certificate, with this
device's functions. Blocks of vectors stay on the device, but for what a host's factors solve.
"""

from __future__ import annotations

import functools
from typing import Any

from lle_gpu.cuda import cupy
from lle_gpu.cuda.memory import free_bytes
from lle_gpu.memory import available_memory
from lle_gpu.spectral import solve
from lle_gpu.spectral.gpu import cudss
from lle_gpu.spectral.gpu.assemble import gram, gram_bytes, stack
from lle_gpu.spectral.gpu.certify import norm_estimate, normal_product, rayleigh_ritz
from lle_gpu.spectral.gpu.dense import dense_bottom_vectors
from lle_gpu.spectral.gpu.normals import Normals
from lle_gpu.spectral.gpu.products import Products, SquareProducts
from lle_gpu.spectral.gpu.shift_invert import analyse, analysis_bytes, inverse
from lle_gpu.spectral.gpu.sparse import Rows
from lle_gpu.spectral.toolbox import Speeds, Toolbox

__all__ = ["TOOLS", "bottom_vectors"]

# Estimates, not measured: a product's multiplication moves about 10 bytes, at 3 TB/s; cuDSS is
# taken to factor at 5 and to solve at 1 percent of a large GPU's peak. SuperLU is the CPU's.
PRODUCT_SECONDS = 3e-12
CUDSS_SPEEDS = Speeds(factor=1e12, solve=1e11, product=PRODUCT_SECONDS, cheap=0.1)
HOST_SPEEDS = Speeds(factor=6e9, solve=2.5e9, product=PRODUCT_SECONDS, cheap=0.1)
# The basis of a filter takes at most this part of the free memory.
BASIS_FRACTION = 0.25


def _asarray(array: Any) -> Any:
    return cupy().asarray(array)


def _extra_bytes(F: Rows) -> int:
    """The transposed index: int64 for each entry."""
    return 8 * int(F.index.size)


def _speeds() -> Speeds:
    return HOST_SPEEDS if cudss.missing() else CUDSS_SPEEDS


def _free_for_factors() -> int:
    return available_memory() if cudss.missing() else free_bytes()


def _basis_bytes() -> int:
    return int(BASIS_FRACTION * free_bytes())


TOOLS = Toolbox(
    stack=stack,
    gram=gram,
    extra_bytes=_extra_bytes,
    norm_estimate=norm_estimate,
    rayleigh_ritz=rayleigh_ritz,
    normal_product=normal_product,
    products=Products,
    square_products=SquareProducts,
    analyse=analyse,
    analysis_bytes=analysis_bytes,
    inverse=inverse,
    dense=dense_bottom_vectors,
    normals=Normals,
    asarray=_asarray,
    speeds=_speeds,
    basis_bytes=_basis_bytes,
    free_for_factors=_free_for_factors,
    free_for_filter=free_bytes,
    gram_bytes=gram_bytes,
    products_need_matrix=True,
)

bottom_vectors = functools.partial(solve.bottom_vectors, TOOLS)
