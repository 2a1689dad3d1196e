"""Written labels: the numbers of a task as cells of a table, and what cohort.yaml must say so that they are read back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import pandas as pd

from milbench.endpoints.endpoint import WITH_CLASSES, Endpoint, event_of, time_of


class Written(NamedTuple):
    """Columns of a task by name, and its entry in `tasks:`."""

    columns: dict[str, pd.Series]
    said: dict[str, Any]


def written_task(task: str, labels: pd.Series, endpoint: Endpoint, *, taken: Collection[str]) -> Written:
    """The labels as cells: classes as words, survival as a time in days and an event.

    Parameters
    ----------
    taken : names that no new column may have.
    """
    if endpoint.kind == "binary":
        return Written({task: labels.astype("Int64")}, {"kind": "binary"})
    if endpoint.kind in WITH_CLASSES:
        words = labels.map(lambda place: endpoint.classes[int(place)], na_action="ignore")
        return Written({task: words}, endpoint.as_dict())
    if endpoint.kind == "regression":
        return Written({task: labels}, endpoint.as_dict())
    time, event = (_free(f"{task}_{part}", taken) for part in ("days", "event"))
    numbers = labels.to_numpy(dtype=float)
    columns = {
        time: pd.Series(time_of(numbers), index=labels.index),
        event: pd.Series(event_of(numbers), index=labels.index).astype("Int64"),
    }
    return Written(columns, {"kind": "survival", "time": time, "event": event, "unit": "days"})


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name
