"""The kinds of data: what comes in becomes NumPy's or CuPy's array, and goes out as it came.

No other module knows them, and this one imports a library only to make that library's data.

========  ==================  ==================================================================
kind      comes in as         goes out as
========  ==================  ==================================================================
numpy     what NumPy reads    ``numpy.ndarray``
cupy      what CuPy reads     ``cupy.ndarray`` on X's device, or the current one
pandas    ``DataFrame``       ``DataFrame`` with X's index
cudf      ``DataFrame``       ``DataFrame`` with X's index
polars    ``DataFrame``       ``DataFrame``
torch     ``Tensor``          ``Tensor`` on X's device
========  ==================  ==================================================================

What has ``__cuda_array_interface__``, or ``__dlpack__`` on a GPU, counts as CuPy's; what has
``__array__``, or ``__dlpack__`` in the host's memory, counts as NumPy's; so do lists, sparse
matrices and memory-mapped arrays. Tensors and arrays with one of these protocols share their memory
with what is made of them, unless their type has to be changed.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import sys
from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from lle_gpu.cuda import cupy
from lle_gpu.cuda.arrays import is_device_array, is_device_sparse, to_host
from lle_gpu.exceptions import warn_user

__all__ = [
    "KINDS",
    "LARGEST_INTEGER",
    "as_kind_of",
    "check_finite_columns",
    "check_kind",
    "check_order",
    "host_array",
    "host_rows",
    "is_device_array",
    "is_frame",
    "is_missing",
    "kind_of",
    "labels_of",
    "listed",
    "output_kind",
    "to_host",
    "unwrap",
    "warn_of_copy",
    "which_missing",
    "wrap",
]

KINDS = ("numpy", "cupy", "pandas", "cudf", "polars", "torch")
FRAMES = ("pandas", "cudf", "polars")
# The class by which each is known, told by its name: nothing has to be imported to look.
_CLASSES = {
    ("numpy", "ndarray"): "numpy",
    ("cupy", "ndarray"): "cupy",
    ("pandas", "DataFrame"): "pandas",
    ("cudf", "DataFrame"): "cudf",
    ("polars", "DataFrame"): "polars",
    ("torch", "Tensor"): "torch",
}
_INSTALL = {
    "pandas": "pip install 'lle-gpu[pandas]'",
    "polars": "pip install 'lle-gpu[polars]'",
    "torch": "pip install 'lle-gpu[torch]', or as https://pytorch.org says",
    "cudf": "pip install 'lle-gpu[gpu-cuda13]', or [gpu-cuda12]",
}
# What to give in place of a tensor that is a sparse matrix of distances: what it does not store is
# no distance of 0, as to_dense() would have it.
_SPARSE_GRAPH = (
    "its indices and distances as two dense tensors, or a SciPy sparse matrix, such as "
    "scipy.sparse.csr_array((t.values().cpu(), t.col_indices().cpu(), t.crow_indices().cpu()), "
    "shape=t.shape) of t in CSR"
)
# DLPack's numbers for devices: the host's memory (3 is pinned) and CUDA's (13 is managed).
_DLPACK_HOST, _DLPACK_CUDA = (1, 3), (2, 13)
# From here on float64 does not hold every integer.
LARGEST_INTEGER = 2**53
# Bytes of a memory-mapped X that are copied without a word.
_MAPPED = 1 << 26
# Columns that an error names.
_SHOWN = 5


def host_array(given: Any, name: str) -> Any:
    """What stands beside X, such as a graph's parts, as NumPy's array or SciPy's sparse matrix.

    Types stay as they are, and so does NaN: what is allowed is for the caller to say, who knows
    what the numbers mean. (Half precision tensors become float32, and lose their gradient.)

    Parameters
    ----------
    given : anything
    name : str
        What the user calls it; for errors.

    Raises
    ------
    TypeError
        For tensors that are sparse, quantized, nested or on a device that is none of CUDA's.
    GpuUnavailableError
        If it is in a GPU's memory, and only CuPy could bring it from there.
    """
    kind = kind_of(given)
    if kind == "torch":
        array = to_host(_from_tensor(given.detach(), name, _SPARSE_GRAPH))
        return array.astype(bool) if str(given.dtype) == "torch.bool" else array
    if type(given).__module__.partition(".")[0] == "cudf":  # NumPy may not read its frames
        return given.to_pandas().to_numpy()
    if kind == "pandas" and getattr(given, "sparse", None) is not None:
        return given.sparse.to_coo()  # what it does not store is not there, and no 0
    if hasattr(given, "copy_to_host"):  # cuVS's and Numba's arrays, which need no CuPy for that
        return np.asarray(given.copy_to_host())
    if kind == "cupy":
        return to_host(_on_device(given))
    given = to_host(given)
    if issparse(given):
        return given
    by_dlpack = hasattr(given, "__dlpack_device__") and not hasattr(given, "__array__")
    return np.from_dlpack(given) if by_dlpack else np.asarray(given)


def host_rows(given: Any, d: int) -> Any:
    """Queries X: rows of d numbers as NumPy's array of floats or SciPy's sparse matrix.

    Raises
    ------
    ValueError
        If they are of another shape, or hold no real numbers.
    """
    X = host_array(given, "X")
    if X.ndim != 2 or X.shape[1] != d:
        raise ValueError(
            f"X is of shape {X.shape}, and must be (any number, {d}), as the training points are. "
            "Give X.reshape(1, -1) for a single point."
        )
    if X.dtype.kind == "O":
        with contextlib.suppress(TypeError, ValueError):  # what is no number is refused below
            X = X.astype(np.float64)
    if X.dtype.kind not in "fiub":
        raise ValueError(f"X is of dtype {X.dtype}, and must hold real numbers: X.astype(float)")
    return X if X.dtype.kind == "f" else X.astype(np.float64)


def as_kind_of(X: Any, array: Any) -> Any:
    """``array`` as NumPy's if X is NumPy's, as CuPy's, on X's device, if X is CuPy's."""
    if not is_device_array(X):
        return to_host(array)
    with X.device:
        return cupy().asarray(array)


