"""Search: the trials of a search for settings -> one row per configuration, and the configuration that is chosen.

Only the histories of trainings are read, which hold validation scores. No function here opens predictions, so nothing of
a test side can reach a choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from milbench.store.run import Run

PLACE = ["dataset", "model", "task"]
CELL = [*PLACE, "tasks", "fold", "seed", "epochs"]

TRIED_COLUMNS = (
    *PLACE, "configuration", "epochs", "score", "n_trials", "n_failed", "seconds", "bag_steps", "trainer", "model_arguments",
)  # fmt: skip


def trials_of_search(run: Run, *, per_task: bool) -> pd.DataFrame:
    """One row per trial: its place, configuration, validation score, seconds and bag-steps.

    `score` is the validation score of the epoch that the trial kept: NaN if it failed, or if the score is undefined.
    `epochs` is 0 for the recipe's own number, else the smaller one of a rung. `task` is "" unless `per_task`.

    Parameters
    ----------
    run : the folder of the search.
    """
    trials = run.trials()
    of_all_tasks = {trial.info["model"] for trial in trials if trial.info["model_tasks"] == "multi"}

    def place(info: Mapping[str, Any]) -> str:
        return (
            str(info["tasks"][0]) if per_task and len(info["tasks"]) == 1 and info["model"] not in of_all_tasks else ""
        )

    done = [_row(trial.info, place(trial.info), _score(trial), failed=False) for trial in trials]
    identities = [failure["identity"] for failure in run.failures()]
    failed = [_row(identity, place(identity), float("nan"), failed=True) for identity in identities]
    rows = pd.DataFrame([*done, *failed])
    return rows if len(rows) else pd.DataFrame(columns=[*CELL, "configuration", "score", "failed"])


def tried(run: Run, *, per_task: bool) -> pd.DataFrame:
    """One row per place, configuration and number of epochs, best first within a place and number of epochs: `TRIED_COLUMNS`.

    `score` is the mean over the trials of the place. A cell (task, fold, seed) in which no configuration has a score says
    nothing and is left out. Where others have one, an undefined score counts as 0. A configuration of which a trial
    failed has no score, unless all configurations failed in that cell.
    """
    rows = trials_of_search(run, per_task=per_task)
    if rows.empty:
        return pd.DataFrame(columns=list(TRIED_COLUMNS))
    rows = rows[rows.groupby(CELL)["score"].transform(lambda scores: scores.notna().any())].copy()
    rows["score"] = rows["score"].fillna(0.0)
    groups = rows.groupby([*PLACE, "configuration", "epochs"], sort=True)
    table = groups.agg(
        score=("score", "mean"), n_trials=("score", "size"), n_failed=("failed", "sum"), seconds=("seconds", "sum"),
        bag_steps=("bag_steps", "sum"), trainer=("trainer", "first"), model_arguments=("model_arguments", "first"),
    ).reset_index()  # fmt: skip
    table.loc[table["n_failed"] > 0, "score"] = float("nan")
    table = table.sort_values([*PLACE, "epochs", "score", "configuration"], ascending=[True] * 4 + [False, True])
    return table[list(TRIED_COLUMNS)].reset_index(drop=True)


def best_of(table: pd.DataFrame, place: tuple[str, str, str], epochs: int = 0) -> list[int]:
    """Configurations of a place that have a score after so many epochs, best first; the lower number wins a tie."""
    mine = table[(table[PLACE] == list(place)).all(axis=1) & (table["epochs"] == epochs) & table["score"].notna()]
    return [int(number) for number in mine["configuration"]]


def _row(info: Mapping[str, Any], task: str, score: float, *, failed: bool) -> dict[str, Any]:
    n_training_bags = info.get("n_slides", {}).get("train", 0)
    return {
        "dataset": info["dataset"],
        "model": info["model"],
        "task": task,
        "tasks": "\n".join(info["tasks"]),
        "fold": info["fold"],
        "seed": info["seed"],
        "epochs": info["search"].get("epochs", 0),
        "configuration": info["search"]["configuration"],
        "score": score,
        "failed": failed,
        "seconds": info.get("wall_seconds", 0.0),
        "bag_steps": n_training_bags * info.get("n_epochs", 0),
        "trainer": dict(info["recipe"]),
        "model_arguments": dict(info["hyperparameters"]),
    }


def _score(trial: Any) -> float:
    history = trial.history().set_index("epoch")
    column = "val_score" if "val_score" in history else "val_auroc"
    return float(history.loc[trial.info["chosen_epoch"], column])
