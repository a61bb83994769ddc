"""Which solver: by predicted time, within the memory there is.

- dense: a few hundred points, or so many components that nothing sparse would help;
- shift-invert: one factorisation, then a few solves. Its cost is that of the fill;
- Davidson's method: products with a square F = B, preconditioned by a polynomial in B. What it
  takes, nothing tells but trying;
- Chebyshev filter: many products with F and F^T, no factorisation. Its cost is that of the gap.

Shift-invert is looked at first, since its prediction costs little. Where that is dear and
Davidson's method might take far less, it is tried, and given up when it will not do in that time.
Only then is the filter's cost predicted too, by a short run of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lle_gpu.memory import (
    DENSE_MAX_POINTS,
    dense_bytes,
    is_dense,
    readable,
    too_small,
)

__all__ = ["Cost", "Plan", "choose"]

# A predicted factorisation of so few seconds is not compared with anything.
CHEAP_SECONDS = 2.0
# Davidson's method is tried where the least it may take is so much less than a factorisation: it
# takes up to three times that, and factors are often predicted to take twice what they do.
FAR_LESS = 1 / 6
# And where the factorisation takes more than this part of what is cheap: to see that there is no
# polynomial takes less than that.
WORTH_TRYING = 1 / 8
OTHER = {"shift-invert": "chebyshev", "chebyshev": "shift-invert"}


@dataclass(frozen=True)
class Cost:
    """What a solver is predicted to take.

    Attributes
    ----------
    seconds : float
        A comparison between solvers, not a promise; infinite if there is not even room to look.
    bytes : float
        Held at once, what is held already included.
    words : str
        What the prediction rests on.
    held : float
        Of these bytes, those that are held already.
    free : float
        Bytes that are free beside those, where the others would be.
    """

    seconds: float
    bytes: float
    words: str
    held: float = 0.0
    free: float = float("inf")

    def fits(self, memory_limit: int | None) -> bool:
        """Whether there is room: a limit is for all bytes, and what is free for those to come."""
        if memory_limit is not None:
            return self.bytes <= memory_limit
        return self.bytes - self.held <= self.free

    def size(self, memory_limit: int | None) -> str:
        """Of the bytes, in words, what the room is compared with."""
        if memory_limit is not None:
            return readable(self.bytes)
        return f"another {readable(max(0, self.bytes - self.held))}"

    def room(self, memory_limit: int | None) -> str:
        """Where that does not fit, in words."""
        if memory_limit is not None:
            return f"more than the {readable(memory_limit)} that are allowed"
        return f"more than the {readable(self.free)} that are free"


@dataclass(frozen=True)
class Plan:
    """The solver to use, why, and the one to go over to if it fails ("" for none).

    ``worth`` are the seconds that the solver may take, before another one should be chosen.
    """

    solver: str
    reason: str
    other: str = ""
    worth: float = float("inf")


def choose(
    solver: str,
    n: int,
    q: int,
    *,
    memory_limit: int | None,
    shift_invert: Callable[[], Cost],
    chebyshev: Callable[[float], Cost],
    davidson: Callable[[], Cost] | None = None,
    cheap: float = CHEAP_SECONDS,
    held: int = 0,
    standard: bool = False,
) -> Plan:
    """Choose a solver for ``q`` vectors of ``n`` points.

    Parameters
    ----------
    solver : {"auto", "dense", "shift-invert", "arpack", "davidson", "chebyshev"}
    n, q : int
    memory_limit : int or None
        None is what the machine has free, and only guides the choice.
    shift_invert, chebyshev : callable
        Predict the solver's cost; called only where the answer matters. ``chebyshev`` is given the
        seconds that it has to beat; for 0 only the memory is asked for.
    davidson : callable, optional
        Predicts the least cost of Davidson's method; infinite seconds where it does not apply.
        Without it "auto" does not try it.
    cheap : float
        A predicted factorisation of so few seconds is not compared with anything.
    held : int
        Bytes that are held already, for the dense solver.
    standard : bool
        Whether the method is the one that needs least memory.

    Raises
    ------
    MemoryLimitError
        If ``memory_limit`` is too small for the solver asked for, or for every one.
    """
    solver = {"arpack": "shift-invert"}.get(solver, solver)
    if solver == "dense" or is_dense(n, q):
        return _dense(solver, n, q, memory_limit, held, standard)
    if solver == "auto":
        return _cheaper(memory_limit, shift_invert, chebyshev, davidson, cheap, standard)
    if memory_limit is not None:
        if solver == "davidson" and davidson is not None:
            cost = davidson()
        else:
            cost = shift_invert() if solver == "shift-invert" else chebyshev(0.0)
        if cost.bytes > memory_limit:
            hint = f" for eigen_solver={solver!r} ({cost.words})"
            raise too_small(memory_limit, int(cost.bytes), hint, standard=standard)
    return Plan(solver, "as asked for")


def _dense(
    solver: str, n: int, q: int, memory_limit: int | None, held: int, standard: bool
) -> Plan:
    needed = held + dense_bytes(n, q)
    if memory_limit is not None and needed > memory_limit:
        hint = f" for the dense solver with n={n}"
        raise too_small(memory_limit, needed, hint, standard=standard)
    if solver == "dense":
        return Plan("dense", "as asked for")
    if n <= DENSE_MAX_POINTS:
        return Plan("dense", f"n={n} is at most {DENSE_MAX_POINTS}")
    return Plan("dense", f"n_components + 1 = {q + 1} is a third of n={n} or more")


def _cheaper(
    memory_limit: int | None,
    shift_invert: Callable[[], Cost],
    chebyshev: Callable[[float], Cost],
    davidson: Callable[[], Cost] | None,
    cheap: float,
    standard: bool,
) -> Plan:
    """The faster one of those that fit."""

    def too_much(cost: Cost) -> str:
        return f"would need {cost.size(memory_limit)}, {cost.room(memory_limit)}"

    direct = shift_invert()
    fits = direct.fits(memory_limit)
    dear = direct.seconds > WORTH_TRYING * cheap or not fits
    if dear and davidson is not None:
        tried = davidson()
        if tried.seconds < FAR_LESS * direct.seconds and tried.fits(memory_limit):
            against = f"about {direct.seconds:.2g} s and {direct.size(memory_limit)}"
            if direct.seconds == float("inf"):
                against = direct.room(memory_limit)
            reason = f"{direct.words} would need {against}"
            return Plan("davidson", reason, worth=direct.seconds)
    if not fits:
        filtered = chebyshev(0.0)
        if memory_limit is not None and filtered.bytes > memory_limit:
            # What the factors take is not known if there was no room to look.
            known = direct.bytes if direct.seconds < float("inf") else float("inf")
            raise too_small(memory_limit, int(min(known, filtered.bytes)), standard=standard)
        return Plan("chebyshev", f"{direct.words} {too_much(direct)}")
    if direct.seconds <= cheap:
        return Plan("shift-invert", direct.words, "chebyshev")
    filtered = chebyshev(direct.seconds)
    if not filtered.fits(memory_limit):
        reason = f"{direct.words}; a Chebyshev filter {too_much(filtered)}"
        return Plan("shift-invert", reason)
    slower = f"about {filtered.seconds:.2g} s" if filtered.seconds < float("inf") else "far more"
    compared = f"{direct.words}, about {direct.seconds:.2g} s; {filtered.words}, {slower}"
    winner = "chebyshev" if filtered.seconds < direct.seconds else "shift-invert"
    return Plan(winner, compared, OTHER[winner])
