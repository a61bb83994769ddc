"""The built-in data sets: shapes, determinism, and that ``truth`` is isometric."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from lle_gpu.datasets import DATASETS, load

MANIFOLDS = ("swiss-roll", "swiss-hole", "s-curve")


def test_names():
    assert tuple(DATASETS) == ("digits", *MANIFOLDS)
    assert all(load(name, 50).name == name for name in DATASETS)


@pytest.mark.parametrize("name", MANIFOLDS)
def test_truth_keeps_distances_between_near_points(name):
    data = load(name, n_samples=4000)
    assert data.X.shape == (4000, 3)
    assert data.truth.shape == (4000, 2)
    distance, index = cKDTree(data.X).query(data.X, 4)
    flat = np.linalg.norm(data.truth[index] - data.truth[:, None], axis=2)
    ratio = flat[:, 1:] / distance[:, 1:]
    # A chord is shorter than its arc, by a second-order term.
    assert ratio.min() > 1 - 1e-9
    assert ratio.max() < 1.02


@pytest.mark.parametrize("name", MANIFOLDS)
def test_position_orders_the_long_side(name):
    data = load(name, n_samples=500)
    order = np.argsort(data.position)
    assert (np.diff(data.truth[order, 0]) > 0).all()
    assert data.labels is None
    assert data.images is None


def test_the_hole_is_a_hole():
    def in_the_middle(name):
        data = load(name, 2000)
        u = np.column_stack([data.position / np.pi - 1.5, data.X[:, 1] / 7])  # in [0, 3]
        return int(((u > 1) & (u < 2)).all(axis=1).sum())

    assert in_the_middle("swiss-hole") == 0
    assert in_the_middle("swiss-roll") > 100


def test_digits():
    data = load("digits")
    assert data.X.shape == (1797, 64)
    assert set(data.labels) == set(range(10))
    assert data.position is None
    assert data.truth is None
    assert np.array_equal(data.images.reshape(1797, 64) * 16, data.X)
    assert data.images.min() == 0
    assert data.images.max() == 1


def test_fewer_digits_are_drawn_without_replacement():
    whole, part = load("digits"), load("digits", 300, random_state=3)
    rows = [int(np.flatnonzero((x == whole.X).all(axis=1))[0]) for x in part.X]
    assert len(set(rows)) == 300
    assert np.array_equal(whole.labels[rows], part.labels)
    assert np.array_equal(part.images.reshape(300, 64) * 16, part.X)
    assert not np.array_equal(part.X, load("digits", 300, random_state=4).X)


@pytest.mark.parametrize("name", DATASETS)
def test_the_same_seed_gives_the_same_points(name):
    a, b = load(name, 100, random_state=1), load(name, 100, random_state=1)
    assert np.array_equal(a.X, b.X)
    assert not np.array_equal(a.X, load(name, 100, random_state=2).X)


@pytest.mark.parametrize(
    ("name", "n_samples", "message"),
    [
        ("roll", None, r"name='roll' .* use one of digits, swiss-roll"),
        ("s-curve", 0, r"n_samples=0 must be at least 1"),
        ("digits", 1798, r"n_samples=1798: the digits are 1797"),
    ],
)
def test_errors(name, n_samples, message):
    with pytest.raises(ValueError, match=message):
        load(name, n_samples)
