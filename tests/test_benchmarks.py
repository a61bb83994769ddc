"""The benchmarks' machinery. Never the times themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import issparse
from scipy.spatial import cKDTree

# The benchmarks are not installed: they run from the repository.
from benchmarks import (
    cases,
    compare,
    data,
    implementations,
    machine,
    measure,
    records,
    runs,
    solvers,
    summary,
    tables,
)
from lle_gpu import LocallyLinearEmbedding
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.neighbors.graph import closed_classes

ROOT = Path(__file__).parents[1]
SOLVER_TABLE = [case for group in cases.SOLVER_CASES.values() for case in group]


def command(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def ok(seconds, *, before=100 << 20, increase=10 << 20, **more):
    return {
        "status": "ok",
        "seconds": seconds,
        "bytes_before": before,
        "peak_bytes": before + increase,
        **more,
    }


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "record.json"
    done = command(
        "compare",
        "--quick",
        "--case",
        "roll-ltsa-10k",
        "--repeat",
        1,
        "--opponents",
        "sklearn-arpack",
        "--json",
        path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return path, done.stdout


class TestTheCommand:
    def test_record(self, quick_run):
        path, _ = quick_run
        record = json.loads(path.read_text())
        machine = record["machine"]
        assert machine["processor"] and machine["cores"] >= 1 and machine["memory_bytes"] > 0
        assert machine["versions"]["numpy"] == np.__version__
        assert machine["blas"]
        (case,) = record["cases"]
        assert (case["method"], case["n"], case["k"], case["d"]) == ("ltsa", 1000, 12, 2)
        ours, theirs = case["results"]
        assert (ours["implementation"], theirs["implementation"]) == ("lle_gpu", "sklearn-arpack")
        for result in (ours, theirs):
            assert result["status"] == "ok"
            assert len(result["runs"]) == 1
            assert result["seconds"]["min"] > 0
            assert result["peak_bytes"] >= result["increase_bytes"] >= 0
            assert 0 < result["affine_residual"] < 0.1
        assert ours["converged"] is True
        assert ours["ratio"] == 1
        assert sum(ours["eigenvalues"]) == pytest.approx(ours["reconstruction_error"])
        assert case["kept"] is None
        assert set(ours["stages"]) > {"neighbors", "constraints", "lanczos"}
        assert theirs["sine_to_lle_gpu"] < 1e-6
        assert theirs["reconstruction_error"] == pytest.approx(
            ours["reconstruction_error"], rel=1e-4
        )

    def test_table_and_markdown(self, quick_run):
        path, printed = quick_run
        assert "roll-ltsa-1k: swiss-roll, 1,000 points, ltsa, k=12, d=2" in printed
        assert "stages of lle_gpu: neighbors" in printed
        assert "solver of lle_gpu: shift-invert" in printed
        report = command("compare", "--report", path)
        assert report.returncode == 0
        assert "| case | lle_gpu | sklearn-arpack |" in report.stdout
        assert "certified" in report.stdout

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--case", "no-such"], "no case is called 'no-such': --list shows their names"),
            (["--case", "roll-standard-3*0?k"], "matches slow cases only"),
            (["--json", "no/such/folder.json"], "cannot write --json no/such/folder.json: No such"),
            (["--json", "."], "cannot write --json .: it is a folder, give a file in it"),
            (["--report", "no-such.json"], "cannot read --report no-such.json: No such file"),
            (["--report", "README.md"], "--report README.md is not JSON"),
            (["--repeat", "0"], "0 must be positive"),
            (["--opponents", "matlab"], "invalid choice: 'matlab'"),
        ],
    )
    def test_mistakes_say_what_is_wrong(self, arguments, message, capsys, monkeypatch, tmp_path):
        (tmp_path / "README.md").write_text("# Words")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as exit_:
            compare.main(arguments)
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["README.md"]

    def test_list(self, capsys):
        assert compare.main(["--list"]) == 0
        printed = capsys.readouterr().out
        assert all(case.name in printed for case in cases.CASES)

    @pytest.mark.parametrize(("broken", "status"), [("lle_gpu", 1), ("tapkee", 0)])
    def test_only_our_own_failure_is_the_exit_status(
        self, broken, status, monkeypatch, tmp_path, capsys
    ):
        def run(case, name, timeout):
            if name == broken:
                return {"status": "failed", "error": "ValueError: it broke"}, None
            return ok(1.0), np.ones((4, 2))

        monkeypatch.setattr(runs, "run", run)
        monkeypatch.setattr(compare, "missing", lambda name: "")
        arguments = ["--case", "roll-ltsa-10k", "--json", str(tmp_path / "record.json")]
        assert compare.main(arguments) == status
        assert "failed: ValueError: it broke" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("seconds", "size", "status", "said"),
        [
            (599, 7_900 << 20, 1, "600 s and 8 GB for the process: NOT KEPT"),
            (601, 100 << 20, 1, "NOT KEPT"),
            (599, 100 << 20, 0, "600 s and 8 GB for the process: kept"),
        ],
    )
    def test_budgets(self, seconds, size, status, said, monkeypatch, tmp_path, capsys):
        result = ok(float(seconds), increase=size)
        monkeypatch.setattr(runs, "run", lambda case, name, timeout: (result, np.ones((4, 3))))
        path = tmp_path / "record.json"
        arguments = ["--case", "branching-modified-d3-200k", "--json", str(path)]
        assert compare.main(arguments) == status
        printed = capsys.readouterr().out
        assert said in printed
        assert "alone: scikit-learn loops over the points" in printed
        assert compare.main(["--report", str(path)]) == 0
        report = capsys.readouterr().out
        assert said in report and "**lle_gpu alone**" in report

    def test_alone_unless_opponents_are_asked_for(self):
        (case,) = cases.select(["roll-standard-1M"])
        assert compare._opponents(case, None) == []
        assert compare._opponents(case, ["sklearn-arpack"]) == ["sklearn-arpack"]
        other = replace(case, alone="")
        assert compare._opponents(other, None) == ["sklearn-arpack", "tapkee"]
        assert compare._opponents(other, []) == []

    def test_missing_data_are_said_and_are_no_failure(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setitem(data.PACKAGES, "mnist-5k", "no_such_package")
        monkeypatch.setattr(runs, "run", None)
        arguments = ["--case", "mnist-standard-d10-5k", "--json", str(tmp_path / "record.json")]
        assert compare.main(arguments) == 0
        assert "pip install 'lle-gpu[bench]' brings no_such_package" in capsys.readouterr().out


class TestRuns:
    CASE = cases.Case("roll", data="swiss-roll", n=300, method="standard", k=8, d=2)

    def test_they_take_turns_and_a_failure_is_not_repeated(self, monkeypatch):
        order = []

        def run(case, name, timeout):
            order.append(name)
            return ({"status": "failed", "error": "no"} if name == "b" else ok(1.0)), None

        monkeypatch.setattr(runs, "run", run)
        monkeypatch.setattr(compare, "missing", lambda name: "get it" if name == "c" else "")
        results = compare._run_case(self.CASE, ["lle_gpu", "b", "c", "d"], 3, 60)
        assert order == ["lle_gpu", "b", "d", "lle_gpu", "d", "lle_gpu", "d"]
        assert [r["status"] for r in results] == ["ok", "failed", "missing", "ok"]
        assert results[2]["error"] == "get it"

    def test_an_exception_is_the_result(self):
        case = cases.Case("roll", data="swiss-roll", n=10, method="standard", k=20, d=2)
        run, embedding = runs.run(case, "lle_gpu", 60)
        assert run["status"] == "failed"
        assert run["error"].startswith("ValueError: ")
        assert embedding is None

    def test_a_process_that_dies_is_a_failure(self, monkeypatch, tmp_path):
        dying = tmp_path / "python"
        dying.write_text("#!/bin/sh\necho no memory >&2\nkill -KILL $$\n")
        dying.chmod(0o755)
        monkeypatch.setattr(runs.sys, "executable", str(dying))
        run, _ = runs.run(self.CASE, "lle_gpu", 60)
        assert run["status"] == "failed"
        assert run["error"] == "ended by signal 9, perhaps out of memory: no memory"

    def test_timeout_before_the_clock_starts(self):
        run, _ = runs.run(self.CASE, "lle_gpu", 0.01)
        assert run["status"] == "timeout"
        assert "larger --timeout" in run["error"]

    def test_timeout_counts_from_the_start_of_the_clock(self, tmp_path):
        (tmp_path / "started").touch()
        run = runs._timed_out(tmp_path / "started", 60)
        assert 0 <= run["seconds"] < 60

    def test_transform_is_judged_on_the_new_points(self, tmp_path):
        case = cases.Case(
            "roll", data="swiss-roll", n=1000, method="ltsa", k=12, d=2, timed="transform", n_new=50
        )
        run = measure.measure(case, "lle_gpu", tmp_path)
        assert np.load(tmp_path / "embedding.npy").shape == (50, 2)
        assert run["affine_residual"] < 0.1
        assert "weights" in run["stages"] and "lanczos" not in run["stages"]

    def test_options_reach_the_estimator(self):
        case = replace(self.CASE, options=(("reg", 0.5), ("eigen_solver", "dense")))
        model = implementations.LleGpu(case)._model
        assert (model.reg, model.eigen_solver, model.n_neighbors) == (0.5, "dense", 8)

    def test_options_that_do_not_exist_are_said(self):
        case = replace(self.CASE, options=(("reg", 0.5), ("no_such", 1)))
        run, _ = runs.run(case, "lle_gpu", 60)
        assert run["status"] == "failed"
        assert run["error"] == (
            "TypeError: the case needs no_such, which this version of lle_gpu does not have"
        )

    def test_missing_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setattr(implementations.Tapkee, "module", "no_such_module")
        assert implementations.missing("tapkee") == "not installed: pip install 'lle-gpu[bench]'"
        assert implementations.missing("lle_gpu") == ""


class TestSummary:
    def test_medians_and_ratios(self):
        stages = [{"stages": {"a": s, "b": 1.0}} for s in (3.0, 1.0, 2.0)]
        ours, theirs = summary.summarise(
            {
                "lle_gpu": [ok(t, **s) for t, s in zip((2.0, 9.0, 1.0), stages, strict=True)],
                "tapkee": [ok(t, increase=30 << 20) for t in (5.0, 6.0, 7.0)],
            }
        )
        assert ours["seconds"] == {"median": 2.0, "min": 1.0, "max": 9.0}
        assert (ours["ratio"], theirs["ratio"]) == (1.0, 3.0)
        assert (ours["memory_ratio"], theirs["memory_ratio"]) == (1.0, 3.0)
        assert theirs["increase_bytes"] == 30 << 20
        assert ours["stages"] == {"a": 2.0, "b": 1.0}

    def test_a_timeout_is_a_lower_bound(self):
        _, theirs = summary.summarise(
            {
                "lle_gpu": [ok(2.0), ok(2.0)],
                "sklearn-arpack": [ok(59.0), {"status": "timeout", "seconds": 60.0}],
            }
        )
        assert theirs["status"] == "timeout"
        assert theirs["ratio"] == 30.0
        assert "memory_ratio" not in theirs
        assert tables._seconds(theirs) == "> 60.0"
        assert tables._ratio(theirs) == "> 30.0"

    def test_without_ours_there_are_no_ratios(self):
        _, theirs = summary.summarise(
            {"lle_gpu": [{"status": "failed", "error": "no"}], "tapkee": [ok(1.0)]}
        )
        assert "ratio" not in theirs
        assert theirs["seconds"]["median"] == 1.0

    def test_small_increases_have_no_ratio(self):
        ours, theirs = summary.summarise(
            {"lle_gpu": [ok(1.0, increase=1 << 20)], "tapkee": [ok(1.0)]}
        )
        assert "memory_ratio" not in ours and "memory_ratio" not in theirs

    def test_sine(self):
        rng = np.random.default_rng(0)
        A = rng.standard_normal((50, 2))
        assert summary.sine(A, A @ rng.standard_normal((2, 2)) + [3.0, -5.0]) < 1e-12
        e = np.eye(50) - 1 / 50
        assert summary.sine(e[:, :2], e[:, 2:4]) == pytest.approx(1.0, abs=0.01)
        assert summary.sine(A, np.full_like(A, np.nan)) is None
        assert summary.sine(A, A[:, :1]) is None


class TestTables:
    def test_everything_that_can_happen_is_shown(self):
        results = summary.summarise(
            {
                "lle_gpu": [
                    ok(
                        0.00123,
                        converged=False,
                        stages={"neighbors": 0.5},
                        warnings=["ConvergenceWarning: not there yet"],
                    )
                ],
                "sklearn-arpack": [{"status": "timeout", "seconds": 600.0}],
                "sklearn-auto": [{"status": "failed", "error": "MemoryError: too large"}],
                "tapkee": [{"status": "missing", "error": "not installed: pip install it"}],
            }
        )
        case = {"name": "a", "description": "a case", "alone": "", "results": results}
        text = tables.case_table(case)
        for part in (
            "0.0012",
            "NO",
            "> 600",
            "failed: MemoryError: too large",
            "missing: not installed",
            "neighbors 0.500",
            "lle_gpu: ConvergenceWarning",
        ):
            assert part in text
        record = {
            "arguments": {"repeat": 1},
            "machine": machine.describe(),
            "cases": [case],
        }
        text = tables.markdown(record)
        for part in (
            "| a case | 0.0012 | > 600 (> ",
            "NOT converged",
            "a, sklearn-auto: failed: MemoryError: too large",
        ):
            assert part in text


class TestCases:
    @pytest.mark.parametrize("table", [cases.CASES, SOLVER_TABLE], ids=["compare", "solvers"])
    def test_names_are_unique_and_opponents_and_data_are_known(self, table):
        names = [case.name for case in table]
        assert len(set(names)) == len(names)
        assert {name for case in table for name in case.opponents} <= set(
            implementations.IMPLEMENTATIONS
        )
        assert {case.data for case in table} <= set(data.DATA)

    def test_a_case_survives_json(self):
        for case in (*cases.CASES, *SOLVER_TABLE):
            assert cases.Case.of(json.loads(json.dumps(asdict(case)))) == case

    def test_names_and_descriptions(self):
        (case,) = cases.select(["glove-standard-d10-400k"])
        assert case.description == (
            "glove, 400,000 points, standard, k=15, d=10, disconnected='bridge', memory_limit='8GB'"
        )
        assert cases.select(["roll-ltsa-1M"])[0].n == 1_000_000

    def test_select(self):
        assert not any(case.slow for case in cases.select())
        assert cases.select(slow=True) == list(cases.CASES)
        assert [c.name for c in cases.select(["roll-standard-300k"])] == ["roll-standard-300k"]
        assert not any(case.slow for case in cases.select(["roll-*"]))
        assert any(case.slow for case in cases.select(["roll-*"], slow=True))
        assert [c.family for c in cases.select(["ring-*"], cases=SOLVER_TABLE)] == ["ring"]

    def test_quick_keeps_each_family_once(self):
        small = cases.quick(cases.select(slow=True))
        assert len({case.name for case in small}) == len(small)
        assert {case.family for case in small} == {case.family for case in cases.CASES}
        assert max(case.n for case in small) <= 1000

    @pytest.mark.parametrize(
        "case",
        [*cases.quick(cases.CASES), *cases.quick(SOLVER_TABLE, solvers.QUICK_POINTS)],
        ids=lambda case: case.name,
    )
    def test_data(self, case):
        if data.missing_data(case.data):
            pytest.skip(data.missing_data(case.data))
        loaded = case.load()
        assert loaded.X.shape[0] == case.n and loaded.new.shape[0] == case.n_new
        first, second = (
            (X.data, X.indices, X.indptr) if issparse(X) else (X,)
            for X in (loaded.X, case.load().X)
        )
        assert first[0].dtype == np.float64 and np.isfinite(first[0]).all()
        assert all(map(np.array_equal, first, second))
        if loaded.truth is not None:
            assert len(loaded.truth) == (case.n_new or case.n)


class TestHardData:
    N = solvers.QUICK_POINTS

    def index(self, X, k):
        return NeighborSearch(X, k).kneighbors(return_distance=False)

    @pytest.mark.parametrize(
        ("name", "k", "multiplicity"), [("ring", 8, 2), ("sphere", 12, 3), ("grid", 8, 4)]
    )
    def test_symmetry_makes_equal_eigenvalues(self, name, k, multiplicity):
        X, _ = data.points(name, self.N)
        lle = LocallyLinearEmbedding(n_neighbors=k, n_components=multiplicity, eigen_solver="dense")
        spectrum = lle.fit(X).spectrum_
        assert (spectrum.values[-1] / spectrum.values[0]) ** 2 - 1 < 1e-6
        assert spectrum.gap > 0.1

    def test_near_duplicates_are_near_and_are_none(self):
        X, truth = data.points("near-duplicates", 301)
        distance, index = cKDTree(X).query(X, 3)
        assert (distance[:-1, 1] > 0).all() and (distance[:-1, 1] < 1e-6).all()
        assert (index[:-1, 1] // 2 == np.arange(300) // 2).all()
        assert distance[:, 2].min() > 1e-4
        assert truth.shape == (301, 2)

    def test_the_bridge_holds_the_clusters_together(self):
        X, _ = data.points("bridged-clusters", self.N)
        bridge = data.BRIDGE_POINTS
        assert len(closed_classes(self.index(X, 12))) == 1
        assert len(closed_classes(self.index(X[bridge:], 12))) == 2
        sides = np.sign(X[bridge:, 0] - 2)
        assert min((sides > 0).sum(), (sides < 0).sum()) == (self.N - bridge) // 2

    def test_sizes_that_break_the_symmetry_are_refused(self):
        for name, n, other in (("sphere", 100, 96), ("grid", 80, 64)):
            with pytest.raises(ValueError, match=f"{name} cannot have {n} points: use {other}"):
                data.points(name, n)


@pytest.fixture(scope="module")
def solver_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "record.json"
    arguments = ("--quick", "--case", "sphere-2304", "--repeat", 1, "--json", path)
    done = command("solvers", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return path, done.stdout


class TestSolvers:
    def test_all_of_the_library_s_but_the_alias(self):
        from lle_gpu.spectral import SOLVERS

        assert set(solvers.SOLVERS) == set(SOLVERS) - {"arpack"}
        assert {"auto", "dense", "shift-invert"} <= set(solvers.SOLVERS)

    def test_record(self, solver_run):
        path, printed = solver_run
        record = json.loads(path.read_text())
        (case,) = record["cases"]
        assert (case["name"], case["group"], case["reference"]) == ("sphere-576", "Hard", "dense")
        found = {result["implementation"]: result for result in case["results"]}
        assert tuple(found) == solvers.SOLVERS
        for name, result in found.items():
            assert result["status"] == "ok"
            assert result["converged"] is True
            assert result["solver"].lower().startswith(name if name != "auto" else "")
            assert result["largest_residual"] < 1e-10
            assert result["peak_bytes"] > 0
            assert result["eigenvalues"] == pytest.approx(found["dense"]["eigenvalues"], rel=1e-6)
            if name != "dense":
                assert result["sine_to_reference"] < 1e-6
        assert "sphere-576: sphere, 576 points, standard, k=12, d=3" in printed

    def test_report_and_document(self, solver_run):
        path, _ = solver_run
        report = command("solvers", "--report", path)
        assert report.returncode == 0
        heading = "| case | " + " | ".join(solvers.SOLVERS) + " |"
        assert report.stdout.count(heading) == 5
        assert "### Hard cases" in report.stdout and "### Usual cases" not in report.stdout
        before = f"Words\n{solvers.BEGIN}\nold\n{solvers.END}\nmore words\n"
        after = solvers.document(path, before)
        assert after.startswith(f"Words\n{solvers.BEGIN}\n\nRecord: `record.json`\n")
        assert after.endswith(f"\n\n{solvers.END}\nmore words\n")
        assert report.stdout.strip() in after and "old" not in after
        assert solvers.document(path, after) == after
        with pytest.raises(ValueError, match="no place for the tables"):
            solvers.document(path, "Words")

    def test_a_record_of_another_benchmark_is_refused(self, quick_run, capsys):
        with pytest.raises(SystemExit):
            solvers.main(["--report", str(quick_run[0])])
        assert "is not a record of benchmarks.solvers" in capsys.readouterr().err

    def test_who_runs_and_who_is_the_reference(self, monkeypatch, tmp_path, capsys):
        embedding = np.random.default_rng(0).standard_normal((6, 2))
        ran = []

        def run(case, name, timeout):
            solver = dict(case.options)["eigen_solver"]
            ran.append((case.name, name, solver, timeout))
            if solver == "auto":
                return {"status": "timeout", "seconds": 7.0}, None
            converged = case.n <= solvers.DENSE_MOST_POINTS or solver != "shift-invert"
            return ok(1.0, converged=converged, n_iter=1234, largest_residual=2e-11), embedding

        monkeypatch.setattr(runs, "run", run)
        monkeypatch.setattr(solvers, "missing_data", lambda name: "")
        path = tmp_path / "record.json"
        arguments = ["--case", "digits-d2-*", "cube-5d-*", "--repeat", "1", "--timeout", "7"]
        assert solvers.main([*arguments, "--json", str(path)]) == 0
        digits, cube = json.loads(path.read_text())["cases"]
        others = [name for name in solvers.SOLVERS if name != "dense"]
        assert ran == [
            *(("digits-d2-1797", "lle_gpu", name, 7.0) for name in solvers.SOLVERS),
            *(("cube-5d-10k", "lle_gpu", name, 7.0) for name in others),
        ]
        assert digits["reference"] == "dense"
        # Not dense, which was not tried, nor shift-invert, which did not converge.
        assert cube["reference"] is None
        results = {result["implementation"]: result for result in digits["results"]}
        assert results["shift-invert"]["sine_to_reference"] < 1e-12
        capsys.readouterr()
        assert solvers.main(["--report", str(path)]) == 0
        report = capsys.readouterr().out
        assert "> 7.00" in report and "(not certified)" in report and "1,234" in report
        assert "- cube-5d-10k, dense: not tried: more than 5,000 points" in report
        assert "- cube-5d-10k, auto: timeout" in report

    def test_a_solver_that_fails_is_the_exit_status(self, monkeypatch, tmp_path):
        failed = {"status": "failed", "error": "ValueError: no"}
        monkeypatch.setattr(runs, "run", lambda case, name, timeout: (failed, None))
        arguments = ["--case", "ring-2304", "--json", str(tmp_path / "record.json")]
        assert solvers.main(arguments) == 1

    def test_the_page_shows_the_latest_record(self):
        """Regenerate it with ``python -m benchmarks.solvers --document RECORD``."""
        page = solvers.DOCUMENT.read_text()
        kept = sorted(records.RESULTS.glob("solvers-*.json"))
        if kept:
            assert page == solvers.document(kept[-1], page)
        else:
            assert page == "".join(
                [page.partition(solvers.BEGIN)[0], solvers.BEGIN, "\n\nNot measured yet.\n\n"]
            ) + "".join(page.partition(solvers.END)[1:])

    def test_the_page_knows_every_solver(self):
        page = solvers.DOCUMENT.read_text()
        assert [name for name in solvers.SOLVERS if f'`"{name}"`' not in page] == []
