"""Configurations: settings number n of a model when it is tuned, drawn by a rule that keeps no state.

Configuration 0 is what the recipe, the cohort and the user say, so on validation a tuned model is never worse. Every
other one is drawn anew from (seed, model, number, setting): the same on any machine, in any order, after any kill and
in any shard, and more configurations leave the earlier ones as they are. Random search is the sampler because no setting
is spent on a grid, and because the budget curves ask for independent draws (Bergstra and Bengio, JMLR 2012).
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from typing import Any

from milbench.errors import UsageError, unknown_name
from milbench.models import MILModel
from milbench.search_space import USUAL_MODEL, USUAL_TRAINER, Configuration, Draw, SearchSpace
from milbench.trials.arguments import constructor_arguments, refuse_odd_arguments
from milbench.trials.recipe import SETTINGS, Recipe, changed, refuse_long_warmup

DEFAULT = 0
"""Number of the configuration that nothing was drawn for."""

BLOCK = 8
"""Configurations 0 to 7, 8 to 15 and so on may share stacks. A search that goes on with more configurations then leaves the
stacks of finished blocks as they were."""

NOT_SEARCHED = frozenset({"epochs", "bags_per_step", "patience", "select_by", "select_after"})
"""Settings that decide the budget or the selection: every configuration shares them, or the comparison is none."""


def space_of(name: str, model: type[MILModel], narrowed: Mapping[str, SearchSpace]) -> SearchSpace:
    """What is drawn for the model: what it declares, else the usual, with the user's own draws in their place.

    Parameters
    ----------
    narrowed : the user's draws by model; "*" holds those for every model. An argument that "*" names reaches the models
        that have it.

    Raises
    ------
    UsageError : a draw of a setting that is none, or that all configurations must share.
    """
    arguments = constructor_arguments(model)
    declared = model.info.search_space
    if declared is None:
        declared = SearchSpace(model={key: draw for key, draw in USUAL_MODEL.items() if key in arguments})
    for_all = narrowed.get("*", SearchSpace())
    shared = SearchSpace(for_all.trainer, {key: draw for key, draw in for_all.model.items() if key in arguments})
    space = SearchSpace(USUAL_TRAINER).narrowed(declared).narrowed(shared).narrowed(narrowed.get(name, SearchSpace()))
    for key in space.trainer:
        if key not in SETTINGS:
            raise unknown_name(f"trainer setting in the search space of '{name}'", key, SETTINGS)
        if key in NOT_SEARCHED:
            raise UsageError(
                f"the search space of '{name}' draws trainer.{key}, which all configurations share, or their budgets "
                "would differ. Set it for all models with --set."
            )
    for key in space.model:
        if key not in arguments:
            raise unknown_name(f"argument in the search space of '{name}'", key, arguments)
    return space


def configuration(
    number: int,
    name: str,
    model: type[MILModel],
    space: SearchSpace,
    recipe: Recipe,
    arguments: Mapping[str, Any],
    *,
    seed: int,
) -> Configuration:
    """Configuration of this number.

    Parameters
    ----------
    recipe, arguments : the defaults, which some draws multiply.
    seed : of the search, not of the trainings.

    Raises
    ------
    UsageError : a value that the recipe or the constructor cannot take.
    """
    if number == DEFAULT:
        return Configuration(DEFAULT)

    def drawn(part: str, draws: Mapping[str, Draw], defaults: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: _value(f"{part}.{key}", draw, uniform(seed, name, number, f"{part}.{key}"), defaults.get(key))
            for key, draw in draws.items()
        }

    try:
        chosen = Configuration(
            number,
            drawn("trainer", space.trainer, {key: getattr(recipe, key) for key in space.trainer}),
            drawn("model", space.model, arguments),
        )
        refuse_long_warmup(changed(recipe, chosen.trainer))
        refuse_odd_arguments(model, name, chosen.model)
    except UsageError as error:
        raise UsageError(f"search space of '{name}', configuration {number}: {error}") from error
    return chosen


def block_of(number: int, tried: Container[int]) -> int | None:
    """Number of the configuration's block; None if not all of the block are tried.

    A stack of a part would be another stack, with other last digits, once the rest is asked for too.
    """
    block = number // BLOCK
    return block if all(other in tried for other in range(block * BLOCK, (block + 1) * BLOCK)) else None


def _value(setting: str, draw: Draw, uniform: float, default: Any) -> Any:
    try:
        return draw.at(uniform, default)
    except UsageError as error:
        raise UsageError(f"{setting}: {error}") from error


def uniform(seed: int, model: str, number: int, setting: str) -> float:
    """A number in [0, 1) that depends on these four alone: the first 53 bits of their SHA-256."""
    digest = hashlib.sha256(f"{seed}\n{model}\n{number}\n{setting}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
