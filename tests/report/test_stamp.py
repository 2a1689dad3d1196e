"""STAMP's statistics read our predictions: its columns, one line per patient, the AUROC that the report gives."""

from pathlib import Path

import pandas as pd
import pytest
from runs_for_tests import TASKS, make_run
from sklearn.metrics import roc_auc_score

from milbench.errors import StoreError
from milbench.report.stamp import write_for_stamp
from milbench.stats.grid import grids
from milbench.stats.levels import metric_table
from milbench.store.run import Run
from milbench.store.run_writing import write_trial


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """AMIL and M4 where every patient has two slides."""
    made = make_run(tmp_path_factory.mktemp("runs") / "toy", models=("amil", "m4"), folds=(0, 1))
    for trial in made.trials():
        table = trial.predictions()
        number = table["slide_id"].str[1:].astype(int) // 2
        table = table.assign(patient_id=table["role"].str[0] + number.astype(str))
        write_trial(made, trial.id, trial.info, table, trial.history(), None)
    return made


def test_the_files_give_the_aurocs_of_patients_that_the_report_gives(run: Run, tmp_path: Path) -> None:
    files = write_for_stamp([run], tmp_path)
    assert len(files) == len(set(files)) == 2 * 2 * len(TASKS)
    (grid,) = grids([run])
    ours = metric_table(grid).query("level == 'patient'").set_index(["model", "task", "fold"])["score"]
    for file in files:
        model, task, split = file.parts[-4:-1]
        theirs = pd.read_csv(file, dtype=str)
        assert list(theirs) == ["PATIENT", task, f"{task}_0", f"{task}_1"]
        assert not theirs["PATIENT"].duplicated().any()
        assert set(theirs[task]) == {"0", "1"}
        scores = theirs[[f"{task}_0", f"{task}_1"]].astype(float)
        assert scores.sum(axis=1).to_numpy() == pytest.approx(1)
        auroc = roc_auc_score(theirs[task] == "1", scores[f"{task}_1"])
        assert auroc == pytest.approx(ours[model, task, int(split.removeprefix("split-"))])


def test_a_task_with_a_slash_keeps_its_name_in_columns_and_has_a_folder_of_its_own(tmp_path: Path) -> None:
    odd = make_run(tmp_path / "odd", models=("amil",), folds=(0,), tasks=("MSI/MMR", "MSI"))
    files = write_for_stamp([odd], tmp_path / "out")
    folders = {file.relative_to(tmp_path / "out").parts[2]: list(pd.read_csv(file))[1] for file in files}
    assert folders == {"MSI_MMR-0fd85a25": "MSI/MMR", "MSI": "MSI"}


def test_a_place_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        write_for_stamp([run], tmp_path / "file")
