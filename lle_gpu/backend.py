"""The stages of one device, bound once; everything below the boundary is device-blind.

The CPU's functions and the GPU's have the same names and contracts. No stage asks where it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from lle_gpu.constraints import METHODS

__all__ = ["Backend", "cpu_backend", "gpu_backend"]


@dataclass(frozen=True)
class Backend:
    """The stages' functions on one device, and the way to it and back.

    Attributes
    ----------
    name : {"cpu", "gpu"}
        The estimator's ``device_``.
    asarray : callable
        A NumPy or CuPy array -> the same numbers in this device's kind of array.
    at : callable
        An array -> the context in which work on it is to be done (a CuPy array's own device).
    rows_of : callable
        X -> an object whose ``X[rows]`` takes NumPy arrays of row numbers, on any device.
    neighbor_search : callable
        (X, n_neighbors, algorithm=, metric=, n_jobs=) -> searcher with ``kneighbors``.
    closed_classes : callable
        Neighbours (n, k) -> ClosedClasses of their graph, on the host.
    constraints : mapping of str to callable
        Method name to (X, index, n_components, **options) -> Constraints.
    bottom_vectors : callable
        Constraints -> (vectors, Spectrum).
    barycentric_weights : callable
        (points, X, index, reg=, n_jobs=) -> weights.
    weighted_means : callable
        (weights, index, values, n_jobs=) -> sum_j weights_ij values_index[i,j].
    in_chunks : callable
        (work, X, width, bytes_per_row) -> ``work(X)``, of so many columns and of X's kind.
    out_of_memory : callable
        An exception -> whether it says that memory ran out on the way through this device.
    """

    name: str
    asarray: Callable[[Any], Any]
    at: Callable[[Any], AbstractContextManager[Any]]
    rows_of: Callable[[Any], Any]
    neighbor_search: Callable[..., Any]
    closed_classes: Callable[[Any], Any]
    constraints: Mapping[str, Callable[..., Any]]
    bottom_vectors: Callable[..., Any]
    barycentric_weights: Callable[..., Any]
    weighted_means: Callable[..., Any]
    in_chunks: Callable[[Callable[[Any], Any], Any, int, int], Any]
    out_of_memory: Callable[[BaseException], bool]


def cpu_backend() -> Backend:
    """NumPy, SciPy and scikit-learn."""
    from lle_gpu.arrays import to_host
    from lle_gpu.constraints import cpu as constraints
    from lle_gpu.neighbors.cpu import NeighborSearch
    from lle_gpu.neighbors.graph import closed_classes
    from lle_gpu.spectral.cpu import bottom_vectors

    return Backend(
        name="cpu",
        asarray=to_host,
        at=nullcontext,
        rows_of=lambda X: X,
        neighbor_search=NeighborSearch,
        closed_classes=closed_classes,
        constraints={method: getattr(constraints, method) for method in METHODS},
        bottom_vectors=bottom_vectors,
        barycentric_weights=constraints.barycentric_weights,
        weighted_means=constraints.weighted_means,
        in_chunks=lambda work, X, *_: work(X),  # the stages make chunks of their own
        out_of_memory=lambda error: False,
    )


def gpu_backend() -> Backend:
    """CuPy, this package's CUDA kernels, and cuML, cuVS and cuDSS where they are installed."""
    from lle_gpu.arrays import HostIndexed, in_chunks, is_out_of_memory, on_device, to_device
    from lle_gpu.constraints import gpu as constraints
    from lle_gpu.neighbors.gpu import NeighborSearch
    from lle_gpu.neighbors.graph_gpu import closed_classes
    from lle_gpu.spectral.gpu import bottom_vectors

    return Backend(
        name="gpu",
        asarray=to_device,
        at=on_device,
        rows_of=HostIndexed,
        neighbor_search=NeighborSearch,
        closed_classes=closed_classes,
        constraints={method: getattr(constraints, method) for method in METHODS},
        bottom_vectors=bottom_vectors,
        barycentric_weights=constraints.barycentric_weights,
        weighted_means=constraints.weighted_means,
        in_chunks=in_chunks,
        out_of_memory=is_out_of_memory,
    )
