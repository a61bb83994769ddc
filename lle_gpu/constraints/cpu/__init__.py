"""The four methods on the CPU: batched NumPy and LAPACK over chunks of points, on all cores.

Each function has the signature ``(X, index, n_components, *, options..., n_jobs) -> Constraints``.
"""

from __future__ import annotations

from lle_gpu.constraints.cpu.hessian import hessian
from lle_gpu.constraints.cpu.ltsa import ltsa
from lle_gpu.constraints.cpu.modified import modified
from lle_gpu.constraints.cpu.standard import barycentric_weights, standard, weighted_means

__all__ = ["barycentric_weights", "hessian", "ltsa", "modified", "standard", "weighted_means"]
