"""Checks: what an external cohort must have in common with the training, and what it must not, before a slide is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from milbench.cohorts.bag_names import PATIENT
from milbench.cohorts.cohort import Cohort
from milbench.cohorts.patient_bags import Members, unlike_slides
from milbench.errors import DataError, FeatureFileError
from milbench.formats import SlideHeader
from milbench.formats.scale import is_one_scale
from milbench.labels.barcode import tcga_patient
from milbench.labels.finding import some
from milbench.store.feature_facts import Facts, known_values

HEADERS = 20
"""Feature files of a training cohort that are asked how they were extracted; they were extracted alike."""


class Shared(NamedTuple):
    """Slides of an external cohort whose patients the run knows.

    Attributes
    ----------
    slides : their ids.
    patients : ids of their patients.
    by : what they have in common.
    """

    slides: list[str]
    patients: list[str]
    by: str


def shared_slides(theirs: pd.DataFrame, own: pd.DataFrame) -> Shared:
    """Slides of patients that the run's cohort has too, by id, or by the TCGA case in the id of patient or slide.

    All sides of the run count: validation patients chose the epoch, and test patients were looked at.
    """
    ids, cases = set(own["patient_id"]), _cases(own)
    by_id = theirs["patient_id"].isin(ids)
    by_case = theirs.apply(lambda row: bool(_cases_of(row) & cases), axis=1)
    rows = theirs[by_id | by_case]
    by = "patient id" if by_id.any() else "TCGA case"
    if by_id.any() and (by_case & ~by_id).any():
        by = "patient id or TCGA case"
    return Shared([str(slide) for slide in rows["slide_id"]], [str(p) for p in rows["patient_id"].unique()], by)


def _cases(slides: pd.DataFrame) -> set[str]:
    every = (*slides["patient_id"].unique(), *slides["slide_id"])
    return {case for name in every if (case := tcga_patient(str(name)))}


def _cases_of(row: pd.Series) -> set[str]:
    return {case for name in (row["patient_id"], row["slide_id"]) if (case := tcga_patient(str(name)))}


def without_shared(
    theirs: pd.DataFrame,
    own: pd.DataFrame,
    *,
    cohort: str,
    dataset: str,
    allow: bool,
    joined: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """The slides whose patients are new, and a line on those that were dropped.

    Parameters
    ----------
    joined : if rows of `theirs` are patients, slide_id and patient_id of their slides; a patient is dropped as a whole.

    Raises
    ------
    DataError : there are patients in common and `allow` is not set, or no slide is left.
    """
    shared = shared_slides(theirs if joined is None else joined, own)
    if not shared.slides:
        return theirs, []
    told = f"{len(shared.patients)} patients of '{cohort}' are in the run's cohort '{dataset}' too, by {shared.by}"
    named = f"{told} ({some(shared.patients)})"
    if not allow:
        raise DataError(
            f"{named}. What the models say of them is no external validation. Drop them with --allow-overlap; if they "
            "are other patients, rename them in the label table."
        )
    n_dropped = len(shared.slides) if joined is None else int(joined["patient_id"].isin(shared.patients).sum())
    left = theirs[~theirs["slide_id"].isin(shared.slides if joined is None else shared.patients)].reset_index(drop=True)
    if left.empty:
        raise DataError(f"{named}, and no other patient is left. Name a cohort of other patients.")
    return left, [f"dropped: {n_dropped} slides of {named}"]


def refuse_other_bags(theirs: str, own: str, where: str) -> None:
    """DataError if a bag is a slide in the training and a patient here, or the reverse.

    Parameters
    ----------
    theirs, own : what a bag is here, and in the training.
    where : the cohort, in words.
    """
    if theirs != own:
        raise DataError(
            f"{where} has one bag per {theirs}, and the models were trained on one bag per {own}. Put the line `bag: {own}` "
            f"into its cohort.yaml{f', in place of `bag: {theirs}`' if theirs == PATIENT else ''}."
        )


def refuse_unlike_slides(members: Members, found: Mapping[str, SlideHeader]) -> None:
    """DataError for a patient whose slides make no bag."""
    for patient, why in unlike_slides(members, found).items():
        raise DataError(f"patient '{patient}': {why}. Extract the slides of a patient alike, or leave the patient out.")


def refuse_another_width(cohort: Cohort, width: int, dataset: str) -> None:
    """DataError if the cohort's features are not as wide as those that the models were trained on."""
    if cohort.in_features != width:
        raise DataError(
            f"features of cohort '{cohort.name}' are {cohort.in_features} wide, those of the run's cohort '{dataset}' "
            f"{width}. Extract its slides with the encoder of the training."
        )


