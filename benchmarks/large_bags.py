"""Ten tasks on large bags from the first read to the last prediction: milbench beside the plain loop.

    python benchmarks/large_bags.py [--slides 200] [--patches 2000] [--width 2048] [--bf16] [--save]

A cohort of `.pt` files is made and deleted afterwards; one fold of it is trained, one trial per task, by two workers of one
thread, by one worker of two, and by `reference.py` with two threads on some of the tasks. Bag-steps per second count training
bags alone; the time is that of everything, less the command's start-up (the same command on a cohort of nearly nothing,
run right after). The floor is the matrix products of all steps and inferences alone, with two threads in this process. Files
are in the system's cache, where they have just been written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import reference
import torch
from arithmetic_floor import recorded, replay
from command import add_run_flags, run
from made_cohort import Size, add_folder_flag, add_size_flags, asked_size, temporary_cohort, tiny
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of

USUAL = Size(200, 2000, 2048, 10)
THREADS = 2
WORKERS = {"2 workers × 1 thread": (2, 1), "1 worker × 2 threads": (1, 2)}
PLAIN, FLOOR = "plain loop, 2 threads", "floor, 2 threads"


def command_words(cohort: Path, options: argparse.Namespace, workers: int, threads: int, *more: str) -> list[str]:
    epochs = f"trainer.epochs={options.epochs}"
    return [
        *("--cohort", str(cohort), "--models", options.model, "--folds", "0", "--set", epochs),
        *("--workers", str(workers), "--threads", str(threads), *more),
    ]


def milbench_rate(
    options: argparse.Namespace, cohorts: Sequence[Path], workers: int, threads: int, *more: str
) -> float:
    """Bag-steps per second of the command on the first cohort; the second one tells the start-up."""
    words, startup = (command_words(cohort, options, workers, threads, *more) for cohort in cohorts)
    found = run(options.milbench, words, startup=startup)
    return found.bag_steps() / found.working_seconds


def plain_rate(options: argparse.Namespace, cohort: Path, sides: reference.Sides) -> float:
    """Bag-steps per second of the reference, trial after trial."""
    trained = [
        reference.train(options.model, cohort, [f"task{number}"], sides, epochs=options.epochs)
        for number in range(min(options.reference_tasks, options.tasks))
    ]
    return len(trained) * options.epochs * len(sides.train) / sum(each.seconds for each in trained)


def floor_rate(options: argparse.Namespace, sides: reference.Sides) -> Callable[[], float]:
    """Measures bag-steps per second if only the matrix products of all steps and inferences were done."""
    model = reference.make_model(options.model, options.width, 1)
    optimizer, features = reference.make_adam(model), torch.randn(options.patches, options.width)

    @torch.no_grad()
    def infer() -> None:
        model.eval()(features)

    step = replay(recorded(lambda: reference.step(model.train(), optimizer, features, torch.ones(1))))
    inference = replay(recorded(infer))
    steps = options.epochs * len(sides.train)
    inferences = options.epochs * len(sides.val) + len(sides.test)
    return lambda: (
        steps
        / (
            steps * median(seconds_of(step) for _ in range(5))
            + inferences * median(seconds_of(inference) for _ in range(5))
        )
    )


def contestants(options: argparse.Namespace, cohorts: Sequence[Path]) -> dict[str, Callable[[], float]]:
    sides = reference.sides_of(cohorts[0], 0)
    asked: dict[str, tuple[str, ...]] = {"": (), **({", bf16": ("--precision", "bf16")} if options.bf16 else {})}
    ours = {
        f"milbench, {name}{suffix}": lambda how=how, more=more: milbench_rate(options, cohorts, *how, *more)
        for suffix, more in asked.items()
        for name, how in WORKERS.items()
    }
    return {**ours, PLAIN: lambda: plain_rate(options, cohorts[0], sides), FLOOR: floor_rate(options, sides)}


def rows(rates: Mapping[str, Sequence[float]]) -> list[list[str]]:
    return [
        [name, f"{median(found):.2f}", f"{ratio(found, rates[PLAIN]):.2f}", f"{ratio(rates[FLOOR], found):.2f}"]
        for name, found in rates.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser, USUAL)
    parser.add_argument("--model", default="amil")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--reference-tasks", type=int, default=2, help="that the plain loop trains (default 2)")
    parser.add_argument("--bf16", action="store_true", help="milbench with --precision bf16 as well")
    add_run_flags(parser, repetitions=3)
    add_folder_flag(parser)
    add_save_flag(parser)
    options = parser.parse_args()
    size = asked_size(options)
    torch.set_num_threads(THREADS)
    with temporary_cohort(size, options.folder) as large, temporary_cohort(tiny(size), options.folder) as small:
        rates = interleaved(contestants(options, (large, small)), options.repetitions, warm_ups=options.warm_ups)
    head = [options.model, "bag-steps/s", "of the plain loop", "floor's bag-steps/s over these"]
    publish(
        options,
        f"{size}, {size.tasks} tasks, one fold, {options.epochs} epochs (plain loop: "
        f"{min(options.reference_tasks, size.tasks)} tasks); medians of {options.repetitions} interleaved repetitions.\n\n"
        f"{table(head, rows(rates))}",
    )


if __name__ == "__main__":
    main()
