"""What the page shows, as plain values: frames, names and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from milbench.cohorts.bag_names import SLIDE
from milbench.endpoints.endpoint import Kind
from milbench.report.tables import Table
from milbench.stats.analysis import Analysis

CURVES = ("dataset", "model", "task_label", "fold", "seed", "epoch", "train_loss", "val_loss", "val_auroc")
COSTS = (
    "dataset", "model", "title", "n_parameters", "multiply_adds", "at_patches", "seconds_per_epoch", "bags_per_second",
    "peak_bytes", "inference_seconds", "all_tasks_seconds", "energy_joules",
)  # fmt: skip
FAILURES = ("id", "type", "message")
UNDEFINED = ("dataset", "task", "fold", "reason")
BASELINES = ("dataset", "task", "name", "score")
PUBLISHED = ("table", "cohort", "model", "auroc", "source", "note", "like_for_like")
CLAIMS = (
    "claim", "text", "where", "claim_verdict", "statement", "verdict", "contrast", "value", "low", "high", "paper",
    "n_contrasts", "n_held", "why",
)  # fmt: skip


class RocCurve(NamedTuple):
    """The test slides of one (cohort, task, model), each with its mean probability over folds and seeds.

    Attributes
    ----------
    targets : 0 or 1, one per slide with a known label.
    probabilities : mean over the folds and seeds that tested the slide.
    """

    dataset: str
    task: str
    model: str
    targets: tuple[int, ...]
    probabilities: tuple[float, ...]


class Picture(NamedTuple):
    """A figure as the report's folder holds it: stem of its files, caption and PNG."""

    stem: str
    caption: str
    png: bytes


class KindBlock(NamedTuple):
    """Tasks of one kind that is not binary.

    Attributes
    ----------
    kind : of the tasks.
    analysis : their statistics.
    scores : rows of `milbench.stats.scores.score_table`.
    tables, pictures : those of the report, in their order.
    """

    kind: Kind
    analysis: Analysis
    scores: pd.DataFrame
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]


class RunFacts(NamedTuple):
    """How one run came about: its name and (label, value) pairs in reading order."""

    name: str
    facts: tuple[tuple[str, str], ...]


def _empty(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame({column: pd.Series(dtype=object) for column in columns})


@dataclass(frozen=True)
class PageData:
    """All that the page shows.

    Attributes
    ----------
    title : heading of the page.
    analysis : the statistics of binary tasks; without rows if there is no such task.
    curves : one row per epoch of every trial (`CURVES`).
    roc : one entry per (cohort, task, model).
    costs : one row per (cohort, model) (`COSTS`), NaN where not measured.
    failures : trials that failed or are not finished (`FAILURES`).
    undefined : (cohort, task, fold) cells that can have no AUROC (`UNDEFINED`).
    provenance : one entry per run.
    baselines : what needs no image (`BASELINES`): name "prevalence" or "site-only".
    published : the paper's numbers (`PUBLISHED`).
    claims : the paper's claims, one row a statement (`CLAIMS`).
    notes : sentences for the reader, such as what is not like for like.
    cohort_titles : display name by cohort; the name itself where absent.
    bag : what a bag is called: "slide", "patient", or "bag" where cohorts differ.
    pooled : cohorts whose test sides differ between folds.
    highlight : registry name of the model that charts draw thicker; "" for none.
    kinds : what is shown of tasks of other kinds.
    sharing : the ladder of sharing; none if fewer than two of its models ran.
    tuning_tables, tuning_pictures : what is shown of the searches that chose settings for binary tasks.
    """

    title: str
    analysis: Analysis
    curves: pd.DataFrame = field(default_factory=lambda: _empty(CURVES))
    roc: tuple[RocCurve, ...] = ()
    costs: pd.DataFrame = field(default_factory=lambda: _empty(COSTS))
    failures: pd.DataFrame = field(default_factory=lambda: _empty(FAILURES))
    undefined: pd.DataFrame = field(default_factory=lambda: _empty(UNDEFINED))
    provenance: tuple[RunFacts, ...] = ()
    baselines: pd.DataFrame = field(default_factory=lambda: _empty(BASELINES))
    published: pd.DataFrame = field(default_factory=lambda: _empty(PUBLISHED))
    claims: pd.DataFrame = field(default_factory=lambda: _empty(CLAIMS))
    notes: tuple[str, ...] = ()
    cohort_titles: Mapping[str, str] = field(default_factory=dict)
    bag: str = SLIDE
    pooled: tuple[str, ...] = ()
    highlight: str = ""
    kinds: tuple[KindBlock, ...] = ()
    sharing: tuple[Table, ...] = ()
    tuning_tables: tuple[Table, ...] = ()
    tuning_pictures: tuple[Picture, ...] = ()

    @property
    def analyses(self) -> tuple[Analysis, ...]:
        """Statistics of every kind that has tasks, binary first."""
        binary = () if self.kinds and self.analysis.tasks.empty else (self.analysis,)
        return (*binary, *(block.analysis for block in self.kinds))
