"""scikit-learn's names for this package's things, so that scripts written for it run unchanged.

Only attributes of scikit-learn's modules are patched: code that asks for
``sklearn.manifold.LocallyLinearEmbedding`` afterwards gets ours, and code that has scikit-learn's
already keeps it. It is one setting for the whole process.
"""

from __future__ import annotations

import copyreg
import importlib
import sys
import threading
from types import ModuleType
from typing import Any, Self

from lle_gpu.exceptions import warn_user

__all__ = ["DIFFERENCES", "Patch", "explain", "is_patched", "patch_sklearn", "unpatch_sklearn"]

NAMES = ("LocallyLinearEmbedding", "locally_linear_embedding")
# Where scikit-learn makes them, and where it shows them.
HOMES = ("sklearn.manifold._locally_linear", "sklearn.manifold")

# What a script written for scikit-learn may notice.
DIFFERENCES = (
    (
        'method="hessian"',
        "is the Hessian estimator of the paper. scikit-learn computes LTSA under that name.",
    ),
    ('method="modified"', "takes reg as given. scikit-learn always takes 1e-3."),
    (
        'eigen_solver="auto"',
        "chooses by predicted time and memory. The vectors span the same space as scikit-learn's; "
        "signs are fixed (the largest entry of a column is positive).",
    ),
    (
        "n_neighbors",
        "never counts the point itself, also among equal points. Too small a number for the "
        "method is an error that names the least.",
    ),
    ("random_state=None", "is a fixed start: the same input gives the same bits."),
    ("n_jobs=None", "is all cores. scikit-learn's is one."),
    ("sparse X", "is embedded. scikit-learn refuses it."),
    ("float32", "in, float32 out. scikit-learn gives float64."),
    ("transform", "of training points gives embedding_ exactly. scikit-learn's is near it."),
    (
        "nbrs_",
        "is lle_gpu's NeighborSearch. It has kneighbors, and nothing else of scikit-learn's "
        "NearestNeighbors.",
    ),
    (
        "warnings",
        "DisconnectedGraphWarning for a graph in pieces, ConvergenceWarning for vectors that are "
        "not known to be right. scikit-learn says nothing.",
    ),
    (
        "get_params",
        "has parameters that scikit-learn does not know (device, metric, disconnected, ...). "
        "Their defaults change nothing, but that a GPU is used where there is one.",
    ),
)

# One setting for the process. _theirs has scikit-learn's own things by name (empty: never
# patched); _holds counts who wants the patch, since the last time that all was taken back (_turn).
_lock = threading.RLock()
_theirs: dict[str, Any] = {}
_holds = 0
_turn = 0
_said = False


class Patch:
    """What :func:`patch_sklearn` returns. In a ``with`` statement it takes itself back at the end.

    The names are scikit-learn's again when the last block ends, in whatever thread, unless
    :func:`patch_sklearn` was called outside a ``with`` statement, too.
    """

    def __init__(self) -> None:
        self._turn = _hold()

    def __enter__(self) -> Self:
        if self._turn != _turn:  # taken back meanwhile
            self._turn = _hold()
        return self

    def __exit__(self, *_: object) -> None:
        _release(self._turn)
        self._turn = -1

    def __repr__(self) -> str:
        whose = "lle_gpu's" if is_patched() else "scikit-learn's own"
        return f"<patch_sklearn(): sklearn.manifold.{NAMES[0]} is {whose}>"


def patch_sklearn(*, verbose: bool = False) -> Patch:
    """Let scikit-learn's names for locally linear embedding mean this package's.

    Afterwards ``LocallyLinearEmbedding`` and ``locally_linear_embedding`` of ``sklearn.manifold``,
    and of whatever module of scikit-learn's has them, are those of ``lle_gpu``. Calling it again
    changes nothing; :func:`unpatch_sklearn` takes it back; in a ``with`` statement it ends with the
    block. It holds for the whole process, all its threads and what it forks, not for processes that
    start afresh (``multiprocessing`` by spawn or forkserver, joblib's workers, Dask's): estimators
    sent there are ours all the same, and give what they would give here, but what these processes
    import from scikit-learn is scikit-learn's until they call this function themselves.

    Models that scikit-learn has made stay what they are, and so do those that are read from its
    pickles while the patch holds, if they are fitted. Ours are pickled under their own name, and
    can be read wherever lle_gpu is installed, patched or not.

    Parameters
    ----------
    verbose : bool, default=False
        Print :func:`explain` to standard error; once in a process.

    Returns
    -------
    Patch
        A context manager, for a ``with`` statement.

    Warns
    -----
    UserWarning
        If a module had scikit-learn's own already, by ``from sklearn.manifold import ...``: it
        keeps it. The message names the modules.

    See Also
    --------
    lle_gpu.accel : Patches before a script, a module or a notebook begins.

    Examples
    --------
    >>> import lle_gpu
    >>> with lle_gpu.patch_sklearn():
    ...     from sklearn.manifold import LocallyLinearEmbedding
    >>> LocallyLinearEmbedding is lle_gpu.LocallyLinearEmbedding
    True
    >>> from sklearn.manifold import LocallyLinearEmbedding
    >>> LocallyLinearEmbedding is lle_gpu.LocallyLinearEmbedding
    False
    """
    global _said
    patch = Patch()
    if verbose and not _said:
        _said = True
        print(explain(), file=sys.stderr)
    return patch


