"""Every kind of data in and out: same kind, dtype, index and numbers; and what is refused."""

from __future__ import annotations

import builtins
import pickle
import re
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import METHODS, make_manifold, two_clusters
from numpy.testing import assert_array_equal
from scipy.sparse import coo_matrix, csr_array, dia_array, dok_array, lil_matrix
from sklearn import config_context
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

import lle_gpu
from lle_gpu import (
    LocallyLinearEmbedding,
    estimate_memory,
    kinds,
    locally_linear_embedding,
)
from lle_gpu.neighbors import cpu

NAMES = ["locallylinearembedding0", "locallylinearembedding1"]
COLUMNS = ["a", "b", "c"]
KINDS = ["numpy", "list", "fortran", "memmap", "array", "dlpack", "pandas", "polars", "torch"]


class Array:
    """Something of another library, with ``__array__``."""

    def __init__(self, X):
        self._X, self.shape = X, X.shape

    def __len__(self):
        return len(self._X)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._X, dtype)


class Dlpack:
    """Something of another library, with ``__dlpack__``."""

    def __init__(self, X):
        self.shape, self._X = X.shape, X

    # NumPy 1 looks for them in the class.
    def __dlpack__(self, **options):
        return self._X.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._X.__dlpack_device__()

    def __len__(self):
        return len(self._X)


def labels(n):
    return [f"p{i}" for i in range(n)]


def make(kind, X, folder=None):
    """X as data of this kind."""
    if kind == "pandas":
        return pd.DataFrame(X, columns=COLUMNS, index=labels(len(X)))
    if kind == "polars":
        return pytest.importorskip("polars").DataFrame(X, schema=COLUMNS, orient="row")
    if kind == "torch":
        return pytest.importorskip("torch").from_numpy(X.copy())
    if kind == "memmap":
        np.save(folder / f"{len(X)}.npy", X)
        return np.load(folder / f"{len(X)}.npy", mmap_mode="r")
    return (
        {"numpy": X, "list": X.tolist(), "fortran": np.asfortranarray(X), "array": Array(X)}.get(
            kind
        )
        if kind != "dlpack"
        else Dlpack(X)
    )


def numbers(kind, Y, names=NAMES):
    """The numbers of a result, which must be of the kind that ``kind`` comes back as."""
    if kind == "pandas":
        assert type(Y) is pd.DataFrame
        assert list(Y.columns) == names
        assert list(Y.index) == labels(len(Y))
        return Y.to_numpy()
    if kind == "polars":
        assert type(Y) is sys.modules["polars"].DataFrame
        assert Y.columns == names
        return Y.to_numpy()
    if kind == "torch":
        assert type(Y) is sys.modules["torch"].Tensor
        return Y.numpy()
    assert type(Y) is np.ndarray
    return Y


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_same_kind_dtype_index_and_numbers(kind, method, dtype, tmp_path):
    X = make_manifold("swiss-roll", 150).astype(dtype)
    if kind == "list":
        dtype = np.float64  # Python's own
    expected = LocallyLinearEmbedding(n_neighbors=10, method=method).fit(X.astype(dtype))
    given = make(kind, X, tmp_path)
    model = LocallyLinearEmbedding(n_neighbors=10, method=method)
    Y = model.fit_transform(given)
    new = X[:9] + dtype(0.01)
    results = {
        "fit_transform": (Y, expected.embedding_),
        "transform": (
            model.transform(make(kind, new, tmp_path)),
            expected.transform(new.astype(dtype)),
        ),
        "function": (
            locally_linear_embedding(given, n_neighbors=10, n_components=2, method=method)[0],
            expected.embedding_,
        ),
    }
    for name, (result, right) in results.items():
        found = numbers(kind, result)
        assert found.dtype == dtype, name
        assert_array_equal(found, right, err_msg=name)
    assert type(model.embedding_) is np.ndarray
    names = COLUMNS if kind in ("pandas", "polars") else ["x0", "x1", "x2"]
    back = numbers(kind, model.inverse_transform(Y[:9]), names)
    assert back.dtype == dtype
    assert_array_equal(back, expected.inverse_transform(expected.embedding_[:9]))


