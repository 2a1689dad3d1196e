"""MLflow's client: addresses, settings, the database beside the runs, experiments and their runs.

Every call to MLflow ends, whatever its server or database does: `store_of` knocks first, and no call has more than
`CALL_SECONDS`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from milbench.machine.deadline import within
from milbench.special_files import special_kind
from milbench.tracking.knock import KNOCK_SECONDS, database_file, knock

if TYPE_CHECKING:
    from mlflow import MlflowClient

START_SECONDS = 60.0
"""For the import of MLflow and for making the tables of a new database."""
CALL_SECONDS = 60.0
"""For one call: a page of a thousand runs from afar takes its time."""

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


class PatientClient:
    """MLflow's client, except that a call which has not ended after `CALL_SECONDS` raises a TimeoutError."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*values: Any, **named: Any) -> Any:
            return within(CALL_SECONDS, lambda: method(*values, **named))

        return call


def client_of(uri: str, allow: Callable[[float], None] = lambda _: None) -> PatientClient:
    """A client of `uri`; a SQLite database is created first, by one process at a time.

    Parameters
    ----------
    allow : called before each step with the seconds that it may take.

    Raises
    ------
    OSError : the database cannot be one, or the server does not answer.
    """
    allow(KNOCK_SECONDS)
    knock(uri)
    allow(START_SECONDS)
    for name, value in HTTP_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # after the import, which sets them up: their chatter would tear the progress bar
    # and a traceback that they log would stand before the one message that tells the same
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    path = database_file(uri)
    if path is not None and "/" in uri.partition("?")[2]:
        raise OSError("a '?' in it ends the name of the file, so name a folder without one")
    if path is None:
        return PatientClient(MlflowClient(tracking_uri=uri))
    path.parent.mkdir(parents=True, exist_ok=True)
    allow(KNOCK_SECONDS)
    with locked(path.with_suffix(".lock"), START_SECONDS):
        allow(START_SECONDS)
        return PatientClient(within(START_SECONDS, lambda: _with_tables(uri)))


def _with_tables(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)  # makes the tables
    return client


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """The lock on `path`, held.

    Raises
    ------
    TimeoutError : another process holds it for longer than `seconds`.
    OSError : the file cannot be made, which would look like another process that holds it.
    """
    if special_kind(path):
        raise OSError(f"{path} is {special_kind(path)}, move it away")
    path.touch()
    lock = FileLock(path, timeout=seconds)
    try:
        lock.acquire()
    except Timeout as error:
        raise TimeoutError(f"another command has held {path} for {seconds:g} s") from error
    try:
        yield
    finally:
        lock.release()


def experiment_of(client: PatientClient, uri: str, run_name: str) -> str:
    """Id of the run's experiment; one that was deleted comes back, since MLflow keeps its name taken.

    MLflow then brings back all of its runs, those too that were deleted before: `Publisher` deletes them again.
    """
    name = f"milbench {run_name}".replace("/", "-")
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    path = database_file(uri)
    place = (path.parent.absolute() / ARTIFACTS).as_uri() if path else None
    return str(client.create_experiment(name, artifact_location=place))


def all_runs(client: PatientClient, experiment: str, having: str = "") -> Iterator[Any]:
    """Every run of an experiment, or every one that fits a filter, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment], filter_string=having, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
