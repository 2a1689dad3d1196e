"""`milbench check`: what models can learn, and what they learn instead, on made bags."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.flags import add_plugin_flag, plugins_of
from milbench.commands.terminal import grid, line, new_console, warn

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.models import MILModel
    from milbench.probes.run import Watch
    from milbench.probes.table import Row
    from milbench.probes.verdict import Score, Verdict

HELP = "test what models can learn, on made bags whose best answer is known"

EXPLANATION = (
    "Exit code 0 whatever the verdicts, also if a model breaks the contract and is not trained; 2 on bad input. "
    "docs/what_models_learn.md explains the tests and shows the verdicts of milbench's own models."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench check` on `parser`."""
    parser.epilog = EXPLANATION
    parser.add_argument("names", nargs="+", metavar="MODEL", help="names, patterns or `all`")
    add_plugin_flag(parser, "models")
    parser.add_argument("--tests", nargs="+", metavar="NAME", help="names or patterns of tests (default all)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each test (default 3)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write all rows to this CSV file")


def call(options: argparse.Namespace) -> int:
    """Exit code of testing the models, one after the other."""
    from milbench.machine.hardware import usable_cores
    from milbench.probes.catalogue import PROBES
    from milbench.probes.run import refuse_numbers
    from milbench.probes.table import write_rows
    from milbench.registry import import_remarks, load_models, select

    workers = usable_cores() if options.workers is None else options.workers
    refuse_numbers(options.seeds, workers)
    plugins = plugins_of(options)
    known = load_models(plugins)
    for remark in import_remarks():
        warn(remark)
    names = select("model", options.names, known)
    tests = select("test", options.tests or ["all"], PROBES)
    rows: list[Row] = []
    if options.out:
        write_rows(rows, options.out)  # a path that cannot be written is told before minutes of training
    console = new_console()
    for name in names:
        rows += _checked(console, known[name], tests, options.seeds, workers, plugins)
        if options.out:
            write_rows(rows, options.out)
    return EXIT_OK


def _checked(
    console: Console, model: type[MILModel], tests: Sequence[str], seeds: int, workers: int, plugins: Sequence[Path]
) -> list[Row]:
    """Rows of one model, which are printed too; none if the model breaks the contract."""
    from milbench.probes.run import contract_of, left_out_of, verdicts_of
    from milbench.probes.table import row_of
    from milbench.probes.training import reduced_arguments

    info = model.info
    line(console, f"{info.name}: {info.title}")
    findings = contract_of(model, plugins)
    for finding in findings:
        line(console, f"  contract: {finding.what}. See docs/models.md.")
    if any(finding.is_final for finding in findings):
        line(console, "  It is not trained.")
        return []
    if not findings:
        line(console, "  contract: kept")
    if arguments := reduced_arguments(model):
        line(console, "  reduced for the tests: " + ", ".join(f"{key}={value}" for key, value in arguments.items()))
    left_out = left_out_of(model, tests)
    taken = [name for name in tests if name not in left_out]
    if left_out:
        line(console, "  left out: " + ", ".join(f"{name} ({why})" for name, why in left_out.items()))
    verdicts = verdicts_of(
        model, taken, seeds=seeds, workers=workers, plugins=plugins, watch=_watcher(console, info.name)
    )
    _print(console, verdicts)
    return [row_of(info.name, info.title, info.version, verdict) for verdict in verdicts]


def _print(console: Console, verdicts: Sequence[Verdict]) -> None:
    rows = [
        (verdict.title, _score(verdict), f"{verdict.best:.2f}", verdict.verdict, verdict.sentence)
        for verdict in verdicts
    ]
    columns = ("test", "AUROC", "best possible", "verdict", "what it means")
    grid(console, columns, rows, names=("test", "verdict"), right=("best possible",))


def _score(verdict: Verdict) -> str:
    """ "0.93 (0.90 to 0.95)": mean, lowest and highest seed."""
    if verdict.auroc != verdict.auroc:
        return "-"
    interval = f" ({verdict.low:.2f} to {verdict.high:.2f})" if verdict.seeds > 1 else ""
    return f"{verdict.auroc:.2f}{interval}"


def _watcher(console: Console, name: str) -> Watch:
    """A progress bar over trainings on a terminal; silent elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    def watch(scores: Iterable[Score], number: int) -> Iterable[Score]:
        columns = (TextColumn(f"testing {name}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            yield from bar.track(scores, total=number)

    return watch
