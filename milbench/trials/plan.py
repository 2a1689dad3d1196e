"""Plan: models × datasets × tasks × folds × seeds -> the list of trials, each with a hashed identity."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.optional import labels_of
from milbench.endpoints.fit import BATCH_OF_COX
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.errors import UsageError, unknown_name
from milbench.models import REGISTERED, MILModel
from milbench.registry import is_baseline
from milbench.search_space import Configuration, SearchSpace
from milbench.splits import Split
from milbench.store.identity import key_of
from milbench.store.slot import slot_name
from milbench.trials.arguments import constructor_arguments, refuse_odd_arguments
from milbench.trials.configurations import DEFAULT, block_of, configuration, space_of
from milbench.trials.fits import Fits
from milbench.trials.recipe import RATES, Recipe, changed, recipe_for, refuse_long_warmup

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


def make_plan(models: Mapping[str, type[MILModel]], cohorts: Sequence[Fits], request: PlanRequest) -> list[Trial]:
    """Every trial of the grid, cohort by cohort, slowest models first so that no worker idles at the end.

    Raises
    ------
    UsageError : unknown fold, model argument or trainer setting.
    DataError : the training side of a fold cannot teach a task.
    """
    _check_model_settings(models, request.models or {})
    for fits in cohorts:
        _check_cohort_settings(models, fits.cohort)
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


def _trials_of(name: str, model: type[MILModel], fits: Fits, request: PlanRequest) -> Iterable[Trial]:
    cohort, split = fits.cohort, fits.split
    usual = settings_of_model(name, model, cohort, request)
    learnable = fits.tasks_of(name, model, usual.recipe.loss_options)
    groups = [learnable] if model.info.tasks == "multi" else [(task,) for task in learnable]
    source = source_sha256(model)
    variants = [
        (tasks, each) for tasks in filter(None, groups) for each in _variants(name, model, cohort, tasks, request)
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


class ModelSettings(NamedTuple):
    """How a model of some trials is trained, and every argument of its constructor."""

    recipe: Recipe
    hyperparameters: Mapping[str, Any]


class Variant(NamedTuple):
    """Settings with which some tasks are learned.

    Attributes
    ----------
    search, block : as a trial has them.
    """

    settings: ModelSettings
    search: Mapping[str, Any] = {}
    block: int | None = None


def settings_of_model(
    name: str,
    model: type[MILModel],
    cohort: Cohort,
    request: PlanRequest,
    drawn: Configuration | None = None,
) -> ModelSettings:
    """Recipe and arguments: protocol < cohort < what was drawn or chosen for the model < user."""
    own = drawn or Configuration(DEFAULT)
    recipe = recipe_for(model, request.protocol, cohort.trainer_defaults, {**own.trainer, **(request.trainer or {})})
    arguments = _hyperparameters(name, model, recipe, cohort.model_defaults, own.model, request.models or {})
    return ModelSettings(recipe, arguments)


def _variants(
    name: str, model: type[MILModel], cohort: Cohort, tasks: Sequence[str], request: PlanRequest
) -> Iterable[Variant]:
    """Settings with which the tasks are learned: one variant, or one for each configuration of a search."""
    search = request.search
    if search is None:
        yield Variant(settings_of_model(name, model, cohort, request, _chosen(name, cohort, tasks, request)))
        return
    place = place_of(cohort.name, name, model, tasks, per_task=search.per_task)
    for rung in search.rungs:
        numbers = rung.numbers.get(place, ())
        for number in numbers:
            settings = settings_of_model(name, model, cohort, request, drawn_for(number, name, model, cohort, request))
            about = {"configuration": number, "test": search.test}
            if rung.divisor > 1:
                about["epochs"] = ceil(settings.recipe.epochs / rung.divisor)
                settings = settings._replace(recipe=_shortened(settings.recipe, about["epochs"]))
            yield Variant(settings, about, block_of(number, numbers))


def _shortened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe of a rung that trains for fewer epochs; raises `UsageError` if its warm-up takes more."""
    shorter = replace(recipe, epochs=epochs)
    try:
        refuse_long_warmup(shorter)
    except UsageError as error:
        raise UsageError(f"--tune-halving trains for {epochs} of {recipe.epochs} epochs first: {error}") from error
    return shorter


def _chosen(name: str, cohort: Cohort, tasks: Sequence[str], request: PlanRequest) -> Configuration | None:
    """What a search chose: the run's own, or an earlier one's for the cohort, which belongs to the study's recipe."""
    places = (Place(cohort.name, name, tasks[0]), Place(cohort.name, name))
    found = next((request.chosen[place] for place in places if place in request.chosen), None)
    if found is None and cohort.tuned is not None and request.protocol == "m4" and request.follows_cohorts:
        return cohort.tuned.of(name, tasks[0])
    return found


