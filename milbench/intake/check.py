"""Check: labels against features, everything that is wrong at once, worst first, each with its fix."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

from milbench.bag import LARGEST_VALUE, Bag, all_finite, largest_value
from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.cohorts.cohort import Cohort
from milbench.cohorts.cohort_file import AS_GIVEN, CohortFile
from milbench.cohorts.feature_facts import feature_facts
from milbench.cohorts.fingerprint import fingerprint
from milbench.cohorts.patient_bags import patient_fingerprint, patient_table
from milbench.endpoints.endpoint import Endpoint
from milbench.errors import MilbenchError
from milbench.formats import FeatureFolder, SlideFeatures, SlideHeader
from milbench.formats.detect import SUFFIXES as FEATURE_SUFFIXES
from milbench.formats.packed import checksum_problem
from milbench.formats.shapes import lie_at_one_place
from milbench.intake.copies import copy_findings, same_files
from milbench.intake.extraction import some_slides
from milbench.intake.findings import Subject, coords_findings, findings_of, subject_of
from milbench.intake.inspection import Watch, read_headers
from milbench.intake.task_summary import task_summary
from milbench.labels import LabelTable
from milbench.labels.finding import ERROR, MANY_TASKS, NOTE, SHOWN, WARNING, Finding, some, worst_first
from milbench.splits import N_FOLDS, audit, make_split
from milbench.store.feature_facts import in_words

SLIDE_SUFFIXES = (".svs", ".ndpi", ".tif", ".tiff", ".mrxs", *FEATURE_SUFFIXES)

JOINED = f"{PATIENT}: the slides of each patient are joined"

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """All that was found.

    Attributes
    ----------
    problems : worst first.
    facts : name and value, for a table.
    folds : DataFrame of the split's audit, empty where no split could be made.
    bag : what `folds` counts, "slide" or "patient".
    """

    problems: tuple[Finding, ...]
    facts: tuple[tuple[str, str], ...]
    folds: pd.DataFrame
    bag: str = SLIDE

    @property
    def passed(self) -> bool:
        """Whether nothing but notes was found."""
        return all(problem.severity == NOTE for problem in self.problems)


def check_cohort(file: CohortFile, watch: Watch, *, splits: str = "", deep: bool = False) -> Check:
    """Everything wrong with a cohort; with `deep` every value is read, else headers only."""
    problems: list[Finding] = []
    table = _tried(problems, file.label_table)
    folder = _tried(problems, file.feature_folder)
    facts = [("cohort", file.name)]
    if table is not None:
        facts += [("labels", note.removeprefix("labels: ")) for note in some_notes(table.notes)]
        facts += _label_facts(table.slides, tasks_of(table.slides), table.endpoints)
    if folder is not None:
        facts.append(("features", folder.layout))
    if table is None or folder is None:
        known = [] if table is None else findings_of(_labels_alone(table))
        return Check(worst_first([*problems, *known]), tuple(facts), pd.DataFrame())
    folder = folder.spelled_as(table.slides["slide_id"])
    subject = _subject(problems, file, table, folder, watch, splits or file.splits)
    problems += [*_matching_problems(table.slides, folder), *findings_of(subject)]
    if deep:
        problems += _value_findings(subject, folder.load, list(subject.headers), watch)
    if subject.split is not None:
        facts += [("splits", note.removeprefix("splits: ")) for note in subject.split.notes]
    if subject.bag == PATIENT:
        facts.append(("bag", JOINED))
    if subject.headers:
        facts += in_words(feature_facts(subject.headers.values())).items()
    if subject.headers or subject.broken:
        doubled: list[Finding] = []  # a file that cannot be opened was told already
        told = doubled if subject.broken else problems
        facts.append(("fingerprint", _tried(told, lambda: _fingerprint(subject, folder)) or "none"))
    return Check(
        worst_first(problems), tuple(facts), pd.DataFrame() if subject.audit is None else subject.audit.table, file.bag
    )


def check_loaded(cohort: Cohort, watch: Watch, *, splits: str = "", deep: bool = False) -> Check:
    """Everything wrong with a cohort that Python makes; with `deep` every value is read."""
    problems: list[Finding] = []
    protocol, n_folds = splits or cohort.splits, max(N_FOLDS, cohort.n_folds)
    tasks, endpoints = cohort.tasks, cohort.endpoints
    split = _tried(
        problems, lambda: make_split(cohort.patients_from, tasks, protocol, n_folds=n_folds, endpoints=endpoints)
    )
    counts = None
    if split is not None:
        counts = _tried(problems, lambda: audit(split, cohort.slides, tasks, endpoints, cohort.bag))
    subject = subject_of(cohort, split, counts)
    problems += findings_of(subject)
    if deep:
        slide_ids = subject.slides["slide_id"].tolist()
        problems += _value_findings(subject, cohort.by_slide.load, slide_ids, watch)
    notes = [*cohort.notes, *(split.notes if split else ())]
    facts = [
        ("cohort", cohort.name),
        *_label_facts(subject.slides, tasks, {task: endpoints[task] for task in tasks if task in endpoints}),
        ("features", f"{cohort.in_features} per patch, made by Python"),
        *(("note", note) for note in some_notes(notes)),
        *([("bag", JOINED)] if cohort.bag == PATIENT else []),
        ("fingerprint", cohort.fingerprint),
    ]
    return Check(worst_first(problems), tuple(facts), pd.DataFrame() if counts is None else counts.table, cohort.bag)


def _subject(
    problems: list[Finding], file: CohortFile, table: LabelTable, folder: FeatureFolder, watch: Watch, protocol: str
) -> Subject:
    """What is known of the cohort; `problems` takes why there is no split, or why it cannot be used."""
    tasks, n_folds = tasks_of(table.slides), max(N_FOLDS, file.n_folds)
    kept = table.slides[table.slides["slide_id"].isin(set(folder.paths))].reset_index(drop=True)
    seen = read_headers(folder, watch, kept["slide_id"])
    split = counts = None
    if len(kept):
        split = _tried(
            problems, lambda: make_split(table.slides, tasks, protocol, n_folds=n_folds, endpoints=table.endpoints)
        )
    if split is not None:
        bags = patient_table(kept, tasks, table.endpoints) if file.bag == PATIENT else kept
        counts = _tried(problems, lambda: audit(split, bags, tasks, table.endpoints, file.bag))
    given = file.patients == AS_GIVEN
    slides = kept if len(kept) else table.slides
    told, endpoints = table.findings, table.endpoints
    return Subject(
        slides, tasks, told, folder.paths, seen.headers, seen.broken, split, counts, given, endpoints, file.bag
    )


def _fingerprint(subject: Subject, folder: FeatureFolder) -> str:
    """The cohort's fingerprint, as a run would have it."""
    of_slides = fingerprint(subject.slides, folder, subject.endpoints)
    return patient_fingerprint(of_slides) if subject.bag == PATIENT else of_slides


