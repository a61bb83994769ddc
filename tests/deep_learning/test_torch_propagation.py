"""Label propagation: against dense solutions, finite differences, and what must not change."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.exceptions import ConvergenceWarning  # noqa: E402

from lle_gpu.exceptions import DisconnectedGraphWarning  # noqa: E402
from lle_gpu.progress import StageTimes, report_to  # noqa: E402
from lle_gpu.torch import barycentric_weights, host, knn, propagate_labels  # noqa: E402

METHODS = ("clamped", "lnp")


def problem(n=60, k=5, d=3, seed=0, method="nonneg", n_classes=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    idx = knn(x, k=k)
    w = barycentric_weights(x, (x, idx), reg=0.1, method=method)
    y = torch.randint(n_classes, (n,), generator=generator)
    y[:n_classes] = torch.arange(n_classes)
    mask = torch.rand(n, generator=generator) < 0.3
    mask[:n_classes] = True
    return idx, w, y, mask


def dense(idx, w, y, mask, method, alpha=0.99):
    """The formulas, with NumPy's solver."""
    n = len(idx)
    W = np.zeros((n, n))
    for i in range(n):
        for j, weight in zip(idx[i].tolist(), w[i].tolist(), strict=True):
            W[i, j] += weight
    mask = mask.numpy()
    Y = np.eye(int(y[mask].max()) + 1)[np.where(mask, y, 0)] if y.ndim == 1 else y.numpy().copy()
    Y[~mask] = 0
    if method == "lnp":
        return np.linalg.solve(np.eye(n) - alpha * W, (1 - alpha) * Y)
    M = (np.eye(n) - W).T @ (np.eye(n) - W)
    F = Y.copy()
    F[~mask] = -np.linalg.solve(M[np.ix_(~mask, ~mask)], M[np.ix_(~mask, mask)] @ Y[mask])
    return F


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("soft", [False, True])
def test_equals_the_dense_solution(method, soft):
    idx, w, y, mask = problem()
    if soft:
        y = torch.randn(len(y), 2, generator=torch.Generator().manual_seed(1), dtype=w.dtype)
    F = propagate_labels(idx, w, y, mask, method=method, alpha=0.9)
    np.testing.assert_allclose(F, dense(idx, w, y, mask, method, 0.9), atol=1e-10)