@pytest.mark.parametrize("kind", ["numpy", "dlpack", "torch", "memmap"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nothing_is_copied(kind, dtype, tmp_path):
    given = make(kind, make_manifold("swiss-roll", 60).astype(dtype), tmp_path)
    kept = LocallyLinearEmbedding().fit(given).nbrs_.X
    memory = {"dlpack": lambda: given._X, "torch": lambda: given.numpy()}.get(kind, lambda: given)()
    assert np.shares_memory(kept, memory)


def test_kinds_may_change_between_calls():
    X = make_manifold("swiss-roll", 100)
    frame = make("pandas", X)
    model = LocallyLinearEmbedding(n_neighbors=10).fit(frame)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert_array_equal(model.transform(X), model.embedding_)
    assert_array_equal(numbers("pandas", model.transform(frame)), model.embedding_)
    for kind in ("torch", "polars"):
        pytest.importorskip(kind)
        other = LocallyLinearEmbedding(n_neighbors=10).fit(make(kind, X))
        assert_array_equal(numbers(kind, other.transform(make(kind, X))), model.embedding_)


class TestFrames:
    def test_any_index_is_kept(self):
        X = make_manifold("swiss-roll", 100)
        for index in (
            pd.MultiIndex.from_product([range(10), range(10)], names=["x", "y"]),
            pd.date_range("2026-01-01", periods=100, name="day"),
            pd.Index([7] * 100),  # not unique
        ):
            frame = pd.DataFrame(X, index=index)
            model = LocallyLinearEmbedding(n_neighbors=10)
            pd.testing.assert_index_equal(model.fit_transform(frame).index, index)
            pd.testing.assert_index_equal(model.transform(frame[3:5]).index, index[3:5])
            pd.testing.assert_index_equal(
                model.inverse_transform(model.transform(frame)).index, index
            )

    @pytest.mark.parametrize("kind", ["pandas", "polars"])
    def test_names_are_remembered_and_checked(self, kind):
        frame = make(kind, make_manifold("swiss-roll", 60))
        model = LocallyLinearEmbedding().fit(frame)
        assert list(model.feature_names_in_) == COLUMNS
        other = frame.rename(columns={"c": "z"}) if kind == "pandas" else frame.rename({"c": "z"})
        with pytest.raises(ValueError, match="unseen at fit time:\n- z\n.*now missing:\n- c"):
            model.transform(other)
        with pytest.raises(ValueError, match="must be in the same order"):
            model.transform(frame[["b", "a", "c"]])
        with pytest.raises(ValueError, match="now missing:\n- c"):
            model.transform(frame[["a", "b"]])
        Y = model.transform(frame)
        says = r"X's columns are 'locally.*1', 'locally.*0'.*order of get_feature_names_out\(\)"
        with pytest.raises(ValueError, match=says):
            model.inverse_transform(Y[NAMES[::-1]])
        Y.columns = ["u", "v"]  # somebody else's names say nothing
        assert list(model.inverse_transform(Y).columns) == COLUMNS

    def test_frames_do_not_share_the_models_memory(self):
        for kind in ("pandas", "torch"):
            if kind == "torch":
                pytest.importorskip("torch")
            model = LocallyLinearEmbedding()
            Y = model.fit_transform(make(kind, make_manifold("swiss-roll", 60)))
            before = model.embedding_.copy()
            if kind == "pandas":
                Y.iloc[0, 0] = 9.0
            else:
                Y += 1.0
            assert_array_equal(model.embedding_, before)

    @pytest.mark.parametrize("kind", ["pandas", "polars"])
    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("text", r"'c' \((str|object|String)\)"),
            ("object", r"'c' \((object|Object)"),
            ("category", r"'c' \((category|Categorical)"),
            ("date", r"'c' \((datetime64|Datetime|datetime)"),
            ("duration", r"'c' \((timedelta64|Duration)"),
        ],
    )
    def test_columns_that_are_no_numbers(self, kind, name, says):
        values = {
            "text": pd.Series(["x", "y", "z"] * 10),
            "object": pd.Series([1.0, 2.0, 3.0] * 10, dtype=object),
            "category": pd.Series(["x", "y", "z"] * 10, dtype="category"),
            "date": pd.Series(pd.date_range("2026-01-01", periods=30)),
            "duration": pd.Series(pd.timedelta_range("1s", periods=30)),
        }[name]
        frame = pd.DataFrame({"a": np.arange(30.0), "b": np.arange(30) % 7, "c": values})
        if kind == "polars":
            polars = pytest.importorskip("polars")
            if name == "object":
                values = polars.Series([object()] * 30, dtype=polars.Object)
                frame = polars.DataFrame({"a": np.arange(30.0), "b": np.arange(30), "c": values})
            else:
                frame = polars.from_pandas(frame)
        for call in (
            lambda: LocallyLinearEmbedding().fit(frame),
            lambda: LocallyLinearEmbedding().fit_transform(frame),
            lambda: locally_linear_embedding(frame, n_neighbors=5, n_components=2),
        ):
            with pytest.raises(ValueError, match=f"columns that are not real numbers: {says}"):
                call()

    def test_many_wrong_columns_are_cut_short(self):
        frame = pd.DataFrame({f"c{i}": ["x"] * 20 for i in range(9)})
        with pytest.raises(ValueError, match="'c4' .* and 4 more"):
            LocallyLinearEmbedding().fit(frame)

    def test_complex_columns(self):
        frame = pd.DataFrame(np.ones((20, 2)) + 1j, columns=["a", "b"])
        with pytest.raises(ValueError, match="Complex data not supported.*'a' .complex128"):
            LocallyLinearEmbedding().fit(frame)

    @pytest.mark.parametrize("dtype", ["Int64", "Float32", "boolean", "int64[pyarrow]", "polars"])
    def test_nullable_columns(self, dtype):
        """Without missing values they are numbers; with such, the error tells where."""
        if "pyarrow" in dtype:
            pytest.importorskip("pyarrow")
        X = np.round(make_manifold("swiss-roll", 60) * 100)
        good, bad = list(X[:, 2] > 5 if dtype == "boolean" else X[:, 2].astype(int)), None
        bad = [None, *good[1:-1], None]

        def frame(values):
            if dtype == "polars":
                polars = pytest.importorskip("polars")
                return polars.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": values})
            frame = pd.DataFrame(X, columns=COLUMNS)
            return frame.assign(c=pd.array(values, dtype=dtype))

        Y = LocallyLinearEmbedding(n_neighbors=10).fit_transform(frame(good))
        right = LocallyLinearEmbedding(n_neighbors=10).fit_transform(
            np.column_stack([X[:, :2], np.array(good, float)])
        )
        assert_array_equal(Y.to_numpy(), right)
        with pytest.raises(ValueError, match=r"missing values are 'c' \(2\).*X\.fill.*X\.drop"):
            LocallyLinearEmbedding().fit(frame(bad))
        if dtype == "Int64":
            model = LocallyLinearEmbedding().fit(frame(good))
            with pytest.raises(ValueError, match=r"missing values are 'c' \(2\)"):
                model.transform(frame(bad))

    @pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (-np.inf, "infinity")])
    @pytest.mark.parametrize("kind", ["pandas", "polars", "torch", "sparse"])
    def test_nan_and_infinity_in_plain_columns(self, kind, value, name):
        X = make_manifold("swiss-roll", 60)
        sound = LocallyLinearEmbedding().fit(pd.DataFrame(X, columns=COLUMNS))
        X[3:5, 1] = value
        if kind == "sparse":
            given = pd.DataFrame(X, columns=COLUMNS).astype(pd.SparseDtype(float, 0.0))
        else:
            if kind != "pandas":
                pytest.importorskip(kind)
            given = make(kind, X)
        says = f"Input X contains {name}" + r": .* are 'b' \(2\)\. Put" * (kind != "torch")
        for call in (
            LocallyLinearEmbedding().fit,
            sound.transform if kind != "torch" else LocallyLinearEmbedding().fit,
            lambda X: locally_linear_embedding(X, n_neighbors=5, n_components=2),
        ):
            with pytest.raises(ValueError, match=says):
                call(given)

    @pytest.mark.parametrize("way", ["fit", "file", "pickle"])
    def test_names_that_are_no_text(self, way, tmp_path):
        X = make_manifold("swiss-roll", 60)
        tuples = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)])
        for columns in (pd.RangeIndex(3), pd.Index([2001, 2002, 2003]), tuples):
            frame = pd.DataFrame(X, columns=columns)
            model = LocallyLinearEmbedding().fit(frame)
            assert not hasattr(model, "feature_names_in_")
            if way == "file":
                model.save(tmp_path / "m.lle")
                model = lle_gpu.load(tmp_path / "m.lle")
            if way == "pickle":
                model = pickle.loads(pickle.dumps(model))
            assert_array_equal(model.transform(frame).to_numpy(), model.embedding_)
            order = list(columns[::-1])
            says = re.escape(f"X's columns are {str(order)[1:-1]}, and must be in the order in")
            with pytest.raises(ValueError, match=says):
                model.transform(frame[order])
            other = frame.set_axis([0, 1, 7], axis=1)
            with pytest.raises(ValueError, match="must be those that were fitted"):
                model.transform(other)
            with pytest.raises(ValueError, match="X has 2 features"):
                model.transform(frame[order[:2]])
            model.fit(X)  # forgets them
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.transform(frame[order])

    def test_names_that_are_numpy_s_text(self, tmp_path):
        """Which scikit-learn does not count as names."""
        columns = pd.Index(list(np.array(COLUMNS)), dtype=object)
        frame = pd.DataFrame(make_manifold("swiss-roll", 60), columns=columns)
        model = LocallyLinearEmbedding().fit(frame)
        model.save(tmp_path / "m.lle")
        for fitted in (model, lle_gpu.load(tmp_path / "m.lle")):
            assert_array_equal(fitted.transform(frame).to_numpy(), model.embedding_)
            with pytest.raises(ValueError, match="X's columns are 'c', 'b', 'a', .* in the order"):
                fitted.transform(frame[frame.columns[::-1]])

    def test_names_that_are_no_text_on_one_side(self):
        X = make_manifold("swiss-roll", 60)
        years = pd.DataFrame(X, columns=[2001, 2002, 2003])
        of_array, of_frame = LocallyLinearEmbedding().fit(X), LocallyLinearEmbedding()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            of_array.transform(pd.DataFrame(X))
            of_frame.fit(pd.DataFrame(X)).transform(X)
        says = r"has column names.*without \(2001, 2002, 2003\)"
        with pytest.warns(UserWarning, match=says) as caught:
            of_array.transform(years)
        assert caught[0].filename == __file__
        with pytest.warns(UserWarning, match=r"does not have column names.*fitted with \(2001"):
            of_frame.fit(years).transform(X)
        text = pd.DataFrame(X, columns=COLUMNS)  # here scikit-learn warns, and once is enough
        for fitted, new in ((text, years), (years, text)):
            with pytest.warns(UserWarning, match="feature names") as caught:
                of_frame.fit(fitted).transform(new)
            assert len(caught) == 1

    def test_sparse_columns_beside_dense_ones(self):
        X = make_manifold("swiss-roll", 60).round(2)
        X[:, 2] = np.arange(60) > 30
        right = LocallyLinearEmbedding(n_neighbors=10).fit_transform(X)
        dense = pd.DataFrame(X, columns=COLUMNS)
        for c in (
            pd.arrays.SparseArray(X[:, 2].astype(int)),
            pd.arrays.SparseArray(X[:, 2]),  # NaN for what is not stored
            pd.arrays.SparseArray(X[:, 2], fill_value=1.0),
        ):
            found = LocallyLinearEmbedding(n_neighbors=10).fit_transform(dense.assign(c=c))
            assert_array_equal(found.to_numpy(), right)

    @pytest.mark.parametrize("fill", [np.nan, 1.0])
    def test_sparse_columns_with_other_fill_values(self, fill):
        X = make_manifold("swiss-roll", 60).astype(np.float32)
        frame = pd.DataFrame(X, columns=COLUMNS).astype(pd.SparseDtype(np.float32, fill))
        model = LocallyLinearEmbedding(n_neighbors=10).fit(frame)
        assert model.nbrs_.X.dtype == np.float32
        assert_array_equal(model.nbrs_.X, X)

    def test_columns_of_several_types(self):
        X = np.round(make_manifold("swiss-roll", 60) * 10)
        right = LocallyLinearEmbedding(n_neighbors=10).fit_transform(X)
        frame = pd.DataFrame({"a": X[:, 0].astype("f4"), "b": X[:, 1].astype("i2"), "c": X[:, 2]})
        assert_array_equal(LocallyLinearEmbedding(n_neighbors=10).fit_transform(frame), right)
        polars = pytest.importorskip("polars")
        Y = LocallyLinearEmbedding(n_neighbors=10).fit_transform(polars.from_pandas(frame))
        assert_array_equal(Y.to_numpy(), right)

    def test_sparse_columns_stay_sparse(self):
        X = np.random.default_rng(0).poisson(0.3, size=(80, 12)).astype(float)
        X[:, 0] += np.arange(80)
        frame = pd.DataFrame(X, index=labels(80)).astype(pd.SparseDtype(float, 0.0))
        model = LocallyLinearEmbedding(n_neighbors=10)
        Y = model.fit_transform(frame)
        assert model.nbrs_.X.nnz == np.count_nonzero(X)
        assert list(Y.index) == labels(80)

    def test_series_and_lazy_frames(self):
        with pytest.raises(ValueError, match="Series"):
            LocallyLinearEmbedding().fit(pd.Series(np.arange(20.0)))
        polars = pytest.importorskip("polars")
        with pytest.raises(ValueError, match="polars Series.*to_frame"):
            LocallyLinearEmbedding().fit(polars.Series(np.arange(20.0)))
        with pytest.raises(TypeError, match=r"LazyFrame.*X.collect\(\)"):
            LocallyLinearEmbedding().fit(polars.LazyFrame({"a": [1.0, 2.0]}))


