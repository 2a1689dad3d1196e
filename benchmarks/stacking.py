"""From which size of a step on stacking no longer pays on this CPU: S models in one step against one after the other.

    python benchmarks/stacking.py [--members 10] [--threads 1] [--save]

AMIL; forward, loss, backward and Adam for S models of one task each, on one bag: as one call under `vmap` of stacked
parameters with one Adam for all, and as S calls in a loop with an Adam each. A step's size is the multiply-adds of one trial's
forward through its first layer, N × D × hidden, on which the rule in milbench/training/stacking.py decides. The crossover is the limit
that a rule of this kind would choose best: stack below it, loop above, and the product of all times is least.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate, product
from math import floor, log, log10, sqrt
from statistics import median
from typing import NamedTuple

import reference
import torch
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from milbench.models import MILModel
from milbench.registry import load_models

STACKED, LOOPED = "stacked", "looped"


class Cell(NamedTuple):
    """What one step is given: N patches of D features, embedded into `hidden`."""

    patches: int
    width: int
    hidden: int

    @property
    def multiply_adds(self) -> int:
        return self.patches * self.width * self.hidden


class Measured(NamedTuple):
    """Medians in seconds, and the ratio of looped to stacked: above 1 a stack is faster."""

    cell: Cell
    stacked: float
    looped: float
    ratio: float


def make(cell: Cell, members: int) -> list[MILModel]:
    """Models as the harness trains them, with dropout."""
    return [load_models()["amil"](cell.width, 1, hidden=cell.hidden).train() for _ in range(members)]


def stacked_step(cell: Cell, members: int, features: Tensor) -> Callable[[], None]:
    """A step of all members at once."""
    models = make(cell, members)
    parameters, buffers = stack_module_state(models)
    optimizer = torch.optim.Adam(parameters.values(), lr=reference.LR, fused=True)
    model, targets, known = models[0], torch.ones(members, 1), torch.ones(1)

    def loss(weights: dict[str, Tensor], own: dict[str, Tensor], target: Tensor) -> Tensor:
        return model.loss(functional_call(model, (weights, own), features), target, known)

    of_all = vmap(loss, randomness="same")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        of_all(parameters, buffers, targets).sum().backward()
        optimizer.step()

    return step


def looped_step(cell: Cell, members: int, features: Tensor) -> Callable[[], None]:
    """A step of each member in turn."""
    models = make(cell, members)
    optimizers = [torch.optim.Adam(model.parameters(), lr=reference.LR, fused=True) for model in models]
    label = torch.ones(1)

    def step() -> None:
        for model, optimizer in zip(models, optimizers, strict=True):
            reference.step(model, optimizer, features, label)

    return step


def measured(cell: Cell, options: argparse.Namespace) -> Measured:
    """Both ways in turn; as many steps in a repetition as a few milliseconds hold, so that the clock is fine enough."""
    features = torch.randn(cell.patches, cell.width)
    works = {
        STACKED: stacked_step(cell, options.members, features),
        LOOPED: looped_step(cell, options.members, features),
    }
    works[LOOPED]()
    n_steps = max(int(options.milliseconds / 1e3 / seconds_of(works[LOOPED])), 1)

    def repeated(work: Callable[[], None]) -> float:
        return seconds_of(lambda: [work() for _ in range(n_steps)]) / n_steps

    contestants = {name: lambda work=work: repeated(work) for name, work in works.items()}
    found = interleaved(contestants, options.repetitions)
    return Measured(cell, *(median(found[name]) for name in works), ratio(found[LOOPED], found[STACKED]))


def crossover(sizes: Sequence[float], ratios: Sequence[float]) -> float | None:
    """The limit below which to stack that costs least over all of them; None where it is not within these sizes.

    `sizes` ascend. Times are compared as factors, so that small steps count as much as large ones.
    """
    gains = [0.0, *accumulate(log(each) for each in ratios)]  # gains[k]: the k smallest are stacked
    n_stacked = gains.index(max(gains))
    if n_stacked in {0, len(sizes)}:
        return None
    return sqrt(sizes[n_stacked - 1] * sizes[n_stacked])


def by_decade(found: Sequence[Measured]) -> list[list[str]]:
    """Median ratio of all steps of about one size."""
    decades: dict[int, list[float]] = defaultdict(list)
    for each in found:
        decades[floor(log10(each.cell.multiply_adds))].append(each.ratio)
    return [[f"from 1e{decade}", str(len(all_)), f"{median(all_):.2f}"] for decade, all_ in sorted(decades.items())]


def row(each: Measured) -> list[str]:
    cell = each.cell
    return [
        f"{cell.multiply_adds:,}",
        f"{cell.patches:,}",
        f"{cell.width:,}",
        str(cell.hidden),
        f"{each.stacked * 1e3:.2f}",
        f"{each.looped * 1e3:.2f}",
        f"{each.ratio:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, nargs="+", default=[4, 16, 64, 256, 1024])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 166, 2048])
    parser.add_argument("--hidden", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--most", type=float, default=2e9, help="multiply-adds; larger steps are left out (2e9)")
    parser.add_argument("--members", type=int, default=10, help="models of a stack (default 10)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--milliseconds", type=float, default=50, help="that a repetition lasts at least (default 50)")
    add_save_flag(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cells = [Cell(*each) for each in product(options.patches, options.widths, options.hidden)]
    kept = sorted((cell for cell in cells if cell.multiply_adds <= options.most), key=lambda cell: cell.multiply_adds)
    found = [measured(cell, options) for cell in kept]
    limit = crossover([each.cell.multiply_adds for each in found], [each.ratio for each in found])
    said = f"about {limit:,.0f} multiply-adds" if limit else "not within these sizes"
    head = ["multiply-adds", "patches", "width", "hidden", "stacked ms", "looped ms", "looped / stacked"]
    publish(
        options,
        f"{options.members} models of AMIL; medians of {options.repetitions} interleaved repetitions. Crossover: {said}.\n\n"
        f"{table(['multiply-adds', 'steps', 'median looped / stacked'], by_decade(found))}\n\n{table(head, map(row, found))}",
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
