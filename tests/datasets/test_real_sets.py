"""Classic real MIL sets, end to end: an honest protocol reaches what is known of them, and not more."""

from pathlib import Path

import pytest
from commands_for_tests import Milbench
from places import SHARED

from milbench.stats.scores import score_table, summary
from milbench.store.run import open_run

DATA = SHARED / "data"
SETTINGS = "feature_scaling: standard\ntrainer: {lr: 0.0005, epochs: 40, weight_decay: 0.005}\nmodel: {hidden: 128, attention: 64}\n"


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not DATA.exists(), reason="the real sets are not beside the checkout")
@pytest.mark.parametrize(("name", "least"), [("musk1", 0.80), ("ucsb_breast", 0.70)])
def test_attention_finds_the_signal_of_a_real_set(milbench: Milbench, tmp_path: Path, name: str, least: float) -> None:
    """`least` lies two standard errors under what is known of 5 folds that share a test set of 12 to 19 bags."""
    path = tmp_path / f"{name}.yaml"
    path.write_text(
        f"name: {name}\nlabels: {DATA / name / 'labels.csv'}\nfeatures: {DATA / name / 'features'}\n{SETTINGS}"
    )
    result = milbench("run", "--cohort", str(path), "--models", "amil", "mean_pooling", "--no-tracking", timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    means = summary(score_table([open_run(tmp_path / "runs" / name)])).set_index("model")["mean"]
    assert means["amil"] > least
