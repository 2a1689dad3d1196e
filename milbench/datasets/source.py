"""CohortSource: where a cohort comes from, as plain values that travel to any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from milbench.bag import Bag
from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.cohorts.record import as_recorded
from milbench.datasets import dataset


@dataclass(frozen=True)
class CohortSource:
    """A catalogue entry by name, or a user's folder or YAML file by path.

    Attributes
    ----------
    name : catalogue name; empty for a user's own cohort.
    path : folder or YAML file of a user's own cohort.
    data_root : folder that holds the data of catalogue entries.
    allow_missing : skip slides without features or label instead of refusing them.
    record : what a run folder remembers of the feature files: the cohort has the fingerprint that it gives. None, or no
        such file = the cohort's own.
    plugins : Python files that may register the name.
    """

    name: str = ""
    path: Path | None = None
    data_root: Path | None = None
    allow_missing: bool = False
    record: Path | None = None
    plugins: tuple[Path, ...] = ()

    def load(self) -> Cohort:
        """The cohort, labels read and feature files found.

        Raises
        ------
        DataError : labels or features are missing or unusable.
        """
        return self._read() if self.record is None else as_recorded(self._read(), self.record)

    def _read(self) -> Cohort:
        if self.path is not None:
            return folder_cohort(self.path, allow_missing=self.allow_missing)
        cohort = dataset(self.name, self.plugins).load(self.data_root, allow_missing=self.allow_missing)
        return replace(cohort, load=SourceLoad(self, cohort.load)) if self.plugins else cohort


@dataclass(frozen=True)
class SourceLoad:
    """`load` of a cohort that plug-ins may define. It travels as the cohort's source: no process has the plug-in's functions
    before it imports the file.

    Attributes
    ----------
    source : of the cohort.
    here : the cohort's own `load`; None in a process that the cohort was not read in.
    """

    source: CohortSource
    here: Callable[[str], Bag] | None = None

    def __call__(self, slide_id: str) -> Bag:
        """The slide's bag; another process first reads the cohort, once."""
        return (self.here or _load_of(self.source))(slide_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return SourceLoad, (self.source,)


@cache
def _load_of(source: CohortSource) -> Callable[[str], Bag]:
    return source._read().load
