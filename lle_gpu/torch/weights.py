"""Barycentric weights of points in their neighbours, differentiable.

    minimise  || x - sum_j w_j n_j ||^2 + reg trace(G) ||w||^2   subject to  sum_j w_j = 1

    Z = x - n (k x d),  G = Z Z^T,  A = G / trace(G) + reg I,  v = A^-1 1,  w = v / sum(v)

With ``method="nonneg"`` also w >= 0: the same on the neighbours in the support of the solution
(Karush, Kuhn, Tucker), which is searched without gradients and constant between kinks.

The gradient, given g = dL/dw, by one more solution with the same factor (s = sum(v)):

    g_v = (g - (g.w) 1) / s,   u = A^-1 g_v,
    dL/dZ = -[u (v^T Z) + v (u^T Z) + 2 reg (u.v) Z] / trace(G)

S. Roweis, L. Saul: Nonlinear dimensionality reduction by locally linear embedding. Science
290:2323 (2000); non-negative weights: F. Wang, C. Zhang: Label propagation through linear
neighborhoods. IEEE TKDE 20:55 (2008); block pivoting: J. Kim, H. Park: Fast nonnegative matrix
factorization. SIAM J. Sci. Comput. 33:3261 (2011), section 3.
"""

# No `from __future__ import annotations`: torch reads the operators' schemas from the types.
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from lle_gpu.torch import cuda
from lle_gpu.torch.checks import listed, one_of, real, ridge, rows_of, same_features
from lle_gpu.torch.modes import NOT_CAPTURED, full_precision, product, products_lose_digits
from lle_gpu.torch.ops import local_adjoint, local_gram, scale_of

__all__ = ["METHODS", "barycentric_weights"]

METHODS = ("affine", "nonneg")
# Exchanges for each neighbour before a search for a support is given up; two or three are usual.
ROUNDS = 50


@full_precision
def barycentric_weights(
    x: Tensor,
    neighbors: Tensor | tuple[Tensor, Tensor],
    *,
    reg: float = 1e-3,
    method: str = "affine",
) -> Tensor:
    """Weights that rebuild each point from its neighbours.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Points, float32 or float64; half precision is computed in float32.
    neighbors : Tensor of shape (n, k, d), or pair of Tensors of shapes (N, d) and (n, k)
        The neighbours' coordinates, or a bank and the rows of it that are neighbours. The pair
        never makes n x k x d numbers at once, neither forwards nor backwards.
    reg : float, default=1e-3
        Ridge in units of the trace of the local Gram matrix; above 0. No gradient goes to it.
    method : {"affine", "nonneg"}, default="affine"
        Whether the weights only sum to one, or are not negative besides: a point is then rebuilt
        from the corners of a simplex, as label propagation wants it.

    Returns
    -------
    w : Tensor of shape (n, k)
        Rows sum to one. Neighbours that all lie on the point share equally. Differentiable, twice
        and more, in ``x`` and in the neighbours' coordinates. Where the support of non-negative
        weights changes (a kink) the derivative is that of one side.

    Raises
    ------
    TypeError, ValueError, IndexError
        For other dtypes, shapes, devices, rows or settings.
    torch.linalg.LinAlgError
        If ``reg`` is lost in rounding beside the Gram matrix.

    Notes
    -----
    Not moved by translation, scaling or rotation of points and neighbours together. NaN or infinity
    in a point or its neighbours is an error. "nonneg" is computed in float64, and takes several
    times as long. For the gradient of affine weights in a bank nothing but the arguments is
    kept; else, a few arrays of n x k x k numbers.

    Examples
    --------
    >>> import torch
    >>> from lle_gpu.torch import barycentric_weights
    >>> corners = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    >>> barycentric_weights(torch.tensor([[0.25, 0.5]]), corners, reg=1e-6)
    tensor([[0.2500, 0.2500, 0.5000]])
    """
    one_of("method", method, METHODS)
    reg = ridge(reg)
    x = real("x", x, ndim=2)
    if isinstance(neighbors, (tuple, list)):
        if len(neighbors) != 2:
            raise ValueError(
                f"neighbors has {len(neighbors)} parts, and must be a tensor (n, k, d) or the pair "
                "(bank, idx)"
            )
        bank = real("bank", neighbors[0], ndim=2)
        same_features("x", x, "bank", bank)
        idx = rows_of("bank", bank, "idx", neighbors[1])
        _check_count(x, idx)
        if method == "affine":
            return fused_weights(x, bank, idx, reg)
        G, _ = local_gram(x, bank, idx)
    else:
        nearest = real("neighbors", neighbors, ndim=3)
        same_features("x", x, "neighbors", nearest)
        _check_count(x, nearest)
        Z = x[:, None, :] - nearest
        Z = Z * scale_of(Z)[:, None, None]
        G = product(Z, Z.mT)
    return _of_gram(G, reg, method)


