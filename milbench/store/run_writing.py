"""Run writing: all that changes a run folder, each file and each trial put in place by one rename.

A process that is killed in between leaves what was there before, and perhaps something in `partial/`. `run.py` draws the
folder and reads it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from milbench.store.claims import claimed
from milbench.store.files import inside, json_bytes, replacing_folder, temporary_name, write_atomically, writing
from milbench.store.leftovers import delete, leftovers
from milbench.store.question import Asked, Question, StaleTrial, asked_to_json
from milbench.store.run import RUN_FORMAT, Run
from milbench.store.run_folder import (
    CLAIMS,
    CONFIG,
    DATASETS,
    ENVIRONMENT,
    FAILURES,
    LABELS,
    LOCKS,
    PARTIAL,
    PLAN,
    QUESTIONS,
    SPLITS,
    TRIALS,
)
from milbench.store.trial import StoredTrial, copy_trial, fill_trial_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import pandas as pd

FOLDERS_AT_THE_START = (TRIALS, FAILURES, LOCKS, SPLITS, LABELS, PARTIAL)


def write_header(
    run: Run,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    datasets: Mapping[str, Any],
    plan: Mapping[str, str],
    questions: Mapping[str, Question] | None = None,
) -> None:
    """Describe the run; datasets and planned trials add to those that earlier calls left.

    A question takes the place of the dataset's former one; trials that do not answer it are stale from then on.

    Raises
    ------
    StoreError : the folder cannot be written.
    """
    with described(run):
        write_atomically(run.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False).encode())
        write_atomically(run.path / ENVIRONMENT, json_bytes({**environment, "run_format": RUN_FORMAT}))
        asked = run.asked()  # of an older folder it follows from what is overwritten here
        now = {
            name: asked[name].then(question) if name in asked else Asked(question)
            for name, question in (questions or {}).items()
        }
        write_atomically(run.path / DATASETS, json_bytes({**Run(run.path).datasets, **datasets}))
        write_atomically(run.path / PLAN, json_bytes({**run.planned(), **plan}))
        write_atomically(run.path / QUESTIONS, json_bytes(asked_to_json({**asked, **now})))
        run.forget_header()


@contextmanager
def described(run: Run) -> Iterator[None]:
    """For the length of the block this process alone writes the header; its folders are there. Blocks may be nested.

    Raises
    ------
    StoreError : the folder cannot be written.
    """
    with writing(run.path):
        for folder in FOLDERS_AT_THE_START:
            inside(run.path, folder).mkdir(parents=True, exist_ok=True)
        with FileLock(inside(run.path, LOCKS, "header.lock"), is_singleton=True):  # so that blocks can be nested
            yield


def sweep(run: Run) -> None:
    """Delete what processes left in the folder that were killed; what the living write stays."""
    delete(leftovers(run.path))


def write_trial(
    run: Run,
    trial_id: str,
    info: Mapping[str, Any],
    predictions: pd.DataFrame,
    history: pd.DataFrame,
    weights: Mapping[str, np.ndarray[Any, Any]] | None,
) -> None:
    """Put a finished trial in place by one rename; a damaged folder of that name gives way.

    Raises
    ------
    StoreError : the disk is full or the folder cannot be written.
    """
    with writing(run.path), replacing_folder(run.trial_folder(trial_id), _partial(run, info["key"])) as folder:
        fill_trial_folder(folder, {**info, "id": trial_id}, predictions, history, weights)


def adopt(run: Run, trial: StoredTrial) -> None:
    """Put another run's finished trial in place, byte for byte, by one rename; an intact one here stays.

    Raises
    ------
    StoreError : the disk is full or the folder cannot be written.
    """
    if run.trial(trial.id) is not None:
        return
    with writing(run.path), replacing_folder(run.trial_folder(trial.id), _partial(run, trial.info["key"])) as folder:
        copy_trial(trial, folder)


def delete_stale(run: Run, trial: StaleTrial) -> None:
    """Delete a trial of another question."""
    with writing(run.path):
        shutil.rmtree(run.trial_folder(trial.id))


def write_failure(run: Run, key: str, record: Mapping[str, Any]) -> None:
    """Record why a trial failed; a failure never counts as done."""
    with writing(run.path):
        write_atomically(run.failure_file(key), json_bytes(record))


def clear_failure(run: Run, key: str) -> None:
    """Forget a failure, because the trial is tried again or has succeeded."""
    with writing(run.path):
        run.failure_file(key).unlink(missing_ok=True)


@contextmanager
def claim(run: Run, key: str) -> Iterator[bool]:
    """Whether this process now holds the trial; the system lets go of it when the process dies."""
    lock = FileLock(inside(run.path, LOCKS, f"{key}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        # of a process that was killed while it wrote
        delete(list(inside(run.path, PARTIAL).glob(f"{key}-*")))
        with claimed(inside(run.path, CLAIMS), key):
            yield True
    finally:
        lock.release()


def _partial(run: Run, key: str) -> Path:
    """Folder in which a trial is written until it is whole; `claim` sweeps those that a killed process left."""
    return inside(run.path, PARTIAL, temporary_name(key))
