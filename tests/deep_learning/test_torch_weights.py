"""Barycentric weights of tensors: against the CPU path's, the equations that define them, and
numerical derivatives."""

import numpy as np
import pytest
from scipy.optimize import minimize

torch = pytest.importorskip("torch")

from lle_gpu.constraints.cpu import barycentric_weights as numpy_weights  # noqa: E402
from lle_gpu.torch import barycentric_weights, knn, locality_loss, reconstruct  # noqa: E402
from lle_gpu.torch import ops as operators  # noqa: E402
from lle_gpu.torch.neighbors import nearest  # noqa: E402
from lle_gpu.torch.weights import fused_weights, nonnegative_support  # noqa: E402

# k < d, k = d, k > d
SHAPES = ((3, 7), (5, 5), (8, 3))


def problem(k, d, n=6, N=30, seed=0, offset=0.0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=dtype) + offset
    bank = torch.randn(N, d, generator=g, dtype=dtype) + offset
    idx = torch.stack([torch.randperm(N, generator=g)[:k] for _ in range(n)])
    return x.requires_grad_(), bank.requires_grad_(), idx


def pair(x, bank, idx, reg=1e-3, method="affine"):
    return barycentric_weights(x, (bank, idx), reg=reg, method=method)


def gathered(x, bank, idx, reg=1e-3, method="affine"):
    return barycentric_weights(x, bank[idx], reg=reg, method=method)


def fused(x, bank, idx, reg=1e-3, method="affine"):
    return fused_weights(x, bank, idx, reg)


WAYS = (pair, gathered, fused)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reg", [1e-3, 0.1, 1e-6])
@pytest.mark.parametrize(("k", "d"), SHAPES)
def test_equals_the_cpu_path(k, d, reg, way):
    x, bank, idx = problem(k, d)
    expected = numpy_weights(x.detach().numpy(), bank.detach().numpy(), idx.numpy(), reg=reg)
    w = way(x, bank, idx, reg=reg).detach().numpy()
    assert np.abs(w - expected).max() <= 1e-10 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precision_is_float32s(dtype):
    x, bank, idx = (part.detach() for part in problem(6, 9))
    x, bank = x.to(dtype), bank.to(dtype)
    expected = pair(x.double(), bank.double(), idx)
    for way in (pair, gathered):
        w = way(x, bank, idx)
        assert w.dtype == torch.float32
        torch.testing.assert_close(w.double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("k", "d"), SHAPES)
def test_first_and_second_derivatives(k, d, way):
    x, bank, idx = problem(k, d, n=4, N=12)
    idx = idx % 12
    assert torch.autograd.gradcheck(lambda x, bank: way(x, bank, idx), (x, bank))
    assert torch.autograd.gradgradcheck(lambda x, bank: way(x, bank, idx), (x, bank))


@pytest.mark.parametrize("way", WAYS)
def test_derivatives_of_one_argument_alone(way):
    x, bank, idx = problem(5, 4, n=4, N=12)
    idx = idx % 12
    fixed_x, fixed_bank = x.detach(), bank.detach()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda x: way(x, fixed_bank, idx), (x,))
        assert check(lambda bank: way(fixed_x, bank, idx), (bank,))


def test_points_that_are_the_bank():
    """x and the bank the same tensor: both parts of the gradient add up."""
    x = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    idx = knn(x, k=4)
    assert torch.autograd.gradcheck(lambda x: barycentric_weights(x, (x, idx)), (x,))


@pytest.mark.parametrize("way", WAYS)
def test_gradients_do_not_see_translation_and_go_with_scale(way):
    def gradients(scale, shift):
        x, bank, idx = problem(6, 4)
        x = (scale * x + shift).detach().requires_grad_()
        bank = (scale * bank + shift).detach().requires_grad_()
        target = torch.linspace(-1, 1, 6, dtype=x.dtype)
        (way(x, bank, idx) * target).square().sum().backward()
        return x.grad, bank.grad

    reference = gradients(1.0, 0.0)
    for scale, shift in ((1.0, 1000.0), (1e-12, 0.0), (1e9, 0.0), (8.0, -80.0)):
        for of_one, other in zip(reference, gradients(scale, shift), strict=True):
            torch.testing.assert_close(scale * other, of_one, rtol=1e-7, atol=1e-9)


