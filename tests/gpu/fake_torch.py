"""CUDA tensors without a GPU: a fake of the few things that lle_gpu asks of torch.

Its tensors hold an array of the stand-in for CuPy, and share its memory by DLPack, in both
directions. Names and behaviour are those of torch 2.13: ``requires_grad`` tensors refuse DLPack,
and nothing becomes NumPy's by itself. What only a device shows (streams, real capsules) is not
here.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np

FLOATING = ("float16", "bfloat16", "float32", "float64")


def install(monkeypatch, cupy):
    """Make ``torch`` importable; returns the module, with ``torch.cuda_tensor(array, ...)``."""
    torch = ModuleType("torch")
    for name in (*FLOATING, "int64", "uint8", "bool", "complex64"):
        setattr(torch, name, f"torch.{name}")
    torch.strided, torch.sparse_coo = "torch.strided", "torch.sparse_coo"

    class Tensor:
        __module__ = "torch"
        is_nested = is_meta = False

        def __init__(self, array, *, requires_grad=False, layout="torch.strided", dtype=None):
            assert isinstance(array, cupy.ndarray)
            self._array = array
            self.requires_grad, self.layout, self.is_quantized = requires_grad, layout, False
            self.dtype = dtype or f"torch.{array.dtype}"
            self.device = SimpleNamespace(type="cuda", index=array.device.id)
            self.shape = array.shape

        def __len__(self):
            return len(self._array)

        def is_complex(self):
            return "complex" in self.dtype

        def is_floating_point(self):
            return self.dtype.removeprefix("torch.") in FLOATING

        def detach(self):
            return Tensor(self._array, layout=self.layout, dtype=self.dtype)

        def float(self):
            return Tensor(self._array.astype(np.float32))

        def to(self, dtype):
            return Tensor(self._array.astype(np.dtype(dtype.removeprefix("torch."))))

        def __array__(self, *_, **__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy.")

        def __dlpack_device__(self):
            return 2, self.device.index

        def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
            if self.requires_grad:
                raise BufferError("Can't export tensors that require gradient")
            if self.dtype in ("torch.bool", "torch.bfloat16"):
                raise BufferError(f"{self.dtype} cannot be taken by CuPy")
            return self._array.__dlpack__(stream=stream)

    def from_dlpack(ext_tensor):
        assert isinstance(ext_tensor, cupy.ndarray)
        return Tensor(ext_tensor)

    torch.Tensor, torch.from_dlpack, torch.cuda_tensor = Tensor, from_dlpack, Tensor
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch
