"""Finding a GPU and its libraries, and saying what is missing, on machines in every state."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from stand_in import install

import lle_gpu
from lle_gpu import GpuUnavailableError, LocallyLinearEmbedding, device, show_config
from lle_gpu.cli import main
from lle_gpu.cuda import inventory
from lle_gpu.cuda.inventory import LIBRARIES, conflicts, device_facts
from lle_gpu.device import find_gpu, resolve

# What cudaGetDeviceCount says where CUDA_VISIBLE_DEVICES names none.
NO_DEVICE = "cudaErrorNoDevice: no CUDA-capable device is detected"


def fake_cupy(count_error=None, kernel_error=None, written=1, capability="90", version="14.2.0"):
    """A module that answers as CuPy does where it is probed."""
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = importlib.util.spec_from_loader("cupy", loader=None)
    cupy.__version__ = version

    def device_count():
        if count_error is not None:
            raise count_error
        return 1

    class RawKernel:
        def __init__(self, source, name):
            if kernel_error is not None:
                raise kernel_error

        def __call__(self, grid, block, args):
            args[0][0] = written

    cupy.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(
            getDevice=lambda: 0,
            getDeviceCount=device_count,
            getDeviceProperties=lambda i: {"name": b"Imaginary 9000"},
        ),
        Device=lambda i: types.SimpleNamespace(compute_capability=capability),
    )
    cupy.RawKernel = RawKernel
    cupy.zeros = lambda n, dtype: [0] * n
    cupy.int32 = int
    return cupy


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages to find first, here and in processes started from here.

    Of NVIDIA's libraries those in it are all that are installed, whatever else the machine has.
    """
    monkeypatch.syspath_prepend(tmp_path)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), before])))

    def version(name, of=inventory.version):
        if not name.startswith(("cu", "nv")):
            return of(name)
        found = list(tmp_path.glob(f"{name.replace('-', '_')}-*.dist-info"))
        return found[0].name.split("-")[1].removesuffix(".dist") if found else ""

    for module in (inventory, device):
        monkeypatch.setattr(module, "version", version)
    importable = inventory._importable
    monkeypatch.setattr(
        inventory, "_importable", lambda name: (tmp_path / name).is_dir() and importable(name)
    )
    return tmp_path


def package(site, name, code):
    """Make a package importable whose ``__init__`` is ``code``."""
    (site / name).mkdir()
    (site / name / "__init__.py").write_text(code)


def distribution(site, name, version, *requires):
    """Make an installed distribution's metadata."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")


def said_of(name, text):
    """The line of ``show_config`` about one library."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
    return line


def test_without_cupy(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed")
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
        (fake_cupy(count_error=RuntimeError(NO_DEVICE)), "NVIDIA driver or device: cudaErrorNoDev"),
        (fake_cupy(version="13.6.0"), "CuPy 13.6.0 is older than 14.2.*cuda13x.ctk.>=14.2'"),
        (fake_cupy(version="15.0.0rc1", kernel_error=OSError("anything")), "anything"),
        (fake_cupy(capability="61"), "Imaginary 9000 has compute capability 6.1;.* need 7.5 or"),
        (fake_cupy(kernel_error=ImportError("libnvrtc.so")), "cannot run a kernel.*libnvrtc.so"),
        (fake_cupy(written=0), "ran and wrote nothing"),
        (fake_cupy(), "on Imaginary 9000, but CUDA's libraries for linear algebra cannot"),
    ],
)
def test_cupy_without_a_usable_gpu(monkeypatch, cupy, says):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", None)
    with pytest.raises(GpuUnavailableError, match=says):
        resolve("cuda")
    text = show_config()
    assert "usable         no" in text
    assert said_of("missing", text)
    assert resolve("auto").name == "cpu"


