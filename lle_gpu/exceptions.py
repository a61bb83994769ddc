"""Errors and warnings of this package's own."""

from __future__ import annotations

import sys
import warnings

from sklearn.exceptions import InconsistentVersionWarning

__all__ = [
    "DisconnectedGraphError",
    "DisconnectedGraphWarning",
    "GpuFallbackWarning",
    "GpuMemoryError",
    "GpuUnavailableError",
    "MemoryLimitError",
    "ModelFileError",
    "PickleVersionWarning",
    "warn_user",
]


class GpuUnavailableError(RuntimeError):
    """``device="gpu"`` was asked for and cannot be had; the message says what is missing."""


class GpuMemoryError(MemoryError):
    """``device="gpu"`` was asked for, and its memory is too small; the message says what helps."""


class GpuFallbackWarning(RuntimeWarning):
    """``device="auto"`` began on the GPU and went on on the CPU; the message says why."""


class MemoryLimitError(ValueError, MemoryError):
    """``memory_limit`` is less than anything that can be done needs; the message says how much."""


class ModelFileError(ValueError):
    """A file that is to be loaded is damaged, no model, or newer; the message says which."""


class PickleVersionWarning(InconsistentVersionWarning):
    """A model was pickled by another version of lle_gpu or scikit-learn; the message says which.

    Attributes
    ----------
    estimator_name, current_sklearn_version, original_sklearn_version : str
        As scikit-learn's has them; "unknown" for a pickle that does not tell.
    """

    def __init__(
        self,
        message: str,
        *,
        estimator_name: str = "LocallyLinearEmbedding",
        current_sklearn_version: str = "unknown",
        original_sklearn_version: str = "unknown",
    ) -> None:
        super().__init__(
            estimator_name=estimator_name,
            current_sklearn_version=current_sklearn_version,
            original_sklearn_version=original_sklearn_version,
        )
        self.args = (message,)

    def __str__(self) -> str:
        return UserWarning.__str__(self)  # scikit-learn's is about its version alone


class DisconnectedGraphWarning(UserWarning):
    """The neighbour graph has parts that nothing ties to the rest."""


class DisconnectedGraphError(ValueError):
    """The same as an error: ``disconnected="raise"``, or a graph that could not be mended."""


def warn_user(message: str | Warning, category: type[Warning]) -> None:
    """Warn at the line of the caller's own code, however deep in this package the cause is.

    The message may be the warning itself, if that has more to tell; it is of the category then.
    """
    depth = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
        depth += 1
    warnings.warn(message, category, stacklevel=depth + 1)


def _is_ours(module: str) -> bool:
    # scikit-learn's wrappers (validation, set_output, pipelines) stand between, too, and torch's
    # (operators, autograd); and Python's (contexts, cached properties).
    library = module.partition(".")[0]
    return library in ("lle_gpu", "sklearn", "torch", "contextlib", "functools")
