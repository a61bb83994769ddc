"""The estimator as scikit-learn's users use it, and as it must not break under them."""

from __future__ import annotations

import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import reference
from conftest import METHODS, make_manifold
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from lle_gpu import LocallyLinearEmbedding, Spectrum, locally_linear_embedding


@pytest.mark.parametrize("method", METHODS)
def test_transform_of_training_points_is_the_embedding(method, roll):
    model = LocallyLinearEmbedding(n_neighbors=10, method=method).fit(roll)
    np.testing.assert_array_equal(model.transform(roll), model.embedding_)
    np.testing.assert_array_equal(model.transform(roll[5:9]), model.embedding_[5:9])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float32_in_float32_out(method, dtype, roll):
    X = roll.astype(dtype)
    model = LocallyLinearEmbedding(n_neighbors=10, method=method)
    Y = model.fit_transform(X)
    assert Y.dtype == model.embedding_.dtype == dtype
    assert model.transform(X[:5] + dtype(0.01)).dtype == dtype
    assert model.inverse_transform(Y[:5]).dtype == dtype
    np.testing.assert_array_equal(model.transform(X), Y)
    # Computed in float64 from the float32 values: rounding the *input* is all that is lost.
    exact = LocallyLinearEmbedding(n_neighbors=10, method=method).fit(X.astype(np.float64))
    np.testing.assert_array_equal(exact.embedding_.astype(dtype), Y)


def test_transform_against_the_definition(roll):
    model = LocallyLinearEmbedding(n_neighbors=8, reg=1e-2).fit(roll)
    new = make_manifold("swiss-roll", 50, random_state=9)
    placed = model.transform(new)
    for x, y in zip(new, placed, strict=True):
        near = np.argsort(((roll - x) ** 2).sum(axis=1))[:8]
        w = reference.weights(x, roll[near], 1e-2)
        np.testing.assert_allclose(y, w @ model.embedding_[near], atol=1e-10)


def test_transform_places_new_points_on_the_manifold():
    t = np.linspace(0, 1, 2000)
    X = np.column_stack([np.cos(3 * t), np.sin(3 * t), t])
    model = LocallyLinearEmbedding(n_neighbors=8, n_components=1, method="ltsa").fit(X[::2])
    placed = model.transform(X[1:-1:2])[:, 0]
    between = (model.embedding_[:-1, 0] + model.embedding_[1:, 0]) / 2
    assert np.abs(placed - between).max() < 1e-4


def test_inverse_transform_against_the_definition(roll):
    model = LocallyLinearEmbedding(n_neighbors=10, method="ltsa", reg=1e-2).fit(roll)
    Y = model.embedding_
    np.testing.assert_array_equal(model.inverse_transform(Y), roll)
    between = (Y[:40] + Y[40:80]) / 2
    for y, x in zip(between, model.inverse_transform(between), strict=True):
        near = np.argsort(((Y - y) ** 2).sum(axis=1))[:10]
        np.testing.assert_allclose(x, reference.weights(y, Y[near], 1e-2) @ roll[near], atol=1e-8)
    with pytest.raises(ValueError, match="X has 3 columns, but the embedding has 2"):
        model.inverse_transform(roll)


def test_there_and_back_again():
    t = np.linspace(0, 1, 2000)
    X = np.column_stack([np.cos(3 * t), np.sin(3 * t), t])
    model = LocallyLinearEmbedding(n_neighbors=8, n_components=1, method="ltsa").fit(X[::2])
    new = X[1:-1:2]
    assert np.abs(model.inverse_transform(model.transform(new)) - new).max() < 1e-4


def test_duplicates_get_the_first_one_s_embedding(roll):
    X = np.concatenate([roll, roll[:3]])
    model = LocallyLinearEmbedding(n_neighbors=10).fit(X)
    np.testing.assert_array_equal(model.transform(roll[:3]), model.embedding_[:3])