def test_gradients_sum_to_nothing():
    """Moving points and neighbours together changes nothing: no force is left over."""
    x, bank, idx = problem(5, 3)
    (pair(x, bank, idx) ** 3).sum().backward()
    total = x.grad.sum(dim=0) + bank.grad.sum(dim=0)
    assert total.abs().max() <= 1e-12 * x.grad.abs().sum()


def objective(w, G, ridge):
    return w @ G @ w + ridge * w @ w


@pytest.mark.parametrize(("k", "d"), SHAPES)
def test_nonnegative_weights_are_the_minimum(k, d):
    x, bank, idx = (part.detach() for part in problem(k, d, n=12))
    reg = 0.01
    w = pair(x, bank, idx, reg=reg, method="nonneg").numpy()
    assert w.min() >= 0
    assert np.abs(w.sum(axis=1) - 1).max() <= 1e-12
    for i in range(len(x)):
        Z = (x[i] - bank[idx[i]]).numpy()
        G = Z @ Z.T
        ridge = reg * np.trace(G)
        found = minimize(
            objective,
            np.full(k, 1 / k),
            args=(G, ridge),
            jac=lambda w, G, ridge: 2 * (G @ w + ridge * w),
            bounds=[(0, None)] * k,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert objective(w[i], G, ridge) <= found.fun * (1 + 1e-9)
        # Karush, Kuhn, Tucker: the slope is the same where w > 0, and no less elsewhere.
        slope = G @ w[i] + ridge * w[i]
        assert np.all(slope >= slope[w[i] > 0].min() * (1 - 1e-9))
        assert np.ptp(slope[w[i] > 0]) <= 1e-9 * slope.max()


def test_nonnegative_supports_of_many_problems():
    """The conditions of the minimum hold for random and nearly singular matrices."""
    g = torch.Generator().manual_seed(3)
    for k, d in ((2, 1), (10, 2), (30, 5), (64, 64)):
        Z = torch.randn(300, k, d, generator=g, dtype=torch.float64) + 1.0
        G = Z @ Z.mT
        A = G / G.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + 1e-5 * torch.eye(k)
        support = nonnegative_support(A)
        both = support[:, :, None] & support[:, None, :]
        B = A * both + torch.diag_embed((~support).double())
        v = torch.linalg.solve(B, support.double())
        assert (v >= 0).all()
        slope = (A @ v[:, :, None])[:, :, 0]
        assert (slope >= 1 - 1e-7).all()


def test_nonnegative_derivatives():
    x, bank, idx = problem(6, 3, n=4, N=12)
    idx = idx % 12
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda x, bank: pair(x, bank, idx, 0.01, "nonneg"), (x, bank))


def test_a_point_inside_its_neighbours_has_the_same_weights_by_both_methods():
    corners = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    x = torch.tensor([[0.2, 0.3]], dtype=torch.float64)
    both = [barycentric_weights(x, corners, reg=1e-9, method=m) for m in ("affine", "nonneg")]
    torch.testing.assert_close(both[0], both[1])
    torch.testing.assert_close(
        both[0], torch.tensor([[0.5, 0.2, 0.3]], dtype=torch.float64), atol=1e-6, rtol=0
    )
    outside = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        barycentric_weights(outside, corners, reg=1e-9, method="nonneg"),
        torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64),
    )


@pytest.mark.parametrize("method", ["affine", "nonneg"])
def test_duplicates_share_equally_and_have_finite_gradients(method):
    x, bank, idx = problem(4, 3)
    with torch.no_grad():
        bank[idx[0]] = x[0]  # all on the point
        bank[idx[1]] = bank[idx[1, 0]].clone()  # all on one another
    w = pair(x, bank, idx, method=method)
    torch.testing.assert_close(w[:2], torch.full((2, 4), 0.25, dtype=w.dtype))
    (w**2 * torch.arange(4)).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(bank.grad).all()


