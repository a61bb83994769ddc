"""``cupy.ndarray`` over a NumPy array, and how the stand-in's functions are made of NumPy's."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .machine import Allocation, machine
from .streams import Accesses

__all__ = ["ndarray"]

CUDA = 2  # DLPack's number


def unwrap(value: Any) -> Any:
    """The NumPy array of one of ours on the current device; scalars as they are.

    The operation that follows reads it, unless what follows is a view.
    """
    if isinstance(value, ndarray):
        if value.device.id != machine.device:
            operands()
            raise ValueError(
                f"an array of device {value.device.id} is used on device {machine.device}"
            )
        vars(machine.thread).setdefault("operands", []).append(value._allocation.accesses)
        return value._array
    if isinstance(value, tuple | list):
        return type(value)(unwrap(part) for part in value)
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: mixing with NumPy arrays")
    return value


def no_capture(what: str) -> None:
    """Refuse what may not be done while a stream is captured."""
    from .cuda import get_current_stream

    if get_current_stream().is_capturing():
        raise RuntimeError(f"{what} while a stream is captured: only kernels may be launched")


def operands() -> list[Accesses]:
    """What has been unwrapped since the calling thread's last operation; and forget it."""
    return vars(machine.thread).pop("operands", [])


def ran(*written: ndarray) -> None:
    """Note an operation on the current stream, that read what was unwrapped and wrote these."""
    _note(operands(), *written)


def _note(reads: list[Accesses], *written: ndarray) -> None:
    writes = [array._allocation.accesses for array in written]
    machine.streams.operation(machine.stream, reads, writes)


