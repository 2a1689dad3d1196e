"""Check: labels against features, everything that is wrong at once, worst first, each with its fix."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

from milbench.bag import all_finite
from milbench.cohorts.cohort_file import CohortFile
from milbench.cohorts.fingerprint import file_ends, fingerprint
from milbench.errors import FeatureFileError, MilbenchError
from milbench.formats import FeatureFolder, SlideHeader, open_features
from milbench.formats.detect import SUFFIXES as FEATURE_SUFFIXES
from milbench.formats.packed import checksum_problem
from milbench.intake.inspection import Inspection, Watch, read_headers
from milbench.labels import contradictions, one_class_tasks, read_labels
from milbench.splits import audit, make_split

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""`milbench run` refuses errors; warnings make results doubtful; notes are worth knowing."""

SLIDE_SUFFIXES = (".svs", ".ndpi", ".tif", ".tiff", ".mrxs", *FEATURE_SUFFIXES)
FEW_POSITIVES = 5
"""Positives on one side of a fold below which an AUROC says next to nothing (its standard error exceeds 0.1)."""


T = TypeVar("T")


class Problem(NamedTuple):
    """One finding: how bad, what, and what to do."""

    severity: str
    what: str
    mend: str = ""


@dataclass(frozen=True)
class Check:
    """All that was found.

    Attributes
    ----------
    problems : worst first.
    facts : name and value, for a table.
    folds : DataFrame of the split's audit, empty where no split could be made.
    """

    problems: tuple[Problem, ...]
    facts: tuple[tuple[str, str], ...]
    folds: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether nothing but notes was found."""
        return all(problem.severity == NOTE for problem in self.problems)


def check_cohort(file: CohortFile, watch: Watch, *, splits: str = "", deep: bool = False) -> Check:
    """Everything wrong with a cohort; with `deep` every value is read, else headers only."""
    problems: list[Problem] = []
    table = _tried(problems, lambda: read_labels(file.labels, file.tasks or None, slides=file.slides))
    slides = None if table is None else table.slides
    folder = _tried(problems, lambda: open_features(file.features))
    facts = [("cohort", file.name)]
    if table is not None:
        facts += [("labels", note.removeprefix("labels: ")) for note in table.notes]
    if slides is not None:
        facts += _label_facts(slides)
        problems += _label_problems(slides)
    if folder is not None:
        facts.append(("features", folder.layout))
    if slides is None or folder is None:
        return Check(_worst_first(problems), tuple(facts), pd.DataFrame())
    folder = folder.spelled_as(slides["slide_id"])
    kept = slides[slides["slide_id"].isin(set(folder.paths))].reset_index(drop=True)
    problems += _matching_problems(slides, folder)
    headers = read_headers(folder, watch, kept["slide_id"])
    problems += _header_problems(headers) + _duplicate_problems(folder, list(headers.headers), watch)
    if deep:
        problems += _value_problems(folder, list(headers.headers), watch)
    folds = _tried(problems, lambda: _folds(slides, kept, splits or file.splits, problems)) if len(kept) else None
    if len(kept):
        facts.append(("fingerprint", _tried(problems, lambda: fingerprint(kept, folder)) or "none"))
    return Check(_worst_first(problems), tuple(facts), pd.DataFrame() if folds is None else folds)


def tasks_of(slides: pd.DataFrame) -> list[str]:
    """The task columns of a label table."""
    return [column for column in slides if column not in ("slide_id", "patient_id")]


def _tried(problems: list[Problem], step: Callable[[], T]) -> T | None:
    try:
        return step()
    except MilbenchError as error:
        problems.append(Problem(ERROR, str(error)))
        return None


def _worst_first(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: SEVERITIES.index(problem.severity)))


def _label_facts(slides: pd.DataFrame) -> list[tuple[str, str]]:
    per_patient = slides["patient_id"].value_counts()
    facts = [
        ("slides", f"{len(slides)} labelled"),
        ("patients", f"{len(per_patient)}, at most {per_patient.iloc[0]} slides each ({per_patient.index[0]})"),
        ("tasks", ", ".join(tasks_of(slides))),
    ]
    sites = _sites(slides)
    return [*facts, ("tissue source sites", sites)] if sites else facts


def _sites(slides: pd.DataFrame) -> str:
    """Number of TCGA tissue source sites and the largest; empty where ids are no TCGA barcodes."""
    patients = slides["patient_id"].drop_duplicates()
    codes = patients.str.extract(r"^TCGA-([A-Z0-9]{2})-[A-Z0-9]{4}", expand=False)
    if codes.isna().any():
        return ""
    counts = codes.value_counts()
    return f"{len(counts)}, the largest {counts.index[0]} with {counts.iloc[0]} of {len(patients)} patients"


def _label_problems(slides: pd.DataFrame) -> list[Problem]:
    tasks = tasks_of(slides)
    unknown = slides[tasks].isna().sum()
    return [
        *(Problem(WARNING, text, "Decide on one label per patient.") for text in contradictions(slides, tasks)),
        *(Problem(WARNING, text, "Leave it out of `tasks:`.") for text in one_class_tasks(slides, tasks)),
        *(Problem(NOTE, f"{task}: {n} slides have no label") for task, n in unknown.items() if n),
    ]


def _matching_problems(slides: pd.DataFrame, folder: FeatureFolder) -> list[Problem]:
    labelled = set(slides["slide_id"])
    missing = [slide for slide in slides["slide_id"] if slide not in folder.paths]
    extra = sorted(set(folder.paths) - labelled)
    problems = []
    if missing:
        mend = _near(missing, extra) or "Extract them, delete their lines, or skip them with --allow-missing."
        if below := folder.below(missing):
            mend = (
                f"Files of these names lie in folders below, which are not read ({below}): move them up, or link them."
            )
        problems.append(Problem(ERROR, f"{_some(missing)}: labelled, but no feature file", mend))
    if extra:
        mend = "Label them, move them away, or skip them with --allow-missing."
        problems.append(Problem(ERROR, f"{_some(extra)}: feature file, but no label", mend))
    return problems


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


def _header_problems(inspection: Inspection) -> list[Problem]:
    headers = inspection.headers
    problems = _broken_problems(inspection)
    odd = {slide: header.coords_problem for slide, header in headers.items() if header.coords_problem}
    if odd:
        problems.append(Problem(WARNING, coords_text(odd), "Extract them again with coordinates that fit."))
    empty = [slide for slide, header in headers.items() if header.n_patches == 0]
    if empty:
        problems.append(Problem(ERROR, f"{_some(empty)}: no patches", "Extract again, or drop their labels."))
    full = {slide: header for slide, header in headers.items() if header.n_patches}
    return problems + [
        problem
        for severity, name, key, mend in MIXED
        if (problem := _mixed(full, severity, name, key, mend)) is not None
    ]


def _broken_problems(inspection: Inspection) -> list[Problem]:
    """What is wrong with files that cannot be opened; what many have in common is said once."""
    alike: dict[str, list[str]] = defaultdict(list)
    for slide, message in inspection.broken.items():
        alike[message.replace(str(inspection.folder.paths[slide]), "")].append(slide)
    return [
        Problem(ERROR, inspection.broken[slides[0]], f"The same holds for {_some(slides[1:])}." if slides[1:] else "")
        for slides in alike.values()
    ]


def coords_text(odd: Mapping[str, str]) -> str:
    """What is wrong with the coordinates of slides, `odd` by slide id, and what that stops."""
    first = next(iter(odd.values()))
    return f"{_some(list(odd))}: {first}. Training needs no coordinates; no map of these slides can be drawn"


MIXED: tuple[tuple[str, str, Callable[[SlideHeader], object], str], ...] = (
    (ERROR, "width", lambda header: header.width, "Use one encoder for the whole cohort."),
    (WARNING, "dtype", lambda header: header.dtype, "Extract alike, or `milbench data pack` them to one dtype."),
    (WARNING, "encoder", lambda header: header.encoder, "Use one encoder for the whole cohort."),
    (WARNING, "magnification", lambda header: header.magnification, "Extract the whole cohort at one magnification."),
    (NOTE, "unit of coordinates", lambda header: header.unit or "no coordinates", ""),
)


def _mixed(
    headers: Mapping[str, SlideHeader], severity: str, name: str, key: Callable[[SlideHeader], object], mend: str
) -> Problem | None:
    counts = Counter(map(key, headers.values()))
    if len(counts) < 2:
        return None
    common = counts.most_common(1)[0][0]
    others = [slide for slide, header in headers.items() if key(header) != common]
    shown = ", ".join(f"{value or 'not stored'} ({n})" for value, n in counts.most_common())
    return Problem(severity, f"mixed {name}: {shown}; the rarer: {_some(others)}", mend)


def _duplicate_problems(folder: FeatureFolder, slides: Sequence[str], watch: Watch) -> list[Problem]:
    """Files of equal size whose beginnings and ends are equal."""
    same: dict[bytes, list[str]] = defaultdict(list)
    for slide in watch(slides, "comparing files"):
        try:
            same[hashlib.sha256(file_ends(folder.paths[slide])).digest()].append(slide)
        except OSError:
            continue  # named by the headers already
    return _same("the same file", same.values())


def _same(what: str, groups: Iterable[list[str]]) -> list[Problem]:
    twins = [group for group in groups if len(group) > 1]
    if not twins:
        return []
    shown = "; ".join(" = ".join(group) for group in twins[:3]) + ("; ..." if len(twins) > 3 else "")
    return [
        Problem(WARNING, f"{len(twins)} groups of slides hold {what}: {shown}", "Keep one of each, or extract again.")
    ]


def _value_problems(folder: FeatureFolder, slides: Sequence[str], watch: Watch) -> list[Problem]:
    """What only the values tell: NaN, zeros, constants, equal contents, damaged packs."""
    found: dict[str, list[str]] = defaultdict(list)
    same: dict[bytes, list[str]] = defaultdict(list)
    problems = []
    for slide in watch(slides, "reading values"):
        try:
            features = folder.load(slide).features
        except FeatureFileError as error:
            problems.append(Problem(ERROR, str(error)))
            continue
        for trouble in _troubles(features):
            found[trouble].append(slide)
        if features.numel():
            same[hashlib.sha256(_bytes(features)).digest()].append(slide)
        damage = checksum_problem(folder.paths[slide])
        problems += [Problem(ERROR, damage, "Delete the file and run `milbench data pack` again.")] if damage else []
    for name, (severity, mend) in TROUBLES.items():
        problems += [Problem(severity, f"{_some(found[name])}: {name}", mend)] if name in found else []
    return problems + _same("the same features", same.values())


COUNTED, IN_FRONT = "the first two columns are whole numbers, as coordinates are", 2
TROUBLES: Mapping[str, tuple[str, str]] = {
    "NaN or infinite values": (ERROR, "Extract again."),
    "all values are zero": (WARNING, "Extract again, or drop their labels."),
    COUNTED: (WARNING, "If they are coordinates, save the features without them."),
    "all patches are equal": (WARNING, "Check the extractor: it may have seen one image only."),
}


def _troubles(features: Tensor) -> list[str]:
    if not all_finite(features):
        return ["NaN or infinite values"]
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


def _folds(labelled: pd.DataFrame, slides: pd.DataFrame, protocol: str, problems: list[Problem]) -> pd.DataFrame:
    tasks = tasks_of(slides)
    found = audit(make_split(labelled, tasks, protocol), slides, tasks)
    problems += [Problem(WARNING, text, "Use another split or leave the task out.") for text in found.warnings]
    few = found.table[(found.table["role"] != "train") & found.table["positives"].between(1, FEW_POSITIVES - 1)]
    for task, rows in few.groupby("task", sort=False):
        text = (
            f"{task}: fewer than {FEW_POSITIVES} positive slides on {len(rows)} validation or test sides ({protocol})"
        )
        problems.append(Problem(NOTE, text))
    return found.table


def _some(slides: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(slides[:most]) + (", ..." if len(slides) > most else "")
    return f"{len(slides)} slide{'s' * (len(slides) != 1)} ({shown})"
