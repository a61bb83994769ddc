"""The README's Python runs, its commands exist, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lle_gpu.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_blocks_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_the_main_job_makes_the_picture(tmp_path, monkeypatch):
    (line,) = [line for line in README.splitlines() if ".venv/bin/lle-gpu embed digits" in line]
    words = shlex.split(line.split("&&")[-1])
    assert words[0] == ".venv/bin/lle-gpu"
    monkeypatch.chdir(tmp_path)
    assert main(words[1:]) == 0
    assert (tmp_path / "digits.png").stat().st_size > 50_000


def test_the_test_command_is_the_one_in_contributing():
    (line,) = [line for line in README.splitlines() if ".venv/bin/python -m pytest" in line]
    assert line.strip() in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_extras_exist():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for name in re.findall(r"`\[([a-z0-9-]+)\]`", README):
        assert name in extras
