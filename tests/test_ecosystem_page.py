"""docs/ecosystem.md: its Python runs, section by section, and what it quotes is what is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lle_gpu import unpatch_sklearn
from lle_gpu.patching import explain

PAGE = (Path(__file__).parents[1] / "docs" / "ecosystem.md").read_text(encoding="utf-8")
SECTIONS = {
    text.partition("\n")[0]: "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}


@pytest.mark.parametrize("section", [name for name, code in SECTIONS.items() if code])
@pytest.mark.filterwarnings("ignore:scikit-learn's LocallyLinearEmbedding:UserWarning")
def test_python_runs(section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = SECTIONS[section]
    for module in re.findall(r"^\s*(?:import|from) (\w+)", code, flags=re.MULTILINE):
        pytest.importorskip(module)
    try:
        exec(compile(code, f"ecosystem.md: {section}", "exec"), {"__name__": "ecosystem"})
    finally:
        unpatch_sklearn()


def test_fences_say_what_they_hold():
    fences = re.findall(r"^```(\w*)$", PAGE, flags=re.MULTILINE)
    assert set(fences[::2]) <= {"python", "shell", "text"}
    assert set(fences[1::2]) == {""}


def test_the_differences_are_those_that_are_printed():
    assert explain() in PAGE