class TestTensors:
    torch = property(lambda self: pytest.importorskip("torch"))

    def test_gradients(self):
        X = self.torch.from_numpy(make_manifold("swiss-roll", 60)).requires_grad_()
        model = LocallyLinearEmbedding().fit(X.detach())
        for call in (model.transform, model.fit, model.fit_transform):
            with pytest.raises(ValueError, match=r"requires grad.*Give X.detach\(\)"):
                call(X)
        with pytest.raises(ValueError, match="requires grad"):
            LocallyLinearEmbedding().fit(self.torch.nn.Parameter(X.detach()))

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_is_computed_and_returned_in_single(self, dtype):
        X = self.torch.from_numpy(make_manifold("swiss-roll", 100)).to(getattr(self.torch, dtype))
        Y = LocallyLinearEmbedding(n_neighbors=10).fit_transform(X)
        assert Y.dtype == self.torch.float32
        right = LocallyLinearEmbedding(n_neighbors=10).fit_transform(X.float().numpy())
        assert_array_equal(Y.numpy(), right)

    @pytest.mark.parametrize("dtype", ["int64", "int16", "uint8", "bool"])
    def test_other_types_are_computed_and_returned_in_double(self, dtype):
        X = self.torch.from_numpy(make_manifold("digits", 100)).to(getattr(self.torch, dtype))
        Y = LocallyLinearEmbedding(n_neighbors=10).fit_transform(X)
        assert Y.dtype == self.torch.float64

    def test_other_tensors(self):
        X = self.torch.ones(20, 3)
        for bad, error, says in (
            (X.to_sparse(), TypeError, r"sparse_coo tensor.*X.to_dense\(\)"),
            (X.to("meta"), TypeError, r"device 'meta'.*That one has no numbers\.$"),
            (self.torch.nested.nested_tensor([X, X]), TypeError, "nested tensor"),
            (X.to(self.torch.complex64), ValueError, "Complex data not supported"),
            (X[0], ValueError, "1D array"),
        ):
            with pytest.raises(error, match=says):
                LocallyLinearEmbedding().fit(bad)

    def test_negative_and_conjugate_bits(self):
        X = self.torch.from_numpy(make_manifold("swiss-roll", 60))
        for lazy in (
            self.torch._neg_view(X),
            self.torch.complex(X, X).conj().imag,
        ):
            assert lazy.is_neg()
            assert_array_equal(kinds.unwrap(lazy), -X.numpy())

    def test_strided_views(self):
        X = self.torch.from_numpy(make_manifold("swiss-roll", 120))
        Y = LocallyLinearEmbedding().fit_transform(X[::2].flip(1))
        right = LocallyLinearEmbedding().fit_transform(X.numpy()[::2, ::-1])
        assert_array_equal(Y.numpy(), right)


