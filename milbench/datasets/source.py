"""CohortSource: where a cohort comes from, as plain values that travel to any process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from milbench.cohorts.cohort import Cohort, folder_cohort
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
    """

    name: str = ""
    path: Path | None = None
    data_root: Path | None = None
    allow_missing: bool = False

    def load(self) -> Cohort:
        """The cohort, labels read and feature files found.

        Raises
        ------
        DataError : labels or features are missing or unusable.
        """
        if self.path is not None:
            return folder_cohort(self.path, allow_missing=self.allow_missing)
        return dataset(self.name).load(self.data_root, allow_missing=self.allow_missing)
