"""Labels of a few points spread to all, by the weights that rebuild each from its neighbours.

    W (n x n) from w and idx,  Y (n x C) with zero rows where nothing is known,  F (n x C)

    clamped    minimise ||(I - W) F||^2  subject to  F_l = Y_l on the labelled points:
               B = (I - W)[:, u],   B^T B F_u = -B^T (I - W) Y
    lnp        F = alpha W F + (1 - alpha) Y,   (I - alpha W) F = (1 - alpha) Y

The first is LLE's own objective, tr(F^T M F) with M = (I - W)^T (I - W), with some coordinates
known: semi-supervised LLE. The second is Wang and Zhang's iteration, in its limit.

Derivatives are implicit: with A x = b and the gradient g of x,

    A^T h = g,    g_b = h,    g_w = -d<h, A x> / dw

is one more system with the same factors, and sums over neighbourhoods (:mod:`lle_gpu.torch.ops`):

    clamped    -d<B h, B x>/dw_ij            = (B x)_i . h_j + (B h)_i . x_j
    lnp        -d<h, (I - alpha W) x>/dw_ij  = alpha h_i . x_j

S. Roweis, L. Saul: Science 290:2323 (2000); X. Yang, H. Fu, H. Zha, J. Barlow: Semi-supervised
nonlinear dimensionality reduction. ICML 2006, section 3; F. Wang, C. Zhang: Label propagation
through linear neighborhoods. IEEE TKDE 20:55 (2008), equations 6 to 9.
"""

# No `from __future__ import annotations`: torch reads the operators' schemas from the types.
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array, vstack
from scipy.sparse.csgraph import breadth_first_order, connected_components
from torch import Tensor
from torch.library import custom_op
from torch.utils.weak import WeakTensorKeyDictionary

from lle_gpu.exceptions import DisconnectedGraphWarning, warn_user
from lle_gpu.progress import note
from lle_gpu.torch.checks import count, listed, number, one_of, real, rows_of, same_kind
from lle_gpu.torch.host import HostSolver
from lle_gpu.torch.ops import weighted_dots, weighted_scatter, weighted_sums

