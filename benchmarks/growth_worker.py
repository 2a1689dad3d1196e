"""Worker of `growth.py`: one build of milbench that takes a step when it is told to, so that builds can take turns.

It reads a line of JSON, does the work, and writes the seconds (wall and CPU) or the MiB. It uses only what older builds have
too. The build is the one on PYTHONPATH.
"""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from collections.abc import Callable
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
FLOOR = "floor"
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


def mapped_apart() -> None:
    """Give large blocks back to the system at once, so that the peak is what a step holds and not what the heap keeps."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(-3, 2**17)


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
        if asked["kind"] == "memory":
            answer: dict[str, float] = {"mebibytes": mebibytes(asked["model"], asked["patches"], asked["width"])}
        else:
            work = bench.work(**asked)
            wall, cpu = perf_counter(), process_time()
            work()
            answer = {"wall": perf_counter() - wall, "cpu": process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
