"""The boundary: what comes in becomes a float array that the stages can trust, or an error.

Whatever kind of data it is (:mod:`lle_gpu.kinds` knows) becomes a NumPy array, by scikit-learn's
rules, or a CuPy array, by the same rules. SciPy's sparse matrices and arrays become a csr_array in
canonical format, and are never made dense as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval
from sklearn.utils.sparsefuncs import min_max_axis
from sklearn.utils.validation import validate_data

from lle_gpu.constraints import METHODS
from lle_gpu.cuda import cupy
from lle_gpu.cuda.memory import for_each_chunk, is_out_of_memory
from lle_gpu.exceptions import warn_user
from lle_gpu.kinds import (
    as_kind_of,
    check_finite_columns,
    is_device_array,
    is_frame,
    labels_of,
    listed,
    to_host,
    unwrap,
    warn_of_copy,
)
from lle_gpu.sparse_structure import LARGEST_SPARSE, check_structure, narrowed

__all__ = [
    "FLOAT_DTYPES",
    "HostIndexed",
    "Number",
    "as_kind_of",
    "as_points",
    "check_range",
    "check_sizes",
    "check_values",
    "feature_ranges",
    "in_chunks",
    "is_device_array",
    "is_out_of_memory",
    "on_device",
    "parts_like",
    "to_device",
    "to_host",
]


class Number(Interval):
    """Numbers in a range, as a parameter's constraint; True and False are none."""

    def is_satisfied_by(self, val: Any) -> bool:
        """For scikit-learn, to which they are the integers 1 and 0."""
        return not isinstance(val, bool) and bool(super().is_satisfied_by(val))


# Others are converted to the first.
FLOAT_DTYPES = [np.float64, np.float32]
# Squares of differences, summed over features, must neither overflow nor vanish.
LARGEST, SMALLEST = 1e150, 1e-150
# Of points that are made dense, or sparse, or go to a device, as many at once.
PART_BYTES = 1 << 26


def as_points(X: Any, *, estimator: Any, reset: bool | None = None, least: int = 1) -> NDArray[Any]:
    """Make a float array (n, d) of what the user gave.

    Parameters
    ----------
    X : array-like, sparse matrix, data frame or tensor of shape (n, d)
    estimator : estimator or str
        Named in errors.
    reset : bool or None
        Whether to remember the number and names of the features in ``estimator`` (True), to compare
        them with what it remembers (False), or to leave it alone (None).
    least : int
        Rows that there must be.

    Returns
    -------
    ndarray or csr_array of shape (n, d), float32 or float64, finite
        CuPy's if X is in a GPU's memory, in C order and there; a csr_array with sorted indices and
        neither duplicates nor explicit zeros if X is sparse; else NumPy's.

    Raises
    ------
    ValueError, TypeError
        As scikit-learn's ``check_array``, for sparse kinds other than SciPy's, and as
        :func:`lle_gpu.kinds.unwrap`.

    Warns
    -----
    UserWarning
        If X looks like a graph of neighbours, and not like points.
    """
    if issparse(X):
        if X.ndim != 2:
            raise ValueError(f"Expected a 2D sparse X, got {X.ndim}D, of shape {X.shape}.")
        check_structure(X, "X")
        if X.shape[0] * X.shape[1] > LARGEST_SPARSE:
            raise ValueError(
                f"X is sparse, of shape {X.shape}: it has more places than int64 can number. Leave "
                "out the columns without entries: X[:, numpy.unique(X.tocsr().indices)]."
            )
        _warn_of_graph(X)
    frame = X if is_frame(X) else None
    if reset is not None:
        if frame is not None:
            # scikit-learn reads the columns' names, and leaves the rest to us.
            validate_data(estimator, X, reset=reset, skip_check_array=True)
        _check_labels(estimator, X, reset=reset)
    X = unwrap(X)
    if reset is not None and frame is None and is_device_array(X):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    if isinstance(X, np.ndarray) and X.dtype not in FLOAT_DTYPES:
        warn_of_copy(
            X,
            f"{X.dtype} is converted to float64 as a whole",
            "Save it as float32 or float64 (numpy.save), which is read in parts",
            itemsize=8,
        )
    options: dict[str, Any] = {
        "accept_sparse": "csr",
        "dtype": FLOAT_DTYPES,
        "ensure_min_samples": least,
    }
    try:
        if is_device_array(X):
            with on_device(X):
                return _device_points(X, estimator, least)
        if reset is None or frame is not None:
            points = check_array(X, estimator=estimator, input_name="X", **options)
        else:
            points = validate_data(estimator, X, reset=reset, **options)
    except ValueError:
        if frame is not None:
            check_finite_columns(frame, X)
        raise
    return _canonical(points) if issparse(points) else points


