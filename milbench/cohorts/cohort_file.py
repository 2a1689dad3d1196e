"""Cohort file: what a cohort.yaml, or a folder without one, says of a cohort; no table and no feature is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from milbench.cohorts.bag_names import BAGS, SLIDE
from milbench.cohorts.scaling import MODES
from milbench.cohorts.task_kinds import cell, declared_tasks
from milbench.errors import DataError, UsageError, unknown_name
from milbench.formats import FeatureFolder, open_features
from milbench.formats.declared import DeclaredFacts
from milbench.labels import SUFFIXES, LabelTable, Stated, read_labels
from milbench.labels.declared import Declared
from milbench.names import refuse_cohort_name
from milbench.special_files import refuse_special
from milbench.store.plain_yaml import plain_yaml

LABELS = "labels.csv"
PATHO_BENCH = "k=all.tsv"
LABEL_PLACES = (*(f"{name}{suffix}" for name in ("labels", "clini") for suffix in SUFFIXES), PATHO_BENCH, "labels")
"""What a cohort folder may keep its labels in; `clini` is STAMP's, a folder `labels` torchmil's."""
SLIDE_PLACES = tuple(f"slide{suffix}" for suffix in SUFFIXES)
FEATURE_PLACES = ("features", ".")


PROTOCOLS = ("kfold", "m4", "site")
"""Splits that are made; whatever else a cohort asks for is a file or a folder."""


@dataclass(frozen=True)
class CohortFile:
    """A user's cohort.yaml, paths resolved; the keys are the user's.

    Attributes
    ----------
    name, title : in folders and files, and in tables and figures.
    labels, features : label table and feature folder; relative to the file.
    feature_scaling : "none", "l2", or "standard" and "minmax", which are fitted on training slides.
    slides : STAMP's slide table, where `labels` is its clini table.
    tasks : columns of the label table, or tasks that `declared` tells of; empty = every column but the ids.
    splits : "kfold", "m4", "site", a saved split table, or splits of CLAM, Patho-Bench or STAMP.
    n_folds : of drawn splits.
    patch_size : edge of a patch in the unit of the coordinates, for maps; None = as the feature files tell.
    model, trainer : settings fit for the cohort's size, the same for every model.
    tuned : file of settings that `milbench tune` chose for each model.
    encoder, mpp : how the features were made, for files that do not tell it; what a file says goes first.
    bag : "slide", or "patient" = all slides of a patient are joined into one bag.
    patients : "as_given" = ids that look as if they parted a patient are meant so.
    positive : by task, the cell that is class 1 where the table holds words or numbers other than 0 and 1.
    unknown : cells that tell no label, such as "Not Reported".
    licence : of the data, such as "CC-BY-4.0"; for readers, and no part of a trial's identity.
    declared : kind and columns of each task where `tasks:` is a mapping; empty = all tasks are binary.
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
    tuned: Path | None = None
    patch_size: float | None = None
    patients: str = ""
    positive: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    declared: Mapping[str, Declared] = field(default_factory=dict)
    bag: str = SLIDE
    encoder: str = ""
    mpp: float | None = None
    licence: str = ""

    def label_table(self) -> LabelTable:
        """The labels as this file says that they are meant; raises `LabelTableError`."""
        stated = Stated(self.positive, self.unknown, self.declared)
        return read_labels(self.labels, self.tasks or None, slides=self.slides, stated=stated)

    def feature_folder(self) -> FeatureFolder:
        """The features, with what this file declares of them; raises as `open_features`."""
        folder = open_features(self.features)
        if not self.encoder and self.mpp is None:
            return folder
        return replace(folder, stated=DeclaredFacts(self.encoder, self.mpp, source="cohort.yaml"))


AS_GIVEN = "as_given"
"""What `patients:` may say."""

TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "name": (str, "text"), "labels": (str, "a path"), "features": (str, "a path"), "slides": (str, "a path"),
    "feature_scaling": (str, "text"), "tasks": ((list, dict), "a list of columns, or the kind of each task"),
    "splits": (str, "text"), "n_folds": (int, "a number"), "title": (str, "text"),
    "model": (dict, "a section"), "trainer": (dict, "a section"), "tuned": (str, "a path"), "patch_size": ((int, float), "a number"),
    "licence": (str, "text"), "encoder": (str, "text"), "mpp": ((int, float), "a number"),
    "bag": (str, " or ".join(BAGS)), "patients": (str, AS_GIVEN), "positive": (dict, "a section"), "unknown": (list, "a list"),
}  # fmt: skip
"""What each key of a cohort.yaml must be."""


def cohort_file(path: Path) -> CohortFile:
    """What a folder or a YAML file says of its cohort; nothing else is opened. Raises as `folder_cohort`."""
    if not path.exists():
        raise DataError(f"cohort {path} does not exist. Expected a folder with {LABELS} and features, or a YAML file.")
    file = _from_folder(path) if path.is_dir() else _from_yaml(path)
    refuse_cohort_name(file.name)
    return file


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
    refuse_special(path, DataError)
    try:
        values = plain_yaml(path.read_text(encoding="utf-8"))
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
    if not 0 < values.get("patch_size", 1) < 1e9:
        raise UsageError(f"{path}: patch_size is {values['patch_size']}; expected the edge of a patch, such as 256.")
    if not 0 < values.get("mpp", 1) < 1e6:
        raise UsageError(f"{path}: mpp is {values['mpp']}; expected micrometres per pixel of the patches, such as 0.5.")
    base = path.parent
    paths = {key: base / values[key] for key in ("labels", "features", "slides", "tuned") if key in values}
    file = CohortFile(**{**values, **paths})
    is_path = file.splits not in PROTOCOLS and (base / file.splits).exists()
    return replace(
        file,
        tasks=tuple(map(str, file.tasks)),
        declared=declared_tasks(path, values["tasks"]) if isinstance(values.get("tasks"), dict) else {},
        splits=str(base / file.splits) if is_path else file.splits,
        positive={str(task): cell(path, "positive", word) for task, word in file.positive.items()},
        unknown=tuple(cell(path, "unknown", word) for word in file.unknown),
    )


def _check_key(path: Path, key: str, value: Any) -> None:
    if key not in TYPES:
        raise UsageError(f"{path}: {unknown_name('key', key, TYPES)}")
    expected, text = TYPES[key]
    if not isinstance(value, expected) or isinstance(value, bool):
        quotes = (
            " Put it in quotes."
            if expected is str and value is not None and not isinstance(value, (list, dict))
            else ""
        )
        raise UsageError(f"{path}: {key} is {value!r}; expected {text}.{quotes}")
    if key == "feature_scaling" and value not in MODES:
        raise UsageError(f"{path}: {unknown_name('feature_scaling', str(value), MODES)}")
    if key == "bag" and value not in BAGS:
        raise UsageError(f"{path}: {unknown_name('value of bag', str(value), BAGS)}")
    if key == "patients" and value != AS_GIVEN:
        raise UsageError(f"{path}: {unknown_name('value of patients', str(value), [AS_GIVEN])}")
