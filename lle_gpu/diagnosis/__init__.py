"""What is wrong with an embedding, in plain words: the checks behind ``model.diagnose()``.

A fitted model keeps its points, its neighbours, its certificate and its coordinates. Each check
looks at some of these and gives a :class:`Finding`, or none. Causes come first (the data, the
neighbour graph, the size of the neighbourhoods), then what the solver knows, then what can be seen
in the coordinates. ``docs/diagnosis.md`` has all findings.

How large the neighbourhoods are against the bends and the noise is read from principal components.
With lambda_1 >= lambda_2 >= ... the variances of a point and its j nearest neighbours along their
own principal directions, and q = n_components, ::

    thickness(j) = median over points of lambda_(q+1) / lambda_q,

divided by the same median for points drawn uniformly from a ball of q + 1 dimensions (as few points
as j + 1 look flatter than they are). It is near 0 where neighbourhoods of j points lie on a surface
of dimension q, and near 1 where there is no surface to be seen. It rises with j where the surface
bends, and falls with j where noise makes it thick: that is how the two are told apart. (The same
quotient one direction earlier, lambda_q / lambda_(q-1), says whether there are q directions.)

Everything but the neighbour graph is looked at on a sample of rows, the same each time. The model
is not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sklearn.utils.validation import check_is_fitted

from lle_gpu.diagnosis.data import find_columns, find_duplicates
from lle_gpu.diagnosis.findings import Diagnosis, Finding
from lle_gpu.diagnosis.graph import find_few_constraints, find_mended, find_pieces, find_unheld
from lle_gpu.diagnosis.result import find_coordinates, find_reg, find_spectrum
from lle_gpu.diagnosis.surface import find_short_circuits, find_surface
from lle_gpu.diagnosis.view import View
from lle_gpu.progress import stage

__all__ = ["Diagnosis", "Finding", "diagnose"]


def diagnose(model: Any, X: Any = None) -> Diagnosis:
    """Say what is wrong with a fitted model, with the figures behind it and what to try.

    It costs one search for neighbours and passes over samples of the rows: less than the fit from
    several thousand points on; a few times the fit where points are few and columns many. The model
    is not changed. The result does not depend on chance.

    Parameters
    ----------
    model : LocallyLinearEmbedding
        Fitted; on a GPU, too, or loaded from a file.
    X : array, data frame, tensor or sparse matrix of shape (n_samples, any number), default=None
        Data of the same rows to judge by, such as the features from which those that were fitted
        were computed. None takes the points that the model keeps. A graph that was brought along
        as ``precomputed_knn`` is looked at instead of the nearest neighbours in these; one that was
        given to ``fit`` as ``knn_graph`` is not kept.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError
        If the model is not a LocallyLinearEmbedding of this package.
    NotFittedError
        If it is not fitted.
    ValueError
        If X has another number of rows, or cannot be worked on.

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> from lle_gpu.diagnosis import diagnose
    >>> X, _ = make_swiss_roll(1000, random_state=0)
    >>> print(diagnose(LocallyLinearEmbedding(n_neighbors=10, method="ltsa").fit(X)))
    nothing found
    >>> diagnose(LocallyLinearEmbedding(n_neighbors=40, method="ltsa").fit(X)).names
    ('short-circuit',)
    """
    if not hasattr(type(model), "diagnose"):
        raise TypeError(
            f"model is a {type(model).__name__}: diagnose() takes a fitted "
            "lle_gpu.LocallyLinearEmbedding"
        )
    check_is_fitted(model)
    with stage("diagnosis"):
        view = View(model, X)
        findings = [finding for check in DATA for finding in check(view)]
        if not findings:  # neighbourhoods that the data spoil say nothing about their size
            findings = [finding for check in NEIGHBORHOODS for finding in check(view)]
        findings += [finding for check in RESULT for finding in check(view)]
    # One of each name: the first has the most to say.
    return Diagnosis(
        tuple({finding.name: finding for finding in reversed(findings)}.values())[::-1]
    )


DATA: tuple[Callable[[View], Iterator[Finding]], ...] = (find_duplicates, find_columns)
NEIGHBORHOODS: tuple[Callable[[View], Iterator[Finding]], ...] = (
    find_pieces,
    find_few_constraints,
    find_surface,
    find_short_circuits,
    find_unheld,
)
RESULT: tuple[Callable[[View], Iterator[Finding]], ...] = (
    find_mended,
    find_reg,
    find_spectrum,
    find_coordinates,
)
