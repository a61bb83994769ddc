"""Locally linear structure inside deep networks (extra ``[torch]``).

Functions
    :func:`knn`, :func:`barycentric_weights`, :func:`reconstruct`, :func:`locality_loss`.
Embedding by a network
    :class:`ParametricLLE`.
Training on batches
    :class:`NeighborhoodBatchSampler`, :func:`local_neighbors`.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"lle_gpu.torch needs PyTorch ({error}): pip install 'lle-gpu[torch]', or as "
        "https://pytorch.org says"
    ) from error

from lle_gpu.torch.functional import locality_loss, reconstruct
from lle_gpu.torch.neighbors import knn
from lle_gpu.torch.parametric import ParametricLLE
from lle_gpu.torch.sampling import NeighborhoodBatchSampler, local_neighbors
from lle_gpu.torch.weights import barycentric_weights

__all__ = [
    "NeighborhoodBatchSampler",
    "ParametricLLE",
    "barycentric_weights",
    "knn",
    "local_neighbors",
    "locality_loss",
    "reconstruct",
]
