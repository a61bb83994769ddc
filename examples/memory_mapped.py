"""An array larger than one would like to hold: 2 GB on disk, embedded within some hundred MB.

    python examples/memory_mapped.py                # 5,000 points of 100,000 features, 2 GB
    python examples/memory_mapped.py 2000 50000     # 0.4 GB

Makes a swiss roll, turned into many dimensions, with noise, as a .npy file in a temporary folder;
embeds the file by LTSA; prints how much memory of its own the process held meanwhile (pages of the
file that the system keeps for it can be given back at any time, and do not count), and how far the
embedding is from the roll's true coordinates. Needs Linux, which tells such things.

Most of the time goes into 5,000 x 5,000 distances of 100,000 terms: 5 10^12 operations.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_swiss_roll

from lle_gpu import LocallyLinearEmbedding, estimate_memory
from lle_gpu.metrics import affine_residual

NEIGHBORS = 12


def write(path: Path, n: int, d: int) -> NDArray[Any]:
    """Make the file, a block at a time; gives the roll's own coordinates (n, 2)."""
    roll, angle = make_swiss_roll(n, random_state=0)
    rng = np.random.default_rng(0)
    turn = rng.standard_normal((3, d), dtype=np.float32) / np.float32(np.sqrt(d))
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
    for low in range(0, n, 100):
        block = roll[low : low + 100].astype(np.float32)
        noise = rng.standard_normal((len(block), d), dtype=np.float32)
        file[low : low + 100] = block @ turn + np.float32(1e-4) * noise
    file.flush()
    # Along the roll, and its height.
    along = (angle * np.sqrt(1 + angle**2) + np.arcsinh(angle)) / 2
    return np.column_stack([along, roll[:, 1]])


class HeldMemory:
    """The most memory of its own that this process holds inside the ``with`` block, in bytes."""

    def __enter__(self) -> HeldMemory:
        self._base, self.peak, self._running = self._held(), 0, True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join()

    def _watch(self) -> None:
        while self._running:
            self.peak = max(self.peak, self._held() - self._base)
            time.sleep(0.002)

    @staticmethod
    def _held() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("RssAnon:")[1].split()[0])


def main() -> None:
    """Make the file, embed it, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, nargs="?", default=5_000, help="points")
    parser.add_argument("d", type=int, nargs="?", default=100_000, help="features")
    parser.add_argument("--folder", help="where the file is made (default: the temporary folder)")
    arguments = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("this example reads /proc, which Linux alone has")
    n, d = arguments.n, arguments.d
    sizes = {"n_neighbors": NEIGHBORS, "method": "ltsa"}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "X.npy"
        truth = write(path, n, d)
        X = np.load(path, mmap_mode="r")
        print(f"X: {n} x {d} float32, {X.nbytes / 1e9:.2f} GB on disk")
        print(f"estimate_memory: {estimate_memory((n, d), **sizes)}")
        begin = time.perf_counter()
        with HeldMemory() as memory:
            lle = LocallyLinearEmbedding(**sizes, device="cpu", verbose=True)
            Y = lle.fit_transform(X)
        print(f"held at most: {memory.peak / 1e6:.0f} MB, {memory.peak / X.nbytes:.1%} of X")
        print(f"time: {time.perf_counter() - begin:.0f} s; converged: {lle.spectrum_.converged}")
        print(f"affine residual to the true coordinates: {affine_residual(Y, truth):.4f}")


if __name__ == "__main__":
    main()
