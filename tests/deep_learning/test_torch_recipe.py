"""The recipe's classifier: each stage, what must not leak, and whether it is worth it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_digits, make_blobs  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LogisticRegression, RidgeClassifier  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from lle_gpu import LocallyLinearEmbedding  # noqa: E402
from lle_gpu.exceptions import DisconnectedGraphWarning  # noqa: E402
from lle_gpu.torch import (  # noqa: E402
    LocalContextClassifier,
    barycentric_weights,
    evaluate,
    knn,
    propagate_labels,
)
from lle_gpu.torch.recipe import CONTEXTS, Cleaner, MLPHead, frozen_features  # noqa: E402

DIGITS = load_digits(return_X_y=True)


def blobs(n=120, hidden=0.8, seed=0):
    """Points, all labels, and labels of which most are -1."""
    X, y = make_blobs(n, n_features=4, centers=3, cluster_std=3.0, random_state=seed)
    given = np.where(np.random.default_rng(seed).uniform(size=n) < hidden, -1, y)
    given[[np.flatnonzero(y == c)[0] for c in range(3)]] = range(3)
    return X, y, given


def classifier(context="propagation", **options):
    head = {"head": MLPHead((8,), epochs=20)} if context != "propagation" else {}
    return LocalContextClassifier(context=context, n_components=2, **head | options)


@parametrize_with_checks(
    [
        LocalContextClassifier(n_neighbors=3, unlabeled=None),
        LocalContextClassifier(
            n_neighbors=3, unlabeled=None, context="none", head=LogisticRegression()
        ),
        MLPHead(epochs=20),
        Cleaner(),
    ]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


# --- stages --------------------------------------------------------------------------------------


def test_cleaning_is_scikit_learn_s_median_and_scaler():
    X, _, _ = blobs()
    X[::7, 1] = np.nan
    X = np.insert(X, 2, 5.0, axis=1)
    cleaned = Cleaner().fit(X[:80]).transform(X[80:])
    steps = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    kept = np.delete(X, 2, axis=1)
    np.testing.assert_allclose(cleaned, steps.fit(kept[:80]).transform(kept[80:]), atol=1e-12)


def test_a_common_scale_keeps_the_shape_of_the_cloud():
    X, _, _ = blobs()
    Z = Cleaner("common").fit_transform(X)
    ratio = np.ptp(X, axis=0) / np.ptp(Z, axis=0)
    np.testing.assert_allclose(ratio, ratio[0])
    assert Z.var(axis=0).mean() == pytest.approx(1)
    assert np.array_equal(Cleaner(None).fit_transform(X), X)


@pytest.mark.parametrize("scale", ["features", "common"])
@pytest.mark.parametrize("factor", [2.0**-700, 2.0**700])
def test_the_unit_of_measurement_does_not_matter(scale, factor):
    """Powers of two round nothing; squares of these leave float64's range."""
    X, _, _ = blobs()
    Z = Cleaner(scale).fit_transform(X)
    np.testing.assert_allclose(Cleaner(scale).fit_transform(X * factor), Z, rtol=1e-12)
    # By the column, too.
    X[:, 0] *= factor
    moved = Cleaner().fit_transform(X)
    assert moved.std(axis=0) == pytest.approx(1)


def test_columns_of_nothing_or_constant_in_training_are_left_out_later_too():
    X = np.array([[1.0, 2.0, np.nan], [3.0, 2.0, np.nan], [0.0, 2.0, np.nan]])
    cleaner = Cleaner(None).fit(X)
    assert np.array_equal(cleaner.transform([[7.0, 9.0, 4.0]]), [[7.0]])


def test_a_frozen_network_is_left_as_it_was():
    network = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Dropout(), torch.nn.ReLU())
    network[2].eval()
    before = pickle.dumps(network.state_dict())
    X, _, given = blobs()
    Z = frozen_features(network, X)
    expected = torch.relu(network[0](torch.as_tensor(X).float())).detach()  # without the dropout
    np.testing.assert_allclose(Z, expected, atol=1e-6)
    assert [part.training for part in network] == [True, True, False]
    classifier(features=network).fit(X, given)
    assert pickle.dumps(network.state_dict()) == before
    assert all(parameter.grad is None for parameter in network.parameters())


