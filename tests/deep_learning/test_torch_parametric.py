"""Locally linear embedding by a network, held against the exact one and dense formulas."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lle_gpu import (  # noqa: E402
    DisconnectedGraphWarning,
    GpuUnavailableError,
    LocallyLinearEmbedding,
    MemoryLimitError,
)
from lle_gpu.exceptions import warn_user  # noqa: E402
from lle_gpu.metrics import affine_residual  # noqa: E402
from lle_gpu.torch import (  # noqa: E402
    NeighborhoodBatchSampler,
    ParametricLLE,
    barycentric_weights,
    knn,
    local_neighbors,
    parametric,
)
from lle_gpu.torch.parametric import Standardize, whitened_residual  # noqa: E402

N, NEW, K = 1200, 300, 12
# Most of these fits are cut short.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def roll():
    """A swiss roll, and its arc length and height."""
    X, t = make_swiss_roll(N + NEW, random_state=0)
    length = (t * np.sqrt(1 + t * t) + np.arcsinh(t)) / 2
    return X, np.c_[length, X[:, 1]]


def sheet(n=200, seed=0):
    u = np.random.default_rng(seed).uniform(-1, 1, size=(n, 2))
    return np.c_[u, 0.3 * u[:, 0] ** 2]


def small(**options):
    return ParametricLLE(
        **{"hidden": (16,), "max_epochs": 20, "tol": 0.5, "random_state": 0, **options}
    )


def dense_objective(Y, X, k, reg):
    """tr(Y^T M Y) / n for Y as it is, by loops over NumPy's arrays."""
    total = 0.0
    for i, x in enumerate(X):
        squares = ((X - x) ** 2).sum(axis=1)
        squares[i] = np.inf
        near = np.argsort(squares, kind="stable")[:k]
        Z = x - X[near]
        G = Z @ Z.T
        w = np.linalg.solve(G + reg * np.trace(G) * np.eye(k), np.ones(k))
        total += ((Y[i] - w / w.sum() @ Y[near]) ** 2).sum()
    return total / len(X)


@pytest.fixture(scope="module")
def data():
    X, truth = roll()
    return X[:N], X[N:], truth[:N], truth[N:]


@pytest.fixture(scope="module")
def fitted(data):
    torch.set_num_threads(1)
    return ParametricLLE(hidden=(64, 64), n_neighbors=K, random_state=0).fit(data[0])


@pytest.fixture(scope="module")
def exact(data):
    return LocallyLinearEmbedding(n_neighbors=K).fit(data[0])


def test_a_roll_is_unrolled(data, fitted, exact):
    X, X_new, truth, truth_new = data
    residual = affine_residual(fitted.transform(X), truth)
    torch.manual_seed(0)
    x = torch.from_numpy(X).float()
    untrained = nn.Sequential(Standardize(3).learn(x), nn.Linear(3, 64), nn.SiLU())
    with torch.no_grad():
        start = nn.Sequential(untrained, nn.Linear(64, 2))(x).numpy()
    assert residual < 0.2
    assert residual < 0.4 * affine_residual(start, truth)
    assert residual < 0.4 * affine_residual(PCA(2).fit_transform(X), truth)
    assert residual < 1.2 * affine_residual(exact.embedding_, truth)
    assert affine_residual(fitted.transform(X_new), truth_new) < 0.2


def test_new_points_land_where_the_exact_embedding_puts_them():
    """On a sheet, where the bottom vectors are as smooth as the encoder."""
    X, X_new = sheet(800), sheet(200, seed=1)
    exact = LocallyLinearEmbedding(n_neighbors=K, reg=1e-2).fit(X)
    model = ParametricLLE(hidden=(32, 32), n_neighbors=K, reg=1e-2, random_state=0).fit(X)
    assert affine_residual(model.transform(X), exact.embedding_) < 0.2
    Y, Y_exact = model.transform(X_new), exact.transform(X_new)
    assert affine_residual(Y, Y_exact) < 0.2
    # By the map that the training points give, which no new point has seen.
    A, *_ = np.linalg.lstsq(np.c_[model.transform(X), np.ones(800)], exact.embedding_, rcond=None)
    off = np.c_[Y, np.ones(200)] @ A - Y_exact
    assert np.linalg.norm(off) < 0.2 * np.linalg.norm(Y_exact - Y_exact.mean(axis=0))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("reg", [1e-3, 1e-1])
