"""Pictures: what they say, what they show, and that they need no display."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.legend import Legend
from matplotlib.markers import MarkerStyle
from matplotlib.offsetbox import AnnotationBbox
from matplotlib.text import Text
from sklearn.exceptions import NotFittedError

from lle_gpu import LocallyLinearEmbedding, Spectrum
from lle_gpu.datasets import load
from lle_gpu.plot import (
    canvas,
    compare_methods,
    plot_embedding,
    plot_neighbors,
    plot_selection,
    plot_spectrum,
)
from lle_gpu.plot import points as points_module
from lle_gpu.plot.colours import CLASS_COLOURS, MISSING_COLOUR
from lle_gpu.plot.key import shortened
from lle_gpu.plot.neighbors import edge_stretch
from lle_gpu.plot.overlays import IMAGE_POINTS


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
    return " ".join(text.get_text() for text in ax.texts if text.get_visible())


def labels_below(ax):
    (legend,) = [artist for artist in ax.artists if isinstance(artist, Legend)]
    return [text.get_text() for text in legend.get_texts()]


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
        (np.array(["10", "2", "1", "-3"], dtype=object), ["-3", "1", "2", "10"]),
        (np.array(["10", "2", "b", "2"]), ["2", "10", "b"]),
        (np.array(["x", None, "x", None], dtype=object), ["x", "missing"]),
        (["x", np.nan, "a", "nan"], ["a", "nan", "x", "missing"]),
        ([2.0, np.nan, 11.0, np.nan], ["2", "11", "missing"]),
        (np.array(["2024-02-01", "NaT", "2023-01-05", "NaT"], "M8[ns]"),
         ["2023-01-05", "2024-02-01", "missing"]),
    ],
)  # fmt: skip
def test_class_names(labels, names):
    ax = plot_embedding(np.arange(8.0).reshape(4, 2), labels=labels)
    assert legend_of(ax) == names


def test_a_categorical_keeps_its_order_and_its_categories():
    pandas = pytest.importorskip("pandas")
    grades = pandas.Categorical(
        ["high", "low", None, "high"], categories=["low", "mid", "high"], ordered=True
    )
    for labels in (grades, pandas.Series(grades)):
        ax = plot_embedding(Y4, labels=labels)
        assert legend_of(ax) == ["low", "mid", "high", "missing"]
        _, colours = points_of(ax)
        expected = [CLASS_COLOURS[2], CLASS_COLOURS[0], MISSING_COLOUR, CLASS_COLOURS[2]]
        assert [to_hex(c) for c in colours] == expected


def test_a_nullable_column_in_order():
    pandas = pytest.importorskip("pandas")
    numbers = pandas.Series([None, *range(12)], dtype="Int64")
    ax = plot_embedding(np.random.default_rng(0).normal(size=(13, 2)), labels=numbers)
    assert legend_of(ax) == [*map(str, range(12)), "missing"]
    assert to_hex(points_of(ax)[1][0]) == MISSING_COLOUR
    assert len(set(shapes_of(ax)[:1]) & set(shapes_of(ax)[1:])) == 0  # grey is not for all eyes
    missing = plot_embedding(Y4, labels=np.full(4, np.nan))
    assert legend_of(missing) == ["missing"]


def test_numbers_within_names_count():
    names = ["class 10", "class 9", "b1", "class 10b"]
    ax = plot_embedding(Y4, labels=names)
    assert legend_of(ax) == ["b1", "class 9", "class 10", "class 10b"]


def shapes_of(ax):
    """The scatter's shapes, in the embedding's order: corners of each point's outline."""
    paths = ax.collections[0].get_paths()
    back = np.argsort(np.random.default_rng(0).permutation(len(paths)))
    return [paths[i].vertices.tobytes() for i in back]


def test_forty_classes_differ_in_colour_or_shape():
    labels = np.arange(80) % 40
    ax = plot_embedding(np.random.default_rng(0).normal(size=(80, 2)), labels=labels)
    colours = [to_hex(c) for c in points_of(ax)[1]]
    assert colours == [CLASS_COLOURS[label % 10] for label in labels]
    looks = list(zip(colours, shapes_of(ax), strict=True))
    assert len(set(looks)) == 40
    assert looks[:40] == looks[40:]
    handles = ax.get_legend().legend_handles
    assert [to_hex(handle.get_color()) for handle in handles] == colours[:40]
    outlines = [MarkerStyle(handle.get_marker()) for handle in handles]
    outlines = [mark.get_path().transformed(mark.get_transform()) for mark in outlines]
    assert [path.vertices.tobytes() for path in outlines] == shapes_of(ax)[:40]
    in_space = plot_embedding(
        np.random.default_rng(0).normal(size=(80, 3)), labels=labels, coordinates=(0, 1, 2)
    )
    assert [len(some.get_offsets()) for some in in_space.collections] == [20] * 4


