"""Layers and the loss: against their formulas, and in the company that layers keep."""

import copy
import io
import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import make_swiss_roll
from sklearn.decomposition import PCA

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lle_gpu import LocallyLinearEmbedding  # noqa: E402
from lle_gpu.constraints.cpu import barycentric_weights as numpy_weights  # noqa: E402
from lle_gpu.torch import (  # noqa: E402
    BarycentricProjection,
    LLEFeatures,
    LocalityLoss,
    barycentric_weights,
    knn,
    locality_loss,
    reconstruct,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- reconstruct ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [(), (4,), (2, 3)])
def test_reconstruct(tail):
    values, w = normal(20, *tail), normal(6, 5, seed=1)
    idx = torch.randint(0, 20, (6, 5), generator=torch.Generator().manual_seed(2))
    expected = torch.zeros(6, *tail, dtype=torch.float64)
    for i in range(6):
        for j in range(5):
            expected[i] += w[i, j] * values[idx[i, j]]
    torch.testing.assert_close(reconstruct(w, values, idx), expected)
    w.requires_grad_(), values.requires_grad_()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda w, values: reconstruct(w, values, idx), (w, values))


def test_reconstruct_of_points_and_their_weights_gives_them_back():
    bank, x = normal(40, 3), normal(10, 3, seed=1)
    idx = knn(x, bank, k=8)
    w = barycentric_weights(x, (bank, idx), reg=1e-9)
    torch.testing.assert_close(reconstruct(w, bank, idx), x, atol=1e-5, rtol=0)


def test_reconstruct_bad_input():
    w, idx = torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="no rows"):
        reconstruct(w, torch.tensor(1.0), idx)
    with pytest.raises(TypeError, match="dtype"):
        reconstruct(w, torch.zeros(4, 2).double(), idx)
    with pytest.raises(ValueError, match=r"weights have shape \(3, 2\)"):
        reconstruct(w, torch.zeros(4, 2), idx[:, :1])


# --- locality_loss -------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", ["none", "variance", "local"])
def test_locality_loss(normalize):
    z, w = normal(12, 3), normal(12, 4, seed=1)
    idx = knn(z, k=4)
    error = ((z - (w[:, :, None] * z[idx]).sum(1)) ** 2).sum(1)
    if normalize == "variance":
        error = error / ((z - z.mean(0)) ** 2).sum(1).mean()
    if normalize == "local":
        error = error / ((z[:, None] - z[idx]) ** 2).sum(2).mean(1)
    for nearest in ((z, idx), z[idx]):
        for reduction, expected in (("none", error), ("sum", error.sum()), ("mean", error.mean())):
            loss = locality_loss(z, nearest, w, normalize=normalize, reduction=reduction)
            torch.testing.assert_close(loss, expected)
    z.requires_grad_()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda z: locality_loss(z, (z, idx), w, normalize=normalize), (z,))


def test_locality_loss_is_the_embeddings_objective():
    """The sum over all points of tr(Y^T M Y) is what the embedding reports as its error."""
    X = normal(150, 3).numpy()
    model = LocallyLinearEmbedding(n_neighbors=8, n_components=2).fit(X)
    x, y = torch.tensor(X), torch.tensor(model.embedding_)
    idx = knn(x, k=8)
    w = barycentric_weights(x, (x, idx))
    error = locality_loss(y, (y, idx), w, normalize="none", reduction="sum")
    np.testing.assert_allclose(float(error), model.reconstruction_error_, rtol=1e-6)


@pytest.mark.parametrize("normalize", ["variance", "local"])
def test_normalised_loss_does_not_see_shift_and_scale(normalize):
    z, w = normal(12, 3), torch.softmax(normal(12, 4, seed=1), 1)
    idx = knn(z, k=4)
    reference = locality_loss(z, (z, idx), w, normalize=normalize)
    for scale, shift in ((1e-6, 0.0), (1e6, 0.0), (3.0, 50.0)):
        moved = scale * z + shift
        torch.testing.assert_close(locality_loss(moved, (moved, idx), w, normalize=normalize),
                                   reference, rtol=1e-8, atol=0)  # fmt: skip


