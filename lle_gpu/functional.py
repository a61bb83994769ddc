"""The pipeline, readable as the papers: neighbours, constraints, F, bottom vectors, embedding."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from lle_gpu.arrays import FLOAT_DTYPES, check_sizes, check_values
from lle_gpu.backend import Backend
from lle_gpu.constraints import METHODS
from lle_gpu.device import DEVICES, resolve
from lle_gpu.exceptions import DisconnectedGraphWarning, warn_user
from lle_gpu.neighbors import ALGORITHMS
from lle_gpu.neighbors.graph import ClosedClasses, closed_classes
from lle_gpu.progress import report_verbosely, stage
from lle_gpu.spectral import SOLVERS, Spectrum

__all__ = ["PARAMETER_CONSTRAINTS", "Embedding", "embed", "locally_linear_embedding"]

PARAMETER_CONSTRAINTS: dict[str, list[Any]] = {
    "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    "n_components": [Interval(Integral, 1, None, closed="left")],
    "reg": [Interval(Real, 0, None, closed="left")],
    "eigen_solver": [StrOptions(set(SOLVERS))],
    "tol": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "method": [StrOptions(set(METHODS))],
    "hessian_tol": [Interval(Real, 0, None, closed="left")],
    "modified_tol": [Interval(Real, 0, None, closed="left")],
    "neighbors_algorithm": [StrOptions(set(ALGORITHMS))],
    "random_state": ["random_state"],
    "n_jobs": [None, Integral],
    "device": [StrOptions(set(DEVICES))],
    "metric": [str, callable],
    "verbose": ["verbose"],
}


@dataclass(frozen=True)
class Embedding:
    """What the pipeline returns.

    Attributes
    ----------
    coordinates : ndarray of shape (n, n_components), in X's dtype
    spectrum : Spectrum
    search : NeighborSearch
        Over X, for points that come later.
    """

    coordinates: NDArray[Any]
    spectrum: Spectrum
    search: Any


def embed(
    X: NDArray[Any],
    backend: Backend,
    *,
    n_neighbors: int,
    n_components: int,
    reg: float,
    eigen_solver: str,
    tol: float,
    max_iter: int,
    method: str,
    hessian_tol: float,
    modified_tol: float,
    neighbors_algorithm: str,
    random_state: Any,
    n_jobs: int | None,
    metric: Any,
) -> Embedding:
    """Run the stages on validated data; the parameters are those of the estimator."""
    n, d = X.shape
    check_sizes((n, d), method=method, n_neighbors=n_neighbors, n_components=n_components)
    check_values(X, solver=eigen_solver)
    options: dict[str, Any] = {
        "standard": {"reg": reg},
        "modified": {"reg": reg, "modified_tol": modified_tol},
        "hessian": {"hessian_tol": hessian_tol},
        "ltsa": {},
    }[method]
    if options.get("reg") == 0 and n_neighbors > d:
        warn_user(
            f"reg=0 with n_neighbors={n_neighbors} > n_features={d}: the weights are not unique, "
            "and those of least norm are used. They rebuild X exactly where they can, so that "
            "linear projections of X are exact solutions. Set reg > 0 (1e-3 is usual).",
            UserWarning,
        )

    with stage("neighbors", n):
        search = backend.neighbor_search(
            X, n_neighbors, algorithm=neighbors_algorithm, metric=metric, n_jobs=n_jobs
        )
        index = search.kneighbors(return_distance=False)
        if n <= np.iinfo(np.int32).max:
            index = index.astype(np.int32)  # half the memory from here on
    with stage("graph"):
        classes = closed_classes(index)
    _warn_if_disconnected(classes, method, n_neighbors)
    _warn_if_unreferenced(classes, method, n_neighbors)
    with stage("constraints", n):
        build = backend.constraints[method]
        constraints = build(X, index, n_components, n_jobs=n_jobs, **options)
    vectors, spectrum = backend.bottom_vectors(
        constraints,
        n_components,
        square=METHODS[method].square,
        classes=classes,
        solver=eigen_solver,
        tol=tol,
        max_iter=max_iter,
        random_state=random_state,
        n_jobs=n_jobs,
    )
    if spectrum.n_null > n_components + 1 and len(classes) == 1:
        warn_user(
            f"F has at least {spectrum.n_null} null vectors (the constant included), more than the "
            f"n_components={n_components} asked for: the coordinates are one choice among many. "
            "Try a larger n_neighbors, another method, or more components.",
            UserWarning,
        )
    return Embedding(vectors.astype(X.dtype, copy=False), spectrum, search)


def _warn_if_disconnected(classes: ClosedClasses, method: str, n_neighbors: int) -> None:
    """Say how many closed classes the neighbour graph has, if more than one, and what to try."""
    if len(classes) == 1:
        return
    shown = 8
    sizes = ", ".join(str(size) for size in classes.sizes[:shown])
    rows = ", ".join(str(row) for row in classes.example_rows[:shown])
    more = ", ..." if len(classes) > shown else ""
    meaning = (
        "Each adds a null vector, so that the first coordinates only tell these sets apart."
        if METHODS[method].square
        else "Little or nothing ties them to the rest, so that the first coordinates may only tell "
        "these sets apart."
    )
    warn_user(
        f"The directed {n_neighbors}-nearest-neighbour graph has {len(classes)} closed classes, "
        f"sets of points that no edge leaves: of {sizes}{more} points (the first rows in each: "
        f"{rows}{more}). {meaning} Try a larger n_neighbors, remove duplicated rows, or embed each "
        "set on its own.",
        DisconnectedGraphWarning,
    )


def _warn_if_unreferenced(classes: ClosedClasses, method: str, n_neighbors: int) -> None:
    """Say which points are in no constraint at all, for the methods where that can happen."""
    alone = classes.unreferenced
    if METHODS[method].includes_point or len(alone) == 0:
        return
    rows = ", ".join(str(row) for row in alone[:8]) + (", ..." if len(alone) > 8 else "")
    warn_user(
        f"{len(alone)} point(s) are among no other point's {n_neighbors} nearest neighbours (rows "
        f"{rows}). With method={method!r} nothing ties them to the rest: each adds a null vector, "
        "so that the first coordinates single them out. Try a larger n_neighbors, leave these rows "
        "out of the fit and transform() them, or use method='standard' or 'modified', whose "
        "constraints hold every point.",
        DisconnectedGraphWarning,
    )


@validate_params(  # type: ignore[untyped-decorator]
    {"X": ["array-like", "sparse matrix", NearestNeighbors], **PARAMETER_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def locally_linear_embedding(
    X: Any,
    *,
    n_neighbors: int,
    n_components: int,
    reg: float = 1e-3,
    eigen_solver: str = "auto",
    tol: float = 1e-6,
    max_iter: int = 100,
    method: str = "standard",
    hessian_tol: float = 1e-4,
    modified_tol: float = 1e-12,
    random_state: Any = None,
    n_jobs: int | None = None,
    neighbors_algorithm: str = "auto",
    device: str = "auto",
    metric: Any = "euclidean",
    verbose: bool | int = False,
) -> tuple[NDArray[Any], float]:
    """Embed points so that each keeps its place among its neighbours.

    The same signature as :func:`sklearn.manifold.locally_linear_embedding`, and a few parameters
    more.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), or NearestNeighbors
        The data, or a fitted :class:`sklearn.neighbors.NearestNeighbors`, whose data are taken.
    n_neighbors, n_components : int
    reg, eigen_solver, tol, max_iter, method, hessian_tol, modified_tol, random_state, n_jobs, \
