"""The pipeline, readable as the papers: neighbours, constraints, F, bottom vectors, embedding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils._param_validation import HasMethods, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from lle_gpu.arrays import (
    Number,
    as_kind_of,
    as_points,
    check_sizes,
    check_values,
    on_device,
    to_host,
)
from lle_gpu.backend import Backend, cpu_backend
from lle_gpu.constraints import METHODS
from lle_gpu.device import DEVICES, resolve
from lle_gpu.disconnected import DISCONNECTED, Graph, settle_graph
from lle_gpu.exceptions import GpuFallbackWarning, GpuMemoryError, warn_user
from lle_gpu.kinds import KINDS, check_kind, output_kind, wrap
from lle_gpu.memory import check_memory, estimate_memory, parse_memory
from lle_gpu.neighbors import ALGORITHMS, APPROXIMATE
from lle_gpu.neighbors.precomputed import neighbor_index
from lle_gpu.out_of_sample import interpolate
from lle_gpu.patching import is_patched
from lle_gpu.progress import Progress, note, stage, watch
from lle_gpu.spectral import SOLVERS, Spectrum

__all__ = [
    "PARAMETER_CONSTRAINTS",
    "Embedding",
    "embed",
    "embed_graph",
    "embed_on",
    "locally_linear_embedding",
    "where_it_fits",
]

PARAMETER_CONSTRAINTS: dict[str, list[Any]] = {
    "n_neighbors": [Number(Integral, 1, None, closed="left")],
    "n_components": [Number(Integral, 1, None, closed="left")],
    "reg": [Number(Real, 0, None, closed="left")],
    "eigen_solver": [StrOptions(set(SOLVERS))],
    "tol": [Number(Real, 0, None, closed="left")],
    "max_iter": [Number(Integral, 1, None, closed="left")],
    "method": [StrOptions(set(METHODS))],
    "hessian_tol": [Number(Real, 0, None, closed="left")],
    "modified_tol": [Number(Real, 0, None, closed="left")],
    "neighbors_algorithm": [StrOptions(set(ALGORITHMS))],
    "random_state": ["random_state"],
    "n_jobs": [None, Number(Integral, None, None, closed="neither")],
    "device": [StrOptions(set(DEVICES))],
    "metric": [str, callable],
    "precomputed_knn": [None, "array-like", "sparse matrix"],
    "disconnected": [StrOptions(set(DISCONNECTED))],
    "memory_limit": [None, str, Real],
    "output_type": [None, StrOptions(set(KINDS))],
    "verbose": ["verbose"],
    "callbacks": [None, callable, Progress, list, tuple],
}


@dataclass(frozen=True)
class Embedding:
    """What the pipeline returns.

    Attributes
    ----------
    coordinates : array of shape (n, n_components), in X's dtype
    spectrum : Spectrum
    search : NeighborSearch
        Over X, for points that come later.
    embedded_rows : ndarray of int
        The rows that solve the eigenproblem; the others are interpolated between them.
    bridged_rows : ndarray of int
        The rows that got other neighbours than their nearest.
    """

    coordinates: NDArray[Any]
    spectrum: Spectrum
    search: Any
    embedded_rows: NDArray[np.int64]
    bridged_rows: NDArray[np.int64]


def embed_on(device: str, X: Any, **parameters: Any) -> tuple[Embedding, Backend]:
    """Run :func:`embed` where ``device`` says, and give back what X is.

    Returns
    -------
    embedding : Embedding
        Its coordinates are CuPy's if X is, else NumPy's.
    backend : Backend
        On which it was made.

    Raises
    ------
    GpuUnavailableError
    GpuMemoryError
        For "gpu" or "cuda", if the device's memory is too small.

    Warns
    -----
    GpuFallbackWarning
        For "auto", if that is so and the CPU takes over.
    """
    with on_device(X):
        backend = resolve(
            device,
            metric=parameters["metric"],
            algorithm=parameters["neighbors_algorithm"],
            sparse=issparse(X),
        )
    result, backend = where_it_fits(
        device,
        backend,
        X,
        X,
        lambda backend: embed(backend.asarray(X), backend, **parameters),
        advice="embed fewer points (transform() places the others), or take a smaller n_neighbors "
        "or float32",
    )
    return replace(result, coordinates=as_kind_of(X, result.coordinates)), backend


def where_it_fits(
    device: str,
    backend: Backend,
    X: Any,
    where: Any,
    work: Callable[[Backend], Any],
    *,
    advice: str,
) -> tuple[Any, Backend]:
    """Do the work on X where ``where`` is; on the CPU if the GPU's memory is too small for it.

    Returns
    -------
    result
        Of ``work(backend)``.
    backend : Backend
        The one that did it.

    Raises
    ------
    GpuMemoryError
        In place of going to the CPU, if ``device`` is "gpu" or "cuda".

    Warns
    -----
    GpuFallbackWarning
    """
    try:
        with backend.at(where):
            return work(backend), backend
    except Exception as error:
        if not backend.out_of_memory(error):
            raise
        what = f"the GPU's memory is too small for {X.shape[0]} x {X.shape[1]} points ({error})"
        if device in ("gpu", "cuda"):
            raise GpuMemoryError(
                f"device={device!r}: {what}. Use device='auto' or 'cpu', {advice}."
            ) from error
    # Outside the except clause, whose traceback held the arrays of the failed attempt.
    warn_user(
        f"{what}: this was done on the CPU. Use device='cpu' to go there at once.",
        GpuFallbackWarning,
    )
    backend = cpu_backend()
    return work(backend), backend


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
    knn_graph: tuple[str, Any],
    disconnected: str,
    memory_limit: float | str | None,
) -> Embedding:
    """Run the stages on validated data; the parameters are those of the estimator.

    X is an array of the backend's; so are the coordinates. A neighbour graph in pieces alone, n x k
    integers, comes to the host to be mended. ``knn_graph`` is one that the user brings, or None,
    after the name of the parameter that it came by.
    """
    n, d = X.shape
    check_sizes((n, d), method=method, n_neighbors=n_neighbors, n_components=n_components)
    limit = parse_memory(memory_limit)
    estimate = estimate_memory(
        (n, d),
        n_neighbors=n_neighbors,
        n_components=n_components,
        method=method,
        eigen_solver=eigen_solver,
        n_stored=getattr(X, "nnz", None),  # sparse X has it
        neighbors_algorithm=neighbors_algorithm,
    )
    check_memory(estimate, limit, standard=method == "standard")
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

    search, index = _neighbors(
        X,
        backend,
        knn_graph,
        n_neighbors,
        algorithm=neighbors_algorithm,
        metric=metric,
        random_state=random_state,
        n_jobs=n_jobs,
    )
    vectors, spectrum, graph = embed_graph(
        X,
        index,
        backend,
        n_components=n_components,
        method=method,
        options=options,
        reg=reg,
        neighbors_algorithm=neighbors_algorithm,
        metric=metric,
        disconnected=disconnected,
        solver=eigen_solver,
        tol=tol,
        max_iter=max_iter,
        random_state=random_state,
        n_jobs=n_jobs,
        memory_limit=limit,
    )
    if spectrum.n_null > n_components + 1 and len(graph.classes) == 1:
        warn_user(
            f"F has at least {spectrum.n_null} null vectors (the constant included), more than the "
            f"n_components={n_components} asked for: the coordinates are one choice among many. "
            "Try a larger n_neighbors, another method, or more components.",
            UserWarning,
        )
    return Embedding(
        vectors.astype(X.dtype, copy=False),
        spectrum,
        search,
        graph.embedded_rows,
        graph.bridged_rows,
    )


def _neighbors(
    X: NDArray[Any], backend: Backend, knn_graph: tuple[str, Any], n_neighbors: int, **options: Any
) -> tuple[Any, NDArray[np.integer]]:
    """The search over X, and each point's neighbours (n, k): its own, or those that were given."""
    n = X.shape[0]
    name, given = knn_graph
    with stage("neighbors", n):
        if given is not None:
            given = neighbor_index(given, n, n_neighbors, name=name, points=backend.rows_of(X))
            note(f"neighbours: taken from {name}")
        search = backend.neighbor_search(X, n_neighbors, **options)
        if given is None:
            index = search.kneighbors(return_distance=False)
        else:
            index = backend.asarray(given)
        if n <= np.iinfo(np.int32).max:
            index = index.astype(np.int32)  # half the memory from here on
    return search, index