@pytest.mark.parametrize("normalize", ["variance", "local"])
def test_normalised_loss_in_float32_at_every_scale(normalize):
    z, w = normal(12, 3).float(), torch.softmax(normal(12, 4, seed=1).float(), 1)
    idx = knn(z, k=4)
    reference = locality_loss(z, (z, idx), w, normalize=normalize)
    for scale in (1e-30, 1e-22, 1e15, 1e30):
        far = scale * z
        for nearest in ((far, idx), far[idx]):
            torch.testing.assert_close(
                locality_loss(far, nearest, w, normalize=normalize), reference
            )


@pytest.mark.parametrize("normalize", ["variance", "local"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, -7.3, 1e-30, 1e30])
def test_nothing_is_won_by_constant_outputs(normalize, dtype, value):
    """Dead units give what points at their mean do, exactly or up to rounding, and no NaN."""
    x = normal(30, 5).to(dtype)
    last = nn.Linear(5, 2).to(dtype)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, value)
    loss = LocalityLoss(k=4, normalize=normalize)(last(x), x)
    loss.backward()
    assert float(loss.detach()) == 1
    assert not last.weight.grad.any() and not last.bias.grad.any()
    z = last(x).detach().clone()
    z[::2] *= 1 + torch.finfo(dtype).eps  # a unit in the last place
    assert float(LocalityLoss(k=4, normalize=normalize)(z, x)) == 1
    alone = LocalityLoss(normalize=normalize)(z[:1], x[:1])
    assert float(alone) == 0


@pytest.mark.parametrize("normalize", ["variance", "local"])
def test_one_output_beyond_all_bounds_is_not_taken_for_a_constant(normalize):
    z, x = normal(30, 2), normal(30, 5, seed=1)
    for bad in (torch.inf, torch.nan):
        z[3] = bad
        assert not torch.isfinite(LocalityLoss(k=4, normalize=normalize)(z, x))


def test_a_far_output_does_not_hide_the_others_differences():
    z, w = normal(30, 2).float(), torch.softmax(normal(30, 4, seed=1).float(), 1)
    idx = knn(z, k=4)
    alone = locality_loss(z, (z, idx), w, normalize="local", reduction="none")
    far = torch.cat([z, torch.full((1, 2), 1e8)])
    rows = torch.cat([idx, idx[:1]])
    both = locality_loss(far, (far, rows), w[[*range(30), 0]], normalize="local", reduction="none")
    torch.testing.assert_close(both[:30], alone, rtol=1e-4, atol=0)


@pytest.mark.parametrize("normalize", ["none", "variance", "local"])
def test_small_batches_of_the_module(normalize):
    loss = LocalityLoss(k=10, normalize=normalize)
    for n in (0, 1, 2, 5):
        z = normal(n, 2).requires_grad_()
        value = loss(z, normal(n, 6, seed=1))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(z.grad).all()
        assert value > 0 or n < 2


