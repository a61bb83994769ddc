"""patch_sklearn: whose the names are, who keeps what, and that all of it can be taken back."""

from __future__ import annotations

import ast
import copy
import copyreg
import importlib
import inspect
import io
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import ModuleType

import joblib
import numpy as np
import pytest
import sklearn
from sklearn import manifold
from sklearn.base import clone
from sklearn.datasets import make_s_curve
from sklearn.manifold import _locally_linear as home
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

import lle_gpu
from lle_gpu import patch_sklearn, patching, unpatch_sklearn

NAMES = ("LocallyLinearEmbedding", "locally_linear_embedding")
ROOT = Path(__file__).parents[1]
FAKE_CUML = Path(__file__).parent / "fake_cuml"
# Other test modules of this process may have imported scikit-learn's before.
pytestmark = pytest.mark.filterwarnings("ignore:scikit-learn's LocallyLinearEmbedding:UserWarning")


class Theirs:
    """scikit-learn's own, held by no module, so that no warning is due to this one."""

    LocallyLinearEmbedding = home.LocallyLinearEmbedding
    locally_linear_embedding = staticmethod(home.locally_linear_embedding)


@pytest.fixture(autouse=True)
def _as_it_was():
    unpatch_sklearn()
    yield
    unpatch_sklearn()
    assert not mine()


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return make_s_curve(150, random_state=0)[0]


def mine():
    """Which of the names are ours, in sklearn.manifold."""
    return [name for name in NAMES if getattr(manifold, name) is getattr(lle_gpu, name)]


def everything():
    """What scikit-learn's modules have, by identity, and how pickle is told of classes."""
    of_modules = {
        (name, key): id(value)
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "sklearn"
        for key, value in vars(module).items()
    }
    return of_modules, dict(copyreg.dispatch_table)


class TestNames:
    def test_every_way_to_them(self):
        patch_sklearn()
        assert mine() == list(NAMES)
        for name in NAMES:
            assert getattr(home, name) is getattr(lle_gpu, name)
        scope: dict = {}
        exec("from sklearn.manifold import *", scope)
        assert scope["LocallyLinearEmbedding"] is lle_gpu.LocallyLinearEmbedding
        # The rest of their module is theirs.
        assert home.barycenter_kneighbors_graph.__module__ == home.__name__

    def test_all_is_taken_back(self):
        importlib.import_module("sklearn.utils.estimator_checks")  # has their class, too
        before = everything()
        for _ in range(3):
            patch_sklearn()
        assert everything() != before
        unpatch_sklearn()
        assert everything() == before
        unpatch_sklearn()
        assert everything() == before

    def test_modules_of_theirs_that_have_the_class(self, monkeypatch):
        name = "sklearn.utils._test_common.instance_generator"
        early = importlib.import_module(name)
        assert early.LocallyLinearEmbedding is Theirs.LocallyLinearEmbedding
        patch_sklearn()
        assert early.LocallyLinearEmbedding is lle_gpu.LocallyLinearEmbedding
        monkeypatch.delitem(sys.modules, name)
        late = importlib.import_module(name)  # gets ours, and must give it back
        assert late.LocallyLinearEmbedding is lle_gpu.LocallyLinearEmbedding
        monkeypatch.undo()
        sys.modules[name + "_late"] = late
        try:
            unpatch_sklearn()
        finally:
            del sys.modules[name + "_late"]
        for module in (early, late):
            assert module.LocallyLinearEmbedding is Theirs.LocallyLinearEmbedding

    def test_importing_the_package_imports_no_manifold(self):
        code = "import sys, lle_gpu, lle_gpu.accel; print('sklearn.manifold' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "False", done.stderr


