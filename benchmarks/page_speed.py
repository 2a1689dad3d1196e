"""How long the report's page takes to open in Chromium with 2,000 trials, and how large it is.

    python benchmarks/page_speed.py [--chromium /usr/bin/chromium] [--repeats 5]

The page is opened from a file in a fresh browser context each time. "opened" ends when the browser has painted
the tables after its load event; "first chart" goes on to the first chart, scrolled into view. The reference
beside it is the page of one trial: what Chromium, the style and the script take by themselves.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from pages_for_tests import known_analysis, known_page, known_scores

from milbench.report.html import PageData, write_page

PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
DRAWN = "() => document.querySelector('#box .main-svg') !== null"


def pages() -> dict[str, PageData]:
    """A page of 5 cohorts × 9 genes × 9 models × 5 folds = 2,025 trials of 50 epochs and 150 test slides, and a small one."""
    many = known_scores(cohorts=5, tasks=9, models=9, folds=5, control=False)
    few = known_scores(cohorts=1, tasks=1, models=1, folds=1, control=False)
    return {
        f"{len(many):,} trials": known_page(known_analysis(many), epochs=50, slides=150),
        f"{len(few)} trial": known_page(known_analysis(few), epochs=1),
    }


def visit(browser: Any, path: Path) -> tuple[float, float]:
    """Seconds until the tables are painted, and until the first chart is drawn."""
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    started = perf_counter()
    page.goto(path.as_uri())
    page.evaluate(PAINTED)
    opened = perf_counter() - started
    page.locator("#box").scroll_into_view_if_needed()
    while not page.evaluate(DRAWN):
        page.wait_for_timeout(10)
    drawn = perf_counter() - started
    page.context.close()
    return opened, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("| page | index.html | opened, s | first chart, s | written, s |\n|---|---|---|---|---|")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        for number, (name, page) in enumerate(pages().items()):
            started = perf_counter()
            path = write_page(Path(folder) / str(number), page)
            written = perf_counter() - started
            opened, drawn = zip(*(visit(browser, path) for _ in range(options.repeats)), strict=True)
            size = path.stat().st_size / 1e6
            print(f"| {name} | {size:.2f} MB | {median(opened):.2f} | {median(drawn):.2f} | {written:.1f} |")
        browser.close()


if __name__ == "__main__":
    main()
