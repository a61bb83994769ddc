"""Pictures: what they say, what they show, and that they need no display."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.offsetbox import AnnotationBbox

from lle_gpu.datasets import load
from lle_gpu.plot import (
    CLASS_COLOURS,
    IMAGE_POINTS,
    MISSING_COLOUR,
    compare_methods,
    plot_embedding,
)


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 2)), rng.integers(0, 10, 300)


def points_of(ax):
    """The scatter's points and colours, in the embedding's order (they are drawn shuffled)."""
    scatter = ax.collections[0]
    offsets = np.asarray(scatter.get_offsets())
    back = np.argsort(np.random.default_rng(0).permutation(len(offsets)))
    return offsets[back], scatter.get_facecolors()[back]


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def remarks_of(ax):
    return " ".join(text.get_text() for text in ax.texts)


def pixels_of(figure):
    stream = io.BytesIO()
    figure.savefig(stream, dpi=50)
    stream.seek(0)
    return imread(stream)


def test_every_point_is_drawn_in_its_class_colour(cloud):
    Y, labels = cloud
    ax = plot_embedding(Y, labels=labels, title="a title", label_name="digit")
    points, colours = points_of(ax)
    assert np.array_equal(points, Y)
    assert [to_hex(c) for c in colours] == [CLASS_COLOURS[label] for label in labels]
    assert legend_of(ax) == [str(digit) for digit in range(10)]
    assert ax.get_legend().get_title().get_text() == "digit"
    handles = ax.get_legend().legend_handles
    assert [to_hex(handle.get_color()) for handle in handles] == list(CLASS_COLOURS)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("coordinate 1", "coordinate 2")
    assert ax.get_title(loc="left") == "a title"


def test_the_picture_has_the_points(cloud):
    Y, labels = cloud
    with_points = pixels_of(plot_embedding(Y, labels=labels).figure)
    ax = plot_embedding(Y, labels=labels)
    ax.collections[0].remove()
    without = pixels_of(ax.figure)
    assert with_points.shape == without.shape == (300, 400, 4)
    differs = (np.abs(with_points - without) > 0.1).any(axis=2)
    assert differs.sum() > 1000


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b", "c"], ["a", "b", "c"]),
        ([1.0, 0.5, 2.0, 1.0], ["0.5", "1", "2"]),
        ([10, 9, 10, 11], ["9", "10", "11"]),
        ([True, False, True, True], ["False", "True"]),
        (np.array(["x", None, "x", None], dtype=object), ["None", "x"]),
    ],
)
def test_class_names(labels, names):
    ax = plot_embedding(np.arange(8.0).reshape(4, 2), labels=labels)
    assert legend_of(ax) == names


def test_more_than_ten_classes_get_a_colour_map():
    labels = np.arange(36) % 12
    ax = plot_embedding(np.random.default_rng(0).normal(size=(36, 2)), labels=labels)
    _, colours = points_of(ax)
    assert len(np.unique(colours, axis=0)) == 12
    assert not {to_hex(c) for c in colours} & set(CLASS_COLOURS)
    assert len(legend_of(ax)) == 12


def test_the_legend_says_what_it_leaves_out():
    ax = plot_embedding(np.random.default_rng(0).normal(size=(60, 2)), labels=np.arange(60))
    assert len(legend_of(ax)) == 41
    assert legend_of(ax)[-1] == "and 20 more"


def test_values_have_a_labelled_colour_bar(cloud):
    Y, _ = cloud
    ax = plot_embedding(Y, values=Y[:, 0], value_name="height")
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "height"
    assert bar.get_ylim() == pytest.approx((Y[:, 0].min(), Y[:, 0].max()))
    _, colours = points_of(ax)
    order = np.argsort(Y[:, 0])
    assert np.abs(np.diff(colours[order], axis=0)).max() < 0.3  # along the map
    assert to_hex(colours[order[0]]) == "#440154"
    assert to_hex(colours[order[-1]]) == "#fde725"


def test_missing_values_are_drawn_and_explained(cloud):
    Y, _ = cloud
    values = Y[:, 0].copy()
    values[7] = np.nan
    ax = plot_embedding(Y, values=values)
    points, colours = points_of(ax)
    assert np.array_equal(points, Y)
    assert to_hex(colours[7]) == MISSING_COLOUR
    assert ax.figure.axes[1].get_ylabel() == "value (grey: missing)"


def test_constant_values_and_one_point():
    plot_embedding([[1.0, 2.0], [3.0, 4.0]], values=[5.0, 5.0]).figure.draw_without_rendering()
    plot_embedding([[1.0, 2.0]], labels=["a"]).figure.draw_without_rendering()


def test_plain_points_need_no_key(cloud):
    ax = plot_embedding(cloud[0])
    assert ax.get_legend() is None
    assert len(ax.figure.axes) == 1


def thumbnails_of(ax):
    return [artist for artist in ax.artists if isinstance(artist, AnnotationBbox)]


def test_thumbnails_lie_apart_and_show_their_points():
    digits = load("digits", 400)
    Y = np.random.default_rng(0).normal(size=(400, 2))
    ax = plot_embedding(Y, labels=digits.labels, images=digits.images, n_images=15)
    boxes = thumbnails_of(ax)
    assert 5 < len(boxes) <= 15
    ax.figure.draw_without_rendering()
    places = ax.transData.transform([box.xy for box in boxes])
    gaps = np.abs(places[:, None] - places).max(axis=2) + np.diag([np.inf] * len(boxes))
    assert gaps.min() > IMAGE_POINTS * ax.figure.dpi / 72
    for box in boxes:
        row = int(np.flatnonzero((box.xy == Y).all(axis=1))[0])
        assert np.allclose(box.offsetbox.get_data(), digits.images[row])
        assert to_hex(box.patch.get_edgecolor()) == CLASS_COLOURS[digits.labels[row]]


def test_there_are_no_more_thumbnails_than_room():
    digits = load("digits", 300)
    crowded = 1e-3 * np.random.default_rng(0).normal(size=(300, 2))
    crowded[0] = [1, 1]
    ax = plot_embedding(crowded, images=digits.images)
    assert len(thumbnails_of(ax)) == 2


def test_full_range_unless_asked(cloud):
    Y = np.concatenate([cloud[0], [[100.0, 100.0]]])
    ax = plot_embedding(Y)
    assert ax.get_xlim()[1] > 100
    assert "outside" not in remarks_of(ax)
    ax = plot_embedding(Y, span=0.98)
    assert ax.get_xlim()[1] < 5
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x, y = Y.T
    count = int(((x < left) | (x > right) | (y < bottom) | (y > top)).sum())
    assert count >= 1
    assert remarks_of(ax) == f"{count} of 301 points lie outside"


def test_a_picture_of_outliers_says_so(cloud):
    Y = np.concatenate([1e-4 * cloud[0], [[1.0, 1.0], [-1.0, 1.0]]])
    assert remarks_of(plot_embedding(Y)) == "300 of 302 points lie in one dot"
    assert remarks_of(plot_embedding(cloud[0])) == ""


def test_one_coordinate(cloud):
    Y, labels = cloud
    ax = plot_embedding(Y[:, :1], values=labels, value_name="number")
    points, _ = points_of(ax)
    assert np.array_equal(points, np.column_stack([Y[:, 0], labels]))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("coordinate 1 of 1", "number")

    ax = plot_embedding(Y[:, :1], labels=labels)
    points, _ = points_of(ax)
    assert np.array_equal(points[:, 0], Y[:, 0])
    assert np.array_equal(np.round(points[:, 1]), labels)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [str(c) for c in range(10)]

    ax = plot_embedding(Y[:, :1])
    assert ax.get_ylabel() == "scattered at random"


def test_many_coordinates():
    Y = np.random.default_rng(0).normal(size=(40, 4))
    ax = plot_embedding(Y)
    assert np.array_equal(points_of(ax)[0], Y[:, :2])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("coordinate 1 of 4", "coordinate 2 of 4")
    ax = plot_embedding(Y, coordinates=(3, 1))
    assert np.array_equal(points_of(ax)[0], Y[:, [3, 1]])
    assert ax.get_xlabel() == "coordinate 4 of 4"


def test_markers_shrink_and_pale_with_n():
    def marker(n):
        scatter = plot_embedding(np.random.default_rng(0).normal(size=(n, 2))).collections[0]
        return scatter.get_sizes()[0], scatter.get_alpha()

    few, many = marker(50), marker(50_000)
    assert few[0] > 10 * many[0]
    assert few[1] > many[1] > 0.1


def test_into_given_axes(cloud):
    ax = Figure().subplots()
    assert plot_embedding(cloud[0], ax=ax) is ax


def test_compare_methods_shares_colours_and_key(cloud):
    Y, labels = cloud
    panels = {"a": Y, "b": Y[:, ::-1], "c": -Y}
    figure = compare_methods(panels, labels=labels, label_name="digit", title="all", n_columns=2)
    axes = [ax for ax in figure.axes if ax.collections]
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b", "c"]
    for ax, drawn in zip(axes, panels.values(), strict=True):
        points, colours = points_of(ax)
        assert np.array_equal(points, drawn)
        assert [to_hex(c) for c in colours] == [CLASS_COLOURS[label] for label in labels]
        assert ax.get_legend() is None
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [str(c) for c in range(10)]
    assert len(axes) == len(figure.axes)  # the fourth place of the grid is empty
    assert pixels_of(figure).std() > 0.05

    figure = compare_methods(panels, values=Y[:, 0], value_name="height")
    assert [ax.get_ylabel() for ax in figure.axes].count("height") == 1


Y4 = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"Y": np.zeros(4)}, r"Y has shape \(4,\)"),
        ({"Y": np.full((4, 2), np.nan)}, "Y holds NaN"),
        ({"Y": Y4, "labels": [1, 2]}, r"labels has shape \(2,\).*each of 4 points"),
        ({"Y": Y4, "values": [[1, 2, 3, 4]]}, r"values has shape \(1, 4\)"),
        ({"Y": Y4, "values": [np.nan] * 4}, "none of the 4 is finite"),
        ({"Y": Y4, "labels": range(4), "values": range(4)}, "labels and values"),
        ({"Y": Y4, "images": np.zeros((3, 8, 8))}, r"images has shape \(3, 8, 8\).*n=4"),
        ({"Y": Y4, "span": 0}, "span=0 must be greater than 0"),
        ({"Y": Y4, "coordinates": (0, 2)}, r"coordinates=\(0, 2\)"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_embedding(**arguments)


@pytest.mark.parametrize("panels", [{}, {"a": Y4, "b": Y4[:3]}])
def test_compare_methods_errors(panels):
    with pytest.raises(ValueError, match="of the same points"):
        compare_methods(panels)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'lle-gpu\[plot\]'"):
        plot_embedding(Y4)


def test_importing_needs_no_matplotlib_and_drawing_no_pyplot():
    code = (
        "import sys, lle_gpu, lle_gpu.plot, lle_gpu.cli\n"
        "assert 'matplotlib' not in sys.modules\n"
        "lle_gpu.plot.plot_embedding([[0.0, 1.0], [2.0, 3.0]], labels=[0, 1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
