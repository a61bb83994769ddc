"""lle_gpu's solvers side by side: ``python -m benchmarks.solvers --help``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import machine, records, runs
from benchmarks.cases import SOLVER_CASES, Case, quick, select
from benchmarks.data import missing_data
from benchmarks.implementations import OURS
from benchmarks.summary import sine, summarise
from benchmarks.tables import SOLVER_COLUMNS, case_table, solver_markdown
from lle_gpu.spectral import SOLVERS as NAMES

__all__ = ["DOCUMENT", "SOLVERS", "document", "main"]

# Those that exist, but for scikit-learn's name of shift-invert.
SOLVERS = tuple(name for name in NAMES if name != "arpack")
# Beyond, the dense solver's n x n numbers and n^3 operations are only a danger to the machine.
DENSE_MOST_POINTS = 5000
# A square and a multiple of 48, as the hard data want it.
QUICK_POINTS = 576
# Whose embedding is the reference of the others' sines: the first that was certified.
REFERENCES = ("dense", "shift-invert", "auto")

DOCUMENT = machine.ROOT / "docs" / "solvers.md"
BEGIN, END = "<!-- python -m benchmarks.solvers: begin -->", "<!-- end -->"


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    int
        0; 1 if a solver failed other than by a timeout; 2 (or SystemExit) for a wrong argument;
        130 if interrupted.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    groups = {case.family: group for group, cases in SOLVER_CASES.items() for case in cases}
    table = [case for cases in SOLVER_CASES.values() for case in cases]
    if options.list:
        width = max(len(case.name) for case in table)
        print("\n".join(f"{case.name:<{width}}  {case.description}" for case in table))
        return 0
    try:
        if options.report is not None:
            print(solver_markdown(_read(options.report, "--report")))
            return 0
        if options.document is not None:
            DOCUMENT.write_text(document(options.document, DOCUMENT.read_text()))
            return 0
        cases = select(options.case, cases=table)
        if options.quick:
            cases = quick(cases, QUICK_POINTS)
        path = records.path_in(options, "solvers")
        record = records.begin(
            path,
            {
                "repeat": options.repeat,
                "timeout": options.timeout,
                "quick": options.quick,
                "solvers": options.solver,
            },
        )
    except ValueError as error:
        parser.error(str(error))

    print("\n".join(machine.lines(record["machine"])), end="\n\n", flush=True)
    try:
        for case in cases:
            record["cases"].append(
                {
                    "name": case.name,
                    "description": case.description,
                    "group": groups[case.family],
                    **asdict(case),
                    **_run_case(case, options.solver, options.repeat, options.timeout),
                }
            )
            # After every case, so that an interrupt or a crash loses one case at most.
            records.write(record, path)
            print(case_table(record["cases"][-1], SOLVER_COLUMNS), end="\n\n", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted: {path} has the cases that were finished", file=sys.stderr)
        return 130
    print(f"record: {path}")
    results = (result for case in record["cases"] for result in case["results"])
    return int(any(result["status"] == "failed" for result in results))


def document(record: Path, text: str) -> str:
    """The text of a document with the tables of a record between its markers.

    Raises
    ------
    ValueError
        If there is no such record, or there are no markers.
    """
    tables = solver_markdown(_read(record, "--document"))
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{DOCUMENT.name} has no place for the tables: {BEGIN} ... {END}")
    name = record.resolve()
    if name.is_relative_to(records.RESULTS):
        shown = f"benchmarks/results/{name.relative_to(records.RESULTS).as_posix()}"
        source = f"Record: [`{shown}`](../{shown})"
    else:
        source = f"Record: `{name.name}`"
    return f"{before}{begin}\n\n{source}\n\n{tables}\n\n{end}{after}"


def _read(path: Path, option: str) -> dict[str, Any]:
    record = records.read(path, option)
    if "solvers" not in record["arguments"]:
        raise ValueError(f"{option} {path} is not a record of benchmarks.solvers")
    return record


def _run_case(case: Case, solvers: list[str], repeat: int, timeout: float) -> dict[str, Any]:
    """All runs of a case: ``results``, and whose embedding is the ``reference``."""
    absent = missing_data(case.data)
    out = {solver: {"status": "missing", "error": absent} for solver in solvers if absent}
    if "dense" in solvers and case.n > DENSE_MOST_POINTS:
        why = f"more than {DENSE_MOST_POINTS:,} points"
        out.setdefault("dense", {"status": "not tried", "error": why})
    if "davidson" in solvers and case.method != "standard":
        out.setdefault("davidson", {"status": "not tried", "error": "its F is not square"})
    entrants = {
        solver: (replace(case, options=(*case.options, ("eigen_solver", solver))), OURS)
        for solver in solvers
    }
    done, embeddings = runs.take_turns(entrants, out, repeat, timeout)
    for tries in done.values():
        # On some data there is no polynomial, and Davidson's method says so within a second.
        for result in tries:
            if result["status"] == "failed" and "no polynomial of degree" in result["error"]:
                result.update(
                    status="not for this", error="no polynomial comes near to B's inverse"
                )
    reference = next(
        (s for s in REFERENCES if s in embeddings and done[s][0].get("converged")), None
    )
    for solver, embedding in embeddings.items():
        if reference is not None and solver != reference:
            done[solver][0]["sine_to_reference"] = sine(embeddings[reference], embedding)
    return {"reference": reference, "results": summarise(done)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.solvers",
        description="Time, memory and accuracy of lle_gpu's solvers on easy and hard data. Every "
        "run has a process of its own, and the solvers take turns.",
    )
    parser.add_argument("--list", action="store_true", help="show the cases and stop")
    parser.add_argument(
        "--case", nargs="+", metavar="NAME", help="names or globs of cases (default: all)"
    )
    parser.add_argument(
        "--solver",
        nargs="+",
        default=list(SOLVERS),
        choices=SOLVERS,
        metavar="NAME",
        help=f"of {', '.join(SOLVERS)} (default: all)",
    )
    parser.add_argument("--quick", action="store_true", help="a few hundred points: a smoke test")
    records.add_arguments(parser, timeout=300)
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="print Markdown from a record and stop"
    )
    parser.add_argument(
        "--document",
        type=Path,
        metavar="FILE",
        help="write the tables of a record into docs/solvers.md and stop",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
