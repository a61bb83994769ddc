"""Batches that hold their points' neighbours, so that a local loss can be computed in them.

A batch is b seeds followed by those of their neighbours that are no seeds: at most b (1 + k) rows
of the data, each once. The loss is summed over the seeds, each of which has all of its k
neighbours there; over an epoch every point is a seed once. (Neighbours alone would not do as a
sample: a point is drawn as often as it is somebody's neighbour.)

What to take with a seed is the idea of neighbour sampling in W. Hamilton, R. Ying, J. Leskovec:
Inductive representation learning on large graphs. NeurIPS (2017), section 3.1, here of one hop and
with all neighbours.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from lle_gpu.torch.checks import rows_of

__all__ = ["NeighborhoodBatchSampler", "local_neighbors"]


class NeighborhoodBatchSampler(Sampler):
    """Batches of seeds and their neighbours, for ``DataLoader(batch_sampler=...)``.

    Parameters
    ----------
    idx : Tensor of shape (n, k), of integers
        The neighbours of each of the n points, as :func:`knn` gives them.
    batch_size : int
        Seeds of a batch. The batch itself is longer by the seeds' neighbours.
    shuffle : bool, default=True
        Whether seeds come in random order, another one in each epoch.
    drop_last : bool, default=False
        Whether what is over when all batches have ``batch_size`` seeds, on all replicas, is left
        out.
    seed : int, default=0
        With the epoch it determines the order, on all machines alike.
    rank, num_replicas : int, default=0 and 1
        Which share of the seeds this process takes, and of how many: under
        ``DistributedDataParallel``, ``torch.distributed.get_rank()`` and ``get_world_size()``. All
        replicas have equally many seeds, and none in common; where they do not divide n, the first
        few of the order are taken a second time at its end (as by ``DistributedSampler``), or with
        ``drop_last`` the last few not at all.

    Attributes
    ----------
    epoch : int
        The one that the last iteration was of, or that the next one is, if it is the first or
        :meth:`set_epoch` was called. Else the next one counts on by itself, when its first batch is
        drawn.

    Raises
    ------
    TypeError, ValueError, IndexError
        For neighbours that are no rows of the data, or settings out of range.

    Notes
    -----
    A batch is a list of rows: first the seeds, :meth:`n_seeds` of them, then the other rows,
    ascending, each row once. A dataset should hand out its row with each point, so that
    :func:`local_neighbors` can find the neighbours in the batch.

    References
    ----------
    .. [1] W. Hamilton, R. Ying, J. Leskovec: Inductive representation learning on large graphs.
       NeurIPS (2017).

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> from lle_gpu.torch import NeighborhoodBatchSampler, knn, local_neighbors
    >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    >>> idx = knn(x, k=5)
    >>> sampler = NeighborhoodBatchSampler(idx, 20)
    >>> loader = DataLoader(TensorDataset(x, torch.arange(100)), batch_sampler=sampler)
    >>> for number, (points, rows) in enumerate(loader):
    ...     local = local_neighbors(rows, idx, sampler.n_seeds(number))
    >>> local.shape
    torch.Size([20, 5])
    >>> bool((points[local] == x[idx[rows[:20]]]).all())
    True
    """

    def __init__(
        self,
        idx: Tensor,
        batch_size: int,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        if not isinstance(idx, Tensor):
            raise TypeError(
                f"idx is a {type(idx).__name__}, and must be a tensor of integers: "
                "torch.as_tensor(idx) makes one"
            )
        self.idx = rows_of("the data", idx, "idx", idx).cpu()
        self.batch_size = _at_least("batch_size", batch_size, 1)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        self.seed = _at_least("seed", seed, 0)
        self.num_replicas = _at_least("num_replicas", num_replicas, 1)
        self.rank = _at_least("rank", rank, 0)
        if self.rank >= self.num_replicas:
            raise ValueError(
                f"rank={rank} must be from 0 to {num_replicas - 1}: num_replicas={num_replicas}"
            )
        self.epoch = 0
        self._begun = False  # whether an iteration is of this epoch
        if self.drop_last and not len(self):
            raise ValueError(
                f"drop_last=True leaves no batch: batch_size={batch_size} must be at most "
                f"{self._share()}, the seeds of each of {num_replicas} replica(s)"
            )

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch from the next iteration on."""
        self.epoch = _at_least("epoch", epoch, 0)
        self._begun = False

    def n_seeds(self, batch: int) -> int:
        """How many rows of this batch, counted from 0, are seeds: ``batch_size``, or what is left.

        Raises
        ------
        IndexError
            If there is no such batch.
        """
        if not 0 <= batch < len(self):
            raise IndexError(f"batch={batch} must be from 0 to {len(self) - 1}")
        return min(self.batch_size, self._share() - batch * self.batch_size)

    def __len__(self) -> int:
        share = self._share()
        return share // self.batch_size if self.drop_last else -(-share // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.batches())

    def batches(self) -> Iterator[Tensor]:
        """The batches of an iteration as tensors of rows (m,), int64."""
        # Not before the first batch: a loader with workers makes an iterator that it does not use.
        self.epoch += self._begun
        self._begun = True
        seeds = self._seeds()
        for batch in range(len(self)):
            low = batch * self.batch_size
            yield self._with_neighbors(seeds[low : low + self.n_seeds(batch)])

    def _share(self) -> int:
        """Seeds of a replica."""
        n = self.idx.shape[0]
        return n // self.num_replicas if self.drop_last else -(-n // self.num_replicas)

    def _seeds(self) -> Tensor:
        n = self.idx.shape[0]
        order = torch.arange(n)
        if self.shuffle:
            # Mixed, so that epoch 1 of seed 0 is not epoch 0 of seed 1.
            mixed = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0]
            order = torch.randperm(n, generator=torch.Generator().manual_seed(int(mixed)))
        places = torch.arange(self._share()) * self.num_replicas + self.rank
        return order[places % max(n, 1)]

    def _with_neighbors(self, seeds: Tensor) -> Tensor:
        near = torch.unique(self.idx[seeds])
        return torch.cat([seeds, near[~torch.isin(near, seeds)]])


