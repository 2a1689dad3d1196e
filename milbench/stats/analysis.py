"""Analysis: everything that the report prints of finished runs, as frozen tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from milbench.endpoints.endpoint import Kind
from milbench.errors import StoreError
from milbench.process.blas import one_blas_thread
from milbench.stats.by_cohort import Cohort, cohort, overall, pair_table
from milbench.stats.by_task import against_table, cell_table, resample, task_table, unfinished
from milbench.stats.drawn import drawn
from milbench.stats.grid import Grid, grids
from milbench.stats.levels import metric_table
from milbench.stats.metric import METRICS, PrimaryMetric
from milbench.stats.ranks import Ranks, rank_models
from milbench.stats.scores import coverage
from milbench.store.run import Run

TABLES = ("scores", "tasks", "cells", "against", "cohorts", "overall", "pairs")
"""The frames of an analysis."""


@dataclass(frozen=True, eq=False, repr=False)
class Analysis:
    """Scores, intervals and comparisons of a set of runs on tasks of one kind; NaN where a number is undefined.

    The point estimate is always the primary metric on the test side: of slides, for survival of patients. `dataset`,
    `task` and `model` are names, in the order of their registration. Control tasks stand in the frames by task with
    `is_control` True, and enter no mean.

    Attributes
    ----------
    scores : one row per (dataset, model, task, fold, seed, level in {"slide", "patient"}): title, is_control and the
        metrics of the kind, `score` first (`milbench.stats.kind_metrics`). Binary: score (AUROC), average_precision,
        balanced_accuracy, f1, sensitivity, specificity, threshold (Youden's, on that trial's validation rows), brier,
        ece, sensitivity_at_specificity_90 with specificity_reached, and specificity_at_sensitivity_90 with
        sensitivity_reached (thresholds from the same validation rows). A patient's score is the mean over its slides,
        its label the largest.
    tasks : (dataset, task): is_control, n_slides, n_patients, n_positive, n_negative (patients of the test sides),
        prevalence (share of patients), too_small (fewer than ten positive or ten negative patients). Of classes:
        n_by_class, n_rarest; of survival: n_events, n_censored, longest_days; of scores: mean, sd.
    cells : (dataset, task, model): title, is_control, score (mean over folds and seeds), sd (spread over them), low
        and high (crossed bootstrap, 95 %), n_missing, n_cells, ensemble_score, ensemble_low, ensemble_high (mean logit
        over folds, seeds and the patient's slides; NaN where the test sides of folds differ; other kinds as in
        `milbench.stats.ensemble`).
    against : (dataset, task, model) for every model but the reference: is_control, delta (model - reference), low,
        high, p, p_holm (over the models of the task), q_bh (over the signal tasks of the model), p_ensemble.
    cohorts : (dataset, model): title, score (mean over tasks in a fold and seed, then over those), sd, low, high
        (patients drawn once for all tasks, times folds), n_tasks, n_undefined, n_missing, n_cells.
    overall : (model): title, score (mean of the cohorts), low, high (cohorts, patients and folds drawn; NaN for a
        single cohort), low_fixed, high_fixed (the cohorts as they are), n_cohorts.
    pairs : (dataset, model_a, model_b), every unordered pair, and once more with dataset "all" where there are two
        cohorts or more: delta (a - b), low, high, p, p_holm (over the pairs of the dataset), superiority (share of
        draws with a above b, ties half), p_sign_flip (for "all"; exact over cohorts).
    ranks : description over (dataset, task) cells; None with fewer than two models or two cells.
    reference : the declared reference; None where it is not among the models.
    incomplete : (dataset, model, n_missing, n_cells) of every model that lacks cells which others have.
    left_out : the (dataset, task) that not all models finished, in no mean or comparison; only with `complete_cases`.
    n_draws : draws of every bootstrap.
    kind : of the tasks; their primary metric is what the frames call `score`.
    """

    scores: pd.DataFrame
    tasks: pd.DataFrame
    cells: pd.DataFrame
    against: pd.DataFrame
    cohorts: pd.DataFrame
    overall: pd.DataFrame
    pairs: pd.DataFrame
    ranks: Ranks | None
    reference: str | None
    incomplete: tuple[tuple[str, str, int, int], ...]
    left_out: tuple[tuple[str, str], ...]
    n_draws: int
    kind: Kind = "binary"

    def __repr__(self) -> str:
        n_models, n_tasks = self.cells["model"].nunique(), len(self.tasks)
        return f"Analysis({self.metric.title} of {n_models} models on {n_tasks} tasks: tables {', '.join(TABLES)})"

    @property
    def metric(self) -> PrimaryMetric:
        """What the scores are."""
        return METRICS[self.kind]

    def without_rows(self) -> Analysis:
        """The same columns and nothing in them."""
        frames = {name: getattr(self, name).iloc[:0] for name in TABLES}
        return replace(self, **frames, ranks=None, reference=None, incomplete=(), left_out=())


def analyse(
    runs: Sequence[Run],
    *,
    kind: Kind = "binary",
    reference: str = "amil",
    draws: int = 10_000,
    seed: int = 0,
    complete_cases: bool = False,
) -> Analysis:
    """Analysis of the tasks of one kind in finished runs, with uncertainties. Same runs and seed, same bytes.

    Parameters
    ----------
    runs : no two hold the same dataset.
    kind : of the tasks; a mean over tasks of several kinds would mean nothing.
    reference : the model that all others are held against, declared before the scores are seen.
    draws : of every bootstrap.
    complete_cases : leave out the (dataset, task) that not every model finished, instead of refusing.

    Raises
    ------
    StoreError : models lack cells that others have, and `complete_cases` was not asked for.
    """
    found = grids(runs, kind)
    if not found:
        raise StoreError(
            f"{', '.join(str(run.path) for run in runs)}: no finished trial to analyse{_of_kind(kind)}. Finish the run first."
        )
    return analyse_grids(found, reference=reference, draws=draws, seed=seed, complete_cases=complete_cases)


@one_blas_thread()
def analyse_grids(
    found: Sequence[Grid], *, reference: str = "amil", draws: int = 10_000, seed: int = 0, complete_cases: bool = False
) -> Analysis:
    """Analysis of grids of one kind, at least one; parameters and errors are those of `analyse`."""
    kind = found[0].kind
    scores = pd.concat([metric_table(grid) for grid in found], ignore_index=True)
    slides = dict(iter(scores[scores["level"] == METRICS[kind].level].groupby("dataset")))
    titles = titles_of(found)
    incomplete = _incomplete(slides, titles)
    if incomplete and not complete_cases:
        raise StoreError(_refusal(incomplete))
    left_out = {name: unfinished(rows, tuple(titles)) for name, rows in slides.items()}
    parts = [_part(grid, slides[grid.dataset], left_out[grid.dataset], reference, draws, seed) for grid in found]
    cohorts = [part.cohort for part in parts]
    over = overall(cohorts, titles, seed)
    cells = _joined([part.cells for part in parts])
    return Analysis(
        scores=scores,
        tasks=_joined([part.tasks for part in parts]),
        cells=cells,
        against=_joined([part.against for part in parts]),
        cohorts=_joined([one.rows for one in cohorts]),
        overall=over.rows,
        pairs=pair_table(cohorts, over),
        ranks=rank_models(_comparable(cells, left_out, tuple(titles))),
        reference=reference if reference in titles else None,
        incomplete=incomplete,
        left_out=tuple((dataset, task) for dataset, tasks in left_out.items() for task in tasks),
        n_draws=draws,
        kind=kind,
    )


def _of_kind(kind: Kind) -> str:
    return "" if kind == "binary" else f" on a task of kind {kind}"


def rank_all(analyses: Sequence[Analysis]) -> Ranks | None:
    """Ranks over the cells of all kinds together. A mean of their scores, and Wilcoxon's test, would mix scales: NaN."""
    if len(analyses) == 1:
        return analyses[0].ranks
    cells = [
        _comparable(one.cells, _by_dataset(one.left_out), list(dict.fromkeys(one.cells["model"]))) for one in analyses
    ]
    return rank_models(pd.concat(cells), one_scale=False)