class Compared(NamedTuple):
    """A fact that must be the same in the training and here, if files of both tell it.

    Attributes
    ----------
    name : in words.
    fix : what to do if it is not.
    is_scale : whether it is a number that may differ by 2 %.
    """

    name: str
    fix: str
    is_scale: bool = False


EXTRACTION: Mapping[str, Compared] = {
    "encoder": Compared("encoder", "Extract the slides with the encoder of the training."),
    "weights_sha256": Compared("encoder's weights", "Extract the slides with the weights of the training."),
    "magnification": Compared(
        "magnification", "Extract the slides at the magnification of the training.", is_scale=True
    ),
    "mpp": Compared("mpp", "Extract the slides at the micrometres per pixel of the training.", is_scale=True),
}


def compared_extraction(theirs: Facts, own: Facts, where: str) -> list[str]:
    """Lines on what files tell of their extraction, and on what only one side tells; nothing where no file does.

    Parameters
    ----------
    theirs, own : of `milbench.cohorts.feature_facts`, here and in the training.
    where : the cohort, in words.

    Raises
    ------
    DataError : another encoder, other weights of it, or another magnification or mpp.
    """
    unknown = []
    for fact, compared in EXTRACTION.items():
        here, there = known_values(theirs, fact), known_values(own, fact)
        if bool(here) != bool(there):
            unknown.append(f"{compared.name} (told {'here' if here else 'in the training'} only)")
        if odd := [value for value in here if there and not _is_among(value, there, is_scale=compared.is_scale)]:
            raise DataError(
                f"{where}: the files' {compared.name} is {some(odd)}, that of the training {some(there)}. {compared.fix}"
            )
    lines = [f"not compared with the training: {', '.join(unknown)}"] if unknown else []
    return [*lines, *_other_patches(theirs, own)]


def _is_among(value: str, others: Sequence[str], *, is_scale: bool) -> bool:
    if is_scale:
        return any(is_one_scale((float(value), float(other))) for other in others)
    return value.casefold() in {other.casefold() for other in others}


def _other_patches(theirs: Facts, own: Facts) -> list[str]:
    """A line on patches of another size on level 0, unless both sides tell their mpp: then scanners make the difference."""
    sizes = [known_values(side, "patch_size") for side in (theirs, own)]
    are_of_one_mpp = all(known_values(side, "mpp") for side in (theirs, own))
    if not all(sizes) or are_of_one_mpp or set(sizes[0]) <= set(sizes[1]):
        return []
    wide, before = map(some, sizes)
    return [
        f"patches are {wide} wide, in the training {before}: the same tissue only if the slides were scanned at other "
        "magnifications"
    ]


def headers(cohort: Cohort, slides: Iterable[str]) -> dict[str, SlideHeader]:
    """What the files of these slides say of themselves, by slide.

    Raises
    ------
    FeatureFileError : a file is missing or cannot be opened.
    """
    if cohort.header is None:
        return {}
    found = {}
    for slide in slides:
        try:
            found[slide] = cohort.header(slide)
        except OSError as error:
            raise FeatureFileError(f"{cohort.files.get(slide, slide)} cannot be read: {error.strerror}.") from error
    return found


def refuse_odd_headers(found: Mapping[str, SlideHeader], width: int, cohort: str) -> None:
    """FeatureFileError for a slide of another width or without patches."""
    for slide, header in found.items():
        if header.width != width or not header.n_patches:
            raise FeatureFileError(
                f"cohort '{cohort}', slide {slide}: {header.n_patches} patches of width {header.width}; expected one or more "
                f"of width {width}. Extract the slide again, or drop its label."
            )
