"""MLflow's client: addresses and the database."""

import subprocess
import sys
from pathlib import Path

import pytest
from runs_for_tests import make_run

from milbench.tracking.client import default_uri, without_password
from milbench.tracking.publish import publish

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
    assert without_password("postgresql://me:se%40cret@host:5/db") == "postgresql://me:***@host:5/db"
    assert without_password("https://host:5000/x") == "https://host:5000/x"
    assert without_password("sqlite:////tmp/a:b@c.db") == "sqlite:////tmp/a:b@c.db"
