"""The GPU's benchmark, whole, on the stand-in. Never the times themselves."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu, gpu_cases, gpu_measure, gpu_tables, records
from benchmarks.cases import Case
from benchmarks.gpu_cases import FitCase, KernelCase, RatioCase, Target

ROOT = Path(__file__).parents[1]
RAPIDS = importlib.util.find_spec("cuml") is not None
# What makes `import cupy` give the stand-in, in a process of its own too.
COUNTERFEIT = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from stand_in import install

class Setter:
    setitem = staticmethod(dict.__setitem__)

install(Setter)
"""
# Of two devices, or of the one asked for; CUDA is shown the second one only.
NVIDIA_SMI = """\
#!/bin/sh
gpus="0000:17:00.0 0000:65:00.0"
for argument; do case $argument in --id=*) gpus=${argument#--id=} ;; esac; done
for gpu in $gpus; do echo "580.65, clock of $gpu"; done
"""


@pytest.fixture(scope="module")
def counterfeit(tmp_path_factory):
    """Environment of processes that find the stand-in, and an nvidia-smi."""
    site = tmp_path_factory.mktemp("site")
    (site / "cupy").mkdir()
    (site / "cupy" / "__init__.py").write_text(COUNTERFEIT)
    (site / "nvidia-smi").write_text(NVIDIA_SMI)
    (site / "nvidia-smi").chmod(0o755)
    path = os.pathsep.join([str(site), os.environ["PATH"]])
    return {**os.environ, "PYTHONPATH": str(site), "PATH": path}


def command(environment, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def run(counterfeit, tmp_path_factory):
    """A run of cases of each kind, small."""
    path = tmp_path_factory.mktemp("record") / "record.json"
    names = ("weights-1000000x50-float32", "ltsa-rows*", "filter-100000*")
    # The real cuML would be given the stand-in's arrays.
    names += ("neighbors-cupy*x3-*" if RAPIDS else "neighbors-cu[pm]*x3-*",)
    names += ("roll-standard-10k", "roll-ltsa*", "scikit-learn-roll-standard-10k")
    options = ("--points", 100, "--repeat", 1, "--json", path)
    done = command(counterfeit, *options, "--case", *names)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text()), done.stdout


def case_of(record, name):
    (case,) = [case for case in record["cases"] if case["name"] == name]
    return case


