"""Training: one model on the bags of one test, by the trainer that a run uses, and its score on the test's bags.

The recipe is the same for every model: Adam, and validation loss chooses the epoch. If the first rate does not learn the
training distribution, the second is tried too, and validation loss chooses between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from milbench.errors import MilbenchError
from milbench.layout import Layout, nearest
from milbench.metrics.binary import auroc_per_task
from milbench.models import MILModel, build
from milbench.probes.made_bags import PARTS, WIDTH
from milbench.probes.probe import Part, Probe
from milbench.probes.verdict import Score
from milbench.process.must_return import DidNotReturnError, must_return
from milbench.training.single_model import Bags, fit, predict
from milbench.trials.arguments import constructor_arguments
from milbench.trials.recipe import Recipe

RATES = (5e-3, 1e-3)
"""Learning rates, in the order in which they are tried. The better one by validation loss counts."""

LEARNED = 0.1
"""Validation loss below which no other rate is tried."""

LONGEST = 1800.0
"""Seconds that one training may take; the slowest of milbench's own takes two minutes on one core."""

NAN = float("nan")

PATIENCE = 8
"""Epochs without a lower validation loss before training stops."""

SMALL = {
    "hidden": 32, "attention": 16, "heads": 2, "experts": 2, "tower": 16, "landmarks": 8, "feed_forward": 64,
    "regions": 2, "first_neighbours": 5, "second_neighbours": 9, "instances": 2, "masked_patches": 3,
}  # fmt: skip
"""Constructor arguments that are reduced where a model has them: 16 features need no width of 512, and numbers of patches
that suit slides of thousands would be all patches of a bag of 30."""


def reduced_arguments(model: type[MILModel]) -> dict[str, Any]:
    """The arguments of `SMALL` that the model has and that are larger by default."""
    known = constructor_arguments(model)
    return {
        name: value
        for name, value in SMALL.items()
        if name in known and type(known[name]) in (int, type(None)) and (known[name] is None or known[name] > value)
    }


def recipe_of(probe: Probe, rate: float) -> Recipe:
    """Recipe of every model in the test."""
    return Recipe(
        name="check",
        lr=rate,
        epochs=probe.epochs,
        bags_per_step=probe.bags_per_step,
        select_by="val_loss",
        patience=PATIENCE,
    )


def score_of(model: type[MILModel], probe: Probe, seed: int) -> Score:
    """Score of the model in the test. One seed gives the same bits again."""
    begun = perf_counter()
    train, validation, test = (probe.part(name, seed) for name in PARTS)
    best = float(auroc_per_task(test.labels, test.best).min())
    tried: list[tuple[float, float, float]] = []
    reasons = []
    with _one_thread():
        for rate in RATES:
            if tried and min(tried)[0] < LEARNED * probe.n_tasks:
                break
            try:
                with must_return(LONGEST):
                    tried.append((*_trained(model, probe, seed, rate, train, validation, test), rate))
            except (MilbenchError, DidNotReturnError) as error:
                reasons.append(str(error))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a model of others raises
                reasons.append(f"{type(error).__name__}: {error}")
    if not tried:
        return Score(NAN, best, NAN, perf_counter() - begun, " ".join(reasons[0].split()))
    _, auroc, rate = min(tried)
    return Score(auroc, best, rate, perf_counter() - begun, "its answers are not finite" if isnan(auroc) else "")


def _trained(
    model: type[MILModel], probe: Probe, seed: int, rate: float, train: Part, validation: Part, test: Part
) -> tuple[float, float]:
    """Validation loss, and AUROC of the test's bags."""
    device = torch.device("cpu")
    built = build(model, WIDTH, probe.n_tasks, reduced_arguments(model), seed=seed)
    learned, chosen_by, asked = (bags_of(part, built.wanted_neighbours) for part in (train, validation, test))
    fit(built, recipe_of(probe, rate), learned, chosen_by, seed=seed, device=device)
    loss = float(predict(built, chosen_by, device=device).losses.double().mean())
    answers = predict(built, asked, device=device).probabilities
    return loss, float(auroc_per_task(test.labels, answers).min())


def bags_of(part: Part, n_neighbours: int | None) -> Bags:
    """The part as the trainer takes it, with layouts of so many neighbours; None = without layouts."""
    features = [torch.from_numpy(bag.features) for bag in part.bags]
    targets = torch.from_numpy(part.labels).float()
    layouts = None if n_neighbours is None else [_layout(bag.coords, n_neighbours) for bag in part.bags]
    return Bags(features, targets, torch.ones_like(targets), layouts)


def _layout(coords: NDArray[np.float32], n_neighbours: int) -> Layout:
    return Layout(torch.from_numpy(coords), torch.from_numpy(nearest(coords.astype(np.float64), n_neighbours)))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inside, torch uses one thread: more change the last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
