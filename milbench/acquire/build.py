"""A label table of any study, of genes and of clinical endpoints: ask, join, write, and report what was done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from milbench.acquire import cbioportal, gdc
from milbench.acquire.clinical import Clinical, read_clinical
from milbench.acquire.endpoint_columns import WANTED, EndpointColumns, endpoint_columns
from milbench.acquire.http import Http
from milbench.acquire.label_table import (
    BARCODE,
    PRIMARY,
    Agreement,
    Calls,
    Table,
    call,
    compare,
    keep_most_mutated,
    refuse_id_columns,
    write_labels,
)
from milbench.errors import AcquireError, UsageError
from milbench.labels import read_labels
from milbench.visible import visible, without_passwords

REPORT = "report.txt"
SPARE = 20
"""Candidates beyond the genes asked for: the portal ranks samples, the table counts patients' primary tumours."""
PROJECTS = {"COADREAD": ["TCGA-COAD", "TCGA-READ"]}
"""Studies that hold more than one project of the GDC."""

NO_CALLS = Calls({}, {}, [])
NO_ENDPOINTS = EndpointColumns({}, {}, [])


class Built(NamedTuple):
    """A table that was written, and what there is to say of it."""

    folder: Path
    report: str


class Sources(NamedTuple):
    """Addresses of the two servers."""

    cbioportal: str = cbioportal.CBIOPORTAL_URL
    gdc: str = gdc.GDC_URL


def projects_of(study_ids: Sequence[str]) -> list[str]:
    """The GDC's projects with the slides of these studies, from the studies' names.

    Raises
    ------
    UsageError : a study that is not named as TCGA's are.
    """
    projects: list[str] = []
    for study_id in study_ids:
        match = re.match(r"([a-z]+)_tcga(_|$)", study_id)
        if not match:
            raise UsageError(f"study '{study_id}' names no TCGA project; say which with --project, such as TCGA-BRCA.")
        short = match[1].upper()
        projects += PROJECTS.get(short, [f"TCGA-{short}"])
    return list(dict.fromkeys(projects))


