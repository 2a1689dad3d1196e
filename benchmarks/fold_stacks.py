"""Folds of models of several tasks side by side in one stack, and one after the other, on a CPU.

    python benchmarks/fold_stacks.py [--folds 5] [--patches 36] [--width 64] [--bags-per-step 16 1] [--save]

One epoch of the real training loop with its validation, on made bags of one size. CPU seconds, since the machine may be
shared; ratio = alone / side by side, above 1 side by side is faster. `operations` are those of a forward and backward of three
trials on one small bag that compute something, one launch each on a GPU: three times a trial's own, and side by side.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from statistics import median
from time import process_time
from typing import Any

import torch
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio
from torch.utils._python_dispatch import TorchDispatchMode

from milbench.layout import Patches
from milbench.machine.allocator import tune_allocator
from milbench.registry import load_models
from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.training.side import Side
from milbench.training.trainer import train
from milbench.trials.arguments import constructor_arguments
from milbench.trials.recipe import Recipe

TASKS = 10
CPU = torch.device("cpu")


class Bags:
    """Made bags in memory."""

    def __init__(self, n_slides: int, patches: int, width: int) -> None:
        self.by_slide = {f"slide{number}": torch.randn(patches, width) for number in range(n_slides)}
        self.slides = tuple(self.by_slide)

    def in_order(self, slide_ids: Sequence[str]) -> Iterator[tuple[str, Patches]]:
        for slide in slide_ids:
            yield slide, Patches(self.by_slide[slide])


class Operations(TorchDispatchMode):
    """Counts operations that compute something: those that return a view of an argument do not."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_view = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        self.n += not is_view
        return func(*args, **(kwargs or {}))


def learners(
    name: str, bags: Bags, width: int, bags_per_step: int, folds: int, options: argparse.Namespace
) -> list[Learner]:
    """One trial of each fold; three of five slides are its training side, one of five its validation side."""
    model = load_models()[name]
    known = constructor_arguments(model)
    arguments = {"hidden": options.hidden, "attention": options.hidden // 2, "heads": 2}
    recipe = Recipe(lr=0.005, epochs=1, bags_per_step=bags_per_step)

    def side(fold: int, places: set[int]) -> Side:
        slides = tuple(slide for number, slide in enumerate(bags.slides) if (number - fold) % 5 in places)
        return Side(slides, torch.rand(1, len(slides), TASKS).round(), torch.ones(1, len(slides), TASKS))

    made = []
    for fold in range(folds):
        torch.manual_seed(0)
        own = model(width, TASKS, **{key: value for key, value in arguments.items() if key in known})
        made.append(Learner([own], recipe, side(fold, {2, 3, 4}), side(fold, {0}), seed=0, device=CPU))
    return made


def seconds(name: str, bags: Bags, bags_per_step: int, options: argparse.Namespace, *, is_stack: bool) -> float:
    """CPU seconds of one epoch of all folds."""
    trials = learners(name, bags, options.width, bags_per_step, options.folds, options)
    stacks = [FoldStack(trials)] if is_stack else []
    started = process_time()
    train(trials, bags.slides, bags, seed=0, stacks=stacks)
    taken = process_time() - started
    for trial in trials:
        if trial.error is not None:
            raise trial.error
    return taken


def operations(name: str, options: argparse.Namespace, *, is_stack: bool) -> int:
    """Operations of the forwards and backwards of three trials on one bag of nine patches."""
    bags = Bags(5, 9, 12)
    found = 0
    trials = learners(name, bags, 12, 1, 3, options)
    for trial in trials:
        trial.optimizer.step = lambda: None  # type: ignore[method-assign]
        trial.begin_epoch()
    stack = FoldStack(trials)
    stack.begin_epoch(trials)
    slide = bags.slides[4]  # of the training sides of folds 0, 1 and 2
    with Operations() as counted:
        for trial in trials:
            if is_stack:
                stack.add(trial, slide, Patches(bags.by_slide[slide]))
            elif trial.add(slide, Patches(bags.by_slide[slide])):
                trial.take_step()
        stack.finish_epoch()
    found += counted.n
    return found


def row(name: str, bags_per_step: int, options: argparse.Namespace) -> list[str]:
    bags = Bags(options.slides, options.patches, options.width)
    found = interleaved(
        {
            "alone": lambda: seconds(name, bags, bags_per_step, options, is_stack=False),
            "stack": lambda: seconds(name, bags, bags_per_step, options, is_stack=True),
        },
        options.repetitions,
    )
    alone, stack = (f"{median(found[way]):.2f}" for way in ("alone", "stack"))
    counts = [f"{operations(name, options, is_stack=is_stack):,}" for is_stack in (False, True)]
    return [name, str(bags_per_step), alone, stack, f"{ratio(found['alone'], found['stack']):.2f}", *counts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mmoe_amil", "mmoe_mp_amil", "m4", "shared_bottom_amil"])
    parser.add_argument("--folds", type=int, default=5, help="at most 5")
    parser.add_argument("--slides", type=int, default=160)
    parser.add_argument("--patches", type=int, default=36)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--bags-per-step", type=int, nargs="+", default=[16, 1])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    add_save_flag(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    tune_allocator(from_disk=False)
    rows = [row(name, n, options) for n in options.bags_per_step for name in options.models]
    head = ["model", "bags per step", "alone s", "side by side s", "ratio", "operations alone", "side by side"]
    size = (
        f"{options.slides} bags of {options.patches} × {options.width}, hidden {options.hidden}, {options.folds} folds"
    )
    publish(
        options,
        f"{size}; medians of {options.repetitions} interleaved repetitions.\n\n{table(head, rows)}",
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
