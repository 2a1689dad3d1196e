"""Request: what a plan is made from beyond models and cohorts, and the search that it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from milbench.search_space import Configuration, SearchSpace


class Place(NamedTuple):
    """What has a configuration of its own: a model on a cohort; on one of its tasks, if tasks are tuned apart."""

    dataset: str
    model: str
    task: str = ""


class Rung(NamedTuple):
    """Configurations that are trained for as many epochs.

    Attributes
    ----------
    numbers : of the configurations by place.
    divisor : the recipe's epochs are divided by it, rounded up.
    """

    numbers: Mapping[Place, Sequence[int]]
    divisor: int = 1


@dataclass(frozen=True)
class Search:
    """Trials that try configurations.

    Attributes
    ----------
    rungs : what is tried; a later rung trains fewer configurations for longer.
    spaces : what is drawn, by model, where the user narrowed it; "*" for all models.
    seed : of the draws.
    per_task : whether each task of a single-task model has configurations of its own.
    test : whether the test side is predicted too. Nothing that chooses reads it.
    """

    rungs: Sequence[Rung]
    spaces: Mapping[str, SearchSpace] = field(default_factory=dict)
    seed: int = 0
    per_task: bool = False
    test: bool = False


@dataclass(frozen=True)
class PlanRequest:
    """What the user asked for, beyond models and cohorts.

    Attributes
    ----------
    protocol : "m4" or "official".
    folds : fold numbers to run; None = those that each cohort runs by default.
    seeds : one trial per seed.
    precision : "float32", "tf32" or "bf16".
    trainer : settings that override every recipe.
    models : constructor arguments by model name; "*" holds those for every model that knows them.
    chosen : configuration by place, where models were tuned; empty = each cohort's own settings.
    search : the configurations to try; None = this is no search.
    follows_cohorts : whether settings that an earlier search chose for a cohort count.
    """

    protocol: str = "m4"
    folds: tuple[int, ...] | None = None
    seeds: tuple[int, ...] = (42,)
    precision: str = "float32"
    trainer: Mapping[str, Any] | None = None
    models: Mapping[str, Mapping[str, Any]] | None = None
    chosen: Mapping[Place, Configuration] = field(default_factory=dict)
    search: Search | None = None
    follows_cohorts: bool = True
