"""Sums over neighbourhoods as operators of torch: chunked, and closed under differentiation.

With Z_i(x, X) the rows s_i (x_i - X_j), j = idx[i, :] (k x d), all of them are multilinear:

    local_products(x, X, y, Y, idx, s)_i = Z_i(x, X) Z_i(y, Y)^T                       k x k
    local_adjoint(S, y, Y, idx, s)      : D_i = s_i S_i Z_i(y, Y), then sum_j D_ij     n x d
                                          and - sum of D_ij over all idx[i, j] = m     N x d
    weighted_sums(w, V, idx)_i          = sum_j w_ij V_idx[i,j]                        n x c
    weighted_dots(g, V, idx)_ij         = g_i . V_idx[i,j]                             n x k
    weighted_scatter(w, g, idx, N)_m    = sum of w_ij g_i over all idx[i, j] = m       N x c

``local_adjoint`` is the adjoint of ``local_products`` in either pair of arguments, the last two
are those of ``weighted_sums``, and the adjoint of each adjoint is among the five again. So every
derivative of any order is a sum of these operators, none of which ever holds all n x k x d
differences. ``local_gram(x, X, idx)`` is ``local_products(x, X, x, X, idx, s)`` with one backward
pass in place of two, and s: powers of two by which no neighbourhood is so small or so large that
its squares leave the range of numbers. They are taken as constants.

They are opaque to ``torch.compile``, which sees their shapes and derivatives.
"""

# No `from __future__ import annotations`: torch reads the operators' schemas from the types.
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from lle_gpu.torch.modes import full_precision, product

__all__ = [
    "local_adjoint",
    "local_gram",
    "local_products",
    "scale_of",
    "weighted_dots",
    "weighted_scatter",
    "weighted_sums",
]

# Bytes of differences held at once. On the CPU they should stay in the cache between the gather
# and the products; on a GPU the launches should be few.
CHUNK_BYTES = {"cpu": 1 << 22, "cuda": 1 << 28}

LARGEST_SCALE = {torch.float32: 2.0**120, torch.float64: 2.0**1000}