def warn_of_copy(X: Any, why: str, instead: str, *, itemsize: int | None = None) -> None:
    """Say so if a memory-mapped X does not stay in its file: memory may not hold it.

    Parameters
    ----------
    X : anything
    why, instead : str
        Who copies, and what to do.
    itemsize : int or None
        Bytes that copies take for each number; None is X's own. Small ones are made without a word.

    Warns
    -----
    UserWarning
    """
    file = X
    while isinstance(file, np.ndarray):
        file = file.base
    if not isinstance(file, mmap.mmap):
        return
    n_bytes = X.size * (itemsize or X.itemsize)
    if n_bytes > _MAPPED:
        warn_user(
            f"X is memory-mapped, and does not stay in its file: {why}, {n_bytes / 1e9:.2g} GB in "
            f"memory. {instead}.",
            UserWarning,
        )


def kind_of(X: Any) -> str:
    """One of ``KINDS``; "numpy" is whatever else there is.

    Examples
    --------
    >>> import numpy as np
    >>> from lle_gpu.kinds import kind_of
    >>> kind_of(np.ones((3, 2))), kind_of([[1.0, 2.0]])
    ('numpy', 'numpy')
    """
    for ancestor in type(X).__mro__:
        kind = _CLASSES.get((ancestor.__module__.partition(".")[0], ancestor.__name__))
        if kind is not None:
            return kind
    return "cupy" if _is_on_gpu(X) else "numpy"


def is_missing(value: Any) -> bool:
    """Whether it stands for nothing: None, NaN, NaT or pandas' NA; text never does.

    Examples
    --------
    >>> from lle_gpu.kinds import is_missing
    >>> is_missing(float("nan")), is_missing("nan")
    (True, False)
    """
    # pandas' NA is neither equal to itself nor different from it.
    return value is None or type(value).__name__ == "NAType" or bool(np.all(value != value))


