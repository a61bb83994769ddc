"""What is in a GPU's memory comes back as it came: CuPy, and fakes of CUDA tensors and cuDF."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import METHODS, make_manifold
from numpy.testing import assert_array_equal

from lle_gpu import LocallyLinearEmbedding, locally_linear_embedding, metrics

from . import fake_cudf, fake_torch

NAMES = ["locallylinearembedding0", "locallylinearembedding1"]
LABELS = pd.Index([f"p{i}" for i in range(60)])
KINDS = ["cupy", "interface", "dlpack", "torch", "cudf"]


class Interface:
    """Something of another library, with CUDA's array interface."""

    def __init__(self, array):
        self._array = array
        self.shape = array.shape
        self.__cuda_array_interface__ = array.__cuda_array_interface__

    def __len__(self):
        return len(self._array)


class Dlpack:
    """Something of another library, with DLPack on a GPU; its ``__array__`` must not be asked."""

    def __init__(self, array):
        self._array = array
        self.shape = array.shape
        self.__dlpack_device__ = array.__dlpack_device__
        self.__dlpack__ = array.__dlpack__

    def __len__(self):
        return len(self._array)

    def __array__(self, *_, **__):
        raise AssertionError("copied to the host")


class World:
    """Makes data of each kind on the device, and takes results apart."""

    def __init__(self, monkeypatch, stand_in):
        self.cupy = stand_in.cupy
        self.torch = fake_torch.install(monkeypatch, self.cupy)
        self.cudf = fake_cudf.install(monkeypatch, self.cupy)

    def make(self, kind, X, names="abc", labels=None):
        array = self.cupy.asarray(X)
        if kind == "cudf":
            index = self.cudf.Index(LABELS[: len(X)] if labels is None else labels)
            return self.cudf.DataFrame(array, index=index, columns=list(names))
        return {
            "cupy": lambda: array,
            "interface": lambda: Interface(array),
            "dlpack": lambda: Dlpack(array),
            "torch": lambda: self.torch.cuda_tensor(array),
        }[kind]()

    def numbers(self, kind, Y, names=NAMES, labels=LABELS):
        """Of a result, which must be of the kind that ``kind`` comes back as."""
        if kind == "cudf":
            assert isinstance(Y, self.cudf.DataFrame)
            assert list(Y.columns) == list(names)
            assert list(Y.to_pandas().index) == list(labels[: len(Y)])
            return Y.to_pandas().to_numpy()
        if kind == "torch":
            assert isinstance(Y, self.torch.Tensor)
            Y = Y._array
        assert isinstance(Y, self.cupy.ndarray)
        return Y.get()


@pytest.fixture
def world(monkeypatch, stand_in):
    return World(monkeypatch, stand_in)


