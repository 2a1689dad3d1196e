"""Cohort: slides × tasks, and a way to load each slide as a `Bag`. A user's own is a folder or a YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from milbench.bag import Bag, check_features
from milbench.cohorts.scaling import MODES
from milbench.errors import DataError, FeatureFileError, LabelTableError, UsageError, unknown_name
from milbench.formats import FeatureFolder, SlideHeader, open_features
from milbench.labels import SUFFIXES, contradictions, one_class_tasks, read_labels

FINGERPRINT_BYTES = 65_536
"""Bytes read from either end of a feature file: enough to notice another extraction without reading terabytes."""

LABELS = "labels.csv"
PATHO_BENCH = "k=all.tsv"
LABEL_PLACES = (*(f"{name}{suffix}" for name in ("labels", "clini") for suffix in SUFFIXES), PATHO_BENCH, "labels")
"""What a cohort folder may keep its labels in; `clini` is STAMP's, a folder `labels` torchmil's."""
SLIDE_PLACES = tuple(f"slide{suffix}" for suffix in SUFFIXES)
FEATURE_PLACES = ("features", ".")


PROTOCOLS = ("kfold", "m4", "site")
"""Splits that are made; whatever else a cohort asks for is a file or a folder."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """Slides with labels, and their features on demand.

    Attributes
    ----------
    name : e.g. "tcga-brca"; appears in trial ids, file names and tables.
    slides : DataFrame with `slide_id` (str), `patient_id` (str) and one float column a task in
        {0, 1, NaN}; NaN = label unknown. In file order.
    tasks : the task columns, in order.
    in_features : width D of every patch's features.
    fingerprint : hash of labels and of the feature files' identity.
    load : slide_id -> Bag, checked (width, finite, not empty).
    splits : protocol that the cohort asks for by default: "kfold", "m4", "site" or a path.
    n_folds : folds that run by default.
    feature_scaling : "none", "standard", "minmax" (to [-1, 1]) or "l2"; fitted on training slides only.
    model_defaults, trainer_defaults : settings fit for the cohort's size, the same for every model.
    title : how tables call it; empty = its name.
    control_tasks : tasks without signal, shown but left out of averages.
    notes : what was noticed while reading (contradictory labels, slides skipped, ...), for the run log.
    labelled : every labelled slide, in file order, also those skipped for lack of features; None = `slides`.
    header : slide_id -> sizes, its values left on disk; None = nothing lies on disk, and `load` is as cheap.
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
    title: str = ""
    control_tasks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    labelled: pd.DataFrame | None = None
    header: Callable[[str], SlideHeader] | None = None

    @property
    def patients_from(self) -> pd.DataFrame:
        """The slides whose patients a split is drawn from: skipping a slide must not reshuffle all the others."""
        return self.slides if self.labelled is None else self.labelled


@dataclass(frozen=True)
class CohortFile:
    """A user's cohort.yaml, paths resolved; the keys are the user's.

    Attributes
    ----------
    labels, features : label table and feature folder; relative to the file.
    slides : STAMP's slide table, where `labels` is its clini table.
    tasks : columns of the label table; empty = every column but the ids.
    splits : "kfold", "m4", "site", a saved split table, or splits of CLAM, Patho-Bench or STAMP.
    model, trainer : settings fit for the cohort's size, the same for every model.
    """

    name: str
    labels: Path
    features: Path
    slides: Path | None = None
    feature_scaling: str = "none"
    tasks: tuple[str, ...] = ()
    splits: str = "kfold"
    n_folds: int = 5
    title: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)


TYPES: Mapping[str, tuple[type, str]] = {
    "name": (str, "text"), "labels": (str, "a path"), "features": (str, "a path"), "slides": (str, "a path"),
    "feature_scaling": (str, "text"), "tasks": (list, "a list"), "splits": (str, "text"), "n_folds": (int, "a number"), "title": (str, "text"),
    "model": (dict, "a section"), "trainer": (dict, "a section"),
}  # fmt: skip
"""What each key of a cohort.yaml must be."""


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


def cohort_file(path: Path) -> CohortFile:
    """What a folder or a YAML file says of its cohort; nothing else is opened. Raises as `folder_cohort`."""
    if not path.exists():
        raise DataError(f"cohort {path} does not exist. Expected a folder with {LABELS} and features, or a YAML file.")
    return _from_folder(path) if path.is_dir() else _from_yaml(path)


def read_cohort(file: CohortFile, *, allow_missing: bool = False, notes: Sequence[str] = ()) -> Cohort:
    """The cohort that `file` describes; `notes` go before those made here."""
    if file.feature_scaling not in MODES:
        raise unknown_name("feature_scaling", file.feature_scaling, MODES)
    slides, label_notes = read_labels(file.labels, file.tasks or None, slides=file.slides)
    tasks = tuple(column for column in slides if column not in ("slide_id", "patient_id"))
    _refuse_names_that_are_no_folder_names(file, tasks)
    folder = open_features(file.features)
    labelled = slides
    slides, skipped = _matched(labelled, folder, file, allow_missing=allow_missing)
    width = folder.header(slides["slide_id"].iloc[0]).width
    return Cohort(
        name=file.name,
        slides=slides,
        tasks=tasks,
        in_features=width,
        fingerprint=fingerprint(slides, folder),
        load=_loader(slides, folder, width),
        splits=file.splits,
        n_folds=file.n_folds,
        feature_scaling=file.feature_scaling,
        model_defaults=file.model,
        trainer_defaults=file.trainer,
        title=file.title,
        notes=(
            *notes,
            *label_notes,
            folder.layout,
            *skipped,
            *contradictions(slides, tasks),
            *one_class_tasks(slides, tasks),
        ),
        labelled=labelled,
        header=folder.header,
    )


