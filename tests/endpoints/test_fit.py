"""What is fitted on training patients: bins by golden, the best constant by minimising the loss itself."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from places import GOLDEN
from scipy.optimize import minimize

from milbench.endpoints.endpoint import BINARY, Endpoint, signed_time
from milbench.endpoints.fit import Fit, fit, inner_edges, patient_labels
from milbench.endpoints.fitted import FittedEndpoint, LossOptions
from milbench.endpoints.losses import task_losses
from milbench.endpoints.outputs import Outputs
from milbench.errors import DataError

SURVIVAL = Endpoint("survival")
SCORE = Endpoint("regression")
GRADES = Endpoint("ordinal", ("low", "middle", "high"))
CLASSES = Endpoint("multiclass", ("a", "b", "c"))
NAN = float("nan")


def fitted(endpoint: Endpoint, labels: object, **options: object) -> Fit:
    return fit(endpoint, np.asarray(labels, dtype=float), LossOptions(**options), task="t")


def survival_labels(seed: int = 0, n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.ceil(rng.exponential(900, n)) * np.where(rng.random(n) < 0.5, 1, -1)


def least_loss(endpoint: FittedEndpoint, labels: np.ndarray) -> float:
    """Smallest mean loss over constant logits, found by minimising the loss that training uses."""
    outputs, targets = Outputs([endpoint]), torch.from_numpy(endpoint.targets(labels))

    def loss(logits: np.ndarray) -> float:
        constant = torch.from_numpy(logits)
        return float(torch.stack([task_losses(outputs, constant, target[None]) for target in targets]).mean())

    starts = (np.zeros(endpoint.width), np.full(endpoint.width, 0.5))
    results = [minimize(loss, start, method="Powell", options={"xtol": 1e-10, "ftol": 1e-14}) for start in starts]
    return min(result.fun for result in results)


def test_bins_and_placement_are_those_of_the_official_data_set_class() -> None:
    golden = json.loads((GOLDEN / "endpoints" / "bins.json").read_text())
    labels = signed_time(np.array(golden["time"]), np.array(golden["event"], dtype=float))
    endpoint = fitted(SURVIVAL, labels).fitted
    assert endpoint.edges == tuple(golden["mcat_edges"][1:-1])
    assert (np.abs(endpoint.targets(labels)) - 1).tolist() == golden["mcat_bin"]
    # (a, b] places the patients differently whose time is an edge, and no others
    other = np.abs(endpoint.targets(labels)) - 1 != golden["mmp_bin"]
    assert np.abs(labels)[other].tolist() == golden["differs_at_time"]


def test_times_outside_of_all_training_times_have_a_bin() -> None:
    endpoint = fitted(SURVIVAL, [10, 20, 30, 40, -25]).fitted
    assert endpoint.targets(np.array([0.5, -0.5, 1e6, -1e6])).tolist() == [1, -1, 4, -4]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(2, 8))
def test_every_bin_holds_an_event_and_every_edge_is_a_quantile(times: list[int], n_bins: int) -> None:
    events = np.array(times, dtype=float)
    edges = inner_edges(events, n_bins)
    assert len(edges) < n_bins
    assert all(((a <= events) & (events < b)).any() for a, b in pairwise([0, *edges, np.inf]))
    quantiles = np.quantile(events, np.arange(1, n_bins) / n_bins)
    assert all(np.isclose(edge, quantiles, rtol=1e-12).any() for edge in edges)


def test_an_edge_that_is_a_time_opens_the_bin_of_that_patient() -> None:
    days = np.arange(1, 12) * 365.25 / 12
    edges = inner_edges(days, 10)
    assert set(edges) <= set(days)


def test_heavy_ties_make_fewer_bins_and_a_note() -> None:
    endpoint, notes = fitted(SURVIVAL, [1, 1, 1, 1, 1, 2, 2, 6, -3])
    assert endpoint.edges == (2.0,)
    assert notes == (
        "task 't' (survival): 2 time bins instead of 4, because events of the 8 training patients with one lie at too few "
        "times",
    )


@pytest.mark.parametrize(
    ("endpoint", "labels", "options", "said"),
    [
        (SURVIVAL, [5, 5, 5, -9], {}, "cannot be cut into two time bins"),
        (SURVIVAL, [5, 5, 5, 5, 5, 9], {}, "cannot be cut into two time bins"),
        (SURVIVAL, [5, -5, -9], {}, "cannot be cut into two time bins"),
        (SURVIVAL, [-5, -9], {}, "all 2 training patients are censored"),
        (SURVIVAL, [-5, -9], {"survival": "cox"}, "all 2 training patients are censored"),
        (SURVIVAL, [-5, 9], {"survival": "cox"}, "no training patient was followed beyond an event"),
        (SURVIVAL, [0, 9], {}, "a time is 0"),
        (SURVIVAL, [NAN, NAN], {}, "no training patient has a known label"),
        (SCORE, [], {}, "no training patient has a known label"),
        (SCORE, [0.1] * 7, {}, "have the value 0.1"),
        (SCORE, [0, 0], {}, "have the value 0"),
        (SCORE, [1, np.inf], {}, "a label is infinite"),
        (Endpoint("regression", transform="log1p"), [3, -1], {}, "a value is -1, and log1p needs values above -1"),
        (CLASSES, [1, 1, NAN], {}, "all 2 training patients with a known label are 'b'"),
        (GRADES, [2, 2], {}, "are 'high'"),
        (CLASSES, [0, 3], {}, "a label is 3; expected a whole number from 0 to 2"),
        (GRADES, [0, 0.5], {}, "a label is 0.5; expected a whole number from 0 to 2"),
        (BINARY, [0, 2], {}, "a label is 2; expected a whole number from 0 to 1"),
    ],
)
def test_labels_that_cannot_teach_the_task_are_refused(
    endpoint: Endpoint, labels: list[float], options: dict[str, str], said: str
) -> None:
    with pytest.raises(DataError) as error:
        fitted(endpoint, labels, **options)
    assert said in str(error.value)
    assert str(error.value).startswith(f"task 't' ({endpoint.kind}): ")


def test_a_class_without_a_training_patient_is_noted() -> None:
    result = fitted(CLASSES, [0, 0, 2])
    assert result.notes == ("task 't' (multiclass): no training patient is 'b', so no model can learn to predict it",)
    assert result.fitted.width == 3


@pytest.mark.parametrize(("labels", "found"), [([1, 1, NAN], "all 2 known labels are 1"), ([NAN], "no label is known")])
def test_a_binary_task_with_one_class_is_learned_as_ever_and_noted(labels: list[float], found: str) -> None:
    result = fitted(BINARY, labels)
    assert result.fitted == FittedEndpoint()
    assert found in result.notes[0]


CASES = [
    (BINARY, [0, 0, 0, 1, NAN], {}),
    (CLASSES, [0, 0, 1, 2, 2, 2, 2], {}),
    (GRADES, [0, 0, 1, 2, 2, 2, 2], {"ordinal": "ce"}),
    (GRADES, [0, 0, 1, 2, 2, 2, 2], {"ordinal": "corn"}),
    (GRADES, [0, 0, 1, 2, 2, 2, 2], {"ordinal": "l1"}),
    (SCORE, [1, 2, 3, 5, 90.5], {"regression": "huber"}),
    (SCORE, [1, 2, 3, 5, 90.5], {"regression": "l1"}),
    (SCORE, [1, 2, 3, 5, 90.5], {"regression": "mse"}),
    (Endpoint("regression", transform="log1p"), [0, 2, 3, 5, 90.5], {}),
    (SURVIVAL, survival_labels(), {}),
    (SURVIVAL, survival_labels(), {"alpha": 0.4}),
    (SURVIVAL, survival_labels(), {"eps": 1e-7, "bins": 3}),
]


@pytest.mark.parametrize(("endpoint", "labels", "options"), CASES)
def test_the_loss_of_the_best_constant_is_the_least_that_constant_logits_reach(
    endpoint: Endpoint, labels: object, options: dict[str, object]
) -> None:
    result = fitted(endpoint, labels, **options).fitted
    known = np.asarray(labels, dtype=float)
    known = known[~np.isnan(known)]
    assert result.constant_loss == pytest.approx(least_loss(result, known), rel=1e-6, abs=1e-6)


def test_a_score_is_standardised_by_its_training_patients_alone() -> None:
    endpoint = fitted(SCORE, [1, 2, 3, 6, NAN]).fitted
    assert (endpoint.center, endpoint.scale) == (3.0, pytest.approx(np.std([1, 2, 3, 6]), rel=1e-11))
    assert fitted(SCORE, [1, 2, 3, 6], regression="mse").fitted.constant_loss == pytest.approx(1, rel=1e-11)


def test_the_constant_of_cox_is_the_mean_log_of_those_at_risk() -> None:
    labels = np.array([1, 2, -2, -3, 4, -5], dtype=float)
    constant = fitted(SURVIVAL, labels, survival="cox").fitted.constant_loss
    assert constant == pytest.approx(np.log([6, 5, 2]).mean(), rel=1e-11)
    tied = np.array([1, 2, 2, -2, -3], dtype=float)  # Efron: the two events at 2 see four and three
    assert fitted(SURVIVAL, tied, survival="cox").fitted.constant_loss == pytest.approx(
        np.log([5, 4, 3]).mean(), rel=1e-11
    )


def test_the_constant_of_cox_is_that_of_batches_of_about_16() -> None:
    labels = survival_labels(3, 640)
    rng = np.random.default_rng(0)

    def of_random_batches() -> float:
        batches = (rng.choice(labels, 16, replace=False) for _ in range(3000))
        losses = [np.mean([np.log((np.abs(b) >= t).sum()) for t in b[b > 0]]) for b in batches if (b > 0).any()]
        return float(np.mean(losses))

    assert fitted(SURVIVAL, labels, survival="cox").fitted.constant_loss == pytest.approx(of_random_batches(), rel=0.05)


@pytest.mark.parametrize(
    ("endpoint", "labels", "options"), [*CASES, (SURVIVAL, survival_labels(), {"survival": "cox"})]
)
def test_the_order_of_the_patients_changes_no_bit(
    endpoint: Endpoint, labels: object, options: dict[str, object]
) -> None:
    listed = np.asarray(labels, dtype=float)
    first = fitted(endpoint, listed, **options)
    for seed in range(5):
        assert fitted(endpoint, np.random.default_rng(seed).permutation(listed), **options) == first


def test_what_was_fitted_survives_json() -> None:
    for endpoint, labels, options in CASES:
        result = fitted(endpoint, labels, **options).fitted
        assert FittedEndpoint.from_dict(json.loads(json.dumps(result.as_dict()))) == result


def test_a_patient_has_the_label_of_its_slides() -> None:
    slides = pd.DataFrame({"patient_id": ["p2", "p1", "p2", "p3", "p1"], "t": [NAN, 0, 1, NAN, 1]})
    assert patient_labels(slides, "t", BINARY).fillna(-1).to_dict() == {"p2": 1, "p1": 1, "p3": -1}
    assert list(patient_labels(slides, "t", BINARY).index) == ["p2", "p1", "p3"]
    assert patient_labels(slides, "t", CLASSES).fillna(-1).to_dict() == {"p2": 1, "p1": 0, "p3": -1}


def test_patients_with_many_slides_count_once() -> None:
    rng = np.random.default_rng(1)
    labels = survival_labels(4, 20)
    slides = pd.DataFrame({"patient_id": [f"p{i}" for i in range(20)], "t": labels})
    copies = slides.loc[np.repeat(slides.index, rng.integers(1, 17, 20))]
    once, many = (fitted(SURVIVAL, patient_labels(table, "t", SURVIVAL)) for table in (slides, copies))
    assert once == many
    assert replace(once.fitted, edges=()) != once.fitted
