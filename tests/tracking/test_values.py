"""What MLflow is told: names that it takes, one for each task."""

import pytest
from mlflow.utils.validation import _validate_metric_name

from milbench.tracking.values import chart_of


@pytest.mark.parametrize(
    "task", ["HER2 [IHC]", "ER+/HER2-", "MSI/MMR", "a//b", "/", "p53 (>50 %)", "a=b", "TP53", "has_0", "ü"]
)
def test_mlflow_takes_the_chart_of_any_task(task: str) -> None:
    _validate_metric_name(chart_of(task))


def test_tasks_that_mlflow_takes_keep_their_chart_and_no_two_share_one() -> None:
    assert chart_of("TP53 exon 8") == "test/auroc TP53 exon 8"
    tasks = ["ER+", "ER-", "ER_", "ER/", "ER[", "ER"]
    assert len({chart_of(task) for task in tasks}) == len(tasks)