def which_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the values (n,) are missing."""
    if values.dtype != object:
        return np.asarray(values != values)
    return np.array([is_missing(value) for value in values], dtype=bool)


def is_frame(X: Any) -> bool:
    """Whether X is a data frame, whose columns may have names."""
    return kind_of(X) in FRAMES


def labels_of(X: Any) -> list[Any] | None:
    """A frame's columns' names, if these are not all ``str`` (such scikit-learn remembers itself).

    Examples
    --------
    >>> import pandas as pd
    >>> from lle_gpu.kinds import labels_of
    >>> labels_of(pd.DataFrame([[1.0, 2.0]])), labels_of(pd.DataFrame({"a": [1.0]}))
    ([0, 1], None)
    """
    names = list(X.columns) if is_frame(X) else []
    if all(type(name) is str for name in names):
        return None
    return [str(name) if isinstance(name, str) else name for name in names]  # NumPy's text


def unwrap(X: Any) -> Any:
    """The array that X holds.

    Parameters
    ----------
    X : anything

    Returns
    -------
    array
        NumPy's or CuPy's (or a SciPy sparse matrix of a pandas frame whose columns are all
        sparse, with 0 for what is not stored). What is none of ``KINDS`` and has no protocol of its
        own is given back as it is, for scikit-learn's ``check_array`` to read.

    Raises
    ------
    TypeError, ValueError
        If X, or a column of it, does not hold numbers, or not all of them, or integers that float64
        rounds; with the way out.
    GpuUnavailableError
        If X is in a GPU's memory, and CuPy cannot be used.
    """
    return _READERS[kind_of(X)](X)


def wrap(array: Any, kind: str, *, like: Any, columns: Sequence[str]) -> Any:
    """Make the result's kind of the array of the result.

    Parameters
    ----------
    array : NumPy or CuPy array of shape (n, q)
    kind : {"numpy", "cupy", "pandas", "cudf", "polars", "torch"}
    like : anything
        The input that the array belongs to. Its index is kept; so is its device.
    columns : sequence of str
        Names of the q columns, for a data frame.

    Returns
    -------
    array, data frame or tensor of shape (n, q)
        Data frames and tensors are copies; an array is the one given wherever it can be.
    """
    return _WRITERS[kind](array, like, list(columns))


def output_kind(X: Any, output_type: str | None, *, frames_as_arrays: bool = False) -> str:
    """The kind that is to come out: ``output_type``, else cuML's global setting, else X's kind.

    cuML's is asked only if somebody has imported cuML. With ``frames_as_arrays``, X's kind is
    "numpy" if X is a data frame.

    Raises
    ------
    ValueError
        If cuML's setting is none of ``KINDS``.
    """
    as_x = "numpy" if frames_as_arrays and is_frame(X) else kind_of(X)
    kind = output_type or _cuml_output_type() or as_x
    if kind not in KINDS:
        raise ValueError(
            f"cuML's global output type is {kind!r}, which must be 'input', None or one of "
            f"{', '.join(map(repr, KINDS))} here. Set it so (cuml.set_global_output_type), or say "
            "output_type=... to the estimator."
        )
    return kind


def check_kind(kind: str) -> None:
    """See that data of this kind can be made, before any work is done.

    Raises
    ------
    ImportError
        If the library is missing; the message says how to get it.
    GpuUnavailableError
        For "cupy" and "cudf", if there is no GPU to use.
    """
    if kind in ("cupy", "cudf"):
        cupy()
    if kind not in ("numpy", "cupy"):
        _library(kind)


def check_order(X: Any, names: Sequence[str], what: str) -> None:
    """See that a frame's columns, if they bear these names, stand in this order.

    Raises
    ------
    ValueError
    """
    if is_frame(X):
        given = list(X.columns)
        if given != list(names) and sorted(map(str, given)) == sorted(names):
            raise ValueError(
                f"X's columns are {listed(given)}, and must be in the order of {what}: "
                f"{listed(names)}. Use X[{list(names)[:_SHOWN]}{'...' * (len(names) > _SHOWN)}]."
            )


def check_finite_columns(frame: Any, array: Any) -> None:
    """Name the columns of a frame that have NaN or infinity in the array made of it.

    Raises
    ------
    ValueError
    """
    for test, what in ((np.isnan, "NaN"), (np.isinf, "infinity")):
        if issparse(array):
            stored = array.tocoo()
            counts = np.bincount(stored.col[test(stored.data)]).tolist()
        else:  # by columns: on a GPU there may be no room for more
            counts = [int(test(to_host(array[:, i])).sum()) for i in range(array.shape[1])]
        wrong = [f"{frame.columns[i]!r} ({n})" for i, n in enumerate(counts) if n]
        if wrong:
            raise ValueError(
                f"Input X contains {what}: columns with such values are {listed(wrong, str)}. Put "
                "numbers in their place, or leave these rows or columns out."
            )


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} data were asked for, and {name} cannot be imported ({error}). Install it: "
            f"{_INSTALL[name]}."
        ) from error


def _cuml_output_type() -> str | None:
    settings = getattr(sys.modules.get("cuml"), "global_settings", None)
    kind = getattr(settings, "output_type", None)
    # The last two are what cuML sets while code of its own is running.
    return None if kind in (None, "input", "mirror", "cuml") else str(kind)


# Coming in ---------------------------------------------------------------------------------------


def _is_on_gpu(X: Any) -> bool:
    """Whether a protocol of X's says so."""
    if hasattr(X, "__cuda_array_interface__"):
        return True
    if not (hasattr(X, "__dlpack__") and hasattr(X, "__dlpack_device__")):
        return False
    return X.__dlpack_device__()[0] in _DLPACK_CUDA


