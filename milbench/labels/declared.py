"""Declared task: what cohort.yaml says of a task: its kind, the columns that it is read from, its classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from milbench.endpoints.endpoint import Kind, Transform

KEYS: Mapping[Kind, tuple[str, ...]] = {
    "binary": ("column",),
    "multiclass": ("column", "classes"),
    "ordinal": ("column", "classes"),
    "regression": ("column", "transform"),
    "survival": ("time", "event", "censored", "event_value", "unit"),
}
"""What may be said of a task, by its kind."""


@dataclass(frozen=True)
class Declared:
    """A task as the user declares it; empty = not said.

    Attributes
    ----------
    kind : of the task.
    column : of all kinds but survival: the column of the table; empty = the task's own name.
    classes : of multiclass and ordinal tasks; grades in their order.
    transform : of a score.
    time, unit : column of times, and "days", "months" or "years".
    event : column that tells whether the event was seen.
    censored : column that tells whether the patient was censored; in place of `event`.
    event_value : cells of that column that say that the event was seen.
    """

    kind: Kind = "binary"
    column: str = ""
    classes: tuple[str, ...] = ()
    transform: Transform = "none"
    time: str = ""
    event: str = ""
    censored: str = ""
    event_value: tuple[str, ...] = ()
    unit: str = ""

    def columns(self, task: str) -> tuple[str, ...]:
        """Columns that the table must have."""
        if self.kind == "survival":
            return tuple(name for name in (self.time, self.event, self.censored) if name)
        return (self.column or task,)


BINARY_TASK = Declared()
