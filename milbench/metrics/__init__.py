"""Metrics: one number from labels and scores, of every kind of task. NumPy only.

In: labels, scores, and how often each row counts. Out: a number per task; NaN where it is undefined, never 0 or 0.5
instead. Open `binary.py` first, then `multiclass.py`, `ordinal.py`, `regression.py` and `survival.py` with its `curves.py`.
`draws.py` gives the same numbers for all draws of a bootstrap at once. Definitions are in docs/endpoints.md.
"""

from milbench.metrics.binary import (
    N_BINS,
    auroc,
    auroc_per_task,
    average_precision,
    balanced_accuracy,
    brier,
    expected_calibration_error,
    f1,
    mean_of_defined,
    sensitivity,
    specificity,
    threshold_at_sensitivity,
    threshold_at_specificity,
    youden_threshold,
)
from milbench.metrics.curves import Curve, LogRank, censoring_survival, kaplan_meier, log_rank, tau
from milbench.metrics.draws import (
    auroc_draws,
    concordance_draws,
    kappa_draws,
    macro_auroc_draws,
    mae_draws,
    pearson_draws,
    per_class_auroc_draws,
    r2_draws,
)
from milbench.metrics.multiclass import (
    balanced_accuracy_of_classes,
    confusion,
    macro_auroc,
    macro_f1,
    multiclass_brier,
    multiclass_log_loss,
    one_vs_one_auroc,
    per_class_auroc,
    predicted_class,
)
from milbench.metrics.ordinal import quadratic_kappa
from milbench.metrics.regression import ccc, mae, pearson, r2, rmse, spearman
from milbench.metrics.survival import (
    brier_at,
    brier_times,
    cases_and_controls,
    concordance,
    integrated_brier,
    mean_time_dependent_auc,
    survival_in_bins,
    time_dependent_auc,
    uno_concordance,
)
from milbench.metrics.weights import Flags, Floats

__all__ = [
    "N_BINS", "Curve", "Flags", "Floats", "LogRank", "auroc", "auroc_draws", "auroc_per_task", "average_precision",
    "balanced_accuracy", "balanced_accuracy_of_classes", "brier", "brier_at", "brier_times", "cases_and_controls", "ccc",
    "censoring_survival", "concordance", "concordance_draws", "confusion", "expected_calibration_error", "f1",
    "integrated_brier", "kaplan_meier", "kappa_draws", "log_rank", "macro_auroc", "macro_auroc_draws", "macro_f1", "mae",
    "mae_draws", "mean_of_defined", "mean_time_dependent_auc", "multiclass_brier", "multiclass_log_loss",
    "one_vs_one_auroc", "pearson", "pearson_draws", "per_class_auroc", "per_class_auroc_draws", "predicted_class",
    "quadratic_kappa", "r2", "r2_draws", "rmse", "sensitivity", "spearman", "specificity",
    "survival_in_bins", "tau", "threshold_at_sensitivity", "threshold_at_specificity", "time_dependent_auc",
    "uno_concordance", "youden_threshold",
]  # fmt: skip
