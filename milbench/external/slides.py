"""Slides: features without labels, and whose slides they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from milbench.bag import Bag, check_features
from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.cohorts.cohort_file import CohortFile, cohort_file
from milbench.cohorts.fingerprint import fingerprint
from milbench.cohorts.patient_bags import joining_load, patient_fingerprint, patient_table, slides_by_patient
from milbench.errors import DataError, LabelTableError
from milbench.external.checks import refuse_other_bags
from milbench.formats import FeatureFolder, folder_and_table, open_features
from milbench.labels.cells import read_delimited
from milbench.labels.finding import some

COHORT_FILES = ("cohort.yaml", "cohort.yml")
PATIENT_COLUMNS = ("patient_id", "case_id", "patient", "PATIENT")


class NewSlides(NamedTuple):
    """Slides to predict.

    Attributes
    ----------
    slides : slide_id and patient_id, in the order of the slides' names.
    folder : their features.
    notes : how files and patients were understood, a line each.
    bag : what a bag is, "slide" or "patient".
    patch_size : edge of a patch that the cohort's file states, in the unit of the coordinates.
    """

    slides: pd.DataFrame
    folder: FeatureFolder
    notes: tuple[str, ...]
    bag: str = SLIDE
    patch_size: float | None = None

    @property
    def table(self) -> pd.DataFrame:
        """slide_id and patient_id, one row per bag."""
        return self.slides if self.bag == SLIDE else patient_table(self.slides, (), {})

    @property
    def load(self) -> Callable[[str], Bag]:
        """Function from a bag's id to its features; raises `FeatureFileError` if a file is damaged, or holds no usable bag."""
        if self.bag == SLIDE:
            return self._load_slide
        return joining_load(slides_by_patient(self.slides), self._load_slide, None)

    def _load_slide(self, slide_id: str) -> Bag:
        found = self.folder.load(slide_id)
        return Bag(
            check_features(found.features, str(self.folder.paths[slide_id])),
            slide_id,
            coords=found.coords,
            coords_unit=found.unit,
            patch_size=self.patch_size or found.patch_size,
            coords_problem=found.coords_problem,
        )

    @property
    def identity(self) -> str:
        """Hash of the slides and of the ends of their files."""
        own = fingerprint(self.slides, self.folder, {})
        return hashlib.sha256((own if self.bag == SLIDE else patient_fingerprint(own)).encode()).hexdigest()


def new_slides(place: Path | CohortFile, patients: Path | None = None, bag: str = SLIDE) -> NewSlides:
    """Every slide of a feature folder, or of the features of a cohort, whose labels are not looked at.

    Parameters
    ----------
    place : feature folder, cohort.yaml or a folder with one; or what a dataset's cohort.yaml would say.
    patients : table with the columns slide_id and patient_id; None = each slide is a patient of its own, unless the
        cohort's label table says otherwise.
    bag : what a bag of the training is, "slide" or "patient".

    Raises
    ------
    DataError : no features, a table that does not say whose a slide is, or a cohort.yaml whose bags are others.
    """
    found = _found(place, patients, bag)
    return found if bag == SLIDE else found._replace(bag=bag, notes=(*_joined(found.slides), *found.notes))


def _joined(slides: pd.DataFrame) -> list[str]:
    n_patients = slides["patient_id"].nunique()
    told = f"bag: {PATIENT}, as in the training: {len(slides)} slides are joined into {n_patients} bags"
    alone = "each slide is a bag of its own. If patients have several slides, say whose they are with --patients"
    return [f"{told}; {alone}" if n_patients == len(slides) else told]


def _found(place: Path | CohortFile, patients: Path | None, bag: str) -> NewSlides:
    if isinstance(place, Path) and not folder_and_table(place)[0].exists():
        raise DataError(f"{place} does not exist. Name a folder of features, a cohort.yaml, or a dataset.")
    if isinstance(place, Path) and _is_of_features(place):
        return _with_patients(open_features(place), patients, ())
    file, where = (cohort_file(place), f" ({place})") if isinstance(place, Path) else (place, "")
    refuse_other_bags(file.bag, bag, f"cohort '{file.name}'{where}")
    notes = (f"labels in {file.labels} are not looked at", *_skipped(file.features))
    if patients is not None:
        return _with_patients(file.feature_folder(), patients, notes)._replace(patch_size=file.patch_size)
    owners = file.label_table().slides[["slide_id", "patient_id"]]
    folder = file.feature_folder().spelled_as(owners["slide_id"])
    return _owned(folder, dict(owners.itertuples(index=False, name=None)), notes)._replace(patch_size=file.patch_size)


def _is_of_features(place: Path) -> bool:
    """Whether a path names a folder of features, or a table in its stores, and no cohort."""
    folder, table = folder_and_table(place)
    return folder.is_dir() and (bool(table) or not any((folder / name).is_file() for name in COHORT_FILES))


def _skipped(features: Path) -> tuple[str, ...]:
    return (f"every slide in {features} is predicted",)


def _with_patients(folder: FeatureFolder, patients: Path | None, notes: tuple[str, ...]) -> NewSlides:
    if patients is None:
        return _owned(folder, {}, notes)
    cells = read_delimited(patients, "Expected the columns slide_id and patient_id").cells
    column = next((name for name in PATIENT_COLUMNS if name in cells), None)
    if "slide_id" not in cells or column is None:
        raise LabelTableError(
            f"{patients}: columns are {some(list(cells), 5)}; expected slide_id and patient_id (or case_id)."
        )
    if cells["slide_id"].duplicated().any():
        twice = cells.loc[cells["slide_id"].duplicated(), "slide_id"].iloc[0]
        raise LabelTableError(f"{patients}: slide {twice} stands in more than one line. Keep one line per slide.")
    folder = folder.spelled_as(cells["slide_id"])
    owners = dict(zip(cells["slide_id"], cells[column], strict=True))
    return _owned(folder, {slide: patient for slide, patient in owners.items() if patient}, notes)


def _owned(folder: FeatureFolder, owners: dict[str, str], notes: tuple[str, ...]) -> NewSlides:
    slides = sorted(folder.paths)
    own = [slide for slide in slides if slide not in owners]
    if own and owners:
        notes = (*notes, f"{len(own)} slides stand in no table ({some(own)}): each counts as a patient of its own")
    if absent := [slide for slide in owners if slide not in folder.paths]:
        patients = list(dict.fromkeys(owners[slide] for slide in absent))
        told = f"without features: {len(absent)} of {len(owners)} slides of the table ({some(absent)})"
        notes = (*notes, f"{told}. The answers of their patients ({some(patients)}) are of the other slides alone")
    table = pd.DataFrame({"slide_id": slides, "patient_id": [owners.get(slide, slide) for slide in slides]})
    return NewSlides(table, folder, (*notes, folder.layout))
