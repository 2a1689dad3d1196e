"""Tables of tasks that are not binary: their labels, and every metric beside the one that ranks models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.endpoints.endpoint import Endpoint, Kind, event_of, time_of
from milbench.endpoints.fit import patient_labels
from milbench.report.kinds import OF_PATIENTS, endpoint_in, joins_slides, label_columns, labels_of_kind, slide_labels
from milbench.report.tables import Cell, Row, Table
from milbench.stats.kind_metrics import COLUMNS
from milbench.stats.metric import METRICS

if TYPE_CHECKING:
    from milbench.report.contents import Contents

Floats = NDArray[np.float64]

LABEL_HEADS: Mapping[str, str] = {
    "n_slides": "slides", "n_unknown": "slides unknown", "n_patients": "patients", "patients_by_class": "patients by class",
    "mean": "mean", "sd": "standard deviation", "median": "median", "smallest": "smallest", "largest": "largest",
    "n_events": "with event", "n_censored": "censored", "median_days": "median time (days)", "longest_days": "longest (days)",
}  # fmt: skip
"""How the table of labels calls its columns."""

LABELS_CAPTION = "Labels by task of kind {}: slides and patients with a label, and what the labels of the patients are."

HEADS: Mapping[str, str] = {
    "average_precision": "average precision", "one_vs_one_auroc": "one-vs-one AUROC", "macro_auroc": "macro AUROC",
    "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "log_loss": "log loss ↓", "brier": "Brier ↓",
    "mae_of_grade": "MAE in grades ↓", "spearman": "Spearman", "r2": "R²", "mae": "MAE ↓", "rmse": "RMSE ↓",
    "ccc": "CCC", "uno_c": "Uno's c", "tau_days": "tau (days)", "auc_12_months": "AUROC at 12 months",
    "auc_36_months": "AUROC at 36 months", "auc_60_months": "AUROC at 60 months",
    "integrated_brier": "integrated Brier ↓",
}  # fmt: skip
"""How a table calls the metrics."""

SECONDARY: Mapping[Kind, str] = {
    "multiclass": "Calls are the most probable class. AUROC of a class: that class against all others.",
    "ordinal": "Calls are the expected grade, rounded, a half upwards.",
    "regression": "MAE and RMSE are in the units of the labels. R² is about the mean of the test labels.",
    "survival": (
        "Uno's c, AUROC over time and the integrated Brier score weigh by the censoring of the training side, until tau. "
        "AUROC at a time needs ten test patients with an event until then and ten beyond. Models with a Cox loss have no "
        "Brier score."
    ),
}  # fmt: skip


def metrics_table(name: str, scores: pd.DataFrame, title: str, kind: Kind, gaps: str = "", bag: str = SLIDE) -> Table:
    """Models × metrics of one dataset, task by task: means over folds and seeds, and their spread.

    Parameters
    ----------
    scores : of `milbench.stats.analysis.Analysis`, of one dataset.
    gaps : a sentence on cells without a number, beginning with a blank.
    bag : what a bag is called.
    """
    metric = METRICS[kind]
    mine = scores[scores["level"] == metric.level]
    known = [*COLUMNS[kind], *(column for column in mine.columns if column.startswith("auroc of "))]
    columns = [column for column in known if column == "score" or mine[column].notna().any()]
    parts = mine.groupby(["task", "model", "title"], sort=False)[columns].agg(["mean", "std", "count"])
    sizes = mine.groupby(["task", "model", "title"], sort=False).size()
    rows, before = [], None
    for (task, model, of), values in parts.iterrows():
        cells = tuple(_mean(values[column], sizes[task, model, of], column) for column in columns)
        rows.append(Row(f"{task}, {of}", cells, rule=before not in (None, task)))
        before = task
    data = parts.reset_index()
    data.columns = [_column(metric.columns.get(str(first), str(first)), str(what)) for first, what in data.columns]
    unit = f"{PATIENT if metric.level == PATIENT else bag}s"
    caption = (
        f"Every metric on {title}, {unit}: means over folds and seeds ± standard deviation over them. {SECONDARY[kind]} "
        f"↓: lower is better. A dash: undefined in every fold; n of m: defined in so many trainings.{gaps}"
    )
    heads = tuple(
        metric.title if column == "score" else HEADS.get(column, column.replace("auroc", "AUROC")) for column in columns
    )
    return Table(name, caption, "Task, method", heads, tuple(rows), data)


def _column(name: str, what: str) -> str:
    return f"{name}_{what}" if what else name


def _mean(values: pd.Series, n_trainings: int, column: str) -> Cell:
    mean, sd, count = values["mean"], values["std"], int(values["count"])
    if not count:
        return Cell()
    places = 0 if column == "tau_days" else 3
    spread = [] if np.isnan(sd) else [f"± {sd:.{places}f}"]
    some = [f"{count} of {n_trainings}"] if count < n_trainings else []
    return Cell(f"{mean:.{places}f}".replace("-", "−"), ", ".join([*spread, *some]))


def label_table(contents: Contents) -> Table | None:
    """Labels of the tasks of one kind, of the cohorts whose labels are stored; None where no run has any."""
    data = pd.DataFrame(_label_rows(contents))
    if data.empty:
        return None
    shown = [column for column in LABEL_HEADS if column in data.columns]
    rows: list[Row] = []
    for _, cohort in data.groupby("dataset", sort=False):
        for place, row in enumerate(cohort.to_dict("records")):
            cells = tuple(Cell(_in_short(row[column])) for column in shown)
            rows.append(Row(f"{row['title']}, {row['task']}", cells, rule=place == 0 and bool(rows)))
    heads = tuple(LABEL_HEADS[column] for column in shown)
    of_patients = f" {OF_PATIENTS}" if joins_slides(contents.runs, data["dataset"]) else ""
    caption = f"{LABELS_CAPTION.format(contents.kind)}{of_patients}"
    return Table(contents.name_of("table1"), caption, "Cohort, task", heads, tuple(rows), data)


def _label_rows(contents: Contents) -> Iterator[dict[str, Any]]:
    for run in contents.runs:
        for name, facts in run.datasets.items():
            if name not in contents.datasets or not run.label_file(name).exists():  # an older run has no labels
                continue
            labels = labels_of_kind(slide_labels(run.labels(name), facts), facts, contents.kind)
            for task in label_columns(labels):
                endpoint = endpoint_in(facts, task)
                known = labels[task].notna()
                of_patients = patient_labels(labels, task, endpoint).dropna().to_numpy(dtype=float)
                yield {
                    "dataset": name, "title": str(facts["title"]), "task": task, "n_slides": int(known.sum()),
                    "n_unknown": int((~known).sum()), "n_patients": len(of_patients),
                    **_SUMMARIES[endpoint.kind](of_patients, endpoint),
                }  # fmt: skip


def _in_short(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "–" if np.isnan(value) else f"{value:,}" if isinstance(value, (int, np.integer)) else f"{value:,.4g}"


def _of_classes(values: Floats, endpoint: Endpoint) -> dict[str, Any]:
    counts = [f"{name} {int((values == place).sum()):,}" for place, name in enumerate(endpoint.classes)]
    return {"patients_by_class": "; ".join(counts)}


def _of_values(values: Floats, _: Endpoint) -> dict[str, Any]:
    if not len(values):
        return dict.fromkeys(("mean", "sd", "median", "smallest", "largest"), np.nan)
    sd = values.std(ddof=1) if len(values) > 1 else np.nan
    return {
        "mean": values.mean(), "sd": sd, "median": np.median(values), "smallest": values.min(), "largest": values.max(),
    }  # fmt: skip


def _of_times(values: Floats, _: Endpoint) -> dict[str, Any]:
    times, events = time_of(values), event_of(values)
    median, longest = (np.median(times), times.max()) if len(times) else (np.nan, np.nan)
    return {
        "n_events": int(events.sum()), "n_censored": int((events == 0).sum()), "median_days": median,
        "longest_days": longest,
    }  # fmt: skip


_SUMMARIES: Mapping[Kind, Callable[[Floats, Endpoint], dict[str, Any]]] = {
    "multiclass": _of_classes, "ordinal": _of_classes, "regression": _of_values, "survival": _of_times,
}  # fmt: skip