def build_labels(
    client: Http,
    study_ids: Sequence[str],
    folder: Path,
    *,
    genes: Sequence[str] = (),
    top: int = 0,
    endpoints: bool = False,
    projects: Sequence[str] = (),
    released: Path | None = None,
    sources: Sources = Sources(),  # noqa: B008 - an immutable tuple
) -> Built:
    """Write `labels.csv`, `manifest.txt` and `report.txt` in `folder`; with endpoints `tasks.yaml` beside them.

    Parameters
    ----------
    genes : names of the genes; or none, and `top` = how many of the most mutated; 0 = no gene at all.
    endpoints : whether survival, subtype, grade and stage are columns too.
    projects : the GDC's projects with the slides; none = those that the studies' names say.
    released : a label table to compare with.
    """
    study_ids = [cbioportal.checked_study(study_id) for study_id in study_ids]
    projects = list(projects) or projects_of(study_ids)
    _refuse_other_labels(folder)
    refuse_id_columns(genes)
    other = _released_labels(released)
    asks_genes = bool(genes or top)
    chosen, calls = _calls(client, sources.cbioportal, study_ids, genes, top) if asks_genes else ([], NO_CALLS)
    studies = (
        [read_clinical(client, sources.cbioportal, study_id, WANTED) for study_id in study_ids] if endpoints else []
    )
    slides = gdc.diagnostic_slides(client, sources.gdc, projects)
    clinical = _clinical(studies, slides, sources.cbioportal) if endpoints else NO_ENDPOINTS
    report = [
        *_what(study_ids, projects, sources, asks_genes=asks_genes),
        *_slides(slides),
        *(_counts(calls, slides, chosen) if asks_genes else ()),
        *(_agreement(compare(slides, calls.labels, other), released) if asks_genes else ()),
        *clinical.report,
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_labels(folder / "labels.csv", slides, _rows(calls, clinical), [*chosen, *clinical.columns])
    gdc.write_manifest(slides, folder / "manifest.txt")
    if endpoints:
        (folder / "tasks.yaml").write_text(_tasks_yaml(chosen, clinical), encoding="utf-8")
    (folder / REPORT).write_text(visible(without_passwords("\n".join(report))) + "\n", encoding="utf-8")
    return Built(folder, "\n".join(report))


def _clinical(studies: Sequence[Clinical], slides: Sequence[gdc.SlideFile], url: str) -> EndpointColumns:
    """The studies' endpoints of the patients who have slides.

    Raises
    ------
    AcquireError : no study has one.
    """
    names = ", ".join(study.study_id for study in studies)
    made = endpoint_columns(studies, {slide.patient_id for slide in slides})
    if not made.columns:
        raise AcquireError(
            f"{names}: no survival, subtype, grade or stage can be learned from. Choose another study.\n"
            + "\n".join(made.report)
        )
    head = f"Endpoints   clinical attributes of {names} ({url}), of patients with slides"
    return made._replace(report=[head, *made.report])


def _rows(calls: Calls, clinical: EndpointColumns) -> dict[str, dict[str, int | str]]:
    """Cells by patient and column."""
    rows: dict[str, dict[str, int | str]] = {patient: dict(row) for patient, row in calls.labels.items()}
    for name, column in clinical.columns.items():
        for patient, cell in column.items():
            rows.setdefault(patient, {})[name] = cell
    return rows


def _tasks_yaml(genes: Sequence[str], clinical: EndpointColumns) -> str:
    """What a cohort.yaml must say so that the columns are read as they are meant."""
    tasks = {**{gene: {"kind": "binary"} for gene in genes}, **clinical.tasks}
    return "# Copy this into the cohort.yaml that names labels.csv.\n" + yaml.safe_dump(
        {"tasks": tasks}, sort_keys=False
    )


def _refuse_other_labels(folder: Path) -> None:
    """A table that this command did not write would be lost: it writes its report beside."""
    if (folder / "labels.csv").exists() and not (folder / REPORT).exists():
        raise AcquireError(
            f"{folder / 'labels.csv'} was not made by this command, and is left as it is. Name another folder with --out."
        )


def _calls(client: Http, url: str, study_ids: Sequence[str], genes: Sequence[str], top: int) -> tuple[list[str], Calls]:
    """The genes' names and everyone's labels; `top` genes are chosen by the patients that they are mutated in."""
    asked = (
        cbioportal.most_mutated(client, url, study_ids, top + SPARE)
        if top
        else cbioportal.find_genes(client, url, genes, study_ids)
    )
    studies = [cbioportal.read_study(client, url, study_id, asked) for study_id in study_ids]
    chosen = keep_most_mutated(call(studies, asked), asked, top) if top else asked
    calls = call(studies, chosen)
    if not calls.labels:
        raise AcquireError(
            f"{', '.join(study_ids)}: no sequenced sample is a primary tumour by TCGA's rule of names (...-01), so "
            "there is nothing to label. Choose a TCGA study."
        )
    return refuse_id_columns([gene.symbol for gene in chosen]), calls


def _released_labels(path: Path | None) -> Table:
    if path is None:
        return {}
    table = read_labels(path).slides
    genes = [name for name in table if name not in ("slide_id", "patient_id")]
    rows = zip(table["slide_id"], table[genes].to_dict("records"), strict=True)
    return {slide: {gene: int(value) for gene, value in row.items() if value == value} for slide, row in rows}  # noqa: PLR0124 - NaN


def _what(study_ids: Sequence[str], projects: Sequence[str], sources: Sources, *, asks_genes: bool) -> list[str]:
    slides = f"Slides      diagnostic slides of {', '.join(projects)} ({sources.gdc})"
    if not asks_genes:
        return [slides]
    return [
        f"Mutations   {', '.join(study_ids)} ({sources.cbioportal})",
        slides,
        "Rule        1 = a mutation of the gene was returned for the patient's primary tumour (sample -01)",
        "            0 = that sample is in the study's list of sequenced samples and none was returned",
        "            blank = not in that list: unknown",
        "            Every returned class counts. The portal leaves silent, intron and UTR mutations out by default",
        "            when a study is imported; the list below says which classes there were.",
    ]


def _slides(slides: Sequence[gdc.SlideFile]) -> list[str]:
    n_patients = len({slide.patient_id for slide in slides})
    other = [slide.slide_id for slide in slides if not slide.slide_id[BARCODE + 1 :].startswith(PRIMARY)]
    return [
        f"Slides      {len(slides)} of {n_patients} patients, {sum(slide.bytes for slide in slides) / 1e9:.1f} GB",
        f"Not primary {_some(len(other), 'slides of another sample, labelled as their patient is', other)}",
    ]


def _counts(calls: Calls, slides: Sequence[gdc.SlideFile], genes: Sequence[str]) -> list[str]:
    with_slides = {slide.patient_id for slide in slides}
    blank = [slide.slide_id for slide in slides if slide.patient_id not in calls.labels]
    known = [calls.labels[slide.patient_id] for slide in slides if slide.patient_id in calls.labels]
    without = sorted(set(calls.labels) - with_slides)
    return [
        f"Unknown     {_some(len(blank), 'slides of patients without calls (blank cells)', blank)}",
        f"No slide    {_some(len(without), 'patients with calls but without a slide', without)}",
        f"Left out    {_some(len(calls.dropped), 'sequenced samples that are no primary tumour', calls.dropped)}",
        "Classes     " + (", ".join(f"{kind} {count}" for kind, count in calls.kinds.items()) or "none"),
        "Mutated     slides and patients per gene",
        *(
            f"  {gene:<10} {sum(row[gene] for row in known):>6} {sum(row[gene] for row in calls.labels.values()):>6}"
            for gene in genes
        ),
    ]


def _agreement(agreements: Sequence[Agreement], released: Path | None) -> list[str]:
    if released is None:
        return ["Released    no released table to compare with (--compare, or fetch it with `milbench data fetch`)"]
    if not agreements:
        return [f"Released    {released} shares no gene or no slide with this table"]
    lines = [
        f"  {one.gene:<10} {one.agree:>6} {one.only_here + one.only_there:>6} {one.only_here:>6} {one.only_there:>6}"
        for one in agreements
    ]
    return [f"Released    slides agree, disagree (mutated only here, only there), with {released}", *lines]


def _some(count: int, what: str, names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most]) + (", ..." if count > most else "")
    return f"{count} {what}" + (f": {shown}" if names else "")
