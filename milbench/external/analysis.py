"""Analysis: scores of an external cohort beside those of the run's own test side, with the statistics of a report.

All folds share the external test side. So the mean over trials has the crossed bootstrap over patients and folds, and the
ensemble of all folds an interval over patients alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from milbench.endpoints.endpoint import KINDS, Kind
from milbench.errors import StoreError
from milbench.external.evaluate import External
from milbench.external.scored import PartOfTrial, ScoredTrial
from milbench.stats.analysis import Analysis, analyse_grids
from milbench.stats.grid import grid_of_trials
from milbench.store.run import Run
from milbench.store.trial import StoredTrial


class Compared(NamedTuple):
    """Tasks of one kind on the run's own test side and on the external cohort.

    Attributes
    ----------
    internal, external : with the same trials and tasks.
    """

    internal: Analysis
    external: Analysis


def compared(
    external: External, trials: Sequence[ScoredTrial], *, reference: str, draws: int, complete_cases: bool
) -> dict[Kind, Compared]:
    """By kind of the tasks that the cohort has labels of.

    Raises
    ------
    StoreError : models lack trials that others have, and `complete_cases` was not asked for.
    """
    run, dataset = external.source.run, external.source.dataset
    own = own_trials(external)
    found: dict[Kind, Compared] = {}
    for kind in KINDS:
        sides = [
            _analysis(run, dataset, each, kind, called, reference=reference, draws=draws, complete_cases=complete_cases)
            for each, called in ((own, dataset), (trials, external.name))
            if any(_asks(trial, kind) for trial in each)
        ]
        if sides:
            found[kind] = Compared(*sides)
    return found


def own_trials(external: External) -> list[PartOfTrial]:
    """The trials with the run's own test side, and those of their tasks that the cohort has labels of."""
    return [PartOfTrial(each.path, each.id, each.info, external.evaluated) for each in external.source.trials]


def refuse_incomplete(trials: Sequence[StoredTrial], evaluated: Sequence[str]) -> None:
    """StoreError if a model lacks trials that others have: it is told before a slide is read."""
    for kind in KINDS:
        cells: dict[str, set[tuple[str, int, int]]] = {}
        for trial in trials:
            for task, fitted in trial.endpoint_of.items():
                if fitted.kind == kind and task in evaluated:
                    cells.setdefault(trial.info["model"], set()).add((task, trial.info["fold"], trial.info["seed"]))
        whole = set().union(*cells.values())
        lacking = [f"{model} lacks {len(whole - own)} of {len(whole)}" for model, own in cells.items() if whole - own]
        if lacking:
            raise StoreError(
                f"the run is half done: {'; '.join(lacking)} (task, fold, seed) cells that other models have. Finish the run, "
                "or leave unfinished tasks out with --complete-cases."
            )


def _asks(trial: StoredTrial, kind: Kind) -> bool:
    return any(fitted.kind == kind for fitted in trial.endpoint_of.values())


def _analysis(
    run: Run, dataset: str, trials: Sequence[StoredTrial], kind: Kind, called: str, *, reference: str, draws: int,
    complete_cases: bool,
) -> Analysis:  # fmt: skip
    grid = grid_of_trials(run, dataset, [trial for trial in trials if _asks(trial, kind)], kind, called=called)
    return analyse_grids([grid], reference=reference, draws=draws, complete_cases=complete_cases)


def drop_frame(compared: Compared) -> pd.DataFrame:
    """One row per task and model: score on the run's test side and on the external cohort, and the difference.

    A control task is among them. The last rows are means over the other tasks, if there are two or more.
    """
    key = ["task", "model"]
    inner, outer = compared.internal.cells.set_index(key), compared.external.cells.set_index(key)
    rows = [
        {
            "task": row.task, "model": row.model, "title": row.title, "is_control": row.is_control,
            **_side("internal", inner.loc[(row.task, row.model)] if (row.task, row.model) in inner.index else None),
            **_side("external", outer.loc[(row.task, row.model)]),
        }
        for row in compared.external.cells.itertuples()
    ]  # fmt: skip
    if compared.external.cells.loc[~compared.external.cells["is_control"], "task"].nunique() > 1:
        rows += _means(compared)
    table = pd.DataFrame(rows)
    return table.assign(drop=table["internal_score"] - table["external_score"])


MEAN = "mean over tasks"


def _means(compared: Compared) -> list[dict[str, object]]:
    inner, outer = (side.cohorts.set_index("model") for side in compared)
    return [
        {
            "task": MEAN, "model": model, "title": outer.loc[model, "title"], "is_control": False,
            **_side("internal", inner.loc[model] if model in inner.index else None), **_side("external", outer.loc[model]),
        }
        for model in outer.index
    ]  # fmt: skip


def _side(name: str, row: pd.Series | None) -> dict[str, float]:
    """Numbers of one side; a mean over tasks has no ensemble."""
    columns = ("score", "low", "high", "sd", "ensemble_score", "ensemble_low", "ensemble_high")
    return {f"{name}_{column}": float("nan" if row is None else row.get(column, float("nan"))) for column in columns}