def _by_dataset(left_out: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for dataset, task in left_out:
        found[dataset].add(task)
    return found


class _Part(NamedTuple):
    """Tables that one dataset adds."""

    tasks: pd.DataFrame
    cells: pd.DataFrame
    against: pd.DataFrame
    cohort: Cohort


def _part(grid: Grid, slides: pd.DataFrame, left_out: Collection[str], reference: str, draws: int, seed: int) -> _Part:
    tasks = {name: grid.task(name) for name in grid.tasks}
    kept = [task for task in grid.tasks if task not in grid.controls and task not in left_out]
    by_task, of_cohort = drawn(grid.dataset, tasks, kept, draws, seed)
    resampled = resample(grid.dataset, tasks, by_task, draws, seed)
    cells = cell_table(grid, slides, resampled)
    return _Part(
        tasks=task_table(grid, resampled),
        cells=cells,
        against=against_table(grid, cells, resampled, reference, left_out),
        cohort=cohort(grid, slides, kept, of_cohort),
    )


def titles_of(found: Sequence[Grid]) -> dict[str, str]:
    """Title of every model, in the order of registration."""
    return {model: title for grid in found for model, title in zip(grid.models, grid.titles, strict=True)}


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def _incomplete(slides: Mapping[str, pd.DataFrame], models: Iterable[str]) -> tuple[tuple[str, str, int, int], ...]:
    """(dataset, model, missing cells, cells) of every model that lacks what others have."""
    found = []
    for dataset, rows in slides.items():
        covered = coverage(rows)
        n_cells = next(iter(covered.values())).n_cells
        for model in models:
            n_missing = covered[model].n_missing if model in covered else n_cells
            if n_missing:
                found.append((dataset, model, n_missing, n_cells))
    return tuple(found)


def _refusal(incomplete: Sequence[tuple[str, str, int, int]]) -> str:
    lacking = "; ".join(
        f"{model} lacks {missing} of {cells} on {dataset}" for dataset, model, missing, cells in incomplete
    )
    return (
        f"an incomplete grid cannot be compared: {lacking} (task, fold, seed) cells that other models have. Finish the "
        "run, report those datasets apart, or leave unfinished tasks out with --complete-cases."
    )


def _comparable(cells: pd.DataFrame, left_out: Mapping[str, Collection[str]], models: Sequence[str]) -> pd.DataFrame:
    """Score of (dataset, task) cells × models, for signal tasks that all models finished."""
    keep = [
        not control and task not in left_out[dataset]
        for dataset, task, control in zip(cells["dataset"], cells["task"], cells["is_control"], strict=True)
    ]
    rows = cells[keep]
    return rows.pivot(index=["dataset", "task"], columns="model", values="score").reindex(columns=list(models))