def embed_graph(
    X: NDArray[Any],
    index: NDArray[np.integer],
    backend: Backend,
    *,
    n_components: int,
    method: str,
    options: dict[str, Any],
    reg: float,
    neighbors_algorithm: str,
    metric: Any,
    disconnected: str,
    random_state: Any,
    n_jobs: int | None,
    **solving: Any,
) -> tuple[NDArray[np.float64], Spectrum, Graph]:
    """Run the stages that come after the search, on its answer ``index`` (n, k).

    ``options`` are for the method's constraints, ``solving`` for the backend's ``bottom_vectors``;
    the others are the estimator's parameters. The vectors (n, n_components) are of all points,
    those that "largest" leaves out included.
    """
    n, n_neighbors = index.shape

    def search_in(points: NDArray[Any]) -> Any:
        # What is mended is searched exactly: a few points, for which no index is worth its while.
        return backend.neighbor_search(
            points,
            n_neighbors,
            algorithm="auto" if neighbors_algorithm in APPROXIMATE else neighbors_algorithm,
            metric=metric,
            random_state=random_state,
            n_jobs=n_jobs,
        )

    with stage("graph"):
        graph = settle_graph(
            backend.rows_of(X),
            index,
            backend.closed_classes(index),
            disconnected=disconnected,
            method=method,
            n_components=n_components,
            search_in=lambda points: _OnHost(search_in(points)),
        )
    whole = len(graph.embedded_rows) == n
    part = X if whole else backend.rows_of(X)[graph.embedded_rows]
    with stage("constraints", part.shape[0]):
        build = backend.constraints[method]
        constraints = build(
            part, backend.asarray(graph.index), n_components, n_jobs=n_jobs, **options
        )
    vectors, spectrum = backend.bottom_vectors(
        constraints,
        n_components,
        square=METHODS[method].square,
        classes=graph.classes,
        random_state=random_state,
        n_jobs=n_jobs,
        **solving,
    )
    if whole:
        return vectors, spectrum, graph
    coordinates = np.empty((n, n_components))
    coordinates[graph.embedded_rows] = to_host(vectors)
    rest = np.setdiff1d(np.arange(n), graph.embedded_rows)
    placed = interpolate(
        backend.rows_of(X)[rest],
        search_in(part),
        vectors,
        n_neighbors=n_neighbors,
        reg=reg,
        backend=backend,
        n_jobs=n_jobs,
    )
    coordinates[rest] = to_host(placed)
    return backend.asarray(coordinates), spectrum, graph


