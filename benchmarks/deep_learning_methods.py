"""The methods that ``python -m benchmarks.deep_learning`` compares.

Each is a function ``(X, y, X_new, seed, **parameters) -> (labels of X, labels of X_new)``: X (n, d)
are the training points, y (n,) their labels with -1 where there is none, and X_new (m, d) points
that were not there when anything was learnt: they are placed, or classified, after the fit.
A method that makes features is an ``embed(X, X_new, seed, **parameters) -> (Z, Z_new)``, which
knows no labels, followed by one of the heads, the same for all of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import Isomap, SpectralEmbedding
from sklearn.neighbors import KNeighborsClassifier
from sklearn.semi_supervised import LabelSpreading

from lle_gpu import LocallyLinearEmbedding

__all__ = ["HEADS", "METHODS", "Method", "grid", "missing", "predictions"]

Float = NDArray[np.float64]
Labels = NDArray[np.int64]
Parameters = dict[str, Any]
Cache = dict[str, tuple[Float, Float]]

NEIGHBORS = (5, 10, 20)
COMPONENTS = (10, 30)
REGS = (1e-3, 0.1)
HIDDEN = 128
STEPS = 200
RATE = 2e-3


def grid(**values: Any) -> tuple[Parameters, ...]:
    """All combinations, the first values first."""
    return tuple(
        dict(zip(values, combination, strict=True)) for combination in product(*values.values())
    )


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Parameters
    ----------
    title : str
    run : callable
        Features (``embed``) or labels, as above.
    candidates : tuple of dict
        Parameters to choose from.
    embeds : bool
        Whether ``run`` gives features, to which a head is put.
    ours : bool
        Whether it is locally linear: one of those among which the best LLE is sought.
    needs : str
        Module beyond those the package needs.
    """

    title: str
    run: Callable[..., Any]
    candidates: tuple[Parameters, ...] = field(default=({},))
    embeds: bool = False
    ours: bool = False
    needs: str = ""

    def grid(self) -> tuple[Parameters, ...]:
        """All that is tuned: with features, the head's parameters, too."""
        if not self.embeds:
            return self.candidates
        return tuple({**own, **head} for own, head in product(self.candidates, HEADS))


def predictions(
    method: Method, X: Float, y: Labels, X_new: Float, seed: int, chosen: Parameters, cache: Cache
) -> tuple[Labels, Labels]:
    """Labels of the training points and of new ones; features, which know no labels, are cached."""
    if not method.embeds:
        labels: tuple[Labels, Labels] = method.run(X, y, X_new, seed, **chosen)
        return labels
    own = {name: value for name, value in chosen.items() if name not in HEADS[0]}
    key = repr(own)
    if key not in cache:
        cache[key] = method.run(X, X_new, seed, **own)
    Z, Z_new = cache[key]
    return _head(Z, y, Z_new, **{name: chosen[name] for name in HEADS[0]})


def missing(method: Method) -> str:
    """What is to be installed for it; empty if it is there."""
    if not method.needs or importlib.util.find_spec(method.needs):
        return ""
    extra = "bench" if method.needs == "umap" else method.needs
    return f"pip install 'lle-gpu[{extra}]'"


# Heads: the same for all features. Both scalings make the mean squared norm 1, so that C means the
# same for few and many features; "columns" gives each of them the same share of it.
HEADS = grid(
    scaling=("common", "columns"), head=("logistic",), strength=(1, 10, 100, 1_000, 10_000)
)
HEADS += grid(scaling=("common", "columns"), head=("nearest",), strength=(1, 5))


def _head(
    Z: Float, y: Labels, Z_new: Float, *, scaling: str, head: str, strength: int
) -> tuple[Labels, Labels]:
    """Logistic regression (strength C) or nearest labelled points (strength k) on features."""
    centre = Z.mean(axis=0)
    spread = Z.std(axis=0)
    if scaling == "common":
        scale = np.linalg.norm(spread)
    else:
        scale = np.where(spread == 0, 1.0, spread) * np.sqrt(Z.shape[1])
    Z, Z_new = (Z - centre) / scale, (Z_new - centre) / scale
    labelled = y >= 0
    if head == "logistic":
        classifier = LogisticRegression(C=strength, max_iter=1000)
    else:
        classifier = KNeighborsClassifier(n_neighbors=min(strength, int(labelled.sum())))
    classifier.fit(Z[labelled], y[labelled])
    return classifier.predict(Z), classifier.predict(Z_new)