def _from_anything(X: Any) -> Any:
    """Of kind "numpy": an array of NumPy's, or what NumPy makes one of."""
    if isinstance(X, np.ndarray):
        return _checked(X)
    if issparse(X):
        return _from_sparse(X)
    _refuse_sparse(X)
    if isinstance(X, list | tuple):
        _check_items(X)
        return _from_list(X)
    library = type(X).__module__.partition(".")[0]
    if (library, type(X).__name__) == ("polars", "LazyFrame"):
        raise TypeError("X is a polars LazyFrame, which has no data yet. Give X.collect().")
    if (library, type(X).__name__) in (("cudf", "Series"), ("polars", "Series")):
        raise ValueError(
            f"Expected 2D array, got a {library} Series. Give X.to_frame() if it is a single "
            "feature."
        )
    if hasattr(X, "obsm") and hasattr(X, "X"):
        raise TypeError(
            f"X ({type(X).__module__.partition('.')[0]}.{type(X).__name__}) holds several arrays. "
            "Give the one to work on: adata.obsm['X_pca'], for one, or adata.X."
        )
    if hasattr(X, "__array__"):
        if hasattr(X, "columns"):
            return _from_columns(X)
        return X if hasattr(X, "to_frame") else _checked(np.asarray(X))  # not of a Series
    if not hasattr(X, "__dlpack_device__"):
        return X
    device = X.__dlpack_device__()[0]
    if device not in _DLPACK_HOST:
        raise TypeError(
            f"X ({type(X).__module__}.{type(X).__name__}) is in the memory of a device that is "
            f"neither the host nor CUDA's (DLPack's type {int(device)}). Copy it to the host."
        )
    return _checked(np.from_dlpack(X))


def _from_sparse(X: Any) -> Any:
    if X.dtype.kind == "c":
        _refuse_complex(f"a sparse array of {X.dtype}")
    if X.dtype.kind in "iu" and X.dtype.itemsize == 8:
        plain = X.format in ("csr", "csc", "bsr", "coo")
        _check_integers(X.data if plain else X.tocoo().data)
    return X


def _refuse_sparse(X: Any) -> None:
    """Of the sparse kinds, those that are not SciPy's."""
    kind = type(X)
    if is_device_sparse(X):
        raise TypeError(
            f"X is a CuPy {kind.__name__}: sparse X is worked on by the CPU alone. Give X.get(), "
            "which is SciPy's, or X.toarray() if that fits in the GPU's memory."
        )
    if hasattr(X, "to_scipy_sparse"):
        raise TypeError(
            f"X is a {kind.__module__.partition('.')[0]}.{kind.__name__}: of the sparse kinds only "
            "SciPy's are known here. Give X.to_scipy_sparse()."
        )


def _from_list(X: Sequence[Any]) -> Any:
    """As NumPy reads it, but that it makes text of numbers, and floats of integers, beside such."""
    try:
        array = np.asarray(X)
    except (OverflowError, ValueError):
        return X  # rows of several lengths, for one: scikit-learn says so
    is_rounded = array.dtype == np.float64 and bool((np.abs(array) >= LARGEST_INTEGER).any())
    if is_rounded or array.dtype.kind in "US":
        _checked(np.asarray(X, dtype=object))
    _checked(array)
    return array.astype(np.float64, copy=False) if array.dtype.kind in "biuf" else array


def _from_columns(X: Any) -> Any:
    """Another library's frame, looked at by columns: NumPy would make one type of all."""
    if type(X).__module__.partition(".")[0] == "pyarrow" and type(X).__name__ == "RecordBatch":
        import pyarrow

        X = pyarrow.Table.from_batches([X])  # whose columns' names scikit-learn finds
    if hasattr(X, "column_names"):  # pyarrow's, whose columns are the columns
        columns = list(zip(X.column_names, X.columns, strict=True))
    else:
        columns = [(name, X[name]) for name in X.columns]
    for name, column in columns:
        _checked(np.asarray(column).reshape(len(X), -1), name)
    return X  # scikit-learn reads the names, too


