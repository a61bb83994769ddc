"""The bottom of the spectrum: eigenvalues, their certificate, and the gap after the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from lle_gpu.plot.canvas import (
    INK,
    MUTED,
    SMALL,
    WARNING,
    caption,
    figure_axes,
    furnish,
    legend_below,
)
from lle_gpu.plot.colours import CLASS_COLOURS
from lle_gpu.spectral import Spectrum
from lle_gpu.spectral.multiplicity import ALIKE
from lle_gpu.spectral.problem import RESIDUAL_TOL

__all__ = ["plot_spectrum"]

Float = NDArray[np.float64]
BLUE, ORANGE = CLASS_COLOURS[0], CLASS_COLOURS[6]
# Residuals below float64's rounding of M tell nothing: 0, on a log scale, is this.
LEAST = 1e-18


def plot_spectrum(model_or_spectrum: Any, ax: Any = None, *, title: str | None = None) -> Any:
    """Draw the eigenvalues that make an embedding, and what certifies them.

    The eigenvalues lambda_j = sigma_j^2 of M = F^T F, on a logarithmic scale; under them the
    residuals ||M v_j - lambda_j v_j|| / ||F||^2, which must lie below the dotted line. Marked are
    null values (beyond the constant vector's, which is not drawn: closed classes of the neighbour
    graph, or points that nothing holds), repeated values (sigma within 1 percent: their vectors can
    be turned among themselves), and the first value left out, with the gap before it. Near 0 the
    embedding is one choice among many.

    Residuals are no error bars: eigenvalues are computed as ||F v||^2, and are right to digits that
    a residual in M cannot show.

    Parameters
    ----------
    model_or_spectrum : LocallyLinearEmbedding or Spectrum
        A fitted model, or its ``spectrum_``.
    ax : matplotlib Axes, default=None
        Where to draw; None makes a figure, which is the result's ``.figure``.
    title : str, default=None
        None says whether the vectors have converged. The solver stands below it.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    NotFittedError
        If the model is not fitted.
    TypeError
        For anything else than a model or a spectrum.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> from lle_gpu.plot import plot_spectrum
    >>> X, _ = load_digits(return_X_y=True)
    >>> ax = plot_spectrum(LocallyLinearEmbedding(n_neighbors=30, n_components=5).fit(X))
    >>> ax.get_yscale()
    'log'
    """
    spectrum = _spectrum(model_or_spectrum)
    ax = figure_axes(7, 5) if ax is None else ax
    from matplotlib.ticker import MaxNLocator, NullLocator

    shown = _Shown.of(spectrum)
    handles = [
        *_draw_values(ax, shown),
        *_draw_repeated(ax, spectrum, shown),
        *_draw_residuals(ax, shown),
    ]
    _draw_gap(ax, spectrum.gap, shown)

    ax.set_yscale("log")
    ax.autoscale_view()
    ax.margins(y=0.1)
    q = shown.q
    ax.set_xlim(0.4, q + 0.6 + (shown.following is not None) * max(1, 0.05 * q))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    ax.set_xlabel("eigenvector of M = FᵀF, the constant left out")
    ax.set_ylabel("eigenvalue, residual (log)")
    furnish(ax)
    state = "converged" if spectrum.converged else "NOT CONVERGED"
    caption(
        ax,
        f"Bottom of the spectrum: {state}" if title is None else title,
        _remarks(spectrum, state if title is not None else None),
        colour=INK if spectrum.converged else WARNING,
    )
    legend_below(ax, handles)
    return ax


@dataclass(frozen=True)
class _Shown:
    """The heights that a spectrum's q values, and the next, are drawn at."""

    heights: Float  # of the eigenvalues
    null: NDArray[np.bool_]  # which of them are null values
    following: float | None  # of the first value left out, if it is known
    following_null: bool
    residuals: Float

    @classmethod
    def of(cls, spectrum: Spectrum) -> _Shown:
        values, q = spectrum.values**2, len(spectrum.values)
        null = np.arange(1, q + 1) < spectrum.n_null  # ascending; the constant's is not among them
        residuals = np.maximum(spectrum.residuals, LEAST)
        # Null values' sizes mean nothing: they lie below all others, whatever they are.
        bottom = 0.1 * min([*residuals, *values[~null], RESIDUAL_TOL])
        following_null = spectrum.n_null > q + 1
        following = bottom if following_null else _next_value(spectrum)
        return cls(np.where(null, bottom, values), null, following, following_null, residuals)

    @property
    def q(self) -> int:
        return len(self.heights)

    @property
    def position(self) -> NDArray[np.intp]:
        return np.arange(1, self.q + 1)

    @property
    def size(self) -> int:
        """Of a marker, in points."""
        return 8 if self.q <= 20 else 4


