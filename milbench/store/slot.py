"""Slot: a trial's place in the run's grid, as its name says it. Names from files are parsed here and made anew."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from milbench.names import folder_name, is_folder_name

ALL_TASKS = "all"

HIGHEST_FOLD, HIGHEST_SEED = 10**6, 2**64 - 1

_LAST = re.compile(
    r"fold(0|[1-9][0-9]{0,6})-seed(-?(?:0|[1-9][0-9]{0,19}))(?:-config(0|[1-9][0-9]{0,6})(?:-epochs([1-9][0-9]{0,6}))?)?",
    flags=re.ASCII,
)
_DIGITS = re.compile(r"[0-9a-f]{8}", flags=re.ASCII)


class Slot(NamedTuple):
    """A place in the grid: "digits/amil/has_0/fold0-seed42".

    Attributes
    ----------
    model : its true name, not that of its folder.
    group : the task by its true name, or "all" for a model of all tasks.
    trial_id : the trial that the newest plan puts there.
    configuration : number of the settings that it tries; None if it is no trial of a search.
    """

    dataset: str
    model: str
    group: str
    fold: int
    seed: int
    trial_id: str
    configuration: int | None = None


def slot_name(
    dataset: str, model: str, tasks: Sequence[str], fold: int, seed: int, search: Mapping[str, Any] | None = None
) -> str:
    """Readable name of a place in the grid, such as "digits/amil/has_0/fold0-seed42", made of names that folders can have.

    Parameters
    ----------
    search : of a trial of a search: its configuration, and its epochs if they are fewer than the recipe's.
    """
    group = ALL_TASKS if len(tasks) > 1 else folder_name(tasks[0])
    tried = f"-config{search['configuration']}" if search else ""
    shorter = f"-epochs{search['epochs']}" if search and "epochs" in search else ""
    return f"{dataset}/{folder_name(model)}/{group}/fold{fold}-seed{seed}{tried}{shorter}"


def slot_of(name: str, trial_id: str, true_names: Mapping[str, str] | None = None) -> Slot:
    """The slot whose name `slot_name` has made; `true_names` of models and tasks by their folders, where they differ.

    Raises
    ------
    ValueError : `slot_name` makes no such name.
    """
    dataset, *folders, last = slot_parts(name)
    model, group = ((true_names or {}).get(folder, folder) for folder in folders)
    fold, seed, configuration = _numbers(last)
    return Slot(dataset, model, group, fold, seed, trial_id, configuration)


def slot_parts(name: str) -> tuple[str, str, str, str]:
    """The four folders that a slot's name consists of: dataset, model, task and "fold0-seed42".

    Raises
    ------
    ValueError : `slot_name` makes no such name, because a part is missing or cannot name a folder.
    """
    parts = name.split("/")
    if len(parts) != 4 or not all(map(is_folder_name, parts)):
        raise ValueError(f"{ascii(name)[:200]} is no trial's place; expected DATASET/MODEL/TASK/fold0-seed42")
    _numbers(parts[3])
    dataset, model, group, last = parts
    return dataset, model, group, last


def id_parts(trial_id: str) -> tuple[str, str, str, str]:
    """The four folders of a trial below `trials/`: those of its slot, the last with the first digits of its key.

    Raises
    ------
    ValueError : the id is none that milbench makes.
    """
    slot, _, digits = trial_id.rpartition("-")
    if not _DIGITS.fullmatch(digits):
        raise ValueError(f"{ascii(trial_id)[:200]} is no trial; expected DATASET/MODEL/TASK/fold0-seed42-1f3a9c02")
    dataset, model, group, last = slot_parts(slot)
    return dataset, model, group, f"{last}-{digits}"


def trial_id_of(record: Mapping[str, Any]) -> str:
    """The id of the trial that a stored record describes."""
    slot = slot_name(
        record["dataset"], record["model"], record["tasks"], record["fold"], record["seed"], record.get("search")
    )
    return f"{slot}-{record['key'][:8]}"


def _numbers(last: str) -> tuple[int, int, int | None]:
    match = _LAST.fullmatch(last)
    if match is None or int(match[1]) > HIGHEST_FOLD or abs(int(match[2])) > HIGHEST_SEED:
        raise ValueError(f"{ascii(last)[:200]} names no fold and seed; expected for example fold0-seed42")
    return int(match[1]), int(match[2]), None if match[3] is None else int(match[3])