def _chunks(n: int, k: int, like: Tensor) -> Iterator[slice]:
    """Slices that cover range(n), of k rows of ``like`` each."""
    row = max(1, k * like.shape[-1] * like.element_size())
    size = max(1, CHUNK_BYTES.get(like.device.type, 1 << 26) // row)
    return (slice(low, min(low + size, n)) for low in range(0, n, size))


def _gathered(X: Tensor, idx: Tensor) -> Tensor:
    """X_idx: (N, d) and (c, k) -> (c, k, d)."""
    return X.index_select(0, idx.reshape(-1)).view(*idx.shape, X.shape[1])


def _differences(x: Tensor, X: Tensor, idx: Tensor) -> Tensor:
    """x_i - X_j: (c, d), (N, d), (c, k) -> (c, k, d)."""
    return torch.sub(x[:, None, :], _gathered(X, idx))


def scale_of(Z: Tensor) -> Tensor:
    """Powers of two (c,) that bring the largest of each Z_i (k x d) to between 1/2 and 1."""
    largest = Z.detach().abs().amax(dim=(1, 2)) if Z.shape[2] else Z.new_zeros(len(Z))
    most = LARGEST_SCALE[Z.dtype]
    # m / (m 2^e) is 2^-e to the last bit; of zeros, not a number.
    scale = (torch.frexp(largest).mantissa / largest).clamp(1 / most, most)
    scale = torch.where(largest == 0, torch.ones_like(scale), scale)
    return torch.where(torch.isfinite(largest), scale, largest)  # what is no number stays none


# --- products of differences ---------------------------------------------------------------------


@custom_op("lle_gpu::local_products", mutates_args=())  # type: ignore[untyped-decorator]
@full_precision
def local_products(x: Tensor, X: Tensor, y: Tensor, Y: Tensor, idx: Tensor, s: Tensor) -> Tensor:
    """Z_i(x, X) Z_i(y, Y)^T: (n, k, k)."""
    n, k = idx.shape
    out = x.new_empty(n, k, k)
    for rows in _chunks(n, k, x):
        scale = s[rows, None, None]
        Z = _differences(x[rows], X, idx[rows]).mul_(scale)
        U = _differences(y[rows], Y, idx[rows]).mul_(scale)
        product(Z, U.mT, out=out[rows])
    return out


@custom_op("lle_gpu::local_gram", mutates_args=())  # type: ignore[untyped-decorator]
@full_precision
def local_gram(x: Tensor, X: Tensor, idx: Tensor) -> tuple[Tensor, Tensor]:
    """Z_i(x, X) Z_i(x, X)^T (n, k, k), and s (n,)."""
    n, k = idx.shape
    out, s = x.new_empty(n, k, k), x.new_empty(n)
    for rows in _chunks(n, k, x):
        Z = _differences(x[rows], X, idx[rows])
        s[rows] = scale_of(Z)
        Z.mul_(s[rows, None, None])
        product(Z, Z.mT, out=out[rows])
    return out, s


@custom_op("lle_gpu::local_adjoint", mutates_args=())  # type: ignore[untyped-decorator]
@full_precision
def local_adjoint(
    S: Tensor, y: Tensor, Y: Tensor, idx: Tensor, s: Tensor, with_bank: bool
) -> tuple[Tensor, Tensor]:
    """The sums of s_i S_i Z_i(y, Y) for points (n, d) and for the bank (N, d).

    Without ``with_bank`` the latter, which is most of the work, is empty: (0, d).
    """
    n, k = idx.shape
    to_points = torch.empty_like(y)
    to_bank = torch.zeros_like(Y) if with_bank else Y.new_empty(0, Y.shape[1])
    for rows in _chunks(n, k, y):
        scale = s[rows, None, None]
        Z = _differences(y[rows], Y, idx[rows]).mul_(scale)
        if with_bank:
            D = product(S[rows], Z).mul_(scale)
            to_points[rows] = D.sum(dim=1)
            to_bank.index_add_(0, idx[rows].reshape(-1), D.view(-1, D.shape[2]), alpha=-1)
        else:
            D = product(S[rows].sum(dim=1, keepdim=True), Z).mul_(scale)
            to_points[rows] = D[:, 0]
    return to_points, to_bank


@local_products.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, X: Tensor, y: Tensor, Y: Tensor, idx: Tensor, s: Tensor) -> Tensor:
    return x.new_empty(idx.shape[0], idx.shape[1], idx.shape[1])


@local_gram.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, X: Tensor, idx: Tensor) -> tuple[Tensor, Tensor]:
    n, k = idx.shape
    return x.new_empty(n, k, k), x.new_empty(n)