def test_propagation_is_the_function_on_cleaned_points():
    X, _, given = blobs()
    model = classifier(reg=0.05, n_neighbors=6).fit(X, given)
    z = torch.as_tensor(StandardScaler().fit_transform(X))
    idx = knn(z, k=6)
    w = barycentric_weights(z, (z, idx), reg=0.05, method="nonneg")
    F = propagate_labels(idx, w, torch.as_tensor(given), torch.as_tensor(given >= 0))
    assert np.array_equal(model.transduction_, F.argmax(dim=1))
    np.testing.assert_allclose(model.label_distributions_.sum(axis=1), 1)
    assert np.array_equal(model.transduction_[given >= 0], given[given >= 0])


def test_new_points_get_their_neighbours_scores():
    X, _, given = blobs()
    model = classifier().fit(X, given)
    new = X[:10] + 0.1
    z, bank = (torch.as_tensor(StandardScaler().fit(X).transform(part)) for part in (new, X))
    idx = knn(z, bank, k=10)
    w = barycentric_weights(z, (bank, idx), reg=0.1, method="nonneg")
    F = (w[:, :, None] * model.scores_[idx]).sum(dim=1).clamp_min(0)
    np.testing.assert_allclose(model.predict_proba(new), F / F.sum(dim=1, keepdim=True), atol=1e-9)


def test_the_embedding_s_coordinates_are_features_beside_the_others():
    X, _, given = blobs()
    model = classifier("embedding", head=LogisticRegression()).fit(X, given)
    assert model.head_.n_features_in_ == 4 + 2
    plain = classifier("none", head=LogisticRegression()).fit(X, given)
    Z = StandardScaler().fit_transform(X)
    labelled = given >= 0
    direct = LogisticRegression().fit(Z[labelled], given[labelled])
    assert np.array_equal(plain.predict(X), direct.predict(Z))
    lle = LocallyLinearEmbedding(n_neighbors=10, n_components=2, reg=0.1, random_state=0).fit(Z)
    both = np.hstack([Z, StandardScaler().fit_transform(lle.embedding_)])
    direct.fit(both[labelled], given[labelled])
    np.testing.assert_allclose(model.predict_proba(X), direct.predict_proba(both), atol=1e-6)
    # transform gives training points their own coordinates
    assert np.array_equal(model.predict(X), model.transduction_)


def test_a_head_learns_what_was_propagated():
    X, _, given = blobs()
    soft = classifier(head=MLPHead((8,), epochs=30)).fit(X, given)
    hard = classifier(head=LogisticRegression()).fit(X, given)
    propagated = classifier().fit(X, given)
    Z = Cleaner().fit_transform(X)
    own = MLPHead((8,), epochs=30).fit(Z, propagated.label_distributions_)
    np.testing.assert_allclose(soft.predict_proba(X), own.predict_proba(Z))
    theirs = LogisticRegression().fit(Z, propagated.transduction_)
    np.testing.assert_allclose(hard.predict_proba(X), theirs.predict_proba(Z))


# --- nothing leaks -------------------------------------------------------------------------------


@pytest.mark.parametrize("context", CONTEXTS)
def test_evaluate_fits_on_what_it_says(context, monkeypatch):
    """The labels that fit() is given are the shown ones; points to be predicted it never sees."""
    X, y, _ = blobs()
    seen = []
    fit = LocalContextClassifier.fit
    monkeypatch.setattr(
        LocalContextClassifier, "fit", lambda self, X, y: (seen.append((X, y)), fit(self, X, y))[1]
    )
    result = evaluate(classifier(context), X, y, labels_per_class=4, test_size=30)
    ((points, given),) = seen
    assert len(points) == 90
    assert result.n_labeled == (given >= 0).sum() == 12
    assert (result.n_hidden, result.n_test) == (78, 30)
    rows = [int(np.flatnonzero((point == X).all(axis=1))[0]) for point in points]
    assert len(set(rows)) == 90
    assert np.array_equal(given[given >= 0], y[rows][given >= 0])
    model = fit(clone(classifier(context)), points, given)
    held_out = np.setdiff1d(np.arange(120), rows)
    assert result.inductive == model.score(X[held_out], y[held_out])
    hidden = given < 0
    assert result.transductive == np.mean(model.transduction_[hidden] == y[rows][hidden])


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_prediction_does_not_depend_on_the_others_in_the_call(context):
    X, _, given = blobs()
    model = classifier(context).fit(X[:100], given[:100])
    together = model.predict_proba(X[100:])
    alone = np.concatenate([model.predict_proba(X[i : i + 1]) for i in range(100, 120)])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    far = X[100:].copy()
    far[1:] *= 1e6
    np.testing.assert_allclose(model.predict_proba(far)[0], together[0], atol=1e-6)