@pytest.mark.parametrize(
    ("options", "count", "reason"),
    [
        ({}, 41, "40 are the most"),
        ({"size": 2}, 12, "markers so small"),
        pytest.param({"renderer": "datashader"}, 12, "no shapes", marks=pytest.mark.slow),
    ],
)
def test_without_shapes_a_colour_map_is_named(options, count, reason):
    if "renderer" in options:
        pytest.importorskip("datashader")
    labels = np.arange(123) % count
    ax = plot_embedding(np.random.default_rng(0).normal(size=(123, 2)), labels=labels, **options)
    said = remarks_of(ax).replace("\n", " ")
    assert f"{count} classes share one scale of colours" in said
    assert reason in said
    handles = ax.get_legend().legend_handles[:12]
    assert {handle.get_marker() for handle in handles} == {"o"}
    assert len({to_hex(handle.get_color()) for handle in handles}) == 12


def test_the_legend_says_what_it_leaves_out():
    ax = plot_embedding(np.random.default_rng(0).normal(size=(60, 2)), labels=np.arange(60))
    assert len(legend_of(ax)) == 41
    assert legend_of(ax)[-1] == "and 20 more"


@pytest.mark.parametrize(
    "name", ["a class of a long name, number {}", "{}: a class of a long name"]
)
def test_long_names_leave_the_picture_its_room_and_stay_different(name):
    Y = np.random.default_rng(0).normal(size=(60, 2))
    labels = np.array([name.format(c) for c in range(30)])[np.arange(60) % 30]
    ax = plot_embedding(Y, labels=labels)
    ax.figure.draw_without_rendering()
    assert ax.get_window_extent().width > 0.5 * ax.figure.bbox.width
    assert len(set(legend_of(ax))) == 30


def test_panels_keep_their_size_beside_a_legend():
    Y = np.random.default_rng(0).normal(size=(60, 2))
    for count in (3, 30):
        labels = [f"a class of a long name, number {c}" for c in np.arange(60) % count]
        figure = compare_methods({"a": Y, "b": Y}, labels=labels)
        figure.draw_without_rendering()
        for ax in figure.axes:
            box = ax.get_window_extent()
            assert box.width / figure.dpi > 2.7
            assert box.height / figure.dpi > 2.3
    (legend,) = figure.legends
    assert len({text.get_text() for text in legend.get_texts()}) == 30


def test_shortened():
    assert shortened(["abcdefgh", "xy"], 5) == ["abcd…", "xy"]
    assert shortened(["same a ending", "same b ending"], 8) == ["same a …", "same b …"]
    assert shortened(["the same 1 end", "the same 2 end"], 6) == ["…1 end", "…2 end"]
    assert shortened(["the same 1 end and", "the same 2 end and"], 6) == ["…1 en…", "…2 en…"]


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


@pytest.mark.parametrize("gap", [np.nan, np.inf])
def test_missing_values_are_drawn_and_explained(cloud, gap):
    Y, _ = cloud
    values = Y[:, 0].copy()
    values[7] = gap
    ax = plot_embedding(Y, values=values)
    points, colours = points_of(ax)
    assert np.array_equal(points, Y)
    assert to_hex(colours[7]) == MISSING_COLOUR
    assert ax.figure.axes[1].get_ylabel() == "value (grey: missing)"


@pytest.mark.parametrize("kind", ["datetime64", "zoned", "day"])
def test_dates_are_dates(cloud, kind):
    days = np.datetime64("2020-01-31") + np.arange(300)
    if kind == "datetime64":
        days = days.astype("M8[ns]")
        days[7] = np.datetime64("NaT")
    elif kind == "zoned":
        pandas = pytest.importorskip("pandas")
        days = pandas.Series(pandas.DatetimeIndex(days).tz_localize("UTC")).where(days != days[7])
    else:
        days = days.astype(object)
        days[7] = None
    ax = plot_embedding(cloud[0], values=days, value_name="day")
    bar = ax.figure.axes[1]
    ax.figure.draw_without_rendering()
    ticks = [tick.get_text() for tick in bar.get_yticklabels()]
    assert {"Mar", "Jul", "Nov"} <= set(ticks)
    assert bar.get_ylabel() == "day (grey: missing)"
    assert to_hex(points_of(ax)[1][7]) == MISSING_COLOUR
    ax = plot_embedding(cloud[0][:, :1], values=days)
    ax.figure.draw_without_rendering()
    assert "Jul" in [tick.get_text() for tick in ax.get_yticklabels()]


def test_missing_numbers_of_objects_are_grey():
    ax = plot_embedding(Y4, values=np.array([1, None, 3, np.nan], dtype=object))
    expected = ["#440154", MISSING_COLOUR, "#fde725", MISSING_COLOUR]
    assert [to_hex(c) for c in points_of(ax)[1]] == expected


def test_no_text_is_a_formula(cloud):
    Y = cloud[0]
    figure = compare_methods({"in $ and $": Y}, labels=["$a$"] * 300, title="a $ or $ b")
    ax = plot_embedding(Y[:, :1], values=Y[:, 1], value_name="$x$", title="$ $", span=0.9)
    for each in (figure, ax.figure):
        each.draw_without_rendering()
        shown = [text for text in each.findobj(Text) if "$" in text.get_text()]
        assert len(shown) == 3
        for text in shown:
            assert text._preprocess_math(text.get_text())[1] is False


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


