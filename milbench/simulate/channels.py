"""Channels: how a label is drawn from the level that a slide shows, by kind of task, and what is best to answer.

A level is a whole number from 0 to K - 1, such as the class that a slide shows or the strength of a sign. Whoever makes
patches shows the level, and nothing else of the label. So the optimum of a channel bounds every model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from milbench.endpoints.endpoint import Endpoint, event_of, signed_time, time_of
from milbench.simulate.optimum import Optimum, of_binary, of_classes, of_grades, of_score, of_survival

Floats = NDArray[np.float64]
Levels = NDArray[np.int64]


class Channel(Protocol):
    """What lies between a level and a label."""

    def draw(self, levels: Levels, rng: Generator) -> Floats:
        """Labels [P] of patients with these levels, as one number each (`milbench.endpoints.endpoint`)."""

    def optimum(self, shares: Floats) -> Optimum:
        """The best that can be answered, if levels have these shares [K]."""


@dataclass(frozen=True, eq=False)
class ClassChannel:
    """Labels of a binary, multiclass or ordinal task.

    Attributes
    ----------
    endpoint : of the task.
    chances : [K, C] P(label | level); rows sum to 1.
    """

    endpoint: Endpoint
    chances: Floats

    def draw(self, levels: Levels, rng: Generator) -> Floats:
        """Places of classes."""
        passed = rng.random(len(levels))[:, None] >= self.chances.cumsum(axis=1)[levels, :-1]
        return np.asarray(passed.sum(axis=1), dtype=np.float64)

    def optimum(self, shares: Floats) -> Optimum:
        """Best AUROC, macro AUROC or quadratic kappa."""
        best = {"binary": of_binary, "multiclass": of_classes, "ordinal": of_grades}[self.endpoint.kind]
        return best(shares[:, None] * self.chances)


@dataclass(frozen=True, eq=False)
class ScoreChannel:
    """Scores: `means` [K] plus normal noise of standard deviation `noise`."""

    means: Floats
    noise: float

    def draw(self, levels: Levels, rng: Generator) -> Floats:
        """Scores."""
        return self.means[levels] + self.noise * rng.standard_normal(len(levels))

    def optimum(self, shares: Floats) -> Optimum:
        """Best Pearson's r."""
        return of_score(shares, self.means, self.noise)


@dataclass(frozen=True, eq=False)
class SurvivalChannel:
    """Weibull times of proportional hazards, and censoring of the same shape that knows nothing of the level.

    Attributes
    ----------
    hazards : [K] ratio to a patient whose event comes after `days` on average, if the shape is 1.
    censoring : the same ratio, of being censored.
    days : scale of times. shape : of Weibull; 1 = exponential.
    """

    hazards: Floats
    censoring: float
    days: float = 1000.0
    shape: float = 1.0

    def draw(self, levels: Levels, rng: Generator) -> Floats:
        """Whole days, begun ones counted: negative where censoring came first."""
        event, end = rng.standard_exponential((2, len(levels)))
        until_event = event / self.hazards[levels]
        until_end = np.divide(end, self.censoring, out=np.full(len(end), np.inf), where=self.censoring > 0)
        days = self.days * np.minimum(until_event, until_end) ** (1 / self.shape)
        return signed_time(np.maximum(np.ceil(days), 1), (until_event <= until_end).astype(float))

    def optimum(self, shares: Floats) -> Optimum:
        """Best Harrell's c. Counting whole days moves it in the fourth decimal place."""
        return of_survival(shares, self.hazards, self.censoring)


def same_or_another(n_classes: int, agreement: float) -> Floats:
    """P(label | level) [C, C]: a share `agreement` has the class that it shows, the others any other class."""
    off = np.full((n_classes, n_classes), (1 - agreement) / (n_classes - 1))
    return np.asarray(np.where(np.eye(n_classes), agreement, off))


def same_or_next(n_grades: int, agreement: float) -> Floats:
    """P(label | level) [C, C]: a share `agreement` has the grade that it shows, the others one beside it."""
    beside = np.eye(n_grades, k=1) + np.eye(n_grades, k=-1)
    return np.asarray(agreement * np.eye(n_grades) + (1 - agreement) * beside / beside.sum(axis=1, keepdims=True))


def censoring_for(shares: Floats, hazards: Floats, censored: float) -> float:
    """Hazard of censoring by which a share `censored` of the patients is censored; levels have `shares` [K]."""
    low, high = 0.0, float(hazards.max())
    while shares @ (high / (hazards + high)) < censored:
        high *= 2
    for _ in range(200):  # halving: far more often than doubles have bits
        middle = (low + high) / 2
        low, high = (middle, high) if shares @ (middle / (hazards + middle)) < censored else (low, middle)
    return low


def score_here(endpoint: Endpoint, labels: Floats, answers: Floats, patients: NDArray[np.object_]) -> float:
    """What the best answers [S, A] reach on labels [S] as they were drawn, by the primary metric of the kind."""
    from milbench.stats.scores import primary_score  # it brings readers of stored trials

    if endpoint.kind != "survival":
        return primary_score(endpoint, labels, labels, answers, patients)
    return primary_score(endpoint, time_of(labels), event_of(labels), answers, patients)
