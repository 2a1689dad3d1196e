"""A finished run of tasks of every kind, which a test may write into."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from external_for_tests import run_of_kinds


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of the run, to write into."""
    whole = run_of_kinds(tmp_path_factory)
    return Path(shutil.copytree(whole, tmp_path / "run"))