def local_neighbors(rows: Tensor, idx: Tensor, n_seeds: int) -> Tensor:
    """Where in a batch the neighbours of its seeds are.

    Parameters
    ----------
    rows : Tensor of shape (m,), of integers
        The batch: rows of the data, seeds first.
    idx : Tensor of shape (n, k), of integers
        The neighbours of each of the n points. On any device: no more than the seeds' rows go to
        the batch's.
    n_seeds : int
        How many are seeds: ``sampler.n_seeds(number_of_the_batch)``.

    Returns
    -------
    local : Tensor of shape (n_seeds, k), int64, on the device of ``rows``
        ``rows[local]`` is ``idx[rows[:n_seeds]]``: with z the outputs for the batch,
        ``locality_loss(z[:n_seeds], (z, local), w)`` is the loss of the seeds.

    Raises
    ------
    TypeError, ValueError
        For a batch that lacks a neighbour of a seed, or a number of seeds that it cannot have.

    Examples
    --------
    >>> import torch
    >>> from lle_gpu.torch import local_neighbors
    >>> idx = torch.tensor([[1, 2], [0, 2], [3, 1], [2, 1]])
    >>> local_neighbors(torch.tensor([3, 0, 1, 2]), idx, n_seeds=2)
    tensor([[3, 2],
            [2, 3]])
    """
    if not isinstance(rows, Tensor) or rows.ndim != 1:
        raise ValueError(f"rows is {_described(rows)}, and must be a tensor of shape (m,)")
    rows = rows_of("the data", idx, "rows", rows[:, None].to(idx.device))[:, 0].to(rows.device)
    if not 0 <= n_seeds <= len(rows):
        raise ValueError(f"n_seeds={n_seeds} must be from 0 to {len(rows)}, the rows of the batch")
    wanted = idx[rows[:n_seeds].to(idx.device)].to(rows.device, torch.int64)
    order = torch.argsort(rows)
    ascending = rows[order]
    places = torch.searchsorted(ascending, wanted).clamp_(max=max(len(rows) - 1, 0))
    if not torch.equal(ascending[places], wanted):
        absent = wanted[ascending[places] != wanted]
        raise ValueError(
            f"rows lacks {len(absent)} neighbours of its first {n_seeds} rows (row "
            f"{int(absent[0])}, for one). The seeds stand first, and are as many as "
            "NeighborhoodBatchSampler.n_seeds says; idx must be what the sampler has."
        )
    return order[places]


def _at_least(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}={value!r} must be an integer, at least {least}")
    return number


def _described(rows: Any) -> str:
    return f"of shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else f"a {type(rows)}"
