"""The study on a GPU: bag-steps a second of every model on large bags, beside the plain loop, and the hours of the whole.

    python benchmarks/gpu_speed.py [--slides 60] [--patches 8000] [--width 2048] [--save]

Ten tasks × five folds on a made cohort, one `milbench run` a model, beside one trial of `reference.py` on the same GPU with
`--loaders` processes that read ahead. Bag-steps a second are training bags over everything that happened, less the start-up
(the same command on a cohort of nearly nothing). The hours are those of the 1,575 trainings of the study on its real
numbers of slides, at these rates. Without a GPU it says so and measures nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import reference
import torch
from command import add_run_flags, run
from made_cohort import Size, add_folder_flag, add_size_flags, asked_size, temporary_cohort, tiny
from projection import FOLDS, GENES, TRAIN, is_multi
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio

from milbench.datasets.tcga import COHORTS
from milbench.recipe import Recipe
from milbench.registry import load_models, select

USUAL = Size(60, 8000, 2048, GENES)
DEVICE = "cuda"
NO_GPU = "torch sees no GPU here: nothing was measured. Run it on a machine with one."


def trainings(model: str) -> int:
    """Of one cohort of the study."""
    return FOLDS * (1 if is_multi(model) else GENES)


def study_steps(model: str) -> float:
    """Training bags that the study shows to the model, over all cohorts, epochs and trainings."""
    return sum(TRAIN * cohort.n_slides for cohort in COHORTS) * Recipe().epochs * trainings(model)


def milbench_rate(model: str, cohorts: Sequence[Path], options: argparse.Namespace) -> float:
    """Bag-steps a second of the command on the first cohort; the second one tells the start-up."""
    words, startup = (
        ["--cohort", str(cohort), "--models", model, "--folds", f"0-{options.folds - 1}",
         "--set", f"trainer.epochs={options.epochs}", "--device", DEVICE, *options.more]
        for cohort in cohorts
    )  # fmt: skip
    found = run(options.milbench, words, startup=startup)
    return found.bag_steps() / found.working_seconds


def plain_rate(model: str, cohort: Path, sides: reference.Sides, options: argparse.Namespace) -> float:
    tasks = [f"task{number}" for number in range(options.tasks if is_multi(model) else 1)]
    trained = reference.train(
        model, cohort, tasks, sides, epochs=options.epochs, device=DEVICE, loaders=options.loaders
    )
    return options.epochs * len(sides.train) / trained.seconds


def measured(models: Sequence[str], cohorts: Sequence[Path], options: argparse.Namespace) -> dict[str, list[float]]:
    """Rates by contestant, in turn."""
    sides = reference.sides_of(cohorts[0], 0)
    contestants: dict[str, Callable[[], float]] = {}
    for model in models:
        contestants[model] = lambda model=model: milbench_rate(model, cohorts, options)
        contestants[plain(model)] = lambda model=model: plain_rate(model, cohorts[0], sides, options)
    return interleaved(contestants, options.repetitions, warm_ups=options.warm_ups)


def plain(model: str) -> str:
    return f"plain {model}"


def hours(model: str, rates: Sequence[float]) -> float:
    return study_steps(model) / median(rates) / 3600


def rows(models: Sequence[str], rates: Mapping[str, Sequence[float]]) -> list[list[str]]:
    each = [
        [
            model,
            f"{median(rates[model]):.1f}",
            f"{median(rates[plain(model)]):.1f}",
            f"{ratio(rates[model], rates[plain(model)]):.2f}",
            f"{hours(model, rates[model]):.1f}",
            f"{hours(model, rates[plain(model)]):.1f}",
        ]
        for model in models
    ]
    sums = [sum(hours(model, rates[name(model)]) for model in models) for name in (str, plain)]
    return [*each, ["all of these", "", "", f"{sums[1] / sums[0]:.2f}", *(f"{total:.1f}" for total in sums)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser, USUAL)
    parser.add_argument("--models", nargs="+", default=["all"])
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"how many folds (default {FOLDS})")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--loaders", type=int, default=4, help="processes that read for the plain loop (default 4)")
    parser.add_argument("--precision", choices=["float32", "tf32", "bf16"], help="of milbench (default: its own)")
    add_run_flags(parser, repetitions=3)
    add_folder_flag(parser)
    add_save_flag(parser)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_GPU)
        return
    options.more = ["--precision", options.precision] if options.precision else []
    size, models = asked_size(options), select("model", options.models, load_models())
    with temporary_cohort(size, options.folder) as large, temporary_cohort(tiny(size), options.folder) as small:
        rates = measured(models, (large, small), options)
    head = ["model", "bag-steps/s", "plain loop", "ratio", "hours of the study", "plain loop's hours"]
    publish(
        options,
        f"{size}, {size.tasks} tasks × {options.folds} folds, {options.epochs} epochs; medians of {options.repetitions} "
        f"interleaved repetitions. Hours: one GPU, bags of {size.patches:,} patches.\n\n{table(head, rows(models, rates))}",
    )


if __name__ == "__main__":
    main()