def test_the_objective_is_never_below_the_exact_minimum(seed, reg):
    X = sheet(150, seed)
    least = LocallyLinearEmbedding(n_neighbors=8, reg=reg).fit(X).reconstruction_error_
    model = small(n_neighbors=8, reg=reg, random_state=seed, tol=0.05, max_epochs=400).fit(X)
    assert model.loss_ >= least * (1 - 1e-6)
    assert model.loss_ < 0.5 * model.history_[0]


def test_the_least_loss_is_the_exact_embedding_s():
    X = sheet(150)
    exact = LocallyLinearEmbedding(n_neighbors=8, reg=1e-2).fit(X)
    model = small(n_neighbors=8, reg=1e-2).fit(X)
    assert model.least_loss_ == pytest.approx(exact.reconstruction_error_, rel=1e-6)
    assert model.n_iter_ == len(model.history_) <= 20
    # The other weights have another M; dense, as a reference.
    model = small(weights_method="nonneg", n_components=1).fit(X)
    x = torch.from_numpy(X)
    idx = knn(x, k=10)
    W = torch.zeros(150, 150, dtype=torch.float64)
    W.scatter_(1, idx, barycentric_weights(x, (x, idx), method="nonneg"))
    sigma = torch.linalg.svdvals(torch.eye(150) - W)
    assert model.least_loss_ == pytest.approx(float(sigma[-2] ** 2), rel=1e-6)
    model.set_params(init="random").fit(X)
    assert not hasattr(model, "least_loss_")


def test_training_ends_near_the_exact_embedding_where_the_encoder_can_be_it():
    """Of 64 pixels smooth functions can be anything on so few points."""
    X = load_digits().data[np.random.default_rng(0).permutation(1797)[:400]]
    exact = LocallyLinearEmbedding(n_neighbors=12).fit(X).embedding_
    model = ParametricLLE(hidden=(32,), n_neighbors=12, max_epochs=200, random_state=0).fit(X)
    Y = model.transform(X).astype(np.float64)
    cosines = np.linalg.svd(exact.T @ Y / np.sqrt(len(X)), compute_uv=False)
    assert cosines.min() > np.cos(np.deg2rad(30))
    assert model.loss_ < 1.5 * model.least_loss_


def test_an_exact_embedding_beyond_the_memory_is_said_to_be(monkeypatch):
    from lle_gpu.torch import parametric

    def full(*args, **options):
        raise MemoryError("20 GB are needed")

    monkeypatch.setattr(parametric, "bottom_vectors", full)
    with pytest.raises(MemoryLimitError, match="20 GB are needed. Use init='random'"):
        small().fit(sheet())
    small(init="random").fit(sheet())


def test_the_objective_is_the_dense_one(fitted, data):
    X = data[0]
    Y = fitted.transform(X).astype(np.float64)
    assert fitted.loss_ == pytest.approx(dense_objective(Y, X, K, 1e-3), rel=1e-2)
    each = [dense_objective(y[:, None], X, K, 1e-3) for y in Y.T]
    np.testing.assert_allclose(fitted.residuals_.numpy(), each, rtol=1e-2)
    assert each == sorted(each)
    assert fitted.loss_ == pytest.approx(float(fitted.residuals_.sum()))


def test_coordinates_do_not_share_residuals():
    """E^T E is diagonal: the columns are Ritz vectors, as far as the encoder goes."""
    X = sheet(150)
    encoder = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    model = small(encoder=encoder).fit(X)
    x = torch.from_numpy(X)
    idx = knn(x, k=10)
    w = barycentric_weights(x, (x, idx))
    Y = model.transform(x)
    E = Y - (w[:, :, None] * Y[idx]).sum(dim=1)
    torch.testing.assert_close(E.mT @ E / 150, torch.diag(model.residuals_), rtol=1e-8, atol=1e-12)


