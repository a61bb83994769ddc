"""Runs, each in a process of its own, those that are compared in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.cases import Case
from benchmarks.summary import Run

__all__ = ["in_process", "run", "take_turns"]


def take_turns(
    entrants: dict[str, tuple[Case, str]], out: dict[str, Run], repeat: int, timeout: float
) -> tuple[dict[str, list[Run]], dict[str, Any]]:
    """All runs of a case, the entrants in turn, so that drift of the machine hits all.

    Parameters
    ----------
    entrants : dict of str to (Case, str)
        For each name the case and the implementation to measure.
    out : dict of str to dict
        For those that do not take part, the run that says why.
    repeat : int
    timeout : float
        Seconds for each process.

    Returns
    -------
    runs : dict of str to list of dict
    embeddings : dict of str to ndarray
        What the first runs gave, where they gave something.
    """
    runs = {name: [out[name]] if name in out else [] for name in entrants}
    embeddings: dict[str, Any] = {}
    for repetition in range(repeat):
        for name, (case, implementation) in entrants.items():
            # One failure or timeout says it: the same again would only take time.
            if any(done["status"] != "ok" for done in runs[name]):
                continue
            done, embedding = run(case, implementation, timeout)
            runs[name].append(done)
            if repetition == 0 and embedding is not None:
                embeddings[name] = embedding
            said = f"{done['seconds']:.3f} s" if done["status"] == "ok" else done["status"]
            print(f"  {case.name}, {repetition + 1}/{repeat}, {name}: {said}", file=sys.stderr)
    return runs, embeddings


def run(case: Case, implementation: str, timeout: float) -> tuple[Run, Any]:
    """One run in a fresh process: what it found, and its embedding (None if there is none)."""
    return in_process(
        "benchmarks.measure", {"case": asdict(case), "implementation": implementation}, timeout
    )


def in_process(
    module: str, task: dict[str, Any], timeout: float, environment: dict[str, str] | None = None
) -> tuple[Run, Any]:
    """Run a module on a task in a fresh process; see :mod:`benchmarks.measure` for the rules.

    Parameters
    ----------
    module : str
        It takes the task and a ``folder`` as JSON, and writes ``result.json`` there, and perhaps
        ``started`` and ``embedding.npy``.
    task : dict
    timeout : float
        Seconds.
    environment : dict of str to str, optional
        Variables to set.

    Returns
    -------
    run : dict
        What it wrote; or its status, "failed" or "timeout".
    embedding : ndarray or None
    """
    with tempfile.TemporaryDirectory(prefix="lle-benchmark-") as temporary:
        folder = Path(temporary)
        try:
            done = subprocess.run(
                [sys.executable, "-m", module, json.dumps({**task, "folder": temporary})],
                cwd=machine.ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _timed_out(folder / "started", timeout), None
        result = folder / "result.json"
        if not result.exists():
            end = (
                f"ended by signal {-done.returncode}, perhaps out of memory"
                if done.returncode < 0
                else f"exit status {done.returncode}"
            )
            said = (done.stderr.strip().splitlines() or [""])[-1]
            return {"status": "failed", "error": f"{end}: {said}".rstrip(": ")}, None
        found = json.loads(result.read_text())
        embedding = folder / "embedding.npy"
        return found, np.load(embedding) if embedding.exists() else None


def _timed_out(started: Path, timeout: float) -> Run:
    """A run that was ended: ``seconds`` is how long its clock ran, if it had been started."""
    if not started.exists():
        return {
            "status": "timeout",
            "error": f"not ready to be timed after {timeout:g} s: try a larger --timeout",
        }
    return {"status": "timeout", "seconds": time.time() - started.stat().st_mtime}