class TestTheRecord:
    def test_device(self, run):
        record, _ = run
        device = record["device"]
        assert device["compute_capability"] == "9.0"
        assert device["total_bytes"] >= device["free_bytes"] > 0
        assert device["cuda_of_driver"] and device["cuda_runtime"]
        assert set(device["libraries"]) == {"cuml", "cuvs", "nvmath-python", "cudss"}
        assert set(device["rates"]) == {"copy", "float32", "float64"}
        assert all(rate > 0 for rate in device["rates"].values())
        assert record["machine"]["versions"]["numpy"] == np.__version__
        assert record["arguments"]["points"] == 100

    def test_nvidia_smi_tells_of_the_device_that_is_measured(self, run):
        record, _ = run
        assert record["device"]["pci_bus_id"] == "0000:65:00.0"
        told = {"driver_version": "580.65", "clocks.max.sm": "clock of 0000:65:00.0"}
        assert record["device"]["nvidia_smi"] == told

    def test_kernels(self, run):
        record, _ = run
        for name, kernel in (
            ("weights-100x50-float32", "barycentric"),
            ("ltsa-rows-100x3-float64", "ltsa_rows"),
            ("neighbors-cupy-100x3-float32", "knn_difference"),
        ):
            case = case_of(record, name)
            assert case["status"] == "ok"
            assert any(kernel in launched for launched in case["launches"])
            assert all(launch["count"] >= 1 for launch in case["launches"].values())
            taken = case["call"] if case["kernels"] is None else case["kernels"]
            assert case["times_floor"] == pytest.approx(taken / case["floor"])
        weights = case_of(record, "weights-100x50-float32")
        assert weights["bytes"] == 100 * 16 * 50 * 4 + 100 * 15 * 12
        floors = (
            weights["bytes"] / record["device"]["rates"]["copy"],
            weights["operations"] / record["device"]["rates"]["float32"],
        )
        assert weights["floor"] == pytest.approx(max(floors))

    def test_a_captured_filter_is_timed_as_one_call(self, run):
        case = case_of(run[0], "filter-100x3-float64")
        assert case["status"] == "ok"
        assert case["kernels"] is None
        assert case["call"] > 0

    def test_fits(self, run):
        record, _ = run
        for name in ("roll-standard-100", "roll-ltsa-100"):
            case = case_of(record, name)
            assert case["status"] == "ok"
            assert case["cold"] > 0 and len(case["warm_runs"]) == 1
            assert case["warm"] == pytest.approx(np.median(case["warm_runs"]))
            assert {"neighbors", "constraints", "assembly", "certificate"} <= set(case["stages"])
            assert case["certified"] is True
            assert case["neighbors_by"] == "cupy" and case["cudss"] is False
            assert case["neighbors_differing"] == 0
            assert case["sine_to_cpu"] <= 1e-6
            assert case["pool_bytes"] > 100 * 12 * 8
            assert case["affine_residual"] < 1
            assert len(case["values"]) == len(case["residuals"]) == 2

    def test_scikit_learn_beside_it(self, run):
        record, _ = run
        case = case_of(record, "scikit-learn-roll-standard-100")
        fit = case_of(record, "roll-standard-100")
        assert case["ratio"] == pytest.approx(case["seconds"] / fit["warm"])

    @pytest.mark.skipif(RAPIDS, reason="cuML is installed")
    def test_what_is_missing_says_how_to_get_it(self, run):
        case = case_of(run[0], "neighbors-cuml-100x3-float32")
        assert case["status"] == "missing"
        assert "pip install" in case["error"]

    def test_it_cannot_be_taken_for_a_devices(self, run):
        record, printed = run
        assert record["device"]["name"] == "stand-in, no device"
        assert record["device"]["stands_in"] is True
        assert "THIS IS NOT A DEVICE" in printed
        targets = [target for case in record["cases"] for target in case["targets"]]
        assert len(targets) == 4
        assert all(target["measured"] is not None for target in targets)
        assert all(target["met"] is None for target in targets)
        path = gpu._path(record["device"], whole=True)
        assert path.parent.name == "local"
        assert path.name.startswith("stand-in-no-device-")

    def test_printed(self, run):
        record, printed = run
        for case in record["cases"]:
            assert "\n".join(gpu_tables.case_lines(case)) in printed
        assert "times the floor" in printed
        assert "target: sine of the angle to the CPU path at most 1e-06" in printed
        assert "figures aimed at: 0 met, 0 not met, 4 not judged" in printed