class HostTensor:
    """What lle_gpu asks of a tensor in the host's memory, where torch is not installed."""

    __module__ = "torch"
    __name__ = "Tensor"
    layout, dtype, requires_grad = "torch.strided", "torch.float64", False
    device, is_nested, is_meta = SimpleNamespace(type="cpu"), False, False

    def __init__(self, array, negative=False, **attributes):
        self._array, self._negative = array, negative
        self.is_quantized = False
        vars(self).update(attributes)

    def is_complex(self):
        return "complex" in self.dtype

    def is_floating_point(self):
        return "float" in self.dtype

    def resolve_neg(self):
        return HostTensor(-self._array) if self._negative else self

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)  # does not look at the bit, as torch's


class TestTensorsWithoutTorch:
    @pytest.fixture(autouse=True)
    def _torch(self, monkeypatch):
        torch = SimpleNamespace(
            strided="torch.strided", float32="torch.float32", float64="torch.float64", bool="b"
        )
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setitem(kinds._CLASSES, ("torch", "HostTensor"), "torch")

    def test_negative_bit(self):
        X = make_manifold("swiss-roll", 60)
        assert_array_equal(kinds.unwrap(HostTensor(X)), X)
        assert_array_equal(kinds.unwrap(HostTensor(X, negative=True)), -X)

    @pytest.mark.parametrize(
        ("attributes", "error", "says"),
        [
            (
                {"layout": "torch.sparse_coo"},
                TypeError,
                r"^X is a sparse_coo tensor\. Give X\.to_dense\(\), or a SciPy sparse matrix\.$",
            ),
            (
                {"is_quantized": True, "dtype": "torch.quint8"},
                TypeError,
                r"^X is a quantized tensor \(torch\.quint8\)\. Give X\.dequantize\(\)\.$",
            ),
            (
                {"dtype": "torch.complex64"},
                ValueError,
                "^Complex data.*a tensor of torch.complex64",
            ),
            ({"is_nested": True}, TypeError, "^X is a nested tensor. Give one of shape"),
            (
                {"device": SimpleNamespace(type="meta"), "is_meta": True},
                TypeError,
                r"That one has no numbers\.$",
            ),
            ({"device": SimpleNamespace(type="mps")}, TypeError, r"Give X\.cpu\(\)\.$"),
        ],
    )
    def test_the_remedy_is_the_one_that_applies(self, attributes, error, says):
        with pytest.raises(error, match=says):
            kinds.unwrap(HostTensor(np.ones((20, 3)), **attributes))