def test_the_largest_entry_of_a_coordinate_is_positive():
    for seed in range(5):  # each sign is a coin's otherwise
        Y = small(random_state=seed, max_epochs=2).fit_transform(sheet())
        assert (Y[np.abs(Y).argmax(axis=0), [0, 1]] > 0).all()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-8)])
def test_training_points_are_white(dtype, tolerance):
    encoder = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)
    encoder[-1].bias.data += 5  # a mean to be removed
    model = small(encoder=encoder, n_components=3).fit(sheet())
    Y = model.transform(torch.from_numpy(sheet()))
    assert Y.dtype == dtype
    assert float(Y.double().mean(dim=0).abs().max()) < tolerance
    torch.testing.assert_close(
        Y.double().mT @ Y.double() / len(Y), torch.eye(3).double(), rtol=0, atol=tolerance
    )


def test_the_batches_loss_is_that_of_all_points_on_average():
    X = torch.from_numpy(sheet(600))
    idx = knn(X, k=8)
    w = barycentric_weights(X, (X, idx))
    z = torch.stack([torch.sin(2 * X[:, 0]), X[:, 1] ** 2 + X[:, 0] + 7], dim=1)
    whole = whitened_residual(z, w, idx)
    # The reference: whitened by NumPy, residuals by the dense matrix.
    Z = z.numpy() - z.numpy().mean(axis=0)
    Y = Z @ np.linalg.inv(np.linalg.cholesky(Z.T @ Z / 600)).T
    W = np.zeros((600, 600))
    np.put_along_axis(W, idx.numpy(), w.numpy(), axis=1)
    assert float(whole) == pytest.approx(((Y - W @ Y) ** 2).sum() / 600, rel=1e-7)
    losses = []
    sampler = NeighborhoodBatchSampler(idx, 100)
    for epoch in range(20):
        sampler.set_epoch(epoch)
        for rows in map(torch.tensor, sampler):
            local = local_neighbors(rows, idx, 100)
            losses.append(float(whitened_residual(z[rows], w[rows[:100]], local)))
    # The inverse of a covariance of b seeds is (c + 1) / b too large, or about that.
    assert np.mean(losses) == pytest.approx(float(whole), rel=0.05)


def test_the_loss_knows_neither_scale_nor_shift_nor_linear_maps():
    X = torch.from_numpy(sheet())
    idx = knn(X, k=8)
    w = barycentric_weights(X, (X, idx))
    z = torch.stack([torch.sin(2 * X[:, 0]), X[:, 1] ** 2], dim=1)
    A = torch.tensor([[1e-3, 2e-3], [-5e-3, 1e-3]], dtype=torch.float64)
    torch.testing.assert_close(
        whitened_residual(z @ A + 4, w, idx), whitened_residual(z, w, idx), rtol=1e-6, atol=0
    )
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: whitened_residual(z, w[:20], idx[:20]), z)


def test_the_same_seed_gives_the_same_bits_and_leaves_torch_s_generator_alone():
    X = sheet()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one = small(batch_size=50).fit_transform(X)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(one, small(batch_size=50).fit_transform(X))
    other = small(batch_size=50, random_state=1).fit(X).transform(X)
    assert not np.array_equal(one, other)
    for _ in range(2):
        torch.manual_seed(3)
        again = small(random_state=None).fit_transform(X)
    torch.manual_seed(3)
    assert np.array_equal(again, small(random_state=None).fit_transform(X))


@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)],
)
def test_the_modes_around_a_fit_do_not_matter(mode):
    X = torch.from_numpy(sheet()).float()
    one = small().fit(X)
    with mode():
        other = small().fit(X + 0)  # made in that mode
        Y = other.transform(X)
    assert other.loss_ == one.loss_
    assert torch.equal(Y, one.transform(X))
    other(X).sum().backward()
    assert all(p.grad is not None for p in other.parameters())


