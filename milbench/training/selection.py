"""Selection: the history of one trial and its strictly best epoch so far, which the learner keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from milbench.trials.recipe import Recipe


class Epoch(NamedTuple):
    """One row of the history; `val_auroc` is the validation score, which is the mean AUROC where all tasks are binary."""

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_auroc: float


ADDED_LATER = ("task_losses", "task_weights", "cox_steps_without_event")


@dataclass
class TrialProgress:
    """How far one trial has come.

    As in the official code the best AUROC starts at 0. So the first epoch wins ties, and an undefined AUROC never
    wins. If no epoch wins (a validation side with one class, or `select_after` of a short training), the last epoch is kept.

    Attributes
    ----------
    history : one row per epoch.
    score : of the kept epoch; None while no epoch has won.
    epoch, since : the kept epoch, and the epoch that patience counts from.
    failure : why the trial was given up; "" if it was not.
    task_losses, task_weights : mean training loss, and weight, by epoch and task, where weights of tasks move.
    cox_steps_without_event : steps in which a Cox task had no event and so was not learned, by Cox task.
    """

    history: list[Epoch] = field(default_factory=list)
    score: float | None = None
    epoch: int = 0
    since: int = 0
    failure: str = ""
    task_losses: list[list[float]] = field(default_factory=list)
    task_weights: list[list[float]] = field(default_factory=list)
    cox_steps_without_event: list[int] = field(default_factory=list)

    def consider(self, row: Epoch, recipe: Recipe) -> bool:
        """Whether the weights of this epoch, which is now booked, are the best so far."""
        self.history.append(row)
        if self.score is None:
            self.epoch = row.epoch
        if not recipe.can_select(row.epoch):
            self.since = row.epoch
            return False
        score = row.val_auroc if recipe.select_by == "val_auroc" else -row.val_loss
        lowest = 0.0 if recipe.select_by == "val_auroc" else -np.inf
        if not score > (lowest if self.score is None else self.score):
            return False
        self.score, self.epoch, self.since = score, row.epoch, row.epoch
        return True

    def is_out_of_patience(self, recipe: Recipe) -> bool:
        """Whether training ends here, before the recipe's last epoch."""
        last = self.history[-1].epoch
        return recipe.patience is not None and last - self.since > recipe.patience

    def rule(self, recipe: Recipe) -> str:
        """The rule that chose the epoch, or why none could."""
        if self.score is not None:
            return recipe.select_by
        could = any(recipe.can_select(row.epoch) for row in self.history)
        return f"last epoch ({recipe.select_by} undefined)" if could else "last epoch (select_after leaves no other)"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint; what came later is left out where it is empty, as earlier releases know it."""
        values = {**asdict(self), "history": [list(row) for row in self.history]}
        return {key: value for key, value in values.items() if value or key not in ADDED_LATER}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialProgress:
        """The progress that `as_dict` wrote down."""
        return cls(**{**values, "history": [Epoch(*row) for row in values["history"]]})


def diverged(loss: float, epoch: int) -> str:
    """Why a trial is given up whose mean training loss in an epoch, counted from 0, is no finite number."""
    return (
        f"the training loss became {loss} in epoch {epoch + 1}. "
        "Lower trainer.lr, or scale the features (feature_scaling: standard)."
    )
