"""Normally distributed random numbers on the GPU, by our own kernel: no library more to load."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lle_gpu.cuda import cupy, kernel, register
from lle_gpu.cuda.geometry import thread_per_item

__all__ = ["Normals"]

SOURCE = "normals.cu"
register(SOURCE, ["normals"])


class Normals:
    """A stream of random numbers, the same on every device.

    Parameters
    ----------
    state : RandomState
        NumPy's; one number is drawn from it, the seed.
    """

    def __init__(self, state: np.random.RandomState) -> None:
        self._seed = np.uint64(state.randint(2**32, dtype=np.uint64))
        self._drawn = 0

    def standard_normal(self, shape: tuple[int, ...]) -> Any:
        """The next ones, an array of float64."""
        x = cupy().empty(shape, dtype=np.float64)
        size = math.prod(shape)
        pairs = -(-size // 2)
        arguments = x, np.int64(size), self._seed, np.uint64(self._drawn)
        kernel(SOURCE, "normals").launch(thread_per_item(pairs), *arguments)
        self._drawn += pairs
        return x
