"""The GPU path on this machine's GPU: ``python -m benchmarks.gpu --help``."""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine, records, runs
from benchmarks.data import missing_data
from benchmarks.gpu_cases import (
    CASES,
    QUICK_POINTS,
    AnyCase,
    FitCase,
    KernelCase,
    RatioCase,
    select,
    shrunk,
)
from benchmarks.gpu_tables import HEADER, case_lines, device_lines, summary_lines

__all__ = ["main"]

NO_GPU = 2
# In the name of what only stands in for a device (tests/stand_in): no figure of it counts.
STANDS_IN = "no device"
# What nvidia-smi is asked for.
QUERIES = (
    "driver_version",
    "clocks.max.sm",
    "clocks.max.memory",
    "clocks.current.sm",
    "power.limit",
    "temperature.gpu",
    "ecc.mode.current",
    "mig.mode.current",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    int
        0; 1 if a case failed or ran out of time (a figure that is missed is no failure); 2 without
        a GPU (or SystemExit, for a wrong argument); 130 if interrupted.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(f"{case.name:<36}{case.description}" for case in CASES))
        return 0
    most = options.points or (QUICK_POINTS if options.quick else None)
    try:
        cases = select(options.case)
    except ValueError as error:
        parser.error(str(error))
    if most is not None:
        cases = shrunk(cases, most)
    if options.resume and options.json is None:
        parser.error("--resume needs --json, the record to go on with")

    device, _ = _measured("device", most, options)
    if device["status"] == "missing":
        print(
            f"There is no GPU to measure: {device['error']}\nThis benchmark is for machines with "
            "an NVIDIA GPU; python -m benchmarks.compare measures the CPU.",
            file=sys.stderr,
        )
        return NO_GPU
    if device["status"] != "ok":
        print(f"The GPU cannot be measured: {device['error']}", file=sys.stderr)
        return NO_GPU
    device["stands_in"] = STANDS_IN in device["name"]
    device["nvidia_smi"] = _nvidia_smi(device["pci_bus_id"])
    path = options.json or _path(device, whole=most is None and options.case is None)
    try:
        record = _record(path, device, most, options)
    except ValueError as error:
        parser.error(str(error))
    device, done = record["device"], {case["name"] for case in record["cases"]}
    cases = [case for case in cases if case.name not in done]
    print("\n".join(machine.lines(record["machine"]) + device_lines(device)), end="\n\n")
    print(HEADER, flush=True)
    try:
        for case in cases:
            result = _result(case, most, options, record)
            record["cases"].append(result)
            # After every case, so that an interrupt or a crash loses one case at most.
            records.write(record, path)
            print("\n".join(case_lines(result)), flush=True)
    except KeyboardInterrupt:
        print(f"interrupted: {path} has the cases that were finished", file=sys.stderr)
        return 130
    print("\n".join(["", *summary_lines(record), f"record: {path}"]))
    return int(any(case["status"] in ("failed", "timeout") for case in record["cases"]))


def _record(
    path: Path, device: dict[str, Any], most: int | None, options: argparse.Namespace
) -> dict[str, Any]:
    """A record without cases, or the one that is to be gone on with, without those that failed.

    Raises
    ------
    ValueError
        If it cannot be written, or is of other sizes or another device.
    """
    arguments = {
        "repeat": options.repeat,
        "timeout": options.timeout,
        "points": most,
        "case": options.case,
    }
    if not (options.resume and path.exists()):
        record = {**records.begin(path, arguments), "device": device}
        records.write(record, path)
        return record
    record = records.read(path, "--json")
    for what, before, now in (
        ("device", record.get("device", device)["name"], device["name"]),
        ("points", record["arguments"].get("points"), most),
    ):
        if before != now:
            raise ValueError(
                f"cannot go on with --json {path}: its {what} is {before!r}, and now {now!r}"
            )
    record.setdefault("device", device)
    record["cases"] = [case for case in record["cases"] if case["status"] in ("ok", "missing")]
    return record


