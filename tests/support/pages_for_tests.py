"""Pages made of scores that are known: an `Analysis` with every frame of the contract, intervals by rule of thumb."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from milbench.report.html import PageData
from milbench.report.html.data import RocCurve, RunFacts
from milbench.stats.analysis import Analysis
from milbench.stats.ranks import Ranks

TITLES = {
    "mean_pooling": "Mean pooling", "max_pooling": "Max pooling", "amil": "AMIL", "dsmil": "DSMIL", "transmil": "TransMIL",
    "dtfd_mil": "DTFD-MIL", "mmoe_amil": "MMoE+AMIL", "mmoe_mp_amil": "MMoE+MP-AMIL", "m4": "M4",
}  # fmt: skip
METRICS = ("average_precision", "balanced_accuracy", "f1", "sensitivity", "specificity", "threshold", "brier", "ece")
HALF = 0.04


def known_scores(
    *, cohorts: int = 2, tasks: int = 4, models: int = 4, folds: int = 3, seeds: int = 1, control: bool = True
) -> pd.DataFrame:
    """Slide-level AUROCs (dataset, model, title, task, is_control, fold, seed, auroc) that grow with the model's place."""
    generator = np.random.default_rng(7)
    names = list(TITLES)[-models:] if models <= len(TITLES) else [f"model_{i}" for i in range(models)]
    rows = [
        (f"tcga-c{c}", model, TITLES.get(model, model), task, task == "control", fold, seed)
        for c in range(cohorts)
        for model in names
        for task in [*(f"GENE{t}" for t in range(tasks)), *(["control"] if control else [])]
        for fold in range(folds)
        for seed in range(seeds)
    ]
    table = pd.DataFrame(rows, columns=["dataset", "model", "title", "task", "is_control", "fold", "seed"])
    place = table["model"].map({name: i for i, name in enumerate(names)}).to_numpy()
    noise = generator.normal(0, 0.04, len(table))
    table["score"] = np.clip(np.where(table["is_control"], 0.5, 0.62 + 0.02 * place) + noise, 0, 1)
    return table


def known_analysis(scores: pd.DataFrame, reference: str | None = "amil") -> Analysis:
    """Frames of the contract from slide-level scores."""
    levels = pd.concat([scores.assign(level=level) for level in ("slide", "patient")], ignore_index=True)
    levels = levels.assign(**dict.fromkeys(METRICS, levels["score"] * 0.9))
    signal = scores[~scores["is_control"]]
    models = list(dict.fromkeys(scores["model"]))
    reference = reference if reference in models else None
    cells = _means(scores, ["dataset", "task", "model"]).assign(
        n_missing=0, n_cells=scores.groupby(["fold", "seed"]).ngroups
    )
    cells = cells.assign(ensemble_score=cells["score"], ensemble_low=cells["low"], ensemble_high=cells["high"])
    cohorts = _means(signal, ["dataset", "model"]).assign(
        n_tasks=signal["task"].nunique(), n_undefined=0, n_missing=0, n_cells=10
    )
    overall = _means(cohorts, ["model"]).assign(n_cohorts=scores["dataset"].nunique())
    overall = overall.assign(low_fixed=overall["low"], high_fixed=overall["high"])
    pairs = [row for name, rows in cohorts.groupby("dataset") for row in _pairs(str(name), rows, models)]
    if cohorts["dataset"].nunique() > 1:
        pairs += _pairs("all", overall, models)
    return Analysis(
        levels, _tasks(scores), cells, _against(cells, reference), cohorts, overall,
        pd.DataFrame(pairs, columns=["dataset", "model_a", "model_b", "delta", "low", "high", "p", "p_holm", "superiority", "p_sign_flip"]),
        _ranks(cells[cells["task"] != "control"], models), reference, incomplete=(), left_out=(), n_draws=1000,
    )  # fmt: skip


