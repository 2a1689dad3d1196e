"""Tuned runs made of a plain one: the same trials as tuned and untuned, and a search whose validation scores are given."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from milbench.cohorts.tuned import TunedSettings
from milbench.search_space import Configuration
from milbench.stats.search import PLACE, best_of, tried
from milbench.store.identity import recorded_key
from milbench.store.run import Run, open_run
from milbench.store.run_folder import CHOSEN, TUNING, UNTUNED
from milbench.store.run_writing import write_failure, write_header, write_trial
from milbench.store.slot import trial_id_of
from milbench.store.trial import PREDICTIONS, StoredTrial

RESULTS = ("n_slides", "n_epochs", "wall_seconds", "train_seconds", "chosen_epoch", "model_tasks")
"""What is on record of a trial that finished, and not of one that failed."""


def make_tuned(
    run: Run,
    path: Path,
    scores: Mapping[str, Sequence[float]],
    *,
    per: str = "model",
    test: bool = True,
    compare: bool = True,
    short: Mapping[str, Sequence[float]] | None = None,
) -> Run:
    """A tuned run at `path` whose tuned trials and untuned ones are those of `run`.

    Parameters
    ----------
    scores : validation score of each model's configurations, the same in all its trials. NaN: their trainings failed.
        Predictions of configurations with an odd number are those of the run turned round.
    short : the same of a rung of one epoch, if the search halves.
    """
    n = len(next(iter((short or scores).values())))
    tuning = {"configurations": n, "per": per, "halving": short is not None, "test": test}
    _copy(run, path, tuning)
    if compare:
        _copy(run, path / UNTUNED, {**tuning, "configurations": 0})
    search = _write_search(run, path / TUNING, tuning, scores, short or {})
    _write_chosen(search, n, per_task=per == "task")
    return open_run(path)


def _copy(run: Run, path: Path, tuning: Mapping[str, Any]) -> None:
    shutil.copytree(run.path, path)
    (path / "run.yaml").write_text(yaml.safe_dump({**run.config, "tuning": dict(tuning)}))


def _write_search(
    run: Run,
    path: Path,
    tuning: Mapping[str, Any],
    scores: Mapping[str, Sequence[float]],
    short: Mapping[str, Sequence[float]],
) -> Run:
    trials = [
        (trial, _identity(trial, {"configuration": number, "test": tuning["test"], **rung}), score)
        for trial in run.trials()
        for rung, given in (({}, scores), ({"epochs": 1}, short))
        for number, score in enumerate(given.get(trial.info["model"], ()))
    ]
    plan = {facts["id"].rpartition("-")[0]: facts["id"] for _, facts, _ in trials}
    write_header(Run(path), {**run.config, "tuning": dict(tuning)}, run.environment, run.datasets, plan)
    for trial, facts, score in trials:
        _write(Run(path), trial, facts, score)
    return open_run(path)


def _identity(trial: StoredTrial, about: Mapping[str, Any]) -> dict[str, Any]:
    facts = {**trial.info, "search": dict(about), "n_slides": {"train": 100}, "wall_seconds": 3.0}
    facts["key"] = recorded_key(facts)
    return {**facts, "id": trial_id_of(facts)}


def _write(search: Run, trial: StoredTrial, facts: Mapping[str, Any], score: float) -> None:
    if math.isnan(score):
        identity = {key: value for key, value in facts.items() if key not in RESULTS}
        record = {"id": facts["id"], "type": "RuntimeError", "message": "no", "identity": identity}
        write_failure(search, facts["key"], record)
        return
    table, history = pd.read_parquet(trial.path / PREDICTIONS), trial.history()
    if not facts["search"]["test"]:
        table = table[table["role"] == "val"]
    if facts["search"]["configuration"] % 2 and "probability" in table:
        table = table.assign(probability=1 - table["probability"])
    column = "val_score" if "val_score" in history else "val_auroc"
    facts = {**facts, "n_slides": {**facts["n_slides"], **_slides(table)}}
    write_trial(search, facts["id"], facts, table, history.assign(**{column: np.float64(score)}), None)


def _slides(table: pd.DataFrame) -> dict[str, int]:
    return {str(role): rows["slide_id"].nunique() for role, rows in table.groupby("role")}


def _write_chosen(search: Run, n: int, *, per_task: bool) -> None:
    table = tried(search, per_task=per_task)
    for dataset, rows in table.groupby("dataset"):
        places = [(str(d), str(model), str(task)) for d, model, task in rows[PLACE].drop_duplicates().to_numpy()]
        best = {place[1:]: (best_of(table, place) or [0])[0] for place in places}
        chosen = {place: Configuration(number, {"lr": 0.01} if number else {}) for place, number in best.items()}
        file = search.path / CHOSEN / f"{dataset}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TunedSettings(n, chosen, str(dataset), "milbench run --tune", "2026-11-28").to_yaml())