def _labels_alone(table: LabelTable) -> Subject:
    return Subject(table.slides, tasks_of(table.slides), table.findings, endpoints=table.endpoints)


def tasks_of(slides: pd.DataFrame) -> list[str]:
    """The task columns of a label table."""
    return [column for column in slides if column not in ("slide_id", "patient_id")]


def _tried(problems: list[Finding], step: Callable[[], T]) -> T | None:
    try:
        return step()
    except MilbenchError as error:
        problems.append(Finding(ERROR, str(error)))
        return None


def _label_facts(
    slides: pd.DataFrame, tasks: Sequence[str], endpoints: Mapping[str, Endpoint]
) -> list[tuple[str, str]]:
    per_patient = slides["patient_id"].value_counts()
    most = int(per_patient.iloc[0])
    facts = [
        ("slides", f"{len(slides)} labelled"),
        ("patients", f"{len(per_patient)}, at most {most} slide{'s' * (most != 1)} each ({per_patient.index[0]})"),
        ("tasks", _some_tasks(tasks)),
        *((task, task_summary(slides, task, endpoint)) for task, endpoint in endpoints.items()),
    ]
    sites = _sites(slides)
    return [*facts, ("tissue source sites", sites)] if sites else facts


def _some_tasks(tasks: Sequence[str]) -> str:
    return ", ".join(tasks) if len(tasks) <= MANY_TASKS else f"{len(tasks)}: {some(tasks)}"


def some_notes(notes: Sequence[str]) -> list[str]:
    """The notes; if there are very many, the first ones and how many more there are."""
    return (
        list(notes) if len(notes) <= MANY_TASKS else [*notes[:SHOWN], f"{len(notes) - SHOWN} more notes of this kind"]
    )


def _sites(slides: pd.DataFrame) -> str:
    """Number of TCGA tissue source sites and the largest; empty where ids are no TCGA barcodes."""
    patients = slides["patient_id"].drop_duplicates()
    codes = patients.str.extract(r"^TCGA-([A-Z0-9]{2})-[A-Z0-9]{4}", expand=False)
    if codes.isna().any():
        return ""
    counts = codes.value_counts()
    return f"{len(counts)}, the largest {counts.index[0]} with {counts.iloc[0]} of {len(patients)} patients"


def _matching_problems(slides: pd.DataFrame, folder: FeatureFolder) -> list[Finding]:
    labelled = set(slides["slide_id"])
    missing = [slide for slide in slides["slide_id"] if slide not in folder.paths]
    extra = sorted(set(folder.paths) - labelled)
    problems = []
    if missing:
        fix = (
            _near(missing, extra)
            or _other_ending(missing, folder)
            or "Extract them, delete their lines, or skip them with --allow-missing."
        )
        if below := folder.below(missing):
            fix = (
                f"Files of these names lie in folders below, which are not read ({below}): move them up, or link them."
            )
        problems.append(Finding(ERROR, f"{some_slides(missing)}: labelled, but no feature file", fix))
    if extra:
        fix = "Label them, move them away, or skip them with --allow-missing."
        problems.append(Finding(ERROR, f"{some_slides(extra)}: feature file, but no label", fix))
    return problems


