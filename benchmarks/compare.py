"""lle_gpu, scikit-learn and tapkee side by side: ``python -m benchmarks.compare --help``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import machine, records, runs
from benchmarks.cases import CASES, Case, quick, select
from benchmarks.data import missing_data
from benchmarks.implementations import IMPLEMENTATIONS, OURS, missing
from benchmarks.summary import kept, sine, summarise
from benchmarks.tables import case_table, markdown

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    int
        0; 1 if lle_gpu failed, timed out or exceeded a budget somewhere; 2 (or SystemExit) for a
        wrong argument; 130 if interrupted.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        print(_listing())
        return 0
    try:
        if options.report is not None:
            print(markdown(records.read(options.report, "--report")))
            return 0
        cases = select(options.case, slow=options.slow)
        if options.quick:
            cases = quick(cases)
        path = records.path_in(options, "compare")
        record = records.begin(
            path,
            {
                "repeat": options.repeat,
                "timeout": options.timeout,
                "quick": options.quick,
                "opponents": options.opponents,
            },
        )
    except ValueError as error:
        parser.error(str(error))

    print("\n".join(machine.lines(record["machine"])), end="\n\n", flush=True)
    try:
        for case in cases:
            names = [OURS, *_opponents(case, options.opponents)]
            results = _run_case(case, names, options.repeat, options.timeout)
            record["cases"].append(
                {
                    "name": case.name,
                    "description": case.description,
                    **asdict(case),
                    "results": results,
                    "kept": kept(case.budget, results[0]),
                }
            )
            # After every case, so that an interrupt or a crash loses one case at most.
            records.write(record, path)
            print(case_table(record["cases"][-1]), end="\n\n", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted: {path} has the cases that were finished", file=sys.stderr)
        return 130
    print(f"record: {path}")
    return int(
        any(
            case["kept"] is False or case["results"][0]["status"] in ("failed", "timeout")
            for case in record["cases"]
        )
    )


def _opponents(case: Case, asked: list[str] | None) -> list[str]:
    """Who is measured beside lle_gpu; where it runs alone, only those that were asked for."""
    if asked is None:
        return [] if case.alone else list(case.opponents)
    return [name for name in case.opponents if name in asked]


def _run_case(case: Case, names: list[str], repeat: int, timeout: float) -> list[dict[str, Any]]:
    """All runs of a case, summarised."""
    absent = {name: missing_data(case.data) or missing(name) for name in names}
    out = {name: {"status": "missing", "error": why} for name, why in absent.items() if why}
    entrants = {name: (case, name) for name in names}
    done, embeddings = runs.take_turns(entrants, out, repeat, timeout)
    for name, embedding in embeddings.items():
        if name != OURS and OURS in embeddings:
            done[name][0]["sine_to_lle_gpu"] = sine(embeddings[OURS], embedding)
    return summarise(done)


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
    parser.add_argument("--quick", action="store_true", help="a thousand points each: a smoke test")
    opponents = [name for name in IMPLEMENTATIONS if name != OURS]
    parser.add_argument(
        "--opponents",
        nargs="*",
        choices=opponents,
        metavar="NAME",
        help=f"of {', '.join(opponents)}; none after it: lle_gpu alone; also where lle_gpu runs "
        "alone otherwise (default: the case's own)",
    )
    records.add_arguments(parser, timeout=600)
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="print Markdown from a record and stop"
    )
    return parser


def _listing() -> str:
    width = max(len(case.name) for case in CASES)
    return "\n".join(
        f"{case.name:<{width}}  {'slow' if case.slow else '':<4}  {case.description}"
        f"  ({'alone' if case.alone else ', '.join(case.opponents)})"
        for case in CASES
    )


if __name__ == "__main__":
    sys.exit(main())
