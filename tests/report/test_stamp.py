"""STAMP's statistics read our predictions: its columns, one line per patient, the AUROC that the report gives."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kinds_for_tests import GRADES, SUBTYPES, make_run_of_kinds
from runs_for_tests import TASKS, make_run
from sklearn.metrics import roc_auc_score

from milbench.errors import StoreError
from milbench.metrics import concordance
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


@pytest.fixture(scope="module")
def of_kinds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run with a task of every kind, and where its predictions for STAMP lie."""
    made = make_run_of_kinds(tmp_path_factory.mktemp("runs") / "kinds", folds=(0,))
    out = tmp_path_factory.mktemp("stamp")
    write_for_stamp([made], out)
    return made, out


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("subtype", ["PATIENT", "subtype", *(f"subtype_{name}" for name in SUBTYPES)]),
        ("grade", ["PATIENT", "grade", *(f"grade_{name}" for name in GRADES)]),
        ("HRD", ["PATIENT", "HRD", "pred"]),
        ("OS", ["PATIENT", "OS_time", "OS_event", "pred_score"]),
        ("TP53", ["PATIENT", "TP53", "TP53_0", "TP53_1"]),
    ],
)
def test_tasks_of_every_kind_have_the_columns_that_stamp_reads(
    of_kinds: tuple[Run, Path], task: str, columns: list[str]
) -> None:
    table = pd.read_csv(of_kinds[1] / "toy" / "m4" / task / "split-0" / "patient-preds.csv")
    assert list(table) == columns
    assert not table["PATIENT"].duplicated().any()
    assert not table.isna().any(axis=None)


def test_stamp_gets_the_c_index_and_r_of_patients_that_the_report_gives(of_kinds: tuple[Run, Path]) -> None:
    run, out = of_kinds
    survival = pd.read_csv(out / "toy" / "m4" / "OS" / "split-0" / "patient-preds.csv")
    (grid,) = grids([run], "survival")
    ours = metric_table(grid).query("level == 'patient' and model == 'm4'")["score"].item()
    theirs = concordance(*(survival[name].to_numpy(float) for name in ("OS_time", "OS_event", "pred_score")))
    assert theirs == pytest.approx(ours)
    values = pd.read_csv(out / "toy" / "m4" / "HRD" / "split-0" / "patient-preds.csv")
    (grid,) = grids([run], "regression")
    ours = metric_table(grid).query("level == 'patient' and model == 'm4'")["score"].item()
    assert np.corrcoef(values["HRD"], values["pred"])[0, 1] == pytest.approx(ours)