def _from_cupy(X: Any) -> Any:
    return _checked(_on_device(X))


def _on_device(X: Any) -> Any:
    """CuPy's array on the memory of X, which is CuPy's or has one of the protocols."""
    if is_device_array(X):
        return X
    return _by_dlpack(X) if hasattr(X, "__dlpack_device__") else cupy().asarray(X)


def _by_dlpack(X: Any) -> Any:
    """CuPy's array on the memory of X, which waits for X's stream first."""
    cp = cupy()
    with cp.cuda.Device(X.__dlpack_device__()[1]):
        return cp.from_dlpack(X)


def _from_torch(X: Any) -> Any:
    if X.requires_grad:
        raise ValueError(
            "X is a tensor that requires grad, and no gradient goes through the embedding. Give "
            "X.detach()."
        )
    if X.is_complex():
        _refuse_complex(f"a tensor of {X.dtype}")
    return _checked(_from_tensor(X, "X", "X.to_dense(), or a SciPy sparse matrix"))


def _from_tensor(X: Any, name: str, instead: str) -> Any:
    """NumPy's or CuPy's array on a tensor's memory; ``instead`` of a sparse one give that."""
    import torch

    if X.is_quantized:
        raise TypeError(f"{name} is a quantized tensor ({X.dtype}). Give {name}.dequantize().")
    if X.layout != torch.strided:
        raise TypeError(
            f"{name} is a {str(X.layout).removeprefix('torch.')} tensor. Give {instead}."
        )
    if X.is_nested:
        raise TypeError(f"{name} is a nested tensor. Give one of shape (n_samples, ...).")
    if X.device.type not in ("cpu", "cuda"):
        remedy = "That one has no numbers" if X.is_meta else f"Give {name}.cpu()"
        raise TypeError(
            f"{name} is a tensor on device {str(X.device)!r}: it must be on the CPU or a CUDA "
            f"device. {remedy}."
        )
    if hasattr(X, "resolve_neg"):
        X = X.resolve_neg()  # DLPack does not know the bit that says so
    if X.is_floating_point() and X.dtype not in (torch.float32, torch.float64):
        X = X.float()  # half and bfloat16, which NumPy does not have, fit in it
    if X.dtype == torch.bool:  # which not every version of DLPack knows
        X = X.to(torch.uint8)
    return _by_dlpack(X) if X.device.type == "cuda" else np.from_dlpack(X)


def _from_pandas(X: Any) -> Any:
    dtypes, names = list(X.dtypes), list(X.columns)
    _check_columns(names, list(map(str, dtypes)), list(map(_is_number, dtypes)))
    # A matrix has 0 for what is not stored; columns may have other numbers, or NaN.
    zeros = [hasattr(dtype, "fill_value") and dtype.fill_value == 0 for dtype in dtypes]
    dtypes = [getattr(dtype, "subtype", dtype) for dtype in dtypes]
    # Columns of NumPy's types have NaN for what is missing, which is found like any other.
    missing = [
        0 if isinstance(dtype, np.dtype) else int(X.iloc[:, i].isna().sum())
        for i, dtype in enumerate(dtypes)
    ]
    _check_missing(names, missing, "X.fillna(...) or X.dropna()")
    for i, dtype in enumerate(dtypes):
        if dtype.kind in "iu" and dtype.itemsize == 8:
            _check_integers(X.iloc[:, i].to_numpy(f"{dtype.kind}8"), names[i])
    return X.sparse.to_coo() if dtypes and all(zeros) else X.to_numpy(_float_of(dtypes))


def _from_cudf(X: Any) -> Any:
    dtypes = list(X.dtypes)
    _check_columns(X.columns, list(map(str, dtypes)), list(map(_is_number, dtypes)))
    _check_missing(
        X.columns, [int(X[name].isna().sum()) for name in X.columns], "X.fillna(...) or X.dropna()"
    )
    for name, dtype in zip(X.columns, dtypes, strict=True):
        if dtype.kind in "iu" and dtype.itemsize == 8:
            _check_integers(X[name].to_cupy(), name)
    return X.to_cupy(dtype=_float_of(dtypes))


