"""Data to try things on, by name: real images and manifolds whose true coordinates are known::

    from lle_gpu.datasets import load
    data = load("swiss-roll", n_samples=5000)
    data.X, data.truth        # (5000, 3), and the isometric coordinates (5000, 2)

scikit-learn brings or makes them, but for the branching trajectory, which is made here; nothing is
downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DATASETS", "Dataset", "load", "make_branching_trajectory"]

Float = NDArray[np.float64]
# Points of the made-up manifolds when no number is given.
DEFAULT_SAMPLES = 2000
# A quarter of a circle of this radius has length 1.
QUARTER_RADIUS = 2 / np.pi


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
        Where each point lies along the manifold, to colour it by; of a trajectory the pseudotime.
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
    name : {"digits", "swiss-roll", "swiss-hole", "s-curve", "branching"}
        - "digits": 1797 handwritten digits of 8 x 8 pixels;
        - "swiss-roll": a rolled-up rectangle in three dimensions;
        - "swiss-hole": the same with a rectangular hole;
        - "s-curve": a rectangle bent to an S;
        - "branching": a tree of thick curves in 50 dimensions, :func:`make_branching_trajectory`.
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
        For an unknown name, or an ``n_samples`` that is no positive integer or more than there are.

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
    if n_samples is not None:
        _check_count("n_samples", n_samples)
    return DATASETS[name](n_samples, random_state)


def make_branching_trajectory(
    n_samples: int = DEFAULT_SAMPLES,
    n_features: int = 50,
    n_branches: int = 7,
    *,
    thickness: float = 0.05,
    noise: float = 0.002,
    random_state: Any = 0,
) -> Dataset:
    """Make points along a tree of smooth curves, as cells lie along their differentiation.

    Branch 0 begins at the origin, and branch b where branch (b - 1) // 2 ends: a binary tree. Each
    is a quarter of a circle of length 1 that leaves in the direction in which its parent arrived
    and turns into a direction of its own, at right angles to all others; so the curves are smooth
    through the forks, and branches part slowly. Around the curves the points fill a tube, whose
    section is a disc, and have noise in all features.

    Parameters
    ----------
    n_samples : int, default=2000
        Points, spread evenly over the length of the tree.
    n_features : int, default=50
        At least ``n_branches + 3``.
    n_branches : int, default=7
        The default is a fork of forks: a stem, two branches, four leaves.
    thickness : float, default=0.05
        Radius of the tube.
    noise : float, default=0.002
        Standard deviation of the noise in each feature. From about ``thickness / sqrt(n_features)``
        on it is the noise that decides who is whose neighbour.
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    Dataset
        ``labels`` is the branch, ``position`` the pseudotime: the distance from the root along the
        tree.

    Raises
    ------
    ValueError
        For a parameter out of range.

    Examples
    --------
    >>> from lle_gpu.datasets import make_branching_trajectory
    >>> cells = make_branching_trajectory(500, n_features=20, n_branches=3)
    >>> cells.X.shape
    (500, 20)
    >>> sorted(set(cells.labels.tolist()))
    [0, 1, 2]
    """
    from sklearn.utils import check_random_state

    for name, count in (
        ("n_samples", n_samples), ("n_features", n_features), ("n_branches", n_branches)
    ):  # fmt: skip
        _check_count(name, count)
    for name, width in (("thickness", thickness), ("noise", noise)):
        if not 0 <= width < np.inf:
            raise ValueError(f"{name}={width} must be finite and not negative")
    if n_features < n_branches + 3:
        raise ValueError(
            f"n_features={n_features} must be at least n_branches + 3 = {n_branches + 3}: each "
            "branch has a direction of its own, the root one and the tube two"
        )
    rng = check_random_state(random_state)
    axes = np.linalg.qr(rng.standard_normal((n_features, n_branches + 3)))[0].T
    parent = (np.arange(n_branches) - 1) // 2  # of the root: -1
    arrives, leaves = axes[1 : n_branches + 1], axes[parent + 1]
    origin, depth = np.zeros((n_branches, n_features)), np.zeros(n_branches)
    for b in range(1, n_branches):
        before = parent[b]
        origin[b] = origin[before] + QUARTER_RADIUS * (leaves[before] + arrives[before])
        depth[b] = depth[before] + 1

    branch = rng.randint(n_branches, size=n_samples).astype(np.int64)
    along = rng.uniform(size=n_samples)
    angle = np.pi / 2 * along[:, None]
    X = origin[branch]
    X += QUARTER_RADIUS * np.sin(angle) * leaves[branch]
    X += QUARTER_RADIUS * (1 - np.cos(angle)) * arrives[branch]
    radius = thickness * np.sqrt(rng.uniform(size=n_samples))  # evenly over the disc
    turn = 2 * np.pi * rng.uniform(size=n_samples)
    X += np.column_stack([radius * np.cos(turn), radius * np.sin(turn)]) @ axes[-2:]
    X += noise * rng.standard_normal(X.shape)
    return Dataset(
        name="branching",
        X=X,
        labels=branch,
        position=depth[branch] + along,
        images=None,
        truth=None,
        n_neighbors=20,
        description=f"a tree of {n_branches} thick curves in {n_features} dimensions",
    )


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r} must be an integer, at least 1")


def _branching(n_samples: int | None, random_state: Any) -> Dataset:
    return make_branching_trajectory(n_samples or DEFAULT_SAMPLES, random_state=random_state)


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
    "branching": _branching,
}
