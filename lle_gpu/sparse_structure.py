"""Sparse arrays: are they what their format says, and which of their columns have entries?

The first is to be asked before anything is converted.

SciPy checks when an array is made, and no more: its compiled conversions and products trust the
indices and write where they point. An array whose parts were changed afterwards ends the
interpreter there, or gives other numbers.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import numpy as np
from scipy.sparse import csr_array

__all__ = ["LARGEST_SPARSE", "check_structure", "narrowed", "narrowed_to"]

# Places, row times width plus column, that there may be.
LARGEST_SPARSE = int(np.iinfo(np.int64).max)


def check_structure(X: Any, name: str, *, columns: bool = True) -> None:
    """Refuse a SciPy sparse matrix or array of two dimensions whose parts do not fit together.

    Parameters
    ----------
    X : sparse matrix or array of shape (m, n)
        Of any format; neither changed nor converted (but for dok, whose conversion is safe).
    name : str
        What the user calls it; for errors.
    columns : bool, default=True
        Whether column indices beyond n are looked for. A caller that looks for them itself, and can
        say more, leaves them out; for csr and coo alone.

    Raises
    ------
    ValueError
        With what does not fit, and the row where it is known.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from lle_gpu.sparse_structure import check_structure
    >>> X = csr_array([[0.0, 1.0], [2.0, 0.0]])
    >>> X.indptr[1] = 7
    >>> check_structure(X, "X")
    Traceback (most recent call last):
        ...
    ValueError: X is not a valid sparse csr array: indptr falls from 7 to 2 at place 2. Its parts \
were changed after it was made, or read wrongly: make it anew.
    """
    look = {"coo": _check_coo, "lil": _check_lil, "dia": _check_dia, "dok": _check_dok}
    try:
        look.get(X.format, _check_compressed)(X, columns)
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{name} is not a valid sparse {X.format} array: {str(error).rstrip('.')}. Its parts "
            "were changed after it was made, or read wrongly: make it anew."
        ) from error


def narrowed(X: Any) -> tuple[Any, Any]:
    """The columns of a csr_array that have entries, ascending, and X with these alone.

    What is done with that costs no memory for the others: a width is a number that takes none to
    write, in a file or by hashing features.
    """
    columns = np.unique(X.indices)
    indices = np.searchsorted(columns, X.indices)
    return columns, csr_array((X.data, indices, X.indptr), shape=(X.shape[0], len(columns)))


def narrowed_to(columns: Any, X: Any) -> tuple[Any, Any]:
    """A csr_array with these columns alone, and with all of its columns but these."""
    place = np.searchsorted(columns, X.indices)
    known = np.zeros(len(place), dtype=bool)
    inside = place < len(columns)
    known[inside] = columns[place[inside]] == X.indices[inside]

    def part(chosen: Any, indices: Any, width: int) -> Any:
        ends = np.concatenate([[0], np.cumsum(chosen)])[X.indptr]
        return csr_array((X.data[chosen], indices[chosen], ends), shape=(X.shape[0], width))

    return part(known, place, len(columns)), part(~known, X.indices, X.shape[1])


def _check_compressed(X: Any, columns: bool) -> None:
    """Of csr, csc and bsr: indices within the array, and an indptr from 0 that never falls."""
    for part in ("indptr", "indices"):
        _check_integers(getattr(X, part), part)
    # SciPy's own check leaves this out where indptr ends with 0.
    falls = np.flatnonzero(X.indptr[1:] < X.indptr[:-1])
    if len(falls):
        at = int(falls[0])
        raise ValueError(
            f"indptr falls from {X.indptr[at]} to {X.indptr[at + 1]} at place {at + 1}"
        )
    copy.copy(X).check_format(full_check=columns)  # a copy, whose parts it may replace


def _check_coo(X: Any, columns: bool) -> None:
    for axis, places in enumerate(X.coords):
        part = f"coords[{axis}]"
        _check_integers(places, part)
        if places.shape != X.data.shape or places.ndim != 1:
            raise ValueError(f"{part} is of shape {places.shape}, and data of {X.data.shape}")
        if axis == 0 or columns:
            _check_range(places, X.shape[axis], part)


def _check_lil(X: Any, columns: bool) -> None:
    for part in ("rows", "data"):
        if getattr(X, part).shape != (X.shape[0],) or set(map(type, getattr(X, part))) - {list}:
            raise ValueError(f"{part} is not one list for each row")
    n_indices, n_values = (np.fromiter(map(len, part), int) for part in (X.rows, X.data))
    differ = np.flatnonzero(n_indices != n_values)
    if len(differ):
        row = int(differ[0])
        raise ValueError(f"row {row} has {n_indices[row]} indices and {n_values[row]} values")
    places = np.fromiter(chain.from_iterable(X.rows), np.int64)
    wrong = np.flatnonzero((places < 0) | (places >= X.shape[1]))
    if len(wrong):
        row = int(np.searchsorted(np.cumsum(n_indices), wrong[0], side="right"))
        _check_range(places[wrong[:1]], X.shape[1], f"row {row}")


def _check_dia(X: Any, columns: bool) -> None:
    _check_integers(X.offsets, "offsets")
    if X.offsets.ndim != 1 or X.data.ndim != 2 or len(X.offsets) != len(X.data):
        raise ValueError(f"offsets are of shape {X.offsets.shape}, and data of {X.data.shape}")
    if len(np.unique(X.offsets)) < len(X.offsets):
        raise ValueError("offsets has a diagonal twice")
    if (np.abs(X.offsets) > max(X.shape)).any():  # which the conversion's narrower integers lack
        raise ValueError(f"offsets leave an array of shape {X.shape}")


def _check_dok(X: Any, columns: bool) -> None:
    X.tocoo()  # goes through Python's own objects, and checks what comes out


def _check_integers(places: Any, part: str) -> None:
    if places.dtype.kind not in "iu":
        raise ValueError(f"{part} is of dtype {places.dtype}, and must be integers")


def _check_range(places: Any, size: int, part: str) -> None:
    wrong = places[(places < 0) | (places >= size)]
    if len(wrong):
        raise ValueError(f"{part} has the index {wrong[0]}, which must be from 0 to {size - 1}")