def _from_polars(X: Any) -> Any:
    import polars as pl

    dtypes = X.dtypes
    numbers = [dtype.is_numeric() or dtype == pl.Boolean for dtype in dtypes]
    _check_columns(X.columns, list(map(str, dtypes)), numbers)
    missing = [X[name].null_count() for name in X.columns]
    _check_missing(X.columns, missing, "X.fill_null(...) or X.drop_nulls()")
    for name, dtype in X.schema.items():
        if len(X) and (dtype.is_integer() or dtype.is_decimal()):
            _check_span(X[name].min(), X[name].max(), name)
    single = dtypes and all(dtype == pl.Float32 for dtype in dtypes)
    return X.cast(pl.Float32 if single else pl.Float64).to_numpy(order="c")


_READERS: dict[str, Callable[[Any], Any]] = {
    "numpy": _from_anything,
    "cupy": _from_cupy,
    "pandas": _from_pandas,
    "cudf": _from_cudf,
    "polars": _from_polars,
    "torch": _from_torch,
}


def _is_number(dtype: Any) -> bool:
    """Whether a column of pandas' or cuDF's type holds real numbers."""
    return getattr(dtype, "kind", "O") in "biuf"


def _float_of(dtypes: Sequence[Any]) -> type[np.floating]:
    """float32 if all columns are, else float64."""
    names = {str(getattr(dtype, "numpy_dtype", dtype)).lower() for dtype in dtypes}
    return np.float32 if names == {"float32"} else np.float64


def _check_columns(names: Sequence[Any], dtypes: Sequence[str], numbers: Sequence[bool]) -> None:
    """Name the columns that are no numbers."""
    wrong = [
        f"{name!r} ({dtype})"
        for name, dtype, number in zip(names, dtypes, numbers, strict=True)
        if not number
    ]
    if wrong:
        what = "Complex data not supported: " if any("complex" in text for text in wrong) else ""
        raise ValueError(
            f"{what}X has columns that are not real numbers: {listed(wrong, str)}. Leave them "
            "out, or encode them as numbers first (categories: one column of 0 and 1 for each; "
            "numbers kept as objects or text: X.astype(float))."
        )


def _check_missing(names: Sequence[Any], missing: Sequence[int], remedy: str) -> None:
    """Name the columns that have missing values, and how many."""
    wrong = [f"{name!r} ({n})" for name, n in zip(names, missing, strict=True) if n]
    if wrong:
        raise ValueError(
            f"Input X contains NaN: columns with missing values are {listed(wrong, str)}. Fill "
            f"them or leave the rows out: {remedy}."
        )


def _check_integers(X: Any, column: Any = None) -> None:
    """Refuse integers that float64 would round: points that differ could become equal."""
    if X.dtype.kind in "iu" and X.dtype.itemsize >= 8 and X.size:
        _check_span(int(X.min()), int(X.max()), column)


def _check_span(low: Any, high: Any, column: Any = None) -> None:
    """The same of the smallest and the largest."""
    if max(-low, high) > LARGEST_INTEGER:
        where = "X" if column is None else f"Column {column!r} of X"
        raise ValueError(
            f"{where} has integers from {low} to {high}: float64 rounds those beyond 2**53. "
            "Subtract an offset, leave identifiers out, or convert with X.astype(float) if that "
            "rounding is meant."
        )


def _check_objects(X: NDArray[Any], names: Sequence[Any], column: Any = None) -> None:
    """Refuse text, complex numbers and long integers among Python's objects.

    What is no number at all is left to scikit-learn.
    """
    types = set(map(type, X.flat))
    if any(issubclass(kind, complex | np.complexfloating) for kind in types):
        _refuse_complex("an array of objects with complex numbers")
    if any(issubclass(kind, str | bytes) for kind in types):
        numbers = [not any(isinstance(x, str | bytes) for x in part) for part in X.T]
        _check_columns(names, ["text"] * len(names), numbers)
    if all(issubclass(kind, float | np.floating) for kind in types):
        return
    try:
        far = X[np.abs(X.astype(np.float64)) >= LARGEST_INTEGER]
    except OverflowError:
        far = X.reshape(-1)
    except (TypeError, ValueError):
        return
    exact: Any = [
        x for x in far if isinstance(x, Number) and not isinstance(x, float | np.floating)
    ]
    if exact:
        _check_span(min(exact), max(exact), column)


