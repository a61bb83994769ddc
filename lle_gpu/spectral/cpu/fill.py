"""What a factorisation will take, concluded from pieces of the graph, before any is made.

The whole graph's dissection (:mod:`lle_gpu.spectral.cpu.ordering`) tells it within a third, in five
seconds for a million points. Where SuperLU follows that order they are not lost. But MKL and cuDSS
find orders of their own, and other solvers need none. So of a large graph two pieces are dissected,
in a tenth of a second.

    piece     the SIZE nodes that are fewest steps from some node, and the nearest quarter of them
    f(SIZE)   nonzeros, or arithmetic, of the piece's own factors, by its dissection
    f(n)  =   f(SIZE) (n / SIZE)^e,    e = log(f(SIZE) / f(SIZE / 4)) / log 4

Where m nodes have separators of m^(1 - 1/D), nonzeros go like m^(2 - 2/D) and arithmetic like
m^(3 - 3/D), or like m log m where that is more: e tells D. It is at least 1, and at most 2 or 3,
which is a full matrix.

Nonzeros beside those of the whole graph's dissection: 1.2 times as many on swiss rolls of 100,000,
300,000 and a million points, 0.9 to 1.0 on cubes in three and five dimensions (100,000 and 300,000
points), 0.65 on 100,000 and 400,000 GloVe vectors, where they are out of reach by far more than
that. Arithmetic: 0.6 to 1.6 times. At a million points this took 0.26 s and the dissection 8 (on a
machine that had other work).

R. J. Lipton, D. J. Rose, R. E. Tarjan: Generalized nested dissection. SIAM J. Numer. Anal. 16:346
(1979).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lle_gpu.spectral.cpu.ordering import BYTES_PER_NONZERO, dissect
from lle_gpu.spectral.toolbox import FillEstimate

__all__ = ["SIZE", "WHOLE", "Links", "links", "predict_from_pieces"]

Index = NDArray[np.integer]
Links = tuple[Index, Index]  # where each node's neighbours begin, and the neighbours

# Nodes of a piece, and how many pieces: four times as many nodes tell little more.
SIZE = 1 << 14
PIECES = 2
# Graphs of so few nodes are dissected as a whole, in a quarter of a second at most.
WHOLE = 4 * SIZE
# The piece within the piece.
PART = 4
SEED = 0


def links(A: csr_array) -> list[Links]:
    """A's pattern and that of A^T."""
    transposed = A.tocsc()
    return [(A.indptr, A.indices), (transposed.indptr, transposed.indices)]


def predict_from_pieces(links: list[Links], size: int = SIZE) -> FillEstimate:
    """Estimate what an LU in nested dissection will take: SuperLU's.

    Parameters
    ----------
    links : list of (first, columns)
        A matrix's pattern and, unless it is symmetric, its transpose's.
    size : int
        Nodes of a piece.
    """
    n = len(links[0][0]) - 1
    random = np.random.default_rng(SEED)
    found = np.array([_extrapolated(links, n, size, random) for _ in range(PIECES)])
    nonzeros, flops = map(float, found.mean(axis=0))
    return FillEstimate(nonzeros, BYTES_PER_NONZERO * nonzeros, flops)


def _extrapolated(
    links: list[Links], n: int, size: int, random: np.random.Generator
) -> tuple[float, float]:
    """Nonzeros and arithmetic for n nodes, from one piece."""
    piece = _piece(links, n, min(size, n), random)
    part = piece[: max(1, len(piece) // PART)]
    whole, within = (dissect(_pattern(links[0], n, nodes)).estimate() for nodes in (piece, part))
    growth = np.log(len(piece) / len(part)) or 1.0

    def grown(large: float, small: float, most: float) -> float:
        exponent = np.clip(np.log(large / small) / growth, 1.0, most)
        return float(large * (n / len(piece)) ** exponent)

    return grown(whole.nonzeros, within.nonzeros, 2.0), grown(whole.flops, within.flops, 3.0)


def _piece(links: list[Links], n: int, size: int, random: np.random.Generator) -> Index:
    """``size`` nodes by their distance, along edges of either direction, from a random one.

    Where no edge leads any further, the search goes on from another node.
    """
    seen = np.zeros(n, dtype=bool)
    starts = iter(random.permutation(n))
    shells: list[Index] = []
    shell = np.empty(0, dtype=np.int64)
    count = 0
    while count < size:
        near = np.concatenate([_neighbors(link, shell) for link in links])
        shell = np.unique(near[~seen[near]])
        if len(shell) == 0:
            shell = np.array([next(node for node in starts if not seen[node])])
        seen[shell] = True
        shells.append(shell)
        count += len(shell)
    return np.concatenate(shells)[:size]


def _neighbors(link: Links, nodes: Index) -> Index:
    """The neighbours of all ``nodes``, one node's after the other's."""
    first, columns = link
    low = first[nodes]
    counts = first[nodes + 1] - low
    before = np.cumsum(counts) - counts
    return columns[np.repeat(low - before, counts) + np.arange(counts.sum())]


def _pattern(link: Links, n: int, nodes: Index) -> csr_array:
    """The pattern of A[nodes][:, nodes]."""
    nodes = np.sort(nodes)
    place = np.full(n, -1, dtype=np.int32)
    place[nodes] = np.arange(len(nodes), dtype=np.int32)
    columns = place[_neighbors(link, nodes)]
    inside = columns >= 0
    owner = np.repeat(np.arange(len(nodes)), link[0][nodes + 1] - link[0][nodes])[inside]
    pointer = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(nodes)))])
    columns = columns[inside]
    shape = len(nodes), len(nodes)
    return csr_array((np.ones(len(columns), dtype=np.int8), columns, pointer), shape=shape)
