"""MLflow: what is stored is published when a command asks for it, and nothing twice."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tracked_for_tests import stored

from milbench.store.run import Run
from milbench.tracking.client import default_uri
from milbench.tracking.publish import publish, publish_report, report_files, tracked_at
from milbench.tracking.publisher import KIND

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and on use


def test_publishing_twice_doubles_nothing(run: Run) -> None:
    uri = default_uri(run.path.parent)
    publish(run, uri)
    first = {r.info.run_id for r in stored(run)}
    publish(Run(run.path), uri)
    assert {r.info.run_id for r in stored(run)} == first


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


def test_importing_tracking_does_not_import_mlflow() -> None:
    code = "import sys, milbench.tracking.publish; print('mlflow' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
