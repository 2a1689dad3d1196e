"""Seen: what a study's models look at, slide by slide, as numbers for the claim on attention."""

from __future__ import annotations

import numpy as np
import pandas as pd

from milbench.errors import MilbenchError
from milbench.heatmap.attention import ATTENTION, as_array, looks
from milbench.heatmap.evaluate import knows_truth, truth_scores
from milbench.heatmap.experts import MUCH_THE_SAME, SEED, overlap
from milbench.heatmap.stored import RunCohort, find_cohort
from milbench.report.attention_claim import EXPERTS, TRUTH, Attention
from milbench.store.run import Run

NO_TRUTH = "no cohort says which patches carry the evidence"


def attention_seen(run: Run, model: str, reference: str) -> Attention:
    """What both models look at on the test slides of every cohort of `run` that says which patches matter.

    A cohort without that, without weights or with one of the models only has no rows; the reasons are kept.
    """
    truths, experts, reasons = [], [], []
    for dataset in run.datasets:
        try:
            cohort = find_cohort(run, dataset)
            if not knows_truth(cohort):
                reasons.append(NO_TRUTH)
                continue
            folds = _folds(run, dataset, model)
            patients = cohort.cohort.slides.set_index("slide_id")["patient_id"]
            scores = truth_scores(cohort, [model, reference], folds)
            counted = ~scores["task"].isin(set(cohort.cohort.control_tasks)) & (scores["map"] == ATTENTION)
            truths.append(_with_patients(scores[counted], patients))
            experts.append(_with_patients(_shared_attention(cohort, model, folds), patients))
        except MilbenchError as error:
            reasons.append(f"{dataset}: {str(error).removesuffix('.')}")
    why = "; ".join(dict.fromkeys(reasons)) or "the run holds no cohort"
    if not truths:
        return Attention(alike=MUCH_THE_SAME, why=why)
    truth, shared = pd.concat(truths, ignore_index=True), pd.concat(experts, ignore_index=True)
    return Attention(truth[list(TRUTH)], shared[list(EXPERTS)], MUCH_THE_SAME, why)


def _folds(run: Run, dataset: str, model: str) -> list[int]:
    infos = (trial.info for trial in run.trials())
    return sorted({info["fold"] for info in infos if (info["dataset"], info["model"]) == (dataset, model)})


def _with_patients(rows: pd.DataFrame, patients: pd.Series) -> pd.DataFrame:
    return rows.assign(patient_id=rows["slide_id"].map(patients))


def _shared_attention(cohort: RunCohort, name: str, folds: list[int]) -> pd.DataFrame:
    """One row per test slide: attention that two experts share, and by chance; means over pairs."""
    rng = np.random.default_rng(SEED)
    rows = []
    for fold in folds:
        for look in looks(cohort, cohort.load_all(name, fold), cohort.slides(fold, "test")):
            for _, maps in look.seen:
                if maps.per_expert is None or len(maps.experts) < 2:
                    continue
                attention = as_array(maps.per_expert)  # [E, N]
                pairs = ~np.eye(len(attention), dtype=bool)
                shared = overlap(attention, attention)[pairs].mean()
                chance = overlap(attention, attention[:, rng.permutation(attention.shape[1])])[pairs].mean()
                rows.append((cohort.name, name, fold, look.bag.slide_id, shared, chance))
    return pd.DataFrame(rows, columns=["dataset", "model", "fold", "slide_id", "overlap", "chance"])
