"""Which cohort: the flags that say so, and the files that they name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.errors import UsageError

if TYPE_CHECKING:
    from milbench.cohorts.cohort_file import CohortFile


def add_cohort_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` which cohort, and where the datasets lie."""
    parser.add_argument("cohort", metavar="COHORT", help="your folder or YAML file, or a dataset such as tcga-brca")
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="where datasets lie (default: $MILBENCH_DATA)")


def cohort_file_of(options: argparse.Namespace) -> CohortFile:
    """Places of the cohort's labels and features, by path or by a dataset's name."""
    from milbench.cohorts.cohort_file import cohort_file
    from milbench.datasets import all_datasets

    path, entry = Path(options.cohort), all_datasets().get(options.cohort)
    if path.exists() or entry is None:
        return cohort_file(path)
    if entry.file is None:
        raise UsageError(f"{entry.name} is made in memory and has no files. Name a cohort that lies on disk.")
    return entry.file(data_root_of(options))


def data_root_of(options: argparse.Namespace) -> Path | None:
    """Folder of the datasets: the flag, else $MILBENCH_DATA."""
    root = options.data_root or os.environ.get("MILBENCH_DATA")
    return Path(root) if root else None
