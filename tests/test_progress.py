"""Long work: who is told what, how it is stopped, and what is left behind."""

from __future__ import annotations

import copy
import importlib.util
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import METHODS, make_manifold, two_clusters
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from lle_gpu import LocallyLinearEmbedding, locally_linear_embedding
from lle_gpu.progress import (
    Event,
    Progress,
    ProgressBar,
    StageTimes,
    advance,
    note,
    report_to,
    stage,
    watch,
)

ROLL = make_manifold("swiss-roll", 400)


class Recorder(Progress):
    """Remembers every call."""

    def __init__(self):
        self.calls = []
        self.threads = set()

    def start(self, name, total):
        self.threads.add(threading.get_ident())
        self.calls.append(("start", name, total))

    def advance(self, steps):
        self.threads.add(threading.get_ident())
        self.calls.append(("advance", steps))

    def note(self, text):
        self.calls.append(("note", text))

    def finish(self, name, seconds):
        self.calls.append(("finish", name))

    def names(self, kind):
        return [call[1] for call in self.calls if call[0] == kind]


def make(**parameters):
    return LocallyLinearEmbedding(**{"n_neighbors": 10} | parameters)


class TestCallbacks:
    @pytest.mark.parametrize("method", METHODS)
    def test_functions_and_objects_are_told_the_same(self, method):
        events, recorder = [], Recorder()
        make(method=method, callbacks=[events.append, recorder]).fit(ROLL)
        assert [(e.kind, e.stage) for e in events if e.kind in ("start", "finish")] == [
            call[:2] for call in recorder.calls if call[0] in ("start", "finish")
        ]
        assert [e.text for e in events if e.kind == "note"] == recorder.names("note")
        steps = sum(recorder.names("advance"))
        assert steps == sum(e.done for e in events if e.kind == "finish")
        assert recorder.names("start") == recorder.names("finish")
        assert recorder.names("start")[:3] == ["neighbors", "graph", "constraints"]
        assert recorder.names("start")[-1] == "certificate"

    def test_events(self):
        events = []
        with watch(False, events.append):
            note("before")
            with stage("first", 10):
                advance(4)
                note("inside")
                advance(6)
            with stage("second"):
                advance()
        kinds = [(e.kind, e.stage, e.done, e.total, e.text) for e in events]
        assert kinds == [
            ("note", "", 0, None, "before"),
            ("start", "first", 0, 10, ""),
            ("advance", "first", 4, 10, ""),
            ("note", "first", 4, 10, "inside"),
            ("advance", "first", 10, 10, ""),
            ("finish", "first", 10, 10, ""),
            ("start", "second", 0, None, ""),
            ("advance", "second", 1, None, ""),
            ("finish", "second", 1, None, ""),
        ]
        assert all(isinstance(event, Event) for event in events)
        assert all(a.seconds >= 0 for a in events)
        assert [e.seconds for e in events[1:6]] == sorted(e.seconds for e in events[1:6])

    def test_all_steps_come_to_the_total(self):
        events = []
        model = make(callbacks=(events.append,), n_jobs=2).fit(ROLL)
        model.transform(ROLL[:50] + 0.1)
        model.inverse_transform(model.embedding_)
        ends = [e for e in events if e.kind == "finish" and e.total is not None]
        assert [e.stage for e in ends] == [
            "neighbors", "constraints", *2 * ("neighbors", "weights", "means"),
        ]  # fmt: skip
        assert all(e.done == e.total for e in ends)
        assert [e.total for e in ends] == [400, 400, 50, 50, 50, 400, 400, 400]

    def test_calls_come_from_the_caller_s_thread(self):
        recorder = Recorder()
        make(callbacks=recorder, n_jobs=4).fit(ROLL).transform(ROLL + 0.1)
        assert recorder.threads == {threading.get_ident()}

    def test_the_function_takes_them(self):
        times = StageTimes()
        Y, _ = locally_linear_embedding(ROLL, n_neighbors=10, n_components=2, callbacks=times)
        assert {"neighbors", "constraints", "certificate"} <= times.seconds.keys()
        np.testing.assert_array_equal(Y, make().fit_transform(ROLL))

    def test_beside_verbose_and_report_to(self, capsys):
        times, recorder = StageTimes(), Recorder()
        with report_to(times):
            make(callbacks=recorder).fit(ROLL)
        assert list(times.seconds) == recorder.names("finish")
        assert capsys.readouterr().err == ""
        make(callbacks=recorder, verbose=True).fit(ROLL)
        printed = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
        assert set(recorder.names("finish")) <= set(printed)

    def test_nobody_is_told_afterwards(self):
        recorder = Recorder()
        model = make(callbacks=recorder).fit(ROLL)
        calls = len(recorder.calls)
        model.set_params(callbacks=None).fit(ROLL)
        with stage("other"):
            advance()
        assert len(recorder.calls) == calls

    @pytest.mark.parametrize(
        ("callbacks", "says"),
        [
            ([print, 3], r"callbacks\[1\]=3 must be a function"),
            ((None,), r"callbacks\[0\]=None must be"),
            (StageTimes, r"callbacks\[0\]=<class .*StageTimes.*> must .* object of it, StageTimes"),
        ],
    )
    def test_wrong_ones(self, callbacks, says):
        model = make(callbacks=callbacks)
        with pytest.raises(TypeError, match=says):
            model.fit(ROLL)
        assert not hasattr(model, "embedding_")
        with pytest.raises(TypeError, match=says):
            locally_linear_embedding(ROLL, n_neighbors=9, n_components=2, callbacks=callbacks)

    @pytest.mark.parametrize("callbacks", [3, "print", {"a": print}])
    def test_wrong_kinds(self, callbacks):
        with pytest.raises(ValueError, match="'callbacks' parameter"):
            make(callbacks=callbacks).fit(ROLL)


