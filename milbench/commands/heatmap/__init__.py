"""`milbench heatmap`: its flags, and what they ask for: `pictures` or `numbers`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from milbench.store.run import Run

HELP = "draw what the models of a finished run look at, and check whether it is right"

MOST_SMOOTH, LARGEST_PATCH = 1000, 2**32
SCALE_NAMES = ("share", "rank", "softmax")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench heatmap` on `parser`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder; its weights must have been kept")
    what = parser.add_argument_group("what to draw")
    what.add_argument("--slide", metavar="ID", help="one slide")
    what.add_argument("--slides", nargs="+", metavar="ID|CHOICE",
                      help="several, a row each: ids, or top-tp, top-fp, top-fn, top-tn as the first model answers; "
                           "highest, lowest for grades, scores and survival")  # fmt: skip
    what.add_argument("--dataset", metavar="NAME", help="cohort of the run (default: the slide's, else the first)")
    what.add_argument("--task", metavar="NAME", help="task (default: the cohort's first)")
    what.add_argument("--class", dest="class_name", metavar="NAME",
                      help="class of a multiclass task (default: its first)")  # fmt: skip
    what.add_argument(
        "--models", nargs="+", metavar="NAME", help="models or patterns (default: all of the run that have a map)"
    )
    what.add_argument("--experts", action="store_true", help="also one map per expert (or head) of every such model")
    what.add_argument("--fold", type=int, metavar="N", help="fold whose models look (default: the run's first)")
    what.add_argument("--data-root", type=Path, metavar="FOLDER", help="where the datasets' data lie (default: as run)")
    how = parser.add_argument_group("how to draw")
    how.add_argument("--scale", metavar="|".join(SCALE_NAMES), default="share",
                     help="colour by attention over an even share, one scale for all (default), by percentile rank within "
                          "the slide, or by each map's own values")  # fmt: skip
    how.add_argument("--smooth", type=float, default=0.0, metavar="S",
                     help="Gaussian of this many patches over the picture (default 0: none; GeoJSON is never smoothed)")  # fmt: skip
    how.add_argument("--patch-size", type=float, metavar="N",
                     help="edge of a patch in the unit of the coordinates (default: as the files or cohort.yaml tell)")  # fmt: skip
    how.add_argument("--wsi", type=Path, metavar="PATH", help="slide file, or folder of them: draw over the slide")
    how.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: heatmaps/<name of the run>)")
    instead = parser.add_argument_group("instead of pictures")
    instead.add_argument("--evaluate", action="store_true",
                         help="measure whether the attention is right: against the truth, or by deletion; compare folds and experts")  # fmt: skip
    instead.add_argument(
        "--export", type=Path, metavar="FILE.h5", help="maps of all slides of the cohort, one dataset per slide"
    )


def call(options: argparse.Namespace) -> int:
    """Exit code of drawing, evaluating or exporting, as the flags say."""
    from milbench.commands.heatmap import numbers, pictures
    from milbench.commands.heatmap.models import named_models
    from milbench.heatmap.stored import find_cohort
    from milbench.store.run import open_run

    _check(options)
    run = open_run(options.run)
    out = options.out or Path("heatmaps") / run.name
    if options.evaluate:
        for name in [options.dataset] if options.dataset else run.datasets:
            numbers.evaluate(find_cohort(run, name, options.data_root), out, options)
        return EXIT_OK
    cohort = find_cohort(run, _dataset(run, options), options.data_root)
    fold = cohort.folds[0] if options.fold is None else numbers.checked_fold(cohort, options.fold)
    if options.export:
        numbers.export(cohort, fold, options)
    else:
        pictures.draw(cohort, named_models(cohort, options.models), fold, out, options)
    return EXIT_OK


def _check(options: argparse.Namespace) -> None:
    if options.scale not in SCALE_NAMES:
        raise unknown_name("scale", options.scale, SCALE_NAMES)
    if not 0 <= options.smooth <= MOST_SMOOTH:
        raise UsageError(f"--smooth is {options.smooth:g}. Give 0 or a number of patches, {MOST_SMOOTH} at most.")
    if options.patch_size is not None and not 0 < options.patch_size <= LARGEST_PATCH:
        raise UsageError(f"--patch-size is {options.patch_size:g}; expected the edge of a patch, such as 256.")
    asked = [flag for flag in ("slide", "slides", "evaluate", "export") if getattr(options, flag)]
    if len(asked) != 1:
        raise UsageError(
            "give one of --slide ID, --slides ID ..., --evaluate and --export FILE.h5"
            + (f"; got --{' and --'.join(asked)}." if asked else ".")
        )


def _dataset(run: Run, options: argparse.Namespace) -> str:
    from milbench.heatmap.stored import dataset_of_slide

    if options.dataset:
        return str(options.dataset)
    return dataset_of_slide(run, options.slide) if options.slide else next(iter(run.datasets))
