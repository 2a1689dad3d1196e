"""Findings about a cohort: the one list that `check` prints, `run` heeds, and a run folder and its report keep."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from milbench.cohorts.bag_names import SLIDE
from milbench.cohorts.cohort import Cohort
from milbench.cohorts.cohort_file import AS_GIVEN
from milbench.cohorts.patient_bags import FIX, slides_by_patient, unlike_slides
from milbench.cohorts.task_kinds import declared_tasks
from milbench.endpoints.endpoint import WITH_CLASSES, Endpoint
from milbench.errors import DataError, FeatureFileError
from milbench.formats import SlideHeader
from milbench.intake.copies import copy_findings, same_files
from milbench.intake.extraction import extraction_findings, some_slides
from milbench.intake.patients import patient_findings
from milbench.labels import Stated, contradictions, one_class_tasks, read_labels, suggested_tasks
from milbench.labels.finding import ERROR, NOTE, WARNING, Finding, condensed, of_tasks, some, worst_first
from milbench.splits import Audit, Split

FEW_POSITIVES = 5
"""Positives on one side of a fold below which an AUROC says next to nothing (its standard error exceeds 0.1)."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is known of a cohort before anything trains.

    Attributes
    ----------
    slides, tasks : its table of labels; slides without features are left out.
    told : what was noticed while the labels were read.
    files : feature file by slide id.
    headers : by slide id, what the files say of themselves.
    broken : by slide id, why a file cannot be opened.
    split, audit : None = there is no split.
    as_given : whether ids that seem to part a patient are meant so.
    endpoints : what the tasks ask, by task.
    bag : what a bag is, "slide" or "patient"; `audit` counts bags.
    """

    slides: pd.DataFrame
    tasks: Sequence[str]
    told: Sequence[Finding] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    headers: Mapping[str, SlideHeader] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    split: Split | None = None
    audit: Audit | None = None
    as_given: bool = False
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    bag: str = SLIDE


def subject_of(cohort: Cohort, split: Split | None, audit: Audit | None) -> Subject:
    """What is known of a cohort that was read; headers are read here."""
    by_slide = cohort.by_slide  # files are extracted, broken and copied slide by slide, whatever a bag is
    header, slides = by_slide.header, by_slide.slides
    headers, broken = ({}, {}) if header is None else headers_of(header, slides["slide_id"])
    given = cohort.patients == AS_GIVEN
    return Subject(
        slides,
        cohort.tasks,
        cohort.findings,
        cohort.files,
        headers,
        broken,
        split,
        audit,
        given,
        cohort.endpoints,
        cohort.bag,
    )


def findings_of(subject: Subject) -> tuple[Finding, ...]:
    """Everything that was noticed about the cohort and its tasks, worst first."""
    slides, tasks, split, as_given = subject.slides, subject.tasks, subject.split, subject.as_given
    copies = same_files(subject.files, _with_patches(subject))
    return worst_first(condensed([
        *patient_findings(slides, split, as_given=as_given),
        *copy_findings("the same file", copies, slides, tasks, split, as_given=as_given),
        *of_tasks(subject.told, tasks),
        *contradictions(slides, tasks, subject.endpoints, joined=subject.bag != SLIDE),
        *one_class_tasks(slides, tasks, subject.endpoints),
        *header_findings(subject.headers, subject.broken, subject.files),
        *_bag_findings(subject),
        *(split_findings(subject.split, subject.audit, subject.bag) if subject.split and subject.audit else ()),
        *_unlabelled(slides, tasks),
    ]))  # fmt: skip


def _with_patches(subject: Subject) -> list[str]:
    """Slides whose files hold something: files that are broken alike, or empty, are no copies of a slide."""
    empty = {slide for slide, header in subject.headers.items() if header.n_patches == 0}
    left_out = empty | subject.broken.keys()
    return [slide for slide in subject.slides["slide_id"] if slide in subject.files and slide not in left_out]


def findings_of_labels(path: Path) -> tuple[Finding, ...]:
    """What a label table tells by itself, without features and splits; raises `LabelTableError`.

    If not all of its columns are binary, they are read as the kinds that their names and cells suggest.
    """
    declared = declared_tasks(path, suggested_tasks(path))
    table = read_labels(path, list(declared) or None, stated=Stated(declared=declared))
    tasks = [column for column in table.slides if column not in ("slide_id", "patient_id")]
    return findings_of(Subject(table.slides, tasks, table.findings, endpoints=table.endpoints))


def refuse_errors(cohort: str, findings: Iterable[Finding]) -> None:
    """DataError that tells the errors among the findings, if there are any."""
    errors = [finding.text for finding in findings if finding.severity == ERROR]
    if errors:
        more = f" ({len(errors) - 1} more; `milbench data check` lists all)" if len(errors) > 1 else ""
        raise DataError(f"cohort '{cohort}': {errors[0]}{more}")


def _unlabelled(slides: pd.DataFrame, tasks: Sequence[str]) -> list[Finding]:
    unknown = slides[list(tasks)].isna().sum()
    return [Finding(NOTE, f"{task}: {n} slides have no label", task=str(task)) for task, n in unknown.items() if n]


def _bag_findings(subject: Subject) -> list[Finding]:
    """Patients whose slides make no bag, where bags are patients."""
    if subject.bag == SLIDE:
        return []
    unlike = unlike_slides(slides_by_patient(subject.slides), subject.headers)
    what = f"bag: {subject.bag}: {len(unlike)} patient{'s' * (len(unlike) != 1)} ({some(list(unlike))})"
    return [Finding(ERROR, f"{what}: {next(iter(unlike.values()))}", FIX)] if unlike else []


def split_findings(split: Split, audit: Audit, bag: str = SLIDE) -> list[Finding]:
    """Sides of folds that lack what a task needs, or that have few positives, events or slides of a class."""
    sides = audit.table[audit.table["role"] != "train"]
    few = [(row.task, what) for row in sides.itertuples() if (what := _scarce(row.kind, row.counts))]
    counts = Counter(few)
    return [
        *audit.findings,
        *(
            Finding(
                NOTE,
                f"{task}: fewer than {FEW_POSITIVES} {what.replace(SLIDE, bag)} on {n} validation or test sides ({split.protocol})",
                task=str(task),
            )
            for (task, what), n in counts.items()
        ),
    ]


def _scarce(kind: str, counts: Sequence[int]) -> str:
    """What a side has, and has few of; "" where it has enough, or none."""
    if kind == "regression":
        return ""
    if kind in WITH_CLASSES:
        return "slides of a class" if any(0 < count < FEW_POSITIVES for count in counts) else ""
    return SCARCE[kind] if 0 < counts[1] < FEW_POSITIVES else ""


SCARCE = {"binary": "positive slides", "survival": "slides with an event"}


# ---- headers -------------------------------------------------------------------------------------


def headers_of(
    header: Callable[[str], SlideHeader], slides: Iterable[str]
) -> tuple[dict[str, SlideHeader], dict[str, str]]:
    """What every slide's file says of itself, and the message of each that cannot be opened."""
    headers: dict[str, SlideHeader] = {}
    broken: dict[str, str] = {}
    for slide in slides:
        try:
            headers[slide] = header(slide)
        except (FeatureFileError, OSError) as error:
            broken[slide] = str(error)
    return headers, broken