def _raw(X: Float, X_new: Float, seed: int) -> tuple[Float, Float]:
    return X, X_new


def _pca(X: Float, X_new: Float, seed: int, **parameters: Any) -> tuple[Float, Float]:
    model = PCA(random_state=seed, **parameters).fit(X)
    return model.transform(X), model.transform(X_new)


def _lle(X: Float, X_new: Float, seed: int, **parameters: Any) -> tuple[Float, Float]:
    model = LocallyLinearEmbedding(disconnected="bridge", device="cpu", n_jobs=1, **parameters)
    return model.fit(X).embedding_, model.transform(X_new)


def _laplacian(X: Float, X_new: Float, seed: int, **parameters: Any) -> tuple[Float, Float]:
    """Laplacian eigenmaps have no map for new points: LLE's barycentric weights are it."""
    Z = SpectralEmbedding(random_state=seed, **parameters).fit_transform(X)
    return Z, _interpolated(X, Z, X_new, parameters["n_neighbors"])


def _isomap(X: Float, X_new: Float, seed: int, **parameters: Any) -> tuple[Float, Float]:
    model = Isomap(**parameters).fit(X)
    return model.embedding_, model.transform(X_new)


def _umap(X: Float, X_new: Float, seed: int, **parameters: Any) -> tuple[Float, Float]:
    import umap

    model = umap.UMAP(random_state=seed, n_jobs=1, **parameters).fit(X)
    return model.embedding_, model.transform(X_new)


def _label_spreading(
    X: Float, y: Labels, X_new: Float, seed: int, **parameters: Any
) -> tuple[Labels, Labels]:
    model = LabelSpreading(kernel="knn", max_iter=1000, **parameters).fit(X, y)
    return model.transduction_, model.predict(X_new)


def _propagation(
    X: Float,
    y: Labels,
    X_new: Float,
    seed: int,
    *,
    n_neighbors: int,
    weights: str = "nonneg",
    reg: float = 0.1,
    method: str = "clamped",
    alpha: float = 0.99,
) -> tuple[Labels, Labels]:
    """Labels spread over the weights; those of new points by weights of the same kind."""
    import torch

    from lle_gpu.torch import propagate_labels, reconstruct

    x, x_new = torch.as_tensor(X), torch.as_tensor(X_new)
    idx, w = _graph(x, None, n_neighbors, weights, reg)
    labels = torch.as_tensor(y)
    mask = labels >= 0
    scores = propagate_labels(
        idx,
        w,
        labels.clamp(min=0),
        mask,
        method=method,
        alpha=alpha,
        n_classes=int(labels.max()) + 1,
    )
    idx_new, w_new = _graph(x_new, x, n_neighbors, weights, reg)
    scores_new = reconstruct(w_new, scores, idx_new)
    return scores.argmax(dim=1).numpy(), scores_new.argmax(dim=1).numpy()


def _network(
    X: Float,
    y: Labels,
    X_new: Float,
    seed: int,
    *,
    weight_decay: float = 1e-2,
    dropout: float = 0.0,
    locality: float = 0.0,
    where: str = "hidden",
    weights: str = "nonneg",
    n_neighbors: int = 10,
    reg: float = 0.1,
) -> tuple[Labels, Labels]:
    """A perceptron with two hidden layers, trained on whole batches.

    The loss is the cross entropy of the labelled points, and, with ``locality``, so many times the
    locality loss of all training points' hidden layer or class probabilities.
    """
    import torch
    from torch import nn

    from lle_gpu.torch import locality_loss

    centre, scale = X.mean(axis=0), X.std(axis=0)
    scale = np.sqrt((scale**2).mean())
    x, x_new = (torch.as_tensor((part - centre) / scale).float() for part in (X, X_new))
    labels = torch.as_tensor(y)
    labelled = labels >= 0
    if locality:
        idx, w = _graph(x, None, n_neighbors, weights, reg)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(
            *(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(dropout)),
        )
        top = nn.Linear(HIDDEN, int(labels.max()) + 1)
        parameters = [*body.parameters(), *top.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=weight_decay)
        seen = x if locality else x[labelled]
        rows = labelled if locality else slice(None)
        for _ in range(STEPS):
            hidden = body(seen)
            output = top(hidden)
            loss = nn.functional.cross_entropy(output[rows], labels[labelled])
            if locality:
                z = hidden if where == "hidden" else output.softmax(dim=1)
                loss = loss + locality * locality_loss(z, (z, idx), w)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        body.eval()
        with torch.no_grad():
            return tuple(top(body(part)).argmax(dim=1).numpy() for part in (x, x_new))