def _refuse_complex(what: str) -> NoReturn:
    raise ValueError(
        f"Complex data not supported: X is {what}. Give real numbers, such as the real and the "
        "imaginary parts side by side: numpy.hstack([X.real, X.imag])."
    )


def _check_items(X: Sequence[Any]) -> None:
    """Refuse lists of arrays that NumPy cannot, or should not, make one array of."""
    examples = {type(item): item for item in X}
    kinds = sorted({kind_of(item) for item in examples.values()})
    if kinds not in ([], ["numpy"]):
        raise TypeError(
            f"X is a {type(X).__name__} whose items are of kind {' and '.join(kinds)}: give one "
            "array, frame or tensor. numpy.stack, cupy.stack, torch.stack or concat make one of "
            "items of one kind; bring them to one kind first."
        )
    if np.ma.MaskedArray in examples and any(map(np.ma.is_masked, X)):
        _refuse_masked(np.ma.stack(X))


def _refuse_masked(X: Any) -> NoReturn:
    n_masked = int(np.ma.getmaskarray(X).sum())
    raise ValueError(
        f"X is a masked array, and {n_masked} of its {X.size} entries are masked: they have no "
        "value. Give X.filled(...) with the value that they are to have, or leave the rows out: "
        "X[~numpy.ma.getmaskarray(X).any(axis=1)]."
    )


def _checked(array: Any, column: Any = None) -> Any:
    """NumPy's or CuPy's array, if float64 holds what is in it; ``column`` if it is one of many."""
    if is_device_array(array):
        with array.device:
            _check_integers(array)
        return array
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            _refuse_masked(array)
        array = np.asarray(array)
    if array.dtype.kind == "c":
        _refuse_complex(f"an array of {array.dtype}")
    if array.dtype.names is not None:
        raise ValueError(
            f"X is a structured array with the fields {listed(array.dtype.names)}: its rows are "
            "records, and no numbers. Give numpy.lib.recfunctions.structured_to_unstructured(X), "
            "or a data frame."
        )
    if array.ndim == 2:  # others are an error of their own
        names = range(array.shape[1]) if column is None else [column]
        if array.dtype.kind in "SUTMm":
            _check_columns(names, [str(array.dtype)] * len(names), [False] * len(names))
        if array.dtype.kind == "O":
            _check_objects(array, names, column)
    _check_integers(array, column)
    return array


def listed(things: Sequence[Any] | NDArray[Any], text: Callable[[Any], str] = repr) -> str:
    """The first few, for an error, and how many more there are."""
    rest = f" and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    return ", ".join(map(text, things[:_SHOWN])) + rest


# Going out ---------------------------------------------------------------------------------------


def _to_numpy(array: Any, like: Any, columns: list[str]) -> Any:
    return to_host(array)


def _to_cupy(array: Any, like: Any, columns: list[str]) -> Any:
    return array if is_device_array(array) else cupy().asarray(array)


def _to_pandas(array: Any, like: Any, columns: list[str]) -> Any:
    index = _index_of(like)
    if index is not None and kind_of(like) == "cudf":
        index = index.to_pandas()
    frame = _library("pandas").DataFrame
    return frame(to_host(array), index=index, columns=columns, copy=True)


def _to_cudf(array: Any, like: Any, columns: list[str]) -> Any:
    frame = _library("cudf").DataFrame
    array = _to_cupy(array, like, columns)
    with array.device:
        return frame(array, index=_index_of(like), columns=columns)


def _to_polars(array: Any, like: Any, columns: list[str]) -> Any:
    return _library("polars").DataFrame(to_host(array), schema=columns, orient="row")


def _to_torch(array: Any, like: Any, columns: list[str]) -> Any:
    # A copy: tensors are often changed in place, and this may be the model's own embedding.
    torch = _library("torch")
    if is_device_array(array):
        with array.device:
            return torch.from_dlpack(array.copy())
    return torch.from_numpy(array.copy())


_WRITERS: dict[str, Callable[[Any, Any, list[str]], Any]] = {
    "numpy": _to_numpy,
    "cupy": _to_cupy,
    "pandas": _to_pandas,
    "cudf": _to_cudf,
    "polars": _to_polars,
    "torch": _to_torch,
}


def _index_of(X: Any) -> Any:
    """The rows' labels, of a frame that has such."""
    return X.index if kind_of(X) in ("pandas", "cudf") else None