__all__ = ["METHODS", "propagate_labels"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

METHODS = ("clamped", "lnp")
# What the labels do not determine is taken to be small: this much of ||B^T B||_max is added to the
# diagonal. It is taken to be undetermined where the condition number is larger than the second.
RIDGE, SINGULAR = 1e-9, 1e13
# Products of weights are to be numbers.
LARGEST_WEIGHT = 1e100


def propagate_labels(
    idx: Tensor,
    w: Tensor,
    y: Tensor,
    mask: Tensor,
    *,
    method: str = "clamped",
    alpha: float = 0.99,
    n_classes: int | None = None,
) -> Tensor:
    """Scores of all points for each class, or values, from those of the labelled points.

    Parameters
    ----------
    idx : Tensor of shape (n, k), of integers
        Each point's neighbours, rows of the same n points: ``knn(x, k=k)``.
    w : Tensor of shape (n, k)
        Weights that rebuild each point from them: ``barycentric_weights(x, (x, idx), reg=0.1,
        method="nonneg")``.
    y : Tensor of shape (n,), of integers, or of shape (n, C), of w's dtype
        Classes from 0 on, or soft labels or targets of a regression. What stands at points
        without a label is not looked at.
    mask : Tensor of shape (n,), bool
        Which points are labelled.
    method : {"clamped", "lnp"}, default="clamped"
        - "clamped": the values that the weights rebuild best, with the labelled points' as given;
          also for weights of both signs. Scores are those of an interpolation: each point's sum to
          one where those of the labels do, and they may be below 0 and above 1.
        - "lnp": linear neighbourhood propagation; for weights that are not negative. Scores from
          0 to 1 for classes, at labelled points, too; they sum to less than one.
    alpha : float, default=0.99
        How much a point takes from its neighbours; above 0 and below 1. Not used by "clamped".
    n_classes : int, default=None
        C for integers y; None is the largest label plus one.

    Returns
    -------
    Tensor of shape (n, C)
        Of w's dtype, on its device. Differentiable in ``w`` and in ``y`` of shape (n, C), twice
        and more. A point that no chain of neighbours of weight other than zero ties to a label
        ("lnp": no chain that leads from it to one) gets zeros.

    Raises
    ------
    TypeError, ValueError, IndexError
        For other shapes, dtypes, devices, rows, labels or settings, no labelled point, weights or
        labels with NaN or infinity; with "lnp" for weights that are negative, or whose rows' sum is
        1 / alpha or more.

    Warns
    -----
    DisconnectedGraphWarning
        For points without a tie to a label; and where a set of points that no edge leaves is tied
        to labels too loosely for these to determine its scores ("clamped"; there the solution of
        least size is taken).
    ConvergenceWarning
        If the solution is not known to be right to rounding.

    Notes
    -----
    Systems are solved on the host, in float64, whatever the device and dtype: by sparse factors,
    or, where these would fill in, by iterations (conjugate gradients, BiCGSTAB);
    :mod:`lle_gpu.progress` is told which. The factors serve the derivatives, too, while ``w`` lives
    and is not written to.

    Under ``torch.compile`` the solution is one opaque operator, around which the graph breaks: the
    checks look at numbers.

    Examples
    --------
    >>> import torch
    >>> from lle_gpu.torch import barycentric_weights, knn, propagate_labels
    >>> x = torch.arange(8.0)[:, None]
    >>> idx = knn(x, k=2)
    >>> w = barycentric_weights(x, (x, idx), method="nonneg")
    >>> y = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])
    >>> mask = torch.tensor([True, False, False, False, False, False, False, True])
    >>> propagate_labels(idx, w, y, mask).argmax(dim=1)
    tensor([0, 0, 0, 0, 1, 1, 1, 1])
    """
    one_of("method", method, METHODS)
    alpha = number("alpha", alpha)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha!r} must be above 0 and below 1")
    if n_classes is not None:
        n_classes = count("n_classes", n_classes)
    w = real("w", w)
    if w.ndim != 2 or 0 in w.shape:
        raise ValueError(
            f"w has shape {tuple(w.shape)}, and must be (points, neighbours), neither of them 0"
        )
    idx = rows_of("w", w, "idx", idx)
    if idx.shape != w.shape:
        raise ValueError(
            f"w has shape {tuple(w.shape)} and idx {tuple(idx.shape)}: both must be (points, "
            "neighbours)"
        )
    _check_mask(mask, w)
    known = _known(y, mask, w, n_classes).cpu().double()
    weights, rows, labelled = w.cpu().double(), idx.cpu(), mask.cpu()
    _check_numbers(weights, known)
    if method == "clamped":
        error = known - weighted_sums(weights, known, rows)
        pull = error - weighted_scatter(weights, error, rows, len(known))
        scores = known - solve(weights, pull, rows, labelled, 0.0, False)
    else:
        _check_nonnegative(weights, alpha)
        scores = solve(weights, (1 - alpha) * known, rows, labelled, alpha, False)
    return scores.to(device=w.device, dtype=w.dtype)


def _check_mask(mask: Any, w: Tensor) -> None:
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise TypeError(
            f"mask is {kind}, and must be a tensor of bool, True where a point is labelled: "
            "mask.bool(), or y >= 0 where -1 marks those that are not"
        )
    if mask.shape != w.shape[:1]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, and must have {(len(w),)}")
    if mask.device != w.device:
        raise ValueError(f"mask is on {mask.device} and w on {w.device}: use mask.to(w.device)")
    if not bool(mask.any()):
        raise ValueError("mask is False for all points: at least one must be labelled")


def _known(y: Any, mask: Tensor, w: Tensor, n_classes: int | None) -> Tensor:
    """Y (n, C) of w's dtype: rows of zeros where there is no label."""
    if not isinstance(y, torch.Tensor):
        raise TypeError(f"y is a {type(y).__name__}, and must be a torch.Tensor")
    if y.ndim not in (1, 2) or len(y) != len(w):
        raise ValueError(
            f"y has shape {tuple(y.shape)}, and must be ({len(w)},), of classes, or ({len(w)}, C)"
        )
    if y.device != w.device:
        raise ValueError(f"y is on {y.device} and w on {w.device}: use y.to(w.device)")
    if y.ndim == 2:
        y = real("y", y)
        same_kind(w=w, y=y)
        if y.shape[1] == 0 or n_classes not in (None, y.shape[1]):
            raise ValueError(
                f"y has {y.shape[1]} columns"
                + (f" and n_classes={n_classes}: leave n_classes out" if y.shape[1] else "")
            )
        return torch.where(mask[:, None], y, torch.zeros_like(y))
    if y.dtype.is_floating_point or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(
            f"y has dtype {y.dtype}, and of shape (n,) it must be integers, classes from 0 on: "
            "use y.long(), or y[:, None] for targets of a regression"
        )
    y = torch.where(mask, y.long(), 0)
    low, high = (int(end) for end in torch.aminmax(y))
    if low < 0:
        raise ValueError(
            f"y is {low} at a labelled point, and must be a class, 0 or more: is -1 to say that "
            "there is no label, let mask be y >= 0"
        )
    if n_classes is None:
        n_classes = high + 1
    elif n_classes <= high:
        raise ValueError(f"n_classes={n_classes!r} must be more than the largest label, {high}")
    return torch.nn.functional.one_hot(y, int(n_classes)).to(w.dtype) * mask[:, None]


