"""`milbench compare`: models of several people on one split, in one table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.draws import add_draws_flag, draws_of
from milbench.commands.terminal import grid, line, new_console, say

if TYPE_CHECKING:
    from milbench.bundles.comparison import Compared

HELP = "compare runs or bundles of several people on one split, in one table"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench compare` on `parser`."""
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="bundles or run folders, two or more")
    parser.add_argument(
        "--labels", nargs="+", default=[], metavar="NAME", help="how each is called in the table (default: file names)"
    )
    parser.add_argument(
        "--cohorts", nargs="+", default=[], metavar="NAME", help="cohorts to compare on (default: all that are shared)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="also write the tables there, as CSV, LaTeX and Markdown"
    )
    add_draws_flag(parser)


def call(options: argparse.Namespace) -> int:
    """Exit code of comparing."""
    from milbench.bundles.comparison import compare
    from milbench.bundles.gathering import sides_of

    draws = draws_of(options)
    with sides_of(options.bundles, options.labels) as sides:
        found = compare(sides, draws, options.cohorts)
    console = new_console()
    for one in found:
        rows = [[row.title, *(f"{cell.text}\n{cell.below}" for cell in row.cells)] for row in one.table.rows]
        grid(console, [one.table.head, *one.table.columns], rows, names=[one.table.head], right=one.table.columns)
        line(console, one.table.caption)
    if options.out:
        _write(found, options.out)
        say(f"comparison: {options.out}")
    return EXIT_OK


def _write(found: Sequence[Compared], out: Path) -> None:
    from milbench.report.tables import to_csv, to_latex, to_markdown
    from milbench.store.csv_files import spreadsheet_csv
    from milbench.store.files import write_atomically, writing

    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for one in found:
            for suffix, render in (("tex", to_latex), ("csv", to_csv), ("md", to_markdown)):
                write_atomically(out / f"{one.table.name}.{suffix}", render(one.table).encode())
            write_atomically(out / f"{one.table.name}_pairs.csv", spreadsheet_csv(one.analysis.pairs).encode())
