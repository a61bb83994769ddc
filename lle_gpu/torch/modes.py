"""The modes that PyTorch computes in: how many digits, evaluation, gradients, random numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

__all__ = [
    "NOT_CAPTURED",
    "evaluating",
    "full_precision",
    "own_modes",
    "product",
    "products_lose_digits",
    "seeded",
]

# For operators that wait for the device, which no CUDA graph can hold: torch.compile, which makes
# such graphs with mode="reduce-overhead", then leaves them out. Older releases have no such tag.
NOT_CAPTURED = (
    {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}
)
Function = TypeVar("Function", bound=Callable[..., Any])


def full_precision(function: Function) -> Function:
    """Run without autocast: Cholesky factors know no half precision, and weights need more.

    :func:`lle_gpu.torch.checks.real` makes float32 of half-precision arguments, so that our modules
    can be part of a network that runs under ``torch.autocast``.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        with (
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            return function(*args, **options)

    return wrapped  # type: ignore[return-value]


def product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None) -> Any:
    """Batches of matrices a (n, p, q) times b (n, q, r), float32 ones with all digits of float32.

    ``torch.set_float32_matmul_precision`` and its like let float32 products lose digits, which
    networks tolerate and weights do not. The setting is the whole process's and is left alone:
    where it is on, products are made in float64. While torch.compile traces it is ignored.
    """
    if products_lose_digits(a):
        whole = torch.bmm(a.double(), b.double()).float()
        return whole if out is None else out.copy_(whole)
    return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)


def products_lose_digits(like: torch.Tensor) -> bool:
    """Whether PyTorch's own products of such matrices lose digits, also in derivatives."""
    if like.dtype != torch.float32 or torch.compiler.is_compiling():
        return False
    on_gpu = like.device.type == "cuda"
    backend: Any = torch.backends.cuda.matmul if on_gpu else torch.backends.mkldnn.matmul
    if hasattr(backend, "fp32_precision"):
        return backend.fp32_precision not in ("ieee", "none")
    return torch.get_float32_matmul_precision() != "highest"  # PyTorch before 2.9


@contextmanager
def own_modes() -> Iterator[None]:
    """Gradients and full precision, whatever modes the caller is in."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """In evaluation mode, and each of its modules in its own again afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def seeded(seed: int, device: Any) -> Iterator[None]:
    """Torch's generators on the CPU and this device start from the seed, and go on as before."""
    on_gpu = device.type == "cuda"
    index = torch.cuda.current_device() if on_gpu and device.index is None else device.index
    with torch.random.fork_rng(devices=[index] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield
