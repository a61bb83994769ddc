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
from lle_gpu.torch.checks import checked, count, points, real

__all__ = ["knn"]

# Up to a batch's worth of points, starting threads costs more than they save.
ONE_THREAD_POINTS = 512

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
        points("x", x, "bank", bank)
    if own and bank is not x and bank.shape[0] != x.shape[0]:
        raise ValueError(
            f"exclude_self=True leaves row i of the bank out for point i, and bank has "
            f"{bank.shape[0]} rows and x {x.shape[0]}: give the points that x are, or "
            "exclude_self=False"
        )
    most = bank.shape[0] - own
    if not 1 <= k <= most and (len(x) or k < 1):
        raise ValueError(
            f"k={k} must be from 1 to {most}, with {bank.shape[0]} points to search in"
            + (" and the point itself left out" if own else "")
        )
    return nearest(x, bank, k, own)


@custom_op("lle_gpu::knn", mutates_args=())  # type: ignore[untyped-decorator]
def nearest(x: Tensor, bank: Tensor, k: int, exclude_self: bool) -> Tensor:
    """Rows (n, k) of the bank; see :func:`knn`."""
    if x.shape[0] == 0:
        return x.new_empty((0, k), dtype=torch.int64)
    if x.shape[1] == 0:
        raise ValueError("x has no features (shape (n, 0)): there is no distance to compare")
    itself = all(
        getattr(x, name)() == getattr(bank, name)() for name in ("data_ptr", "stride", "size")
    )
    x = real("x", x)
    _check_finite("x", x)
    search = _search_in(bank)
    if not exclude_self:
        return search(x, k)
    if itself:
        return search(None, k)
    raise ValueError(
        "exclude_self=True needs a bank that is x (or None): for other points leave it out, and "
        "drop the neighbour that is the point"
    )


@nearest.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, bank: Tensor, k: int, exclude_self: bool) -> Tensor:
    return x.new_empty((x.shape[0], k), dtype=torch.int64)


def _search_in(bank: Tensor) -> Callable[[Tensor | None, int], Tensor]:
    """What is prepared for this bank, if it is still what it was prepared from.

    A tensor's version does not tell of what is written through ``.data``, as weight averages do,
    and inference tensors have none. So the numbers themselves are looked at: the products of all
    rows with one vector, which is little beside a search.
    """
    where = bank.data_ptr(), bank.shape, bank.stride(), bank.dtype
    known = _searches.get(bank)
    numbers = _fingerprint(bank)
    if known is not None and known[0] == where and torch.equal(known[1], numbers):
        return known[2]
    makers = {"cpu": _on_cpu, "cuda": cuda.neighbor_search}
    if bank.device.type not in makers:
        raise ValueError(
            f"the points are on {bank.device}, and neighbours are searched on the CPU or on CUDA "
            "devices: use x.cpu()"
        )
    _check_finite("bank", bank)
    search = makers[bank.device.type](real("bank", bank))
    _searches[bank] = where, numbers, search
    return search


def _fingerprint(bank: Tensor) -> Tensor:
    """A number (N,) for each row, which changes with it."""
    d = bank.shape[1]
    vector = torch.cos(torch.arange(1, d + 1, dtype=torch.float64)).to(bank)
    return bank.detach() @ vector


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
