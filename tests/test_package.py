"""The package as a whole: public names, documentation, imports, what the wheel holds."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lle_gpu

ROOT = Path(lle_gpu.__file__).parents[1]
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(lle_gpu.__path__, "lle_gpu.") if "__main__" not in m.name
)


def imported(name):
    """The module, where what it needs is installed: lle_gpu.torch alone needs what is optional."""
    if name.startswith("lle_gpu.torch"):
        pytest.importorskip("torch")
    return importlib.import_module(name)


def test_public_names():
    assert len(lle_gpu.__all__) == len(set(lle_gpu.__all__))
    assert set(lle_gpu.__all__) == {
        "DimensionEstimate",
        "DisconnectedGraphError",
        "DisconnectedGraphWarning",
        "GpuFallbackWarning",
        "GpuMemoryError",
        "GpuUnavailableError",
        "MemoryEstimate",
        "MemoryLimitError",
        "ModelFileError",
        "NeighborSelection",
        "PickleVersionWarning",
        "RegSelection",
        "estimate_memory",
        "intrinsic_dimension",
        "load",
        "LocallyLinearEmbedding",
        "Spectrum",
        "__version__",
        "locally_linear_embedding",
        "patch_sklearn",
        "select_n_neighbors",
        "select_reg",
        "show_config",
        "unpatch_sklearn",
    }
    for name in lle_gpu.__all__:
        assert getattr(lle_gpu, name) is not None


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_there_is_and_is_documented(name):
    module = imported(name)
    assert module.__doc__, f"{name} has no docstring"
    for public in getattr(module, "__all__", ()):
        thing = getattr(module, public)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert inspect.getdoc(thing), f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", ["lle_gpu", *MODULES])
def test_examples_run(name):
    results = doctest.testmod(imported(name), optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


def test_every_parameter_is_documented():
    for thing in (lle_gpu.LocallyLinearEmbedding, lle_gpu.locally_linear_embedding):
        text = inspect.getdoc(thing)
        for parameter in inspect.signature(thing).parameters:
            assert parameter in text, f"{thing.__name__}: {parameter}"


def test_signatures_begin_with_scikit_learn_s():
    from sklearn import manifold

    for name in ("LocallyLinearEmbedding", "locally_linear_embedding"):
        theirs = inspect.signature(getattr(manifold, name)).parameters
        ours = inspect.signature(getattr(lle_gpu, name)).parameters
        for parameter in theirs:
            assert ours[parameter].default == theirs[parameter].default
            assert ours[parameter].kind == theirs[parameter].kind


def test_importing_brings_no_optional_package():
    # scikit-learn itself imports pandas where it is installed: only what comes on top counts.
    code = (
        "import sys, sklearn.neighbors, sklearn.utils.validation; before = set(sys.modules);"
        "import lle_gpu; new = set(sys.modules) - before;"
        "print([m for m in ('matplotlib', 'cupy', 'cuml', 'torch', 'pandas', 'pyarrow', 'tqdm',"
        " 'tapkee', 'faiss', 'pynndescent', 'numba', 'lle_gpu.cli', 'lle_gpu.plot',"
        " 'lle_gpu.datasets') if m in new])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout


def test_nothing_imports_upward():
    """Each room imports only from the rooms before it, and from what all share."""
    shared = {"exceptions", "progress", "parallel", "sparse_structure"}
    below = shared | {"cuda"}
    allowed = {
        "cuda": shared,
        "kinds": {"cuda", "exceptions"},
        "neighbors": below | {"kinds"},
        "constraints": below | {"constraints"},
        "memory": {"constraints", "exceptions", "neighbors"},
        "spectral": below | {"constraints", "neighbors", "memory", "spectral"},
        "arrays": {"constraints", "cuda", "exceptions", "kinds", "sparse_structure"},
        "backend": {"arrays", "constraints", "neighbors", "spectral"},
        "out_of_sample": shared | {"backend"},
        "metrics": shared | {"arrays", "neighbors"},
        "selection": shared
        | {
            "arrays",
            "backend",
            "constraints",
            "device",
            "functional",
            "kinds",
            "neighbors",
            "plot",
        },
        "torch": below
        | {"arrays", "constraints", "estimator", "functional", "kinds", "neighbors", "spectral"},
    }
    for path in sorted((ROOT / "lle_gpu").rglob("*.py")):
        room = path.relative_to(ROOT / "lle_gpu").with_suffix("").parts[0]
        if room not in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lle_gpu"):
                target = (node.module + ".").split(".")[1]
                assert target in allowed[room] | {room}, f"{path.name} imports {node.module}"


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == lle_gpu.__version__
    assert f"## {lle_gpu.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_package_folder_is_shipped():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "lle_gpu").rglob("__init__.py")
    }
    assert set(setup["packages"]) == folders | {"lle_gpu.kernels"}
    assert (ROOT / "lle_gpu" / "py.typed").exists()
    # Not imported: beside another installation's tests, it would be that one's.
    assert (ROOT / setup["package-dir"]["lle_gpu.kernels"] / "__init__.py").exists()
