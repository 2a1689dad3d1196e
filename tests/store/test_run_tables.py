"""Labels of a run: 0 and 1 of binary tasks, one number of others, and nothing else."""

import numpy as np
import pytest

from milbench.store.run_tables import labels_from

ENDPOINTS = {
    "grade": {"kind": "ordinal", "classes": ["a", "b", "c"]},
    "HRD": {"kind": "regression", "transform": "none"},
    "OS": {"kind": "survival"},
}


def table(task: str, *labels: str) -> str:
    return "\n".join([f"slide_id,patient_id,{task}", *(f"s{i},p{i},{label}" for i, label in enumerate(labels)), ""])


@pytest.mark.parametrize(
    ("task", "labels"), [("TP53", ("1.0", "", "0")), ("grade", ("2.0", "", "0.0")), ("HRD", ("-4.25", "", "1e3")), ("OS", ("300.5", "", "-12.0"))]
)  # fmt: skip
def test_labels_of_every_kind_read_back(task: str, labels: tuple[str, ...]) -> None:
    found = labels_from(table(task, *labels), "", ENDPOINTS)[task]
    expected = [float(label or "nan") for label in labels]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        ("TP53", "2", "expected 0, 1 or nothing"), ("grade", "3", "expected a whole number below 3"),
        ("grade", "0.5", "expected a whole number below 3"), ("HRD", "inf", "expected a number"),
        ("HRD", "high", "'high' of the regression task HRD"), ("OS", "0", "expected days, negative if censored"),
    ],
)  # fmt: skip
def test_what_no_label_can_be_is_refused(task: str, label: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels_from(table(task, label), "", ENDPOINTS)
