"""What the harness costs: the trainer beside a bare loop, and the milliseconds that it takes around each trial.

    python benchmarks/overhead.py [--patches 4000] [--trials 100] [--save]

Trainer: train_seconds of one AMIL trial on big bags with one thread, beside a bare loop that does the same work in this
process: features read once and kept, the same steps (torch's own Dropout, fused Adam), the validation of every epoch, and
one validation and one test pass at the end.

Around a trial: wall time of a plan of many trials of mean_pooling, one epoch on bags of nearly nothing, less that of a plan
of one trial, by the number of trials between them, with the train_seconds of the untracked plans taken off: what tracking's
thread takes from the training beside it is a cost of tracking. Planning, claiming, storing and, with tracking, MLflow are
left. Trials are not stacked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import reference
import torch
from command import Finished, add_run_flags, middle, run
from made_cohort import Size, add_folder_flag, temporary_cohort
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio
from torch import Tensor
from torch.utils.data import DataLoader

FOLDS = 5
TRAINER, BARE = "milbench", "bare loop"


class Kept(reference.Slides):
    """Slides that stay in memory once they were read."""

    def __init__(self, cohort: Path, slide_ids: Sequence[str], tasks: Sequence[str]) -> None:
        super().__init__(cohort, slide_ids, tasks)
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index not in self.kept:
            self.kept[index] = super().__getitem__(index)
        return self.kept[index]


def bare_seconds(cohort: Path, sides: reference.Sides, options: argparse.Namespace) -> float:
    """Seconds of one trial's training and predictions."""
    started = perf_counter()
    torch.manual_seed(reference.SEED)
    train, validation, test = (
        DataLoader(Kept(cohort, ids, ["task0"]), batch_size=None, shuffle=ids is sides.train) for ids in sides
    )
    model = reference.make_model("amil", options.width, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=reference.LR, weight_decay=reference.WEIGHT_DECAY, fused=True)
    for _ in range(options.epochs):
        reference.train_epoch(model, optimizer, train, "cpu")
        reference.mean_auroc(*reference.predictions(model, validation, "cpu"))
    for side in (validation, test):
        reference.predictions(model, side, "cpu")
    return perf_counter() - started


def trainer_words(cohort: Path, options: argparse.Namespace) -> list[str]:
    return [
        *("--cohort", str(cohort), "--models", "amil", "--folds", "0", "--set", f"trainer.epochs={options.epochs}"),
        *("--workers", "1", "--threads", "1"),
    ]


def of_trainer(options: argparse.Namespace) -> str:
    """Markdown: the trainer beside the bare loop."""
    size = Size(options.slides, options.patches, options.width, 1)
    with temporary_cohort(size, options.folder) as cohort:
        sides = reference.sides_of(cohort, 0)
        contestants: dict[str, Callable[[], float]] = {
            TRAINER: lambda: run(options.milbench, trainer_words(cohort, options)).train_seconds(),
            BARE: lambda: bare_seconds(cohort, sides, options),
        }
        found = interleaved(contestants, options.repetitions, warm_ups=options.warm_ups)
    rows = [[name, f"{median(each):.2f}", f"{ratio(each, found[BARE]):.3f}"] for name, each in found.items()]
    return f"AMIL, {size}, {options.epochs} epochs.\n\n{table(['trainer', 'seconds', 'of the bare loop'], rows)}"


def around_trials(options: argparse.Namespace) -> str:
    """Markdown: milliseconds around a trial, with and without tracking."""
    size = Size(40, 4, 16, max(options.trials // FOLDS, 1))
    with temporary_cohort(size, options.folder) as cohort:
        plans = {"many": ["--folds", f"0-{FOLDS - 1}"], "one": ["--folds", "0", "--tasks", "task0"]}
        words = ["--cohort", str(cohort), "--models", "mean_pooling", "--set", "trainer.epochs=1", "--stack", "off"]
        alone = [*words, "--workers", "1", "--threads", "1"]
        contestants = {
            f"{plan} {tracking}": lambda plan=plan, on=on: run(options.milbench, [*alone, *plans[plan]], tracking=on)
            for plan in plans
            for tracking, on in (("off", False), ("on", True))
        }
        found = interleaved(contestants, options.repetitions, warm_ups=options.warm_ups)
    head = ["tracking", "trials", "ms around a trial", "ms of train_seconds a trial", "wall s of all", "wall s of one"]
    return table(head, [[tracking, *around(found, tracking)] for tracking in ("off", "on")])


def around(found: Mapping[str, Sequence[Finished]], tracking: str) -> list[str]:
    many, one = found[f"many {tracking}"], found[f"one {tracking}"]
    n_more = len(many[0].trials) - len(one[0].trials)
    training = [m.train_seconds() - o.train_seconds() for m, o in zip(found["many off"], found["one off"], strict=True)]
    around_ms = [
        1e3 * (m.wall_seconds - o.wall_seconds - trained) / n_more
        for m, o, trained in zip(many, one, training, strict=True)
    ]
    walls = [f"{middle(each, lambda f: f.wall_seconds):.1f}" for each in (many, one)]
    train_ms = middle(many, lambda f: 1e3 * f.train_seconds() / len(f.trials))
    return [str(len(many[0].trials)), f"{median(around_ms):.1f}", f"{train_ms:.1f}", *walls]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("slides", 40), ("patches", 4000), ("width", 2048), ("epochs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"for the trainer (default {default})")
    parser.add_argument("--trials", type=int, default=100, help="for the milliseconds around one (default 100)")
    add_run_flags(parser, repetitions=3)
    add_folder_flag(parser)
    add_save_flag(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    note = f"Medians of {options.repetitions} interleaved repetitions."
    publish(options, f"{note}\n\n{of_trainer(options)}\n\n{around_trials(options)}", threads=1)


if __name__ == "__main__":
    main()
