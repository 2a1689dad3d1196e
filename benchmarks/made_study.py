"""A finished run of the study's size with made scores: 5 cohorts × 10 tasks × 9 models × 5 folds, 1,575 trials.

Nothing is trained. The store's own writer writes it, so benchmarks of statistics and reports read what a user's run holds. Labels are
the study's own where a folder holds its tables (`all_brca.csv`, ...), else made ones for as many patients.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from milbench.store.identity import recorded_key
from milbench.store.question import Question
from milbench.store.run import Run
from milbench.store.run_writing import write_header, write_trial
from milbench.store.slot import slot_name, trial_id_of

STATED = {"brca": 188, "crc": 113, "gbmlgg": 160, "luad": 93, "ucec": 100}
"""Test patients; four times as many train and validate."""
TASKS = tuple(f"g{number}" for number in range(10))
SINGLE = ("max_pooling", "mean_pooling", "amil", "dsmil", "transmil", "dtfd_mil")
MULTI = ("mmoe_amil", "mmoe_mp_amil", "m4")
MODELS = (*SINGLE, *MULTI)
FOLDS = range(5)
HISTORY = pd.DataFrame({
    "epoch": range(20), "lr": 0.0001, "train_loss": np.linspace(0.7, 0.4, 20), "val_loss": np.linspace(0.7, 0.5, 20),
    "val_auroc": np.linspace(0.5, 0.7, 20),
})  # fmt: skip
IDS = ["slide_id", "patient_id"]


def made_labels(name: str) -> pd.DataFrame:
    """Slides, patients and tasks of a made cohort: one slide per patient, tasks from frequent to rare."""
    rng = np.random.default_rng([1, len(name)])
    ids = [f"{name}-{number:04d}" for number in range(5 * STATED[name])]
    shares = np.linspace(0.4, 0.12, len(TASKS))
    labels = {task: (rng.random(len(ids)) < share).astype(float) for task, share in zip(TASKS, shares, strict=True)}
    return pd.DataFrame({"slide_id": ids, "patient_id": ids, **labels})


def study_labels(name: str, folder: Path) -> pd.DataFrame:
    """The same columns from the study's own table: case_id, slide_id, one column per gene."""
    table = pd.read_csv(folder / f"all_{name}.csv").rename(columns={"case_id": "patient_id"})
    return table[[*IDS, *table.columns.drop(IDS)]]


def roles_of(labels: pd.DataFrame) -> pd.DataFrame:
    """A fifth of the patients as the test side of every fold; the others take turns as the validation side."""
    patients = np.unique(labels["patient_id"])
    place, n_test = np.arange(len(patients)), len(patients) // 5
    sides = {
        f"fold_{fold}": np.select([place < n_test, place % len(FOLDS) == fold], ["test", "val"], "train")
        for fold in FOLDS
    }
    return pd.DataFrame({"patient_id": patients, **sides})


def write_run(path: Path, label_folder: Path | None = None) -> Run:
    """The finished run, in `path`."""
    run, plan, facts, questions, trials = Run(path), {}, {}, {}, []
    for name in STATED:
        labels = study_labels(name, label_folder) if label_folder else made_labels(name)
        roles, tasks = roles_of(labels), list(labels.columns.drop(IDS))
        texts = [table.to_csv(index=False, lineterminator="\n") for table in (labels, roles)]
        labels_sha256, split_sha256 = (hashlib.sha256(text.encode()).hexdigest() for text in texts)
        facts[name] = {
            "title": name.upper(), "models": list(MODELS), "tasks": tasks, "control_tasks": [], "n_slides": len(labels),
            "n_patients": len(roles), "splits": "m4", "scaling": "none", "model_defaults": {}, "trainer_defaults": {},
            "notes": [], "split_sha256": split_sha256,
        }  # fmt: skip
        questions[name] = Question("f" * 64, split_sha256, "none", labels_sha256)
        for file, text in ((run.label_file(name), texts[0]), (run.split_file(name), texts[1])):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for rank, model in enumerate(MODELS):
            for fold in FOLDS:
                for number, group in enumerate([tasks] if model in MULTI else [[task] for task in tasks]):
                    record = _record(name, model, group, fold, split_sha256)
                    plan[slot_name(name, model, group, fold, 42)] = trial_id_of(record)
                    trials.append((record, _predictions(labels, roles, group, fold, 100 * rank + number)))
    write_header(run, {"models": list(MODELS)}, {"milbench": "0.1.0"}, facts, plan, questions)
    for record, table in trials:
        write_trial(run, trial_id_of(record), record, table, HISTORY, None)
    return run


def _record(name: str, model: str, tasks: list[str], fold: int, split_sha256: str) -> dict[str, object]:
    record = {
        "status": "done", "dataset": name, "model": model, "model_title": model, "tasks": tasks,
        "model_tasks": "multi" if model in MULTI else "single", "fold": fold, "seed": 42, "protocol": "m4",
        "hyperparameters": {}, "recipe": {"name": "m4", "epochs": 20, "model": {}}, "chosen_epoch": 19,
        "n_epochs": 20, "n_parameters": 500_000, "wall_seconds": 60.0, "train_seconds": 50.0,
        "peak_bytes": 10**9, "split_sha256": split_sha256, "fingerprint": "f" * 64,
        "feature_scaling": "none", "finished_at": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    return {**record, "key": recorded_key(record)}


def _predictions(labels: pd.DataFrame, roles: pd.DataFrame, tasks: list[str], fold: int, seed: int) -> pd.DataFrame:
    """Made scores of the labelled slides of the validation and the test side."""
    rng, parts = np.random.default_rng([seed, fold]), []
    sides = labels["patient_id"].map(roles.set_index("patient_id")[f"fold_{fold}"])
    for role in ("val", "test"):
        side = labels[sides == role]
        targets = side[tasks].to_numpy(dtype=float)
        parts.append(pd.DataFrame({
            "slide_id": np.repeat(side["slide_id"].to_numpy(), len(tasks)),
            "patient_id": np.repeat(side["patient_id"].to_numpy(), len(tasks)), "role": role,
            "task": np.tile(tasks, len(side)), "target": targets.ravel(),
            "probability": 1 / (1 + np.exp(-(targets + rng.standard_normal(targets.shape)).ravel())),
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True).dropna(subset="target")
