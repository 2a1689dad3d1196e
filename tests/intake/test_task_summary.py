"""One line per task, counted in patients."""

import numpy as np
import pandas as pd
import pytest

from milbench.endpoints.endpoint import Endpoint
from milbench.intake.task_summary import task_summary


@pytest.mark.parametrize(
    ("endpoint", "labels", "line"),
    [
        (Endpoint("ordinal", ("G1", "G2", "G3")), [0, 2, 0, np.nan], "ordinal; 2 patients: G1 1, G2 0, G3 1"),
        (Endpoint("survival"), [10, 10, -40, -20],
         "survival; 3 patients: 1 events, 2 censored; median follow-up of the censored 30 days"),
        (Endpoint("survival"), [10, 10, 5, np.nan], "survival; 2 patients: 2 events, 0 censored"),
        (Endpoint("regression", transform="log1p"), [1, 1, 2, 9],
         "regression, learned as log1p; 3 patients: 1 to 9, mean 4, SD 3.559, skewness 0.7"),
        (Endpoint("regression"), [np.nan] * 4, "regression; no patient has a known label"),
    ],
)  # fmt: skip
def test_a_task_in_one_line(endpoint: Endpoint, labels: list[float], line: str) -> None:
    slides = pd.DataFrame({"patient_id": ["p", "p", "q", "r"], "x": labels})
    if endpoint.kind == "ordinal":
        slides["patient_id"] = ["p", "q", "p", "r"]
    assert task_summary(slides, "x", endpoint) == line
