"""Models in files: what is kept, what is refused, and that a file can do no harm."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import METHODS, make_manifold, two_clusters
from scipy.sparse import csr_array, csr_matrix, random_array
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.neighbors import kneighbors_graph

import lle_gpu
from lle_gpu import LocallyLinearEmbedding, ModelFileError, PickleVersionWarning, persistence
from lle_gpu.neighbors.cpu import NeighborSearch

pytestmark = pytest.mark.filterwarnings("ignore:The directed:UserWarning")


def text_like():
    """Sparse counts, with common words enough for a connected graph."""
    rng = np.random.default_rng(0)
    weight = 1 / np.arange(1, 61)
    return csr_array(rng.poisson(8 * weight, size=(150, 60)).astype(float))


@pytest.fixture(scope="module")
def models():
    """Fitted models of every make, by name, with points to place."""
    roll = make_manifold("swiss-roll", 300)
    digits = make_manifold("digits", 300)
    frame = pd.DataFrame(roll, columns=["a", "b", "ü"])
    fit = {f"method-{m}": (roll, {"method": m}) for m in METHODS}
    fit |= {
        "float32": (digits.astype(np.float32), {"n_components": 3}),
        "fortran-order": (np.asfortranarray(digits), {}),
        "strided": (np.repeat(roll, 2, axis=1)[:, ::2], {}),
        "frame": (frame, {}),
        "numbered-frame": (pd.DataFrame(roll), {}),
        "largest": (np.concatenate([two_clusters(100), roll[:50]]), {"disconnected": "largest"}),
        "bridge": (two_clusters(100), {"disconnected": "bridge"}),
        "metric": (roll, {"metric": "manhattan", "neighbors_algorithm": "ball_tree"}),
        "sparse": (text_like(), {}),
        "other-parameters": (
            roll,
            {"reg": 1e-2, "tol": 1e-8, "random_state": 3, "n_jobs": 1, "memory_limit": "4GB"},
        ),
    }
    made = {}
    for name, (X, parameters) in fit.items():
        model = LocallyLinearEmbedding(**{"n_neighbors": 10} | parameters)
        new = X[:20] + 0.01 if name != "sparse" else X[:20] * 1.01
        made[name] = model.fit(X), new
    made["set_output"] = made["frame"][0].fit(frame), made["frame"][1]
    made["set_output"] = copy.deepcopy(made["frame"][0]).set_output(transform="pandas"), frame[:9]
    return made


@pytest.fixture
def model():
    return LocallyLinearEmbedding(n_neighbors=8).fit(make_manifold("swiss-roll", 60))


def same(a, b):
    """Whether two attributes are equal to the last bit, and of one type."""
    if isinstance(a, np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, csr_array | csr_matrix):
        parts = ("data", "indices", "indptr")
        # SciPy chooses the indices' type by their values.
        return type(a) is type(b) and all(
            np.array_equal(getattr(a, part), getattr(b, part)) for part in parts
        )
    if isinstance(a, tuple):
        return type(b) is tuple and all(map(same, a, b))
    if hasattr(a, "kneighbors"):
        names = ("X", "n_neighbors", "algorithm", "metric", "n_jobs", "random_state")
        return all(same(getattr(a, name), getattr(b, name)) for name in names)
    if hasattr(a, "residuals"):
        return all(same(value, getattr(b, name)) for name, value in vars(a).items())
    return type(a) is type(b) and a == b


class TestRoundTrip:
    def test_everything_comes_back(self, models, tmp_path):
        for name, (model, _) in models.items():
            model.save(tmp_path / "m.lle")
            for again in (
                lle_gpu.load(tmp_path / "m.lle"),
                LocallyLinearEmbedding.load(str(tmp_path / "m.lle")),
            ):
                assert type(again) is LocallyLinearEmbedding
                assert vars(again).keys() == vars(model).keys(), name
                for attribute, value in vars(model).items():
                    assert same(value, vars(again)[attribute]), (name, attribute)

    def test_same_bits_in_a_fresh_process(self, models, tmp_path):
        for name, (model, new) in models.items():
            model.save(tmp_path / f"{name}.lle")
            (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps((model, new)))
        code = """if True:
            import pickle, sys, pathlib, numpy as np, lle_gpu
            for path in pathlib.Path(sys.argv[1]).glob("*.lle"):
                model = lle_gpu.load(path)
                pickled, new = pickle.loads(path.with_suffix(".pkl").read_bytes())
                for kind, lle in (("file", model), ("pickle", pickled)):
                    Y = lle.transform(new)
                    np.save(path.with_suffix(f".{kind}.there.npy"), Y)
                    np.save(path.with_suffix(f".{kind}.back.npy"), lle.inverse_transform(Y))
        """
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        for name, (model, new) in models.items():
            Y = model.transform(new)
            X = model.inverse_transform(Y)
            for kind in ("file", "pickle"):
                there, back = (
                    np.load(tmp_path / f"{name}.{kind}.{way}.npy") for way in ("there", "back")
                )
                assert there.dtype == np.asarray(Y).dtype
                np.testing.assert_array_equal(there, np.asarray(Y), err_msg=name)
                np.testing.assert_array_equal(back, np.asarray(X), err_msg=name)

    def test_memory_layout(self, models, tmp_path):
        model, _ = models["fortran-order"]
        assert model.nbrs_.X.flags.f_contiguous
        model.save(tmp_path / "m.lle")
        assert lle_gpu.load(tmp_path / "m.lle").nbrs_.X.flags.f_contiguous

    def test_set_output_and_names(self, models, tmp_path):
        model, new = models["set_output"]
        model.save(tmp_path / "m.lle")
        again = lle_gpu.load(tmp_path / "m.lle")
        pd.testing.assert_frame_equal(again.transform(new), model.transform(new))
        with pytest.raises(ValueError, match="order"):
            again.transform(new[["b", "a", "ü"]])

    @pytest.mark.parametrize("algorithm", ["faiss", "pynndescent"])
    def test_installed_searches(self, algorithm, tmp_path):
        pytest.importorskip(algorithm)
        X = make_manifold("digits", 100)
        state = np.random.RandomState(5)
        search = NeighborSearch(X, 8, algorithm=algorithm, random_state=state)
        model = LocallyLinearEmbedding(n_neighbors=8).fit(X)
        model.nbrs_ = search  # pynndescent would compile for seconds first
        model.save(tmp_path / "m.lle")
        again = lle_gpu.load(tmp_path / "m.lle")
        assert same(model.nbrs_, again.nbrs_)
        if algorithm == "pynndescent":
            assert search.random_state == np.random.RandomState(5).randint(2**31 - 1)
        else:
            np.testing.assert_array_equal(again.transform(X + 0.1), model.transform(X + 0.1))

    def test_same_model_same_file(self, model, tmp_path):
        model.save(tmp_path / "a.lle")
        model.save(tmp_path / "b.lle")
        lle_gpu.load(tmp_path / "a.lle").save(tmp_path / "c.lle")
        a, b, c = ((tmp_path / f"{name}.lle").read_bytes() for name in "abc")
        assert a == b == c

    def test_numpy_can_read_the_arrays(self, model, tmp_path):
        """As anybody would, without this library."""
        model.save(tmp_path / "m.lle")
        with zipfile.ZipFile(tmp_path / "m.lle") as archive:
            assert archive.testzip() is None
            document = json.loads(archive.read("model.json"))
            for name, told in document["arrays"].items():
                text = archive.read(name)
                assert hashlib.sha256(text).hexdigest() == told["sha256"]
                array = np.load(io.BytesIO(text), allow_pickle=False)
                assert list(array.shape) == told["shape"]
            embedding = np.load(io.BytesIO(archive.read("arrays/embedding_.npy")))
        np.testing.assert_array_equal(embedding, model.embedding_)

    def test_memory_mapped_points(self, tmp_path):
        np.save(tmp_path / "X.npy", make_manifold("digits", 200))
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
        model = LocallyLinearEmbedding(n_neighbors=10).fit(X)
        model.save(tmp_path / "m.lle")
        again = lle_gpu.load(tmp_path / "m.lle")
        assert type(again.nbrs_.X) is np.ndarray
        np.testing.assert_array_equal(again.transform(X + 0.1), model.transform(X + 0.1))

    def test_refit_of_a_loaded_model(self, models, tmp_path):
        model, _ = models["other-parameters"]
        model.save(tmp_path / "m.lle")
        again = lle_gpu.load(tmp_path / "m.lle").fit(model.nbrs_.X)
        np.testing.assert_array_equal(again.embedding_, model.embedding_)


class TestParameters:
    @pytest.mark.parametrize(
        "value",
        [
            np.int64(3),
            7,
            np.random.RandomState(3),
        ],
        ids=["NumPy's int", "int", "RandomState"],
    )
    def test_random_state(self, model, value, tmp_path):
        if isinstance(value, np.random.RandomState):
            value.standard_normal()  # leaves one to come
        model.set_params(random_state=value).save(tmp_path / "m.lle")
        again = lle_gpu.load(tmp_path / "m.lle").random_state
        if not isinstance(value, np.random.RandomState):
            assert type(again) is int
            assert again == value
            return
        np.testing.assert_array_equal(again.standard_normal(9), value.standard_normal(9))
        np.testing.assert_array_equal(again.randint(1 << 30, size=1000),
                                      value.randint(1 << 30, size=1000))  # fmt: skip

    def test_not_finite_numbers(self, model, tmp_path):
        model.set_params(memory_limit=np.inf).save(tmp_path / "m.lle")
        assert lle_gpu.load(tmp_path / "m.lle").memory_limit == np.inf

    @pytest.mark.parametrize("form", ["pair", "indices", "csr", "matrix", "coo", "dense", "lists"])
    def test_graphs(self, form, tmp_path):
        X = make_manifold("swiss-roll", 80)
        graph = kneighbors_graph(X, 8, mode="distance")
        distance, index = NeighborSearch(X, 8).kneighbors()
        given = {
            "pair": (index.astype(np.int32), distance),
            "indices": index,
            "csr": csr_array(graph),
            "matrix": csr_matrix(graph),
            "coo": graph.tocoo(),
            "dense": np.linalg.norm(X[:, None] - X[None], axis=2),
            "lists": index.tolist(),
        }[form]
        model = LocallyLinearEmbedding(n_neighbors=8, precomputed_knn=given).fit(X)
        model.save(tmp_path / "m.lle")
        again = lle_gpu.load(tmp_path / "m.lle")
        expected = csr_matrix(given) if form == "coo" else given
        assert same(expected, again.precomputed_knn)
        np.testing.assert_array_equal(again.fit(X).embedding_, model.embedding_)

    @pytest.mark.parametrize(
        ("parameters", "says"),
        [
            ({"metric": lambda x, y: abs(x - y).max()}, "metric=<function .* holds none"),
            ({"precomputed_knn": np.array([["a"], ["b"]])}, "precomputed_knn=an array of <U1"),
            ({"precomputed_knn": pd.DataFrame({"a": [1.0]})}, "precomputed_knn=.*neither a number"),
            (
                {"random_state": np.random.RandomState(np.random.PCG64(3))},
                r"random_state=RandomState\(PCG64\)",
            ),
        ],
    )
    def test_what_cannot_be_kept(self, model, parameters, says, tmp_path):
        model.set_params(**parameters)
        with pytest.raises(ValueError, match=rf"(?s)save\(\) cannot keep {says}"):
            model.save(tmp_path / "m.lle")
        assert list(tmp_path.iterdir()) == []

    def test_invalid_parameters_are_not_saved(self, model, tmp_path):
        with pytest.raises(ValueError, match="'method' parameter"):
            model.set_params(method="umap").save(tmp_path / "m.lle")

    def test_callbacks_are_left_out(self, model, tmp_path):
        model.set_params(callbacks=[print]).save(tmp_path / "m.lle")
        assert lle_gpu.load(tmp_path / "m.lle").callbacks is None
        assert model.callbacks == [print]

    def test_requests_of_metadata_are_left_out(self, model, tmp_path):
        """They are for the pipeline around it, which is not in the file."""
        with sklearn.config_context(enable_metadata_routing=True):
            model.set_fit_request(knn_graph=True).save(tmp_path / "m.lle")
            assert lle_gpu.load(tmp_path / "m.lle").fit(model.nbrs_.X).spectrum_.converged
            assert model.get_metadata_routing().fit.requests == {"knn_graph": True}


class TestSaving:
    def test_unfitted(self, tmp_path):
        with pytest.raises(NotFittedError):
            LocallyLinearEmbedding().save(tmp_path / "m.lle")
        assert list(tmp_path.iterdir()) == []

    def test_subclass(self, model, tmp_path):
        class Mine(LocallyLinearEmbedding):
            pass

        mine = Mine(n_neighbors=8).fit(model.nbrs_.X)
        with pytest.raises(TypeError, match="subclass .*Mine.*Use pickle"):
            mine.save(tmp_path / "m.lle")

    def test_attributes_of_the_user_s(self, model, tmp_path):
        model.remark = "mine"
        with pytest.raises(ValueError, match=r"'remark' is neither"):
            model.save(tmp_path / "m.lle")

    @pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
    def test_failure_leaves_the_file_that_was_there(self, model, error, tmp_path, monkeypatch):
        path = tmp_path / "m.lle"
        model.save(path)
        before = path.read_bytes()
        written = []

        def fail(file, array, **options):
            written.append(array)
            if len(written) == 4:
                raise error
            return original(file, array, **options)

        original = np.lib.format.write_array
        monkeypatch.setattr(np.lib.format, "write_array", fail)
        with pytest.raises(type(error)):
            model.set_params(reg=0.5).save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_replaces_in_one_step(self, model, tmp_path, monkeypatch):
        path = tmp_path / "m.lle"
        path.write_text("before")
        seen = []
        original = Path.replace

        def spy(self, target):
            seen.append((Path(target), Path(target).read_text(), zipfile.is_zipfile(self)))
            return original(self, target)

        monkeypatch.setattr(Path, "replace", spy)
        model.save(path)
        assert seen == [(path, "before", True)]

    @pytest.mark.skipif(os.name == "nt", reason="POSIX")
    def test_permissions_and_links(self, model, tmp_path):
        path = tmp_path / "real.lle"
        link = tmp_path / "link.lle"
        link.symlink_to(path)
        before = os.umask(0o027)
        try:
            model.save(link)
        finally:
            os.umask(before)
        assert link.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    @pytest.mark.skipif(os.name == "nt", reason="POSIX")
    @pytest.mark.parametrize("mode", [0o600, 0o664])
    def test_a_file_that_is_there_keeps_its_permissions(self, model, mode, tmp_path, monkeypatch):
        path = tmp_path / "m.lle"
        path.touch()
        path.chmod(mode)
        seen, made = [], []
        original = np.lib.format.write_array
        change = Path.chmod

        def watch(self, mode):
            made.append(stat.S_IMODE(self.stat().st_mode))
            change(self, mode)

        monkeypatch.setattr(Path, "chmod", watch)

        def spy(file, array, **options):
            seen.extend(stat.S_IMODE(part.stat().st_mode) for part in tmp_path.glob("*.part"))
            return original(file, array, **options)

        monkeypatch.setattr(np.lib.format, "write_array", spy)
        before = os.umask(0o022)
        try:
            model.save(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert set(seen) == {mode}
        assert made == [0o600]  # nobody could open it before

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc")
    def test_errors_name_the_path_that_was_given(self, model, tmp_path, monkeypatch):
        with pytest.raises(OSError, match="cannot save to /proc/x.lle: .*Choose a place") as caught:
            model.save("/proc/x.lle")
        assert ".part" not in str(caught.value)

        def refuse(self, target):
            raise PermissionError(1, "Operation not permitted", str(self), None, str(target))

        monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(PermissionError, match="cannot save to .*m.lle: Operation") as caught:
            model.save(tmp_path / "m.lle")
        assert ".part" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_no_name(self, model, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for call in (model.save, lle_gpu.load):
            with pytest.raises(FileNotFoundError, match="path='' names no file: give"):
                call("")

    def test_the_name_of_a_folder(self, model, tmp_path):
        for call in (model.save, lle_gpu.load):
            with pytest.raises(IsADirectoryError, match="models/' names a folder: give"):
                call(f"{tmp_path}/models/")
        assert list(tmp_path.iterdir()) == []

    def test_a_name_as_long_as_can_be(self, model, tmp_path):
        path = tmp_path / f"{'m' * 251}.lle"
        model.save(path)
        assert list(tmp_path.iterdir()) == [path]
        assert lle_gpu.load(path).n_neighbors == 8

    def test_paths_in_bytes(self, model, tmp_path):
        path = os.fsencode(tmp_path / "ü.lle")
        model.save(path)
        for read in (lle_gpu.load, LocallyLinearEmbedding.load):
            assert same(read(path).embedding_, model.embedding_)
        (tmp_path / "x.lle").write_bytes(b"")
        with pytest.raises(ModelFileError, match="^[^b].*x.lle: this is no model"):
            lle_gpu.load(os.fsencode(tmp_path / "x.lle"))
        for empty, error in ((b"", FileNotFoundError), (b"a/", IsADirectoryError)):
            with pytest.raises(error):
                model.save(empty)

    def test_parameters_that_are_not_the_fit_s(self, model, tmp_path):
        with pytest.raises(ValueError, match="cannot keep .*n_neighbors=9.* of the fit are 8"):
            model.set_params(n_neighbors=9).save(tmp_path / "m.lle")
        model.set_params(n_neighbors=8, reg=10**400)
        with pytest.raises(ValueError, match="cannot keep .*reg is an integer beyond float64"):
            model.save(tmp_path / "m.lle")
        model.set_params(reg=1).feature_names_in_ = np.array(["a", "b", "a"], dtype=object)
        with pytest.raises(ValueError, match="cannot keep .*feature_names_in_ has 'a' 2 times"):
            model.save(tmp_path / "m.lle")
        assert list(tmp_path.iterdir()) == []

    def test_names_of_columns_that_json_cannot_hold(self, tmp_path):
        X = make_manifold("swiss-roll", 60)
        frame = pd.DataFrame(X, columns=pd.date_range("2026-01-01", periods=3))
        model = LocallyLinearEmbedding(n_neighbors=8).fit(frame)
        with pytest.warns(UserWarning, match="text or numbers.*Timestamp.*2026|.*will not compare"):
            model.save(tmp_path / "m.lle")
        with pytest.raises(ValueError, match="in the order"):
            model.transform(frame.iloc[:, ::-1])
        assert not hasattr(lle_gpu.load(tmp_path / "m.lle"), "_labels_in")

    def test_places_that_do_not_do(self, model, tmp_path):
        with pytest.raises(IsADirectoryError, match="cannot save to"):
            model.save(tmp_path)
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            model.save(tmp_path / "no" / "m.lle")


class TestPickle:
    @pytest.mark.parametrize("way", ["pickle", "joblib", "mmap", "deepcopy", "copy"])
    def test_ways(self, models, way, tmp_path):
        for name, (model, new) in models.items():
            if way == "pickle":
                again = pickle.loads(pickle.dumps(model))
            elif way in ("joblib", "mmap"):
                joblib.dump(model, tmp_path / "m.joblib")
                again = joblib.load(tmp_path / "m.joblib", mmap_mode="r" if way == "mmap" else None)
            else:
                again = getattr(copy, way)(model)
            assert vars(again).keys() == vars(model).keys()
            np.testing.assert_array_equal(
                np.asarray(again.transform(new)), np.asarray(model.transform(new)), err_msg=name
            )

    def test_other_versions(self, models, monkeypatch):
        """Their pickles are read, and not in silence; nothing of it stays in the model."""
        model = next(iter(models.values()))[0]
        by_another = []
        for module in (lle_gpu, sklearn):
            with monkeypatch.context() as patch:
                patch.setattr(module, "__version__", "0.0.7")
                by_another.append(pickle.dumps(model))
        with monkeypatch.context() as patch:  # as it was, when no version was written
            patch.setattr(
                LocallyLinearEmbedding,
                "__getstate__",
                lambda self: persistence.portable(vars(self)),
            )
            by_another.append(pickle.dumps(model))
        words = ("lle_gpu 0.0.7", "learn 0.0.7", "unknown")
        theirs = (sklearn.__version__, "0.0.7", "unknown")
        for text, says, original in zip(by_another, words, theirs, strict=True):
            with pytest.warns(InconsistentVersionWarning, match=f"{says}.*save") as caught:
                again = pickle.loads(text)
            assert len(caught) == 1
            assert caught[0].category is PickleVersionWarning
            assert caught[0].filename == __file__
            told = caught[0].message  # as of scikit-learn's own
            assert told.estimator_name == "LocallyLinearEmbedding"
            assert told.current_sklearn_version == sklearn.__version__
            assert told.original_sklearn_version == original
            again_told = pickle.loads(pickle.dumps(told))
            assert (str(again_told), vars(again_told)) == (str(told), vars(told))
            assert vars(again).keys() == vars(model).keys()

    def test_the_same_version(self, models):
        for model, _ in models.values():
            with warnings.catch_warnings():
                warnings.simplefilter("error", InconsistentVersionWarning)
                pickle.loads(pickle.dumps(copy.deepcopy(model)))

    def test_unfitted(self):
        again = pickle.loads(pickle.dumps(LocallyLinearEmbedding(reg=0.5)))
        assert again.reg == 0.5
        assert not hasattr(again, "embedding_")


# Files that are not what they should be


@pytest.fixture
def good(model, tmp_path):
    """A sound file."""
    path = tmp_path / "good.lle"
    model.save(path)
    return path


class Forge:
    """A file's members, to be changed and written again with right checksums."""

    def __init__(self, path):
        with zipfile.ZipFile(path) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}
        self.document = json.loads(self.members.pop("model.json"))

    def array(self, name, array, **options):
        """Put another array in the place of one."""
        file = io.BytesIO()
        np.lib.format.write_array(file, np.asarray(array), **options)
        self.raw(name, file.getvalue(), np.asarray(array))

    def raw(self, name, data, like=None):
        """Put other bytes in the place of an array's."""
        name = f"arrays/{name}.npy"
        self.members[name] = data
        told = self.document["arrays"].setdefault(name, {})
        told["sha256"] = hashlib.sha256(data).hexdigest()
        if like is not None:
            told |= {"dtype": like.dtype.str, "shape": list(like.shape)}

    def write(self, path, compression=zipfile.ZIP_STORED, document=None):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in self.members.items():
                archive.writestr(name, data)
            archive.writestr("model.json", document or json.dumps(self.document))
        return path


