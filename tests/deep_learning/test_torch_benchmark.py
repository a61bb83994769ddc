"""The comparison for few labels: its protocol, its statistics, its machinery. Never the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")

from benchmarks import deep_learning as benchmark  # noqa: E402
from benchmarks import deep_learning_methods as methods  # noqa: E402
from benchmarks import deep_learning_plot, deep_learning_tables  # noqa: E402
from benchmarks.deep_learning_methods import METHODS, Method  # noqa: E402
from lle_gpu import LocallyLinearEmbedding  # noqa: E402

ROOT = Path(__file__).parents[2]
QUICK = ["--quick", "--data", "digits", "--labels", "1", "all", "--seeds", "2", "--jobs", "1"]
QUICK += ["--only", "raw", "lle", "label-spreading", "propagation", "mlp"]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.deep_learning", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def rows(X):
    return {row.tobytes() for row in np.ascontiguousarray(X, dtype=float)}


def ready(name):
    """A method that is installed; UMAP compiles for long, and has a test of its own."""
    return name != "umap" and not methods.missing(METHODS[name])


def first(name):
    return METHODS[name].grid()[0]


# A neighbour graph of few digits may be in pieces, which the libraries say.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Graph is not fully connected"),
    pytest.mark.filterwarnings("ignore::lle_gpu.exceptions.DisconnectedGraphWarning"),
]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(methods, "STEPS", 20)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / "record.json"
    done = command(*QUICK, "--json", path)
    assert done.returncode == 0, done.stderr
    return path, done


@pytest.fixture(scope="module")
def split():
    return benchmark.draw("digits", "report", 3, quick=True)


class TestProtocol:
    def test_tuning_has_other_seeds_and_other_points(self):
        assert set(benchmark.TUNING_SEEDS).isdisjoint(range(100))
        X, _ = benchmark.points("digits")
        assert len(rows(X)) == len(X), "equal images would be in both parts"
        parts = {"tuning": set(), "report": set()}
        for part, seeds in (("tuning", benchmark.TUNING_SEEDS), ("report", range(5))):
            for seed in seeds:
                drawn = benchmark.draw("digits", part, seed)
                parts[part] |= rows(drawn.X) | rows(drawn.X_new)
        assert parts["tuning"].isdisjoint(parts["report"])
        assert len(parts["tuning"] | parts["report"]) == len(X)

    def test_draws_are_stratified_and_apart(self, split):
        assert rows(split.X).isdisjoint(rows(split.X_new))
        share = len(split.y_new) / (len(split.y) + len(split.y_new))
        assert share == pytest.approx(benchmark.HELD_OUT, abs=0.01)
        assert np.ptp(np.bincount(split.y_new)) <= 1
        again = benchmark.draw("digits", "report", 3, quick=True)
        other = benchmark.draw("digits", "report", 4, quick=True)
        assert np.array_equal(split.X, again.X)
        assert rows(split.X_new) != rows(other.X_new)

    def test_labels_are_given_by_class(self, split):
        one, ten = split.labelled(1), split.labelled(10)
        for given, amount in ((one, 1), (ten, 10)):
            assert np.array_equal(np.bincount(given[given >= 0]), [amount] * 10)
            assert np.array_equal(given[given >= 0], split.y[given >= 0])
        assert set(np.flatnonzero(one >= 0)) <= set(np.flatnonzero(ten >= 0))
        assert np.array_equal(split.labelled("all"), split.y)
        assert not np.array_equal(one, replace(split, seed=4).labelled(1))

    def test_methods_see_neither_hidden_labels_nor_held_out_ones(self, split):
        seen = []

        def spy(X, y, X_new, seed, **parameters):
            seen.append((X, y, X_new))
            return np.zeros(len(X), dtype=int), split.y_new

        found = benchmark.accuracies(Method("spy", spy), split, {1: [{}], "all": [{}]})
        (X, y, X_new), (_, whole, _) = seen
        assert np.array_equal(X, split.X) and rows(X).isdisjoint(rows(X_new))
        assert (y >= 0).sum() == 10 and (whole >= 0).all()
        assert found[1][0]["inductive"] == 1.0
        hidden = y < 0
        assert found[1][0]["transductive"] == (split.y[hidden] == 0).mean()
        assert found["all"] == [{"inductive": 1.0}]  # no point is left without a label

    @pytest.mark.parametrize("name", list(filter(ready, METHODS)))
    def test_held_out_points_change_nothing(self, name, split):
        """Neither what is learnt of the training points, nor each other's labels."""
        given = split.labelled(10)

        def labels(X_new):
            return methods.predictions(METHODS[name], split.X, given, X_new, 0, first(name), {})

        trained, new = labels(split.X_new)
        without, some = labels(split.X_new[:7])
        elsewhere, _ = labels(100 + split.X_new)
        assert np.array_equal(trained, without) and np.array_equal(trained, elsewhere)
        assert np.array_equal(new[:7], some)
        assert (new == split.y_new).mean() > 0.5  # and something was learnt

    def test_held_out_points_reach_no_fit(self, split, monkeypatch):
        fitted = []
        classes = ("PCA", "Isomap", "SpectralEmbedding", "LabelSpreading")
        classes += ("LocallyLinearEmbedding", "LogisticRegression")

        def spied(kind, which):
            true = getattr(kind, which)

            def spy(self, X, *rest, **more):
                fitted.append((kind.__name__, X))
                return true(self, X, *rest, **more)

            monkeypatch.setattr(kind, which, spy)

        for name in classes:
            which = "fit_transform" if name == "SpectralEmbedding" else "fit"
            spied(getattr(methods, name), which)
        for name in filter(ready, METHODS):
            given = split.labelled(10)
            methods.predictions(METHODS[name], split.X, given, split.X_new, 0, first(name), {})
        # Of the raw features as the head scales them, too.
        new = rows(split.X_new) | rows(_scaled(split))
        assert {name for name, _ in fitted} == set(classes)
        for name, X in fitted:
            assert rows(X).isdisjoint(new), name

    def test_the_best_candidate_is_chosen_and_of_equals_the_first(self, monkeypatch):
        digits = benchmark.points("digits")
        seen = []
        truth = dict(zip(map(np.ndarray.tobytes, digits[0]), digits[1], strict=True))

        def run(X, y, X_new, seed, *, good):
            seen.append(rows(X) | rows(X_new))
            right = np.array([truth[row.tobytes()] for row in X_new])
            return np.where(y < 0, 10, y), right if good else (right + 1) % 10

        grid = methods.grid(good=(0, 1, 2))
        monkeypatch.setitem(METHODS, "fake", Method("fake", run, grid))
        case = benchmark.tune("digits", "fake", [1], quick=False)
        chosen = {choice["setting"]: choice for choice in case["choices"]}
        assert chosen["inductive"]["parameters"] == {"good": 1}
        assert chosen["inductive"]["accuracy"] == 1.0
        assert chosen["transductive"]["parameters"] == {"good": 0}
        reported = benchmark.draw("digits", "report", 0)
        assert len(seen) == 3 * len(benchmark.TUNING_SEEDS)
        assert set().union(*seen).isdisjoint(rows(reported.X) | rows(reported.X_new))