def _check_count(x: Tensor, neighbors: Tensor) -> None:
    n, k = neighbors.shape[:2]
    if n != x.shape[0]:
        raise ValueError(
            f"x has {x.shape[0]} points, and neighbors has those of {n}: give neighbours of each"
        )
    if k == 0:
        raise ValueError("neighbors has none for a point (k=0): give at least one")


def _of_gram(G: Tensor, reg: float, method: str) -> Tensor:
    """Weights (n, k) from Gram matrices (n, k, k)."""
    if method == "affine":
        A = _ridged(G.double() if products_lose_digits(G) else G, reg)
        v = _solved(_factor(A, reg), torch.ones_like(A[:, :, 0]))
        return (v / v.sum(dim=1, keepdim=True)).to(G.dtype)
    # In float64, so that what is positive there is not negative here.
    A = _ridged(G.double(), reg)
    _factor(A.detach(), reg)  # definite, or an error: the search below relies on it
    support = nonnegative_support(A.detach())
    inside = support[:, :, None] & support[:, None, :]
    alone = torch.diag_embed((~support).to(A.dtype))
    v = _solved(_factor(A * inside + alone, reg), support.to(A.dtype)).clamp(min=0)
    return (v / v.sum(dim=1, keepdim=True)).to(G.dtype)


def _scale(G: Tensor) -> Tensor:
    """trace(G), or 1 where all neighbours lie on the point."""
    trace = G.diagonal(dim1=1, dim2=2).sum(dim=1)
    return torch.where(trace == 0, torch.ones_like(trace), trace)


def _ridged(G: Tensor, reg: float) -> Tensor:
    """A = G / trace(G) + reg I."""
    eye = torch.eye(G.shape[1], dtype=G.dtype, device=G.device)
    return G / _scale(G)[:, None, None] + reg * eye


def _factor(A: Tensor, reg: float) -> Tensor:
    try:
        return torch.linalg.cholesky(A)
    except torch.linalg.LinAlgError as error:
        rows = torch.linalg.cholesky_ex(A.detach()).info.nonzero()[:, 0].tolist()
        numbers = bool(torch.isfinite(A).all())
        why = f"reg={reg!r} is lost in rounding" if numbers else "there is NaN or infinity"
        todo = "Use a larger reg, or float64." if numbers else "Drop these points."
        raise torch.linalg.LinAlgError(
            f"{why} among the neighbours of {len(rows)} of {len(A)} points (rows {listed(rows)}; "
            f"{A.dtype}). {todo}"
        ) from error


def _solved(L: Tensor, b: Tensor) -> Tensor:
    return torch.cholesky_solve(b[:, :, None], L)[:, :, 0]


# --- the same as one operator, with the kernels of the GPU path ----------------------------------


@custom_op(  # type: ignore[untyped-decorator]
    "lle_gpu::barycentric_weights", mutates_args=(), device_types="cpu", **NOT_CAPTURED
)
@full_precision
def fused_weights(x: Tensor, bank: Tensor, idx: Tensor, reg: float) -> Tensor:
    """Affine weights (n, k), of x's dtype. The CPU's is the reference of the GPU's."""
    return _of_gram(local_gram(x, bank, idx)[0], reg, "affine")


