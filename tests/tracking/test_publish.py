"""MLflow: the tree of runs, nothing twice, and a server that is away disturbs nobody."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from runs_for_tests import make_run

from milbench.errors import TrackingError
from milbench.store.run import Run
from milbench.tracking.client import client_of, default_uri, without_password
from milbench.tracking.publish import (
    BEST_FIRST,
    KIND,
    TRIAL_KEY,
    Tracker,
    _Publisher,
    publish,
    publish_report,
    report_files,
    tracked_at,
)
from milbench.tracking.ui import ui_command, ui_links

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and on use


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with tables and nothing in them: making one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("database")
    client_of(default_uri(folder))
    return folder / "mlflow.db"


@pytest.fixture
def run(tmp_path: Path, empty_database: Path) -> Run:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return make_run(tmp_path / "toy", models=("amil", "m4"), folds=(0, 1))


def stored(run: Run) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=default_uri(run.path.parent))
    experiment = client.get_experiment_by_name(f"milbench {run.name}")
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


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


def test_publishing_twice_doubles_nothing(run: Run) -> None:
    uri = default_uri(run.path.parent)
    publish(run, uri)
    first = {r.info.run_id for r in stored(run)}
    publish(Run(run.path), uri)
    assert {r.info.run_id for r in stored(run)} == first


def test_two_commands_on_one_run_folder_double_nothing(run: Run) -> None:
    uri = default_uri(run.path.parent)
    mine, theirs = _Publisher(uri, run), _Publisher(uri, Run(run.path))
    for trial in run.trials():
        mine.publish(trial)
        theirs.publish(trial)
    assert len(stored(run)) == 2 + len(run.trials())


def test_what_a_killed_command_left_half_written_is_replaced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = default_uri(run.path.parent)
    publisher = _Publisher(uri, run)
    with monkeypatch.context() as killed:
        killed.setattr(publisher.client, "set_terminated", killing)
        with pytest.raises(KeyboardInterrupt):
            publisher.publish(run.trials()[0])
    publish(run, uri)
    assert len(stored(run)) == 2 + len(run.trials())
    assert {entry.info.status for entry in stored(run)} == {"FINISHED"}


def test_what_another_command_left_half_written_meanwhile_is_replaced(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = default_uri(run.path.parent)
    mine, theirs = _Publisher(uri, run), _Publisher(uri, Run(run.path))
    first, second = run.trials()[:2]
    mine.publish(first)
    monkeypatch.setattr(theirs.client, "set_terminated", killing)
    with pytest.raises(KeyboardInterrupt):
        theirs.publish(second)
    mine.publish(second)
    children = [entry for entry in stored(run) if entry.data.tags[KIND] == "trial"]
    assert sorted(entry.data.tags[TRIAL_KEY] for entry in children) == sorted(t.info["key"] for t in (first, second))
    assert {entry.info.status for entry in children} == {"FINISHED"}


def test_trials_are_searched_for_only_where_another_command_tracks_the_run_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []
    find = _Publisher._find

    def listened(self: _Publisher, tags: Mapping[str, str]) -> list[Any]:
        searched.extend(value for name, value in tags.items() if name == TRIAL_KEY)
        return find(self, tags)

    monkeypatch.setattr(_Publisher, "_find", listened)
    first, second, third = run.trials()[:3]
    mine = _Publisher(default_uri(run.path.parent), run)
    mine.publish(first)
    assert not searched
    theirs = _Publisher(default_uri(run.path.parent), run)
    for trial in (second, third):
        mine.publish(trial)
        assert searched, "the other may have written it"
        searched.clear()
        theirs.publish(trial)
        assert searched
        searched.clear()


def killing(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_deleted_experiment_comes_back(run: Run) -> None:
    uri = default_uri(run.path.parent)
    publisher = _Publisher(uri, run)
    publisher.client.delete_experiment(publisher.experiment)
    assert publish(run, uri) == 10
    assert len(stored(run)) == 12


def test_a_tracker_summarises_trials_that_another_command_published(run: Run) -> None:
    warnings: list[str] = []
    with Tracker(default_uri(run.path.parent), run, warn=warnings.append) as tracker:
        tracker.log_trial(run.trials()[0])
    assert warnings == []
    parents = [entry for entry in stored(run) if entry.data.tags[KIND] == "parent"]
    assert len(parents) == 2
    assert all("test/auroc" in entry.data.metrics for entry in parents)


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
    publisher = _Publisher(default_uri(run.path.parent), run)
    tags = publisher.client.get_experiment(publisher.experiment).tags
    view = json.loads(tags[f"mlflow.sharedViewState.{BEST_FIRST}"])
    publisher.publish(run.trials()[0])
    listed = publisher.client.search_runs([publisher.experiment], filter_string=view["searchFilter"])
    assert [entry.data.tags[KIND] for entry in listed] == ["parent"]


def test_the_tracker_publishes_in_the_background_what_it_is_given(run: Run) -> None:
    warnings: list[str] = []
    with Tracker(default_uri(run.path.parent), run, warn=warnings.append) as tracker:
        started = time.perf_counter()
        for trial in run.trials():
            tracker.log_trial(trial)
        assert time.perf_counter() - started < 2, "logging must not make the run wait"
    assert warnings == []
    assert {r.data.tags[TRIAL_KEY] for r in stored(run) if TRIAL_KEY in r.data.tags} == {
        t.info["key"] for t in run.trials()
    }


def test_an_unreachable_server_is_one_warning_with_the_mend(run: Run) -> None:
    warnings: list[str] = []
    with Tracker("http://127.0.0.1:9", run, warn=warnings.append) as tracker:
        tracker.log_stored(run.trials())
    assert len(warnings) == 1
    assert f"milbench track {run.path} --uri http://127.0.0.1:9" in warnings[0]
    with pytest.raises(TrackingError, match="could not be written"):
        publish(run, "http://127.0.0.1:9")


def test_a_tracker_that_is_switched_off_does_nothing(run: Run) -> None:
    warnings: list[str] = []
    with Tracker("http://127.0.0.1:9", run, enabled=False, warn=warnings.append) as tracker:
        tracker.log_stored(run.trials())
    assert warnings == []


@pytest.mark.slow
def test_two_processes_may_create_the_database_at_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("m4",), folds=(0,))
    code = f"from milbench.tracking.client import client_of; client_of({default_uri(tmp_path)!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert publish(run, default_uri(tmp_path)) == 1


def a_report(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    for name in ("table2.tex", "radar_toy.png", "tasks_other.csv", "data/cells.csv", "plotly.min.js", "index.html"):
        (folder / name).write_text(name)
    return folder


def test_a_reports_tables_and_figures_become_artifacts_of_the_parents(run: Run, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri, report = default_uri(run.path.parent), a_report(tmp_path / "report")
    assert publish_report(run, uri, report) == 2
    client = MlflowClient(tracking_uri=uri)
    for parent in (r for r in stored(run) if r.data.tags[KIND] == "parent"):
        names = {file.path for file in client.list_artifacts(parent.info.run_id, "report")}
        assert names == {"report/table2.tex", "report/radar_toy.png", "report/tasks_other.csv", "report/data"}
        local = client.download_artifacts(parent.info.run_id, "report/data/cells.csv", str(tmp_path))
        assert Path(local).read_text() == "data/cells.csv"


def test_a_file_about_one_cohort_goes_to_that_cohort_only(tmp_path: Path) -> None:
    report = a_report(tmp_path / "report")
    (report / "tasks_my_toy.csv").write_text("")
    names = {
        name: [path.name for path in report_files(report, name, ["toy", "my_toy", "other"])]
        for name in ("toy", "my_toy")
    }
    assert names["toy"] == ["cells.csv", "radar_toy.png", "table2.tex"]
    assert names["my_toy"] == ["cells.csv", "table2.tex", "tasks_my_toy.csv"]


def test_where_a_run_is_tracked_stands_in_its_configuration(run: Run) -> None:
    assert tracked_at(run) == ""
    for tracking, expected in (
        ({"enabled": True, "uri": ""}, default_uri(run.path.parent)),
        ({"enabled": True, "uri": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
        ({"enabled": False, "uri": "http://127.0.0.1:1"}, ""),
    ):
        another = Run(run.path)
        another.__dict__["config"] = {"tracking": tracking}
        assert tracked_at(another) == expected


def test_messages_never_show_a_password() -> None:
    assert without_password("postgresql://me:se%40cret@host:5/db") == "postgresql://me:***@host:5/db"
    assert without_password("https://host:5000/x") == "https://host:5000/x"
    assert without_password("sqlite:////tmp/a:b@c.db") == "sqlite:////tmp/a:b@c.db"


@pytest.mark.slow
def test_a_stored_run_and_its_report_are_published_to_another_server(run: Run, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "artifacts")]  # fmt: skip
    uri = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as server:
        try:
            wait_for(uri)
            assert publish(run, uri) == 10
            assert publish_report(run, uri, a_report(tmp_path / "report")) == 2
            client = MlflowClient(tracking_uri=uri)
            experiment = client.get_experiment_by_name(f"milbench {run.name}")
            runs = client.search_runs([experiment.experiment_id], max_results=1000)
            parents = [r for r in runs if r.data.tags[KIND] == "parent"]
            assert len(runs) == 12
            assert {f.path for f in client.list_artifacts(parents[0].info.run_id, "report")} >= {"report/table2.tex"}
            assert list((tmp_path / "artifacts").rglob("table2.tex"))
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def wait_for(uri: str) -> None:
    for _ in range(120):
        try:
            if urllib.request.urlopen(f"{uri}/health", timeout=2).status == 200:
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no server at {uri}")


def test_the_ui_is_served_on_the_loopback_address_only(tmp_path: Path) -> None:
    command = ui_command("sqlite:///x.db", 5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "ui"]
    assert command[command.index("--host") + 1] == "127.0.0.1"


def test_the_links_name_the_run_list_and_the_comparison_of_all_models(run: Run) -> None:
    uri = default_uri(run.path.parent)
    publish(run, uri)
    lines = ui_links(uri, 5001)
    parents = [r.info.run_id for r in stored(run) if r.data.tags[KIND] == "parent"]
    assert lines[0].startswith("milbench toy, parents and trials: http://127.0.0.1:5001/#/experiments/")
    assert lines[1].endswith(f"viewStateShareKey={BEST_FIRST}")
    assert "2 models compared" in lines[2]
    assert all(run_id in lines[2] for run_id in parents)
    with pytest.raises(TrackingError, match="nothing has been tracked"):
        ui_links(default_uri(run.path.parent / "elsewhere"), 5001)


def test_importing_tracking_does_not_import_mlflow() -> None:
    code = "import sys, milbench.tracking.publish; print('mlflow' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
