"""Datasets: the catalogue of named cohorts. One small file each; this package imports them all.

In: a name such as "digits" or "tcga-brca", and where its data lie. Out: a `Cohort`. Open `digits.py` first, as an example
of an entry; `source.py` names a cohort, of the catalogue or a user's, in plain values that travel to any process.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.cohort_file import CohortFile
from milbench.errors import UsageError, unknown_name


class Loader(Protocol):
    """Function that makes the cohort from the data below `data_root`."""

    def __call__(self, data_root: Path | None, *, allow_missing: bool) -> Cohort:
        """The cohort; raises `DataError` where data are missing."""


@dataclass(frozen=True)
class Dataset:
    """One catalogue entry.

    Attributes
    ----------
    name : what `--datasets` takes.
    description : one line for `milbench datasets`.
    n_slides, n_patients : expected sizes.
    tasks : in the order of the tables.
    splits : default protocol.
    load : makes the cohort.
    file : where its labels and features lie below a data root; None for a cohort that needs no files.
    optional_tasks : tasks of any kind that run only if a command names them.
    """

    name: str
    description: str
    n_slides: int
    n_patients: int
    tasks: tuple[str, ...]
    splits: str
    load: Loader
    file: Callable[[Path | None], CohortFile] | None = None
    optional_tasks: tuple[str, ...] = ()


_CATALOGUE: dict[str, Dataset] = {}


def register_dataset(entry: Dataset) -> Dataset:
    """Put `entry` into the catalogue.

    Raises
    ------
    UsageError : the name is taken.
    """
    if entry.name in _CATALOGUE:
        raise UsageError(f"two datasets are called '{entry.name}'. Rename one of them.")
    _CATALOGUE[entry.name] = entry
    return entry


def all_datasets() -> Mapping[str, Dataset]:
    """Every entry by name, in the order of registration."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(_CATALOGUE)


def dataset(name: str) -> Dataset:
    """The entry called `name`.

    Raises
    ------
    UsageError : there is none; names the nearest.
    """
    known = all_datasets()
    if name not in known:
        raise unknown_name("dataset", name, known)
    return known[name]
