"""Predictions of finished runs as STAMP's statistics read them.

::

    OUT/<dataset>/<model>/<task>/split-<fold>/patient-preds.csv
        PATIENT, T, T_0, T_1                 T = the task, 0 or 1; then the probability of either
        PATIENT, T, T_<class>, ..            classes and grades: the class by name; then the probability of each
        PATIENT, T, pred                     regression: the value, and what the model said
        PATIENT, T_time, T_event, pred_score survival: days, 1 where the event was seen, and the risk

One line per patient of the test side whose label is known. A model or task such as `MSI/MMR` has the folder that it has
in a run; columns keep its name. STAMP tells files apart by the folder's name, which therefore says the seed too where a
run has several. Its configuration needs `ground_truth_label: T` and `true_class: "1"` (or a class by name), for survival
`time_label: T_time` and `status_label: T_event`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.endpoints.fitted import FittedEndpoint
from milbench.names import folder_name
from milbench.store.csv_files import exact_csv
from milbench.store.files import writing
from milbench.store.run import Run

if TYPE_CHECKING:
    import pandas as pd

FILE = "patient-preds.csv"


def write_for_stamp(runs: Sequence[Run], out: Path) -> list[Path]:
    """Files written, one per trial and task.

    Raises
    ------
    StoreError : `out` cannot be written.
    """
    written = []
    with writing(out):
        for place, table in (part for run in runs for part in _tables(run)):
            path = out / place / FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(exact_csv(table), encoding="utf-8")
            written.append(path)
    return written


def _tables(run: Run) -> Iterator[tuple[Path, pd.DataFrame]]:
    """Folder below `out` and table of every trial and task that has a label on its test side."""
    trials = run.trials()
    several = len({trial.info["seed"] for trial in trials}) > 1
    for trial in trials:
        info, rows = trial.info, trial.answers()
        known = rows[(rows["role"] == "test") & rows["target"].notna()]
        split = f"split-{info['fold']}" + (f"-seed-{info['seed']}" if several else "")
        for task, part in known.groupby("task", sort=False):
            place = Path(info["dataset"], folder_name(info["model"]), folder_name(task), split)
            fitted = trial.endpoint_of[task]
            table = _patients(task, part) if fitted.kind == "binary" else _of_kind(task, fitted, part)
            yield place, table


def _patients(task: str, rows: pd.DataFrame) -> pd.DataFrame:
    """One line per patient: largest label, mean probability of the slides, as everywhere in the report."""
    patients = rows.groupby("patient_id", sort=False)
    positive = patients["prediction"].mean()
    table = patients["target"].max().astype(int).rename(task).to_frame()
    return table.assign(**{f"{task}_0": 1 - positive, f"{task}_1": positive}).rename_axis("PATIENT").reset_index()


def _of_kind(task: str, fitted: FittedEndpoint, rows: pd.DataFrame) -> pd.DataFrame:
    """One line per patient: label of the first slide, mean answers of the slides."""
    first = rows.drop_duplicates("patient_id").set_index("patient_id").rename_axis("PATIENT")
    answers = rows.groupby(["patient_id", "answer"], sort=False)["prediction"].mean().unstack("answer")
    answers = answers.reindex(first.index)
    if fitted.kind == "survival":
        said = {
            f"{task}_time": first["target"],
            f"{task}_event": first["event"].astype(int),
            "pred_score": answers["risk"],
        }
    elif fitted.kind == "regression":
        said = {task: first["target"], "pred": answers["value"]}
    else:
        classes = fitted.endpoint.classes
        said = {task: first["target"].map(lambda place: classes[int(place)])}
        said |= {f"{task}_{name}": answers[f"probability of {name}"] for name in classes}
    return first[[]].assign(**said).reset_index()
