"""Cohort: bags × tasks, and a way to load each `Bag`: a slide, or all slides of a patient. `cohort_file` says where it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from milbench.bag import Bag, check_features
from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.cohorts.cohort_file import CohortFile, cohort_file
from milbench.cohorts.fingerprint import fingerprint
from milbench.cohorts.optional import OptionalTask
from milbench.cohorts.patient_bags import Members, by_patient, slides_by_patient
from milbench.cohorts.scaling import MODES
from milbench.cohorts.tuned import TunedSettings, read_tuned
from milbench.endpoints.endpoint import BINARY, Endpoint
from milbench.errors import LabelTableError, unknown_name
from milbench.formats import FeatureFolder, SlideHeader
from milbench.labels.finding import Finding

SKIPPED = "skipped: "
"""How a note begins that names slides without features, or features without a label."""


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """Slides with labels, and their features on demand. If bags are patients, a row of `slides` is a patient.

    Attributes
    ----------
    name : e.g. "tcga-brca"; appears in trial ids, file names and tables.
    slides : DataFrame with `slide_id` (str), `patient_id` (str) and one float column per task; NaN = label unknown.
        A binary label is 0 or 1; `milbench.endpoints.endpoint` says how other kinds are one number. In file order.
    tasks : the task columns, in order.
    in_features : width D of every patch's features.
    fingerprint : hash of labels and of the feature files' identity.
    load : slide_id -> Bag, checked (width, finite, not empty).
    splits : protocol that the cohort asks for by default: "kfold", "m4", "site" or a path.
    n_folds : folds that run by default.
    feature_scaling : "none", "standard", "minmax" (to [-1, 1]) or "l2"; fitted on training slides only.
    model_defaults, trainer_defaults : settings fit for the cohort's size, the same for every model.
    tuned : settings that a search chose for each model (`milbench tune`); None = there was none.
    title : how tables call it; empty = its name.
    licence : of the data, as declared; empty = not declared.
    control_tasks : tasks without signal, shown but left out of averages.
    notes : how the files were understood (conventions, slides skipped, ...), for the run log.
    findings : what was guessed while reading the labels, or may be wrong with them.
    labelled : every labelled slide, in file order, also those skipped for lack of features; None = `slides`.
    header : slide_id -> sizes, its values left on disk; None = nothing lies on disk, and `load` is as cheap.
    files : feature file by slide id; empty = nothing lies on disk.
    patients : "as_given" = ids that look as if they parted a patient are meant so.
    endpoints : what each task asks; a task that is not listed is binary.
    optional : tasks beside `tasks` that a command may name. `slides` holds their labels too. Once they were named, they
        stand in both.
    of_slides : the cohort whose slides were joined, if each bag holds all slides of a patient. `slide_id` is the
        patient's id then, in `slides`, `load` and `header`. `files` and `labelled` still go by slide. None = a bag is a slide.
    """

    name: str
    slides: pd.DataFrame
    tasks: tuple[str, ...]
    in_features: int
    fingerprint: str
    load: Callable[[str], Bag]
    splits: str = "kfold"
    n_folds: int = 5
    feature_scaling: str = "none"
    model_defaults: Mapping[str, Any] = field(default_factory=dict)
    trainer_defaults: Mapping[str, Any] = field(default_factory=dict)
    tuned: TunedSettings | None = None
    title: str = ""
    licence: str = ""
    control_tasks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    labelled: pd.DataFrame | None = None
    header: Callable[[str], SlideHeader] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    patients: str = ""
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    optional: Mapping[str, OptionalTask] = field(default_factory=dict)
    of_slides: Cohort | None = None

    def endpoint(self, task: str) -> Endpoint:
        """What the task asks."""
        return self.endpoints.get(task, BINARY)

    def __repr__(self) -> str:
        slides = self.by_slide.slides
        joined = ", bag: patient" if self.bag == PATIENT else ""
        return (
            f"Cohort({self.name}: {len(slides)} slides of {slides['patient_id'].nunique()} patients{joined}, "
            f"{len(self.tasks)} tasks, {self.in_features} features per patch)"
        )

    @property
    def every_task(self) -> tuple[str, ...]:
        """Tasks that a command may name: `tasks`, then the optional ones."""
        return tuple(dict.fromkeys((*self.tasks, *self.optional)))

    @property
    def bag(self) -> str:
        """What one bag is: "slide" or "patient"."""
        return SLIDE if self.of_slides is None else PATIENT

    @property
    def by_slide(self) -> Cohort:
        """The cohort whose bags are single slides: what its files are asked through."""
        return self.of_slides or self

    @property
    def members(self) -> Members:
        """Slide ids by bag, in the order in which the bag joins them."""
        if self.of_slides is None:
            return {slide: (slide,) for slide in map(str, self.slides["slide_id"])}
        return slides_by_patient(self.of_slides.slides)

    @property
    def patients_from(self) -> pd.DataFrame:
        """The slides whose patients a split is drawn from: skipping a slide must not reshuffle all the others."""
        return self.slides if self.labelled is None else self.labelled


def folder_cohort(path: Path, *, allow_missing: bool = False) -> Cohort:
    """The cohort in a folder (`labels.csv` and features) or described by a YAML file.

    Parameters
    ----------
    path : folder, or YAML file with the keys of `CohortFile`.
    allow_missing : skip slides without features, and features without label, instead of refusing them.

    Raises
    ------
    DataError : a file is missing or unusable.
    UsageError : an unknown key or a value of the wrong type in the YAML file.
    """
    return read_cohort(cohort_file(path), allow_missing=allow_missing)


def read_cohort(file: CohortFile, *, allow_missing: bool = False, notes: Sequence[str] = ()) -> Cohort:
    """The cohort that `file` describes; `notes` go before those made here."""
    if file.feature_scaling not in MODES:
        raise unknown_name("feature_scaling", file.feature_scaling, MODES)
    table = file.label_table()
    slides = table.slides
    tasks = tuple(column for column in slides if column not in ("slide_id", "patient_id"))
    folder = file.feature_folder().spelled_as(slides["slide_id"])
    labelled = slides
    slides, skipped = _matched(labelled, folder, file, allow_missing=allow_missing)
    width = folder.header(slides["slide_id"].iloc[0]).width
    cohort = Cohort(
        name=file.name,
        slides=slides,
        tasks=tasks,
        in_features=width,
        fingerprint=fingerprint(slides, folder, table.endpoints),
        load=_loader(slides, folder, width, file.patch_size),
        splits=file.splits,
        n_folds=file.n_folds,
        feature_scaling=file.feature_scaling,
        model_defaults=file.model,
        trainer_defaults=file.trainer,
        tuned=read_tuned(file.tuned) if file.tuned else None,
        title=file.title,
        licence=file.licence,
        notes=(*notes, *table.notes, folder.layout, *skipped),
        findings=table.findings,
        labelled=labelled,
        header=folder.header,
        files=folder.paths,
        patients=file.patients,
        endpoints=dict(table.endpoints),
    )
    return by_patient(cohort) if file.bag == PATIENT else cohort


def _matched(
    slides: pd.DataFrame, folder: FeatureFolder, file: CohortFile, *, allow_missing: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Slides that have both label and features, and a note on each kind that was skipped."""
    files = folder.paths
    without_features = [slide for slide in slides["slide_id"] if slide not in files]
    without_label = sorted(set(files) - set(slides["slide_id"]))
    notes = []
    for what, names in (
        ("labelled slides have no features", without_features),
        ("feature files have no label", without_label),
    ):
        if not names:
            continue
        text = f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        if names is without_features and (below := folder.below(names)):
            text += f"; files of these names lie in folders below, which are not read ({below})"
        if not allow_missing:
            raise LabelTableError(
                f"cohort '{file.name}': {text}; labels {file.labels}, {folder.layout}. "
                "Complete the data, or skip them with --allow-missing."
            )
        notes.append(f"{SKIPPED}{text}")
    kept = slides[slides["slide_id"].isin(set(files))].reset_index(drop=True)
    if kept.empty:
        raise LabelTableError(
            f"cohort '{file.name}': no slide id of {file.labels} matches a file name in {file.features}. "
            f"A label says '{slides['slide_id'].iloc[0]}', a file '{next(iter(files))}'."
        )
    return kept, notes


def _loader(slides: pd.DataFrame, folder: FeatureFolder, width: int, patch_size: float | None) -> Callable[[str], Bag]:
    patient_of = dict(zip(slides["slide_id"], slides["patient_id"], strict=True))
    files = folder.paths

    def load(slide_id: str) -> Bag:
        slide = folder.load(slide_id)
        check_features(slide.features, str(files[slide_id]), width)
        return Bag(
            slide.features,
            slide_id,
            patient_of[slide_id],
            coords=slide.coords,
            coords_unit=slide.unit,
            patch_size=patch_size or slide.patch_size,
            instance_labels=slide.instance_labels,
            coords_problem=slide.coords_problem,
        )

    return load
