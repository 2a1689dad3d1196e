"""Datasets: the catalogue of named cohorts. One small file each; this package imports them all.

`register_dataset` puts cohorts of others beside them, from a plug-in file or an installed package (docs/cohorts.md).

In: a name such as "digits" or "tcga-brca", and where its data lie. Out: a `Cohort`. Open `digits.py` first, as an example
of an entry; `source.py` names a cohort, of the catalogue or a user's, in plain values that travel to any process.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.cohort_file import CohortFile
from milbench.errors import UsageError, unknown_name
from milbench.registry import import_packages, import_plugins

ENTRY_POINTS = "milbench.datasets"

Maker = TypeVar("Maker", bound=Callable[..., Any])


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
    file : where its labels and features lie below a data root; None for a cohort that needs no files. For a function that
        somebody else registered, it gives None if the function gives a cohort.
    optional_tasks : tasks of any kind that run only if a command names them.
    made_in : file and name of the function that somebody else registered; None for milbench's own. Such an entry knows its
        sizes, tasks and splits only once it is loaded: 0 and empty.
    """

    name: str
    description: str
    n_slides: int
    n_patients: int
    tasks: tuple[str, ...]
    splits: str
    load: Loader
    file: Callable[[Path | None], CohortFile | None] | None = None
    optional_tasks: tuple[str, ...] = ()
    made_in: tuple[str, str] | None = None


_CATALOGUE: dict[str, Dataset] = {}


def catalogue(entry: Dataset) -> Dataset:
    """Put `entry` into the catalogue.

    Raises
    ------
    UsageError : the name is taken.
    """
    taken = _CATALOGUE.get(entry.name)
    if taken is not None and (taken.made_in != entry.made_in or entry.made_in is None):
        of = " and ".join(str(each.made_in[0] if each.made_in else "milbench") for each in (taken, entry))
        raise UsageError(f"two datasets are called '{entry.name}' ({of}). Rename one of them.")
    _CATALOGUE[entry.name] = entry
    return entry


def register_dataset(name: str, *, title: str = "", description: str = "") -> Callable[[Maker], Maker]:
    """Decorator of a function or class that makes a cohort of yours, called `name`.

    It gives a `Cohort`, or the path of a cohort's folder or YAML file; a relative path starts at the plug-in's folder. It
    may take `data_root` (what --data-root names, or None) and `allow_missing`.

    Parameters
    ----------
    title : how tables call the cohort; empty = as the cohort says, or its name.
    description : one line for `milbench datasets`.

    Raises
    ------
    UsageError : the name is taken or no dataset can have it, or the function needs other arguments.
    """
    from milbench.datasets.of_others import file_of, loader_of, place_of, refuse_name

    refuse_name(name)

    def register(make: Maker) -> Maker:
        what = description or title or "a dataset of a plug-in"
        load, file = loader_of(name, title, make), file_of(name, title, make)
        catalogue(Dataset(name, what, 0, 0, (), "", load, file, made_in=place_of(make)))
        return make

    return register


def all_datasets(plugins: Iterable[Path] = ()) -> Mapping[str, Dataset]:
    """Every entry by name: milbench's own in the order of registration, then those of others by alphabet.

    Parameters
    ----------
    plugins : Python files that register datasets.

    Raises
    ------
    UsageError : a plug-in file or an installed package cannot be imported, ends the process or does not come back.
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    import_packages(ENTRY_POINTS, "dataset")
    import_plugins(plugins)
    others = sorted(name for name, entry in _CATALOGUE.items() if entry.made_in is not None)
    return {name: _CATALOGUE[name] for name in (*(name for name in _CATALOGUE if name not in others), *others)}


def dataset(name: str, plugins: Iterable[Path] = ()) -> Dataset:
    """The entry called `name`.

    Raises
    ------
    UsageError : there is none; names the nearest.
    """
    known = all_datasets(plugins)
    if name not in known:
        raise unknown_name("dataset", name, known)
    return known[name]