@pytest.mark.parametrize("n_groups", [2, 3, 8])
def test_a_picture_of_a_few_dots_says_so(n_groups):
    """As of groups that are tied weakly: the middle is empty."""
    rng = np.random.default_rng(n_groups)
    centres = rng.uniform(-1, 1, size=(n_groups, 2))
    Y = np.repeat(centres, 200, axis=0) + 1e-3 * rng.normal(size=(200 * n_groups, 2))
    n = len(Y)
    (said,) = re.findall(
        rf"([\d,]+) of {n:,} points lie in (\d) dots", remarks_of(plot_embedding(Y))
    )
    # Nine tenths of them may lie in fewer dots than there are groups, for two may be near together.
    assert 0.9 * n <= int(said[0].replace(",", "")) <= n
    assert int(said[1]) <= n_groups
    assert "dots" in remarks_of(plot_embedding(Y, span=0.98))
    space = np.column_stack([Y, Y[:, 0]])
    assert "dots" in remarks_of(plot_embedding(space, coordinates=(0, 1, 2)))


@pytest.mark.parametrize(
    "name",
    [
        "curve",
        "circle",
        "blobs",
        "few points",
        "square",
        "one line",
        "loose groups",
        "a few groups of few",
    ],
)
def test_pictures_that_are_no_dots(name):
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 6, size=900)
    Y = {
        "curve": np.column_stack([t, np.sin(t)]),
        "circle": np.column_stack([np.cos(t), np.sin(t)]),
        "blobs": rng.normal(size=(900, 2)) + rng.choice([-6, 6], size=(900, 1)),
        "few points": rng.normal(size=(12, 2)),
        "square": rng.uniform(size=(900, 2)),
        "one line": np.column_stack([t, np.zeros(900)]),
        "loose groups": np.repeat(rng.uniform(-1, 1, (4, 2)), 225, axis=0)
        + 0.08 * rng.normal(size=(900, 2)),
        "a few groups of few": np.repeat(rng.uniform(-1, 1, (5, 2)), 5, axis=0),
    }[name]
    assert "dot" not in remarks_of(plot_embedding(Y))


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
        ({"Y": Y4, "values": ["a", "b", "c", "d"]}, "values must be numbers or dates"),
        ({"Y": Y4, "values": np.arange(4).astype("m8[s]")}, "values are durations"),
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


