"""Records: JSON files of what was measured, and where."""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

from benchmarks import machine

__all__ = [
    "RESULTS",
    "add_arguments",
    "begin",
    "path_in",
    "positive",
    "read",
    "write",
    "write_first",
]

# Those that are kept; others go to its folder "local".
RESULTS = machine.ROOT / "benchmarks" / "results"


def add_arguments(
    parser: argparse.ArgumentParser, *, timeout: float, json_default: str = ""
) -> None:
    """The arguments that every benchmark has."""
    name = parser.prog.rpartition(".")[2]
    json_default = json_default or f"benchmarks/results/local/{name}-<date>.json"
    parser.add_argument(
        "--repeat", type=positive(int), default=3, metavar="N", help="runs of each (default: 3)"
    )
    parser.add_argument(
        "--timeout",
        type=positive(float),
        default=timeout,
        metavar="SECONDS",
        help="for each process, the making of the data included (default: %(default)g)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help=f"the record (default: {json_default})",
    )


def positive(kind: type) -> Any:
    """Converter of an argument that must be greater than 0."""

    def convert(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be positive")
        return value

    convert.__name__ = kind.__name__  # argparse's message names it
    return convert


def path_in(options: argparse.Namespace, name: str) -> Path:
    """Where ``--json`` wants the record, or a new file in the folder "local"."""
    if options.json is not None:
        return options.json
    local = RESULTS / "local"
    local.mkdir(parents=True, exist_ok=True)
    return local / f"{name}-{datetime.datetime.now():%Y-%m-%dT%H%M%S}.json"


def begin(path: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """A record without cases, written to ``path``.

    Raises
    ------
    ValueError
        If it cannot be written there.
    """
    record = {"arguments": arguments, "machine": machine.describe(), "cases": []}
    write_first(record, path)
    return record


def write_first(record: dict[str, Any], path: Path) -> None:
    """Write a record before anything is measured, so that a wrong ``--json`` is found now.

    Raises
    ------
    ValueError
        If it cannot be written there.
    """
    if path.is_dir():
        raise ValueError(f"cannot write --json {path}: it is a folder, give a file in it")
    try:
        write(record, path)
    except OSError as error:
        raise ValueError(f"cannot write --json {path}: {error.strerror}") from error


def write(record: dict[str, Any], path: Path) -> None:
    """Write the record, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(record, indent=1) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path, option: str) -> dict[str, Any]:
    """Read the record that ``option`` names.

    Raises
    ------
    ValueError
        If there is none.
    """
    try:
        record = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {option} {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{option} {path} is not JSON: {error}") from error
    if not isinstance(record, dict) or not {"arguments", "machine", "cases"} <= record.keys():
        raise ValueError(f"{option} {path} is not a record that --json wrote")
    return record