class Payload:
    """What a pickle would execute."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def refused(path, says):
    """The file must be refused so, and nothing be executed or left behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ModelFileError, match=says) as caught:
        lle_gpu.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert sorted(path.parent.iterdir()) == before
    assert not Path("executed").exists()


class TestDamage:
    def test_the_forge_forges(self, good, tmp_path):
        """Otherwise the tests below would prove nothing."""
        again = lle_gpu.load(Forge(good).write(tmp_path / "m.lle"))
        assert same(again.embedding_, lle_gpu.load(good).embedding_)

    def test_truncated(self, good, tmp_path):
        data = good.read_bytes()
        for size in {0, 1, 30, *range(100, len(data), 97), len(data) - 1}:
            path = tmp_path / "cut.lle"
            path.write_bytes(data[:size])
            refused(path, "no model that can be read|damaged")

    def test_flipped_bits(self, good, tmp_path, model):
        """Whatever bit: the file is refused, or the bit carries nothing."""
        data = bytearray(good.read_bytes())
        rng = np.random.default_rng(0)
        path = tmp_path / "flipped.lle"
        n_refused = 0
        places = rng.choice(8 * len(data), 400, replace=False)
        for place in places:
            data[place // 8] ^= 1 << place % 8
            path.write_bytes(data)
            data[place // 8] ^= 1 << place % 8
            try:
                again = lle_gpu.load(path)
            except ModelFileError:
                n_refused += 1
            else:  # dates, attributes of files
                for name, value in vars(model).items():
                    assert same(value, vars(again)[name])
        assert n_refused > 0.9 * len(places)

    def test_a_checksum_of_its_own(self, good, tmp_path):
        """Whoever mends zip's checksum."""
        forge = Forge(good)
        name = "arrays/embedding_.npy"
        forge.members[name] = forge.members[name][:-1] + b"\x01"
        refused(forge.write(tmp_path / "m.lle"), "checksum of 'arrays/embedding_.npy'")

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "not a zip"),
            (b"a,b,c\n1,2,3\n", "not a zip"),
            *((pickle.dumps(Payload(), protocol), "a pickle.*joblib") for protocol in range(2, 6)),
        ],
    )
    def test_other_files(self, data, says, tmp_path):
        path = tmp_path / "other"
        path.write_bytes(data)
        refused(path, says)

    @pytest.mark.parametrize("compress", [0, 3, "gzip", "bz2", "lzma", "xz"])
    def test_joblib_s_files(self, compress, tmp_path):
        joblib.dump(Payload(), tmp_path / "m.joblib", compress=compress)
        refused(tmp_path / "m.joblib", r"joblib\.load")

    def test_other_archives(self, tmp_path):
        np.savez(tmp_path / "other.npz", X=np.eye(3))
        refused(tmp_path / "other.npz", "no member 'model.json'")

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            lle_gpu.load(tmp_path / "m.lle")
        with pytest.raises(IsADirectoryError):
            lle_gpu.load(tmp_path)

    def test_newer_versions(self, good, tmp_path):
        forge = Forge(good)
        forge.document |= {"version": 2, "library": "7.0", "arrays": "elsewhere"}
        refused(
            forge.write(tmp_path / "m.lle"),
            rf"lle_gpu 7\.0 wrote.*version 2.*this is lle_gpu {lle_gpu.__version__}.*Update",
        )
        forge = Forge(good)
        forge.document["parameters"]["colour"] = "blue"
        refused(forge.write(tmp_path / "m.lle"), "parameters 'colour'.*newer.*Update")

    def test_older_versions(self, good, tmp_path):
        """A parameter that is newer than the file has its default."""
        forge = Forge(good)
        del forge.document["parameters"]["disconnected"]
        assert lle_gpu.load(forge.write(tmp_path / "m.lle")).disconnected == "warn"

    def test_another_machine_s_byte_order(self, good, tmp_path, model):
        forge = Forge(good)
        forge.array("embedding_", model.embedding_.astype(">f8"))
        again = lle_gpu.load(forge.write(tmp_path / "m.lle"))
        assert same(again.embedding_, model.embedding_)


