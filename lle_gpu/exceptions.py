"""Errors and warnings of this package's own."""

from __future__ import annotations

__all__ = ["DisconnectedGraphWarning", "GpuUnavailableError"]


class GpuUnavailableError(RuntimeError):
    """``device="gpu"`` was asked for and cannot be had; the message says what is missing."""


class DisconnectedGraphWarning(UserWarning):
    """The neighbour graph has parts that nothing ties to the rest."""