def test_the_module_checks_early():
    for options in ({"method": "x"}, {"normalize": "x"}, {"reduction": "x"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}='x' must be one of"):
            LocalityLoss(**options)
    with pytest.raises(TypeError, match=r"k=5\.0"):
        LocalityLoss(k=5.0)
    tracked = torch.tensor(0.5, requires_grad=True)
    with pytest.raises(TypeError, match="reg is a tensor that requires grad"):
        LocalityLoss(reg=tracked)
    with pytest.raises(TypeError, match="blend is a tensor that requires grad"):
        BarycentricProjection(normal(9, 3), k=2, blend=tracked)
    for x in (normal(8, 6), normal(9)):
        with pytest.raises(ValueError, match="x must have a row"):
            LocalityLoss(k=3)(normal(9, 2), x)


@pytest.mark.parametrize("normalize", ["none", "variance", "local"])
def test_a_collapsed_batch_has_a_finite_gradient(normalize):
    z = torch.ones(5, 3, requires_grad=True)
    idx = torch.tensor([[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]])
    loss = locality_loss(z, (z, idx), torch.full((5, 2), 0.5), normalize=normalize)
    loss.backward()
    assert loss.item() == (normalize != "none")
    assert torch.isfinite(z.grad).all()


def test_a_batch_of_one_and_of_none():
    bank = normal(20, 3)
    for n in (1, 0):
        z = normal(n, 3, seed=1)
        idx = knn(z, bank, k=4)
        w = barycentric_weights(z, (bank, idx))
        for normalize in ("none", "local"):
            loss = locality_loss(z, (bank, idx), w, normalize=normalize, reduction="sum")
            assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"normalize": True}, ValueError, "normalize=True must be one of"),
        ({"reduction": "max"}, ValueError, "reduction='max' must be one of"),
        ({"z": torch.zeros(4, 2)}, ValueError, "z has 4 points and w has weights of 3"),
        ({"w": torch.zeros(3, 4)}, ValueError, "weights have shape"),
        ({"z": torch.zeros(3, 2).long()}, TypeError, "int64"),
        ({"z_nbr": (1, 2, 3)}, ValueError, "z_nbr has 3 parts"),
    ],
)
def test_locality_loss_bad_input(change, error, message):
    given = {"z": torch.zeros(3, 2), "z_nbr": torch.zeros(3, 5, 2), "w": torch.zeros(3, 5)} | change
    options = {name: given[name] for name in ("normalize", "reduction") if name in given}
    with pytest.raises(error, match=message):
        locality_loss(given["z"], given["z_nbr"], given["w"], **options)


def test_the_module_is_the_function():
    x, z = normal(30, 6), normal(30, 2, seed=1)
    idx = knn(x, k=5)
    w = barycentric_weights(x, (x, idx), reg=0.1, method="nonneg")
    expected = locality_loss(z, (z, idx), w, normalize="local", reduction="sum")
    loss = LocalityLoss(k=5, reg=0.1, method="nonneg", normalize="local", reduction="sum")
    torch.testing.assert_close(loss(z, x), expected)
    torch.testing.assert_close(loss(z, x.view(30, 2, 3)), expected)  # images
    torch.testing.assert_close(loss(z, x, idx), expected)
    # Neighbours of the first points alone; the others are only neighbours.
    some = locality_loss(z[:9], (z, idx[:9]), w[:9], normalize="none")
    part = LocalityLoss(k=5, reg=0.1, method="nonneg", normalize="none")
    torch.testing.assert_close(part(z, x, idx[:9]), some)
    assert list(loss.parameters()) == []


# --- BarycentricProjection -----------------------------------------------------------------------


def test_projection_by_hand():
    bank, values, x = normal(60, 6), normal(60, 4, seed=1), normal(9, 6, seed=2)
    idx = knn(x, bank, k=5).numpy()
    w = numpy_weights(x.numpy(), bank.numpy(), idx, reg=0.01)
    layer = BarycentricProjection(bank, values, k=5, reg=0.01)
    expected = (w[:, :, None] * values.numpy()[idx]).sum(axis=1)
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-12)
    onto = BarycentricProjection(bank, k=5, reg=0.01, blend=0.25)
    expected = 0.75 * x.numpy() + 0.25 * (w[:, :, None] * bank.numpy()[idx]).sum(axis=1)
    np.testing.assert_allclose(onto(x).numpy(), expected, atol=1e-12)
    torch.testing.assert_close(BarycentricProjection(bank, blend=0.0)(x), x, rtol=0, atol=1e-15)


