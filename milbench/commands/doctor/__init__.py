"""`milbench doctor`: what an issue should say of this installation and machine, and what is broken here.

Each file beside this one looks at one thing and gives a `Section` (`section.py`, open it first). Nothing that a section
looks at is imported into this process: a library that crashes or hangs does so in a process of its own (`child.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from milbench.commands.command import EXIT_OK, EXIT_PROBLEMS

HELP = "say what is installed and what this machine gives, to paste into an issue, and what is broken"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` which folder of runs, and the form of the answer."""
    parser.add_argument(
        "runs",
        nargs="?",
        type=Path,
        default=Path("runs"),
        metavar="FOLDER",
        help="folder of runs, whose disk, file locks and MLflow database are tried (default: runs/)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def call(options: argparse.Namespace) -> int:
    """Exit code: 0, or 1 if anything is broken."""
    from milbench.commands.doctor.page import as_json, as_text
    from milbench.commands.doctor.private import private
    from milbench.commands.doctor.section import examined
    from milbench.commands.doctor.sections import sections_of
    from milbench.commands.terminal import say

    found = private(examined(sections_of(options.runs)))
    say(as_json(found) if options.json else as_text(found))
    return EXIT_PROBLEMS if any(section.broken for section in found) else EXIT_OK