@pytest.mark.parametrize("method", ["affine", "nonneg"])
def test_no_points_one_point_one_neighbour(method):
    x, bank, idx = problem(4, 3)
    for rows, neighbours in ((0, 4), (1, 4), (6, 1)):
        some = x[:rows]
        w = pair(some, bank, idx[:rows, :neighbours], method=method)
        assert w.shape == (rows, neighbours)
        w.sum().backward()
        assert torch.isfinite(x.grad).all()
    torch.testing.assert_close(w, torch.ones_like(w))


def test_chunks_change_nothing(monkeypatch):
    x, bank, idx = problem(5, 4, n=50, N=60)
    target = torch.randn(50, 5, dtype=torch.float64)

    def run():
        x.grad = bank.grad = None
        w = pair(x, bank, idx)
        (w * target).sum().backward()
        return w.detach(), x.grad, bank.grad

    whole = run()
    monkeypatch.setitem(operators.CHUNK_BYTES, "cpu", 3 * 5 * 4 * 8)  # three points
    for one, other in zip(whole, run(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-15)


def test_no_array_of_all_differences_is_made():
    """Neither forwards nor backwards: the largest tensor has n k k numbers, not n k d."""
    from torch.utils._python_dispatch import TorchDispatchMode

    n, k, d = 400, 4, 1000
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for part in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(part, torch.Tensor):
                    largest = max(largest, part.numel())
            return out

    x = torch.randn(n, d, requires_grad=True)
    idx = torch.randint(0, n, (n, k))
    with Watch():
        pair(x, x, idx).square().sum().backward()
    assert 0 < largest <= max(n * d, operators.CHUNK_BYTES["cpu"] // 4) < n * k * d


# --- operators -----------------------------------------------------------------------------------


def arguments():
    x, bank, idx = problem(5, 4, N=20)
    idx = idx % 20
    S = torch.randn(6, 5, 5, dtype=torch.float64, requires_grad=True)
    s = torch.tensor([1.0, 2, 4, 0.5, 1, 8], dtype=torch.float64)
    w = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    return {
        "local_gram": (operators.local_gram, (x, bank, idx)),
        "local_products": (operators.local_products, (x, bank, x, bank, idx, s)),
        "local_adjoint": (operators.local_adjoint, (S, x, bank, idx, s, True)),
        "local_adjoint of points": (operators.local_adjoint, (S, x, bank, idx, s, False)),
        "weighted_sums": (operators.weighted_sums, (w, bank, idx)),
        "weighted_dots": (operators.weighted_dots, (x, bank, idx)),
        "weighted_scatter": (operators.weighted_scatter, (w, x, idx, 20)),
        "barycentric_weights": (fused_weights, (x, bank, idx, 1e-3)),
        "nonnegative_support": (nonnegative_support, (torch.eye(4).repeat(3, 1, 1),)),
        "knn": (nearest, (x.detach(), bank.detach(), 5, False)),
        "knn among themselves": (nearest, (x.detach(), None, 5, True)),
    }


@pytest.mark.parametrize("name", arguments())
def test_opcheck(name):
    operator, args = arguments()[name]
    results = torch.library.opcheck(operator, args)
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    "name", [name for name in arguments() if name != "nonnegative_support" and "knn" not in name]
)
def test_derivatives_of_operators(name):
    operator, args = arguments()[name]
    which = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor) and a.requires_grad]

    def function(*some):
        full = list(args)
        for i, a in zip(which, some, strict=True):
            full[i] = a
        out = operator(*full)
        return out if isinstance(out, torch.Tensor) else tuple(p for p in out if p.numel())

    wanted = tuple(args[i].detach().clone().requires_grad_() for i in which)
    assert torch.autograd.gradcheck(function, wanted)
    assert torch.autograd.gradgradcheck(function, wanted)


