"""Studies whose truth is known by construction: every model's scores separate the classes by as much as asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from runs_for_tests import MODELS, describe, info

from milbench.report.claim_stores import Scope
from milbench.store.run import Run

N_PATIENTS = 240
FOLDS = (0, 1, 2)
GENES = ("G1", "G2", "G3", "G4")
SCOPE = Scope(
    cohorts=("one", "two"), average_gain=0.04, gains={"one": 0.06}, gene_gains={("one", "G4"): 0.05},
    singles=("mean_pooling", "amil"), ladder="one", numbers=(1, 2, 4),
)  # fmt: skip

Skill = float | Mapping[str, float]
"""How far positives lie above negatives, in noise deviations, on all tasks or by task; 0.5 is an AUROC of about 0.64."""


def skilled_run(
    path: Path,
    skills: Mapping[str, Mapping[str, Skill]],
    *,
    tasks: Sequence[str] = GENES,
    patients: int = N_PATIENTS,
    experts: int = 5,
    config: Mapping[str, Any] | None = None,
) -> Run:
    """A run of every model that `skills` names by cohort. Labels and the noise of a slide are the same in all runs."""
    run, plan, written = Run(path), {}, []
    for dataset, models in skills.items():
        for model, skill in models.items():
            groups = [tuple(tasks)] if MODELS[model][1] == "multi" else [(task,) for task in tasks]
            for fold in FOLDS:
                for group in groups:
                    name = "all" if MODELS[model][1] == "multi" else group[0]
                    slot = f"{dataset}/{model}/{name}/fold{fold}"
                    key = hashlib.sha256(slot.encode()).hexdigest()
                    plan[slot] = f"{slot}-seed42-{key[:8]}"
                    facts = {**info(dataset, model, group, fold, key), "hyperparameters": {"experts": experts}}
                    written.append((plan[slot], facts, _predictions(dataset, model, group, fold, skill, patients)))
    facts = {
        name: {**describe(name, tuple(models), tuple(tasks)), "control_tasks": []} for name, models in skills.items()
    }
    run.write_header(dict(config or {}), {"git": "0123abc", "milbench": "0.1.0"}, facts, plan)
    history = pd.DataFrame({"epoch": [0], "lr": [0.1], "train_loss": [0.7], "val_loss": [0.8], "val_auroc": [0.6]})
    for trial_id, facts_of_trial, table in written:
        run.write_trial(trial_id, facts_of_trial, table, history, None)
    return run


def _predictions(
    dataset: str, model: str, tasks: Sequence[str], fold: int, skill: Skill, patients: int
) -> pd.DataFrame:
    parts = []
    for task in tasks:
        number = int.from_bytes(hashlib.sha256(f"{dataset}/{task}".encode()).digest()[:4], "little")
        labels = np.random.default_rng(number).random(patients) < 0.4
        # a slide is as hard for all models, but for a small view of their own, so that differences are told apart
        hardness = np.random.default_rng([number, 1]).standard_normal(patients)
        own = np.random.default_rng([number, 2, fold, *model.encode()]).standard_normal(patients)
        far = skill if isinstance(skill, float | int) else skill[task]
        scores = hardness + 0.1 * own + far * labels
        for role in ("val", "test"):
            parts.append(pd.DataFrame({
                "slide_id": [f"s{i}" for i in range(patients)], "patient_id": [f"p{i}" for i in range(patients)],
                "role": role, "task": task, "target": labels.astype(float), "probability": 1 / (1 + np.exp(-scores)),
            }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)
