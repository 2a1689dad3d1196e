"""Search: the trials of a search for settings -> one row per configuration, the one that is chosen, and budget curves.

Only the histories of trainings are read, which hold validation scores. No function here opens predictions, so nothing of
a test side can reach a choice. Test scores for the curves are read in `milbench.stats.searched_tests`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from milbench.store.run import Run

Floats = NDArray[np.float64]

PLACE = ["dataset", "model", "task"]
CELL = [*PLACE, "tasks", "fold", "seed", "epochs"]

TRIED_COLUMNS = (
    *PLACE, "configuration", "epochs", "score", "n_trials", "n_failed", "seconds", "bag_steps", "trainer", "model_arguments",
)  # fmt: skip


def trials_of_search(run: Run, *, per_task: bool) -> pd.DataFrame:
    """One row per trial: its place, configuration, validation score, seconds and bag-steps.

    `score` is the validation score of the epoch that the trial kept: NaN if it failed, or if the score is undefined.
    `epochs` is 0 for the recipe's own number, else the smaller one of a rung. `task` is "" unless `per_task`. `stopped`
    says whether the trial ended before its last epoch, `is_control` whether it learns control tasks alone.

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
    if rows.empty:
        columns = [*CELL, "configuration", "score", "failed", "stopped", "seconds", "bag_steps", "is_control"]
        return pd.DataFrame(columns=columns)
    controls = {name: set(facts.get("control_tasks", ())) for name, facts in run.datasets.items()}
    pairs = zip(rows["dataset"], rows["tasks"].str.split("\n"), strict=True)
    return rows.assign(is_control=[set(tasks) <= controls.get(dataset, set()) for dataset, tasks in pairs])


def tried(run: Run, *, per_task: bool) -> pd.DataFrame:
    """`scored` of the trials of a search."""
    return scored(trials_of_search(run, per_task=per_task))


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per place, configuration and number of epochs, best first within a place and number of epochs: `TRIED_COLUMNS`.

    `score` is the mean over the trials of the place. A cell (task, fold, seed) in which no configuration has a score says
    nothing and is left out. Where others have one, an undefined score counts as 0. A configuration of which a trial
    failed has no score, unless all configurations failed in that cell. Trainings of control tasks alone count for no
    choice but their own, as they count for no mean. If one fails, its configuration has failed all the same.

    Parameters
    ----------
    rows : of `trials_of_search`.
    """
    if rows.empty:
        return pd.DataFrame(columns=list(TRIED_COLUMNS))
    is_control = rows["is_control"].astype(bool)
    counts = ~is_control | is_control.groupby([rows[key] for key in PLACE]).transform("all")
    has_score = rows.groupby(CELL)["score"].transform(lambda scores: scores.notna().any())
    rows = rows.assign(score=rows["score"].fillna(0.0).where(counts))[has_score]
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


def spent(rows: pd.DataFrame) -> pd.DataFrame:
    """What a search cost, one row per place: `PLACE`, n_planned, n_trainings, n_failed, n_stopped, seconds, bag_steps.

    `n_planned` counts trainings that were to be, `n_trainings` those that finished, `n_stopped` those of them that stopped
    early. `n_failed` counts configurations of which a training failed.

    Parameters
    ----------
    rows : of `trials_of_search`. What a failed training cost is not on record.
    """
    found = []
    for place, mine in rows.groupby(PLACE, sort=False):
        failed = mine["failed"].astype(bool)
        n_failed = mine.loc[failed, "configuration"].nunique()
        sums = (int(mine["stopped"].sum()), float(mine["seconds"].sum()), int(mine["bag_steps"].sum()))
        found.append((*place, len(mine), int((~failed).sum()), n_failed, *sums))
    return pd.DataFrame(
        found, columns=[*PLACE, "n_planned", "n_trainings", "n_failed", "n_stopped", "seconds", "bag_steps"]
    )


class BudgetCurve(NamedTuple):
    """What a search of fewer configurations would have found, by number of configurations from 1 on.

    Attributes
    ----------
    score, score_sd : expected validation score of the chosen configuration, and its standard deviation over draws.
    test, test_sd : the same of the test score of that configuration; NaN where none is predicted.
    """

    score: Floats
    score_sd: Floats
    test: Floats
    test_sd: Floats


def budget_curve(scores: Sequence[float], tests: Sequence[float] | None = None) -> BudgetCurve:
    """Expected best of the default and k of the other configurations, for every k, drawn without replacement. Exact.

    With the M others sorted by rank, the best of k drawn ones has rank i with probability C(M - i, k - 1) / C(M, k)
    (Tang et al., ACL 2020). The default is always in the draw and wins a tie, as it does in a search.

    Parameters
    ----------
    scores : validation score by configuration, the default's first. NaN = it failed: it is spent, and never wins.
    tests : test score by configuration.

    Returns
    -------
    BudgetCurve : NaN for numbers with which some draw has no score at all, or chooses one without a test score.
    """
    tests = [float("nan")] * len(scores) if tests is None else tests
    others = sorted(range(1, len(scores)), key=lambda n: (isnan(scores[n]), -scores[n], n))
    winners = np.array([n if _wins(scores[n], scores[0]) else 0 for n in others], dtype=int)
    m = len(others)
    rows = [(*_moments([1.0], [scores[0]]), *_moments([1.0], [tests[0]]))]
    for k in range(1, m + 1):
        chances = _chances_of_ranks(m, k)
        rows.append((*_moments(chances, np.asarray(scores)[winners]), *_moments(chances, np.asarray(tests)[winners])))
    return BudgetCurve(*np.array(rows, dtype=float).T)


def _chances_of_ranks(m: int, k: int) -> Floats:
    """Chance that the best of k drawn out of m has each rank, best first, by the ratio of each chance to the one before it."""
    ranks = np.arange(1, m)
    return k / m * np.cumprod(np.append(1.0, np.maximum(m - ranks - k + 1, 0) / (m - ranks)))


def mean_curve(curves: Sequence[BudgetCurve]) -> BudgetCurve:
    """Mean of the curves of tasks that are tuned apart; it has no standard deviation, since their draws are not shared.

    Tasks without a test score, such as controls, are left out of `test`.
    """
    if len(curves) == 1:
        return curves[0]
    none = np.full(len(curves[0].score), np.nan)
    tests = [curve.test for curve in curves if not np.isnan(curve.test).all()]
    return BudgetCurve(
        np.mean([curve.score for curve in curves], axis=0), none, np.mean(tests, axis=0) if tests else none, none
    )


def _wins(score: float, default: float) -> bool:
    return score > default or (isnan(default) and not isnan(score))


def _moments(chances: Sequence[float] | Floats, values: Sequence[float] | Floats) -> tuple[float, float]:
    """Mean and standard deviation of values with these chances; NaN if one that can occur is NaN."""
    p, v = np.asarray(chances, dtype=float), np.asarray(values, dtype=float)
    p, v = p[p > 0], v[p > 0]
    mean = float(p @ v)
    return mean, float(np.sqrt(p @ (v - mean) ** 2))


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
        "stopped": not failed and info["n_epochs"] < info["recipe"]["epochs"],
        "seconds": info.get("wall_seconds", 0.0),
        "bag_steps": n_training_bags * info.get("n_epochs", 0),
        "trainer": dict(info["recipe"]),
        "model_arguments": dict(info["hyperparameters"]),
    }


def _score(trial: Any) -> float:
    history = trial.history().set_index("epoch")
    column = "val_score" if "val_score" in history else "val_auroc"
    return float(history.loc[trial.info["chosen_epoch"], column])
