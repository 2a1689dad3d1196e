"""`milbench heatmap`: its flags, and what it prints."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.errors import MilbenchError, UsageError, unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from milbench.heatmap.choose import Chosen
    from milbench.heatmap.maps import Scale, SlideMaps
    from milbench.heatmap.render import Drawing
    from milbench.heatmap.report import Evaluation
    from milbench.heatmap.stored import RunCohort, StoredModel
    from milbench.store.run import Run

SCALE_NAMES = ("rank", "softmax")
WIDE = 200


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench heatmap` on `parser`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder; its weights must have been kept")
    what = parser.add_argument_group("what to draw")
    what.add_argument("--slide", metavar="ID", help="one slide")
    what.add_argument("--slides", nargs="+", metavar="ID|CHOICE",
                      help="several, a row each: ids, or top-tp, top-fp, top-fn, top-tn as the first model answers")  # fmt: skip
    what.add_argument("--dataset", metavar="NAME", help="cohort of the run (default: the slide's, else the first)")
    what.add_argument("--task", metavar="NAME", help="task (default: the cohort's first)")
    what.add_argument(
        "--models", nargs="+", metavar="NAME", help="models or patterns (default: all of the run that have a map)"
    )
    what.add_argument("--experts", action="store_true", help="also one map an expert (or head) of every such model")
    what.add_argument("--fold", type=int, metavar="N", help="fold whose models look (default: the run's first)")
    what.add_argument("--data-root", type=Path, metavar="FOLDER", help="where the datasets' data lie (default: as run)")
    how = parser.add_argument_group("how to draw")
    how.add_argument("--scale", metavar="|".join(SCALE_NAMES), default="rank",
                     help="colour by percentile rank within the slide (default) or by the softmax's own values")  # fmt: skip
    how.add_argument("--smooth", type=float, default=0.0, metavar="S",
                     help="Gaussian of this many patches over the picture (default 0: none; GeoJSON is never smoothed)")  # fmt: skip
    how.add_argument("--wsi", type=Path, metavar="PATH", help="slide file, or folder of them: draw over the slide")
    how.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: heatmaps/<name of the run>)")
    instead = parser.add_argument_group("instead of pictures")
    instead.add_argument("--evaluate", action="store_true",
                         help="is the attention right? against the truth, or by deletion; folds; experts")  # fmt: skip
    instead.add_argument(
        "--export", type=Path, metavar="FILE.h5", help="maps of all slides of the cohort, one dataset a slide"
    )


def run_heatmap(options: argparse.Namespace) -> int:
    """Draw, evaluate or export, as the flags say."""
    from milbench.heatmap.stored import find_cohort
    from milbench.store.run import open_run

    _check(options)
    run = open_run(options.run)
    out = options.out or Path("heatmaps") / run.name
    if options.evaluate:
        for name in [options.dataset] if options.dataset else run.datasets:
            _evaluate(find_cohort(run, name, options.data_root), out, options)
        return 0
    cohort = find_cohort(run, _dataset(run, options), options.data_root)
    fold = cohort.folds[0] if options.fold is None else options.fold
    if options.export:
        _export(cohort, fold, options)
    else:
        _draw(cohort, _models(cohort, options.models), fold, out, options)
    return 0


FIG5 = ("amil", "m4")


def draw_fig5(run: Run, out: Path) -> None:
    """The study's Fig. 5 of every cohort of `run`: the surest hit of its first task, seen by AMIL, M4 and M4's experts.

    AMIL is left out where it was not trained. A cohort that can't be drawn (no coordinates, no weights) is named, and
    the others are drawn.
    """
    parser = argparse.ArgumentParser()
    add_flags(parser)
    trained = {(trial.info["dataset"], trial.info["model"]) for trial in run.trials()}
    for dataset in run.datasets:
        models = [model for model in FIG5 if (dataset, model) in trained]
        words = ["--dataset", dataset, "--slides", "top-tp", "--models", *models, "--experts", "--out", str(out)]
        try:
            run_heatmap(parser.parse_args([str(run.path), *words]))
        except MilbenchError as error:
            _say(f"fig5: {error}")


def _check(options: argparse.Namespace) -> None:
    if options.scale not in SCALE_NAMES:
        raise unknown_name("scale", options.scale, SCALE_NAMES)
    if options.smooth < 0:
        raise UsageError(f"--smooth is {options.smooth:g}; expected 0 or a number of patches.")
    asked = [flag for flag in ("slide", "slides", "evaluate", "export") if getattr(options, flag)]
    if len(asked) != 1:
        raise UsageError(
            "say one of --slide ID, --slides ID ..., --evaluate and --export FILE.h5"
            + (f"; got --{' and --'.join(asked)}." if asked else ".")
        )


def _dataset(run: Run, options: argparse.Namespace) -> str:
    from milbench.heatmap.stored import dataset_of_slide

    if options.dataset:
        return str(options.dataset)
    return dataset_of_slide(run, options.slide) if options.slide else next(iter(run.datasets))


def _models(cohort: RunCohort, words: Sequence[str] | None) -> list[str]:
    """The models asked for, in the order in which they were named: the first one chooses slides."""
    from milbench.registry import select

    if words is None:
        return cohort.models
    parts = [part for word in words for part in word.split(",") if part]
    named = [name for part in parts for name in select(f"model of run {cohort.run.name}", [part], cohort.models)]
    return list(dict.fromkeys(named))


# ---- pictures ------------------------------------------------------------------------------------


def _draw(cohort: RunCohort, names: Sequence[str], fold: int, out: Path, options: argparse.Namespace) -> None:
    from milbench.heatmap.attention import slide_maps
    from milbench.heatmap.choose import chosen_slides
    from milbench.heatmap.maps import SCALES
    from milbench.heatmap.stored import check_task

    task = check_task(cohort.cohort, options.task or cohort.cohort.tasks[0])
    words = [options.slide] if options.slide else [part for word in options.slides for part in word.split(",")]
    chosen = chosen_slides(cohort, words, names[0], task, fold)
    models = _stored(cohort, names, task, fold, all_wanted=options.models is None)
    slides = [
        slide_maps(cohort, slide_id, task, models, experts=options.experts, caption=caption)
        for slide_id, caption in chosen
    ]
    _say(f"scale: {options.scale}, {SCALES[options.scale]}")
    _describe(slides[0])
    _write(slides, chosen, out, options)


def _stored(cohort: RunCohort, names: Sequence[str], task: str, fold: int, *, all_wanted: bool) -> list[StoredModel]:
    """The models with their weights; where all of a run are meant, those without a map are left out and named."""
    models = [cohort.load(name, task, fold) for name in names]
    return _those_with_maps(models) if all_wanted else models


def _those_with_maps(models: Sequence[StoredModel]) -> list[StoredModel]:
    from milbench.heatmap.stored import with_maps

    kept = with_maps(models)
    for stored in models:
        if stored not in kept:
            _say(f"left out: {stored.name} has no attention to draw")
    if not kept:
        raise UsageError("no model of this run has attention to draw; docs/models.md says how to add it.")
    return kept


def _describe(slide: SlideMaps) -> None:
    for kind, titles in _kinds(slide).items():
        _say(f"{', '.join(titles)}: {kind}")
    if slide.places.is_guessed:
        _say(f"patch size {slide.places.patch_size:g} {slide.places.unit}, the smallest distance between patches: "
              "the feature file does not tell it")  # fmt: skip


def _kinds(slide: SlideMaps) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for drawn in slide.maps:
        if drawn.name == "attention":
            kinds.setdefault(drawn.kind, []).append(drawn.title)
    return kinds


def _write(slides: Sequence[SlideMaps], chosen: Sequence[Chosen], out: Path, options: argparse.Namespace) -> None:
    from milbench.heatmap.geojson import write_geojson
    from milbench.heatmap.render import panel, save_panel
    from milbench.store.files import writing

    drawings = [_drawing(slide, options.wsi) for slide in slides]
    scale: Scale = options.scale
    stem = f"{slides[0].slide_id}_{slides[0].task}" if options.slide else f"{slides[0].dataset}_{slides[0].task}_slides"
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        paths = save_panel(panel(drawings, scale, options.smooth), out / stem)
    for slide, pick in zip(slides, chosen, strict=True):
        if pick.caption:
            _say(f"{pick.slide_id}: {pick.caption}")
        written = write_geojson(slide, out / f"{slide.slide_id}_{slide.task}.geojson")
        if written is None:
            _say(f"no GeoJSON of {slide.slide_id}: its coordinates are in '{slide.places.unit}', not in level-0 pixels")
        else:
            paths.append(written)
    for path in paths:
        _say(str(path))


def _drawing(slide: SlideMaps, wsi: Path | None) -> Drawing:
    from milbench.heatmap.render import Drawing
    from milbench.heatmap.slide import find_slide, read_slide

    if wsi is None:
        return Drawing(slide)
    return Drawing(slide, read_slide(find_slide(wsi, slide.slide_id), slide.places))


# ---- numbers -------------------------------------------------------------------------------------


def _drawable(cohort: RunCohort, fold: int, words: Sequence[str] | None) -> list[str]:
    """Names of the models to look with; where all are meant, those that have a map."""
    names = _models(cohort, words)
    if words is not None:
        return names
    task = cohort.cohort.tasks[0]
    return [stored.name for stored in _those_with_maps([cohort.load(name, task, fold) for name in names])]


def _evaluate(cohort: RunCohort, out: Path, options: argparse.Namespace) -> None:
    from milbench.heatmap.report import evaluate_cohort, write_evaluation

    folds = cohort.folds if options.fold is None else [options.fold]
    found = evaluate_cohort(cohort, _drawable(cohort, folds[0], options.models), folds)
    for title, table, column in _tables(cohort.name, found):
        _say(title)
        _console().print(_grid(table, column))
    for sentence in found.answers:
        _say(sentence)
    for path in write_evaluation(found, out):
        _say(str(path))


def _tables(name: str, found: Evaluation) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Title, table and column of everything that is printed."""
    if found.truth is not None:
        yield f"{name}: AUROC of attention against the truth, positive test slides", found.truth, "auroc"
        yield f"{name}: average precision of the same", found.truth, "average_precision"
    if found.curves is not None:
        for column in ("deletion_gain", "insertion_gain"):
            yield f"{name}: {column.replace('_', ' ')} over random order", found.curves, column
    if found.agreement is not None:
        yield f"{name}: Spearman correlation of two folds' maps", found.agreement, "spearman"


