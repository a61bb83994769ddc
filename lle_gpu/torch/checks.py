"""What the public functions take, checked in one place: shapes, dtypes, devices, numbers."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch

from lle_gpu.exceptions import GpuUnavailableError

__all__ = [
    "checked",
    "chosen_device",
    "count",
    "listed",
    "number",
    "one_of",
    "real",
    "ridge",
    "rows_of",
    "same_features",
    "same_kind",
]

# Rows that a message names.
SHOWN = 8
REALS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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


def same_features(name: str, x: Any, bank_name: str, bank: Any) -> None:
    """Raise unless both have the same features, dtype and device."""
    if x.shape[-1] != bank.shape[-1]:
        raise ValueError(
            f"{name} has {x.shape[-1]} features and {bank_name} has {bank.shape[-1]}: they must "
            "have the same"
        )
    same_kind(**{name: x, bank_name: bank})


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raise unless the value is among those that are allowed."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")


def count(name: str, value: Any) -> int:
    """A number of neighbours, as an int."""
    if type(value) is not bool and isinstance(value, Integral):
        return int(value)
    if isinstance(value, torch.SymInt):  # while torch.compile traces
        return value
    raise TypeError(f"{name}={value!r} must be an integer")


def chosen_device(name: str, device: Any) -> torch.device:
    """The device, found to work; "auto", "gpu" and "cuda" as the estimators' ``device``.

    Raises
    ------
    ValueError
        If PyTorch knows no such device.
    GpuUnavailableError
        If it knows it and cannot use it.
    """
    asked = device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device("cuda" if device == "gpu" else device)
    except RuntimeError as error:
        raise ValueError(
            f"{name}={asked!r} must be 'auto', 'cpu', 'gpu', 'cuda', None, or a device of "
            "PyTorch's, such as 'cuda:1'"
        ) from error
    try:
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).partition("\n")[0].partition(". ")[0]
        raise GpuUnavailableError(
            f"{name}={asked!r} cannot be used here: {why}. Use "
            f"{name}='auto' or 'cpu', or install a PyTorch for your GPU: https://pytorch.org"
        ) from error
    return found


def listed(rows: Any) -> str:
    """The first of some row numbers, as they go into a message."""
    return ", ".join(map(str, rows[:SHOWN])) + ", ..." * (len(rows) > SHOWN)


def number(name: str, value: Any) -> float:
    """A setting as a float. No gradient goes to settings, so none may be asked for."""
    if isinstance(value, torch.Tensor) and value.requires_grad:
        raise TypeError(
            f"{name} is a tensor that requires grad, and must be a number: nothing is "
            f"differentiated with respect to {name}. Give {name}.item(), and choose among values "
            "by what comes out"
        )
    if isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a number")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}={value!r} must be a number") from error


def ridge(reg: Any) -> float:
    """``reg`` as a float above 0."""
    reg = number("reg", reg)
    if not 0 < reg < float("inf"):
        raise ValueError(
            f"reg={reg!r} must be greater than 0 and finite: without a ridge the weights are not "
            "unique where there are more neighbours than features, and explode where neighbours "
            "lie in a plane. Use 1e-3 (LLE's default), or 0.1 for classification."
        )
    return reg