def test_operators_against_dense_formulas():
    named = arguments()
    x, bank, idx = named["local_gram"][1]
    Z = x[:, None] - bank[idx]
    G, s = operators.local_gram(x, bank, idx)
    Z = s[:, None, None] * Z
    torch.testing.assert_close(G, Z @ Z.mT)
    assert (torch.frexp(s).mantissa == 0.5).all()  # powers of two
    largest = Z.abs().amax(dim=(1, 2))
    assert ((largest >= 0.5) & (largest < 1)).all()
    y, Y = torch.randn_like(x), torch.randn_like(bank)
    U = s[:, None, None] * (y[:, None] - Y[idx])
    torch.testing.assert_close(operators.local_products(x, bank, y, Y, idx, s), Z @ U.mT)
    S = named["local_adjoint"][1][0]
    D = s[:, None, None] * (S @ Z)
    to_points, to_bank = operators.local_adjoint(S, x, bank, idx, s, True)
    expected = torch.zeros_like(bank)
    for i in range(6):
        for j in range(5):
            expected[idx[i, j]] -= D[i, j]
    torch.testing.assert_close(to_points, D.sum(1))
    torch.testing.assert_close(to_bank, expected)
    w = named["weighted_sums"][1][0]
    W = torch.zeros(6, 20, dtype=w.dtype)
    for i in range(6):
        for j in range(5):
            W[i, idx[i, j]] += w[i, j]
    torch.testing.assert_close(operators.weighted_sums(w, bank, idx), W @ bank)
    torch.testing.assert_close(operators.weighted_scatter(w, x, idx, 20), W.T @ x)
    torch.testing.assert_close(operators.weighted_dots(x, bank, idx), (x @ bank.T).gather(1, idx))


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((3, 2))}, TypeError, r"x is a ndarray.*torch\.as_tensor"),
        ({"x": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, r"x has dtype torch\.int64"),
        ({"x": torch.zeros(3, 2, dtype=torch.complex64)}, TypeError, "real floating-point"),
        ({"x": torch.zeros(3)}, ValueError, r"x has shape \(3,\).*2 dimensions"),
        ({"x": torch.zeros(3, 5)}, ValueError, "x has 5 features and bank has 2"),
        ({"x": torch.zeros(3, 2).double()}, TypeError, "bank has dtype torch.float32 and x has"),
        ({"x": torch.zeros(4, 2)}, ValueError, "x has 4 points, and neighbors has those of 3"),
        ({"x": torch.zeros(3, 2).to_sparse()}, TypeError, "must be dense"),
        ({"idx": torch.zeros(3, 4)}, TypeError, "tensor of integers"),
        ({"idx": torch.zeros(3, 4, dtype=torch.bool)}, TypeError, "mask"),
        ({"idx": torch.full((3, 4), 9)}, IndexError, r"idx has 9.*from 0 to 5"),
        ({"idx": torch.full((3, 4), -1)}, IndexError, "idx has -1"),
        ({"idx": torch.zeros(3, 0, dtype=torch.int64)}, ValueError, "k=0"),
        ({"idx": torch.zeros(3, dtype=torch.int64)}, ValueError, r"\(points, neighbours\)"),
        ({"reg": 0.0}, ValueError, "reg=0.0 must be greater than 0"),
        ({"reg": -1.0}, ValueError, "reg=-1.0"),
        ({"reg": float("nan")}, ValueError, "reg=nan"),
        ({"reg": "small"}, TypeError, "reg='small' must be a number"),
        ({"reg": torch.tensor([0.1, 0.2])}, TypeError, "reg=.* must be a number"),
        (
            {"reg": torch.tensor(0.1, requires_grad=True)},
            TypeError,
            r"reg is a tensor that requires grad, .* reg\.item",
        ),
        ({"method": "convex"}, ValueError, "method='convex' must be one of 'affine', 'nonneg'"),
    ],
)
def test_bad_input(change, error, message):
    given = {
        "x": torch.zeros(3, 2),
        "bank": torch.randn(6, 2),
        "idx": torch.zeros(3, 4, dtype=torch.int64),
        "reg": 1e-3,
        "method": "affine",
    } | change
    with pytest.raises(error, match=message):
        barycentric_weights(
            given["x"], (given["bank"], given["idx"]), reg=given["reg"], method=given["method"]
        )


def test_a_triple_is_no_pair():
    with pytest.raises(ValueError, match="neighbors has 3 parts"):
        barycentric_weights(torch.zeros(1, 2), (1, 2, 3))


@pytest.mark.parametrize("method", ["affine", "nonneg"])
def test_nan_is_an_error_that_names_the_points(method):
    x, bank, idx = (part.detach().clone() for part in problem(4, 3))
    x[2, 0] = float("nan")
    with pytest.raises(torch.linalg.LinAlgError, match=r"NaN or infinity.*1 of 6 points \(rows 2;"):
        pair(x, bank, idx, method=method)


