"""Asked: rows of maps, answers and words by kind of task."""

import numpy as np
import pytest

from milbench.endpoints.endpoint import BINARY, Endpoint
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.errors import UsageError
from milbench.heatmap.asked import Asked, answers_by_row, asked_of, chosen_class, label_in_words

SUBTYPE = Endpoint("multiclass", ("LumA", "Basal", "Her2"))
OS = Endpoint("survival")
OUTPUTS = Outputs(
    [FittedEndpoint(), FittedEndpoint(SUBTYPE, "ce"), FittedEndpoint(OS, "nll", edges=(100.0,)),
     FittedEndpoint(Endpoint("regression"), "huber", center=10.0, scale=2.0)]
)  # fmt: skip
TASKS = ("TP53", "subtype", "os", "tmb")


def test_a_multiclass_task_has_a_row_per_class_and_others_have_one() -> None:
    titles = [asked.title for asked in asked_of(TASKS, OUTPUTS)]
    assert titles == ["TP53", "subtype = LumA", "subtype = Basal", "subtype = Her2", "os", "tmb"]


def test_answers_stand_in_the_rows_of_the_maps() -> None:
    logits = np.array([0.0, *np.log([0.2, 0.5, 0.3]), 0.0, 0.0, 1.5], dtype=np.float32)
    answers = answers_by_row(OUTPUTS, logits, 1 / (1 + np.exp(-logits.astype(float))))
    np.testing.assert_allclose(answers, [0.5, 0.2, 0.5, 0.3, -(0.5 + 0.25), 13.0], rtol=1e-6)


def test_a_slide_is_positive_for_its_own_class_alone() -> None:
    basal = Asked("subtype", SUBTYPE, "Basal")
    assert [basal.is_positive(label) for label in (0.0, 1.0, 2.0, float("nan"))] == [False, True, False, False]
    assert not Asked("os", OS).is_positive(1.0)


@pytest.mark.parametrize(
    ("endpoint", "label", "text"),
    [(BINARY, 1.0, "1"), (SUBTYPE, 2.0, "Her2"), (OS, 1170.0, "event at 1,170 days"), (OS, -30.0, "censored at 30 days"),
     (Endpoint("regression"), 13.62, "13.62"), (SUBTYPE, float("nan"), "unknown")],
)  # fmt: skip
def test_labels_are_told_in_the_users_words(endpoint: Endpoint, label: float, text: str) -> None:
    assert label_in_words(endpoint, label) == text


def test_a_class_that_the_task_lacks_is_refused() -> None:
    assert chosen_class("subtype", SUBTYPE, None).class_name == "LumA"
    with pytest.raises(UsageError, match="Did you mean 'Basal'"):
        chosen_class("subtype", SUBTYPE, "basal")
    with pytest.raises(UsageError, match="task os is survival; only multiclass tasks have a map per class"):
        chosen_class("os", OS, "high")
