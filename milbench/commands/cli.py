"""Command line: parse, call one function, print. Heavy imports stay inside the functions."""

from __future__ import annotations

import argparse
import atexit
import gc
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import milbench
from milbench.commands import flags
from milbench.errors import MilbenchError, UsageError, unknown_name

if TYPE_CHECKING:
    from milbench.store.run import Run
    from milbench.study.reproduce import Request

WATCH_SECONDS = 5.0

FEWEST_DRAWS = 100
"""With fewer the ends of a 95 % interval are single draws."""

EXIT_OK, EXIT_BAD_INPUT, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 0, 2, 3, 130

COMMANDS = {
    "run": "train and test what is not done yet, then print the table",
    "plan": "show what `run` would do: trials, slides, an estimate",
    "reproduce": "train what tables and figures of the M4 study need, then write them",
    "status": "show what of a run is done, running, failed and left; also while it runs",
    "merge": "put the run folders of shards together",
    "report": "write tables (LaTeX, CSV, Markdown) and figures of finished runs",
    "heatmap": "draw what the models of a finished run look at, and check whether it is right",
    "ui": "compare finished runs in the MLflow UI",
    "track": "publish a finished run to an MLflow server",
    "models": "list the models",
    "datasets": "list the datasets",
    "data": "inspect, check, pack, fetch, label, simulate and split cohorts",
}

