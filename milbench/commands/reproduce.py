"""`milbench reproduce`: tables and figures of the M4 study."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK, EXIT_SOME_FAILED
from milbench.commands.flags import add_engine_flags, add_precision_flag, engine_of
from milbench.commands.terminal import new_console, say
from milbench.errors import MilbenchError, UsageError

if TYPE_CHECKING:
    from milbench.report.attention_claim import Attention
    from milbench.store.run import Run
    from milbench.study.reproduce import Request, Study

HELP = "train what tables and figures of the M4 study need, then write them"


FIG5 = ("amil", "m4")
"""Models of the study's Fig. 5."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` which parts of the study, and how they run."""
    parser.add_argument(
        "parts", nargs="+", metavar="PART", help="m4 (all), table1, table2, table3, fig3, fig4a, fig4b, fig5"
    )
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="names or patterns (default: the five tcga-*)")
    parser.add_argument("--data-root", metavar="FOLDER", help="where the datasets' data lie (default: $MILBENCH_DATA)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of every training (default: the recipe's)")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what each part needs and what is done; train nothing"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: reports/m4)")
    add_precision_flag(parser)
    parser.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    parser.add_argument(
        "--allow-missing", action="store_true", help="skip slides without features or label, and count them"
    )
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="assignments",
                        help="settings of the engine, such as engine.slurm.jobs=16")  # fmt: skip
    add_engine_flags(parser, shard=False)


def call(options: argparse.Namespace) -> int:
    """Exit code of the study: 0 if its report is written, 3 if trials failed."""
    from milbench.commands import show_study
    from milbench.engines.loky import end_workers
    from milbench.report.study import write_study
    from milbench.runs.progress import Progress
    from milbench.study.reproduce import plan_study, run_study, study_runs

    console = new_console()
    study = plan_study(_study_request(options))
    show_study.plan(console, study)
    if options.dry_run:
        return EXIT_OK
    try:
        outcomes = run_study(study, lambda name: Progress(show_study.announced(console, name), forecasts=True))
    finally:
        end_workers()
    for refused in filter(None, (outcome.refused for outcome in outcomes)):
        raise MilbenchError(refused)
    if any(outcome.interrupted for outcome in outcomes):
        raise KeyboardInterrupt  # `main` says how to go on
    if any(outcome.failed for outcome in outcomes):
        show_study.failures(console, outcomes)
        return EXIT_SOME_FAILED
    runs, out = study_runs(study), options.out or study.request.report_folder
    index = write_study(runs, study.request.parts, out, attention=_attention(study, runs.main))
    if "fig5" in study.request.parts and runs.main:
        _draw_fig5(runs.main, out / "fig5")
    show_study.closing(console, study, index)
    return EXIT_OK


def _study_request(options: argparse.Namespace) -> Request:
    from milbench.study.parts import parts_of
    from milbench.study.reproduce import Request

    if options.epochs is not None and options.epochs < 1:
        raise UsageError(f"--epochs is {options.epochs}. Give 1 or more.")
    for assignment in options.assignments:
        if not assignment.startswith("engine."):
            raise UsageError(
                f"--set {assignment}: the study runs with the paper's settings. Set only those of engine, such as engine.workers=4."
            )
    return Request(
        parts=parts_of(options.parts),
        datasets=tuple(options.datasets or ()),
        data_root=options.data_root or "",
        epochs=options.epochs,
        precision=options.precision or "float32",
        engine=engine_of(options),
        assignments=tuple(options.assignments),
        tracking=not options.no_tracking,
        allow_missing=options.allow_missing,
    )


def _attention(study: Study, run: Run | None) -> Attention | None:
    """What AMIL and M4 look at, for the claim on Fig. 5, if that part was asked for."""
    if "fig5" not in study.request.parts or run is None:
        return None
    from milbench.heatmap.seen import attention_seen

    reference, model = FIG5
    return attention_seen(run.snapshot(), model, reference)


def _draw_fig5(run: Run, out: Path) -> None:
    """The study's Fig. 5 of every cohort of `run`: the surest hit of its first task, seen by AMIL, M4 and M4's experts.

    AMIL is left out where it was not trained. A cohort that can't be drawn (no coordinates, no weights) is named, and
    the others are drawn.
    """
    from milbench.commands import heatmap

    parser = argparse.ArgumentParser()
    heatmap.add_flags(parser)
    trained = {(trial.info["dataset"], trial.info["model"]) for trial in run.trials()}
    for dataset in run.datasets:
        models = [model for model in FIG5 if (dataset, model) in trained]
        words = ["--dataset", dataset, "--slides", "top-tp", "--models", *models, "--experts", "--out", str(out)]
        try:
            heatmap.call(parser.parse_args([str(run.path), *words]))
        except MilbenchError as error:
            say(f"fig5: {error}")
