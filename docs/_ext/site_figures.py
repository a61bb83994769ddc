"""Pictures of the gallery: all of an example's figures, also those that pyplot does not know.

lle_gpu.plot makes figures without pyplot, so that nothing is left in its global state;
sphinx-gallery's own scraper asks pyplot alone.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst, matplotlib_scraper

__all__ = ["scrape"]

DOTS_PER_INCH = 130
_seen: WeakSet[Figure] = WeakSet()


def scrape(block: Any, variables: dict[str, Any], configuration: dict[str, Any]) -> str:
    """Save the figures that a block of an example made.

    A figure of lle_gpu.plot is shown once, under the block that gives it, or axes of it, a name.
    """
    _seen.update(map(plt.figure, plt.get_fignums()))
    by_pyplot = matplotlib_scraper(block, variables, configuration, dpi=DOTS_PER_INCH)
    paths = []
    for value in list(variables["example_globals"].values()):
        figure = value if isinstance(value, Figure) else getattr(value, "figure", None)
        if not isinstance(figure, Figure) or figure in _seen:
            continue
        _seen.add(figure)
        path = next(variables["image_path_iterator"])
        figure.savefig(path, dpi=DOTS_PER_INCH)
        paths.append(path)
    return by_pyplot + figure_rst(paths, configuration["src_dir"])