# G. M. Machado, M. M. Oliveira, L. A. F. Fernandes: A physiologically-based model for simulation of
# color vision deficiency. IEEE Trans. Vis. Comput. Graph. 15(6):1291 (2009); severity 1.0, on
# linear RGB.
EYES = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(colours, eye="usual"):
    """CIELAB coordinates (m, 3), D65, of colours as an eye sees them (IEC 61966-2-1, CIE 15)."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.transpose(EYES[eye]), 0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
         [0.0193339, 0.1191920, 0.9503041]]
    )  # fmt: skip
    t = linear @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.column_stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])]
    )


def test_lab_is_lab():
    assert lab(["white", "black"]) == pytest.approx(np.array([[100, 0, 0], [0, 0, 0]]), abs=1e-3)
    assert lab(["red"])[0] == pytest.approx([53.24, 80.09, 67.20], abs=0.05)  # as tables have it


@pytest.mark.parametrize("eye", EYES)
def test_class_colours_stay_apart_for_all_eyes(eye):
    places = lab([*CLASS_COLOURS, "white"], eye)
    distances = np.linalg.norm(places[:, None] - places, axis=2) + np.diag([np.inf] * len(places))
    assert distances.min() > 15  # 2.3 is just noticeable
    # What stands for good and bad in one picture.
    marks = lab([canvas.FAINT, canvas.WARNING, CLASS_COLOURS[0]], eye)
    assert np.linalg.norm(marks[1] - marks[[0, 2]], axis=1).min() > 25


def test_text_has_contrast():
    for colour in (canvas.INK, canvas.MUTED, canvas.WARNING):
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5  # WCAG 2.1, AA
    assert canvas.SMALL / 72 * 600 / 8 >= 8  # pixels, in a picture 8 inches wide shown in 600


def test_coordinates_have_one_scale_where_that_is_no_strip(cloud):
    def scales(ax):
        ax.figure.draw_without_rendering()
        (x0, y0), (x1, y1) = ax.transData.transform([[0, 0], [1, 1]])
        return x1 - x0, y1 - y0

    for span in (1, 0.9):
        ax = plot_embedding(cloud[0] * [1, 2], span=span)
        across, up = scales(ax)
        assert across == pytest.approx(up)
        assert "scales" not in remarks_of(ax)
    ax = plot_embedding(cloud[0] * [1, 20])
    across, up = scales(ax)
    assert across > 10 * up
    assert remarks_of(ax) == "the axes have different scales"
    assert "scales" not in remarks_of(plot_embedding(cloud[0][:, :1], values=100 * cloud[0][:, 0]))
    shared = Figure().subplots(1, 2, sharex=True, sharey=True)
    for ax in shared:
        plot_embedding(cloud[0], ax=ax)
    assert scales(shared[0]) == pytest.approx(scales(shared[1]))


def test_three_coordinates(cloud):
    Y = np.column_stack([cloud[0], cloud[0][:, :1] ** 2])
    ax = plot_embedding(Y, coordinates=(0, 1, 2), labels=cloud[1], title="in space")
    assert ax.name == "3d"
    assert (ax.get_zlabel(), ax.get_title(loc="left")) == ("coordinate 3 of 3", "in space")
    drawn = np.column_stack(ax.collections[0]._offsets3d)
    assert np.array_equal(np.sort(drawn, axis=0), np.sort(Y, axis=0))
    ax = plot_embedding(Y, coordinates=(0, 1, 2), span=0.9)
    inside = len(ax.collections[0]._offsets3d[0])
    assert 0 < inside < 300
    assert f"{300 - inside} of 300 points lie outside" in remarks_of(ax)
    for arguments, message in (
        ({"images": np.zeros((300, 4, 4))}, "three dimensions: give two"),
        ({"ax": Figure().subplots()}, "projection='3d'"),
        ({"renderer": "datashader"}, "cannot draw three coordinates"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_embedding(Y, coordinates=(0, 1, 2), **arguments)


def test_many_classes_are_named_where_they_lie():
    labels = np.repeat([f"name {c}" for c in range(15)], 20)
    centres = np.array([(c % 5, c // 5) for c in range(15)])
    noise = 0.1 * np.random.default_rng(0).normal(size=(300, 2))
    Y = np.repeat(centres, 20, axis=0) + noise
    ax = plot_embedding(Y, labels=labels)
    named = {text.get_text(): text.get_position() for text in ax.texts}
    assert set(named) == set(labels)
    for c in range(15):
        assert np.abs(np.array(named[f"name {c}"]) - centres[c]).max() < 0.2
    names = plot_embedding(np.zeros((300, 2)), labels=labels).texts
    assert len([text for text in names if text.get_text().startswith("name")]) == 1


def test_any_kind_of_embedding(cloud):
    pandas = pytest.importorskip("pandas")
    Y, labels = cloud
    ax = plot_embedding(pandas.DataFrame(Y), labels=pandas.Series(labels).astype("category"))
    assert np.array_equal(points_of(ax)[0], Y)
    assert legend_of(ax) == [str(digit) for digit in range(10)]


class TestManyPoints:
    @pytest.fixture(autouse=True)
    def few_are_many(self, monkeypatch):
        monkeypatch.setattr(points_module, "MANY", 100)

    @pytest.fixture
    def alone(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "datashader", None)

    def test_without_datashader_some_are_drawn(self, cloud, alone):
        Y, labels = cloud
        ax = plot_embedding(Y, labels=labels)
        drawn = np.asarray(ax.collections[0].get_offsets())
        assert len(drawn) == 100
        rows = [int(np.flatnonzero((point == Y).all(axis=1))[0]) for point in drawn]
        assert len(set(rows)) == 100
        expected = [CLASS_COLOURS[label] for label in labels[rows]]
        assert [to_hex(c) for c in ax.collections[0].get_facecolors()] == expected
        assert "100 of 300 points, drawn at random" in remarks_of(ax)
        assert "pip install 'lle-gpu[datashader]' draws all" in remarks_of(ax).replace("\n", " ")

    def test_the_view_is_that_of_all_points(self, cloud, alone):
        Y = np.concatenate([cloud[0], [[50.0, 50.0]]])
        assert plot_embedding(Y).get_xlim()[1] > 50

    def test_all_are_drawn_where_that_is_asked_for(self, cloud, alone):
        ax = plot_embedding(cloud[0], renderer="markers")
        assert len(ax.collections[0].get_offsets()) == 300
        assert remarks_of(ax) == ""

    def test_errors(self, cloud, alone):
        with pytest.raises(ImportError, match=r"pip install 'lle-gpu\[datashader\]'"):
            plot_embedding(cloud[0], renderer="datashader")
        with pytest.raises(ValueError, match="renderer='best' must be one of 'auto'"):
            plot_embedding(cloud[0], renderer="best")
        with pytest.raises(ValueError, match="more than 40 classes: use"):
            plot_embedding(cloud[0], labels=range(300), renderer="datashader")

    @pytest.mark.slow  # compiles
    def test_datashader_draws_all(self, cloud):
        pytest.importorskip("datashader")
        Y, labels = cloud
        for options in ({"labels": labels}, {"values": np.where(labels, Y[:, 0], np.nan)}, {}):
            ax = plot_embedding(
                np.concatenate([Y, [[9.0, 9.0]]]),
                **{key: np.append(value, value[0]) for key, value in options.items()},
            )
            assert not ax.collections
            assert "all 301 points, by pixel" in remarks_of(ax)
            picture = ax.images[0].get_array()
            ax.figure.draw_without_rendering()
            box = ax.get_window_extent()
            assert picture.shape[:2] == pytest.approx((box.height, box.width), abs=1.1)
            # Where each point is there is colour, the lonely one's too, and nowhere far from any.
            pixel = ax.transData.transform(np.concatenate([Y, [[9.0, 9.0]]])) - (box.x0, box.y0)
            column, row = np.clip(pixel.astype(int), 0, np.array(picture.shape[1::-1]) - 1).T
            opaque = np.asarray(picture[..., 3]) > 0
            assert opaque[picture.shape[0] - 1 - row, column].mean() > 0.95
            assert opaque[: picture.shape[0] // 3, : picture.shape[1] // 3].sum() < 20
            if "labels" in options:
                lone = picture[picture.shape[0] - 1 - row[-1], column[-1]]
                expected = np.array(to_rgb(CLASS_COLOURS[labels[0]])) * 255
                assert np.abs(lone[:3] - expected).max() < 30


def spectrum(values, residuals=None, gap=0.5, n_null=1, converged=True, solver="dense (small)"):
    values = np.asarray(values, dtype=float)
    residuals = np.full(len(values), 1e-15) if residuals is None else np.asarray(residuals)
    return Spectrum(values, residuals, gap, n_null, converged, solver, 7)


def line(ax, label):
    (found,) = [each for each in ax.lines if each.get_label().startswith(label)]
    return np.column_stack(found.get_data())


class TestSpectrum:
    def test_values_residuals_and_the_next(self):
        ax = plot_spectrum(spectrum([1e-4, 2e-4, 5e-4], [1e-16, 2e-16, 0.0], gap=0.75))
        assert line(ax, "eigenvalue") == pytest.approx(
            np.array([[1, 1e-8], [2, 4e-8], [3, 2.5e-7]]), rel=1e-12
        )
        assert line(ax, "residual ‖") == pytest.approx(
            np.array([[1, 1e-16], [2, 2e-16], [3, 1e-18]]), rel=1e-12
        )
        assert line(ax, "first value left out") == pytest.approx(np.array([[4, 4e-6]]), rel=1e-12)
        assert ax.get_yscale() == "log"
        assert "gap 75.0%" in remarks_of(ax)
        assert "solver: dense (small), 7 steps" in remarks_of(ax)
        assert ax.get_title(loc="left") == "Bottom of the spectrum: converged"
        assert ax.get_xlabel()
        assert ax.get_ylabel()
        assert labels_below(ax)[0] == "eigenvalue λ = σ²"
        low, high = ax.get_ylim()
        for each in ax.lines:
            heights = np.asarray(each.get_ydata(), dtype=float)
            assert ((low < heights) & (heights < high)).all()

    def test_the_next_value_is_the_one_that_a_larger_fit_has(self, digits):
        X = digits[0][:300]
        lle = LocallyLinearEmbedding(n_neighbors=30, n_components=3, eigen_solver="dense")
        ((_, drawn),) = line(plot_spectrum(lle.fit(X)), "first value")
        more = lle.set_params(n_components=4).fit(X).spectrum_.values
        assert drawn == pytest.approx(more[3] ** 2, rel=1e-6)

    def test_null_values_lie_below_all_others(self):
        ax = plot_spectrum(spectrum([0, 1e-15, 3e-4], n_null=3, residuals=[0, 1e-17, 1e-15]))
        null = line(ax, "null value")
        assert list(null[:, 0]) == [1, 2]
        assert (null[:, 1] < 1e-18).all()
        assert list(line(ax, "eigenvalue")[:, 0]) == [3]
        assert "2 null vectors beside the constant" in remarks_of(ax)

    def test_repeated_values_are_marked(self):
        ax = plot_spectrum(spectrum([1e-4, 1.005e-4, 3e-4, 6e-4, 6e-4, 6.001e-4]))
        assert {"×2", "×3"} <= {text.get_text() for text in ax.texts}
        assert "repeated: σ within 1%" in labels_below(ax)
        ax = plot_spectrum(spectrum([1e-4, 1.05e-4]))
        assert "×" not in remarks_of(ax)
        assert "repeated: σ within 1%" not in labels_below(ax)

    @pytest.mark.parametrize(
        ("given", "remark"),
        [
            (spectrum([1e-4], gap=np.nan), "no value is left out"),
            (spectrum([1e-4], gap=0.003), "one choice among many"),
            (spectrum([0.0], gap=1.0), "the last value is 0"),
            (spectrum([0.0, 0.0], gap=0.0, n_null=9), "8 null vectors"),
        ],
    )
    def test_odd_gaps(self, given, remark):
        ax = plot_spectrum(given)
        ax.figure.draw_without_rendering()
        assert remark in remarks_of(ax).replace("\n", " ")
        labels = [each.get_label() for each in ax.lines]
        assert ("first value left out" in labels) == (given.gap < 1)

    def test_not_converged_stands_out(self):
        ax = plot_spectrum(spectrum([1e-4], converged=False))
        assert "NOT CONVERGED" in ax.get_title(loc="left")
        assert to_hex(ax._left_title.get_color()) == canvas.WARNING
        assert "NOT CONVERGED" in remarks_of(
            plot_spectrum(spectrum([1e-4], converged=False), title="mine")
        )

    def test_into_given_axes_and_errors(self):
        ax = Figure().subplots()
        assert plot_spectrum(spectrum([1e-4]), ax) is ax
        with pytest.raises(TypeError, match="is a list, but must be a fitted"):
            plot_spectrum([1, 2])
        with pytest.raises(NotFittedError):
            plot_spectrum(LocallyLinearEmbedding())


class TestNeighbors:
    @pytest.fixture
    def sheet(self):
        rng = np.random.default_rng(0)
        flat = np.stack(np.mgrid[:14, :10], axis=-1).reshape(-1, 2) + 0.3 * rng.random((140, 2))
        X = np.column_stack([flat, np.zeros(140)])
        model = LocallyLinearEmbedding(n_neighbors=5, reg=0.1).fit(X)
        model.embedding_ = flat.copy()
        return model

    def reference(self, model, index=None):
        """Edges and their stretch, one by one."""
        X, Y = model.nbrs_.X, model.embedding_
        if index is None:
            distance = np.linalg.norm(X[:, None] - X, axis=2) + np.diag([np.inf] * len(X))
            index = np.argsort(distance, axis=1)[:, :5]
        pairs = sorted({tuple(sorted((i, int(j)))) for i, row in enumerate(index) for j in row})
        in_x = np.array([np.linalg.norm(X[i] - X[j]) for i, j in pairs])
        in_y = np.array([np.linalg.norm(Y[i] - Y[j]) for i, j in pairs])
        ratio = in_y / np.maximum(in_x, np.median(in_x) / 10)
        return pairs, ratio / np.median(ratio)

    def drawn(self, ax, label):
        """Segments of a collection, each as a sorted tuple of two points."""
        (found,) = [c for c in ax.collections if str(c.get_label()).startswith(label)]
        return {tuple(sorted(map(tuple, segment))) for segment in found.get_segments()}

    def as_segments(self, model, pairs):
        Y = model.embedding_
        return {tuple(sorted((tuple(Y[i]), tuple(Y[j])))) for i, j in pairs}

    def test_a_tear_stands_out(self, sheet):
        right = sheet.nbrs_.X[:, 0] > 7
        sheet.embedding_[right, 0] += 15
        ax = plot_neighbors(sheet, labels=right, title="torn")
        pairs, factor = self.reference(sheet)
        torn = [pair for pair in pairs if right[pair[0]] != right[pair[1]]]
        assert torn == [pair for pair, f in zip(pairs, factor, strict=True) if f > 5]
        assert self.drawn(ax, "stretched") == self.as_segments(sheet, torn)
        rest = set(pairs) - set(torn)
        assert self.drawn(ax, "edge") == self.as_segments(sheet, rest)
        said = f"{len(torn)} of {len(pairs)} edges are stretched more than 5 times the median"
        assert said in remarks_of(ax)
        assert labels_below(ax) == ["edge", "stretched more than 5 times"]
        assert legend_of(ax) == ["False", "True"]
        assert ax.get_title(loc="left") == "torn"
        low, high = (c.get_zorder() for c in ax.collections[1:])
        assert low < ax.collections[0].get_zorder() < high

    def test_a_sound_sheet_has_none(self, sheet):
        ax = plot_neighbors(sheet)
        pairs, _ = self.reference(sheet)
        assert f"no edge of {len(pairs)} is stretched" in remarks_of(ax)
        assert len(ax.collections) == 2

    def test_a_planted_short_circuit(self, sheet):
        index = sheet.nbrs_.kneighbors(return_distance=False)
        index[3, 4] = 130
        sheet.nbrs_.X[130] = sheet.nbrs_.X[3] + [0, 0, 0.5]  # near in X, far apart in Y
        ax = plot_neighbors(sheet, knn_graph=index)
        pairs, factor = self.reference(sheet, index)
        expected = [pair for pair, f in zip(pairs, factor, strict=True) if f > 5]
        assert (3, 130) in expected
        assert self.drawn(ax, "stretched") == self.as_segments(sheet, expected)
        assert "stretched" not in [
            c.get_label() for c in plot_neighbors(sheet, stretch=1e9).collections
        ]
        sheet.precomputed_knn = index
        again = plot_neighbors(sheet)
        assert self.drawn(again, "stretched") == self.as_segments(sheet, expected)

    def test_many_edges_are_thinned(self, sheet):
        sheet.embedding_[sheet.nbrs_.X[:, 0] > 7, 0] += 15
        pairs, factor = self.reference(sheet)
        worst = [pairs[row] for row in np.argsort(-factor)[:6]]
        ax = plot_neighbors(sheet, max_edges=6)
        assert self.drawn(ax, "stretched") == self.as_segments(sheet, worst)
        ordinary = {p for p, f in zip(pairs, factor, strict=True) if f <= 5}
        drawn = self.drawn(ax, "edge")
        assert len(drawn) == 6
        assert drawn < self.as_segments(sheet, ordinary)
        said = "6 of the others are drawn, at random; of those the 6 most stretched"
        assert said in remarks_of(ax).replace("\n", " ")

    def test_stretch_of_odd_lengths(self):
        X = np.array([[0.0], [0.0], [1.0], [2.0], [3.0]])
        edges = np.array([[0, 1], [1, 2], [2, 3], [3, 4]])
        assert np.isfinite(edge_stretch(X, X, edges)).all()
        Y = np.array([[0.0], [0.0], [0.0], [0.0], [1.0]])
        assert list(edge_stretch(X, Y, edges)) == [0, 0, 0, np.inf]
        from scipy.sparse import csr_array

        Y = np.random.default_rng(0).normal(size=(5, 2))
        assert edge_stretch(csr_array(X), Y, edges) == pytest.approx(edge_stretch(X, Y, edges))

    def test_other_pictures(self, sheet):
        images = np.random.default_rng(0).random((140, 6, 6))
        assert len(thumbnails_of(plot_neighbors(sheet, images=images, n_images=5))) == 5
        X = sheet.nbrs_.X
        model = LocallyLinearEmbedding(n_neighbors=5, n_components=3, reg=0.1)
        model.fit(X + 0.1 * np.random.default_rng(0).normal(size=X.shape))
        ax = plot_neighbors(model, coordinates=(0, 1, 2), stretch=2)
        assert ax.name == "3d"
        assert len(ax.collections) >= 2
        ax = Figure().subplots()
        assert plot_neighbors(model.set_params(n_components=1).fit(X), ax=ax) is ax

    def test_errors(self, sheet):
        with pytest.raises(ValueError, match="stretch=0 must be positive"):
            plot_neighbors(sheet, stretch=0)
        with pytest.raises(ValueError, match="max_edges=0 must be at least 1"):
            plot_neighbors(sheet, max_edges=0)
        with pytest.raises(ValueError, match="knn_graph"):
            plot_neighbors(sheet, knn_graph=np.zeros((3, 2), dtype=int))
        with pytest.raises(NotFittedError):
            plot_neighbors(LocallyLinearEmbedding())


def chosen(**changes):
    table = {
        "n_neighbors": np.array([4, 8, 16]),
        "distance_residual": np.array([0.3, 0.1, 0.2]),
        "preservation": np.array([np.nan, 0.6, 0.8]),
        "null_vectors": np.array([3, 1, 1]),
        "converged": np.array([True, True, False]),
    }
    result = {
        "table": table, "recommended": 8, "reason": "least distance residual", "warnings": (),
        "criterion": "distance_residual",
    }  # fmt: skip
    return SimpleNamespace(**result | changes)


class TestSelection:
    def test_curves_choice_and_reason(self):
        ax = plot_selection(chosen(warnings=("4 is too few",)))
        curve = np.array([[4, 0.3], [8, 0.1], [16, 0.2]])
        assert np.array_equal(line(ax, "distance residual"), curve)
        other = line(ax, "preservation: 0.6 to 0.8")
        assert np.isnan(other[0, 1])
        assert 0 < other[1, 1] < other[2, 1] < 1  # of the axes' height
        choice = line(ax, "recommended: 8")
        assert list(choice[:, 0]) == [8, 8]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("n_neighbors", "distance residual")
        assert ax.get_title(loc="left") == "recommended: n_neighbors = 8"
        assert "least distance residual" in remarks_of(ax)
        assert "warning: 4 is too few" in remarks_of(ax)
        assert labels_below(ax) == [
            "distance residual", "preservation: 0.6 to 0.8", "not converged",
            "several null vectors", "recommended: 8",
        ]  # fmt: skip
        marks = [each for each in ax.lines if each.get_label() == "_"]
        assert [list(each.get_xdata()) for each in marks] == [[16], [4]]

    def test_scales(self):
        reg = 10.0 ** np.arange(-6, 0)
        table = {"reg": reg, "error": np.geomspace(1e-9, 1, 6)}
        ax = plot_selection(chosen(table=table, recommended=1e-3, criterion="error"))
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert plot_selection(chosen()).get_xscale() == "linear"

    def test_a_dimension_is_a_height_or_a_place(self):
        class DimensionEstimate(SimpleNamespace):
            pass

        by_k = {"n_neighbors": np.array([5, 10]), "dimension": np.array([2.1, 1.9])}
        estimate = DimensionEstimate(recommended=2, reason="", table=by_k, criterion="dimension")
        assert list(line(plot_selection(estimate), "recommended")[:, 1]) == [2, 2]
        by_d = {"dimension": np.array([1, 2, 3]), "thickness": np.array([3.0, 1.0, 0.9])}
        estimate = DimensionEstimate(recommended=2, reason="", table=by_d, criterion="thickness")
        assert list(line(plot_selection(estimate), "recommended")[:, 0]) == [2, 2]

    def test_into_given_axes_and_errors(self):
        ax = Figure().subplots()
        assert plot_selection(chosen(), ax) is ax
        with pytest.raises(TypeError, match="is a dict, but must be"):
            plot_selection({"a": [1, 2]})
        for table, message in (
            ({"k": np.arange(3), "a": np.arange(2)}, "columns of one length"),
            ({"k": np.arange(3)}, "another with one at least"),
            ({"k": np.array(["a", "b"]), "a": np.array([1, 2])}, "another with one"),
            ({"k": np.arange(2), "a": np.full(2, np.nan)}, "another with one"),
        ):
            with pytest.raises(ValueError, match=message):
                plot_selection(chosen(table=table))


def texts_of(figure):
    """What can be read in a figure, and where: boxes in pixels."""
    figure.draw_without_rendering()
    ticks, shown = set(), []
    for ax in figure.axes:
        if ax.name == "3d":  # whose ticks are put into place when they are drawn
            ticks |= {text for axis in ax._axis_map.values() for text in axis.findobj(Text)}
            continue
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for place, text in zip(
                axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True
            ):
                ticks.add(text)
                if low <= place <= high:
                    shown.append(text)
            ticks |= set(axis.get_minorticklabels())
            ticks |= {tick.label2 for tick in (*axis.majorTicks, *axis.minorTicks)}
            ticks |= {tick.label1 for tick in (*axis.majorTicks, *axis.minorTicks)}
    shown += [text for text in figure.findobj(Text) if text not in ticks]
    return [
        (text.get_text(), text.get_window_extent())
        for text in shown
        if text.get_visible() and text.get_text().strip()
    ]


LONG = "a name as long as ontologies have them, of a cell or of a disease, with all its qualities"


def ugly(name):
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(200, 2))
    many = np.array([f"{LONG[:40]} {c} {LONG[40:]}" for c in range(50)])
    if name == "many long names":
        return plot_embedding(Y, labels=many[np.arange(200) % 30], label_name=LONG, title=LONG)
    if name == "many long names in space":
        Y = np.column_stack([Y, Y[:, 0]])
        return plot_embedding(Y, labels=many[np.arange(200) % 30], coordinates=(0, 1, 2))
    if name == "many rows":
        return plot_embedding(Y[:, :1], labels=many[np.arange(200) % 40], label_name=LONG)
    if name == "panels of many":
        panels = dict.fromkeys(("standard", "modified", "hessian", "ltsa"), Y)
        return compare_methods(
            panels, labels=many[np.arange(200) % 50], title=3 * LONG, label_name=LONG
        )
    if name == "a panel":
        return compare_methods({"a": Y}, labels=many[np.arange(200) % 4], title=LONG)
    if name == "outlier":
        return plot_embedding(np.concatenate([Y, [[1e4, 0]]]), values=np.arange(201), title=LONG)
    if name == "long names":
        labels = np.array([LONG, "$x$", "b" * 70, LONG[::-1]])[rng.integers(0, 4, 200)]
        return plot_embedding(Y, labels=labels, label_name=LONG, title=LONG, span=0.9)
    if name == "one coordinate":
        labels = np.array([LONG, "b" * 70])[rng.integers(0, 2, 200)]
        return plot_embedding(Y[:, :1], labels=labels, title=LONG)
    if name == "forty classes":
        return plot_embedding(Y, labels=np.arange(200) % 40, label_name="class", title="forty")
    if name == "tiny":
        return plot_embedding(1e-9 * Y, values=Y[:, 0] * 1e12, value_name=LONG, span=0.9, title="a")
    if name == "equal":
        return plot_embedding(np.full((5, 2), 0.1), values=np.zeros(5), title="all the same")
    if name == "panels":
        panels = dict.fromkeys(("standard", "modified", "hessian", "ltsa"), Y)
        return compare_methods(panels, labels=np.arange(200) % 12, title="four methods", span=0.9)
    if name == "graph":
        model = LocallyLinearEmbedding(n_neighbors=8).fit(np.column_stack([Y, Y**2]))
        return plot_neighbors(
            model, labels=np.arange(200) % 30, title=LONG, max_edges=50, stretch=1
        )
    if name == "spectrum":
        values = np.concatenate([[0, 0], np.linspace(1e-3, 1e-1, 58)])
        return plot_spectrum(spectrum(values, n_null=3, solver=3 * LONG, gap=0.001))
    table = {f"a rather long criterion {c}": rng.random(9) for c in range(9)}
    table = {"n_neighbors": np.arange(5, 14)} | table
    return plot_selection(chosen(table=table, reason=3 * LONG, warnings=(LONG, LONG)))


@pytest.mark.parametrize(
    "name",
    [
        "outlier", "long names", "one coordinate", "forty classes", "tiny", "equal", "panels",
        "graph", "spectrum", "selection", "many long names", "many long names in space",
        "panels of many", "a panel", "many rows",
    ],
)  # fmt: skip
def test_no_text_runs_into_another_or_out_of_the_picture(name):
    drawn = ugly(name)
    figure = getattr(drawn, "figure", drawn)
    texts = texts_of(figure)
    assert len(texts) > 5
    page = figure.bbox
    for text, box in texts:
        assert box.x0 >= -1 and box.y0 >= -1, f"{text!r} leaves the page"
        assert box.x1 <= page.width + 1 and box.y1 <= page.height + 1, f"{text!r} leaves the page"
    for i, (text, box) in enumerate(texts):
        for other, its_box in texts[:i]:
            inner = its_box.padded(-1)
            assert not box.overlaps(inner), f"{text!r} runs into {other!r}"
