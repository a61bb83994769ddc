"""What the performance page shows: the committed records of the benchmarks, as Markdown."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import deep_learning_tables, gpu_tables, metrics, records, tables
from lle_gpu.constraints import METHODS

__all__ = [
    "compared",
    "draw_speed",
    "fastest_known",
    "few_labels_text",
    "gpu_text",
    "judging_text",
    "read_all",
    "speed_text",
]

Record = dict[str, Any]
NO_DEVICE = (
    "**No GPU has been measured yet.** This repository holds no record of one, so no figure on "
    "this site is a GPU's. `python -m benchmarks.gpu` on a machine with an NVIDIA GPU writes "
    "`benchmarks/results/<device>-<date>.json`, and the next build of this page shows it here."
)
# How implementations are drawn: the first colours of lle_gpu.plot.
STYLE = {
    "lle_gpu": ("lle_gpu", "#3f90da", "o"),
    "sklearn-arpack": ("scikit-learn", "#ffa90e", "s"),
    "tapkee": ("tapkee", "#bd1f01", "^"),
}


def read_all(folder: Path = records.RESULTS) -> dict[str, Record]:
    """The committed records by file name, newest first."""
    found = {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return dict(sorted(found.items(), key=lambda item: _date(item[1]), reverse=True))


def _date(record: Record) -> str:
    return str(record.get("machine", {}).get("date", ""))


def _processor(record: Record) -> str:
    return str(record.get("machine", {}).get("processor", ""))


def compared(found: dict[str, Record]) -> dict[str, Record]:
    """Those of them that compare lle_gpu with other libraries, or measure it alone."""
    return {
        name: record for name, record in found.items() if "opponents" in record.get("arguments", ())
    }


def fastest_known(found: dict[str, Record]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """For each method's fits on the swiss roll: implementation -> (n, seconds), by n.

    Of one machine, the one with most records: those of several make no curve. Where a case is in
    several records, the newest one counts.
    """
    families: dict[str, dict[str, dict[int, float]]] = {}
    of_machine = Counter(_processor(record) for record in compared(found).values())
    for record in compared(found).values():
        if _processor(record) != of_machine.most_common(1)[0][0]:
            continue
        for case in record["cases"]:
            if case["data"] != "swiss-roll" or case["timed"] != "fit":
                continue
            for result in case["results"]:
                if result["status"] != "ok":
                    continue
                curve = families.setdefault(case["method"], {}).setdefault(
                    result["implementation"], {}
                )
                curve.setdefault(case["n"], result["seconds"]["median"])
    return {
        family: {name: sorted(curve.items()) for name, curve in families[family].items()}
        for family in METHODS
        if family in families
    }


def speed_text(found: dict[str, Record]) -> str:
    """Markdown: all tables of all records that compare."""
    return "\n\n".join(
        f"**Record `benchmarks/results/{name}`**\n\n{tables.markdown(record)}"
        for name, record in compared(found).items()
    )


def judging_text(found: dict[str, Record]) -> str:
    """Markdown: what the metrics cost."""
    return "\n\n".join(
        f"**Record `benchmarks/results/{name}`**\n\n{metrics.markdown(record)}"
        for name, record in found.items()
        if "tasks" in record.get("arguments", ())
    )


def few_labels_text(found: dict[str, Record]) -> str:
    """Markdown: the tables of ``python -m benchmarks.deep_learning``."""
    return "\n\n".join(
        f"**Record `benchmarks/results/{name}`**\n\n{deep_learning_tables.markdown(record)}"
        for name, record in found.items()
        if "labels" in record.get("arguments", ())
    )


def gpu_text(found: dict[str, Record]) -> str:
    """Markdown: what was measured on devices, or that nothing was."""
    blocks = []
    for name, record in found.items():
        if "device" not in record or record["device"].get("stands_in"):
            continue
        lines = gpu_tables.device_lines(record["device"])
        lines += [line for case in record["cases"] for line in gpu_tables.case_lines(case)]
        lines += gpu_tables.summary_lines(record)
        text = "\n".join(lines)
        blocks.append(f"**Record `benchmarks/results/{name}`**\n\n```text\n{text}\n```")
    return "\n\n".join(blocks) or NO_DEVICE


def draw_speed(found: dict[str, Record], path: Path) -> None:
    """Seconds against points, a panel for each method."""
    from matplotlib.figure import Figure

    families = fastest_known(found)
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = figure.subplots(1, len(families), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (family, curves) in zip(panels, families.items(), strict=True):
        for name, (label, colour, marker) in STYLE.items():
            if name in curves:
                ax.loglog(*zip(*curves[name], strict=True), color=colour, marker=marker,
                          markersize=5, label=label)  # fmt: skip
        ax.set_title(family, loc="left", fontsize=11, fontweight="bold")
        ax.set_xlabel("points n")
        ax.grid(color="#e4e4e4", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds of a fit")
    panels[0].legend(frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130)
