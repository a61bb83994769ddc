"""The estimator: parameters, validation, and the same few calls as scikit-learn's."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
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
    as_points,
    check_range,
    on_device,
    parts_like,
)
from lle_gpu.backend import Backend
from lle_gpu.device import resolve
from lle_gpu.functional import PARAMETER_CONSTRAINTS, embed_on, where_it_fits
from lle_gpu.kinds import (
    KINDS,
    as_kind_of,
    check_kind,
    check_order,
    is_device_array,
    output_kind,
    wrap,
)
from lle_gpu.out_of_sample import interpolate
from lle_gpu.patching import is_patched
from lle_gpu.persistence import (
    VERSIONS,
    FilePath,
    check_versions,
    portable,
    read,
    restored,
    versions,
    write,
)
from lle_gpu.progress import watch
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
    eigen_solver : {"auto", "dense", "shift-invert", "arpack", "davidson", "chebyshev"}, \
default="auto"
        "shift-invert" is a block Lanczos iteration on a sparse factorisation; "arpack" is the name
        scikit-learn's users know it by. The next two factor nothing, for data of high dimension and
        little memory: "davidson" (method "standard", one closed class) is preconditioned by a
        polynomial and by far the faster where there is one, "chebyshev" iterates on a polynomial.
        "dense" is a singular value decomposition, for a few thousand points at most. "auto"
        compares predicted fill, memory and time, and goes over to another one if one fails. Up to
        200 points, and with n_components + 1 a third of the points or more, all of them are dense,
        since nothing else would be faster. ``spectrum_.solver`` says which was taken, and why.
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
    neighbors_algorithm : {"auto", "brute", "kd_tree", "ball_tree", "faiss", "pynndescent", \
"cupy", "cuml", "cuvs"}, default="auto"
        How neighbours are searched; the result is the same, but for "pynndescent". The last three
        search on the GPU, those before them on the CPU; "auto" is the best one there is on the
        device. "faiss" (extra ``[faiss]``, Euclidean only) is exact as the others are.
        "pynndescent" (extra ``[pynndescent]``, metrics by name) is approximate: it misses some
        neighbours, also in :meth:`transform`, and saves time beyond some 100,000 points. What
        ``spectrum_`` certifies is then the eigenproblem of the neighbours that were found.
    random_state : int, RandomState instance or None, default=None
        Start of the Lanczos iteration, and seed of pynndescent. None is a fixed start, so that the
        same input gives the same bits (with pynndescent: on the same number of threads).
    n_jobs : int or None, default=None
        Threads. None and -1 mean all cores. (Neighbours searched by brute force in float64 and the
        dense solver use as many as OpenMP and BLAS are set to.)
    device : {"auto", "cpu", "gpu", "cuda"}, default="auto"
        Where to fit. "auto" is the GPU if CuPy finds one and it knows the metric and the
        neighbours' algorithm, else the CPU; where the GPU's memory is too small, it warns and goes
        over to the CPU. "gpu" (or "cuda") raises, and says what is missing. CuPy arrays are worked
        on on their own device.
    metric : str or callable, default="euclidean"
        For the neighbour search: any metric of :class:`sklearn.neighbors.NearestNeighbors` that
        needs no parameters, or a function of two rows. The weights and tangent planes are
        Euclidean always.
    precomputed_knn : tuple, array-like or sparse matrix, default=None
        The neighbours of the points that are fitted, found elsewhere; row i has those of row i of
        X. ``(indices, distances)`` or indices alone, of shape (n_samples, at least n_neighbors); or
        distances of shape (n_samples, n_samples), sparse (the stored entries are the neighbours) or
        dense. The points themselves may be among their neighbours, and are left out; of more than
        n_neighbors the nearest are taken. X is needed all the same, for the weights, and
        :meth:`transform` searches in it as ever. ``fit(X, knn_graph=...)`` goes before this.
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
    output_type : {"numpy", "cupy", "cudf", "pandas", "polars", "torch"} or None, default=None
        What :meth:`fit_transform`, :meth:`transform` and :meth:`inverse_transform` give back. None
        is the kind of X in the same call: a data frame with X's index, a tensor on X's device, an
        array. (While :func:`lle_gpu.patch_sklearn` holds, and in copies that were pickled then,
        None gives NumPy's arrays for data frames, as scikit-learn does.) What goes before what:
        ``set_output``, or scikit-learn's ``transform_output``, if it is not "default" (not for
        :meth:`inverse_transform`); this parameter; cuML's global output type, if cuML is imported
        and it is not None or "input"; X.
    verbose : bool or int, default=False
        Print stages, their times and the choices made to standard error, with a bar for what is
        running in a terminal or a notebook.
    callbacks : callable, Progress, or list of these, default=None
        Who is told what the stages of :meth:`fit`, :meth:`transform` and :meth:`inverse_transform`
        do: functions, called with an :class:`lle_gpu.progress.Event`, and objects of
        :class:`lle_gpu.progress.Progress`. An exception in one ends the call, and leaves the
        estimator as it was. Copies of the estimator report to the same callbacks; :meth:`save`
        leaves them out.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components)
        Orthonormal columns, each orthogonal to the vector of ones, ordered by singular value; the
        entry of largest size in a column is positive. float32 if X was, else float64. If
        ``disconnected="largest"`` left points out, all this holds of ``embedded_rows_`` alone.
        CuPy's if the data were in a GPU's memory (CuPy, cuDF, CUDA tensors), else NumPy's,
        whatever ``output_type`` says.
    reconstruction_error_ : float
        ||F Y||_F^2, the sum of the squared singular values.
    spectrum_ : Spectrum
        The certificate: singular values, residuals, gap, null vectors, solver, convergence.
    nbrs_ : NeighborSearch
        Nearest neighbours in the training data, with scikit-learn's ``kneighbors``: exact, unless
        ``neighbors_algorithm="pynndescent"``, and searched for whether or not a graph was given.
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
        For sparse X that is not SciPy's.
    DisconnectedGraphError
        A ValueError. For ``disconnected="raise"``, if the graph is in pieces; for "largest" and
        "bridge", if too few points or neighbours are left.
    GpuUnavailableError
        For ``device="gpu"``, if there is no GPU to use.
    GpuMemoryError
        A MemoryError. For ``device="gpu"``, if its memory is too small.

    Warns
    -----
    DisconnectedGraphWarning
        For ``disconnected="warn"``, if the neighbour graph has several closed classes, or points
        that no constraint holds.
    ConvergenceWarning
        If the vectors are not known to be right to ``tol``.
    UserWarning
        If a memory-mapped X, of more than 64 MiB, does not stay in its file.
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
        precomputed_knn: Any = None,
        disconnected: str = "warn",
        memory_limit: float | str | None = None,
        output_type: str | None = None,
        verbose: bool | int = False,
        callbacks: Any = None,
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
        self.precomputed_knn = precomputed_knn
        self.disconnected = disconnected
        self.memory_limit = memory_limit
        self.output_type = output_type
        self.verbose = verbose
        self.callbacks = callbacks

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, *, knn_graph: Any = None) -> Self:
        """Embed X.

        Parameters
        ----------
        X : array, data frame, tensor or sparse matrix of shape (n_samples, n_features)
            NumPy, CuPy, pandas, cuDF, polars, torch, whatever NumPy can read or has
            ``__cuda_array_interface__`` or ``__dlpack__``. float32 or float64 (a data frame, whose
            columns must all be numbers: float32 if all columns are); other types are converted to
            float64, half precision tensors to float32. Kept for :meth:`transform` and not copied:
            do not change it afterwards. What is in a GPU's memory stays there. A memory-mapped
            array of float32 or float64 is read in parts; where that cannot be, as with trees (up to
            15 features by default), a warning says how much is copied. SciPy's sparse matrices
            and arrays of any format are worked on as CSR, on the CPU, and never made dense as a
            whole; what comes back is dense.
        y : ignored
        knn_graph : tuple, array-like or sparse matrix, optional
            The points' neighbours, for this call alone, in place of ``precomputed_knn``.

        Returns
        -------
        self
        """
        parameters = self.get_params(deep=False)
        parameters.pop("output_type")
        # Everything happens on a copy, whose state is taken over in one step: an error or an
        # interrupt leaves the estimator as it was.
        fitted = copy.copy(self)
        X = as_points(X, estimator=fitted, reset=True, least=2)
        given = parameters.pop("precomputed_knn")
        parameters["knn_graph"] = (
            ("precomputed_knn", given) if knn_graph is None else ("knn_graph", knn_graph)
        )
        with (
            _as_it_was(self.random_state),
            watch(parameters.pop("verbose"), parameters.pop("callbacks")),
        ):
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

    def fit_transform(self, X: Any, y: Any = None, *, knn_graph: Any = None) -> Any:
        """Embed X and return the embedding.

        Parameters
        ----------
        X : array, data frame, tensor or sparse matrix of shape (n_samples, n_features)
            As in :meth:`fit`.
        y : ignored
        knn_graph : tuple, array-like or sparse matrix, optional
            As in :meth:`fit`.

        Returns
        -------
        array, data frame or tensor of shape (n_samples, n_components), as ``output_type`` says
        """
        self._validate_params()
        kind = self._output_kind(X)
        embedding = self.fit(X, knn_graph=knn_graph).embedding_
        return wrap(embedding, kind, like=X, columns=self.get_feature_names_out())

    def transform(self, X: Any) -> Any:
        """Place new points in the embedding.

        Each is rebuilt from its nearest training points by barycentric weights; its embedding is
        the same weighted mean of theirs. A training point gets its ``embedding_`` exactly (equal
        rows: that of the first of them).

        Parameters
        ----------
        X : array, data frame, tensor or sparse matrix of shape (m, n_features)
            Of any kind, dense or sparse, whatever the training points were; columns that had
            names in the same order.

        Returns
        -------
        array, data frame or tensor of shape (m, n_components), as ``output_type`` says
            float32 if X is, else float64.
        """
        check_is_fitted(self)
        kind = self._output_kind(X)
        points = as_points(X, estimator=self, reset=False)
        check_range(points)
        with watch(self.verbose, self.callbacks):
            placed = self._interpolate(points, self.nbrs_.X, self.embedding_, self.nbrs_)
        return wrap(placed, kind, like=X, columns=self.get_feature_names_out())

    def inverse_transform(self, X: Any) -> Any:
        """Bring points of the embedding back to the data's space.

        Each is rebuilt from its nearest training points *in the embedding*, as :meth:`transform`
        does in the data's space. The result is dense, also if the training points were sparse:
        m times n_features numbers. Give a few points at a time where that is much.

        Parameters
        ----------
        X : array, data frame or tensor of shape (m, n_components)

        Returns
        -------
        array, data frame or tensor of shape (m, n_features), as ``output_type`` says
            float32 if X is, else float64. A data frame's columns are named as the training data's
            were, or x0, x1, ...
        """
        check_is_fitted(self)
        kind = self._output_kind(X, by_set_output=False)
        check_order(X, self.get_feature_names_out(), "get_feature_names_out()")
        points = as_points(X, estimator=self)
        check_range(points)
        if points.shape[1] != self.embedding_.shape[1]:
            raise ValueError(
                f"X has {points.shape[1]} columns, but the embedding has {self.embedding_.shape[1]}"
            )
        with watch(self.verbose, self.callbacks):
            rebuilt = self._interpolate(points, self.embedding_, self.nbrs_.X)
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(rebuilt.shape[1])])
        return wrap(rebuilt, kind, like=X, columns=names)

    def _output_kind(self, X: Any, *, by_set_output: bool = True) -> str:
        """What kind to give back for X; raises before any work is done if it cannot be made."""
        container = _get_output_config("transform", self)["dense"] if by_set_output else "default"
        if container != "default":
            if container in KINDS:  # others may have been registered with scikit-learn
                check_kind(container)
            return "numpy"  # of which scikit-learn makes the data frame
        as_arrays = is_patched() or vars(self).get("_frames_as_arrays", False)
        kind = output_kind(X, self.output_type, frames_as_arrays=as_arrays)
        check_kind(kind)
        return kind

    def _interpolate(
        self, X: NDArray[Any], points: NDArray[Any], values: NDArray[Any], search: Any = None
    ) -> NDArray[Any]:
        """At X, by the values at points; ``search`` is the fit's over them, if there is one."""
        if issparse(X) != issparse(points):
            parts = [self._interpolate(x, points, values, search) for x in parts_like(X, points)]
            return as_kind_of(X, np.concatenate(parts))

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

    def diagnose(self, X: Any = None) -> Any:
        """Say in plain words what is wrong with the embedding; see :mod:`lle_gpu.diagnosis`.

        Parameters
        ----------
        X : array, data frame, tensor or sparse matrix, default=None
            Data of the same rows to judge by; any number of columns. None takes the points that
            were fitted.

        Returns
        -------
        lle_gpu.diagnosis.Diagnosis
            Its ``findings``, causes first, each with a name, a message, figures and advice; false
            if nothing was found.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If X has another number of rows, or cannot be worked on.

        Examples
        --------
        >>> from sklearn.datasets import make_swiss_roll
        >>> from lle_gpu import LocallyLinearEmbedding
        >>> X, _ = make_swiss_roll(1000, random_state=0)
        >>> LocallyLinearEmbedding(n_neighbors=40).fit(X).diagnose().names
        ('short-circuit',)
        """
        from lle_gpu.diagnosis import diagnose

        check_is_fitted(self)
        with watch(self.verbose, self.callbacks):
            return diagnose(self, X)

    def save(self, path: FilePath) -> None:
        """Write the fitted model to a file of arrays and JSON, without code; see :meth:`load`.

        A file that is there is replaced when all is written, and stays if something fails. Arrays
        on a GPU are brought to the host. Everything is kept but ``callbacks`` and what
        ``set_fit_request`` asks of a pipeline.

        Parameters
        ----------
        path : str or path-like
            Any name; ".lle" is usual.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            For parameters that a file without code cannot hold, such as a function as ``metric``.
            Pickle holds what the parameter's own module lets it.
        OSError
            If the file cannot be written.
        """
        write(path, self)

    @classmethod
    def load(cls, path: FilePath) -> Self:
        """Read a model that :meth:`save` wrote; the same as :func:`lle_gpu.load`.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        LocallyLinearEmbedding
            On a GPU, if it was fitted on one and there is one here; else on the CPU.

        Raises
        ------
        ModelFileError
            A ValueError. If the file is damaged, is no model, or was written by a newer version.
        """
        return read(path, cls)

    def __sklearn_clone__(self) -> Self:
        """Not fitted; what a patched process has sent stays so (a search inside a worker)."""
        cloned: Self = super().__sklearn_clone__()
        if "_frames_as_arrays" in vars(self):
            cloned.__dict__["_frames_as_arrays"] = True
        return cloned

    def __copy__(self) -> Self:
        """Shallow; by the state for pickles, arrays would leave the GPU."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: readable on a machine without a GPU.

        Who sends it from a patched process, to joblib's workers say, wants scikit-learn's output
        there, too.
        """
        state = portable(super().__getstate__()) | {VERSIONS: versions()}
        return state | {"_frames_as_arrays": True} if is_patched() else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A pickle of scikit-learn's comes here while its names are ours (patch_sklearn).

        Warns
        -----
        PickleVersionWarning
            If another version of lle_gpu or scikit-learn, or an unknown one, wrote it.
        """
        if "_sklearn_version" in state:
            from lle_gpu.patching import read_theirs

            read_theirs(self, state)
        else:
            state = dict(state)
            check_versions(state.pop(VERSIONS, None))
            super().__setstate__(restored(state))

    @property
    def _n_features_out(self) -> int:
        """For scikit-learn's feature names."""
        return int(self.embedding_.shape[1])

    def __sklearn_tags__(self) -> Any:
        """float32 in, float32 out; sparse X is welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = [np.dtype(t).name for t in FLOAT_DTYPES]
        return tags


@contextlib.contextmanager
def _as_it_was(random_state: Any) -> Iterator[None]:
    """A generator that has been drawn from gets its state back if what is inside does not end."""
    if not isinstance(random_state, np.random.RandomState):
        yield
        return
    state = random_state.get_state(legacy=False)
    try:
        yield
    except BaseException:
        random_state.set_state(state)
        raise