def test_evaluate_fitted_model_does_not_see_the_test_rows():
    X, y, _ = blobs()
    results = []
    for factor in (1, 1e3):
        moved = X.copy()
        _, test = _split(y)
        moved[test] *= factor
        results.append(evaluate(classifier(), moved, y, labels_per_class=4).transductive)
    assert results[0] == results[1]


def _split(y):
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state

    rows = np.arange(len(y))
    return train_test_split(rows, test_size=0.25, stratify=y, random_state=check_random_state(0))


# --- as an estimator -----------------------------------------------------------------------------


@pytest.mark.parametrize("context", CONTEXTS)
def test_determinism_and_clones(context):
    X, _, given = blobs()
    torch.manual_seed(4)
    state = torch.random.get_rng_state()
    model = classifier(context)
    if context != "propagation":
        model.set_params(head=None, random_state=7)
    first = model.fit(X, given).predict_proba(X)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(5)
    twin = clone(model)
    assert repr(twin.get_params()) == repr(model.get_params())
    assert not hasattr(twin, "classes_")
    assert np.array_equal(twin.fit(X, given).predict_proba(X), first)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), first)


def test_parameters_can_be_searched():
    X, y, _ = blobs()
    search = GridSearchCV(classifier(), {"n_neighbors": [3, 8]}, cv=3).fit(X, y)
    assert search.best_score_ > 0.6
    nested = classifier("none").set_params(head__epochs=3)
    assert nested.head.epochs == 3


