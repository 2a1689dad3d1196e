"""`milbench predict`: what a finished run's models say of slides without labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.data.chosen_cohort import data_root_of, file_of_dataset
from milbench.commands.flags import add_plugin_flag, plugins_of
from milbench.commands.terminal import line, new_console, say, warn, watcher
from milbench.errors import UsageError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

    from milbench.cohorts.cohort_file import CohortFile

HELP = "predict slides without labels with the models of a finished run"

FORMATS = ("milbench", "stamp")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench predict` on `parser`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder; its weights must have been kept")
    parser.add_argument("features", type=Path, metavar="FEATURES",
                        help="folder with one file of features per slide, or a cohort.yaml or dataset, whose labels are not looked at")  # fmt: skip
    parser.add_argument("--patients", type=Path, metavar="CSV",
                        help="whose slides they are: columns slide_id and patient_id (default: each slide is a patient)")  # fmt: skip
    parser.add_argument(
        "--dataset", metavar="NAME", help="cohort of the run whose models predict (default: its only one)"
    )
    add_plugin_flag(parser, "datasets, beside those that the run was told of")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="models or patterns (default: all of the run)")
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="where datasets' data lie (default: as run)")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
    parser.add_argument("--format", metavar="{milbench,stamp}", default="milbench",
                        help="one table (default), or files as STAMP's statistics name their columns")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="PATH",
                        help="file to write (default: predictions.csv); with --format stamp a folder (default: predictions)")  # fmt: skip


def call(options: argparse.Namespace) -> int:
    """Exit code of writing the predictions."""
    from milbench.cohorts.coordinates import why_without
    from milbench.external.predict import checkpoint_identity, compared_with_training, predict
    from milbench.external.ranges import training_ranges
    from milbench.external.scoring import Checkpoint
    from milbench.external.slides import new_slides
    from milbench.external.trained import trained
    from milbench.heatmap.stored import plugins_of_run
    from milbench.machine.hardware import resolve_device
    from milbench.store.files import refuse_to_replace, writing
    from milbench.store.run import open_run

    if options.format not in FORMATS:
        raise unknown_name("format", options.format, FORMATS)
    out = options.out or Path("predictions.csv" if options.format == "milbench" else "predictions")
    if options.format == "milbench" and out.is_dir():
        raise UsageError(f"--out {out} is a folder. Name a file, such as {out / 'predictions.csv'}.")
    if options.format == "stamp" and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file. With --format stamp, name a folder.")
    refuse_to_replace(out)
    device = resolve_device(options.device)
    source = trained(open_run(options.run).snapshot(), options.dataset, options.data_root).of_models(options.models)
    if len(source.trials) < source.n_planned:
        warn(f"{len(source.trials)} of {source.n_planned} planned trials are done; only those predict")
    slides = new_slides(_place(options, plugins_of_run(source.run)), options.patients, source.bag)
    compared = compared_with_training(slides, source)
    source, left_out = source.for_slides(lambda: why_without(list(slides.slides["slide_id"]), slides.folder.header))
    console = new_console()
    for told in left_out:
        warn(told)
    for note in (*compared, *slides.notes):
        line(console, f"note: {note}")
    watch = watcher(console)
    ranges = training_ranges(source, watch)
    if ranges is None:
        warn(
            "the training's data are not there or have changed, so slides unlike those of the training are not flagged"
        )
    checkpoint = Checkpoint(out.with_name(f".{out.name}.scores.npz"), checkpoint_identity(source, slides, device))
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        table = predict(source, slides, device, checkpoint, ranges, watch)
        written = _write(table, out, options.format)
        checkpoint.delete()
    flagged = table.loc[(table["level"] == slides.bag) & (table["flags"] != ""), f"{slides.bag}_id"].nunique()
    line(console, f"{len(slides.slides)} slides of {slides.slides['patient_id'].nunique()} patients, "
                  f"{len(source.trials)} trials; {flagged} {slides.bag}s are flagged")  # fmt: skip
    say(f"predictions: {written}")
    return EXIT_OK


def _place(options: argparse.Namespace, of_run: tuple[Path, ...]) -> Path | CohortFile:
    """Where the slides lie, by path or by a dataset's name."""
    from milbench.datasets import all_datasets

    known = all_datasets((*of_run, *plugins_of(options)))
    if options.features.exists() or str(options.features) not in known:
        return Path(options.features)
    return file_of_dataset(known[str(options.features)], data_root_of(options))


def _write(table: pd.DataFrame, out: Path, form: str) -> str:
    """What was written, in words."""
    from milbench.external.stamp import write_for_stamp
    from milbench.store.csv_files import spreadsheet_csv
    from milbench.store.files import write_atomically

    if form == "stamp":
        return f"{len(write_for_stamp(table, out))} files in {out}"
    write_atomically(out, spreadsheet_csv(table).encode())
    return str(out)