class TestContext:
    def test_ends_with_the_block(self):
        with patch_sklearn() as patch:
            assert mine()
            assert "lle_gpu's" in repr(patch)
        assert not mine()
        assert "scikit-learn's own" in repr(patch)
        with patch:  # again
            assert mine()
        assert not mine()

    def test_ends_with_an_error(self):
        with pytest.raises(RuntimeError), patch_sklearn():
            raise RuntimeError
        assert not mine()

    def test_a_block_inside_another_or_after_a_call(self):
        with patch_sklearn():
            with patch_sklearn():
                pass
            assert mine()
        assert not mine()
        patch_sklearn()
        with patch_sklearn():
            pass
        assert mine()

    def test_unpatch_goes_before_all_blocks(self):
        with patch_sklearn():
            unpatch_sklearn()
            assert not mine()
            patch_sklearn()
        assert mine()  # the block that ended was from before

    @pytest.mark.parametrize("last", ["opened", "closed"])
    def test_blocks_that_overlap(self, last):
        first, second = patch_sklearn(), patch_sklearn()
        first.__enter__()
        second.__enter__()
        order = (first, second) if last == "opened" else (second, first)
        order[0].__exit__(None, None, None)
        assert mine()
        order[1].__exit__(None, None, None)
        assert not mine()

    def test_threads(self):
        before = everything()
        wrong = []

        def work():
            for _ in range(20):
                with patch_sklearn():
                    if len(mine()) != 2:
                        wrong.append(mine())

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            threads = [threading.Thread(target=work) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert not wrong
        assert everything() == before


class TestMessages:
    @pytest.fixture
    def early(self, monkeypatch):
        module = ModuleType("imported_early")
        module.alias = Theirs.LocallyLinearEmbedding
        monkeypatch.setitem(sys.modules, "imported_early", module)
        return module

    def test_who_has_theirs_is_named(self, early):
        with pytest.warns(UserWarning, match="before it was patched by .*imported_early") as seen:
            patch_sklearn()
        assert seen[0].filename == __file__
        assert early.alias is Theirs.LocallyLinearEmbedding
        unpatch_sklearn()
        early.alias = None
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            patch_sklearn()
        assert not any("imported_early" in str(w.message) for w in seen)

    def test_raised_as_an_error_it_changes_nothing(self, early):
        before = everything()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="imported_early"):
                patch_sklearn()
        assert everything() == before
        assert not patching.is_patched()

    def test_a_lazy_module_is_not_loaded(self, monkeypatch):
        class Lazy(ModuleType):
            def __getattribute__(self, name):
                raise AssertionError(f"loaded for {name}")

        monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
        patch_sklearn()
        assert mine()

    def test_somebody_else_s_patch_is_told(self, monkeypatch):
        class Other:
            pass

        monkeypatch.setattr(manifold, "LocallyLinearEmbedding", Other)
        with pytest.warns(UserWarning, match="LocallyLinearEmbedding of neither"):
            patch_sklearn()
        assert manifold.LocallyLinearEmbedding is Other
        assert home.LocallyLinearEmbedding is lle_gpu.LocallyLinearEmbedding
        unpatch_sklearn()
        assert manifold.LocallyLinearEmbedding is Other

    def test_verbose_says_once_what_differs(self, monkeypatch):
        monkeypatch.setattr(patching, "_said", False)
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        patch_sklearn()
        assert stream.getvalue() == ""
        patch_sklearn(verbose=True)
        patch_sklearn(verbose=True)
        assert stream.getvalue() == patching.explain() + "\n"

    def test_what_is_said_to_differ_can(self):
        """Names in the list exist, and no default is among them that is the same."""
        parameters = inspect.signature(lle_gpu.LocallyLinearEmbedding).parameters
        for subject, _ in patching.DIFFERENCES:
            name, _, value = subject.partition("=")
            if value:
                assert name in parameters, subject
        said = patching.explain()
        assert max(map(len, said.splitlines())) <= 100
        for own in ("device", "metric", "disconnected"):
            assert own in said and own in parameters

    def test_show_config_tells(self):
        (line,) = [s for s in lle_gpu.show_config().splitlines() if "sklearn's LLE" in s]
        assert "its own" in line
        patch_sklearn()
        (line,) = [s for s in lle_gpu.show_config().splitlines() if "sklearn's LLE" in s]
        assert "lle_gpu's" in line