@pytest.mark.parametrize("method", METHODS)
def test_same_input_same_bits(method, digits):
    X = digits[0][:700]
    fits = [
        LocallyLinearEmbedding(n_neighbors=12, method=method, n_jobs=jobs).fit(X).embedding_
        for jobs in (None, 1, 2, None)
    ]
    for other in fits[1:]:
        np.testing.assert_array_equal(fits[0], other)


def test_signs_are_fixed_and_columns_orthonormal(roll):
    Y = LocallyLinearEmbedding(n_neighbors=10, n_components=3).fit_transform(roll)
    for method in METHODS:
        for seed in range(5):
            X = make_manifold("s-curve", 220 + 20 * seed, seed)
            columns = LocallyLinearEmbedding(n_neighbors=10, method=method).fit_transform(X)
            assert (columns[np.abs(columns).argmax(axis=0), range(2)] > 0).all()
    np.testing.assert_allclose(Y.T @ Y, np.eye(3), atol=1e-13)
    np.testing.assert_allclose(Y.sum(axis=0), 0, atol=1e-12)


def test_fits_at_once_give_the_same_and_leave_blas_as_it_was(roll):
    def blas():
        return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]

    expected = LocallyLinearEmbedding(n_neighbors=10).fit_transform(roll)
    with threadpool_limits(2, "blas"):
        before = blas()
        with ThreadPoolExecutor(4) as pool:
            fits = [
                pool.submit(LocallyLinearEmbedding(n_neighbors=10).fit_transform, roll)
                for _ in range(12)
            ]
        assert blas() == before
    for fit in fits:
        np.testing.assert_array_equal(fit.result(), expected)


def test_random_state_changes_the_start_not_the_result(roll):
    a = LocallyLinearEmbedding(n_neighbors=10, random_state=1).fit_transform(roll)
    b = LocallyLinearEmbedding(n_neighbors=10, random_state=np.random.RandomState(2))
    assert reference.sine(a, b.fit_transform(roll)) < 1e-7


def test_attributes_and_function_agree(roll):
    model = LocallyLinearEmbedding(n_neighbors=10).fit(roll)
    assert model.n_features_in_ == 3
    assert model.device_ == "cpu"
    assert isinstance(model.spectrum_, Spectrum)
    assert model.reconstruction_error_ == model.spectrum_.error
    assert list(model.get_feature_names_out()) == [
        "locallylinearembedding0",
        "locallylinearembedding1",
    ]
    Y, error = locally_linear_embedding(roll, n_neighbors=10, n_components=2)
    np.testing.assert_array_equal(Y, model.embedding_)
    assert error == model.reconstruction_error_
    fitted = NearestNeighbors(n_neighbors=3).fit(roll)
    np.testing.assert_array_equal(
        locally_linear_embedding(fitted, n_neighbors=10, n_components=2)[0], Y
    )


def test_other_types_are_converted(roll):
    expected = LocallyLinearEmbedding(n_neighbors=10).fit_transform(np.round(roll * 100))
    as_int = np.round(roll * 100).astype(int)
    for X in (as_int, as_int.tolist(), np.asfortranarray(as_int), as_int.astype(np.float64)):
        np.testing.assert_array_equal(
            LocallyLinearEmbedding(n_neighbors=10).fit_transform(X), expected
        )


def test_pickle_and_clone(roll):
    model = LocallyLinearEmbedding(n_neighbors=10, method="modified").fit(roll)
    again = pickle.loads(pickle.dumps(model))
    new = roll[:20] + 0.05
    np.testing.assert_array_equal(again.transform(new), model.transform(new))
    np.testing.assert_array_equal(again.spectrum_.values, model.spectrum_.values)
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        fresh.transform(new)
    with pytest.raises(NotFittedError):
        fresh.inverse_transform(new)


