"""Exact nearest neighbours of tensors: by the searches of lle_gpu, on the CPU or the GPU.

Ordered by (distance in float64, row), so that the result does not depend on device, threads or
batch. Not differentiable: neighbours are constant between ties.
"""

# No `from __future__ import annotations`: torch reads the operators' schemas from the types.
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op
from torch.utils.weak import WeakTensorKeyDictionary

from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.torch import cuda
from lle_gpu.torch.checks import checked, count, real, same_features
from lle_gpu.torch.modes import NOT_CAPTURED

__all__ = ["knn"]

# Up to a batch's worth of points, starting threads costs more than they save.
ONE_THREAD_POINTS = 512

# Numbers of a bank that are looked at at once.
FINGERPRINT_NUMBERS = 1 << 19

# The search in a bank (tree, norms) for as long as the tensor lives and is not written to.
_searches: Any = WeakTensorKeyDictionary()


def knn(
    x: Tensor, bank: Tensor | None = None, *, k: int, exclude_self: bool | None = None
) -> Tensor:
    """The k nearest points of a bank, exactly.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Points; half precision is compared as float32.
    bank : Tensor of shape (N, d), default=None
        Where to search; None is x itself. What is prepared for the search is kept while the tensor
        lives and holds the same numbers, so that the next call is fast.
    k : int
        Neighbours of each point.
    exclude_self : bool, default=None
        Whether row i of the bank is left out for point i, which then has to be that point. None
        is True without a bank and False with one.

    Returns
    -------
    idx : Tensor of shape (n, k), int64
        Rows of the bank, by distance and then by row. On x's device; no gradient.

    Raises
    ------
    TypeError, ValueError
        For other dtypes, shapes or devices, NaN or infinity, or a bank with fewer than k points.

    Examples
    --------
    >>> import torch
    >>> from lle_gpu.torch import knn
    >>> knn(torch.tensor([[0.0], [1.0], [5.0]]), k=1)
    tensor([[1],
            [0],
            [1]])
    """
    x, k = checked("x", x, ndim=2), count("k", k)
    own = bank is None if exclude_self is None else bool(exclude_self)
    if bank is None:
        bank = x
    else:
        bank = checked("bank", bank, ndim=2)
        same_features("x", x, "bank", bank)
    most = bank.shape[0] - own
    if not 1 <= k <= most and (len(x) or k < 1):
        raise ValueError(
            f"k={k} must be from 1 to {most}, with {bank.shape[0]} points to search in"
            + (" and the point itself left out" if own else "")
        )
    # Given twice, a tensor may come as two from a compiled graph.
    return nearest(x, None if own and bank is x else bank, k, own)


@custom_op(  # type: ignore[untyped-decorator]
    "lle_gpu::knn", mutates_args=(), **NOT_CAPTURED
)
def nearest(x: Tensor, bank: Tensor | None, k: int, exclude_self: bool) -> Tensor:
    """Rows (n, k) of the bank, or without one of x; see :func:`knn`."""
    if x.shape[0] == 0:
        return x.new_empty((0, k), dtype=torch.int64)
    if x.shape[1] == 0:
        raise ValueError("x has no features (shape (n, 0)): there is no distance to compare")
    looked_at = ("data_ptr", "stride", "size")
    if (
        exclude_self
        and bank is not None
        and any(getattr(x, name)() != getattr(bank, name)() for name in looked_at)
    ):
        raise ValueError(
            "exclude_self=True leaves row i of the bank out for point i, and needs a bank that is "
            f"x (or None); this one has shape {tuple(bank.shape)} and x {tuple(x.shape)}. For "
            "other points leave it out, and drop the neighbour that is the point"
        )
    points = real("x", x)
    _check_finite("x", points)
    if exclude_self:
        return _maker(x)(points)(None, k)
    return _search_in(x if bank is None else bank)(points, k)


@nearest.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, bank: Tensor | None, k: int, exclude_self: bool) -> Tensor:
    return x.new_empty((x.shape[0], k), dtype=torch.int64)


def _maker(points: Tensor) -> Callable[[Tensor], Callable[[Tensor | None, int], Tensor]]:
    """What prepares a search among these points."""
    makers = {"cpu": _on_cpu, "cuda": cuda.neighbor_search}
    if points.device.type not in makers:
        raise ValueError(
            f"the points are on {points.device}, and neighbours are searched on the CPU or on CUDA "
            "devices: use x.cpu()"
        )
    return makers[points.device.type]


def _search_in(bank: Tensor) -> Callable[[Tensor | None, int], Tensor]:
    """What is prepared for this bank, if it is still what it was prepared from.

    A tensor's version tells of all that is written to it but through ``.data``, as weight averages
    are, and inference tensors have none. So the numbers themselves are looked at, too, which is
    little beside a search.
    """
    version = None if bank.is_inference() else bank._version
    now = bank.data_ptr(), bank.shape, bank.stride(), bank.dtype, version
    before, numbers, search = _searches.get(bank, (None, None, None))
    if before == now and torch.equal(numbers, _fingerprint(bank)):
        return search
    _check_finite("bank", bank)
    search = _maker(bank)(real("bank", bank))
    _searches[bank] = now, _fingerprint(bank), search
    return search


def _fingerprint(bank: Tensor) -> Tensor:
    """A number (N,) for each row: a sum of its bits' integers times odd numbers, modulo 2^32
    (float64's: 2^64).

    Another number in one column always makes another sum, however small it is beside the rest of
    its row; others are left with one chance in 2^32.
    """
    N, d = bank.shape
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[bank.element_size()]
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(2**30), 2**30, (d,), generator=generator, dtype=torch.int32) * 2 + 1
    odd = odd.to(bank.device, torch.int64 if integer == torch.int64 else torch.int32)
    sums = torch.empty(N, dtype=torch.int64, device=bank.device)
    size = max(1, FINGERPRINT_NUMBERS // d)
    for low in range(0, N, size):
        rows = slice(low, low + size)
        sums[rows] = (bank.detach()[rows].contiguous().view(integer) * odd).sum(dim=1)
    return sums


def _check_finite(name: str, points: Tensor) -> None:
    if not bool(torch.isfinite(points).all()):
        raise ValueError(
            f"{name} has NaN or infinity, which are at no distance from anything: use "
            "torch.nan_to_num, or drop those rows"
        )


def _on_cpu(bank: Tensor) -> Callable[[Tensor | None, int], Tensor]:
    X = bank.detach().contiguous().numpy()

    @cache
    def engine(n_jobs: int) -> NeighborSearch:
        return NeighborSearch(X, 1, n_jobs=n_jobs)

    def search(x: Tensor | None, k: int) -> Tensor:
        queries = None if x is None else x.detach().contiguous().numpy()
        few = max(len(X), 0 if queries is None else len(queries)) <= ONE_THREAD_POINTS
        jobs = 1 if few else torch.get_num_threads()
        return torch.from_numpy(engine(jobs).kneighbors(queries, k, return_distance=False))

    return search
