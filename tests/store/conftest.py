"""A run folder whose one trial is not done yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from one_trial import ID, SLOT, TOY

from milbench.store.run import Run
from milbench.store.run_writing import write_header


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    write_header(run, {"models": ["amil"]}, {"git": "abc"}, TOY, {SLOT: ID})
    return run
