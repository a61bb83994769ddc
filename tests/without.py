"""Run what the package can do as if a module were not installed, for one module after the other.

    python tests/without.py pandas matplotlib cupy

Prints a JSON object: module -> ability -> empty text, or the error. Each module has a process of
its own, forked from this one, which has imported nothing of it. "nothing" hides nothing, and tries
what needs packages that are not there.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback


def hide(module):
    """Hide a module from all finders that there are."""
    assert not [name for name in sys.modules if name.partition(".")[0] == module]

    class Hiding:
        def __init__(self, finder):
            self._finder = finder

        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == module:
                return None
            return self._finder.find_spec(name, path, target)

        def __getattr__(self, name):
            return getattr(self._finder, name)

    sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]


def abilities():
    """Everything, by name."""
    import contextlib
    import importlib
    import io
    import pathlib
    import pickle

    import joblib
    import numpy as np
    from scipy.sparse import csr_array
    from sklearn.base import clone
    from sklearn.datasets import make_swiss_roll

    import lle_gpu
    from lle_gpu import LocallyLinearEmbedding, cli

    X, _ = make_swiss_roll(120, random_state=0)
    fitted = LocallyLinearEmbedding(n_neighbors=12, device="cpu").fit(X)

    def estimator():
        for method in ("standard", "modified", "hessian", "ltsa"):
            model = clone(fitted).set_params(method=method).fit(X)
            model.inverse_transform(model.transform(X[:5] + 0.01))

    def function():
        lle_gpu.locally_linear_embedding(X, n_neighbors=12, n_components=2)

    def sparse():
        clone(fitted).fit(csr_array(X))

    def graph():
        index = fitted.nbrs_.kneighbors(return_distance=False)
        clone(fitted).set_params(precomputed_knn=index).fit(X)

    def keeping():
        fitted.save("model.lle")
        joblib.dump(fitted, "model.joblib")
        for again in (
            lle_gpu.load("model.lle"),
            joblib.load("model.joblib"),
            pickle.loads(pickle.dumps(fitted)),
        ):
            np.testing.assert_array_equal(again.transform(X), fitted.embedding_)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class Cell(io.StringIO):
        pass

    Cell.__module__ = "ipykernel.iostream"

    def verbose():
        for stream in (Terminal, Cell, io.StringIO):
            with contextlib.redirect_stderr(stream()) as shown:
                clone(fitted).set_params(verbose=True).fit(X)
            assert "constraints" in shown.getvalue()

    def callbacks():
        times = lle_gpu.progress.StageTimes()
        clone(fitted).set_params(callbacks=times).fit(X)
        assert "constraints" in times.seconds

    def config():
        assert "optional" in lle_gpu.show_config()

    def patching():
        with lle_gpu.patch_sklearn():
            from sklearn.manifold import LocallyLinearEmbedding as Theirs
        assert Theirs is LocallyLinearEmbedding
        importlib.import_module("lle_gpu.accel")

    def command(*arguments):
        def run():
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                status = cli.main([str(argument) for argument in arguments])
            if status:
                raise ImportError(errors.getvalue())
            assert pathlib.Path(arguments[-1]).stat().st_size

        return run

    def picture():
        from lle_gpu.plot import plot_embedding

        plot_embedding(fitted.embedding_)

    def shaded():
        from lle_gpu.plot import plot_embedding

        plot_embedding(fitted.embedding_, renderer="datashader")

    def output(kind):
        def run():
            model = clone(fitted).set_params(output_type=kind)
            for made in (model.fit_transform(X), model.transform(X)):
                assert type(made).__module__.partition(".")[0] == kind

        return run

    def parameters(**given):
        def run():
            clone(fitted).set_params(**given).fit(X)

        return run

    def layers():
        importlib.import_module("lle_gpu.torch")

    embed = "embed", "swiss-roll", "-n", 120
    return {
        "estimator": estimator,
        "function": function,
        "sparse": sparse,
        "graph": graph,
        "keeping": keeping,
        "verbose": verbose,
        "callbacks": callbacks,
        "config": config,
        "patching": patching,
        "command": command(*embed, "--save", "cli.lle", "-o", "out.csv"),
        "command transform": command("transform", "cli.lle", "out.npy", "-o", "placed.npz"),
        "matplotlib: picture": picture,
        "datashader: picture": shaded,
        "matplotlib: command": command(*embed, "--plot", "picture.png"),
        "pyarrow: command": command(*embed, "-o", "out.parquet"),
        "pandas: output": output("pandas"),
        "polars: output": output("polars"),
        "torch: output": output("torch"),
        "torch: layers": layers,
        "cupy: output": output("cupy"),
        "cudf: output": output("cudf"),
        "cupy: device": parameters(device="gpu"),
        "cupy: search": parameters(neighbors_algorithm="cupy", device="auto"),
        "faiss: search": parameters(neighbors_algorithm="faiss"),
        "pynndescent: search": parameters(neighbors_algorithm="pynndescent"),
    }


# Seconds each, to import or to compile: what a run leaves out that does not hide them.
SLOW = ("torch", "pynndescent", "datashader")
# What scikit-learn imports by itself where it is there.
BROUGHT_ALONG = ("pandas", "pyarrow")


def run(hidden):
    """Try everything that is there, and what is hidden."""
    hide(hidden)
    import importlib.util
    import warnings

    import numpy as np

    warnings.simplefilter("ignore")
    np.save("out.npy", np.random.default_rng(0).normal(size=(9, 3)))
    try:
        todo = abilities()
    except Exception as error:
        return {"import": f"{type(error).__name__}: {error}"}
    result = {}
    for name, do in todo.items():
        needed = name.partition(":")[0] if ":" in name else ""
        if needed and needed != hidden:
            installed = importlib.util.find_spec(needed) is not None
            if needed in SLOW if installed else hidden != "nothing":
                continue
        try:
            do()
        except Exception as error:
            result[name] = f"{type(error).__name__}: {error}"
        else:
            result[name] = ""
    return result


def forked(hidden):
    """The same in a child, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        answer = os.path.join(folder, "answer.json")  # noqa: PTH118  nothing is imported yet
        child = os.fork()
        if child == 0:
            try:
                os.chdir(folder)
                result = run(hidden)
                with open(answer, "w") as file:  # noqa: PTH123
                    json.dump(result, file)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"without {hidden}: status {status}")
        with open(answer) as file:  # noqa: PTH123
            return json.load(file)


def main(modules):
    """Print what becomes of everything without each of the modules."""
    results = {module: forked(module) for module in modules if module in BROUGHT_ALONG}
    import sklearn.neighbors  # noqa: F401  which all of them need, once

    results |= {module: forked(module) for module in modules if module not in BROUGHT_ALONG}
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
