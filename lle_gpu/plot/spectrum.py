"""The bottom of the spectrum: eigenvalues, their certificate, and the gap after the last."""

from __future__ import annotations

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
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator, NullLocator

    values, q = spectrum.values**2, len(spectrum.values)
    position = np.arange(1, q + 1)
    null = position < spectrum.n_null  # ascending, and the constant's is not among them
    next_value, next_null = _next_value(spectrum), spectrum.n_null > q + 1
    residuals = np.maximum(spectrum.residuals, LEAST)
    # Null values' sizes mean nothing: they lie below all others, whatever they are.
    bottom = 0.1 * min([*residuals, *values[~null], RESIDUAL_TOL])
    shown = np.where(null, bottom, values)
    next_shown = bottom if next_null else next_value
    size = 8 if q <= 20 else 4

    def points(at: Any, heights: Any, **style: Any) -> Any:
        usual = {"linestyle": "", "marker": "o", "markersize": size, "zorder": 3}
        return ax.add_line(Line2D(at, heights, **{**usual, **style}))

    handles = []
    if (~null).any():
        handles.append(points(position[~null], shown[~null], color=BLUE, label="eigenvalue λ = σ²"))
    if null.any():
        handles.append(
            points(
                position[null],
                shown[null],
                color=ORANGE,
                marker="s",
                label="null value (at the bottom)",
            )
        )
    if next_shown is not None:
        handles.append(
            points(
                [q + 1],
                [next_shown],
                marker="s" if next_null else "o",
                markeredgecolor=ORANGE if next_null else BLUE,
                markerfacecolor="white",
                markeredgewidth=1.5,
                label="first value left out",
            )
        )
    runs = _repeated(spectrum.values[~null], int(null.sum()))
    for first, last in runs:
        style = {"marker": "", "linestyle": "-", "linewidth": 2.2 * size, "zorder": 2}
        points(
            position[first : last + 1],
            shown[first : last + 1],
            color=BLUE,
            alpha=0.3,
            solid_capstyle="round",
            **style,
        )
        _note(ax, f"×{last - first + 1}", (position[[first, last]].mean(), shown[last]), (0, 11))
    if runs:
        label = f"repeated: σ within {ALIKE:.0%}"
        handles.append(Line2D([], [], color=BLUE, alpha=0.3, linewidth=SMALL, label=label))
    handles.append(
        points(
            position,
            residuals,
            color=MUTED,
            marker="x",
            markersize=0.75 * size,
            label="residual ‖Mv − λv‖ / ‖F‖²",
        )
    )
    handles.append(
        ax.axhline(RESIDUAL_TOL, color=MUTED, linestyle=":", linewidth=1, label="residual allowed")
    )
    _draw_gap(ax, spectrum.gap, q, shown[-1], next_shown)

    ax.set_yscale("log")
    ax.autoscale_view()
    ax.margins(y=0.1)
    ax.set_xlim(0.4, q + 0.6 + (next_shown is not None) * max(1, 0.05 * q))
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


def _draw_gap(ax: Any, gap: float, q: int, last: float, following: float | None) -> None:
    if following is None:
        return
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