def test_shapes_of_sequences_and_of_nothing():
    layer = BarycentricProjection(normal(60, 6), normal(60, 2, 3), k=5)
    x = normal(4, 7, 6, seed=2)
    assert layer(x).shape == (4, 7, 2, 3)
    torch.testing.assert_close(layer(x)[2, 3], layer(x[2, 3]))
    assert layer(x[:0]).shape == (0, 7, 2, 3)
    assert layer(x[0, :1]).shape == (1, 2, 3)


def test_rows_at_once_change_nothing(monkeypatch):
    from lle_gpu.torch import modules

    layer, x = BarycentricProjection(normal(60, 6), k=5), normal(50, 6, seed=1)
    whole = layer(x)
    monkeypatch.setattr(modules, "ROWS_AT_ONCE", 7)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), whole)


def test_gradients_of_projection():
    bank = nn.Parameter(normal(20, 3))
    values = nn.Parameter(normal(20, 2, seed=1))
    layer = BarycentricProjection(bank, values, k=4)
    assert {name for name, _ in layer.named_parameters()} == {"bank", "values"}
    x = normal(5, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, bank, values))
    assert torch.autograd.gradgradcheck(lambda x, *_: layer(x), (x, bank, values))


def test_duplicates_in_the_bank_stay_finite():
    bank = normal(10, 4, dtype=torch.float32).repeat(8, 1)
    layer = BarycentricProjection(bank, k=16)
    x = bank[:3].clone().requires_grad_()
    y = layer(x)
    assert torch.isfinite(y).all()
    y.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert y.abs().max() <= 1.01 * bank.abs().max()


def test_the_company_layers_keep():
    layer = BarycentricProjection(normal(60, 6), normal(60, 2, seed=1), k=5)
    x = normal(9, 6, seed=2)
    expected = layer(x)
    assert "k=5" in repr(layer)
    assert set(layer.state_dict()) == {"bank", "values"}
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(x), expected)
    kept = io.BytesIO()
    torch.save(layer.state_dict(), kept)
    kept.seek(0)
    fresh = BarycentricProjection(normal(60, 6, seed=9), normal(60, 2, seed=8), k=5)
    assert not torch.allclose(fresh(x), expected)
    fresh.load_state_dict(torch.load(kept, weights_only=True))
    torch.testing.assert_close(fresh(x), expected)
    single = copy.deepcopy(layer).to(torch.float32)
    torch.testing.assert_close(single(x.float()).double(), expected, atol=1e-3, rtol=1e-3)


