"""The MLflow UI: the command that serves it, its end with ours, and addresses of its pages that matter."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import Any

from milbench.errors import TrackingError, UsageError
from milbench.tracking.client import PatientClient, all_runs, client_of
from milbench.tracking.knock import database_file
from milbench.tracking.publisher import BEST_FIRST, KIND, reason_of
from milbench.visible import without_passwords

HOST = "127.0.0.1"
ANSWER_SECONDS = 120.0
"""How long a server may take to start."""
END_SECONDS = 5.0
POLL_SECONDS = 0.2

SERVER_SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Its jobs would run in processes of their own, with files in /dev/shm that a killed server leaves behind."""


def ui_command(uri: str, port: int) -> list[str]:
    """Command that serves the MLflow UI of `uri` on the loopback address, and ends when its standard input does."""
    serve = [sys.executable, "-m", "milbench.tracking.served", "ui", "--backend-store-uri", uri]
    return [*serve, "--host", HOST, "--port", str(port), "--workers", "1"]


def serve(uri: str, port: int, links: Iterable[str], say: Callable[[str], None]) -> int:
    """Exit code of the UI's server, which ends with this process; `links` are said once it answers.

    Raises
    ------
    UsageError : the port is taken.
    TrackingError : the server does not start.
    """
    _refuse_taken(port)
    server = subprocess.Popen(  # noqa: S603 - our own command, loopback only
        ui_command(uri, port),
        stdin=subprocess.PIPE,  # it reads the end of this process there, however that ends
        env={**os.environ, **SERVER_SETTINGS},
        start_new_session=True,
    )
    try:
        _wait_for_answer(server, port)
        for text in links:
            say(text)
        return server.wait()
    finally:
        _end(server)


def _refuse_taken(port: int) -> None:
    if not 0 < port < 1 << 16:
        raise UsageError(f"--port is {port}; expected a number from 1 to 65535.")
    with socket.socket() as listener:
        if os.name == "posix":  # else the last server's closed connections count as well, for a minute
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise UsageError(
                f"port {port} of {HOST} cannot be used ({error.strerror}). Give another one with --port."
            ) from error


def _wait_for_answer(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + ANSWER_SECONDS
    while not _answers(port):
        if server.poll() is not None:
            raise TrackingError(f"the MLflow UI ended with code {server.returncode} before it answered.")
        if time.monotonic() > end:
            raise TrackingError(f"the MLflow UI gave no answer at {HOST}:{port} for {ANSWER_SECONDS:g} s.")
        time.sleep(POLL_SECONDS)


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection(HOST, port, timeout=2)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started."""
    if server.stdin:
        server.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        server.wait(END_SECONDS)
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # all of them have ended
            os.killpg(server.pid, signal.SIGKILL)
    server.kill()
    server.wait()


def ui_links(uri: str, port: int) -> list[str]:
    """Lines with the pages that matter: of every experiment its runs, and its models compared.

    Raises
    ------
    TrackingError : nothing has been tracked at `uri`, or it cannot be read.
    """
    path = database_file(uri)
    if path is not None and not path.exists():
        raise TrackingError(
            f"nothing has been tracked at {uri} yet. Start with `milbench run`, or name the store with --uri."
        )
    try:
        client = client_of(uri)
        experiments = [e for e in client.search_experiments() if e.name.startswith("milbench ")]
        return [line for experiment in experiments for line in _links(client, experiment, f"http://{HOST}:{port}/#")]
    except Exception as error:
        raise TrackingError(f"MLflow at {without_passwords(uri)} cannot be read ({reason_of(error)}).") from error


def _links(client: PatientClient, experiment: Any, root: str) -> list[str]:
    parents = [run for run in all_runs(client, experiment.experiment_id) if run.data.tags.get(KIND) == "parent"]
    runs = f"{root}/experiments/{experiment.experiment_id}/runs"
    lines = [
        f"{experiment.name}, parents and trials: {runs}",
        f"  models, best first: {runs}?viewStateShareKey={BEST_FIRST}",
    ]
    by_dataset: dict[str, list[str]] = {}
    for run in reversed(parents):
        by_dataset.setdefault(run.data.tags["dataset"], []).append(run.info.run_id)
    for dataset, ids in by_dataset.items():
        listed = ",".join(f'"{run_id}"' for run_id in ids)
        url = f'{root}/compare-runs?runs=[{listed}]&experiments=["{experiment.experiment_id}"]'
        lines.append(f"  {dataset}, {len(ids)} models compared: {url.replace(chr(34), '%22')}")
    return lines
