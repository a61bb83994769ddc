"""The functions of ``cupy`` that lle_gpu uses, with CuPy's signatures. Add what is needed, only."""

from __future__ import annotations

import builtins
import ctypes
import inspect
import math
import sys
from typing import Any

import numpy as np

from .array import CUDA, like_numpy, ndarray, no_capture, ran, unwrap, wrap
from .machine import machine

# The same objects in both libraries.
CONSTANTS = [
    *("bool_", "int8", "int32", "int64", "uint8", "uint32", "uint64", "float16", "float32"),
    *("float64", "complex64", "complex128", "dtype", "finfo", "iinfo", "inf", "nan", "newaxis"),
    *("pi", "result_type"),
]
for _name in CONSTANTS:
    globals()[_name] = getattr(np, _name)


def _from_host(a: Any, dtype: Any, order: Any, copy: Any) -> Any:
    """An array from anything, on the current device."""
    if not isinstance(a, ndarray) and hasattr(a, "__cuda_array_interface__"):
        a = _foreign(a)  # another library's array is taken without a copy
    if isinstance(a, ndarray):
        if dtype is not None and a.dtype != dtype:
            return a.astype(dtype, order or "K")
        value = np.array(unwrap(a), order=order or "K", copy=True if copy else None)
        return a if value is a._array else wrap(value, a, order="K")
    no_capture("a copy to the device")
    fortran = isinstance(a, np.ndarray) and a.flags.fnc and order in (None, "K")
    value = np.array(a, dtype, order="F" if fortran else "C" if order in (None, "K") else order)
    machine.bytes_to_device += value.nbytes
    machine.pinned_bytes = builtins.max(machine.pinned_bytes, 1 << (value.nbytes - 1).bit_length())
    return wrap(value, order="K")


def _foreign(a: Any) -> Any:
    described = a.__cuda_array_interface__
    dtype, shape = np.dtype(described["typestr"]), described["shape"]
    strides = described["strides"] or np.empty(shape, dtype).strides
    steps = (stride * (n - 1) for stride, n in zip(strides, shape, strict=True))
    size = builtins.sum(steps) + dtype.itemsize if math.prod(shape) else 0
    memory = (ctypes.c_char * size).from_address(described["data"][0])
    memory.owner = a  # kept alive
    return wrap(np.ndarray(shape, dtype, memory, strides=strides), order="K")


def from_dlpack(array, *, device=None, copy=None):
    if array.__dlpack_device__()[0] != CUDA:
        raise ValueError("the array is not in a GPU's memory")
    capsule = array.__dlpack__(stream=1)
    if capsule.device != machine.device:
        raise ValueError(f"an array of device {capsule.device} is used on device {machine.device}")
    return wrap(capsule.array, capsule.owner)


def array(obj, dtype=None, copy=True, order="K"):
    return _from_host(obj, dtype, order, copy)


def asarray(a, dtype=None, order=None):
    return _from_host(a, dtype, order, False)


def ascontiguousarray(a, dtype=None):
    return _from_host(a, dtype, "C", False)


def asfortranarray(a, dtype=None):
    return _from_host(a, dtype, "F", False)


def asnumpy(a, stream=None, order="C", out=None):
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a, order=order)


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    template = np.empty_like(prototype._array, dtype, order, shape=shape)
    fortran = template.flags.f_contiguous and not template.flags.c_contiguous
    return ndarray(template.shape, template.dtype, "F" if fortran else "C")


def zeros(shape, dtype=float, order="C"):
    return wrap(np.zeros(shape, dtype, order), order="K")


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    return wrap(np.zeros_like(unwrap(a), dtype, order, shape=shape), order="K")


def ones(shape, dtype=float, order="C"):
    return wrap(np.ones(shape, dtype, order), order="K")


def full(shape, fill_value, dtype=None, order="C"):
    return wrap(np.full(shape, unwrap(fill_value), dtype, order), order="K")


