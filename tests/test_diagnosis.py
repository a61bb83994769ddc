"""diagnose(): planted faults are named, clean data are left alone, and the figures are true.

Every fault and every clean data set goes through every method, once; with ten seeds, in some
minutes, by

    LLE_GPU_SEEDS=10 python -m pytest tests/test_diagnosis.py
"""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
    make_blobs,
    make_s_curve,
    make_swiss_roll,
)
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors
from stand_in import install

import lle_gpu
from lle_gpu import LocallyLinearEmbedding, cli
from lle_gpu.cuda import compiler
from lle_gpu.diagnosis import Diagnosis, Finding, diagnose
from lle_gpu.diagnosis.view import View, ball_variances

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
METHODS = ("standard", "modified", "hessian", "ltsa")
ROOT = Path(lle_gpu.__file__).parents[1]
PAGE = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
SOURCE = "".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "lle_gpu" / "diagnosis").glob("*.py")
)
NAMES = set(re.findall(r'Finding\(\s*"([a-z-]+)",', SOURCE))
SEEDS = range(int(os.environ.get("LLE_GPU_SEEDS", "1")))


def fit(X, k=10, method="standard", q=2, **options):
    return LocallyLinearEmbedding(
        n_neighbors=k, method=method, n_components=q, n_jobs=1, **options
    ).fit(X)


# Data ---------------------------------------------------------------------------------------------


def roll(n, seed=0):
    return make_swiss_roll(n, random_state=seed)[0]


def s_curve(n, seed=0):
    return make_s_curve(n, random_state=seed)[0]


def helix(n, seed=0):
    turn = np.sort(np.random.default_rng(seed).uniform(0, 18, n))
    return np.column_stack([np.cos(turn), np.sin(turn), 0.3 * turn])


def cap(n, seed=0):
    random = np.random.default_rng(seed)
    height, angle = random.uniform(0.3, 1, n), random.uniform(0, 2 * np.pi, n)
    radius = np.sqrt(1 - height**2)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height])


def plane(n, seed=0, dimension=6):
    random = np.random.default_rng(seed)
    return random.uniform(size=(n, 2)) @ random.normal(size=(2, dimension))


def noisy(X, sd, seed=0):
    return X + np.random.default_rng(seed + 1000).normal(scale=sd, size=X.shape)


def clusters(seed):
    return np.concatenate([roll(450, seed), roll(450, seed + 100) + 200])


def with_clique(seed, groups=1):
    X, random = roll(900, seed), np.random.default_rng(seed)
    places = X[random.choice(len(X), groups, replace=False)]
    return np.concatenate([X, *(p + 0.01 * random.normal(size=(15, 3)) for p in places)])


