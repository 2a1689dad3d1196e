"""Plan: models × datasets × tasks × folds × seeds -> the list of trials, each with a hashed identity."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.optional import labels_of
from milbench.endpoints.fit import BATCH_OF_COX
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.errors import UsageError, unknown_name
from milbench.models import MILModel
from milbench.splits import Split
from milbench.store.identity import key_of
from milbench.store.slot import slot_name
from milbench.trials.fits import Fits
from milbench.trials.recipe import RATES, Recipe
from milbench.trials.request import PlanRequest
from milbench.trials.settings import check_cohort_settings, check_model_settings, settings_of_model, variants_of

IDENTITY_FORMAT = 2
"""Version of the results: raised when the trainer or splitter changes them, so that no older trial passes for a new one."""


@dataclass(frozen=True)
class Trial:
    """One training, described by plain values only, so that it can travel to any process.

    Attributes
    ----------
    dataset, model : registry names.
    tasks : the tasks it learns: one for a single-task model, all for a multi-task one.
    fold, seed : which partition, and what torch's generator starts from.
    hyperparameters : every constructor argument of the model, defaults included.
    recipe : how it is trained.
    feature_scaling : fitted on this fold's training slides.
    fingerprint, split_sha256 : identity of the cohort and of the split.
    model_version : number that the model declares.
    source_sha256 : hash of the model's source file; recorded, not part of the identity.
    precision : of the matrix products: "float32", "tf32" or "bf16".
    endpoints : what the fold's training patients decide about each task; empty if all tasks are binary.
    labels_sha256 : of the labels of each optional task, which the fingerprint does not cover; empty if there is none.
    search : of a trial that tries a configuration: its number, whether the test side is predicted, and its epochs if
        they are fewer than the recipe had; empty for all other trials.
    block : number of the block of configurations that may share its stack; None if its own stands alone. It follows from
        how many configurations are tried, so it is not part of the identity.
    """

    dataset: str
    model: str
    tasks: tuple[str, ...]
    fold: int
    seed: int
    hyperparameters: Mapping[str, Any]
    recipe: Recipe
    feature_scaling: str
    fingerprint: str
    split_sha256: str
    model_version: int
    source_sha256: str
    precision: str = "float32"
    endpoints: tuple[FittedEndpoint, ...] = ()
    labels_sha256: Mapping[str, str] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    block: int | None = None

    @property
    def outputs(self) -> Outputs:
        """The logits that a model of this trial has, with the tasks that they answer."""
        return Outputs(self.endpoints) if self.endpoints else Outputs.of(len(self.tasks))

    @property
    def slot(self) -> str:
        """Readable place in the grid, e.g. "digits/amil/has_0/fold0-seed42"."""
        return slot_name(self.dataset, self.model, self.tasks, self.fold, self.seed, self.search)

    @property
    def roles(self) -> tuple[str, ...]:
        """Sides of the split that the trained model predicts: a search needs the validation side alone."""
        return ("val", "test") if not self.search or self.search["test"] else ("val",)

    @cached_property
    def key(self) -> str:
        """SHA-256 of all that decides the result."""
        return key_of(self.identity())

    @property
    def id(self) -> str:
        """`slot` and the first eight digits of `key`: the trial's folder below ``trials/``."""
        return f"{self.slot}-{self.key[:8]}"

    @cached_property
    def stack_key(self) -> str:
        """SHA-256 of all but the task: trials that share it are one architecture, trained alike on the same bags.

        A balanced sampler draws slides by the labels of the tasks, so such trials share it with no other. In a search,
        configurations of one block share it if they differ in learning rate and weight decay only.
        """
        tasks = list(self.tasks) if self.recipe.sampler == "balanced" else len(self.tasks)
        alike = {**self.identity(), "tasks": tasks, "dataset": self.dataset}
        alike.pop("labels_sha256", None)
        if self.endpoints:
            alike["endpoints"] = [endpoint.structure for endpoint in self.endpoints]
        if self.block is not None and self.recipe.stacks_with_other_rates:
            alike["recipe"] = {key: value for key, value in alike["recipe"].items() if key not in RATES}
            alike["search"] = {**self.search, "configuration": None, "block": self.block}
        return key_of(alike)

    @cached_property
    def fold_key(self) -> str:
        """SHA-256 of all but the fold: trials that share it are one architecture, trained alike on bags of their own folds."""
        alike = {**self.identity(), "fold": None, "dataset": self.dataset}
        if self.endpoints:
            alike["endpoints"] = [endpoint.structure for endpoint in self.endpoints]
        return key_of(alike)

    @property
    def stacks_with_other_folds(self) -> bool:
        """Whether it may take its steps together with trials of other folds: a search and Cox losses have ways of their own."""
        return not self.search and all(endpoint.loss != "cox" for endpoint in self.endpoints)

    def identity(self) -> dict[str, Any]:
        """What the key covers: no paths, hosts, times, workers or logging."""
        endpoints = {"endpoints": [endpoint.as_dict() for endpoint in self.endpoints]} if self.endpoints else {}
        labels = {"labels_sha256": dict(self.labels_sha256)} if self.labels_sha256 else {}
        search = {"search": dict(self.search)} if self.search else {}
        return {
            **endpoints,
            **labels,
            **search,
            "format": IDENTITY_FORMAT,
            "fingerprint": self.fingerprint,
            "split_sha256": self.split_sha256,
            "feature_scaling": self.feature_scaling,
            "model": self.model,
            "model_version": self.model_version,
            "hyperparameters": dict(self.hyperparameters),
            "recipe": self.recipe.as_dict(),
            "tasks": list(self.tasks),
            "fold": self.fold,
            "seed": self.seed,
            "precision": self.precision,
        }


