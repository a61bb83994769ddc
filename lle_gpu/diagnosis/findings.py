"""What a diagnosis consists of, and the words it is told in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lle_gpu.kinds import check_kind

# Rows named in figures.
SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    name : str
        Stable, for programs: "short-circuit", "noise", ...; ``docs/diagnosis.md`` has them all.
    message : str
        What it is, in plain words.
    figures : mapping of str to number, str or list
        What it was seen by.
    advice : str
        What to try.
    """

    name: str
    message: str
    figures: Mapping[str, Any]
    advice: str

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {text(value)}" for name, value in self.figures.items())
        return f"{self.name}: {self.message}\n    figures: {figures}\n    try: {self.advice}"


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found: causes first, then symptoms; false if nothing.

    Attributes
    ----------
    findings : tuple of Finding

    Examples
    --------
    >>> from lle_gpu.diagnosis import Diagnosis, Finding
    >>> bool(Diagnosis(()))
    False
    >>> Diagnosis((Finding("noise", "Too much of it.", {"thickness": 0.9}, "less of it"),)).names
    ('noise',)
    """

    findings: tuple[Finding, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The findings' names, in order."""
        return tuple(finding.name for finding in self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        if not self.findings:
            return "nothing found"
        return "\n".join(str(finding) for finding in self.findings)

    def to_pandas(self) -> Any:
        """One row a finding: name, message, figures (as text), advice.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            Without pandas.
        """
        check_kind("pandas")
        from pandas import DataFrame

        rows = [
            (
                finding.name,
                finding.message,
                ", ".join(f"{name}={text(value)}" for name, value in finding.figures.items()),
                finding.advice,
            )
            for finding in self.findings
        ]
        return DataFrame(rows, columns=["name", "message", "figures", "advice"])


def shown(values: Any) -> list[Any]:
    """The first of some values, as they go into figures."""
    return np.asarray(values)[:SHOWN].tolist()


def listed(values: Any) -> str:
    """The first of some values, as they go into a sentence."""
    return ", ".join(map(str, values[:SHOWN])) + (", ..." if len(values) > SHOWN else "")


def text(value: Any) -> str:
    """A figure in words."""
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
