"""One measurement on the GPU, in a process of its own: ``python -m benchmarks.gpu_measure TASK``.

TASK is JSON: ``name`` of a case of :mod:`benchmarks.gpu_cases` or "device", ``most`` points (or
null), ``repeat``, and a ``folder`` that receives ``started`` and ``result.json``. The rules are
those of :mod:`benchmarks.measure`.

Times of kernels are between CUDA events around each launch, times of fits those of a clock, with
the device waited for.
"""

from __future__ import annotations

import contextlib
import gc
import json
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_cases import CASES, FitCase, KernelCase, shrunk
from benchmarks.summary import sine
from lle_gpu import LocallyLinearEmbedding
from lle_gpu.cuda import compiler, cupy
from lle_gpu.cuda.inventory import CUPY_DISTRIBUTIONS, LIBRARIES, device_facts, version
from lle_gpu.device import find_gpu
from lle_gpu.metrics import affine_residual
from lle_gpu.progress import StageTimes, report_to

__all__ = ["DeviceStages", "KernelTimes", "describe_device", "main", "measure_fit"]

# For the rates: bytes that are copied, and rows of the matrices that are multiplied.
COPIED_BYTES, MATRIX_ROWS = 1 << 30, 8192
RATE_REPEATS = 20
WARM_UP_POINTS = 400
SAMPLING_SECONDS = 0.002


class KernelTimes:
    """Seconds of every launch of our kernels inside the ``with`` block, by CUDA events.

    Launches that a graph is made of are not timed: events cannot be, there.

    Attributes
    ----------
    seconds : dict of str to list of float
        By kernel; complete after the block.
    """

    def __enter__(self) -> KernelTimes:
        self.seconds: dict[str, list[float]] = {}
        self._events: list[tuple[str, Any, Any]] = []
        self._launch = compiler.Kernel.__call__
        launch, events = self._launch, self._events

        def timed(kernel: Any, *arguments: Any, **options: Any) -> None:
            function = kernel.function
            kernel.function = _between_events(kernel.name, function, events)
            try:
                launch(kernel, *arguments, **options)
            finally:
                kernel.function = function

        compiler.Kernel.__call__ = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        compiler.Kernel.__call__ = self._launch  # type: ignore[method-assign]
        cupy().cuda.Device().synchronize()
        for name, start, end in self._events:
            milliseconds = cupy().cuda.get_elapsed_time(start, end)
            self.seconds.setdefault(name, []).append(milliseconds / 1e3)

    @property
    def total(self) -> float:
        """All launches together."""
        return sum(map(sum, self.seconds.values()))


class _between_events:  # noqa: N801  stands for a function
    """CuPy's kernel, with an event before and after each launch."""

    def __init__(self, name: str, function: Any, events: list[tuple[str, Any, Any]]) -> None:
        self._name, self._function, self._events = name, function, events

    def __call__(self, *arguments: Any, **options: Any) -> None:
        cuda = cupy().cuda
        if cuda.get_current_stream().is_capturing():
            self._function(*arguments, **options)
            return
        start, end = cuda.Event(), cuda.Event()
        start.record()
        self._function(*arguments, **options)
        end.record()
        self._events.append((self._name, start, end))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self._function, name, value)


class DeviceStages(StageTimes):
    """Stage times that wait for the device where a stage begins and where it ends.

    A stage inside another one counts for itself alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running: list[tuple[float, float]] = []  # when it began; seconds of stages inside

    def start(self, name: str, total: int | None) -> None:
        """The device's earlier work is another stage's."""
        self._running.append((_now(), 0.0))

    def finish(self, name: str, seconds: float) -> None:
        """Add the stage's time, with what it left the device to do."""
        begin, inside = self._running.pop()
        whole = _now() - begin
        super().finish(name, whole - inside)
        if self._running:
            begin, others = self._running[-1]
            self._running[-1] = begin, others + whole


