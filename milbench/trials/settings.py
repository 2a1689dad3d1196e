"""Settings: the recipe and the arguments of a model on a cohort, as its trials are planned with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

from milbench.cohorts.cohort import Cohort
from milbench.errors import UsageError, unknown_name
from milbench.models import REGISTERED, MILModel
from milbench.registry import is_baseline
from milbench.search_space import Configuration
from milbench.trials.arguments import constructor_arguments, refuse_odd_arguments
from milbench.trials.configurations import DEFAULT, block_of, configuration, space_of
from milbench.trials.recipe import Recipe, changed, recipe_for, refuse_long_warmup
from milbench.trials.request import Place, PlanRequest, Search


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


def variants_of(
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


def check_model_settings(models: Mapping[str, type[MILModel]], user: Mapping[str, Mapping[str, Any]]) -> None:
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


def check_cohort_settings(models: Mapping[str, type[MILModel]], cohort: Cohort) -> None:
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
