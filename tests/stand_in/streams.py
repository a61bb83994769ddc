"""What is known to be done before what: operations on streams, and what waits for them.

The stand-in does everything at once, a device does not: operations on one stream follow one
another, those on two streams do not, unless something waits. So every stream, every event and the
host have a clock: how many of each stream's operations are done when the next of their own begins.
An array's memory knows who wrote it last and who has read it since. An operation on it that may
begin before these are done is an :class:`UnorderedError`.

As CUDA and CuPy have it: the null stream and the blocking ones of a device wait for each other,
non-blocking ones for nobody; the host waits where it synchronizes or copies to itself; memory that
is freed goes back to the stream that it was allocated on, which may use it again at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Accesses", "Clock", "Stream", "Streams", "UnorderedError"]


class Stream(NamedTuple):
    """A stream's name: the null stream of a device has number 0."""

    device: int
    number: int = 0
    blocking: bool = True

    def __str__(self) -> str:
        which = f"stream {self.number}" if self.number else "the null stream"
        return f"{which} of device {self.device}"

    def waits_for(self, other: Stream) -> bool:
        """Whether work on this stream begins after all that the other one was given before."""
        together = self.device == other.device and self.blocking and other.blocking
        return together and 0 in (self.number, other.number)


Clock = dict[Stream, int]


class UnorderedError(BaseException):
    """Memory is used on a stream that has not waited for what another stream does with it.

    No Exception, since nothing may catch it: on a device nothing is raised.
    """


class Accesses:
    """Who has used an array's memory: the operation that wrote it, and those that have read it."""

    def __init__(self, before: Clock) -> None:
        self.written: Clock = {}
        self.read = before


class Streams:
    """The clocks of all streams, and of the host, whose threads are taken for one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._clocks: dict[Stream, Clock] = {}
        self._host: Clock = {}
        self._freed: dict[Stream, Clock] = {}

    def operation(
        self, stream: Stream, reads: Iterable[Accesses], writes: Iterable[Accesses] = ()
    ) -> None:
        """Note one; an error if what it uses may not be ready."""
        with self._lock:
            clock = self._now(stream)
            clock[stream] = clock.get(stream, 0) + 1
            for accesses in reads:
                _check(accesses.written, clock, stream, "read", "written")
                accesses.read[stream] = clock[stream]
            for accesses in writes:
                _check(accesses.written, clock, stream, "written", "written")
                _check(accesses.read, clock, stream, "written", "read, or freed")
                accesses.written, accesses.read = {stream: clock[stream]}, {}

    def at(self, stream: Stream) -> Clock:
        """What is done when all that the stream has been given is."""
        with self._lock:
            return dict(self._now(stream))

    def wait(self, stream: Stream, done: Clock) -> None:
        """The stream's next operation comes after what is done."""
        with self._lock:
            _join(self._now(stream), done)

    def wait_on_host(self, done: Clock) -> None:
        """All operations that begin from now on come after what is done."""
        with self._lock:
            _join(self._host, done)

    def seen(self, done: Clock) -> bool:
        """Whether the host has waited for it."""
        with self._lock:
            return all(self._host.get(stream, 0) >= n for stream, n in done.items())

    def wait_for_device(self, device: int) -> None:
        """The same with everything that the device has been given."""
        with self._lock:
            for stream in [stream for stream in self._clocks if stream.device == device]:
                _join(self._host, self._now(stream))

    def allocated(self, stream: Stream) -> Accesses:
        """New memory: maybe what the stream was given back, with what is still done to that."""
        with self._lock:
            freed = self._freed.pop(stream, {})
            if freed:
                now = self._now(stream)
                freed = {other: n for other, n in freed.items() if now.get(other, 0) < n}
                self._freed[stream] = freed
            return Accesses(dict(freed))

    def free(self, stream: Stream, accesses: Accesses) -> None:
        """Give memory back to the stream that it was allocated on."""
        with self._lock:
            freed = self._freed.setdefault(stream, {})
            _join(freed, accesses.written)
            _join(freed, accesses.read)

    def release(self, device: int) -> None:
        """All streams' unused memory goes back to the driver, which waits for what uses it."""
        with self._lock:
            for stream in [stream for stream in self._freed if stream.device == device]:
                del self._freed[stream]

    def _now(self, stream: Stream) -> Clock:
        """The stream's clock, with what an operation that began now would wait for."""
        clock = self._clocks.setdefault(stream, {})
        _join(clock, self._host)
        for other, theirs in self._clocks.items():
            if other != stream and stream.waits_for(other):
                _join(clock, theirs)
        return clock


def _join(clock: Clock, done: Clock) -> None:
    for stream, n in done.items():
        clock[stream] = max(clock.get(stream, 0), n)


def _check(done: Clock, clock: Clock, stream: Stream, doing: str, was: str) -> None:
    for other, n in done.items():
        if clock.get(other, 0) < n:
            raise UnorderedError(
                f"memory is {doing} on {stream} that was {was} on {other}, with neither an event "
                "nor a synchronization between them"
            )
