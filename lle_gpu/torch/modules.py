"""Layers: projection on a bank, the locality loss, and a fitted embedding as frozen features."""

from __future__ import annotations

from typing import Any

import torch
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from lle_gpu.estimator import LocallyLinearEmbedding
from lle_gpu.kinds import to_host
from lle_gpu.neighbors import EUCLIDEAN
from lle_gpu.torch.checks import count, number, one_of, real, ridge
from lle_gpu.torch.functional import NORMALIZE, REDUCTIONS, locality_loss, reconstruct
from lle_gpu.torch.modes import full_precision
from lle_gpu.torch.neighbors import knn
from lle_gpu.torch.weights import METHODS, barycentric_weights

__all__ = ["BarycentricProjection", "LLEFeatures", "LocalityLoss"]

# Queries that go through at once where no gradient is wanted: their k x k matrices stay small.
ROWS_AT_ONCE = 8192


class BarycentricProjection(nn.Module):
    """Move each point to where its neighbours in a bank rebuild it.

    The locally linear manifold of the bank as a layer: features that a network predicts are put
    on the manifold of features that were seen (retrieval in speech and face synthesis), or values
    known at the bank's points are carried over to new ones.

    Parameters
    ----------
    bank : Tensor of shape (N, d)
        Kept as a buffer, or as a parameter if it is one.
    values : Tensor of shape (N, ...), default=None
        What is averaged, likewise; None is the bank itself.
    k : int, default=10
        Neighbours.
    reg : float, default=1e-3
        Ridge of the weights in units of the trace of the local Gram matrix.
    blend : float, default=1.0
        From 0, the input as it is, to 1, the projection. Below 1 the values must be of the
        points' shape.
    method : {"affine", "nonneg"}, default="affine"
        Of :func:`lle_gpu.torch.barycentric_weights`.

    Notes
    -----
    Without a ridge, as this layer is often written by hand, the weights of neighbours that nearly
    lie in a plane are as large as the rounding allows, and the result is noise; weights with a
    ridge are bounded, also for duplicates in the bank. The neighbours are searched exactly
    and taken as constant by the gradient.

    Examples
    --------
    >>> import torch
    >>> from lle_gpu.torch import BarycentricProjection
    >>> angle = torch.linspace(0, 6.28, 100)
    >>> circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    >>> layer = BarycentricProjection(circle, k=2)
    >>> layer(torch.tensor([[3.0, 0.0]])).norm(dim=1).round(decimals=1)
    tensor([1.])
    """

    bank: Tensor

    def __init__(
        self,
        bank: Tensor,
        values: Tensor | None = None,
        *,
        k: int = 10,
        reg: float = 1e-3,
        blend: float = 1.0,
        method: str = "affine",
    ) -> None:
        super().__init__()
        N, k = real("bank", bank, ndim=2).shape[0], count("k", k)
        if not 1 <= k <= N:
            raise ValueError(f"k={k} must be from 1 to {N}, the points of the bank")
        blend = number("blend", blend)
        if not 0 <= blend <= 1:
            raise ValueError(f"blend={blend!r} must be from 0 (the input) to 1 (the projection)")
        one_of("method", method, METHODS)
        if values is not None:
            if real("values", values).shape[:1] != (N,):
                raise ValueError(
                    f"values has shape {tuple(values.shape)}, and must have a row for each of the "
                    f"bank's {N} points"
                )
            if blend < 1 and values.shape != bank.shape:
                raise ValueError(
                    f"blend={blend!r} mixes points of shape ({bank.shape[1]},) with values of "
                    f"shape {tuple(values.shape[1:])}: they must be the same, or blend=1"
                )
        self._keep("bank", bank)
        self._keep("values", values)
        self.k, self.reg, self.blend, self.method = k, ridge(reg), blend, method

    def _keep(self, name: str, tensor: Tensor | None) -> None:
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(name, tensor)
        else:
            self.register_buffer(name, None if tensor is None else _own_memory(tensor.detach()))

    def extra_repr(self) -> str:
        """Sizes and settings, for ``print``."""
        return (
            f"bank={tuple(self.bank.shape)}, k={self.k}, reg={self.reg:g}, blend={self.blend:g}, "
            f"method={self.method!r}"
        )

    @full_precision
    def forward(self, x: Tensor) -> Tensor:
        """Project.

        Parameters
        ----------
        x : Tensor of shape (..., d)
            Of the bank's dtype, or of half precision.

        Returns
        -------
        Tensor
            Of x's leading shape and a value's own; float32 for half precision, unless the layer
            itself was made of half precision, as a whole network may be (``net.bfloat16()``).
        """
        flat = _flattened("x", x, self.bank)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            projected = self._project(flat)
        else:
            projected = torch.cat([self._project(part) for part in flat.split(ROWS_AT_ONCE)])
        projected = projected.view(*x.shape[:-1], *projected.shape[1:])
        if self.blend < 1:
            projected = torch.lerp(x.to(projected.dtype), projected, self.blend)
        values = self.bank if self.values is None else self.values
        return projected.to(values.dtype)

    def _weights(self, x: Tensor, bank: Tensor, idx: Tensor) -> Tensor:
        return barycentric_weights(x, (bank, idx), reg=self.reg, method=self.method)

    def _project(self, x: Tensor) -> Tensor:
        bank = real("bank", self.bank)
        values = bank if self.values is None else real("values", self.values)
        idx = knn(x, self.bank, k=self.k)
        return reconstruct(self._weights(x, bank, idx).to(values.dtype), values, idx)