def make_plan(models: Mapping[str, type[MILModel]], cohorts: Sequence[Fits], request: PlanRequest) -> list[Trial]:
    """Every trial of the grid, cohort by cohort, slowest models first so that no worker idles at the end.

    Raises
    ------
    UsageError : unknown fold, model argument or trainer setting.
    DataError : the training side of a fold cannot teach a task.
    """
    check_model_settings(models, request.models or {})
    for fits in cohorts:
        check_cohort_settings(models, fits.cohort)
    trials = [
        trial for fits in cohorts for name, model in models.items() for trial in _trials_of(name, model, fits, request)
    ]
    return sorted(trials, key=lambda trial: (trial.dataset, *_expected_order(models[trial.model], trial)))


def _expected_order(model: type[MILModel], trial: Trial) -> tuple[bool, bool]:
    """Place of a model in the order: mixtures of all tasks first, then models that lay patches out, then mere poolings."""
    return len(trial.tasks) == 1, not model.info.order_matters


def together(trials: Iterable[Trial]) -> list[tuple[Trial, ...]]:
    """Trials that may share a stack, in the order of the first of each: never divided between machines."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.stack_key, []).append(trial)
    return [tuple(group) for group in groups.values()]


def folds_together(trials: Iterable[Trial]) -> list[tuple[Trial, ...]]:
    """Trials that may take their steps together though they differ in their fold, in the order of the first of each."""
    groups: dict[tuple[str, int], list[Trial]] = {}
    for number, trial in enumerate(trials):
        groups.setdefault((trial.fold_key, -1) if trial.stacks_with_other_folds else ("", number), []).append(trial)
    return [tuple(group) for group in groups.values()]


def _trials_of(name: str, model: type[MILModel], fits: Fits, request: PlanRequest) -> Iterable[Trial]:
    cohort, split = fits.cohort, fits.split
    usual = settings_of_model(name, model, cohort, request)
    learnable = fits.tasks_of(name, model, usual.recipe.loss_options)
    groups = [learnable] if model.info.tasks == "multi" else [(task,) for task in learnable]
    source = source_sha256(model)
    variants = [
        (tasks, each) for tasks in filter(None, groups) for each in variants_of(name, model, cohort, tasks, request)
    ]
    for fold in _folds(cohort, split, request.folds):
        for seed in request.seeds:
            for tasks, (settings, search, block) in variants:
                endpoints = fits.of(fold, tasks, settings.recipe.loss_options)
                _refuse_small_steps(settings.recipe, endpoints)
                yield Trial(
                    dataset=cohort.name,
                    model=name,
                    tasks=tuple(tasks),
                    fold=fold,
                    seed=seed,
                    hyperparameters=settings.hyperparameters,
                    recipe=settings.recipe.of_tasks(len(tasks), endpoints),
                    feature_scaling=cohort.feature_scaling,
                    fingerprint=cohort.fingerprint,
                    split_sha256=split.sha256,
                    model_version=model.info.version,
                    source_sha256=source,
                    precision=request.precision,
                    endpoints=endpoints,
                    labels_sha256=labels_of(cohort.optional, tasks),
                    search=search,
                    block=block,
                )


def _refuse_small_steps(recipe: Recipe, endpoints: Sequence[FittedEndpoint]) -> None:
    """Raise if a Cox loss has too few slides to compare: that of a single one is 0."""
    if recipe.bags_per_step < BATCH_OF_COX and any(endpoint.loss == "cox" for endpoint in endpoints):
        raise UsageError(
            f"trainer.survival_loss is cox, which compares the slides of one step, and trainer.bags_per_step is "
            f"{recipe.bags_per_step}. Set trainer.bags_per_step to {BATCH_OF_COX} or more, or trainer.survival_loss to nll."
        )


def _folds(cohort: Cohort, split: Split, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    folds = tuple(range(min(cohort.n_folds, split.n_folds))) if wanted is None else wanted
    for fold in folds:
        if not 0 <= fold < split.n_folds:
            raise unknown_name(f"fold of {cohort.name}", str(fold), map(str, range(split.n_folds)))
    return folds


def source_sha256(model: type[MILModel]) -> str:
    """SHA-256 of the file that defines `model`; empty where there is no file (an interactive session)."""
    try:
        path = inspect.getsourcefile(model)
    except TypeError:
        return ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
