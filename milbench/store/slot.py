"""Slot: a trial's place in the run's grid, as its name says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from milbench.names import folder_name

ALL_TASKS = "all"


class Slot(NamedTuple):
    """A place in the grid: "digits/amil/has_0/fold0-seed42".

    Attributes
    ----------
    model : its true name, not that of its folder.
    group : the task by its true name, or "all" for a model of all tasks.
    trial_id : the trial that the newest plan puts there.
    """

    dataset: str
    model: str
    group: str
    fold: int
    seed: int
    trial_id: str


def slot_name(dataset: str, model: str, tasks: Sequence[str], fold: int, seed: int) -> str:
    """Readable name of a place in the grid, such as "digits/amil/has_0/fold0-seed42", made of names that folders can have."""
    group = ALL_TASKS if len(tasks) > 1 else folder_name(tasks[0])
    return f"{dataset}/{folder_name(model)}/{group}/fold{fold}-seed{seed}"


def slot_of(name: str, trial_id: str, true_names: Mapping[str, str] | None = None) -> Slot:
    """The slot whose name `slot_name` has made; `true_names` of models and tasks by their folders, where they differ."""
    dataset, *folders, last = name.split("/")
    model, group = ((true_names or {}).get(folder, folder) for folder in folders)
    fold, _, seed = last.partition("-")
    return Slot(dataset, model, group, int(fold.removeprefix("fold")), int(seed.removeprefix("seed")), trial_id)
