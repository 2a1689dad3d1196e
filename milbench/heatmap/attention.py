"""Attention: one pass of a run's models over one slide, as plain maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milbench.bag import Bag
from milbench.datasets.digits import PATCH_SIZE
from milbench.errors import UsageError
from milbench.heatmap.maps import Map, SlideMaps
from milbench.heatmap.places import places_of
from milbench.heatmap.stored import RunCohort, StoredModel, truth_of
from milbench.models import AttentionMaps

ATTENTION = "attention"


class Look(NamedTuple):
    """One slide and what each model sees in it."""

    bag: Bag
    seen: list[tuple[StoredModel, AttentionMaps]]


def looks(cohort: RunCohort, models: Sequence[StoredModel], slide_ids: Iterable[str]) -> Iterator[Look]:
    """Slide by slide what all models see: every slide is read once, and one is in memory at a time."""
    for slide_id in slide_ids:
        bag = cohort.cohort.load(slide_id)
        yield Look(bag, [(stored, stored.maps(bag.features)) for stored in models])


def slide_maps(
    cohort: RunCohort,
    slide_id: str,
    task: str,
    models: Sequence[StoredModel],
    *,
    experts: bool,
    caption: str = "",
    patch_size: float | None = None,
) -> SlideMaps:
    """The maps of one slide: each model's for the task, then, if asked for, one map per expert.

    Parameters
    ----------
    patch_size : edge of a patch in the unit of the coordinates, where the user states it.

    Raises
    ------
    DataError : the slide has no coordinates.
    UsageError : a model has no maps, or none has experts where they are asked for.
    """
    bag = cohort.cohort.load(slide_id)
    places = places_of(bag, patch_size)  # before any model looks: without places there is nothing to draw
    seen = [(stored, stored.maps(bag.features)) for stored in models]
    maps = [task_map(stored, maps, task) for stored, maps in seen]
    if experts:
        maps += _expert_maps(seen)
    fold = int(models[0].trial.info["fold"])
    return SlideMaps(
        slide_id=slide_id,
        dataset=cohort.name,
        task=task,
        fold=fold,
        role=cohort.role(slide_id, fold),
        label=cohort.label(slide_id, task),
        places=places,
        maps=tuple(maps),
        probabilities={s.name: float(torch.sigmoid(m.logits)[s.tasks.index(task)]) for s, m in seen},
        truth=truth_of(cohort.cohort, bag.instance_labels, task),
        caption=caption,
        pixels=pixels_of(cohort.name, bag.features),
    )


def pixels_of(dataset: str, features: Tensor) -> NDArray[np.float64] | None:
    """The patches as pictures [N, height, width], where features are pixels, as in digits; None elsewhere."""
    return as_array(features).reshape(-1, PATCH_SIZE, PATCH_SIZE) if dataset == "digits" else None


def task_map(stored: StoredModel, maps: AttentionMaps, task: str) -> Map:
    """The model's map for one of its tasks."""
    values = as_array(maps.per_task[stored.tasks.index(task)])
    return Map(stored.name, stored.model.info.title, ATTENTION, maps.kind, values, maps.is_distribution)


def alternative_maps(stored: StoredModel, maps: AttentionMaps, task: str) -> list[Map]:
    """The model's other maps for one of its tasks."""
    row = stored.tasks.index(task)
    title = stored.model.info.title
    return [Map(stored.name, title, name, name, as_array(rows[row])) for name, rows in maps.alternatives.items()]


def _expert_maps(seen: Sequence[tuple[StoredModel, AttentionMaps]]) -> list[Map]:
    found = [
        Map(stored.name, stored.model.info.title, name, "attention", as_array(row), maps.is_distribution)
        for stored, maps in seen
        if maps.per_expert is not None
        for name, row in zip(maps.experts, maps.per_expert, strict=True)
    ]
    if not found:
        names = ", ".join(stored.name for stored, _ in seen)
        raise UsageError(f"--experts: {names} has no experts. Name a mixture as well, such as --models amil m4.")
    return found


def as_array(values: Tensor) -> NDArray[np.float64]:
    """Float64 copy of a tensor."""
    return np.asarray(values.detach().cpu().double().numpy())
