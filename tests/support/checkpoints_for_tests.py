"""A training that stops after an epoch, and its bits."""

from __future__ import annotations

from pathlib import Path

import pytest
from stacks_for_tests import SLIDES, InMemory

from milbench.engines.checkpoint import save_checkpoint
from milbench.training.learner import Learner
from milbench.training.trainer import train
from milbench.trials.recipe import Recipe

RECIPES = {
    "adam": Recipe(lr=0.02, epochs=6, bags_per_step=2),
    "out of patience": Recipe(lr=0.02, epochs=10, patience=1),
    "lookahead": Recipe(lr=0.02, epochs=6, optimizer="lookahead_radam"),
}

OF_SAMPLING = {
    "balanced": Recipe(lr=0.02, epochs=6, bags_per_step=2, sampler="balanced", bag_patches=5),
    "few patches": Recipe(lr=0.02, epochs=6, bag_patches=5),
    "smoothed": Recipe(lr=0.02, epochs=6, label_smoothing=0.2),
    "warm-up": Recipe(lr=0.02, epochs=6, bags_per_step=2, warmup=4.5),
    "adamw": Recipe(lr=0.02, epochs=6, optimizer="adamw"),
}


def stopped_after(each: Learner, n_epochs: int, path: Path, identity: str) -> None:
    """Train, and leave only the file behind."""

    def save() -> None:
        if each.epoch == n_epochs:
            save_checkpoint(each, path, identity)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([each], SLIDES, InMemory(each.device), seed=7, after_epoch=save)


def bits(each: Learner) -> list[bytes]:
    books = [repr(progress.as_dict()).encode() for progress in each.progress]
    return books + [values.cpu().numpy().tobytes() for values in each.best.values()]
