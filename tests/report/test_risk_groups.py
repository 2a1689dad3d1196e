"""Risk groups: cut at the training side's median, pooled only where each patient was tested once."""

from pathlib import Path

import numpy as np
import pytest
from kinds_for_tests import make_run_of_kinds
from statsmodels.duration.survfunc import survdiff

from milbench.report.risk_groups import (
    Groups,
    ensemble_groups,
    group_frame,
    month_ticks,
    p_text,
    pooled,
    risk_groups,
    survival_figure,
)


def groups(patients: str, fold: int = 0, seed: int = 42) -> Groups:
    n = len(patients)
    time = np.arange(1.0, n + 1) * 100
    return Groups(fold, seed, np.array(list(patients), dtype=object), time, np.ones(n), np.arange(n) % 2 == 0)


def test_the_cut_is_the_median_of_the_trainings_own_training_patients(tmp_path: Path) -> None:
    run = make_run_of_kinds(tmp_path / "run", tasks=("OS",), folds=(0, 1))
    found = risk_groups(run.trials())
    assert set(found) == {("OS", "amil"), ("OS", "m4")}
    for trial in run.trials():
        rows = trial.answers().query("role == 'test' and answer == 'risk' and target == target")
        high = rows.groupby("patient_id")["prediction"].mean() > trial.info["training_risk"]["OS"]["median"]
        mine = next(one for one in found["OS", trial.info["model"]] if one.fold == trial.info["fold"])
        assert dict(zip(mine.patients, mine.is_high, strict=True)) == high.to_dict()
        assert 0 < mine.is_high.mean() < 1


def test_the_log_rank_p_is_that_of_statsmodels(tmp_path: Path) -> None:
    run = make_run_of_kinds(tmp_path / "run", tasks=("OS",), folds=(0,))
    found = risk_groups(run.trials())
    frame = group_frame(found).set_index("model")
    one = found["OS", "amil"][0]
    chi2, p = survdiff(one.time, one.event, one.is_high)
    assert frame.loc["amil", ["log_rank_chi2", "log_rank_p"]].tolist() == pytest.approx([chi2, p])
    assert frame.loc["amil", ["n_low", "n_high"]].sum() == len(one.patients)


def test_folds_are_pooled_only_if_every_patient_was_tested_once() -> None:
    (both,) = pooled([groups("abc"), groups("de", fold=1)])
    assert list(both.patients) == list("abcde")
    assert (both.fold, both.name) == (None, "all folds")
    shared = [groups("abc"), groups("abc", fold=1)]
    assert pooled(shared) == shared


def test_one_training_alone_is_cut_where_it_is_cut_by_itself(tmp_path: Path) -> None:
    run = make_run_of_kinds(tmp_path / "run", tasks=("OS",), folds=(0,))
    for panel, (own,) in risk_groups(run.trials()).items():
        together = ensemble_groups(run.trials())[panel]
        np.testing.assert_array_equal(together.patients, own.patients)
        np.testing.assert_array_equal(together.is_high, own.is_high)
        np.testing.assert_array_equal(together.time, own.time)


def test_an_ensemble_counts_risks_in_deviations_from_each_training_s_own_median(tmp_path: Path) -> None:
    run = make_run_of_kinds(tmp_path / "run", tasks=("OS",), folds=(0, 1))
    together = ensemble_groups(run.trials())["OS", "amil"]
    above = []
    for trial in (trial for trial in run.trials() if trial.info["model"] == "amil"):
        rows = trial.answers().query("role == 'test' and answer == 'risk' and target == target")
        risk, told = rows.groupby("patient_id")["prediction"].mean(), trial.info["training_risk"]["OS"]
        above.append((risk - told["median"]) / told["sd"])
    expected = (sum(above) / len(above))[list(together.patients)] > 0
    np.testing.assert_array_equal(together.is_high, expected)
    assert len(set(together.patients)) == len(together.patients)


def test_trainings_that_share_patients_are_shown_for_the_first_seed() -> None:
    trainings = [groups("ab", fold, seed) for fold in (0, 1) for seed in (1, 2)]
    assert [(one.fold, one.seed) for one in pooled(trainings)] == [(0, 1), (1, 1)]


def test_an_empty_group_and_a_side_without_events_have_no_p() -> None:
    one = groups("abcd")
    assert np.isnan(one._replace(is_high=np.zeros(4, dtype=bool)).p)
    assert np.isnan(one._replace(event=np.zeros(4)).p)
    assert (p_text(float("nan")), p_text(0.0004), p_text(0.25)) == ("–", "< 0.001", "0.250")


def test_a_panel_tells_patients_events_and_p_and_counts_those_at_risk() -> None:
    figure = survival_figure([("OS", "OS, AMIL", groups("abcdefgh"))], "title")
    (axes,) = figure.axes
    assert "low 4 (4 events), high 4 (4 events)" in axes.get_title()
    assert "log-rank p" in axes.get_title()
    counts = [text.get_text() for text in axes.texts]
    assert counts.count("4") >= 2, "all are at risk at first"
    assert {"low risk", "high risk"} <= set(counts)


@pytest.mark.parametrize(
    ("longest", "last"), [(0.1, 0), (5, 5), (31, 30), (100, 96), (500, 480), (5000, 4800), (1e9, 9.6e8), (1e15, 9.6e14)]
)
def test_an_axis_of_months_has_at_most_six_ticks(longest: float, last: float) -> None:
    ticks = month_ticks(longest)
    assert ticks[0] == 0
    assert ticks[-1] == last
    assert len(ticks) <= 6
