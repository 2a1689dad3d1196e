"""Drawn: the bootstraps of one dataset, side by side in copies of this process.

::

    tasks ──┬─ crossed draws of task 0, of task 1, ...   [B, M] each
            └─ draws of the whole cohort                 [B, M]
                     └─ written into memory that all copies share

Each has a generator of its own, so the draws do not depend on who computes them.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.process.cores import usable_cores
from milbench.process.forked import Task, share_out
from milbench.stats.across import cohort_draws
from milbench.stats.crossed import crossed_draws, generator
from milbench.stats.grid import TaskScores

Floats = NDArray[np.float64]

WORTH_SHARING = 50_000_000
"""Draws times scores below which copies take longer to make than they save: a tenth of a second of drawing."""


class Drawn(NamedTuple):
    """Draws of one dataset.

    Attributes
    ----------
    by_task : [B, M] score of every model in every crossed draw; [0, M] where the task is too small.
    of_cohort : [B, M] mean over the tasks that count; [0, M] where all of them are too small.
    """

    by_task: Mapping[str, Floats]
    of_cohort: Floats


def drawn(
    dataset: str,
    tasks: Mapping[str, TaskScores],
    kept: Sequence[str],
    draws: int,
    seed: int,
    *,
    processes: int | None = None,
) -> Drawn:
    """Draws of every task, and of the mean over those that are `kept`.

    Parameters
    ----------
    tasks : by name, at least one.
    processes : how many draw side by side; None = one per core if there is enough to draw. The draws do not depend on it.
    """
    n_models = len(next(iter(tasks.values())).scores)
    large = [name for name, task in tasks.items() if not task.too_small]
    of_cohort = any(not tasks[name].too_small for name in kept)
    if processes is None:
        processes = usable_cores() if draws * sum(task.scores.size for task in tasks.values()) >= WORTH_SHARING else 1
    every = _shared((len(large) + of_cohort, draws, n_models), processes)
    todo = []
    if of_cohort:  # as long as several tasks, so it is begun first
        members = [tasks[name] for name in kept]
        todo.append(Task(dataset, partial(_write, every[-1], partial(_cohort, members, seed, dataset, draws))))
    for name, room in zip(large, every, strict=False):
        todo.append(Task(name, partial(_write, room, partial(_crossed, tasks[name], seed, dataset, name, draws))))
    share_out(todo, processes)
    none = np.empty((0, n_models))
    by_task = {**dict.fromkeys(tasks, none), **dict(zip(large, every, strict=False))}
    return Drawn(by_task, every[-1] if of_cohort else none)


def _cohort(tasks: Sequence[TaskScores], seed: int, dataset: str, draws: int) -> Floats:
    return cohort_draws(tasks, generator(seed, dataset), draws)


def _crossed(task: TaskScores, seed: int, dataset: str, name: str, draws: int) -> Floats:
    return crossed_draws(task, generator(seed, dataset, name), draws)


def _write(room: Floats, compute: Callable[[], Floats]) -> None:
    room[...] = compute()


def _shared(shape: tuple[int, ...], processes: int) -> Floats:
    """Room for numbers that copies of this process write into as well."""
    if processes == 1 or not np.prod(shape):
        return np.empty(shape)
    return np.frombuffer(mmap.mmap(-1, int(np.prod(shape)) * 8)).reshape(shape)