def header_findings(
    headers: Mapping[str, SlideHeader], broken: Mapping[str, str], files: Mapping[str, Path]
) -> list[Finding]:
    """Files that cannot be opened, that are empty, whose coordinates do not fit, or that were not extracted like the others."""
    full = {slide: header for slide, header in headers.items() if header.n_patches and header.width}
    empty = [slide for slide, header in headers.items() if not header.n_patches]
    flat = [slide for slide in headers if slide not in full and slide not in empty]
    findings = _broken_findings(broken, files)
    for slides, what in ((empty, "no patches"), (flat, "features are 0 wide, each patch an empty vector")):
        if slides:
            findings.append(Finding(ERROR, f"{some_slides(slides)}: {what}", "Extract again, or drop their labels."))
    return [
        *findings,
        *coords_findings(headers),
        *extraction_findings(full),
        *order_findings(headers),
    ]


def _broken_findings(broken: Mapping[str, str], files: Mapping[str, Path]) -> list[Finding]:
    """What is wrong with files that cannot be opened; what many have in common is said once."""
    alike: dict[str, list[str]] = defaultdict(list)
    for slide, message in broken.items():
        alike[message.replace(str(files.get(slide, slide)), "")].append(slide)
    return [
        Finding(ERROR, broken[slides[0]], f"The same holds for {some_slides(slides[1:])}." if slides[1:] else "")
        for slides in alike.values()
    ]


def coords_findings(headers: Mapping[str, SlideHeader]) -> list[Finding]:
    """Coordinates that cannot be used, and what that stops; the first reason stands for all."""
    odd = {slide: header.coords_problem for slide, header in headers.items() if header.coords_problem}
    if not odd:
        return []
    what = f"{some_slides(list(odd))}: {next(iter(odd.values())).rstrip('.')}"
    limit = "Only models that need coordinates cannot take these slides; no map of them can be drawn"
    return [Finding(WARNING, f"{what}. {limit}", "Extract them again with coordinates that fit.")]


def order_findings(headers: Mapping[str, SlideHeader]) -> list[Finding]:
    """Slides whose patches may stand in another order than on the slide; the first reason stands for all."""
    odd = {slide: header.order_problem for slide, header in headers.items() if header.order_problem}
    if not odd:
        return []
    what = f"{some_slides(list(odd))}: {next(iter(odd.values())).rstrip('.')}"
    limit = f"{', '.join(LAID_OUT)} lay patches out in the order of the file, and see neighbours there that are none"
    return [Finding(WARNING, f"{what}. {limit}", "Leave these models out, or extract again with one block per slide.")]


LAID_OUT = ("M4", "MMoE+MP-AMIL", "RRT-MIL", "TransMIL")
"""Models that take the order of the file for the order on the slide."""
