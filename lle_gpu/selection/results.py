"""What the selections return: a table, a recommendation, its reason, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.kinds import check_kind

__all__ = ["DimensionEstimate", "NeighborSelection", "RegSelection"]


@dataclass(frozen=True)
class _Result:
    """What all results can do."""

    recommended: Any
    reason: str
    table: Mapping[str, NDArray[Any]]
    warnings: tuple[str, ...]
    criterion: str

    def to_pandas(self) -> Any:
        """The table, a row a candidate, in ascending order.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            Without pandas.
        """
        check_kind("pandas")
        from pandas import DataFrame

        return DataFrame(dict(self.table))

    def plot(self, ax: Any = None) -> Any:
        """Draw the table's curves and the choice; see :func:`lle_gpu.plot.plot_selection`.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        from lle_gpu.plot import plot_selection

        return plot_selection(self, ax=ax)

    def __str__(self) -> str:
        names = list(self.table)
        cells = [
            names,
            *([_cell(v) for v in row] for row in zip(*self.table.values(), strict=True)),
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([self.reason, *(f"warning: {text}" for text in self.warnings), *lines])


@dataclass(frozen=True)
class NeighborSelection(_Result):
    """What :func:`select_n_neighbors` returns.

    Attributes
    ----------
    recommended : int
        The n_neighbors to use.
    reason : str
        A sentence: by which criterion, and with what value.
    table : mapping of str to ndarray of shape (number of candidates,)
        In ascending order of the first column; NaN in the others where the embedding failed.

        - ``n_neighbors``
        - ``distance_residual``: 1 - r^2 between distances along the neighbour graph and distances
          in the embedding, up to one linear map of it; 0 is best.
        - ``neighborhood_preservation``: mean share of the nearest neighbours that are kept; 1 is
          best.
        - ``instability``: sine-like distance, from 0 to 1, of the embedding's space to that of the
          next smaller candidate (NaN for the first).
        - ``reconstruction_error``: ||F Y||_F^2 (of the points that are embedded). It grows with
          n_neighbors and does not say which is right; many authors look at it all the same.
        - ``null_vectors``: of F, the constant included; 1 on a sound graph, or one that was mended.
        - ``long_edges``: share of the graph's edges between points that are far from one another
          along the graph of nearest neighbours: short circuits. Of all edges, with up to 50,000
          points, and of those of so many with more; an edge on which the landmarks of
          :mod:`lle_gpu.selection.criteria` throw no light is not counted.
        - ``converged``: whether the solver's certificate holds.
    warnings : tuple of str
        Closed classes, points left out, short circuits, a choice at the end of the range,
        candidates that failed.
    criterion : str
        The column that decided.
    """

    recommended: int


@dataclass(frozen=True)
class RegSelection(_Result):
    """What :func:`select_reg` returns: as :class:`NeighborSelection`, with ``reg`` in its place.

    Attributes
    ----------
    recommended : float
        The reg to use.
    reason : str
    table : mapping of str to ndarray
        ``reg``, and the columns of :class:`NeighborSelection`, without ``long_edges``.
    warnings : tuple of str
    criterion : str
    """

    recommended: float


@dataclass(frozen=True)
class DimensionEstimate(_Result):
    """What :func:`intrinsic_dimension` returns.

    Attributes
    ----------
    recommended : int
        The n_components to use: ``dimension``, rounded, at least 1 and at most n_features.
    reason : str
    table : mapping of str to ndarray
        "mle": ``n_neighbors``, ``dimension`` by that many, ``radius`` (geometric mean of their
        distances). "twonn": ``n_samples`` left when the data are thinned out, ``dimension``,
        ``radius``. "lle": ``dimension``, and the ``thickness`` of the data when laid into so many.
    warnings : tuple of str
    criterion : str
        The table's column that decided.
    dimension : float
        The estimate, not rounded.
    """

    recommended: int
    dimension: float


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, (bool, np.bool_, int, np.integer)) else f"{value:.4g}"
