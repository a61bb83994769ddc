"""How the site is built: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent.resolve()
ROOT = DOCS.parent
# Sphinx's extensions of this folder, the benchmarks, and the package of this checkout.
sys.path[:0] = [str(DOCS / "_ext"), str(ROOT)]
# The examples are small: BLAS's threads would only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import lle_gpu  # noqa: E402

project = "lle_gpu"
author = "The lle_gpu developers"
copyright = "The lle_gpu developers. Apache-2.0"
version = release = lle_gpu.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "site_directives",
    "site_gallery",
    "site_reference",
]
exclude_patterns = ["_build", "**/README.txt"]
templates_path = ["_templates"]
# Nothing is fetched while the site is built: no inventories of other projects.
suppress_warnings = ["config.cache"]  # the figures' scraper is a function

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = False

smartquotes = False  # code in docstrings keeps its quotes
toc_object_entries_show_parents = "hide"

autosummary_generate = True
# What a module's __all__ names is what the reference shows, wherever it is defined.
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"  # the docstrings say it
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"__init__\.py",
    "subsection_order": ["../examples/gallery/data", "../examples/gallery/papers"],
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("site_figures.scrape",),
    "reset_modules": ("matplotlib",),
    "capture_repr": (),
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 0,
    "download_all_examples": False,
    "show_signature": False,
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "plot_gallery": "True",
    "parallel": 2,
}

html_theme = "pydata_sphinx_theme"
html_title = "lle_gpu"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "logo": {"text": "lle_gpu"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
html_sidebars = {"index": [], "performance": [], "start": []}
html_show_sourcelink = False
