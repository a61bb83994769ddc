"""cuML and cuVS without a GPU: the functions that lle_gpu calls, their real signatures and faults.

Calls are held against the signatures of the released packages (``rapids_signatures.json``). What
the real ones do wrong these do, too: float32 and the expanded distance, small squared distances set
to zero, ties in no order, the point itself among its neighbours. Faults that they should not have
can be asked for by name:

    misses          one neighbour of each query is left out
    coarse          distances as if computed in half precision
    repeats         the second candidate comes twice
    out of range    an index beyond the points
    gives up        -1 after the first candidates
    raises          an error in the search
    no handle       another in making the index
    another version what is called is not there
    no pair         the search gives something else than two arrays
    too few         it gives fewer columns than were asked for
    small memory    more than 16 queries at once are too many
    cannot allocate an error of CUDA's in the search, of a class that says nothing
    no room         one in making the index
    broken import   the package is there and cannot be imported
"""

from __future__ import annotations

import importlib.machinery
import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

SIGNATURES = json.loads(Path(__file__).with_name("rapids_signatures.json").read_text())


def signature(package, name):
    """The recorded signature."""
    scope = {}
    exec(f"def function{SIGNATURES[package][name]}: ...", scope)
    return inspect.signature(scope["function"])


def checked(package, name, args, kwargs):
    """The arguments as the real function would see them; a TypeError if it would refuse them."""
    bound = signature(package, name).bind(*args, **kwargs)
    bound.apply_defaults()
    return SimpleNamespace(**bound.arguments)


def install(monkeypatch, cupy, package, *faults):
    """Make ``package`` importable, with these faults; returns the log of calls."""
    calls = []
    source = {"cuml": _cuml, "cuvs": _cuvs}[package]

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == package or name.startswith(package + "."):
                return importlib.machinery.ModuleSpec(name, self, is_package=True)
            return None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            if "broken import" in faults:
                raise OSError(f"lib{package}.so: cannot open shared object file")
            calls.append(f"import {module.__name__}")
            source(module, cupy, faults, calls)

    remove(monkeypatch, package)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    return calls


def remove(monkeypatch, package):
    """Make it as if ``package`` were not installed."""
    take_out(package)

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
            return None

    monkeypatch.setattr(sys, "meta_path", [Blocker(), *sys.meta_path])


def take_out(package):
    """Forget that ``package`` was imported; returns its modules."""
    names = [name for name in sys.modules if name.partition(".")[0] == package]
    return {name: sys.modules.pop(name) for name in names}


def _search(points, queries, count, faults, *, expanded):
    """Squared distances and indices as these libraries find them."""
    if queries.shape[0] > 16 and "small memory" in faults:
        raise MemoryError("std::bad_alloc: out_of_memory")
    if "raises" in faults:
        raise RuntimeError("CUDA error encountered")
    if "cannot allocate" in faults:
        raise RuntimeError("Reason=cudaErrorMemoryAllocation:out of memory")
    assert points.dtype == queries.dtype == np.float32
    if not np.isfinite(queries).all():
        raise ValueError("Input contains NaN or infinity")
    if expanded:
        a, b = (queries**2).sum(axis=1)[:, None], (points**2).sum(axis=1)
        D = np.maximum(a + b - 2 * queries @ points.T, 0)
        D[(a == b) & (D < 1e-3)] = 0
    else:
        D = np.zeros((len(queries), len(points)), np.float32)
        for q, z in zip(queries.T, points.T, strict=True):
            D += (q[:, None] - z) ** 2
    if "coarse" in faults:
        D *= 1 + np.float32(1e-3) * np.sign(np.sin(np.arange(D.size))).reshape(D.shape)
    if "misses" in faults:
        np.put_along_axis(D, np.argsort(D, axis=1)[:, 2:3], np.inf, axis=1)
    last_first = np.argsort(D[:, ::-1], axis=1, kind="stable")  # of equal ones the last comes first
    index = D.shape[1] - 1 - last_first[:, :count]
    distance = np.take_along_axis(D, index, axis=1)
    if "repeats" in faults:
        index[:, 2], distance[:, 2] = index[:, 1], distance[:, 1]
    if "out of range" in faults:
        index[:, 1] = D.shape[1]
    if "gives up" in faults:
        index[:, 3:], distance[:, 3:] = -1, np.inf
    if "too few" in faults:
        distance, index = distance[:, :-1], index[:, :-1]
    return distance.astype(np.float32), index.astype(np.int64)