def test_affine_weights_equal_the_dense_solution():
    idx, w, y, mask = problem(method="affine", d=6)
    assert (w < 0).any()
    F = propagate_labels(idx, w, y, mask)
    np.testing.assert_allclose(F, dense(idx, w, y, mask, "clamped"), atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_iterations_equal_the_dense_solution(method, monkeypatch):
    monkeypatch.setattr(host, "MOST_FLOPS", 0)
    idx, w, y, mask = problem(n=200)
    with report_to(StageTimes()) as report:
        F = propagate_labels(idx, w, y, mask, method=method)
    name = {"clamped": "conjugate gradients", "lnp": "BiCGSTAB"}[method]
    assert any(name in text for text in report.notes)
    np.testing.assert_allclose(F, dense(idx, w, y, mask, method), atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_iterations_have_the_factors_derivatives(method, monkeypatch):
    idx, w, y, mask = problem(n=200)
    gradients = []
    for flops in (1e12, 0):
        monkeypatch.setattr(host, "MOST_FLOPS", flops)
        v = w.clone().requires_grad_()
        propagate_labels(idx, v, y, mask, method=method, alpha=0.9).square().sum().backward()
        gradients.append(v.grad)
    np.testing.assert_allclose(*gradients, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_what_iterations_leave_is_solved_for_again(method, monkeypatch):
    monkeypatch.setattr(host, "MOST_FLOPS", 0)
    monkeypatch.setattr(host, "FALL", 1e-4)
    idx, w, y, mask = problem(n=200)
    F = propagate_labels(idx, w, y, mask, method=method)
    np.testing.assert_allclose(F, dense(idx, w, y, mask, method), atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_iterations_that_come_to_no_end_are_told(method, monkeypatch):
    monkeypatch.setattr(host, "MOST_FLOPS", 0)
    monkeypatch.setattr(host, "MOST_ITERATIONS", 2)
    with pytest.warns(ConvergenceWarning, match="backward error"):
        propagate_labels(*problem(n=200), method=method)


def test_clamped_labels_come_back_and_rows_sum_to_one():
    idx, w, y, mask = problem()
    F = propagate_labels(idx, w, y, mask)
    assert torch.equal(F[mask], torch.nn.functional.one_hot(y)[mask].double())
    np.testing.assert_allclose(F.sum(dim=1), 1, atol=1e-10)


def test_clamped_reproduces_affine_functions_of_rebuilt_points():
    # Where weights rebuild every point, each coordinate is a solution.
    x = torch.linspace(0, 1, 12, dtype=torch.float64)[:, None] ** 2
    idx = knn(x, k=3)
    w = barycentric_weights(x, (x, idx), reg=1e-13)
    mask = torch.zeros(12, dtype=torch.bool)
    mask[[0, 11]] = True
    assert (propagate_labels(idx, w, x, mask) - x).abs().max() < 1e-5


def test_clamped_scores_may_leave_the_unit_interval():
    F = propagate_labels(*problem())
    assert F.min() < 0 < 1 < F.max()


def test_lnp_scores_are_in_the_unit_interval_and_are_the_iteration_s_limit():
    idx, w, y, mask = problem()
    F = propagate_labels(idx, w, y, mask, method="lnp", alpha=0.8)
    assert F.min() >= 0
    assert F.sum(dim=1).max() <= 1 + 1e-12
    Y = torch.nn.functional.one_hot(y).double() * mask[:, None]
    G = Y
    for _ in range(200):
        G = 0.8 * (w[:, :, None] * G[idx]).sum(dim=1) + 0.2 * Y
    np.testing.assert_allclose(F, G, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_derivatives(method):
    idx, w, _, mask = problem(n=14, k=3)
    generator = torch.Generator().manual_seed(2)
    w = (0.2 + torch.rand(w.shape, generator=generator, dtype=w.dtype)) / 4
    y = torch.randn(14, 2, generator=generator, dtype=w.dtype)

    def scores(w, y):
        return propagate_labels(idx, w, y, mask, method=method, alpha=0.7)

    inputs = w.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(scores, inputs)
    assert torch.autograd.gradgradcheck(scores, inputs)


@pytest.mark.parametrize("method", METHODS)
def test_labels_of_unlabelled_points_have_no_gradient_and_may_be_nan(method):
    idx, w, _, mask = problem()
    y = torch.ones(len(w), 2, dtype=w.dtype)
    y[~mask] = float("nan")
    y.requires_grad_()
    F = propagate_labels(idx, w, y, mask, method=method)
    F.square().sum().backward()
    assert torch.isfinite(F).all()
    assert (y.grad[~mask] == 0).all()
    assert (y.grad[mask] != 0).any()


def test_the_backward_pass_uses_the_same_factors(monkeypatch):
    made = []
    init = host.HostSolver.__init__
    monkeypatch.setattr(
        host.HostSolver, "__init__", lambda self, *a, **o: (made.append(1), init(self, *a, **o))[1]
    )
    idx, w, y, mask = problem()
    w.requires_grad_()
    propagate_labels(idx, w, y, mask).square().sum().backward()
    assert len(made) == 1


@pytest.mark.parametrize("method", METHODS)
def test_weights_mask_or_neighbours_changed_in_place_are_seen(method):
    idx, w, y, mask = problem()
    for change in (
        lambda: w[:, 0].mul_(0.5),
        lambda: mask.__setitem__(~mask, torch.arange(int((~mask).sum())) % 2 == 0),
        lambda: idx.copy_(idx.flip(1)),
        lambda: w.data[:, 1].mul_(0.5),  # which counts no version
    ):
        propagate_labels(idx, w, y, mask, method=method)
        change()
        F = propagate_labels(idx, w, y, mask, method=method)
        np.testing.assert_allclose(F, dense(idx, w, y, mask, method), atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_solved_in_float64(method):
    idx, w, y, mask = problem()
    F = propagate_labels(idx, w.float(), y, mask, method=method)
    assert F.dtype == torch.float32
    exact = dense(idx, w.float().double(), y, mask, method)
    np.testing.assert_allclose(F, exact, atol=1e-6)
    half = propagate_labels(idx, w.half(), y, mask, method=method)
    assert half.dtype == torch.float32


def in_two_parts():
    """Points 0 to 4, with a label, and 5 to 9, without; no edge from one to the other."""
    idx, w, _, _ = problem(n=5, k=2)
    idx, w = torch.cat([idx, idx + 5]), torch.cat([w, w]).clamp_min(0.05)
    mask = torch.zeros(10, dtype=torch.bool)
    mask[0] = True
    return idx, w / w.sum(dim=1, keepdim=True), torch.zeros(10, dtype=torch.long), mask


@pytest.mark.parametrize("method", METHODS)
def test_points_without_a_tie_get_zeros_and_a_warning(method):
    with pytest.warns(DisconnectedGraphWarning, match=r"5 of 10 points .*rows 5, 6, 7, 8, 9\)"):
        F = propagate_labels(*in_two_parts(), method=method)
    assert (F[5:] == 0).all()
    assert (F[:5] > 0).all()


@pytest.mark.parametrize("iterative", [False, True])
@pytest.mark.parametrize("size", [2, 40])
def test_undetermined_scores_are_the_smallest_and_warned_of(size, iterative, monkeypatch):
    """One label leads to two closed classes: in its own chain, but with a null vector."""
    if iterative:
        monkeypatch.setattr(host, "MOST_FLOPS", 0)
    generator = torch.Generator().manual_seed(0)
    apart = (torch.arange(size)[:, None] + torch.tensor([1, 2, 3])) % size
    idx = torch.cat([torch.tensor([[1, 1, size + 1]]), apart + 1, apart + size + 1])
    w = 0.1 + torch.rand(idx.shape, generator=generator, dtype=torch.float64)
    w[0] = torch.tensor([0.5, 0.5, 1.0])
    w /= w.sum(dim=1, keepdim=True)
    mask = torch.arange(len(w)) == 0
    y = torch.ones(len(w), 1, dtype=torch.float64)
    with pytest.warns(DisconnectedGraphWarning, match="do not, or hardly, determine"):
        F = propagate_labels(idx, w, y, mask)
    # In all solutions the scores are the same within a class, and (f_1 + f_2) / 2 = 1.
    np.testing.assert_allclose(F, 1, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_all_points_labelled_one_class_and_more_classes(method):
    idx, w, y, mask = problem()
    every = torch.ones_like(mask)
    F = propagate_labels(idx, w, y, every, method=method)
    np.testing.assert_allclose(F, dense(idx, w, y, every, method), atol=1e-10)
    one = propagate_labels(idx, w, torch.zeros_like(y), mask, method=method)
    assert one.shape == (60, 1)
    if method == "clamped":
        np.testing.assert_allclose(one, 1, atol=1e-10)
    more = propagate_labels(idx, w, y, mask, method=method, n_classes=5)
    assert more.shape == (60, 5)
    assert (more[:, 3:] == 0).all()


def test_duplicated_neighbours_count_twice():
    idx, w, y, mask = problem()
    idx[:, 1] = idx[:, 0]
    F = propagate_labels(idx, w, y, mask)
    np.testing.assert_allclose(F, dense(idx, w, y, mask, "clamped"), atol=1e-10)


def test_arguments_are_left_alone_and_the_order_of_points_does_not_matter():
    idx, w, y, mask = problem()
    before = [part.clone() for part in (idx, w, y, mask)]
    F = propagate_labels(idx, w, y, mask)
    for part, was in zip((idx, w, y, mask), before, strict=True):
        assert torch.equal(part, was)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    moved = propagate_labels(torch.argsort(order)[idx[order]], w[order], y[order], mask[order])
    np.testing.assert_allclose(moved, F[order], atol=1e-10)


def test_under_compile():
    idx, w, y, mask = problem()
    compiled = torch.compile(
        lambda w: propagate_labels(idx, w, y, mask).square().sum(), backend="eager"
    )
    ours, theirs = (w.clone().requires_grad_() for _ in range(2))
    loss = compiled(ours)
    loss.backward()
    propagate_labels(idx, theirs, y, mask).square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_warnings_point_to_the_caller():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        propagate_labels(*in_two_parts())
    assert [w.filename for w in caught] == [__file__]


GOOD = dict(zip(("idx", "w", "y", "mask"), problem(), strict=True))
NAN = GOOD["w"].clone()
NAN[[3, 7]] = float("nan")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"method": "harmonic"}, ValueError, "method='harmonic' must be one of 'clamped', 'lnp'"),
        ({"alpha": 1.0}, ValueError, "alpha=1.0 must be above 0 and below 1"),
        ({"alpha": float("nan")}, ValueError, "alpha=nan"),
        ({"w": GOOD["w"].numpy()}, TypeError, "w is a ndarray"),
        ({"w": GOOD["w"][:, :2]}, ValueError, r"w has shape \(60, 2\) and idx \(60, 5\)"),
        ({"w": GOOD["w"][:, 0]}, ValueError, r"w has shape \(60,\)"),
        ({"w": GOOD["w"][:0], "idx": GOOD["idx"][:0]}, ValueError, "neither of them 0"),
        ({"w": GOOD["w"][:, :0], "idx": GOOD["idx"][:, :0]}, ValueError, "neither of them 0"),
        ({"w": NAN}, ValueError, r"w has NaN or infinity in 2 rows \(3, 7\)"),
        ({"w": GOOD["w"].double() * 1e200}, ValueError, r"w has weights of up to \S+ in size"),
        ({"w": -GOOD["w"], "method": "lnp"}, ValueError, "w has negative weights"),
        ({"w": 2 * GOOD["w"], "method": "lnp"}, ValueError, "w has a row that sums to 2"),
        ({"idx": GOOD["idx"] + 1}, IndexError, "idx has 60, and must have rows of w, from 0 to 59"),
        ({"idx": GOOD["idx"].double()}, TypeError, "idx is torch.float64"),
        ({"mask": GOOD["mask"].long()}, TypeError, "mask is torch.int64, and must be"),
        ({"mask": GOOD["mask"][1:]}, ValueError, r"mask has shape \(59,\), and must have \(60,\)"),
        ({"mask": torch.zeros(60, dtype=torch.bool)}, ValueError, "at least one must be labelled"),
        ({"y": GOOD["y"] - 1}, ValueError, "y is -1 at a labelled point"),
        ({"y": GOOD["y"][1:]}, ValueError, r"y has shape \(59,\)"),
        ({"y": GOOD["y"].double()}, TypeError, r"y\[:, None\] for targets of a regression"),
        ({"y": GOOD["y"][:, None].float()}, TypeError, "y has dtype torch.float32 and w has"),
        ({"y": GOOD["w"][:, :0]}, ValueError, "y has 0 columns"),
        ({"y": GOOD["w"], "n_classes": 4}, ValueError, "y has 5 columns and n_classes=4"),
        ({"y": NAN}, ValueError, "y has NaN or infinity in"),
        ({"y": GOOD["y"].tolist()}, TypeError, "y is a list"),
        (
            {"alpha": torch.tensor(0.9, requires_grad=True), "method": "lnp"},
            TypeError,
            "alpha is a tensor that requires grad",
        ),
        ({"n_classes": 2}, ValueError, "n_classes=2 must be more than the largest label, 2"),
    ],
)
def test_bad_input(changes, error, message):
    arguments = GOOD | changes
    if message.startswith("y has NaN"):
        arguments["mask"] = torch.ones(60, dtype=torch.bool)
    with pytest.raises(error, match=message):
        propagate_labels(**arguments)


@pytest.mark.parametrize("n_classes", [2.5, 3.0, "3", True])
def test_the_number_of_classes_is_an_integer(n_classes):
    idx, w, y, mask = problem()
    with pytest.raises(TypeError, match=f"n_classes={n_classes!r} must be an integer"):
        propagate_labels(idx, w, y, mask, n_classes=n_classes)
    assert propagate_labels(idx, w, y, mask, n_classes=np.int64(4)).shape == (60, 4)


def test_mixed_devices():
    with pytest.raises(ValueError, match="is on meta and w on cpu"):
        propagate_labels(**GOOD | {"mask": GOOD["mask"].to("meta")})
    with pytest.raises(ValueError, match="y is on meta and w on cpu"):
        propagate_labels(**GOOD | {"y": GOOD["y"].to("meta")})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_cuda_tensors_give_the_same_there(method):
    idx, w, y, mask = problem()
    there = [part.cuda() for part in (idx, w, y, mask)]
    there[1].requires_grad_()
    F = propagate_labels(*there, method=method)
    assert F.device.type == "cuda"
    F.square().sum().backward()
    np.testing.assert_allclose(F.detach().cpu(), propagate_labels(idx, w, y, mask, method=method))
    assert there[1].grad.device.type == "cuda"


def test_alphas_that_float32_cannot_tell_apart():
    x = torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    idx = knn(x, k=8)
    w = barycentric_weights(x, (x, idx), reg=0.1, method="nonneg")
    y, mask = (x[:, 0] > 0).long(), torch.arange(200) < 20
    propagate_labels(idx, w, y, mask, method="lnp", alpha=1 - 1e-8)
    again = propagate_labels(idx, w, y, mask, method="lnp", alpha=1 - 1e-9)
    fresh = propagate_labels(idx, w.clone(), y, mask, method="lnp", alpha=1 - 1e-9)
    torch.testing.assert_close(again, fresh, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", ["clamped", "lnp"])
def test_weights_as_fortran_has_them(method):
    w = GOOD["w"]
    options = {**GOOD, "method": method}
    expected = propagate_labels(**options)
    found = propagate_labels(**options | {"w": w.T.contiguous().T})
    torch.testing.assert_close(found, expected)
