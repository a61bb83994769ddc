"""The four methods on the GPU: CUDA kernels, one launch for all points or for a chunk of them.

Each function has the signature ``(X, index, n_components, *, options..., n_jobs) -> Constraints``,
takes CuPy arrays and gives CuPy arrays.
"""

from __future__ import annotations

from lle_gpu.constraints.gpu.hessian import hessian
from lle_gpu.constraints.gpu.ltsa import ltsa
from lle_gpu.constraints.gpu.modified import modified
from lle_gpu.constraints.gpu.standard import barycentric_weights, standard, weighted_means

__all__ = ["barycentric_weights", "hessian", "ltsa", "modified", "standard", "weighted_means"]