def _scaled(split):
    return (split.X_new - split.X.mean(axis=0)) / np.linalg.norm(split.X.std(axis=0))


class TestMethods:
    def test_heads_do_not_depend_on_the_units(self, split):
        given = split.labelled(10)
        units = np.random.default_rng(0).uniform(0.01, 100, split.X.shape[1])
        for scaling, factor in (("common", 37.0), ("columns", units)):
            head = {"scaling": scaling, "head": "logistic", "strength": 10}
            one, new = methods._head(split.X, given, split.X_new, **head)
            two, new_too = methods._head(split.X * factor, given, split.X_new * factor, **head)
            assert (one == two).mean() > 0.99 and (new == new_too).mean() > 0.99

    def test_new_points_of_laplacian_eigenmaps_are_placed_by_barycentric_weights(self, split):
        model = LocallyLinearEmbedding(n_neighbors=8, disconnected="bridge").fit(split.X)
        placed = methods._interpolated(split.X, model.embedding_, split.X_new, 8)
        np.testing.assert_allclose(placed, model.transform(split.X_new), atol=1e-9)

    def test_the_ablation_is_uniform_and_shares_the_grid(self, split):
        x = torch.as_tensor(split.X)
        idx, w = methods._graph(x, None, 5, "uniform", 0.1)
        same, lle = methods._graph(x, None, 5, "nonneg", 0.1)
        assert torch.equal(idx, same)
        assert (w == 0.2).all() and (lle >= 0).all() and not torch.allclose(w, lle)
        assert METHODS["mlp-uniform"].candidates == METHODS["mlp-lle"].candidates

    def test_embeddings_are_made_once_for_all_labels_and_heads(self, split):
        calls = []

        def embed(X, X_new, seed, **own):
            calls.append(own)
            return X, X_new

        method = Method("counted", embed, methods.grid(a=(1, 2)), embeds=True)
        wanted = dict.fromkeys((1, 10), method.grid())
        benchmark.accuracies(method, split, wanted)
        assert calls == [{"a": 1}, {"a": 2}]

    def test_the_same_seed_gives_the_same_network(self, split):
        given = split.labelled(1)
        before = torch.random.get_rng_state()
        one, two, other = (
            methods._network(split.X, given, split.X_new, seed, locality=1.0) for seed in (0, 0, 1)
        )
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
        assert not np.array_equal(one[0], other[0])
        assert torch.equal(before, torch.random.get_rng_state())

    @pytest.mark.slow
    def test_umap(self, split):
        pytest.importorskip("umap")
        given = split.labelled(10)
        chosen = first("umap")
        one = methods.predictions(METHODS["umap"], split.X, given, split.X_new, 0, chosen, {})
        two = methods.predictions(METHODS["umap"], split.X, given, split.X_new[:7], 0, chosen, {})
        assert np.array_equal(one[0], two[0])
        assert (one[1] == split.y_new).mean() > 0.5


