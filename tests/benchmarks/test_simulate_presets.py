"""The tables from which docs/simulate.md takes its numbers are those of the committed scores."""

import pandas as pd
import pytest
from simulate_presets import TABLES, spread, tables, told_of


def test_the_tables_are_those_of_the_scores() -> None:
    assert TABLES.read_text(encoding="utf-8") == tables()


def test_an_interval_is_students_t() -> None:
    assert spread(pd.Series([0.5, 0.7]).to_numpy(), "") == "-0.671 to 1.871"  # 0.6 ± 12.706 × 0.1414 / √2


@pytest.mark.parametrize(
    ("n_seeds", "end"), [(4, "3 of 4 seeds."), (6, "5 of 6 seeds; the first 5 alone show +0.060, -0.051 to +0.171.")]
)
def test_seeds_in_which_a_model_is_better_are_counted(n_seeds: int, end: str) -> None:
    better = pd.Series([0.6, 0.6, 0.6, 0.4, 0.6, 0.6][:n_seeds])
    rows = pd.DataFrame({"a": better, "b": 0.5})
    assert told_of("a", "b", rows) == f"- a is above b with {end}\n"
