"""The page in a real browser, from a file, without a network."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages_for_tests import known_analysis, known_page, known_scores

from milbench.report.claim_tables import claim_frame
from milbench.report.html import PageData, write_page
from milbench.report.verdicts import Contrast, Draft, above, judge

CHROMIUM = next(
    filter(
        None,
        [os.environ.get("MILBENCH_CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))],
    ),
    "",
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium found; name one in MILBENCH_CHROMIUM")
SETTLED = """id => document.getElementById(id).querySelector('.main-svg') !== null
    || !document.getElementById(id).closest('figure').querySelector('.empty').hidden"""
DRAWN = "id => document.getElementById(id).querySelector('.main-svg') !== null"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """An open page, with all that it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True, **context)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.set_default_timeout(20_000)
        started = perf_counter()
        self.page.goto(path.as_uri())
        self.seconds = perf_counter() - started

    def column(self, table: str, place: int) -> list[str]:
        return [
            text.split("\n")[0]
            for text in self.page.locator(f"#{table} tbody tr > :nth-child({place})").all_inner_texts()
        ]

    def draw(self, figure: str) -> None:
        """Scroll the figure into view and wait until it is drawn or says why not."""
        self.page.locator(f"figure:has(#{figure})").scroll_into_view_if_needed()
        for _ in range(400):  # `wait_for_function` evaluates text, which the page forbids
            if self.page.evaluate(SETTLED, figure):
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(f"{figure} was not drawn")

    def draw_all(self) -> list[str]:
        figures = self.page.evaluate(
            "() => [...document.querySelectorAll('figure:not([hidden]) .plot')].map(plot => plot.id)"
        )
        for figure in figures:
            self.draw(figure)
        return list(figures)

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []
        assert self.requests
        assert all(url.startswith(("file:", "data:", "blob:")) for url in self.requests), self.requests


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page"), known_page(known_analysis(known_scores())))


@pytest.fixture
def visit(browser: Any, path: Path) -> Iterator[Visit]:
    visit = Visit(browser, path)
    yield visit
    visit.close()


def test_it_opens_and_shows_a_table_at_once(visit: Visit) -> None:
    assert visit.column("table-models", 1) == ["DTFD-MIL", "MMoE+AMIL", "MMoE+MP-AMIL", "M4"][-4:]
    print(f"opened in {visit.seconds:.2f} s")  # noqa: T201 - for the reader of -s; benchmarks/page_speed.py measures


def test_a_table_sorts_by_mouse_and_by_key_and_says_so(visit: Visit) -> None:
    head = visit.page.locator("#table-models thead th").nth(1)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(text) for text in visit.column("table-models", 2)]
    assert values == sorted(values, reverse=True)
    visit.page.keyboard.press("Enter")  # the button keeps the focus over the redrawing
    assert visit.page.locator("#table-models thead th").nth(1).get_attribute("aria-sort") == "ascending"
    assert [float(text) for text in visit.column("table-models", 2)] == sorted(values)


def test_the_filter_narrows_tables_to_a_cohort_and_a_gene(visit: Visit) -> None:
    visit.page.select_option("#filter-cohort", "tcga-c1")
    visit.page.select_option("#filter-task", "GENE2")
    assert visit.column("table-tasks", 1) == ["GENE2"]
    assert visit.column("table-tasks", 2) == ["TCGA-C1"]
    assert visit.page.locator("figure:has(#radar-0)").is_hidden()
    visit.page.click("#filter-reset")
    assert len(visit.column("table-tasks", 1)) == 10


def test_a_model_leaves_the_radar_by_its_legend_and_by_the_filter(visit: Visit) -> None:
    def hidden() -> list[str]:
        return list(
            visit.page.evaluate(
                "() => document.getElementById('radar-0').data.filter(t => t.visible !== true).map(t => t.name)"
            )
        )

    visit.draw("radar-0")
    visit.page.locator("#radar-0 .legendtoggle").first.click()
    visit.page.wait_for_timeout(600)  # Plotly waits for a second press
    assert [name.split("  ")[0] for name in hidden()] == ["DTFD-MIL"]
    visit.page.click(".chip[data-model=m4]")
    visit.page.wait_for_timeout(300)
    assert any(name.startswith("M4") for name in hidden())
    assert "M4" not in visit.column("table-models", 1)


def test_dark_and_light_change_places(visit: Visit) -> None:
    paper = "() => getComputedStyle(document.body).backgroundColor"
    light = visit.page.evaluate(paper)
    visit.draw("box")
    visit.page.click("#theme")
    dark = visit.page.evaluate(paper)
    assert dark != light
    assert visit.page.locator("#theme").get_attribute("aria-pressed") == "true"
    visit.page.click("#theme")
    assert visit.page.evaluate(paper) == light


def test_every_chart_is_drawn_and_has_an_accessible_name(visit: Visit) -> None:
    figures = visit.draw_all()
    assert set(figures) >= {"box", "radar-0", "critical-difference", "comparison-matrix", "roc", "pareto", "training"}
    for figure in figures:
        assert visit.page.evaluate(DRAWN, figure), figure
        name = visit.page.locator(f"#{figure}").get_attribute("aria-label") or ""
        assert len(name) > 40, f"{figure}: {name}"


