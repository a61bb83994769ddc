"""Inverses of M = F^T F from factors, on the GPU; see :mod:`lle_gpu.spectral.cpu.shift_invert`.

The factors come from one of two providers:

    cuDSS         :mod:`lle_gpu.spectral.gpu.cudss`, where it is installed: factors on the device
    SuperLU       the CPU's, on the host. Only the blocks that are solved for travel

Which one is made is decided by :func:`analyse`, before anything is factored, and told in the
inverse's description. Where cuDSS fails, SuperLU is tried, and that is told too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lle_gpu.cuda import cupy
from lle_gpu.progress import note
from lle_gpu.spectral.cpu import shift_invert as cpu
from lle_gpu.spectral.cpu.ordering import FillEstimate, choose_elimination
from lle_gpu.spectral.cpu.shift_invert import SQUARE_SHIFT, SYMMETRIC_SHIFT
from lle_gpu.spectral.gpu import cudss
from lle_gpu.spectral.gpu.sparse import Csr, Rows
from lle_gpu.spectral.toolbox import Analysis, Inverse

__all__ = ["HostInverse", "SquareInverse", "SymmetricInverse", "analyse", "inverse"]

Float = NDArray[np.float64]


def analyse(A: Rows | Csr, square: bool) -> Analysis:
    """Plan how a square F, or M, will be factored: by cuDSS if it can be used."""
    if cudss.missing():
        return HostPlan(A)
    try:
        return CudssPlan(A, square)
    except cudss.CudssError as error:
        note(f"SuperLU on the host, since cuDSS failed to plan: {error}")
        return HostPlan(A, f", since cuDSS failed: {error}")


def inverse(A: Rows | Csr, plan: Any, square: bool) -> Inverse:
    """Follow the plan; where cuDSS fails, the host does it."""
    try:
        return plan.inverse(square)
    except cudss.CudssError as error:
        reason = f", since cuDSS failed: {error}"
        note(f"SuperLU on the host{reason}")
        plan.free()
    return HostPlan(A, reason).inverse(square)


class HostPlan:
    """SuperLU's order of elimination, and a copy of the matrix on the host.

    Parameters
    ----------
    A : Rows or Csr
    reason : str
        Why the host does it, for the description; empty if nothing else could.

    Attributes
    ----------
    estimate : FillEstimate
    """

    def __init__(self, A: Rows | Csr, reason: str = "") -> None:
        self._reason = reason
        self._matrix = A.to_host()
        self._elimination = choose_elimination(self._matrix)
        self.estimate = self._elimination.estimate

    def inverse(self, square: bool) -> Inverse:
        """Factor on the host."""
        make = cpu.SquareInverse if square else cpu.SymmetricInverse
        return HostInverse(make(self._matrix, self._elimination), self._reason)


class HostInverse:
    """An inverse of the CPU's, for blocks of CuPy's.

    Attributes
    ----------
    description : str
    """

    def __init__(self, inverse: Any, reason: str = "") -> None:
        self._inverse = inverse
        self.description = f"{inverse.description}, on the host{reason}"

    @property
    def shift(self) -> float:
        """Of an inverse of M."""
        return float(self._inverse.shift)

    def deflate(self, null: Any) -> None:
        """Tell it the null vectors."""
        self._inverse.deflate(null.get())

    def apply(self, X: Any) -> Any:
        """X (n, b) -> M^+ X (n, b), by way of the host."""
        return cupy().asarray(self._inverse.apply(X.get()))

    def null_vectors(self, start: Any) -> Any:
        """Right null vectors of a square F."""
        return cupy().asarray(self._inverse.null_vectors(start.get()))


class CudssPlan:
    """cuDSS's plans for B and B^T, or for M.

    B^T is factored beside B: this cuDSS does not solve with the transpose of what it has factored.

    Attributes
    ----------
    estimate : FillEstimate
        cuDSS tells the memory; nonzeros and arithmetic are concluded from it.
    """

    def __init__(self, A: Rows | Csr, square: bool) -> None:
        if isinstance(A, Rows):
            transposed = A.transposed()
            self._matrices = [transposed.transposed(), transposed]
        else:
            self._matrices = [A]
        kind = "GENERAL" if square else "SPD"
        self._factors: list[cudss.Factors] = []
        try:
            for matrix in self._matrices:
                self._factors.append(cudss.Factors(matrix, kind))
        except cudss.CudssError:
            self.free()
            raise
        held = float(sum(factors.permanent_bytes for factors in self._factors))
        peak = float(sum(factors.peak_bytes for factors in self._factors))
        nonzeros = held / 8 / len(self._factors) * (1 if square else 2)  # of L and U
        n = A.shape[1]
        self.estimate = FillEstimate(nonzeros, peak, 2 * nonzeros**2 / n * len(self._factors))

    def inverse(self, square: bool) -> Inverse:
        """Factor on the device."""
        make = SquareInverse if square else SymmetricInverse
        return make(*self._factors)

    def free(self) -> None:
        """Give the device's memory back."""
        for factors in self._factors:
            factors.free()
        self._factors = []


class SquareInverse:
    """(B^T B)^+ by cuDSS's LU of B and of B^T, for the standard method.

    Attributes
    ----------
    description : str
    """

    def __init__(self, direct: cudss.Factors, transposed: cudss.Factors) -> None:
        self._direct, self._transposed = direct, transposed
        for factors in (direct, transposed):
            factors.factor(SQUARE_SHIFT)
        self.description = f"cuDSS LU of B = I - W and of B^T, {direct.fill:.0f} nonzeros a row"

    def deflate(self, null: Any) -> None:
        """Find the left null vectors that go with ``null``, by inverse iteration."""
        U = null
        for _ in range(3):
            U = cupy().linalg.qr(self._transposed.solve(U))[0]
        self._left = U

    def apply(self, X: Any) -> Any:
        """X -> B^-1 (I - U U^T) B^-T X."""
        Y = self._transposed.solve(X)
        Y -= self._left @ (self._left.T @ Y)
        return self._direct.solve(Y)

    def null_vectors(self, start: Any) -> Any:
        """Right null vectors (n, c) of B, orthonormal, from c start vectors."""
        for _ in range(3):
            start = cupy().linalg.qr(self._direct.solve(start))[0]
        return start


class SymmetricInverse:
    """M^+ by cuDSS's factorisation of M + delta I, for the other methods.

    Attributes
    ----------
    shift : float
        delta.
    description : str
    """

    def __init__(self, factors: cudss.Factors) -> None:
        self._factors = factors
        self.shift = factors.factor(SYMMETRIC_SHIFT)
        self.description = (
            f"cuDSS {factors.kind} factors of M = F^T F, {factors.fill:.0f} nonzeros a row"
        )

    def deflate(self, null: Any) -> None:
        """Nothing to prepare: M's left and right null vectors are the same."""

    def apply(self, X: Any) -> Any:
        """X -> (M + delta I)^-1 X."""
        return self._factors.solve(X)
