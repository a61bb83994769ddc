"""python -m lle_gpu.accel: what a program finds is what Python gives it, but for the estimator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

from lle_gpu import accel, patching

ACCEL = ("-m", "lle_gpu.accel")
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
# All that a program can ask about how it was started.
PROBE = """
import pickle, sys
class Thing:
    pass
print(sys.argv, repr(sys.path[0]), __name__, __spec__ and __spec__.name, __package__)
print(globals().get("__file__"), sys.modules["__main__"].__dict__ is globals(), __doc__)
print(type(pickle.loads(pickle.dumps(Thing()))) is Thing, Thing.__module__)
def annotated(x: undefined_name_if_evaluated = 0) -> None: ...
"""
EVALUATED = "NameError: name 'undefined_name_if_evaluated' is not defined"


def python(*words, cwd, **options):
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        **options,
    )


@pytest.fixture
def same(tmp_path):
    """Run with and without accel; standard output, error and exit code are the same."""

    def run(*words, flags=(), **options):
        plain = python(*flags, *words, cwd=tmp_path, **options)
        ours = python(*flags, *ACCEL, *words, cwd=tmp_path, **options)
        assert ours.stdout == plain.stdout
        assert ours.stderr == plain.stderr
        assert ours.returncode == plain.returncode
        return ours

    return run


class TestAsPython:
    def test_script_in_a_folder(self, same, tmp_path):
        """... with arguments like our own, a module beside it, and an error at the end."""
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "beside.py").write_text("print('beside')")
        (tmp_path / "deep" / "script.py").write_text(f"import beside\n{PROBE}")
        done = same("deep/script.py", "--explain", "-m", "x", "-v")
        assert "beside" in done.stdout
        # No future statement of ours is in force, and the error is told as Python tells it.
        assert done.stderr.splitlines()[-1] == EVALUATED
        assert "lle_gpu" not in done.stderr
        assert done.returncode == 1

    def test_link_and_safe_path(self, same, tmp_path):
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "script.py").write_bytes(
            "# -*- coding: latin-1 -*-\n'''ä'''\nimport sys\nprint(__doc__, sys.path[0])\n"
            "sys.exit('the end')".encode("latin-1")
        )
        (tmp_path / "link.py").symlink_to(tmp_path / "deep" / "script.py")
        done = same("link.py")
        assert done.stdout == f"ä {(tmp_path / 'deep').resolve()}\n"
        assert (done.stderr, done.returncode) == ("the end\n", 1)
        assert python("-P", *ACCEL, "link.py", cwd=tmp_path).stdout == (
            python("-P", "link.py", cwd=tmp_path).stdout
        )

    def test_module(self, same, tmp_path):
        """A package's __main__, whose errors have Python's own runpy above them."""
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "__init__.py").write_text("name = 'a name'")
        (tmp_path / "package" / "__main__.py").write_text(f"from . import name\n{PROBE}")
        done = same("-m", "package", "-c", "x")
        assert "runpy" in done.stderr and EVALUATED in done.stderr
        assert done.stdout.splitlines()[0].endswith(
            "'-c', 'x'] " + repr(str(tmp_path))[:-1] + "' __main__ package.__main__ package"
        )

    def test_code(self, same):
        done = same("-c", f"{PROBE.partition('def')[0]}sys.exit(3)", "-m", "x")
        assert done.returncode == 3
        assert done.stdout.startswith("['-c', '-m', 'x'] '' __main__ None None")

    def test_standard_input(self, same):
        done = same("-", "x", input=f"{PROBE.partition('def')[0]}sys.exit(7)")
        assert done.returncode == 7

    def test_zip_file(self, same, tmp_path):
        with zipfile.ZipFile(tmp_path / "program.zip", "w") as file:
            file.writestr("__main__.py", f"import beside\n{PROBE.partition('def')[0]}")
            file.writestr("beside.py", "print('beside')")
        assert "beside" in same("program.zip", "x").stdout

    def test_what_cannot_be_run(self, same, tmp_path):
        done = same("no/such.py")
        assert done.returncode == 2 and "No such file" in done.stderr
        (tmp_path / "wrong.py").write_text("a = 1\nb = = 2\n")
        assert "lle_gpu" not in same("wrong.py").stderr

    def test_hook_and_chain(self, same, tmp_path):
        """A program's own excepthook gets the program's frames alone; __cause__ is kept."""
        (tmp_path / "script.py").write_text(
            "import sys, traceback, threading\n"
            "def hook(kind, error, trace):\n"
            "    print([f.name for f in traceback.extract_tb(trace)], trace is error.__traceback__,"
            " repr(error.__cause__))\n"
            "sys.excepthook = hook\n"
            "def deep():\n"
            "    try:\n        1 / 0\n"
            "    except ZeroDivisionError as error:\n        raise ValueError from error\n"
            "def late():\n    threading.main_thread().join(); print(Late)\n"
            "threading.Thread(target=late).start()\n"
            "class Late: pass\n"
            "deep()\n"
        )
        done = same("script.py")
        assert done.stdout.startswith("['<module>', 'deep'] True ZeroDivisionError(")
        assert "__main__.Late" in done.stdout


def test_a_real_ctrl_c(tmp_path):
    """In the middle of a fit: a traceback, and death by the signal, as without us."""
    (tmp_path / "script.py").write_text(
        "import numpy as np, threading\n"
        "from sklearn.manifold import LocallyLinearEmbedding\n"
        "def metric(a, b):\n    return abs(a - b).sum()\n"
        "X = np.random.default_rng(0).normal(size=(20_000, 3))\n"
        "print('ready', flush=True)\n"
        "LocallyLinearEmbedding(metric=metric).fit(X)\n"
    )
    with subprocess.Popen(
        [sys.executable, *ACCEL, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGINT
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert 'script.py", line 7' in err.splitlines()[1] and "accel.py" not in err


SCRIPT = '''\
"""Written for scikit-learn: nothing in it knows lle_gpu."""
import sys
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import LocallyLinearEmbedding
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

X, y = load_digits(n_class=4, return_X_y=True, as_frame=True)
X, y = X.iloc[:240], y.iloc[:240]
pipeline = Pipeline(
    [
        ("scale", StandardScaler()),
        ("embed", LocallyLinearEmbedding(n_components=3, random_state=0)),
        ("classify", LogisticRegression(C=1e6, max_iter=1000)),
    ]
).set_output(transform="pandas")
search = GridSearchCV(
    pipeline, {"embed__n_neighbors": [5, 12, 30]}, cv=2, n_jobs=int(sys.argv[1]),
    error_score="raise",
)
search.fit(X, y)
best = search.best_estimator_
embedded = best[:-1].transform(X)
assert isinstance(embedded, pd.DataFrame) and embedded.index.equals(X.index)
assert list(embedded.columns) == [f"locallylinearembedding{i}" for i in range(3)]
assert list(best[0].feature_names_in_) == list(X.columns)
assert sorted(search.cv_results_["param_embed__n_neighbors"]) == [5, 12, 30]
assert search.best_score_ > 0.8, search.cv_results_
print(type(best["embed"]).__module__)
'''


def test_a_script_written_for_scikit_learn(tmp_path):
    """Unchanged, in a fresh process, and from it in processes that nobody patched."""
    pytest.importorskip("pandas")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python(*ACCEL, "script.py", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "lle_gpu.estimator\n"


class TestOptions:
    def test_explain(self, capsys):
        accel.main(["--explain"])
        assert capsys.readouterr().out == patching.explain() + "\n"
        assert not patching.is_patched()

    @pytest.mark.parametrize(
        ("words", "kind", "program"),
        [
            (["-mpytest", "-m", "slow"], "-m", ["pytest", "-m", "slow"]),
            (["-v", "-m", "pytest"], "-m", ["pytest"]),
            (["-v", "-cprint()", "-"], "-c", ["print()", "-"]),
            (
                ["x.py", "-v", "--explain", "-c", "1"],
                "script",
                ["x.py", "-v", "--explain", "-c", "1"],
            ),
            (["-", "x"], "-", ["-", "x"]),
            (["-v"], "-", [""]),
        ],
    )
    def test_where_the_program_begins(self, words, kind, program):
        options, found, rest = accel._parse(words)
        assert (found, rest) == (kind, program)
        assert options.verbose == (words[0] == "-v") and not options.explain

    @pytest.mark.parametrize("words", [["--unknown", "x.py"], ["-m"], ["-c"]])
    def test_wrong_ones(self, words, capsys):
        with pytest.raises(SystemExit) as end:
            accel.main(words)
        assert end.value.code == 2
        assert "usage: python -m lle_gpu.accel" in capsys.readouterr().err
        assert not patching.is_patched()

    def test_verbose_and_a_program_on_a_terminal(self, tmp_path):
        """Without a program, on a terminal: an interpreter; -v says what differs first."""
        pty = pytest.importorskip("pty")
        outside, inside = pty.openpty()
        os.write(outside, b"from sklearn.manifold import LocallyLinearEmbedding as L\n")
        os.write(outside, b"print(L.__module__)\n\x04")
        done = subprocess.run(
            [sys.executable, *ACCEL, "-v"],
            stdin=inside,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=100,
        )
        os.close(outside)
        os.close(inside)
        assert "lle_gpu.estimator" in done.stdout
        assert done.stderr.startswith(patching.explain())


NOTEBOOK = """\
from sklearn.manifold import LocallyLinearEmbedding
%load_ext lle_gpu.accel
print('whose', LocallyLinearEmbedding.__module__)
from sklearn.manifold import LocallyLinearEmbedding
print('whose', LocallyLinearEmbedding.__module__)
%load_ext lle_gpu.accel
%unload_ext lle_gpu.accel
from sklearn.manifold import LocallyLinearEmbedding
print('whose', LocallyLinearEmbedding.__module__)
"""


def test_in_ipython(tmp_path):
    """What is imported before keeps its meaning, and that is said; unloading takes it back."""
    pytest.importorskip("IPython")
    words = ("-m", "IPython", "--no-banner", "--HistoryManager.enabled=False", "-c", NOTEBOOK)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**ENVIRONMENT, "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    theirs, ours = "sklearn.manifold._locally_linear", "lle_gpu.estimator"
    said = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("whose")]
    assert said == [theirs, ours, theirs], done.stdout + done.stderr
    assert "was imported before it was patched by __main__" in done.stderr
