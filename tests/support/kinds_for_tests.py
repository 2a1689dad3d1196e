"""A run with one task of every kind, written through the store's own writer, with labels, roles and known answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from remembered import remembered
from runs_for_tests import MODELS, describe, info
from scipy.special import expit

from milbench.endpoints.answers import answers_of
from milbench.endpoints.endpoint import BINARY, Endpoint, event_of, time_of
from milbench.endpoints.fitted import FittedEndpoint
from milbench.store.run import Run
from milbench.store.run_writing import write_header, write_trial
from milbench.store.slot import slot_name, trial_id_of

Floats = NDArray[np.float64]

SUBTYPES, GRADES = ("Basal", "Her2", "Luminal"), ("G1", "G2", "G3", "G4")
EDGES = (300.0, 700.0, 1200.0)
ENDPOINTS = {
    "TP53": BINARY,
    "subtype": Endpoint("multiclass", SUBTYPES),
    "grade": Endpoint("ordinal", GRADES),
    "HRD": Endpoint("regression"),
    "OS": Endpoint("survival"),
    "control": BINARY,
}
FOLDS = (0, 1, 2)
ROLES = ("train",) * 80 + ("val",) * 20 + ("test",) * 110
N_PATIENTS = len(ROLES)


def fitted(task: str, model: str) -> FittedEndpoint:
    endpoint = ENDPOINTS[task]
    by_kind: dict[str, dict[str, Any]] = {
        "binary": {}, "multiclass": {"loss": "ce"}, "ordinal": {"loss": "ce"},
        "regression": {"loss": "huber", "center": 30.0, "scale": 12.0},
        "survival": {"loss": "cox"} if model == "amil" else {"loss": "nll", "edges": EDGES},
    }  # fmt: skip
    return FittedEndpoint(endpoint, **by_kind[endpoint.kind])


def slides() -> pd.DataFrame:
    """slide_id, patient_id, role; every fifth patient has a second slide."""
    patients = [f"TCGA-{'AB'[p % 2]}{p % 3}-{p:04d}" for p in range(N_PATIENTS)]
    of_patient = [*range(N_PATIENTS), *range(0, N_PATIENTS, 5)]
    return pd.DataFrame(
        {
            "slide_id": [f"s{slide}" for slide in range(len(of_patient))],
            "patient_id": [patients[p] for p in of_patient],
            "role": [ROLES[p] for p in of_patient],
            "patient": of_patient,
        }
    )


def labels(task: str) -> Floats:
    """[P] one number per patient; NaN where unknown."""
    rng, kind = np.random.default_rng([7, list(ENDPOINTS).index(task)]), ENDPOINTS[task].kind
    found: Floats
    if kind == "binary":
        found = (rng.random(N_PATIENTS) < 0.4).astype(float)
    elif kind == "multiclass":
        found = rng.choice(3, N_PATIENTS, p=[0.3, 0.3, 0.4]).astype(float)
    elif kind == "ordinal":
        found = rng.choice(4, N_PATIENTS).astype(float)
    elif kind == "regression":
        found = np.round(30 + 12 * rng.standard_normal(N_PATIENTS), 1)
    else:
        days = np.ceil(rng.exponential(900, N_PATIENTS))
        found = np.where(rng.random(N_PATIENTS) < 0.5, days, -np.ceil(days * rng.random(N_PATIENTS)))
    found[rng.choice(N_PATIENTS, 5, replace=False)] = np.nan
    return found


def logits(task: str, each: FittedEndpoint, known: Floats, rng: np.random.Generator, skill: float) -> Floats:
    """[S, width] of slides whose labels are `known`, right the more often the greater the skill."""
    noise = rng.standard_normal((len(known), each.width))
    target = np.nan_to_num(known)
    if task == "control":
        return noise
    if each.loss == "ce":
        return noise + 2 * skill * -np.abs(target[:, None] - np.arange(each.width))
    if each.kind == "survival":
        hazard = -skill * (time_of(target) - 700) / 500 * np.where(event_of(known) == 1, 1, 0.5)
        return noise + hazard[:, None] - (1 if each.loss == "nll" else 0)
    if each.kind == "regression":
        return 0.8 * noise + skill * (target[:, None] - each.center) / each.scale
    return noise + 2 * skill * target[:, None]


def answers(tasks: Sequence[str], model: str, fold: int, skill: float) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The stored table of one trial, and the risks of its training patients."""
    every, parts, risks = slides(), [], {}
    for place, task in enumerate(tasks):
        each, known = fitted(task, model), labels(task)[every["patient"]]
        rng = np.random.default_rng([fold, len(model), list(ENDPOINTS).index(task)])
        raw = logits(task, each, known, rng, skill).astype(np.float32)
        values = expit(raw.astype(float)) if each.kind == "binary" else answers_of(each, raw)
        if each.kind == "survival":
            of_patients = pd.Series(values[:, 0]).groupby(every["patient"]).mean()[: ROLES.count("train")]
            risks[task] = {"median": of_patients.median(), "mean": of_patients.mean(), "sd": of_patients.std(ddof=0)}
        for number, name in enumerate(each.answers):
            rows = every.assign(task=task, answer=name, prediction=values[:, number], order=place, number=number)
            is_survival = each.kind == "survival"
            rows["target"] = time_of(known) if is_survival else known
            rows["event"] = event_of(known) if is_survival else np.nan
            parts.append(rows[rows["role"] != "train"])
    table = pd.concat(parts).rename_axis("slide").sort_values(["role", "slide", "order", "number"])
    columns = ["slide_id", "patient_id", "role", "task", "target", "event", "answer", "prediction"]
    return table[columns].reset_index(drop=True), risks