class _OnHost:
    """A search whose answers are NumPy's arrays."""

    def __init__(self, search: Any) -> None:
        self._search = search

    def kneighbors(self, *args: Any, **options: Any) -> Any:
        found = self._search.kneighbors(*args, **options)
        return tuple(map(to_host, found)) if isinstance(found, tuple) else to_host(found)


@validate_params(  # type: ignore[untyped-decorator]
    {"X": ["array-like", "sparse matrix", HasMethods("kneighbors")], **PARAMETER_CONSTRAINTS},
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
    precomputed_knn: Any = None,
    disconnected: str = "warn",
    memory_limit: float | str | None = None,
    output_type: str | None = None,
    verbose: bool | int = False,
    callbacks: Any = None,
) -> tuple[Any, float]:
    """Embed points so that each keeps its place among its neighbours.

    The same signature as :func:`sklearn.manifold.locally_linear_embedding`, and a few parameters
    more.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features), or NearestNeighbors
        The data, or a fitted :class:`sklearn.neighbors.NearestNeighbors`, whose data are taken.
    n_neighbors, n_components : int
    reg, eigen_solver, tol, max_iter, method, hessian_tol, modified_tol, random_state, n_jobs, \
neighbors_algorithm, device, metric, precomputed_knn, disconnected, memory_limit, output_type, \
verbose, callbacks
        As in :class:`lle_gpu.LocallyLinearEmbedding`.

    Returns
    -------
    embedding : array of shape (n_samples, n_components), float32 if X is, else float64
        Of X's kind, or as ``output_type`` says.
    squared_error : float
        Reconstruction error ||F Y||_F^2, the sum of the squared singular values.

    Raises
    ------
    ValueError, TypeError, DisconnectedGraphError, GpuUnavailableError
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
    # scikit-learn's, or what cuml.accel puts in its place, which is not an instance of it.
    if callable(getattr(X, "kneighbors", None)):
        check_is_fitted(X)
        X = X._fit_X
    kind = output_kind(X, output_type, frames_as_arrays=is_patched())
    check_kind(kind)
    points = as_points(X, estimator="locally_linear_embedding", least=2)
    with watch(verbose, callbacks):
        result, _ = embed_on(
            device,
            points,
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
            knn_graph=("precomputed_knn", precomputed_knn),
            disconnected=disconnected,
            memory_limit=memory_limit,
        )
    names = [f"locallylinearembedding{i}" for i in range(n_components)]
    return wrap(result.coordinates, kind, like=X, columns=names), result.spectrum.error
