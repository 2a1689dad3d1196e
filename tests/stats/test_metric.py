"""Primary metrics: one per kind, and the names that their columns have in files."""

from __future__ import annotations

import pandas as pd
import pytest

from milbench.endpoints.endpoint import KINDS
from milbench.stats.metric import AUROC, METRICS, PrimaryMetric


def test_every_kind_of_task_has_a_metric_of_its_own() -> None:
    assert tuple(METRICS) == KINDS
    assert len({metric.name for metric in METRICS.values()}) == len(KINDS)


def test_files_of_binary_tasks_keep_the_names_of_their_columns() -> None:
    frame = pd.DataFrame(columns=["model", "score", "ensemble_score", "ensemble_low", "ensemble_high", "p_ensemble"])
    written = ["model", "auroc", "ensemble_auroc", "delong_low", "delong_high", "p_delong"]
    assert list(AUROC.as_written(frame)) == written


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_files_name_the_metric_and_leave_other_columns_alone(metric: PrimaryMetric) -> None:
    frame = pd.DataFrame({"score": [0.5], "low": [0.4]})
    assert list(metric.as_written(frame)) == [metric.name, "low"]
    assert metric.worst <= metric.chance < metric.best
