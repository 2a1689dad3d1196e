"""Endpoints of the five TCGA cohorts beside their genes: survival, subtypes, grade, stage, scores.

The labels are part of milbench: `tcga_tables/` holds one table per cohort, and `NOTICE.txt` there the sources and licences.
They are joined by case id, so they fit every table of slides of the same patients. They are optional tasks: nothing that
does not name one changes.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.optional import OptionalTask, labels_sha256
from milbench.endpoints.endpoint import WITH_CLASSES, Endpoint, event_of
from milbench.endpoints.fit import patient_labels
from milbench.labels.declared import Declared
from milbench.labels.kinds import task_column
from milbench.labels.stage import STAGES, stage_of
from milbench.labels.values import LabelColumn, Stated

TABLES = "tcga_tables"
CASE, SLIDE = "case_id", "slide_id"

CDR = "TCGA-CDR (KatherLab/cancer-metadata, MIT)"
GI = "Liu 2018, table S1 (KatherLab/cancer-metadata, MIT)"
MAKO = "kaczmarj/MAKO, Apache-2.0"
SLIDEFLOW = "slideflow/slideflow, Apache-2.0"


def _as_it_stands(cell: str) -> str:
    return cell


def _renamed(names: Mapping[str, str]) -> Callable[[str], str]:
    """Reads a cell as the class that it is called here; whatever is not listed is unknown."""
    return lambda cell: names.get(cell, "")


@dataclass(frozen=True)
class Question:
    """One endpoint of one cohort: how it is read from the table.

    Attributes
    ----------
    source : of its labels, as the run's log names it.
    read : what a cell is called as a class; "" = unknown.
    positive : the class that is 1 of a binary endpoint.
    """

    declared: Declared
    source: str
    read: Callable[[str], str] = _as_it_stands
    positive: str = ""


def _survival(name: str) -> Question:
    return Question(Declared("survival", time=f"{name}_days", event=f"{name}_event", unit="days"), CDR)


def _classes(column: str, *classes: str, source: str = CDR) -> Question:
    return Question(Declared("multiclass", column=column, classes=classes), source)


def _score(column: str, source: str = GI) -> Question:
    return Question(Declared("regression", column=column), source)


def _histology(names: Mapping[str, str]) -> Question:
    declared = Declared("multiclass", column="histological_type", classes=tuple(names.values()))
    return Question(declared, CDR, _renamed(names))


SURVIVAL = {name: _survival(name) for name in ("os", "dss", "dfi", "pfi")}
"""Overall, disease-specific, disease-free interval and progression-free interval, as TCGA-CDR defines them."""

STAGE = Question(Declared("ordinal", column="stage", classes=STAGES), CDR, stage_of)

QUESTIONS: Mapping[str, Mapping[str, Question]] = {
    "gbmlgg": {
        **SURVIVAL,
        # no glioblastoma has a grade in the table, so two grades are left
        "grade": Question(Declared(column="grade"), CDR, _renamed({"G2": "G2", "G3": "G3"}), "G3"),
        "histology": _histology({
            "Astrocytoma": "astrocytoma", "Oligodendroglioma": "oligodendroglioma",
            "Oligoastrocytoma": "oligoastrocytoma", "Untreated primary (de novo) GBM": "glioblastoma",
        }),
    },
    "brca": {
        **SURVIVAL,
        "stage": STAGE,
        "histology": Question(
            Declared(column="histological_type"), CDR,
            _renamed({"Infiltrating Ductal Carcinoma": "IDC", "Infiltrating Lobular Carcinoma": "ILC"}), "ILC",
        ),
        "PAM50": _classes("pam50_subtype_4x", "LumA", "LumB", "Her2", "Basal", source=MAKO),
        "ROR-P": _score("ror_p_score_div100", MAKO),
        "recurrence": Question(
            # the column's name speaks of the ten years after which follow-up ends; 1 is an event
            Declared("survival", time="recurrence_years_censored_10_years",
                     event="recurrence_event_censored_10_years", event_value=("1",), unit="years"), MAKO,
        ),
        "ER": Question(Declared(column="er_status"), SLIDEFLOW, positive="positive"),
    },
    "crc": {
        **SURVIVAL,
        "stage": STAGE,
        "histology": _histology({
            "Colon Adenocarcinoma": "colon adenocarcinoma", "Rectal Adenocarcinoma": "rectal adenocarcinoma",
            "Colon Mucinous Adenocarcinoma": "colon mucinous", "Rectal Mucinous Adenocarcinoma": "rectal mucinous",
        }),
        "MSI": _classes("msi", "MSS", "MSI-L", "MSI-H", source=GI),
        "CMS": _classes("cms", "CMS1", "CMS2", "CMS3", "CMS4", source=GI),
        "subtype": _classes("molecular_subtype", "CIN", "GS", "MSI", "HM-SNV", source=GI),
        "side": Question(Declared(column="side"), GI, positive="Right"),
        "purity": _score("purity"),
        "leukocytes": _score("leukocyte_fraction"),
        "mutation_density": Question(Declared("regression", column="mutation_density", transform="log1p"), GI),
    },
    "ucec": {
        **SURVIVAL,
        # "High Grade" is no step of the scale of three
        "grade": Question(Declared("ordinal", column="grade", classes=("G1", "G2", "G3")), CDR,
                          _renamed({grade: grade for grade in ("G1", "G2", "G3")})),
        "stage": STAGE,
        "histology": _histology({
            "Endometrioid endometrial adenocarcinoma": "endometrioid", "Serous endometrial adenocarcinoma": "serous",
            "Mixed serous and endometrioid": "mixed",
        }),
    },
    "luad": {**SURVIVAL, "stage": STAGE},
}  # fmt: skip
"""Endpoints by cohort and name. Nobody is given a class that the table does not name."""


@dataclass(frozen=True, eq=False)
class EndpointLabels:
    """Labels of all endpoints of one cohort.

    Attributes
    ----------
    by_patient : one row per case id, one column per endpoint, each label one number; NaN = unknown.
    endpoints : what each asks.
    """

    by_patient: pd.DataFrame
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)


class Row(NamedTuple):
    """One endpoint of one cohort in numbers.

    Attributes
    ----------
    kind : of the endpoint, and its transform if it has one.
    slides, patients : whose label is known.
    counts : patients per class, events, or the median and the range.
    """

    cohort: str
    endpoint: str
    kind: str
    slides: int
    patients: int
    counts: str


def names_of(short: str) -> tuple[str, ...]:
    """Names of a cohort's endpoints, in order."""
    return tuple(QUESTIONS[short])


