"""Closed classes on the device: whatever the graph, the host's answer."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.spatial import cKDTree

from lle_gpu.datasets import load
from lle_gpu.neighbors import graph, graph_gpu


def nearest(X, k):
    return cKDTree(X).query(X, k + 1)[1][:, 1:]


def roll(n=700, k=8):
    """One class, which all points are in or lead to."""
    return nearest(load("swiss-roll", n, random_state=0).X, k)


def with_antihubs():
    """Rows 0 to 59, a cycle that was cut, lead to the roll, and nobody there has them."""
    index = roll(600) + 60
    outside = np.random.default_rng(0).integers(60, 660, size=(60, 8))
    outside[:, 0] = (np.arange(60) + 1) % 60
    outside[7, 0] = 100  # row 8 is nobody's neighbour
    return np.vstack([outside, index])


def in_two():
    index = roll(350)
    return np.vstack([index, index + 350])


def hub_outside():
    """A class of ten; row 0, most points' neighbour, is of a larger part that leads to it."""
    index = roll(600, 9)
    index[1:, 8] = 0
    small = np.array([[j for j in range(10) if j != i] for i in range(10)]) + 600
    index[5] = small[0]
    return np.vstack([index, small])


def path(n=700):
    """One class, longer than the steps allowed; numbered so that no step goes far."""
    i = np.arange(n)
    index = np.column_stack([i - 1, i + 1])
    index[0], index[-1] = [1, 2], [n - 2, n - 3]
    number = np.random.default_rng(0).permutation(n)
    return number[index][np.argsort(number)]


def drawn(n=600):
    """Two neighbours by lot: every seventh point is nobody's."""
    steps = np.random.default_rng(3).permuted(np.tile(np.arange(1, n), (n, 1)), axis=1)[:, :2]
    return (np.arange(n)[:, None] + steps) % n


GRAPHS = {
    "one": roll,
    "antihubs": with_antihubs,
    "drawn": drawn,
    "two": in_two,
    "hub outside": hub_outside,
    "path": path,
    "few": lambda: roll(40),
}
SETTLED = ("one", "antihubs", "drawn")  # without the host


@pytest.mark.parametrize("name", GRAPHS)
def test_the_hosts_answer(gpu, name, monkeypatch):
    index = GRAPHS[name]().astype(np.int32)
    expected = graph.closed_classes(index)
    asked = []

    def watched(index):
        asked.append(index)
        return expected

    monkeypatch.setattr(graph, "closed_classes", watched)
    found = graph_gpu.closed_classes(gpu.cupy.asarray(index))
    for part in ("sizes", "example_rows", "labels", "unreferenced"):
        ours, hosts = getattr(found, part), getattr(expected, part)
        assert ours.dtype == hosts.dtype
        assert_array_equal(ours, hosts)
    assert (name in SETTLED) == (not asked)
    if asked:
        assert_array_equal(asked[0], index)


def slow_along(n=60):
    """All lead to row 0 at once, which leads to the last row in as many steps as there are rows."""
    i = np.arange(n)
    index = np.column_stack([np.zeros(n, dtype=int), np.minimum(i + 1, n - 1)])
    index[0], index[-1] = [1, 2], [0, 1]
    return index


def slow_against(n=60):
    """Rows 0 to 2 are the class, and the last row leads to it in half as many steps as rows."""
    i = np.arange(n)
    index = np.column_stack([i - 1, i - 2])
    index[:3] = [[1, 2], [0, 2], [0, 1]]
    return index


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("graph_of", [slow_along, slow_against, path])
def test_a_search_ends_when_both_ways_have(gpu, monkeypatch, graph_of, turned, steps):
    """However few steps there are between two looks, and whichever way goes on alone."""
    index = graph_of(60)
    if turned:  # in the other order of the threads
        index = (59 - index)[::-1]
    index = np.ascontiguousarray(index, dtype=np.int32)
    expected = graph.closed_classes(index)
    monkeypatch.setattr(graph_gpu, "POINTS_PER_STEP", 1)
    monkeypatch.setattr(graph_gpu, "STEPS", steps)
    monkeypatch.setattr(graph, "closed_classes", None)
    found = graph_gpu.closed_classes(gpu.cupy.asarray(index))
    assert found.sizes.tolist() == expected.sizes.tolist()
    assert_array_equal(found.labels, expected.labels)
