"""Fill predicted from pieces of the graph, beside that of the whole graph's dissection."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from lle_gpu.constraints import Constraints, cpu
from lle_gpu.constraints.cpu.assemble import gram as host_gram
from lle_gpu.datasets import load
from lle_gpu.spectral.cpu import fill, ordering
from lle_gpu.spectral.gpu import shift_invert
from lle_gpu.spectral.gpu.sparse import Csr, Rows

N = 20_000


def neighbors(X, k=12):
    """Itself and the k nearest others."""
    return cKDTree(X).query(X, k + 1)[1].astype(np.int32)


def cube(d, n=N):
    return np.random.default_rng(0).random((n, d))


def device_rows(stand_in, index):
    cp = stand_in.cupy
    return Rows(
        Constraints(cp.asarray(index), cp.asarray(np.ones((len(index), 1, index.shape[1]))))
    )


def predicted(A, size):
    return fill.predict_from_pieces(shift_invert.links(A), size)


def whole(index):
    """What the dissection of the whole graph says."""
    n, m = index.shape
    pattern = csr_array((np.ones(n * m), index.ravel(), np.arange(0, n * m + 1, m)), shape=(n, n))
    return ordering.dissect(pattern).estimate()


def assert_alike(found, expected, within):
    for name in ("nonzeros", "bytes", "flops"):
        power = 1.5 if name == "flops" else 1.0
        ratio = (getattr(found, name) / getattr(expected, name)) ** (1 / power)
        assert 1 / within <= ratio <= within, (name, ratio)


@pytest.mark.parametrize(
    ("points", "within"),
    [
        (lambda: load("swiss-roll", N, random_state=0).X, 1.3),
        (lambda: cube(3), 1.3),
        (lambda: cube(5), 1.3),
        (lambda: np.sort(cube(1), axis=0), 1.3),  # a curve
    ],
    ids=["roll", "cube", "five-d", "curve"],
)
def test_a_tenth_of_the_points_tells_it(stand_in, points, within):
    index = neighbors(points())
    assert_alike(predicted(device_rows(stand_in, index), N // 10), whole(index), within)


def test_what_grows_in_proportion_is_told_from_what_does_not(stand_in):
    """The roll's fill is nearly linear, that of a graph without structure is quadratic."""
    roll = neighbors(load("swiss-roll", N, random_state=0).X)
    random = np.random.default_rng(0).integers(N, size=(N, 13)).astype(np.int32)
    random = np.sort(random, axis=1)
    found = [predicted(device_rows(stand_in, index), 2000) for index in (roll, random)]
    assert found[0].nonzeros < 100 * N < N**2 / 10 < found[1].nonzeros <= N**2
    assert found[1].flops <= 2 * N**3


def test_of_m(stand_in):
    cp = stand_in.cupy
    X = load("swiss-roll", 8000, random_state=0).X
    constraints = cpu.ltsa(X, neighbors(X)[:, 1:], 2)
    M = host_gram(constraints)
    M.sort_indices()
    device = Csr(
        cp.asarray(M.data),
        cp.asarray(M.indices),
        cp.asarray(M.indptr.astype(np.int64)),
        M.shape,
    )
    assert_alike(predicted(device, 2000), ordering.dissect(M).estimate(), 1.5)


def test_pieces_go_on_where_no_edge_leads(stand_in):
    """2,000 cliques of ten points, and nobody knows another."""
    index = np.arange(N, dtype=np.int32).reshape(-1, 1, 10).repeat(10, axis=1).reshape(N, 10)
    found = predicted(device_rows(stand_in, index), 2000)
    assert_alike(found, whole(index), 1.05)


def test_edges_are_followed_in_both_directions(stand_in):
    """From a point that knows nobody, those that know it are found."""
    index = np.zeros((500, 2), dtype=np.int32)
    index[:, 0] = np.arange(500)
    index[:, 1] = np.maximum(np.arange(500) - 1, 0)
    links = shift_invert.links(device_rows(stand_in, index))
    random = np.random.default_rng(0)
    piece = fill._piece(links, 500, 9, random)
    assert len(piece) == 9
    assert np.ptp(piece) == 8, "an interval of the path"
    assert sorted(fill._piece(links, 500, 500, random)) == list(range(500))


def test_the_pattern_of_a_piece(stand_in):
    index = neighbors(cube(2, 300), 5)
    nodes = np.random.default_rng(1).permutation(300)[:80]
    links = shift_invert.links(device_rows(stand_in, index))
    dense = np.zeros((300, 300))
    np.put_along_axis(dense, index, 1.0, axis=1)
    expected = dense[np.ix_(np.sort(nodes), np.sort(nodes))]
    np.testing.assert_array_equal(fill._pattern(links[0], 300, nodes).toarray(), expected)
    back = np.zeros((300, 300))
    for i in range(300):
        back[i, fill._neighbors(links[1], np.array([i]))] = 1.0
    np.testing.assert_array_equal(back, dense.T)


def test_large_graphs_are_dissected_for_superlu_alone(stand_in, monkeypatch):
    """And not for the choice."""
    dissected = []
    real = ordering.dissect
    for module in (ordering, fill):
        monkeypatch.setattr(module, "dissect", lambda A: (dissected.append(A.shape[0]), real(A))[1])
    F = device_rows(stand_in, neighbors(cube(5, 6000)))
    monkeypatch.setattr(shift_invert, "WHOLE", 6000)
    assert shift_invert.analyse(F, True).elimination is not None
    assert dissected == [6000]
    monkeypatch.setattr(shift_invert, "WHOLE", 5999)
    small = functools.partial(fill.predict_from_pieces, size=1000)
    monkeypatch.setattr(shift_invert, "predict_from_pieces", small)
    dissected.clear()
    plan = shift_invert.analyse(F, True)
    assert plan.elimination is None
    assert max(dissected) < 6000 < plan.estimate.nonzeros