class LLEFeatures(BarycentricProjection):
    """A fitted embedding as a frozen layer: the coordinates of new points, differentiable in them.

    The same map as the estimator's ``transform``: barycentric weights in the training points, and
    the weighted mean of their coordinates; a training point gets its own coordinates.

    Parameters
    ----------
    estimator : LocallyLinearEmbedding
        Fitted, of any method, with the Euclidean metric and ``reg`` above 0.
    dtype : torch.dtype, default=None
        Of the buffers; None is torch's default, float32, as of a network's layers. Data far from
        the origin beside their extent lose digits in it, as in any layer: centre them, or take
        torch.float64.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> from lle_gpu.torch import LLEFeatures
    >>> X, _ = make_swiss_roll(500, random_state=0)
    >>> layer = LLEFeatures(LocallyLinearEmbedding(n_neighbors=10).fit(X))
    >>> layer(torch.randn(7, 3)).shape
    torch.Size([7, 2])
    """

    def __init__(self, estimator: Any, *, dtype: torch.dtype | None = None) -> None:
        if not isinstance(estimator, LocallyLinearEmbedding):
            raise TypeError(
                f"estimator is a {type(estimator).__name__}, and must be a fitted "
                "lle_gpu.LocallyLinearEmbedding, which takes the place of scikit-learn's"
            )
        check_is_fitted(estimator)
        if estimator.metric not in EUCLIDEAN:
            raise ValueError(
                f"the estimator's metric={estimator.metric!r} cannot be searched for tensors: "
                "fit one with metric='euclidean'"
            )
        search = estimator.nbrs_
        if issparse(search.X):
            raise ValueError(
                "the estimator was fitted on sparse X, and tensors are dense: fit it on X.toarray()"
            )
        dtype = dtype or torch.get_default_dtype()
        bank, values = (
            torch.tensor(to_host(part), dtype=dtype) for part in (search.X, estimator.embedding_)
        )
        super().__init__(bank, values, k=search.n_neighbors, reg=estimator.reg)

    def _weights(self, x: Tensor, bank: Tensor, idx: Tensor) -> Tensor:
        w = super()._weights(x, bank, idx)
        coincides = (x == bank[idx[:, 0]]).all(dim=1, keepdim=True)
        first = torch.zeros_like(w)
        first[:, 0] = 1
        # Its own coordinates, and the derivative of the map around it.
        return torch.where(coincides, first + (w - w.detach()), w)


