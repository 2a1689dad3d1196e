"""`milbench data ...`: flags and one call a command. Heavy imports stay inside the functions."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from milbench.cohort import CohortFile

EXIT_OK, EXIT_PROBLEMS = 0, 1

COMMANDS: dict[str, str] = {
    "inspect": "say what a folder of features holds, and draft a cohort.yaml",
    "check": "check labels against features; lists every problem, worst first",
    "pack": "write a cohort once more in the layout that reads fastest",
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


def _add_inspect_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of features, or of a whole cohort")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="label table (default: looked for beside)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the draft (default: ./cohort.yaml)")


def _inspect(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench import inspection, show_data

    console = Console(highlight=False)
    found = inspection.inspect_folder(options.path, show_data.watcher(console))
    labels, known = inspection.find_labels(options.labels or options.path, found.headers)
    rows = [*inspection.facts(found), ("labels", f"{labels}, {known} of these slides" if labels else "none found")]
    show_data.facts(console, rows)
    for message in found.broken.values():
        show_data.line(console, f"unreadable: {message}")
    out = options.out or Path("cohort.yaml")
    inspection.write_draft(inspection.draft(found, labels, options.path.resolve().name, out), out)
    show_data.line(console, f"draft: {out}\nnext: milbench data check {out}\n      milbench run --cohort {out}")
    return EXIT_OK


def _add_check_flags(parser: argparse.ArgumentParser) -> None:
    _add_cohort_flags(parser)
    parser.add_argument("--splits", default="", metavar="NAME|FILE", help="protocol to count positives under")
    parser.add_argument(
        "--deep", action="store_true", help="read every value: NaN, zeros, constants, duplicates, checksums"
    )


def _check(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench import show_data
    from milbench.check import check_cohort

    console = Console(highlight=False)
    watch = show_data.watcher(console)
    result = check_cohort(_cohort_file(options), watch, splits=options.splits, deep=options.deep)
    show_data.check(console, result)
    return EXIT_OK if result.passed else EXIT_PROBLEMS


def _add_pack_flags(parser: argparse.ArgumentParser) -> None:
    _add_cohort_flags(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the packed cohort goes")
    parser.add_argument("--dtype", required=True, help="float16 (half the size, rounded) or float32")


def _pack(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench import show_data
    from milbench.inspection import size
    from milbench.pack import pack

    console = Console(highlight=False)
    done = pack(_cohort_file(options), options.out, options.dtype, show_data.watcher(console))
    show_data.line(
        console,
        f"packed {done.written} slides ({done.kept} were there already), {size(done.bytes_before)} -> "
        f"{size(done.bytes_after)}, largest rounding {done.largest_rounding:.1e} of the slide's largest value\n"
        f"next: milbench run --cohort {done.cohort}",
    )
    return EXIT_OK


def _add_cohort_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", metavar="COHORT", help="your folder or YAML file, or a dataset such as tcga-brca")
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="where datasets lie (default: $MILBENCH_DATA)")


def _cohort_file(options: argparse.Namespace) -> CohortFile:
    """Where the cohort's labels and features lie, by path or by a dataset's name."""
    from milbench.cohort import cohort_file
    from milbench.datasets import all_datasets
    from milbench.errors import UsageError

    path, entry = Path(options.cohort), all_datasets().get(options.cohort)
    if path.exists() or entry is None:
        return cohort_file(path)
    if entry.file is None:
        raise UsageError(f"{entry.name} is made on the fly: it has no files.")
    return entry.file(_data_root(options))


def _data_root(options: argparse.Namespace) -> Path | None:
    root = options.data_root or os.environ.get("MILBENCH_DATA")
    return Path(root) if root else None


# ---- fetch, labels -------------------------------------------------------------------------------


# ---- simulate ------------------------------------------------------------------------------------


# ---- splits --------------------------------------------------------------------------------------


def _add_splits_flags(parser: argparse.ArgumentParser) -> None:
    _add_cohort_flags(parser)
    parser.add_argument("--to", required=True, metavar="TOOL", help="clam, pathobench or stamp")
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="where to write: a folder or a file")
    parser.add_argument("--splits", metavar="NAME|PATH", help="kfold, m4, site or a path (default: the cohort's)")
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
    cohort = CohortSource(**place, data_root=_data_root(options), allow_missing=options.allow_missing).load()
    protocol, n_folds = options.splits or cohort.splits, max(N_FOLDS, cohort.n_folds)
    split = make_split(cohort.slides, cohort.tasks, protocol, n_folds=n_folds)
    audit(split, cohort.slides, cohort.tasks)
    notes = write_split(split, cohort.slides, options.to, options.out)
    for note in (*split.notes, *notes):
        print(f"note: {note}")  # noqa: T201
    print(f"{split.n_folds} folds of the {split.protocol} split of {cohort.name}: {options.out}")  # noqa: T201
    return 0
