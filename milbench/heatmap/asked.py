"""Asked: what one row of a model's maps is about: a task, or one class of a multiclass task.

=============  ==============================  ================================
kind           a higher answer means           slides can be chosen as
=============  ==============================  ================================
binary         positive                        top-tp, top-fp, top-fn, top-tn
multiclass     the class                       the same, of the class
ordinal        a higher expected grade         highest, lowest
regression     a higher value                  highest, lowest
survival       a higher risk                   highest, lowest
=============  ==============================  ================================
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.endpoints.answers import answers_of
from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.outputs import Outputs
from milbench.errors import UsageError, unknown_name


class Asked(NamedTuple):
    """What a map shows the evidence for; `class_name` is empty unless the task is multiclass."""

    task: str
    endpoint: Endpoint
    class_name: str = ""

    @property
    def title(self) -> str:
        """In tables and pictures: the task, or "subtype = Basal"."""
        return f"{self.task} = {self.class_name}" if self.class_name else self.task

    @property
    def has_classes(self) -> bool:
        """Whether the answer is a probability, and a slide is positive or not."""
        return self.endpoint.kind in ("binary", "multiclass")

    def is_positive(self, label: float) -> bool:
        """Whether a slide of this label is what the map looks for; False for tasks without classes."""
        if self.endpoint.kind == "multiclass":
            return label == self.endpoint.classes.index(self.class_name)
        return self.endpoint.kind == "binary" and label == 1

    def told(self, answer: float) -> str:
        """The answer as a picture shows it."""
        word = {"ordinal": "grade", "regression": "value", "survival": "risk"}.get(self.endpoint.kind, "p")
        return f"{word} = {answer:.2f}" if word != "value" else f"value = {answer:.4g}"


def asked_of(tasks: Sequence[str], outputs: Outputs) -> tuple[Asked, ...]:
    """What each row of a model's maps is about."""
    return tuple(Asked(tasks[task], outputs.endpoints[task].endpoint, name) for task, name in outputs.maps)


def chosen_class(task: str, endpoint: Endpoint, class_name: str | None) -> Asked:
    """The task with the class that is meant; the first class if none is named.

    Raises
    ------
    UsageError : the task has no such class, or no classes to choose from.
    """
    if endpoint.kind != "multiclass":
        if class_name is not None:
            raise UsageError(
                f"--class {class_name}: task {task} is {endpoint.kind}; only multiclass tasks have a map per class."
            )
        return Asked(task, endpoint)
    if class_name is not None and class_name not in endpoint.classes:
        raise unknown_name(f"class of {task}", class_name, endpoint.classes)
    return Asked(task, endpoint, class_name or endpoint.classes[0])


def answers_by_row(
    outputs: Outputs, logits: NDArray[np.float32], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Answer [R] to what each row asks, of one bag's logits [W] and their sigmoids [W]: the probability, or the first answer."""
    rows: list[float] = []
    for endpoint, own in zip(outputs.endpoints, outputs.slices, strict=True):
        if endpoint.kind == "binary":
            rows.append(float(probabilities[own][0]))
        else:
            answers = answers_of(endpoint, logits[None, own])[0]
            rows += list(answers) if endpoint.kind == "multiclass" else [answers[0]]
    return np.array(rows)


def label_in_words(endpoint: Endpoint, label: float) -> str:
    """A label as a heading shows it."""
    if isnan(label):
        return "unknown"
    if endpoint.classes:
        return endpoint.classes[int(label)]
    if endpoint.kind == "survival":
        return f"{'event' if label > 0 else 'censored'} at {abs(label):,.0f} days"
    return f"{label:.0f}" if endpoint.kind == "binary" else f"{label:.4g}"
