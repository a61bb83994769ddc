"""What weights are for: weighted sums of values, and the loss that keeps local structure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lle_gpu.torch.checks import one_of, real, rows_of, same_features, same_kind
from lle_gpu.torch.modes import full_precision, product
from lle_gpu.torch.ops import local_gram, weighted_sums

__all__ = ["locality_loss", "reconstruct"]

NORMALIZE = ("none", "variance", "local")
REDUCTIONS = ("mean", "sum", "none")
# Outputs that differ by no more than so many units in the last place of the largest are equal.
EQUAL = 4


@full_precision
def reconstruct(w: Tensor, values: Tensor, idx: Tensor) -> Tensor:
    """Weighted sums of rows: sum_j w_ij values[idx_ij].

    Parameters
    ----------
    w : Tensor of shape (n, k)
    values : Tensor of shape (N, ...)
        One value, vector or array for each row of the bank.
    idx : Tensor of shape (n, k), of integers

    Returns
    -------
    Tensor of shape (n, ...)
        Differentiable, twice and more, in ``w`` and ``values``; never n x k values at once.
        float32 where the arguments are of half precision.

    Examples
    --------
    >>> import torch
    >>> from lle_gpu.torch import reconstruct
    >>> values = torch.tensor([[0.0], [10.0], [20.0]])
    >>> reconstruct(torch.tensor([[0.25, 0.75]]), values, torch.tensor([[0, 2]]))
    tensor([[15.]])
    """
    w, values = real("w", w, ndim=2), real("values", values)
    if values.ndim == 0:
        raise ValueError("values has no rows (a number): it must be (N, ...)")
    same_kind(w=w, values=values)
    idx = rows_of("values", values, "idx", idx)
    _check_shape(w, idx)
    flat = values.reshape(values.shape[0], -1)
    return weighted_sums(w, flat, idx).view(w.shape[0], *values.shape[1:])


@full_precision
def locality_loss(
    z: Tensor,
    z_nbr: Tensor | tuple[Tensor, Tensor],
    w: Tensor,
    *,
    normalize: str = "variance",
    reduction: str = "mean",
) -> Tensor:
    """How badly weights found elsewhere rebuild points: ||z_i - sum_j w_ij z_j||^2.

    With weights of the inputs and z the outputs of a network it asks these to keep the inputs'
    local structure: LLE's own objective, tr(Z^T M Z), on a batch.

    Parameters
    ----------
    z : Tensor of shape (n, c)
    z_nbr : Tensor of shape (n, k, c), or pair of Tensors of shapes (N, c) and (n, k)
        The neighbours, or a bank and its rows that they are (``(z, idx)`` where they are in the
        batch); the pair never makes n x k x c numbers at once.
    w : Tensor of shape (n, k)
        Weights, usually without a gradient.
    normalize : {"variance", "local", "none"}, default="variance"
        Divide by the mean squared distance of the points z from their mean, or each point's error
        by the mean squared distance of its own neighbours from it (for batches of one or of
        unlike points). Neither is moved by shifting or scaling z, so that nothing is won by
        making z small. Nor by making it constant: where what is divided by is zero, or is what
        rounding leaves of it, the error is 1, that of points put at their mean, and without a
        gradient, since there is no direction to go. One point alone has no variance, and its error
        is left as it is.
    reduction : {"mean", "sum", "none"}, default="mean"
        The mean of no points is 0.

    Returns
    -------
    Tensor, of shape (n,) for "none"

    Examples
    --------
    >>> import torch
    >>> from lle_gpu.torch import barycentric_weights, knn, locality_loss
    >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    >>> idx = knn(x, k=5)
    >>> w = barycentric_weights(x, (x, idx))
    >>> z = (x @ torch.ones(3, 2)).requires_grad_()
    >>> loss = locality_loss(z, (z, idx), w)
    >>> loss.backward()
    >>> z.grad.shape
    torch.Size([50, 2])
    """
    one_of("normalize", normalize, NORMALIZE)
    one_of("reduction", reduction, REDUCTIONS)
    z, w = real("z", z, ndim=2), real("w", w, ndim=2)
    same_kind(z=z, w=w)
    if isinstance(z_nbr, (tuple, list)) and len(z_nbr) != 2:
        raise ValueError(
            f"z_nbr has {len(z_nbr)} parts, and must be a tensor (n, k, c) or the pair (bank, idx)"
        )
    if normalize != "none" and z.numel():
        z, z_nbr = _of_size_one(z, z_nbr)
    if isinstance(z_nbr, (tuple, list)):
        bank = real("bank", z_nbr[0], ndim=2)
        same_features("z", z, "bank", bank)
        idx = rows_of("bank", bank, "idx", z_nbr[1])
        _check_shape(w, idx)
        means = weighted_sums(w, bank, idx)
    else:
        nearest = real("z_nbr", z_nbr, ndim=3)
        same_features("z", z, "z_nbr", nearest)
        _check_shape(w, nearest[:, :, 0])
        means = product(w[:, None, :], nearest)[:, 0]
    if len(z) != len(w):
        raise ValueError(f"z has {len(z)} points and w has weights of {len(w)}")
    error = (z - means).square().sum(dim=1)
    if normalize == "variance" and len(z) > 1:
        error = _divided(error, (z - z.mean(dim=0)).square().sum(dim=1).mean(), _rounding(z).amax())
    elif normalize == "local":
        if isinstance(z_nbr, (tuple, list)):
            G, scale = local_gram(z, bank, idx)
            squares = G.diagonal(dim1=1, dim2=2) / scale[:, None].square()
        else:
            squares = (nearest - z[:, None, :]).square().sum(dim=2)
        error = _divided(error, squares.mean(dim=1), _rounding(z))
    if reduction == "none":
        return error
    return error.sum() if reduction == "sum" else error.sum() / max(1, len(error))


def _of_size_one(z: Tensor, z_nbr: Any) -> tuple[Tensor, Any]:
    """Both divided by z's size, a constant, so that squares stay in the range of numbers."""
    size = (z.detach() - z.detach().mean(dim=0)).abs().amax()
    size = torch.where((size > 0) & torch.isfinite(size), size, torch.ones_like(size))
    if not isinstance(z_nbr, (tuple, list)):
        return z / size, real("z_nbr", z_nbr, ndim=3) / size
    bank, *rest = z_nbr
    return z / size, (real("bank", bank, ndim=2) / size, *rest)


def _rounding(z: Tensor) -> Tensor:
    """Squared distances (n,) that rounding alone may leave between equal points at z."""
    return (EQUAL * torch.finfo(z.dtype).eps * z.detach()).square().sum(dim=1)


def _divided(error: Tensor, by: Tensor, rounding: Tensor) -> Tensor:
    collapsed = (by <= rounding) & torch.isfinite(by)
    ratio = error / torch.where(collapsed, torch.ones_like(by), by)
    return torch.where(collapsed, torch.ones_like(ratio), ratio)


def _check_shape(w: Tensor, idx: Tensor) -> None:
    if w.shape != idx.shape:
        raise ValueError(
            f"the weights have shape {tuple(w.shape)} and the neighbours {tuple(idx.shape)}: both "
            "must be (points, neighbours)"
        )