def test_gradients_flow(fitted):
    x = torch.from_numpy(sheet(20)).float().requires_grad_()
    model = copy.deepcopy(fitted)
    model(x).square().sum().backward()
    assert float(x.grad.abs().min(dim=1).values.max()) > 0
    assert all(p.grad is not None for p in model.parameters())
    double = copy.deepcopy(fitted).double()
    points = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(double, points)


def test_it_stands_in_a_network(fitted, data):
    network = nn.Sequential(copy.deepcopy(fitted), nn.Linear(2, 1))
    x = torch.from_numpy(data[1]).float()
    assert network(x).shape == (NEW, 1)
    again = nn.Sequential(clone(fitted), nn.Linear(2, 1))
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), network(x))
    assert again[0].loss_ == fitted.loss_
    assert again[0].n_features_in_ == 3
    assert again.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize("encoder", [None, nn.Sequential(nn.Linear(3, 6), nn.Tanh())])
def test_states_copies_and_pickles(encoder):
    X = sheet()
    model = small(encoder=encoder).fit(X)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    loaded = clone(model)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.transform(X), model.transform(X))
        assert other.loss_ == model.loss_
    other = small(encoder=encoder, random_state=5).fit(X)
    other.load_state_dict(model.state_dict())
    assert np.array_equal(other.transform(X), model.transform(X))
    assert not hasattr(other, "history_")


@pytest.mark.parametrize(
    "other",
    [
        {"hidden": (16, 16)},
        {"hidden": (8,)},
        {"n_components": 1},
        {"encoder": nn.Sequential(Standardize(3), nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 2))},
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_state_that_does_not_fit_changes_nothing(other, nested):
    X = sheet()
    state = small(**other).fit(X).state_dict()
    if "encoder" in other:  # the shapes are right, and a name is not there
        del state["encoder_.1.bias"]
    state = {"0." * nested + name: value for name, value in state.items()}
    fresh, fitted = small(), small().fit(X)
    Y, loss, history = fitted.transform(X), fitted.loss_, fitted.history_
    for model in (fresh, fitted):
        for strict in (True, False):
            with pytest.raises(RuntimeError, match="Nothing of it was loaded"):
                (nn.Sequential(model) if nested else model).load_state_dict(state, strict=strict)
    assert not fresh.__sklearn_is_fitted__()
    with pytest.raises(NotFittedError):
        fresh.transform(X)
    assert np.array_equal(fitted.transform(X), Y) and fitted.loss_ == loss
    assert fitted.history_ is history


def test_a_state_without_the_estimator_s_part_leaves_it_alone():
    fresh = small()
    nn.Sequential(fresh, nn.Linear(2, 1)).load_state_dict({"1.bias": torch.ones(1)}, strict=False)
    assert not fresh.__sklearn_is_fitted__()


def test_the_encoder_given_is_copied_and_its_training_starts_there():
    encoder = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1))
    before = copy.deepcopy(encoder.state_dict())
    model = small(encoder=encoder).fit(sheet())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert not model.training and not any(m.training for m in model.encoder_.modules())
    assert encoder.training
    assert "encoder.0.weight" not in model.state_dict()
    assert model.get_params()["encoder"] is encoder
    Y = model.transform(sheet())  # 8 outputs, 2 coordinates
    np.testing.assert_allclose(Y.T @ Y / len(Y), np.eye(2), atol=1e-5)
    model.train()
    assert np.array_equal(model.transform(sheet()), Y)
    assert model.encoder_[0][1].training


def test_what_comes_goes_out_of_the_same_kind():
    X = sheet()
    Y = small().fit(X).transform(X)
    assert isinstance(Y, np.ndarray) and Y.dtype == np.float32
    tensor = small().fit_transform(torch.from_numpy(X))
    assert isinstance(tensor, torch.Tensor) and not tensor.requires_grad
    assert np.array_equal(tensor.numpy(), Y)
    frame = pd.DataFrame(X, index=[f"p{i}" for i in range(len(X))])
    out = small().fit_transform(frame)
    assert list(out.index) == list(frame.index)
    assert list(out.columns) == ["parametriclle0", "parametriclle1"]
    assert np.array_equal(out.to_numpy(), Y)
    assert small().fit_transform(X.tolist()).shape == (200, 2)
    X.flags.writeable = False
    assert np.array_equal(small().fit_transform(X), Y)
    assert make_pipeline(StandardScaler(), small()).fit(X).transform(X).shape == (200, 2)


def test_it_is_a_transformer_of_scikit_learn_s():
    X = pd.DataFrame(sheet(), columns=list("abc"))
    model = small().set_output(transform="pandas").fit(X)
    assert get_tags(model).transformer_tags is not None
    assert list(model.feature_names_in_) == list("abc")
    for given in (X, X.to_numpy(), torch.from_numpy(X.to_numpy())):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no names
            out = model.transform(given)
        assert list(out.columns) == list(model.get_feature_names_out())
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(X[list("cab")])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.transform(torch.from_numpy(X.to_numpy()))
    model.fit(X.to_numpy())
    assert not hasattr(model, "feature_names_in_")
    with pytest.raises(NotFittedError):
        small().get_feature_names_out()


def test_points_far_from_0_are_fitted_as_well():
    X = sheet()
    near, far = small().fit(X), small().fit(X + 2.0**20)
    assert far.loss_ == pytest.approx(near.loss_, rel=1e-2)
    np.testing.assert_allclose(far.transform(X + 2.0**20), near.transform(X), atol=1e-2)


class Interrupting(nn.Module):
    """Raises in the training mode's third pass."""

    def __init__(self, error):
        super().__init__()
        self.layer, self.error, self.passes = nn.Linear(3, 2), error, 0

    def forward(self, x):
        self.passes += self.training
        if self.passes == 3:
            raise self.error
        return self.layer(x)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("full")])
def test_an_interrupted_fit_leaves_the_estimator_as_it_was(error):
    X = sheet()
    model = small().fit(X)
    Y, state = model.transform(X), {k: v.clone() for k, v in model.state_dict().items()}
    history, encoder = model.history_, model.encoder_
    model.set_params(encoder=Interrupting(error))
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        model.fit(X + 1)
    assert model.encoder_ is encoder and model.history_ is history
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert np.array_equal(model.transform(X), Y)
    fresh = small(encoder=Interrupting(error))
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        fresh.fit(X)
    with pytest.raises(NotFittedError):
        fresh.transform(X)


def test_a_second_fit_forgets_the_first():
    X = sheet()
    model = small().fit(np.c_[X, X])
    assert np.array_equal(model.fit(X).transform(X), small().fit_transform(X))


@pytest.mark.parametrize(
    "options, X, message",
    [
        ({"encoder": nn.Linear(3, 1)}, sheet(), "n_components=2 must be at most .* which are 1"),
        ({"encoder": nn.Unflatten(1, (3, 1))}, sheet(), "must give .points, outputs"),
        ({"encoder": nn.Identity(), "n_components": 3}, sheet(), "no parameters that require grad"),
        ({"n_neighbors": 200}, sheet(), "n_samples = 200, n_neighbors = 200"),
        ({}, sheet()[:1], "minimum of 2"),
        ({}, torch.from_numpy(sheet()[:1]), "must be 2 points"),
        ({"n_components": 4}, sheet(), "n_components=4"),
        ({}, np.where(sheet() > 0.9, np.nan, sheet()), "NaN"),
        ({}, torch.full((30, 3), torch.nan), "NaN"),
        ({}, torch.ones(30, 3, requires_grad=True), "model.X."),
        ({}, np.ones((30, 3)), "all 30 points of X are equal"),
        ({"batch_size": 2}, sheet(), "batch_size=2 must be more than n_components=2"),
        ({"hidden": ()}, sheet(), "hidden=.. must be"),
        ({"hidden": (3.5,)}, sheet(), "hidden=.3.5,. must be"),
        ({"reg": 0}, sheet(), "'reg' parameter"),
        ({"encoder": nn.Linear(4, 2)}, sheet(), r"encoder does not take points of shape \(1, 3\)"),
        ({"init": "pca"}, sheet(), "'init' parameter"),
        ({"device": "foo"}, sheet(), "device='foo' must be 'auto', 'cpu', 'gpu', 'cuda', None"),
        ({"weights_method": "other"}, sheet(), "'weights_method' parameter"),
        ({"n_components": True}, sheet(), "'n_components' parameter"),
        ({"reg": True}, sheet(), "'reg' parameter"),
    ],
)
def test_what_is_refused(options, X, message):
    with pytest.raises(ValueError, match=message):
        small(**options).fit(X)


