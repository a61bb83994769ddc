"""Models that were fitted on a GPU, in files and pickles, on machines with and without one."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import zipfile

import joblib
import numpy as np
import pytest
from conftest import make_manifold

import lle_gpu
from lle_gpu import LocallyLinearEmbedding
from lle_gpu.backend import cpu_backend

ROLL = make_manifold("swiss-roll", 150)
NEW = ROLL[:15] + 0.01
# What a machine without CuPy does.
ELSEWHERE = """if True:
    import pathlib, pickle, sys
    sys.modules["cupy"] = None  # the import fails
    import joblib, numpy as np, lle_gpu
    top = pathlib.Path(sys.argv[1])
    new = np.load(top / "new.npy")
    for folder in (top / "cupy", top / "numpy"):
        for name, model in (
            ("file", lle_gpu.load(folder / "m.lle")),
            ("pickle", pickle.loads((folder / "m.pkl").read_bytes())),
            ("joblib", joblib.load(folder / "m.joblib")),
        ):
            assert model.device_ == "cpu", model.device_
            assert type(model.embedding_) is type(model.nbrs_.X) is np.ndarray
            model.save(folder / f"{name}.again.lle")
            Y = model.transform(new)
            np.savez(folder / f"{name}.npz", Y=Y, X=model.inverse_transform(Y))
"""


def fitted(gpu, *, kind, **parameters):
    """A model fitted on the GPU to CuPy's points, or to NumPy's."""
    X = gpu.cupy.asarray(ROLL) if kind == "cupy" else ROLL
    return LocallyLinearEmbedding(n_neighbors=10, device="gpu", **parameters).fit(X)


@pytest.mark.parametrize("kind", ["cupy", "numpy"])
def test_on_a_machine_with_a_gpu(gpu_once, kind, tmp_path):
    gpu = gpu_once
    model = fitted(gpu, kind=kind)
    assert isinstance(model.nbrs_.X, gpu.cupy.ndarray)
    new = gpu.cupy.asarray(NEW) if kind == "cupy" else NEW
    expected = model.transform(new)
    model.save(tmp_path / "m.lle")
    joblib.dump(model, tmp_path / "m.joblib")
    for again in (
        lle_gpu.load(tmp_path / "m.lle"),
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "m.joblib"),
        copy.deepcopy(model),
    ):
        assert again.device_ == "gpu"
        assert vars(again).keys() == vars(model).keys()
        assert isinstance(again.nbrs_.X, gpu.cupy.ndarray)
        assert type(again.embedding_) is type(model.embedding_)
        Y = again.transform(new)
        assert type(Y) is type(expected)
        host = [Y.get(), expected.get()] if kind == "cupy" else [Y, expected]
        np.testing.assert_array_equal(*host)
    # and the model itself is as it was
    assert isinstance(model.nbrs_.X, gpu.cupy.ndarray)


def test_on_a_machine_without(gpu_once, tmp_path):
    expected = {}
    for kind in ("cupy", "numpy"):
        folder = tmp_path / kind
        folder.mkdir()
        model = fitted(gpu_once, kind=kind)
        Y = model.transform(gpu_once.cupy.asarray(NEW) if kind == "cupy" else NEW)
        X = model.inverse_transform(Y)
        expected[kind] = {"Y": Y.get(), "X": X.get()} if kind == "cupy" else {"Y": Y, "X": X}
        model.save(folder / "m.lle")
        (folder / "m.pkl").write_bytes(pickle.dumps(model))
        joblib.dump(model, folder / "m.joblib")
        with zipfile.ZipFile(folder / "m.lle") as archive:
            assert b"cupy" not in archive.read("model.json").lower()
    np.save(tmp_path / "new.npy", NEW)
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], check=True)
    for kind, arrays in expected.items():
        for way in ("file", "pickle", "joblib"):
            with np.load(tmp_path / kind / f"{way}.npz") as there:
                for name, array in arrays.items():
                    np.testing.assert_allclose(there[name], array, rtol=1e-9, atol=1e-11)


def test_a_model_of_the_cpu_stays_there(stand_in, tmp_path):
    """The same bits are promised."""
    model = LocallyLinearEmbedding(n_neighbors=10, device="cpu").fit(ROLL)
    model.save(tmp_path / "m.lle")
    again = lle_gpu.load(tmp_path / "m.lle")
    assert again.device_ == "cpu"
    np.testing.assert_array_equal(again.transform(NEW), model.transform(NEW))


def test_cupy_points_on_the_cpu(stand_in, tmp_path):
    """The embedding is CuPy's, and the search NumPy's."""
    model = LocallyLinearEmbedding(n_neighbors=10, device="cpu").fit(stand_in.cupy.asarray(ROLL))
    assert isinstance(model.embedding_, stand_in.cupy.ndarray)
    model.save(tmp_path / "m.lle")
    for again in (lle_gpu.load(tmp_path / "m.lle"), pickle.loads(pickle.dumps(model))):
        assert isinstance(again.embedding_, stand_in.cupy.ndarray)
        assert isinstance(again.nbrs_.X, np.ndarray)
        assert again.device_ == "cpu"


def test_graphs_on_the_gpu_are_brought_to_the_host(stand_in, tmp_path):
    index = cpu_backend().neighbor_search(ROLL, 10).kneighbors(return_distance=False)
    given = stand_in.cupy.asarray(index)
    model = fitted(stand_in, kind="cupy", precomputed_knn=given)
    model.save(tmp_path / "m.lle")
    for again in (lle_gpu.load(tmp_path / "m.lle"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.precomputed_knn, index)
        assert isinstance(again.precomputed_knn, np.ndarray)
    assert model.precomputed_knn is given


def test_a_refit_copies_nothing_to_the_host(stand_in, monkeypatch):
    """fit() works on a copy of the estimator, which is not that of pickles."""
    model = fitted(stand_in, kind="cupy")
    called = []
    monkeypatch.setattr(
        LocallyLinearEmbedding, "__getstate__", lambda self: called.append(1) or vars(self)
    )
    model.fit(model.nbrs_.X)
    copied = copy.copy(model)
    assert not called
    assert copied.nbrs_ is model.nbrs_
    assert copied.__dict__ is not model.__dict__


def test_too_little_memory_on_the_gpu_here(stand_in, tmp_path, monkeypatch):
    model = fitted(stand_in, kind="numpy")
    model.save(tmp_path / "m.lle")

    def full(*_, **__):
        raise MemoryError("out of memory")

    monkeypatch.setattr("lle_gpu.neighbors.gpu.NeighborSearch.__init__", full)
    with pytest.warns(lle_gpu.GpuFallbackWarning, match="the GPU's memory is too small"):
        again = lle_gpu.load(tmp_path / "m.lle")
    assert again.device_ == "cpu"
    np.testing.assert_allclose(again.transform(NEW), model.transform(NEW), rtol=1e-9, atol=1e-11)