def test_every_control_and_region_has_a_name_and_every_head_a_scope(visit: Visit) -> None:
    visit.draw_all()
    nameless = visit.page.evaluate("""() => [
        ...[...document.querySelectorAll('select')].filter(node => !node.labels.length),
        ...[...document.querySelectorAll('button')].filter(node => !node.textContent && !node.ariaLabel),
        ...[...document.querySelectorAll('[role=region], section, figure')].filter(node => !node.ariaLabel && !document.getElementById(node.getAttribute('aria-labelledby'))),
        ...[...document.querySelectorAll('table')].filter(node => !node.caption),
        ...[...document.querySelectorAll('th')].filter(node => !node.scope),
    ].map(node => node.outerHTML.slice(0, 200))""")
    assert nameless == []
    ids = visit.page.evaluate("() => [...document.querySelectorAll('body > :not(script) [id]')].map(node => node.id)")
    own = [name for name in ids if not name.startswith(("defs", "topdefs", "clip", "legend"))]
    assert len(own) == len(set(own))
    assert visit.page.locator("main, header, nav, footer").count() == 4
    inside = "[role=img] :is(a, button, input, select, [tabindex])"
    assert visit.page.locator(inside).count() == 0, "a picture hides what is in it from a screen reader"


def test_a_table_is_saved_as_csv_in_full(visit: Visit) -> None:
    with visit.page.expect_download() as waiting:
        visit.page.get_by_role("button", name="Save as CSV: Test AUROC by task").click()
    table = pd.read_csv(waiting.value.path())
    assert len(table) == 2 * 5 * 4
    assert {"dataset", "task", "model", "auroc", "low", "high"} <= set(table.columns)


def test_a_phone_scrolls_down_only(browser: Any, path: Path) -> None:
    visit = Visit(browser, path)
    visit.page.set_viewport_size({"width": 360, "height": 800})
    visit.draw_all()
    assert visit.page.evaluate("() => document.documentElement.scrollWidth") == 360
    visit.close()


def test_paper_gets_the_charts(visit: Visit) -> None:
    visit.draw("box")
    visit.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    undrawn = visit.page.evaluate(
        "() => [...document.querySelectorAll('.plot')].filter(plot => !plot.querySelector('.main-svg')).map(plot => plot.id)"
    )
    assert undrawn == []
    visit.page.evaluate("() => dispatchEvent(new Event('afterprint'))")


def undefined_page() -> PageData:
    scores = known_scores()
    scores.loc[scores["task"] == "GENE1", "score"] = np.nan
    return known_page(known_analysis(scores))


EVIL = "<img src=x onerror=alert(1)>&_%{x}Ω基因</script>"


def evil_page() -> PageData:
    scores = known_scores().replace({"task": {"GENE1": EVIL}, "title": {"M4": EVIL}})
    return replace(known_page(known_analysis(scores), title=EVIL), notes=(EVIL,))


def bare_page() -> PageData:
    page = known_page(known_analysis(known_scores()))
    return PageData("bare", page.analysis)


HARD = {
    "one model": lambda: known_page(known_analysis(known_scores(models=1))),
    "one fold": lambda: known_page(known_analysis(known_scores(folds=1))),
    "one task": lambda: known_page(known_analysis(known_scores(cohorts=1, tasks=1, control=False))),
    "a hundred tasks": lambda: known_page(known_analysis(known_scores(cohorts=1, tasks=100, models=9, folds=1))),
    "undefined": undefined_page,
    "nothing defined": lambda: known_page(known_analysis(known_scores().assign(score=np.nan))),
    "evil names": evil_page,
    "bare": bare_page,
    "one epoch": lambda: known_page(known_analysis(known_scores()), epochs=1),
}


@pytest.mark.parametrize("case", HARD)
def test_hard_cases_open_and_draw_without_complaint(browser: Any, tmp_path: Path, case: str) -> None:
    visit = Visit(browser, write_page(tmp_path, HARD[case]()))
    assert visit.draw_all()
    assert visit.page.locator("img").count() == 0
    visit.close()


def test_without_the_script_file_the_tables_still_stand(browser: Any, path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "index.html")
    visit = Visit(browser, tmp_path / "index.html")
    visit.draw_all()
    assert "plotly.min.js does not lie beside this page" in visit.page.locator("figure:has(#box) .empty").inner_text()
    assert len(visit.column("table-models", 1)) == 4
    visit.context.close()


def test_the_data_in_the_page_are_json(path: Path, visit: Visit) -> None:
    for name in ("core", "curves", "roc"):
        assert json.loads(visit.page.evaluate("name => document.getElementById(`data-${name}`).textContent", name))


def test_claims_have_a_section_of_their_own_only_where_there_are_some(browser: Any, path: Path, tmp_path: Path) -> None:
    plain = Visit(browser, path)
    assert not plain.page.locator("#claims").is_visible()
    assert not plain.page.locator("#claims-link").is_visible()
    plain.close()
    drafts = [
        Draft("told", [Contrast("M4 − AMIL", 0.05, np.array([0.04, 0.06]))], above(), paper=0.04),
        Draft("untold", [Contrast("M4 − DSMIL", why="dsmil was not trained on <b>toy</b>")], above()),
    ]
    claims = claim_frame([judge(1, "M4 is best", "4.2", drafts)])
    assert claims is not None
    page = replace(known_page(known_analysis(known_scores())), claims=claims)
    visit = Visit(browser, write_page(tmp_path, page))
    assert visit.page.locator("#claims-link").is_visible()
    assert visit.column("table-claims", 3) == ["cannot be told"]
    assert visit.column("table-claims", 4) == ["1 of 2"]
    assert visit.column("table-statements", 2) == ["+0.040", "–"]
    assert visit.column("table-statements", 6) == ["held", "cannot be told"]
    assert "<b>toy</b>" in visit.page.locator("#table-claims").inner_text()
    visit.close()
