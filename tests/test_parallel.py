"""Work on several threads: all of it is done, and none of it is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest

from lle_gpu.parallel import for_each_chunk, in_threads


class Counted:
    """Work that knows how often it has run and is running."""

    def __init__(self, seconds=0.0, fail_at=None):
        self.seconds, self.fail_at = seconds, fail_at
        self.lock, self.running, self.done, self.threads = threading.Lock(), 0, [], set()

    def __call__(self, item):
        with self.lock:
            self.running += 1
            self.threads.add(threading.get_ident())
        try:
            time.sleep(self.seconds)
            if item == self.fail_at:
                raise ValueError(f"item {item}")
        finally:
            with self.lock:
                self.running -= 1
                self.done.append(item)


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 40])
def test_everything_is_done_once(jobs, n):
    work, then, threads = Counted(0.001), [], set()

    def finished(item):
        threads.add(threading.get_ident())
        then.append(item)

    in_threads(work, range(n), jobs, then=finished)
    assert sorted(work.done) == sorted(then) == list(range(n))
    assert threads <= {threading.get_ident()}
    assert len(work.threads) <= min(jobs, max(n, 1))
    if jobs > 1 and n == 40:
        assert len(work.threads) > 1
        assert threading.get_ident() not in work.threads


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_comes_after_all_that_runs_has_ended(jobs):
    work = Counted(0.02, fail_at=4)
    with pytest.raises(ValueError, match="item 4"):
        in_threads(work, range(200), jobs)
    assert work.running == 0
    assert len(work.done) < 30, "no more is begun"
    time.sleep(0.05)
    assert len(work.done) < 30


def test_so_does_one_of_what_is_told():
    work = Counted(0.02)

    def then(item):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_threads(work, range(100), 3, then=then)
    assert work.running == 0
    assert len(work.done) < 20


def test_a_thread_that_cannot_be_had_is_an_error(monkeypatch):
    """And not a wait without end."""
    begun = []

    def start(function, arguments):
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(threading.Thread(target=function, args=arguments))
        begun[0].start()

    monkeypatch.setattr("lle_gpu.parallel._thread.start_new_thread", start)
    work = Counted(0.02)
    with pytest.raises(RuntimeError, match="can't start"):
        in_threads(work, range(100), 3)
    assert work.running == 0
    begun[0].join()


def test_chunks_cover_all_points():
    seen = []
    for_each_chunk(seen.append, 1001, bytes_per_row=8, n_jobs=3, chunk_bytes=800)
    covered = sorted((rows.start, rows.stop) for rows in seen)
    assert covered[0][0] == 0 and covered[-1][1] == 1001
    assert all(a[1] == b[0] for a, b in pairwise(covered))
    assert max(stop - start for start, stop in covered) == 100


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX")
def test_control_c_anywhere():
    """Signals strike between any two steps of starting, handing out, and waiting."""
    script = """
import _thread, random, signal, time
from lle_gpu.parallel import in_threads

signal.signal(signal.SIGALRM, signal.default_int_handler)
running = [0] * 8
interrupted = 0

def work(item):
    running[item] += 1
    time.sleep(1e-5)
    running[item] -= 1

for _ in range(4000):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 8e-4))
        in_threads(work, range(8), 4)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        assert not any(running), running
        interrupted += 1
end = time.monotonic() + 10
while _thread._count() and time.monotonic() < end:
    time.sleep(0.01)
print(interrupted > 100, _thread._count())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "True 0\n"), done.stderr