def test_autocast_and_half_precision_are_float32():
    layer = BarycentricProjection(normal(60, 6).float(), k=5)
    x = normal(9, 6, seed=2).float()
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        linear = nn.Linear(6, 6)(x)
        assert linear.dtype == torch.bfloat16
        below = layer(linear)
    assert y.dtype == below.dtype == torch.float32
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    torch.testing.assert_close(below, layer(linear.float()), rtol=0, atol=0)
    half = copy.deepcopy(layer).half()
    found = half(x.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_a_network_of_half_precision():
    network = nn.Sequential(BarycentricProjection(normal(50, 6).float(), k=5), nn.Linear(6, 1))
    y = network.bfloat16()(normal(4, 6, seed=1).bfloat16())
    assert y.dtype == torch.bfloat16 and bool(torch.isfinite(y).all())


def test_an_expanded_bank_can_be_loaded():
    bank = torch.zeros(1, 4).expand(50, 4)
    layer = BarycentricProjection(bank, k=5)
    layer.load_state_dict(BarycentricProjection(normal(50, 4).float(), k=5).state_dict())
    torch.testing.assert_close(layer.bank, normal(50, 4).float())
    assert not bank.any()


def test_features_have_a_derivative_at_training_points():
    X = make_swiss_roll(300, random_state=0)[0]
    layer = LLEFeatures(LocallyLinearEmbedding(n_neighbors=10).fit(X), dtype=torch.float64)
    x = torch.as_tensor(X[:5]).requires_grad_()
    layer(x)[:, 0].sum().backward()
    near = (x.detach() + 1e-7).requires_grad_()
    layer(near)[:, 0].sum().backward()
    assert near.grad.abs().max() > 1e-6
    torch.testing.assert_close(x.grad, near.grad, rtol=1e-3, atol=1e-8)


class _Projected(torch.utils.data.Dataset):
    def __init__(self, layer, x):
        self.layer, self.x = layer, x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.layer(self.x[i])


@pytest.mark.parametrize("workers", [0, 2])
def test_in_workers_of_a_data_loader(workers):
    layer, x = BarycentricProjection(normal(60, 6), k=5), normal(8, 6, seed=2)
    layer(x)  # what is prepared in this process must not harm in another
    batches = list(
        torch.utils.data.DataLoader(_Projected(layer, x), batch_size=4, num_workers=workers)
    )
    torch.testing.assert_close(torch.cat(batches), layer(x))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_whole(backend):
    torch._dynamo.reset()
    net = nn.Sequential(
        nn.Linear(6, 6), BarycentricProjection(normal(60, 6).float(), k=5, blend=0.5), nn.Tanh()
    )
    x = normal(9, 6, seed=2).float().requires_grad_()
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x), atol=1e-5, rtol=1e-5)
    (of_compiled,) = torch.autograd.grad(compiled(x).square().sum(), x)
    (of_eager,) = torch.autograd.grad(net(x).square().sum(), x)
    torch.testing.assert_close(of_compiled, of_eager, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(compiled(x[:4]), net(x[:4]), atol=1e-5, rtol=1e-5)


def test_functions_compile_whole():
    torch._dynamo.reset()

    def train(x, net):
        z = net(x)
        idx = knn(x, k=4)
        w = barycentric_weights(x, (x, idx), reg=0.1, method="nonneg")
        return locality_loss(z, (z, idx), w) + LocalityLoss(k=4)(z, x)

    x, net = normal(20, 5).float(), nn.Linear(5, 2)
    compiled = torch.compile(train, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, net), train(x, net))