def test_kinds_of_data_give_the_same():
    X, _, given = blobs()
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    expected = classifier().fit(X, given).predict_proba(X)
    tensors = classifier().fit(torch.as_tensor(X), torch.as_tensor(given))
    assert np.array_equal(tensors.predict_proba(torch.as_tensor(X)), expected)
    named = classifier().fit(frame, pandas.Series(given))
    assert np.array_equal(named.predict_proba(frame), expected)
    assert list(named.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        named.predict(frame[list("dcba")])


def test_labels_of_text_and_other_marks():
    X, y, given = blobs()
    names = np.array(["ant", "bee", "cat"])
    text = np.where(given < 0, "", names[y])
    model = classifier(unlabeled="").fit(X, text)
    assert list(model.classes_) == list(names)
    assert np.array_equal(model.predict(X), names[classifier().fit(X, given).predict(X)])
    result = evaluate(classifier(unlabeled="unknown"), X, names[y], labels_per_class=4)
    assert result.n_labeled == 12
    assert result.transductive > 0.5
    signs = classifier(unlabeled=None).fit(X, np.where(y == 0, -1, 1))
    assert list(signs.classes_) == [-1, 1]


@pytest.mark.parametrize("unlabeled", [-1, None, np.nan, "none"])
def test_evaluate_hides_labels_of_any_kind_by_any_mark(unlabeled):
    """Text, numbers and either mark: the same points are right."""
    X, y, _ = blobs()
    expected = evaluate(classifier(), X, y, labels_per_class=5)
    for labels in (y, np.array(["c0", "c1", "c2"])[y], y + 0.0):
        if unlabeled == "none" and labels.dtype.kind != "U":
            continue
        assert evaluate(classifier(unlabeled=unlabeled), X, labels, labels_per_class=5) == expected


@pytest.mark.parametrize("labels_per_class", [5, None])
def test_evaluate_fits_baselines_to_the_labelled_points_alone(labels_per_class, monkeypatch):
    X, y, _ = blobs()
    seen = []
    fit = KNeighborsClassifier.fit
    monkeypatch.setattr(
        KNeighborsClassifier, "fit", lambda self, X, y: (seen.append((X, y)), fit(self, X, y))[1]
    )
    names = np.array(["ant", "bee", "cat"])[y]
    baseline = KNeighborsClassifier(3)
    result = evaluate(baseline, X, names, labels_per_class=labels_per_class)
    assert not hasattr(baseline, "classes_")
    ((points, given),) = seen
    train, test = _split(y)
    rows = np.array([int(np.flatnonzero((point == X).all(axis=1))[0]) for point in points])
    assert set(rows) <= set(train)
    assert np.array_equal(given, names[rows])
    assert len(rows) == result.n_labeled == (15 if labels_per_class else len(train))
    model = fit(KNeighborsClassifier(3), points, given)
    assert result.inductive == model.score(X[test], names[test])
    hidden = np.setdiff1d(train, rows)
    if labels_per_class:
        assert result.transductive == model.score(X[hidden], names[hidden])
    else:
        assert np.isnan(result.transductive)


def test_missing_labels_of_every_kind_mark_points_without_one():
    pd = pytest.importorskip("pandas")
    X, _, given = blobs()
    names = np.array(["ant", "bee", "cat"])
    expected = classifier().fit(X, given).transduction_
    gaps = [None if label < 0 else label for label in given.tolist()]
    text = [None if label is None else names[label] for label in gaps]
    numbers = [
        np.array([np.nan if label is None else label for label in gaps], dtype=object),
        np.where(given < 0, np.nan, given),
        np.array(gaps, dtype=object),
        pd.Series(gaps, dtype="Int64"),
    ]
    texts = [np.array(text, dtype=object), pd.Series(text), pd.Series(text, dtype="string")]
    for unlabeled in (None, np.nan, pd.NA):
        for labels in numbers:
            model = classifier(unlabeled=unlabeled).fit(X, labels)
            assert np.array_equal(model.transduction_, expected)
        for labels in texts:
            model = classifier(unlabeled=unlabeled).fit(X, labels)
            assert np.array_equal(model.transduction_, names[expected])
    for labels in numbers + texts:
        with pytest.raises(ValueError, match="missing label.* unlabeled=-1 .*use unlabeled=None"):
            classifier().fit(X, labels)
    with pytest.raises(ValueError, match="y has text .'ant'. and labels that are none .0."):
        classifier().fit(X, np.array([0, "ant", -1] * 40, dtype=object))


def test_missing_values_in_training_and_later():
    X, _, given = blobs()
    X[::9, 0] = np.nan
    model = classifier().fit(X, given)
    assert np.isfinite(model.predict_proba(X)).all()


def test_points_without_a_tie_are_equally_probable():
    X, _, given = blobs()
    X[60:] += 1e3
    given[60:] = -1
    with pytest.warns(DisconnectedGraphWarning, match="60 of 120 points"):
        model = classifier().fit(X, given)
    n_classes = len(model.classes_)
    np.testing.assert_allclose(model.label_distributions_[60:], 1 / n_classes)
    np.testing.assert_allclose(model.predict_proba(X[70:80]), 1 / n_classes)


def test_a_failed_fit_leaves_the_model_as_it_was():
    X, _, given = blobs()
    model = classifier().fit(X, given)
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match="at least one needs a label"):
        model.fit(X[:, :2], np.full(len(X), -1))
    assert np.array_equal(model.predict_proba(X), before)


def test_one_class_is_warned_of():
    X, y, _ = blobs()
    with pytest.warns(UserWarning, match="of one class, np.int64.1., which"):
        model = classifier().fit(X, np.where(y == 0, 1, -1))
    assert (model.predict(X) == 1).all()


def test_probabilities_need_a_head_that_has_them():
    X, _, given = blobs()
    model = classifier("none", head=RidgeClassifier()).fit(X, given)
    assert not hasattr(model, "predict_proba")
    assert set(model.predict(X)) <= {0, 1, 2}


GOOD = blobs()


