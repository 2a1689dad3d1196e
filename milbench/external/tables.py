"""Tables of an external evaluation: what is left of the run's scores, models compared, thresholds, labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from milbench.cohorts.bag_names import SLIDE
from milbench.endpoints.endpoint import Kind
from milbench.external.analysis import Compared, drop_frame
from milbench.external.evaluate import External
from milbench.report.drawings import Drawn
from milbench.report.floats import figure_float
from milbench.report.kind_tables import metrics_table
from milbench.report.score_tables import TOO_SMALL, interval, number, signed
from milbench.report.score_tables import against_table as differences_table
from milbench.report.tables import Cell, Row, Table, markdown, to_csv, to_latex, to_markdown
from milbench.stats.metric import PrimaryMetric
from milbench.store.csv_files import spreadsheet_csv
from milbench.store.files import write_atomically, writing

AT_THRESHOLD: Mapping[str, str] = {
    "threshold": "threshold", "sensitivity": "sensitivity", "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy", "f1": "F1", "average_precision": "average precision", "brier": "Brier ↓",
    "ece": "ECE ↓",
}  # fmt: skip


def tables_of(external: External, found: Mapping[Kind, Compared]) -> Iterator[Table]:
    """Every table: labels of both cohorts, then those of each kind."""
    yield shift_table(external)
    for kind, both in found.items():
        suffix = "" if kind == "binary" else f"_{kind}"
        yield drop_table(f"external{suffix}", external, both)
        if both.external.reference is not None and len(both.external.against):
            yield _against(f"external_against{suffix}", external, both)
        if kind == "binary":
            yield threshold_table(f"external_metrics{suffix}", external, both)
        else:
            yield metrics_table(
                f"external_metrics{suffix}", both.external.scores, external.name, kind, bag=external.cohort.bag
            )


def shift_table(external: External) -> Table:
    """Labels of the run's cohort and of the external one, task by task."""
    rows = tuple(
        Row(row.task, (Cell(row.run_labels, f"{row.run_patients} patients"),
                       Cell(row.external_labels, f"{row.external_patients} patients")))
        for row in external.shift.itertuples()
    )  # fmt: skip
    caption = (
        f"Labels of patients in the run's cohort {external.source.dataset} and in {external.name}. Shares that differ move "
        "thresholds, calibration and every score that counts calls."
    )
    return Table("label_shift", caption, "Task", (external.source.dataset, external.name), rows, external.shift)


def drop_table(name: str, external: External, both: Compared) -> Table:
    """Models per task: the run's own test side, the external cohort, what was lost, and the ensemble of all trainings."""
    frame, analysis = drop_frame(both), both.external
    small = set(analysis.tasks.loc[analysis.tasks["too_small"], "task"])
    rows, before = [], None
    for row in frame.itertuples():
        cells = (
            Cell(number(row.internal_score), interval(row.internal_low, row.internal_high)),
            _score(row.external_score, row.external_low, row.external_high, small=row.task in small),
            Cell(signed(row.drop) if not math.isnan(row.drop) else "–"),
            _score(row.external_ensemble_score, row.external_ensemble_low, row.external_ensemble_high,
                   small=row.task in small),
        )  # fmt: skip
        rows.append(Row(f"{row.task}, {row.title}", cells, rule=before not in (None, row.task)))
        before = row.task
    metric = analysis.metric
    caption = (
        f"{metric.title} of models trained on {external.source.dataset}. Internal: the run's own test side. External: "
        f"{external.name}, mean over the same trainings. Both with a 95 % interval over test patients and folds "
        f"({analysis.n_draws:,} draws). Drop: internal minus external; their patients differ, so look at both intervals. "
        "Ensemble: all trainings of a model together on the external cohort, with a 95 % interval over patients alone"
        f"{_of_patients(external, metric)}."
    )
    heads = ("internal", "external", "drop", "external, ensemble")
    return Table(name, caption, "Task, method", heads, tuple(rows), _as_written(frame, metric.name))


def _of_patients(external: External, metric: PrimaryMetric) -> str:
    """What a caption adds if the ensemble has one answer for several slides, of which the other columns count each."""
    several = external.cohort.bag == SLIDE and external.slides["patient_id"].duplicated().any()
    return (
        "; it has one answer per patient, the other columns one per slide" if several and metric.level == SLIDE else ""
    )


