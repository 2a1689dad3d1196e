"""Predictions of finished runs as STAMP's statistics read them.

::

    OUT/<dataset>/<model>/<task>/split-<fold>/patient-preds.csv
        PATIENT, T, T_0, T_1        T = the task, 0 or 1; then the probability of either

One line per patient of the test side whose label is known. A model or task such as `MSI/MMR` has the folder that it has
in a run; columns keep its name. STAMP tells files apart by the folder's name, which therefore says the seed too where a
run has several. Its configuration needs `ground_truth_label: T` and `true_class: "1"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.names import folder_name
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
            table.to_csv(path, index=False, lineterminator="\n")
            written.append(path)
    return written


def _tables(run: Run) -> Iterator[tuple[Path, pd.DataFrame]]:
    """Folder below `out` and table of every trial and task that has a label on its test side."""
    trials = run.trials()
    several = len({trial.info["seed"] for trial in trials}) > 1
    for trial in trials:
        info, rows = trial.info, trial.predictions()
        known = rows[(rows["role"] == "test") & rows["target"].notna()]
        split = f"split-{info['fold']}" + (f"-seed-{info['seed']}" if several else "")
        for task, part in known.groupby("task", sort=False):
            yield Path(info["dataset"], folder_name(info["model"]), folder_name(task), split), _patients(task, part)


def _patients(task: str, rows: pd.DataFrame) -> pd.DataFrame:
    """One line per patient: largest label, mean probability of the slides, as everywhere in the report."""
    patients = rows.groupby("patient_id", sort=False)
    positive = patients["probability"].mean()
    table = patients["target"].max().astype(int).rename(task).to_frame()
    return table.assign(**{f"{task}_0": 1 - positive, f"{task}_1": positive}).rename_axis("PATIENT").reset_index()
