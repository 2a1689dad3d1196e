"""Joined: one table of what all trials of a run hold, with what tells the trials apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from milbench.store.slot import ALL_TASKS
from milbench.store.trial import StoredTrial

if TYPE_CHECKING:
    import pandas as pd

PREDICTION_COLUMNS = (
    "dataset", "model", "task", "fold", "seed", "slide_id", "patient_id", "role", "target", "probability",
)  # fmt: skip
"""What `Run.predictions` has, one row per trial, slide and task."""

ANSWER_COLUMNS = (*PREDICTION_COLUMNS[:-1], "event", "answer", "prediction")
"""What `Run.answers` has, one row per trial, slide, task and answer (docs/endpoints.md)."""

HISTORY_COLUMNS = (*PREDICTION_COLUMNS[:5], "epoch", "lr", "train_loss", "val_loss", "val_score")
"""What `Run.histories` has, one row per trial and epoch."""


def joined(found: Iterable[tuple[StoredTrial, pd.DataFrame]], columns: Sequence[str]) -> pd.DataFrame:
    """One table of all trials' tables, with what tells the trials apart."""
    import pandas as pd

    tables = [
        table.assign(**{name: trial.info[name] for name in ("dataset", "model", "fold", "seed")})
        for trial, table in found
        if len(table)
    ]
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns))[list(columns)]


def history_of(trial: StoredTrial) -> pd.DataFrame:
    """The trial's history, in columns that are the same for every trial."""
    tasks = trial.info["tasks"]
    return (
        trial.history()
        .rename(columns={"val_auroc": "val_score"})
        .assign(task=ALL_TASKS if len(tasks) > 1 else tasks[0])
    )