class TestStopping:
    """However it ends, the estimator is as it was, and the error is the one that was raised."""

    def state(self, model):
        return {name: id(value) for name, value in vars(model).items()}

    @pytest.mark.parametrize("error", [ValueError, MemoryError, RuntimeError, StopIteration])
    @pytest.mark.parametrize(
        ("kind", "where"),
        [
            ("start", "neighbors"),
            ("advance", "neighbors"),
            ("finish", "graph"),
            ("advance", "constraints"),
            ("note", "factor"),
            # Where an error of the computation makes the other solver take over:
            ("advance", "lanczos"),
            ("finish", "lanczos"),
            ("start", "certificate"),
        ],
    )
    def test_fit(self, error, kind, where):
        raised = error("stop here")
        told = []

        def stop(event):
            told.append(event)
            if (event.kind, event.stage) == (kind, where):
                raise raised

        model = make().fit(ROLL)
        model.set_params(callbacks=[stop])
        before = self.state(model)
        with pytest.raises(error, match="stop here") as caught:
            model.fit(ROLL[:300])
        assert caught.value is raised
        assert caught.traceback[-1].name == "stop"
        assert (told[-1].kind, told[-1].stage) == (kind, where)  # and never again
        assert self.state(model) == before
        model.set_params(callbacks=None)
        np.testing.assert_array_equal(model.transform(ROLL), model.embedding_)

    @pytest.mark.parametrize("call", ["transform", "inverse_transform"])
    @pytest.mark.parametrize("where", ["neighbors", "weights", "means"])
    def test_transform(self, call, where):
        def stop(event):
            if event.stage == where:
                raise TimeoutError

        model = make().fit(ROLL)
        model.set_params(callbacks=stop)
        before = self.state(model)
        with pytest.raises(TimeoutError):
            getattr(model, call)(ROLL if call == "transform" else model.embedding_)
        assert self.state(model) == before

    @pytest.mark.parametrize(
        "where",
        ["neighbors", "graph", "constraints", "assembly", "choice", "factor", "lanczos",
         "certificate"],
    )  # fmt: skip
    def test_control_c_in_every_stage(self, where):
        def interrupt(event):
            if event.stage == where:
                signal.raise_signal(signal.SIGINT)

        model = make(method="ltsa").fit(ROLL)
        model.set_params(callbacks=interrupt)
        before = self.state(model)
        with pytest.raises(KeyboardInterrupt):
            model.fit(ROLL[:300])
        assert self.state(model) == before

    def test_control_c_while_others_are_placed(self):
        def interrupt(event):
            if event.stage == "weights":
                signal.raise_signal(signal.SIGINT)

        X = np.concatenate([two_clusters(100), ROLL[:50]])
        for model, call in (
            (make(disconnected="largest", callbacks=interrupt), "fit"),
            (make(callbacks=None).fit(ROLL).set_params(callbacks=interrupt), "transform"),
        ):
            before = self.state(model)
            with pytest.raises(KeyboardInterrupt):
                getattr(model, call)(X)
            assert self.state(model) == before

    @pytest.mark.parametrize("stage", ["neighbors", "factor", "lanczos", "certificate"])
    def test_control_c_and_a_generator(self, stage):
        """What a fit that did not end has drawn from it is put back."""

        def interrupt(event):
            if event.stage == stage and event.kind == "finish":
                signal.raise_signal(signal.SIGINT)

        generator = np.random.RandomState(0)
        generator.normal()  # the second of a pair waits in its state
        expected = copy.deepcopy(generator)
        model = make(random_state=generator, callbacks=interrupt, eigen_solver="shift-invert")
        with pytest.raises(KeyboardInterrupt):
            model.fit(ROLL)
        assert model.random_state is generator
        np.testing.assert_array_equal(generator.normal(size=9), expected.normal(size=9))
        before = generator.get_state()[2]
        model.set_params(callbacks=None).fit(ROLL)
        assert generator.get_state()[2] != before  # one that ends draws from it, as ever

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX")
    @pytest.mark.parametrize(("n", "d"), [(20_000, 3), (3000, 20)])
    def test_control_c_while_threads_search(self, tmp_path, n, d):
        """The process lives on: no thread is left that writes to memory given back."""
        (tmp_path / "script.py").write_text(
            "import random, signal\n"
            "import numpy as np\n"
            "from lle_gpu.neighbors.cpu import NeighborSearch\n"
            f"X = np.random.default_rng(0).normal(size=({n}, {d}))\n"
            "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
            "interrupted = 0\n"
            "for _ in range(60):\n"
            "    try:\n"
            "        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.01, 0.06))\n"
            "        NeighborSearch(X, 12, n_jobs=4).kneighbors()\n"
            "        signal.setitimer(signal.ITIMER_REAL, 0)\n"
            "    except KeyboardInterrupt:\n"
            "        interrupted += 1\n"
            "print(interrupted > 0)\n"
        )
        done = subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100
        )
        assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr

    @pytest.mark.parametrize("kind", ["start", "advance", "finish"])
    def test_the_others_hear_of_the_end(self, kind):
        def stop(event):
            if event.kind == kind:
                raise ValueError("stop")

        before, after = Recorder(), Recorder()
        with pytest.raises(ValueError, match="stop"):
            make(callbacks=[before, stop, after]).fit(ROLL)
        assert before.calls[-1] == after.calls[-1] == ("finish", "neighbors")

    def test_causes_are_kept(self):
        def stop(event):
            try:
                {}["missing"]
            except KeyError as error:
                raise ValueError("stop") from error

        with pytest.raises(ValueError, match="stop") as caught:
            make(callbacks=stop).fit(ROLL)
        assert isinstance(caught.value.__cause__, KeyError)

    def test_a_time_limit(self):
        """The docs' example."""

        class TimeLimit(Progress):
            def __init__(self, seconds):
                self.seconds = seconds

            def start(self, name, total):
                if name == "neighbors":
                    self.end = time.monotonic() + self.seconds

            def advance(self, steps):
                if time.monotonic() > self.end:
                    raise TimeoutError(f"more than {self.seconds} s")

        make(callbacks=TimeLimit(1000)).fit(ROLL)
        with pytest.raises(TimeoutError, match="more than 0 s"):
            make(callbacks=TimeLimit(0)).fit(ROLL)


