"""Draws: the training slides that each epoch visits, their order, and the patches of a slide that each visit shows.

Everything is drawn from the seed, the epoch and the slide alone. So neither the place in the order nor what was trained
before, or is trained beside, changes a draw, and a training that goes on after a kill needs nothing to be remembered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milbench.endpoints.fitted import FittedEndpoint
from milbench.training.side import Side, balanced_weights

Floats = NDArray[np.float64]


class Visit(NamedTuple):
    """One visit of an epoch to a slide; `number` counts those before it."""

    slide_id: str
    number: int = 0


class PatchDraw(NamedTuple):
    """Patches that a training step of one epoch sees of each bag: `most` of them at random, or all if there are fewer."""

    seed: int
    epoch: int
    most: int

    def rows(self, n_patches: int, visit: Visit) -> Tensor | None:
        """Places of the drawn patches [most], in their order; None = all of them."""
        if n_patches <= self.most:
            return None
        random = _random("patches", self.seed, self.epoch, visit.slide_id, visit.number)
        return torch.from_numpy(np.sort(random.choice(n_patches, self.most, replace=False, shuffle=False)))


def balanced_chances(side: Side, endpoints: Sequence[FittedEndpoint]) -> Floats | None:
    """Chance [n] of each slide at each draw, under which classes come equally often; None if no task has classes.

    A slide's chance is in proportion to the mean, over its known tasks with classes, of N / (C n_k) of its class; to 1,
    which is the mean of that, if it has none.
    """
    labels = side.labels()
    weights = [balanced_weights(labels[:, task]) for task, endpoint in enumerate(endpoints) if endpoint.has_classes]
    if not weights:
        return None
    known = [~np.isnan(labels[:, task]) for task, endpoint in enumerate(endpoints) if endpoint.has_classes]
    n_known = np.sum(known, axis=0)
    mean = np.where(n_known > 0, np.sum(np.multiply(weights, known), axis=0) / np.maximum(n_known, 1), 1.0)
    chances: Floats = mean / mean.sum()
    return chances


def visits_with_replacement(slide_ids: Sequence[str], chances: Floats, *, seed: int, epoch: int) -> dict[str, int]:
    """Number of visits by slide, of as many draws as there are slides; slides that were not drawn are left out."""
    drawn = _random("slides", seed, epoch).choice(len(slide_ids), size=len(slide_ids), p=chances)
    counts = np.bincount(drawn, minlength=len(slide_ids)).tolist()
    return {slide: count for slide, count in zip(slide_ids, counts, strict=True) if count}


def in_random_order(shuffled: Sequence[str], n_visits: Mapping[str, int], *, seed: int, epoch: int) -> list[Visit]:
    """Visits of an epoch, in uniformly random order, whichever of them a learner takes.

    Each visit gets a moment, uniform in [0, 1). First visits get theirs in the order of `shuffled`: it alone decides the
    order if nobody visits a slide twice.

    Parameters
    ----------
    n_visits : the most that a learner makes, by slide; a slide without visits may be absent.
    """
    if max(n_visits.values(), default=0) <= 1:
        return [Visit(slide) for slide in shuffled if n_visits.get(slide)]
    first = np.sort(_random("order", seed, epoch).random(len(shuffled))).tolist()
    moments = {Visit(slide): moment for slide, moment in zip(shuffled, first, strict=True) if n_visits.get(slide)}
    for slide, count in n_visits.items():
        more = _random("order", seed, epoch, slide).random(count - 1).tolist() if count > 1 else []
        moments |= {Visit(slide, number): moment for number, moment in enumerate(more, start=1)}
    return sorted(moments, key=lambda visit: (moments[visit], visit))


def _random(*decides: str | int) -> np.random.Generator:
    """A generator that these values alone decide."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(decides).encode()).digest()))
