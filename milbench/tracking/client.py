"""MLflow's client: addresses, settings, the database beside the runs, experiments and their runs."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"

HTTP_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
}


def default_uri(runs: Path) -> str:
    """The SQLite store beside the run folders; absolute, since MLflow resolves it from wherever it is read."""
    return f"sqlite:///{(runs.absolute() / DATABASE).as_posix()}"


def without_password(uri: str) -> str:
    """`uri` with its password, if it holds one, as ***: messages end up in logs and issues."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", uri)


def client_of(uri: str) -> MlflowClient:
    """A client of `uri`; a SQLite database is created first, by one process at a time."""
    for name, value in HTTP_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # after the import, which sets them up: their chatter would tear the progress bar
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not uri.startswith("sqlite:///"):
        return MlflowClient(tracking_uri=uri)
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)  # makes the tables
    return client


def experiment_of(client: MlflowClient, uri: str, run_name: str) -> str:
    """Id of the run's experiment; one that was deleted comes back, since MLflow keeps its name taken."""
    name = f"milbench {run_name}".replace("/", "-")
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    place = None
    if uri.startswith("sqlite:///"):
        place = (Path(uri.removeprefix("sqlite:///")).parent / ARTIFACTS).as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def all_runs(client: MlflowClient, experiment: str) -> Iterator[Any]:
    """Every run of an experiment, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