def _other_ending(missing: Sequence[str], folder: FeatureFolder) -> str:
    """Advice where a slide's file lies beside the others under an ending that is not read here."""
    suffix = folder.suffix
    endings = {path.name.removesuffix(path.suffix): path for path in sorted(folder.folder.iterdir())}
    beside = [endings[slide] for slide in missing if slide in endings]
    if not beside:
        return ""
    return (
        f"Files of {len(beside)} lie there with another ending ({beside[0].name}), and only {suffix} files are read here. "
        "Bring all slides to one format."
    )


def _near(missing: Sequence[str], extra: Sequence[str]) -> str:
    """Advice where ids differ by a file suffix, or by what follows the barcode's first 23 characters."""
    bare = {
        slide: slide.removesuffix(suffix) for slide in missing for suffix in SLIDE_SUFFIXES if slide.endswith(suffix)
    }
    files = set(extra)
    by_suffix = [slide for slide in missing if bare.get(slide) in files]
    if by_suffix:
        return f"{len(by_suffix)} match a file once their suffix is dropped: write '{bare[by_suffix[0]]}', not '{by_suffix[0]}'."
    starts = {name[:23] for name in extra if name.startswith("TCGA-")}
    by_start = [slide for slide in missing if slide[:23] in starts]
    if by_start:
        return f"{len(by_start)} match a file in the first 23 characters of the barcode: the slide was re-submitted, rename one."
    return ""


def _value_findings(
    subject: Subject, load: Callable[[str], Bag | SlideFeatures], slides: Sequence[str], watch: Watch
) -> list[Finding]:
    """What only the values tell: NaN, zeros, constants, equal contents, damaged packs."""
    found: dict[str, list[str]] = defaultdict(list)
    same: dict[bytes, list[str]] = defaultdict(list)
    odd: dict[str, SlideHeader] = {}
    problems = []
    for slide in watch(slides, "reading values"):
        try:
            loaded = load(slide)
        except MilbenchError as error:
            problems.append(Finding(ERROR, str(error)))
            continue
        features, header = loaded.features, subject.headers.get(slide)
        if loaded.coords_problem and not (header and header.coords_problem):
            known = header or SlideHeader(len(features), features.shape[1], str(features.dtype))
            odd[slide] = known._replace(coords_problem=loaded.coords_problem)
        if loaded.coords is not None and lie_at_one_place(loaded.coords):
            found[AT_ONE_PLACE].append(slide)
        for trouble in _troubles(features):
            found[trouble].append(slide)
        if features.numel():
            same[hashlib.sha256(_bytes(features)).digest()].append(slide)
        damage = checksum_problem(subject.files[slide]) if slide in subject.files else ""
        problems += [Finding(ERROR, damage, "Delete the file and run `milbench data pack` again.")] if damage else []
    for name, (severity, fix) in TROUBLES.items():
        problems += [Finding(severity, f"{some_slides(found[name])}: {name}", fix)] if name in found else []
    problems += coords_findings(odd)
    told = same_files(subject.files, subject.headers)  # of equal files nobody needs to hear that their values are equal
    groups = [group for group in same.values() if len(group) > 1 and group not in told]
    tasks, split, given = subject.tasks, subject.split, subject.as_given
    return problems + copy_findings("the same features", groups, subject.slides, tasks, split, as_given=given)


COUNTED, IN_FRONT = "the first two columns are whole numbers, as coordinates are", 2
AT_ONE_PLACE = "all patches lie at one place"
TOO_LARGE = f"values beyond {LARGEST_VALUE:.2g}"
TROUBLES: Mapping[str, tuple[str, str]] = {
    "NaN or infinite values": (ERROR, "Extract again."),
    TOO_LARGE: (ERROR, "Extract again: no encoder gives such values."),
    "all values are zero": (WARNING, "Extract again, or drop their labels."),
    AT_ONE_PLACE: (
        WARNING,
        "Models that need coordinates fail on them, and no map of them can be drawn. Extract again.",
    ),
    COUNTED: (WARNING, "If they are coordinates, save the features without them."),
    "all patches are equal": (WARNING, "Check the extractor: it may have seen one image only."),
}


def _troubles(features: Tensor) -> list[str]:
    if not all_finite(features):
        return ["NaN or infinite values"]
    if largest_value(features) > LARGEST_VALUE:
        return [TOO_LARGE]
    if features.numel() and not features.any():
        return ["all values are zero"]
    if len(features) > 1 and bool((features == features[0]).all()):
        return ["all patches are equal"]
    return [COUNTED] if _counts_in_front(features) else []


def _counts_in_front(features: Tensor) -> bool:
    """Whether the first two columns are whole numbers that vary, and the others together are not."""
    front, rest = features[:, :IN_FRONT], features[:, IN_FRONT:]
    if not rest.numel() or len(features) < 2 or bool((front == front[0]).all(dim=0).any()):
        return False
    return bool((front == front.trunc()).all()) and not bool((rest == rest.trunc()).all())


def _bytes(features: Tensor) -> bytes:
    return np.ascontiguousarray(features.float().numpy()).tobytes()
