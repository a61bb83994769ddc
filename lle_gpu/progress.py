"""What a long computation tells its caller while it runs.

The stages report to whichever :class:`Progress` is active in the current context; by default that
is one that does nothing. So no stage takes a progress argument, and a library user pays nothing.

    with report_to(StageTimes()) as times:
        locally_linear_embedding(X, n_neighbors=12, n_components=2)
    times.seconds          # {"neighbors": 0.1, "constraints": 0.2, ...}
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib.util
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = [
    "Progress",
    "ProgressBar",
    "StageTimes",
    "advance",
    "note",
    "report_to",
    "report_verbosely",
    "stage",
]


class Progress:
    """Receives what the stages report; every method may be overridden, none has to be."""

    def start(self, name: str, total: int | None) -> None:
        """Stage ``name`` begins; it will advance to ``total`` (None: unknown)."""

    def advance(self, steps: int) -> None:
        """The running stage has done ``steps`` more."""

    def note(self, text: str) -> None:
        """A choice that was made, in words."""

    def finish(self, name: str, seconds: float) -> None:
        """Stage ``name`` has ended, after ``seconds`` (also when it raised)."""


_active: contextvars.ContextVar[Progress] = contextvars.ContextVar(
    "lle_gpu_progress",
    default=Progress(),  # noqa: B039  it has no state
)


@contextlib.contextmanager
def report_to(progress: Progress) -> Iterator[Any]:
    """Send the reports of everything inside the ``with`` block to ``progress``."""
    token = _active.set(progress)
    try:
        yield progress
    finally:
        _active.reset(token)


def report_verbosely(verbose: bool | int) -> contextlib.AbstractContextManager[Any]:
    """Print stages and bars inside the ``with`` block if ``verbose``; else leave all as it is."""
    return report_to(ProgressBar()) if verbose else contextlib.nullcontext()


@contextlib.contextmanager
def stage(name: str, total: int | None = None) -> Iterator[None]:
    """Mark a block as one stage of the computation."""
    progress = _active.get()
    progress.start(name, total)
    begin = time.perf_counter()
    try:
        yield
    finally:
        progress.finish(name, time.perf_counter() - begin)


def advance(steps: int = 1) -> None:
    """Report ``steps`` more of the running stage."""
    _active.get().advance(steps)


def note(text: str) -> None:
    """Report a choice that was made."""
    _active.get().note(text)


class StageTimes(Progress):
    """Remembers how long each stage took, and the notes.

    Attributes
    ----------
    seconds : dict of str to float
        Stage name to wall seconds, summed over repeated stages, in order of first appearance.
    notes : list of str
        The choices made, in order.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep the note."""
        self.notes.append(text)

    def finish(self, name: str, seconds: float) -> None:
        """Add the stage's time."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


class ProgressBar(StageTimes):
    """Prints a line for each stage with its time, and in a terminal what is running.

    A stage that says how long it is, and lasts longer than ``delay`` seconds, gets a bar. The bar
    is tqdm's and needs tqdm (extra ``[plot]``); without it the lines remain.
    """

    def __init__(self, stream: TextIO | None = None, delay: float = 0.5) -> None:
        super().__init__()
        self._stream = sys.stderr if stream is None else stream
        self._watched = self._stream.isatty()
        self._delay = delay
        self._bar: Any = None
        self._running = ""
        self._steps = 0
        self._drawn = 0.0  # when the running stage's line was last drawn

    def start(self, name: str, total: int | None) -> None:
        """Name the stage, and open a bar if it says how long it is."""
        self._running, self._steps = name, 0
        self._draw_running()
        if self._watched and total is not None and importlib.util.find_spec("tqdm") is not None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=f"  {name}",
                total=total,
                delay=self._delay,
                leave=False,
                file=self._stream,
                unit_scale=True,
                dynamic_ncols=True,
            )

    def advance(self, steps: int) -> None:
        """Move the bar, or count."""
        self._steps += steps
        if self._bar is not None:
            self._bar.update(steps)
        elif time.perf_counter() > self._drawn + 0.1:
            self._draw_running()

    def note(self, text: str) -> None:
        """Print the choice."""
        super().note(text)
        self._print(f"    {text}")
        if self._running:
            self._draw_running()

    def finish(self, name: str, seconds: float) -> None:
        """Close the bar and print the stage's time."""
        super().finish(name, seconds)
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._running = ""
        self._print(f"  {name:<13}{seconds:9.3f} s")

    def _draw_running(self) -> None:
        """Name the running stage on the line that the next print overwrites, in a terminal."""
        if self._watched:
            count = f" {self._steps}" if self._steps and self._bar is None else ""
            print(f"\r  {self._running} ...{count}", end="", file=self._stream, flush=True)
            self._drawn = time.perf_counter()

    def _print(self, line: str) -> None:
        """Print a line, over the running stage's name."""
        # Long enough to cover it: a name, dots and a count.
        print(f"\r{line:<30}" if self._watched else line, file=self._stream, flush=True)