def test_cupy_whose_import_fails(site, monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    package(site, "cupy", "raise OSError('libcuda is from another planet')")
    with pytest.raises(GpuUnavailableError, match="its import fails: libcuda is from another"):
        resolve("gpu")


def test_two_cupys_exclude_each_other(site):
    distribution(site, "cupy-cuda12x", "14.2.0")
    assert "14.2.0" in said_of("cupy", show_config())
    assert "exclude each other" not in show_config()
    distribution(site, "cupy-cuda13x", "14.2.0")
    assert "exclude each other: uninstall all, install one" in said_of("cupy", show_config())


def test_a_usable_gpu_is_described_and_used(monkeypatch):
    machine = install(monkeypatch)
    machine.memory_bytes = 10_000_000_000
    assert find_gpu().usable
    assert resolve("auto").name == "gpu"
    assert resolve("cpu").name == "cpu"
    facts = device_facts()
    assert facts["name"] == find_gpu().name
    assert facts["compute_capability"] == "9.0"
    assert (facts["cuda_of_driver"], facts["cuda_runtime"]) == ("13.0", "13.0")
    import cupy

    held = cupy.zeros(2_000_000_000, dtype=np.int8)
    text = show_config()
    assert f"usable         yes, {facts['name']}" in text
    assert "memory         8.0 of 10.0 GB free" in text
    assert "compute capability 9.0, 4 multiprocessors" in text
    assert "up to CUDA 13.0" in text
    del held


class TestLibraries:
    @pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
    def test_missing(self, site, library):
        line = said_of(library.name, show_config(imports=True))
        assert "missing (" in line
        assert f"pip install '{library.distributions[0]}'" in line

    def test_the_hint_is_for_the_cuda_that_is_there(self, site):
        distribution(site, "cupy-cuda12x", "14.2.0")
        assert "pip install 'cuml-cu12'" in said_of("cuml", show_config())
        assert "'nvidia-cudss-cu12==0.8.*'" in said_of("cudss", show_config())

    def test_looking_imports_nothing(self, site):
        for name in ("cuml", "cuvs", "nvmath"):
            package(site, name, f"open({str(site / 'imported')!r}, 'w').close()")
        text = show_config()
        assert not (site / "imported").exists()
        for name in ("cuml", "cuvs", "nvmath-python"):
            assert "found, of unknown version" in said_of(name, text)

    def test_an_import_that_fails(self, site, capsys):
        error = "libcuml.so: cannot open shared object file"
        package(site, "cuml", f"raise ImportError({error!r})")
        distribution(site, "cuml-cu13", "26.10.0")
        assert said_of("cuml", show_config()).split() == ["cuml", "26.10.0"]
        line = said_of("cuml", show_config(imports=True))
        assert line.endswith(f"26.10.0; its import fails: ImportError: {error}")
        assert main(["info", "--imports"]) == 0
        assert line in capsys.readouterr().out

    def test_an_import_that_ends_the_process_or_never_ends(self, site, monkeypatch):
        package(site, "cuml", "import os; os._exit(3)")
        package(site, "cuvs", "import time; time.sleep(60)")
        monkeypatch.setattr("lle_gpu.cuda.inventory.IMPORT_SECONDS", 1)
        text = show_config(imports=True)
        assert "its import fails: exit status 3" in said_of("cuml", text)
        assert "its import fails: not done after 1 seconds" in said_of("cuvs", text)

    def test_an_import_that_works(self, site):
        package(site, "cuvs", "")
        (site / "cuvs" / "neighbors.py").touch()
        assert said_of("cuvs", show_config(imports=True)).endswith("; can be imported")

    def test_versions_that_clash(self, site):
        package(site, "cuml", "")
        distribution(site, "cuml-cu13", "26.10.0", "numba<0.65", "numpy<3", 'rich; extra == "test"')
        distribution(site, "numba", "0.64.0", "numpy<2.0", "cuml-cu13", "no-such-thing>=1")
        assert set(conflicts("cuml-cu13")) == {
            f"numba needs numpy<2.0, and {np.__version__} is here",
            "numba needs no-such-thing, which is not installed",
        }
        line = said_of("cuml", show_config())
        assert f"26.10.0, which may fail: numba needs numpy<2.0, and {np.__version__}" in line

    @pytest.mark.parametrize(
        ("found", "says"),
        [
            ("0.8.0.10", "cudss          0.8.0.10"),
            ("1.0.0.35", "1.0.0.35, but nvmath-python works with 0.8 only: pip install"),
            ("0.80.1", "0.80.1, but nvmath-python works with 0.8 only: pip install"),
            ("", "missing, or not from a wheel"),
        ],
    )
    def test_cudss(self, site, found, says):
        package(site, "nvmath", "")
        distribution(site, "nvmath-python", "1.0.0")
        if found:
            distribution(site, "nvidia-cudss-cu13", found)
        text = show_config()
        assert "1.0.0" in said_of("nvmath-python", text)
        assert says in said_of("cudss", text)


def test_everything_broken_at_once(site):
    """A machine on which nothing of the GPU's works embeds on the CPU, and says what is broken."""
    for name in ("cupy", "cuml", "cuvs", "nvmath"):
        package(site, name, f"raise ImportError('broken {name}')")
    code = (
        "import numpy, lle_gpu; print(lle_gpu.show_config(imports=True)); "
        "X = numpy.random.default_rng(0).uniform(size=(60, 3)); "
        "print(lle_gpu.LocallyLinearEmbedding(n_neighbors=8).fit(X).device_)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *text, device = done.stdout.splitlines()
    text = "\n".join(text)
    assert device == "cpu"
    assert "CuPy is installed but its import fails: broken cupy" in text
    for name, module in (("cuml", "cuml"), ("cuvs", "cuvs"), ("nvmath-python", "nvmath")):
        assert f"its import fails: ImportError: broken {module}" in said_of(name, text)


def test_importing_touches_no_gpu(site):
    for name in ("cupy", "cuml", "cuvs", "nvmath"):
        package(site, name, f"raise SystemExit('{name} was imported')")
    done = subprocess.run(
        [sys.executable, "-c", "import lle_gpu, lle_gpu.cli"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_config_names_versions_and_extras():
    text = show_config()
    for word in ("lle_gpu", "numpy", "scipy", "scikit-learn", "threads", "GPU", "matplotlib"):
        assert word in text
    assert lle_gpu.__version__ in text


def test_the_cpu_does_without_all_of_this(monkeypatch, roll):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(count_error=RuntimeError(NO_DEVICE)))
    assert LocallyLinearEmbedding(n_neighbors=10).fit(roll).device_ == "cpu"
