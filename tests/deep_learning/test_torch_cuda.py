"""What is asked of the GPU path, on the stand-in for CuPy: tensors of the host's memory take the
place of CUDA's, and are copied in place of DLPack. (On a device: tests/gpu/test_torch_gpu.py.)"""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from emulator.host import missing_emulator  # noqa: E402
from stand_in import install  # noqa: E402

from lle_gpu.constraints.cpu import barycentric_weights as reference  # noqa: E402
from lle_gpu.torch import cuda, knn  # noqa: E402

pytestmark = pytest.mark.skipif(bool(missing_emulator()), reason=missing_emulator() or "")


@pytest.mark.parametrize("pointer", [0, 0x7F00])
def test_work_is_done_in_torch_s_stream(monkeypatch, pointer):
    """Of any PyTorch: before 2.10 its streams have their pointer alone."""
    install(monkeypatch)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=pointer)
    )
    x = SimpleNamespace(device=SimpleNamespace(type="cuda", index=1))
    with cuda._like_torch(x) as cp:
        assert cp.cuda.Device().id == 1
        assert cp.cuda.get_current_stream().ptr == pointer
        cp.ones(1)
    assert cp.cuda.Device().id == 0
    assert cp.cuda.get_current_stream().ptr == 0


@pytest.mark.skipif(not hasattr(torch.Tag, "cudagraph_unsafe"), reason="an older PyTorch")
@pytest.mark.parametrize("name", ["knn", "barycentric_weights", "nonnegative_support"])
def test_cuda_graphs_leave_out_what_waits_for_the_device(name):
    assert torch.Tag.cudagraph_unsafe in getattr(torch.ops.lle_gpu, name).default.tags


@pytest.fixture
def stand_in(monkeypatch):
    machine = install(monkeypatch)
    import cupy

    @contextmanager
    def like_torch(x):
        yield cupy

    monkeypatch.setattr(cuda, "_like_torch", like_torch)
    monkeypatch.setattr(cupy, "from_dlpack", lambda tensor: cupy.asarray(tensor.numpy()))
    monkeypatch.setattr(torch, "from_dlpack", lambda array: torch.from_numpy(array.get()))
    return machine


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights(stand_in, dtype):
    x, bank = torch.randn(20, 6, dtype=dtype, requires_grad=True), torch.randn(50, 6, dtype=dtype)
    idx = torch.randint(0, 50, (20, 5))
    w = cuda.barycentric_weights(x, bank.T.contiguous().T, idx, 1e-3)
    assert w.dtype == dtype
    assert not w.requires_grad
    expected = reference(x.detach().numpy(), bank.numpy(), idx.numpy(), reg=1e-3)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(w.double(), torch.from_numpy(expected), atol=tolerance, rtol=0)


def test_neighbours(stand_in):
    x, bank = torch.randn(9, 6), torch.randn(50, 6)
    search = cuda.neighbor_search(bank)
    assert torch.equal(search(x, 4), knn(x, bank, k=4))
    assert torch.equal(search(None, 4), knn(bank, k=4))
