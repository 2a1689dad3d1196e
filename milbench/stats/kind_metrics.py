"""Metrics by kind: every number of one trial and task, the primary one first, from the rows of a `Cell`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench import metrics
from milbench.endpoints.answers import decoded_grade
from milbench.endpoints.endpoint import DAYS_OF_A_MONTH, Kind
from milbench.endpoints.fitted import FittedEndpoint
from milbench.stats.follow_up import FollowUp
from milbench.stats.grid import FEWEST

Floats = NDArray[np.float64]

WANTED = 0.9
"""Specificity, or sensitivity, that a threshold gives on the validation rows; on the test side it reaches another."""

MONTHS = (12, 36, 60)
"""Where the AUROC over time is printed."""

NAN = float("nan")


class Cell(NamedTuple):
    """Rows of one trial and task with a known label, of its validation and test sides.

    Attributes
    ----------
    targets : [n].
    events : [n], NaN except for survival.
    answers : [n, A], as named by `fitted.answers`.
    is_test : [n].
    follow_up : of the fold's training patients; None except for survival.
    """

    targets: Floats
    events: Floats
    answers: Floats
    is_test: NDArray[np.bool_]
    fitted: FittedEndpoint
    follow_up: FollowUp | None

    @property
    def test(self) -> tuple[Floats, Floats]:
        """Targets and answers of the test side."""
        return self.targets[self.is_test], self.answers[self.is_test]


def metrics_of(cell: Cell) -> dict[str, float]:
    """Every metric of the cell's kind by name; none where the model diverged or no label is known."""
    if not len(cell.targets) or np.isnan(cell.answers).any():
        return {}
    return BY_KIND[cell.fitted.endpoint.kind](cell)


def _binary(cell: Cell) -> dict[str, float]:
    (y, answers), validation = cell.test, ~cell.is_test
    p, seen = answers[:, 0], (cell.targets[validation], cell.answers[validation, 0])
    threshold = metrics.youden_threshold(*seen)
    specific, sensitive = (
        metrics.threshold_at_specificity(*seen, WANTED),
        metrics.threshold_at_sensitivity(*seen, WANTED),
    )
    return {
        "score": metrics.auroc(y, p),
        "average_precision": metrics.average_precision(y, p),
        "balanced_accuracy": metrics.balanced_accuracy(y, p, threshold),
        "f1": metrics.f1(y, p, threshold),
        "sensitivity": metrics.sensitivity(y, p, threshold),
        "specificity": metrics.specificity(y, p, threshold),
        "threshold": threshold,
        "brier": metrics.brier(y, p),
        "ece": metrics.expected_calibration_error(y, p),
        "sensitivity_at_specificity_90": metrics.sensitivity(y, p, specific),
        "specificity_reached": metrics.specificity(y, p, specific),
        "specificity_at_sensitivity_90": metrics.specificity(y, p, sensitive),
        "sensitivity_reached": metrics.sensitivity(y, p, sensitive),
    }


def _multiclass(cell: Cell) -> dict[str, float]:
    y, p = cell.test
    classes = cell.fitted.endpoint.classes
    of_classes = metrics.per_class_auroc(y, p)
    return {
        "score": metrics.macro_auroc(y, p),
        "one_vs_one_auroc": metrics.one_vs_one_auroc(y, p),
        **_of_calls(y, metrics.predicted_class(p), len(classes)),
        **_of_probabilities(y, p),
        **{f"auroc of {name}": float(value) for name, value in zip(classes, of_classes, strict=True)},
    }


def _ordinal(cell: Cell) -> dict[str, float]:
    y, answers = cell.test
    n_grades = len(cell.fitted.endpoint.classes)
    grades, p = decoded_grade(answers[:, 0], n_grades), answers[:, 1:]
    return {
        "score": metrics.quadratic_kappa(y, grades, n_grades),
        "macro_auroc": metrics.macro_auroc(y, p),
        "mae_of_grade": metrics.mae(y, grades),
        "spearman": metrics.spearman(y, answers[:, 0]),
        **_of_calls(y, grades, n_grades),
        **_of_probabilities(y, p),
    }


def _of_calls(y: Floats, called: Floats, n_classes: int) -> dict[str, float]:
    return {
        "balanced_accuracy": metrics.balanced_accuracy_of_classes(y, called, n_classes),
        "macro_f1": metrics.macro_f1(y, called, n_classes),
    }


def _of_probabilities(y: Floats, p: Floats) -> dict[str, float]:
    return {"log_loss": metrics.multiclass_log_loss(y, p), "brier": metrics.multiclass_brier(y, p)}


def _regression(cell: Cell) -> dict[str, float]:
    y, answers = cell.test
    value = answers[:, 0]
    return {
        "score": metrics.pearson(y, value),
        "spearman": metrics.spearman(y, value),
        "r2": metrics.r2(y, value),
        "mae": metrics.mae(y, value),
        "rmse": metrics.rmse(y, value),
        "ccc": metrics.ccc(y, value),
    }


def _survival(cell: Cell) -> dict[str, float]:
    time, answers = cell.test
    event, risk = cell.events[cell.is_test], answers[:, 0]
    found = {"score": metrics.concordance(time, event, risk)}
    if cell.follow_up is None:
        return found
    censoring, until = cell.follow_up
    found |= {"uno_c": metrics.uno_concordance(time, event, risk, censoring, until), "tau_days": until}
    for months in MONTHS:
        days = months * DAYS_OF_A_MONTH
        enough = min(metrics.cases_and_controls(time, event, days)) >= FEWEST
        at = metrics.time_dependent_auc(time, event, risk, np.array([days]), censoring)[0] if enough else NAN
        found[f"auc_{months}_months"] = float(at)
    return {**found, "integrated_brier": _integrated_brier(cell, time, event, answers[:, 1:])}


def _integrated_brier(cell: Cell, time: Floats, event: Floats, at_edges: Floats) -> float:
    """Of models that know survival at the edges of their time bins; it is constant inside a bin. NaN for others."""
    edges = np.array(cell.fitted.edges)
    if cell.follow_up is None or not len(edges):
        return NAN
    censoring, until = cell.follow_up
    times = metrics.brier_times(time, event, until)
    survival = metrics.survival_in_bins(at_edges, edges, times)
    return metrics.integrated_brier(time, event, survival, times, censoring)


BY_KIND: Mapping[Kind, Callable[[Cell], dict[str, float]]] = {
    "binary": _binary, "multiclass": _multiclass, "ordinal": _ordinal, "regression": _regression, "survival": _survival,
}  # fmt: skip

COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    "binary": (
        "score", "average_precision", "balanced_accuracy", "f1", "sensitivity", "specificity", "threshold", "brier",
        "ece", "sensitivity_at_specificity_90", "specificity_reached", "specificity_at_sensitivity_90",
        "sensitivity_reached",
    ),
    "multiclass": ("score", "one_vs_one_auroc", "balanced_accuracy", "macro_f1", "log_loss", "brier"),
    "ordinal": (
        "score", "macro_auroc", "mae_of_grade", "spearman", "balanced_accuracy", "macro_f1", "log_loss", "brier",
    ),
    "regression": ("score", "spearman", "r2", "mae", "rmse", "ccc"),
    "survival": (
        "score", "uno_c", "tau_days", *(f"auc_{months}_months" for months in MONTHS), "integrated_brier",
    ),
}  # fmt: skip
"""By kind, in the order of a table; AUROCs of single classes come after them."""
