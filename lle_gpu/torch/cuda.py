"""The GPU path for CUDA tensors: its kernels, on the tensors' memory, in torch's current stream.

Tensors and CuPy's arrays share memory by DLPack, both ways. Nothing here is differentiable; the
operators that call it know their derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lle_gpu.cuda import cupy
from lle_gpu.cuda.probe import find_device

__all__ = ["barycentric_weights", "neighbor_search"]


class _Stream:
    """One of torch's by CUDA's protocol, which theirs have since torch 2.10 alone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream  # kept alive

    def __cuda_stream__(self) -> tuple[int, int]:
        """Version of the protocol, and the stream."""
        return 0, self._stream.cuda_stream


@contextmanager
def _like_torch(x: Any) -> Iterator[Any]:
    """CuPy on x's device, in torch's current stream there."""
    cp = cupy()
    current = _Stream(torch.cuda.current_stream(x.device))
    with cp.cuda.Device(x.device.index):
        find_device()  # what stands in the way is said in words
        with cp.cuda.Stream.from_external(current):
            yield cp


def barycentric_weights(x: Any, bank: Any, idx: Any, reg: float) -> Any:
    """Weights (n, k) of x's dtype, of points x (n, d) in the rows idx (n, k) of the bank (N, d)."""
    from lle_gpu.constraints.gpu.standard import barycentric_weights as weights

    with _like_torch(x) as cp:
        arrays = (cp.from_dlpack(part.detach().contiguous()) for part in (x, bank, idx))
        return torch.from_dlpack(weights(*arrays, reg=reg)).to(x.dtype)


def neighbor_search(bank: Any) -> Any:
    """``search(x, k) -> idx``: int64 rows (m, k) of the bank (N, d) nearest to x (m, d).

    Without x the bank's own points are the queries, each with itself left out.
    """
    from lle_gpu.neighbors.gpu import NeighborSearch

    with _like_torch(bank) as cp:
        engine = NeighborSearch(cp.from_dlpack(bank.detach().contiguous()), 1)
        cp.cuda.get_current_stream().synchronize()  # the bank: searches may be in other streams

    def search(x: Any, k: int) -> Any:
        with _like_torch(bank) as cp:
            points = None if x is None else cp.from_dlpack(x.detach().contiguous())
            return torch.from_dlpack(engine.kneighbors(points, k, return_distance=False))

    return search
