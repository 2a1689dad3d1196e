"""CohortSource: where a cohort comes from, as plain values that travel to any process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
        return dataset(self.name, self.plugins).load(self.data_root, allow_missing=self.allow_missing)