EXAMPLES = """examples:
  milbench run                                         nine models on the embedded digits, about 2 minutes
  milbench run --models amil m4 --cohort my-cohort/    your own features and labels
  milbench run --datasets 'tcga-*' --data-root /data   the five cohorts of the M4 study
  milbench plan --datasets 'tcga-*' --data-root /data  what that would run
  milbench reproduce m4 --data-root /data              all tables and figures of the M4 study
  milbench run --shard 2/4                             a quarter of it on this machine; then `milbench merge`
  milbench report                                      tables and figures of the newest run
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of one invocation: 0 done, 2 bad input, 3 some trials failed, 130 interrupted."""
    # else Python ends by looking for garbage among all that torch has imported, for half a second
    atexit.register(gc.freeze)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(words)
        return int(options.function(options))
    except MilbenchError as error:
        print(f"milbench: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("milbench: stopped; finished trials are kept, the same command goes on.", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """argparse that answers a mistyped command or flag with the nearest known one."""

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}. `{self.prog} --help` lists what there is.")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuses what it does not know here, where a command's parser, and not only the first, can name its own options."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            raise self._unknown(unknown[0])
        return options, unknown

    def _unknown(self, word: str) -> UsageError:
        from milbench.trials.recipe import SETTINGS

        name, _, value = word.partition("=")
        setting = name.strip("-").replace("-", "_")
        if not word.startswith("-"):
            return UsageError(f"{self.prog} does not know what to do with '{word}'. See `{self.prog} --help`.")
        if self.prog in {"milbench run", "milbench plan"} and setting in SETTINGS:
            return UsageError(f"{self.prog} has no {name}. It is a setting: --set trainer.{setting}={value or '...'}")
        return unknown_name(f"option of {self.prog}", name, self._option_string_actions)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="milbench",
        description="Fair, leak-free, resumable benchmarks of multiple-instance-learning models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"milbench {milbench.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=globals().get(f"_{name}"))
        getattr(flags, f"add_{name}_flags")(command)
    return parser


# ---- commands ------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench.commands import show
    from milbench.engines.loky import end_workers
    from milbench.runs.benchmark import run_benchmark
    from milbench.runs.preparation import prepare
    from milbench.runs.progress import Progress

    console = Console(highlight=False)
    benchmark = prepare(flags.config_of(options))
    show.benchmark_header(console, benchmark)
    try:
        outcome = run_benchmark(benchmark, Progress(console))
    finally:
        end_workers()
    show.outcome(console, outcome)
    if outcome.refused:
        raise MilbenchError(outcome.refused)
    if outcome.left:
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if outcome.failed or outcome.skipped else EXIT_OK


def _plan(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench.commands import show
    from milbench.runs.preparation import prepare

    show.plan(Console(highlight=False), prepare(flags.config_of(options)))
    return EXIT_OK


def _reproduce(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench.commands import show_study
    from milbench.engines.loky import end_workers
    from milbench.report.study import write_study
    from milbench.runs.progress import Progress
    from milbench.study.reproduce import plan_study, run_study, study_runs

    console = Console(highlight=False)
    study = plan_study(_study_request(options))
    show_study.plan(console, study)
    if options.dry_run:
        return EXIT_OK
    try:
        outcomes = run_study(study, lambda name: Progress(show_study.announced(console, name)))
    finally:
        end_workers()
    for refused in filter(None, (outcome.refused for outcome in outcomes)):
        raise MilbenchError(refused)
    if any(outcome.interrupted for outcome in outcomes):
        raise KeyboardInterrupt  # `main` says that the same command goes on
    if any(outcome.failed for outcome in outcomes):
        show_study.failures(console, outcomes)
        return EXIT_SOME_FAILED
    runs, out = study_runs(study), options.out or study.request.report_folder
    index = write_study(runs, study.request.parts, out)
    if "fig5" in study.request.parts and runs.main:
        from milbench.commands.heatmap import draw_fig5

        draw_fig5(runs.main, out / "fig5")
    show_study.closing(console, study, index)
    return EXIT_OK


def _study_request(options: argparse.Namespace) -> Request:
    from milbench.study.parts import parts_of
    from milbench.study.reproduce import Request

    if options.epochs is not None and options.epochs < 1:
        raise UsageError(f"--epochs is {options.epochs}; the least is 1.")
    for assignment in options.assignments:
        if not assignment.startswith("engine."):
            raise UsageError(
                f"--set {assignment}: the study's settings are the paper's; only those of engine may change."
            )
    return Request(
        parts=parts_of(options.parts),
        datasets=tuple(options.datasets or ()),
        data_root=options.data_root or "",
        epochs=options.epochs,
        precision=options.precision or "float32",
        engine=flags.engine_of(options),
        assignments=tuple(options.assignments),
        tracking=not options.no_tracking,
        allow_missing=options.allow_missing,
    )


def _status(options: argparse.Namespace) -> int:
    import time

    from rich.console import Console

    from milbench.commands import show
    from milbench.runs.status import survey

    run = _open(options.run) if options.run else _newest_run()
    with suppress(KeyboardInterrupt):  # the end of watching, not of the run
        while True:
            found = survey(run)
            show.status(Console(highlight=False), run, found)
            if not options.watch or not any(count.left or count.running for count in found.counts.values()):
                break
            time.sleep(WATCH_SECONDS)
    return EXIT_OK


def _merge(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench.commands import show
    from milbench.runs.merge import merge

    merged = merge(options.out, options.runs, allow_missing_shards=options.allow_missing_shards)
    show.merged(Console(highlight=False), merged)
    return EXIT_SOME_FAILED if merged.left or merged.conflicts else EXIT_OK


def _report(options: argparse.Namespace) -> int:
    from milbench.commands import show
    from milbench.report import DRAWS, REFERENCE, write_report

    if options.draws is not None and options.draws < FEWEST_DRAWS:
        raise UsageError(f"--draws is {options.draws}; an interval needs at least {FEWEST_DRAWS}.")
    # as they are now: checksums of all trials are verified once, for tables and warnings
    runs = [run.snapshot() for run in [_open(path) for path in options.runs] or [_newest_run()]]
    out = options.out or Path("reports") / "+".join(run.name for run in runs)
    index = write_report(
        runs,
        out,
        reference=options.reference or REFERENCE,
        draws=options.draws or DRAWS,
        complete_cases=options.complete_cases,
    )
    _say(f"report: {index}")
    for run in runs:
        if missing := show.unfinished(run):
            print(f"milbench: warning: {missing}", file=sys.stderr)  # noqa: T201
    if not options.no_tracking:
        _track_report(runs, out)
    return EXIT_OK


def _track_report(runs: Sequence[Run], out: Path) -> None:
    """Put the report's files where the runs are tracked; a server that is away is a warning, for the files are there."""
    from milbench.errors import TrackingError
    from milbench.tracking.client import without_password
    from milbench.tracking.publish import publish_report, tracked_at

    for run in runs:
        uri = tracked_at(run)
        if not uri:
            continue
        try:
            _say(f"{publish_report(run, uri, out)} MLflow runs of {run.name} now hold it ({without_password(uri)})")
        except TrackingError as error:
            print(f"milbench: warning: {error}", file=sys.stderr)  # noqa: T201


def _heatmap(options: argparse.Namespace) -> int:
    from milbench.commands.heatmap import run_heatmap

    return run_heatmap(options)


def _ui(options: argparse.Namespace) -> int:
    import subprocess

    from milbench.tracking.client import default_uri
    from milbench.tracking.ui import ui_command, ui_links

    uri = options.uri or default_uri(Path("runs"))
    for text in ui_links(uri, options.port):
        _say(text)
    return subprocess.call(ui_command(uri, options.port))  # noqa: S603 - our own command, loopback only


def _track(options: argparse.Namespace) -> int:
    from milbench.tracking.client import default_uri, without_password
    from milbench.tracking.publish import publish, publish_report

    if options.report and not options.report.is_dir():
        raise UsageError(f"{options.report} is no folder. Write a report first: milbench report RUN --out FOLDER.")
    for path in options.runs:
        run = _open(path)
        uri = options.uri or default_uri(run.path.absolute().parent)
        _say(f"published {publish(run, uri)} trials of {run.path} to {without_password(uri)}")
        if options.report:
            _say(f"{publish_report(run, uri, options.report)} of its runs now hold {options.report}")
    return EXIT_OK


def _models(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench.commands import show
    from milbench.registry import load_models

    show.models(Console(highlight=False), load_models([Path(plugin) for plugin in options.plugins]))
    return EXIT_OK


def _datasets(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench.commands import show
    from milbench.datasets import all_datasets

    show.datasets(Console(highlight=False), all_datasets().values())
    return EXIT_OK


def _open(path: Path) -> Run:
    from milbench.store.run import open_run

    return open_run(path)


def _newest_run() -> Run:
    runs = sorted(Path("runs").glob("*/run.yaml"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise UsageError("there is no run in runs/. Start one with `milbench run`, or name a run folder.")
    return _open(runs[-1].parent)


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