@remembered(Run)
def make_run_of_kinds(
    path: Path, *, tasks: Sequence[str] = tuple(ENDPOINTS), folds: Sequence[int] = FOLDS, dataset: str = "toy"
) -> Run:
    """A run of AMIL and M4 on all tasks together; AMIL has a Cox loss, M4 knows survival at the edges of its bins."""
    run, plan, written = Run(path), {}, []
    split = hashlib.sha256(roles(folds).encode()).hexdigest()
    for rank, model in enumerate(("amil", "m4")):
        for fold in folds:
            endpoints = [fitted(task, model).as_dict() for task in tasks]
            table, risks = answers(tasks, model, fold, 0.4 + 0.2 * rank)
            facts = info(dataset, model, tuple(tasks), fold, endpoints=endpoints, training_risk=risks, model_tasks="multi",
                         split_sha256=split)  # fmt: skip
            slot = slot_name(dataset, model, tuple(tasks), fold, 42)
            plan[slot] = trial_id_of(facts)
            written.append((plan[slot], facts, table))
    asked = {task: ENDPOINTS[task].as_dict() for task in tasks if ENDPOINTS[task].kind != "binary"}
    header = {**describe(dataset, tuple(MODELS), tuple(tasks)), "endpoints": asked, "split_sha256": split}
    write_header(run, {"models": ["amil", "m4"]}, {"git": "0123abc", "milbench": "0.1.0"}, {dataset: header}, plan)
    numbers = {"epoch": [0, 1], "lr": [0.1, 0.05], "train_loss": [0.7, 0.5], "val_loss": [0.8, 0.6]}
    history = pd.DataFrame({**numbers, "val_score": [0.6, 0.7]})
    for trial_id, facts, table in written:
        write_trial(run, trial_id, facts, table, history, None)
    every = slides()
    known = {task: labels(task)[every["patient"]] for task in tasks}
    every[["slide_id", "patient_id"]].assign(**known).to_csv(run.label_file(dataset), index=False)
    run.split_file(dataset).write_text(roles(folds))
    return run


def roles(folds: Sequence[int]) -> str:
    """The split table: every fold has the same sides."""
    patients = slides().drop_duplicates("patient_id")
    table = patients[["patient_id"]].assign(**{f"fold_{fold}": patients["role"] for fold in folds})
    return str(table.to_csv(index=False))
