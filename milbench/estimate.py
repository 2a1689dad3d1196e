"""Estimate of a benchmark's time: finished trials where there are some, else a probe of the real loop."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch

from milbench.benchmark import Benchmark, Entry
from milbench.machine import resolve_device, usable_cores
from milbench.plan import Trial
from milbench.scaling import FeatureScaler
from milbench.trainer import Bags, fit
from milbench.worker import build

PROBE_STEPS = 3


def estimated_seconds(benchmark: Benchmark) -> tuple[float, str]:
    """Wall seconds for what is left, and how they were found.

    One probe a (dataset, model): `PROBE_STEPS` optimiser steps of the real training loop on the first
    slides, scaled by slides and epochs. Reading from a cold disk is not included.
    """
    todo = [trial for trial in benchmark.trials if benchmark.run.trial(trial.id) is None]
    entries = {entry.cohort.name: entry for entry in benchmark.entries}
    device = resolve_device(benchmark.config.engine.device)
    workers = benchmark.config.engine.workers or (1 if device.startswith("cuda") else usable_cores())

    @cache
    def seconds_a_trial(dataset: str, model: str) -> float:
        trial = next(t for t in todo if (t.dataset, t.model) == (dataset, model))
        return _probe(entries[dataset], trial, torch.device(device))

    total = sum(seconds_a_trial(trial.dataset, trial.model) for trial in todo)
    return total / workers, f"{workers} workers, {PROBE_STEPS} training steps of each model timed here"


def _probe(entry: Entry, trial: Trial, device: torch.device) -> float:
    """Seconds of one trial, from a few steps of it."""
    n_probe = trial.recipe.bags_per_step * PROBE_STEPS
    sides = {role: entry.split.slides(entry.cohort.slides, trial.fold, role) for role in ("train", "val")}
    slides = sides["train"]["slide_id"].tolist()[:n_probe]
    features = [FeatureScaler("none")(entry.cohort.load(slide).features) for slide in slides]
    ones = torch.ones(len(slides), len(trial.tasks))
    recipe = replace(trial.recipe, epochs=1)
    model = build(trial, entry.cohort.in_features)
    torch.set_num_threads(1)
    bags = Bags(features, ones, ones)
    fit(model, recipe, bags, bags, seed=0, device=device)  # the first pass also pays for warming up
    result = fit(model, recipe, bags, bags, seed=0, device=device)
    return result.seconds / len(slides) * len(sides["train"]) * trial.recipe.epochs
