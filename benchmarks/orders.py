"""Elimination orders, compared: ``python -m benchmarks.orders [CASE ...]``.

For each case and order: seconds to find the order and to factor, nonzeros a row of L + U, and
seconds to solve for three right-hand sides with the matrix and with its transpose. Minimum degree
is found inside SuperLU, so its time is in the factorisation's; so is MKL's own order, which is not
SuperLU's to follow (on all cores; of a symmetric matrix, L and D). METIS takes part if ``pymetis``
is installed (extra ``[bench]``), MKL with the extra ``[fast-cpu]``, whose libraries are loaded
beforehand. One BLAS thread.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, eye_array
from scipy.sparse.linalg import splu
from sklearn.neighbors import NearestNeighbors

from lle_gpu.constraints import cpu
from lle_gpu.constraints.cpu.assemble import gram, stack
from lle_gpu.datasets import load
from lle_gpu.parallel import one_blas_thread
from lle_gpu.spectral.cpu.factorisation import PANEL_SIZE
from lle_gpu.spectral.cpu.ordering import dissect, permuted
from lle_gpu.spectral.cpu.pardiso import Pardiso, PardisoError

__all__ = ["CASES", "MKL", "ORDERS", "main", "measure", "measure_mkl"]

Order = NDArray[np.integer]
# Data, points, method, neighbours, components.
CASES: dict[str, tuple[str, int, str, int, int]] = {
    "roll-standard-20k": ("swiss-roll", 20_000, "standard", 12, 2),
    "roll-standard-100k": ("swiss-roll", 100_000, "standard", 12, 2),
    "roll-standard-300k": ("swiss-roll", 300_000, "standard", 12, 2),
    "roll-standard-1000k": ("swiss-roll", 1_000_000, "standard", 12, 2),
    "roll-ltsa-20k": ("swiss-roll", 20_000, "ltsa", 12, 2),
    "roll-ltsa-100k": ("swiss-roll", 100_000, "ltsa", 12, 2),
    "cube3-standard-20k": ("cube3", 20_000, "standard", 12, 2),
    "cube3-ltsa-20k": ("cube3", 20_000, "ltsa", 14, 2),
    "cube5-standard-10k": ("cube5", 10_000, "standard", 14, 2),
}


def matrix(case: str) -> tuple[csr_array, float]:
    """What the case factors, B or M, and its pivoting threshold."""
    data, n, method, k, d = CASES[case]
    if data.startswith("cube"):
        X = np.random.default_rng(0).random((n, int(data.removeprefix("cube"))))
    else:
        X = load(data, n).X
    search = NearestNeighbors(n_neighbors=k, n_jobs=-1).fit(X)
    index = search.kneighbors(return_distance=False).astype(np.int32)
    constraints = getattr(cpu, method)(X, index, d)
    return (stack(constraints), 0.1) if method == "standard" else (gram(constraints), 0.0)


def metis(A: csr_array) -> Order:
    """METIS's nested dissection of the graph of A + A^T."""
    import pymetis

    graph = csr_array((np.ones(A.nnz), A.indices, A.indptr), shape=A.shape)
    graph = (graph + graph.T).tocsr()
    graph.setdiag(0)
    graph.eliminate_zeros()
    adjacency = pymetis.CSRAdjacency(adj_starts=graph.indptr, adjacent=graph.indices)
    return np.asarray(pymetis.nested_dissection(adjacency)[0])


ORDERS: dict[str, Callable[[csr_array], Order | None]] = {
    "minimum degree": lambda A: None,
    "METIS": metis,
    "lle_gpu": lambda A: dissect(A).order,
}

MKL = "MKL's own"


def measure(A: csr_array, pivot: float, order: str) -> dict[str, Any]:
    """Order, factor and solve once."""
    n = A.shape[0]
    begin = time.perf_counter()
    elimination = ORDERS[order](A)
    ordered = time.perf_counter()
    B = A if elimination is None else permuted(A, elimination)
    shifted = csc_array((B.data, B.indices, B.indptr), shape=B.shape) + 1e-14 * eye_array(n)
    lu = splu(
        shifted.tocsc(),
        permc_spec="MMD_AT_PLUS_A" if elimination is None else "NATURAL",
        diag_pivot_thresh=pivot,
        panel_size=PANEL_SIZE,
        options={"SymmetricMode": True},
    )
    factored = time.perf_counter()
    X = np.asfortranarray(np.random.default_rng(0).standard_normal((n, 3)))
    lu.solve(X, "T")
    solved = time.perf_counter()
    lu.solve(X, "N")
    transposed = time.perf_counter()
    return {
        "order s": ordered - begin,
        "factor s": factored - ordered,
        "solve s": solved - factored,
        "transposed s": transposed - solved,
        "fill": lu.nnz / n,
    }


def measure_mkl(A: csr_array, pivot: float) -> dict[str, Any]:
    """The same by MKL, which orders while it factors."""
    begin = time.perf_counter()
    factors = Pardiso(A, shift=1e-14, symmetric=pivot == 0, n_jobs=None)
    factored = time.perf_counter()
    X = np.asfortranarray(np.random.default_rng(0).standard_normal((A.shape[0], 3)))
    factors.solve(X)
    solved = time.perf_counter()
    factors.solve(X, transposed=True)
    transposed = time.perf_counter()
    return {
        "order s": 0.0,
        "factor s": factored - begin,
        "solve s": solved - factored,
        "transposed s": transposed - solved,
        "fill": factors.fill,
    }


def main(arguments: list[str] | None = None) -> None:
    """Print a table for the cases named; all of them without a name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orders", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    names = parser.parse_args(arguments).cases or list(CASES)
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        parser.error(f"no case is called {unknown[0]!r}; there are {', '.join(CASES)}")
    with contextlib.suppress(PardisoError):  # not installed: it has no rows then
        measure_mkl(csr_array(eye_array(10)), 0.0)  # loads it
    print("| case | order by | order s | factor s | solve s | transposed s | fill | predicted |")
    print("|---|---|---|---|---|---|---|---|")
    for case in names:
        A, pivot = matrix(case)
        with one_blas_thread():
            predicted = dissect(A).estimate().nonzeros / A.shape[0]
            for order in (*ORDERS, MKL):
                try:
                    row = measure_mkl(A, pivot) if order == MKL else measure(A, pivot, order)
                except (ModuleNotFoundError, PardisoError):
                    continue  # not installed
                seconds = " | ".join(f"{value:.3f}" for key, value in row.items() if key != "fill")
                print(
                    f"| {case} | {order} | {seconds} | {row['fill']:.0f} | {predicted:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
