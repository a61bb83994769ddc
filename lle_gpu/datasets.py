"""Data to try things on, by name: real images and manifolds whose true coordinates are known.

    from lle_gpu.datasets import load
    data = load("swiss-roll", n_samples=5000)
    data.X, data.truth        # (5000, 3), and the isometric coordinates (5000, 2)

scikit-learn makes or brings all of them; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DATASETS", "Dataset", "load"]

Float = NDArray[np.float64]
# Points of the made-up manifolds when no number is given.
DEFAULT_SAMPLES = 2000


@dataclass(frozen=True)
class Dataset:
    """Points, and what is known about them.

    Attributes
    ----------
    name : str
    X : ndarray of shape (n, n_features), float64
    labels : ndarray of shape (n,), int64, or None
        A class for each point.
    position : ndarray of shape (n,), float64, or None
        Where each point lies along the manifold, to colour it by.
    images : ndarray of shape (n, height, width), float64, or None
        Grey values in [0, 1].
    truth : ndarray of shape (n, 2), float64, or None
        Isometric coordinates: the manifold laid out flat. A good embedding of it is an affine
        function of these.
    n_neighbors : int
        A number of neighbours that suits it.
    description : str
    """

    name: str
    X: Float
    labels: NDArray[np.int64] | None
    position: Float | None
    images: Float | None
    truth: Float | None
    n_neighbors: int
    description: str


def load(name: str, n_samples: int | None = None, random_state: Any = 0) -> Dataset:
    """Load a built-in data set.

    Parameters
    ----------
    name : {"digits", "swiss-roll", "swiss-hole", "s-curve"}
        - "digits": 1797 handwritten digits of 8 x 8 pixels;
        - "swiss-roll": a rolled-up rectangle in three dimensions;
        - "swiss-hole": the same with a rectangular hole;
        - "s-curve": a rectangle bent to an S.
    n_samples : int, default=None
        Points. None is 2000, and for "digits" all of them; a smaller number draws that many
        digits without replacement.
    random_state : int, RandomState instance or None, default=0
        Of the points that are made up or drawn.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        For an unknown name, or an ``n_samples`` that is not positive or more than there are.

    Examples
    --------
    >>> from lle_gpu.datasets import load
    >>> load("digits").X.shape
    (1797, 64)
    >>> load("swiss-roll", n_samples=500).truth.shape
    (500, 2)
    """
    if name not in DATASETS:
        raise ValueError(
            f"name={name!r} is not a built-in data set: use one of {', '.join(DATASETS)}"
        )
    if n_samples is not None and n_samples < 1:
        raise ValueError(f"n_samples={n_samples} must be at least 1 (or None for the default)")
    return DATASETS[name](n_samples, random_state)


def _digits(n_samples: int | None, random_state: Any) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.utils import check_random_state

    X, labels = load_digits(return_X_y=True)
    if n_samples is not None:
        if n_samples > len(X):
            raise ValueError(f"n_samples={n_samples}: the digits are {len(X)}, use at most that")
        rows = np.sort(check_random_state(random_state).permutation(len(X))[:n_samples])
        X, labels = X[rows], labels[rows]
    return Dataset(
        name="digits",
        X=X,
        labels=labels.astype(np.int64),
        position=None,
        images=X.reshape(-1, 8, 8) / 16.0,
        truth=None,
        n_neighbors=30,
        description="handwritten digits, 8 x 8 pixels",
    )


def _swiss_roll(n_samples: int | None, random_state: Any, *, hole: bool = False) -> Dataset:
    from sklearn.datasets import make_swiss_roll

    X, t = make_swiss_roll(n_samples or DEFAULT_SAMPLES, random_state=random_state, hole=hole)
    # The roll is (t cos t, height, t sin t): its speed is sqrt(1 + t^2), whose integral this is.
    arc = 0.5 * (t * np.sqrt(1 + t * t) + np.arcsinh(t))
    return Dataset(
        name="swiss-hole" if hole else "swiss-roll",
        X=X,
        labels=None,
        position=t,
        images=None,
        truth=np.column_stack([arc, X[:, 1]]),
        n_neighbors=12,
        description="a rolled-up rectangle" + (" with a hole" if hole else ""),
    )


def _swiss_hole(n_samples: int | None, random_state: Any) -> Dataset:
    return _swiss_roll(n_samples, random_state, hole=True)


def _s_curve(n_samples: int | None, random_state: Any) -> Dataset:
    from sklearn.datasets import make_s_curve

    X, t = make_s_curve(n_samples or DEFAULT_SAMPLES, random_state=random_state)
    return Dataset(
        name="s-curve",
        X=X,
        labels=None,
        position=t,
        images=None,
        truth=np.column_stack([t, X[:, 1]]),  # two unit circles: t is the arc length itself
        n_neighbors=12,
        description="a rectangle bent to an S",
    )


DATASETS: dict[str, Callable[[int | None, Any], Dataset]] = {
    "digits": _digits,
    "swiss-roll": _swiss_roll,
    "swiss-hole": _swiss_hole,
    "s-curve": _s_curve,
}
