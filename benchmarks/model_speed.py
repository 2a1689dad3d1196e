"""Training step and inference of every model against bag size and width, beside the arithmetic that it cannot avoid.

    python benchmarks/model_speed.py [--patches 100 1000 10000 50000] [--widths 512 1024 2048] [--threads 2] [--save]

Three references, timed in turn with the model: the eager step of `reference.py` (torch's own Dropout and Adam); the floor
(`arithmetic_floor.py`: every matrix product and convolution of that step, alone); and reading the bag from memory, as often
as a step and an inference must at least, twice and once. Bag sizes are
varied at the middle width and widths at the bag size before the last; `--all` measures every pair. Features are in
memory. A pair whose step is estimated to need more than `--memory` is left out and named. The long ones get fewer
repetitions, down to one after a first step, which is dropped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from itertools import product
from statistics import median
from typing import NamedTuple

import reference
import torch
from arithmetic_floor import recorded, replay
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of
from torch import Tensor

from milbench.models import MILModel
from milbench.registry import load_models, select_models
from milbench.training.optimizers import make_optimizer
from milbench.trials.recipe import Recipe

TASKS = 10
MOST_REPETITIONS = 7
FEWEST_OF_SHORT = 3
STEPS_A_ROUND = 4
"""A round of all contestants lasts about so many times as long as one step."""
SHORT_SECONDS = 1.0
"""Steps shorter than this are warmed up by a whole round, not only by their first step."""

STEP, PLAIN, STEP_FLOOR, READ_TWICE = "step", "plain step", "floor", "bag read twice"
INFERENCE, INFERENCE_FLOOR = "inference", "inference floor"


class Pair(NamedTuple):
    """A model and the bag it is given."""

    model: str
    patches: int
    width: int

    def __str__(self) -> str:
        return f"{self.model} at {self.patches:,} × {self.width:,}"


def pairs(options: argparse.Namespace) -> list[Pair]:
    """What is measured, cheapest bags first."""
    sizes, widths = sorted(options.patches), sorted(options.widths)
    usual_size, usual_width = sizes[max(len(sizes) - 2, 0)], widths[len(widths) // 2]
    return [
        Pair(name, size, width)
        for name in select_models(options.models, load_models())
        for size, width in product(sizes, widths)
        if options.all or width == usual_width or size == usual_size
    ]


def make(name: str, width: int) -> MILModel:
    """The model as milbench trains it, at its default size."""
    model = load_models()[name]
    return model(width, n_tasks(name)).train()


def n_tasks(name: str) -> int:
    return TASKS if load_models()[name].info.tasks == "multi" else 1


def step_bytes(pair: Pair) -> int:
    """Estimate of what one step holds at once: what autograd keeps, weights, gradients and Adam's two moments.

    On meta tensors, which have shapes and no values: nothing is computed.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model = make(pair.model, pair.width)
        labels = torch.ones(model.n_tasks)
        model.loss(model(*model.inputs(model.bag_like(torch.empty(pair.patches, pair.width)))), labels, labels)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return sum(storage.nbytes() for storage in kept.values()) + 4 * weights


def measured(pair: Pair, seconds: float) -> dict[str, list[float]]:
    """Seconds of every contestant, repetition by repetition."""
    features, labels = torch.randn(pair.patches, pair.width), torch.ones(n_tasks(pair.model))
    ours, plain = make(pair.model, pair.width), reference.make_model(pair.model, pair.width, len(labels))
    optimizers = {ours: make_optimizer(dict(ours.named_parameters()), Recipe()), plain: reference.make_adam(plain)}

    def train(model: MILModel) -> None:
        reference.step(model.train(), optimizers[model], features, labels)

    @torch.no_grad()
    def infer() -> None:
        ours.eval()(features)

    train(ours)

    @torch.no_grad()
    def infer_plainly() -> None:
        plain.eval()(features)

    def read_twice() -> None:
        features.sum()
        features.sum()

    floors = {STEP_FLOOR: replay(recorded(lambda: train(plain))), INFERENCE_FLOOR: replay(recorded(infer_plainly))}
    works = {STEP: lambda: train(ours), PLAIN: lambda: train(plain), INFERENCE: infer, READ_TWICE: read_twice, **floors}
    return timed(works, seconds)


def timed(works: Mapping[str, Callable[[], None]], seconds: float) -> dict[str, list[float]]:
    """As many rounds as fit into `seconds`, at least one, and more where a step is short."""
    one = seconds_of(works[STEP])
    least = FEWEST_OF_SHORT if one < SHORT_SECONDS else 1
    repetitions = min(max(int(seconds / (STEPS_A_ROUND * one)), least), MOST_REPETITIONS)
    contestants = {name: lambda work=work: seconds_of(work) for name, work in works.items()}
    return interleaved(contestants, repetitions, warm_ups=int(one < SHORT_SECONDS))


HEAD = (
    "model", "patches", "width", "step ms", "step / floor", "bag read twice / step", "plain step / step",
    "inference ms", "inference / floor", "repetitions",
)  # fmt: skip


def row(pair: Pair, found: Mapping[str, list[float]]) -> tuple[str, ...]:
    return (
        pair.model,
        f"{pair.patches:,}",
        f"{pair.width:,}",
        f"{median(found[STEP]) * 1e3:.1f}",
        f"{ratio(found[STEP], found[STEP_FLOOR]):.2f}",
        f"{ratio(found[READ_TWICE], found[STEP]):.3f}",
        f"{ratio(found[PLAIN], found[STEP]):.2f}",
        f"{median(found[INFERENCE]) * 1e3:.1f}",
        f"{ratio(found[INFERENCE], found[INFERENCE_FLOOR]):.2f}",
        str(len(found[STEP])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, nargs="+", default=[100, 1000, 10_000, 50_000])
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--all", action="store_true", help="every pair of the two (half an hour and more)")
    parser.add_argument("--models", nargs="+", default=["study"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", type=float, default=8.0, help="GB that a step may be estimated to need (default 8)")
    parser.add_argument("--seconds", type=float, default=300, help="shared by all pairs; each gets one round at least")
    add_save_flag(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    asked = pairs(options)
    needs = {pair: step_bytes(pair) / 1e9 for pair in asked}
    taken = [pair for pair in asked if needs[pair] <= options.memory]
    rows = [row(pair, measured(pair, options.seconds / len(taken))) for pair in taken]
    left_out = ", ".join(f"{pair} ({needs[pair]:.1f} GB)" for pair in asked if pair not in taken) or "none"
    publish(options, f"{table(HEAD, rows)}\n\nLeft out for memory: {left_out}.", threads=options.threads)


if __name__ == "__main__":
    main()
