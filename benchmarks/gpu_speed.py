"""The study on a GPU: bag-steps a second of every model on large bags, beside the plain loop, and the hours of the whole.

    python benchmarks/gpu_speed.py [--slides 60] [--patches 8000] [--width 2048] [--precisions float32 tf32] [--save]

Ten tasks × five folds on a made cohort, all models in one `milbench run` for each precision, beside one trial of every
model in `reference.py` on the same GPU, float32, with `--loaders` processes that read ahead. A rate is training bags over
seconds of training, validation and the final predictions, waiting for features included, as trial.json says; the loop is
timed over the same. The hours are those of the study's 1,575 trainings on its real numbers of slides, all of this size: a
command's wall seconds less the start-up (one fold of mean pooling on a cohort of nearly nothing), times the slides and epochs
of the study over those of the cohort. `--per-gpu N` adds the command with N workers on the GPU. Without a GPU it measures
nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import reference
import torch
from command import Finished, add_run_flags, middle, run
from made_cohort import Size, add_folder_flag, add_size_flags, asked_size, temporary_cohort, tiny
from projection import FOLDS, GENES, is_multi
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio

from milbench.datasets.tcga import COHORTS
from milbench.recipe import Recipe
from milbench.registry import load_models, select

USUAL = Size(60, 8000, 2048, GENES)
DEVICE = "cuda"
NO_GPU = "torch sees no GPU here: nothing was measured. Run it on a machine with one."


def command_rate(cohorts: Sequence[Path], options: argparse.Namespace, flags: Sequence[str]) -> Finished:
    """The command on the first cohort; its start-up on the second."""

    def words(cohort: Path, models: Sequence[str], folds: str) -> list[str]:
        return ["--cohort", str(cohort), "--models", *models, "--folds", folds,
                "--set", f"trainer.epochs={options.epochs}", "--device", DEVICE, *flags]  # fmt: skip

    large, small = cohorts
    usual = words(large, options.models, f"0-{options.folds - 1}")
    return run(options.milbench, usual, startup=words(small, ["mean_pooling"], "0"))


def plain_rate(model: str, cohort: Path, sides: reference.Sides, options: argparse.Namespace) -> float:
    """Bag-steps a second of the loop."""
    tasks = [f"task{number}" for number in range(options.tasks if is_multi(model) else 1)]
    trained = reference.train(
        model, cohort, tasks, sides, epochs=options.loop_epochs, device=DEVICE, loaders=options.loaders
    )
    return options.loop_epochs * len(sides.train) / trained.seconds


def variants(options: argparse.Namespace) -> dict[str, list[str]]:
    """Flags of each command, by its name."""
    each = {name: ["--precision", name] for name in options.precisions}
    if options.per_gpu > 1:
        name = options.precisions[-1]
        each[f"{name}, {options.per_gpu} workers"] = [*each[name], "--gpus", "all", "--per-gpu", str(options.per_gpu)]
    return each


def measured(models: Sequence[str], cohorts: Sequence[Path], options: argparse.Namespace) -> dict[str, list[Any]]:
    """What every command and every plain loop gave, in turn: `Finished`, or a rate."""
    sides, contestants = reference.sides_of(cohorts[0], 0), dict[str, Callable[[], Any]]()
    for name, flags in variants(options).items():
        contestants[name] = lambda flags=flags: command_rate(cohorts, options, flags)
    for model in models:
        contestants[plain(model)] = lambda model=model: plain_rate(model, cohorts[0], sides, options)
    told = {name: lambda name=name, work=work: _told(name, work) for name, work in contestants.items()}
    return interleaved(told, options.repetitions, warm_ups=options.warm_ups)


def _told(name: str, work: Callable[[], Any]) -> Any:
    """What the work gives, told on the screen too: a benchmark of minutes may be cut short."""
    found = work()
    rates = {model: rate(found, model) for model in found.models()} if isinstance(found, Finished) else {"": found}
    seconds = (
        f"{found.wall_seconds:.1f} s, start-up {found.startup_seconds:.1f} s; " if isinstance(found, Finished) else ""
    )
    print(
        f"{name}: {seconds}{', '.join(f'{model} {each:.1f}' for model, each in rates.items())} bags/s", file=sys.stderr
    )
    return found


def plain(model: str) -> str:
    return f"plain {model}"


def rate(found: Finished, model: str) -> float:
    return found.bag_steps(model) / found.train_seconds(model)


def of_models(models: Sequence[str], found: Mapping[str, list[Any]], precisions: Sequence[str]) -> str:
    rows = []
    for model in models:
        loop, row = found[plain(model)], [model, f"{median(found[plain(model)]):.1f}"]
        for name in precisions:
            rates = [rate(each, model) for each in found[name]]
            row += [f"{median(rates):.1f}", f"{ratio(rates, loop):.2f}"]
        rows.append(row)
    head = ["model", "plain loop", *(each for name in precisions for each in (name, f"{name} / loop"))]
    return table(head, rows)


def of_commands(models: Sequence[str], found: Mapping[str, list[Any]], size: Size, options: argparse.Namespace) -> str:
    """Seconds of whole commands, and hours of the study by them and by the plain loop, one trial after the other."""
    slides = sum(cohort.n_slides for cohort in COHORTS)
    share = slides * Recipe().epochs / (size.slides * options.epochs)
    rows = []
    for name in variants(options):
        work = middle(found[name], lambda each: each.working_seconds)
        wall = middle(found[name], lambda each: each.wall_seconds)
        rows.append([name, f"{wall:.0f}", f"{work:.0f}", f"{work * share / 3600:.1f}"])
    first = found[next(iter(variants(options)))][0]
    loop = sum(first.bag_steps(model) / median(found[plain(model)]) for model in models)
    rows.append(["plain loop, from its rates", "", f"{loop:.0f}", f"{loop * share / 3600:.1f}"])
    head = ["all of these models", "wall s", "less start-up s", f"hours of the study ({slides:,} slides)"]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser, USUAL)
    parser.add_argument("--models", nargs="+", default=["all"])
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"how many folds (default {FOLDS})")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--loop-epochs", type=int, default=6, help="of the plain loop, so that its start counts little")
    parser.add_argument("--loaders", type=int, default=4, help="processes that read for the plain loop (default 4)")
    parser.add_argument("--precisions", nargs="+", default=["float32", "tf32"], choices=["float32", "tf32", "bf16"])
    parser.add_argument("--per-gpu", type=int, default=1, help="also with so many workers, in the last precision")
    add_run_flags(parser, repetitions=3)
    add_folder_flag(parser)
    add_save_flag(parser)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_GPU)
        return
    size, models = asked_size(options), select("model", options.models, load_models())
    with temporary_cohort(size, options.folder) as large, temporary_cohort(tiny(size), options.folder) as small:
        found = measured(models, (large, small), options)
    publish(
        options,
        f"{size}, {size.tasks} tasks × {options.folds} folds, {options.epochs} epochs; medians of {options.repetitions} "
        f"interleaved repetitions. Bag-steps a second:\n\n{of_models(models, found, options.precisions)}\n\n"
        f"{of_commands(models, found, size, options)}",
    )


if __name__ == "__main__":
    main()
