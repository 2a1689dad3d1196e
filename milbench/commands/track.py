"""`milbench track`: a finished run on an MLflow server."""

from __future__ import annotations

import argparse
from pathlib import Path

from milbench.commands.chosen_run import run_at
from milbench.commands.command import EXIT_OK
from milbench.commands.terminal import say
from milbench.errors import UsageError
from milbench.visible import without_passwords

HELP = "publish a finished run to an MLflow server"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` which runs, and where to."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--uri", help="MLflow server or database (default: sqlite database in runs/)")
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="a report of the runs: its files become artifacts"
    )


def call(options: argparse.Namespace) -> int:
    """Exit code of publishing runs, and a report of them."""
    from milbench.tracking.client import default_uri
    from milbench.tracking.publish import publish, publish_report

    if options.report and not options.report.is_dir():
        raise UsageError(f"{options.report} is no folder. Write a report first: milbench report RUN --out FOLDER.")
    for path in options.runs:
        run = run_at(path)
        uri = options.uri or default_uri(run.path.absolute().parent)
        say(f"published {publish(run, uri)} trials of {run.path} to {without_passwords(uri)}")
        if options.report:
            say(f"{publish_report(run, uri, options.report)} of its runs now hold {options.report}")
    return EXIT_OK
