"""Endpoint: the kind of a task, and a label of any kind as one number.

=============  ====================================  =========================================================
kind           what a user declares                  label of a slide, float64; NaN = unknown
=============  ====================================  =========================================================
binary         nothing                               0 or 1
multiclass     classes, three or more                place of the class among `classes`, from 0
ordinal        grades in their order, three or more  place of the grade among `classes`, from 0
regression     transform, if any                     the value itself
survival       columns of time and event, unit       days: positive if the event was seen, negative if censored
=============  ====================================  =========================================================

One number per label keeps every table of labels one column per task. A time of 0 cannot be told from a censored one, so
labels hold no such time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["binary", "multiclass", "ordinal", "regression", "survival"]
Transform = Literal["none", "log1p"]

KINDS: tuple[Kind, ...] = get_args(Kind)
WITH_CLASSES = ("multiclass", "ordinal")
FEWEST_CLASSES = 3
"""Two classes are a binary task: one logit, and none of the cases that scikit-learn and others treat apart."""

DAYS_OF_A_MONTH = 365.25 / 12
DAYS: Mapping[str, float] = {"days": 1.0, "months": DAYS_OF_A_MONTH, "years": 365.25}
"""Days of a unit of time. Labels hold days."""


@dataclass(frozen=True)
class Endpoint:
    """What a task asks.

    Attributes
    ----------
    kind : one of `KINDS`.
    classes : of multiclass and ordinal tasks, as words; grades in their order. Empty for other kinds.
    transform : of a score, before it is standardised: "none" or "log1p".
    """

    kind: Kind = "binary"
    classes: tuple[str, ...] = ()
    transform: Transform = "none"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is not asked of the kind is left out."""
        values: dict[str, Any] = {"kind": self.kind}
        if self.kind in WITH_CLASSES:
            values["classes"] = list(self.classes)
        if self.kind == "regression":
            values["transform"] = self.transform
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Endpoint:
        """The endpoint that `as_dict` wrote down."""
        return cls(values["kind"], tuple(values.get("classes", ())), values.get("transform", "none"))


BINARY = Endpoint()

ALL_BINARY: Mapping[str, Endpoint] = {}
"""What tasks ask, by task, where no task is of another kind: a task that is not listed is binary."""


def signed_time(days: Floats, event: Floats) -> Floats:
    """Survival labels of times [n] in days and events [n] in {0, 1}; NaN where either is unknown."""
    known = ~(np.isnan(days) | np.isnan(event))
    return np.where(known, np.where(event == 1, days, -days), np.nan)


def time_of(labels: Floats) -> Floats:
    """Times in days of survival labels."""
    return np.abs(labels)


def event_of(labels: Floats) -> Floats:
    """1 where the event was seen, 0 where the patient was censored, NaN where unknown, of survival labels."""
    return np.where(np.isnan(labels), np.nan, (labels > 0).astype(float))