def _check_numbers(w: Tensor, y: Tensor) -> None:
    for name, tensor in (("w", w), ("y", y)):
        wrong = ~torch.isfinite(tensor.detach()).all(dim=1)
        if bool(wrong.any()):
            raise ValueError(
                f"{name} has NaN or infinity in {int(wrong.sum())} rows "
                f"({listed(np.flatnonzero(wrong.numpy()))}): label propagation needs numbers"
            )
    largest = float(w.detach().abs().amax()) if w.numel() else 0.0
    if largest > LARGEST_WEIGHT:
        raise ValueError(
            f"w has weights of up to {largest:.3g} in size, and may have {LARGEST_WEIGHT:.0e}: "
            "those of barycentric_weights sum to 1 and are seldom more than 1; a larger reg keeps "
            "them small"
        )


def _check_nonnegative(w: Tensor, alpha: float) -> None:
    if bool((w < 0).any()):
        raise ValueError(
            f"w has negative weights (the least is {float(w.detach().min()):.3g}), with which "
            "method='lnp' may have no solution: use barycentric_weights(..., method='nonneg'), or "
            "method='clamped'"
        )
    most = float(w.detach().sum(dim=1).max())
    if alpha * most >= 1:
        raise ValueError(
            f"w has a row that sums to {most:.6g}, and with alpha={alpha!r} sums must be below "
            f"{1 / alpha:.6g}: weights of barycentric_weights sum to 1"
        )


# --- the system as an operator -------------------------------------------------------------------

# The system with some weights, for as long as these live.
_systems: Any = WeakTensorKeyDictionary()


@custom_op("lle_gpu::propagation_solve", mutates_args=())  # type: ignore[untyped-decorator]
def solve(
    w: Tensor, b: Tensor, idx: Tensor, mask: Tensor, alpha: float, transposed: bool
) -> Tensor:
    """A^-1 b, or A^-T b, (n, C): of (I - alpha W), or where alpha is 0, of B^T B with zeros at l.

    On the host, float64.
    """
    given = w.detach(), idx, mask, torch.tensor(alpha, dtype=torch.float64)
    known, system = _systems.get(w, (None, None))
    # The numbers are compared: writing to w.data counts no version.
    if known is None or not all(map(torch.equal, known, given)):
        W = _matrix(w, idx)
        system = _Lnp(W, mask.numpy(), alpha) if alpha else _Clamped(W, mask.numpy())
        _systems[w] = [part.clone() for part in given], system
    return torch.from_numpy(system.solve(b.detach().numpy(), transposed))


@solve.register_fake  # type: ignore[untyped-decorator]
def _(w: Tensor, b: Tensor, idx: Tensor, mask: Tensor, alpha: float, transposed: bool) -> Tensor:
    return torch.empty_like(b, memory_format=torch.contiguous_format)


def _solve_context(ctx: Any, inputs: Any, output: Any) -> None:
    w, _, idx, mask, ctx.alpha, ctx.transposed = inputs
    ctx.save_for_backward(w, idx, mask, output)


def _solve_backward(ctx: Any, g: Tensor) -> Any:
    w, idx, mask, x = ctx.saved_tensors
    h = solve(w, g, idx, mask, ctx.alpha, not ctx.transposed)
    of_w = None
    if ctx.needs_input_grad[0]:
        if ctx.alpha:
            of_w = ctx.alpha * weighted_dots(*((x, h) if ctx.transposed else (h, x)), idx)
        else:
            Bx, Bh = (v - weighted_sums(w, v, idx) for v in (x, h))
            of_w = weighted_dots(Bx, h, idx) + weighted_dots(Bh, x, idx)
    return of_w, h if ctx.needs_input_grad[1] else None, None, None, None, None