def _warn_of_graph(X: Any) -> None:
    """What ``kneighbors_graph`` and ``KNeighborsTransformer`` give is square, the same in each row.

    Looked at as it was given: zeros are stored in it, the diagonal or duplicates' distances.
    """
    if X.shape[0] != X.shape[1] or not X.nnz or X.diagonal().any():
        return
    csr = X.tocsr()
    counts = np.diff(csr.indptr)
    if counts.min() > 0 and np.ptp(counts) <= 1 and csr.data.min() >= 0:
        warn_user(
            f"X, sparse and of shape {X.shape}, looks like a graph of neighbours: its diagonal is "
            f"0, and each row has {counts.max()} entries. Its rows are taken for points of "
            f"{X.shape[1]} features. Give the points themselves, and the graph beside them: "
            "fit(X, knn_graph=graph), or precomputed_knn=graph; in a pipeline leave the step that "
            "makes the graph out.",
            UserWarning,
        )


def _check_labels(estimator: Any, X: Any, *, reset: bool) -> None:
    """Do for columns' names that are no text what scikit-learn does for those that are.

    A data frame made of an array calls its columns 0, 1, ...; such names, in this order, go with
    an array on the other side without a word.
    """
    given = labels_of(X)
    if reset:
        vars(estimator).pop("_labels_in", None)
        if given is not None:
            estimator._labels_in = given
        return
    fitted = getattr(estimator, "_labels_in", None)
    if _comparable(given) == _comparable(fitted):
        return
    if given is not None and fitted is not None:
        same = sorted(map(repr, given)) == sorted(map(repr, fitted))
        what = "in the order in which they were fitted" if same else "those that were fitted"
        raise ValueError(
            f"X's columns are {listed(given)}, and must be {what}: {listed(fitted)}. "
            + ("Put them" if same else "Give these columns")
            + " in that order, or give X.to_numpy() if the names are not to be compared."
        )
    named = given is not None and hasattr(estimator, "feature_names_in_")
    if named or (given is None and is_frame(X)):
        return  # text on the other side, of which scikit-learn has spoken
    labels = given or fitted or []
    if labels != list(range(len(labels))):
        has, was = ("has", "without") if fitted is None else ("does not have", "with")
        warn_user(
            f"X {has} column names, but {type(estimator).__name__} was fitted {was} "
            f"({listed(labels)}): their order cannot be checked.",
            UserWarning,
        )


def _comparable(labels: Any) -> Any:
    """The same names, of which NaN equals NaN: for tuples, an object is equal to itself."""
    if isinstance(labels, list | tuple):
        return tuple(map(_comparable, labels))
    return np.nan if isinstance(labels, float) and np.isnan(labels) else labels


def _canonical(X: Any) -> Any:
    """Make a csr_array in canonical format, without explicit zeros, of SciPy's CSR.

    It shares X's memory where nothing has to be changed; X itself is never changed.
    """
    small = max(*X.shape, X.nnz) <= np.iinfo(np.int32).max  # which scikit-learn's metrics want
    integer = np.int32 if small else np.int64
    indices, starts = (a.astype(integer, copy=False) for a in (X.indices, X.indptr))
    points = csr_array((X.data, indices, starts), shape=X.shape)
    if not points.has_canonical_format:
        points = points.copy()
        points.sum_duplicates()
        if not np.isfinite(points.data).all():
            raise ValueError("Input X contains infinity where its duplicated entries are summed.")
    if not points.data.all():
        points = points.copy()
        points.eliminate_zeros()
    return points


