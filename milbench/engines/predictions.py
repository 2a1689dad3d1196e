"""Predictions: what a trial's model says of slides, as the tables that are stored.

Trials of binary tasks alone have one row per slide and task. All others have one row per slide, task and answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.endpoints.answers import answers_of
from milbench.endpoints.endpoint import event_of, time_of
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.training.evaluation import Predictions
from milbench.training.side import Side
from milbench.trials.plan import Trial


def stored_predictions(
    role: str, slides: pd.DataFrame, trial: Trial, side: Side, row: int, said: Predictions
) -> pd.DataFrame:
    """The table of one role, of the trial in this row of `side` and `said`."""
    labels = side.labels(row)
    if not trial.endpoints:
        return predictions_table(role, slides, trial.tasks, labels, said.probabilities[row])
    return answers_table(role, slides, trial.tasks, trial.endpoints, labels, said.logits[row], said.probabilities[row])


def training_risks(trial: Trial, side: Side, row: int, said: Predictions) -> dict[str, dict[str, float]]:
    """Median, mean and standard deviation (ddof 0) of the training patients' risks, by survival task.

    A later cut into low and high risk, and a mean over folds, go by them: test patients never do.
    """
    found = {}
    for task, (name, each, own) in enumerate(zip(trial.tasks, trial.endpoints, trial.outputs.slices, strict=True)):
        if each.kind == "survival":
            known = ~np.isnan(side.labels(row)[:, task])
            risks = pd.Series(answers_of(each, said.logits[row][:, own])[known, 0])
            risks = risks.groupby(np.array(side.patient_ids, dtype=object)[known]).mean()
            found[name] = {
                "median": float(risks.median()), "mean": float(risks.mean()), "sd": float(risks.std(ddof=0)),
            }  # fmt: skip
    return found


def predictions_table(
    role: str,
    slides: pd.DataFrame,
    tasks: tuple[str, ...],
    labels: NDArray[np.float64],
    probabilities: NDArray[np.float64],
) -> pd.DataFrame:
    """Predictions in long form, slide by slide; `labels` and `probabilities` are [n, T]."""
    n_slides, n_tasks = probabilities.shape
    return pd.DataFrame(
        {
            "slide_id": np.repeat(slides["slide_id"].to_numpy(dtype=object), n_tasks),
            "patient_id": np.repeat(slides["patient_id"].to_numpy(dtype=object), n_tasks),
            "role": role,
            "task": np.tile(np.array(tasks, dtype=object), n_slides),
            "target": labels.ravel(),
            "probability": probabilities.ravel(),
        }
    )


def answers_table(
    role: str,
    slides: pd.DataFrame,
    tasks: tuple[str, ...],
    endpoints: Sequence[FittedEndpoint],
    labels: NDArray[np.float64],
    logits: NDArray[np.float32],
    probabilities: NDArray[np.float64],
) -> pd.DataFrame:
    """Predictions with one row per slide, task and answer, for trials that have a task of another kind than binary.

    Parameters
    ----------
    labels : [n, T].
    logits, probabilities : [n, W], the second the sigmoid of the first.
    """
    outputs = Outputs(endpoints)
    values = [
        probabilities[:, own] if each.kind == "binary" else answers_of(each, logits[:, own])
        for each, own in zip(endpoints, outputs.slices, strict=True)
    ]
    counts = [len(each.answers) for each in endpoints]
    is_survival = np.array([each.kind == "survival" for each in endpoints])
    times = np.where(is_survival, time_of(labels), labels)
    events = np.where(is_survival, event_of(labels), np.nan)
    n_slides, n_rows = len(slides), sum(counts)
    return pd.DataFrame(
        {
            "slide_id": np.repeat(slides["slide_id"].to_numpy(dtype=object), n_rows),
            "patient_id": np.repeat(slides["patient_id"].to_numpy(dtype=object), n_rows),
            "role": role,
            "task": np.tile(np.repeat(np.array(tasks, dtype=object), counts), n_slides),
            "target": np.repeat(times, counts, axis=1).ravel(),
            "event": np.repeat(events, counts, axis=1).ravel(),
            "answer": np.tile(np.array([name for each in endpoints for name in each.answers], dtype=object), n_slides),
            "prediction": np.concatenate(values, axis=1).ravel(),
        }
    )
