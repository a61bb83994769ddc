"""What the public functions take, checked in one place: shapes, dtypes, devices, numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any, TypeVar

import torch

__all__ = [
    "checked",
    "count",
    "full_precision",
    "points",
    "real",
    "rows_of",
    "same_kind",
    "settings",
]

REALS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Function = TypeVar("Function", bound=Callable[..., Any])


def full_precision(function: Function) -> Function:
    """Run without autocast and with whole products: Cholesky factors and weights need them.

    Half-precision arguments become float32 by :func:`real`, so that modules can stand in a network
    that runs under ``torch.autocast``, or with ``torch.set_float32_matmul_precision("medium")``.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        with (
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            _whole_products(),
        ):
            return function(*args, **options)

    return wrapped  # type: ignore[return-value]


@contextmanager
def _whole_products() -> Iterator[None]:
    """Products of float32 matrices in float32, not in TensorFloat-32 or bfloat16.

    The setting belongs to the process. While torch.compile traces it is left alone: what is traced
    runs later, and the operators set it for themselves.
    """
    if torch.compiler.is_compiling():
        yield
        return
    backends: Any = (torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)
    if not hasattr(backends[0], "fp32_precision"):  # PyTorch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    found = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, found, strict=True):
            backend.fp32_precision = precision


def checked(name: str, tensor: Any, *, ndim: int | None = None) -> Any:
    """The tensor as it is, of real floating-point numbers.

    Raises
    ------
    TypeError
        If it is no tensor of real floating-point numbers.
    ValueError
        If it has another number of dimensions than ``ndim``.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(
            f"{name} is a {type(tensor).__name__}, and must be a torch.Tensor: "
            f"torch.as_tensor({name}) makes one"
        )
    if tensor.is_sparse or tensor.layout != torch.strided:
        raise TypeError(f"{name} has layout {tensor.layout}, and must be dense: use to_dense()")
    if tensor.dtype not in REALS:
        raise TypeError(
            f"{name} has dtype {tensor.dtype}, and must be of real floating-point numbers, of 16 "
            f"to 64 bits: use {name}.float() or {name}.double()"
        )
    if ndim is not None and tensor.ndim != ndim:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}, and must have {ndim} dimensions: "
            + {2: "rows of features; flatten(1) makes them", 3: "(points, neighbours, features)"}[
                ndim
            ]
        )
    return tensor


def real(name: str, tensor: Any, *, ndim: int | None = None) -> Any:
    """The tensor, :func:`checked`, as float32 or float64: half precision becomes float32."""
    tensor = checked(name, tensor, ndim=ndim)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def same_kind(**tensors: Any) -> None:
    """Raise unless all are of one dtype and on one device."""
    (first, one), *others = tensors.items()
    for name, other in others:
        if other.device != one.device:
            raise ValueError(
                f"{name} is on {other.device} and {first} on {one.device}: move one of them, "
                f"{name}.to({first}.device)"
            )
        # Half precision has become float32, or will.
        if torch.promote_types(other.dtype, torch.float32) != torch.promote_types(
            one.dtype, torch.float32
        ):
            raise TypeError(
                f"{name} has dtype {other.dtype} and {first} has {one.dtype}: make them the same, "
                f"{name}.to({first}.dtype)"
            )


def rows_of(name: str, bank: Any, index_name: str, index: Any) -> Any:
    """The index as int64, checked to be rows of the bank where that is free of charge.

    On a GPU a look at the numbers would make the host wait: the device's own check reports what is
    out of range there.
    """
    if not isinstance(index, torch.Tensor) or index.dtype.is_floating_point or index.is_complex():
        kind = getattr(index, "dtype", type(index).__name__)
        raise TypeError(f"{index_name} is {kind}, and must be a tensor of integers, rows of {name}")
    if index.dtype == torch.bool:
        raise TypeError(f"{index_name} is a mask, and must be a tensor of integers, rows of {name}")
    if index.ndim != 2:
        raise ValueError(
            f"{index_name} has shape {tuple(index.shape)}, and must be (points, neighbours)"
        )
    if index.device != bank.device:
        raise ValueError(
            f"{index_name} is on {index.device} and {name} on {bank.device}: use "
            f"{index_name}.to({name}.device)"
        )
    index = index.long()
    if index.device.type == "cpu" and not torch.compiler.is_compiling() and index.numel():
        low, high = (int(end) for end in torch.aminmax(index))
        if low < 0 or high >= len(bank):
            raise IndexError(
                f"{index_name} has {low if low < 0 else high}, and must have rows of {name}, from "
                f"0 to {len(bank) - 1}"
            )
    return index


def points(name: str, x: Any, bank_name: str, bank: Any) -> None:
    """Raise unless both have the same features, dtype and device."""
    if x.shape[-1] != bank.shape[-1]:
        raise ValueError(
            f"{name} has {x.shape[-1]} features and {bank_name} has {bank.shape[-1]}: they must "
            "have the same"
        )
    same_kind(**{name: x, bank_name: bank})


def count(name: str, number: Any) -> int:
    """A number of neighbours, as an int."""
    if type(number) is not bool and isinstance(number, Integral):
        return int(number)
    if isinstance(number, torch.SymInt):  # while torch.compile traces
        return number
    raise TypeError(f"{name}={number!r} must be an integer")


def settings(*, reg: float) -> float:
    """``reg`` as a float above 0."""
    reg = float(reg)
    if not 0 < reg < float("inf"):
        raise ValueError(
            f"reg={reg!r} must be greater than 0 and finite: without a ridge the weights are not "
            "unique where there are more neighbours than features, and explode where neighbours "
            "lie in a plane. Use 1e-3 (LLE's default), or 0.1 for classification."
        )
    return reg
