"""One training in a notebook: the trial that `milbench run` would train, in this process and without a run folder.

It has the run's split, scaling, fitted endpoints, recipe and trainer, and so the run's weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from milbench.cohorts.cohort import Cohort
from milbench.datasets.source import CohortSource
from milbench.engines.computation import (
    RolePredictions,
    history_of,
    name_culprits,
    predict,
    predictions_of,
    set_up_process,
)
from milbench.engines.model_memory import neighbours_asked_for
from milbench.engines.prepared_group import PreparedGroup, new_group
from milbench.errors import MilbenchError, UsageError
from milbench.heatmap.trained import TrainedModel
from milbench.machine.hardware import resolve_device
from milbench.models import MILModel
from milbench.process.generators import generators_left_as_they_were
from milbench.process.shared_state import left_as_it_was
from milbench.registry import load_models, select
from milbench.runs.config import RunConfig, make_config
from milbench.runs.notebook import the_one
from milbench.runs.preparation import Entry, entry_of, examined, of_tasks, plan_request
from milbench.serving.cohort_features import CohortFeatures, held
from milbench.store.trial import as_answers
from milbench.training.precision import float32_products
from milbench.training.trainer import train
from milbench.trials.fits import Fits
from milbench.trials.job import Job, JobGroup
from milbench.trials.plan import Trial, make_plan


@dataclass(frozen=True, eq=False, repr=False)
class Training:
    """What a training leaves behind.

    Attributes
    ----------
    trial : what was trained: tasks, fold, seed, recipe and all arguments of the model.
    model : with the weights of the chosen epoch, in eval mode.
    epoch : the chosen one, from 0.
    history : one row per epoch, as `StoredTrial.history`.
    answers : of the validation and test slides, as `StoredTrial.answers`.
    """

    trial: Trial
    model: TrainedModel
    epoch: int
    history: pd.DataFrame
    answers: pd.DataFrame

    def __repr__(self) -> str:
        return f"Training({self.trial.id}: epoch {self.epoch + 1} of {len(self.history)} chosen)"


def fit(
    model: str | type[MILModel],
    cohort: Cohort,
    *,
    task: str | Sequence[str] | None = None,
    fold: int = 0,
    seed: int = 42,
    epochs: int | None = None,
    splits: str | os.PathLike[str] = "",
    protocol: str = "m4",
    precision: str = "float32",
    trainer: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    plugins: Sequence[str | os.PathLike[str]] = (),
    device: str = "auto",
    threads: int = 1,
    progress: bool = True,
) -> Training:
    """The training of one model on one fold of a cohort; nothing is written.

    The weights are those of the trial that `milbench run` trains with the same settings on the same device with the same
    number of threads. If the run trains several tasks in a stack, the last digits may differ.

    Parameters
    ----------
    model : a name that `milbench models` lists, or a class that `register_model` decorates.
    task : what it learns; None = the cohort's only task, or all tasks for a model of all tasks.
    epochs : short for ``trainer={"epochs": ...}``.
    splits : "kfold", "m4", "site" or a path; "" = as the cohort says.
    trainer, arguments : settings of the recipe, and constructor arguments of the model.
    plugins : Python files that register models.
    progress : show a bar in a terminal or notebook.

    Raises
    ------
    UsageError : an unknown name or setting, or several tasks for a model of one.
    DataError : unusable data, or a split that leaks.
    MilbenchError : the training diverged.
    """
    of_recipe = {**(trainer or {}), **({} if epochs is None else {"epochs": epochs})}
    name = model if isinstance(model, str) else _name_of(model)
    tasks = [task] if isinstance(task, str) else list(task or ())
    config = make_config(
        None,
        (),
        {
            "models": [name], "tasks": tasks, "folds": [fold], "seeds": [seed], "splits": os.fspath(splits),
            "protocol": protocol, "precision": precision, "trainer": of_recipe, "model": {name: dict(arguments or {})},
            "plugins": [os.fspath(plugin) for plugin in plugins], "engine": {"device": device, "threads": threads},
        },
    )  # fmt: skip
    return _trained(*_planned(config, name, cohort), config, progress=progress)


def _name_of(model: type[MILModel]) -> str:
    info = getattr(model, "info", None)
    if info is None or load_models().get(info.name) is not model:
        raise UsageError(
            f"{model.__qualname__} is no registered model. Decorate it with @register_model (docs/models.md), and give "
            "the class as it was last defined."
        )
    return str(info.name)


def _planned(config: RunConfig, name: str, cohort: Cohort) -> tuple[Entry, Trial]:
    """The cohort with its split, and the one trial that the configuration asks for."""
    known = load_models(Path(plugin) for plugin in config.plugins)
    (name,) = select("model", [name], known)
    entry = entry_of(CohortSource(name=cohort.name), cohort, config.splits)
    (entry,) = of_tasks([entry], config.tasks)
    entry, fits = examined(entry), Fits(entry.cohort, entry.split)
    trials = make_plan({name: known[name]}, [fits], plan_request(config))
    if not trials:
        raise UsageError("\n".join(map(str, fits.left_out())))
    chosen = the_one("task", f"{name} on {cohort.name}", [trial.tasks[0] for trial in trials], _task_of(trials))
    return entry, next(trial for trial in trials if trial.tasks[0] == chosen)


def _task_of(trials: Sequence[Trial]) -> str | None:
    return trials[0].tasks[0] if len(trials) == 1 else None


def _trained(entry: Entry, trial: Trial, config: RunConfig, *, progress: bool) -> Training:
    # a job without a run folder: nothing is written, and no other process computes it
    job = Job(
        Path(), trial, entry.source, tuple(Path(plugin) for plugin in config.plugins),
        threads=config.engine.threads, device=resolve_device(config.engine.device),
    )  # fmt: skip
    with left_as_it_was(), generators_left_as_they_were(), float32_products(trial.precision):
        set_up_process(job)
        features = held(entry.cohort, job.device)
        features.features.ask_for_layouts(neighbours_asked_for([JobGroup((job,))], entry.cohort.in_features))
        prepared = new_group(JobGroup((job,)), entry.split, features)
        with _bar(f"{trial.model}, fold {trial.fold}", trial.recipe.epochs, is_shown=progress) as advance:
            slides = entry.cohort.slides["slide_id"].tolist()
            train([prepared.learner], slides, features.features, seed=trial.seed, after_epoch=advance)
        return _result(trial, prepared, _predicted(prepared, features))


def _predicted(prepared: PreparedGroup, features: CohortFeatures) -> RolePredictions:
    """Predictions of the chosen weights; raises what the model raised."""
    name_culprits([prepared], features)
    (said,) = predict([prepared], features)
    if prepared.learner.error is not None:
        raise prepared.learner.error
    if (failure := prepared.learner.progress[0].failure) or said is None:
        raise MilbenchError(failure)
    return said


def _result(trial: Trial, prepared: PreparedGroup, said: RolePredictions) -> Training:
    learner = prepared.learner
    model = TrainedModel(trial.id, learner.model_of(0).cpu(), trial.tasks, trial.outputs, learner.scaler)
    rows = predictions_of(prepared, 0, said).reset_index(drop=True)
    (progress,) = learner.progress
    return Training(trial, model, progress.epoch, history_of(trial, progress), as_answers(rows))


@contextmanager
def _bar(text: str, epochs: int, *, is_shown: bool) -> Iterator[Callable[[], None]]:
    """A function to call after each epoch. A notebook shows the bar through ipywidgets, if they are installed."""
    console = Console()
    can_show = find_spec("ipywidgets") is not None if console.is_jupyter else console.is_terminal
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not (is_shown and can_show)) as progress:
        shown = progress.add_task(text, total=epochs)
        yield lambda: progress.advance(shown)
