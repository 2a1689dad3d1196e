"""A small run, and an empty MLflow database beside it."""

import shutil
from pathlib import Path

import pytest
from runs_for_tests import make_run

from milbench.store.run import Run
from milbench.tracking.client import client_of, default_uri


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with tables and nothing in them: making one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("database")
    client_of(default_uri(folder))
    return folder / "mlflow.db"


@pytest.fixture
def run(tmp_path: Path, empty_database: Path) -> Run:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return make_run(tmp_path / "toy", models=("amil", "m4"), folds=(0, 1))
