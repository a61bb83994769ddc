"""The benchmarks' machinery. Never the times themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# The benchmarks are not installed: they run from the repository.
from benchmarks import cases, compare, implementations, measure, summary, tables

ROOT = Path(__file__).parents[1]


def compare_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", *map(str, arguments)],
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
    done = compare_command(
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
        assert set(ours["stages"]) > {"neighbors", "constraints", "lanczos"}
        assert theirs["sine_to_lle_gpu"] < 1e-6
        assert theirs["reconstruction_error"] == pytest.approx(
            ours["reconstruction_error"], rel=1e-4
        )

    def test_table_and_markdown(self, quick_run):
        path, printed = quick_run
        assert "roll-ltsa-1k: swiss-roll, 1,000 points, ltsa, k=12, d=2" in printed
        assert "stages of lle_gpu: neighbors" in printed
        report = compare_command("--report", path)
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

        monkeypatch.setattr(compare, "_run", run)
        monkeypatch.setattr(compare, "missing", lambda name: "")
        arguments = ["--case", "roll-ltsa-10k", "--json", str(tmp_path / "record.json")]
        assert compare.main(arguments) == status
        assert "failed: ValueError: it broke" in capsys.readouterr().out


class TestRuns:
    CASE = cases.Case("roll", data="swiss-roll", n=300, method="standard", k=8, d=2)

    def test_they_take_turns_and_a_failure_is_not_repeated(self, monkeypatch):
        order = []

        def run(case, name, timeout):
            order.append(name)
            return ({"status": "failed", "error": "no"} if name == "b" else ok(1.0)), None

        monkeypatch.setattr(compare, "_run", run)
        monkeypatch.setattr(compare, "missing", lambda name: "get it" if name == "c" else "")
        results = compare._run_case(self.CASE, ["lle_gpu", "b", "c", "d"], 3, 60)
        assert order == ["lle_gpu", "b", "d", "lle_gpu", "d", "lle_gpu", "d"]
        assert [r["status"] for r in results] == ["ok", "failed", "missing", "ok"]
        assert results[2]["error"] == "get it"

    def test_an_exception_is_the_result(self):
        case = cases.Case("roll", data="swiss-roll", n=10, method="standard", k=20, d=2)
        run, embedding = compare._run(case, "lle_gpu", 60)
        assert run["status"] == "failed"
        assert run["error"].startswith("ValueError: ")
        assert embedding is None

    def test_a_process_that_dies_is_a_failure(self, monkeypatch, tmp_path):
        dying = tmp_path / "python"
        dying.write_text("#!/bin/sh\necho no memory >&2\nkill -KILL $$\n")
        dying.chmod(0o755)
        monkeypatch.setattr(compare.sys, "executable", str(dying))
        run, _ = compare._run(self.CASE, "lle_gpu", 60)
        assert run["status"] == "failed"
        assert run["error"] == "ended by signal 9, perhaps out of memory: no memory"

    def test_timeout_before_the_clock_starts(self):
        run, _ = compare._run(self.CASE, "lle_gpu", 0.01)
        assert run["status"] == "timeout"
        assert "larger --timeout" in run["error"]

    def test_timeout_counts_from_the_start_of_the_clock(self, tmp_path):
        (tmp_path / "started").touch()
        run = compare._timed_out(tmp_path / "started", 60)
        assert 0 <= run["seconds"] < 60

    def test_transform_is_judged_on_the_new_points(self, tmp_path):
        case = cases.Case(
            "roll", data="swiss-roll", n=1000, method="ltsa", k=12, d=2, timed="transform", n_new=50
        )
        run = measure.measure(case, "lle_gpu", tmp_path)
        assert np.load(tmp_path / "embedding.npy").shape == (50, 2)
        assert run["affine_residual"] < 0.1
        assert "weights" in run["stages"] and "lanczos" not in run["stages"]

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

    def test_affine_residual(self):
        rng = np.random.default_rng(0)
        truth = rng.standard_normal((50, 2))
        assert measure.affine_residual(truth @ [[2.0, 1.0], [0.0, 3.0]] + 7.0, truth) < 1e-12
        assert measure.affine_residual(rng.standard_normal((50, 2)), truth) > 0.5


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
        case = {"name": "a", "description": "a case", "results": results}
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
            "machine": compare.machine.describe(),
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
    def test_names_are_unique_and_opponents_are_known(self):
        names = [case.name for case in cases.CASES]
        assert len(set(names)) == len(names)
        assert {name for case in cases.CASES for name in case.opponents} <= set(
            implementations.IMPLEMENTATIONS
        )

    def test_select(self):
        assert not any(case.slow for case in cases.select())
        assert cases.select(slow=True) == list(cases.CASES)
        assert [c.name for c in cases.select(["roll-standard-300k"])] == ["roll-standard-300k"]
        assert not any(case.slow for case in cases.select(["roll-*"]))
        assert any(case.slow for case in cases.select(["roll-*"], slow=True))

    def test_quick_keeps_each_family_once(self):
        small = cases.quick(cases.select(slow=True))
        assert len({case.name for case in small}) == len(small)
        assert {case.family for case in small} == {case.family for case in cases.CASES}
        assert max(case.n for case in small) <= 1000

    @pytest.mark.parametrize("case", cases.quick(list(cases.CASES)), ids=lambda case: case.name)
    def test_data(self, case):
        data = case.load()
        assert len(data.X) == case.n and len(data.new) == case.n_new
        assert np.array_equal(case.load().X, data.X)
        if data.truth is not None:
            assert len(data.truth) == (case.n_new or case.n)
