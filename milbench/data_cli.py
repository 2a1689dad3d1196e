"""`milbench data ...`: flags and one call a command. Heavy imports stay inside the functions."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

COMMANDS: dict[str, str] = {
    "splits": "write a cohort's splits as CLAM, Patho-Bench or STAMP read them",
}
"""What each command does, in a line; `_add_<name>_flags` and `_<name>` below belong to it."""


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Put every command of `milbench data` below `parser`."""
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=globals()[f"_{name}"])
        globals()[f"_add_{name}_flags"](command)


# ---- inspect, check, pack ------------------------------------------------------------------------


# ---- fetch, labels -------------------------------------------------------------------------------


# ---- simulate ------------------------------------------------------------------------------------


# ---- splits --------------------------------------------------------------------------------------


def _add_splits_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", metavar="COHORT", help="a cohort's folder or YAML file, or a dataset's name")
    parser.add_argument("--to", required=True, metavar="TOOL", help="clam, pathobench or stamp")
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="where to write: a folder or a file")
    parser.add_argument("--splits", metavar="NAME|PATH", help="kfold, m4, site or a path (default: the cohort's)")
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", default=os.environ.get("MILBENCH_DATA") or None,
                        help="where the datasets' data lie (default: $MILBENCH_DATA)")  # fmt: skip
    parser.add_argument("--allow-missing", action="store_true", help="skip slides without features or label")


def _splits(options: argparse.Namespace) -> int:
    from milbench.datasets import all_datasets
    from milbench.errors import UsageError
    from milbench.source import CohortSource
    from milbench.splits import N_FOLDS, audit, make_split
    from milbench.splits.files import write_split

    path = Path(options.cohort)
    if not path.exists() and options.cohort not in all_datasets():
        raise UsageError(f"'{path}' is neither a cohort's folder or YAML file nor a dataset's name.")
    place = {"path": path} if path.exists() else {"name": options.cohort}
    cohort = CohortSource(**place, data_root=options.data_root, allow_missing=options.allow_missing).load()
    protocol, n_folds = options.splits or cohort.splits, max(N_FOLDS, cohort.n_folds)
    split = make_split(cohort.slides, cohort.tasks, protocol, n_folds=n_folds)
    audit(split, cohort.slides, cohort.tasks)
    notes = write_split(split, cohort.slides, options.to, options.out)
    for note in (*split.notes, *notes):
        print(f"note: {note}")  # noqa: T201
    print(f"{split.n_folds} folds of the {split.protocol} split of {cohort.name}: {options.out}")  # noqa: T201
    return 0
