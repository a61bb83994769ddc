"""What a long computation tells its caller while it runs.

The stages report to whichever :class:`Progress` is active in the current context; by default that
is one that does nothing. So no stage takes a progress argument, and a library user pays nothing. ::

    with report_to(StageTimes()) as times:
        locally_linear_embedding(X, n_neighbors=12, n_components=2)
    times.seconds          # {"neighbors": 0.1, "constraints": 0.2, ...}

The parameters ``verbose`` and ``callbacks`` come here, through :func:`watch`.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TextIO

__all__ = [
    "Event",
    "Progress",
    "ProgressBar",
    "StageTimes",
    "advance",
    "note",
    "report_to",
    "stage",
    "watch",
]


class Progress:
    """Receives what the stages report; every method may be overridden, none has to be.

    All calls come from the thread that called ``fit``. Copies of an estimator, such as those that
    :func:`sklearn.base.clone` makes, report to the same object.

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> from lle_gpu.progress import Progress
    >>> class Names(Progress):
    ...     def __init__(self):
    ...         self.names = []
    ...     def start(self, name, total):
    ...         self.names.append(name)
    >>> X, _ = make_swiss_roll(500, random_state=0)
    >>> watcher = Names()
    >>> lle = LocallyLinearEmbedding(n_neighbors=10, callbacks=watcher).fit(X)
    >>> watcher.names
    ['neighbors', 'graph', 'constraints', 'assembly', 'choice', 'factor', 'lanczos', 'certificate']
    """

    def start(self, name: str, total: int | None) -> None:
        """Stage ``name`` begins; it will advance to ``total`` (None: unknown)."""

    def advance(self, steps: int) -> None:
        """The running stage has done ``steps`` more."""

    def note(self, text: str) -> None:
        """A choice that was made, in words."""

    def finish(self, name: str, seconds: float) -> None:
        """Stage ``name`` has ended, after ``seconds`` (also when it raised)."""

    def __deepcopy__(self, memo: Any) -> Self:
        """Itself: who watches is not copied with what is watched."""
        return self


@dataclass(frozen=True)
class Event:
    """What a function among ``callbacks`` is called with.

    Attributes
    ----------
    kind : {"start", "advance", "note", "finish"}
        A stage begins, has done more, made a choice, or has ended (also when it raised).
    stage : str
        Its name, such as "neighbors" or "lanczos"; empty for notes between stages.
    done : int
        Steps of the stage done so far.
    total : int or None
        Steps that it will take; None if that is not known.
    seconds : float
        Since the stage began.
    text : str
        The choice, in words (kind "note"); else empty.

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> def say(event):
    ...     if event.kind == "finish" and event.total is not None:
    ...         print(f"{event.stage}: {event.done} of {event.total}")
    >>> X, _ = make_swiss_roll(500, random_state=0)
    >>> lle = LocallyLinearEmbedding(n_neighbors=10, callbacks=say).fit(X)
    neighbors: 500 of 500
    constraints: 500 of 500
    """

    kind: str
    stage: str
    done: int
    total: int | None
    seconds: float
    text: str


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


class watch:  # noqa: N801  used as a function
    """Report to ``callbacks``, too, inside the ``with`` block, and print if ``verbose``.

    Parameters
    ----------
    verbose : bool or int
        Whether a :class:`ProgressBar` takes the place of whoever is reported to now.
    callbacks : None, callable, Progress, or list or tuple of these
        Functions are called with an :class:`Event`.

    Raises
    ------
    TypeError
        For callbacks that are neither.
    Exception
        At the end of the block, what a callback raised. Nothing inside the block can catch it: it
        is no reason for the computation to try another way.
    """

    def __init__(self, verbose: bool | int, callbacks: Any) -> None:
        listeners: list[Progress] = [_Guarded(listener) for listener in _listeners(callbacks)]
        self._reporting: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if verbose or listeners:
            first = ProgressBar() if verbose else _active.get()
            self._reporting = report_to(_Several([first, *listeners]))

    def __enter__(self) -> None:
        self._reporting.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._reporting.__exit__(None, None, None)
        if isinstance(error, _CallbackFailed):
            # As it was raised, with its own traceback and cause.
            raise error.error from error.error.__cause__


@contextlib.contextmanager
def stage(name: str, total: int | None = None) -> Iterator[None]:
    """Mark a block as one stage of the computation."""
    progress = _active.get()
    begin = time.perf_counter()
    try:
        progress.start(name, total)
        yield
    finally:
        progress.finish(name, time.perf_counter() - begin)


def advance(steps: int = 1) -> None:
    """Report ``steps`` more of the running stage."""
    _active.get().advance(steps)


def note(text: str) -> None:
    """Report a choice that was made."""
    _active.get().note(text)


def _listeners(callbacks: Any) -> list[Progress]:
    """The parameter ``callbacks`` as objects to report to."""
    if callbacks is None:
        return []
    given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
    return [_listener(callback, f"callbacks[{i}]") for i, callback in enumerate(given)]


def _listener(callback: Any, name: str) -> Progress:
    if isinstance(callback, Progress):
        return callback
    if callable(callback) and not isinstance(callback, type):
        return _Calls(callback)
    hint = f": give an object of it, {callback.__name__}()" if isinstance(callback, type) else ""
    raise TypeError(
        f"{name}={callback!r} must be a function, which is called with an Event, or an object of "
        f"lle_gpu.progress.Progress{hint}"
    )


class _Calls(Progress):
    """Calls a function with an event for each report."""

    def __init__(self, function: Callable[[Event], Any]) -> None:
        self._function = function
        self._stage, self._done, self._begin = "", 0, time.perf_counter()
        self._total: int | None = None

    def start(self, name: str, total: int | None) -> None:
        self._stage, self._total, self._done, self._begin = name, total, 0, time.perf_counter()
        self._call("start")

    def advance(self, steps: int) -> None:
        self._done += steps
        self._call("advance")

    def note(self, text: str) -> None:
        self._call("note", text)

    def finish(self, name: str, seconds: float) -> None:
        self._stage = name
        self._call("finish")
        self._stage, self._total, self._done = "", None, 0

    def _call(self, kind: str, text: str = "") -> None:
        seconds = time.perf_counter() - self._begin
        self._function(Event(kind, self._stage, self._done, self._total, seconds, text))


class _CallbackFailed(BaseException):
    """Carries an exception of a callback past all that answers errors of the computation."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Guarded(Progress):
    """Passes reports on to a callback until it raises something, and wraps that."""

    def __init__(self, callback: Progress) -> None:
        self._callback = callback
        self._failed = False

    def start(self, name: str, total: int | None) -> None:
        self._tell(self._callback.start, name, total)

    def advance(self, steps: int) -> None:
        self._tell(self._callback.advance, steps)

    def note(self, text: str) -> None:
        self._tell(self._callback.note, text)

    def finish(self, name: str, seconds: float) -> None:
        self._tell(self._callback.finish, name, seconds)

    def _tell(self, method: Callable[..., None], *report: Any) -> None:
        if self._failed:
            return
        try:
            method(*report)
        except Exception as error:
            self._failed = True
            raise _CallbackFailed(error) from None


