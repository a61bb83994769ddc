"""Local structure as context for a classifier: the classic recipe, in stages that leak nothing.

    stage          learnt from                          what it gives
    1 clean        X of the training points             Z (n x d): no gaps, no constants, one scale
    2 features     nothing (a frozen network)           Z (n x q)
    3 weights      Z of the training points             W: each point from its neighbours
    4 context      W, and labels by propagation alone   F (n x C) or coordinates (n x n_components)
    5 head         features and targets of training     probabilities

Nothing of a point to be predicted takes part in any fit, and no label is ever part of a feature.

S. Roweis, L. Saul: Nonlinear dimensionality reduction by locally linear embedding. Science 290:2323
(2000); F. Wang, C. Zhang: Label propagation through linear neighborhoods. IEEE TKDE 20:55 (2008),
section 4 for points out of sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.utils import (
    _safe_indexing,
    check_array,
    check_consistent_length,
    check_random_state,
    column_or_1d,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from lle_gpu.estimator import LocallyLinearEmbedding
from lle_gpu.exceptions import warn_user
from lle_gpu.kinds import is_frame, is_missing, kind_of, to_host, unwrap, which_missing
from lle_gpu.torch.checks import count, number, one_of
from lle_gpu.torch.functional import reconstruct
from lle_gpu.torch.modes import evaluating
from lle_gpu.torch.neighbors import knn
from lle_gpu.torch.propagation import propagate_labels
from lle_gpu.torch.weights import METHODS, barycentric_weights

__all__ = [
    "Cleaner",
    "Evaluation",
    "LocalContextClassifier",
    "MLPHead",
    "evaluate",
    "frozen_features",
]

Array = NDArray[Any]
Float = NDArray[np.float64]

CONTEXTS = ("propagation", "embedding", "none")
SCALES = ("features", "common", None)
# Points that go through a frozen network at once.
BATCH = 1024


class Cleaner(TransformerMixin, BaseEstimator):
    """Stage 1: no gaps, no constant columns, one scale; by the statistics of the training points.

    Parameters
    ----------
    scale : {"features", "common", None}, default="features"
        Divide each column by its standard deviation; or, as is right for pixels, all of them by
        one, the root of their mean variance; or leave the scale as it is. The mean goes to 0 unless
        it is None.

    Attributes
    ----------
    kept_ : ndarray of int
        Columns that are not constant among the training points; the others are left out.
    medians_ : ndarray of shape (n_features_in_,)
        What missing values become; 0 in a column of nothing else.
    mean_, scale_ : ndarray of shape (len(kept_),)
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from lle_gpu.torch.recipe import Cleaner
    >>> X = np.array([[0.0, 7.0], [np.nan, 7.0], [2.0, 7.0], [4.0, 7.0]])
    >>> Cleaner(scale=None).fit_transform(X)
    array([[0.],
           [2.],
           [2.],
           [4.]])
    """

    def __init__(self, scale: str | None = "features") -> None:
        self.scale = scale

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn medians, constant columns, mean and scale.

        Parameters
        ----------
        X : array-like, data frame or tensor of shape (n, d)
            NaN is a missing value; infinity is none.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For infinity, or if all columns are constant.
        """
        one_of("scale", self.scale, SCALES)
        X = _numbers(self, X, reset=True)
        imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(X)
        X = imputer.transform(X)
        # Powers of two out of each column: squares of 1e-200 are 0, and of 1e200 infinite.
        _, exponents = np.frexp(np.abs(X).max(axis=0))
        X = np.ldexp(X, -exponents)
        varies = np.ptp(X, axis=0) > 0
        if not varies.any():
            raise ValueError(
                f"X has {X.shape[1]} column(s), all constant among the training points "
                f"(n_samples = {len(X)}): nothing tells these apart"
            )
        kept, exponents = X[:, varies], exponents[varies]
        mean, scale = np.zeros(kept.shape[1]), np.ones(kept.shape[1])
        if self.scale is not None:
            mean, scale = (
                np.ldexp(part, exponents) for part in (kept.mean(axis=0), kept.std(axis=0))
            )
            if self.scale == "common":
                largest = scale.max()
                scale[:] = largest * np.sqrt(np.mean((scale / largest) ** 2))
        self.medians_, self.kept_ = imputer.statistics_, np.flatnonzero(varies)
        self.mean_, self.scale_ = mean, scale
        return self

    def transform(self, X: Any) -> Float:
        """Apply what was learnt; to (m, len(kept_)), float64."""
        check_is_fitted(self)
        X = _numbers(self, X, reset=False)
        X = np.where(np.isnan(X), self.medians_, X)
        return (X[:, self.kept_] - self.mean_) / self.scale_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def frozen_features(features: Callable[[Any], Any] | None, Z: Float) -> Float:
    """Stage 2: what a network that is not trained here makes of the points.

    Parameters
    ----------
    features : torch.nn.Module, callable or None
        A module is called in evaluation mode, without gradients, on parts of the points, as tensors
        of its parameters' dtype on their device, and is left as it was; one for images has to begin
        with ``torch.nn.Unflatten``. Another callable gets all points as an array. None changes
        nothing.
    Z : ndarray of shape (n, d), float64

    Returns
    -------
    ndarray of shape (n, q), float64
        Dimensions after the first are flattened.

    Raises
    ------
    ValueError
        For another number of rows, or NaN or infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from lle_gpu.torch.recipe import frozen_features
    >>> frozen_features(np.square, np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[ 1.,  4.],
           [ 9., 16.]])
    """
    if features is None:
        return Z
    found = _by_module(features, Z) if isinstance(features, torch.nn.Module) else features(Z)
    if isinstance(found, torch.Tensor):
        found = found.detach().cpu().numpy()
    found = np.asarray(found, dtype=np.float64)
    if found.ndim == 0 or len(found) != len(Z):
        raise ValueError(
            f"features gave shape {found.shape} for {len(Z)} points, and must give a row for each"
        )
    found = found.reshape(len(Z), -1)
    if not np.isfinite(found).all():
        raise ValueError(
            "features gave NaN or infinity, which have no neighbours: check the network's weights, "
            "and the scale that it expects of its inputs"
        )
    return found


def _by_module(module: Any, Z: Float) -> Any:
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    with torch.no_grad(), evaluating(module):
        parts = torch.as_tensor(Z).split(BATCH)
        return torch.cat([module(part.to(like)).double().cpu() for part in parts])


class MLPHead(ClassifierMixin, BaseEstimator):
    """Stage 5: a small network, trained by AdamW on labels or on soft labels.

    Parameters
    ----------
    hidden : tuple of int, default=(128,)
        Widths of the hidden layers (ReLU).
    weight_decay : float, default=0.01
    learning_rate : float, default=0.003
    epochs : int, default=100
    batch_size : int, default=64
    random_state : int, RandomState instance or None, default=0
        Of first weights and the order of the batches. The same gives the same network, and torch's
        own generator is left alone.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        For soft labels 0 to C - 1.
    network_ : torch.nn.Sequential
        Gives logits; in evaluation mode, float32, on the CPU.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from lle_gpu.torch.recipe import MLPHead
    >>> X = np.array([[-1.0], [-0.8], [0.9], [1.0]])
    >>> MLPHead(hidden=(8,)).fit(X, ["low", "low", "high", "high"]).predict([[-2.0], [2.0]])
    array(['low', 'high'], dtype='<U4')
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (128,),
        *,
        weight_decay: float = 0.01,
        learning_rate: float = 0.003,
        epochs: int = 100,
        batch_size: int = 64,
        random_state: Any = 0,
    ) -> None:
        self.hidden = hidden
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train on all the points given.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,), or of floats of shape (n, C)
            Classes, or probabilities of C classes.

        Returns
        -------
        self
        """
        for name in ("epochs", "batch_size"):
            _check_count(name, getattr(self, name))
        for name in ("weight_decay", "learning_rate"):
            number(name, getattr(self, name))
        if y is not None:
            y = np.asarray(y)
        if y is not None and y.ndim == 2 and y.shape[1] > 1:
            X = validate_data(self, X, dtype=np.float64)
            y = y.astype(np.float64)
            if not np.isfinite(y).all() or (y < 0).any():
                raise ValueError("y (n, C) must be probabilities: finite, and not below 0")
            classes, targets = np.arange(y.shape[1]), torch.as_tensor(y).float()
        else:
            X, y = validate_data(self, X, y, dtype=np.float64)
            check_classification_targets(y)
            classes, codes = np.unique(y, return_inverse=True)
            targets = torch.nn.functional.one_hot(torch.as_tensor(codes), len(classes)).float()
        check_consistent_length(X, targets)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            network = self._trained(torch.as_tensor(X).float(), targets)
        self.classes_, self.network_ = classes, network
        return self

    def _trained(self, x: Any, targets: Any) -> Any:
        widths = [x.shape[1], *self.hidden, targets.shape[1]]
        layers: list[Any] = []
        for before, after in pairwise(widths):
            layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
        network = torch.nn.Sequential(*layers[:-1])
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x)).split(self.batch_size):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(network(x[rows]), targets[rows])
                loss.backward()
                optimizer.step()
        return network.eval().requires_grad_(False)

    def predict_proba(self, X: Any) -> Float:
        """Probabilities (m, C), in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        logits = self.network_(torch.as_tensor(X).float()).double()
        return logits.softmax(dim=1).numpy()

    def predict(self, X: Any) -> Array:
        """The most probable class of each point."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def _gives_probabilities(classifier: Any) -> bool:
    head = getattr(classifier, "head_", classifier.head)
    return head is None or hasattr(head, "predict_proba")


class LocalContextClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that learns from few labels and the local structure of all training points.

    Parameters
    ----------
    context : {"propagation", "embedding", "none"}, default="propagation"
        - "propagation": the labels spread over the training points, by
          :func:`lle_gpu.torch.propagate_labels` with the labelled ones clamped; a new point's
          scores are those of its neighbours among the training points, in the weights that rebuild
          it from them.
        - "embedding": coordinates of :class:`lle_gpu.LocallyLinearEmbedding`, of the training
          points without their labels, stand beside the features for the head; a new point's by its
          ``transform``.
        - "none": the features alone, which is the baseline.
    scale : {"features", "common", None}, default="features"
        See :class:`Cleaner`; "common" for pixels.
    features : torch.nn.Module, callable or None, default=None
        See :func:`frozen_features`.
    n_neighbors : int, default=10
    weights : {"nonneg", "affine"}, default="nonneg"
        Of :func:`lle_gpu.torch.barycentric_weights` (context "propagation").
    reg : float, default=0.1
        Ridge of these weights, or of the embedding.
    n_components : int, default=10
        Coordinates of the embedding.
    head : classifier or None, default=None
        A classifier of scikit-learn's kind. None is no head after "propagation", and
        ``MLPHead(random_state=random_state)`` else. After "propagation" it learns the propagated
        labels of all training points: soft ones if it is an :class:`MLPHead`, else the likeliest
        class. Else it learns the labels of the labelled points.
    unlabeled : label or None, default=-1
        What stands in y for no label. None (or NaN): points whose label is missing, be it None, NaN
        or pandas' NA; without such all points are labelled, and -1 is a class.
    random_state : int, RandomState instance or None, default=0
        Of the default head and of the embedding.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The labels that were given, sorted.
    transduction_ : ndarray of shape (n,)
        The class that each training point gets.
    label_distributions_ : ndarray of shape (n, C)
        Their propagated probabilities (context "propagation").
    cleaner_ : Cleaner
    embedding_model_ : LocallyLinearEmbedding
        Context "embedding".
    head_ : classifier or None
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if X had column names.

    Raises
    ------
    ValueError
        For parameters out of range, no labelled point, text labels of which one reads as
        ``unlabeled`` does, missing labels where ``unlabeled`` is another mark, labels of which some
        are text, infinity in X, or too few points for ``n_neighbors``.

    Warns
    -----
    UserWarning
        If there is one class only.
    DisconnectedGraphWarning
        If no chain of neighbours ties some training points to a label: their classes, and those of
        new points beside them, are all equally probable.

    Notes
    -----
    Missing values (NaN) become training medians. Nothing of the points to be predicted is used in
    :meth:`fit`, and a point's prediction does not depend on the others in the same call. Data on a
    GPU go to the host; what comes back is NumPy's. Propagated scores may leave [0, 1]; as
    probabilities those below 0 are 0, and the rest are divided by their sum.

    Labels are never part of a feature. A feature such as z = x * y leaks: it is 0 wherever y is 0,
    so that z alone gives y away in training, and a point to be predicted has no y to multiply by.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from lle_gpu.torch import LocalContextClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> hidden = np.where(np.arange(len(y)) < 100, y, -1)
    >>> model = LocalContextClassifier(scale="common").fit(X[:1500], hidden[:1500])
    >>> bool(model.score(X[1500:], y[1500:]) > 0.85)
    True
    """

    def __init__(
        self,
        *,
        context: str = "propagation",
        scale: str | None = "features",
        features: Any = None,
        n_neighbors: int = 10,
        weights: str = "nonneg",
        reg: float = 0.1,
        n_components: int = 10,
        head: Any = None,
        unlabeled: Any = -1,
        random_state: Any = 0,
    ) -> None:
        self.context = context
        self.scale = scale
        self.features = features
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.reg = reg
        self.n_components = n_components
        self.head = head
        self.unlabeled = unlabeled
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from labelled and unlabelled points.

        Parameters
        ----------
        X : array-like, data frame or tensor of shape (n, d)
        y : array-like or tensor of shape (n,)
            Classes, and ``unlabeled`` where there is none.

        Returns
        -------
        self
        """
        self._check_parameters()
        model = type(self)(**self.get_params(deep=False))
        model._fit(X, y)  # what fails there leaves this one as it was
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        for name in [name for name in vars(model) if name.endswith("_")]:
            setattr(self, name, getattr(model, name))
        return self

    @available_if(_gives_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Float:
        """Probabilities (m, C) of the classes, in the order of ``classes_``."""
        check_is_fitted(self)
        Z = self._transformed(X)
        if self.head_ is None:
            return _probabilities(self._propagated(Z))
        # Labels are clamped: among the propagated ones, too, there is every class.
        return self.head_.predict_proba(Z)

    def predict(self, X: Any) -> Array:
        """The most probable class of each of m points."""
        check_is_fitted(self)
        Z = self._transformed(X)
        if self.head_ is None:
            return self.classes_[_probabilities(self._propagated(Z)).argmax(axis=1)]
        return self.classes_[self.head_.predict(Z)]

    def _check_parameters(self) -> None:
        for name, allowed in (("context", CONTEXTS), ("scale", SCALES), ("weights", METHODS)):
            one_of(name, getattr(self, name), allowed)
        for name in ("n_neighbors", "n_components"):
            _check_count(name, getattr(self, name))

    def _fit(self, X: Any, y: Any) -> None:
        X = _numbers(self, X, reset=True)
        known, labelled = _labels(y, self.unlabeled)
        check_consistent_length(X, labelled)
        if self.context != "none" and self.n_neighbors >= len(X):
            raise ValueError(
                f"n_neighbors={self.n_neighbors} must be less than the number of training points "
                f"(n_samples = {len(X)})"
            )
        self.classes_, codes = np.unique(known, return_inverse=True)
        if len(self.classes_) == 1:
            warn_user(
                f"All {int(labelled.sum())} labelled points are of one class, "
                f"{self.classes_[0]!r}, which will be every prediction. Is {self.unlabeled!r} a "
                "class, too? Then use unlabeled=None, or another mark.",
                UserWarning,
            )
        self.cleaner_ = Cleaner(self.scale).fit(X)
        Z = frozen_features(self.features, self.cleaner_.transform(X))
        self.head_, C = None, len(self.classes_)
        if self.context == "propagation":
            self._fit_propagation(Z, codes, labelled)
            if self.head is not None:
                self.head_ = _trained(self.head, Z, self.label_distributions_, C)
        else:
            if self.context == "embedding":
                Z = self._fit_embedding(Z)
            head = MLPHead(random_state=self.random_state) if self.head is None else self.head
            self.head_ = _trained(head, Z[labelled], codes, C)
        chosen = (
            self.label_distributions_.argmax(axis=1)
            if self.head_ is None
            else self.head_.predict(Z)
        )
        self.transduction_ = self.classes_[chosen]

    def _fit_propagation(self, Z: Float, codes: Array, labelled: Array) -> None:
        """Stages 3 and 4."""
        self.bank_ = torch.as_tensor(Z)
        idx = knn(self.bank_, k=self.n_neighbors)
        w = self._weights(self.bank_, idx)
        mask = torch.as_tensor(labelled)
        y = torch.zeros(len(Z), dtype=torch.int64)
        y[mask] = torch.as_tensor(codes)
        self.scores_ = propagate_labels(idx, w, y, mask, n_classes=len(self.classes_))
        self.label_distributions_ = _probabilities(self.scores_.numpy())

    def _fit_embedding(self, Z: Float) -> Float:
        """Stages 3 and 4; gives the features with the coordinates."""
        self.embedding_model_ = LocallyLinearEmbedding(
            n_neighbors=self.n_neighbors,
            n_components=self.n_components,
            reg=self.reg,
            random_state=self.random_state,
            output_type="numpy",
        ).fit(Z)
        return self._with_coordinates(Z, self.embedding_model_.embedding_)

    # --- new points ------------------------------------------------------------------------------

    def _transformed(self, X: Any) -> Float:
        X = _numbers(self, X, reset=False)
        Z = frozen_features(self.features, self.cleaner_.transform(X))
        if self.context == "embedding":
            Z = self._with_coordinates(Z, self.embedding_model_.transform(Z))
        return Z

    def _propagated(self, Z: Float) -> Float:
        """Scores (m, C): sum_j w_j F_j over the neighbours among the training points."""
        z = torch.as_tensor(Z)
        idx = knn(z, self.bank_, k=self.n_neighbors)
        return reconstruct(self._weights(z, idx), self.scores_, idx).numpy()

    def _weights(self, z: Any, idx: Any) -> Any:
        return barycentric_weights(z, (self.bank_, idx), reg=self.reg, method=self.weights)

    def _with_coordinates(self, Z: Float, coordinates: Float) -> Float:
        # Columns of length 1, of n training points: n^1/2 brings them to the features' scale.
        return np.hstack([Z, coordinates * len(self.embedding_model_.embedding_) ** 0.5])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


@dataclass(frozen=True)
class Evaluation:
    """How often a classifier was right.

    Attributes
    ----------
    inductive : float
        On the points that :meth:`~LocalContextClassifier.fit` never saw.
    transductive : float
        On the training points whose labels were hidden; NaN if none were.
    n_labeled, n_hidden, n_test : int
        Points with a label, training points without one, held-out points.
    """

    inductive: float
    transductive: float
    n_labeled: int
    n_hidden: int
    n_test: int


def evaluate(
    classifier: Any,
    X: Any,
    y: Any,
    *,
    labels_per_class: int | None = 10,
    test_size: float | int = 0.25,
    random_state: Any = 0,
) -> Evaluation:
    """Split, hide labels, fit on the training part, and count what is right.

    Parameters
    ----------
    classifier : LocalContextClassifier, or another classifier
        A clone is fitted. One without a parameter ``unlabeled``, as scikit-learn's are, and
        pipelines, is fitted to the labelled points alone, and predicts the others: a baseline on
        the same split and labels.
    X : array-like, data frame or tensor of shape (n, d)
    y : array-like or tensor of shape (n,)
        All labels.
    labels_per_class : int or None, default=10
        Labels of each class that the training part keeps; None keeps all.
    test_size : float or int, default=0.25
        Held-out part, stratified by class.
    random_state : int, RandomState instance or None, default=0
        Of the split and of the labels that are kept.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If a class has fewer training points than ``labels_per_class``, or y has the mark for no
        label.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from lle_gpu.torch import LocalContextClassifier, evaluate
    >>> X, y = load_digits(return_X_y=True)
    >>> result = evaluate(LocalContextClassifier(scale="common"), X, y, labels_per_class=10)
    >>> result.n_labeled, result.n_hidden, result.n_test
    (100, 1247, 450)
    >>> result.inductive > 0.9 and result.transductive > 0.9
    True
    """
    parameters = classifier.get_params(deep=False)
    marks = "unlabeled" in parameters
    unlabeled = parameters.get("unlabeled")
    if labels_per_class is not None:
        _check_count("labels_per_class", labels_per_class)
    y, known = _labels(y, unlabeled)
    if not known.all():
        mark = f" {unlabeled!r}" if marks else " missing"
        raise ValueError(
            f"y has {int((~known).sum())} label(s){mark}, which mark points without one: all "
            "labels are needed to count what is right"
        )
    random = check_random_state(random_state)
    train, test = train_test_split(
        np.arange(len(y)), test_size=test_size, stratify=y, random_state=random
    )
    shown = _kept(y[train], labels_per_class, random)
    hidden = train[~shown]
    if marks:
        fitted = clone(classifier).fit(
            _safe_indexing(X, train), _marked(y[train], shown, unlabeled)
        )
    else:
        fitted = clone(classifier).fit(_safe_indexing(X, train[shown]), y[train[shown]])
    if len(hidden) == 0:
        transductive = float("nan")
    else:
        given = fitted.transduction_[~shown] if marks else fitted.predict(_safe_indexing(X, hidden))
        transductive = float(np.mean(given == y[hidden]))
    return Evaluation(
        inductive=float(np.mean(fitted.predict(_safe_indexing(X, test)) == y[test])),
        transductive=transductive,
        n_labeled=int(shown.sum()),
        n_hidden=len(hidden),
        n_test=len(test),
    )


def _marked(y: Array, shown: NDArray[np.bool_], unlabeled: Any) -> Array:
    """The labels that are shown, and the mark in place of the others."""
    mark = np.asarray(unlabeled)
    # Numbers beside text would become text.
    same = mark.dtype.kind == y.dtype.kind
    marked = y.astype(np.result_type(y, mark) if same else object, copy=True)
    if not shown.all():
        marked[~shown] = unlabeled
    return marked


def _kept(y: Array, labels_per_class: int | None, random: Any) -> NDArray[np.bool_]:
    """Which of the labels y (n,) are not hidden."""
    if labels_per_class is None:
        return np.ones(len(y), dtype=bool)
    shown = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        if not 1 <= labels_per_class <= len(rows):
            raise ValueError(
                f"labels_per_class={labels_per_class!r} must be from 1 to {len(rows)}, the "
                f"training points of class {label!r}"
            )
        shown[random.choice(rows, labels_per_class, replace=False)] = True
    return shown


def _trained(head: Any, Z: Float, targets: Array, n_classes: int) -> Any:
    """A clone of the head, fitted to classes (n,) or to probabilities (n, C)."""
    head = clone(head)
    if isinstance(head, MLPHead):
        return head.fit(Z, targets)
    if targets.ndim == 2:
        targets = targets.argmax(axis=1)
    if n_classes == 1:  # which most classifiers refuse
        head = DummyClassifier()
    return head.fit(Z, targets)


def _probabilities(scores: Float) -> Float:
    """Scores (n, C) without what is negative, each row divided by its sum; even where that is 0."""
    positive = np.maximum(scores, 0)
    total = positive.sum(axis=1, keepdims=True)
    return np.where(total > 0, positive / np.where(total > 0, total, 1), 1 / scores.shape[1])


def _numbers(estimator: Any, X: Any, *, reset: bool) -> Float:
    """X as NumPy's float64 (n, d); NaN is allowed, and column names are remembered or compared."""
    if is_frame(X):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    options: dict[str, Any] = {"dtype": np.float64, "ensure_all_finite": "allow-nan"}
    array = to_host(unwrap(X))
    if is_frame(X):
        return check_array(array, input_name="X", estimator=estimator, **options)
    return validate_data(estimator, array, reset=reset, **options)


def _labels(y: Any, unlabeled: Any) -> tuple[Array, NDArray[np.bool_]]:
    """The labels of the points that have one, and which of the n points these are."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    y = y.detach().cpu().numpy() if kind_of(y) == "torch" else np.asarray(to_host(y))
    y = column_or_1d(y, warn=True)
    missing, by_gaps = which_missing(y), is_missing(unlabeled)
    if missing.any() and not by_gaps:
        raise ValueError(
            f"y has {int(missing.sum())} missing label(s), and unlabeled={unlabeled!r} is another "
            f"mark: use unlabeled=None if points without a label are meant, or write {unlabeled!r} "
            "there"
        )
    # As objects, since text and numbers are otherwise not compared one by one.
    labelled = ~missing if by_gaps else np.asarray(y.astype(object) != unlabeled, dtype=bool)
    if not labelled.any():
        raise ValueError(f"y is {unlabeled!r} at all {len(y)} points: at least one needs a label")
    known = _of_one_kind(y[labelled])
    if known.dtype.kind in "US" and not (by_gaps or isinstance(unlabeled, str)):
        mark = str(unlabeled)
        if (known == mark).any():
            raise ValueError(
                f"y is text, and has {mark!r}, where unlabeled={unlabeled!r} is not text: use "
                f"unlabeled={mark!r} if these have no label, or unlabeled=None"
            )
    check_classification_targets(known)
    return known, labelled


def _of_one_kind(labels: Array) -> Array:
    """Labels in an array of objects as text, or as numbers."""
    if labels.dtype.kind != "O":
        return labels
    text = [isinstance(label, str) for label in labels]
    if any(text) and not all(text):
        raise ValueError(
            f"y has text ({labels[text.index(True)]!r}) and labels that are none "
            f"({labels[text.index(False)]!r}): use one kind, and let unlabeled be what stands for "
            "no label"
        )
    plain = np.array(labels.tolist())
    return plain if plain.ndim == 1 else labels


def _check_count(name: str, value: Any) -> None:
    if count(name, value) < 1:
        raise ValueError(f"{name}={value!r} must be at least 1")
