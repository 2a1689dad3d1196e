"""Training step of every model on one big bag, beside the matrix product that none can avoid.

python benchmarks/step_time.py [--patches 4000] [--width 2048] [--repetitions 7] [--threads 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
from statistics import median
from time import perf_counter

import torch
from torch import nn

from milbench.machine.peak_memory import forget_peak, peak_bytes
from milbench.models import MILModel
from milbench.registry import load_models, select_models
from milbench.training.optimizers import make_optimizer
from milbench.trials.recipe import Recipe

TASKS = 10


def step_seconds(model: MILModel, features: torch.Tensor) -> float:
    """Seconds of one step with the study's recipe."""
    optimizer = make_optimizer(dict(model.named_parameters()), Recipe())
    targets = torch.ones(model.n_tasks)
    started = perf_counter()
    optimizer.zero_grad(set_to_none=True)
    model.loss(model(*model.inputs(model.bag_like(features))), targets, torch.ones_like(targets)).backward()
    optimizer.step()
    return perf_counter() - started


def floor_seconds(layer: nn.Linear, features: torch.Tensor) -> float:
    """Seconds of forward and backward of one Linear layer."""
    started = perf_counter()
    layer(features).sum().backward()
    return perf_counter() - started


def peak_mebibytes(name: str, options: argparse.Namespace, queue: multiprocessing.Queue) -> None:
    """Peak memory that two steps add, in a process of their own."""
    torch.set_num_threads(options.threads)
    features, model = torch.randn(options.patches, options.width), make(name, options.width)
    forget_peak()
    before = peak_bytes(torch.device("cpu"))
    for _ in range(2):
        step_seconds(model, features)
    queue.put((peak_bytes(torch.device("cpu")) - before) / 2**20)


def make(name: str, width: int) -> MILModel:
    """The model with its default arguments, in training mode."""
    model = load_models()[name]
    return model(width, TASKS if model.info.tasks == "multi" else 1).train()


def measure(options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds by name; repetitions of the models are interleaved, so that drift of the machine hits all alike."""
    features = torch.randn(options.patches, options.width)
    models = {name: make(name, options.width) for name in select_models(["study"], load_models())}
    floor = nn.Linear(options.width, 512)
    seconds: dict[str, list[float]] = {name: [] for name in ("floor", *models)}
    for repetition in range(options.repetitions + 1):
        timed = {"floor": floor_seconds(floor, features), **{n: step_seconds(m, features) for n, m in models.items()}}
        if repetition:  # the first warms up
            for name, value in timed.items():
                seconds[name].append(value)
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("patches", 4000), ("width", 2048), ("repetitions", 7), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    seconds = measure(options)
    floor = median(seconds.pop("floor"))
    print(
        f"one step on {options.patches} x {options.width}, {options.threads} threads, median of {options.repetitions}"
    )
    print(f"{'reference: Linear forward + backward':38s}{floor * 1e3:9.0f} ms{1.0:8.1f} x")
    context = multiprocessing.get_context("spawn")
    for name, values in seconds.items():
        queue = context.Queue()
        process = context.Process(target=peak_mebibytes, args=(name, options, queue))
        process.start()
        memory = queue.get()
        process.join()
        print(f"{name:38s}{median(values) * 1e3:9.0f} ms{median(values) / floor:8.1f} x{memory:9.0f} MiB")


if __name__ == "__main__":
    main()
