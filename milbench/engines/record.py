"""Record: what is said of a trial that has ended, in its trial.json or in the file of its failure."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from milbench.engines.cost import cost_record, multiply_adds
from milbench.machine.peak_memory import peak_bytes
from milbench.models import MILModel
from milbench.training.selection import TrialProgress
from milbench.trials.plan import Trial
from milbench.visible import shortened


@dataclass(frozen=True)
class Measured:
    """Time and energy that one trial took of its pass.

    Attributes
    ----------
    load_seconds, train_seconds, wall_seconds, step_seconds : of the one trial; what trials do together counts in equal
        parts.
    inference_seconds : [n] one per test slide.
    energy_joules : the trial's part of what the device used; None if the device does not tell.
    stack : number of trials that took their steps together.
    shortage : how steps shrank because memory was short; "" if they did not.
    """

    load_seconds: float
    train_seconds: float
    wall_seconds: float
    step_seconds: float
    inference_seconds: NDArray[np.float64]
    energy_joules: float | None
    stack: int
    shortage: str


def trial_record(
    trial: Trial,
    model: MILModel,
    progress: TrialProgress,
    measured: Measured,
    *,
    n_slides: Mapping[str, int],
    training_risks: Mapping[str, Mapping[str, float]] | None = None,
    device: torch.device,
    threads: int,
    kernels: str = "plain",
    cuda_graphs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Contents of trial.json, without the checksums."""
    return {
        "key": trial.key,
        "status": "done",
        **({"training_risk": dict(training_risks)} if training_risks else {}),
        **_of_losses(trial, progress),
        **trial.identity(),
        "dataset": trial.dataset,
        "model_title": model.info.title,
        "model_tasks": model.info.tasks,
        "protocol": trial.recipe.name,
        "source_sha256": trial.source_sha256,
        "chosen_epoch": progress.epoch,
        "selected_by": progress.rule(trial.recipe).replace(
            "val_auroc", "val_score" if trial.endpoints else "val_auroc"
        ),
        "n_epochs": len(progress.history),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "n_slides": dict(n_slides),
        "stack": measured.stack,
        "memory": measured.shortage,
        "load_seconds": measured.load_seconds,
        "train_seconds": measured.train_seconds,
        "wall_seconds": measured.wall_seconds,
        "peak_bytes": peak_bytes(device),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": threads,
        **({"kernels": kernels} if kernels != "plain" and device.type == "cuda" else {}),  # elsewhere they do nothing
        **({"cuda_graphs": dict(cuda_graphs)} if cuda_graphs is not None else {}),
        "torch": torch.__version__,
        "host": socket.gethostname(),
        "finished_at": _now(),
        "cost": cost_record(
            multiply_adds=multiply_adds(type(model), model.in_features, model.outputs, trial.hyperparameters),
            inference_seconds=measured.inference_seconds,
            n_training_bags=n_slides["train"],
            n_epochs=len(progress.history),
            step_seconds=measured.step_seconds,
            train_seconds=measured.train_seconds,
            energy_joules=measured.energy_joules,
        ),
    }


def _of_losses(trial: Trial, progress: TrialProgress) -> dict[str, Any]:
    """What became of weights of tasks that move, and of steps that could not teach a Cox task; empty for other trials."""
    found: dict[str, Any] = {}
    if progress.task_weights:
        found["task_weights"] = dict(zip(trial.tasks, progress.task_weights[progress.epoch], strict=True))
    if progress.cox_steps_without_event:
        cox = [task for task, endpoint in zip(trial.tasks, trial.endpoints, strict=True) if endpoint.loss == "cox"]
        found["cox_steps_without_event"] = dict(zip(cox, progress.cox_steps_without_event, strict=True))
    return found


LONGEST_MESSAGE, LONGEST_TRACEBACK = 2000, 50_000
"""Characters of what a model raises that are kept: an error that repeats a tensor has millions, in one line of a terminal."""


def failure_record(trial: Trial, error: BaseException) -> dict[str, Any]:
    """Contents of a failed trial's file in failures/."""
    return {
        "id": trial.id,
        "identity": {"dataset": trial.dataset, **trial.identity()},
        "type": type(error).__name__,
        "message": shortened(str(error), LONGEST_MESSAGE),
        "traceback": shortened("".join(traceback.format_exception(error)), LONGEST_TRACEBACK),
        "peak_bytes": peak_bytes(torch.device("cpu")),
        "finished_at": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