def place_of(dataset: str, name: str, model: type[MILModel], tasks: Sequence[str], *, per_task: bool) -> Place:
    """The place that the configurations of a trial of these tasks belong to."""
    return Place(dataset, name, tasks[0] if per_task and model.info.tasks == "single" else "")


def drawn_for(number: int, name: str, model: type[MILModel], cohort: Cohort, request: PlanRequest) -> Configuration:
    """Configuration of this number of a model on a cohort. What the user fixed is not drawn."""
    search = request.search or Search(())
    usual = settings_of_model(name, model, cohort, request, Configuration(DEFAULT))
    user = request.models or {}
    fixed = {**user.get("*", {}), **user.get(name, {})}
    space = space_of(name, model, search.spaces).without(request.trainer or {}, fixed)
    return configuration(number, name, model, space, usual.recipe, usual.hyperparameters, seed=search.seed)


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


def _hyperparameters(
    name: str,
    model: type[MILModel],
    recipe: Recipe,
    cohort_defaults: Mapping[str, Any],
    drawn: Mapping[str, Any],
    user: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Every constructor argument, resolved: model's default < recipe < cohort < drawn or chosen for the model < user.

    A cohort's settings are made for the baselines. An argument of somebody else's model may have the same name and
    another meaning, so they reach such a model only if it asks for them.
    """
    defaults = constructor_arguments(model)
    takes = is_baseline(model) or model.info.takes_cohort_settings
    shared = {**recipe.model, **(cohort_defaults if takes else {}), **user.get("*", {})}
    own = {**drawn, **{key: value for key, value in user.get("*", {}).items() if key in defaults}, **user.get(name, {})}
    chosen = {**{key: value for key, value in shared.items() if key in defaults}, **own}
    refuse_odd_arguments(model, name, chosen)
    return {**defaults, **chosen}


def refuse_arguments_of_no_model(models: Mapping[str, type[MILModel]], arguments: Iterable[str]) -> None:
    """Raise if no model, run or not, has one of the arguments that are drawn for every model that has them."""
    known = {argument for model in {**REGISTERED, **models}.values() for argument in constructor_arguments(model)}
    for argument in arguments:
        if argument not in known:
            raise unknown_name("argument of models in tuning.space.*", argument, known)


def _check_model_settings(models: Mapping[str, type[MILModel]], user: Mapping[str, Mapping[str, Any]]) -> None:
    """One file of settings may serve runs of different models: those that are not run are checked too."""
    known_by_any = {argument for model in models.values() for argument in constructor_arguments(model)}
    every = {**REGISTERED, **models}
    for name, settings in user.items():
        if name != "*" and name not in every:
            raise unknown_name("model in model settings", name, every)
        known = known_by_any if name == "*" else constructor_arguments(every[name])
        for argument in settings:
            if argument not in known:
                raise unknown_name(f"argument of model '{name}'", argument, known)


def _check_cohort_settings(models: Mapping[str, type[MILModel]], cohort: Cohort) -> None:
    """A cohort's settings serve all models, so an argument counts as known if any model has it.

    Raises
    ------
    UsageError : an unknown argument or trainer setting, or an odd value, with the cohort that says so.
    """
    every = {**REGISTERED, **models}
    known = {argument for model in every.values() for argument in constructor_arguments(model)}
    try:
        _check_tuned(every, cohort)
        changed(Recipe(), cohort.trainer_defaults)
        for argument in cohort.model_defaults:
            if str(argument) not in known:
                raise unknown_name("argument of models", str(argument), known)
        for name, model in models.items():
            own = constructor_arguments(model).keys() & cohort.model_defaults.keys() if is_baseline(model) else ()
            refuse_odd_arguments(model, name, {argument: cohort.model_defaults[argument] for argument in own})
    except UsageError as error:
        raise UsageError(f"settings of cohort '{cohort.name}': {error}") from error


def _check_tuned(models: Mapping[str, type[MILModel]], cohort: Cohort) -> None:
    """What an earlier search chose must be settings; plug-ins that are not at hand now cannot be checked."""
    for (name, _), each in cohort.tuned.chosen.items() if cohort.tuned else ():
        if name not in models:
            raise unknown_name("model of the tuned settings", name, models)
        changed(Recipe(), each.trainer)
        arguments = constructor_arguments(models[name])
        for argument in each.model:
            if argument not in arguments:
                raise unknown_name(f"argument of model '{name}' in the tuned settings", argument, arguments)
        refuse_odd_arguments(models[name], name, each.model)


def source_sha256(model: type[MILModel]) -> str:
    """SHA-256 of the file that defines `model`; empty where there is no file (an interactive session)."""
    try:
        path = inspect.getsourcefile(model)
    except TypeError:
        return ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
