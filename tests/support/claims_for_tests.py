"""Studies whose truth is known by construction: every model's scores separate the classes by as much as asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from runs_for_tests import MODELS, describe, info

from milbench.report.claim_stores import Scope
from milbench.store.run import Run
from milbench.store.run_writing import write_header, write_trial
from milbench.store.slot import slot_name, trial_id_of

N_PATIENTS = 240
FOLDS = (0, 1, 2)
GENES = ("G1", "G2", "G3", "G4")
SCOPE = Scope(
    cohorts=("one", "two"), average_gain=0.04, gains={"one": 0.06}, gene_gains={("one", "G4"): 0.05},
    singles=("mean_pooling", "amil"), ladder="one", numbers=(1, 2, 4),
)  # fmt: skip

Skill = float | Mapping[str, float]
"""How far positives lie above negatives, in noise deviations, on all tasks or by task; 0.5 is an AUROC of about 0.64."""

Scorer = Callable[[str, int], pd.DataFrame]
"""(task, fold) -> slide_id, patient_id, target, probability of the test side."""


def skilled_run(
    path: Path,
    skills: Mapping[str, Mapping[str, Skill]],
    *,
    tasks: Sequence[str] = GENES,
    patients: int = N_PATIENTS,
    experts: int = 5,
    config: Mapping[str, Any] | None = None,
) -> Run:
    """A run of every model that `skills` names by cohort. Labels and the hardness of a slide are the same in all runs."""
    scorers = {
        name: {model: partial(_skilled, name, model, skill, patients) for model, skill in models.items()}
        for name, models in skills.items()
    }
    return scored_run(path, scorers, tasks, experts=experts, config=config)


def scored_run(
    path: Path,
    scorers: Mapping[str, Mapping[str, Scorer]],
    tasks: Sequence[str],
    *,
    experts: int = 5,
    config: Mapping[str, Any] | None = None,
) -> Run:
    """A run whose models score as they are told, by cohort and model."""
    run, plan, written = Run(path), {}, []
    for dataset, models in scorers.items():
        for model, scorer in models.items():
            multi = MODELS[model][1] == "multi"
            for fold in FOLDS:
                for group in [tuple(tasks)] if multi else [(task,) for task in tasks]:
                    facts = info(dataset, model, group, fold, hyperparameters={"experts": experts}, n_epochs=1)
                    plan[slot_name(dataset, model, group, fold, 42)] = trial_id_of(facts)
                    table = pd.concat([scorer(task, fold).assign(task=task, role="test") for task in group])
                    written.append((trial_id_of(facts), facts, pd.concat([table, table.assign(role="val")])))
    headers = {
        name: {**describe(name, tuple(models), tuple(tasks)), "control_tasks": []} for name, models in scorers.items()
    }
    write_header(run, dict(config or {}), {"git": "0123abc", "milbench": "0.1.0"}, headers, plan)
    history = pd.DataFrame({"epoch": [0], "lr": [0.1], "train_loss": [0.7], "val_loss": [0.8], "val_auroc": [0.6]})
    for trial_id, facts, table in written:
        write_trial(run, trial_id, facts, table, history, None)
    return run


def _skilled(dataset: str, model: str, skill: Skill, patients: int, task: str, fold: int) -> pd.DataFrame:
    number = int.from_bytes(hashlib.sha256(f"{dataset}/{task}".encode()).digest()[:4], "little")
    labels = np.random.default_rng(number).random(patients) < 0.4
    # a slide is as hard for all models, except for a small view of their own, so that differences are told apart
    hardness = np.random.default_rng([number, 1]).standard_normal(patients)
    own = np.random.default_rng([number, 2, fold, *model.encode()]).standard_normal(patients)
    far = skill if isinstance(skill, float | int) else skill[task]
    return scores_of(
        [f"s{i}" for i in range(patients)],
        [f"p{i}" for i in range(patients)],
        labels,
        hardness + 0.1 * own + far * labels,
    )


def scores_of(slides: Sequence[str], patients: Sequence[str], labels: Any, logits: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "slide_id": list(slides),
            "patient_id": list(patients),
            "target": np.asarray(labels, dtype=float),
            "probability": 1 / (1 + np.exp(-np.asarray(logits, dtype=float))),
        }
    )