def unpatch_sklearn() -> None:
    """Give scikit-learn its own names back, whoever patched them; does nothing if nobody did.

    Modules that imported a name meanwhile keep ours, as they would keep anything.

    Examples
    --------
    >>> import lle_gpu
    >>> patch = lle_gpu.patch_sklearn()
    >>> lle_gpu.unpatch_sklearn()
    >>> import sklearn.manifold
    >>> sklearn.manifold.LocallyLinearEmbedding.__module__
    'sklearn.manifold._locally_linear'
    """
    with _lock:
        _take_back()


def is_patched() -> bool:
    """Whether scikit-learn's names mean ours now."""
    return _holds > 0


def explain() -> str:
    """What differs from scikit-learn for the same parameters, as text.

    Examples
    --------
    >>> from lle_gpu.patching import explain
    >>> print(explain())  # doctest: +ELLIPSIS
    sklearn.manifold.LocallyLinearEmbedding is lle_gpu's. What differs, parameters being equal:
      method="hessian"      is the Hessian estimator of the paper. ...
    """
    import textwrap

    lines = [f"sklearn.manifold.{NAMES[0]} is lle_gpu's. What differs, parameters being equal:"]
    for subject, text in DIFFERENCES:
        first = f"  {subject:<20}  "
        lines.append(
            textwrap.fill(text, 96, initial_indent=first, subsequent_indent=" " * len(first))
        )
    return "\n".join(lines)


def read_theirs(model: Any, state: dict[str, Any]) -> None:
    """Restore a model from a pickle of scikit-learn's that was read as one of ours.

    Pickles name a class by its module, and while that is patched they get ours. A fitted model
    becomes scikit-learn's again: its numbers are. One that is not fitted is taken over, as it would
    be if it were made now.
    """
    if "embedding_" in state:
        model.__class__ = _their_class()
        model.__setstate__(state)
    else:
        type(model).__init__(model)
        own = {name: value for name, value in state.items() if name != "_sklearn_version"}
        model.__dict__.update(own)


def _hold() -> int:
    """Patch, for one more; the turn in which that counts."""
    global _holds
    for home in HOMES:  # before the lock: an import has locks of its own
        importlib.import_module(home)
    with _lock:
        _apply()
        _holds += 1
        return _turn


def _release(turn: int) -> None:
    """One less wants the patch of this turn."""
    global _holds
    with _lock:
        if turn == _turn:
            _holds -= 1
            if _holds == 0:
                _take_back()


def _apply() -> None:
    ours = _ours()
    home, shown = (sys.modules[name] for name in HOMES)
    for name in NAMES:
        if (current := getattr(home, name)) is not ours[name]:
            _theirs[name] = current
    # Before anything changes: a warning may be raised as an error.
    if hidden := [n for n in NAMES if getattr(shown, n) not in (_theirs[n], ours[n])]:
        warn_user(
            f"{HOMES[1]} gives {' and '.join(hidden)} of neither scikit-learn nor lle_gpu: "
            "something else has patched it, and goes first. Import from lle_gpu instead.",
            UserWarning,
        )
    if early := _who_has(_theirs.values()):
        warn_user(
            f"scikit-learn's {NAMES[0]} or {NAMES[1]} was imported before it was patched by "
            f"{', '.join(early)}, and stays scikit-learn's there. Patch first, or import it again "
            "there (in a notebook: run the cell with the import once more).",
            UserWarning,
        )
    _replace(_theirs, ours)
    # The class can no longer be found by its name: without this its models could not be pickled.
    copyreg.pickle(_theirs[NAMES[0]], _reduce_theirs)


def _take_back() -> None:
    global _holds, _turn
    _holds = 0
    _turn += 1
    if _theirs:
        _replace(_ours(), _theirs)
        copyreg.dispatch_table.pop(_theirs[NAMES[0]], None)


def _replace(old: dict[str, Any], new: dict[str, Any]) -> None:
    """In every module of scikit-learn's that has one of the names; also one imported since."""
    # By getattr and setattr, not by the module's dictionary: cuml.accel puts modules of its own
    # before scikit-learn's, and passes these two on.
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == "sklearn":
            for name in NAMES:
                if getattr(module, name, None) is old[name]:
                    setattr(module, name, new[name])


def _who_has(things: Any) -> list[str]:
    """Names of the modules beside scikit-learn's that have one of the things, by any name."""
    wanted = {id(thing) for thing in things}
    return [
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] != "sklearn"
        and isinstance(module, ModuleType)
        # Past __getattribute__, which imports a lazy module.
        and any(
            id(value) in wanted
            for value in list(object.__getattribute__(module, "__dict__").values())
        )
    ]


def _ours() -> dict[str, Any]:
    from lle_gpu.estimator import LocallyLinearEmbedding
    from lle_gpu.functional import locally_linear_embedding

    return dict(zip(NAMES, (LocallyLinearEmbedding, locally_linear_embedding), strict=True))


def _their_class() -> Any:
    """scikit-learn's own LocallyLinearEmbedding, patched or not."""
    with _lock:
        if is_patched():
            return _theirs[NAMES[0]]
        return getattr(importlib.import_module(HOMES[0]), NAMES[0])


def _reduce_theirs(model: Any) -> tuple[Any, ...]:
    return _new_theirs, (), model.__getstate__()


def _new_theirs() -> Any:
    theirs = _their_class()
    return theirs.__new__(theirs)