LONG = np.arange(60).reshape(20, 3) * [1, 3, 7]


def long_integers(kind, X):
    """Integers as data of this kind."""
    if kind in ("polars", "Int128", "Decimal"):
        polars = pytest.importorskip("polars", "1.18" if kind == "Int128" else None)
        frame = polars.DataFrame(X, schema=COLUMNS, orient="row")
        if kind == "polars":
            return frame
        return frame.cast(polars.Int128 if kind == "Int128" else polars.Decimal(38, 2))
    if kind == "pyarrow":
        arrow = pytest.importorskip("pyarrow")
        return arrow.table({"a": X[:, 0] / 2, "b": X[:, 1], "c": X[:, 2]})
    if kind == "xarray":
        return pytest.importorskip("xarray").DataArray(X)
    if kind == "torch":
        return pytest.importorskip("torch").from_numpy(X.copy())
    frame = pd.DataFrame(X, columns=COLUMNS)
    return {
        "numpy": lambda: X,
        "csr": lambda: csr_array(X),
        "coo": lambda: coo_matrix(X),
        "lil": lambda: lil_matrix(X),
        "dok": lambda: dok_array(X),
        "dia": lambda: dia_array(X),
        "list": X.tolist,
        "mixed list": lambda: [[0.5, *row] for row in X.tolist()],
        "rows": lambda: list(X),
        "object": lambda: X.astype(object),
        "masked": lambda: np.ma.array(X, mask=False),
        "array": lambda: Array(X),
        "pandas": lambda: frame,
        "nullable": lambda: frame.astype("Int64"),
        "sparse pandas": lambda: frame.astype(pd.SparseDtype("int64", 0)),
        "one sparse column": lambda: frame.assign(
            a=np.arange(20.0), b=1.5, c=pd.arrays.SparseArray(X[:, 2])
        ),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        *("numpy", "csr", "coo", "lil", "dok", "dia", "list", "mixed list", "rows", "object"),
        *("masked", "array", "xarray", "pandas", "nullable", "sparse pandas", "one sparse column"),
        *("pyarrow", "polars", "Int128", "Decimal", "torch"),
    ],
)
def test_integers_that_float64_rounds(kind):
    says = (
        r"^(X|Column '[abc]' of X) has integers from \d{7,}(\.00)? to 11529215\d+.*2\*\*53.*Subtr"
    )
    if kind in ("dia", "csr", "coo", "lil", "dok", "sparse pandas"):
        says = says.replace(r"\d{7,}", r"(0|1152\d+)")
    model = LocallyLinearEmbedding()
    with pytest.raises(ValueError, match=says):
        model.fit(long_integers(kind, LONG + 2**60))
    with pytest.raises(ValueError, match="from -11529215"):
        model.fit(long_integers(kind, -LONG - 2**60))
    model.fit(long_integers(kind, LONG**2))
    model.fit(long_integers(kind, 2**53 - LONG))


def test_integers_beyond_all_floats():
    for X in ([[10**400, 1.5]] * 20, np.full((20, 3), -(10**400), dtype=object)):
        with pytest.raises(ValueError, match=r"has integers from .*beyond 2\*\*53"):
            LocallyLinearEmbedding().fit(X)


def test_text_in_a_table_of_another_library():
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": np.arange(20.0), "b": ["1.5"] * 20})
    with pytest.raises(ValueError, match=r"not real numbers: 'b' \(text\)"):
        LocallyLinearEmbedding().fit(table)


@pytest.mark.parametrize("kind", ["Table", "RecordBatch"])
def test_columns_of_arrow_are_compared(kind):
    arrow = pytest.importorskip("pyarrow")
    columns = dict(zip("abc", make_manifold("swiss-roll", 60).T, strict=True))
    batch = getattr(arrow, kind).from_pydict(columns)
    model = LocallyLinearEmbedding().fit(batch)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    assert_array_equal(model.transform(batch), model.embedding_)
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        model.transform(batch.select(["b", "a", "c"]))


def test_records():
    """Structured arrays, whose rows NumPy does not convert."""
    frame = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20)})
    for records in (frame.to_records(index=False), np.array(frame.to_records())):
        with pytest.raises(ValueError, match=r"^X is a structured array.*'b'.*structured_to_unst"):
            LocallyLinearEmbedding().fit(records)


def test_nan_among_the_columns_names():
    """It is its own name: a frame goes with itself, also after a pickle, and no other does."""
    X = make_manifold("swiss-roll", 60)
    for names in ([1.0, 2.0, np.nan], [(0, 1.0), (0, 2.0), (1, float("nan"))]):
        frame = pd.DataFrame(X)
        frame.columns = pd.Index(names, tupleize_cols=False)
        model = LocallyLinearEmbedding().fit(frame)
        for one in (model, pickle.loads(pickle.dumps(model))):
            assert_array_equal(one.transform(frame.copy()), model.embedding_)
            with pytest.raises(ValueError, match="must be in the order in which they were fitted"):
                one.transform(frame.iloc[:, [0, 2, 1]])


