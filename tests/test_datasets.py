"""The built-in data sets: shapes, determinism, and that ``truth`` is isometric."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.datasets import DATASETS, load, make_branching_trajectory

MANIFOLDS = ("swiss-roll", "swiss-hole", "s-curve")


def test_names():
    assert tuple(DATASETS) == ("digits", *MANIFOLDS, "branching")
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
        ("s-curve", 0, r"n_samples=0 must be an integer, at least 1"),
        ("digits", 2.5, r"n_samples=2\.5 must be an integer"),
        ("digits", 1798, r"n_samples=1798: the digits are 1797"),
    ],
)
def test_errors(name, n_samples, message):
    with pytest.raises(ValueError, match=message):
        load(name, n_samples)


class TestBranchingTrajectory:
    def bare(self, n_samples=4000, **options):
        """The curves alone."""
        return make_branching_trajectory(n_samples, thickness=0, noise=0, **options)

    def test_pseudotime_is_the_length_along_the_tree(self):
        tree = self.bare()
        depth = np.array([0, 1, 1, 2, 2, 2, 2])[tree.labels]
        assert ((tree.position >= depth) & (tree.position <= depth + 1)).all()
        for b in range(7):
            rows = np.flatnonzero(tree.labels == b)
            assert len(rows) > 400
            rows = rows[np.argsort(tree.position[rows])]
            step = np.linalg.norm(np.diff(tree.X[rows], axis=0), axis=1)
            passed = np.diff(tree.position[rows])
            # A chord is shorter than its arc, by a second-order term.
            assert (step <= passed + 1e-12).all()
            assert (step >= passed * (1 - passed**2) - 1e-12).all()

    def test_children_begin_where_and_as_their_parent_ends(self):
        tree = self.bare()
        for child in range(1, 7):
            parent = (child - 1) // 2
            last = np.flatnonzero(tree.labels == parent)
            last = last[np.argsort(tree.position[last])[-2:]]
            first = np.flatnonzero(tree.labels == child)
            first = first[np.argsort(tree.position[first])[:2]]
            gap = np.linalg.norm(tree.X[first[0]] - tree.X[last[1]])
            passed = tree.position[first[0]] - tree.position[last[1]]
            assert gap == pytest.approx(passed, rel=1e-3)
            ways = (np.diff(tree.X[last], axis=0)[0], np.diff(tree.X[first], axis=0)[0])
            cosine = ways[0] @ ways[1] / (np.linalg.norm(ways[0]) * np.linalg.norm(ways[1]))
            assert cosine > 0.99

    def test_leaves_are_far_apart(self):
        tree = self.bare()
        tips = [tree.X[np.flatnonzero(tree.labels == b)] for b in (3, 4, 5, 6)]
        ends = [tip[np.linalg.norm(tip - tip[0], axis=1).argmax()] for tip in tips]
        assert cKDTree(tips[0]).query(tips[3])[0].min() > 0.5
        assert min(np.linalg.norm(a - b) for a in ends for b in ends if a is not b) > 0.5

    def test_thickness_and_noise(self):
        bare = self.bare()
        thick = make_branching_trajectory(4000, thickness=0.3, noise=0)
        off = np.linalg.norm(thick.X - bare.X, axis=1)
        assert 0.29 < off.max() <= 0.3 + 1e-12
        assert (off < 0.15).mean() == pytest.approx(0.25, abs=0.03)  # evenly over the disc
        assert np.linalg.matrix_rank(thick.X - bare.X, tol=1e-9) == 2
        assert np.abs((thick.X - bare.X)[:50] @ bare.X.T).max() < 1e-12  # across all curves
        noisy = make_branching_trajectory(4000, thickness=0, noise=0.1)
        assert (noisy.X - bare.X).std(axis=0) == pytest.approx(0.1, rel=0.1)

    @pytest.mark.parametrize("method", ["standard", "modified", "hessian", "ltsa"])
    def test_forks_take_a_component_each(self, method):
        """As docs/single_cell.md says: by the standard method; the others take more of them."""
        tree = load("branching")
        Y = LocallyLinearEmbedding(n_neighbors=20, n_components=4, method=method).fit_transform(
            tree.X
        )
        Y /= Y.std(axis=0)

        def apart(a, b, coordinates):
            a, b = (Y[tree.labels == branch, :][:, coordinates].mean(axis=0) for branch in (a, b))
            return np.abs(a - b).max()

        # The first two coordinates draw the first fork and tell none of the others; those do.
        assert apart(1, 2, slice(2)) > 2 * apart(1, 2, slice(2, 4))
        beyond = [apart(a, b, slice(2, 4)) > 2 for a, b in ((3, 4), (5, 6))]
        assert not any(apart(a, b, slice(2)) > 0.5 for a, b in ((3, 4), (5, 6)))
        assert all(beyond) == (method == "standard")

    def test_shape_follows_the_parameters(self):
        tree = make_branching_trajectory(300, n_features=9, n_branches=5, random_state=2)
        assert tree.X.shape == (300, 9)
        assert tree.labels.dtype == np.int64
        assert set(tree.labels) == set(range(5))
        assert "5 thick curves in 9 dimensions" in tree.description

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"n_samples": 0}, "n_samples=0 must be an integer, at least 1"),
            ({"n_branches": 0}, "n_branches=0 must be an integer, at least 1"),
            ({"n_features": 12.5}, "n_features=12.5 must be an integer, at least 1"),
            ({"n_features": 9}, "n_features=9 must be at least n_branches \\+ 3 = 10"),
            ({"thickness": -1.0}, "thickness=-1.0 must be finite and not negative"),
            ({"noise": float("nan")}, "noise=nan must be finite"),
        ],
    )
    def test_errors(self, options, message):
        with pytest.raises(ValueError, match=message):
            make_branching_trajectory(**options)
