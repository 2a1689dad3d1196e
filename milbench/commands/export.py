"""`milbench export`: a trained model of a run as a folder of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from milbench.commands.command import EXIT_OK
from milbench.commands.draws import add_draws_flag, draws_of
from milbench.commands.terminal import line, new_console, say
from milbench.errors import UsageError

HELP = "write a trained model of a finished run to a folder that others can use without the run"

ENSEMBLE = "ensemble"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench export` on `parser`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder; its weights must have been kept")
    parser.add_argument("model", metavar="MODEL", help="name of a model of the run")
    parser.add_argument("--task", metavar="NAME",
                        help="task (default: the only one); a model of all tasks exports all, and its card begins with this "
                             "one (default: the first)")  # fmt: skip
    parser.add_argument("--fold", metavar="N|ensemble", default=ENSEMBLE,
                        help="one fold, or all trainings as an ensemble (default ensemble)")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="seed of a single training (default: the run's only one)")
    parser.add_argument("--dataset", metavar="NAME", help="cohort of the run (default: its only one)")
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="where the run's data lie (default: as run)")
    add_draws_flag(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER",
                        help="folder to write (default: exports/<name of the run>/<model>-<task>-<fold>)")  # fmt: skip


def call(options: argparse.Namespace) -> int:
    """Exit code of writing the folder."""
    from milbench.export.chosen import chosen
    from milbench.export.folder import export
    from milbench.store.run import open_run

    draws = draws_of(options)
    found = chosen(
        open_run(options.run), options.model, fold=_fold(options.fold), dataset=options.dataset, task=options.task,
        seed=options.seed, data_root=options.data_root,
    )  # fmt: skip
    out = options.out or Path("exports") / found.run.name / found.folder
    written = export(found, out, draws)
    console = new_console()
    line(console, f"{found.model}, {', '.join(found.tasks)}: {len(found.trials)} of {found.n_planned} trainings; "
                  f"{', '.join(written.files)}")  # fmt: skip
    if written.no_onnx:
        line(console, f"note: no ONNX file. {written.no_onnx}")
    say(f"exported: {out}")
    return EXIT_OK


def _fold(word: str) -> int | None:
    """The fold; None for an ensemble."""
    if word == ENSEMBLE:
        return None
    if not word.isdecimal() or len(word) > 30:
        raise UsageError(f"--fold is '{word}'. Give the number of a fold, such as 0, or {ENSEMBLE}.")
    return int(word)