def test_mixed_kinds():
    torch = pytest.importorskip("torch")
    row = np.arange(3.0)
    for mixed, names in (
        ([torch.ones(3)] * 20, "torch"),
        ([row, torch.ones(3)] * 20, "numpy and torch"),
        ((pd.DataFrame(np.ones((9, 3))), row), "numpy and pandas"),
    ):
        with pytest.raises(TypeError, match=f"items are of kind {names}: give one"):
            LocallyLinearEmbedding().fit(mixed)
    assert LocallyLinearEmbedding().fit([row**i for i in range(20)]).n_features_in_ == 3


def test_a_failed_fit_changes_nothing():
    model = LocallyLinearEmbedding().fit(make("pandas", make_manifold("swiss-roll", 60)))
    before = dict(vars(model))
    with pytest.raises(ValueError, match="not real numbers"):
        model.fit(pd.DataFrame({"x": ["a"] * 20, "y": np.arange(20)}))
    assert vars(model) == before


class TestOutputType:
    @pytest.mark.parametrize("source", ["numpy", "pandas", "polars", "torch"])
    @pytest.mark.parametrize("output", ["numpy", "pandas", "polars", "torch"])
    def test_every_kind_to_every_kind(self, source, output):
        for kind in {source, output} - {"numpy", "pandas"}:
            pytest.importorskip(kind)
        given = make(source, make_manifold("swiss-roll", 60).astype(np.float32))
        model = LocallyLinearEmbedding(output_type=output)
        function = locally_linear_embedding(
            given, n_neighbors=5, n_components=2, output_type=output
        )[0]
        for Y in (model.fit_transform(given), model.transform(given), function):
            if output == "pandas":
                assert list(Y.index) == (labels(60) if source == "pandas" else list(range(60)))
                assert list(Y.columns) == NAMES
                Y = Y.to_numpy()
            else:
                Y = numbers(output, Y)
            assert Y.dtype == np.float32
            assert_array_equal(Y, model.embedding_)
        back = model.inverse_transform(model.embedding_)
        assert type(back) is type(model.transform(given))

    def test_wrong_names(self):
        X = make_manifold("swiss-roll", 60)
        model = LocallyLinearEmbedding(output_type="dask")
        for call in (model.fit, model.fit_transform):
            with pytest.raises(InvalidParameterError, match="'output_type'.*'dask'"):
                call(X)

    @pytest.mark.parametrize("library", ["pandas", "polars", "torch"])
    def test_a_missing_library_is_named_before_any_work(self, library, monkeypatch):
        X = make_manifold("swiss-roll", 60)
        model = LocallyLinearEmbedding().fit(X)
        real = builtins.__import__

        def refuse(name, *args, **kwargs):
            if name.partition(".")[0] == library:
                raise ImportError(f"No module named {name!r}")
            return real(name, *args, **kwargs)

        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.setattr(builtins, "__import__", refuse)
        monkeypatch.setattr("lle_gpu.estimator.embed_on", None)  # is not come to
        model.output_type = library
        for call in (model.fit_transform, model.transform, model.inverse_transform):
            with pytest.raises(ImportError, match=rf"{library} cannot be imp.*\[{library}\]"):
                call(X)

    @pytest.mark.parametrize("kind", ["cupy", "cudf"])
    def test_no_gpu(self, kind):
        X = make_manifold("swiss-roll", 60)
        with pytest.raises((lle_gpu.GpuUnavailableError, ImportError)):
            LocallyLinearEmbedding(output_type=kind).fit_transform(X)

    def test_set_output_goes_first(self):
        X = make_manifold("swiss-roll", 60)
        for given in (X, make("pandas", X)):
            model = LocallyLinearEmbedding(output_type="numpy").set_output(transform="pandas")
            for Y in (model.fit_transform(given), model.transform(given)):
                assert type(Y) is pd.DataFrame
            assert type(model.inverse_transform(model.embedding_)) is np.ndarray
            model.set_output(transform="default")
            assert type(model.transform(given)) is np.ndarray
            with config_context(transform_output="pandas"):
                assert type(model.fit(given).transform(given)) is np.ndarray  # "default" is its own
        with config_context(transform_output="pandas"):
            assert type(LocallyLinearEmbedding(output_type="numpy").fit_transform(X)) is (
                pd.DataFrame
            )

    @pytest.mark.parametrize("container", ["pandas", "polars"])
    @pytest.mark.parametrize("way", ["set_output", "config_context"])
    def test_set_output_to_what_is_not_there(self, monkeypatch, container, way):
        """Before the fit, and with the name of the extra."""
        X = make_manifold("swiss-roll", 60)
        model = LocallyLinearEmbedding(callbacks=lambda event: pytest.fail("it was fitted"))
        fitted = LocallyLinearEmbedding().fit(X)
        option = {"transform_output": container} if way == "config_context" else {}
        if way == "set_output":
            for each in (model, fitted):
                each.set_output(transform=container)
        with monkeypatch.context() as patch, config_context(**option):
            patch.setitem(sys.modules, container, None)
            for call in (model.fit_transform, fitted.transform):
                with pytest.raises(ImportError, match=rf"pip install 'lle-gpu\[{container}\]'"):
                    call(X)
        assert type(fitted.inverse_transform(fitted.embedding_)) is np.ndarray

    def test_default_is_as_nothing_set(self):
        frame = make("pandas", make_manifold("swiss-roll", 60))
        Y = LocallyLinearEmbedding().set_output(transform="default").fit_transform(frame)
        numbers("pandas", Y)

    def test_set_output_across_kinds(self):
        polars, torch = pytest.importorskip("polars"), pytest.importorskip("torch")
        X = make_manifold("swiss-roll", 60)
        model = LocallyLinearEmbedding().set_output(transform="polars")
        assert type(model.fit_transform(make("pandas", X))) is polars.DataFrame
        model.set_output(transform="pandas")
        assert type(model.fit_transform(torch.from_numpy(X))) is pd.DataFrame

    def test_scripts_for_scikit_learn_get_its_arrays(self):
        frame = make("pandas", make_manifold("swiss-roll", 60))
        with lle_gpu.patch_sklearn():
            Y = LocallyLinearEmbedding().fit_transform(frame)
            assert type(Y) is np.ndarray
            model = LocallyLinearEmbedding(output_type="pandas")
            assert type(model.fit_transform(frame)) is pd.DataFrame
            Y, _ = locally_linear_embedding(frame, n_neighbors=5, n_components=2)
            assert type(Y) is np.ndarray
        assert type(model.transform(frame)) is pd.DataFrame


