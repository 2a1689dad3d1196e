"""What of a run stands in MLflow: a tree of parents and trials, nothing twice."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from runs_for_tests import make_run
from tracked_for_tests import killing, stored

from milbench.store.run import Run
from milbench.tracking.client import default_uri
from milbench.tracking.publish import publish
from milbench.tracking.publisher import BEST_FIRST, KIND, Publisher

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and on use


def test_published_runs_form_a_tree_of_parents_and_trials(run: Run) -> None:
    assert publish(run, default_uri(run.path.parent)) == 10
    runs = stored(run)
    parents = {r.info.run_id: r for r in runs if r.data.tags[KIND] == "parent"}
    children = [r for r in runs if r.data.tags[KIND] == "trial"]
    assert sorted(r.data.params["model"] for r in parents.values()) == ["amil", "m4"]
    assert len(children) == 10
    for child in children:
        assert parents[child.data.tags["mlflow.parentRunId"]].data.params["model"] == child.data.params["model"]
        assert {"task", "fold", "seed", "model.hidden", "trainer.lr"} <= child.data.params.keys()
        assert all(r.info.status == "FINISHED" for r in runs)


def test_metrics_are_those_of_the_store(run: Run) -> None:
    from milbench.stats.scores import score_table, summary

    publish(run, default_uri(run.path.parent))
    scores = score_table([run])
    means = summary(scores).set_index("model")["mean"]
    for entry in stored(run):
        facts, metrics = entry.data.params, entry.data.metrics
        if entry.data.tags[KIND] == "parent":
            assert metrics["test/auroc"] == pytest.approx(means[facts["model"]])
        else:
            assert metrics["val/auroc"] == 0.7
            assert metrics["train/loss"] == 0.5
            assert metrics["val/loss"] == 0.8, "a NaN epoch is left out"
            if facts["task"] != "all":
                expected = scores.set_index(["model", "task", "fold"])["auroc"]
                cell = facts["model"], facts["task"], int(facts["fold"])
                assert metrics["test/auroc"] == pytest.approx(expected[cell])


def test_what_a_killed_command_left_half_written_is_replaced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = default_uri(run.path.parent)
    publisher = Publisher(uri, run)
    with monkeypatch.context() as killed:
        killed.setattr(publisher.client, "set_terminated", killing)
        with pytest.raises(KeyboardInterrupt):
            publisher.publish(run.trials()[0])
    publish(run, uri)
    assert len(stored(run)) == 2 + len(run.trials())
    assert {entry.info.status for entry in stored(run)} == {"FINISHED"}


def test_a_deleted_experiment_comes_back(run: Run) -> None:
    uri = default_uri(run.path.parent)
    publisher = Publisher(uri, run)
    publisher.client.delete_experiment(publisher.experiment)
    assert publish(run, uri) == 10
    assert len(stored(run)) == 12


def test_a_parent_lasts_from_its_first_trials_start_to_its_last_trials_end(
    tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    run = make_run(tmp_path / "toy", models=("amil", "m4"), folds=(0, 1), apart=timedelta(minutes=-1))
    publish(run, default_uri(tmp_path))
    seconds = {}
    for entry in stored(run):
        assert entry.info.end_time >= entry.info.start_time
        if entry.data.tags[KIND] == "parent":
            seconds[entry.data.params["model"]] = (entry.info.end_time - entry.info.start_time) / 1000
    assert seconds == {"amil": 7 * 60 + 2, "m4": 60 + 2}, "trials of two seconds, a minute apart, newest first by name"


def test_the_view_that_a_link_opens_is_stored_with_the_experiment(run: Run) -> None:
    publisher = Publisher(default_uri(run.path.parent), run)
    tags = publisher.client.get_experiment(publisher.experiment).tags
    view = json.loads(tags[f"mlflow.sharedViewState.{BEST_FIRST}"])
    publisher.publish(run.trials()[0])
    listed = publisher.client.search_runs([publisher.experiment], filter_string=view["searchFilter"])
    assert [entry.data.tags[KIND] for entry in listed] == ["parent"]
