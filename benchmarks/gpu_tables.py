"""A record of the GPU to read: the device, a line or two for each case, the figures aimed at."""

from __future__ import annotations

from typing import Any

__all__ = ["HEADER", "case_lines", "device_lines", "summary_lines"]

NOTHING = "–"
MESSAGE_WIDTH = 200
NAME_WIDTH = 38
# What a target is about, and in which unit.
QUANTITIES = {
    "kernels": ("the kernels", 1e3, " ms"),
    "warm": ("warm", 1.0, " s"),
    "ratio": ("ratio", 1.0, " times"),
    "sine_to_cpu": ("sine of the angle to the CPU path", 1.0, ""),
    "neighbors_differing": ("points whose neighbours differ from the CPU's", 1.0, ""),
}
VERDICTS = {True: "met", False: "NOT MET", None: "not judged"}

HEADER = f"{'case':<{NAME_WIDTH}}what was measured"


def device_lines(device: dict[str, Any]) -> list[str]:
    """The device, its libraries and its measured rates."""
    rates = device["rates"]
    versions = ", ".join(f"{name} {version}" for name, version in device["versions"].items())
    lines = [
        f"{device['name']}, compute capability {device['compute_capability']}, "
        f"{device['multiprocessors']} multiprocessors, {device['total_bytes'] / 1e9:.1f} GB, "
        f"{device['free_bytes'] / 1e9:.1f} GB free",
        f"driver {device['driver'] or 'unknown'} (up to CUDA {device['cuda_of_driver']}), "
        f"CUDA {device['cuda_runtime']}; {versions or 'no versions known'}",
        *(
            f"{name}: {state}"
            for name, state in device["libraries"].items()
            if state.startswith("missing")
        ),
        f"measured: copy {rates['copy'] / 1e12:.3g} TB/s, matrix products "
        f"{rates['float32'] / 1e12:.3g} (float32) and {rates['float64'] / 1e12:.3g} (float64) "
        "Tflop/s: the floors' denominators",
    ]
    if device["nvidia_smi"]:
        lines.append(", ".join(f"{name} {value}" for name, value in device["nvidia_smi"].items()))
    if device["stands_in"]:
        lines.append("THIS IS NOT A DEVICE: none of the figures below says anything about one")
    elif "H200" not in device["name"]:
        lines.append("the figures aimed at are for an H200; this is another device")
    return lines


def case_lines(case: dict[str, Any]) -> list[str]:
    """A case: what was measured, then each figure aimed at and whether it was met."""
    if case["status"] == "timeout" and "seconds" in case:
        said = f"timeout: more than {case['seconds']:.3g} s"
    elif case["status"] != "ok":
        said = " ".join(case["error"].split())[:MESSAGE_WIDTH]
        said = said if said.startswith(case["status"]) else f"{case['status']}: {said}"
    else:
        said = {"kernel": _kernel, "fit": _fit, "scikit-learn": _ratio}[case["kind"]](case)
    first, *rest = said.split("\n")
    lines = [f"{case['name']:<{NAME_WIDTH}}{first}"]
    lines += [f"{'':<{NAME_WIDTH}}{line}" for line in rest]
    return lines + [f"{'':<{NAME_WIDTH}}{_target(target)}" for target in case["targets"]]


def summary_lines(record: dict[str, Any]) -> list[str]:
    """All figures aimed at, and what failed."""
    judged = [target["met"] for case in record["cases"] for target in case["targets"]]
    counts = ", ".join(
        f"{sum(met is verdict for met in judged)} {words.lower()}"
        for verdict, words in VERDICTS.items()
    )
    lines = [f"figures aimed at: {counts}"]
    for status in ("failed", "timeout", "missing"):
        names = [case["name"] for case in record["cases"] if case["status"] == status]
        if names:
            lines.append(f"{status}: {', '.join(names)}")
    return lines


def _kernel(case: dict[str, Any]) -> str:
    what = "call" if case["kernels"] is None else "kernels"
    seconds = case["call"] if case["kernels"] is None else case["kernels"]
    lines = [
        f"{what} {1e3 * seconds:.3g} ms, floor {1e3 * case['floor']:.3g} ms by {case['bound_by']}"
        f" ({case['bytes'] / 1e9:.3g} GB, {case['operations'] / 1e9:.3g} Gflop): "
        f"{case['times_floor']:.2f} times the floor"
    ]
    if case["kernels"] is not None:
        lines[0] += f"; call {1e3 * case['call']:.3g} ms"
    lines += [
        f"{name}: {launch['count']} x, {1e3 * launch['seconds']:.3g} ms"
        for name, launch in case["launches"].items()
    ]
    return "\n".join(lines)


def _fit(case: dict[str, Any]) -> str:
    low, high = min(case["warm_runs"]), max(case["warm_runs"])
    lines = [
        f"warm {case['warm']:.3g} s ({low:.3g} to {high:.3g}), cold {case['cold']:.3g} s, from "
        f"CuPy {case['from_device']:.3g} s; {case['peak_bytes'] / 1e6:.3g} MB of device memory, "
        f"{case['pool_bytes'] / 1e6:.3g} MB in CuPy's pool",
        "stages: " + ", ".join(f"{name} {s:.3g}" for name, s in case["stages"].items()),
        f"{'certified' if case['certified'] else 'NOT CERTIFIED'}, largest residual "
        f"{_largest(case['residuals'])}; neighbours by {case['neighbors_by']}; {case['solver']}",
    ]
    if "cpu_seconds" in case:
        lines.append(
            f"CPU path {case['cpu_seconds']:.3g} s, {case['cpu_seconds'] / case['warm']:.3g} times "
            "as long"
        )
    return "\n".join(lines + case["warnings"])


def _largest(residuals: list[float | None]) -> str:
    known = [r for r in residuals if r is not None]
    return f"{max(known):.1e}" if len(known) == len(residuals) else NOTHING


def _ratio(case: dict[str, Any]) -> str:
    said = f"{case['seconds']:.3g} s"
    return said + (f": {case['ratio']:.3g} times the GPU's warm fit" if "ratio" in case else "")


def _target(target: dict[str, Any]) -> str:
    words, factor, unit = QUANTITIES[target["quantity"]]
    sense = "at least" if target["at_least"] else "at most"
    measured = NOTHING
    if target["measured"] is not None:
        measured = f"{factor * target['measured']:.3g}"
    return (
        f"target: {words} {sense} {factor * target['limit']:.3g}{unit}: measured {measured}, "
        f"{VERDICTS[target['met']]}"
    )