@pytest.mark.parametrize(
    ("method", "dtype"), [*((m, np.float64) for m in METHODS), ("standard", np.float32)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_same_kind_dtype_index_and_numbers(world, kind, method, dtype):
    X = make_manifold("swiss-roll", 60).astype(dtype)
    expected = LocallyLinearEmbedding(n_neighbors=10, method=method, device="gpu").fit(X)
    given = world.make(kind, X)
    model = LocallyLinearEmbedding(n_neighbors=10, method=method)
    results = {
        "fit_transform": (model.fit_transform(given), expected.embedding_),
        "transform": (model.transform(world.make(kind, X[:7])), expected.transform(X[:7])),
        "function": (
            locally_linear_embedding(given, n_neighbors=10, n_components=2, method=method)[0],
            expected.embedding_,
        ),
    }
    for name, (result, numbers) in results.items():
        found = world.numbers(kind, result)
        assert found.dtype == dtype, name
        assert_array_equal(found, numbers, err_msg=name)
    assert model.device_ == "gpu"
    assert isinstance(model.embedding_, world.cupy.ndarray)
    back = model.inverse_transform(results["fit_transform"][0])
    names = "abc" if kind == "cudf" else ["x0", "x1", "x2"]
    found = world.numbers(kind, back, names)
    assert found.dtype == dtype
    assert_array_equal(found, expected.inverse_transform(expected.embedding_))


@pytest.mark.parametrize("kind", ["cupy", "interface", "dlpack", "torch"])
def test_nothing_is_copied(world, stand_in, kind):
    array = stand_in.cupy.asarray(np.ascontiguousarray(make_manifold("swiss-roll", 60)))
    given = {"cupy": array, "interface": Interface(array), "dlpack": Dlpack(array)}.get(kind)
    given = world.torch.cuda_tensor(array) if given is None else given
    before = stand_in.machine.bytes_to_device
    model = LocallyLinearEmbedding(n_neighbors=10).fit(given)
    assert np.shares_memory(model.nbrs_.X._array, array._array)
    assert stand_in.machine.bytes_to_device - before < array.nbytes + 60 * 10 * 16


@pytest.mark.parametrize("kind", ["torch", "cupy"])
def test_the_result_is_on_the_inputs_device(world, stand_in, kind):
    cp = stand_in.cupy
    X = make_manifold("swiss-roll", 60)
    with cp.cuda.Device(1):
        given = world.make(kind, X)
    model = LocallyLinearEmbedding(n_neighbors=10, device="cpu")
    for result in (model.fit_transform(given), model.transform(given)):
        array = result._array if kind == "torch" else result
        assert array.device.id == 1
        assert_array_equal(array.get(), model.embedding_.get())
    assert cp.cuda.Device().id == 0


def test_tensors_do_not_share_the_models_memory(world):
    X = world.make("torch", make_manifold("swiss-roll", 60))
    model = LocallyLinearEmbedding(n_neighbors=10)
    Y = model.fit_transform(X)
    before = model.embedding_.get()
    Y._array[0] = 5.0
    assert_array_equal(model.embedding_.get(), before)


@pytest.mark.parametrize(
    ("dtype", "options", "error", "says"),
    [
        (np.float64, {"requires_grad": True}, ValueError, r"requires grad.*X.detach\(\)"),
        (np.float64, {"layout": "torch.sparse_coo"}, TypeError, r"sparse_coo.*to_dense\(\)"),
        (np.complex64, {}, ValueError, "Complex data not supported.*torch.complex64"),
    ],
)
def test_tensors_that_cannot_be(world, dtype, options, error, says):
    X = world.torch.cuda_tensor(world.cupy.asarray(np.ones((20, 3), dtype)), **options)
    with pytest.raises(error, match=says):
        LocallyLinearEmbedding().fit(X)


def test_half_precision_becomes_single(world):
    X = make_manifold("swiss-roll", 60).astype(np.float16)
    for dtype in ("torch.float16", "torch.bfloat16"):
        given = world.torch.cuda_tensor(world.cupy.asarray(X), dtype=dtype)
        assert LocallyLinearEmbedding(n_neighbors=10).fit_transform(given).dtype == "torch.float32"


def test_booleans(world):
    X = np.random.default_rng(0).random((60, 12)) < 0.5
    given = world.torch.cuda_tensor(world.cupy.asarray(X))
    Y = LocallyLinearEmbedding(n_neighbors=10).fit_transform(given)
    right = LocallyLinearEmbedding(n_neighbors=10, device="gpu").fit_transform(X)
    assert_array_equal(Y._array.get(), right)


def test_integers_that_float64_rounds(world):
    X = np.arange(60).reshape(20, 3) + 2**60
    for kind in ("cupy", "torch", "cudf"):
        with pytest.raises(ValueError, match=r"integers from 1152921504606846976.*2\*\*53"):
            LocallyLinearEmbedding().fit(world.make(kind, X))


class TestCudfColumns:
    def frame(self, world, **columns):
        frame = pd.DataFrame({"a": np.arange(30.0), "b": np.arange(30) % 7, **columns})
        return world.cudf.DataFrame(frame)

    def test_integers_are_converted(self, world):
        frame = self.frame(world, c=np.random.default_rng(0).normal(size=30).astype(np.float32))
        Y = LocallyLinearEmbedding().fit_transform(frame)
        assert set(Y.dtypes) == {np.dtype(float)}

    def test_names_are_remembered_and_checked(self, world):
        frame = self.frame(world, c=np.random.default_rng(0).normal(size=30))
        model = LocallyLinearEmbedding().fit(frame)
        assert list(model.feature_names_in_) == ["a", "b", "c"]
        with pytest.raises(ValueError, match="Feature names must be in the same order"):
            model.transform(world.cudf.DataFrame(frame.to_pandas()[["b", "a", "c"]]))
        with pytest.raises(ValueError, match="unseen at fit time"):
            model.transform(world.cudf.DataFrame(frame.to_pandas().rename(columns={"c": "z"})))
        with pytest.raises(ValueError, match=r"must be in the order of get_feature_names_out\(\)"):
            model.inverse_transform(
                world.cudf.DataFrame(model.transform(frame)._frame[NAMES[::-1]])
            )

    def test_columns_that_are_no_numbers(self, world):
        for values, dtype in (
            (["x", "y", "z"] * 10, "str|object"),
            (pd.Categorical(["x", "y", "z"] * 10), "category"),
            (pd.date_range("2026-01-01", periods=30), "datetime64"),
        ):
            with pytest.raises(ValueError, match=rf"not real numbers: 'c' \(({dtype})"):
                LocallyLinearEmbedding().fit(self.frame(world, c=values))

    def test_missing_values(self, world):
        values = pd.array([1, None, 3] * 10, dtype="Int64")
        with pytest.raises(ValueError, match=r"missing values are 'c' \(10\).*fillna"):
            LocallyLinearEmbedding().fit(self.frame(world, c=values))


class TestOutputType:
    """From every kind to every kind, and what goes before what."""

    @pytest.mark.parametrize("source", [*KINDS, "numpy"])
    @pytest.mark.parametrize("output", ["numpy", "cupy", "cudf", "pandas"])
    def test_every_kind_to_every_kind(self, world, source, output):
        X = make_manifold("swiss-roll", 60)
        given = X if source == "numpy" else world.make(source, X)
        model = LocallyLinearEmbedding(n_neighbors=8, output_type=output)
        # On the CPU, where it is quick: what goes in and comes out is the same.
        model.set_params(device="cpu")
        for Y in (model.fit_transform(given), model.transform(given)):
            labels = LABELS if source == "cudf" else pd.RangeIndex(60)
            if output == "numpy":
                assert type(Y) is np.ndarray
                found = Y
            elif output == "pandas":
                assert type(Y) is pd.DataFrame
                assert list(Y.columns) == NAMES
                assert list(Y.index) == list(labels[:60])
                found = Y.to_numpy()
            else:
                found = world.numbers(output, Y, labels=labels)
            embedding = model.embedding_
            embedding = embedding if isinstance(embedding, np.ndarray) else embedding.get()
            assert_array_equal(found, embedding)

    def test_set_output_takes_device_arrays_to_the_host(self, world):
        for kind in KINDS:
            given = world.make(kind, make_manifold("swiss-roll", 60))
            model = LocallyLinearEmbedding(n_neighbors=8, output_type="cupy")
            model.set_output(transform="pandas")
            for Y in (model.fit_transform(given), model.transform(given)):
                assert type(Y) is pd.DataFrame
                assert_array_equal(Y.to_numpy(), model.embedding_.get())

    @pytest.fixture
    def cuml(self, monkeypatch):
        """cuML's global setting, where it is in the released package: cuml.global_settings."""
        cuml = ModuleType("cuml")
        cuml.global_settings = SimpleNamespace(output_type=None)
        monkeypatch.setitem(sys.modules, "cuml", cuml)
        return cuml

    def test_cumls_global_setting(self, world, cuml):
        X = make_manifold("swiss-roll", 60)
        model = LocallyLinearEmbedding(n_neighbors=8).fit(X)
        for setting, kind in (
            (None, np.ndarray),
            ("input", np.ndarray),
            ("mirror", np.ndarray),
            ("numpy", np.ndarray),
            ("cupy", world.cupy.ndarray),
            ("cudf", world.cudf.DataFrame),
            ("pandas", pd.DataFrame),
        ):
            cuml.global_settings.output_type = setting
            assert type(model.transform(X)) is kind, setting
            assert type(model.inverse_transform(X[:, :2])) is kind, setting
        cuml.global_settings.output_type = "cupy"
        assert type(model.set_params(output_type="pandas").transform(X)) is pd.DataFrame
        model.set_params(output_type=None).set_output(transform="pandas")
        assert type(model.transform(X)) is pd.DataFrame
        assert isinstance(model.inverse_transform(X[:, :2]), world.cupy.ndarray)
        model.set_output(transform="default")
        cuml.global_settings.output_type = "numba"
        with pytest.raises(ValueError, match="cuML's global output type is 'numba'.*output_type="):
            model.transform(X)

    def test_cuml_is_not_imported_for_it(self):
        LocallyLinearEmbedding().fit_transform(np.random.default_rng(0).normal(size=(30, 3)))
        assert "cuml" not in sys.modules


@pytest.mark.parametrize("kind", ["cupy", "interface", "dlpack"])
def test_metrics_take_what_is_on_the_device(world, kind):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    x, y = world.make(kind, X), world.make(kind, Y)
    assert metrics.scores(x, y) == metrics.scores(X, Y)
    assert metrics.affine_residual(y, x) == metrics.affine_residual(Y, X)
    assert_array_equal(metrics.effective_support(y), metrics.effective_support(Y))
