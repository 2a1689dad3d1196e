"""`milbench evaluate`: a finished run's models on cohorts that the run never saw."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.draws import add_draws_flag, draws_of
from milbench.commands.flags import add_place_flags, add_plugin_flag, engine_of, plugins_of
from milbench.commands.terminal import grid, line, new_console, say, warn, watcher
from milbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from milbench.cohorts.cohort import Cohort
    from milbench.datasets.source import CohortSource
    from milbench.engines.settings import PoolSettings
    from milbench.external.evaluate import Elsewhere, External, Scores
    from milbench.external.trained import Trained
    from milbench.report.tables import Table

HELP = "score external cohorts with the models of a finished run"

SECONDARY = "external_metrics"
"""Tables too wide for a terminal, which stand in files alone."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench evaluate` on `parser`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder; its weights must have been kept")
    parser.add_argument("--cohort", nargs="+", required=True, metavar="PATH|NAME", dest="cohorts",
                        help="external cohorts: folders, YAML files or names of the catalogue")  # fmt: skip
    parser.add_argument(
        "--dataset", metavar="NAME", help="cohort of the run whose models score (default: its only one)"
    )
    parser.add_argument(
        "--data-root", type=Path, metavar="FOLDER", help="where the datasets' data lie (default: as run)"
    )
    add_plugin_flag(parser, "datasets, beside those that the run was told of")
    parser.add_argument("--allow-overlap", action="store_true",
                        help="drop slides of patients that the run knows, and count them")  # fmt: skip
    parser.add_argument(
        "--allow-missing", action="store_true", help="skip slides without features or label, and count them"
    )
    parser.add_argument("--complete-cases", action="store_true",
                        help="leave tasks that not all models finished out of means and comparisons")  # fmt: skip
    parser.add_argument(
        "--reference", metavar="MODEL", help="the model that the others are compared with (default amil)"
    )
    add_draws_flag(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where tables and figures go (default: RUN/external/COHORT)"
    )
    engine = add_place_flags(parser, "where slides are scored (docs/external.md)")
    engine.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="assignments",
                        help="any setting of SLURM, such as engine.slurm.jobs=8")  # fmt: skip


def call(options: argparse.Namespace) -> int:
    """Exit code of scoring every cohort, and writing its tables and figures."""
    from milbench.engines.loky import end_workers
    from milbench.external.trained import trained
    from milbench.heatmap.stored import plugins_of_run
    from milbench.store.run import open_run

    draws, settings = draws_of(options), _settings(options)
    source = trained(open_run(options.run).snapshot(), options.dataset, options.data_root)
    if len(source.trials) < source.n_planned:
        warn(
            f"{len(source.trials)} of {source.n_planned} planned trials of {options.run} are done; only those are evaluated"
        )
    plugins = (*plugins_of_run(source.run), *plugins_of(options))
    places = [_cohort_source(word, plugins, options) for word in options.cohorts]
    cohorts = [place.load() for place in places]
    _refuse_twice([cohort.name for cohort in cohorts])
    try:
        for place, cohort in zip(places, cohorts, strict=True):
            _evaluate(source, place, cohort, settings, draws, options)
    finally:
        end_workers()
    return EXIT_OK


def _settings(options: argparse.Namespace) -> PoolSettings:
    """Engine, workers and devices.

    Raises
    ------
    UsageError : a device, GPU or package is missing, or two settings contradict each other.
    """
    from milbench.runs.config import make_config
    from milbench.runs.passes import settings_of

    for assignment in options.assignments:
        if not assignment.startswith("engine.slurm."):
            raise UsageError(
                f"--set of evaluate takes settings of SLURM, such as engine.slurm.jobs=8; got '{assignment}'."
            )
    engine = make_config(None, options.assignments, {"engine": engine_of(options)}).engine
    if engine.kind == "slurm" and options.shard:
        raise UsageError(
            f"--engine slurm gives each of its jobs a part of the trials. Leave --shard {options.shard} out."
        )
    return settings_of(engine, options.run)


def _cohort_source(word: str, plugins: tuple[Path, ...], options: argparse.Namespace) -> CohortSource:
    """Where an external cohort comes from: a path, or a dataset."""
    from milbench.datasets import all_datasets
    from milbench.datasets.source import CohortSource

    if word in all_datasets(plugins) and not Path(word).exists():
        source = CohortSource(name=word, data_root=options.data_root, plugins=plugins)
    else:
        source = CohortSource(path=Path(word))
    return replace(source, allow_missing=options.allow_missing)


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two cohorts are called '{name}'. Give one of them another `name:` in its cohort.yaml.")


