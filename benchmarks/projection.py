"""A layer beside the loop that people write: ``python -m benchmarks.projection [FILE.json]``.

Projects queries on the locally linear manifold of a bank, by

    layer     lle_gpu.torch.BarycentricProjection
    loop      torch.cdist, topk, and the inverse of the Gram matrix without a ridge

each in a process of its own, by turns, after a warm-up on a few queries. Seconds are medians;
memory is the most that the process held beyond what it held before. Features are smooth functions
of three coordinates, as learned ones are of few, so that 16 neighbours nearly lie in a plane and
the Gram matrices are nearly singular. The error is that of the projected points, relative, against
the same formula, with the layer's ridge and with none, in float64; both are in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, records
from benchmarks.measure import peak_bytes, reset_peak

WAYS = ("layer", "loop")
N_COORDINATES = 3


def points(n: int, d: int, seed: int) -> Any:
    """Features (n, d), float32, of random points on one smooth surface."""
    import torch

    surface, some = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    W = torch.randn(N_COORDINATES, d, generator=surface)
    phase = 6.28 * torch.rand(d, generator=surface)
    return torch.sin(0.3 * torch.randn(n, N_COORDINATES, generator=some) @ W + phase)


def loop(bank: Any, k: int) -> Any:
    """The projection as it is found in speech and face synthesis, written by hand."""
    import torch

    def project(x: Any) -> Any:
        idx = torch.cdist(x, bank).topk(k, largest=False).indices
        Z = bank[idx] - x[:, None]
        w = torch.inverse(Z @ Z.mT).sum(dim=2)
        w = w / w.sum(dim=1, keepdim=True)
        return (w[:, :, None] * bank[idx]).sum(dim=1)

    return project


def layer(bank: Any, k: int) -> Any:
    from lle_gpu.torch import BarycentricProjection

    return BarycentricProjection(bank, k=k)


def exact(bank: Any, x: Any, k: int, reg: float) -> Any:
    """Projection of a few queries by dense formulas in float64."""
    import torch

    bank, x = bank.double(), x.double()
    idx = (
        torch.cdist(x, bank, compute_mode="donot_use_mm_for_euclid_dist")
        .topk(k, largest=False)
        .indices
    )
    Z = bank[idx] - x[:, None]
    G = Z @ Z.mT
    ridge = reg * G.diagonal(dim1=1, dim2=2).sum(dim=1)
    A = G + ridge[:, None, None] * torch.eye(k, dtype=torch.float64)
    w = torch.linalg.solve(A, torch.ones(len(x), k, dtype=torch.float64))
    w = w / w.sum(dim=1, keepdim=True)
    return (w[:, :, None] * bank[idx]).sum(dim=1)


def measure(way: str, m: int, n: int, d: int, k: int) -> dict[str, Any]:
    """One run in this process."""
    import torch

    bank, x = points(n, d, 1), points(m, d, 2)
    project = {"layer": layer, "loop": loop}[way](bank, k)
    with torch.no_grad():
        project(x[:64])
        reset_peak()
        before = peak_bytes()
        begin = time.perf_counter(), time.process_time()
        y = project(x)
        seconds = time.perf_counter() - begin[0]
        busy = time.process_time() - begin[1]
        peak = peak_bytes()
        few = x[:500]
        expected = exact(bank, few, k, 1e-3 if way == "layer" else 0.0)
        error = (y[:500] - expected).norm(dim=1) / expected.norm(dim=1)
        # How far from the point it was meant to stay near: a projection moves little.
        moved = ((y[:500] - few).norm(dim=1) / few.norm(dim=1)).max()
    return {
        "way": way,
        "seconds": seconds,
        "processor_seconds": busy,
        "bytes": peak - before,
        "largest_error": float(error.max()),
        "largest_move": float(moved),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run and print; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.projection", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("json", nargs="?", type=Path, help="where to write the record")
    for name, default in (("queries", 10_000), ("bank", 100_000), ("features", 256), ("k", 16)):
        parser.add_argument(f"--{name}", type=records.positive(int), default=default)
    parser.add_argument("--repeat", type=records.positive(int), default=3)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sizes = [options.queries, options.bank, options.features, options.k]
    if options.one:
        print(json.dumps(measure(options.one, *sizes)))
        return 0
    runs: list[dict[str, Any]] = []
    record = {"machine": machine.describe(), "sizes": sizes, "runs": runs}
    if options.json:
        try:
            records.write_first(record, options.json)
        except ValueError as error:
            parser.error(str(error))
    print(*machine.lines(record["machine"]), sep="\n")
    print(
        "{:,} queries, a bank of {:,} x {}, k = {}".format(*sizes),
        "",
        f"{'':8}{'s':>8}{'processor s':>14}{'MiB':>10}{'largest error':>16}{'largest move':>14}",
        sep="\n",
    )
    command = [sys.executable, "-m", "benchmarks.projection"]
    for name, size in zip(("queries", "bank", "features", "k"), sizes, strict=True):
        command += [f"--{name}", str(size)]
    for _ in range(options.repeat):
        for way in WAYS:
            out = subprocess.run(
                [*command, "--one", way], check=True, capture_output=True, text=True
            )
            runs.append(json.loads(out.stdout))
            if options.json:
                records.write(record, options.json)
    median = {
        way: {
            key: statistics.median(run[key] for run in runs if run["way"] == way)
            for key in runs[0]
            if key != "way"
        }
        for way in WAYS
    }
    for way, row in median.items():
        print(
            f"{way:8}{row['seconds']:8.2f}{row['processor_seconds']:14.2f}"
            f"{row['bytes'] / 2**20:10.0f}{row['largest_error']:16.1e}{row['largest_move']:14.1e}"
        )
    faster = median["loop"]["seconds"] / median["layer"]["seconds"]
    share = median["layer"]["bytes"] / max(1, median["loop"]["bytes"])
    print(f"\nthe layer is {faster:.1f} times as fast, in {share:.2f} of the memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