@fused_weights.register_kernel("cuda")  # type: ignore[untyped-decorator]
def _(x: Tensor, bank: Tensor, idx: Tensor, reg: float) -> Tensor:
    return cuda.barycentric_weights(x, bank, idx, reg)


@fused_weights.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, bank: Tensor, idx: Tensor, reg: float) -> Tensor:
    return x.new_empty(idx.shape)


def _fused_context(ctx: Any, inputs: Any, output: Any) -> None:
    x, bank, idx, ctx.reg = inputs
    ctx.save_for_backward(x, bank, idx)


@full_precision
def _fused_backward(ctx: Any, g: Tensor) -> Any:
    x, bank, idx = ctx.saved_tensors
    of_x, of_bank, *_ = ctx.needs_input_grad
    G, scale = local_gram(x, bank, idx)
    L = _factor(_ridged(G, ctx.reg), ctx.reg)
    v = _solved(L, torch.ones_like(g))
    s = v.sum(dim=1, keepdim=True)
    w = v / s
    u = _solved(L, (g - (g * w).sum(dim=1, keepdim=True)) / s)
    outer = u[:, :, None] * v[:, None, :]
    ridge = 2 * ctx.reg * torch.diag_embed((u * v).sum(dim=1, keepdim=True).expand_as(v))
    S = -(outer + outer.mT + ridge) / _scale(G)[:, None, None]  # of no weight where Z = 0
    to_x, to_bank = local_adjoint(S, x, bank, idx, scale.detach(), of_bank)
    return to_x if of_x else None, to_bank if of_bank else None, None, None


fused_weights.register_autograd(_fused_backward, setup_context=_fused_context)


# --- which neighbours carry weight ---------------------------------------------------------------


@custom_op(  # type: ignore[untyped-decorator]
    "lle_gpu::nonnegative_support", mutates_args=(), **NOT_CAPTURED
)
@full_precision
def nonnegative_support(A: Tensor) -> Tensor:
    """Where the solution of  min v^T A v / 2 - 1^T v,  v >= 0  is positive: (n, k), bool.

    Scaled to sum to one it is the solution under that constraint: the multiplier of the sum is
    the scale. Exchanges all indices that violate a condition (v >= 0 inside the support, A v >= 1
    outside), and the last of them alone where that does not bring fewer for some rounds (Kim and
    Park), which ends for positive definite A. In float64.
    """
    n, k = A.shape[:2]
    support = torch.ones(n, k, dtype=torch.bool, device=A.device)
    pending = torch.arange(n, device=A.device)
    fewest = torch.full((n,), k + 1, device=A.device)
    tries = torch.full((n,), 3, device=A.device)
    A = A.double()
    for _ in range(ROUNDS * k):
        if not len(pending):
            return support
        B, inside = A[pending], support[pending]
        both = inside[:, :, None] & inside[:, None, :]
        v = torch.linalg.solve(
            B * both + torch.diag_embed((~inside).double()), inside.double()[:, :, None]
        )[:, :, 0]
        slack = (B @ v[:, :, None])[:, :, 0] - 1
        # Below rounding, both sides of a kink are right.
        wrong = torch.where(inside, v < 0, slack < -1e-12)
        count = wrong.sum(dim=1)
        left = count > 0
        pending, inside, wrong, count = pending[left], inside[left], wrong[left], count[left]
        fewer = count < fewest[pending]
        fewest[pending] = torch.where(fewer, count, fewest[pending])
        tries[pending] = torch.where(fewer, 3, tries[pending] - 1)
        last = wrong & (wrong.flip(1).cumsum(1).flip(1) == 1)
        exchanged = torch.where((tries[pending] < 0)[:, None], last, wrong)
        support[pending] = inside ^ exchanged
    raise torch.linalg.LinAlgError(
        f"no support was found for {len(pending)} of {n} matrices: they are hardly definite. Use a "
        "larger reg"
    )


@nonnegative_support.register_fake  # type: ignore[untyped-decorator]
def _(A: Tensor) -> Tensor:
    return A.new_empty(A.shape[:2], dtype=torch.bool)
