"""The simulation of other kinds: its truth is what large test sets give, and the docs show what it found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statistics_coverage_kinds as simulation
from places import ROOT
from statistics_coverage_kinds import METRICS, RESULTS, SETTINGS, Setting, as_markdown, made_task, truth

from milbench.stats.crossed import fold_scores

ONE_OF_EACH = list({setting.metric: setting for setting in SETTINGS if setting.weaker < 1}.values())


@pytest.mark.parametrize("setting", ONE_OF_EACH, ids=lambda setting: setting.metric)
def test_the_truth_is_the_mean_over_large_test_sets(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "PAIRS", 300_000)
    large, scored = replace(setting, n=1000), METRICS.get(setting.metric, fold_scores)
    tasks = [made_task(large, np.random.default_rng(seed)) for seed in range(12)]
    once = np.ones((1, 1000), dtype=np.int64)
    found = np.mean([scored(task, once)[0].mean(axis=1) for task in tasks], axis=0)
    np.testing.assert_allclose(found, truth(setting), atol=0.015)


def test_as_many_are_censored_as_a_setting_says() -> None:
    for setting in SETTINGS:
        if setting.metric == "c":
            task = made_task(replace(setting, n=20_000), np.random.default_rng(0))
            assert 1 - task.events.mean() == pytest.approx(setting.censored, abs=0.01)


def test_the_docs_show_the_stored_numbers() -> None:
    rows = pd.read_csv(RESULTS / "statistics_coverage_kinds.csv")
    assert len(rows) == len(SETTINGS)
    assert as_markdown(rows) in (ROOT / "docs" / "statistics.md").read_text()
