"""One small run with weights for all tests of heatmaps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from weighted_runs_for_tests import train, write_cohort

from milbench.cli import main


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heatmap")


@pytest.fixture(scope="session")
def run(folder: Path) -> Path:
    return train(folder, write_cohort(folder / "truth"))


@pytest.fixture(scope="session")
def run_without_truth(folder: Path) -> Path:
    return train(folder, write_cohort(folder / "blind", truth=False))


@pytest.fixture
def heatmap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, output and errors of `milbench heatmap words...` in this process, writing to `tmp_path / "out"`."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["heatmap", *map(str, words), "--out", str(tmp_path / "out")])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