def _now() -> float:
    cupy().cuda.Device().synchronize()
    return time.perf_counter()


def describe_device(most: int | None) -> dict[str, Any]:
    """What the device is, and its measured rates: the denominators of the floors."""
    status = find_gpu()
    if not status.usable:
        return {"status": "missing", "error": ". ".join(status.missing)}
    attributes = cupy().cuda.Device().attributes
    versions = {name: version(name) for name in CUPY_DISTRIBUTIONS}
    versions |= dict(library.found() for library in LIBRARIES)
    return {
        "status": "ok",
        **device_facts(),
        "pci_bus_id": cupy().cuda.Device().pci_bus_id,
        # kHz, bits, bytes; what the driver does not tell is left out.
        "attributes": {
            name: int(attributes[name])
            for name in ("ClockRate", "MemoryClockRate", "GlobalMemoryBusWidth", "L2CacheSize")
            if name in attributes
        },
        "versions": {name: found for name, found in versions.items() if found},
        "libraries": {library.name: library.state() for library in LIBRARIES},
        "rates": _rates(most),
    }


def _rates(most: int | None) -> dict[str, float]:
    """Bytes read and written in a second by a copy, operations by products of square matrices."""
    size = COPIED_BYTES if most is None else min(COPIED_BYTES, 8 * most)
    m = MATRIX_ROWS if most is None else min(MATRIX_ROWS, most)
    return {
        "copy": _copy_rate(size),
        **{real: _product_rate(m, real) for real in ("float32", "float64")},
    }


