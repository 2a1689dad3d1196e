"""The report as one page to look at: `index.html`, self-contained and offline, with interactive tables and charts."""

from __future__ import annotations

from milbench.report.html.data import PageData
from milbench.report.html.gather import page_data
from milbench.report.html.page import write_page

__all__ = ["PageData", "page_data", "write_page"]