def test_more_that_is_refused(fitted):
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match="give X.toarray"):
        small().fit(csr_array(sheet()))
    with pytest.raises(ValueError, match="X has 2 features, but ParametricLLE is expecting 3"):
        fitted.transform(sheet()[:, :2])
    with pytest.raises(NotFittedError, match="load_state_dict"):
        small()(torch.ones(2, 3))
    with pytest.raises(TypeError, match=r"x is a ndarray, .* transform\(x\) takes arrays"):
        fitted(sheet())
    with pytest.raises(ValueError, match=r"shape \(2, 5\), and must be \(points, 3\)"):
        fitted(torch.ones(2, 5))
    with pytest.raises(FloatingPointError, match="equal for all points"):
        dead = nn.Linear(3, 2)
        nn.init.zeros_(dead.weight)
        small(encoder=dead).fit(sheet())


def test_an_exact_embedding_that_has_not_converged(monkeypatch):
    """Is told in this class's words: it has no eigen_solver."""
    solved = parametric.bottom_vectors

    def unsure(*arguments, **options):
        vectors, spectrum = solved(*arguments, **options)
        warn_user("The bottom vectors have not converged. eigen_solver=", ConvergenceWarning)
        return vectors, replace(spectrum, converged=False)

    monkeypatch.setattr(parametric, "bottom_vectors", unsure)
    with pytest.warns(ConvergenceWarning, match="exact embedding has not.*init='random'") as caught:
        small(max_epochs=3).fit(sheet())
    assert not any("eigen_solver" in str(each.message) for each in caught)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_devices_without_a_gpu():
    X = sheet()
    model = small(device="auto").fit(X)
    assert model.mean_.device.type == "cpu"
    assert np.array_equal(model.transform(X), small().fit_transform(X))
    for device in ("gpu", "cuda", "cuda:1", torch.device("cuda")):
        with pytest.raises(GpuUnavailableError, match="device=.* cannot be used here: .*'auto'"):
            model.set_params(device=device).fit(X)
    assert model.__sklearn_is_fitted__()


def test_what_is_said():
    X = sheet()
    for init, beside in (("exact", r" \(the least there is: .*\)"), ("random", "")):
        message = f"max_epochs=3 ended .* to [0-9.e-]+{beside} in the last tenth"
        with pytest.warns(ConvergenceWarning, match=message) as caught:
            small(max_epochs=3, tol=0, init=init).fit(X)
        assert caught[0].filename == __file__
    with pytest.warns(DisconnectedGraphWarning, match="2 closed classes, of 200, 200 points"):
        small().fit(np.r_[X, X + 100])


def test_non_negative_weights_and_verbose(capsys):
    model = small(weights_method="nonneg", verbose=True).fit(sheet())
    said = capsys.readouterr().err
    assert "training" in said
    assert f"(the least there is: {model.least_loss_:.3g}) after {model.n_iter_} epochs" in said
    assert model.loss_ > small().fit(sheet()).loss_


def test_standardize_keeps_its_digits_under_float():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e6
    layer = Standardize(3).learn(x)
    expected = layer(x)
    assert layer.float().mean.dtype == torch.float64
    assert torch.equal(layer(x), expected)


def test_small_batches_have_more_seeds_than_coordinates():
    X = sheet()
    model = small(batch_size=3, max_epochs=3).fit(X)
    assert np.isfinite(model.history_).all() and model.history_.max() < 10


def test_standardize_comes_from_nowhere():
    with torch.device("meta"):
        layer = Standardize(3)
    assert layer.to_empty(device="cpu").mean.dtype == torch.float64
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    learned = Standardize(3).learn(x)
    layer.load_state_dict(learned.state_dict())
    assert torch.equal(layer(x), learned(x))