def _score(score: float, low: float, high: float, *, small: bool) -> Cell:
    return Cell() if math.isnan(score) else Cell(number(score), TOO_SMALL if small else interval(low, high))


def _as_written(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    return frame.rename(columns=lambda column: column.replace("_score", f"_{metric}"))


def _against(name: str, external: External, both: Compared) -> Table:
    analysis = both.external
    titles = dict(zip(analysis.cells["model"], analysis.cells["title"], strict=True))
    caption = (
        f"{analysis.metric.title} on {external.name} minus that of {titles[str(analysis.reference)]}, mean over trainings, "
        "with a 95 % interval over patients and folds. †: p < 0.05 after Holm over the models of the task."
    )
    return differences_table(name, caption, analysis.against, titles, analysis.metric)


def threshold_table(name: str, external: External, both: Compared) -> Table:
    """Binary tasks: what is called at the threshold of each trial's own validation side, mean over trials."""
    scores = both.external.scores
    mine = scores[scores["level"] == "patient"]
    means = mine.groupby(["task", "model", "title"], sort=False)[list(AT_THRESHOLD)].agg(["mean", "std"])
    order = both.external.cells[["task", "model", "title"]].itertuples(index=False, name=None)
    means = means.reindex([place for place in order if place in means.index])
    rows, before = [], None
    for (task, _, title), values in means.iterrows():
        cells = tuple(_spread(values[column]) for column in AT_THRESHOLD)
        rows.append(Row(f"{task}, {title}", cells, rule=before not in (None, task)))
        before = task
    caption = (
        f"Calls on {external.name}, of patients, at the threshold that is best on the validation patients of each training "
        "(Youden). No external label chose a threshold. Means over trainings ± standard deviation over them. ↓: lower is better."
    )
    data = means.reset_index()
    data.columns = [f"{first}_{second}" if second else str(first) for first, second in data.columns]
    return Table(name, caption, "Task, method", tuple(AT_THRESHOLD.values()), tuple(rows), data)


def _spread(values: Any) -> Cell:
    mean, sd = float(values["mean"]), float(values["std"])
    return Cell(number(mean), "" if math.isnan(mean) or math.isnan(sd) else f"± {sd:.3f}")


def write_tables(
    external: External, found: Mapping[Kind, Compared], out: Path, drawn: Sequence[Drawn] = ()
) -> list[Path]:
    """Files written to `out`: each table as CSV, Markdown and LaTeX, every number in full, and a page with all.

    Parameters
    ----------
    drawn : figures that lie in `out`, which the page shows.

    Raises
    ------
    StoreError : `out` cannot be written.
    """
    tables, paths = list(tables_of(external, found)), []
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for table in tables:
            for suffix, render in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex)):
                write_atomically(out / f"{table.name}.{suffix}", render(table).encode())
        for figure in drawn:
            write_atomically(out / f"{figure.stem}.tex", figure_float(figure.stem, figure.caption).encode())
        for kind, both in found.items():
            suffix = "" if kind == "binary" else f"_{kind}"
            for name in ("scores", "cells", "against", "pairs"):
                frame = both.external.metric.as_written(getattr(both.external, name))
                paths.append(out / f"all_{name}{suffix}.csv")
                write_atomically(paths[-1], spreadsheet_csv(frame).encode())
        page = out / "index.md"
        write_atomically(page, _page(external, tables, drawn).encode())
    return [page, *paths]


def _page(external: External, tables: Sequence[Table], drawn: Sequence[Drawn]) -> str:
    lines = [f"# {external.source.run.name} on {external.name}", ""]
    told = (*(f"warning: {warning}" for warning in external.warnings), *external.remarks)
    lines += [*(f"- {markdown(each)}" for each in told), ""] if told else []
    for table in tables:
        lines += [f"## {table.name}", "", to_markdown(table)]
    for figure in drawn:
        lines += [f"## {figure.stem}", "", f"![{figure.stem}]({figure.stem}.png)", "", markdown(figure.caption), "",
                  f"[PDF]({figure.stem}.pdf), [LaTeX]({figure.stem}.tex)", ""]  # fmt: skip
    return "\n".join(lines)
