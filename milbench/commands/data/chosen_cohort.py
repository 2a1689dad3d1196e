"""Which cohort: the flags that say so, and the files that they name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.flags import add_plugin_flag, plugins_of
from milbench.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from milbench.cohorts.cohort_file import CohortFile
    from milbench.datasets import Dataset


def add_cohort_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` which cohort, and where the datasets lie."""
    parser.add_argument("cohort", metavar="COHORT", help="your folder or YAML file, or a dataset such as tcga-brca")
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="where datasets lie (default: $MILBENCH_DATA)")
    add_plugin_flag(parser, "datasets")


def cohort_file_of(options: argparse.Namespace) -> CohortFile:
    """Places of the cohort's labels and features, by path or by a dataset's name.

    Raises
    ------
    UsageError : it has no files.
    """
    from milbench.datasets import Dataset

    found = file_or_dataset(options)
    return file_of_dataset(found, data_root_of(options)) if isinstance(found, Dataset) else found


def file_of_dataset(entry: Dataset, data_root: Path | None) -> CohortFile:
    """Places of the dataset's labels and features.

    Raises
    ------
    UsageError : it has no files.
    """
    file = entry.file(data_root) if entry.file else None
    if file is None:
        raise UsageError(f"{entry.name} is made in memory and has no files. Name a cohort that lies on disk.")
    return file


def file_or_dataset(options: argparse.Namespace) -> CohortFile | Dataset:
    """Places of the cohort's labels and features; a dataset that has no files itself."""
    from milbench.cohorts.cohort_file import cohort_file

    entry = dataset_of(options)
    if entry is None:
        return cohort_file(Path(options.cohort))
    return (entry.file(data_root_of(options)) if entry.file else None) or entry


def dataset_of(options: argparse.Namespace) -> Dataset | None:
    """The dataset that is named; None if a path is.

    Raises
    ------
    UsageError : there is neither such a dataset nor such a path.
    """
    from milbench.datasets import all_datasets

    known = all_datasets(plugins_of(options))
    if Path(options.cohort).exists():
        return None
    if options.cohort not in known:
        raise unknown_name("dataset, folder or YAML file", options.cohort, known)
    return known[options.cohort]


def data_root_of(options: argparse.Namespace) -> Path | None:
    """Folder of the datasets: the flag, else $MILBENCH_DATA."""
    root = options.data_root or os.environ.get("MILBENCH_DATA")
    return Path(root) if root else None