class TestAsScikitLearnsUsersKnowIt:
    def test_repr_and_clone(self):
        theirs = Theirs.LocallyLinearEmbedding(n_neighbors=12, method="ltsa", reg=0.1)
        patch_sklearn()
        ours = manifold.LocallyLinearEmbedding(n_neighbors=12, method="ltsa", reg=0.1)
        assert repr(ours) == repr(theirs)
        assert isinstance(ours, manifold.LocallyLinearEmbedding)
        assert type(ours).__name__ == "LocallyLinearEmbedding"
        assert repr(clone(ours)) == repr(theirs)
        assert theirs.get_params().items() <= ours.get_params().items()
        ((name, _),) = make_pipeline(ours).steps
        assert name == "locallylinearembedding"

    @pytest.mark.parametrize("arguments", [(5,), (5, 2)])
    def test_arguments_by_position_are_an_error_as_in_theirs(self, arguments, X):
        patch_sklearn()
        for cls in (Theirs.LocallyLinearEmbedding, manifold.LocallyLinearEmbedding):
            with pytest.raises(TypeError, match="takes 1 positional argument"):
                cls(*arguments)
        for function in (Theirs.locally_linear_embedding, manifold.locally_linear_embedding):
            with pytest.raises(TypeError, match="positional argument"):
                function(X, *arguments)

    def test_function_and_class_give_their_space(self, X):
        """On a sound graph the bottom space is one, whoever computes it."""
        options = {"n_neighbors": 20, "n_components": 2, "eigen_solver": "dense"}
        theirs, their_error = Theirs.locally_linear_embedding(X, **options)
        patch_sklearn()
        Y, error = manifold.locally_linear_embedding(X, **options)
        fitted = manifold.LocallyLinearEmbedding(**options).fit(X)
        for ours in (Y, fitted.embedding_):
            cosines = np.linalg.svd(theirs.T @ ours, compute_uv=False)
            np.testing.assert_allclose(cosines, 1, atol=1e-9)
        np.testing.assert_allclose(error, their_error, rtol=1e-6)

    def test_fitted_neighbours_for_x(self, X):
        patch_sklearn()
        search = NearestNeighbors(n_neighbors=9).fit(X)
        options = {"n_neighbors": 9, "n_components": 2}
        Y, _ = manifold.locally_linear_embedding(search, **options)
        np.testing.assert_array_equal(Y, lle_gpu.locally_linear_embedding(X, **options)[0])

    def test_all_estimators(self):
        patch_sklearn()
        found = [cls for name, cls in all_estimators() if name == "LocallyLinearEmbedding"]
        assert found == [lle_gpu.LocallyLinearEmbedding]

    def test_set_config(self, X):
        pandas = pytest.importorskip("pandas")
        patch_sklearn()
        with sklearn.config_context(transform_output="pandas"):
            Y = manifold.LocallyLinearEmbedding(n_neighbors=9).fit_transform(X)
        assert isinstance(Y, pandas.DataFrame)
        assert list(Y.columns) == ["locallylinearembedding0", "locallylinearembedding1"]

    def test_a_subclass(self, X):
        patch_sklearn()

        class Sub(manifold.LocallyLinearEmbedding):
            pass

        assert clone(Sub(n_neighbors=9)).fit(X).spectrum_.converged