class TestStatistics:
    def test_intervals_are_scipys(self):
        values = np.random.default_rng(0).normal(size=10)
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        found = deep_learning_tables.interval(values)
        assert found.mean == pytest.approx((low + high) / 2)
        assert found.half == pytest.approx((high - low) / 2)
        assert np.isnan(deep_learning_tables.interval([0.5]).half)

    def test_differences_are_paired_by_seed(self):
        rng = np.random.default_rng(1)
        common = rng.normal(size=8)
        ours = {seed: common[seed] + 0.1 * rng.normal() for seed in range(8)}
        theirs = {seed: common[seed] + 0.1 * rng.normal() for seed in reversed(range(8))}
        a, b = ([one[seed] for seed in range(8)] for one in (ours, theirs))
        low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
        found = deep_learning_tables.paired({**ours, 99: 5.0}, theirs)
        assert found.mean == pytest.approx((low + high) / 2)
        assert found.half == pytest.approx((high - low) / 2)

    def test_the_best_lle_is_that_of_tuning(self):
        record = made_up(tuned={"lle": 0.9, "lnp": 0.8, "pca": 0.99}, found={"lnp": 0.95})
        (cell,) = deep_learning_tables.cells(record)
        lines = {line.method: line for line in cell.lines}
        assert cell.best == "lle"  # PCA is none, and lnp came out better only afterwards
        assert lines["lle"].minus_best is None
        assert lines["lnp"].minus_best.mean == pytest.approx(0.45)
        assert lines["raw"].minus_raw is None

    def test_the_ceiling_has_all_labels(self):
        assert benchmark._amounts("mlp", [1]) == [1, "all"]
        assert benchmark._amounts("mlp", ["all", 1]) == ["all", 1]
        assert benchmark._amounts("raw", [1]) == [1]
        record = made_up(tuned={"raw": 0.5}, found={})
        choice = {"labels": "all", "setting": "inductive", "parameters": {}, "accuracy": 1.0}
        record["cases"].append(
            {"part": "tuning", "data": "digits", "method": "mlp", "choices": [choice]}
        )
        for seed in range(3):
            row = {"labels": "all", "setting": "inductive", "accuracy": 0.97}
            case = {"part": "report", "data": "digits", "method": "mlp", "seed": seed}
            record["cases"].append(case | {"results": [row]})
        (cell,) = deep_learning_tables.cells(record)  # "all" was not asked for
        assert [line.title for line in cell.lines] == ["raw features", deep_learning_tables.CEILING]
        assert cell.lines[-1].accuracy.mean == pytest.approx(0.97)