def _console() -> Console:
    """The terminal; a file or pipe has no width that heads would have to be cut to."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def _grid(table: pd.DataFrame, column: str) -> Table:
    """Tasks × models of one column."""
    from rich.table import Table

    rows = table.assign(map=table.get("map", "attention"))
    names = rows["title"].where(rows["map"] == "attention", rows["title"] + ", " + rows["map"])
    cells = dict(zip(zip(names, rows["task"], strict=True), rows[column], strict=True))
    shown = Table("task")
    for name in dict.fromkeys(names):
        shown.add_column(name, justify="right", min_width=6)
    for task in dict.fromkeys(rows["task"]):
        values = (cells.get((name, task)) for name in dict.fromkeys(names))
        shown.add_row(task, *("-" if value is None else f"{value:.3f}" for value in values))
    return shown


def _export(cohort: RunCohort, fold: int, options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import track

    from milbench.heatmap.export import export_attention

    console = Console(highlight=False)
    slides = cohort.cohort.slides["slide_id"]
    bar = iter(track(slides, "slides", console=console, disable=not console.is_terminal))
    next(bar, None)
    names = _drawable(cohort, fold, options.models)
    count = export_attention(cohort, names, fold, options.export, lambda: next(bar, None))
    _say(f"{options.export}: maps of {count} slides of {cohort.name} by the models of fold {fold}")


def _say(text: str) -> None:
    print(text)  # noqa: T201
