"""Searched tests: test scores of the configurations of a search, for the report. Nothing that chooses reads them."""

from __future__ import annotations

import pandas as pd

from milbench.endpoints.endpoint import Kind
from milbench.stats.metric import METRICS
from milbench.stats.scores import scores_on_test
from milbench.stats.search import PLACE
from milbench.store.run import Run
from milbench.store.trial import StoredTrial

CELL = ["cell_task", "fold", "seed"]
COLUMNS = (*PLACE, "configuration", *CELL, "score")


def scores_by_configuration(run: Run, kind: Kind, *, per_task: bool) -> pd.DataFrame:
    """Mean test score over signal tasks of one kind, one row per place and configuration: `PLACE`, configuration, score.

    The mean is over tasks in a fold and seed first, as in every table. A (task, fold, seed) that has a score in no
    training of the cohort is left out. Where others have one, an undefined score counts as chance. A configuration of
    which a training is missing has none.

    Parameters
    ----------
    run : the folder of a search; trials of shorter rungs and trials without a test side are left out.
    """
    found = [row for trial in run.trials() for row in _rows(run, trial, kind, per_task=per_task)]
    rows = pd.DataFrame(found, columns=list(COLUMNS))
    if rows.empty:
        return rows[[*PLACE, "configuration", "score"]]
    rows = rows[rows.groupby(["dataset", *CELL])["score"].transform(lambda scores: scores.notna().any())]
    rows = rows.assign(score=rows["score"].fillna(METRICS[kind].chance))
    runs = rows.groupby([*PLACE, "configuration", "fold", "seed"])["score"].agg(["mean", "size"]).reset_index()
    table = runs.groupby([*PLACE, "configuration"]).agg(score=("mean", "mean"), n=("size", "sum")).reset_index()
    table.loc[table["n"] < table.groupby(PLACE)["n"].transform("max"), "score"] = float("nan")
    return table[[*PLACE, "configuration", "score"]]


def _rows(run: Run, trial: StoredTrial, kind: Kind, *, per_task: bool) -> list[tuple[object, ...]]:
    info, endpoints = trial.info, trial.endpoint_of
    if "epochs" in info["search"] or not info["search"]["test"]:
        return []
    controls = set(run.datasets[info["dataset"]].get("control_tasks", []))
    task = info["tasks"][0] if per_task and info["model_tasks"] == "single" else ""
    place = (info["dataset"], info["model"], task, info["search"]["configuration"])
    return [
        (*place, name, info["fold"], info["seed"], value)
        for name, value in scores_on_test(trial).items()
        if endpoints[name].kind == kind and name not in controls
    ]