def wrap(value: Any, *sources: Any, order: str = "C") -> Any:
    """One of our arrays: a view if it shares a source's memory, else newly allocated.

    What CuPy makes stands in C order, whatever it is made of, but where the caller says "K".
    """
    if isinstance(value, tuple):
        parts = [wrap(part, *sources, order=order) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    reads = operands()
    if not isinstance(value, np.ndarray | np.generic):
        return value
    value = np.asarray(value)
    if value.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {value.dtype}")
    for source in sources:
        if isinstance(source, ndarray) and np.may_share_memory(value, source._array):
            return _make(value, source._allocation)
    no_capture("an array is made")
    array = _make(np.asarray(value, order=order), Allocation(value.nbytes))
    _note(reads, array)
    return array


def _make(value: np.ndarray, allocation: Allocation) -> ndarray:
    array = object.__new__(ndarray)
    array._array, array._allocation = value, allocation
    return array


def like_numpy(
    stub: Callable[..., Any], numpys: Callable[..., Any] | None = None, order: str = "C"
) -> Any:
    """A function with the stub's signature, which is CuPy's, that does what NumPy's does."""
    signature = inspect.signature(stub)
    does = numpys or getattr(np, stub.__name__)

    @functools.wraps(stub)
    def function(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        positional, keywords, sources = [], {}, []
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional.extend(unwrap(part) for part in value)
                sources.extend(value)
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                keywords.update({key: unwrap(part) for key, part in value.items()})
                continue
            sources.extend(value if isinstance(value, tuple | list) else [value])
            if parameter.default is parameter.empty:
                if not isinstance(value, ndarray | tuple | list | int | float | str | np.generic):
                    raise TypeError(f"Unsupported type {type(value)} for {name}")
                positional.append(unwrap(value))
            else:
                keywords[name] = unwrap(value)
        no_capture(stub.__name__)
        result = does(*positional, **keywords)
        out = bound.arguments.get("out")
        if out is None:
            numbers = isinstance(result, bool | int | float)  # which NumPy counts on the host
            return wrap(np.asarray(result) if numbers else result, *sources, order=order)
        ran(out)
        return out

    return function


class Capsule:
    """What ``__dlpack__`` gives: shared memory. Here a NumPy array, and who owns it."""

    def __init__(self, array: np.ndarray, device: int, owner: Any) -> None:
        self.array, self.device, self.owner = array, device, owner


class Flags:
    """``ndarray.flags``."""

    def __init__(self, flags: Any) -> None:
        self.c_contiguous = bool(flags.c_contiguous)
        self.f_contiguous = bool(flags.f_contiguous)
        self.owndata = bool(flags.owndata)


class Pointer:
    """``ndarray.data``."""

    def __init__(self, ptr: int, device: int) -> None:
        self.ptr, self.device_id = ptr, device


def _method(stub: Callable[..., Any]) -> Any:
    return like_numpy(stub, getattr(np.ndarray, stub.__name__))


def _binary(name: str) -> Any:
    does = getattr(operator, name.strip("_"), None) or getattr(operator, f"{name.strip('_')}_")

    def forward(self: ndarray, other: Any) -> Any:
        if not isinstance(other, ndarray | bool | int | float | complex | np.generic):
            raise TypeError(f"Unsupported type {type(other)}")
        no_capture(name)
        return wrap(does(unwrap(self), unwrap(other)))

    def reflected(self: ndarray, other: Any) -> Any:
        if not isinstance(other, bool | int | float | complex | np.generic):
            raise TypeError(f"Unsupported type {type(other)}")
        no_capture(name)
        return wrap(does(unwrap(other), unwrap(self)))

    def in_place(self: ndarray, other: Any) -> Any:
        if not isinstance(other, ndarray | bool | int | float | complex | np.generic):
            raise TypeError(f"Unsupported type {type(other)}")
        no_capture(name)
        result = does(unwrap(self), unwrap(other))
        if not np.can_cast(result.dtype, self.dtype, "same_kind") or result.shape != self.shape:
            raise TypeError(f"cannot put {result.dtype}{result.shape} into {self.dtype}")
        self._array[...] = result
        ran(self)
        return self

    return forward, reflected, in_place


def _index(index: Any) -> Any:
    """An index that CuPy takes without a copy from the host."""
    if isinstance(index, tuple):
        return tuple(_index(part) for part in index)
    if isinstance(index, ndarray):
        return unwrap(index)
    if index is None or index is Ellipsis or isinstance(index, int | np.integer):
        return index
    if isinstance(index, slice):
        return slice(*(_index(part) for part in (index.start, index.stop, index.step)))
    raise TypeError(f"Unsupported type {type(index)} in an index")


class ndarray:  # noqa: N801
    """CuPy's array class, as far as lle_gpu uses it."""

    _array: np.ndarray
    _allocation: Allocation
    __array_ufunc__ = None  # NumPy's operators leave it to ours, and NumPy's ufuncs raise

    def __init__(self, shape: Any, dtype: Any = float, order: str = "C") -> None:
        no_capture("an array is made")
        self._array = np.empty(shape, dtype, order)
        self._allocation = Allocation(self._array.nbytes)
        self._array.reshape(-1, order="A").view(np.uint8).fill(0xFF)  # NaN, -1: not yet written

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed: use .get()")

    shape = property(lambda self: self._array.shape)
    strides = property(lambda self: self._array.strides)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    flags = property(lambda self: Flags(self._array.flags))
    T = property(lambda self: wrap(self._array.T, self))
    data = property(lambda self: Pointer(self._array.ctypes.data, self._allocation.device))

    @property
    def device(self) -> Any:
        from .cuda import Device

        return Device(self._allocation.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.data.ptr, False),
            "strides": None if self.flags.c_contiguous else self.strides,
            "version": 3,
            "stream": 1,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device.id

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None) -> Capsule:
        return Capsule(self._array, self.device.id, self)

    def get(self, stream=None, order="C", out=None, blocking=True):
        no_capture("a copy to the host")
        from .cuda import get_current_stream

        machine.bytes_to_host += self.nbytes
        stream = get_current_stream() if stream is None else stream  # of the current device
        with self.device:
            copying = stream._name
        machine.streams.operation(copying, [self._allocation.accesses])
        if blocking:
            machine.streams.wait_on_host(machine.streams.at(copying))
        if out is None:
            return self._array.copy(order)
        out[...] = self._array
        return out

    def set(self, arr, stream=None):
        no_capture("a copy to the device")
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError("dtype or shape mismatch")
        machine.bytes_to_device += self.nbytes
        self._array[...] = arr
        ran(self)

    def __getitem__(self, index: Any) -> ndarray:
        key = _index(index)
        key = key if isinstance(key, tuple) else (key,)
        if Ellipsis not in [part if part is Ellipsis else None for part in key]:
            key = (*key, Ellipsis)  # one number is an array of no dimension, and still a view
        unwrap(self)
        return wrap(self._array[key], self)

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(value, ndarray | bool | int | float | complex | np.generic):
            raise TypeError(f"Unsupported type {type(value)}")
        no_capture("setting elements")
        key, value = _index(index), unwrap(value)
        unwrap(self)[key] = value
        if any(isinstance(part, np.ndarray) for part in (key if isinstance(key, tuple) else [key])):
            # Threads write these in any order: what is written twice has to be the same.
            written = np.asarray(value).astype(self.dtype)
            if not np.array_equal(
                self._array[key], np.broadcast_to(written, self._array[key].shape), equal_nan=True
            ):
                raise ValueError("different values are written to one element")
        ran(self)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __index__(self) -> int:
        return operator.index(self.get())

    def __repr__(self) -> str:
        return f"<stand-in {self._array!r}>"

    __hash__ = None  # type: ignore[assignment]

    __add__, __radd__, __iadd__ = _binary("__add__")
    __sub__, __rsub__, __isub__ = _binary("__sub__")
    __mul__, __rmul__, __imul__ = _binary("__mul__")
    __truediv__, __rtruediv__, __itruediv__ = _binary("__truediv__")
    __floordiv__, __rfloordiv__, __ifloordiv__ = _binary("__floordiv__")
    __mod__, __rmod__, __imod__ = _binary("__mod__")
    __pow__, __rpow__, __ipow__ = _binary("__pow__")
    __and__, __rand__, __iand__ = _binary("__and__")
    __or__, __ror__, __ior__ = _binary("__or__")
    __xor__, __rxor__, __ixor__ = _binary("__xor__")
    __matmul__, __rmatmul__, _ = _binary("__matmul__")
    __lt__, _, _ = _binary("__lt__")
    __le__, _, _ = _binary("__le__")
    __gt__, _, _ = _binary("__gt__")
    __ge__, _, _ = _binary("__ge__")
    __eq__, _, _ = _binary("__eq__")  # type: ignore[assignment]
    __ne__, _, _ = _binary("__ne__")  # type: ignore[assignment]
    del _

    def __neg__(self) -> Any:
        no_capture("neg")
        return wrap(-unwrap(self))

    def __abs__(self) -> Any:
        no_capture("abs")
        return wrap(abs(unwrap(self)))

    def __invert__(self) -> Any:
        no_capture("invert")
        return wrap(~unwrap(self))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        no_capture("astype")
        return wrap(unwrap(self).astype(dtype, order, copy=copy), self, order="K")

    def copy(self, order="C"):
        no_capture("copy")
        return wrap(unwrap(self).copy(order), order="K")

    def reshape(self, *shape, order="C"):
        return wrap(unwrap(self).reshape(*shape, order=order), self)

    def transpose(self, *axes):
        return wrap(unwrap(self).transpose(*axes), self)

    def view(self, dtype=None):
        return wrap(unwrap(self).view(dtype), self)

    def fill(self, value):
        self[...] = value

    def sort(self, axis=-1, kind=None):
        no_capture("sort")
        if not self.flags.c_contiguous:
            raise NotImplementedError("Sorting non-contiguous array is not supported.")
        unwrap(self).sort(axis, kind="stable")
        ran(self)

    def argsort(self, axis=-1, kind=None):
        no_capture("argsort")
        return wrap(unwrap(self).argsort(axis, kind="stable"))

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    @_method
    def ravel(self, order="C"): ...
    @_method
    def diagonal(self, offset=0, axis1=0, axis2=1): ...
    @_method
    def trace(self, offset=0, axis1=0, axis2=1, dtype=None, out=None): ...
    @_method
    def repeat(self, repeats, axis=None): ...
    @_method
    def nonzero(self): ...
    @_method
    def sum(self, axis=None, dtype=None, out=None, keepdims=False): ...
    @_method
    def mean(self, axis=None, dtype=None, out=None, keepdims=False): ...
    @_method
    def max(self, axis=None, out=None, keepdims=False): ...
    @_method
    def min(self, axis=None, out=None, keepdims=False): ...
    @_method
    def argmax(self, axis=None, out=None, keepdims=False): ...
    @_method
    def argmin(self, axis=None, out=None, keepdims=False): ...
    @_method
    def any(self, axis=None, out=None, keepdims=False): ...
    @_method
    def all(self, axis=None, out=None, keepdims=False): ...
    @_method
    def cumsum(self, axis=None, dtype=None, out=None): ...


# By which lle_gpu tells CuPy's arrays from NumPy's.
ndarray.__module__ = "cupy"
