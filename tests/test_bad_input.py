"""Every wrong input: a clear error that names the parameter, the value and what is allowed."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pytest
from conftest import make_manifold, two_clusters
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.utils._param_validation import InvalidParameterError

from lle_gpu import (
    DisconnectedGraphWarning,
    GpuUnavailableError,
    LocallyLinearEmbedding,
    locally_linear_embedding,
)

X = make_manifold("swiss-roll", 60)
MASKED = int((X > 9).sum())


def estimator(X, **parameters):
    model = LocallyLinearEmbedding(**parameters)
    before = dict(vars(model))
    try:
        return model.fit(X).embedding_
    except Exception:
        assert vars(model) == before, "a failed fit changed the estimator"
        raise


def function(X, **parameters):
    parameters = {"n_neighbors": 5, "n_components": 2, **parameters}
    return locally_linear_embedding(X, **parameters)[0]


both = pytest.mark.parametrize("call", [estimator, function])


@both
@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (np.where(X[3, 1] == X, np.nan, X), ValueError, "NaN"),
        (np.where(X[3, 1] == X, np.inf, X), ValueError, "infinity"),
        (X[:, 0], ValueError, "1D array"),
        (X[None], ValueError, "dim 3"),
        (np.empty((0, 3)), ValueError, "0 sample"),
        (np.empty((60, 0)), ValueError, "0 feature"),
        (X[:1], ValueError, "1 sample"),
        (X[:4], ValueError, "n_samples = 4, n_neighbors = 5"),
        (X[:5], ValueError, "n_samples = 5, n_neighbors = 5"),
        ([["a", "b"]] * 60, ValueError, r"not real numbers: 0 \(text\), 1 \(text\)"),
        ([[1.5, "2"]] * 60, ValueError, r"not real numbers: 1 \(text\).*X\.astype\(float\)"),
        (X.astype(str), ValueError, r"not real numbers: 0 \(<U32\), 1"),
        (X.astype("S"), ValueError, r"not real numbers: 0 \(\|S32\), 1"),
        (np.full((60, 3), "x", dtype=object), ValueError, r"not real numbers: 0 \(text\), 1"),
        (np.array([[1.5, "2"]] * 60, dtype=object), ValueError, r"not real numbers: 1 \(text\)"),
        (np.full((60, 3), {}, dtype=object), TypeError, "must be a string or a real number"),
        (X.astype("M8[s]"), ValueError, r"not real numbers: 0 \(datetime64"),
        (X + 1j, ValueError, "^Complex data not supported: X is an array of complex128.[^\n]*$"),
        ((X + 1j).tolist(), ValueError, "^Complex data not supported: X is an array of compl"),
        ((X + 1j).astype(object), ValueError, "^Complex data not supported: X is an array of obj"),
        (csr_array(X + 1j), ValueError, "^Complex data not supported: X is a sparse array of comp"),
        (
            np.ma.array(X, mask=X > 9),
            ValueError,
            rf"masked array, and {MASKED} of its 180.*X\.filled",
        ),
        (list(np.ma.array(X, mask=X > 9)), ValueError, f"masked array, and {MASKED} of its 180"),
        (np.ones((60, 3)), ValueError, "all 60 points of X are equal"),
        (np.full((60, 3), 7, dtype=np.float32), ValueError, "all 60 points of X are equal"),
        (X * 1e160, ValueError, "between 1e-150 and 1e\\+150"),
        (X * 1e-160, ValueError, "between 1e-150 and 1e\\+150"),
        ("digits", (ValueError, TypeError), "digits|array|X"),
        (None, (ValueError, TypeError), "None|scalar"),
    ],
    ids=lambda value: None if isinstance(value, (type, tuple)) else str(value)[:20],
)
def test_data(call, data, error, says):
    with pytest.raises(error, match=says):
        call(data)


@both
@pytest.mark.parametrize("sparse", [False, True])
def test_nan_that_scikit_learn_does_not_look_for(call, sparse):
    data = X.copy()
    data[3, 1] = np.nan
    with (
        config_context(assume_finite=True),
        pytest.raises(ValueError, match="X contains NaN.*assume_finite"),
    ):
        call(csr_array(data) if sparse else data)


def test_nan_in_new_points_that_scikit_learn_does_not_look_for():
    model = LocallyLinearEmbedding(n_neighbors=8).fit(X)
    with (
        config_context(assume_finite=True),
        pytest.raises(ValueError, match="X contains NaN.*assume_finite"),
    ):
        model.transform(np.full((2, 3), np.nan))


@both
def test_containers_of_several_arrays(call):
    """AnnData, as far as it is known by its attributes."""

    class Container:
        X, obsm, shape = X, {"X_pca": X}, X.shape

        def __len__(self):
            return len(X)

    with pytest.raises(TypeError, match=r"Container.*adata\.obsm\['X_pca'\].*adata\.X"):
        call(Container())


@both
def test_data_that_look_odd_and_are_numbers(call):
    right = call(X)
    for data in (
        np.ma.array(X, mask=False),
        list(np.ma.array(X)),
        X.astype(object),
        [[Decimal(float(x)) for x in row] for row in X],
        [[float(x) for x in row] for row in X.tolist()],
    ):
        np.testing.assert_array_equal(call(data), right)
    assert np.isfinite(call((X * 1e20).tolist())).all()  # floats as long as these are meant


@both
@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"n_components": 4}, "n_components=4.*3 feature"),
        ({"n_components": 3, "method": "ltsa", "n_neighbors": 4}, "n_neighbors=4.*at least 5"),
        ({"n_components": 2, "method": "modified", "n_neighbors": 2}, "n_neighbors=2.*at least 3"),
        ({"n_components": 2, "method": "hessian", "n_neighbors": 5}, "n_neighbors=5.*at least 6"),
        ({"n_components": 3, "method": "hessian", "n_neighbors": 9}, "n_neighbors=9.*at least 10"),
        ({"n_neighbors": 60}, "Expected n_neighbors < n_samples, but n_samples = 60"),
        ({"n_neighbors": 1000}, "n_neighbors = 1000"),
        ({"n_jobs": 0}, "n_jobs=0 must be"),
    ],
)
def test_parameters_against_the_data(call, parameters, says):
    with pytest.raises(ValueError, match=says):
        call(X, **parameters)


@both
def test_as_many_components_as_points(call):
    wide = np.random.default_rng(0).normal(size=(8, 30))
    with pytest.raises(ValueError, match="n_components=8 must be less than n_samples=8"):
        call(wide, n_components=8, n_neighbors=5)
    assert call(wide, n_components=7, n_neighbors=5).shape == (8, 7)


@both
@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("n_neighbors", 0, r"\[1, inf\)"),
        ("n_neighbors", True, "int"),
        ("n_components", True, "int"),
        ("reg", True, "float"),
        ("tol", False, "float"),
        ("n_jobs", True, "int"),
        ("n_neighbors", 2.5, "int"),
        ("n_neighbors", "5", "int"),
        ("n_components", 0, r"\[1, inf\)"),
        ("n_components", -1, r"\[1, inf\)"),
        ("reg", -1e-3, r"\[0.0, inf\)"),
        ("reg", "small", "float"),
        ("tol", -1.0, r"\[0.0, inf\)"),
        ("max_iter", 0, r"\[1, inf\)"),
        ("method", "isomap", "hessian.*ltsa.*modified.*standard|a str among"),
        ("eigen_solver", "lobpcg", "a str among"),
        ("neighbors_algorithm", "annoy", "a str among"),
        ("device", "tpu", "a str among"),
        ("hessian_tol", -1, r"\[0.0, inf\)"),
        ("modified_tol", -1, r"\[0.0, inf\)"),
        ("n_jobs", 1.5, "int"),
        ("random_state", "seed", "int"),
        ("metric", 3, "str"),
    ],
)
def test_parameters_alone(call, name, value, allowed):
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter.*{allowed}") as info:
        call(X, **{name: value})
    assert repr(value) in str(info.value)


@both
def test_unknown_names(call):
    with pytest.raises(TypeError, match="n_neighbours"):
        call(X, n_neighbours=5)
    with pytest.raises(ValueError, match="metric|Metric"):
        call(X, metric="no such metric")


@both
def test_metrics_that_cannot_be_used(call):
    for points in (X, csr_array(X)):
        with pytest.raises(
            ValueError, match="'precomputed' is not possible.*Give X.*knn_graph=.*precomputed_knn="
        ):
            call(points, metric="precomputed")
    with pytest.raises(ValueError, match="metric='seuclidean' cannot be used.*scale or whiten X"):
        call(X, metric="seuclidean")


@both
def test_distances_that_are_not_finite(call):
    constant_row = X.copy()
    constant_row[5] = 1.0  # has no correlation with anything
    with pytest.raises(ValueError, match="metric='correlation' gives distances that are not finit"):
        call(constant_row, metric="correlation")
    with pytest.raises(ValueError, match="not finite.*Constant or zero rows"):
        call(X, metric=lambda a, b: float("nan"))


def test_positional_parameters_are_refused():
    with pytest.raises(TypeError):
        LocallyLinearEmbedding(5)


@both
@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_no_gpu_is_never_a_silent_fallback(call, device):
    with pytest.raises(
        GpuUnavailableError, match=f"device='{device}' cannot be used.*device='cpu'"
    ):
        call(X, device=device)


def test_transform_checks_its_input():
    model = LocallyLinearEmbedding(n_neighbors=5).fit(X)
    with pytest.raises(ValueError, match="X has 2 features, but .* is expecting 3 features"):
        model.transform(X[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        model.transform(X * np.nan)
    with pytest.raises(ValueError, match="1D array"):
        model.transform(X[0])
    for method in (model.transform, model.inverse_transform):
        width = 3 if method == model.transform else 2
        with pytest.raises(ValueError, match=r"largest entry of X is 1e\+200.*below 1e\+150"):
            method(np.full((1, width), 1e200))


@both
@pytest.mark.parametrize("method", ["standard", "modified", "ltsa", "hessian"])
def test_several_closed_classes_warn(call, method):
    with pytest.warns(DisconnectedGraphWarning) as caught:
        Y = call(two_clusters(), n_neighbors=8, method=method)
    text = str(caught[0].message)
    for part in ("2 closed classes", "150", "first rows", "Try a larger n_neighbors"):
        assert part in text
    assert issubclass(DisconnectedGraphWarning, UserWarning)
    assert caught[0].filename == __file__, "the warning does not point at the caller's code"
    assert np.isfinite(Y).all()


@both
def test_no_ridge_with_more_neighbours_than_features(call):
    with pytest.warns(UserWarning, match="reg=0 with n_neighbors=8 > n_features=3.*reg > 0"):
        Y = call(X, reg=0, n_neighbors=8)
    assert np.isfinite(Y).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(make_manifold("five-d", 200), reg=0, n_neighbors=12)


@both
def test_nothing_but_duplicates_leaves_no_second_derivative(call):
    data = np.repeat(np.random.default_rng(0).normal(size=(30, 3)), 8, axis=0)
    with (
        pytest.warns(DisconnectedGraphWarning, match="30 closed classes"),
        pytest.raises(ValueError, match="no neighbourhood gives a constraint.*Remove duplicates"),
    ):
        call(data, method="hessian", n_neighbors=7)


@both
@pytest.mark.parametrize("method", ["standard", "modified", "ltsa", "hessian"])
def test_ugly_but_legal_data_give_finite_embeddings(call, method):
    rng = np.random.default_rng(0)
    ugly = {
        "many duplicates": np.repeat(rng.normal(size=(120, 3)), 2, axis=0),
        "one constant column": np.column_stack([X[:, :2], np.ones(60)]),
        "huge offset": X + 1e9,
        "large": X * 1e140,
        "small": X * 1e-140,
        "very uneven scales": X * [1e-8, 1.0, 1e8],
        "a line": np.linspace(0, 1, 60)[:, None] * [1.0, 2.0, 3.0],
        "a lattice": np.array([[i, j, 0.0] for i in range(9) for j in range(9)]),
        "0 and 1": rng.integers(0, 2, size=(80, 6)).astype(float),
    }
    for name, data in ugly.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            Y = call(data, method=method, n_neighbors=7)
        assert np.isfinite(Y).all(), name
        np.testing.assert_allclose(Y.T @ Y, np.eye(2), atol=1e-10, err_msg=name)
