"""Kinds: labels of tasks that are not binary, from the level of the phenotype that a patient shows.

Levels of classes and grades are those that the slide shows. A score and a survival time have the levels 0, 1/4, ..., 1
of the full phenotype (`DOSES`). All levels are equally frequent, and independent of every other task.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.endpoints.endpoint import BINARY, Endpoint, event_of, time_of
from milbench.errors import UsageError
from milbench.simulate.channels import (
    Channel,
    ClassChannel,
    ScoreChannel,
    SurvivalChannel,
    censoring_for,
    same_or_another,
    same_or_next,
    score_here,
)
from milbench.simulate.design import LETTERS, Design, per_task
from milbench.simulate.optimum import Optimum

STREAM_LEVELS, STREAM_NOISE = 7, 8
Floats = NDArray[np.float64]
Levels = NDArray[np.int64]

DOSES = 5
"""Levels of the phenotype of scores and survival times."""

DAYS = 3650.0
"""Mean time to the event of a patient without the phenotype."""


class KindTask(NamedTuple):
    """A task that is not binary.

    Attributes
    ----------
    name, place : of the task, and its place among the design's tasks.
    endpoint : what it asks.
    channel : label of a level.
    shares : [K] of the levels among patients.
    """

    name: str
    place: int
    endpoint: Endpoint
    channel: Channel
    shares: Floats

    def levels(self, seed: int, n_patients: int) -> Levels:
        """The level [P] that each patient's slides show."""
        rng = np.random.default_rng([seed, STREAM_LEVELS, self.place])
        return rng.integers(len(self.shares), size=n_patients)

    def labels(self, seed: int, n_patients: int) -> Floats:
        """Labels [P], one number each."""
        rng = np.random.default_rng([seed, STREAM_NOISE, self.place])
        return self.channel.draw(self.levels(seed, n_patients), rng)

    def optimum(self) -> Optimum:
        """The best score that any model can have."""
        return self.channel.optimum(self.shares)

    @property
    def full(self) -> Floats:
        """Share of the full phenotype [K] that each level has; every class but the first shows its own in full."""
        n_levels = len(self.shares)
        return np.minimum(np.arange(n_levels), 1.0) if self.endpoint.kind == "multiclass" else dose(n_levels)

    def columns(self) -> tuple[str, ...]:
        """Columns of labels.csv."""
        return (f"{self.name}_days", f"{self.name}_event") if self.endpoint.kind == "survival" else (self.name,)

    def cells(self, labels: Floats) -> pd.DataFrame:
        """Labels [S] as labels.csv holds them: words of classes and grades, numbers, or days and events."""
        if self.endpoint.classes:
            values = [np.array(self.endpoint.classes)[labels.astype(int)]]
        elif self.endpoint.kind == "survival":
            values = [time_of(labels).astype(int), event_of(labels).astype(int)]
        else:
            values = [labels]
        return pd.DataFrame(dict(zip(self.columns(), values, strict=True)))

    def declared(self) -> str | dict[str, object]:
        """The task as cohort.yaml declares it."""
        if self.endpoint.kind == "survival":
            days, event = self.columns()
            return {"kind": "survival", "time": days, "event": event, "unit": "days"}
        if self.endpoint.classes:
            return {"kind": self.endpoint.kind, "classes": list(self.endpoint.classes)}
        return self.endpoint.kind

    def reached(self, labels: Floats, levels: Levels, patients: NDArray[np.object_]) -> float:
        """What the best answers reach on labels [S] as they were drawn."""
        return score_here(self.endpoint, labels, self.optimum().answers[levels], patients)


def kind_tasks(design: Design) -> tuple[KindTask, ...]:
    """The design's tasks that are not binary.

    Raises
    ------
    UsageError : lists that do not fit the tasks, or two tasks that would have one column.
    """
    if design.all_binary:
        return ()
    names = design.tasks
    kinds = per_task("kinds", design.kinds, len(names))
    n_classes = per_task("classes", design.classes, len(names))
    found = tuple(
        KindTask(name, place, *_made(design, kind, number))
        for place, (name, kind, number) in enumerate(zip(names, kinds, n_classes, strict=True))
        if kind != BINARY.kind
    )
    _refuse_shared_columns(names, found)
    return found


def _refuse_shared_columns(names: tuple[str, ...], tasks: tuple[KindTask, ...]) -> None:
    """UsageError for two tasks whose labels would have one column."""
    own = {task.name: task.columns() for task in tasks}
    columns = [column for name in names for column in own.get(name, (name,))]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise UsageError(f"tasks is {names}; two of them have a column '{twice[0]}' in labels.csv. Rename one of them.")


def _made(design: Design, kind: str, n_classes: int) -> tuple[Endpoint, Channel, Floats]:
    """Endpoint, channel and shares of the levels of a task."""
    of_doses = np.full(DOSES, 1 / DOSES)
    if kind == "regression":
        means = dose(DOSES) / dose(DOSES).std()
        return Endpoint("regression"), ScoreChannel(means, design.score_noise), of_doses
    if kind == "survival":
        hazards = design.hazard_ratio ** dose(DOSES)
        censoring = censoring_for(of_doses, hazards, design.censored)
        return Endpoint("survival"), SurvivalChannel(hazards, censoring, DAYS), of_doses
    endpoint = _endpoint(kind, n_classes)
    chances = (same_or_another if kind == "multiclass" else same_or_next)(n_classes, design.penetrance)
    return endpoint, ClassChannel(endpoint, chances), np.full(n_classes, 1 / n_classes)


def _endpoint(kind: str, n_classes: int) -> Endpoint:
    if kind == "multiclass":
        return Endpoint("multiclass", tuple(f"type {letter}" for letter in LETTERS[:n_classes]))
    return Endpoint("ordinal", tuple(f"G{grade + 1}" for grade in range(n_classes)))


def dose(n_levels: int) -> Floats:
    """Share of the full phenotype at each level, from 0 to 1."""
    return np.arange(n_levels) / (n_levels - 1)
