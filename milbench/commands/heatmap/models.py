"""Models that look: the named ones, or all of the run that have a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from milbench.commands.terminal import say
from milbench.errors import StoreError, UsageError

if TYPE_CHECKING:
    from milbench.heatmap.stored import RunCohort, StoredModel


def named_models(cohort: RunCohort, words: Sequence[str] | None) -> list[str]:
    """The models asked for, in the order in which they were named: the first one chooses slides."""
    from milbench.registry import select

    if words is None:
        return cohort.models
    parts = [part for word in words for part in word.split(",") if part]
    named = [name for part in parts for name in select(f"model of run {cohort.run.name}", [part], cohort.models)]
    return list(dict.fromkeys(named))


def loaded_models(
    cohort: RunCohort, names: Sequence[str], task: str, fold: int, *, all_wanted: bool
) -> list[StoredModel]:
    """The models with their weights; where all of a run are meant, those without a map or a result are left out and named."""
    if not all_wanted:
        return [cohort.load(name, task, fold) for name in names]
    return _those_with_maps(_those_done(names, lambda name: cohort.load(name, task, fold)))


def drawable_models(cohort: RunCohort, folds: Sequence[int], words: Sequence[str] | None) -> list[str]:
    """Names of the models to look with; if all are meant, those of any of the folds that have a map."""
    names = named_models(cohort, words)
    if words is not None:
        return names
    of_each = {name: min(slot.fold for slot in cohort.slots if slot.model == name) for name in names}
    of_each |= {slot.model: slot.fold for fold in reversed(folds) for slot in cohort.slots if slot.fold == fold}
    models = _those_done(names, lambda name: cohort.load_all(name, of_each[name])[0])
    return [stored.name for stored in _those_with_maps(models)]


def _those_done(names: Sequence[str], load: Callable[[str], StoredModel]) -> list[StoredModel]:
    """The models that have a result; raises `StoreError` if none has."""
    found, refused = [], []
    for name in names:
        try:
            found.append(load(name))
        except StoreError as error:
            refused.append(error)
            say(f"left out: {name}: {error}")
    if not found and refused:
        raise refused[0]
    return found


def _those_with_maps(models: Sequence[StoredModel]) -> list[StoredModel]:
    from milbench.heatmap.stored import with_maps

    kept = with_maps(models)
    for stored in models:
        if stored not in kept:
            say(f"left out: {stored.name} has no attention to draw")
    if not kept:
        raise UsageError(
            "no model of this run has attention to draw. Add it to a model as docs/models.md says, and run again."
        )
    return kept