def parts_like(X: Any, points: Any) -> Iterator[Any]:
    """Go through X's rows, in parts, sparse if ``points`` are and dense if they are not."""
    size = max(1, PART_BYTES // (X.dtype.itemsize * X.shape[1]))
    for low in range(0, X.shape[0], size):
        part = X[low : low + size]
        yield part.toarray() if issparse(part) else csr_array(to_host(part))


def _device_points(X: Any, estimator: Any, least: int) -> Any:
    """``check_array`` for CuPy's arrays: its rules, its words."""
    cp = cupy()
    name = estimator if isinstance(estimator, str) else type(estimator).__name__
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array of shape {X.shape} instead. Reshape your data "
            "using X.reshape(-1, 1) if it has a single feature, or X.reshape(1, -1) if it is a "
            "single sample."
        )
    if X.dtype.kind not in "fiub":
        what = "Complex data not supported" if X.dtype.kind == "c" else f"dtype {X.dtype}"
        raise ValueError(f"{what}: {name} takes real numbers, such as float32 or float64")
    for count, needed, of in ((X.shape[0], least, "sample"), (X.shape[1], 1, "feature")):
        if count < needed:
            raise ValueError(
                f"Found array with {count} {of}(s) (shape={X.shape}) while a minimum of {needed} "
                f"is required by {name}."
            )
    if X.dtype not in FLOAT_DTYPES:
        X = X.astype(FLOAT_DTYPES[0])
    X = cp.ascontiguousarray(X)
    if not bool(cp.isfinite(X).all()):
        what = "NaN" if bool(cp.isnan(X).any()) else "infinity"
        raise ValueError(f"Input X contains {what}. {name} does not accept missing values.")
    return X


def check_sizes(
    shape: tuple[int, int], *, method: str, n_neighbors: int, n_components: int
) -> None:
    """Check the parameters against one another and against the data's shape.

    Raises
    ------
    ValueError
        With the parameter, its value, what is allowed and why.
    """
    n, d = shape
    if n_components > d:
        raise ValueError(
            f"n_components={n_components}: the output dimension must be less than or equal to the "
            f"input dimension, and X has {d} feature(s)"
        )
    if n_components >= n:
        raise ValueError(
            f"n_components={n_components} must be less than n_samples={n}: an embedding of n "
            "points has at most n - 1 coordinates beside the constant"
        )
    if n_neighbors >= n:
        raise ValueError(
            f"Expected n_neighbors < n_samples, but n_samples = {n}, n_neighbors = {n_neighbors} "
            "(a point is not its own neighbour)"
        )
    rule = METHODS[method]
    least = rule.least_neighbors(n_components)
    if n_neighbors < least:
        raise ValueError(
            f"n_neighbors={n_neighbors} is too small for method={method!r} with "
            f"n_components={n_components}: it needs at least {least} ({rule.why})"
        )


def check_values(X: NDArray[Any], *, solver: str | None = None) -> None:
    """Reject finite data that no embedding can be made of.

    ``solver`` is named in scikit-learn's words, where there is one.

    Raises
    ------
    ValueError
        If all points are equal, if squared distances would overflow or vanish in float64, or for
        NaN that nothing has found yet.
    """
    extent = float(feature_ranges(X).max())
    if np.isnan(extent):
        _refuse_nan()
    if extent == 0:
        context = f"Error in determining null-space with {solver.upper()}: " if solver else ""
        raise ValueError(
            f"{context}all {X.shape[0]} points of X are equal, so every function on them is as "
            "good as any other. Check how X was loaded or scaled."
        )
    if not SMALLEST < extent < LARGEST:
        raise ValueError(
            f"the largest range of a feature of X is {extent:.3g}: it must be between {SMALLEST:g} "
            f"and {LARGEST:g}, or squared distances leave float64. Rescale X (the embedding does "
            "not depend on its scale)."
        )