class TestCopies:
    def test_clone_get_params_and_deepcopy(self):
        times = StageTimes()
        model = make(callbacks=[times, print])
        for again in (clone(model), copy.deepcopy(model), clone(clone(model))):
            assert again.get_params()["callbacks"][0] is times
            assert again.callbacks[1] is print
        assert clone(make(callbacks=times)).callbacks is times
        assert clone(make(callbacks=ProgressBar())).callbacks is not None  # it holds a stream

    def test_grid_search_tells_the_same_object(self):
        recorder = Recorder()
        pipeline = make_pipeline(make(callbacks=recorder), KNeighborsRegressor())
        search = GridSearchCV(pipeline, {"locallylinearembedding__n_neighbors": [9, 10]}, cv=2).fit(
            ROLL, ROLL[:, 1]
        )
        assert np.isfinite(search.best_score_)
        # Two numbers of neighbours in two folds, and the best one of all.
        assert recorder.names("start").count("constraints") == 5

    def test_what_joblib_sends_to_other_processes(self):
        """As GridSearchCV with n_jobs; cloudpickle takes functions, too."""
        try:
            import cloudpickle
        except ImportError:  # joblib before 1.6 brings its own
            from joblib.externals import cloudpickle

        told = []
        model = make(callbacks=[ProgressBar(io.StringIO()), lambda event: told.append(event)])
        again = pickle.loads(cloudpickle.dumps(model)).fit(ROLL)
        np.testing.assert_array_equal(again.embedding_, model.fit(ROLL).embedding_)

    def test_pickle(self, capsys):
        times = StageTimes()
        with Path(os.devnull).open("w") as stream:  # as standard error, it cannot be pickled
            bar = ProgressBar(stream)
            model = make(callbacks=[times, bar]).fit(ROLL)
            again = pickle.loads(pickle.dumps(model))
        for kept, original in zip(again.callbacks, (times, bar), strict=True):
            assert type(kept) is type(original)
            assert kept.seconds == original.seconds
        again.callbacks[1].note("goes to standard error")
        assert "goes to" in capsys.readouterr().err
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            pickle.dumps(model.set_params(callbacks=lambda event: None))


