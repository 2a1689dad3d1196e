"""MLflow's client: addresses and the database."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs_for_tests import make_run

from milbench.tracking.client import client_of, default_uri, experiment_of
from milbench.tracking.publish import publish
from milbench.visible import without_passwords

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and on use


@pytest.mark.slow
def test_two_processes_may_create_the_database_at_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("m4",), folds=(0,))
    code = f"from milbench.tracking.client import client_of; client_of({default_uri(tmp_path)!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert publish(run, default_uri(tmp_path)) == 1


def test_messages_never_show_a_password() -> None:
    assert without_passwords("postgresql://me:se%40cret@host:5/db") == "postgresql://me:***@host:5/db"
    assert without_passwords("https://host:5000/x") == "https://host:5000/x"
    assert without_passwords("sqlite:////tmp/a:b@c.db") == "sqlite:////tmp/a:b@c.db"


@pytest.mark.slow
def test_a_relative_address_of_a_database_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    client = client_of("sqlite:///own.db")
    experiment = client.get_experiment(experiment_of(client, "sqlite:///own.db", "digits"))
    assert experiment.artifact_location == (tmp_path / "mlartifacts").as_uri()


@pytest.mark.parametrize(("uri", "told"), [
    ("sqlite://", "names no file"), ("sqlite:///", "names no file"), ("sqlite:////proc/nowhere/x.db", "No such file"),
    ("sqlite:////tmp/a?b/mlflow.db", r"a '\?' in it ends the name of the file"),
])  # fmt: skip
def test_an_address_that_names_no_database_is_told_at_once(uri: str, told: str) -> None:
    began = time.monotonic()
    with pytest.raises(OSError, match=told):
        client_of(uri)
    assert time.monotonic() - began < 30


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own.lock")
    with pytest.raises(OSError, match=r"own\.lock is a named pipe, move it away"):
        client_of(f"sqlite:///{tmp_path}/own.db")