def feature_ranges(X: Any) -> Any:
    """Largest minus smallest value of each feature, in float64, of X's kind.

    Of a sparse X (NumPy's) those that have entries, or one that has none.
    """
    if issparse(X):
        low, high = min_max_axis(narrowed(X)[1], axis=0) if X.nnz else (np.zeros(1), np.zeros(1))
    else:
        low, high = X.min(axis=0), X.max(axis=0)
    return high.astype(np.float64) - low.astype(np.float64)


def check_range(X: NDArray[Any]) -> None:
    """Reject new points so far away that squared distances to them overflow.

    Raises
    ------
    ValueError
    """
    with on_device(X):
        largest = max(float(X.max()), -float(X.min()))  # abs(X) would be a copy of all of it
    if np.isnan(largest):
        _refuse_nan()
    if largest >= LARGEST:
        raise ValueError(
            f"the largest entry of X is {largest:.3g} in size: it must be below {LARGEST:g}, or "
            "squared distances overflow. Check how X was scaled."
        )


def _refuse_nan() -> NoReturn:
    """What ``check_array`` says, unless scikit-learn is told to assume that all is finite."""
    raise ValueError(
        "Input X contains NaN (or infinity), which scikit-learn was told not to look for "
        "(assume_finite=True). Put numbers in their place, or leave these rows or columns out."
    )


def to_device(array: Any) -> Any:
    """Bring a NumPy array to the current device; a CuPy array of that device is taken as it is.

    Raises
    ------
    ValueError
        For a CuPy array on another device: copies between devices are the caller's to make.
    """
    cp = cupy()
    if not is_device_array(array):
        return _copied(array)
    current = cp.cuda.Device().id
    if array.device.id != current:
        raise ValueError(
            f"an array is on GPU {array.device.id}, the computation on GPU {current}: all "
            "arrays must be on one device. Copy it there (with cupy.cuda.Device"
            f"({current}): array = cupy.array(array)), or fit on its device."
        )
    return cp.ascontiguousarray(array)


def _copied(array: NDArray[Any]) -> Any:
    """A NumPy array on the current device, in C order; what is large goes there in parts.

    CuPy copies by way of pinned memory on the host, of as many bytes and up to twice as many, which
    takes long to get and is not given back.
    """
    cp = cupy()
    if array.nbytes <= PART_BYTES:
        return cp.ascontiguousarray(cp.asarray(array))
    copy = cp.empty(array.shape, array.dtype)
    size = max(1, PART_BYTES * len(array) // array.nbytes)
    for low in range(0, len(array), size):
        part = array[low : low + size]
        # The device changes the order of columns that stand one after the other.
        copy[low : low + size] = cp.asarray(np.asfortranarray(part) if array.flags.fnc else part)
    return copy


def on_device(array: Any) -> AbstractContextManager[Any]:
    """Context in which the current device is the array's, or stays as it is for NumPy's."""
    return array.device if is_device_array(array) else nullcontext()


def in_chunks(work: Callable[[Any], Any], X: Any, width: int, bytes_per_row: int) -> Any:
    """``work(X)``, float64 of shape (m, width), by chunks of rows that the current device holds.

    X is NumPy's, and goes there by chunks, or CuPy's; what comes back is X's kind.
    """
    shape = len(X), width
    result = cupy().empty(shape) if is_device_array(X) else np.empty(shape)

    def fill(rows: slice) -> None:
        result[rows] = as_kind_of(X, work(to_device(X[rows])))

    for_each_chunk(fill, len(X), bytes_per_row, quiet=True)
    return result


class HostIndexed:
    """Rows of a CuPy array, picked by NumPy arrays of row numbers."""

    def __init__(self, X: Any) -> None:
        self._X = X

    def __len__(self) -> int:
        return len(self._X)

    def __getitem__(self, rows: NDArray[np.integer]) -> Any:
        return self._X[cupy().asarray(rows)]
