"""lle_gpu, scikit-learn and tapkee side by side: ``python -m benchmarks.compare --help``."""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.cases import CASES, Case, quick, select
from benchmarks.implementations import IMPLEMENTATIONS, OURS, missing
from benchmarks.summary import Run, sine, summarise
from benchmarks.tables import case_table, markdown

__all__ = ["main"]

LOCAL = machine.ROOT / "benchmarks" / "results" / "local"


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    int
        0; 1 if lle_gpu failed or timed out somewhere; 2 (or SystemExit) for a wrong argument; 130
        if interrupted.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        print(_listing())
        return 0
    try:
        if options.report is not None:
            print(markdown(_read(options.report)))
            return 0
        cases = select(options.case, slow=options.slow)
    except ValueError as error:
        parser.error(str(error))
    if options.quick:
        cases = quick(cases)
    record: dict[str, Any] = {
        "arguments": {
            "repeat": options.repeat,
            "timeout": options.timeout,
            "quick": options.quick,
            "opponents": options.opponents,
        },
        "machine": machine.describe(),
        "cases": [],
    }
    path = options.json or _default_path()
    if path.is_dir():
        parser.error(f"cannot write --json {path}: it is a folder, give a file in it")
    try:
        _write(record, path)
    except OSError as error:
        parser.error(f"cannot write --json {path}: {error.strerror}")

    print("\n".join(machine.lines(record["machine"])), end="\n\n", flush=True)
    try:
        for case in cases:
            names = [OURS, *(name for name in case.opponents if name in options.opponents)]
            results = _run_case(case, names, options.repeat, options.timeout)
            record["cases"].append(
                {
                    "name": case.name,
                    "description": case.description,
                    **asdict(case),
                    "results": results,
                }
            )
            # After every case, so that an interrupt or a crash loses one case at most.
            _write(record, path)
            print(case_table(record["cases"][-1]), end="\n\n", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted: {path} has the cases that were finished", file=sys.stderr)
        return 130
    print(f"record: {path}")
    ours = (r for c in record["cases"] for r in c["results"] if r["implementation"] == OURS)
    return int(any(result["status"] != "ok" for result in ours))


def _run_case(case: Case, names: list[str], repeat: int, timeout: float) -> list[dict[str, Any]]:
    """All runs of a case, the implementations in turn, so that drift of the machine hits all."""
    runs: dict[str, list[Run]] = {
        name: [{"status": "missing", "error": missing(name)}] if missing(name) else []
        for name in names
    }
    embeddings: dict[str, Any] = {}
    for repetition in range(repeat):
        for name in names:
            # One failure or timeout says it: the same again would only take time.
            if any(run["status"] != "ok" for run in runs[name]):
                continue
            run, embedding = _run(case, name, timeout)
            runs[name].append(run)
            if repetition == 0:
                embeddings[name] = embedding
            said = f"{run['seconds']:.3f} s" if run["status"] == "ok" else run["status"]
            print(f"  {case.name}, {repetition + 1}/{repeat}, {name}: {said}", file=sys.stderr)
    ours = embeddings.get(OURS)
    for name, theirs in embeddings.items():
        if name != OURS and ours is not None and theirs is not None:
            runs[name][0]["sine_to_lle_gpu"] = sine(ours, theirs)
    return summarise(runs)


def _run(case: Case, name: str, timeout: float) -> tuple[Run, Any]:
    """One run in a fresh process: what it found, and its embedding (None if there is none)."""
    with tempfile.TemporaryDirectory(prefix="lle-benchmark-") as temporary:
        folder = Path(temporary)
        task = json.dumps({"case": asdict(case), "implementation": name, "folder": temporary})
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.measure", task],
                cwd=machine.ROOT,
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
        run = json.loads(result.read_text())
        embedding = folder / "embedding.npy"
        return run, np.load(embedding) if embedding.exists() else None


def _timed_out(started: Path, timeout: float) -> Run:
    """A run that was ended: ``seconds`` is how long its clock ran, if it had been started."""
    if not started.exists():
        return {
            "status": "timeout",
            "error": f"not ready to be timed after {timeout:g} s: try a larger --timeout",
        }
    return {"status": "timeout", "seconds": time.time() - started.stat().st_mtime}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Time and memory of lle_gpu, scikit-learn and tapkee on the same data. Every "
        "run has a process of its own, and the implementations take turns.",
    )
    parser.add_argument("--list", action="store_true", help="show the cases and stop")
    parser.add_argument(
        "--case", nargs="+", metavar="NAME", help="names or globs of cases (default: all but slow)"
    )
    parser.add_argument("--slow", action="store_true", help="slow cases, too")
    parser.add_argument("--quick", action="store_true", help="a few hundred points: a smoke test")
    opponents = [name for name in IMPLEMENTATIONS if name != OURS]
    parser.add_argument(
        "--opponents",
        nargs="*",
        default=opponents,
        choices=opponents,
        metavar="NAME",
        help=f"of {', '.join(opponents)}; none after it: lle_gpu alone (default: the case's own)",
    )
    parser.add_argument(
        "--repeat", type=_positive(int), default=3, metavar="N", help="runs of each (default: 3)"
    )
    parser.add_argument(
        "--timeout",
        type=_positive(float),
        default=600.0,
        metavar="SECONDS",
        help="for each process, the making of the data included (default: 600)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="the record (default: benchmarks/results/local/compare-<date>.json)",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="print Markdown from a record and stop"
    )
    return parser


def _positive(kind: type) -> Any:
    def convert(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be positive")
        return value

    convert.__name__ = kind.__name__  # argparse's message names it
    return convert


def _listing() -> str:
    width = max(len(case.name) for case in CASES)
    return "\n".join(
        f"{case.name:<{width}}  {'slow' if case.slow else '':<4}  {case.description}"
        f"  ({', '.join(case.opponents)})"
        for case in CASES
    )


def _default_path() -> Path:
    LOCAL.mkdir(parents=True, exist_ok=True)
    return LOCAL / f"compare-{datetime.datetime.now():%Y-%m-%dT%H%M%S}.json"


def _write(record: dict[str, Any], path: Path) -> None:
    """Write the record, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(record, indent=1) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises
    ------
    ValueError
        If there is none.
    """
    try:
        record = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read --report {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"--report {path} is not JSON: {error}") from error
    if not isinstance(record, dict) or not {"arguments", "machine", "cases"} <= record.keys():
        raise ValueError(f"--report {path} is not a record that --json wrote")
    return record


if __name__ == "__main__":
    sys.exit(main())