def _given(distance, index, faults):
    """What a search gives."""
    return distance if "no pair" in faults else (distance, index)


def _cuml(module, cupy, faults, calls):
    if module.__name__ == "cuml":
        # For the whole process, as the real one does.
        cupy.cuda.set_allocator("RMM's")
        output_type = [None]

        class using_output_type:  # noqa: N801
            def __init__(self, *args, **kwargs):
                self._type = checked("cuml", "using_output_type", args, kwargs).output_type

            def __enter__(self):
                self._before, output_type[0] = output_type[0], self._type

            def __exit__(self, *_):
                output_type[0] = self._before

        module.using_output_type = using_output_type
        module.output_type = output_type
        return

    if module.__name__ != "cuml.neighbors":
        raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)

    class NearestNeighbors:
        def __init__(self, *args, **kwargs):
            self._parameters = checked("cuml", "NearestNeighbors", args, kwargs)
            algorithm, metric = self._parameters.algorithm, self._parameters.metric
            assert metric in SIGNATURES["cuml"][f"metrics of {algorithm}"]
            if "no handle" in faults:
                raise RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")

        def fit(self, *args, **kwargs):
            X = checked("cuml", "NearestNeighbors.fit", args, kwargs).X
            assert isinstance(X, cupy.ndarray) and X.flags.c_contiguous
            assert self._parameters.algorithm != "rbc" or X.shape[1] in (2, 3)
            if "no room" in faults:
                raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")
            self._points = X.get().astype(np.float32)
            return self

        def kneighbors(self, *args, **kwargs):
            asked = checked("cuml", "NearestNeighbors.kneighbors", args, kwargs)
            assert asked.X is not None, "cuML drops the first column, which may be another point"
            assert asked.n_neighbors <= len(self._points)
            rbc = self._parameters.algorithm == "rbc"
            assert not rbc or asked.n_neighbors <= len(self._points) ** 0.5
            calls.append((f"cuml {self._parameters.algorithm}", asked.X.shape, asked.n_neighbors))
            distance, index = _search(
                self._points, asked.X.get(), asked.n_neighbors, faults, expanded=not rbc
            )
            if self._parameters.metric == "euclidean":
                distance = np.sqrt(distance)
            if sys.modules["cuml"].output_type[0] not in ("cupy", None):
                return "a data frame", "another"  # whatever the user set
            return _given(cupy.asarray(distance), cupy.asarray(index), faults)

    if "another version" not in faults:
        module.NearestNeighbors = NearestNeighbors


class CuvsException(Exception):  # noqa: N818
    """As the real one, it derives from Exception alone."""


class device_ndarray:  # noqa: N801
    """pylibraft's array: nothing but memory on the device."""

    def __init__(self, array):
        self._array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__


def _cuvs(module, cupy, faults, calls):
    if module.__name__ in ("cuvs", "cuvs.neighbors"):
        return

    def build(*args, **kwargs):
        asked = checked("cuvs", "brute_force.build", args, kwargs)
        assert isinstance(asked.dataset, cupy.ndarray) and asked.dataset.dtype == np.float32
        assert asked.metric == "sqeuclidean"
        if "no room" in faults:
            raise CuvsException("CURAND_STATUS_ALLOCATION_FAILED")
        if "no handle" in faults:
            raise CuvsException("CUBLAS_STATUS_NOT_INITIALIZED")
        return SimpleNamespace(points=asked.dataset)

    def search(*args, **kwargs):
        asked = checked("cuvs", "brute_force.search", args, kwargs)
        assert isinstance(asked.queries, cupy.ndarray) and asked.queries.dtype == np.float32
        assert asked.k <= len(asked.index.points)
        calls.append(("cuvs", asked.queries.shape, asked.k))
        try:
            points = asked.index.points.get()
            found = _search(points, asked.queries.get(), asked.k, faults, expanded=True)
        except (RuntimeError, MemoryError) as error:
            raise CuvsException(str(error)) from None
        if "float64" in faults:
            found = found[0].astype(np.float64), found[1]
        return _given(*(device_ndarray(cupy.asarray(array)) for array in found), faults)

    if "another version" not in faults:
        module.build = build
    module.search = search
