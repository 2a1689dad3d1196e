"""Attention: one pass of a run's models over one slide, as plain maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milbench.bag import Bag
from milbench.datasets.digits import PATCH_SIZE
from milbench.datasets.digits_endpoints import NAME as DIGITS_ENDPOINTS
from milbench.errors import UsageError
from milbench.heatmap.asked import Asked, label_in_words
from milbench.heatmap.maps import Map, SlideMaps
from milbench.heatmap.places import places_of
from milbench.heatmap.stored import RunCohort, StoredModel, truth_of
from milbench.models import AttentionMaps

ATTENTION = "attention"
OF_PICTURES = ("digits", DIGITS_ENDPOINTS)
"""Cohorts whose features are pixels."""


class Look(NamedTuple):
    """One slide and what each model sees in it."""

    bag: Bag
    seen: list[tuple[StoredModel, AttentionMaps]]


def looks(cohort: RunCohort, models: Sequence[StoredModel], slide_ids: Iterable[str]) -> Iterator[Look]:
    """Slide by slide what all models see: every slide is read once, and one is in memory at a time."""
    for slide_id in slide_ids:
        bag = cohort.cohort.load(slide_id)
        yield Look(bag, [(stored, stored.maps(*stored.patches(bag).given)) for stored in models])


def slide_maps(
    cohort: RunCohort,
    name: str,
    asked: Asked,
    models: Sequence[StoredModel],
    *,
    experts: bool,
    caption: str = "",
    patch_size: float | None = None,
) -> list[SlideMaps]:
    """The maps of a slide, or of each slide of a patient: each model's for what is asked, then, if asked for, one per expert.

    If a bag is a patient, models look at all slides of the patient at once, and each slide gets its part of the map.

    Parameters
    ----------
    name : id of a slide, or of a bag: then all slides of it are meant.
    patch_size : edge of a patch in the unit of the coordinates, where the user states it.

    Raises
    ------
    DataError : a slide has no coordinates.
    UsageError : a model has no maps, or none has experts where they are asked for.
    """
    bag = cohort.cohort.load(cohort.bag_of(name))
    meant = [part for part in bag.parts if name in (bag.slide_id, part[0].slide_id)]
    places = [places_of(slide, patch_size) for slide, _ in meant]  # before models look: without places nothing is drawn
    seen = [(stored, stored.maps(*stored.patches(bag).given)) for stored in models]
    maps = [task_map(stored, maps, asked) for stored, maps in seen]
    if experts:
        maps += _expert_maps(seen)
    fold = int(models[0].trial.info["fold"])
    label = cohort.label(bag.slide_id, asked.task)
    answers = {s.name: s.answers_of(m.logits)[s.row(asked)] for s, m in seen}
    return [
        SlideMaps(
            slide_id=slide.slide_id,
            dataset=cohort.name,
            task=asked.title,
            fold=fold,
            role=cohort.role(bag.slide_id, fold),
            label=label,
            label_text=label_in_words(asked.endpoint, label),
            places=where,
            maps=tuple(drawn.of_slide(rows) if len(bag.slides) > 1 else drawn for drawn in maps),
            answers={name: asked.told(answer) for name, answer in answers.items()},
            truth=truth_of(cohort.cohort, slide.instance_labels, asked.task),
            caption=caption if number == 0 else "",
            pixels=pixels_of(cohort.name, slide.features),
            patient=bag.slide_id if bag.slides else "",
        )
        for number, ((slide, rows), where) in enumerate(zip(meant, places, strict=True))
    ]


def pixels_of(dataset: str, features: Tensor) -> NDArray[np.float64] | None:
    """The patches as pictures [N, height, width], where features are pixels, as in `OF_PICTURES`; None elsewhere."""
    return as_array(features).reshape(-1, PATCH_SIZE, PATCH_SIZE) if dataset in OF_PICTURES else None


def task_map(stored: StoredModel, maps: AttentionMaps, asked: Asked) -> Map:
    """The model's map for one of its tasks or classes."""
    values = as_array(maps.per_task[stored.row(asked)])
    return Map(stored.name, stored.model.info.title, ATTENTION, maps.kind, values, maps.is_distribution)


def alternative_maps(stored: StoredModel, maps: AttentionMaps, asked: Asked) -> list[Map]:
    """The model's other maps for one of its tasks or classes."""
    row = stored.row(asked)
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
