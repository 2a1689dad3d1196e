"""`milbench data simulate`: a cohort whose answer is known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.commands.command import EXIT_OK
from milbench.commands.terminal import grid, line, new_console
from milbench.errors import UsageError
from milbench.store.pasteable import pasteable

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.simulate.write import Simulation, Written

HELP = "make a cohort whose answer is known, with the best score that can be had"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the command's flags on `parser`."""
    from milbench.simulate.design import PRESETS

    parser.add_argument("preset", metavar="PRESET", help="; ".join(f"{name}: {p.about}" for name, p in PRESETS.items()))
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where to write; if a part is there already, the command goes on from it",
    )
    parser.add_argument("--labels", type=Path, metavar="CSV", help="label table (default: a synthetic one)")
    parser.add_argument("--slides", type=int, metavar="N", help="number of slides (of a given table the first N)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same seed makes the same bytes (default 0)"
    )
    parser.add_argument("--world-seed", type=int, metavar="N",
                        help="seed of a cohort that has the same signals; patients and sites are others (default: --seed)")  # fmt: skip
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="assignments",
                        help="any part of the design, such as width=64 or strengths=[3,4,5]; see docs/simulate.md")  # fmt: skip


def call(options: argparse.Namespace) -> int:
    """Exit code of making the cohort."""
    from rich.progress import track

    from milbench.simulate.design import make_design
    from milbench.simulate.write import simulate, write_cohort

    assignments = [_assignment(text) for text in options.assignments]
    if options.slides is not None:
        assignments.append(("slides", options.slides))
    elif options.labels and not any(key == "slides" for key, _ in assignments):
        assignments.append(("slides", 0))  # all of the given table, whatever the preset makes
    if options.seed < 0:
        raise UsageError(f"--seed is {options.seed}. Give 0 or more.")
    if options.world_seed is not None and options.world_seed < 0:
        raise UsageError(f"--world-seed is {options.world_seed}. Give 0 or more.")
    console = new_console()
    design = make_design(options.preset, assignments)
    simulation = simulate(design, options.seed, options.labels, options.world_seed)
    bar = iter(track(simulation.labels.slides["slide_id"], "slides", console=console, disable=not console.is_terminal))
    next(bar, None)
    written = write_cohort(simulation, options.out, lambda: next(bar, None))
    _print_simulation(console, simulation, written, options.out)
    return EXIT_OK


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    from milbench.store.plain_yaml import plain_yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set takes key=value, for example width=64; got '{text}'.")
    try:
        return key, plain_yaml(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text}: the value is not valid YAML ({error}).") from error


def _print_simulation(console: Console, simulation: Simulation, written: Written, out: Path) -> None:
    from math import isnan

    slides, oracle = simulation.labels.slides, simulation.oracle
    console.print(
        f"{out}: {len(slides)} slides ({written.made} made, {written.kept} there before) of "
        f"{slides['patient_id'].nunique()} patients, {written.patches:,} patches, "
        f"{simulation.design.width} wide, {written.bytes / 1e6:,.1f} MB"
    )
    columns = ("task", "positive", "oracle, own carrier", "oracle, all carriers", "carriers as drawn")
    rows = []
    for row, task in enumerate(simulation.binary_tasks):
        scores = ["-" if isnan(value[row]) else f"{value[row]:.3f}" for value in oracle]
        rows.append((task, f"{slides[task].mean():.2f}", *scores))
    if rows:
        grid(console, columns, rows, names=("task",))
    _print_other_kinds(console, simulation)
    line(console, f"next: milbench run --cohort {pasteable(out)}")


def _print_other_kinds(console: Console, simulation: Simulation) -> None:
    """Optimum of every task that is not binary."""
    from milbench.stats.metric import METRICS

    kinds = {task.name: task.endpoint.kind for task in simulation.labels.kinds}
    rows = [
        (task, kinds[task], METRICS[kinds[task]].title, f"{known.best:.3f}", f"{known.here:.3f}")
        for task, known in simulation.optima.items()
    ]
    if rows:
        grid(console, ("task", "kind", "metric", "best possible", "as drawn"), rows, names=("task",))
