"""The benchmark of bf16's effect: pairs, not means of different cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from precision import compare

KEYS = ["model", "dataset", "task", "fold", "seed"]


def scores(model: str = "amil") -> pd.Series:
    cells = [(model, "digits", task, fold, seed) for task in "ab" for fold in range(3) for seed in (1, 2)]
    values = np.random.default_rng(0).uniform(0.5, 0.9, len(cells))
    return pd.Series(values, pd.MultiIndex.from_tuples(cells, names=KEYS), name="auroc")


def test_a_constant_difference_has_an_interval_of_no_width() -> None:
    base = scores()
    row = compare(base, base + 0.01, 500).iloc[0]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((0.01, 0.01, 0.01))
    assert (row["n_units"], row["n_tasks"]) == (6, 2)


def test_differences_are_paired_whatever_the_order_and_undefined_scores_count_on_neither_side() -> None:
    base = scores()
    other = base + 0.01
    other.iloc[0], base.iloc[3] = np.nan, np.nan
    assert compare(base, other[::-1], 500)["difference"].iloc[0] == pytest.approx(0.01)


def test_the_interval_is_that_of_units_not_of_tasks() -> None:
    base = scores()
    # both tasks of a unit differ by the same: as many tasks as one likes bring no certainty
    shift = pd.Series([0.01 * (2 * key[3] + key[4]) for key in base.index], base.index)
    row = compare(base, base + shift, 20_000).iloc[0]
    by_unit = 0.01 * np.arange(1, 7)
    assert row["difference"] == pytest.approx(by_unit.mean())
    half = 1.96 * by_unit.std() / np.sqrt(len(by_unit))
    assert (row["low"], row["high"]) == pytest.approx((by_unit.mean() - half, by_unit.mean() + half), abs=0.002)


def test_runs_of_different_trials_are_refused() -> None:
    with pytest.raises(SystemExit, match="different trials"):
        compare(scores(), scores().iloc[1:], 10)