class TestHostile:
    @pytest.fixture(autouse=True)
    def _somewhere(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    def test_bombs(self, good, tmp_path):
        refused(Forge(good).write(tmp_path / "a.lle", zipfile.ZIP_DEFLATED), "compressed")
        forge = Forge(good)
        forge.members["arrays/zeros.npy"] = bytes(1 << 24)
        path = forge.write(tmp_path / "b.lle", zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 1 << 17
        refused(path, "compressed")

    @pytest.mark.parametrize("size", [1 << 20, 1 << 31, (1 << 32) - 2])
    def test_declared_sizes(self, good, tmp_path, size):
        """A directory that claims more than there is, of the document and of an array."""
        for name in (b"model.json", b"arrays/embedding_.npy"):
            data = bytearray(good.read_bytes())
            entry = data.rindex(b"PK\x01\x02", 0, data.rindex(name))  # in the central directory
            data[entry + 20 : entry + 28] = 2 * size.to_bytes(4, "little")
            path = tmp_path / "m.lle"
            path.write_bytes(data)
            refused(path, "claim|overlap|damaged")

    def test_overlapping_members(self, good, tmp_path):
        """Many names for the same bytes."""
        forge = Forge(good)
        told = forge.document["arrays"]["arrays/nbrs_.X.npy"]
        for i in range(40):
            forge.document["arrays"][f"arrays/{i:03}.npy"] = told
        path = tmp_path / "m.lle"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in forge.members.items():
                archive.writestr(name, data)
            first = archive.getinfo("arrays/nbrs_.X.npy")
            for i in range(40):
                info = copy.copy(first)
                info.filename = f"arrays/{i:03}.npy"
                archive.filelist.append(info)
                archive.NameToInfo[info.filename] = info
            archive.writestr("model.json", json.dumps(forge.document))
        refused(path, "claim more bytes|read")

    @pytest.mark.parametrize(
        "name", ["../outside", "/tmp/outside", "C:\\outside", "arrays/../../outside", "extra.py"]
    )
    def test_extra_members(self, good, tmp_path, name):
        forge = Forge(good)
        forge.members[name] = b"import os"
        refused(forge.write(tmp_path / "m.lle"), "members are not those")

    def test_missing_and_doubled_members(self, good, tmp_path):
        forge = Forge(good)
        del forge.members["arrays/nbrs_.X.npy"]
        refused(forge.write(tmp_path / "a.lle"), "members are not those.*nbrs_.X")
        with (
            pytest.warns(UserWarning, match="Duplicate"),
            zipfile.ZipFile(good, "a") as archive,
        ):
            archive.writestr("arrays/nbrs_.X.npy", b"")
        refused(good, "members are not those")

    def test_listed_arrays_that_nothing_uses(self, good, tmp_path):
        forge = Forge(good)
        forge.array("more", np.eye(3))
        refused(forge.write(tmp_path / "m.lle"), "nothing uses the arrays 'arrays/more.npy'")
        forge = Forge(good)
        forge.document["fitted"]["embedding_"] = {"array": "arrays/nbrs_.X.npy"}
        refused(forge.write(tmp_path / "m.lle"), "no model that can be read")

    def test_pickles_as_arrays(self, good, tmp_path):
        objects = np.array([Payload()] * 60, dtype=object)
        forge = Forge(good)
        forge.array("embedding_", objects, allow_pickle=True)
        refused(forge.write(tmp_path / "a.lle"), r"said to hold '\|O'")
        forge.document["arrays"]["arrays/embedding_.npy"]["dtype"] = "<f8"
        refused(forge.write(tmp_path / "b.lle"), r"is \|O .* said to be <f8")
        forge = Forge(good)
        forge.raw("embedding_", pickle.dumps(Payload()))
        refused(forge.write(tmp_path / "c.lle"), "does not begin as NumPy's")
        refused(Forge(good).write(tmp_path / "d.lle", document=pickle.dumps(Payload())), "read")

    @pytest.mark.parametrize(
        ("told", "says"),
        [
            ({"dtype": "O"}, "arrays of numbers"),
            ({"dtype": "<U9"}, "arrays of numbers"),
            ({"dtype": [["a", "<f8"]]}, "arrays of numbers"),
            ({"dtype": "<f1"}, "read"),
            ({"dtype": "<f4"}, "said to be"),
            ({"shape": [60, 3]}, "said to be"),
            ({"shape": [-60, -2]}, "the shape"),
            ({"shape": [60.0, 2]}, "the shape"),
            ({"shape": None}, "read"),
            ({"sha256": 3}, "checksum"),
        ],
    )
    def test_wrong_descriptions(self, good, tmp_path, told, says):
        forge = Forge(good)
        forge.document["arrays"]["arrays/embedding_.npy"] |= told
        refused(forge.write(tmp_path / "m.lle"), says)

    @pytest.mark.parametrize("shape", [(2**40, 2), (2**62, 4), (10**30,), (0, 2**70), (3, 2)])
    def test_huge_shapes(self, good, tmp_path, shape):
        """Header and document agree; only the bytes are not there."""
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
        header = (text + " " * (-(len(text) + 11) % 64) + "\n").encode()
        npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(960)
        forge = Forge(good)
        forge.raw("embedding_", npy)
        forge.document["arrays"]["arrays/embedding_.npy"] |= {"dtype": "<f8", "shape": shape}
        refused(forge.write(tmp_path / "m.lle"), "does not take|no model")

    def test_sizes_that_everything_agrees_on(self, good, tmp_path):
        """Header, document and directory claim 2 GiB, which must not be asked for."""
        shape = (1 << 27, 2)
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
        header = (text + " " * (-(len(text) + 11) % 64) + "\n").encode()
        npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        forge = Forge(good)
        forge.raw("embedding_", npy)
        forge.document["arrays"]["arrays/embedding_.npy"] |= {"dtype": "<f8", "shape": shape}
        path = forge.write(tmp_path / "m.lle")
        data = bytearray(path.read_bytes())
        entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"arrays/embedding_.npy"))
        size = len(npy) + (1 << 31)
        data[entry + 20 : entry + 28] = 2 * size.to_bytes(4, "little")
        path.write_bytes(data)
        refused(path, "members claim more bytes")

    @pytest.mark.parametrize(
        "header",
        [
            "__import__('pathlib').Path('executed').touch()",
            "{'descr': '<f8', 'fortran_order': False}",
            "{'descr': '<f8', 'fortran_order': 2, 'shape': (60, 2), }",
            "(" * 500,
            " " * 20_000,
            "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1, " * 999 + "), }",
        ],
    )
    def test_odd_headers(self, good, tmp_path, header):
        text = header.encode() + b"\n"
        forge = Forge(good)
        forge.raw("embedding_", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
        refused(forge.write(tmp_path / "m.lle"), "does not begin as NumPy's")

    @pytest.mark.parametrize(
        ("document", "says"),
        [
            ("", "no model"),
            ("[]", "not of the format"),
            ("{}", "not of the format"),
            ("[" * 100_000, "no model"),
            ('{"format": NaN}', "no model"),
            ('{"format": "lle_gpu model", "format": "x"}', "has the key 'format' twice"),
            ('{"format": "lle_gpu model", "version": true}', "version is True"),
            ('{"format": "lle_gpu model", "version": 0}', "version is 0"),
            ('{"format": "lle_gpu model", "version": 1}', "holds a None"),
            (
                '{"format": "lle_gpu model", "version": 1, "class": "LocallyLinearEmbedding"}',
                "has no 'arrays'",
            ),
            ('{"format": "lle_gpu model", "version": ' + "9" * 5000 + "}", "no model"),
            ("\xff\xfe", "no model"),
        ],
    )
    def test_odd_documents(self, good, tmp_path, document, says):
        path = Forge(good).write(tmp_path / "m.lle", document=document.encode("latin-1") or b" ")
        refused(path, says)

    def test_large_documents_are_not_read(self, good, tmp_path, monkeypatch):
        monkeypatch.setattr(persistence, "LARGEST_DOCUMENT", 1000)
        refused(good, "'model.json' claims .* not read")
        model = LocallyLinearEmbedding(n_neighbors=8).fit(make_manifold("swiss-roll", 60))
        with pytest.raises(ValueError, match="take .* bytes as text"):
            model.save(tmp_path / "m.lle")

    @pytest.mark.parametrize(
        ("place", "value", "says"),
        [
            ("class", "Exploit", "holds a 'Exploit'"),
            ("parameters.metric", {"eval": "print(1)"}, "unknown kind 'eval'"),
            ("parameters.metric", {"Search": {}}, "no model"),
            ("parameters.metric", {"a": 1, "b": 2}, "no model"),
            ("parameters.method", "umap", "'method' parameter"),
            ("parameters.n_neighbors", "many", "'n_neighbors' parameter"),
            ("parameters.n_neighbors", {"float": "sin(1)"}, "unknown kind"),
            ("parameters.callbacks", None, "'callbacks'"),
            ("fitted.__class__", "x", "__class__ is nothing that a fit makes"),
            ("fitted.transform", "x", "transform is nothing that a fit makes"),
            ("fitted.n_features_in_", 4, "n_features_in_ does not fit"),
            ("fitted.n_features_in_", 3.0, "n_features_in_ does not fit"),
            ("parameters.reg", 10**400, "reg is an integer beyond float64"),
            ("parameters.n_neighbors", 9, "n_neighbors=9, and the neighbours of the fit are 8"),
            ("fitted.nbrs_.Search.n_neighbors", 9, "n_neighbors=8, and .* of the fit are 9"),
            ("fitted.reconstruction_error_", "x", "reconstruction_error_ does not fit"),
            ("fitted.reconstruction_error_", {"float": "nan"}, "reconstruction_error_ does not"),
            ("fitted.reconstruction_error_", {"float": "inf"}, "reconstruction_error_ does not"),
            ("fitted.reconstruction_error_", -1e-9, "reconstruction_error_ does not fit"),
            ("fitted.feature_names_in_", {"names": ["a", "b", "a"]}, "has 'a' 2 times"),
            ("fitted._labels_in", [0, 1], "_labels_in does not fit"),
            ("fitted._labels_in", {"tuple": [0, 1, 2]}, "_labels_in does not fit"),
            ("fitted._labels_in", [0, 1, [2]], "_labels_in does not fit"),
            ("fitted.feature_names_in_", {"names": ["a"]}, "feature_names_in_ does not fit"),
            ("fitted.feature_names_in_", {"names": [1, 2, 3]}, "unknown kind 'names'"),
            ("fitted.feature_names_in_", ["a", "b", "c"], "feature_names_in_ does not fit"),
            ("fitted.device_", "tpu", "device_ does not fit"),
            ("fitted.device_", "gpu", "device_ does not fit nbrs_"),
            ("fitted._sklearn_output_config", {"dict": {"transform": 3}}, "does not fit"),
            ("fitted._sklearn_output_config", {"dict": {"transform": "x"}}, "does not fit"),
            ("fitted._sklearn_output_config", {"dict": {"transform": None}}, "does not fit"),
            ("parameters.n_jobs", 0, "n_jobs=0 must be a positive number"),
            ("parameters.n_jobs", False, "'n_jobs' parameter .* must be None or an int"),
            ("fitted.nbrs_", None, "does not hold points"),
            ("fitted.nbrs_.Search.n_neighbors", 60, "nbrs_ does not fit"),
            ("fitted.nbrs_.Search.n_neighbors", True, "nbrs_ does not fit"),
            ("fitted.nbrs_.Search.algorithm", "magic", "nbrs_ does not fit"),
            ("fitted.nbrs_.Search.algorithm", ["kd_tree"], "no model|does not fit"),
            ("fitted.nbrs_.Search.metric", "precomputed", "metric='precomputed'"),
            ("fitted.nbrs_.Search.metric", "os.system", "metric='os.system'"),
            ("fitted.nbrs_.Search.n_jobs", "all", "nbrs_ does not fit"),
            ("fitted.nbrs_.Search.n_jobs", 0, "n_jobs=0|nbrs_ does not fit"),
            ("fitted.nbrs_.Search.more", 1, "no model"),
            ("fitted.spectrum_.Spectrum.solver", 1, "spectrum_ does not fit"),
            ("fitted.spectrum_.Spectrum.converged", 1, "spectrum_ does not fit"),
        ],
    )
    def test_wrong_values(self, good, tmp_path, place, value, says):
        forge = Forge(good)
        *path, last = place.split(".")
        part = forge.document
        for name in path:
            part = part[name]
        # Arrays that are put out of use would be what is found first.
        for name in [name for name in forge.document["arrays"] if place in f"fitted.{name[7:]}"]:
            del forge.members[name], forge.document["arrays"][name]
        part[last] = value
        refused(forge.write(tmp_path / "m.lle"), says)

    @pytest.mark.parametrize(
        ("name", "change", "says"),
        [
            ("embedding_", lambda Y: Y[:-1], "embedding_ does not fit"),
            ("embedding_", lambda Y: Y[:, 0], "does not hold points"),
            ("embedding_", lambda Y: Y.astype(np.int64), "does not hold points"),
            ("embedding_", lambda Y: Y.astype(np.float16), "does not hold points"),
            ("embedding_", lambda Y: Y * np.nan, "does not hold points"),
            ("embedding_", lambda Y: np.c_[Y, Y], "spectrum_ does not fit"),
            ("nbrs_.X", lambda X: X[:-1], "does not fit"),
            ("nbrs_.X", lambda X: X[:, :2], "n_features_in_ does not fit"),
            ("nbrs_.X", lambda X: X > 0, "does not hold points"),
            ("nbrs_.X", lambda X: X[None], "does not hold points"),
            ("nbrs_.X", lambda X: X * np.inf, "does not hold points"),
            ("embedded_rows_", lambda r: r[::-1], "embedded_rows_ does not fit"),
            ("embedded_rows_", lambda r: r + 1, "embedded_rows_ does not fit"),
            ("embedded_rows_", lambda r: r[:1], "embedded_rows_ does not fit"),
            ("embedded_rows_", lambda r: r[:2], "embedded_rows_ does not fit"),
            ("embedded_rows_", lambda r: r - 1, "embedded_rows_ does not fit"),
            ("embedded_rows_", lambda r: r.astype(float), "embedded_rows_ does not fit"),
            ("bridged_rows_", lambda r: np.array([[1]]), "bridged_rows_ does not fit"),
            ("spectrum_.values", lambda v: v[:1], "spectrum_ does not fit"),
            ("spectrum_.values", lambda v: v + np.inf, "spectrum_ does not fit"),
            ("spectrum_.values", lambda v: -v, "spectrum_ does not fit"),
            ("spectrum_.residuals", lambda v: v.astype(np.float32), "spectrum_ does not fit"),
        ],
    )
    def test_wrong_arrays(self, good, tmp_path, name, change, says):
        forge = Forge(good)
        array = np.load(io.BytesIO(forge.members[f"arrays/{name}.npy"]))
        with np.errstate(invalid="ignore"):
            forge.array(name, change(array))
        refused(forge.write(tmp_path / "m.lle"), says)

    @pytest.mark.parametrize(
        ("part", "change"),
        [
            ("indices", lambda i: i + 55),
            ("indices", lambda i: i - 55),
            ("indices", lambda i: i * 0),
            ("indices", lambda i: i.astype(float)),
            ("indptr", lambda p: p[::-1]),
            ("indptr", lambda p: p * 1000),
            ("indptr", lambda p: p[:-1]),
            ("data", lambda d: d[:-1]),
            ("data", lambda d: d.astype(np.int64)),
            ("data", lambda d: d * np.nan),
        ],
    )
    def test_wrong_sparse_arrays(self, tmp_path, part, change):
        path = tmp_path / "m.lle"
        LocallyLinearEmbedding(n_neighbors=10).fit(text_like()).save(path)
        forge = Forge(path)
        name = f"nbrs_.X.{part}"
        array = np.load(io.BytesIO(forge.members[f"arrays/{name}.npy"]))
        forge.array(name, change(array))
        refused(forge.write(tmp_path / "bad.lle"), "no model|does not hold points|no integers")

    @pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
    def test_widths_take_no_memory(self, tmp_path, metric):
        """No file has to fill them: 2^50 columns would be petabytes."""
        X = text_like()
        fitted = LocallyLinearEmbedding(n_neighbors=10, metric=metric).fit(X)
        fitted.save(tmp_path / "m.lle")
        forge = Forge(tmp_path / "m.lle")
        for part, name in ((forge.document["fitted"], "n_features_in_"), (self.csr(forge), 1)):
            part[name] = 2**50
        again = lle_gpu.load(forge.write(tmp_path / "wide.lle"))
        assert again.nbrs_.X.shape == (len(fitted.embedding_), 2**50)
        if metric == "euclidean":
            wide = csr_array((X.data, X.indices, X.indptr), shape=(X.shape[0], 2**50))
            np.testing.assert_array_equal(again.transform(wide[:9]), fitted.embedding_[:9])

    @pytest.mark.parametrize("width", [2**62, 2**63, 10**30, 60.0, True, None, -1, "60"])
    def test_wrong_widths(self, tmp_path, width):
        LocallyLinearEmbedding(n_neighbors=10).fit(text_like()).save(tmp_path / "m.lle")
        forge = Forge(tmp_path / "m.lle")
        forge.document["fitted"]["n_features_in_"] = self.csr(forge)[1] = width
        refused(forge.write(tmp_path / "wrong.lle"), "shape")

    def csr(self, forge):
        return forge.document["fitted"]["nbrs_"]["Search"]["X"]["csr"]["shape"]

    def test_wrong_graphs(self, model, tmp_path):
        """Of which nothing is used before the next fit."""
        path = tmp_path / "m.lle"
        graph = csr_array((np.ones(3), [0, 1, 2], [0, 1, 2, 3]), shape=(3, 3))
        model.set_params(precomputed_knn=graph).save(path)
        forge = Forge(path)
        forge.array("precomputed_knn.indices", np.array([0, 1, 3], dtype=np.int32))
        refused(forge.write(tmp_path / "bad.lle"), "no model")

    @pytest.mark.parametrize("pos", [-1, 625, 10**6, 1.5, None])
    def test_random_states_that_read_beyond_their_end(self, model, tmp_path, pos):
        path = tmp_path / "m.lle"
        model.set_params(random_state=np.random.RandomState(0)).save(path)
        forge = Forge(path)
        forge.document["parameters"]["random_state"]["RandomState"]["pos"] = pos
        refused(forge.write(tmp_path / "bad.lle"), "RandomState|no model")


def test_files_of_more_than_four_gigabytes(model, tmp_path, monkeypatch):
    """They have longer numbers in the directory; here the limit is lowered."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    model.save(tmp_path / "m.lle")
    monkeypatch.undo()
    with zipfile.ZipFile(tmp_path / "m.lle") as archive:
        assert archive.getinfo("arrays/nbrs_.X.npy").extract_version == zipfile.ZIP64_VERSION
    assert same(lle_gpu.load(tmp_path / "m.lle").nbrs_.X, model.nbrs_.X)


def test_large_arrays_go_through_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "CHUNK_BYTES", 100)
    X = random_array((300, 40), density=0.3, rng=0).toarray()
    model = LocallyLinearEmbedding(n_neighbors=10).fit(np.asfortranarray(X))
    model.save(tmp_path / "m.lle")
    assert same(lle_gpu.load(tmp_path / "m.lle").nbrs_.X, model.nbrs_.X)
