"""`milbench report`: tables and figures of finished runs."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.chosen_run import run_at
from milbench.commands.command import EXIT_OK
from milbench.commands.draws import add_draws_flag, draws_of
from milbench.commands.terminal import say, warn
from milbench.errors import TrackingError
from milbench.process.blas import never_start_blas_threads
from milbench.process.lazily import import_when_used
from milbench.visible import without_passwords

if TYPE_CHECKING:
    from milbench.store.run import Run

HELP = "write tables (LaTeX, CSV, Markdown) and figures of finished runs"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` which runs, and what the report says."""
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders (default: the newest in runs/)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write (default: reports/<name of the run>)"
    )
    parser.add_argument(
        "--reference", metavar="MODEL", help="the model that the others are compared with (default amil)"
    )
    parser.add_argument("--highlight", metavar="MODEL", help="the model that figures draw thicker than the others")
    add_draws_flag(parser)
    parser.add_argument(
        "--complete-cases", action="store_true", help="leave tasks that not all models finished out of means"
    )
    parser.add_argument("--stamp", type=Path, metavar="FOLDER",
                        help="also write the test predictions as STAMP's statistics read them")  # fmt: skip
    parser.add_argument("--no-tracking", action="store_true", help="do not put the report's files into MLflow")


RARE_COLLECTION = 50_000
"""Objects that a report makes before Python looks for garbage in cycles. With the usual 700 a tenth of its time goes into that."""


def call(options: argparse.Namespace) -> int:
    """Exit code of writing the report."""
    usual, n_frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.set_threshold(RARE_COLLECTION, *usual[1:])
    try:
        return _report(options)
    finally:
        gc.set_threshold(*usual)
        if not n_frozen:  # else the caller's objects would be looked through again
            gc.unfreeze()


def _report(options: argparse.Namespace) -> int:
    never_start_blas_threads()  # before NumPy is imported: a seventh of the time of a small report
    draws = draws_of(options)
    # as they are now: checksums of all trials are verified once, for tables and warnings
    with _no_garbage():
        runs = [run.snapshot() for run in map(run_at, options.runs or [None])]
        with runs[0].read_ahead():  # copies that read several runs would be more than the cores
            _import_what_it_takes()
    from milbench.commands.show_run import unfinished
    from milbench.report import REFERENCE, write_report
    from milbench.report.stamp import write_for_stamp

    out = options.out or Path("reports") / "+".join(run.name for run in runs)
    index = write_report(
        runs,
        out,
        reference=options.reference or REFERENCE,
        draws=draws,
        complete_cases=options.complete_cases,
        highlight=options.highlight or "",
    )
    say(f"report: {index}")
    if options.stamp:
        files = write_for_stamp(runs, options.stamp)
        say(
            f"{len(files)} files for STAMP's statistics: {options.stamp} (ground_truth_label: the task, true_class: '1')"
        )
    for run in runs:
        if missing := unfinished(run):
            warn(missing)
    if not options.no_tracking:
        _track_report(runs, out)
    return EXIT_OK


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Inside, modules are imported and trials read, which stay; nobody looks for garbage among them, now or later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _import_what_it_takes() -> None:
    """Import tables, statistics and figures, with as little of what they import as they can do with."""
    import_when_used("numpy.f2py")  # `scipy.special` asks NumPy for all that it has, a compiler of Fortran too
    from milbench.report.fewer_imports import import_little

    import_little()
    import_module("milbench.report")


def _track_report(runs: Sequence[Run], out: Path) -> None:
    """Put the report's files where the runs are tracked. If the server is away, warn: the files lie on disk."""
    from milbench.tracking.publish import publish_report, tracked_at

    for run in runs:
        uri = tracked_at(run)
        if not uri:
            continue
        try:
            say(f"{publish_report(run, uri, out)} MLflow runs of {run.name} now hold it ({without_passwords(uri)})")
        except TrackingError as error:
            warn(str(error))
