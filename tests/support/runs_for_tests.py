"""Runs written through the store's own writer, with scores that are known."""

from __future__ import annotations

import json
import zlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from remembered import remembered

from milbench.store.identity import recorded_key
from milbench.store.run import Run
from milbench.store.run_writing import write_header, write_trial
from milbench.store.slot import slot_name, trial_id_of
from milbench.store.trial import StoredTrial

MODELS = {
    "mean_pooling": ("Mean pooling", "single"), "amil": ("AMIL", "single"), "dsmil": ("DSMIL", "single"),
    "transmil": ("TransMIL", "single"), "mmoe_amil": ("MMoE+AMIL", "multi"), "mmoe_mp_amil": ("MMoE+MP-AMIL", "multi"),
    "m4": ("M4", "multi"),
}  # fmt: skip
TASKS = ("TP53", "PIK3CA", "A_B", "control")
N_SLIDES = 60


@remembered(Run)
def make_run(
    path: Path,
    *,
    datasets: tuple[str, ...] = ("toy",),
    models: tuple[str, ...] = tuple(MODELS),
    folds: tuple[int, ...] = (0, 1, 2),
    leave_out: tuple[str, ...] = (),
    one_class: tuple[str, ...] = (),
    apart: timedelta = timedelta(),
    tasks: tuple[str, ...] = TASKS,
) -> Run:
    """A run of every model on every dataset.

    `leave_out` lists slots ("toy/amil/TP53/fold0") that are not there, `one_class` tasks without positives;
    each trial finishes `apart` from the one before.
    """
    run = Run(path)
    plan, written = {}, []
    for dataset in datasets:
        for rank, model in enumerate(models):
            groups = [tasks] if MODELS[model][1] == "multi" else [(task,) for task in tasks]
            for fold in folds:
                for group in groups:
                    slot = slot_name(dataset, model, group, fold, 42)
                    if slot.removesuffix("-seed42") in leave_out:
                        continue
                    facts_of_trial = info(dataset, model, group, fold)
                    plan[slot] = trial_id = trial_id_of(facts_of_trial)
                    table = predictions(dataset, group, fold, rank)
                    table.loc[table["task"].isin(one_class), "target"] = 0.0
                    written.append((trial_id, facts_of_trial, table))
    facts = {name: describe(name, models, tasks) for name in datasets}
    write_header(run, {"models": list(models)}, {"git": "0123abc", "milbench": "0.1.0"}, facts, plan)
    history = pd.DataFrame(
        {
            "epoch": [0, 1],
            "lr": [0.1, 0.05],
            "train_loss": [0.7, 0.5],
            "val_loss": [0.8, np.nan],
            "val_auroc": [0.6, 0.7],
        }
    )
    for index, (trial_id, facts_of_trial, table) in enumerate(written):
        finished = datetime.fromisoformat(facts_of_trial["finished_at"]) + index * apart
        write_trial(run, trial_id, {**facts_of_trial, "finished_at": finished.isoformat()}, table, history, None)
    return run


def write_as_another(run: Run, trial: StoredTrial, table: pd.DataFrame, **changed: Any) -> None:
    """Put the trial's results back as those of a trial with other settings, and plan that one instead."""
    facts = {**trial.info, **changed}
    facts["key"] = recorded_key(facts)
    facts["id"] = trial_id_of(facts)
    plan = {**run.planned(), facts["id"].rpartition("-")[0]: facts["id"]}
    (run.path / "plan.json").write_text(json.dumps(plan))
    write_trial(run, facts["id"], facts, table, trial.history(), None)


def describe(name: str, models: tuple[str, ...], tasks: tuple[str, ...]) -> dict[str, Any]:
    return {
        "title": name.upper(), "models": list(models), "tasks": list(tasks), "control_tasks": ["control"],
        "n_slides": N_SLIDES, "n_patients": N_SLIDES, "splits": "kfold", "scaling": "standard",
        "model_defaults": {"hidden": 64}, "trainer_defaults": {"lr": 0.01}, "notes": [], "split_sha256": "f" * 64,
    }  # fmt: skip


def info(dataset: str, model: str, tasks: tuple[str, ...], fold: int, **changed: Any) -> dict[str, Any]:
    record = {
        "status": "done", "dataset": dataset, "model": model, "model_title": MODELS[model][0],
        "model_tasks": MODELS[model][1], "tasks": list(tasks), "fold": fold, "seed": 42, "protocol": "m4",
        "hyperparameters": {"hidden": 64, "dropout": 0.25}, "recipe": {"name": "m4", "lr": 0.01, "epochs": 2, "model": {}},
        "chosen_epoch": 1, "n_epochs": 2, "n_parameters": 1000, "wall_seconds": 2.0, "train_seconds": 1.5,
        "peak_bytes": 10_000_000, "split_sha256": "f" * 64, "fingerprint": f"{zlib.crc32(dataset.encode()):064x}", "finished_at": "2026-01-02T03:04:05+00:00",
        **changed,
    }  # fmt: skip
    return {**record, "key": recorded_key(record)}


def number(task: str) -> int:
    return TASKS.index(task) if task in TASKS else zlib.crc32(task.encode())


def predictions(dataset: str, tasks: tuple[str, ...], fold: int, rank: int) -> pd.DataFrame:
    """Scores whose separation grows with the model's rank; the same labels for every model and fold."""
    rows = []
    for task in tasks:
        labels = np.random.default_rng([len(dataset), number(task)]).random(N_SLIDES) < 0.4
        noise = np.random.default_rng([fold, rank, number(task)]).standard_normal(N_SLIDES)
        scores = noise + (0 if task == "control" else 0.4 + 0.25 * rank) * labels
        rows += [
            (f"s{i}", f"p{i}", role, task, float(labels[i]), 1 / (1 + np.exp(-scores[i])))
            for role in ("val", "test")
            for i in range(N_SLIDES)
        ]
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "role", "task", "target", "probability"])
