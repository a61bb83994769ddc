"""Finding a GPU, and saying what is missing, with stand-ins for the states a machine can be in."""

from __future__ import annotations

import importlib.util
import sys
import types

import pytest

from lle_gpu import GpuUnavailableError, LocallyLinearEmbedding, show_config
from lle_gpu.device import find_gpu, resolve


def fake_cupy(count=1, count_error=None, kernel_error=None, written=1):
    """A module that answers as CuPy does where ``find_gpu`` asks."""
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = importlib.util.spec_from_loader("cupy", loader=None)

    def device_count():
        if count_error is not None:
            raise count_error
        return count

    class RawKernel:
        def __init__(self, source, name):
            if kernel_error is not None:
                raise kernel_error

        def __call__(self, grid, block, args):
            args[0][0] = written

    cupy.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(
            getDeviceCount=device_count,
            getDeviceProperties=lambda i: {"name": b"Imaginary 9000"},
        )
    )
    cupy.RawKernel = RawKernel
    cupy.zeros = lambda n, dtype: [0] * n
    cupy.int32 = int
    return cupy


def test_without_cupy(monkeypatch):
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, find=importlib.util.find_spec: None if name == "cupy" else find(name),
    )
    status = find_gpu()
    assert not status.usable
    assert "pip install 'lle-gpu[gpu-cuda13]'" in status.missing[0]
    with pytest.raises(GpuUnavailableError, match="CuPy is not installed"):
        resolve("gpu")
    assert "CuPy is not installed" in show_config()


@pytest.mark.parametrize(
    ("cupy", "says"),
    [
        (fake_cupy(count_error=RuntimeError("no driver")), "no NVIDIA driver or device: no driver"),
        (fake_cupy(count=0), "finds no NVIDIA device"),
        (fake_cupy(kernel_error=ImportError("libnvrtc.so")), "cannot run a kernel.*libnvrtc.so"),
        (fake_cupy(written=0), "ran and wrote nothing"),
    ],
)
def test_cupy_without_a_usable_gpu(monkeypatch, cupy, says):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(GpuUnavailableError, match=says):
        resolve("cuda")
    assert "usable         no" in show_config()
    assert resolve("auto").name == "cpu"


def test_cupy_whose_import_fails(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise OSError('libcuda is from another planet')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(GpuUnavailableError, match="its import fails: libcuda is from another"):
        resolve("gpu")


def test_a_usable_gpu_is_named_and_not_yet_used(monkeypatch, roll):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
    assert find_gpu().usable
    assert find_gpu().name == "Imaginary 9000"
    with pytest.raises(GpuUnavailableError, match="no GPU backend yet.*Imaginary 9000"):
        resolve("gpu")
    assert LocallyLinearEmbedding(n_neighbors=10).fit(roll).device_ == "cpu"


def test_config_names_versions_and_extras():
    text = show_config()
    for word in ("lle_gpu", "numpy", "scipy", "scikit-learn", "threads", "GPU", "matplotlib"):
        assert word in text
