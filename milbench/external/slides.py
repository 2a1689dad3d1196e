"""Slides: features without labels, and whose slides they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from milbench.bag import Bag, check_features
from milbench.cohorts.cohort_file import cohort_file
from milbench.cohorts.fingerprint import fingerprint
from milbench.errors import DataError, LabelTableError
from milbench.formats import FeatureFolder, SlideHeader, open_features
from milbench.labels.cells import read_delimited
from milbench.labels.finding import some

COHORT_FILES = ("cohort.yaml", "cohort.yml")
PATIENT_COLUMNS = ("patient_id", "case_id", "patient", "PATIENT")


class NewSlides(NamedTuple):
    """Slides to predict.

    Attributes
    ----------
    table : slide_id and patient_id, in the order of the slides' names.
    folder : their features.
    notes : how files and patients were understood, a line each.
    """

    table: pd.DataFrame
    folder: FeatureFolder
    notes: tuple[str, ...]

    def load(self, slide_id: str) -> Bag:
        """The slide's features.

        Raises
        ------
        FeatureFileError : the file is damaged, or holds no usable bag.
        """
        found = self.folder.load(slide_id)
        return Bag(check_features(found.features, str(self.folder.paths[slide_id])), slide_id)

    @property
    def header(self) -> Callable[[str], SlideHeader]:
        """What a slide's file says of itself."""
        return self.folder.header

    @property
    def identity(self) -> str:
        """Hash of the slides and of the ends of their files."""
        own = fingerprint(self.table, self.folder, {})
        return hashlib.sha256(own.encode()).hexdigest()


def new_slides(path: Path, patients: Path | None = None) -> NewSlides:
    """Every slide of a feature folder, or of the features of a cohort, whose labels are not looked at.

    Parameters
    ----------
    path : feature folder, cohort.yaml, or a folder with one.
    patients : table with the columns slide_id and patient_id; None = each slide is a patient of its own, unless the
        cohort's label table says otherwise.

    Raises
    ------
    DataError : no features, or a table that does not say whose a slide is.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. Name a folder of features, or a cohort.yaml.")
    inner = [path / name for name in COHORT_FILES if (path / name).is_file()]
    if path.is_dir() and not inner:
        return _with_patients(open_features(path), patients, ())
    file = cohort_file(path)
    notes = (f"labels in {file.labels} are not looked at", *_skipped(file.features))
    if patients is not None:
        return _with_patients(open_features(file.features), patients, notes)
    owners = file.label_table().slides[["slide_id", "patient_id"]]
    folder = open_features(file.features).spelled_as(owners["slide_id"])
    return _owned(folder, dict(owners.itertuples(index=False, name=None)), notes)


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
    table = pd.DataFrame({"slide_id": slides, "patient_id": [owners.get(slide, slide) for slide in slides]})
    return NewSlides(table, folder, (*notes, folder.layout))
