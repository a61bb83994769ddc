"""Directives whose figures come from the benchmarks, when the site is built.

{speed}      the records of ``python -m benchmarks.compare``: a picture, then all tables
{judging}    those of ``python -m benchmarks.metrics``
{few-labels} those of ``python -m benchmarks.deep_learning``
{gpu}        those of ``python -m benchmarks.gpu``, or that there is none yet
{accuracy}   what ``python -m benchmarks.accuracy`` prints, computed now
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from site_records import (
    draw_speed,
    few_labels_text,
    gpu_text,
    judging_text,
    read_all,
    speed_text,
)
from sphinx.util.docutils import SphinxDirective

from benchmarks import accuracy

__all__ = ["setup"]

PICTURE = "generated/speed.png"


class _Directive(SphinxDirective):
    """Parses Markdown that its subclass writes."""

    def markdown(self) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # a record that was added changes the page
        holder = nodes.container()
        self.state.nested_parse(StringList(self.markdown().splitlines(), ""), 0, holder)
        return holder.children


class _Speed(_Directive):
    def markdown(self) -> str:
        found = read_all()
        draw_speed(found, Path(self.env.srcdir) / PICTURE)
        caption = "Seconds of a fit of the swiss roll, by method and number of points"
        return f"![{caption}]({PICTURE})\n\n{speed_text(found)}"


class _Judging(_Directive):
    def markdown(self) -> str:
        return judging_text(read_all())


class _FewLabels(_Directive):
    def markdown(self) -> str:
        return few_labels_text(read_all())


class _Gpu(_Directive):
    def markdown(self) -> str:
        return gpu_text(read_all())


class _Accuracy(_Directive):
    def markdown(self) -> str:
        return accuracy.markdown(accuracy.measure())


def setup(app: Any) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("speed", _Speed)
    app.add_directive("judging", _Judging)
    app.add_directive("few-labels", _FewLabels)
    app.add_directive("gpu", _Gpu)
    app.add_directive("accuracy", _Accuracy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
