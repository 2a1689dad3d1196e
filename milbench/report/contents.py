"""Contents: everything that tables, figures and the page are made of, computed once from the stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from milbench.endpoints.endpoint import Kind
from milbench.errors import StoreError, unknown_name
from milbench.report.baselines import no_image_baselines
from milbench.report.costs import cost_frame
from milbench.report.figures import STUDIED
from milbench.report.gain import Gain, prevalence_and_gain
from milbench.report.kinds import bag_of, endpoint_in, label_columns, labels_of_kind, name_of
from milbench.report.published import beside_ours
from milbench.report.searches import SearchOfCohort, refuse_searches, searches_of, untuned_runs, with_tests
from milbench.stats.analysis import Analysis, analyse_grids, titles_of
from milbench.stats.grid import Grid, grids
from milbench.stats.metric import METRICS, PrimaryMetric
from milbench.stats.scores import kinds_of, score_table
from milbench.store.run import Run
from milbench.store.trial import StoredTrial

REFERENCE = "amil"
"""Model that the others are compared with unless another is declared."""


@dataclass(frozen=True)
class Outline:
    """What a report knows of the tasks of one kind before any statistics.

    Attributes
    ----------
    runs : the stores.
    kind : of the tasks.
    scores : rows of `milbench.stats.scores.score_table`.
    datasets : facts by name, of cohorts with finished trials of such tasks, in the order of the columns.
    tasks : by cohort those with a finished trial, in the order of registration.
    model_titles : how each model is called, in the order of registration.
    highlight : registry name of the model that figures draw thicker than the others; "" for none.
    """

    runs: tuple[Run, ...]
    kind: Kind
    scores: pd.DataFrame
    datasets: Mapping[str, Any]
    tasks: Mapping[str, tuple[str, ...]]
    model_titles: Mapping[str, str]
    highlight: str

    def name_of(self, what: str, dataset: str = "") -> str:
        """Stem of a table or figure."""
        return name_of(what, self.kind, dataset, [name for run in self.runs for name in run.datasets])

    def bag_of(self, dataset: str = "") -> str:
        """What a bag of a cohort, or of all, is called in captions: "slide", "patient", or "bag" where cohorts differ."""
        return bag_of([self.datasets[dataset]] if dataset else self.datasets.values())

    def trials_of(self, dataset: str) -> list[StoredTrial]:
        """Finished trials of a cohort that learned a task of the kind."""
        trials = [trial for run in self.runs for trial in run.trials() if trial.info["dataset"] == dataset]
        return [trial for trial in trials if any(each.kind == self.kind for each in trial.endpoint_of.values())]

    @property
    def metric(self) -> PrimaryMetric:
        """What the scores are."""
        return METRICS[self.kind]

    @cached_property
    def dataset_titles(self) -> dict[str, str]:
        """How each cohort is called."""
        return {name: str(facts["title"]) for name, facts in self.datasets.items()}


@dataclass(frozen=True)
class Contents(Outline):
    """What a report says of the tasks of one kind.

    Attributes
    ----------
    analysis : intervals and comparisons.
    baselines : dataset, task, name, score: the rows that need no image.
    costs : rows of `milbench.report.costs.cost_frame`.
    searches : by cohort the search that chose its settings; none of a run that is not tuned.
    untuned : the same with default settings in place of tuned ones; None if there is nothing to compare.
    """

    analysis: Analysis
    baselines: pd.DataFrame
    costs: pd.DataFrame
    searches: Mapping[str, SearchOfCohort] = field(default_factory=dict)
    untuned: Contents | None = None

    @cached_property
    def whole(self) -> bool:
        """Whether the cohorts ran with all their tasks: a mean over some of them is not what the paper printed.

        The paper's tasks are binary.
        """
        return self.kind == "binary" and not any(run.config.get("tasks") for run in self.runs)

    @cached_property
    def beside_paper(self) -> pd.DataFrame:
        """Rows of `milbench.report.published.beside_ours`; none where some of the tasks ran only."""
        both = beside_ours(self.analysis.cohorts, self.analysis.overall)
        return both if self.whole else both.iloc[:0]

    @cached_property
    def gain(self) -> Gain | None:
        """Prevalence against the gain of M4 over the reference; None where either is missing or tasks are few.

        Of tasks that are not binary there is none: they have no prevalence.
        """
        reference = self.analysis.reference
        if self.kind != "binary" or reference is None or STUDIED not in self.model_titles:
            return None
        return prevalence_and_gain(self.analysis.against, self.analysis.tasks, STUDIED, reference)

    @cached_property
    def signal_baselines(self) -> pd.DataFrame:
        """The baselines over the tasks that count in means: no control, none that was left out."""
        controls = {(name, task) for name, facts in self.datasets.items() for task in facts.get("control_tasks", [])}
        out = controls | set(self.analysis.left_out)
        pairs = list(zip(self.baselines["dataset"], self.baselines["task"], strict=True))
        return self.baselines[np.array([pair not in out for pair in pairs], dtype=bool)]


class Started(NamedTuple):
    """The tasks of one kind, before any statistics.

    Attributes
    ----------
    grids : the predictions by cohort.
    """

    outline: Outline
    grids: list[Grid]


def gather(
    runs: Sequence[Run], *, reference: str, draws: int, complete_cases: bool, highlight: str = ""
) -> tuple[Contents, ...]:
    """The contents of a report on `runs`: one per kind of tasks, binary first. Kinds are never averaged together.

    Raises
    ------
    StoreError : no finished trial, two runs hold the same dataset, or the grid is incomplete and `complete_cases` is
        not set.
    UsageError : no model is called `reference` or `highlight`.
    """
    begun = start(runs, reference=reference, highlight=highlight)
    return finish(begun, reference=reference, draws=draws, complete_cases=complete_cases)


def start(runs: Sequence[Run], *, reference: str, highlight: str = "") -> tuple[Started, ...]:
    """What `finish` computes the statistics of; errors are those of `gather`."""
    runs = [run.snapshot() for run in runs]
    refuse_searches(runs)
    kinds = kinds_of(runs)
    if not kinds:
        raise StoreError(
            f"{', '.join(str(run.path) for run in runs)}: no finished trial to report. Finish the run first."
        )
    _refuse_a_dataset_in_two_runs(runs)
    refuse_an_unknown_reference(runs, reference)
    models = {trial.info["model"] for run in runs for trial in run.trials()}
    if highlight and highlight not in models:
        raise unknown_name("model to highlight", highlight, models)
    return tuple(_started(runs, kind, highlight) for kind in kinds)


def finish(begun: Sequence[Started], *, reference: str, draws: int, complete_cases: bool) -> tuple[Contents, ...]:
    """The contents of a report with their statistics; parameters and errors are those of `gather`."""
    runs, highlight = begun[0].outline.runs, begun[0].outline.highlight
    costs, defaults, searches = cost_frame(runs), untuned_runs(runs), searches_of(runs)
    found = []
    for tuned in begun:
        kind = tuned.outline.kind
        one = _finished(tuned, costs, reference, draws, complete_cases=complete_cases)
        untuned = None
        if kind in kinds_of(defaults):
            with _named_as_untuned(defaults):
                by_default = _started(defaults, kind, highlight)
                untuned = _finished(by_default, costs, reference, draws, complete_cases=complete_cases)
        if untuned is not None and untuned.datasets.keys() != one.datasets.keys():
            untuned = None  # not all cohorts are trained with default settings yet
        found.append(replace(one, searches=with_tests(searches, kind), untuned=untuned))
    return tuple(found)


@contextmanager
def _named_as_untuned(runs: Sequence[Run]) -> Iterator[None]:
    """Inside, an error says that it is of trainings with default settings."""
    try:
        yield
    except StoreError as error:
        raise StoreError(
            f"{', '.join(str(run.path) for run in runs)} (default settings, to compare): {error}"
        ) from error


def _started(runs: Sequence[Run], kind: Kind, highlight: str) -> Started:
    scores, found = score_table(runs, kind), grids(runs, kind)
    datasets = {name: facts for name, facts in _datasets(runs).items() if name in set(scores["dataset"])}
    tasks = {grid.dataset: grid.tasks for grid in found}
    return Started(Outline(tuple(runs), kind, scores, datasets, tasks, titles_of(found), highlight), found)


def _finished(started: Started, costs: pd.DataFrame, reference: str, draws: int, *, complete_cases: bool) -> Contents:
    known = started.outline
    analysis = analyse_grids(started.grids, reference=reference, draws=draws, complete_cases=complete_cases)
    baselines = _baselines(known.runs, known.scores, known.kind)
    parts = {part.name: getattr(known, part.name) for part in fields(Outline)}
    return Contents(**parts, analysis=analysis, baselines=baselines, costs=costs)


def all_datasets(contents: Sequence[Contents]) -> dict[str, Any]:
    """Facts by name of the cohorts of all kinds, in the order of the runs."""
    reported = {name for one in contents for name in one.datasets}
    return {name: facts for name, facts in _datasets(contents[0].runs).items() if name in reported}


def _datasets(runs: Sequence[Run]) -> dict[str, Any]:
    return {name: facts for run in runs for name, facts in run.datasets.items()}


def refuse_an_unknown_reference(runs: Sequence[Run], reference: str) -> None:
    """UsageError for a name that no model has; the usual one that was not run leaves the comparisons out."""
    known = {model for run in runs for facts in run.datasets.values() for model in facts["models"]}
    if reference not in known | {REFERENCE}:
        raise unknown_name("reference model", reference, known)


def _refuse_a_dataset_in_two_runs(runs: Sequence[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        for name, facts in run.datasets.items():
            if name not in seen:
                seen[name] = run
                continue
            theirs = seen[name].datasets[name]
            why = (
                "with other splits, so they can't be compared"
                if facts["split_sha256"] != theirs["split_sha256"]
                else ""
            )
            raise StoreError(
                f"both {seen[name].path} and {run.path} hold '{name}'{' ' if why else ''}{why}. Report them one at a time."
            )


def _baselines(runs: Sequence[Run], scores: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Rows that need no image, for the tasks of one kind, of every cohort whose run stored its labels."""
    frames = [pd.DataFrame(columns=["dataset", "task", "name", "score"])]
    for run in runs:
        for name, facts in run.datasets.items():
            folds = scores.loc[scores["dataset"] == name, "fold"].unique()
            if len(folds) and run.label_file(name).exists():  # a run of an older version has none
                labels = labels_of_kind(run.labels(name), facts, kind)
                endpoints = {task: endpoint_in(facts, task) for task in label_columns(labels)}
                found = no_image_baselines(labels, run.roles(name), sorted(folds), endpoints)
                frames.append(found.assign(dataset=name))
    return pd.concat(frames, ignore_index=True).astype({"score": float})
