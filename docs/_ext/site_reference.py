"""Holds the API reference against the code: every public function and class has its entry."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

__all__ = ["modules", "public_names", "setup"]

PAGE = "reference"


def modules(folder: Path) -> list[str]:
    """The modules that the reference page names."""
    text = (folder / f"{PAGE}.md").read_text(encoding="utf-8")
    return re.findall(r"^   (lle_gpu[\w.]*)$", text, flags=re.MULTILINE)


def public_names(module: str) -> list[str]:
    """Functions and classes of a module's __all__, with the module's name before them."""
    loaded = importlib.import_module(module)
    things = {name: getattr(loaded, name) for name in loaded.__all__}
    return [
        f"{module}.{name}"
        for name, thing in things.items()
        if inspect.isclass(thing) or inspect.isfunction(thing)
    ]


def _check(app: Any, environment: Any) -> None:
    from sphinx.util import logging  # the rest of this module needs no Sphinx

    described = environment.get_domain("py").objects
    for module in modules(Path(app.srcdir)):
        for name in public_names(module):
            if name not in described:
                logging.getLogger(__name__).warning("%s is not in the API reference", name)


def setup(app: Any) -> dict[str, Any]:
    """Check when all pages are read."""
    app.connect("env-check-consistency", _check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