@pytest.mark.filterwarnings("ignore::UserWarning")  # folds of digits fall apart
def test_a_pipeline_of_frames(digits):
    X = pd.DataFrame(digits[0][:300], columns=[f"pixel{i}" for i in range(64)])
    y = digits[1][:300]
    pipeline = make_pipeline(
        StandardScaler(), LocallyLinearEmbedding(n_components=5), KNeighborsClassifier(5)
    ).set_output(transform="pandas")
    grid = {"locallylinearembedding__n_neighbors": [8, 12]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.6
    first = make_pipeline(LocallyLinearEmbedding(n_neighbors=12), KNeighborsClassifier(5)).fit(X, y)
    assert list(first[-1].feature_names_in_) == NAMES
    assert first.predict(X[:5]).shape == (5,)


# ---- larger than memory ----
class TestBlocks:
    """Brute force takes X in blocks; their size changes nothing."""

    @pytest.mark.parametrize("few", [1, 1024])  # by scikit-learn's search, by products
    @pytest.mark.parametrize("rows", [40, 64, 1000])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_the_neighbours_are_the_same(self, monkeypatch, few, rows, dtype):
        rng = np.random.default_rng(0)
        X = (rng.normal(size=(150, 20)) + 1000).astype(dtype)
        X[100:130] = X[3]  # more copies than neighbours
        X[130:] = np.round(X[130:])
        new = (X[::7] + rng.normal(size=(22, 20))).astype(dtype)
        distances = ((X[:, None].astype(float) - X) ** 2).sum(axis=2)
        np.fill_diagonal(distances, np.inf)
        expected = np.lexsort((np.broadcast_to(np.arange(150), distances.shape), distances))[:, :9]
        monkeypatch.setattr(cpu, "BLOCK_BYTES", rows * 8 * 20)
        monkeypatch.setattr(cpu, "FEW_POINTS", few)
        monkeypatch.setattr(cpu, "FLOAT32_MAX_FEATURES", 0)  # tests/test_products.py has those
        search = cpu.NeighborSearch(X, 9, algorithm="brute")
        assert_array_equal(search.kneighbors(return_distance=False), expected)
        distances = ((new[:, None].astype(float) - X) ** 2).sum(axis=2)
        expected = np.lexsort((np.broadcast_to(np.arange(150), distances.shape), distances))[:, :9]
        found, index = search.kneighbors(new)
        assert_array_equal(index, expected)
        np.testing.assert_allclose(found**2, np.take_along_axis(distances, expected, axis=1))

    @pytest.mark.parametrize("rows", [40, 1000])
    @pytest.mark.parametrize("most", [0, 20])  # features for float32
    def test_distances_that_the_products_cannot_tell_apart(self, monkeypatch, rows, most):
        """All but equal, in two clusters so far apart that their expanded form rounds them away."""
        monkeypatch.setattr(cpu, "FLOAT32_MAX_FEATURES", most)
        rng = np.random.default_rng(0)
        away = rng.normal(size=(120, 20))
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        away *= np.sqrt(1 + 1e-9 * rng.permutation(120))[:, None]
        X = np.concatenate([[np.zeros(20)], away, rng.normal(size=(121, 20))])
        X[:121, 0] += 1e5
        monkeypatch.setattr(cpu, "BLOCK_BYTES", rows * 8 * 20)
        nearest = np.argsort(((X[1:] - X[0]) ** 2).sum(axis=1))[:5] + 1
        search = cpu.NeighborSearch(X, 5, algorithm="brute")
        assert_array_equal(search.kneighbors(return_distance=False)[0], nearest)
        assert_array_equal(search.kneighbors(X[:1], 6)[1][0, 1:], nearest)

    @pytest.mark.parametrize("block", [1, 1000, 1 << 26])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_first_copies(self, monkeypatch, block, dtype):
        monkeypatch.setattr(cpu, "BLOCK_BYTES", block)
        rng = np.random.default_rng(1)
        X = rng.integers(0, 2, size=(400, 6)).astype(dtype)
        X[X == 0] *= rng.choice([-1.0, 1.0], size=(X == 0).sum())  # -0.0 equals 0.0
        for most in (1, 3):
            seen: dict = {}
            expected = []
            for i, row in enumerate(X + 0.0):
                seen[row.tobytes()] = seen.get(row.tobytes(), 0) + 1
                if seen[row.tobytes()] <= most:
                    expected.append(i)
            assert_array_equal(cpu._first_copies(X, most), expected)

    def test_rows_that_share_a_hash_are_told_apart(self, monkeypatch):
        class Zeros:
            def integers(self, *_, size, dtype):
                return np.zeros(size, dtype)

        X = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [2.0, 1.0], [3.0, 3.0]])
        monkeypatch.setattr(np.random, "default_rng", lambda *_: Zeros())
        kept = set(cpu._first_copies(X, 1).tolist())
        assert {0, 1, 5} <= kept < set(range(6))


def test_the_estimate_counts_blocks_and_copies():
    def least(d, **options):
        return estimate_memory((5000, d), n_neighbors=10, **options).least

    assert least(100_000) < 460e6
    assert least(100_000) == least(200_000, neighbors_algorithm="brute")
    assert least(100_000, neighbors_algorithm="ball_tree") > 4e9