def _result(
    case: AnyCase, most: int | None, options: argparse.Namespace, record: dict[str, Any]
) -> dict[str, Any]:
    """One case measured, with its floor and its targets."""
    device = record["device"]
    if isinstance(case, RatioCase):
        result, _ = runs.run(case.case, "sklearn-arpack", options.timeout)
        _compare(case, result, record["cases"])
    else:
        result = _missing(case, device) or _measured(case.name, most, options)[0]
    if result["status"] == "ok" and isinstance(case, KernelCase):
        _add_floor(result, device["rates"])
    return {
        "name": case.name,
        "description": case.description,
        "kind": case.kind,
        **result,
        "targets": [
            target.judged(result, counts=not device["stands_in"]) for target in case.targets
        ],
    }


def _measured(name: str, most: int | None, options: argparse.Namespace) -> tuple[Any, Any]:
    """One measurement in a fresh process, which finds none of CuPy's compiled kernels."""
    with tempfile.TemporaryDirectory(prefix="lle-benchmark-") as cache:
        return runs.in_process(
            "benchmarks.gpu_measure",
            {"name": name, "most": most, "repeat": options.repeat},
            options.timeout,
            {"CUPY_CACHE_DIR": cache},
        )


def _missing(case: KernelCase | FitCase, device: dict[str, Any]) -> dict[str, Any]:
    """The result of a case that cannot be measured here, empty if it can."""
    why = missing_data(case.case.data) if isinstance(case, FitCase) else ""
    if isinstance(case, KernelCase) and case.algorithm in device["libraries"]:
        state = device["libraries"][case.algorithm]
        why = state if state.startswith("missing") else ""
    return {"status": "missing", "error": why} if why else {}


def _add_floor(result: dict[str, Any], rates: dict[str, float]) -> None:
    """The least time that the bytes and the operations need, and how often it was taken."""
    moving = result["bytes"] / rates["copy"]
    computing = result["operations"] / rates[result["real"]]
    result["floor"] = max(moving, computing)
    result["bound_by"] = "bytes" if moving >= computing else "operations"
    result["times_floor"] = (result["kernels"] or result["call"]) / result["floor"]


def _compare(case: RatioCase, result: dict[str, Any], done: list[dict[str, Any]]) -> None:
    """Divide scikit-learn's time by the GPU's of the same fit, if both are known."""
    fit = next((other for other in done if other["name"] == case.case.name), {})
    if "seconds" in result and fit.get("status") == "ok":
        result["ratio"] = result["seconds"] / fit["warm"]


def _path(device: dict[str, Any], *, whole: bool) -> Path:
    """A record of the whole table on a real device is kept; others are local."""
    slug = re.sub(r"[^a-z0-9]+", "-", device["name"].lower()).strip("-")
    now = datetime.datetime.now()
    folder = records.RESULTS
    if not whole or device["stands_in"]:
        folder = folder / "local"
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slug}-{now:%Y-%m-%d}.json"
    return path.with_stem(f"{slug}-{now:%Y-%m-%dT%H%M%S}") if path.exists() else path


def _nvidia_smi(pci_bus_id: str) -> dict[str, str]:
    """What nvidia-smi tells of a device; empty where it is not.

    By its place on the bus: nvidia-smi numbers all devices, and CUDA those that it is shown.
    """
    query = f"--query-gpu={','.join(QUERIES)}"
    command = ["nvidia-smi", f"--id={pci_bus_id}", query, "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = (done.stdout.splitlines() or [""])[0].split(",")
    return dict(zip(QUERIES, (value.strip() for value in values), strict=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Kernels, fits and memory of the GPU path on this machine's GPU, beside what "
        "the device could do at best, the figures aimed at, and scikit-learn on the CPU. Every "
        "case has a process of its own.",
    )
    parser.add_argument("--list", action="store_true", help="show the cases and stop")
    parser.add_argument(
        "--case", nargs="+", metavar="NAME", help="names or globs of cases (default: all)"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"at most {QUICK_POINTS:,} points: a smoke test"
    )
    parser.add_argument(
        "--points", type=records.positive(int), metavar="N", help="at most N points in each case"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the record at --json, if it is there: what it has is not measured again, "
        "but for what failed or ran out of time",
    )
    records.add_arguments(
        parser,
        timeout=900,
        json_default="benchmarks/results/<device>-<date>.json; in its folder local, if it is not "
        "the whole table",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
