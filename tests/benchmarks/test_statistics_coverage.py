"""The first three tables of docs/statistics.md are those of the committed simulations."""

import pandas as pd
import statistics_coverage as one_cohort
import statistics_coverage_across as several
from places import ROOT
from statistics_coverage import RESULTS

PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


def test_the_page_shows_the_setting_of_the_requirement() -> None:
    rows = pd.read_csv(RESULTS / "statistics_coverage_requirement.csv")
    assert one_cohort.requirement_table(rows) in PAGE


def test_the_page_shows_every_setting() -> None:
    rows = pd.read_csv(RESULTS / "statistics_coverage.csv")
    assert set(rows["name"]) == {setting.name for setting in one_cohort.SETTINGS}
    assert one_cohort.settings_table(rows) in PAGE


def test_the_page_shows_means_over_cohorts() -> None:
    rows = pd.read_csv(RESULTS / "statistics_coverage_across.csv")
    assert several.as_markdown(rows) in PAGE