def _evaluate(
    source: Trained,
    place: CohortSource,
    cohort: Cohort,
    settings: PoolSettings,
    draws: int,
    options: argparse.Namespace,
) -> None:
    from milbench.engines.shards import parse_shard
    from milbench.external.analysis import refuse_incomplete
    from milbench.external.dealing import deal_of
    from milbench.external.evaluate import checked, scored

    external = checked(source, cohort, allow_overlap=options.allow_overlap)
    if not options.complete_cases:
        refuse_incomplete(source.trials, external.evaluated)
    shard = parse_shard(options.shard or "")
    if shard is not None:
        external = replace(external, source=source.of_shard(shard))
    console = new_console()
    _describe(console, external)
    n_slides = len(external.slides)
    if settings.kind == "slurm":
        scores = scored(
            external, settings.device, watcher(console), elsewhere=_in_jobs(source, place, settings, options)
        )
    else:
        deal = deal_of(settings, asked=options.workers or 0, n_slides=n_slides, announce=warn)
        scores = scored(external, settings.device, watcher(console), deal)
    _say_scores(console, scores, f"{n_slides} {external.cohort.bag}s")
    if shard is None:
        _write(console, external, scores, draws, options)
    else:
        say(
            f"shard {shard} is scored. When all shards are, give the command without --shard: it writes tables and figures."
        )


def _in_jobs(source: Trained, place: CohortSource, settings: PoolSettings, options: argparse.Namespace) -> Elsewhere:
    """What lets SLURM jobs score the cohort."""
    from milbench.external.jobs import Scoring, score_in_jobs

    root = source.data_root.absolute() if source.data_root else None
    scoring = Scoring(settings.run, source.dataset, root, place, options.allow_overlap, settings, options.workers or 0)
    return partial(score_in_jobs, scoring, source, say)


def _write(console: Console, external: External, scores: Scores, draws: int, options: argparse.Namespace) -> None:
    """Print tables, and write them and the figures."""
    from milbench.external.analysis import compared
    from milbench.external.drawings import draw_sides
    from milbench.external.scored import external_folder
    from milbench.external.tables import tables_of, write_tables
    from milbench.report import REFERENCE

    found = compared(external, scores.trials, reference=options.reference or REFERENCE, draws=draws,
                     complete_cases=options.complete_cases)  # fmt: skip
    for table in tables_of(external, found):
        if not table.name.startswith(SECONDARY):
            show(console, table)
    out = options.out / external.name if options.out else external_folder(external.source.run, external.name)
    drawn = draw_sides(external, scores.trials, found, out)
    say(f"tables and figures: {write_tables(external, found, out, drawn)[0]}")


def _say_scores(console: Console, scores: Scores, bags: str) -> None:
    kept = len(scores.trials) - scores.n_new
    before = f"{kept} had done so before" if kept else ""
    replaced = (
        f"{scores.n_replaced} had scores of other labels, features or weights, or damaged ones"
        if scores.n_replaced
        else ""
    )
    line(console, ", ".join(filter(None, (f"{scores.n_new} trials scored {bags}", before, replaced))))


def _describe(console: Console, external: External) -> None:
    cohort, slides = external.cohort, external.slides
    joined = f" (bag: {cohort.bag})" if cohort.of_slides else ""
    line(console, f"{cohort.name}: {len(external.slide_ids)} slides of {slides['patient_id'].nunique()} patients{joined}, "
                  f"{len(external.evaluated)} tasks, scored by {len(external.source.trials)} trials of "
                  f"{external.source.dataset}")  # fmt: skip
    for warning in external.warnings:
        line(console, f"  warning: {warning}")
    for remark in external.remarks:
        line(console, f"  note: {remark}")


def show(console: Console, table: Table) -> None:
    """Print a table with its caption."""
    rows = [[row.title, *("\n".join(filter(None, (cell.text, cell.below))) for cell in row.cells)]
            for row in table.rows]  # fmt: skip
    grid(console, [table.head, *table.columns], rows, names=(), right=table.columns)
    line(console, table.caption)