solve.register_autograd(_solve_backward, setup_context=_solve_context)


def _matrix(w: Tensor, idx: Tensor) -> csr_array:
    """W (n, n), without zeros; where a neighbour stands twice, its weights are added."""
    n, k = idx.shape
    pointer = np.arange(0, n * k + 1, k)
    W = csr_array((w.detach().flatten().numpy(), idx.flatten().numpy(), pointer), shape=(n, n))
    W = W.copy()
    W.sum_duplicates()
    W.eliminate_zeros()
    return W


class _Lnp:
    """I - alpha W."""

    def __init__(self, W: csr_array, labelled: Bool, alpha: float) -> None:
        _warn_untied(_leads_to(W, labelled))
        A = (eye_array(len(labelled), format="csr") - alpha * W).tocsr()
        self._solver = HostSolver(A, normal=False, what="label propagation")

    def solve(self, b: Float, transposed: bool) -> Float:
        return self._solver.solve(b, transposed=transposed)


class _Clamped:
    """B^T B, for the points without a label that some chain of neighbours ties to one."""

    def __init__(self, W: csr_array, labelled: Bool) -> None:
        _, part = connected_components(W, directed=False)
        tied = np.isin(part, part[labelled])
        _warn_untied(tied)
        self._free = np.flatnonzero(tied & ~labelled)
        if len(self._free) == 0:
            return
        B = (eye_array(len(labelled), format="csr") - W).tocsr()[:, self._free]
        loose = tied & ~_leads_to(W, labelled)
        self._solver = _determined(B, self._free, loose[self._free])

    def solve(self, b: Float, transposed: bool) -> Float:
        x = np.zeros_like(b)
        if len(self._free):
            x[self._free] = self._solver.solve(b[self._free])
        return x


def _determined(B: csr_array, rows: NDArray[np.int64], loose: Bool) -> HostSolver:
    """The system, with a ridge where the labels determine no solution.

    B has a null vector for each set of points that no edge leaves (a closed class), less as many as
    labels hold. So there is none where an edge leads from every point towards a label; else
    factors tell by how much they amplify noise. Iterations have no such sign: there the ridge is
    added where there may be null vectors.
    """
    options: dict[str, Any] = {"normal": True, "what": "label propagation"}
    try:
        solver = HostSolver(B, **options)
        amplified, shape = solver.amplification() if not solver.iterative else (0.0, loose)
        if amplified < SINGULAR and not (solver.iterative and loose.any()):
            return solver
        undetermined = np.abs(shape) >= 0.1 * np.abs(shape).max()
    except ValueError as error:
        note(f"label propagation: {error}")
        undetermined = loose if loose.any() else np.ones(len(rows), dtype=bool)
    warn_user(
        f"The labels do not, or hardly, determine the scores of {int(undetermined.sum())} point(s) "
        f"(rows {listed(rows[undetermined])}): no edge leads from their "
        "neighbourhoods towards a label, or weights cancel. Of the possible scores the smallest "
        f"are taken (a ridge of {RIDGE:.0e}). Label one of these points, or use a larger k.",
        DisconnectedGraphWarning,
    )
    ridge = (RIDGE * float((B.T @ B).max())) ** 0.5 * eye_array(len(rows), format="csr")
    return HostSolver(vstack([B, ridge]).tocsr(), **options)


def _leads_to(W: csr_array, labelled: Bool) -> Bool:
    """Whether a path of edges leads from each point to a labelled one, where it may begin."""
    n = len(labelled)
    against = W.T.tocsr()
    # One more point, n, leads to all labelled ones.
    targets = np.flatnonzero(labelled)
    pointer = np.append(against.indptr, against.nnz + len(targets))
    indices = np.concatenate([against.indices, targets])
    graph = csr_array((np.ones(len(indices)), indices, pointer), shape=(n + 1, n + 1))
    leads = np.zeros(n + 1, dtype=bool)
    leads[breadth_first_order(graph, n, return_predecessors=False)] = True
    return leads[:n]


def _warn_untied(tied: Bool) -> None:
    untied = np.flatnonzero(~tied)
    if len(untied):
        warn_user(
            f"No chain of neighbours ties {len(untied)} of {len(tied)} points to a label (rows "
            f"{listed(untied)}): their scores are zero. Label one of them, or use a larger k.",
            DisconnectedGraphWarning,
        )