class TestTheCommand:
    def test_without_a_gpu(self):
        if subprocess.run([sys.executable, "-c", "import cupy"], check=False).returncode == 0:
            pytest.skip("CuPy is installed")
        done = command(os.environ, "--quick")
        assert done.returncode == 2
        assert "There is no GPU to measure: CuPy is not installed" in done.stderr
        assert done.stdout == ""

    def test_a_failure_leaves_the_others(self, counterfeit, tmp_path):
        (tmp_path / "sitecustomize.py").write_text(
            "import lle_gpu.constraints.gpu as gpu\n"
            "def broken(*arguments, **options): raise RuntimeError('a kernel went wrong')\n"
            "gpu.barycentric_weights = broken\n"
        )
        paths = [str(tmp_path), str(ROOT), counterfeit["PYTHONPATH"]]
        environment = {**counterfeit, "PYTHONPATH": os.pathsep.join(paths)}
        path = tmp_path / "record.json"
        names = ("weights-1000000x50-float32", "hessian-rows*")
        options = ("--points", 60, "--repeat", 1, "--json", path, "--case", *names)
        done = command(environment, *options)
        assert done.returncode == 1, done.stdout + done.stderr
        first, second = json.loads(path.read_text())["cases"]
        assert first["status"] == "failed"
        assert first["error"] == "RuntimeError: a kernel went wrong"
        assert second["status"] == "ok"
        assert "failed: RuntimeError: a kernel went wrong" in done.stdout
        assert "failed: weights-60x50-float32" in done.stdout

    def test_a_record_that_was_cut_short_is_gone_on_with(self, counterfeit, tmp_path):
        path = tmp_path / "record.json"
        options = ("--points", 60, "--repeat", 1, "--json", path, "--resume", "--case")
        names = ("weights-1000000x50-float32", "hessian-rows*")
        done = command(counterfeit, *options, names[0])
        assert done.returncode == 0, done.stdout + done.stderr
        record = json.loads(path.read_text())
        assert [case["status"] for case in record["cases"]] == ["ok"]
        record["cases"][0]["call"] = 1234.5
        record["cases"].append({"name": "hessian-rows-60x3-float64", "status": "timeout"})
        record["device"]["rates"]["copy"] = 1e12
        path.write_text(json.dumps(record))
        done = command(counterfeit, *options, *names)
        assert done.returncode == 0, done.stdout + done.stderr
        record = json.loads(path.read_text())
        measured = [case["name"] for case in record["cases"]]
        assert measured == ["weights-60x50-float32", "hessian-rows-60x3-float64"]
        assert record["cases"][0]["call"] == 1234.5, "measured again"
        assert record["cases"][1]["status"] == "ok"
        assert record["device"]["rates"]["copy"] == 1e12, "the floors' rates are one device's"
        record["device"]["name"] = "another"
        path.write_text(json.dumps(record))
        done = command(counterfeit, *options, names[0])
        assert done.returncode == 2
        assert "its device is 'another', and now 'stand-in, no device'" in done.stderr
        assert json.loads(path.read_text()) == record

    def test_the_device_is_written_before_the_first_case(self, tmp_path, monkeypatch):
        """So that a run that ends in the first case tells where that was."""
        path = tmp_path / "record.json"
        device = {"name": "a GPU", "status": "ok", "rates": {}, "pci_bus_id": "0000:65:00.0"}
        monkeypatch.setattr(gpu, "_measured", lambda *_: (dict(device), None))
        monkeypatch.setattr(gpu, "_nvidia_smi", lambda _: {})
        monkeypatch.setattr(gpu, "device_lines", lambda _: [])

        def ended(*_):
            raise SystemExit

        monkeypatch.setattr(gpu, "_result", ended)
        with pytest.raises(SystemExit):
            gpu.main(["--json", str(path), "--case", "weights*"])
        record = json.loads(path.read_text())
        assert record["device"]["name"] == "a GPU"
        assert record["cases"] == []

    def test_list(self, capsys):
        assert gpu.main(["--list"]) == 0
        printed = capsys.readouterr().out
        assert all(case.name in printed for case in gpu_cases.CASES)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--case", "no-such"], "no case is called 'no-such': --list shows their names"),
            (["--points", "0"], "0 must be positive"),
            (["--repeat", "-1"], "-1 must be positive"),
            (["--resume"], "--resume needs --json"),
        ],
    )
    def test_mistakes(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as exit_:
            gpu.main(arguments)
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err

    def test_the_record_of_a_device_is_kept_under_its_name(self, tmp_path, monkeypatch):
        monkeypatch.setattr(records, "RESULTS", tmp_path)
        device = {"name": "NVIDIA H200", "stands_in": False}
        path = gpu._path(device, whole=True)
        assert re.fullmatch(r"nvidia-h200-\d{4}-\d\d-\d\d\.json", path.name)
        assert path.parent == tmp_path
        path.touch()
        assert gpu._path(device, whole=True) != path
        assert gpu._path(device, whole=False).parent == tmp_path / "local"


class TestTheTable:
    def test_names_are_different(self):
        names = [case.name for case in gpu_cases.CASES]
        assert len(set(names)) == len(names)

    def test_the_figures_aimed_at(self):
        """Those of the project's aims, each on its case."""
        aims = {
            (case.name, target.quantity): target.limit
            for case in gpu_cases.CASES
            for target in case.targets
        }
        assert aims["weights-1000000x50-float32", "kernels"] == pytest.approx(2 * 0.77e-3)
        assert aims["weights-1000000x50-float64", "kernels"] == pytest.approx(2 * 1.53e-3)
        assert aims["roll-standard-100k", "warm"] == 0.5
        assert aims["roll-standard-1M", "warm"] == 10
        assert aims["glove-standard-400k", "warm"] == 10
        assert aims["scikit-learn-roll-standard-100k", "ratio"] == 100
        assert aims["roll-standard-10k-float32", "sine_to_cpu"] == 1e-3
        for method in ("standard", "modified", "hessian", "ltsa"):
            assert aims[f"roll-{method}-100k", "sine_to_cpu"] == 1e-6
            assert aims[f"roll-{method}-100k", "neighbors_differing"] == 0

    def test_each_scikit_learn_case_has_a_fit_to_compare_with(self):
        fits = {case.name for case in gpu_cases.CASES if isinstance(case, FitCase)}
        for case in gpu_cases.CASES:
            if isinstance(case, RatioCase):
                assert case.case.name in fits

    def test_the_floor_of_the_weights_is_the_one_that_was_worked_out(self, monkeypatch):
        """0.77 ms for float32 at 4.3 TB/s, the weights and the index aside."""
        pytest.importorskip("stand_in").install(monkeypatch)
        case = KernelCase("weights", 1000, 50, 15, dtype="float32")
        seconds = 1000 * case.work().bytes / 4.3e12
        assert seconds == pytest.approx(0.77e-3, rel=0.03)

    @pytest.mark.parametrize(
        ("target", "measured", "met"),
        [
            (Target("warm", 0.5), 0.5, True),
            (Target("warm", 0.5), 0.51, False),
            (Target("ratio", 100, at_least=True), 99.9, False),
            (Target("ratio", 100, at_least=True), 101.0, True),
            (Target("warm", 0.5), None, None),
        ],
    )
    def test_judging(self, target, measured, met):
        result = {} if measured is None else {target.quantity: measured}
        assert target.judged(result, counts=True)["met"] is met
        assert target.judged(result, counts=False)["met"] is None

    def test_verdicts_are_printed(self):
        target = Target("kernels", 1.54e-3)
        for seconds, words in ((1.2e-3, "1.2, met"), (2e-3, "2, NOT MET")):
            judged = target.judged({"kernels": seconds}, counts=True)
            assert gpu_tables._target(judged) == (
                f"target: the kernels at most 1.54 ms: measured {words}"
            )

    def test_shrunk(self):
        small = gpu_cases.shrunk(gpu_cases.CASES, 500)
        names = [case.name for case in small]
        assert len(set(names)) == len(names)
        assert all(re.search(r"-500(x\d|-|$)", case.name) for case in small)
        times = {target.quantity for case in small for target in case.targets}
        assert times == {"sine_to_cpu", "neighbors_differing"}


class TestScattered:
    @pytest.mark.parametrize(("n", "k"), [(16, 15), (100, 7), (2, 1)])
    def test_other_points_each_once(self, n, k):
        index = gpu_cases._scattered(n, k)
        assert index.shape == (n, k)
        for i, row in enumerate(index):
            assert i not in row
            assert len(set(row)) == k
            assert row.min() >= 0 and row.max() < n


class TestTimes:
    def test_stages_inside_stages_count_once(self, monkeypatch):
        from stand_in import install

        from lle_gpu.progress import report_to, stage

        install(monkeypatch)
        clock = iter([0.0, 1.0, 4.0, 10.0, 20.0, 22.0])
        monkeypatch.setattr(gpu_measure, "_now", lambda: next(clock))
        with report_to(gpu_measure.DeviceStages()) as times:
            with stage("outer"), stage("inner"):  # 0 to 10, 1 to 4
                pass
            with stage("outer"):
                pass
        assert times.seconds == {"inner": 3.0, "outer": 7.0 + 2.0}

    def test_every_launch_is_counted_and_the_launcher_left_as_it_was(self, monkeypatch):
        from stand_in import install

        from lle_gpu.constraints.gpu import barycentric_weights
        from lle_gpu.cuda import compiler

        compiler.forget_kernels()
        machine = install(monkeypatch)
        import cupy

        X = cupy.asarray(gpu_cases._normal(20, 3))
        index = cupy.asarray(gpu_cases._scattered(20, 4))
        expected = barycentric_weights(X, X, index).get()
        launch = compiler.Kernel.__call__
        machine.launches.clear()
        with gpu_measure.KernelTimes() as times:
            for _ in range(3):
                result = barycentric_weights(X, X, index)
        assert compiler.Kernel.__call__ is launch
        assert [(name, len(seconds)) for name, seconds in times.seconds.items()] == [
            (machine.launches[0], 3)
        ]
        assert times.total > 0
        assert np.array_equal(result.get(), expected)
        barycentric_weights(X, X, index)
        assert len(machine.launches) == 4
        compiler.forget_kernels()


def test_data_are_in_the_numbers_asked_for():
    case = FitCase(Case("roll", "swiss-roll", 50, "standard", 5, 2), dtype="float32")
    assert case.load().X.dtype == np.float32
