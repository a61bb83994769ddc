"""What a solver hands over, and the certificate: what is known of the vectors in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Solution", "Spectrum"]


class Solution(NamedTuple):
    """What a solver hands over, to be certified.

    Attributes
    ----------
    vectors : array of shape (n, q)
    next_values : ndarray of shape (0 or more,)
        The first singular values left out, ascending.
    failure : str
        What went wrong; empty if nothing did.
    n_iter : int
        Steps, as :class:`Spectrum` counts them.
    description : str
    """

    vectors: NDArray[np.float64]
    next_values: NDArray[np.float64]
    failure: str
    n_iter: int
    description: str


@dataclass(frozen=True)
class Spectrum:
    """What is known about the bottom singular vectors that make an embedding.

    Everything is computed from F at the end, not taken from the iteration's own estimates.

    Attributes
    ----------
    values : ndarray of shape (n_components,), ascending
        The singular values sigma_j of F; sigma_j^2 are the eigenvalues of M = F^T F.
    residuals : ndarray of shape (n_components,)
        ||F^T F v_j - sigma_j^2 v_j|| / ||F||^2.
    gap : float
        (sigma_next - sigma_last) / sigma_next, where sigma_next is the first value left out. Near
        0 the embedding is one choice among many equally good ones; NaN if no value is left.
        Wherever ``converged``, every copy of a multiple value counts, and sigma_next, which is
        measured through F on an approximate vector, is never below the true one and above it by 3
        percent at most, usually by far less.
    n_null : int
        Null vectors of F that are known, the constant included: 1 on a sound graph. One for each
        closed class of the neighbour graph (method "standard"), one for each point in no constraint
        ("hessian", "ltsa"), and those that were found. More can exist where ``gap`` is 0.
    converged : bool
        Whether the vectors are right to the tolerance that was asked for.
    solver : str
        The solver that was used, and why.
    n_iter : int
        Steps: applications of the inverse to a block of vectors for shift-invert, blocks that the
        basis was extended by for davidson, products of M with single vectors for chebyshev, 0 for
        dense.

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> X, _ = make_swiss_roll(1000, random_state=0)
    >>> spectrum = LocallyLinearEmbedding(n_neighbors=12).fit(X).spectrum_
    >>> spectrum.converged, spectrum.n_null
    (True, 1)
    """

    values: NDArray[np.float64]
    residuals: NDArray[np.float64]
    gap: float
    n_null: int
    converged: bool
    solver: str
    n_iter: int

    @property
    def error(self) -> float:
        """Reconstruction error ||F Y||_F^2 = sum of sigma_j^2."""
        return float(np.sum(self.values**2))

    def __str__(self) -> str:
        sigma = ", ".join(f"{s:.3e}" for s in self.values)
        return (
            f"{'converged' if self.converged else 'NOT CONVERGED'} "
            f"(largest residual {self.residuals.max():.1e}, gap {self.gap:.2g}, "
            f"null vectors {self.n_null})\n"
            f"sigma: {sigma}\n"
            f"solver: {self.solver}; {self.n_iter} steps"
        )