@pytest.mark.parametrize("method", ["affine", "nonneg"])
def test_a_ridge_lost_in_rounding_is_an_error(method):
    x = torch.zeros(1, 2)
    flat = torch.ones(1, 6, 2) * torch.arange(1, 7)[:, None]
    with pytest.raises(torch.linalg.LinAlgError, match=r"reg=1e-30 is lost.*rows 0"):
        barycentric_weights(x, flat, reg=1e-30, method=method)


@pytest.mark.parametrize("reg", [1e-3, 1e-7, 1e-8, 1e-10])
def test_nonnegative_weights_end_and_are_not_negative(reg):
    """Also where the ridge is near the rounding: weights, or an error, and no endless search."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 2, generator=g)
    try:
        w = barycentric_weights(x, (x, knn(x, k=20)), reg=reg, method="nonneg")
    except torch.linalg.LinAlgError as error:
        assert "reg" in str(error)
    else:
        assert w.min() >= 0
        torch.testing.assert_close(w.sum(1), torch.ones(300))


@pytest.mark.parametrize("method", ["affine", "nonneg"])
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-10, 1e10, 1e18, 1e30])
@pytest.mark.parametrize("form", ["pair", "gathered"])
def test_float32_at_every_scale(scale, method, form):
    x, bank, idx = problem(4, 5, n=50, N=60, dtype=torch.float32)
    target = torch.linspace(-1, 1, 4)

    def run(by):
        points, rows = (part.detach().mul(by).requires_grad_() for part in (x, bank))
        w = (pair if form == "pair" else gathered)(points, rows, idx, method=method)
        (w * target).sum().backward()
        return w.detach(), points.grad.double() * by, rows.grad.double() * by

    for found, expected in zip(run(scale), run(1.0), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_noncontiguous_tensors():
    x, bank, idx = problem(5, 4)
    expected = pair(x, bank, idx)
    strided = x.detach().repeat_interleave(2, dim=1)[:, ::2], bank.detach().T.contiguous().T
    torch.testing.assert_close(pair(*strided, idx.T.contiguous().T), expected.detach())


def test_noncontiguous_weights_have_derivatives():
    x, bank, idx = problem(5, 4)
    w = barycentric_weights(x, (bank, idx)).detach()
    columns = w.T.contiguous().T  # as Fortran has them
    assert not columns.is_contiguous()
    of = []
    for given in (w, columns):
        values = bank.detach().clone().requires_grad_()
        reconstruct(given, values, idx).square().sum().backward()
        locality_loss(values[: len(idx)], (values, idx), given).backward()
        of.append(values.grad)
    torch.testing.assert_close(of[1], of[0])


@pytest.mark.parametrize("factor", [1e-200, 1e-120, 1e120, 1e200])
def test_the_scale_of_float64_does_not_matter(factor):
    x, bank, idx = problem(5, 8)
    expected = barycentric_weights(x, (bank, idx)).detach()
    small, rows = (x * factor).detach(), (bank * factor).detach()
    torch.testing.assert_close(barycentric_weights(small, (rows, idx)), expected)
    torch.testing.assert_close(barycentric_weights(small, rows[idx]), expected)


@pytest.mark.parametrize("setting", ["medium", "high"])
def test_products_stay_whole_where_networks_do_without(setting):
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(300, 64, generator=generator) + 10
    x = torch.randn(50, 64, generator=generator) + 10
    idx = knn(x, bank, k=12)

    def run():
        points, rows = x.clone().requires_grad_(), bank.clone().requires_grad_()
        w = barycentric_weights(points, (rows, idx))
        y = reconstruct(w, rows, idx)
        y.square().sum().backward()
        near = bank[idx].clone().requires_grad_()
        plain = barycentric_weights(x, near)
        (plain**2).sum().backward()
        return w.detach(), y.detach(), points.grad, rows.grad, plain.detach(), near.grad

    expected = run()
    torch.set_float32_matmul_precision(setting)
    try:
        found = run()
    finally:
        torch.set_float32_matmul_precision("highest")
    for one, other in zip(found, expected, strict=True):
        scale = other.abs().max()
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=1e-4)
