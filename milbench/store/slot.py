"""Slot: a trial's place in the run's grid, as its name says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ALL_TASKS = "all"


class Slot(NamedTuple):
    """A place in the grid: "digits/amil/has_0/fold0-seed42".

    Attributes
    ----------
    group : the task, or "all" for a model of all tasks.
    trial_id : the trial that the newest plan puts there.
    """

    dataset: str
    model: str
    group: str
    fold: int
    seed: int
    trial_id: str


def slot_name(dataset: str, model: str, tasks: Sequence[str], fold: int, seed: int) -> str:
    """Readable name of a place in the grid, such as "digits/amil/has_0/fold0-seed42"."""
    return f"{dataset}/{model}/{ALL_TASKS if len(tasks) > 1 else tasks[0]}/fold{fold}-seed{seed}"


def slot_of(name: str, trial_id: str) -> Slot:
    """The slot whose name `slot_name` has made."""
    dataset, model, group, last = name.split("/")
    fold, _, seed = last.partition("-")
    return Slot(dataset, model, group, int(fold.removeprefix("fold")), int(seed.removeprefix("seed")), trial_id)
