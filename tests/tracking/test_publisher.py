"""What of a run stands in MLflow: a tree of parents and trials, nothing twice."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from runs_for_tests import make_run
from tracked_for_tests import killing, stored

from milbench.errors import TrackingError
from milbench.store.run import Run
from milbench.store.trial import StoredTrial
from milbench.tracking.client import default_uri
from milbench.tracking.publish import publish
from milbench.tracking.publisher import BEST_FIRST, KIND, TOLD_EACH_TIME, TRIAL_KEY, Publisher
from milbench.tracking.values import summary_of

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
                expected = scores.set_index(["model", "task", "fold"])["score"]
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


def test_a_parent_shows_the_summary_of_all_trials_also_if_the_last_to_come_was_not_the_last_to_end(
    tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    run = make_run(tmp_path / "toy", models=("amil", "m4"), folds=(0, 1), apart=timedelta(minutes=1))
    publisher, everything = Publisher(default_uri(tmp_path), run), run.trials()
    amil = [trial for trial in everything if trial.info["model"] == "amil"]
    latest = max(amil, key=lambda trial: trial.info["finished_at"])
    controls = set(run.datasets[latest.info["dataset"]]["control_tasks"])
    for trials in ([latest], amil, amil[:2], [trial for trial in amil if trial is not latest], amil, amil):
        publisher._summarise(latest.info["dataset"], trials)
        (parent,) = stored(run)
        assert summary_of(trials, controls).items() <= parent.data.metrics.items()
    assert len(publisher.client.get_metric_history(parent.info.run_id, TOLD_EACH_TIME)) == 5, "the last changed nothing"


def test_the_view_that_a_link_opens_is_stored_with_the_experiment(run: Run) -> None:
    publisher = Publisher(default_uri(run.path.parent), run)
    tags = publisher.client.get_experiment(publisher.experiment).tags
    view = json.loads(tags[f"mlflow.sharedViewState.{BEST_FIRST}"])
    publisher.publish(run.trials()[0])
    listed = publisher.client.search_runs([publisher.experiment], filter_string=view["searchFilter"])
    assert [entry.data.tags[KIND] for entry in listed] == ["parent"]


ODD = ("ER+", "ER-", "ER_", "HER2 (IHC)", "HER2 _IHC_", "MSI/MMR", "a//b", "../up", "µ, σ", 'O\'Neil "x"', "x" * 400)


def test_task_names_that_mlflow_refuses_get_one_that_it_takes_and_keep_theirs_in_a_tag(
    tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    run = make_run(tmp_path / "toy", models=("m4",), folds=(0,), tasks=ODD)
    assert publish(run, default_uri(tmp_path)) == 1
    expected = {task: mean for task, mean in summary_of(run.trials(), set()).items() if task.startswith("test/auroc ")}
    assert len(expected) == len(ODD)
    for entry in stored(run):
        names = [name.removeprefix("test/auroc ") for name in entry.data.metrics if name.startswith("test/auroc ")]
        true = {name: entry.data.tags.get(f"milbench.task.{name}", name) for name in names}
        assert sorted(true.values()) == sorted(ODD)
        assert {"ER-", "ER_", "MSI/MMR"} <= set(names), "what MLflow takes stays as it is"


def test_the_true_name_of_a_single_task_is_a_parameter_that_the_compare_view_shows(
    tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    run = make_run(tmp_path / "toy", models=("amil",), folds=(0,), tasks=("ER+", "ER-"))
    publish(run, default_uri(tmp_path))
    children = [entry for entry in stored(run) if entry.data.tags[KIND] == "trial"]
    assert sorted(child.data.params["task"] for child in children) == ["ER+", "ER-"]


def test_cohorts_with_quotes_in_their_names_each_have_one_parent(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    names = ("O'Neil", 'the "new" one', """both ' and " here""")
    run = make_run(tmp_path / "toy", datasets=names, models=("m4",), folds=(0,))
    for _ in range(2):
        assert publish(Run(run.path), default_uri(tmp_path)) == 3
    parents = [entry.data.tags["dataset"] for entry in stored(run) if entry.data.tags[KIND] == "parent"]
    assert sorted(parents) == sorted(names)


def test_a_run_with_more_metrics_than_a_call_takes_is_published(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    tasks = tuple(f"T{n}+" for n in range(1100))
    run = make_run(tmp_path / "toy", models=("m4",), folds=(0,), tasks=tasks)
    assert publish(run, default_uri(tmp_path)) == 1
    assert all(len(entry.data.metrics) > 1100 for entry in stored(run))


def test_what_tracking_deleted_stays_deleted_when_the_experiment_is_restored(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = default_uri(run.path.parent)
    publisher = Publisher(uri, run)
    with monkeypatch.context() as killed:
        killed.setattr(publisher, "_log", killing)
        with pytest.raises(KeyboardInterrupt):
            publisher.publish(run.trials()[0])
    assert publish(run, uri) == 10
    assert len(stored(run)) == 12
    for restored in (restore_from_outside, lambda _: None):
        publisher.client.delete_experiment(publisher.experiment)
        restored(publisher)
        assert publish(Run(run.path), uri) == 10
        assert len(stored(run)) == 12, "MLflow brings back every run of an experiment"
        assert {entry.info.status for entry in stored(run)} == {"FINISHED"}


def restore_from_outside(publisher: Publisher) -> None:
    publisher.client.restore_experiment(publisher.experiment)


def test_what_a_user_deleted_and_a_restored_experiment_brings_back_is_not_there_twice(run: Run) -> None:
    uri = default_uri(run.path.parent)
    publish(run, uri)
    publisher = Publisher(uri, run)
    for entry in [entry for entry in stored(run) if entry.data.tags[KIND] == "trial"][:3]:
        publisher.client.delete_run(entry.info.run_id)
    publish(Run(run.path), uri)
    publisher.client.delete_experiment(publisher.experiment)
    publish(Run(run.path), uri)
    keys = [entry.data.tags[TRIAL_KEY] for entry in stored(run) if TRIAL_KEY in entry.data.tags]
    assert len(keys) == len(set(keys)) == 10


def test_a_trial_that_is_refused_half_way_leaves_no_half(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = default_uri(run.path.parent)
    odd = run.trials()[3]
    original = StoredTrial.history

    def broken(trial: StoredTrial) -> object:
        table = original(trial)
        return table.assign(epoch=[-(2**70)] * len(table)) if trial.id == odd.id else table

    monkeypatch.setattr(StoredTrial, "history", broken)
    with pytest.raises(TrackingError, match=f"MLflow refused 1 of the runs, the first of them {odd.id}"):
        publish(run, uri)
    assert len(stored(run)) == 11
    assert {entry.info.status for entry in stored(run)} == {"FINISHED"}
    monkeypatch.undo()
    assert publish(run, uri) == 10
    assert len(stored(run)) == 12
