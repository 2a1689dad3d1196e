"""The table of external cohorts in docs/simulate.md is that of the committed scores, whose labels are today's."""

from pathlib import Path

import pandas as pd
import pytest
from simulate_external import COHORTS, PLACE, PRESET, as_drawn, optimum, table

from milbench.commands.cli import main as milbench

ROWS = pd.read_csv(PLACE.result)


def test_the_page_says_what_was_measured() -> None:
    page = PLACE.page.read_text(encoding="utf-8")
    assert PLACE.on(page, table(ROWS)) == page


def test_todays_command_draws_the_same_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert milbench(["data", "simulate", PRESET, "--out", "rare", *COHORTS["rare"]]) == 0
    stored = ROWS[ROWS["cohort"] == "rare"]
    assert stored.groupby("task")["as_drawn"].first().to_dict() == pytest.approx(as_drawn(tmp_path, "rare"), abs=1e-5)
    assert stored["optimum"].to_numpy() == pytest.approx(optimum(tmp_path / "rare"), abs=1e-5)
