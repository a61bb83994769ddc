"""NumPy's arrays and CuPy's, told apart without importing CuPy."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["array_module", "is_device_array", "is_device_sparse", "to_host"]


def array_module(array: Any) -> Any:
    """The module whose functions work on ``array``: NumPy or CuPy."""
    return sys.modules[type(array).__module__.partition(".")[0]]


def is_device_array(X: Any) -> bool:
    """Whether X is a CuPy array."""
    return type(X).__module__.partition(".")[0] == "cupy" and hasattr(X, "dtype")


def is_device_sparse(X: Any) -> bool:
    """Whether X is one of CuPy's sparse matrices."""
    return type(X).__module__.startswith("cupyx.scipy.sparse")


def to_host(array: Any) -> Any:
    """A CuPy array's or sparse matrix's numbers as NumPy's or SciPy's; anything else as it is."""
    return array.get() if is_device_array(array) or is_device_sparse(array) else array
