"""docs/gpu.md: its Python runs with and without a GPU, and what it quotes is what is said."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from stand_in import install

from lle_gpu.cuda import compiler
from lle_gpu.cuda.inventory import LIBRARIES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
TROUBLES = re.findall(r"^\| `([^`]+)` \|", PAGE.partition("## Troubleshooting")[2], re.MULTILINE)


def literals(path):
    """All texts in a module, with what is filled in left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_python_runs_on_the_cpu():
    names: dict = {}
    for code in PYTHON:
        if "import cupy" not in code:
            exec(compile(code, "gpu.md", "exec"), names)
    assert names["lle"].device_ in ("cpu", "gpu")


def test_python_runs_on_the_stand_in(monkeypatch):
    compiler.forget_kernels()
    install(monkeypatch)
    names: dict = {}
    for code in PYTHON:
        exec(compile(code, "gpu.md", "exec"), names)
    cupy = sys.modules["cupy"]
    assert names["lle"].device_ == "gpu"
    assert isinstance(names["Y_device"], cupy.ndarray)
    assert isinstance(names["Y_new"], cupy.ndarray)
    assert not isinstance(names["Y_host"], cupy.ndarray)
    compiler.forget_kernels()


def test_other_code_is_marked():
    fences = re.findall(r"^```(\w*)$", PAGE, flags=re.MULTILINE)
    assert set(fences[::2]) <= {"python", "shell"}
    assert set(fences[1::2]) == {""}


def test_there_are_troubles():
    assert len(TROUBLES) > 8


@pytest.mark.parametrize("message", TROUBLES)
def test_messages_are_said(message):
    texts = [text for path in (ROOT / "lle_gpu").rglob("*.py") for text in literals(path)]
    assert any(message in text for text in texts)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        if not target.startswith("http"):
            assert (ROOT / "docs" / target).exists(), target


def test_every_library_of_the_inventory_is_explained():
    for library in LIBRARIES:
        assert f"`{library.name}`" in PAGE
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in re.findall(r"'\.\[([a-z0-9-]+)\]'", PAGE):
        assert f"\n{name} = [" in extras


def test_the_notebook_runs_on_the_stand_in(monkeypatch, capsys):
    """tests/test_notebooks.py runs it as it is; here its other half, on few points."""
    import matplotlib
    import nbformat

    matplotlib.use("Agg")
    compiler.forget_kernels()
    install(monkeypatch)
    notebook = nbformat.read(ROOT / "notebooks" / "02_gpu.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "100_000" in code
    code = code.replace("%matplotlib inline", "").replace("100_000", "250")
    exec(compile(code, "02_gpu.ipynb", "exec"), {})
    printed = capsys.readouterr().out
    assert "250 points, on stand-in, no device" in printed
    assert "second fit, on the gpu" in printed
    assert printed.count("class 'cupy") == 2
    assert printed.count("s on the gpu, converged: True") == 4
    assert printed.count("neighbours differ: 0") == 4
    compiler.forget_kernels()
