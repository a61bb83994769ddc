"""Labels as classes: their names, in an order that means something, and which points have none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.kinds import which_missing
from lle_gpu.plot.checks import one_each

__all__ = ["classes_of"]


def classes_of(labels: Any, n: int) -> tuple[list[str], NDArray[np.intp]]:
    """Names of the classes in their order, and each point's class; -1 where it has none.

    A pandas categorical has its own order, and all of its categories, so that a part of the points
    has the colours of the whole. Others are sorted: as numbers, where all are, also as text, or by
    the numbers in the text.
    """
    categorical = getattr(labels, "cat", labels)  # where a pandas Series has its categories
    if hasattr(categorical, "categories") and hasattr(categorical, "codes"):
        codes = one_each(categorical.codes, n, "labels")
        return _names(np.asarray(categorical.categories)), codes.astype(np.intp)
    array = one_each(labels, n, "labels")
    if array.dtype.kind == "U" and not isinstance(labels, np.ndarray):
        array = np.asarray(labels, dtype=object)  # a list's NaN has become text
    known = ~which_missing(array)
    found = array[known]
    if found.dtype == object:  # mixed types have no order
        found = found.astype(str)
    unique, place = np.unique(found, return_inverse=True)
    order = _order(unique)
    row = np.full(n, -1, dtype=np.intp)
    row[known] = np.argsort(order)[place]
    return _names(unique[order]), row


def _order(unique: NDArray[Any]) -> NDArray[np.intp]:
    """The order of sorted values: theirs, or "k 2" before "k 10"."""
    try:
        return np.argsort(unique.astype(float), kind="stable")
    except ValueError:
        return np.array(sorted(range(len(unique)), key=lambda i: _parts(str(unique[i]))))


def _parts(name: str) -> list[str | int]:
    """Text and numbers, which take turns."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _names(values: NDArray[Any]) -> list[str]:
    if values.dtype.kind == "M":
        return [str(date) for date in np.datetime_as_string(values, unit="auto")]
    return [f"{value:g}" if values.dtype.kind == "f" else str(value) for value in values]
