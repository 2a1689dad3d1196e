"""Joined: one table of what all trials of a run hold, with what tells the trials apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def stacked_histories(trials: Sequence[StoredTrial], facts: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """One table of all trials' histories, each row with the facts of its trial; the score is called `val_auroc`.

    Columns are stacked as arrays. A report reads hundreds of histories of a few rows, and a data frame for each takes twenty
    times as long as the file.
    """
    import numpy as np
    import pandas as pd

    if not trials:
        return pd.DataFrame()
    parts = [
        {"val_auroc" if name == "val_score" else name: values for name, values in trial.history_columns().items()}
        for trial in trials
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = [len(part["epoch"]) for part in parts]
    known = {name: np.repeat(np.array([each[name] for each in facts]), rows) for name in facts[0]}
    return pd.DataFrame({**columns, **known})


def history_of(trial: StoredTrial) -> pd.DataFrame:
    """The trial's history, in columns that are the same for every trial."""
    tasks = trial.info["tasks"]
    return (
        trial.history()
        .rename(columns={"val_auroc": "val_score"})
        .assign(task=ALL_TASKS if len(tasks) > 1 else tasks[0])
    )
