"""What `digits` is for: it tells ways of pooling apart, in the very run that the README starts."""

import pandas as pd
import pytest
from commands_for_tests import Milbench

from milbench.stats.scores import score_table, summary
from milbench.store.run import open_run

PRESENCE = ["has_0", "has_2", "has_4", "has_6", "has_9"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_default_run_separates_the_models_as_its_page_says(milbench: Milbench, tmp_path) -> None:
    result = milbench("run", "--no-tracking", timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    scores = score_table([open_run(tmp_path / "runs" / "digits")])
    means = summary(scores).set_index("model")["mean"]
    by_task: pd.DataFrame = scores.groupby(["model", "task"])["score"].mean().unstack()
    assert len(means) == 9
    assert means["amil"] >= means["mean_pooling"] + 0.05
    assert by_task.loc["max_pooling", PRESENCE].mean() >= by_task.loc["mean_pooling", PRESENCE].mean() + 0.1
    assert by_task.loc["max_pooling", "many_3"] < 0.7 < 0.95 < by_task.loc["mean_pooling", "many_3"]
    assert means.max() <= 0.97
    assert by_task["control"].between(0.40, 0.60).all(), by_task["control"]