@pytest.mark.parametrize(
    ("options", "X", "y", "message"),
    [
        ({"context": "labels"}, *GOOD[::2], "context='labels' must be one of 'propagation'"),
        ({"scale": "rows"}, *GOOD[::2], "scale='rows' must be one of 'features', 'common', None"),
        ({"weights": "any"}, *GOOD[::2], "weights='any' must be one of"),
        ({"n_neighbors": 0}, *GOOD[::2], "n_neighbors=0 must be at least 1"),
        ({"n_neighbors": 120}, *GOOD[::2], "n_neighbors=120 must be less than"),
        ({"reg": 0}, *GOOD[::2], "reg=0.0 must be greater than 0"),
        ({}, GOOD[0], np.full(120, -1), "y is -1 at all 120 points"),
        ({}, GOOD[0], GOOD[2][1:], "inconsistent numbers of samples"),
        ({}, GOOD[0], GOOD[2] + 0.5, "Unknown label type: continuous"),
        ({}, GOOD[0], GOOD[2].astype(str), "y is text, and has '-1'"),
        ({}, np.where(GOOD[0] > 9, np.inf, GOOD[0]), GOOD[2], "infinity"),
        ({}, np.ones((120, 2)), GOOD[2], "2 column.s., all constant"),
        ({"features": lambda Z: Z[1:]}, *GOOD[::2], r"features gave shape \(119, 4\) for 120"),
        ({"features": lambda Z: Z * np.nan}, *GOOD[::2], "features gave NaN"),
    ],
)
def test_bad_input(options, X, y, message):
    with pytest.raises(ValueError, match=message):
        LocalContextClassifier(**options).fit(X, y)


@pytest.mark.parametrize("name", ["n_neighbors", "n_components"])
@pytest.mark.parametrize("value", [5.5, "5", True, None])
def test_counts_are_integers(name, value):
    with pytest.raises(TypeError, match=f"{name}={value!r} must be an integer"):
        LocalContextClassifier(**{name: value}).fit(*GOOD[::2])
    LocalContextClassifier(**{name: np.int64(5)}).fit(*GOOD[::2])


def test_bad_input_of_evaluate_and_the_head():
    X, y, given = GOOD
    with pytest.raises(ValueError, match="which mark points without one"):
        evaluate(classifier(), X, given)
    with pytest.raises(ValueError, match="labels_per_class=31 must be from 1 to 30"):
        evaluate(classifier(), X, y, labels_per_class=31)
    with pytest.raises(ValueError, match="epochs=0 must be at least 1"):
        MLPHead(epochs=0).fit(X, y)
    for name in ("learning_rate", "weight_decay"):
        with pytest.raises(TypeError, match=f"{name} is a tensor that requires grad"):
            MLPHead(**{name: torch.tensor(0.01, requires_grad=True)}).fit(X, y)
    with pytest.raises(ValueError, match="must be probabilities"):
        MLPHead().fit(X, -np.ones((120, 2)))


# --- is it worth it? -----------------------------------------------------------------------------


def test_propagation_is_better_than_the_baseline_with_few_labels():
    """Of digits, 10 labels a class: on held-out points and on those whose labels were hidden."""
    results = {
        context: [
            evaluate(
                LocalContextClassifier(context=context, scale="common"), *DIGITS, random_state=seed
            )
            for seed in range(3)
        ]
        for context in ("propagation", "none")
    }
    for ours, baseline in zip(results["propagation"], results["none"], strict=True):
        assert ours.inductive > baseline.inductive + 0.02
        assert ours.transductive > baseline.transductive + 0.02


def test_the_table_of_few_labels():
    from benchmarks.few_labels import row

    name, *cells = row("propagation", "propagation", 10, 1).split()
    result = evaluate(LocalContextClassifier(scale="common"), *DIGITS, random_state=0)
    assert name == "propagation"
    assert float(cells[0]) == pytest.approx(100 * result.inductive, abs=0.06)
    assert float(cells[3]) == pytest.approx(100 * result.transductive, abs=0.06)


@pytest.mark.parametrize("context", ["none", "embedding", "propagation"])
def test_one_class_is_every_prediction_of_any_head(context):
    X = np.random.default_rng(0).standard_normal((40, 12))
    y = np.full(40, -1)
    y[:5] = 7
    model = LocalContextClassifier(context=context, head=LogisticRegression())
    with pytest.warns(UserWarning, match="which will be every prediction"):
        model.fit(X, y)
    assert (model.predict(X) == 7).all()
    assert model.predict_proba(X).shape == (40, 1)
