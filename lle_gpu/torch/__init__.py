"""Locally linear structure inside deep networks (extra ``[torch]``).

Functions
    :func:`knn`, :func:`barycentric_weights`, :func:`reconstruct`, :func:`locality_loss`,
    :func:`propagate_labels`, :func:`evaluate`.
Layers
    :class:`BarycentricProjection`, :class:`LLEFeatures`, :class:`LocalityLoss`.
Estimators
    :class:`LocalContextClassifier`, :class:`ParametricLLE`.
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
from lle_gpu.torch.modules import BarycentricProjection, LLEFeatures, LocalityLoss
from lle_gpu.torch.neighbors import knn
from lle_gpu.torch.parametric import ParametricLLE
from lle_gpu.torch.propagation import propagate_labels
from lle_gpu.torch.recipe import LocalContextClassifier, evaluate
from lle_gpu.torch.sampling import NeighborhoodBatchSampler, local_neighbors
from lle_gpu.torch.weights import barycentric_weights

__all__ = [
    "BarycentricProjection",
    "LLEFeatures",
    "LocalContextClassifier",
    "LocalityLoss",
    "NeighborhoodBatchSampler",
    "ParametricLLE",
    "barycentric_weights",
    "evaluate",
    "knn",
    "local_neighbors",
    "locality_loss",
    "propagate_labels",
    "reconstruct",
]
