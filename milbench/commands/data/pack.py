"""`milbench data pack`: a cohort in the layout that reads fastest."""

from __future__ import annotations

import argparse
from pathlib import Path

from milbench.commands.command import EXIT_OK
from milbench.commands.data.chosen_cohort import add_cohort_flags, cohort_file_of
from milbench.commands.terminal import line, new_console, watcher

HELP = "write a copy of a cohort in the layout that reads fastest"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the command's flags on `parser`."""
    add_cohort_flags(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the packed cohort goes")
    parser.add_argument("--dtype", required=True, help="float16 (half the size, rounded) or float32")


def call(options: argparse.Namespace) -> int:
    """Exit code of packing."""
    from milbench.intake.pack import pack
    from milbench.machine.sizes import bytes_text

    console = new_console()
    done = pack(cohort_file_of(options), options.out, options.dtype, watcher(console))
    line(
        console,
        f"packed {done.written} slides ({done.kept} were there already), {bytes_text(done.bytes_before)} -> "
        f"{bytes_text(done.bytes_after)}, largest rounding {done.largest_rounding:.1e} of the slide's largest value\n"
        f"next: milbench run --cohort {done.cohort}",
    )
    return EXIT_OK
