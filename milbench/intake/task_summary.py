"""Task summary: one line on the labels of a task, counted in patients, by its kind."""

from __future__ import annotations

import numpy as np
import pandas as pd

from milbench.endpoints.endpoint import WITH_CLASSES, Endpoint, event_of, time_of
from milbench.labels.scores import skewness


def task_summary(slides: pd.DataFrame, task: str, endpoint: Endpoint) -> str:
    """What the labels of a task are that is not binary; each patient counts with the first known label."""
    labels = slides.groupby("patient_id", sort=False)[task].first().dropna().to_numpy(dtype=float)
    if not len(labels):
        return f"{endpoint.kind}; no patient has a known label"
    if endpoint.kind in WITH_CLASSES:
        counts = [int((labels == place).sum()) for place in range(len(endpoint.classes))]
        shown = ", ".join(f"{name} {count}" for name, count in zip(endpoint.classes, counts, strict=True))
        return f"{endpoint.kind}; {len(labels)} patients: {shown}"
    return _of_times(labels) if endpoint.kind == "survival" else _of_scores(labels, endpoint)


def _of_times(labels: np.ndarray) -> str:
    n_events = int(event_of(labels).sum())
    followed, is_censored = time_of(labels), event_of(labels) == 0
    text = f"survival; {len(labels)} patients: {n_events} events, {len(labels) - n_events} censored"
    if not is_censored.any():
        return text
    return f"{text}; median follow-up of the censored {np.median(followed[is_censored]):.0f} days"


def _of_scores(labels: np.ndarray, endpoint: Endpoint) -> str:
    """Range and moments; the skewness is that of the values before a transform."""
    transform = "" if endpoint.transform == "none" else f", learned as {endpoint.transform}"
    return (
        f"regression{transform}; {len(labels)} patients: {labels.min():g} to {labels.max():g}, mean {labels.mean():.4g}, "
        f"SD {labels.std():.4g}, skewness {skewness(labels):.1f}"
    )
