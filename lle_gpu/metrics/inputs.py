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


def as_named_points(array: Any, name: str, *, least: int = 1) -> Any:
    """As :func:`lle_gpu.arrays.as_points`, on the host, with the array's name in errors.

    Raises
    ------
    ValueError, TypeError
    """
    try:
        points = as_points(array, estimator=METRICS, least=least)
    except ValueError as error:
        raise ValueError(_of(name, error)) from error
    except TypeError as error:
        raise TypeError(_of(name, error)) from error
    return points if issparse(points) else to_host(points)


def as_values(array: Any, name: str) -> NDArray[np.float64]:
    """A dense float64 copy (n, q), of which squares can be formed.

    Raises
    ------
    ValueError, TypeError
    """
    points = as_named_points(array, name)
    if issparse(points):
        points = points.toarray()
    try:
        check_range(points)
    except ValueError as error:
        raise ValueError(_of(name, error)) from error
    return points.astype(np.float64)


def _of(name: str, error: Exception) -> str:
    """What the error says of X, said of the array of that name.

    Without scikit-learn's advice about estimators that take missing values.
    """
    said = re.sub(r"\bX\b", name, str(error).partition(f"\n{METRICS} does not accept")[0])
    return said if re.search(rf"\b{name}\b", said) else f"{name}: {said}"
