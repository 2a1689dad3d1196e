"""Evaluate: attention against the truth, where it is known which patches carry a task's evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from milbench.heatmap.attention import Look, alternative_maps, looks, task_map
from milbench.heatmap.stored import RunCohort, StoredModel, truth_of
from milbench.metrics import auroc, average_precision


class TruthScore(NamedTuple):
    """How well one map finds the evidence in one slide.

    Attributes
    ----------
    map : "attention", or the name of the alternative.
    share : share of the patches that carry evidence: the average precision of a map drawn by chance.
    """

    dataset: str
    model: str
    title: str
    task: str
    fold: int
    map: str
    slide_id: str
    n_patches: int
    share: float
    auroc: float
    average_precision: float


def knows_truth(cohort: RunCohort) -> bool:
    """Whether the cohort's first slide says which patches carry which task's evidence."""
    bag = cohort.cohort.load(str(cohort.cohort.slides["slide_id"].iloc[0]))
    return truth_of(cohort.cohort, bag.instance_labels, cohort.tasks[0]) is not None


def truth_scores(cohort: RunCohort, names: Sequence[str], folds: Sequence[int]) -> pd.DataFrame:
    """One row per map and positive test slide, `TruthScore`; slides whose truth is one-sided have none."""
    rows = [
        score
        for fold in folds
        for look in looks(cohort, models_of(cohort, names, fold), cohort.slides(fold, "test"))
        for score in _scores_of_slide(cohort, look, fold)
    ]
    return pd.DataFrame(rows, columns=TruthScore._fields)


def models_of(cohort: RunCohort, names: Sequence[str], fold: int) -> list[StoredModel]:
    """All stored models of these names in a fold."""
    return [stored for name in names for stored in cohort.load_all(name, fold)]


def _scores_of_slide(cohort: RunCohort, look: Look, fold: int) -> Iterator[TruthScore]:
    slide_id = look.bag.slide_id
    for stored, maps in look.seen:
        for asked in stored.asked:
            truth = truth_of(cohort.cohort, look.bag.instance_labels, asked.task)
            if (
                not asked.is_positive(cohort.label(slide_id, asked.task))
                or truth is None
                or truth.all()
                or not truth.any()
            ):
                continue
            evidence = truth.astype(np.float64)
            for drawn in (task_map(stored, maps, asked), *alternative_maps(stored, maps, asked)):
                yield TruthScore(
                    cohort.name, drawn.model, drawn.title, asked.title, fold, drawn.name, slide_id, len(truth),
                    float(evidence.mean()), auroc(evidence, drawn.values), average_precision(evidence, drawn.values),
                )  # fmt: skip


def truth_table(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per model, map and task: means over the positive test slides, then over the folds.

    `auroc_sd` is the standard deviation over folds, NaN for one fold; `chance_precision` the mean share of evidence.
    """
    by = ["dataset", "model", "title", "map", "task"]
    folds = scores.groupby([*by, "fold"], sort=False).agg(
        n_slides=("slide_id", "size"),
        auroc=("auroc", "mean"),
        average_precision=("average_precision", "mean"),
        chance_precision=("share", "mean"),
    )
    table: pd.DataFrame = folds.groupby(by, sort=False).agg(
        n_folds=("auroc", "size"),
        n_slides=("n_slides", "sum"),
        auroc=("auroc", "mean"),
        auroc_sd=("auroc", "std"),
        average_precision=("average_precision", "mean"),
        chance_precision=("chance_precision", "mean"),
    )
    return table.reset_index()
