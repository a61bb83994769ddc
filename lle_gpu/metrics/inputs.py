"""What is given to the metrics, checked, as arrays on the host."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from lle_gpu.arrays import as_points, check_range, to_host

__all__ = ["as_named_points", "as_values"]

METRICS = "lle_gpu.metrics"


def as_named_points(array: Any, name: str, *, least: int = 1, flat: bool = False) -> Any:
    """As :func:`lle_gpu.arrays.as_points`, on the host, with the array's name in errors.

    With ``flat``, what has shape (n,) is one column.

    Raises
    ------
    ValueError, TypeError
    """
    try:
        points = as_points(_as_column(array) if flat else array, estimator=METRICS, least=least)
    except ValueError as error:
        raise ValueError(_of(name, error)) from error
    except TypeError as error:
        raise TypeError(_of(name, error)) from error
    return points if issparse(points) else to_host(points)


def as_values(array: Any, name: str) -> NDArray[np.float64]:
    """A dense float64 copy (n, q), of (n, q) or (n,), of which squares can be formed.

    Raises
    ------
    ValueError, TypeError
    """
    points = as_named_points(array, name, flat=True)
    if issparse(points):
        points = points.toarray()
    try:
        check_range(points)
    except ValueError as error:
        raise ValueError(_of(name, error)) from error
    return points.astype(np.float64)


def _as_column(array: Any) -> Any:
    """What has shape (n,) as (n, 1), a series as the frame of it; anything else as it is."""
    if hasattr(array, "to_frame"):
        return array.to_frame()
    if isinstance(array, list | tuple) and array and np.ndim(array[0]) == 0:
        array = np.asarray(array, dtype=object)  # integers stay as they are, to be checked
    return array.reshape(-1, 1) if getattr(array, "ndim", 2) == 1 else array


def _of(name: str, error: Exception) -> str:
    """What the error says of X, said of the array of that name.

    Without scikit-learn's advice about estimators that take missing values.
    """
    said = re.sub(r"\bX\b", name, str(error).partition(f"\n{METRICS} does not accept")[0])
    return said if re.search(rf"\b{name}\b", said) else f"{name}: {said}"