class Cell(io.StringIO):
    """The standard error of a notebook's kernel: no terminal, and its class is ipykernel's."""


Cell.__module__ = "ipykernel.iostream"


class Console(io.StringIO):
    def isatty(self):
        return True


class TestBar:
    def work(self, stream, n=10, delay=1000.0):
        with report_to(ProgressBar(stream, delay=delay)):
            with stage("first", 10 * n):
                for _ in range(n):
                    advance(10)
            with stage("second"):
                advance(7)
        return stream.getvalue()

    @pytest.fixture
    def without(self, monkeypatch):
        """Take packages away."""

        def take(*names):
            for name in names:
                monkeypatch.setitem(sys.modules, name, None)
                assert importlib.util.find_spec(name) is None

        return take

    @pytest.mark.parametrize("missing", ["tqdm", "ipywidgets"])
    def test_a_notebook_without_widgets(self, without, missing, monkeypatch):
        without(missing)
        clock = iter(np.arange(0, 1000, 0.001))
        monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
        text = self.work(Cell(), n=5000)
        # Five seconds by that clock: a line each, written over one another, and not 5000.
        assert 3 <= text.count("\r  first ... ") <= 8
        assert "%" in text.split("second")[0]
        assert "%|" not in text
        last = [line.rsplit("\r", 1)[-1].split() for line in text.split("\n")[:-1]]
        assert [words[0] for words in last] == ["first", "second"]

    def test_no_standard_error(self, monkeypatch):
        """As in a service, or behind ``2>&-``."""
        monkeypatch.setattr(sys, "stderr", None)
        assert make(verbose=True).fit(ROLL).spectrum_.converged

    def test_a_stream_that_can_write_and_nothing_else(self, monkeypatch):
        written = []
        monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=written.append))
        make(verbose=True).fit(ROLL)
        # A line at a time, so that those of several processes stay lines.
        assert all(text.endswith("\n") and text.count("\n") == 1 for text in written)
        assert [text.split()[0] for text in written][:2] == ["neighbors", "graph"]

    def test_a_terminal_without_tqdm(self, without, monkeypatch):
        without("tqdm")
        clock = iter(np.arange(0, 1000, 0.03))
        monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
        text = self.work(Console())
        assert "\r  first ... 40%" in text
        assert "%|" not in text

    def test_a_notebook_s_bar_is_a_widget(self, monkeypatch):
        pytest.importorskip("ipywidgets")
        shown = []
        import tqdm.notebook

        monkeypatch.setattr(tqdm.notebook, "display", shown.append)
        self.work(Cell(), delay=0.0)
        (container,) = shown
        assert container.pbar.total == 100
        assert container.comm is None  # gone when the stage is done

    def test_in_a_kernel(self):
        """What a notebook shows, with and without ipywidgets."""
        nbclient = pytest.importorskip("nbclient")
        nbformat = pytest.importorskip("nbformat")
        pytest.importorskip("ipykernel")
        pytest.importorskip("ipywidgets")
        with_widgets = """
import warnings
from sklearn.datasets import make_swiss_roll
from lle_gpu import LocallyLinearEmbedding
from lle_gpu.progress import ProgressBar
X, _ = make_swiss_roll(2000, random_state=0)
warnings.simplefilter("error")
lle = LocallyLinearEmbedding(n_neighbors=10, callbacks=ProgressBar(delay=0)).fit(X)
"""
        without = """
import sys
sys.modules["ipywidgets"] = None
lle.set_params(callbacks=ProgressBar(delay=0)).fit(X)
lle.set_params(callbacks=None, verbose=True).fit(X);
"""
        cells = [nbformat.v4.new_code_cell(code) for code in (with_widgets, without)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
        for cell, fits in zip(notebook.cells, (1, 2), strict=True):
            texts = [output.text for output in cell.outputs if output.output_type == "stream"]
            text = "".join(texts)
            for name in ("neighbors", "constraints", "lanczos", "certificate"):
                assert text.count(f"  {name}  ") == fits  # when it is done
            assert len(text) < 2000 * fits
            shown = [output.data for output in cell.outputs if output.output_type != "stream"]
            assert ("application/vnd.jupyter.widget-view+json" in str(shown)) == (fits == 1)
