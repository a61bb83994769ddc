"""Who is measured, each called in the way that is best for it.

Each is made from a case and then asked for ``fit`` and perhaps ``transform``; afterwards
``embedding`` is what the last call gave. Imports happen in the constructor, so that a process loads
only the library that it measures.
"""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case

__all__ = ["IMPLEMENTATIONS", "OURS", "Implementation", "missing"]

OURS = "lle_gpu"


class Implementation:
    """What a measurement needs.

    Attributes
    ----------
    module : str
        What has to be importable.
    extra : str
        The project's extra that brings it.
    embedding : ndarray
        Of the fitted points after ``fit``, of the new ones after ``transform``.
    """

    module = ""
    extra = ""
    embedding: NDArray[Any]

    def __init__(self, case: Case) -> None:
        raise NotImplementedError

    def fit(self, X: NDArray[np.float64]) -> None:
        """Embed X."""
        raise NotImplementedError

    def transform(self, X: NDArray[np.float64]) -> None:
        """Place new points."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What the library itself says about its result."""
        return {}


class LleGpu(Implementation):
    """lle_gpu, with its defaults and what the case adds."""

    module = "lle_gpu"

    def __init__(self, case: Case) -> None:
        from lle_gpu import LocallyLinearEmbedding
        from lle_gpu.progress import StageTimes, report_to

        unknown = dict(case.options).keys() - inspect.signature(LocallyLinearEmbedding).parameters
        if unknown:
            raise TypeError(
                f"the case needs {', '.join(sorted(unknown))}, which this version of lle_gpu does "
                "not have"
            )
        self._times, self._report_to = StageTimes, report_to
        self._model = LocallyLinearEmbedding(
            n_neighbors=case.k, n_components=case.d, method=case.method, **dict(case.options)
        )

    def fit(self, X: NDArray[np.float64]) -> None:
        with self._report_to(self._times()) as self._reported:
            self.embedding = self._model.fit(X).embedding_

    def transform(self, X: NDArray[np.float64]) -> None:
        with self._report_to(self._times()) as self._reported:
            self.embedding = self._model.transform(X)

    def facts(self) -> dict[str, Any]:
        spectrum = self._model.spectrum_
        return {
            "reconstruction_error": self._model.reconstruction_error_,
            "eigenvalues": (spectrum.values**2).tolist(),
            "converged": bool(spectrum.converged),
            "largest_residual": float(spectrum.residuals.max()),
            "gap": float(spectrum.gap),
            "n_null": int(spectrum.n_null),
            "n_iter": int(spectrum.n_iter),
            "solver": spectrum.solver,
            "stages": self._reported.seconds,
            "notes": self._reported.notes,
        }


class ScikitLearn(Implementation):
    """scikit-learn, on all cores; its tolerance is its default, 1e-6."""

    module = "sklearn"
    eigen_solver = "arpack"

    def __init__(self, case: Case) -> None:
        from sklearn.manifold import LocallyLinearEmbedding

        self._model = LocallyLinearEmbedding(
            n_neighbors=case.k,
            n_components=case.d,
            method=case.method,
            eigen_solver=self.eigen_solver,
            random_state=0,
            n_jobs=-1,
        )

    def fit(self, X: NDArray[np.float64]) -> None:
        self.embedding = self._model.fit(X).embedding_

    def transform(self, X: NDArray[np.float64]) -> None:
        self.embedding = self._model.transform(X)

    def facts(self) -> dict[str, Any]:
        return {"reconstruction_error": float(self._model.reconstruction_error_)}


class ScikitLearnAuto(ScikitLearn):
    """scikit-learn with its own choice of solver."""

    eigen_solver = "auto"


class Tapkee(Implementation):
    """tapkee, with its fastest exact neighbour search (its default takes ten times as long)."""

    module = "tapkee"
    extra = "bench"
    names = {"standard": "lle", "hessian": "hlle", "ltsa": "ltsa"}  # noqa: RUF012  never changed

    def __init__(self, case: Case) -> None:
        import tapkee

        self._embed = tapkee.embed
        self._parameters = {
            "method": self.names[case.method],
            "num_neighbors": case.k,
            "target_dimension": case.d,
            "neighbors_method": "vptree",
            "eigen_method": "arpack",
            # It would otherwise double k, silently, until the graph is connected.
            "check_connectivity": False,
        }

    def fit(self, X: NDArray[np.float64]) -> None:
        # It takes columns: the transposed view has the layout it wants, and nothing is copied.
        self.embedding = self._embed(X.T, **self._parameters)


IMPLEMENTATIONS: dict[str, type[Implementation]] = {
    OURS: LleGpu,
    "sklearn-arpack": ScikitLearn,
    "sklearn-auto": ScikitLearnAuto,
    "tapkee": Tapkee,
}


def missing(name: str) -> str:
    """How to get an implementation that is not installed; empty if it is."""
    implementation = IMPLEMENTATIONS[name]
    if importlib.util.find_spec(implementation.module) is not None:
        return ""
    extra = f"[{implementation.extra}]" if implementation.extra else ""
    return f"not installed: pip install 'lle-gpu{extra}'"
