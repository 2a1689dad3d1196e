"""The report as one page to look at: `index.html`, self-contained and offline, with interactive tables and charts."""

from __future__ import annotations

from milbench.report.html.data import KindBlock, PageData, Picture
from milbench.report.html.gather import page_data
from milbench.report.html.page import render, write_index, write_page, write_script

__all__ = ["KindBlock", "PageData", "Picture", "page_data", "render", "write_index", "write_page", "write_script"]