MEMORY = """
import sys, threading, time, warnings
import numpy as np
from sklearn.datasets import make_swiss_roll
from lle_gpu import LocallyLinearEmbedding
from lle_gpu.neighbors import cpu, products

warnings.simplefilter("ignore")
cpu.BLOCK_BYTES = 4 << 20  # 64 MB beside gigabytes; here all is smaller
path, method, n, d = sys.argv[1], sys.argv[2], 750, 20_000
X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
roll = make_swiss_roll(n, random_state=0)[0]
turn = np.random.default_rng(0).normal(size=(3, d))
for low in range(0, n, 50):
    X[low : low + 50] = roll[low : low + 50] @ turn
X[600:650] = X[:50]  # duplicates are looked for among all
X.flush()
del X

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])

X = np.load(path, mmap_mode="r")
# What the libraries take once and for all: threads, buffers, code.
LocallyLinearEmbedding(n_neighbors=8, method=method).fit(np.array(X[:, :50]))
wide = np.ones((90, 20_000))
wide @ wide.T
del wide
base, peak, running = anonymous(), 0, True

def watch():
    global peak
    while running:
        peak = max(peak, anonymous() - base)
        time.sleep(0.001)

thread = threading.Thread(target=watch, daemon=True)
thread.start()
model = LocallyLinearEmbedding(n_neighbors=8, method=method).fit(X)
model.transform(X[:200])
running = False
thread.join()
assert np.shares_memory(model.nbrs_.X, X)
print(peak, X.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", ["standard", "ltsa"])
def test_a_memory_mapped_array_is_never_read_whole(method, tmp_path):
    """60 MB, and the process never holds half as much; a copy would be 60 or 120."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "X.npy"), method]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak, size = map(int, output.split())
    assert size == 60_000_000
    assert peak < size / 2, f"{peak / 1e6:.0f} MB"


class TestCopiesOfMemoryMappedArrays:
    """What does not stay in its file says so, how much it takes, and the way out."""

    @pytest.fixture(autouse=True)
    def _small_ones_count(self, monkeypatch):
        monkeypatch.setattr(kinds, "_MAPPED", 1000)

    def mapped(self, folder, X):
        np.save(folder / "X.npy", X)
        return np.load(folder / "X.npy", mmap_mode="r")

    def copies(self, call):
        """Messages about copies while this is called."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        return [w for w in caught if "X is memory-mapped" in str(w.message)]

    @pytest.mark.parametrize(
        ("dtype", "d", "parameters", "says"),
        [
            (np.int16, 20, {}, r"int16 is converted to float64 as a whole, 1\.9e-05 GB.*numpy.sav"),
            (np.float16, 20, {}, "float16 is converted to float64"),
            (np.float32, 3, {}, r"'kd_tree', which 'auto' is up to 15 .*'brute' reads X in parts"),
            (np.float64, 20, {"neighbors_algorithm": "kd_tree"}, "'kd_tree'.*'brute'"),
            (np.float32, 20, {"neighbors_algorithm": "ball_tree"}, "'ball_tree' may.*'brute'"),
            (np.float32, 20, {"metric": "cosine"}, "metric='cosine' .* may hold .* in float64"),
            (np.float32, 20, {"neighbors_algorithm": "faiss"}, r"'faiss' holds .*1\.9e-05 GB"),
        ],
    )
    def test_fits_that_copy(self, tmp_path, dtype, d, parameters, says):
        if parameters.get("neighbors_algorithm") == "faiss":
            pytest.importorskip("faiss")
        X = make_manifold("swiss-roll", 120) @ np.random.default_rng(0).normal(size=(3, d))
        X = self.mapped(tmp_path, (8 * X).astype(dtype))
        model = LocallyLinearEmbedding(n_neighbors=8, **parameters)
        for points in (X, np.asarray(X)):  # which hides the map
            (caught,) = self.copies(lambda points=points: model.fit(points))
            assert re.search(says, str(caught.message))
            assert caught.filename == __file__
        assert not self.copies(lambda: model.fit(np.array(X)))

    @pytest.mark.parametrize("disconnected", ["bridge", "largest"])
    def test_graphs_in_pieces(self, tmp_path, disconnected):
        X = np.concatenate([two_clusters(100), make_manifold("swiss-roll", 60)])
        X = self.mapped(tmp_path, X @ np.random.default_rng(0).normal(size=(3, 20)))
        model = LocallyLinearEmbedding(n_neighbors=8, disconnected=disconnected)
        (caught,) = self.copies(lambda: model.fit(X))
        assert f"disconnected={disconnected!r} searches among copies" in str(caught.message)
        diagnosis = self.copies(model.diagnose)
        assert len(diagnosis) == (disconnected == "largest")
        assert not self.copies(lambda: model.set_params(disconnected="warn").fit(X))

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_what_stays_in_its_file(self, tmp_path, dtype, order):
        X = make_manifold("swiss-roll", 120) @ np.random.default_rng(0).normal(size=(3, 20))
        X = self.mapped(tmp_path, np.asarray(X, dtype=dtype, order=order))
        model = LocallyLinearEmbedding(n_neighbors=8)
        for call in (
            lambda: model.fit(X),
            lambda: model.transform(X),
            lambda: model.save(tmp_path / "m.lle"),
            model.diagnose,
        ):
            assert not self.copies(call)
        assert np.shares_memory(model.nbrs_.X, X)

    def test_new_points_are_converted_with_a_word(self, tmp_path):
        X = make_manifold("swiss-roll", 120)
        model = LocallyLinearEmbedding(n_neighbors=8).fit(X)
        X = self.mapped(tmp_path, X.astype(np.int32))
        assert len(self.copies(lambda: model.transform(X))) == 1
