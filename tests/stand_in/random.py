"""``cupy.random``, as far as lle_gpu uses it; the numbers are NumPy's."""

from __future__ import annotations

import numpy as np

from .array import no_capture, wrap

__all__ = ["Generator", "RandomState", "default_rng"]


class RandomState:
    """CuPy's legacy generator."""

    def __init__(self, seed=None, method=100):
        self._numpys = np.random.RandomState(seed)

    def standard_normal(self, size=None, dtype=float):
        no_capture("random numbers")
        return wrap(np.asarray(self._numpys.standard_normal(size), dtype))

    def random_sample(self, size=None, dtype=float):
        no_capture("random numbers")
        return wrap(np.asarray(self._numpys.random_sample(size), dtype))


class Generator:
    """CuPy's generator."""

    def __init__(self, bit_generator):
        self._numpys = np.random.default_rng(bit_generator)

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        no_capture("random numbers")
        return wrap(np.asarray(self._numpys.standard_normal(size, dtype)))

    def random(self, size=None, dtype=np.float64, out=None):
        no_capture("random numbers")
        return wrap(np.asarray(self._numpys.random(size, dtype)))


def default_rng(seed=None):
    return Generator(seed)
