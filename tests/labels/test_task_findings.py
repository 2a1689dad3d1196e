"""What the labels of all slides tell about a task of any kind."""

import numpy as np
import pandas as pd
import pytest

from milbench.endpoints.endpoint import Endpoint
from milbench.labels import contradictions, one_class_tasks

CLASSES, TIMES, SCORES = Endpoint("multiclass", ("a", "b", "c")), Endpoint("survival"), Endpoint("regression")


def slides_of(*labels: float) -> pd.DataFrame:
    """Two slides of patient p, one of each other."""
    names = ["p", "p", "q", "r", "s", "t"][: len(labels)]
    return pd.DataFrame({"slide_id": list("abcdef")[: len(labels)], "patient_id": names, "x": labels})


@pytest.mark.parametrize(
    ("endpoint", "labels"), [(CLASSES, (0, 2, 1)), (TIMES, (5, -5, 7)), (TIMES, (5, 6, 7)), (SCORES, (0.1, 0.2, 3))]
)
def test_slides_of_one_patient_that_differ_are_named_and_what_training_does(
    endpoint: Endpoint, labels: tuple[float, ...]
) -> None:
    found = contradictions(slides_of(*labels), ["x"], {"x": endpoint})
    assert [finding.what for finding in found] == ["x: 1 patient has contradictory labels on their slides (p)"]
    assert found[0].fix.startswith("Training takes each slide's own label")
    of_bags = contradictions(slides_of(*labels), ["x"], {"x": endpoint}, joined=True)
    assert of_bags[0].fix == "The bag of all slides takes the first known label. Decide on one label per patient."


@pytest.mark.parametrize(
    ("endpoint", "labels", "told"),
    [
        (CLASSES, (0, 0, 1, 1, 2), ["x: one patient only has a, and one c: such a class stands on one side of every fold"]),
        (CLASSES, (1, 1, 1, 1, np.nan), ["x: only one class among the known labels, so it cannot be learned"]),
        (TIMES, (-1, -1, -2, -3), ["x: no event among the known labels, so it cannot be learned"]),
        (TIMES, (-1, -1, 2, -3), []),
        (SCORES, (2, 2, 2, np.nan), ["x: all known values are the same, so it cannot be learned"]),
        (SCORES, (2, 2, 3, np.nan), []),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_learned_and_a_class_of_one_patient_are_warned_of(
    endpoint: Endpoint, labels: tuple[float, ...], told: list[str]
) -> None:
    assert [finding.what for finding in one_class_tasks(slides_of(*labels), ["x"], {"x": endpoint})] == told
