"""The stages of one device, bound once; everything below the boundary is device-blind.

A GPU backend is a second instance of :class:`Backend`, made of functions with the same names and
contracts. No stage asks where it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Backend", "cpu_backend"]


@dataclass(frozen=True)
class Backend:
    """The stages' functions on one device.

    Attributes
    ----------
    name : str
        "cpu" (later also "gpu"); the estimator's ``device_``.
    neighbor_search : callable
        (X, n_neighbors, algorithm=, metric=, n_jobs=) -> searcher with ``kneighbors``.
    constraints : mapping of str to callable
        Method name to (X, index, n_components, **options) -> Constraints.
    bottom_vectors : callable
        Constraints -> (vectors, Spectrum).
    barycentric_weights : callable
        (points, X, index, reg=, n_jobs=) -> weights.
    weighted_means : callable
        (weights, index, values, n_jobs=) -> sum_j weights_ij values_index[i,j].
    """

    name: str
    neighbor_search: Callable[..., Any]
    constraints: Mapping[str, Callable[..., Any]]
    bottom_vectors: Callable[..., Any]
    barycentric_weights: Callable[..., Any]
    weighted_means: Callable[..., Any]


def cpu_backend() -> Backend:
    """NumPy, SciPy and scikit-learn."""
    from lle_gpu.constraints import cpu as constraints
    from lle_gpu.neighbors.cpu import NeighborSearch
    from lle_gpu.spectral.cpu import bottom_vectors

    return Backend(
        name="cpu",
        neighbor_search=NeighborSearch,
        constraints={
            "standard": constraints.standard,
            "modified": constraints.modified,
            "hessian": constraints.hessian,
            "ltsa": constraints.ltsa,
        },
        bottom_vectors=bottom_vectors,
        barycentric_weights=constraints.barycentric_weights,
        weighted_means=constraints.weighted_means,
    )