def _replica(rank, port, results):
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), BarycentricProjection(normal(60, 6).float(), k=5))
    replicated = nn.parallel.DistributedDataParallel(net)
    x = normal(8, 6, seed=2).float()
    replicated(x[rank::2]).square().mean().backward()
    if rank == 0:
        results.put(net[0].weight.grad.numpy())
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_distributed_data_parallel():
    """Two replicas with half of the batch each have the gradient of the whole batch."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    replicas = [context.Process(target=_replica, args=(r, port, results)) for r in range(2)]
    for replica in replicas:
        replica.start()
    found = results.get(timeout=120)
    for replica in replicas:
        replica.join(60)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), BarycentricProjection(normal(60, 6).float(), k=5))
    net(normal(8, 6, seed=2).float()).square().mean().backward()
    np.testing.assert_allclose(found, net[0].weight.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 7}, ValueError, "k=7 must be from 1 to 6"),
        ({"k": 0}, ValueError, "k=0"),
        ({"k": 3.5}, TypeError, r"k=3\.5 must be an integer"),
        ({"blend": 1.5}, ValueError, "blend=1.5"),
        ({"reg": 0}, ValueError, "reg=0.0"),
        ({"method": "x"}, ValueError, "method='x'"),
        ({"values": torch.zeros(5, 2)}, ValueError, r"values has shape \(5, 2\)"),
        ({"values": torch.zeros(6, 3), "blend": 0.5}, ValueError, "blend=0.5 mixes"),
        ({"bank": torch.zeros(6, 2, dtype=torch.int32)}, TypeError, "int32"),
    ],
)
def test_projection_bad_input(options, error, message):
    given = {"bank": torch.zeros(6, 2), "k": 3} | options
    with pytest.raises(error, match=message):
        BarycentricProjection(given.pop("bank"), given.pop("values", None), **given)


def test_projection_of_the_wrong_points():
    layer = BarycentricProjection(torch.randn(6, 2), k=3)
    for x, error, message in (
        (torch.zeros(3, 4), ValueError, "x has 4 features and the layer"),
        (torch.zeros(3, 2).double(), TypeError, "float64|float32"),
        (torch.zeros(3, 2).int(), TypeError, "int32"),
        (torch.full((3, 2), float("nan")), ValueError, "NaN"),
        (torch.tensor(1.0), ValueError, "is a number"),
    ):
        with pytest.raises(error, match=message):
            layer(x)


# --- LLEFeatures ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")  # of graphs and null vectors
@pytest.mark.parametrize("method", ["standard", "modified", "hessian", "ltsa"])
def test_features_are_the_estimators_transform(method):
    X = normal(200, 4).numpy()
    model = LocallyLinearEmbedding(n_neighbors=9, method=method).fit(X)
    layer = LLEFeatures(model, dtype=torch.float64)
    new = np.concatenate([normal(20, 4, seed=1).numpy(), X[:5]])
    np.testing.assert_allclose(layer(torch.tensor(new)).numpy(), model.transform(new), atol=1e-12)
    assert np.array_equal(layer(torch.tensor(X[:5])).numpy(), model.embedding_[:5])


def test_features_are_frozen_and_differentiable_in_the_points():
    X = normal(100, 3).numpy()
    layer = LLEFeatures(LocallyLinearEmbedding(n_neighbors=6).fit(X), dtype=torch.float64)
    assert list(layer.parameters()) == []
    x = normal(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))
    net = nn.Sequential(nn.Linear(4, 3), LLEFeatures(LocallyLinearEmbedding().fit(X)))
    net(torch.randn(7, 4)).sum().backward()
    assert net[0].weight.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:F has at least")
def test_features_bad_estimators():
    X = normal(60, 3).numpy()
    with pytest.raises(ValueError, match="not fitted"):
        LLEFeatures(LocallyLinearEmbedding())
    with pytest.raises(ValueError, match="metric='manhattan'"):
        LLEFeatures(LocallyLinearEmbedding(metric="manhattan").fit(X))
    with pytest.warns(UserWarning, match="reg=0"):
        model = LocallyLinearEmbedding(reg=0).fit(X)
    with pytest.raises(ValueError, match="reg=0.0"):
        LLEFeatures(model)
    with pytest.raises(TypeError, match="PCA, and must be a fitted"):
        LLEFeatures(PCA().fit(X))
    with pytest.raises(ValueError, match="sparse"):
        LLEFeatures(LocallyLinearEmbedding().fit(csr_array(X)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "made",
    [lambda a: a * 2, lambda a: (a * 2).T.contiguous().T, lambda a: (a * 2)[:, :4], torch.relu],
)
def test_neighbors_of_what_a_compiled_network_computes(made):
    x = normal(32, 6).float()
    compiled = torch.compile(lambda a: knn(made(a), k=3), fullgraph=True)
    assert torch.equal(compiled(x), knn(made(x), k=3))


@pytest.mark.slow
def test_locality_of_features_that_a_compiled_network_computes():
    x, loss = normal(32, 6).float(), LocalityLoss(k=4)
    net = nn.Linear(6, 2)
    back = nn.Sequential(nn.Linear(6, 16), nn.ReLU()).requires_grad_(False)
    compiled = torch.compile(lambda x: loss(net(x), back(x)), fullgraph=True)
    torch.testing.assert_close(compiled(x), loss(net(x), back(x)))


@pytest.mark.slow
def test_a_detached_bank_is_the_points_themselves_for_a_compiler_too():
    x = normal(20, 8).float().requires_grad_()
    compiled = torch.compile(
        lambda z: knn(z, z.detach(), k=2, exclude_self=True), backend="aot_eager"
    )
    assert torch.equal(compiled(x), knn(x, k=2))
