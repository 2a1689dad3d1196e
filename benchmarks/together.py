"""Where two limits lie: experts of a mixture side by side, and bags that are looked at together.

    python benchmarks/together.py [--patches 36 100 400 1000] [--threads 1] [--save]

Experts: forward and backward of a step of M4 and MMoE+AMIL (ten tasks, five experts) with the experts in the same few products,
and one after the other, by patches of a bag; the limit is `PATCHES_SIDE_BY_SIDE` in baselines/layers/experts.py.
Looks: a forward without gradients over eight bags laid side by side, and one by one, by numbers (patches times width) of a bag;
the limit is `NUMBERS_AT_ONCE` in milbench/training/bag_groups.py, for all bags of a look.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of
from torch import Tensor

from milbench.layout import Patches
from milbench.machine.allocator import tune_allocator
from milbench.registry import load_models
from milbench.training.weights import OneModel
from milbench_baselines.layers import experts
from milbench_baselines.layers.attention_expert import AttentionExpert
from milbench_baselines.layers.mp_amil import MPAMIL

MIXTURES, SINGLE = ("mmoe_amil", "m4"), ("amil", "dsmil")
SHAPES = ((16, 64, 64), (1, 64, 64), (1, 1024, 512))
"""Bags of a step, width, hidden: digits, the same one by one, and a small bag of a slide's features."""

LOOKED_AT = ((64, 512), (250, 1024), (1000, 1024), (2000, 2048))
"""Patches and width of a bag."""

BAGS_OF_A_LOOK = 8
TOGETHER, APART = "together", "one by one"


def model_of(name: str, width: int, hidden: int) -> OneModel:
    """On the CPU, as the trainer holds it."""
    built = load_models()[name]
    made = built(width, 10 if name in MIXTURES else 1, **({"hidden": hidden} if hidden else {}))
    return OneModel(made, "float32", torch.device("cpu"))


def labels(n_bags: int, weights: OneModel) -> tuple[Tensor, Tensor]:
    ones = torch.ones(1, n_bags, weights.model.n_tasks)
    return ones, ones


def step_of(name: str, n_bags: int, patches: int, width: int, hidden: int) -> Mapping[str, Callable[[], float]]:
    """Seconds of a step's forward and backward, both ways."""
    weights = model_of(name, width, hidden)
    weights.model.train()
    bags = [Patches(torch.rand(patches, width)) for _ in range(n_bags)]

    def seconds(limit: int) -> float:
        narrow = AttentionExpert.numbers_side_by_side, MPAMIL.numbers_side_by_side
        usual, experts.PATCHES_SIDE_BY_SIDE = experts.PATCHES_SIDE_BY_SIDE, limit
        AttentionExpert.numbers_side_by_side = MPAMIL.numbers_side_by_side = 0
        try:
            weights.model.zero_grad(set_to_none=True)
            return seconds_of(
                lambda: weights.forward_backward(bags, *labels(n_bags, weights), n_bags, at_once=1, recompute=False)
            )
        finally:
            experts.PATCHES_SIDE_BY_SIDE = usual
            AttentionExpert.numbers_side_by_side, MPAMIL.numbers_side_by_side = narrow

    return {TOGETHER: lambda: seconds(patches), APART: lambda: seconds(0)}


def look_of(name: str, patches: int, width: int) -> Mapping[str, Callable[[], float]]:
    """Seconds of a look at all bags, both ways."""
    weights = model_of(name, width, 0)
    weights.model.eval()
    bags = [Patches(torch.rand(patches, width)) for _ in range(BAGS_OF_A_LOOK)]

    @torch.no_grad()
    def look(at_once: int) -> None:
        for start in range(0, len(bags), at_once):
            weights.losses_and_logits(bags[start : start + at_once], *labels(at_once, weights), at_once=1)

    return {TOGETHER: lambda: seconds_of(lambda: look(len(bags))), APART: lambda: seconds_of(lambda: look(1))}


def row(what: Sequence[object], found: Mapping[str, Sequence[float]]) -> list[str]:
    return [
        *(f"{each:,}" if isinstance(each, int) else str(each) for each in what),
        *(f"{1e3 * median(found[name]):.1f}" for name in (TOGETHER, APART)),
        f"{ratio(found[APART], found[TOGETHER]):.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--patches", nargs="+", type=int, default=[36, 100, 400, 1000], help="of a bag, for the experts"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=9, help="kept (default 9)")
    add_save_flag(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_allocator(from_disk=False)  # as in a worker

    def measured(contestants: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
        return interleaved(contestants, options.repetitions, warm_ups=2)

    steps = [
        row((name, n_bags, patches, width, hidden), measured(step_of(name, n_bags, patches, width, hidden)))
        for name in MIXTURES
        for n_bags, width, hidden in SHAPES
        for patches in options.patches
    ]
    looks = [
        row((name, patches, width, BAGS_OF_A_LOOK * patches * width), measured(look_of(name, patches, width)))
        for name in SINGLE
        for patches, width in LOOKED_AT
    ]
    ways = ["together ms", "one by one ms", "one by one / together"]
    publish(
        options,
        f"Medians of {options.repetitions} interleaved repetitions.\n\nFive experts, forward and backward of a step:\n\n"
        f"{table(['model', 'bags', 'patches', 'width', 'hidden', *ways], steps)}\n\n"
        f"Evaluation of {BAGS_OF_A_LOOK} bags:\n\n{table(['model', 'patches', 'width', 'numbers of all', *ways], looks)}",
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
