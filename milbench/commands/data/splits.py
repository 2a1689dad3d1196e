"""`milbench data splits`: a cohort's splits for other tools."""

from __future__ import annotations

import argparse
from pathlib import Path

from milbench.commands.command import EXIT_OK
from milbench.commands.data.chosen_cohort import add_cohort_flags, data_root_of, dataset_of
from milbench.commands.flags import plugins_of
from milbench.commands.terminal import say

HELP = "write a cohort's splits as CLAM, Patho-Bench or STAMP read them"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the command's flags on `parser`."""
    add_cohort_flags(parser)
    parser.add_argument("--to", required=True, metavar="TOOL", help="clam, pathobench or stamp")
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="where to write: a folder or a file")
    parser.add_argument("--splits", metavar="NAME|PATH", help="kfold, m4, site or a path (default: the cohort's)")
    parser.add_argument("--allow-missing", action="store_true", help="skip slides without features or label")


def call(options: argparse.Namespace) -> int:
    """Exit code of writing the splits."""
    from milbench.datasets.source import CohortSource
    from milbench.intake.findings import refuse_errors
    from milbench.intake.patients import patient_findings
    from milbench.splits import N_FOLDS, audit, make_split
    from milbench.splits.files import write_split

    is_named = dataset_of(options) is not None
    place = {"name": options.cohort, "plugins": plugins_of(options)} if is_named else {"path": Path(options.cohort)}
    cohort = CohortSource(**place, data_root=data_root_of(options), allow_missing=options.allow_missing).load()
    protocol, n_folds = options.splits or cohort.splits, max(N_FOLDS, cohort.n_folds)
    split = make_split(cohort.patients_from, cohort.tasks, protocol, n_folds=n_folds, endpoints=cohort.endpoints)
    audit(split, cohort.slides, cohort.tasks, cohort.endpoints)
    refuse_errors(cohort.name, patient_findings(cohort.by_slide.slides, split, as_given=bool(cohort.patients)))
    notes = write_split(split, cohort.by_slide.slides, options.to, options.out)
    for note in (*split.notes, *notes):
        say(f"note: {note}")
    say(f"{split.n_folds} folds of the {split.protocol} split of {cohort.name}: {options.out}")
    return EXIT_OK
