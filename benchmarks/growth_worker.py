"""Worker of `growth.py`: one build of milbench that takes a step when it is told to, so that builds can take turns.

It reads a line of JSON, does the work, and writes the seconds (wall and CPU), the MiB or the bytes. What both builds are asked for
uses only what older builds have too. The build is the one on PYTHONPATH.
"""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor, nn

import milbench_baselines  # noqa: F401 - registers the models
from milbench.registry import load_models

try:
    from milbench.machine.allocator import tune_allocator
    from milbench.machine.peak_memory import forget_peak, peak_bytes
except ImportError:  # builds before milbench/machine
    from milbench.allocator import tune_allocator  # type: ignore[import-not-found, no-redef]
    from milbench.peak import forget_peak, peak_bytes  # type: ignore[import-not-found, no-redef]

try:
    from milbench_baselines.layers.products import Linear  # by the library that is the faster one here
except ImportError:  # builds before it
    Linear = nn.Linear  # type: ignore[assignment, misc]

TASKS, HIDDEN, LR = 10, 512, 1e-4
FLOOR, PRODUCTS = "floor", "products"
CPU = torch.device("cpu")


class Bench:
    """One model and one bag at a time."""

    def __init__(self) -> None:
        self.works: dict[str, Callable[[], object]] = {}
        self.shape: tuple[Any, ...] = ()

    def work(self, model: str, kind: str, patches: int, width: int) -> Callable[[], object]:
        """A function that takes the step or the inference once."""
        if self.shape != (model, patches, width):
            self.works = {}  # let the old bag go first
            torch.manual_seed(0)
            self.works, self.shape = works_of(model, torch.randn(patches, width)), (model, patches, width)
        if kind == PRODUCTS and kind not in self.works:
            sys.path.append(str(Path(__file__).parent))  # Python was told to leave it out
            from arithmetic_floor import recorded, replay  # only this build can

            self.works[kind] = replay(recorded(self.works["step"]))
        return self.works[kind]


def works_of(name: str, features: Tensor) -> dict[str, Callable[[], object]]:
    """Step and inference of a model, or of the one Linear layer that every embedding begins with."""
    if name == FLOOR:
        layer = Linear(features.shape[1], HIDDEN)
        return {"step": lambda: layer(features).sum().backward(), "inference": torch.no_grad()(lambda: layer(features))}
    made = load_models()[name]
    model = made(features.shape[1], TASKS if made.info.tasks == "multi" else 1)
    inputs = model.inputs(model.bag_like(features)) if hasattr(model, "bag_like") else (features,)
    labels = torch.ones(model.n_tasks)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)

    def step() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        model.loss(model(*inputs), labels, torch.ones_like(labels)).backward()
        optimizer.step()

    @torch.no_grad()
    def infer() -> None:
        model.eval()(*inputs)

    return {"step": step, "inference": infer}


def bytes_of_step(name: str, patches: int, width: int) -> float:
    """Bytes that a step moves at least: it reads the bag once, and writes and reads what its backward needs."""
    from milbench.training.activations import _kept_for_backward  # of this build

    made = load_models()[name]
    model = made(width, TASKS if made.info.tasks == "multi" else 1)
    bag = model.bag_like(torch.randn(patches, width))
    return float(4 * patches * width + 2 * sum(_kept_for_backward(model, bag)))


def bytes_per_second() -> float:
    """Rate at which memory is read here: the best of some dot products of two vectors of 400 MB."""
    one, other = torch.ones(2, 100_000_000)

    def seconds() -> float:
        started = perf_counter()
        torch.dot(one, other)
        return perf_counter() - started

    return 2 * 4 * len(one) / min(seconds() for _ in range(5))


def mapped_apart() -> None:
    """Give large blocks back to the system at once, so that the peak is what a step holds and not what the heap keeps."""
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 2**16)  # builds that map no block set it to 0
        mallopt(-3, 2**17)


def mebibytes(model: str, patches: int, width: int) -> float:
    """Peak memory that a step adds to the bag and the weights, optimiser included; meant for a fresh process."""
    mapped_apart()
    step = works_of(model, torch.randn(patches, width))["step"]
    forget_peak()
    before = peak_bytes(CPU)
    step()
    return float(peak_bytes(CPU) - before) / 2**20


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    tune_allocator(from_disk=False)
    bench = Bench()
    for line in sys.stdin:
        asked = json.loads(line)
        size = asked.get("patches", 0), asked.get("width", 0)
        if asked["kind"] == "memory":
            answer: dict[str, float] = {"mebibytes": mebibytes(asked["model"], *size)}
        elif asked["kind"] == "bytes":
            answer = {"bytes": bytes_of_step(asked["model"], *size)}
        elif asked["kind"] == "bandwidth":
            answer = {"bytes_per_second": bytes_per_second()}
        else:
            work = bench.work(**asked)
            wall, cpu = perf_counter(), process_time()
            work()
            answer = {"wall": perf_counter() - wall, "cpu": process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