def known_page(analysis: Analysis, *, epochs: int = 5, slides: int = 40, title: str = "Report: known") -> PageData:
    """A page with curves, ROC scores, costs and provenance around the analysis."""
    scores = analysis.scores[analysis.scores["level"] == "slide"]
    trials = scores[["dataset", "model", "task", "fold", "seed"]].rename(columns={"task": "task_label"})
    curves = trials.loc[trials.index.repeat(epochs)].reset_index(drop=True)
    curves["epoch"] = np.tile(np.arange(epochs), len(trials))
    curves["train_loss"], curves["val_loss"] = 0.7 / (1 + curves["epoch"]), 0.7 - 0.01 * curves["epoch"]
    curves["val_auroc"] = 0.5 + 0.3 * (1 - 1 / (1 + curves["epoch"]))
    costs = analysis.cohorts[["dataset", "model", "title"]].copy()
    place = np.arange(len(costs)) % costs["model"].nunique() + 1
    costs = costs.assign(
        n_parameters=place * 100_000, multiply_adds=place * 2e8, at_patches=1000, seconds_per_epoch=0.5 * place, bags_per_second=90.0,
        peak_bytes=3e8, inference_seconds=0.01 * place, all_tasks_seconds=10.0 * place[::-1], energy_joules=np.nan,
    )  # fmt: skip
    facts = (
        ("commit", "0123abc"),
        ("split of tcga-c0", "f" * 64),
        ("repeat the run", "milbench run --config known/run.yaml"),
    )
    baselines = analysis.tasks[["dataset", "task"]].assign(name="prevalence", score=0.5)
    return PageData(
        title, analysis, curves=curves, roc=_roc(analysis.cells, slides), costs=costs, baselines=baselines, provenance=(RunFacts("known", facts),),
        failures=pd.DataFrame([("tcga-c0/m4/all/fold9", "RuntimeError", "out of memory")], columns=["id", "type", "message"]),
        undefined=pd.DataFrame([("tcga-c0", "GENE0", 1, "no positive among 12 labelled test slides")], columns=["dataset", "task", "fold", "reason"]),
        cohort_titles={name: str(name).upper() for name in analysis.tasks["dataset"].unique()},
    )  # fmt: skip


def _means(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    found = (
        rows.groupby(keys, sort=False)
        .agg(title=("title", "first"), score=("score", "mean"), sd=("score", "std"))
        .reset_index()
    )
    return found.assign(low=found["score"] - HALF, high=found["score"] + HALF)


def _tasks(scores: pd.DataFrame) -> pd.DataFrame:
    tasks = scores[["dataset", "task", "is_control"]].drop_duplicates().reset_index(drop=True)
    return tasks.assign(n_slides=80, n_patients=60, n_positive=20, n_negative=40, prevalence=1 / 3, too_small=False)


def _against(cells: pd.DataFrame, reference: str | None) -> pd.DataFrame:
    columns = ["dataset", "task", "model", "delta", "low", "high", "p", "p_holm", "q_bh", "p_ensemble"]
    if reference is None:
        return pd.DataFrame(columns=columns)
    base = cells[cells["model"] == reference].set_index(["dataset", "task"])["score"]
    rest = cells[cells["model"] != reference]
    delta = rest["score"].to_numpy() - base.reindex(pd.MultiIndex.from_frame(rest[["dataset", "task"]])).to_numpy()
    p = np.exp(-20 * np.abs(delta))
    return rest.assign(delta=delta, low=delta - HALF, high=delta + HALF, p=p, p_holm=p, q_bh=p, p_ensemble=p)[
        columns
    ].reset_index(drop=True)


def _pairs(dataset: str, means: pd.DataFrame, models: list[str]) -> list[tuple[Any, ...]]:
    auroc = means.set_index("model")["score"]
    found = []
    for a, b in combinations(models, 2):
        delta = auroc.get(a, np.nan) - auroc.get(b, np.nan)
        p = float(np.exp(-100 * abs(delta)))
        found.append(
            (
                dataset,
                a,
                b,
                delta,
                delta - 0.02,
                delta + 0.02,
                p,
                min(1, 3 * p),
                float(delta > 0),
                0.5 if dataset == "all" else np.nan,
            )
        )
    return found


def _ranks(cells: pd.DataFrame, models: list[str]) -> Ranks | None:
    wide = (
        cells.pivot_table(index=["dataset", "task"], columns="model", values="score", sort=False)
        .reindex(columns=models)
        .dropna()
    )
    if len(models) < 2 or len(wide) < 2:
        return None
    values = wide.to_numpy()
    difference = values.mean(0)[:, None] - values.mean(0)[None, :]

    def square(table: Any) -> pd.DataFrame:
        return pd.DataFrame(table, index=models, columns=models)

    wins, losses = (values[:, :, None] > values[:, None, :]).sum(0), (values[:, :, None] < values[:, None, :]).sum(0)
    p = np.exp(-120 * np.abs(difference))
    return Ranks(
        wide.rank(axis=1, ascending=False).mean(), 12.0, 0.004, len(wide), square(p), square(wins), square(len(wide) - wins - losses), square(losses),
        square(difference),
    )  # fmt: skip


def _roc(cells: pd.DataFrame, slides: int) -> tuple[RocCurve, ...]:
    generator = np.random.default_rng(3)
    targets = (np.arange(slides) % 3 == 0).astype(int)
    return tuple(
        RocCurve(
            row.dataset,
            row.task,
            row.model,
            tuple(targets),
            tuple(1 / (1 + np.exp(-generator.normal(0, 1, slides) - targets))),
        )
        for row in cells.itertuples()
    )
