"""Two worker processes against one, each of one thread, on the same plan.

    python benchmarks/workers.py [--slides 100] [--models amil] [--folds 0-3] [--save]

Two is the most that two workers can gain. The start-up is that of the same command on a cohort of nearly nothing, run
right after: imports, planning, starting workers, and what the harness does around each trial.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from command import Finished, add_run_flags, middle, run
from made_cohort import Size, add_folder_flag, add_size_flags, asked_size, temporary_cohort, tiny
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio

USUAL = Size(100, 2000, 1024, 2)
ONE, TWO = "1 worker", "2 workers"


def words(options: argparse.Namespace, cohort: Path, workers: int) -> list[str]:
    return [
        *("--cohort", str(cohort), "--models", *options.models, "--folds", *options.folds),
        *("--set", f"trainer.epochs={options.epochs}", "--workers", str(workers), "--threads", "1"),
    ]


def rows(runs: Mapping[str, Sequence[Finished]]) -> list[list[str]]:
    values = [
        lambda found: found.wall_seconds,
        lambda found: found.startup_seconds,
        lambda found: found.working_seconds,
    ]
    seconds = [[name, *(f"{middle(found, value):.1f}" for value in values)] for name, found in runs.items()]
    quotients = [ratio([value(f) for f in runs[ONE]], [value(f) for f in runs[TWO]]) for value in values]
    return [*seconds, ["1 worker / 2 workers", *(f"{each:.2f}" for each in quotients)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser, USUAL)
    parser.add_argument("--models", nargs="+", default=["amil"])
    parser.add_argument("--folds", nargs="+", default=["0-3"])
    parser.add_argument("--epochs", type=int, default=3)
    add_run_flags(parser, repetitions=3)
    add_folder_flag(parser)
    add_save_flag(parser)
    options = parser.parse_args()
    size = asked_size(options)
    with temporary_cohort(size, options.folder) as large, temporary_cohort(tiny(size), options.folder) as small:
        contestants = {
            name: lambda n=n: run(options.milbench, words(options, large, n), startup=words(options, small, n))
            for name, n in ((ONE, 1), (TWO, 2))
        }
        runs = interleaved(contestants, options.repetitions, warm_ups=options.warm_ups)
    body = table(["", "wall s", "start-up s", "wall less start-up s"], rows(runs))
    publish(
        options,
        f"{size}, {len(runs[ONE][0].trials)} trials of {options.epochs} epochs; medians of {options.repetitions} "
        f"interleaved repetitions.\n\n{body}",
    )


if __name__ == "__main__":
    main()
