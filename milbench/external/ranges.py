"""Ranges: how small bags and how large features were in training, so that a slide beyond that is flagged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from milbench.bag import Bag
from milbench.external.evaluate import Watch
from milbench.external.trained import Trained
from milbench.heatmap.stored import RunCohort
from milbench.store.files import inside, json_bytes, read, write_atomically
from milbench.store.run_folder import EXTERNAL

SMALL, LOW, HIGH = (
    "fewer patches than any in training",
    "features smaller than in training",
    "features larger than in training",
)


@dataclass(frozen=True)
class Ranges:
    """Of the slides that some fold is trained on.

    Attributes
    ----------
    fingerprint : of the cohort.
    fewest_patches : of a slide.
    lowest_norm, highest_norm : mean length of a slide's patches, as vectors of features before any scaling.
    """

    fingerprint: str
    fewest_patches: int
    lowest_norm: float
    highest_norm: float

    def flags(self, n_patches: int, norm: float) -> list[str]:
        """What of a slide no training slide had."""
        found = [SMALL] if n_patches < self.fewest_patches else []
        found += [LOW] if norm < self.lowest_norm else []
        return found + ([HIGH] if norm > self.highest_norm else [])


def mean_norm(bag: Bag) -> float:
    """Mean length of the patches' features."""
    return float(np.float32(bag.features.double().norm(dim=1).mean()))


def training_ranges(source: Trained, watch: Watch) -> Ranges | None:
    """Ranges of the run's training slides; None if the data are not there any more.

    They are measured once and kept in the run, unless nothing can be written there: predicting must not depend on it.
    """
    path = inside(source.run.path, EXTERNAL) / f"ranges-{source.dataset}.json"
    expected = str(source.trials[0].info["fingerprint"])
    if path.exists():
        kept: Ranges = read(path, _parsed)
        if kept.fingerprint == expected:
            return kept
    training = source.training
    if training is None or training.cohort.fingerprint != expected:
        return None
    folds = sorted(
        {int(trial.info["fold"]) for trial in source.run.trials() if trial.info["dataset"] == source.dataset}
    )
    ranges = _measured(training, folds, expected, watch)
    with suppress(OSError):  # a read-only folder, or a full disk
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json_bytes(asdict(ranges)))
    return ranges


def _measured(cohort: RunCohort, folds: Sequence[int], fingerprint: str, watch: Watch) -> Ranges:
    slides = list(dict.fromkeys(slide for fold in folds for slide in cohort.slides(fold, "train")))
    sizes, norms = [], []
    for slide in watch(slides, "training slides"):
        bag = cohort.cohort.load(slide)
        sizes.append(len(bag))
        norms.append(mean_norm(bag))
    return Ranges(fingerprint, min(sizes), min(norms), max(norms))


def _parsed(text: str) -> Ranges:
    try:
        told: Any = json.loads(text)
        return Ranges(
            str(told["fingerprint"]),
            int(told["fewest_patches"]),
            float(told["lowest_norm"]),
            float(told["highest_norm"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("it holds no ranges") from error