def _refuse_names_that_are_no_folder_names(file: CohortFile, tasks: Sequence[str]) -> None:
    """A trial's folder is called after its cohort and task."""
    for what, names in (("the cohort's name", [file.name]), (f"the task column of {file.labels}", tasks)):
        for name in names:
            if not name or name.startswith(".") or set(name) & set("/\\\0"):
                raise DataError(
                    f"{what} is '{name}', which cannot name a folder of results. Rename it: no slash, no leading dot."
                )


def _from_folder(path: Path) -> CohortFile:
    for name in ("cohort.yaml", "cohort.yml"):
        if (path / name).is_file():
            return _from_yaml(path / name)
    features = next((path / place for place in FEATURE_PLACES if (path / place).is_dir()), path)
    labels = _only(path, LABEL_PLACES) or path / LABELS
    return CohortFile(
        name=path.resolve().name,
        labels=labels,
        features=features,
        slides=_only(path, SLIDE_PLACES) if labels.stem == "clini" else None,
        splits=str(labels) if labels.name == PATHO_BENCH else "kfold",
    )


def _only(folder: Path, names: Sequence[str]) -> Path | None:
    """The one of `names` that exists in `folder`; two would have to be chosen from."""
    found = [name for name in names if (folder / name).exists()]
    if len(found) > 1:
        raise DataError(
            f"{folder} holds {' and '.join(found)}; which is meant? Say so in a cohort.yaml, or move the others away."
        )
    return folder / found[0] if found else None


def _from_yaml(path: Path) -> CohortFile:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as YAML: {error}.") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} must hold `key: value` lines with at least name, labels and features.")
    for key, value in values.items():
        _check_key(path, str(key), value)
    for key in ("name", "labels", "features"):
        if key not in values:
            raise DataError(f"{path}: the key '{key}' is missing. A cohort needs name, labels and features.")
    if values.get("n_folds", 1) < 1:
        raise UsageError(f"{path}: n_folds is {values['n_folds']}; expected 1 or more.")
    base = path.parent
    paths = {key: base / values[key] for key in ("labels", "features", "slides") if key in values}
    file = CohortFile(**{**values, **paths})
    is_path = file.splits not in PROTOCOLS and (base / file.splits).exists()
    return replace(file, tasks=tuple(map(str, file.tasks)), splits=str(base / file.splits) if is_path else file.splits)


def _check_key(path: Path, key: str, value: Any) -> None:
    if key not in TYPES:
        raise UsageError(f"{path}: {unknown_name('key', key, TYPES)}")
    expected, text = TYPES[key]
    if not isinstance(value, expected) or isinstance(value, bool):
        raise UsageError(f"{path}: {key} is {value!r}; expected {text}.")


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
        if not allow_missing:
            raise LabelTableError(
                f"cohort '{file.name}': {text}; labels {file.labels}, {folder.layout}. "
                "Complete the data, or skip them with --allow-missing."
            )
        notes.append(f"skipped: {text}")
    kept = slides[slides["slide_id"].isin(set(files))].reset_index(drop=True)
    if kept.empty:
        raise LabelTableError(
            f"cohort '{file.name}': no slide id of {file.labels} matches a file name in {file.features}. "
            f"A label says '{slides['slide_id'].iloc[0]}', a file '{next(iter(files))}'."
        )
    return kept, notes


def fingerprint(slides: pd.DataFrame, folder: FeatureFolder) -> str:
    """SHA-256 of labels, and of every feature file's size, first and last bytes; paths do not enter."""
    digest = hashlib.sha256(slides.to_csv(index=False, lineterminator="\n").encode())
    files = folder.paths
    for slide in slides["slide_id"]:
        try:
            digest.update(f"{slide}\0".encode() + file_ends(files[slide]))
        except OSError as error:
            raise FeatureFileError(
                f"{files[slide]} cannot be read: {error.strerror}. Check the file and its rights."
            ) from error
    return digest.hexdigest()


def file_ends(path: Path) -> bytes:
    """Size, first and last bytes of a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(FINGERPRINT_BYTES)
        file.seek(max(size - FINGERPRINT_BYTES, 0))
        return f"{size}\0".encode() + first + file.read(FINGERPRINT_BYTES)


def _loader(slides: pd.DataFrame, folder: FeatureFolder, width: int) -> Callable[[str], Bag]:
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
            patch_size=slide.patch_size,
            instance_labels=slide.instance_labels,
        )

    return load
