"""`milbench data inspect`: what a folder of features holds, and the draft of a cohort.yaml."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.terminal import facts, finding, line, new_console, watcher
from milbench.names import file_stem

if TYPE_CHECKING:
    from milbench.labels.finding import Finding

HELP = "say what a folder of features holds, and draft a cohort.yaml"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the command's flags on `parser`."""
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of features, or of a whole cohort")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="label table (default: looked for beside)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the draft (default: ./cohort.yaml)")


def call(options: argparse.Namespace) -> int:
    """Exit code of printing what the folder holds and writing the draft."""
    from milbench.formats import folder_and_table
    from milbench.intake import inspection

    console = new_console()
    found = inspection.inspect_folder(options.path, watcher(console))
    if options.labels:
        labels, known = options.labels, inspection.n_labelled(options.labels, found.headers)
    else:
        labels, known = inspection.find_labels(options.path, found.headers)
    rows = [*inspection.facts(found), ("labels", f"{labels}, {known} of these slides" if labels else "none found")]
    facts(console, rows)
    for message in found.broken.values():
        line(console, f"unreadable: {message}")
    for noticed in _findings(labels) if labels else ():
        finding(console, noticed)
    out = options.out or Path("cohort.yaml")
    inspection.write_draft(
        inspection.draft(found, labels, _cohort_name(folder_and_table(options.path)[0].resolve()), out), out
    )
    line(console, f"draft: {out}\nnext: milbench data check {out}\n      milbench run --cohort {out}")
    return EXIT_OK


def _findings(labels: Path) -> Sequence[Finding]:
    """What the labels tell; if their kinds were guessed wrongly, why they cannot be read so: the draft is to be corrected."""
    from milbench.errors import LabelTableError
    from milbench.intake.findings import findings_of_labels
    from milbench.labels import suggested_tasks
    from milbench.labels.finding import WARNING, Finding

    try:
        return findings_of_labels(labels)
    except LabelTableError as error:
        if not suggested_tasks(labels):
            raise
        return [Finding(WARNING, str(error), "Correct `tasks:` in the draft.")]


def _cohort_name(folder: Path) -> str:
    """Name of the folder. If that only names the features, as CLAM's `h5_files` does, the name of the folder above."""
    generic = folder.name.lower().startswith(("features", "feats", "h5_files", "pt_files"))
    return file_stem(folder.parent.name if generic and folder.parent.name else folder.name)
