"""A fake of ``cuml.accel`` as of cuML 26.10, after its source; a tool of the tests and no more.

It has the real one's mechanics: modules that stand before scikit-learn's and give other code
proxies (``AccelModule``, the import hook, the wrapping of what is imported already), the proxy's
manners (no subclass of scikit-learn's class; private attributes hidden but for a few), and the
command ``python -m cuml.accel``. What it lacks is cuML: a fit raises what it raises without a GPU;
with ``FAKE_CUML_GPU=1`` in the environment the "GPU" is scikit-learn in float32.
"""

from __future__ import annotations

import abc
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import runpy
import sys
import types

import numpy as np
import sklearn
from sklearn.base import BaseEstimator

# Of the real one's: those that have a class here, and sklearn.manifold.
OVERRIDES = {
    "sklearn.decomposition": ("PCA",),
    "sklearn.manifold": ("SpectralEmbedding", "TSNE"),
    "sklearn.neighbors": ("KNeighborsClassifier", "NearestNeighbors"),
}


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


def excluded(module):
    """scikit-learn itself, but for its tests, and cuML are given scikit-learn's own."""
    parts = module.split(".")
    if parts[0] == "sklearn":
        return len(parts) < 2 or parts[-2] != "tests"
    return parts[0] in ("cuml", "treelite")


class AccelModule(types.ModuleType):
    def __getattr__(self, name):
        if (accelerated := self._accel_overrides.get(name)) is not None:
            frame = sys._getframe().f_back
            while (module := frame.f_globals.get("__name__")) is not None:
                if module.split(".", 1)[0] != "importlib":
                    break
                frame = frame.f_back
            if module is not None and not excluded(module):
                return accelerated
        return getattr(self._accel_module, name)

    def __setattr__(self, name, value):
        if name in ("_accel_module", "_accel_overrides"):
            super().__setattr__(name, value)
        else:
            setattr(self._accel_module, name, value)

    def __dir__(self):
        return dir(self._accel_module)


def wrap(module):
    out = AccelModule(module.__name__, doc=module.__doc__)
    out._accel_module, out._accel_overrides = module, {}
    for field in ("__package__", "__loader__", "__spec__"):
        out.__dict__.pop(field, None)
    return out


def apply(module):
    for name in OVERRIDES[module.__name__]:
        module._accel_overrides[name] = proxy_of(getattr(module._accel_module, name))


class Loader(importlib.abc.Loader):
    def __init__(self, spec):
        self._spec = spec

    def create_module(self, spec):
        return wrap(importlib.util.module_from_spec(self._spec))

    def exec_module(self, module):
        self._spec.loader.exec_module(module._accel_module)
        apply(module)


class Finder(importlib.abc.MetaPathFinder):
    def __init__(self):
        self._importing = set()

    def find_spec(self, fullname, path, target=None):
        if fullname in self._importing or fullname not in OVERRIDES:
            return None
        try:
            self._importing.add(fullname)
            real = importlib.util.find_spec(fullname)
        finally:
            self._importing.discard(fullname)
        spec = importlib.machinery.ModuleSpec(
            fullname, Loader(real), origin=real.origin, is_package=True
        )
        spec.submodule_search_locations = real.submodule_search_locations
        return spec


_installed = False


def install():
    global _installed
    if _installed:
        return
    sys.meta_path.insert(0, Finder())
    for name in OVERRIDES:
        module = sys.modules.get(name)
        if module is None or isinstance(module, AccelModule):
            continue
        accelerated = sys.modules[name] = wrap(module)
        parent_name, _, child = name.rpartition(".")
        if getattr(sys.modules.get(parent_name), child, None) is module:
            setattr(sys.modules[parent_name], child, accelerated)
        apply(accelerated)
    _installed = True


def enabled():
    return _installed


class ProxyMeta(abc.ABCMeta):
    def __new__(cls, name, bases, namespace, **options):
        bases = tuple(
            getattr(base, "_cpu_class", base) if isinstance(base, ProxyMeta) else base
            for base in bases
        )
        return super().__new__(cls, name, bases, namespace, **options)

    def __subclasscheck__(cls, subclass):
        cpu = getattr(cls, "_cpu_class", None)
        return super().__subclasscheck__(subclass) or (
            cpu is not None and issubclass(subclass, cpu)
        )

    def __instancecheck__(cls, instance):
        cpu = getattr(cls, "_cpu_class", None)
        return super().__instancecheck__(instance) or (
            cpu is not None and isinstance(instance, cpu)
        )


class Proxy(BaseEstimator, metaclass=ProxyMeta):
    _other_attributes = frozenset(("_fit_method", "_tree", "_fit_X"))

    def __init__(self, *args, **kwargs):
        self._cpu = self._cpu_class(*args, **kwargs)

    def _call(self, method, *args, **kwargs):
        if os.environ.get("FAKE_CUML_GPU") != "1":
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        args = [np.asarray(a, np.float32) if isinstance(a, np.ndarray) else a for a in args]
        out = getattr(self._cpu, method)(*args, **kwargs)
        return self if out is self._cpu else out

    def __getattr__(self, name):
        public = name.endswith("_") and not name.startswith("_")
        if not public and name not in self._other_attributes and name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._cpu, name)

    def __setattr__(self, name, value):
        if name == "_cpu":
            object.__setattr__(self, name, value)
        else:
            setattr(self._cpu, name, value)

    def get_params(self, deep=True):
        return self._cpu.get_params(deep=deep)

    def set_params(self, **parameters):
        self._cpu.set_params(**parameters)
        return self

    def __sklearn_tags__(self):
        return self._cpu.__sklearn_tags__()

    def __sklearn_is_fitted__(self):
        return hasattr(self._cpu, "n_features_in_")

    def __sklearn_clone__(self):
        out = type(self).__new__(type(self))
        out._cpu = sklearn.clone(self._cpu)
        return out


@functools.cache
def proxy_of(cpu_class):
    @functools.wraps(cpu_class.__init__)
    def init(self, *args, **kwargs):
        Proxy.__init__(self, *args, **kwargs)

    def method_of(name):
        @functools.wraps(getattr(cpu_class, name))
        def method(self, *args, **kwargs):
            return self._call(name, *args, **kwargs)

        return method

    methods = {
        name: method_of(name)
        for name in dir(cpu_class)
        if not name.startswith("_")
        and callable(getattr(cpu_class, name))
        and name not in dir(Proxy)
    }
    proxy = ProxyMeta(cpu_class.__name__, (Proxy,), {"__init__": init, **methods})
    proxy._cpu_class = cpu_class
    proxy.__module__ = cpu_class.__module__.rpartition(".")[0]
    return proxy


def is_proxy(instance_or_class):
    cls = instance_or_class if isinstance(instance_or_class, type) else type(instance_or_class)
    return isinstance(cls, ProxyMeta) and hasattr(cls, "_cpu_class")


def main():
    """``python -m cuml.accel (script | -m module) [arguments ...]``."""
    # One instance of this module only, as the real one's __main__ has it.
    from cuml import accel

    accel.install()
    arguments = sys.argv[1:]
    if arguments[0] == "-m":
        sys.argv[:] = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = arguments
        runpy.run_path(os.path.abspath(arguments[0]), run_name="__main__")  # noqa: PTH100


if __name__ == "__main__":
    main()
