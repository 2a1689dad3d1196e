"""Predictions of slides without labels, with the columns that STAMP's statistics read (`milbench.report.stamp`).

::

    OUT/<model>/<task>/<training or ensemble>/patient-preds.csv
        PATIENT, T, T_0, T_1                 T = the task; its label is unknown and stays empty
        PATIENT, T, T_<class>, ..            classes and grades
        PATIENT, T, pred                     regression
        PATIENT, T_time, T_event, pred_score survival
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from milbench.external.predict import FIRST, LAST
from milbench.names import folder_name
from milbench.report.stamp import FILE
from milbench.store.csv_files import exact_csv
from milbench.store.files import write_atomically

ENSEMBLE = "ensemble"
OF_CLASS = "probability of "
UNKNOWN = ""


def write_for_stamp(table: pd.DataFrame, out: Path) -> list[Path]:
    """Files written, one per model, task and training, and one of the ensemble.

    Parameters
    ----------
    table : of `milbench.external.predict`.
    """
    trainings = [name for name in table.columns if name not in (*FIRST, *LAST)]
    written = []
    for (model, task), rows in table[table["level"] == "patient"].groupby(["model", "task"], sort=False):
        for training in (*trainings, ENSEMBLE):
            if rows[training].isna().all():  # another model's seed
                continue
            path = out / folder_name(str(model)) / folder_name(str(task)) / training / FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, exact_csv(_file(rows, str(task), training)).encode())
            written.append(path)
    return written


def _file(rows: pd.DataFrame, task: str, training: str) -> pd.DataFrame:
    """One line per patient."""
    of_answer = rows.pivot_table(index="patient_id", columns="answer", values=training, sort=False)
    patients = of_answer.rename_axis("PATIENT")[[]]
    if "risk" in of_answer:
        said = {f"{task}_time": UNKNOWN, f"{task}_event": UNKNOWN, "pred_score": of_answer["risk"]}
    elif "value" in of_answer:
        said = {task: UNKNOWN, "pred": of_answer["value"]}
    elif "probability" in of_answer:
        said = {task: UNKNOWN, f"{task}_0": 1 - of_answer["probability"], f"{task}_1": of_answer["probability"]}
    else:
        classes = [name for name in of_answer if name.startswith(OF_CLASS)]
        said = {task: UNKNOWN, **{f"{task}_{name.removeprefix(OF_CLASS)}": of_answer[name] for name in classes}}
    return patients.assign(**said).reset_index()
