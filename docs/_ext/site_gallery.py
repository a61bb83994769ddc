"""Links to the gallery: on a code host to its scripts, on the site to the pages made of them."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["setup", "to_pages"]


def to_pages(text: str) -> str:
    """A page's text, its links to scripts and folders of the gallery turned to their pages."""
    text = re.sub(r"\]\(\.\./examples/gallery/(\S+?)\.py\)", r"](gallery/\1.rst)", text)
    return re.sub(r"\]\(\.\./examples/gallery/((?:\w+/)?)\)", r"](gallery/\1index.rst)", text)


def _source_read(app: Any, name: str, source: list[str]) -> None:
    source[0] = to_pages(source[0])


def setup(app: Any) -> dict[str, Any]:
    """Turn them as each page is read."""
    app.connect("source-read", _source_read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