def _graph(x: Any, bank: Any, n_neighbors: int, weights: str, reg: float) -> tuple[Any, Any]:
    """Neighbours (in the bank, or among the points themselves) and their weights."""
    import torch

    from lle_gpu.torch import barycentric_weights, knn

    idx = knn(x, bank, k=n_neighbors)
    if weights == "uniform":
        return idx, torch.full(idx.shape, 1 / n_neighbors, dtype=x.dtype)
    return idx, barycentric_weights(x, (x if bank is None else bank, idx), reg=reg, method=weights)


def _interpolated(X: Float, Z: Float, X_new: Float, n_neighbors: int) -> Float:
    import torch

    from lle_gpu.torch import reconstruct

    x, z, x_new = (torch.as_tensor(np.ascontiguousarray(part)) for part in (X, Z, X_new))
    idx, w = _graph(x_new, x, n_neighbors, "affine", 1e-3)
    return reconstruct(w, z, idx).numpy()


# One grid for both kinds of weights.
LOCALITIES = grid(where=("hidden", "output"), locality=(1.0, 10.0, 0.1), n_neighbors=(10, 5))


def _fixed(run: Callable[..., Any], **parameters: Any) -> Callable[..., Any]:
    """The function with some of its parameters given, and not tuned."""

    def fixed(*arguments: Any, **tuned: Any) -> Any:
        return run(*arguments, **parameters, **tuned)

    return fixed


METHODS: dict[str, Method] = {
    "raw": Method("raw features", _raw, embeds=True),
    "pca": Method("PCA", _pca, grid(n_components=(10, 30, 60)), embeds=True),
    "isomap": Method(
        "Isomap", _isomap, grid(n_neighbors=NEIGHBORS, n_components=COMPONENTS), embeds=True
    ),
    "laplacian": Method(
        "Laplacian eigenmaps",
        _laplacian,
        grid(n_neighbors=NEIGHBORS, n_components=COMPONENTS),
        embeds=True,
        needs="torch",
    ),
    "umap": Method(
        "UMAP",
        _umap,
        grid(n_neighbors=NEIGHBORS, n_components=(2, 10), min_dist=(0.0, 0.1)),
        embeds=True,
        needs="umap",
    ),
    "lle": Method(
        "LLE",
        _lle,
        grid(n_neighbors=NEIGHBORS, n_components=COMPONENTS, reg=REGS),
        embeds=True,
        ours=True,
    ),
    "ltsa": Method(
        "LTSA",
        _fixed(_lle, method="ltsa"),
        grid(n_neighbors=(15, 30), n_components=(5, 10)),
        embeds=True,
        ours=True,
    ),
    "label-spreading": Method(
        "label spreading", _label_spreading, grid(n_neighbors=NEIGHBORS, alpha=(0.2, 0.8, 0.99))
    ),
    "propagation": Method(
        "propagation, LLE weights",
        _propagation,
        grid(n_neighbors=NEIGHBORS, reg=REGS),
        ours=True,
        needs="torch",
    ),
    "propagation-uniform": Method(
        "propagation, weights 1/k",
        _fixed(_propagation, weights="uniform"),
        grid(n_neighbors=NEIGHBORS),
        needs="torch",
    ),
    "lnp": Method(
        "linear neighbourhoods (LNP)",
        _fixed(_propagation, method="lnp"),
        grid(n_neighbors=NEIGHBORS, reg=REGS, alpha=(0.5, 0.9, 0.99)),
        ours=True,
        needs="torch",
    ),
    "mlp": Method(
        "network",
        _network,
        grid(weight_decay=(1e-2, 1e-4, 1.0), dropout=(0.0, 0.5)),
        needs="torch",
    ),
    "mlp-lle": Method(
        "network, LLE locality",
        _network,
        LOCALITIES,
        ours=True,
        needs="torch",
    ),
    "mlp-uniform": Method(
        "network, locality 1/k",
        _fixed(_network, weights="uniform"),
        LOCALITIES,
        needs="torch",
    ),
}
