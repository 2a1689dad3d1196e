"""Predictions of slides without labels as STAMP names its columns: of tasks with classes, one file per model, task, training.

::

    OUT/<model>/<task>/<training or ensemble>/patient-preds.csv
        PATIENT, T, pred, T_<class> ...        T = the task; its true class is unknown and left empty
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from milbench.errors import UsageError
from milbench.external.predict import FIRST, LAST
from milbench.names import folder_name
from milbench.report.stamp import FILE
from milbench.store.csv_files import exact_csv
from milbench.store.files import write_atomically

ENSEMBLE = "ensemble"
OF_CLASS = "probability of "


def write_for_stamp(table: pd.DataFrame, out: Path) -> list[Path]:
    """Files written.

    Raises
    ------
    UsageError : no task has classes: STAMP averages no other answers.
    """
    patients = table[(table["level"] == "patient") & table["answer"].str.startswith("probability")]
    if patients.empty:
        raise UsageError("--format stamp writes tasks with classes, and the run has none. Use --format milbench.")
    trainings = [name for name in table.columns if name not in (*FIRST, *LAST)]
    written = []
    for (model, task), rows in patients.groupby(["model", "task"], sort=False):
        for training in (*trainings, ENSEMBLE):
            if rows[training].isna().all():
                continue
            path = out / folder_name(str(model)) / folder_name(str(task)) / training / FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, exact_csv(_file(rows, str(task), training)).encode())
            written.append(path)
    return written


def _file(rows: pd.DataFrame, task: str, training: str) -> pd.DataFrame:
    shares = rows.pivot_table(index="patient_id", columns="answer", values=training, sort=False)
    by_class = dict(_by_class(shares))
    pred = pd.DataFrame(by_class).idxmax(axis=1)
    columns = {f"{task}_{name}": values for name, values in by_class.items()}
    return pd.DataFrame({task: "", "pred": pred, **columns}).rename_axis("PATIENT").reset_index()


def _by_class(shares: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Probability of each class; a binary task stores that of class 1 alone."""
    if "probability" in shares:
        yield "0", 1 - shares["probability"]
        yield "1", shares["probability"]
    for name in shares.columns:
        if name.startswith(OF_CLASS):
            yield name.removeprefix(OF_CLASS), shares[name]