@local_adjoint.register_fake  # type: ignore[untyped-decorator]
def _(
    S: Tensor, y: Tensor, Y: Tensor, idx: Tensor, s: Tensor, with_bank: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(y), torch.empty_like(Y) if with_bank else Y.new_empty(0, Y.shape[1])


def _adjoint(
    ctx: Any, which: int, S: Tensor, y: Tensor, Y: Tensor, idx: Tensor, s: Tensor
) -> tuple[Any, Any]:
    """The pair of gradients for arguments ``which`` and ``which + 1``; None where none is asked."""
    wanted = ctx.needs_input_grad[which : which + 2]
    if not any(wanted):
        return None, None
    of_points, of_bank = local_adjoint(S, y, Y, idx, s, wanted[1])
    return of_points if wanted[0] else None, of_bank if wanted[1] else None


def _inputs_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _products_backward(ctx: Any, C: Tensor) -> Any:
    x, X, y, Y, idx, s = ctx.saved_tensors
    return *_adjoint(ctx, 0, C, y, Y, idx, s), *_adjoint(ctx, 2, C.mT, x, X, idx, s), None, None


def _gram_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _gram_backward(ctx: Any, C: Tensor, _: Tensor) -> Any:
    x, X, idx, s = ctx.saved_tensors
    return *_adjoint(ctx, 0, C + C.mT, x, X, idx, s.detach()), None


def _adjoint_context(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.with_bank = inputs
    ctx.save_for_backward(*tensors)


def _adjoint_backward(ctx: Any, of_points: Tensor, of_bank: Tensor) -> Any:
    S, y, Y, idx, s = ctx.saved_tensors
    if not ctx.with_bank:
        of_bank = torch.zeros_like(Y)
    of_S = local_products(of_points, of_bank, y, Y, idx, s) if ctx.needs_input_grad[0] else None
    return of_S, *_adjoint(ctx, 1, S.mT, of_points, of_bank, idx, s), None, None, None


local_products.register_autograd(_products_backward, setup_context=_inputs_context)
local_gram.register_autograd(_gram_backward, setup_context=_gram_context)
local_adjoint.register_autograd(_adjoint_backward, setup_context=_adjoint_context)


# --- weighted sums -------------------------------------------------------------------------------


@custom_op("lle_gpu::weighted_sums", mutates_args=())  # type: ignore[untyped-decorator]
@full_precision
def weighted_sums(w: Tensor, V: Tensor, idx: Tensor) -> Tensor:
    """sum_j w_ij V_idx[i,j]: (n, c)."""
    n, k = idx.shape
    out = w.new_empty(n, V.shape[1])
    for rows in _chunks(n, k, V):
        product(w[rows, None, :], _gathered(V, idx[rows]), out=out[rows, None, :])
    return out


@custom_op("lle_gpu::weighted_dots", mutates_args=())  # type: ignore[untyped-decorator]
@full_precision
def weighted_dots(g: Tensor, V: Tensor, idx: Tensor) -> Tensor:
    """g_i . V_idx[i,j]: (n, k)."""
    n, k = idx.shape
    out = g.new_empty(n, k)
    for rows in _chunks(n, k, V):
        product(_gathered(V, idx[rows]), g[rows, :, None], out=out[rows, :, None])
    return out


@custom_op("lle_gpu::weighted_scatter", mutates_args=())  # type: ignore[untyped-decorator]
@full_precision
def weighted_scatter(w: Tensor, g: Tensor, idx: Tensor, size: int) -> Tensor:
    """The sum of w_ij g_i over all idx[i, j] = m: (size, c)."""
    n, k = idx.shape
    out = g.new_zeros(size, g.shape[1])
    for rows in _chunks(n, k, g):
        parts = w[rows, :, None] * g[rows, None, :]
        out.index_add_(0, idx[rows].reshape(-1), parts.reshape(-1, g.shape[1]))
    return out


@weighted_sums.register_fake  # type: ignore[untyped-decorator]
def _(w: Tensor, V: Tensor, idx: Tensor) -> Tensor:
    return w.new_empty(idx.shape[0], V.shape[1])


@weighted_dots.register_fake  # type: ignore[untyped-decorator]
def _(g: Tensor, V: Tensor, idx: Tensor) -> Tensor:
    return g.new_empty(idx.shape[0], idx.shape[1])


@weighted_scatter.register_fake  # type: ignore[untyped-decorator]
def _(w: Tensor, g: Tensor, idx: Tensor, size: int) -> Tensor:
    return g.new_empty(size, g.shape[1])


def _sums_backward(ctx: Any, g: Tensor) -> Any:
    w, V, idx = ctx.saved_tensors
    of_w, of_V, _ = ctx.needs_input_grad
    return (
        weighted_dots(g, V, idx) if of_w else None,
        weighted_scatter(w, g, idx, V.shape[0]) if of_V else None,
        None,
    )


def _dots_backward(ctx: Any, c: Tensor) -> Any:
    g, V, idx = ctx.saved_tensors
    of_g, of_V, _ = ctx.needs_input_grad
    return (
        weighted_sums(c, V, idx) if of_g else None,
        weighted_scatter(c, g, idx, V.shape[0]) if of_V else None,
        None,
    )


def _scatter_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:3])


def _scatter_backward(ctx: Any, H: Tensor) -> Any:
    w, g, idx = ctx.saved_tensors
    of_w, of_g, *_ = ctx.needs_input_grad
    return (
        weighted_dots(g, H, idx) if of_w else None,
        weighted_sums(w, H, idx) if of_g else None,
        None,
        None,
    )


weighted_sums.register_autograd(_sums_backward, setup_context=_inputs_context)
weighted_dots.register_autograd(_dots_backward, setup_context=_inputs_context)
weighted_scatter.register_autograd(_scatter_backward, setup_context=_scatter_context)
