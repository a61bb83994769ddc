"""lle_gpu.torch on CUDA tensors: the CPU's numbers, on the device and in torch's stream."""

import pytest

pytestmark = pytest.mark.gpu
torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _device():
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")


def problem(n=200, N=3000, d=24, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=g, dtype=dtype), torch.randn(N, d, generator=g, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [3, 24, 100])
def test_neighbours_are_the_cpus(d, dtype):
    from lle_gpu.torch import knn

    x, bank = problem(d=d, dtype=dtype)
    found = knn(x.cuda(), bank.cuda(), k=12)
    assert found.device.type == "cuda"
    assert torch.equal(found.cpu(), knn(x, bank, k=12))
    assert torch.equal(knn(bank.cuda(), k=12).cpu(), knn(bank, k=12))


@pytest.mark.parametrize("method", ["affine", "nonneg"])
@pytest.mark.parametrize(("k", "d"), [(5, 24), (12, 12), (20, 3), (40, 60), (150, 8)])
def test_weights_and_gradients_are_the_cpus(k, d, method):
    from lle_gpu.torch import barycentric_weights, knn, reconstruct

    x, bank = problem(d=d)
    idx = knn(x, bank, k=k)
    target = torch.randn(len(x), d, generator=torch.Generator().manual_seed(1), dtype=x.dtype)

    def run(device):
        points, rows = (part.to(device).requires_grad_() for part in (x, bank))
        w = barycentric_weights(points, (rows, idx.to(device)), method=method)
        loss = (reconstruct(w, rows, idx.to(device)) - target.to(device)).square().mean()
        loss.backward()
        return w.detach(), points.grad, rows.grad

    for found, expected in zip(run("cuda"), run("cpu"), strict=True):
        assert found.device.type == "cuda"
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-7, atol=1e-10)


def test_derivatives_through_the_kernel():
    from lle_gpu.torch import barycentric_weights, knn

    x, bank = problem(n=4, N=12, d=5)
    idx = knn(x, bank, k=4).cuda()
    x, bank = (part.cuda().requires_grad_() for part in (x, bank))
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        # index_add_ on a GPU adds in any order.
        assert check(
            lambda x, bank: barycentric_weights(x, (bank, idx)), (x, bank), nondet_tol=1e-10
        )


def test_in_the_current_stream():
    """Work that a stream has not done yet is waited for, and what comes after sees the result."""
    from lle_gpu.torch import BarycentricProjection

    x, bank = problem(n=5000)
    layer = BarycentricProjection(bank.cuda(), k=8)
    expected = layer(x.cuda() * 3 + 1)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        moved = x.cuda()
        busy = torch.randn(4000, 4000, device="cuda")
        for _ in range(20):
            busy = busy @ busy
            busy = busy / busy.norm()
        found = layer(moved * 3 + 1) * 2
    stream.synchronize()
    torch.testing.assert_close(found, 2 * expected)


def test_modules_move_between_devices():
    from lle_gpu.torch import BarycentricProjection

    x, bank = problem()
    layer = BarycentricProjection(bank, k=8)
    expected = layer(x)
    torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(layer.cpu()(x), expected)
    with pytest.raises(ValueError, match="bank is on cuda:0 and x on cpu"):
        layer.cuda()(x)


def test_autocast_and_compile():
    from lle_gpu.torch import BarycentricProjection

    x, bank = (part.float().cuda() for part in problem())
    layer = BarycentricProjection(bank, k=8)
    expected = layer(x)
    with torch.autocast("cuda", dtype=torch.float16):
        assert layer(torch.nn.Linear(24, 24).cuda()(x)).dtype == torch.float32
        torch.testing.assert_close(layer(x), expected)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
