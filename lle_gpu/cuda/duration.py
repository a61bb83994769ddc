"""How much of a kernel's work one launch may do.

Windows, and Linux on a device that shows a display, end a kernel that runs for longer than two
seconds or so, and the process can use the device no more. So long work is launched in pieces, each
of about LONGEST seconds at the rate that the device's arithmetic has at best: a kernel may reach a
tenth of that (how much ours do has not been measured). A single row is never cut.

The two seconds are those of Windows (TdrDelay): Microsoft, Timeout detection and recovery registry
keys.
"""

from __future__ import annotations

import functools

from lle_gpu.cuda.probe import cupy

__all__ = ["forget_rates", "multiprocessors", "rows_at_once"]

LONGEST = 0.2
# Of a multiprocessor, in float32: on compute capability 7.5 and 8.0; twice as many on others.
LANES = 64


def multiprocessors() -> int:
    """Of the current device."""
    return _attributes(int(cupy().cuda.runtime.getDevice()))[0]


def rows_at_once(operations: float, *, double: bool) -> int:
    """Rows of one launch on the current device, of so many operations each; at least one.

    Parameters
    ----------
    operations : float
        Of a row, as the device counts them: a fused multiplication and addition is one.
    double : bool
        Whether they are in float64, of which devices for displays do 1 for 32 or 64 in float32.
    """
    multiprocessors, hertz, ratio = _attributes(int(cupy().cuda.runtime.getDevice()))
    rate = multiprocessors * LANES * hertz / (ratio if double else 1)
    return max(1, int(LONGEST * rate / max(1.0, operations)))


@functools.cache
def _attributes(device: int) -> tuple[int, float, int]:
    """Multiprocessors, clock in Hz, and operations in float32 for one in float64."""
    attributes = cupy().cuda.Device(device).attributes
    return (
        int(attributes["MultiProcessorCount"]),
        # For what a driver does not tell, a slow device: pieces are then shorter than need be.
        1e3 * (attributes.get("ClockRate") or 1_000_000),
        int(attributes.get("SingleToDoublePrecisionPerfRatio") or 32),
    )


def forget_rates() -> None:
    """Ask the devices again."""
    _attributes.cache_clear()
