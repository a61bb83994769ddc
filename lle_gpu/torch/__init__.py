"""Locally linear structure inside deep networks (extra ``[torch]``).

Functions
    :func:`knn`, :func:`barycentric_weights`, :func:`reconstruct`, :func:`locality_loss`,
    :func:`propagate_labels`, :func:`evaluate`.

Estimators
    :class:`LocalContextClassifier`.
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
from lle_gpu.torch.propagation import propagate_labels
from lle_gpu.torch.recipe import LocalContextClassifier, evaluate
from lle_gpu.torch.weights import barycentric_weights

__all__ = [
    "LocalContextClassifier",
    "barycentric_weights",
    "evaluate",
    "knn",
    "locality_loss",
    "propagate_labels",
    "reconstruct",
]
