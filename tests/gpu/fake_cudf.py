"""cuDF without a GPU: a fake of what lle_gpu asks of its data frames, over pandas.

Signatures are those of cuDF 26.10 (cudf/core/dataframe.py, frame.py): ``DataFrame(data, index,
columns, dtype, copy, nan_as_null)``, ``to_cupy(dtype, copy, na_value)`` which gives Fortran order,
``dtypes`` as pandas' Series, ``index.to_pandas()``. As there, nothing becomes NumPy's by itself,
and an index is cuDF's own, not pandas'.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pandas as pd


def install(monkeypatch, cupy):
    """Make ``cudf`` importable; returns the module."""
    cudf = ModuleType("cudf")
    cudf.__version__ = "26.10.2"

    class Index:
        def __init__(self, index):
            self._index = index

        def to_pandas(self, *, nullable=False, arrow_type=False):
            return self._index

    class Series:
        def __init__(self, series):
            self._series = series

        def isna(self):
            return self._series.isna()

        def to_cupy(self, dtype=None, copy=False, na_value=None):
            return cupy.asarray(self._series.to_numpy(dtype))

    class DataFrame:
        def __init__(
            self, data=None, index=None, columns=None, dtype=None, copy=None, nan_as_null=None
        ):
            if copy is not None:
                raise NotImplementedError("copy is not currently implemented.")
            if isinstance(data, cupy.ndarray):
                data = data.get()
            elif isinstance(data, np.ndarray):
                raise TypeError("the fake takes device memory only")
            if index is not None:
                assert isinstance(index, Index), f"{type(index)} is not cuDF's index"
                index = index._index
            self._frame = pd.DataFrame(data, index=index, columns=columns)

        dtypes = property(lambda self: self._frame.dtypes)
        columns = property(lambda self: self._frame.columns)
        index = property(lambda self: Index(self._frame.index))
        shape = property(lambda self: self._frame.shape)

        def __len__(self):
            return len(self._frame)

        def __getitem__(self, name):
            if isinstance(name, slice | list):
                return DataFrame(self._frame[name])
            return Series(self._frame[name])

        def to_pandas(self, *, nullable=False, arrow_type=False):
            return self._frame

        def to_cupy(self, dtype=None, copy=False, na_value=None):
            return cupy.asarray(np.asfortranarray(self._frame.to_numpy(dtype)))

        def __array__(self, *_, **__):
            raise TypeError(
                "Implicit conversion to a host NumPy array via __array__ is not allowed"
            )

    DataFrame.__module__, DataFrame.__qualname__ = "cudf.core.dataframe", "DataFrame"
    Series.__module__ = "cudf.core.series"
    cudf.DataFrame, cudf.Series, cudf.Index = DataFrame, Series, Index
    monkeypatch.setitem(sys.modules, "cudf", cudf)
    return cudf
