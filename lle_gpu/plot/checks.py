"""What pictures are made of, checked: embeddings, one thing for each point, images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lle_gpu.kinds import to_host, unwrap

__all__ = ["as_embedding", "as_images", "one_each"]

Float = NDArray[np.float64]


def as_embedding(Y: Any, name: str) -> Float:
    """Make an array (n, q) of an embedding of any kind that a fit gives back."""
    array = np.asarray(to_host(unwrap(Y)), dtype=float)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}, but an embedding is (n, n_components)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; leave those points out")
    return array


def one_each(values: Any, n: int, name: str) -> NDArray[Any]:
    """Make an array (n,) of what there is one of for each point."""
    array = np.asarray(to_host(values))
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}, but must be one for each of {n} points")
    return array


def as_images(images: ArrayLike, n: int) -> Float:
    """Scale images (n, height, width) to [0, 1]; 0 where they are not finite."""
    array = np.asarray(to_host(images), dtype=float)
    if array.ndim != 3 or len(array) != n or 0 in array.shape:
        raise ValueError(
            f"images has shape {array.shape}, but must be (n, height, width) with n={n}"
        )
    known = np.isfinite(array)
    low, high = (float(array[known].min()), float(array[known].max())) if known.any() else (0, 0)
    return (np.where(known, array, low) - low) / ((high - low) or 1.0)
