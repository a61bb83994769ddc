"""Results to read: a table for the terminal, case by case, and Markdown from a whole record."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import machine
from benchmarks.implementations import OURS

__all__ = ["COLUMNS", "SOLVER_COLUMNS", "case_table", "markdown", "solver_markdown"]

NOTHING = "–"
MEBIBYTE = 1 << 20
MESSAGE_WIDTH = 160
EIGENVALUES_SHOWN = 4

Result = dict[str, Any]
# Heading, width and text.
Column = tuple[str, int, Callable[[Result], str]]

# After the implementation's name.
COLUMNS: tuple[Column, ...] = (
    ("median s", 10, lambda r: _seconds(r)),
    ("min - max", 18, lambda r: _range(r)),
    ("ratio", 8, lambda r: _ratio(r)),
    ("peak MiB", 10, lambda r: _mebibytes(r.get("peak_bytes"))),
    ("+MiB", 8, lambda r: _mebibytes(r.get("increase_bytes"))),
    ("ratio", 7, lambda r: _number(r.get("memory_ratio"))),
    ("error", 10, lambda r: _scientific(r.get("reconstruction_error"))),
    ("affine", 9, lambda r: _scientific(r.get("affine_residual"), digits=1)),
    ("sine", 9, lambda r: _scientific(r.get("sine_to_lle_gpu"), digits=1)),
    ("certified", 10, lambda r: _certified(r)),
)
# After the solver's name.
SOLVER_COLUMNS: tuple[Column, ...] = (
    *COLUMNS[:2],
    ("peak MiB", 10, lambda r: _mebibytes(r.get("peak_bytes"))),
    ("steps", 8, lambda r: _steps(r)),
    ("residual", 10, lambda r: _scientific(r.get("largest_residual"), digits=1)),
    ("sine", 9, lambda r: _scientific(r.get("sine_to_reference"), digits=1)),
    ("certified", 10, lambda r: _certified(r)),
)


def case_table(case: dict[str, Any], columns: Sequence[Column] = COLUMNS) -> str:
    """One case of a record as a table: a line for each entrant, then what else is known."""
    lines = [
        f"{case['name']}: {case['description']}",
        "  " + f"{'':<15}" + "".join(f"{heading:>{width}}" for heading, width, _ in columns),
    ]
    for result in case["results"]:
        if "seconds" not in result:
            text = f"  {result['status']}: {_shorten(result['error'])}"
        else:
            text = "".join(f"{cell(result):>{width}}" for _, width, cell in columns)
        lines.append(f"  {result['implementation']:<15}{text}".rstrip())
    if _runs_alone(case):
        lines.append(f"  alone: {case['alone']}")
    if case.get("budget"):
        lines.append(f"  {_budget(case)}")
    for result in case["results"]:
        if result.get("eigenvalues"):
            lines.append(f"  eigenvalues of {result['implementation']}: {_eigenvalues(result)}")
        if result.get("solver"):
            lines.append(f"  solver of {result['implementation']}: {result['solver']}")
        if result.get("stages"):
            stages = ", ".join(f"{k} {_number(v)}" for k, v in result["stages"].items())
            lines.append(f"  stages of {result['implementation']}: {stages}")
        lines.extend(
            f"  {result['implementation']}: {_shorten(text)}" for text in result.get("warnings", ())
        )
    return "\n".join(lines)


def markdown(record: dict[str, Any]) -> str:
    """Tables of a whole record: time, memory, quality, stages, and what went wrong."""
    cases = record["cases"]
    names = list(dict.fromkeys(r["implementation"] for case in cases for r in case["results"]))
    blocks = [
        "\n".join(f"- {line}" for line in machine.lines(record["machine"]))
        + f"\n- median of {record['arguments']['repeat']} runs, each in a fresh process",
        "**Time** in seconds (in brackets: as a multiple of lle_gpu's)",
        _grid(cases, names, _time_cell),
        "**Memory** in MiB above the loaded data (as a multiple of lle_gpu's)",
        _grid(cases, names, _memory_cell),
        "**Quality**: reconstruction error; affine residual to the true coordinates; sine of the "
        "angle to lle_gpu's embedding",
        _grid(cases, names, _quality_cell),
        "**Eigenvalues** of M that lle_gpu found, after the zero",
        _eigenvalue_table(cases),
        "**Stages** of lle_gpu, in seconds",
        _stages(cases),
    ]
    notes = [f"- {case['name']}: {case['alone']}" for case in cases if _runs_alone(case)]
    if notes:
        blocks += ["**lle_gpu alone**", "\n".join(notes)]
    budgets = [f"- {case['name']}: {_budget(case)}" for case in cases if case.get("budget")]
    if budgets:
        blocks += ["**Budgets**", "\n".join(budgets)]
    problems = _problems(cases)
    if problems:
        blocks += ["**Not measured to the end**", problems]
    return "\n\n".join(blocks)


def solver_markdown(record: dict[str, Any]) -> str:
    """Tables of a record of the solvers: cases down, solvers across, a group after the other."""
    groups = list(dict.fromkeys(case["group"] for case in record["cases"]))
    arguments = record["arguments"]
    blocks = [
        "\n".join(f"- {line}" for line in machine.lines(record["machine"]))
        + f"\n- median of {arguments['repeat']} runs, each in a fresh process that is ended after "
        f"{arguments['timeout']:g} s (shown as >)",
    ]
    for group in groups:
        cases = [case for case in record["cases"] if case["group"] == group]
        blocks += [f"### {group} cases"]
        for title, cell in (
            ("**Time** in seconds", _solver_time),
            ("**Memory**: peak of the process in MiB", lambda r: _mebibytes(r.get("peak_bytes"))),
            ("**Steps** of the iteration (dense: none)", _steps),
            (
                "**Largest residual** ||FᵀFv − σ²v|| / ||F||²",
                lambda r: _scientific(r.get("largest_residual"), digits=1),
            ),
            (
                "**Sine** of the largest angle to the reference's embedding",
                lambda r: _scientific(r.get("sine_to_reference"), digits=1),
            ),
        ):
            blocks += [title, _grid(cases, arguments["solvers"], cell)]
        rows = [
            [case["description"], case["reference"] or NOTHING, result["solver"]]
            for case in cases
            for result in case["results"]
            if result["implementation"] == "auto" and "solver" in result
        ]
        blocks += [
            '**What "auto" chose**, and why; the reference of the sines',
            _markdown_table(["case", "reference", '"auto"'], rows),
        ]
    problems = _problems(record["cases"])
    return "\n\n".join(blocks + (["**Not measured to the end**", problems] if problems else []))


def _problems(cases: list[Any]) -> str:
    return "\n".join(
        f"- {case['name']}, {r['implementation']}: {r['status']}"
        + (f": {_shorten(r['error'])}" if "error" in r else "")
        for case in cases
        for r in case["results"]
        if r["status"] != "ok"
    )


def _grid(cases: list[Any], names: list[str], cell: Callable[[Result], str]) -> str:
    """Cases down, implementations across."""
    rows = []
    for case in cases:
        found = {result["implementation"]: result for result in case["results"]}
        cells = [cell(found[name]) if name in found else NOTHING for name in names]
        rows.append([case["description"], *cells])
    return _markdown_table(["case", *names], rows)


def _time_cell(result: Result) -> str:
    if "seconds" not in result:
        return result["status"]
    if result["implementation"] == OURS or "ratio" not in result:
        return _seconds(result)
    return f"{_seconds(result)} ({_ratio(result)}×)"


def _memory_cell(result: Result) -> str:
    if "increase_bytes" not in result:
        return NOTHING
    text = _mebibytes(result["increase_bytes"])
    if result["implementation"] == OURS or "memory_ratio" not in result:
        return text
    return f"{text} ({_number(result['memory_ratio'])}×)"


def _quality_cell(result: Result) -> str:
    parts = []
    for key, name, digits in (
        ("reconstruction_error", "error", 2),
        ("affine_residual", "affine", 1),
        ("sine_to_lle_gpu", "sine", 1),
    ):
        if result.get(key) is not None:
            parts.append(f"{name} {_scientific(result[key], digits=digits)}")
    if "converged" in result:
        parts.append("certified" if result["converged"] else "NOT converged")
    return ", ".join(parts) or NOTHING


def _solver_time(result: Result) -> str:
    if "seconds" not in result:
        return result["status"]
    return _seconds(result) + (" (not certified)" if result.get("converged") is False else "")


def _eigenvalue_table(cases: list[Any]) -> str:
    rows = [
        [case["description"], _eigenvalues(result)]
        for case in cases
        for result in case["results"]
        if result.get("eigenvalues")
    ]
    return _markdown_table(["case", "eigenvalues"], rows)


def _stages(cases: list[Any]) -> str:
    timed = [
        (case["description"], result["stages"])
        for case in cases
        for result in case["results"]
        if result.get("stages")
    ]
    names = list(dict.fromkeys(name for _, stages in timed for name in stages))
    rows = [[title, *(_number(stages.get(name)) for name in names)] for title, stages in timed]
    return _markdown_table(["case", *names], rows)


def _markdown_table(headings: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rule = "|---|" + "---:|" * (len(headings) - 1)
    return "\n".join([line(headings), rule, *map(line, rows)])


def _seconds(result: Result) -> str:
    more = "> " if result["status"] == "timeout" else ""
    return more + _number(result["seconds"]["median"])


def _range(result: Result) -> str:
    if result["status"] == "timeout":
        return NOTHING
    return f"{_number(result['seconds']['min'])} - {_number(result['seconds']['max'])}"


def _ratio(result: Result) -> str:
    if "ratio" not in result:
        return NOTHING
    return ("> " if result["status"] == "timeout" else "") + _number(result["ratio"])


def _steps(result: Result) -> str:
    return NOTHING if "n_iter" not in result else f"{result['n_iter']:,}"


def _eigenvalues(result: Result) -> str:
    shown = ", ".join(f"{value:.6g}" for value in result["eigenvalues"][:EIGENVALUES_SHOWN])
    return shown + (", ..." if len(result["eigenvalues"]) > EIGENVALUES_SHOWN else "")


def _runs_alone(case: dict[str, Any]) -> bool:
    return bool(case.get("alone")) and len(case["results"]) == 1


def _budget(case: dict[str, Any]) -> str:
    """The budget in words, and whether it was kept."""
    seconds, size = case["budget"]
    verdict = {None: "not measured", True: "kept", False: "NOT KEPT"}[case["kept"]]
    return f"budget of {seconds:g} s and {size / 1e9:g} GB for the process: {verdict}"


def _certified(result: Result) -> str:
    return {None: NOTHING, True: "yes", False: "NO"}[result.get("converged")]


def _number(value: float | None) -> str:
    """Three digits or so, without exponents."""
    if value is None:
        return NOTHING
    places = next((p for limit, p in ((100, 0), (10, 1), (1, 2), (0.01, 3)) if value >= limit), 4)
    return f"{value:,.{places}f}"


def _mebibytes(value: float | None) -> str:
    return NOTHING if value is None else _number(value / MEBIBYTE)


def _scientific(value: float | None, digits: int = 2) -> str:
    return NOTHING if value is None else f"{value:.{digits}e}"


def _shorten(text: str) -> str:
    return textwrap.shorten(text, MESSAGE_WIDTH, placeholder=" ...")
