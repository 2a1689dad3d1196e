"""Estimate of a benchmark's time: a few steps of the real training loop per model, in a stack or alone as in the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from functools import cache
from math import inf
from time import perf_counter, process_time
from typing import NamedTuple

import torch

from milbench.cohorts.cohort import Cohort
from milbench.engines.prepared_group import build_model
from milbench.errors import MilbenchError
from milbench.layout import Patches, patches_of
from milbench.machine.hardware import resolve_device
from milbench.process.must_return import DidNotReturnError
from milbench.runs.passes import all_stacks, pool_settings
from milbench.runs.preparation import Benchmark, Entry
from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.training.side import Side
from milbench.training.trainer import train
from milbench.trials.plan import Trial

PROBE_STEPS = 3

AROUND_A_TRIAL = 0.015
"""Seconds that a trial takes beside training and predicting, mostly to count its cost and to write its results."""


class Estimate(NamedTuple):
    """What the trials that are left take.

    Attributes
    ----------
    seconds : of one worker by (dataset, model), all trials of the pair together.
    failed : message by model whose code raised; its trials are not counted.
    """

    seconds: dict[tuple[str, str], float]
    failed: dict[str, str]


def estimate(benchmark: Benchmark, *, without: Container[str] = (), budget: float = inf) -> Estimate:
    """Seconds of what is left.

    One probe per dataset, model and size of stack: `PROBE_STEPS` optimiser steps of the real training loop on the first
    slides, scaled by slides and epochs. Reading from a cold disk is not included, nor is a model that raises.

    Parameters
    ----------
    without : models that must not run in this process, because they would kill or keep it.
    budget : seconds of this process's computing after which no further probe starts; pairs that need one are left out.
    """
    started = process_time()
    entries = {entry.cohort.name: entry for entry in benchmark.entries}
    settings = pool_settings(benchmark)
    device = torch.device(resolve_device(benchmark.config.engine.device))
    left = [trial for trial in benchmark.unfinished_trials() if trial.model not in without]
    stacks = [
        stack
        for name, entry in entries.items()
        for stack in all_stacks(benchmark, entry, [trial for trial in left if trial.dataset == name], settings)
    ]
    failed: dict[str, str] = {}

    @cache
    def seconds_of(dataset: str, model: str, n: int) -> float:
        stack = next(each for each in stacks if (each[0].dataset, each[0].model, len(each)) == (dataset, model, n))
        try:
            return _probe(entries[dataset], stack, device)
        except MilbenchError:
            raise
        except (Exception, SystemExit, DidNotReturnError) as error:  # noqa: BLE001 - a model's own code; the run records it
            failed[model] = f"{type(error).__name__}: {error}"
            return 0.0

    totals: dict[tuple[str, str], float] = defaultdict(float)
    probed: set[tuple[str, str, int]] = set()
    left_out: set[tuple[str, str]] = set()
    for stack in stacks:
        dataset, model, n = probe = (stack[0].dataset, stack[0].model, len(stack))
        if probe not in probed and process_time() - started > budget:
            left_out.add((dataset, model))
            continue
        probed.add(probe)
        totals[dataset, model] += seconds_of(dataset, model, n)
    return Estimate({pair: seconds for pair, seconds in totals.items() if pair not in left_out}, failed)


def estimated_seconds(benchmark: Benchmark, *, without: Container[str] = ()) -> tuple[float, str]:
    """Wall seconds for the trials that are left, and a sentence that says how they were found."""
    found = estimate(benchmark, without=without)
    width = pool_settings(benchmark).width
    how = f"{width} workers, {PROBE_STEPS} training steps of each model timed here"
    failures = (f"without {model}, which failed: {message}" for model, message in found.failed.items())
    return sum(found.seconds.values()) / width, "; ".join([how, *failures])


def _probe(entry: Entry, trials: Sequence[Trial], device: torch.device) -> float:
    """Seconds of trials that are trained together, from a few steps of them."""
    first = trials[0]
    train_side, val_side, test_side = (
        entry.split.slides(entry.cohort.slides, first.fold, role) for role in ("train", "val", "test")
    )
    slides = tuple(train_side["slide_id"].tolist()[: first.recipe.bags_per_step * PROBE_STEPS])
    n_neighbours = build_model(first, entry.cohort.in_features).wanted_neighbours
    bags = _InMemory(entry.cohort, slides, n_neighbours, device)
    torch.set_num_threads(1)

    def seconds() -> tuple[float, float]:
        """Of optimiser steps and of the rest. On a CPU those that this process computed: others may compute on its core."""
        has_folds = len({trial.fold for trial in trials}) > 1
        learners = [learner_of(part) for part in ([(trial,) for trial in trials] if has_folds else [trials])]
        wall, cpu = perf_counter(), process_time()
        train(learners, slides, bags, seed=0, stacks=[FoldStack(learners)] if has_folds else [])
        share = min((process_time() - cpu) / max(perf_counter() - wall, 1e-9), 1.0) if device.type == "cpu" else 1.0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        for learner in learners:
            if learner.error is not None:
                raise learner.error
        steps = sum(learner.step_seconds for learner in learners)
        return steps * share, (sum(learner.seconds for learner in learners) - steps) * share

    def learner_of(part: Sequence[Trial]) -> Learner:
        models = [build_model(trial, entry.cohort.in_features) for trial in part]
        ones = torch.ones(len(part), len(slides), len(first.tasks))
        side = Side(slides, ones, ones)
        recipes = [replace(trial.recipe, epochs=1) for trial in part]
        return Learner(models, recipes[0], side, side, seed=0, device=device, recipes=recipes)

    seconds()  # the first pass also pays for warming up
    steps, look = seconds()
    training = first.recipe.epochs * (steps * len(train_side) + look * len(val_side)) / len(slides)
    n_predicted = len(val_side) + (len(test_side) if "test" in first.roles else 0)  # by the chosen weights
    return training + look * n_predicted / len(slides) + AROUND_A_TRIAL * len(trials)


class _InMemory:
    """Bags by slide, with layouts if a model asks for neighbours."""

    def __init__(self, cohort: Cohort, slides: Sequence[str], n_neighbours: int | None, device: torch.device) -> None:
        read = {slide: patches_of(cohort.load(slide), n_neighbours) for slide in slides}
        self.bags = {slide: bag.each(lambda tensor: tensor.to(device)) for slide, bag in read.items()}

    def in_order(self, slide_ids: Sequence[str]) -> Iterator[tuple[str, Patches]]:
        for slide in slide_ids:
            yield slide, self.bags[slide]