def _copy_rate(size: int) -> float:
    cp = cupy()
    a, b = cp.zeros(size // 8), cp.zeros(size // 8)

    def copy() -> None:
        b[...] = a

    return 2 * a.nbytes / _median_seconds(copy)


def _product_rate(m: int, real: str) -> float:
    cp = cupy()
    A, C = cp.ones((m, m), dtype=real), cp.zeros((m, m), dtype=real)
    return 2.0 * m**3 / _median_seconds(lambda: cp.matmul(A, A, out=C))


def _median_seconds(run: Callable[[], Any]) -> float:
    for _ in range(3):
        run()
    return statistics.median(_event_seconds(run) for _ in range(RATE_REPEATS))


def _event_seconds(run: Callable[[], Any]) -> float:
    """Seconds on the current stream from before to after a call."""
    cuda = cupy().cuda
    start, end = cuda.Event(), cuda.Event()
    start.record()
    result = run()
    end.record()
    end.synchronize()
    del result
    return float(cuda.get_elapsed_time(start, end)) / 1e3


def measure_kernel(case: KernelCase, repeat: int, started: Callable[[], None]) -> dict[str, Any]:
    """Median times of a call and of the kernels in it."""
    work = case.work()
    started()
    work.run()
    calls, kernels, by_name = [], [], {}
    for _ in range(repeat):
        calls.append(_event_seconds(work.run))
        with KernelTimes() as times:
            work.run()
        kernels.append(times.total)
        for name, seconds in times.seconds.items():
            by_name.setdefault(name, []).append((len(seconds), sum(seconds)))
    return {
        "status": "ok",
        "call": statistics.median(calls),
        "kernels": statistics.median(kernels) if work.ours else None,
        "launches": {
            name: {
                "count": runs[0][0],
                "seconds": statistics.median(seconds for _, seconds in runs),
            }
            for name, runs in by_name.items()
        },
        "bytes": float(work.bytes),
        "operations": float(work.operations),
        "real": work.real,
    }


def measure_fit(case: FitCase, repeat: int, started: Callable[[], None]) -> dict[str, Any]:
    """A fit's first time, its later ones, its stages, its memory, and how good its result is."""
    data = case.load()

    def fitted(X: Any, device: str = "gpu") -> Any:
        return LocallyLinearEmbedding(
            n_neighbors=case.case.k,
            n_components=case.case.d,
            method=case.case.method,
            device=device,
            **dict(case.case.options),
        ).fit(X)

    def seconds_of(X: Any) -> float:
        begin = _now()
        fitted(X)
        return _now() - begin

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started()
        result: dict[str, Any] = {"status": "ok", "cold": seconds_of(data.X)}
        warm = [seconds_of(data.X) for _ in range(repeat)]
        on_device = cupy().asarray(data.X)
        from_device = [seconds_of(on_device) for _ in range(repeat)]
        del on_device
        times = DeviceStages()
        with _peak_memory() as peak, report_to(times):
            model = fitted(data.X)
    spectrum = model.spectrum_
    result |= {
        "warm": statistics.median(warm),
        "warm_runs": warm,
        "from_device": statistics.median(from_device),
        "stages": times.seconds,
        "notes": times.notes,
        **peak,
        "warnings": sorted({f"{w.category.__name__}: {w.message}" for w in caught}),
        "certified": bool(spectrum.converged),
        "values": spectrum.values.tolist(),
        "residuals": spectrum.residuals.tolist(),
        "gap": float(spectrum.gap),
        "n_null": int(spectrum.n_null),
        "n_iter": int(spectrum.n_iter),
        "solver": spectrum.solver,
        "neighbors_by": model.nbrs_.algorithm,
        "cudss": "cuDSS" in spectrum.solver,
    }
    if data.truth is not None and data.truth.shape[1] == case.case.d:
        result["affine_residual"] = affine_residual(model.embedding_, data.truth)
    if case.beside_cpu:
        _warm_up_cpu(fitted, data.X)
        begin = time.perf_counter()
        cpu = fitted(data.X, "cpu")
        result["cpu_seconds"] = time.perf_counter() - begin
        result["sine_to_cpu"] = sine(cpu.embedding_, model.embedding_)
        ours = model.nbrs_.kneighbors(return_distance=False).get()
        theirs = cpu.nbrs_.kneighbors(return_distance=False)
        result["neighbors_differing"] = int((ours != theirs).any(axis=1).sum())
    return result


def _warm_up_cpu(fitted: Callable[..., Any], X: Any) -> None:
    # It may fail where the fit does not: the fit decides.
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        fitted(X[:WARM_UP_POINTS], "cpu")


@contextlib.contextmanager
def _peak_memory() -> Iterator[dict[str, int]]:
    """Bytes that the block takes of the device at most, sampled; and of CuPy's pool.

    Sampling sees what other libraries allocate, and may miss what is held for a moment.
    """
    cp = cupy()
    gc.collect()
    pool = cp.get_default_memory_pool()
    pool.free_all_blocks()
    device, before = cp.cuda.Device().id, cp.cuda.runtime.memGetInfo()[0]
    least, done = before, threading.Event()

    def sample() -> None:
        nonlocal least
        with cp.cuda.Device(device):
            while not done.is_set():
                least = min(least, cp.cuda.runtime.memGetInfo()[0])
                done.wait(SAMPLING_SECONDS)

    thread = threading.Thread(target=sample)
    thread.start()
    found: dict[str, int] = {}
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found["peak_bytes"] = int(before - min(least, cp.cuda.runtime.memGetInfo()[0]))
        found["pool_bytes"] = int(pool.total_bytes())


def main() -> None:
    """Run the task in the first argument."""
    task = json.loads(sys.argv[1])
    folder, most = Path(task["folder"]), task["most"]
    started = (folder / "started").touch
    try:
        if task["name"] == "device":
            started()
            result = describe_device(most)
        else:
            cases = CASES if most is None else shrunk(CASES, most)
            case = next(case for case in cases if case.name == task["name"])
            measure = measure_kernel if isinstance(case, KernelCase) else measure_fit
            result = measure(case, task["repeat"], started)  # type: ignore[arg-type]
    except Exception as error:  # whatever a library raises is the result
        result = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    (folder / "result.json").write_text(json.dumps(_finite(result)))


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


if __name__ == "__main__":
    main()