def blobs(n, d, apart, seed=0):
    """Gaussians of unit spread, their centres so far apart along one column."""
    X = np.random.default_rng(seed).normal(size=(n, d))
    X[n // 2 :, 0] += apart
    return X


def housing(n, seed=0):
    """Incomes, ages, rooms, populations, places: many units, and some columns hang together."""
    random = np.random.default_rng(seed)
    income, north = random.lognormal(1.2, 0.45, n), random.integers(2, size=n)
    rooms = 1 + income + random.gamma(4, 0.4, n)
    return np.column_stack(
        [
            income,
            random.uniform(1, 52, n),
            rooms,
            rooms / 5 + random.normal(0, 0.05, n),
            random.lognormal(7, 0.7, n),
            random.lognormal(1, 0.2, n),
            34 + 3.7 * north + random.normal(0, 0.8, n),
            -118 - 4 * north + random.normal(0, 0.7, n),
        ]
    )


def stretched(seed, column, times):
    """A swiss roll with columns of equal spread, but for one."""
    X = roll(800, seed)
    X /= X.std(axis=0)
    X[:, column] *= times
    return X


def topics(n, seed=0, d=60):
    """Counts of words, some of which come together."""
    random = np.random.default_rng(seed)
    rates = random.dirichlet([0.1] * d, 4) * 50 * random.uniform(0.2, 3, 4)[:, None]
    return random.poisson(random.dirichlet([0.2] * 4, n) @ rates + 0.01).astype(float)


# fault: the name, the data of a seed, n_neighbors, the methods
FAULTS = {
    "k too small": ("k-too-small", lambda s: roll(900, s), {"hessian": 6, "ltsa": 4, "": 3}),
    "k too large": ("short-circuit", lambda s: roll(900, s), {"": 35}),
    "k far too large": ("short-circuit", lambda s: roll(900, s), {"": 60}),
    "k round a bend": ("short-circuit", lambda s: s_curve(200, s), {"": 60}),
    "two clusters": ("separate-pieces", clusters, {"": 10}),
    "two blobs": ("separate-pieces", lambda s: blobs(400, 3, 100, s), {"": 10}),
    "two blobs in a plane": ("separate-pieces", lambda s: blobs(400, 2, 30, s), {"": 10}),
    "two blobs in eight dimensions": ("separate-pieces", lambda s: blobs(500, 8, 12, s), {"": 10}),
    "a clique": ("clique", with_clique, {"": 10}),
    "three cliques": ("clique", lambda s: with_clique(s, 3), {"": 10}),
    "rows twice": (
        "duplicates",
        lambda s: np.concatenate([roll(700, s), roll(700, s)[:150]]),
        {"": 10},
    ),
    "a row many times": (
        "duplicates",
        lambda s: np.concatenate([roll(700, s), np.repeat(roll(700, s)[:1], 20, axis=0)]),
        {"": 10},
    ),
    "a large column": ("unscaled-columns", lambda s: roll(800, s) * [1, 1, 1000], {"": 10}),
    "a small column": ("unscaled-columns", lambda s: roll(800, s) * [1, 0.005, 1], {"": 10}),
    "columns of many units": ("unscaled-columns", lambda s: housing(600, s), {"": 10}),
    "noise on a roll": ("noise", lambda s: noisy(roll(1000, s), 1.5, s), {"": 10}),
    "noise on an S-curve": ("noise", lambda s: noisy(s_curve(1000, s), 0.2, s), {"": 10}),
    "noise in ten columns": ("noise", lambda s: noisy(plane(1000, s, 10), 0.2, s), {"": 10}),
    "a curve in two coordinates": ("too-many-components", lambda s: helix(600, s), {"": 12}),
}
# Names that may stand before the one that was planted: what it brings about.
BEFORE = {"separate-pieces": {"separate-pieces"}, "k-too-small": {"k-too-small", "clique"}}


def neighbors_of(k, method):
    return k.get(method, k.get(""))


def check_fault(fault, method, seed):
    name, data, k = FAULTS[fault]
    found = fit(data(seed), neighbors_of(k, method), method).diagnose()
    assert name in found.names, f"seed {seed}: {found}"
    assert found.names[0] in BEFORE.get(name, {name}), f"seed {seed}: {found}"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_named(fault, method):
    for seed in SEEDS:
        check_fault(fault, method, seed)


# clean: data of a seed (and the position that tells turns apart), n_neighbors, n_components
CLEAN = {
    "roll": (lambda s: make_swiss_roll(1200, random_state=s), 10, 2),
    "roll with a hole": (lambda s: make_swiss_roll(1200, hole=True, random_state=s), 10, 2),
    "S-curve": (lambda s: (s_curve(700, s), None), 12, 2),
    "small S-curve": (lambda s: (s_curve(300, s), None), 9, 2),
    "blob": (lambda s: (blobs(500, 2, 0, s), None), 10, 2),
    "blob in space": (lambda s: (blobs(1000, 3, 0, s), None), 12, 3),
    "helix": (lambda s: (helix(600, s), helix(600, s)[:, 2] / 0.3), 14, 1),
    "cap": (lambda s: (cap(500, s), None), 10, 2),
    "plane": (lambda s: (plane(500, s), None), 10, 2),
    "cube": (lambda s: (np.random.default_rng(s).uniform(size=(1500, 3)), None), 14, 3),
}


DTYPES = dict(zip(METHODS, (np.float64, np.float32, np.float64, np.float32), strict=True))


def is_sound(index, method, position):
    """By definition: no edge between turns, one closed class, everyone somebody's neighbour."""
    n, k = index.shape
    if position is not None and (np.abs(position[index] - position[:, None]) > 4).any():
        return False
    edges = csr_array((np.ones(n * k), index.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    count, part = connected_components(edges, connection="strong")
    is_left = (part[index] != part[:, None]).any(axis=1)
    closed = count - len(np.unique(part[is_left]))
    alone = len(np.unique(index)) < n
    return closed == 1 and not (alone and method in ("hessian", "ltsa"))


def lost(Y, values):
    """Share of the values (n,) that no affine function of Y (n, q), orthonormal, explains."""
    values = values - values.mean()
    rest = values - Y @ (Y.T @ values)
    return np.linalg.norm(rest) / np.linalg.norm(values)


def check_clean(name, method, seed, dtype=np.float64):
    data, k, q = CLEAN[name]
    X, position = data(seed)
    model = fit(X.astype(dtype), k, method, q)
    found = model.diagnose()
    if not found:
        return 1
    if found.names == ("repeated-direction",):
        # The standard method does lose a direction at times: then it has to be lost.
        assert method == "standard"
        assert lost(model.embedding_, X[:, 1]) > 0.95
        return 0
    index = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)
    assert not is_sound(index, method, position), f"seed {seed}: {found}"
    return 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_on_clean_data(name, method):
    nothing = sum(check_clean(name, method, seed, DTYPES[method]) for seed in SEEDS)
    # Data drawn at random are not always clean: half are at the least; but on a Gaussian's rim
    # nearly always somebody is nobody's neighbour.
    assert len(SEEDS) < 3 or 2 * nothing >= len(SEEDS) or name.startswith("blob")


@pytest.mark.parametrize("method", METHODS)
def test_nothing_at_all_is_found_on_a_clean_roll(method):
    assert not fit(roll(1500), 12, method).diagnose()
    assert not fit(roll(1500).astype(np.float32), 12, method).diagnose()


# Figures, against their definitions ---------------------------------------------------------------


def only(found, name):
    (finding,) = (finding for finding in found if finding.name == name)
    return finding


@pytest.mark.parametrize("k", [20, 40])
def test_short_circuits_are_the_edges_between_turns(k):
    X, turn = make_swiss_roll(900, random_state=3)
    model = fit(X, k)
    finding = only(model.diagnose(), "short-circuit")
    index = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)
    across = np.abs(turn[index] - turn[:, None]) > 3
    assert finding.figures["edges"] == pytest.approx(across.sum(), rel=0.05)
    assert finding.figures["points with such edges"] == pytest.approx(across.any(1).sum(), rel=0.02)
    assert all(abs(turn[i] - turn[j]) > 3 for i, j in finding.figures["examples"])
    advised = int(re.match(r"n_neighbors=(\d+)", finding.advice)[1])
    assert not across[:, :advised].any()
    assert across[:, : advised + 1].any()
    assert not fit(X, advised).diagnose()


def test_pieces_and_cliques_are_those_that_were_planted():
    pieces = only(fit(clusters(0)).diagnose(), "separate-pieces")
    assert pieces.figures["sizes"] == [450, 450]
    assert pieces.figures["first rows"] == [0, 450]
    cliques = only(fit(with_clique(0, 3)).diagnose(), "clique")
    assert len(cliques.figures["sizes"]) == 3
    assert set(cliques.figures["sizes"]) <= {15, 16}
    X = with_clique(0)
    advised = int(re.match(r"n_neighbors=(\d+)", only(fit(X).diagnose(), "clique").advice)[1])
    assert "clique" not in fit(X, advised).diagnose().names


@pytest.mark.parametrize("method", ["standard", "ltsa"])
@pytest.mark.parametrize("d, apart", [(2, 100), (3, 100), (10, 100), (8, 20), (8, 12)])
def test_blobs_are_pieces_though_not_all_points_are_in_closed_classes(d, apart, method):
    for n in (600, 1500):
        pieces = only(fit(blobs(n, d, apart), 10, method).diagnose(), "separate-pieces")
        assert pieces.figures["sizes"] == pytest.approx([n / 2, n / 2], rel=0.03)


def test_make_blobs_are_pieces():
    X = make_blobs(600, centers=[[0] * 3, [30] * 3], random_state=0)[0]
    found = fit(X).diagnose()
    assert found.names[0] == "separate-pieces"
    assert "k-too-small" not in found.names


@pytest.mark.parametrize("d", [2, 3, 8, 20])
def test_one_blob_is_one_piece(d):
    for method, k in (("standard", 7), ("ltsa", 12)):
        found = fit(blobs(600, d, 0, d), k, method).diagnose()
        assert not {"separate-pieces", "clique"} & set(found.names)


def test_a_cluster_that_leads_into_another_s_closed_class_is_a_piece():
    X = blobs(600, 3, 100)
    model = fit(X)
    index = NearestNeighbors(n_neighbors=10).fit(X).kneighbors(return_distance=False)
    within = np.flatnonzero(View(model, None).classes.labels >= 0)
    index[within[0], -1] = within[-1]  # one edge across, and the first cluster is no class any more
    view = View(fit(X, precomputed_knn=index), None)
    assert len(view.classes) == 1
    assert fit(X, precomputed_knn=index).diagnose().names[0] == "separate-pieces"


def test_more_neighbors_are_advised_that_do():
    X = roll(900)
    advised = only(fit(X, 4).diagnose(), "k-too-small").advice
    k = int(re.match(r"n_neighbors=(\d+)", advised)[1])
    assert 4 < k <= 8
    assert "k-too-small" not in fit(X, k).diagnose().names


@pytest.mark.parametrize("method", ["hessian", "ltsa"])
def test_points_that_nothing_holds_are_those_that_are_nobodys_neighbour(method):
    X = np.concatenate([roll(800), [[0, 60, 0], [40, 10, 0]]])
    finding = only(fit(X, 10, method).diagnose(), "unheld-points")
    index = NearestNeighbors(n_neighbors=10).fit(X).kneighbors(return_distance=False)
    assert finding.figures["rows"] == np.setdiff1d(np.arange(802), index).tolist()
    assert "unheld-points" not in fit(X, 10, "modified").diagnose().names
    assert "unheld-points" not in fit(X, 10, method, disconnected="bridge").diagnose().names


def test_copies_are_counted():
    X = roll(300)
    X = np.concatenate([X, X[:20], X[:10]])
    figures = only(fit(X).diagnose(), "duplicates").figures
    assert figures["rows with copies"] == 50
    assert figures["most copies"] == 2
    assert figures["rows"] == list(range(8))


def test_one_pair_among_thousands_is_no_finding():
    X = roll(1200)
    assert not fit(np.concatenate([X, X[:1]]), 10).diagnose()


def test_columns_are_named():
    figures = only(fit(roll(800) * [1, 500, 1]).diagnose(), "unscaled-columns").figures
    assert figures["large columns"] == [1]
    assert figures["variance of the others within neighbourhoods"] > 0.5


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_columns_of_other_units_are_named(load):
    X = load().data
    figures = only(fit(X, 12).diagnose(), "unscaled-columns").figures
    largest = np.argsort(X.std(axis=0))[::-1][: len(figures["large columns"])]
    assert sorted(largest) == figures["large columns"]
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    assert "unscaled-columns" not in fit(scaled, 12).diagnose().names


def test_columns_of_a_frame_have_its_names():
    frame = load_wine(as_frame=True).data
    found = only(fit(frame, 12).diagnose(), "unscaled-columns")
    assert found.figures["large columns"] == ["proline"]
    assert "column proline alone" in found.message


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("times", [5, 9, 20])
def test_where_a_stretched_column_may_be_the_cause_it_is_said(column, times):
    first = fit(stretched(0, column, times)).diagnose().findings[0]
    assert first.name in {"short-circuit", "noise", "unscaled-columns", "k-too-small"}
    assert "scale" in first.advice
    if first.name != "unscaled-columns":
        assert first.figures["ratio of the columns' spreads"] == pytest.approx(times, rel=0.05)


def digits(n=600):
    return load_digits().data[:n]


# data whose columns are alike in unit, or have their spreads for a reason
ALIKE = {
    "iris": lambda: load_iris().data,
    "diabetes": lambda: load_diabetes().data,
    "digits": digits,
    "pixels": lambda: np.kron(load_digits().images[:250], np.ones((3, 3))).reshape(250, -1) * 16,
    "components": lambda: PCA().fit_transform(digits()),
    "few components": lambda: PCA(8).fit_transform(digits()),
    "components of others": lambda: PCA(20).fit(digits(300)).transform(digits()[300:]),
    "components of scaled columns": lambda: PCA().fit_transform(
        load_breast_cancer().data / load_breast_cancer().data.std(axis=0)
    ),
    "components of a noisy roll": lambda: PCA().fit_transform(
        noisy(roll(800) @ np.random.default_rng(0).normal(size=(3, 30)), 1.0)
    ),
    "counts": lambda: topics(800),
    "learned": lambda: np.maximum(digits() @ np.random.default_rng(0).normal(size=(64, 128)), 0),
    "constant columns": lambda: np.column_stack([roll(800), np.full((800, 2), [0.1, 1e6 / 3])]),
    "clusters along a column": lambda: blobs(600, 10, 100),
    "a blob, flatter and flatter": lambda: blobs(800, 10, 0) * 0.6 ** np.arange(10),
}


@pytest.mark.parametrize("name", ALIKE)
def test_columns_that_need_no_scaling_are_no_finding(name):
    for k in (8, 20):
        found = fit(ALIKE[name](), k).diagnose()
        assert "unscaled-columns" not in found.names
        assert not any("scale the columns" in finding.advice for finding in found)


def test_columns_of_different_spread_that_all_matter_are_no_finding():
    flat = np.random.default_rng(0).uniform(size=(900, 2)) * [1, 0.08]
    assert "unscaled-columns" not in fit(flat, 10).diagnose().names
    # Neighbours are chosen without regard to the third, which is no wonder: it is thin.
    sheet = np.random.default_rng(0).uniform(size=(250, 3)) * [1, 1, 0.12]
    assert "unscaled-columns" not in fit(sheet, 10).diagnose().names


def test_thickness_is_what_the_module_says():
    X = noisy(plane(600, 0, 5), 0.05)
    view = View(fit(X), None)
    rows, measured = view.sample(500), view.thickness(2, view.scales)
    index = NearestNeighbors(n_neighbors=200).fit(X).kneighbors(return_distance=False)
    random = np.random.default_rng(5)
    for size, value in zip(view.scales, measured, strict=True):
        quotients = []
        for row in rows:
            Z = X[np.append(row, index[row, :size])]
            variance = np.linalg.svd(Z - Z.mean(axis=0), compute_uv=False) ** 2
            quotients.append(variance[2] / variance[1])
        balls = []
        for _ in range(300):
            Z = random.uniform(-1, 1, size=(8 * size + 80, 3))
            Z = np.concatenate([np.zeros((1, 3)), Z[(Z**2).sum(axis=1) < 1][:size]])
            variance = np.linalg.svd(Z - Z.mean(axis=0), compute_uv=False) ** 2
            balls.append(variance[2] / variance[1])
        assert value == pytest.approx(np.median(quotients) / np.median(balls), rel=0.15)


def test_shares_of_a_ball_sum_to_one():
    shares = ball_variances(20, 3)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert (np.diff(shares, axis=1) <= 0).all()
    assert ball_variances(2, 3)[:, 2] == pytest.approx(0)  # three points lie in a plane


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_dimension(d):
    random = np.random.default_rng(d)
    X = random.uniform(size=(3000, d)) @ random.normal(size=(d, 6))
    assert View(fit(X, 12, q=1), None).dimension == pytest.approx(d, rel=0.15)


def test_noise_of_half_the_neighborhoods_size_is_enough():
    X = s_curve(1000)
    assert fit(noisy(X, 0.1), 12).diagnose().names[0] == "noise"
    assert "noise" not in fit(noisy(X, 0.02), 12).diagnose().names


def test_noise_is_told_from_dimensions():
    flat, cube = plane(1500, 0, 8), np.random.default_rng(0).uniform(size=(1500, 4))
    noise = only(fit(noisy(flat, 0.03)).diagnose(), "noise")
    k = int(re.match(r"n_neighbors=(\d+)", noise.advice)[1])
    assert "noise" not in fit(noisy(flat, 0.03), k).diagnose().names
    few = fit(cube @ np.random.default_rng(1).normal(size=(4, 12))).diagnose()
    assert only(few, "too-few-components").advice.startswith("n_components=4")
    assert "noise" not in few.names
    assert "too-few-components" in fit(load_digits().data, 12).diagnose().names


def test_too_many_components_advises_how_many():
    assert only(fit(helix(600), 12, q=3).diagnose(), "too-many-components").advice.startswith(
        "n_components=1"
    )


@pytest.mark.parametrize(
    "k, reg, found",
    [
        (12, 1e-9, True),
        (12, 0.0, True),
        (2, 1e-9, False),
        (12, 1.0, True),
        (12, 0.1, False),
        (12, 1e-3, False),
    ],
)
def test_reg(k, reg, found):
    names = fit(roll(900), k, reg=reg).diagnose().names
    assert ("reg-out-of-scale" in names) == found


def test_reg_is_the_weights_alone():
    assert "reg-out-of-scale" not in fit(roll(900), 10, "ltsa", reg=10.0).diagnose().names


# What the solver knows, and the coordinates -------------------------------------------------------


def with_spectrum(model, **changes):
    model.spectrum_ = replace(model.spectrum_, **changes)
    return model.diagnose()


def test_what_the_certificate_says():
    X = roll(900)
    found = with_spectrum(fit(X), converged=False)
    assert found.names == ("not-converged",)
    assert "max_iter=1000" in found.findings[0].advice
    assert with_spectrum(fit(X), gap=1e-5).names == ("repeated-eigenvalue",)
    assert "n_components=3" in with_spectrum(fit(X), gap=1e-5).findings[0].advice
    assert with_spectrum(fit(X), gap=float("nan")).names == ()
    equal = with_spectrum(fit(X), values=np.array([1e-3, 1e-3 * (1 + 1e-9)]))
    assert equal.names == ("repeated-eigenvalue",)
    assert equal.findings[0].figures["coordinates"] == [1]
    assert with_spectrum(fit(X), values=np.array([1e-3, 1.001e-3])).names == ()
    assert with_spectrum(fit(X), n_null=2).names == ("null-vectors",)
    assert with_spectrum(fit(X, method="ltsa"), n_null=5).names == ("null-vectors",)


def test_a_circle_s_coordinates_rotate():
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    found = fit(np.column_stack([np.cos(angle), np.sin(angle)]), 6).diagnose()
    finding = only(found, "repeated-eigenvalue")
    assert finding.figures["coordinates"] == [1]
    assert "circle" in only(found, "too-many-components").advice


@pytest.mark.parametrize("method", ["modified", "hessian", "ltsa"])
def test_exact_planes_have_null_vectors_and_no_finding(method):
    model = fit(plane(500), 12, method)
    assert not model.diagnose()


def test_localised_coordinates_are_named():
    X = np.concatenate([roll(800), [[0, 60, 0]]])
    finding = only(fit(X, 10, "ltsa", disconnected="warn").diagnose(), "localised")
    assert finding.figures["coordinates"][0] == 1
    assert finding.figures["points that carry them"][0] == pytest.approx(1, abs=0.1)
    assert finding.figures["rows"][0] == 800


def test_collapsed_coordinates_are_named():
    found = fit(clusters(0)).diagnose()
    assert only(found, "collapsed").figures["coordinates"][0] == 1
    model = fit(roll(900))
    Y = model.embedding_.copy()
    Y[:, 1] = np.round(Y[:, 1] / np.abs(Y[:, 1]).max())
    model.embedding_ = Y
    assert only(model.diagnose(), "collapsed").figures["coordinates"] == [2]


def test_a_direction_that_comes_twice_is_named():
    model = fit(roll(900))
    y = model.embedding_[:, 0]
    model.embedding_ = np.column_stack([y, y**2 - (y**2).mean()])
    finding = only(model.diagnose(), "repeated-direction")
    assert finding.figures["coordinate"] == 2
    assert finding.figures["variance left"] < 0.02


# Graphs that were mended, or brought --------------------------------------------------------------


def test_bridged_rows():
    X = load_digits().data
    model = fit(X, 5, disconnected="bridge")
    found = model.diagnose()
    assert only(found, "bridged-rows").figures["count"] == len(model.bridged_rows_)
    assert not {"k-too-small", "separate-pieces", "clique"} & set(found.names)


def test_rows_left_out():
    X = np.concatenate([roll(60) + 200, roll(900)])
    found = fit(X, 10, disconnected="largest").diagnose()
    assert found.names == ("rows-left-out",)
    assert only(found, "rows-left-out").figures["rows"] == list(range(8))
    assert only(found, "rows-left-out").figures["count"] == 60


def test_a_graph_that_was_brought_is_what_is_looked_at():
    X, turn = make_swiss_roll(900, random_state=0)
    index = NearestNeighbors(n_neighbors=10).fit(X).kneighbors(return_distance=False)
    assert not fit(X, 10, precomputed_knn=index).diagnose()
    elsewhere = np.flatnonzero(np.abs(turn - turn[100]) > 3)
    far = int(elsewhere[np.linalg.norm(X[elsewhere] - X[100], axis=1).argmin()])
    index[100, 9] = far
    finding = only(fit(X, 10, precomputed_knn=index).diagnose(), "short-circuit")
    assert finding.figures["examples"] == [[100, far]]


def test_other_data_of_the_same_rows():
    X = roll(900)
    model = fit(X)
    assert not model.diagnose(X @ np.linalg.qr(np.random.default_rng(0).normal(size=(5, 3)))[0].T)
    assert "duplicates" in model.diagnose(np.repeat(X[::2], 2, axis=0)).names


# Kinds, devices, files ----------------------------------------------------------------------------


def test_the_model_is_not_changed():
    model = fit(clusters(0), 10, "ltsa")
    before, held = pickle.dumps(model), dict(model.__dict__)
    first, second = model.diagnose(), model.diagnose()
    assert first == second
    assert pickle.dumps(model) == before
    assert all(model.__dict__[name] is value for name, value in held.items())
    assert model.__dict__.keys() == held.keys()


def test_threads_do_not_matter():
    X = roll(900)
    one, all_cores = fit(X, 40), LocallyLinearEmbedding(n_neighbors=40).fit(X)
    assert str(one.diagnose()) == str(all_cores.diagnose())


def test_loaded_models(tmp_path):
    model = fit(roll(900), 40)
    model.save(tmp_path / "model.lle")
    assert str(lle_gpu.load(tmp_path / "model.lle").diagnose()) == str(model.diagnose())


def test_sparse_points():
    X = roll(700)
    wide = np.hstack([X, np.zeros((700, 20))])
    for k in (10, 40):
        assert fit(csr_array(wide), k).diagnose().names == fit(wide, k).diagnose().names


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(roll(700) * [1, 1000, 1], columns=["x", "y", "z"])
    model = fit(frame)
    assert model.diagnose().names[0] == "unscaled-columns"
    assert model.diagnose(frame).names == model.diagnose().names
    table = model.diagnose().to_pandas()
    assert list(table.columns) == ["name", "message", "figures", "advice"]
    assert table["name"].tolist() == list(model.diagnose().names)
    assert list(Diagnosis(()).to_pandas().columns) == list(table.columns)


@pytest.mark.parametrize("method, k", [("standard", 30), ("ltsa", 8)])
def test_models_fitted_on_a_gpu(method, k, monkeypatch):
    X = s_curve(90)
    expected = fit(X, k, method).diagnose()
    assert ("short-circuit" in expected.names) == (k == 30)
    compiler.forget_kernels()
    install(monkeypatch)
    import cupy

    for points in (X, cupy.asarray(X)):
        model = fit(points, k, method, device="gpu")
        assert model.device_ == "gpu"
        assert model.diagnose().names == expected.names
    compiler.forget_kernels()


def test_few_points():
    for n in (4, 6, 9, 15):
        assert isinstance(fit(plane(n), min(4, n - 1)).diagnose(), Diagnosis)
        assert isinstance(fit(plane(n), min(4, n - 1), q=1).diagnose(), Diagnosis)


def test_as_many_coordinates_as_columns():
    assert not fit(np.random.default_rng(0).uniform(size=(500, 2)), 10).diagnose()


@pytest.mark.parametrize("metric", ["manhattan", "cosine"])
def test_other_metrics(metric):
    assert isinstance(fit(roll(400), 10, metric=metric).diagnose(), Diagnosis)


# Bad input ----------------------------------------------------------------------------------------


def test_bad_input():
    with pytest.raises(NotFittedError):
        LocallyLinearEmbedding().diagnose()
    model = fit(roll(300))
    with pytest.raises(TypeError, match=r"ndarray: diagnose\(\) takes a fitted"):
        diagnose(roll(300))
    with pytest.raises(TypeError, match="NearestNeighbors"):
        diagnose(NearestNeighbors().fit(roll(300)))
    with pytest.raises(ValueError, match=r"299 rows, and the model was fitted to 300"):
        model.diagnose(roll(300)[:-1])
    with pytest.raises(ValueError, match="NaN"):
        model.diagnose(np.full((300, 3), np.nan))


# Words --------------------------------------------------------------------------------------------


def test_a_diagnosis_reads():
    finding = Finding("noise", "Too thick.", {"thickness": 0.91234, "rows": [1, 2]}, "less")
    found = Diagnosis((finding, replace(finding, name="clique")))
    assert found and len(found) == 2
    assert [f.name for f in found] == ["noise", "clique"]
    assert str(found).splitlines()[:3] == [
        "noise: Too thick.",
        "    figures: thickness 0.912, rows [1, 2]",
        "    try: less",
    ]
    assert str(Diagnosis(())) == "nothing found"
    assert not Diagnosis(())


def test_all_findings_say_something():
    for fault, (_, data, k) in FAULTS.items():
        for finding in fit(data(1), neighbors_of(k, "modified"), "modified").diagnose():
            assert finding.name in NAMES, fault
            assert finding.message.endswith(".")
            assert finding.advice and not finding.advice.endswith(".")
            assert finding.figures


def test_progress_is_told():
    names = []
    model = fit(roll(300), callbacks=lambda event: names.append(event.stage))
    names.clear()
    model.diagnose()
    assert "diagnosis" in names


def test_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["embed", "swiss-roll", "-n", "900", "-o", "roll.npy", "--diagnose"]
    assert cli.main([*arguments, "-k", "40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("diagnosis   short-circuit: ") for line in lines)
    assert any(re.match(r" {12} +try: n_neighbors=\d+", line) for line in lines)
    assert cli.main([*arguments, "-k", "10"]) == 0
    assert "diagnosis   nothing found\n" in capsys.readouterr().out
    assert cli.main(arguments[:-1]) == 0
    assert "diagnosis" not in capsys.readouterr().out


# The page -----------------------------------------------------------------------------------------


def test_python_on_the_page_runs():
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(code, "diagnosis.md", "exec"), names)


def test_fences_say_what_they_hold():
    fences = re.findall(r"^```(\w*)$", PAGE, flags=re.MULTILINE)
    assert set(fences[::2]) <= {"python", "shell", "text"}
    assert set(fences[1::2]) == {""}


def test_every_finding_has_its_section():
    sections = re.findall(r"^### `([a-z-]+)`$", PAGE, flags=re.MULTILINE)
    assert set(sections) == NAMES
    assert len(sections) == len(NAMES)
