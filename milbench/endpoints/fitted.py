"""Fitted endpoint: what the training patients of a fold decide about a task, as plain values.

It stands in the identity of a trial that has a task of any kind but binary. Validation and test sides never move it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milbench.endpoints.endpoint import BINARY, WITH_CLASSES, Endpoint, event_of, time_of

Floats = NDArray[np.float64]


LOSSES: Mapping[str, tuple[str, ...]] = {
    "binary": ("bce",),
    "multiclass": ("ce",),
    "ordinal": ("corn", "ce", "l1"),
    "regression": ("huber", "l1", "mse"),
    "survival": ("nll", "cox"),
}
"""Losses by kind, the usual one first."""


@dataclass(frozen=True)
class FittedEndpoint:
    """An endpoint as one fold's trials learn it.

    Attributes
    ----------
    endpoint : what is asked.
    loss : "bce"; "ce"; "corn", "ce" or "l1" for grades; "huber", "l1" or "mse" for scores; "nll" or "cox" for survival.
    edges : inner edges of the time bins in days, ascending, one fewer than bins; of "nll" alone.
    alpha : share by which censored patients count less in "nll".
    eps : smallest probability in "nll", as official codes clamp it; 0 = no clamp.
    center, scale : of a score after its transform: mean and standard deviation of the training patients.
    constant_loss : loss of the best constant answer on the training patients; the task's loss is divided by it.
    """

    endpoint: Endpoint = BINARY
    loss: str = "bce"
    edges: tuple[float, ...] = ()
    alpha: float = 0.0
    eps: float = 0.0
    center: float = 0.0
    scale: float = 1.0
    constant_loss: float = 1.0

    @property
    def kind(self) -> str:
        """Kind of the endpoint."""
        return self.endpoint.kind

    @property
    def has_classes(self) -> bool:
        """Whether labels are classes, which may be rare or frequent: two of a binary task, classes or grades."""
        return self.kind in ("binary", *WITH_CLASSES)

    @property
    def n_bins(self) -> int:
        """Number K of time bins."""
        return len(self.edges) + 1

    @property
    def width(self) -> int:
        """Number of logits that answer the task."""
        if self.loss == "ce":
            return len(self.endpoint.classes)
        if self.loss == "corn":
            return len(self.endpoint.classes) - 1
        return self.n_bins if self.loss == "nll" else 1

    @property
    def answers(self) -> tuple[str, ...]:
        """Names of what is stored of each slide, in order: the score that ranks slides first, except for classes."""
        if self.kind == "binary":
            return ("probability",)
        by_class = tuple(f"probability of {name}" for name in self.endpoint.classes)
        if self.kind == "multiclass":
            return by_class
        if self.kind == "ordinal":
            return ("expected grade", *by_class)
        if self.kind == "regression":
            return ("value",)
        days = [f"{edge:g}" for edge in self.edges]
        if len(set(days)) < len(days):  # edges that six digits do not tell apart
            days = [f"{edge!r}" for edge in self.edges]
        return ("risk", *(f"survival at {day} days" for day in days))

    @property
    def structure(self) -> dict[str, Any]:
        """What trials must share to take their steps together: the form of logits and loss, not what was fitted."""
        return {"kind": self.kind, "loss": self.loss, "width": self.width, "alpha": self.alpha, "eps": self.eps}

    def targets(self, labels: Floats) -> Floats:
        """What the loss compares logits with, one number per label [...]; NaN where unknown.

        binary, multiclass, ordinal: the label. Regression: the standardised value. Survival, "nll": the bin's number
        from 1, negative if censored; "cox": the label, signed days.
        """
        if self.kind == "regression":
            values = np.log1p(labels) if self.endpoint.transform == "log1p" else labels
            return (values - self.center) / self.scale
        if self.loss == "nll":
            bins = (
                np.searchsorted(np.array(self.edges), time_of(labels), side="right") + 1.0
            )  # [a, b): an edge opens its bin
            return np.where(np.isnan(labels), np.nan, np.where(event_of(labels) == 1, bins, -bins))
        return labels

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a trial's identity."""
        return {
            **self.endpoint.as_dict(),
            **{key: _plain(value) for key, value in asdict(self).items() if key != "endpoint"},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FittedEndpoint:
        """The endpoint that `as_dict` wrote down."""
        own = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        return cls(Endpoint.from_dict(values), **{**own, "edges": tuple(own.get("edges", ()))})


@dataclass(frozen=True)
class LossOptions:
    """How tasks that are not binary are learned; part of the recipe (`trainer.*`).

    Attributes
    ----------
    ordinal, regression, survival : loss by kind.
    bins : time bins K of "nll".
    alpha, eps : see `FittedEndpoint`.
    """

    ordinal: str = "corn"
    regression: str = "huber"
    survival: str = "nll"
    bins: int = 4
    alpha: float = 0.0
    eps: float = 0.0


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
