"""Table 1: slides, patients, positive and negative per task and cohort, from the labels that the runs stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from milbench.report.kinds import OF_PATIENTS, joins_slides, label_columns, labels_of_kind, slide_labels
from milbench.report.published import PAPERS_COHORTS
from milbench.report.tables import Cell, Row, Table
from milbench.store.run import Run

UNITS = ("slides", "patients")
GENE_WORDS, WORDS = ("mutated", "wild type"), ("positive", "negative")


def columns_of(words: tuple[str, str]) -> tuple[str, ...]:
    """Headers: slides, then patients."""
    return tuple(header for unit in UNITS for header in (unit, *words, "unknown"))


def caption_of(words: tuple[str, str], *, of_paper: bool, of_patients: bool) -> str:
    """What the counts are of."""
    as_paper = "As in the paper the first count is of slides; one patient may have several." if of_paper else ""
    return " ".join(filter(None, (
        "Labels by task: slides, then patients.", as_paper,
        f"A patient is {words[0]} where one of the slides is labelled so. Tasks count what the runs used.",
        OF_PATIENTS if of_patients else "",
    )))  # fmt: skip


def label_words(datasets: Iterable[str]) -> tuple[str, str]:
    """What labels 1 and 0 are called: "mutated" and "wild type" where every cohort is one of the study, whose tasks are genes."""
    return GENE_WORDS if set(datasets) <= PAPERS_COHORTS else WORDS


def label_counts(labels: pd.DataFrame) -> pd.DataFrame:
    """Counts of every task.

    Parameters
    ----------
    labels : of `milbench.report.kinds.slide_labels`.

    Returns
    -------
    DataFrame : task, then n, mutated, wild_type and unknown of slides and of patients.
    """
    tasks = label_columns(labels)
    patients = labels.groupby("patient_id", sort=False)[tasks].max()  # a known label wins over an unknown one
    rows = [{"task": task, **_counts("slides", labels[task]), **_counts("patients", patients[task])} for task in tasks]
    return pd.DataFrame(rows)


def _counts(unit: str, values: pd.Series) -> dict[str, int]:
    return {
        f"{unit}_n": len(values),
        f"{unit}_mutated": int((values == 1).sum()),
        f"{unit}_wild_type": int((values == 0).sum()),
        f"{unit}_unknown": int(values.isna().sum()),
    }


def table1(runs: Sequence[Run]) -> Table | None:
    """Table 1 of the binary tasks of cohorts whose labels are stored; None where no run has any."""
    frames = [
        label_counts(binary).assign(dataset=name, title=str(facts["title"]))
        for run in runs
        for name, facts in run.datasets.items()
        if run.label_file(name).exists()  # a run of an older version has none
        if label_columns(binary := labels_of_kind(slide_labels(run.labels(name), facts), facts, "binary"))
    ]
    if not frames:
        return None
    data = pd.concat(frames, ignore_index=True)
    rows: list[Row] = []
    for _, cohort in data.groupby("dataset", sort=False):
        for place, row in enumerate(cohort.to_dict("records")):
            counts = [row[f"{unit}_{what}"] for unit in UNITS for what in ("n", "mutated", "wild_type", "unknown")]
            cells = tuple(Cell(f"{count:,}") for count in counts)
            rows.append(Row(f"{row['title']}, {row['task']}", cells, rule=place == 0 and bool(rows)))
    columns = ["dataset", "title", *(column for column in data.columns if column not in ("dataset", "title"))]
    words = label_words(data["dataset"])
    caption = caption_of(words, of_paper=set(data["dataset"]) <= PAPERS_COHORTS,
                         of_patients=joins_slides(runs, data["dataset"]))  # fmt: skip
    return Table("table1", caption, "Cohort, task", columns_of(words), tuple(rows), data[columns])
