"""The estimator: parameters, validation, and the same few calls as scikit-learn's."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted

from lle_gpu.arrays import (
    FLOAT_DTYPES,
    as_kind_of,
    as_points,
    check_range,
    is_device_array,
    on_device,
)
from lle_gpu.backend import Backend
from lle_gpu.device import resolve
from lle_gpu.functional import PARAMETER_CONSTRAINTS, embed_on, where_it_fits
from lle_gpu.out_of_sample import interpolate
from lle_gpu.progress import report_verbosely
from lle_gpu.spectral import Spectrum

__all__ = ["LocallyLinearEmbedding"]


class LocallyLinearEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Locally linear embedding, in four variants.

    Parameters and attributes of :class:`sklearn.manifold.LocallyLinearEmbedding` keep their names
    and defaults.

    Parameters
    ----------
    n_neighbors : int, default=5
        Neighbours of each point, itself not counted.
    n_components : int, default=2
        Coordinates of the embedding.
    reg : float, default=1e-3
        Ridge on the local weights, in units of the trace of the local Gram matrix (methods
        "standard" and "modified", and :meth:`transform` with every method). 0 takes the weights of
        least norm.
    eigen_solver : {"auto", "dense", "shift-invert", "arpack", "chebyshev"}, default="auto"
        "shift-invert" is a block Lanczos iteration on a sparse factorisation; "arpack" is the name
        scikit-learn's users know it by. "chebyshev" iterates on a polynomial and factors nothing,
        for data of high dimension and little memory. "dense" is a singular value decomposition, for
        a few thousand points at most. "auto" compares the predicted fill, memory and time of the
        other two, and goes over to the other if one fails. Up to 200 points, and with n_components
        + 1 a third of the points or more, all of them are dense, since nothing else would be
        faster. ``spectrum_.solver`` says which was taken, and why.
    tol : float, default=1e-6
        Largest accepted sine of the angle between the computed and the true space of the bottom
        vectors. The dense solver iterates on nothing, and only tells whether rounding keeps to it.
    max_iter : int, default=100
        Restarts of the Lanczos iteration. Not used by "dense".
    method : {"standard", "modified", "hessian", "ltsa"}, default="standard"
        - "standard": locally linear embedding [1]_; needs n_neighbors >= 1.
        - "modified": several weight vectors a point [2]_; n_neighbors > n_components.
        - "hessian": Hessian eigenmaps [3]_; n_neighbors > n_components (n_components + 3) / 2.
        - "ltsa": local tangent space alignment [4]_; n_neighbors > n_components + 1.
    hessian_tol : float, default=1e-4
        A second derivative that the neighbours determine less than this well is left out
        (method "hessian").
    modified_tol : float, default=1e-12
        Below it the ones are taken to be orthogonal to a point's almost-null space (method
        "modified").
    neighbors_algorithm : {"auto", "brute", "kd_tree", "ball_tree", "cupy", "cuml", "cuvs"}, \
default="auto"
        How neighbours are searched; the result is the same. The last three search on the GPU, the
        three before them on the CPU; "auto" is the best one there is on the device.
    random_state : int, RandomState instance or None, default=None
        Start of the Lanczos iteration. None is a fixed start, so that the same input gives the
        same bits.
    n_jobs : int or None, default=None
        Threads. None and -1 mean all cores. (The brute-force neighbour search and the dense
        solver use as many as OpenMP and BLAS are set to.)
    device : {"auto", "cpu", "gpu", "cuda"}, default="auto"
        Where to fit. "auto" is the GPU if CuPy finds one and it knows the metric and the
        neighbours' algorithm, else the CPU; where the GPU's memory does not do, it warns and goes
        over to the CPU. "gpu" (or "cuda") raises, and says what is missing. CuPy arrays are worked
        on on their own device.
    metric : str or callable, default="euclidean"
        For the neighbour search: any metric of :class:`sklearn.neighbors.NearestNeighbors` that
        needs no parameters, or a function of two rows. The weights and tangent planes are
        Euclidean always.
    disconnected : {"warn", "raise", "largest", "bridge"}, default="warn"
        What to do if the neighbour graph has several closed classes (sets of points that no edge
        leaves), or, with methods "hessian" and "ltsa", points that are nobody's neighbour:

        - "warn": say so, and embed what there is. The first coordinates then tell the sets apart.
        - "raise": raise ``DisconnectedGraphError``, before the constraints are made.
        - "bridge": tie the sets to the rest. Of each closed class but the one that holds most
          points, the n_components + 1 points nearest to the outside get their n_components + 1
          nearest points outside (at most half of n_neighbors) as neighbours, in place of their
          farthest ones; again, until one closed class is left. A point that is nobody's neighbour
          becomes a neighbour of its nearest one. All other rows of the graph stay as they are.
        - "largest": embed the points that lead to the closed class that holds most points, with
          neighbours among themselves, and place the others as :meth:`transform` places new points.
    memory_limit : int, float, str or None, default=None
        Working memory that the fit may use beyond its input and output: bytes, or a text such as
        "4GB". Decides between the solvers, and raises beforehand where none can keep it;
        :func:`lle_gpu.estimate_memory` tells what is needed. None: what the machine has free
        decides between the solvers, and nothing is refused.
    verbose : bool or int, default=False
        Print stages, their times and the choices made to standard error.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components)
        Orthonormal columns, each orthogonal to the vector of ones, ordered by singular value; the
        entry of largest size in a column is positive. float32 if X was, else float64. If
        ``disconnected="largest"`` left points out, all this holds of ``embedded_rows_`` alone.
    reconstruction_error_ : float
        ||F Y||_F^2, the sum of the squared singular values.
    spectrum_ : Spectrum
        The certificate: singular values, residuals, gap, null vectors, solver, convergence.
    nbrs_ : NeighborSearch
        Exact nearest neighbours in the training data, with scikit-learn's ``kneighbors``.
    embedded_rows_ : ndarray of int
        The rows that the eigenproblem was solved for, ascending: all, unless
        ``disconnected="largest"`` left points out.
    bridged_rows_ : ndarray of int
        The rows to which ``disconnected="bridge"`` gave other neighbours, ascending.
    device_ : {"cpu", "gpu"}
        Where the fit ran; :meth:`transform` runs there, too.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if X had column names.

    Raises
    ------
    ValueError
        For data with NaN or infinity, too few points or features for the parameters, parameters
        out of range (``InvalidParameterError``, with the range), or all points equal.
    TypeError
        For sparse X.
    DisconnectedGraphError
        A ValueError. For ``disconnected="raise"``, if the graph is in pieces; for "largest" and
        "bridge", if too few points or neighbours are left.
    GpuUnavailableError
        For ``device="gpu"``, if there is no GPU to use.
    GpuMemoryError
        A MemoryError. For ``device="gpu"``, if its memory does not do.

    Warns
    -----
    DisconnectedGraphWarning
        For ``disconnected="warn"``, if the neighbour graph has several closed classes, or points
        that no constraint holds.
    ConvergenceWarning
        If the vectors are not known to be right to ``tol``.
    GpuFallbackWarning
        For ``device="auto"``, if the GPU's memory did not do and the CPU took over; from
        :meth:`transform` and :meth:`inverse_transform`, too.

    References
    ----------
    .. [1] S. Roweis, L. Saul: Nonlinear dimensionality reduction by locally linear embedding.
       Science 290:2323 (2000).
    .. [2] Z. Zhang, J. Wang: MLLE: modified locally linear embedding using multiple weights.
       NIPS 19 (2006).
    .. [3] D. Donoho, C. Grimes: Hessian eigenmaps: locally linear embedding techniques for
       high-dimensional data. PNAS 100:5591 (2003).
    .. [4] Z. Zhang, H. Zha: Principal manifolds and nonlinear dimensionality reduction via tangent
       space alignment. SIAM J. Sci. Comput. 26:313 (2004).

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> X, _ = make_swiss_roll(2000, random_state=0)
    >>> lle = LocallyLinearEmbedding(n_neighbors=12, n_components=2, method="ltsa")
    >>> lle.fit_transform(X).shape
    (2000, 2)
    >>> lle.spectrum_.converged
    True
    >>> lle.transform(X[:3]).shape
    (3, 2)
    """

    _parameter_constraints: dict[str, list[Any]] = PARAMETER_CONSTRAINTS

    embedding_: NDArray[Any]
    reconstruction_error_: float
    spectrum_: Spectrum
    nbrs_: Any
    embedded_rows_: NDArray[np.int64]
    bridged_rows_: NDArray[np.int64]
    device_: str
    n_features_in_: int

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        n_components: int = 2,
        reg: float = 1e-3,
        eigen_solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int = 100,
        method: str = "standard",
        hessian_tol: float = 1e-4,
        modified_tol: float = 1e-12,
        neighbors_algorithm: str = "auto",
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "auto",
        metric: Any = "euclidean",
        disconnected: str = "warn",
        memory_limit: float | str | None = None,
        verbose: bool | int = False,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.reg = reg
        self.eigen_solver = eigen_solver
        self.tol = tol
        self.max_iter = max_iter
        self.method = method
        self.hessian_tol = hessian_tol
        self.modified_tol = modified_tol
        self.neighbors_algorithm = neighbors_algorithm
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device
        self.metric = metric
        self.disconnected = disconnected
        self.memory_limit = memory_limit
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None) -> Self:
        """Embed X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            float32 or float64; other types are converted to float64. Kept for :meth:`transform`
            and not copied: do not change it afterwards. CuPy arrays stay on their device, and what
            comes back is CuPy's.
        y : ignored

        Returns
        -------
        self
        """
        # Everything happens on a copy, whose state is taken over in one step: an error or an
        # interrupt leaves the estimator as it was.
        fitted = copy.copy(self)
        X = as_points(X, estimator=fitted, reset=True, least=2)
        parameters = self.get_params(deep=False)
        with report_verbosely(parameters.pop("verbose")):
            result, backend = embed_on(parameters.pop("device"), X, **parameters)
        fitted.embedding_ = result.coordinates
        fitted.reconstruction_error_ = result.spectrum.error
        fitted.spectrum_ = result.spectrum
        fitted.nbrs_ = result.search
        fitted.embedded_rows_ = result.embedded_rows
        fitted.bridged_rows_ = result.bridged_rows
        fitted.device_ = backend.name
        self.__dict__ = fitted.__dict__
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[Any]:
        """Embed X and return the embedding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        _check_container(self, X)
        return self.fit(X).embedding_

    def transform(self, X: Any) -> NDArray[Any]:
        """Place new points in the embedding.

        Each is rebuilt from its nearest training points by barycentric weights; its embedding is
        the same weighted mean of theirs. A training point gets its ``embedding_`` exactly (equal
        rows: that of the first of them).

        Parameters
        ----------
        X : array-like of shape (m, n_features)

        Returns
        -------
        ndarray of shape (m, n_components), float32 if X is, else float64
        """
        check_is_fitted(self)
        _check_container(self, X)
        X = as_points(X, estimator=self, reset=False)
        check_range(X)
        with report_verbosely(self.verbose):
            return self._interpolate(X, self.nbrs_.X, self.embedding_, self.nbrs_)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Bring points of the embedding back to the data's space.

        Each is rebuilt from its nearest training points *in the embedding*, as :meth:`transform`
        does in the data's space.

        Parameters
        ----------
        X : array-like of shape (m, n_components)

        Returns
        -------
        ndarray of shape (m, n_features), float32 if X is, else float64
        """
        check_is_fitted(self)
        X = as_points(X, estimator=self)
        check_range(X)
        if X.shape[1] != self.embedding_.shape[1]:
            raise ValueError(
                f"X has {X.shape[1]} columns, but the embedding has {self.embedding_.shape[1]}"
            )
        with report_verbosely(self.verbose):
            return self._interpolate(X, self.embedding_, self.nbrs_.X)

    def _interpolate(
        self, X: NDArray[Any], points: NDArray[Any], values: NDArray[Any], search: Any = None
    ) -> NDArray[Any]:
        """At X, by the values at points; ``search`` is the fit's over them, if there is one."""

        def work(backend: Backend) -> NDArray[np.float64]:
            given = search if backend.name == self.device_ else None
            return interpolate(
                backend.asarray(X) if is_device_array(X) else X,  # NumPy's goes there in chunks
                given or backend.neighbor_search(backend.asarray(points), k, n_jobs=self.n_jobs),
                backend.asarray(values),
                n_neighbors=k,
                reg=self.reg,
                backend=backend,
                n_jobs=self.n_jobs,
            )

        k, where = self.nbrs_.n_neighbors, self.nbrs_.X
        with on_device(where):
            backend = resolve(self.device_)
        result, _ = where_it_fits(
            self.device, backend, X, where, work, advice="or free some of that memory"
        )
        with on_device(X):
            return as_kind_of(X, result).astype(X.dtype, copy=False)

    @property
    def _n_features_out(self) -> int:
        """For scikit-learn's feature names."""
        return int(self.embedding_.shape[1])

    def __sklearn_tags__(self) -> Any:
        """float32 in, float32 out."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = [np.dtype(t).name for t in FLOAT_DTYPES]
        return tags


def _check_container(estimator: BaseEstimator, X: Any) -> None:
    """Say why a data frame cannot be made of a CuPy array, before any work is done."""
    container = _get_output_config("transform", estimator)["dense"]
    if is_device_array(X) and container != "default":
        raise TypeError(
            f"set_output(transform={container!r}) was asked for, and X is a CuPy array: data "
            "frames hold host memory. Pass a NumPy array (X.get()), or set_output("
            "transform='default')."
        )
