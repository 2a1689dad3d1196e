"""Sphinx: how the site is made of the pages that `build.py` has laid out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from docstrings import with_text_below

import milbench

project = "milbench"
release = milbench.__version__
author = "The milbench founders"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 5
myst_links_external_new_tab = False
default_role = "literal"  # docstrings write `name` for code
html_math_renderer = "mathml"

smartquotes = False  # `--tune` must stay two hyphens

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in ("Floats", "Flags", "Places", "Weights")}
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # fields of tuples and dataclasses would be listed twice otherwise
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "pydata_sphinx_theme"
html_title = "milbench"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "search_bar_text": "Search the docs",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def _entries_below(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = with_text_below(lines)


def setup(app: Any) -> None:
    """Lay out the entries of docstrings before napoleon reads them."""
    app.connect("autodoc-process-docstring", _entries_below, priority=400)