def test_pandas_and_set_output(roll):
    frame = pd.DataFrame(roll, columns=["a", "b", "c"], index=[f"p{i}" for i in range(len(roll))])
    model = LocallyLinearEmbedding(n_neighbors=10).set_output(transform="pandas")
    Y = model.fit_transform(frame)
    assert list(Y.columns) == ["locallylinearembedding0", "locallylinearembedding1"]
    assert list(Y.index) == list(frame.index)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        model.transform(frame[["b", "a", "c"]])


@pytest.mark.filterwarnings("ignore::UserWarning")  # cross-validation's folds of digits fall apart
def test_pipeline_and_grid_search(digits):
    X, y = digits[0][:600], digits[1][:600]
    pipeline = make_pipeline(
        StandardScaler(), LocallyLinearEmbedding(n_components=8), KNeighborsClassifier(5)
    )
    grid = {
        "locallylinearembedding__n_neighbors": [10, 15],
        "locallylinearembedding__method": ["standard", "modified"],
    }
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_score_ > 0.8
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


class TestNothingChangesOnFailure:
    def state(self, model):
        return {name: id(value) for name, value in vars(model).items()}

    def test_failed_refit(self, roll):
        model = LocallyLinearEmbedding(n_neighbors=10).fit(roll)
        before = self.state(model)
        with pytest.raises(ValueError, match="NaN"):
            model.fit(np.full((50, 5), np.nan))
        with pytest.raises(ValueError, match="n_neighbors = 10"):
            model.fit(np.eye(10, 4))
        with pytest.raises(ValueError, match="equal"):
            model.fit(np.ones((50, 3)))
        assert self.state(model) == before
        np.testing.assert_array_equal(model.transform(roll), model.embedding_)

    def test_failed_first_fit(self):
        model = LocallyLinearEmbedding()
        before = self.state(model)
        with pytest.raises(ValueError, match="n_components=2"):
            model.fit(np.arange(30.0)[:, None])
        assert self.state(model) == before

    @pytest.mark.parametrize("stage", ["constraints", "lanczos"])
    def test_interrupt(self, roll, monkeypatch, stage):
        model = LocallyLinearEmbedding(n_neighbors=10).fit(roll)
        before = self.state(model)

        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        module, function = {
            "constraints": ("lle_gpu.constraints.cpu.standard", "local_weights"),
            "lanczos": ("lle_gpu.spectral.inverse_iteration", "lanczos"),
        }[stage]
        monkeypatch.setattr(sys.modules[module], function, interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.fit(roll[:300])
        monkeypatch.undo()
        assert self.state(model) == before

    def test_the_input_is_not_changed(self, roll):
        for X in (roll.copy(), roll.astype(np.float32), np.asfortranarray(roll)):
            kept = X.copy()
            X.flags.writeable = False
            for method in METHODS:
                model = LocallyLinearEmbedding(n_neighbors=10, method=method).fit(X)
                model.transform(X)
            np.testing.assert_array_equal(X, kept)


def test_verbose_says_what_it_does(roll, capsys):
    LocallyLinearEmbedding(n_neighbors=10, verbose=True).fit(roll)
    printed = capsys.readouterr().err
    for word in ("neighbors", "constraints", "solver: shift-invert", "nonzeros a row", "lanczos"):
        assert word in printed
    LocallyLinearEmbedding(n_neighbors=10).fit(roll)
    assert capsys.readouterr().err == ""


def test_many_components(digits):
    X = digits[0][:500]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = LocallyLinearEmbedding(n_neighbors=20, n_components=50).fit(X)
        most = LocallyLinearEmbedding(n_neighbors=4, n_components=30).fit(X[:31])
    _, V = reference.spectrum(reference.standard_rows(X, reference.neighbors(X, 20), 50))
    assert reference.sine(V[:, :50], model.embedding_) <= 1e-6
    assert most.embedding_.shape == (31, 30)
    assert np.isnan(most.spectrum_.gap)  # nothing is left out
