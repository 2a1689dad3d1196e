"""MLflow's metrics of a run with tasks of every kind: each by the name of its own."""

from pathlib import Path

import pytest
from kinds_for_tests import ENDPOINTS, make_run_of_kinds

from milbench.endpoints.endpoint import KINDS
from milbench.stats.metric import METRICS
from milbench.stats.scores import score_table, summary
from milbench.tracking.values import metrics_of, summary_of

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and on use


def test_every_kind_has_its_metric_and_no_mean_is_over_two_kinds(tmp_path: Path) -> None:
    run = make_run_of_kinds(tmp_path / "kinds", folds=(0, 1))
    trials = [trial for trial in run.trials() if trial.info["model"] == "m4"]
    found = {metric.key: metric.value for metric in metrics_of(trials[0])}
    means = summary_of(trials, {"control"})
    assert next(iter(means)) == "test/auroc"
    for task, endpoint in ENDPOINTS.items():
        assert f"test/{METRICS[endpoint.kind].name} {task}" in found.keys() & means.keys()
    for kind in KINDS:
        table = summary(score_table([run], kind)).set_index("model")
        assert means[f"test/{METRICS[kind].name}"] == pytest.approx(table.loc["m4", "mean"])
    assert {"val/score", "train/loss", "val/loss"} <= found.keys()
