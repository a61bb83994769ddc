"""Pictures beside the pictures that they were when somebody looked at them and liked them.

The data are made here, of plain formulas, and the axes stand where they are put. Letters, and
legends, whose rows are as high as letters, are left out, as in matplotlib's own tests: they differ
from one version of it to the next, far more than all else (test_plot.py reads them, and looks
whether they run into one another). No layer can go missing: every artist of every picture is taken
away once.

    python -m tests.test_pictures      # draws the baselines anew: look at them before committing
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.testing.compare import calculate_rms, compare_images
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter

from lle_gpu import LocallyLinearEmbedding, Spectrum
from lle_gpu.plot import (
    compare_methods,
    plot_embedding,
    plot_neighbors,
    plot_selection,
    plot_spectrum,
)

BASELINES = Path(__file__).parent / "pictures"
DPI = 80
# Root mean square over all pixels and channels, of 255. Drawn by matplotlib 3.8.0 and by 3.11.2 the
# pictures are the same, but for these two.
TOLERANCE = 0.8
LOOSER = {"thumbnails": 2.5, "space": 3.5}
STYLE = {"font.family": "DejaVu Sans", "font.size": 9}


def spiral(n=120):
    """Points along a spiral (n, 2), and where they lie along it (n,)."""
    t = np.linspace(0.5, 3.5, n)
    return np.column_stack([t * np.cos(2 * t), t * np.sin(2 * t)]), t


def flat(shape=(4.8, 3.6), box=(0.12, 0.24, 0.6, 0.58), **options):
    return Figure(figsize=shape).add_axes(box, **options)


def tall():
    return flat((4.8, 4.4), (0.16, 0.3, 0.8, 0.45))


def by_class():
    Y, t = spiral()
    Y[-1] = [9, 9]
    return plot_embedding(Y, labels=(t * 2).astype(int), title="classes", span=0.98, ax=flat())


def by_value():
    Y, t = spiral()
    t = np.where(np.arange(len(t)) % 5 == 0, np.nan, t)
    return plot_embedding(Y, values=t, value_name="position", title="values", ax=flat())


def many_classes():
    Y, t = spiral()
    names = [f"class {c}" for c in range(12)]
    labels = np.array(names)[(np.arange(len(t)) * 12) // len(t)]
    return plot_embedding(Y, labels=labels, label_name="twelve", ax=flat())


def thumbnails():
    Y, t = spiral()
    images = np.where(np.arange(64).reshape(8, 8) < 64 * (t[:, None, None] - 0.5) / 3, 1.0, 0.0)
    return plot_embedding(Y, images=images, labels=(t > 2), n_images=12, ax=flat())


def one_coordinate():
    Y, t = spiral()
    return plot_embedding(Y[:, :1], labels=np.where(t > 2, "outer", "inner"), ax=flat())


def outliers():
    Y, _ = spiral()
    Y = np.concatenate([1e-3 * Y, [[4, 5], [-5, 4]]])
    return plot_embedding(Y, title="outliers", ax=flat())


def space():
    Y, t = spiral()
    ax = flat(box=(0, 0.02, 0.75, 0.85), projection="3d")
    return plot_embedding(
        np.column_stack([Y, t]), labels=t > 2, coordinates=(0, 1, 2), title="three", ax=ax
    )


def side_by_side():
    Y, t = spiral()
    figure = compare_methods({"one": Y, "other": Y[:, ::-1]}, values=t, title="both")
    figure.set_layout_engine("none")
    for ax, left in zip(figure.axes, (0.05, 0.5, 0.95), strict=True):
        ax.set_position([left, 0.1, 0.4 if left < 0.9 else 0.03, 0.8])
    return figure


def sound_spectrum():
    values = np.array([1e-15, 1e-5, 1.003e-5, 1e-4, 4e-4])
    residuals = np.array([1e-19, 1e-16, 3e-16, 1e-15, 1e-14])
    spectrum = Spectrum(values, residuals, 0.4, 2, True, "dense (n is small)", 0)
    return plot_spectrum(spectrum, ax=tall())


def failed_spectrum():
    spectrum = Spectrum(np.array([1e-3, 2e-3]), np.full(2, 1e-8), 0.004, 1, False, "chebyshev", 70)
    return plot_spectrum(spectrum, ax=tall())


def torn_graph():
    x, y = np.mgrid[:12, :8].reshape(2, -1) + 0.2 * np.random.default_rng(0).random((2, 96))
    X = np.column_stack([x, y, 0 * x])
    model = LocallyLinearEmbedding(n_neighbors=5, reg=0.1).fit(X)
    model.embedding_ = np.column_stack([x + 12 * (x > 6), y])
    return plot_neighbors(model, labels=x > 6, title="torn", stretch=4, ax=flat())


@dataclass
class NeighborSelection:
    """What plot_selection needs of a result."""

    recommended: Any = 12
    reason: str = "the highest point"
    warnings: tuple = ("the graph for 5 is in pieces",)
    table: dict = field(
        default_factory=lambda: {
            "n_neighbors": np.array([5, 8, 12, 20, 30]),
            "preservation": np.array([0.5, 0.7, 0.8, 0.6, 0.3]),
            "residual": np.array([9e-4, 5e-4, 3e-4, np.nan, 8e-4]),
            "null_vectors": np.array([3, 2, 1, 1, 1]),
        }
    )


def selection():
    return plot_selection(NeighborSelection(), ax=tall())


def shaded():
    pytest.importorskip("datashader")
    rng = np.random.default_rng(0)
    Y = np.concatenate([rng.normal(size=(4000, 2)), [[6, 6]]])
    return plot_embedding(Y, labels=Y[:, 0] > 0, renderer="datashader", ax=flat())


PICTURES = {
    make.__name__: make
    for make in (
        by_class, by_value, many_classes, thumbnails, one_coordinate, outliers, space, side_by_side,
        sound_spectrum, failed_spectrum, torn_graph, selection, shaded,
    )
}  # fmt: skip


# datashader compiles for a while.
NAMES = [pytest.param(n, marks=[pytest.mark.slow] * (n == "shaded")) for n in PICTURES]


def draw(make):
    with matplotlib.style.context(["default", STYLE]):
        drawn = make()
        figure = getattr(drawn, "figure", drawn)
        figure.set_dpi(DPI)
        FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        text.set_visible(False)
    for ax in figure.axes:
        for axis in ax._axis_map.values():
            axis.set_major_formatter(NullFormatter())
            axis.set_minor_formatter(NullFormatter())
        ax.tick_params(length=0, which="both")
    figure.set_layout_engine("none")
    for legend in figure.findobj(Legend):
        legend.set_visible(False)
    return figure


def save(figure, path):
    with matplotlib.style.context(["default", STYLE]):
        figure.savefig(path, dpi=DPI, metadata={"Software": None})


def tolerance(name):
    return LOOSER.get(name, TOLERANCE)


def pixels(figure):
    with matplotlib.style.context(["default", STYLE]):
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(np.int16)


def layers(figure):
    """Every artist that carries meaning, the axes' frames left out."""
    for ax in figure.axes:
        kinds = (ax.collections, ax.lines, ax.images, ax.artists, ax.patches)
        for artist in (artist for kind in kinds for artist in kind):
            if (
                artist.get_visible() and getattr(artist, "get_paths", lambda: True)()
            ):  # a bar's dividers: none
                yield artist


@pytest.mark.parametrize("name", NAMES)
def test_looks_as_it_did(name, tmp_path):
    actual = tmp_path / f"{name}.png"
    save(draw(PICTURES[name]), actual)
    difference = compare_images(str(BASELINES / f"{name}.png"), str(actual), tolerance(name))
    assert difference is None, difference


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_layer_can_go_missing(name):
    figure = draw(PICTURES[name])
    whole, parts = pixels(figure), list(layers(figure))
    assert parts
    for artist in parts:
        artist.set_visible(False)
        rms = calculate_rms(whole, pixels(figure))
        artist.set_visible(True)
        assert rms > 1.2 * tolerance(name), f"{name} without {artist}: {rms:.2f}"


def test_no_baseline_is_left_over():
    assert {path.stem for path in BASELINES.glob("*.png")} == set(PICTURES)


if __name__ == "__main__":
    for name, make in PICTURES.items():
        save(draw(make), BASELINES / f"{name}.png")
        print(BASELINES / f"{name}.png")