def made_up(tuned, found):
    """A record of one cell: accuracies in tuning, and in the report (0.5 where none is given)."""
    cases = []
    for name in {"raw": 0.5} | tuned:
        cell = {"labels": 1, "setting": "inductive"}
        choice = cell | {"parameters": {}, "accuracy": tuned.get(name, 0.5)}
        case = {"data": "digits", "method": name}
        cases.append(case | {"part": "tuning", "choices": [choice]})
        cases += [
            case
            | {"part": "report", "seed": s, "results": [cell | {"accuracy": found.get(name, 0.5)}]}
            for s in range(3)
        ]
    arguments = {"deep learning": True, "labels": [1], "quick": False, "seeds": 3}
    return {"arguments": arguments, "machine": {}, "cases": cases}


class TestCommand:
    def test_quick_run(self, run):
        path, done = run
        record = json.loads(path.read_text())
        for title in ("1 a class, inductive", "1 a class, transductive", "all labels, inductive"):
            assert f"### digits, {title}" in done.stdout
        assert "all labels, transductive" not in done.stdout
        assert deep_learning_tables.CEILING in done.stdout
        assert record["machine"]["versions"]["torch"] == torch.__version__
        names = ["raw", "lle", "label-spreading", "propagation", "mlp"]
        reported = {(c["method"], c["seed"]) for c in record["cases"] if c["part"] == "report"}
        assert reported == {(name, seed) for name in names for seed in range(2)}
        for case in record["cases"]:
            for row in case.get("results", ()):
                assert 0.3 < row["accuracy"] <= 1
        assert command("--report", path).stdout.strip() in done.stdout

    def test_resume_measures_what_is_missing_and_finds_the_same(self, run, tmp_path):
        record = json.loads(run[0].read_text())
        cases = [case for case in record["cases"] if case["part"] == "report"]
        gone = [case for case in cases if case["seed"] == 1 and case["method"] != "mlp"]
        record["cases"] = [case for case in record["cases"] if case not in gone]
        path = tmp_path / "cut.json"
        path.write_text(json.dumps(record))
        done = command(*QUICK, "--json", path, "--resume")
        assert done.returncode == 0, done.stderr
        assert "tuning" not in done.stderr and "seed 0" not in done.stderr
        new = {c["method"]: c["results"] for c in json.loads(path.read_text())["cases"][-4:]}
        assert new == {case["method"]: case["results"] for case in gone}

    def test_picture(self, run, tmp_path):
        record = json.loads(run[0].read_text())
        figure = deep_learning_plot.draw(record)
        panels = [ax.get_title(loc="left") for ax in figure.axes]
        assert panels == ["digits, 1 label a class", "digits, all labels"]
        named = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert named[0] == "raw features" and named[-1] == deep_learning_tables.CEILING
        assert benchmark.main(["--plot", str(run[0]), str(tmp_path / "out.png")]) == 0
        assert (tmp_path / "out.png").stat().st_size > 1000

    def test_a_picture_of_two_records_has_a_row_of_panels_for_each_data(self, run):
        record = json.loads(run[0].read_text())
        other = json.loads(run[0].read_text().replace('"digits"', '"mnist-5k"'))
        panels = [ax.get_title(loc="left") for ax in deep_learning_plot.draw(record, other).axes]
        assert panels == [
            "digits, 1 label a class",
            "digits, all labels",
            "mnist-5k, 1 label a class",
            "mnist-5k, all labels",
        ]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--labels", "0"], "0 must be a positive number or all"),
            (["--resume"], "--resume needs --json"),
            (["--report", "RECORD", "--labels", "1"], None),
            (["--json", "RECORD", "--resume", "--labels", "5"], "labels=[1, 'all'], and now"),
            (["--report", "OTHER"], "is not a record of benchmarks.deep_learning"),
            (["--plot", "EMPTY", "x.png"], "no results to draw"),
            (["--plot", "x.png"], "--plot needs records and, last, a picture, got x.png alone"),
            (["--plot", "RECORD", "OTHER"], "is not supported"),
        ],
    )
    def test_arguments(self, run, tmp_path, capsys, arguments, said):
        record = json.loads(run[0].read_text())
        (tmp_path / "record.json").write_text(json.dumps(record))
        (tmp_path / "empty.json").write_text(json.dumps(record | {"cases": []}))
        (tmp_path / "other.json").write_text(json.dumps(record | {"arguments": {}}))
        files = {name.upper(): tmp_path / f"{name}.json" for name in ("record", "empty", "other")}
        arguments = [str(files.get(argument, argument)) for argument in arguments]
        if said is None:
            assert benchmark.main(arguments) == 0
            return
        with pytest.raises(SystemExit) as stopped:
            benchmark.main(arguments)
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