def table_of(short: str) -> pd.DataFrame:
    """The packaged table of a cohort as text, one line per slide."""
    packed = files("milbench.datasets").joinpath(TABLES, f"{short}.csv.gz").read_bytes()
    return pd.read_csv(io.BytesIO(gzip.decompress(packed)), dtype=str, keep_default_na=False)


@cache
def labels_of(short: str) -> EndpointLabels:
    """The labels of a cohort's endpoints by case id."""
    patients = table_of(short).drop_duplicates(CASE)
    columns = {name: _column(short, name, question, patients) for name, question in QUESTIONS[short].items()}
    values = {name: column.values.to_numpy() for name, column in columns.items()}
    endpoints = {name: column.endpoint for name, column in columns.items()}
    return EndpointLabels(pd.DataFrame(values, index=pd.Index(patients[CASE])), endpoints)


def _column(short: str, name: str, question: Question, patients: pd.DataFrame) -> LabelColumn:
    declared = question.declared
    cells = patients.assign(**{column: patients[column].map(question.read) for column in declared.columns(name)})
    positive = {name: question.positive} if question.positive else {}
    stated = Stated(positive=positive, declared={name: declared})
    return task_column(Path(TABLES, f"{short}.csv.gz"), cells, name, patients[CASE], "patient", stated)


def with_endpoints(cohort: Cohort, short: str) -> Cohort:
    """The cohort with its endpoints as optional tasks; patients who are not in the packaged table have no label."""
    known = labels_of(short)
    labels = known.by_patient.reindex(cohort.slides["patient_id"]).reset_index(drop=True)
    slides = pd.concat([cohort.slides, labels], axis=1)
    optional = {
        name: OptionalTask(
            labels_sha256(slides, name, endpoint), (_note(slides, name, endpoint, QUESTIONS[short][name]),)
        )
        for name, endpoint in known.endpoints.items()
    }
    other_kinds = {name: endpoint for name, endpoint in known.endpoints.items() if endpoint.kind != "binary"}
    return replace(cohort, slides=slides, endpoints={**cohort.endpoints, **other_kinds}, optional=optional)


def _note(slides: pd.DataFrame, name: str, endpoint: Endpoint, question: Question) -> str:
    row = _row("", name, slides, endpoint, question)
    return (
        f"{name}: {row.kind}, known for {row.slides} of {len(slides)} slides, {row.patients} patients ({row.counts}); "
        f"from {question.source}, joined by case id"
    )


def all_rows() -> list[Row]:
    """All endpoints of all cohorts in numbers."""
    return [row for short in QUESTIONS for row in rows_of(short)]


def rows_of(short: str) -> list[Row]:
    """All endpoints of a cohort in numbers, over the slides of the packaged table."""
    known, table = labels_of(short), table_of(short)
    labels = known.by_patient.reindex(table[CASE]).reset_index(drop=True)
    slides = pd.concat([table[[SLIDE, CASE]].rename(columns={CASE: "patient_id"}), labels], axis=1)
    return [
        _row(f"tcga-{short}", name, slides, known.endpoints[name], question)
        for name, question in QUESTIONS[short].items()
    ]


def _row(cohort: str, name: str, slides: pd.DataFrame, endpoint: Endpoint, question: Question) -> Row:
    patients = patient_labels(slides, name, endpoint).dropna()
    kind = f"{endpoint.kind}, log1p" if endpoint.transform == "log1p" else endpoint.kind
    n_slides = int(slides[name].notna().sum())
    return Row(cohort, name, kind, n_slides, len(patients), _counts(patients, endpoint, question))


def _counts(patients: pd.Series, endpoint: Endpoint, question: Question) -> str:
    if endpoint.kind == "survival":
        return f"{int(event_of(patients.to_numpy()).sum())} events"
    if endpoint.kind in WITH_CLASSES:
        return ", ".join(f"{name} {int((patients == place).sum())}" for place, name in enumerate(endpoint.classes))
    if endpoint.kind == "binary":
        return f"{question.positive} {int((patients == 1).sum())}, others {int((patients == 0).sum())}"
    if patients.empty:
        return "no value"
    return f"median {patients.median():.3g}, {patients.min():.3g} to {patients.max():.3g}"