def arange(start, stop=None, step=1, dtype=None):
    return wrap(
        np.arange(start, stop, step, dtype) if stop is not None else np.arange(start, dtype=dtype)
    )


def get_array_module(*args):
    return sys.modules["cupy"] if any(isinstance(a, ndarray) for a in args) else np


def shares_memory(a, b, max_work=None):
    return np.shares_memory(a._array, b._array)


def argsort(a, axis=-1, kind=None):
    return a.argsort(axis, kind)


def where(condition, x=None, y=None):
    no_capture("where")
    if x is None and y is None:
        return wrap(np.where(unwrap(condition)))
    return wrap(np.where(unwrap(condition), unwrap(x), unwrap(y)))


@like_numpy
def flatnonzero(a): ...
@like_numpy
def searchsorted(a, v, side="left", sorter=None): ...
@like_numpy
def concatenate(tup, axis=0, out=None): ...
@like_numpy
def stack(tup, axis=0, out=None): ...
@like_numpy
def reshape(a, newshape, order="C"): ...
@like_numpy
def ravel(a, order="C"): ...
@like_numpy
def sum(a, axis=None, dtype=None, out=None, keepdims=False): ...
@like_numpy
def mean(a, axis=None, dtype=None, out=None, keepdims=False): ...
@like_numpy
def median(a, axis=None, out=None, overwrite_input=False, keepdims=False): ...
@like_numpy
def max(a, axis=None, out=None, keepdims=False): ...
@like_numpy
def min(a, axis=None, out=None, keepdims=False): ...
@like_numpy
def argmax(a, axis=None, dtype=None, out=None, keepdims=False): ...
@like_numpy
def any(a, axis=None, out=None, keepdims=False): ...
@like_numpy
def cumsum(a, axis=None, dtype=None, out=None): ...
@like_numpy
def clip(a, a_min, a_max, out=None): ...
@like_numpy
def einsum(*operands, **kwargs): ...
@like_numpy
def diagonal(a, offset=0, axis1=0, axis2=1): ...


def matmul(*args, out=None):
    no_capture("matmul")
    a, b = map(unwrap, args)
    result = np.matmul(a, b)
    if out is None:
        return wrap(result)
    out[...] = wrap(result)
    return out


def _ufunc(name: str, arguments: int) -> Any:
    """CuPy's ufunc of that name: arrays and scalars in, ``out`` and ``dtype`` as keywords."""
    does = getattr(np, name)

    def ufunc(*args, out=None, dtype=None):
        if len(args) != arguments:
            raise TypeError(f"{name} takes {arguments} arguments, not {len(args)}")
        for value in args:
            if not isinstance(value, ndarray | bool | int | float | np.generic):
                raise TypeError(f"Unsupported type {type(value)}")
        no_capture(name)
        result = does(*map(unwrap, args), dtype=dtype)
        if out is None:
            return wrap(result)
        out._array[...] = result
        ran(out)
        return out

    ufunc.__name__, ufunc.arguments = name, arguments
    return ufunc


def _add_at(a: ndarray, indices: Any, b: Any = None) -> None:
    """``cupy.add.at``, by atomics: of integers and float32 and more."""
    no_capture("add.at")
    if a.dtype not in (np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64):
        raise TypeError(f"cupy.add.at does not support {a.dtype}")
    np.add.at(unwrap(a), unwrap(indices), unwrap(b))
    ran(a)


UNARY = "abs", "isfinite", "isnan", "sqrt"
BINARY = "add", "logical_or", "maximum", "minimum"
for _name in UNARY:
    globals()[_name] = _ufunc(_name, 1)
for _name in BINARY:
    globals()[_name] = _ufunc(_name, 2)

add.at = _add_at  # noqa: F821

FUNCTIONS = [
    name
    for name, value in list(globals().items())
    if inspect.isfunction(value) and value.__module__ == __name__ and name[0] != "_"
]
__all__ = [*CONSTANTS, *FUNCTIONS, "__version__"]
__version__ = "14.2.stand-in"