class LocalityLoss(nn.Module):
    """:func:`locality_loss` of a network's outputs, with weights of its inputs.

    Parameters
    ----------
    k : int, default=10
        Neighbours of each point in the batch.
    reg : float, default=1e-3
    method : {"affine", "nonneg"}, default="affine"
        Of the weights.
    normalize : {"variance", "local", "none"}, default="variance"
    reduction : {"mean", "sum", "none"}, default="mean"

    Notes
    -----
    Neighbours within a random batch of b out of n points are some n / b times as many ranks away
    as the true ones. Where that is far, find neighbours among all points once and draw batches
    with :class:`NeighborhoodBatchSampler`, or pass ``idx``.

    Examples
    --------
    >>> import torch
    >>> from lle_gpu.torch import LocalityLoss
    >>> encoder = torch.nn.Linear(20, 2)
    >>> x = torch.randn(64, 20)
    >>> LocalityLoss(k=8)(encoder(x), x).backward()
    """

    def __init__(
        self,
        *,
        k: int = 10,
        reg: float = 1e-3,
        method: str = "affine",
        normalize: str = "variance",
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if count("k", k) < 1:
            raise ValueError(f"k={k} must be at least 1")
        one_of("method", method, METHODS)
        one_of("normalize", normalize, NORMALIZE)
        one_of("reduction", reduction, REDUCTIONS)
        self.k, self.reg, self.method = k, ridge(reg), method
        self.normalize, self.reduction = normalize, reduction

    def extra_repr(self) -> str:
        """Settings, for ``print``."""
        return f"k={self.k}, reg={self.reg:g}, method={self.method!r}, normalize={self.normalize!r}"

    def forward(self, z: Tensor, x: Tensor, idx: Tensor | None = None) -> Tensor:
        """Loss of outputs z (n, c) for inputs x (n, ...).

        ``idx`` (m, k) are the neighbours of the first m points, as rows of the batch; None searches
        them. No gradient goes to ``x``. A batch of k points or fewer, such as the last one, is
        given as many neighbours as there are; one point alone has no loss.
        """
        x = real("x", x)
        if x.ndim < 2 or len(x) != len(z):
            raise ValueError(
                f"x has shape {tuple(x.shape)} and z {tuple(z.shape)}: x must have a row of "
                "features for each of z's points"
            )
        with torch.no_grad():
            x = x.flatten(1)
            if idx is None:
                alone = torch.arange(len(x), device=x.device)[:, None]
                idx = knn(x, k=min(self.k, len(x) - 1)) if len(x) > 1 else alone
            w = barycentric_weights(x[: len(idx)], (x, idx), reg=self.reg, method=self.method)
        z = real("z", z, ndim=2)
        return locality_loss(
            z[: len(idx)],
            (z, idx),
            w.to(z.dtype),
            normalize=self.normalize if len(x) > 1 else "none",
            reduction=self.reduction,
        )


def _own_memory(tensor: Tensor) -> Tensor:
    """The tensor, with a place for each number, so that it can be written to; shared if it has."""
    expanded = any(
        step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)
    )
    return tensor.contiguous() if expanded else tensor


def _flattened(name: str, x: Tensor, bank: Tensor) -> Tensor:
    """(..., d) -> (n, d), of a dtype that goes with the bank's."""
    x, bank = real(name, x), real("bank", bank)
    if x.ndim == 0:
        raise ValueError(f"{name} is a number, and must have rows of {bank.shape[1]} features")
    if x.shape[-1] != bank.shape[1]:
        raise ValueError(
            f"{name} has {x.shape[-1]} features and the layer's bank has {bank.shape[1]}"
        )
    if x.device != bank.device:
        raise ValueError(
            f"{name} is on {x.device} and the layer on {bank.device}: move one of them, "
            f"layer.to({name}.device)"
        )
    if x.dtype != bank.dtype:
        raise TypeError(
            f"{name} has dtype {x.dtype} and the layer has {bank.dtype}: make them the same, "
            f"layer.to({name}.dtype) or {name}.to({bank.dtype})"
        )
    return x.reshape(-1, x.shape[-1])