neighbors_algorithm, device, metric, verbose
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    Returns
    -------
    embedding : ndarray of shape (n_samples, n_components), float32 if X is, else float64
    squared_error : float
        Reconstruction error ||F Y||_F^2, the sum of the squared singular values.

    Raises
    ------
    ValueError, TypeError, GpuUnavailableError
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from lle_gpu import locally_linear_embedding
    >>> X, _ = load_digits(return_X_y=True)
    >>> Y, error = locally_linear_embedding(X, n_neighbors=30, n_components=2, method="ltsa")
    >>> Y.shape
    (1797, 2)
    """
    if isinstance(X, NearestNeighbors):
        check_is_fitted(X)
        X = X._fit_X
    X = check_array(
        X, dtype=FLOAT_DTYPES, ensure_min_samples=2, estimator="locally_linear_embedding"
    )
    with report_verbosely(verbose):
        result = embed(
            X,
            resolve(device),
            n_neighbors=n_neighbors,
            n_components=n_components,
            reg=reg,
            eigen_solver=eigen_solver,
            tol=tol,
            max_iter=max_iter,
            method=method,
            hessian_tol=hessian_tol,
            modified_tol=modified_tol,
            neighbors_algorithm=neighbors_algorithm,
            random_state=random_state,
            n_jobs=n_jobs,
            metric=metric,
        )
    return result.coordinates, result.spectrum.error