class TestPickles:
    @pytest.fixture
    def theirs(self, X):
        return Theirs.LocallyLinearEmbedding(n_neighbors=9, random_state=0).fit(X)

    def test_ours_are_read_where_nothing_is_patched(self, X, tmp_path):
        patch_sklearn()
        model = make_pipeline(StandardScaler(), manifold.LocallyLinearEmbedding(n_neighbors=9))
        model.fit(X)
        (tmp_path / "model.pickle").write_bytes(pickle.dumps((model, X[:7] + 0.01)))
        np.save(tmp_path / "wanted.npy", model.transform(X[:7] + 0.01))
        code = (
            "import pickle, sys, numpy as np\n"
            "model, X = pickle.load(open('model.pickle', 'rb'))\n"
            "assert np.array_equal(model.transform(X), np.load('wanted.npy'))\n"
            "from sklearn.manifold import LocallyLinearEmbedding\n"
            "print(type(model[-1]).__module__, LocallyLinearEmbedding.__module__)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.stdout.split() == ["lle_gpu.estimator", home.__name__], done.stderr

    def test_ours_sent_from_here_give_what_they_gave(self, X, tmp_path):
        """To joblib's workers, which nobody patches: arrays for data frames, as scikit-learn."""
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(X, columns=["x", "y", "z"])
        patch_sklearn()
        sent = pickle.dumps(manifold.LocallyLinearEmbedding(n_neighbors=9).set_output())
        unpatch_sklearn()
        read = pickle.loads(sent)
        again = clone(pickle.loads(pickle.dumps(clone(make_pipeline(read)))))[0]
        for model in (read, again):
            assert type(model.fit_transform(frame)) is np.ndarray
            assert type(model.transform(frame)) is np.ndarray
        read.save(tmp_path / "m.lle")
        for model in (lle_gpu.load(tmp_path / "m.lle"), clone(lle_gpu.LocallyLinearEmbedding())):
            assert type(model.fit(frame).transform(frame)) is pd.DataFrame

    @pytest.mark.parametrize("way", ["pickle", "joblib", "cloudpickle", "deepcopy"])
    def test_theirs_can_be_sent_while_patched(self, theirs, X, way):
        def through():
            if way == "deepcopy":
                return copy.deepcopy(theirs)
            if way == "joblib":
                joblib.dump(theirs, file := io.BytesIO())
                file.seek(0)
                return joblib.load(file)
            library = pickle if way == "pickle" else pytest.importorskip("cloudpickle")
            return pickle.loads(library.dumps(theirs))

        patch_sklearn()
        read = through()
        assert type(read) is Theirs.LocallyLinearEmbedding
        np.testing.assert_array_equal(read.transform(X), theirs.transform(X))

    def test_theirs_sent_while_patched_are_read_when_not(self, theirs, X):
        plain = pickle.dumps(theirs)
        patch_sklearn()
        sent = pickle.dumps(theirs)
        unpatch_sklearn()
        assert pickle.dumps(theirs) == plain
        read = pickle.loads(sent)
        assert type(read) is Theirs.LocallyLinearEmbedding
        np.testing.assert_array_equal(read.transform(X), theirs.transform(X))

    def test_a_fitted_model_of_theirs_read_while_patched_stays_theirs(self, theirs, X):
        stored = pickle.dumps(make_pipeline(StandardScaler(), theirs))
        wanted = theirs.transform(X)
        patch_sklearn()
        read = pickle.loads(stored)[-1]
        assert type(read) is Theirs.LocallyLinearEmbedding
        assert read.__dict__.keys() == theirs.__dict__.keys()
        np.testing.assert_array_equal(read.transform(X), wanted)

    def test_one_that_is_not_fitted_becomes_ours(self, X):
        pytest.importorskip("pandas")
        theirs = Theirs.LocallyLinearEmbedding(n_neighbors=9, method="ltsa")
        stored = pickle.dumps(theirs.set_output(transform="pandas"))
        patch_sklearn()
        read = pickle.loads(stored)
        assert type(read) is lle_gpu.LocallyLinearEmbedding
        assert repr(read) == repr(theirs)
        assert not hasattr(read, "_sklearn_version")
        assert read.fit_transform(X).shape == (150, 2)
        assert hasattr(read.fit_transform(X), "columns")


# Beside cuml.accel

SCENE = """
import os, sys
import numpy as np

def check():
    from cuml import accel
    assert accel.enabled()
    from sklearn.manifold import LocallyLinearEmbedding, locally_linear_embedding, TSNE
    from sklearn.neighbors import NearestNeighbors
    import sklearn.manifold, lle_gpu
    assert LocallyLinearEmbedding is lle_gpu.LocallyLinearEmbedding
    assert sklearn.manifold.locally_linear_embedding is lle_gpu.locally_linear_embedding
    assert accel.is_proxy(TSNE) and accel.is_proxy(NearestNeighbors)
    X = np.random.default_rng(0).normal(size=(300, 20)) + 100
    from lle_gpu.neighbors.cpu import NeighborSearch
    wanted = NeighborSearch(X, 9, algorithm="kd_tree")
    for options in ({}, {"neighbors_algorithm": "ball_tree"}, {"neighbors_algorithm": "brute"},
                    {"metric": "manhattan"}):
        model = LocallyLinearEmbedding(n_neighbors=9, **options).fit(X)
        assert model.spectrum_.converged
        if "metric" not in options:
            assert np.array_equal(model.nbrs_.kneighbors()[1], wanted.kneighbors()[1])
        model.transform(X[:5] + 0.1)
    search = NearestNeighbors(n_neighbors=9)
    assert not isinstance(search, sklearn.neighbors._unsupervised.NearestNeighbors)
    try:
        search.fit(X)
    except accel.CUDARuntimeError:
        print("no GPU")
    os.environ["FAKE_CUML_GPU"] = "1"
    Y, _ = locally_linear_embedding(search.fit(X), n_neighbors=9, n_components=2)
    assert Y.dtype == np.float32  # what the fake's GPU holds
    lle_gpu.unpatch_sklearn()
    assert sklearn.manifold.LocallyLinearEmbedding.__module__ == "sklearn.manifold._locally_linear"
    assert accel.is_proxy(sklearn.manifold.TSNE)
"""


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "cuml.accel", "-m", "lle_gpu.accel", "script.py", "-m", "x"),
        ("-m", "lle_gpu.accel", "-m", "cuml.accel", "script.py", "-m", "x"),
        ("script.py", "-m", "x"),
    ],
)
def test_beside_cuml_accel(words, tmp_path):
    by_hand = (
        "import sklearn.manifold, sklearn.neighbors, lle_gpu\n"
        "from cuml import accel\n"
        "accel.install()\n"
        "lle_gpu.patch_sklearn()\n"
    )
    begin = "" if "cuml.accel" in words else by_hand
    path = filter(None, (str(FAKE_CUML), os.environ.get("PYTHONPATH")))
    (tmp_path / "script.py").write_text(f"{begin}{SCENE}\ncheck()\nprint(sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["no GPU", "['-m', 'x']"]


# Where cuML 26.10's stands; the fake does in three of them.
STANDS = ("cluster", "covariance", "decomposition", "ensemble", "kernel_ridge", "linear_model")
STANDS += ("manifold", "neighbors", "preprocessing", "svm")


def test_nothing_is_imported_from_where_cuml_accel_stands():
    """There a float32 search would be put in the place of the one that proposes our neighbours."""
    stands = {f"sklearn.{name}" for name in STANDS}
    for path in sorted((ROOT / "lle_gpu").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert node.module not in stands, path
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("sklearn") for alias in node.names), path