def _draw_values(ax: Any, shown: _Shown) -> list[Any]:
    """Draw the eigenvalues, and the first left out; the legend's handles."""
    null, size = shown.null, shown.size
    handles = []
    if (~null).any():
        style = {"color": BLUE, "markersize": size, "label": "eigenvalue λ = σ²"}
        handles.append(_points(ax, shown.position[~null], shown.heights[~null], **style))
    if null.any():
        style = {"color": ORANGE, "marker": "s", "markersize": size}
        label = "null value (at the bottom)"
        handles.append(_points(ax, shown.position[null], shown.heights[null], label=label, **style))
    if shown.following is not None:
        style = {
            "marker": "s" if shown.following_null else "o",
            "markeredgecolor": ORANGE if shown.following_null else BLUE,
            "markerfacecolor": "white",
            "markeredgewidth": 1.5,
            "markersize": size,
        }
        label = "first value left out"
        handles.append(_points(ax, [shown.q + 1], [shown.following], label=label, **style))
    return handles


def _draw_repeated(ax: Any, spectrum: Spectrum, shown: _Shown) -> list[Any]:
    """Draw a band behind each run of equal values, and how many they are."""
    from matplotlib.lines import Line2D

    runs = _repeated(spectrum.values[~shown.null], int(shown.null.sum()))
    for first, last in runs:
        run = slice(first, last + 1)
        ax.add_line(
            Line2D(
                shown.position[run],
                shown.heights[run],
                color=BLUE,
                alpha=0.3,
                linewidth=2.2 * shown.size,
                solid_capstyle="round",
                zorder=2,
            )
        )
        middle = shown.position[[first, last]].mean()
        _note(ax, f"×{last - first + 1}", (middle, shown.heights[last]), (0, 11))
    label = f"repeated: σ within {ALIKE:.0%}"
    return [Line2D([], [], color=BLUE, alpha=0.3, linewidth=SMALL, label=label)] if runs else []


def _draw_residuals(ax: Any, shown: _Shown) -> list[Any]:
    """Draw the residuals, and the line that they must lie below."""
    style = {"color": MUTED, "marker": "x", "markersize": 0.75 * shown.size}
    label = "residual ‖Mv − λv‖ / ‖F‖²"
    return [
        _points(ax, shown.position, shown.residuals, label=label, **style),
        ax.axhline(RESIDUAL_TOL, color=MUTED, linestyle=":", linewidth=1, label="residual allowed"),
    ]


def _points(ax: Any, at: Any, heights: Any, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    usual = {"linestyle": "", "marker": "o", "zorder": 3}
    return ax.add_line(Line2D(at, heights, **{**usual, **style}))


def _spectrum(given: Any) -> Spectrum:
    if isinstance(given, Spectrum):
        return given
    if not hasattr(given, "fit"):
        raise TypeError(
            f"model_or_spectrum is a {type(given).__name__}, but must be a fitted "
            "LocallyLinearEmbedding or its spectrum_"
        )
    check_is_fitted(given, "spectrum_")
    found: Spectrum = given.spectrum_
    return found


def _next_value(spectrum: Spectrum) -> float | None:
    """lambda_{q+1}: gap = (sigma_{q+1} - sigma_q) / sigma_{q+1}, solved for it; None if unknown."""
    if not spectrum.gap < 1:  # NaN: no value is left; 1: the last is 0, and all of the gap
        return None
    return float((spectrum.values[-1] / (1 - spectrum.gap)) ** 2)


def _repeated(values: Float, offset: int) -> list[tuple[int, int]]:
    """First and last of each run of sigma (ascending) that differ by ``ALIKE`` at most."""
    alike = values[1:] <= (1 + ALIKE) * values[:-1]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], alike, [False]])))
    return [(int(a) + offset, int(b) + offset) for a, b in edges.reshape(-1, 2)]


def _draw_gap(ax: Any, gap: float, shown: _Shown) -> None:
    """Draw the step from the last value to the first left out."""
    if shown.following is None:
        return
    q, last, following = shown.q, shown.heights[-1], shown.following
    color = WARNING if gap < ALIKE else INK
    ax.plot([q, q + 1, q + 1], [last, last, following], color=color, linewidth=1, zorder=1)
    _note(ax, f"gap {gap:.1%}", (q + 1, following), (0, 9), color)


def _note(ax: Any, text: str, place: Any, offset: Any, color: str = INK) -> None:
    ax.annotate(
        text,
        place,
        xytext=offset,
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=SMALL,
        color=color,
    )


def _remarks(spectrum: Spectrum, state: str | None) -> list[str]:
    steps = f", {spectrum.n_iter:,} steps" if spectrum.n_iter else ""
    remarks = [] if state is None else [state]
    remarks.append(f"solver: {spectrum.solver}{steps}")
    more = spectrum.n_null - 1
    if more > 0:
        remarks.append(
            f"{more:,} null vector{'s' if more > 1 else ''} beside the constant: "
            "coordinates of them only tell parts of the graph apart"
        )
    if np.isnan(spectrum.gap):
        remarks.append("no value is left out: there is no gap")
    elif spectrum.gap < ALIKE:
        remarks.append("hardly a gap: the embedding is one choice among many equally good ones")
    elif spectrum.gap == 1:
        remarks.append("gap 100 %: the last value is 0 beside the next")
    return remarks