class _Several(Progress):
    """Passes reports on to several others, in order."""

    def __init__(self, others: list[Progress]) -> None:
        self._others = others

    def start(self, name: str, total: int | None) -> None:
        for other in self._others:
            other.start(name, total)

    def advance(self, steps: int) -> None:
        for other in self._others:
            other.advance(steps)

    def note(self, text: str) -> None:
        for other in self._others:
            other.note(text)

    def finish(self, name: str, seconds: float) -> None:
        with contextlib.ExitStack() as stack:  # all of them, also if one raises
            for other in reversed(self._others):
                stack.callback(other.finish, name, seconds)


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
    """Prints a line for each stage with its time, and where somebody may watch, what is running.

    A stage that says how long it is, and lasts longer than ``delay`` seconds, gets a bar: in a
    terminal tqdm's, in a notebook tqdm's widget, for which ipywidgets is needed, too (extras
    ``[plot]`` and ``[notebook]``). Without them the running stage's line says how far it is; in a
    notebook that is drawn once a second, since what is written over may be kept.

    Parameters
    ----------
    stream : text file, default=None
        None is standard error. Unpickled bars write to standard error. A process without one (a
        service, ``pythonw``) prints nothing.
    delay : float, default=0.5
    """

    def __init__(self, stream: TextIO | None = None, delay: float = 0.5) -> None:
        super().__init__()
        self._delay = delay
        self._watch(sys.stderr if stream is None else stream)

    def _watch(self, stream: TextIO | None) -> None:
        self._stream = stream
        in_notebook = type(stream).__module__.partition(".")[0] == "ipykernel"
        # What a program puts in the place of standard error may have write() alone.
        self._watched = in_notebook or bool(getattr(stream, "isatty", bool)())
        self._bars = _bars(in_notebook) if self._watched else None
        self._interval = 1.0 if in_notebook else 0.1
        self._bar: Any = None
        self._running = ""
        self._steps = 0
        self._total: int | None = None
        self._drawn = 0.0  # when the running stage's line was last drawn

    def start(self, name: str, total: int | None) -> None:
        """Name the stage, and open a bar if it says how long it is."""
        self._running, self._steps, self._total = name, 0, total
        self._draw_running()
        if total is not None and self._bars is not None:
            self._bar = self._bars(
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
        elif time.perf_counter() > self._drawn + self._interval:
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

    def __getstate__(self) -> dict[str, Any]:
        """What it remembers; a stream and a bar belong to a process."""
        return {"seconds": self.seconds, "notes": self.notes, "_delay": self._delay}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on on this process's standard error."""
        self.__dict__.update(state)
        self._watch(sys.stderr)

    def _draw_running(self) -> None:
        """Name the running stage on the line that the next print overwrites, where it is seen."""
        if self._watched:
            count = ""
            if self._steps and self._bar is None:
                count = f" {self._steps / self._total:.0%}" if self._total else f" {self._steps}"
            self._write(f"\r  {self._running} ...{count}")
            self._drawn = time.perf_counter()

    def _print(self, line: str) -> None:
        """Print a line, over the running stage's name."""
        # Long enough to cover it: a name, dots and a count.
        self._write(f"\r{line:<30}\n" if self._watched else f"{line}\n")

    def _write(self, text: str) -> None:
        """In one piece: other processes, and threads, may write to the same place."""
        if self._stream is not None:
            self._stream.write(text)
            getattr(self._stream, "flush", bool)()


def _bars(in_notebook: bool) -> Any:
    """The class of tqdm's bars, or of its widgets; None if what it needs is not installed."""
    needed = ("tqdm", "ipywidgets", "IPython") if in_notebook else ("tqdm",)
    if any(importlib.util.find_spec(name) is None for name in needed):
        return None
    if in_notebook:
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm
