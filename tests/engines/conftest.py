"""The study that the tests of engines compare with."""

from pathlib import Path

import pytest
from folders_for_tests import make_folder_cohort
from studies_for_tests import WORDS

from milbench.commands.cli import main


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort and what a single process makes of it."""
    folder = tmp_path_factory.mktemp("study")
    make_folder_cohort(folder / "toy")
    (folder / "one_task.yaml").write_text("name: toy\nlabels: toy/labels.csv\nfeatures: toy/features\ntasks: [A]\n")
    words = ("--cohort", str(folder / "toy"), "--run", str(folder / "single"), "--workers", "1")
    assert main(["run", *WORDS, *words]) == 0
    return folder
