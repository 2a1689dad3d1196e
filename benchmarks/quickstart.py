"""The first command of the README, `milbench run` on digits with all nine models: trained as stacks, and one by one.

    python benchmarks/quickstart.py [--repetitions 2] [--save]

Wall seconds of the whole command. Train seconds are the sums over a model's trials of what trial.json says.

`--stack off` trains trials one after the other, but takes the 16 bags of a step through a model together. The plain loop
takes bags one by one as well, as a script without milbench would: `reference.py`'s model and Adam, bags in memory. All trials that
way would take long, so one epoch of one trial of each model is timed, and multiplied.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from command import Finished, add_run_flags, middle
from reference import make_adam, make_model
from results_file import add_save_flag, publish, table
from stacked import AUTO, OFF, compared, report
from torch import Tensor

from milbench.datasets.digits import make_digits
from milbench.machine.hardware import usable_cores
from milbench.models import MILModel

N_WORKERS = usable_cores()
"""What the command takes when it is not told, and the processes that the plain loop is shared out among."""

WARM_UP = 16
"""Bags that are trained on before the clock starts."""


class PerBag(NamedTuple):
    """Seconds of the plain loop for one bag of a training epoch, optimiser steps included, and for a look at one."""

    step: float
    look: float


def plain_seconds(trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds that all trials would take in the plain loop, by model, one after the other on one thread."""
    torch.set_num_threads(1)
    per_bag: dict[str, PerBag] = {}
    total: dict[str, float] = {}
    for trial in trials:
        name = trial["model"]
        if name not in per_bag:
            per_bag[name] = time_plain_loop(trial)
        counts, epochs = trial["n_slides"], trial["n_epochs"]
        looks = epochs * counts["val"] + counts["val"] + counts["test"]
        seconds = epochs * counts["train"] * per_bag[name].step + looks * per_bag[name].look
        total[name] = total.get(name, 0.0) + seconds
    return total


def time_plain_loop(trial: Mapping[str, Any]) -> PerBag:
    """One epoch of a trial's model over as many bags as it has, and a look at those of its validation side."""
    torch.manual_seed(0)
    made = make_digits()
    bags = torch.from_numpy(made.features)
    labels = torch.tensor(made.slides[trial["tasks"]].to_numpy(dtype=np.float32))
    model = make_model(trial["model"], bags.shape[2], labels.shape[1], **trial["hyperparameters"])
    optimizer, at_once = make_adam(model), trial["recipe"]["bags_per_step"]
    train, val = trial["n_slides"]["train"], trial["n_slides"]["val"]
    train_epoch(model, optimizer, bags[:WARM_UP], labels, at_once)
    started = perf_counter()
    train_epoch(model, optimizer, bags[:train], labels, at_once)
    trained = perf_counter()
    with torch.no_grad():
        model.eval()
        for bag in bags[-val:]:
            model(bag)
    return PerBag((trained - started) / train, (perf_counter() - trained) / val)


def train_epoch(model: MILModel, optimizer: torch.optim.Adam, bags: Tensor, labels: Tensor, at_once: int) -> None:
    """Gradients of bags [S, N, D] one by one, and a step after every `at_once`."""
    optimizer.zero_grad(set_to_none=True)
    for number, (bag, label) in enumerate(zip(bags, labels, strict=False), start=1):
        loss = model.loss(model(bag), label, torch.ones_like(label)) / at_once
        loss.backward()
        if number % at_once == 0 or number == len(bags):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def against_plain(runs: Mapping[str, Sequence[Finished]], plain: Mapping[str, float], n_workers: int) -> str:
    """Markdown: the command beside the plain loop, at best shared out evenly among so many processes."""
    wall = sum(plain.values()) / n_workers
    stacked, looped = (middle(runs[stack], lambda run: run.wall_seconds) for stack in (AUTO, OFF))
    rows = [
        [f"plain loop, {n_workers} processes at best", f"{wall:.0f}", "1.00"],
        [f"`--stack {OFF}`", f"{looped:.1f}", f"{wall / looped:.2f}"],
        [f"`--stack {AUTO}`", f"{stacked:.1f}", f"{wall / stacked:.2f}"],
    ]
    by_model = ", ".join(f"{name} {seconds:.0f}" for name, seconds in sorted(plain.items(), key=lambda item: -item[1]))
    said = (
        "The plain loop trains every trial and every bag by itself. Its seconds are projected from one epoch of one "
        "trial of each model: "
    )
    return f"{said}{by_model}.\n\n{table(['', 'wall s', 'times as fast as the plain loop'], rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_flags(parser, repetitions=2)
    parser.add_argument("--models", nargs="+", default=["study"])
    parser.add_argument("--folds", nargs="+", default=[], help="default: those of the first command")
    add_save_flag(parser)
    options = parser.parse_args()
    folds = ["--folds", *options.folds] if options.folds else []
    runs = compared(["--models", *options.models, *folds], options)
    plain = plain_seconds(runs[OFF][0].trials)
    publish(options, f"{report(runs)}\n\n{against_plain(runs, plain, N_WORKERS)}")


if __name__ == "__main__":
    main()
